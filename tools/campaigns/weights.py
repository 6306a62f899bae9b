#!/usr/bin/env python3
"""Campaign: weights and checkpoints as input, whole and damaged. Needs Python >= 3.9 and the built programs.

    tools/campaigns/weights.py [--count N] [--seed S] [--bin build] [--keep DIR] [--only KIND,…]

Makes N files, each from the seed and its number, and gives them to tools/convert_torch.py and to faq-eval and
faq-train. What must happen:
  forms      a state dict of ResNet-20 in any form of torch.save (zip, older, plain pickle; protocols; wrappers;
             prefixes; things beside it): the converter ends with 0 and every tensor has its bytes
  torn       such a file with bytes changed, cut out, put in or doubled, or cut off: 0 or 65
  loaded     what the converter wrote, given to faq-eval: 0, and probabilities that are numbers
  flipped    a file with checksums (of the converter, a checkpoint, an integer network) with bits flipped: always 65
  spliced    a file without checksums whose header says something else: 0, 64 or 65
Always: no signal, no traceback, one line of error below 1,200 bytes, no "nan" on standard output, at most --seconds
and --megabytes. Files that break this are kept in DIR. Exit code: 0 if all did as they must, else 1.
"""
import argparse
import collections
import io
import json
import os
import pickle
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import types
import zipfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
CONVERTER = os.path.join(os.path.dirname(HERE), "convert_torch.py")
CLASSES = 3
LONGEST_ERROR = 1200
KINDS = ("forms", "torn", "loaded", "flipped", "spliced")

# ---- Files as torch.save writes them, without torch ------------------------------------------------------------


def stand_in(name):
    """A function or class that pickles under the name of PyTorch's; nobody calls it."""
    module, _, last = name.rpartition(".")
    parts = module.split(".")
    for i in range(len(parts)):
        path = ".".join(parts[:i + 1])
        if path not in sys.modules:
            sys.modules[path] = types.ModuleType(path)
    kind = type(last, (), {"__module__": module, "__qualname__": last})
    setattr(sys.modules[module], last, kind)
    return kind


NAMES = {name: stand_in(name) for name in (
    "torch.FloatStorage", "torch.LongStorage", "torch.QInt8Storage", "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state", "torch._tensor._rebuild_from_type_v2",
    "torch.storage._load_from_bytes", "torch.Size", "torch.float32", "torch.device", "torch.optim.sgd.SGD",
    "my.project.Config", "my.project.Color", "my.project.hook", "mmengine.config.ConfigDict", "fastai.TensorBase")}


