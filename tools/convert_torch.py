#!/usr/bin/env python3
"""Converts a PyTorch checkpoint (.pth, .pt, .th) to safetensors. Needs Python >= 3.9 and the folder
torch_checkpoint beside it, and nothing else.

    convert_torch.py IN OUT [--key NAME] [--prefix P] [--ignore-extra PATTERN] [--list]
    convert_torch.py IN --list

Reads the formats of torch.save: the zip archive, the older sequence of pickles, and the tar archive of PyTorch 0.1 (as
torchvision's first ResNets are); and plain pickles of state dicts.
A pickle is a program; this one is run by a small machine that builds numbers, strings, containers and descriptions
of tensors. It calls and imports nothing: objects of all other classes, and what functions would have returned, become
markers without contents, which may stand beside the weights and not among them.

The state dict is the file's object itself or its entry state_dict, model, model_state_dict, state_dict_ema,
model_ema, net, network, model_state, module, weights or params (the first of these present), or the only one that is
anywhere in the file; --key takes another one, --key a.b the entry b of the entry a.
What DataParallel, AveragedModel and torch.compile put before names ("module.", "_orig_mod.") is stripped, and so is
what stands before the names of a network within another one ("model.", "backbone."); --prefix P takes the tensors
under P alone. num_batches_tracked and n_averaged are left out: they count training steps and no network needs them.
EfficientNet-Lite's names get the spelling of timm (_blocks.0._depthwise_conv: blocks.0.0.conv_dw).
--ignore-extra PATTERN leaves out what has such a name ("head.*").
Data types are kept, except int16, uint16 -> I32, bool -> U8 and float8 (e4m3fn, e5m2) -> F32. Tensors of other types,
sparse and quantized ones and the like are left out, and named.

Exit codes: 0 done, 64 usage, 65 bad data, 66 missing input, 71 out of memory, 74 input/output error.
"""
import argparse
import errno
import os
import signal
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # also through a link, and with python -I
from torch_checkpoint.messages import MAX_MESSAGE, Refused, note, say, shortened, shown
from torch_checkpoint.containers import open_checkpoint
from torch_checkpoint.state_dicts import find_state_dict
from torch_checkpoint.names import named_tensors, stranger
from torch_checkpoint.elements import require_bounded
from torch_checkpoint.writing import write_atomically, write_tensors

FAQ_RANK = 4  # core/shape.h


class Parser(argparse.ArgumentParser):
    def error(self, message):
        message = "".join(c if c.isprintable() else "?" for c in message[:MAX_MESSAGE])
        say(shortened(message, MAX_MESSAGE - 50) + " (try --help)")
        sys.exit(64)


def convert(options):
    with options.file:
        checkpoint = open_checkpoint(options.file)
        patterns = tuple(options.ignore_extra)
        tensors = named_tensors(find_state_dict(checkpoint.root, options.key, patterns), options.prefix, patterns)
        if stranger(tensors):
            note("this looks like %s: faq has no such network" % stranger(tensors))
        require_bounded(tensors.values())
        if options.output is not None:
            write_atomically(options.output, lambda out: write_tensors(out, checkpoint, tensors))
        deep = [name for name, tensor in tensors.items() if len(tensor.shape) > FAQ_RANK]
        if deep:
            note("%s%s: faq reads no file with a tensor of more than %d dimensions; --ignore-extra leaves it out"
                 % (shown(deep[0]), " and %d more" % (len(deep) - 1) if len(deep) > 1 else "", FAQ_RANK))
        if options.list:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "closed", "standard output")
            sys.stdout.reconfigure(errors="backslashreplace")
            for name, tensor in tensors.items():
                print(name if name.isprintable() else shown(name, len(name)), tensor.dtype, list(tensor.shape))
            sys.stdout.flush()


def main(arguments=None):
    parser = Parser(prog="convert_torch.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False)
    parser.add_argument("input", metavar="IN", help="a PyTorch checkpoint")
    parser.add_argument("output", metavar="OUT", nargs="?", help="the safetensors file to write")
    parser.add_argument("--key", metavar="NAME", help="the entry that holds the state dict; a.b: entry b of entry a")
    parser.add_argument("--prefix", metavar="P", help="take the tensors whose names begin with P, without it")
    parser.add_argument("--ignore-extra", metavar="PATTERN", action="append", default=[],
                        help="leave out what has such a name (\"head.*\"); may be repeated")
    parser.add_argument("--list", action="store_true", help="print name, dtype and shape of every tensor")
    options = parser.parse_args(arguments)
    if options.output is None and not options.list:
        parser.error("expected OUT or --list")
    if "-" in (options.input, options.output):
        parser.error("expected files as IN and OUT, found - (./- is a file of that name)")
    if options.output == "":
        parser.error("expected a file as OUT, found an empty name")
    if options.output is not None and os.path.exists(options.output) and os.path.exists(options.input) and \
            os.path.samefile(options.input, options.output):
        parser.error("IN and OUT are the same file")

    def failed(code, what):
        name = options.input if options.input.isprintable() else shown(options.input, 4096)
        name = shortened(name, 200)
        say("%s: %s" % (name, shortened(str(what), MAX_MESSAGE - len(name))))
        return code

    try:
        # A named pipe must not be waited for.
        options.file = open(options.input, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except (OSError, ValueError) as error:
        return failed(66, "cannot open: %s" % (getattr(error, "strerror", None) or error))
    if not stat.S_ISREG(os.fstat(options.file.fileno()).st_mode):
        return failed(66, "cannot open: expected a regular file")
    try:
        convert(options)
    except Refused as error:
        return failed(65, error)
    except RecursionError:
        return failed(65, "nested too deeply")
    except MemoryError:
        return failed(71, "out of memory")
    except OSError as error:
        what = error.strerror or str(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries standard output once more at exit
        where = error.filename or options.output or "standard output"
        return failed(74, "%s: %s" % (shortened(where if where.isprintable() else shown(where), 200), what))
    return 0


class Stopped(BaseException):
    """By a signal. What has been begun is removed, and then the signal ends the process."""


def stop(number, _):
    raise Stopped(number)


if __name__ == "__main__":
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, stop)
    try:
        sys.exit(main())
    except Stopped as stopped:
        signal.signal(stopped.args[0], signal.SIG_DFL)
        os.kill(os.getpid(), stopped.args[0])