class Call:
    """Pickles as the call of a function."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments

    def __reduce__(self):
        return NAMES[self.name], self.arguments


class Stored:
    def __init__(self, key, kind, data, itemsize):
        self.key, self.kind, self.data, self.numel = key, kind, data, len(data) // itemsize


class Pickler(pickle._Pickler):  # the one in Python looks names up in sys.modules, and asks nobody whether to call
    def save_global(self, obj, name=None):
        super().save_global(obj, name)

    def persistent_id(self, obj):
        return ("storage", NAMES[obj.kind], obj.key, "cpu", obj.numel) if isinstance(obj, Stored) else None


def dumped(value, protocol):
    out = io.BytesIO()
    Pickler(out, protocol).dump(value)
    return out.getvalue()


def zipped(value, storages, protocol, rng):
    out = io.BytesIO()
    folder = rng.choice(("archive", "model", "x y"))
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(folder + "/data.pkl", dumped(value, protocol))
        if rng.random() < 0.5:
            file.writestr(folder + "/byteorder", "little")
        for storage in storages:
            file.writestr("%s/data/%s" % (folder, storage.key), storage.data)
        file.writestr(folder + "/version", "3\n")
    return out.getvalue()


def older(value, storages, protocol):
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2),
             dumped(value, protocol), pickle.dumps([storage.key for storage in storages], 2)]
    for storage in storages:
        parts += [struct.pack("<q", storage.numel), storage.data]
    return b"".join(parts)


# ---- The networks that are stored ------------------------------------------------------------------------------


def resnet20(rng):
    """{name: (shape, bytes)} as the loader wants it."""
    def floats(*shape, low=-0.1, high=0.1):
        count = 1
        for extent in shape:
            count *= extent
        return shape, struct.pack("<%df" % count, *(rng.uniform(low, high) for _ in range(count)))

    tensors = {"conv1.weight": floats(16, 3, 3, 3)}

    def norm(name, width):
        for part, low, high in (("weight", 0.5, 1), ("bias", -0.1, 0.1), ("running_mean", -0.1, 0.1),
                                ("running_var", 0.5, 2)):
            tensors["%s.%s" % (name, part)] = floats(width, low=low, high=high)
    norm("bn1", 16)
    for layer, width in enumerate((16, 32, 64), 1):
        for block in range(3):
            into = width // 2 if layer > 1 and block == 0 else width
            for conv in (1, 2):
                tensors["layer%d.%d.conv%d.weight" % (layer, block, conv)] = \
                    floats(width, into if conv == 1 else width, 3, 3)
                norm("layer%d.%d.bn%d" % (layer, block, conv), width)
    tensors["fc.weight"], tensors["fc.bias"] = floats(CLASSES, 64), floats(CLASSES)
    return tensors


def beside(rng):
    """Things that people save with their weights."""
    things = [3, 0.5, None, True, "text", [1, (2, "x")], {"a": {1: 2}}, 1 << 80, {1, 2}, b"bytes", 1j,
              NAMES["my.project.Config"], Call("my.project.Color", 1), NAMES["my.project.hook"],
              Call("mmengine.config.ConfigDict"), Call("torch.Size", (1, 2)), NAMES["torch.float32"],
              Call("torch.device", "cpu"), Call("torch.optim.sgd.SGD"), collections.OrderedDict(a=1),
              collections.Counter("aab"), collections.defaultdict(list), {NAMES["my.project.hook"]: 1}, {(1, 2): 3}]
    return [rng.choice(things) for _ in range(rng.randrange(6))]


def form(rng, tensors):
    """(bytes of a file, the arguments that the converter needs)."""
    container = rng.choice(("zip", "zip", "older", "plain"))
    protocol = rng.choice((2, 2, 3, 4, 5))
    storages = []
    shared = rng.random() < 0.2 and container != "plain"
    if shared:  # all tensors in one storage, as of a flattened optimizer
        storages.append(Stored("0", "torch.FloatStorage", b"".join(data for _, data in tensors.values()), 4))
    prefix = rng.choice(("", "", "module.", "_orig_mod.", "model.", "net.backbone.", "module.my_net."))
    kind = rng.choice(("tensor", "tensor", "parameter", "with state", "subclass"))
    state, offset = collections.OrderedDict(), 0
    for name, (shape, data) in tensors.items():
        strides, dense = [], 1
        for extent in reversed(shape):
            strides.insert(0, dense)
            dense *= extent
        if container == "plain":
            inner = Stored("k", "torch.FloatStorage", data, 4)
            storage = Call("torch.storage._load_from_bytes", older(inner, [inner], 2))
        elif shared:
            storage = storages[0]
        else:
            storage = Stored(str(len(storages)), "torch.FloatStorage", data, 4)
            storages.append(storage)
        arguments = (storage, offset if shared else 0, shape, tuple(strides), False, collections.OrderedDict())
        value = Call("torch._utils._rebuild_tensor_v2", *arguments)
        if kind == "parameter":
            value = Call("torch._utils._rebuild_parameter", value, True, collections.OrderedDict())
        elif kind == "with state":
            value = Call("torch._utils._rebuild_parameter_with_state", value, True, collections.OrderedDict(), {"a": 1})
        elif kind == "subclass":
            value = Call("torch._tensor._rebuild_from_type_v2", NAMES["torch._utils._rebuild_tensor_v2"],
                         NAMES["fastai.TensorBase"], arguments, {})
        state[prefix + name] = value
        offset += dense
    root, arguments = state, []
    where = rng.choice(("", "state_dict", "model", "net", "mine", "a.b"))
    if where:
        inner = state
        for key in reversed(where.split(".")):
            inner = {key: inner}
        root = {"x%d" % i: thing for i, thing in enumerate(beside(rng))}
        root.update(inner)
        if rng.random() < 0.3 and where != "a.b":
            arguments = ["--key", where]
    if container == "zip":
        return zipped(root, storages, protocol, rng), arguments
    if container == "older":
        return older(root, storages, protocol), arguments
    return dumped(root, max(protocol, 3)), arguments


# ---- Damage ----------------------------------------------------------------------------------------------------


def torn(data, rng):
    """A file of which a few places are not what they were."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        # Most of a file is numbers; what can go wrong is at its ends.
        place = rng.choice((rng.randrange(len(data)), rng.randrange(min(len(data), 4000)),
                            len(data) - 1 - rng.randrange(min(len(data), 8000))))
        length = rng.choice((1, 2, 4, 8, 100))
        what = rng.randrange(6)
        if what == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[place:place + length] = bytes(rng.randrange(256) for _ in range(length))
        elif what == 2:
            del data[place:place + length]
        elif what == 3:
            data[place:place] = data[place:place + length]
        elif what == 4:
            data[place:place + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff\xff\xff\x7f\0\0\0\0"))
        else:
            other = rng.randrange(len(data))
            data[place:place + length] = data[other:other + length]
        if not data:
            return b"x"
    if rng.random() < 0.15:
        del data[rng.randrange(len(data)):]
    return bytes(data)


def flipped(data, rng):
    data = bytearray(data)
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for place in {rng.choice((rng.randrange(len(data)), rng.randrange(header))) for _ in range(rng.choice((1, 1, 3)))}:
        data[place] ^= 1 << rng.randrange(8)
    return bytes(data)


def spliced(data, rng):
    """A file without checksums, with another header."""
    length, = struct.unpack("<Q", data[:8])
    header, buffer = json.loads(data[8:8 + length]), data[8 + length:]
    header.get("__metadata__", {}).pop("crc32", None)
    names = [name for name in header if name != "__metadata__"]
    numbers = (0, 1, -1, 3, 1 << 31, 1 << 62, 1 << 63, 1 << 64, 0.5, 1e999, None, "1", [], True)
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice(names)
        entry = header.get(name)
        if not isinstance(entry, dict) or not entry:
            continue
        what = rng.randrange(9)
        if what == 0:
            header[rng.choice(("", "a" * 100_000, "\n\x1b[31m", "\u202e", name + ".x", "module." + name))] = header.pop(name)
        elif what == 1:
            entry["dtype"] = rng.choice(("F64", "BF16", "I8", "F8_E4M3", "", "F" * 1000, 3))
        elif what == 2 and isinstance(entry.get("shape"), list) and entry["shape"]:
            entry["shape"][rng.randrange(len(entry["shape"]))] = rng.choice(numbers)
        elif what == 3:
            entry["shape"] = rng.choice(([], [1] * 100, [[1]], list(reversed(entry.get("shape") or [1]))))
        elif what == 4 and isinstance(entry.get("data_offsets"), list):
            entry["data_offsets"][rng.randrange(2)] = rng.choice(numbers)
        elif what == 5:
            del header[name]
        elif what == 6:
            header["extra%d" % rng.randrange(3)] = dict(entry)
        elif what == 7:
            header["__metadata__"] = rng.choice(({"format": "pt"}, {}, {"a": 1}, {"format": "faq-integer-network"},
                                                 {"config": "{}", "progress": "{}"}, {"x": "y" * 100_000}))
        elif buffer:
            place = rng.randrange(len(buffer)) & ~3
            bad = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f"))
            buffer = buffer[:place] + bad + buffer[place + 4:]
    text = json.dumps(header, allow_nan=True).encode()
    if rng.random() < 0.1:
        text = torn(text, rng)
    return struct.pack("<Q", len(text)) + text + buffer


# ---- The programs ----------------------------------------------------------------------------------------------

Ended = collections.namedtuple("Ended", "code out err seconds megabytes")


class Campaign:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.faq_eval, self.faq_train = (os.path.join(options.bin, name) for name in ("faq-eval", "faq-train"))
        self.table = collections.Counter()
        self.slowest = collections.defaultdict(float)
        self.largest = collections.defaultdict(float)
        self.failures = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, arguments):
        limit = self.options.megabytes << 20
        begin = time.monotonic()
        with open(self.path("stdout"), "w+b") as out, open(self.path("stderr"), "w+b") as err:
            child = subprocess.Popen(arguments, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                                     env={**os.environ, "OMP_NUM_THREADS": "1"},
                                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
            # wait4 tells what one process has used.
            while True:
                pid, status, used = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() - begin > self.options.seconds:
                    child.kill()
                    _, status, used = os.wait4(child.pid, 0)
                    break
                time.sleep(0.002)
            child.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0), err.seek(0)
            return Ended(child.returncode, out.read(), err.read(), time.monotonic() - begin, used.ru_maxrss / 1024)

    def check(self, kind, number, arguments, allowed, file):
        """Runs a program, and notes what it did that it must not do."""
        ended = self.run(arguments)
        self.table[kind, ended.code] += 1
        self.slowest[kind] = max(self.slowest[kind], ended.seconds)
        self.largest[kind] = max(self.largest[kind], ended.megabytes)
        lines = [line for line in ended.err.splitlines() if b": note: " not in line]
        wrong = []
        if ended.code not in allowed:
            wrong.append("ended with %d, expected one of %s" % (ended.code, allowed))
        if b"Traceback" in ended.err:
            wrong.append("a traceback")
        if ended.code in (64, 65) and len(lines) != 1:
            wrong.append("%d lines of error" % len(lines))
        if max(map(len, lines), default=0) > LONGEST_ERROR:
            wrong.append("an error of %d bytes" % max(map(len, lines)))
        if b"nan" in ended.out.lower():
            wrong.append("nan among the results")
        if ended.seconds > self.options.seconds:
            wrong.append("%.1f s" % ended.seconds)
        if wrong:
            self.fail(kind, number, file, "%s: %s" % ("; ".join(wrong), ended.err[-300:].decode(errors="replace").strip()))
        return ended

    def fail(self, kind, number, file, what):
        kept = ""
        if self.options.keep:
            os.makedirs(self.options.keep, exist_ok=True)
            kept = os.path.join(self.options.keep, "%s-%d%s" % (kind, number, os.path.splitext(file)[1]))
            shutil.copy(file, kept)
        self.failures.append("%s %d %s: %s" % (kind, number, kept, what))
        print("FAILED " + self.failures[-1], flush=True)

    # --- what there is to load

    def prepare(self):
        """Images, and the files of a run that did not train."""
        for split in ("train", "val"):
            for label in range(CLASSES):
                folder = self.path("data/%s/%s" % (split, "abc"[label]))
                os.makedirs(folder)
                for i in range(4):
                    with open(os.path.join(folder, "%d.png" % i), "wb") as file:
                        file.write(png(random.Random(label * 10 + i)))
        self.image = self.path("data/val/a/0.png")
        self.tensors = resnet20(random.Random(self.options.seed))
        weights, self.plain = self.path("base.pth"), self.path("base.safetensors")
        with open(weights, "wb") as file:
            file.write(form(random.Random(1), self.tensors)[0])
        for arguments in ([sys.executable, CONVERTER, weights, self.plain],
                          [self.faq_train, "--model", "resnet20", "--weights", self.plain, "--data-path",
                           self.path("data"), "--output-dir", self.path("run"), "--scheme", "faq", "--epochs", "0",
                           "-b", "4", "-j", "1", "--threads", "1", "--quiet"]):
            ended = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if ended.returncode:
                sys.exit("campaign weights: %s: %s" % (arguments[0], ended.stderr.decode(errors="replace")))
        self.whole = [(self.plain, ["--model", "resnet20"])] + \
            [(self.path("run/" + name), []) for name in ("best.safetensors", "last.safetensors", "integer.safetensors")]
        self.contents = [open(name, "rb").read() for name, _ in self.whole]

    def predict(self, file, how):
        return [self.faq_eval, "--weights", file, "--predict", self.image, "--val-resize-size", "32",
                "--val-crop-size", "32", "--threads", "1"] + how

    # --- one file of each kind

    def forms(self, number, rng, kind="forms"):
        source, made = self.path("in.pth"), self.path("out.safetensors")
        data, arguments = form(rng, self.tensors)
        if kind == "torn":
            data = torn(data, rng)
        with open(source, "wb") as file:
            file.write(data)
        ended = self.check(kind, number, [sys.executable, CONVERTER, source, made] + arguments,
                           (0,) if kind != "torn" else (0, 65), source)
        if kind == "torn" or ended.code != 0:
            return None
        with open(made, "rb") as file:
            written = file.read()
        length, = struct.unpack("<Q", written[:8])
        header = json.loads(written[8:8 + length])
        for name, (shape, data) in self.tensors.items():
            begin, end = header.get(name, {"data_offsets": (0, 0)})["data_offsets"]
            if written[8 + length + begin:8 + length + end] != data:
                self.fail(kind, number, source, "tensor %s has other bytes" % name)
                break
        return made

    def torn(self, number, rng):
        self.forms(number, rng, "torn")

    def loaded(self, number, rng):
        made = self.forms(number, rng)
        if made:
            self.check("loaded", number, self.predict(made, ["--model", "resnet20"]), (0,), made)

    def damaged(self, kind, number, rng, damage, allowed):
        which = rng.randrange(len(self.whole) if kind == "flipped" else 1)
        how = self.whole[which][1]
        data = damage(self.contents[which], rng)
        if data == self.contents[which]:
            return
        file = self.path("damaged.safetensors")
        with open(file, "wb") as out:
            out.write(data)
        if how and rng.random() < 0.2:
            command = [self.faq_train, "--weights", file, "--data-path", self.path("data"), "--output-dir",
                       self.path("new"), "--dry-run", "--json", "--threads", "1", "-j", "1"] + how
        else:
            command = self.predict(file, how or ["--model", "resnet20"])
        self.check(kind, number, command, allowed, file)

    def flipped(self, number, rng):
        self.damaged("flipped", number, rng, flipped, (65,))

    def spliced(self, number, rng):
        self.damaged("spliced", number, rng, spliced, (0, 64, 65))

    def report(self):
        print("%-10s %8s  %s" % ("kind", "files", "exit codes, longest run, most memory"))
        for kind in KINDS:
            codes = {code: n for (k, code), n in sorted(self.table.items()) if k == kind}
            if codes:
                print("%-10s %8d  %s; %.1f s; %.0f MB" % (
                    kind, sum(codes.values()), ", ".join("%d: %d" % pair for pair in codes.items()),
                    self.slowest[kind], self.largest[kind]))
        print("%d failures" % len(self.failures))


def png(rng):
    """32x32 pixels of noise."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(rng.randrange(256) for _ in range(96)) for _ in range(32))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="files (default: 1000, some ten minutes)")
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to repeat it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", default="build", help="folder of the programs")
    parser.add_argument("--keep", help="folder for files that break the rules")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, with commas between them")
    parser.add_argument("--seconds", type=float, default=60, help="for one file")
    parser.add_argument("--megabytes", type=int, default=1500, help="address space for one file")
    options = parser.parse_args()
    kinds = options.only.split(",")
    if not set(kinds) <= set(KINDS):
        parser.error("--only: expected some of " + ", ".join(KINDS))
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(options, folder)
        campaign.prepare()
        for number in range(options.first, options.first + options.count):
            kind = kinds[number % len(kinds)]
            getattr(campaign, kind)(number, random.Random("%d %d" % (options.seed, number)))
        campaign.report()
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
