#!/usr/bin/env python3
"""Converts a PyTorch checkpoint (.pth, .pt, .th) to safetensors. Needs Python >= 3.9 and nothing else.

    convert_torch.py IN OUT [--key NAME] [--list]
    convert_torch.py IN --list [--key NAME]

Reads both formats of torch.save, the zip archive and the older sequence of pickles. A pickle is a program; this
one is run by a small machine that knows only the instructions and names listed below. It builds numbers, strings,
containers and descriptions of tensors, calls and imports nothing, and refuses everything else by name.

The state dict is the file's object itself or its entry state_dict, model, model_state_dict, state_dict_ema or
model_ema (the first of these present; --key takes another one, --key a.b the entry b of the entry a). What
DataParallel, AveragedModel and torch.compile put before names ("module.", "_orig_mod.") is stripped.
num_batches_tracked and n_averaged are left out: they count training steps and no network needs them.
Data types are kept, except int16 -> I32 and bool -> U8.

Exit codes: 0 done, 64 usage, 65 bad data, 66 missing input, 71 out of memory, 74 input/output error.
"""
import argparse
import array
import collections
import contextlib
import errno
import io
import json
import os
import pickletools
import stat
import struct
import sys
import zipfile
import zlib

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

# Far beyond any honest file, near enough that a hostile one cannot exhaust the machine.
MAX_PICKLE_BYTES = 64 << 20
MAX_DEPTH = 64
MAX_STACK = 1_000_000
MAX_RANK = 64
MAX_ENTRIES = 1_000_000
MAX_KEY_DEPTH = 8

# Views can claim any shape of a small storage, and strides that have to be copied element by element. Honest ones share
# weights between a few layers, or have their dimensions in another order.
MAX_GROWTH = 16
MAX_GROWTH_FLOOR = 16 << 20
MAX_PIECES = 1 << 22

STATE_DICT_KEYS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
WRAPPERS = ("module.", "_orig_mod.")
LEFT_OUT = ("num_batches_tracked", "n_averaged")

# Storage class: safetensors dtype, bytes of an element. int16 is widened when written.
STORAGES = {
    "torch.FloatStorage": ("F32", 4),
    "torch.HalfStorage": ("F16", 2),
    "torch.BFloat16Storage": ("BF16", 2),
    "torch.DoubleStorage": ("F64", 8),
    "torch.CharStorage": ("I8", 1),
    "torch.ByteStorage": ("U8", 1),
    "torch.BoolStorage": ("U8", 1),
    "torch.ShortStorage": ("I16", 2),
    "torch.IntStorage": ("I32", 4),
    "torch.LongStorage": ("I64", 8),
}

# Things found beside the weights in training checkpoints. They become objects without contents.
BUILTINS = ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "range", "set",
            "slice", "str", "tuple", "xrange")
INERT = {
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "collections.deque",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "decimal.Decimal",
    "fractions.Fraction",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.PurePosixPath",
    "pathlib._local.PureWindowsPath",
    "pathlib._local.WindowsPath",
    "types.SimpleNamespace",
    "uuid.UUID",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "_codecs.encode",
    "torch.Size",
    "torch.device",
    "torch.float16",
    "torch.bfloat16",
    "torch.float32",
    "torch.float64",
    *("builtins." + name for name in BUILTINS),
    *("__builtin__." + name for name in BUILTINS),  # as Python 2 and protocol 2 spell it
}

# Where the classes of networks live, and the entries that hold a whole one when it is saved with a checkpoint.
MODEL_MODULES = ("torch.nn.", "torchvision.models.", "timm.models.")
MODEL_KEYS = STATE_DICT_KEYS + ("net", "network", "ema")


class Refused(Exception):
    """A file that cannot be used: exit code 65."""


def require(condition, message):
    if not condition:
        raise Refused(message)


def is_count(value):
    return type(value) is int and value >= 0


def cause_of(error):
    """The first line of an exception of a library."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def shown(text, longest=120):
    """A string from a file, fit for a message of one line."""
    text = str(text)
    return json.dumps(text[:longest]) + ("..." if len(text) > longest else "")


# ---- The pickle machine ------------------------------------------------------------------------------------------


class Global:
    """A name the pickle mentions. It is never looked up."""

    def __init__(self, name):
        self.name = name


class Inert:
    """An object of no interest, of the class `name`: whatever made it or filled it has been dropped."""

    def __init__(self, name):
        self.name = name


class OrderedDict(dict):
    pass


class Storage:
    """`numel` elements of the stored object `key`, starting at element `start`."""

    def __init__(self, key, kind, stored_numel, start, numel):
        self.key = key
        self.dtype, self.itemsize = STORAGES[kind]
        self.stored_numel = stored_numel
        self.start = start
        self.numel = numel


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides
        self.dtype = "I32" if storage.dtype == "I16" else storage.dtype

    @property
    def numel(self):
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def bytes(self):
        return self.numel * (4 if self.storage.dtype == "I16" else self.storage.itemsize)


def rebuild_ordered_dict(*arguments):
    if not arguments:
        return OrderedDict()
    require(len(arguments) == 1 and type(arguments[0]) is list, "OrderedDict: expected a list of pairs")
    result = OrderedDict()
    for pair in arguments[0]:
        require(type(pair) in (list, tuple) and len(pair) == 2, "OrderedDict: expected a list of pairs")
        set_item(result, *pair)
    return result


def rebuild_tensor(*arguments):
    require(len(arguments) == 4, "_rebuild_tensor: expected 4 arguments, found %d" % len(arguments))
    storage, offset, shape, strides = arguments
    require(type(storage) is Storage, "_rebuild_tensor: expected a storage, found " + kind_of(storage))
    require(type(shape) is tuple and type(strides) is tuple, "_rebuild_tensor: expected a shape and strides")
    require(len(shape) == len(strides) <= MAX_RANK, "_rebuild_tensor: shape and strides do not match")
    require(all(map(is_count, (offset,) + shape + strides)),
            "_rebuild_tensor: expected whole numbers as offset, shape and strides")
    if 0 not in shape:
        last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides))
        require(last < storage.numel, "_rebuild_tensor: element %s of a storage of %s" % (brief(last),
                                                                                        brief(storage.numel)))
    return Tensor(storage, offset, shape, strides)


def rebuild_tensor_v2(*arguments):
    # storage, offset, shape, strides, requires_grad, backward hooks, [metadata: conjugate or negated views]
    require(len(arguments) in (6, 7), "_rebuild_tensor_v2: expected 6 or 7 arguments, found %d" % len(arguments))
    require(len(arguments) == 6 or not arguments[6], "_rebuild_tensor_v2: a conjugate or negated view")
    return rebuild_tensor(*arguments[:4])


def rebuild_parameter(*arguments):
    require(len(arguments) == 3 and type(arguments[0]) is Tensor, "_rebuild_parameter: expected a tensor")
    return arguments[0]


# What REDUCE may call: functions of this file, by the name they stand in for.
STAND_INS = {
    "collections.OrderedDict": rebuild_ordered_dict,
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": rebuild_parameter,
}


def kind_of(value):
    return value.name if type(value) in (Global, Inert) else type(value).__name__


def brief(number):
    return str(number) if number < 1 << 63 else "2^63 or more"


def set_item(target, key, value):
    require(type(key) in (str, bytes, int, float, bool, type(None)), "a %s as key of a dict" % kind_of(key))
    require(key not in target, "duplicate key %s" % shown(key))
    target[key] = value


class Machine:
    """Runs one pickle. `step_NAME` is the meaning of the opcode NAME; an opcode without one is refused."""

    def __init__(self, persistent_load=None):
        self.persistent_load = persistent_load
        self.stack = []
        self.marks = []
        self.memo = {}

    def run(self, stream):
        for opcode, argument, position in pickletools.genops(stream):
            if opcode.name == "STOP":
                require(len(self.stack) == 1 and not self.marks, "STOP with %d objects" % len(self.stack))
                return self.stack[0]
            step = getattr(self, "step_" + opcode.name, None)
            require(step, "pickle opcode %s at byte %d is not allowed" % (opcode.name, position))
            try:
                step(argument)
            except (IndexError, KeyError):
                raise Refused("pickle opcode %s at byte %d: nothing to work on" % (opcode.name, position)) from None
            require(len(self.stack) <= MAX_STACK, "pickle stack deeper than %d" % MAX_STACK)
        raise Refused("pickle without STOP")

    def pop(self):
        require(not self.marks or len(self.stack) > self.marks[-1], "pickle stack: a mark where a value belongs")
        return self.stack.pop()

    def pop_to_mark(self):
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def push(self, value):
        self.stack.append(value)

    def ignore(self, _):
        pass

    def step_MARK(self, _):
        require(len(self.marks) < MAX_DEPTH, "pickle nested deeper than %d" % MAX_DEPTH)
        self.marks.append(len(self.stack))

    step_PROTO = step_FRAME = ignore

    step_BININT = step_BININT1 = step_BININT2 = step_LONG1 = step_BINFLOAT = push
    step_BINUNICODE = step_SHORT_BINUNICODE = step_BINUNICODE8 = push
    step_BINSTRING = step_SHORT_BINSTRING = push  # Python 2
    step_BINBYTES = step_SHORT_BINBYTES = push

    def step_NONE(self, _):
        self.push(None)

    def step_NEWTRUE(self, _):
        self.push(True)

    def step_NEWFALSE(self, _):
        self.push(False)

    def step_EMPTY_LIST(self, _):
        self.push([])

    def step_EMPTY_DICT(self, _):
        self.push({})

    def step_EMPTY_TUPLE(self, _):
        self.push(())

    def step_TUPLE(self, _):
        self.push(tuple(self.pop_to_mark()))

    def tuple_of(self, count):
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def step_TUPLE1(self, _):
        self.tuple_of(1)

    def step_TUPLE2(self, _):
        self.tuple_of(2)

    def step_TUPLE3(self, _):
        self.tuple_of(3)

    def step_EMPTY_SET(self, _):
        self.push(Inert("set"))

    def step_ADDITEMS(self, _):
        self.pop_to_mark()
        require(type(self.stack[-1]) is Inert, "ADDITEMS to a " + kind_of(self.stack[-1]))

    def step_FROZENSET(self, _):
        self.pop_to_mark()
        self.push(Inert("frozenset"))

    def step_BYTEARRAY8(self, _):
        self.push(Inert("bytearray"))

    def extend(self, values):
        if type(self.stack[-1]) is Inert:
            return
        require(type(self.stack[-1]) is list, "APPENDS to a " + kind_of(self.stack[-1]))
        self.stack[-1].extend(values)

    def step_APPEND(self, _):
        self.extend([self.pop()])

    def step_APPENDS(self, _):
        self.extend(self.pop_to_mark())

    def set_items(self, values):
        target = self.stack[-1]
        require(len(values) % 2 == 0, "SETITEMS of a key without value")
        if type(target) is Inert:
            return
        require(type(target) in (dict, OrderedDict), "SETITEMS on a " + kind_of(target))
        for key, value in zip(values[::2], values[1::2]):
            set_item(target, key, value)

    def step_SETITEM(self, _):
        value = self.pop()
        self.set_items([self.pop(), value])

    def step_SETITEMS(self, _):
        self.set_items(self.pop_to_mark())

    def step_BINPUT(self, index):
        self.memo[index] = self.stack[-1]

    step_LONG_BINPUT = step_BINPUT

    def step_MEMOIZE(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def step_BINGET(self, index):
        self.push(self.memo[index])

    step_LONG_BINGET = step_BINGET

    def mention(self, name):
        known = name in STORAGES or name in STAND_INS or name in INERT
        require(known, "%s is not allowed%s" % (shown(name), "" if known else self.advice(name)))
        self.push(Global(name))

    def advice(self, name):
        """What to do about a file that mentions this name, as far as that can be told."""
        model = " (only state dicts can be converted: save model.state_dict(), not the model)"
        if name.startswith(MODEL_MODULES):
            return model
        module = name.split(".")[0]
        if module == "torch" or "." not in name:
            return ""
        foreign = module not in getattr(sys, "stdlib_module_names", ()) and module not in ("__builtin__", "numpy")
        # The file's object itself, or the value of an entry in which models are kept.
        if foreign and (not self.stack or self.stack[-1] in MODEL_KEYS):
            return model
        return " (only tensors, numbers, strings and containers of them are read: save the checkpoint without it)"

    def step_GLOBAL(self, argument):
        self.mention(argument.replace(" ", "."))

    def step_STACK_GLOBAL(self, _):
        name, module = self.pop(), self.pop()
        require(type(name) is str and type(module) is str, "STACK_GLOBAL of something else than two strings")
        self.mention(module + "." + name)

    def step_REDUCE(self, _):
        arguments, function = self.pop(), self.pop()
        require(type(arguments) is tuple, "REDUCE with a %s as arguments" % kind_of(arguments))
        require(type(function) is Global, "REDUCE of a " + kind_of(function))
        if function.name in INERT:
            self.push(Inert(function.name))
            return
        require(function.name in STAND_INS, "REDUCE of " + function.name)
        self.push(STAND_INS[function.name](*arguments))

    def step_NEWOBJ(self, _):
        arguments, kind = self.pop(), self.pop()
        require(type(arguments) is tuple and type(kind) is Global and kind.name in INERT,
                "NEWOBJ of a " + kind_of(kind))
        self.push(Inert(kind.name))

    def step_BUILD(self, _):
        state = self.pop()
        target = self.stack[-1]
        if type(target) is Inert:
            return
        # A state dict carries the version numbers of its modules in the attribute _metadata.
        require(type(target) is OrderedDict and type(state) is dict and set(state) <= {"_metadata"},
                "BUILD of attributes on a " + kind_of(target))

    def step_BINPERSID(self, _):
        require(self.persistent_load, "a persistent id where none belongs")
        self.push(self.persistent_load(self.pop()))


class Bounded:
    """A file as pickletools wants it, which refuses to read beyond `limit` bytes or the end of the file."""

    def __init__(self, file, size, limit):
        self.file = file
        self.tell = file.tell
        self.size = size
        self.end = min(size, file.tell() + limit)

    def read(self, count):
        position = self.tell()
        require(position < self.size, "the file ends within a pickle, at byte %d" % self.size)
        require(count <= self.end - position, "pickle data of %s bytes at byte %d reach beyond the end or the limit"
                % (brief(count), position))
        return self.file.read(count)

    def readline(self):
        line = self.file.readline(min(65536, self.end - self.tell()))
        require(line.endswith(b"\n"), "the file ends within a pickle, at byte %d" % self.tell())
        return line


def run_pickle(file, size, persistent_load=None):
    try:
        return Machine(persistent_load).run(Bounded(file, size, MAX_PICKLE_BYTES))
    except (ValueError, OverflowError, struct.error) as error:  # UnicodeError is a ValueError
        raise Refused("malformed pickle: " + cause_of(error)) from None


# ---- The two containers ------------------------------------------------------------------------------------------


class Storages:
    """The storages mentioned by a pickle, each with one type and size."""

    def __init__(self):
        self.known = {}

    def __call__(self, identity):
        require(type(identity) is tuple and len(identity) in (5, 6) and identity[0] == "storage",
                "expected a storage as persistent id")
        _, kind, key, _, numel = identity[:5]
        require(type(kind) is Global and kind.name in STORAGES, "a storage of type " + kind_of(kind))
        require(type(key) is str and is_count(numel), "a storage without key or size")
        first = self.known.setdefault(key, Storage(key, kind.name, numel, 0, numel))
        require((first.dtype, first.numel) == (STORAGES[kind.name][0], numel),
                "storage %s is mentioned with two types or sizes" % shown(key))
        view = identity[5] if len(identity) == 6 else None
        if view is None:
            return first
        require(type(view) is tuple and len(view) == 3 and is_count(view[1]) and is_count(view[2]) and
                view[1] + view[2] <= numel, "storage %s: a view beyond its end" % shown(key))
        return Storage(key, kind.name, numel, view[1], view[2])


class LegacyFile:
    """magic number, version, system, object, list of keys (five pickles); per key an i64 count and the elements."""

    def __init__(self, file, size):
        self.file = file
        require(run_pickle(file, size) == MAGIC_NUMBER, "expected PyTorch's magic number")
        version = run_pickle(file, size)
        require(version == PROTOCOL_VERSION, "expected version %d, found another" % PROTOCOL_VERSION)
        system = run_pickle(file, size)
        require(type(system) is dict and system.get("little_endian") is True,
                "expected the file of a little-endian machine")
        storages = Storages()
        self.root = run_pickle(file, size, storages)
        keys = run_pickle(file, size)
        require(type(keys) is list and all(type(key) is str for key in keys) and len(set(keys)) == len(keys),
                "expected a list of different storage keys")
        require(set(keys) == set(storages.known), "the list of storage keys does not match the pickle")

        self.starts = {}
        position = file.tell()
        for key in keys:
            storage = storages.known[key]
            file.seek(position)
            header = file.read(8)
            require(len(header) == 8, "the file ends before storage %s" % shown(key))
            count, = struct.unpack("<q", header)
            require(count == storage.numel, "storage %s at byte %d: expected %s elements, found %s"
                    % (shown(key), position, brief(storage.numel), brief(count)))
            self.starts[key] = position + 8
            position += 8 + count * storage.itemsize
            require(position <= size, "the file ends within storage %s: expected %s bytes, found %d"
                    % (shown(key), brief(position), size))
        require(position == size, "%d bytes after the last storage" % (size - position))

    def read(self, storage):
        self.file.seek(self.starts[storage.key] + storage.start * storage.itemsize)
        return self.file.read(storage.numel * storage.itemsize)


class ZipFile:
    """An archive of stored entries: NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder and others."""

    def __init__(self, file, size):
        try:
            self.archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
            raise Refused("malformed zip archive: %s" % cause_of(error)) from None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Older versions of zipfile seek to negative places.
            raise Refused("malformed zip archive: an offset outside of the file") from None
        self.entries = self.validated(self.archive.infolist(), size)
        pickles = [name for name in self.entries if name.endswith("/data.pkl") and name.count("/") == 1]
        require(len(pickles) == 1, "expected one NAME/data.pkl in the archive, found %d" % len(pickles))
        self.folder = pickles[0][:-len("data.pkl")]
        require(not any(name.startswith(self.folder + "code/") for name in self.entries),
                "a TorchScript archive: only state dicts can be converted")
        order = self.folder + "byteorder"
        require(order not in self.entries or self.contents(order, 64) == b"little",
                "expected the file of a little-endian machine")

        storages = Storages()
        data = self.contents(pickles[0], MAX_PICKLE_BYTES)
        self.root = run_pickle(io.BytesIO(data), len(data), storages)
        for key, storage in storages.known.items():
            entry = self.entries.get(self.folder + "data/" + key)
            require(entry, "storage %s is not in the archive" % shown(key))
            require(entry.file_size == storage.numel * storage.itemsize,
                    "storage %s: expected %s bytes, found %d"
                    % (shown(key), brief(storage.numel * storage.itemsize), entry.file_size))

    @staticmethod
    def validated(infos, size):
        require(len(infos) <= MAX_ENTRIES, "more than %d entries" % MAX_ENTRIES)
        entries = {}
        end = 0
        for info in sorted(infos, key=lambda one: one.header_offset):
            entry = "archive entry " + shown(info.filename)
            require(not info.flag_bits & 0x41, entry + " is encrypted")
            require(info.compress_type == zipfile.ZIP_STORED, entry + " is compressed")
            # orig_filename: ZipInfo cuts a name at a zero byte.
            parts = info.orig_filename.split("/")
            require(not info.filename.startswith("/") and ".." not in parts and
                    not any(c in info.orig_filename for c in "\\\0:"), entry + " leaves the archive")
            require(not stat.S_ISLNK(info.external_attr >> 16), entry + " is a link")
            require(info.filename not in entries, entry + " is there twice")
            require(info.file_size == info.compress_size, entry + " has two sizes")
            require(info.header_offset >= end, entry + " overlaps another")
            require(end or info.header_offset == 0, "the archive does not start the file")
            end = info.header_offset + 30 + info.file_size
            require(end <= size, entry + " reaches beyond the end of the file")
            entries[info.filename] = info
        return entries

    def contents(self, name, limit=None):
        info = self.entries[name]
        require(limit is None or info.file_size <= limit, "archive entry %s has %d bytes" % (shown(name),
                                                                                           info.file_size))
        try:
            data = self.archive.read(info)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as error:
            raise Refused("archive entry %s: %s" % (shown(name), cause_of(error))) from None
        require(len(data) == info.file_size, "archive entry %s is cut short" % shown(name))
        return data

    def read(self, storage):
        data = self.contents(self.folder + "data/" + storage.key)
        return memoryview(data)[storage.start * storage.itemsize:(storage.start + storage.numel) * storage.itemsize]


def open_checkpoint(file):
    size = os.fstat(file.fileno()).st_size
    start = file.read(4)
    file.seek(0)
    if start.startswith(b"PK"):
        return ZipFile(file, size)
    require(start[:1] == b"\x80", "expected a PyTorch checkpoint (a zip archive or a pickle), found something else")
    return LegacyFile(file, size)


# ---- From the object to named tensors ----------------------------------------------------------------------------


def is_state_dict(value):
    return isinstance(value, dict) and bool(value) and all(type(one) is Tensor for one in value.values())


def entry_at(root, key):
    """The entry of that name, or, for a.b, the entry b of the entry a. Names may hold dots themselves."""
    if key in root:
        return root[key]
    for place, character in enumerate(key):
        if character == "." and isinstance(root.get(key[:place]), dict):
            try:
                return entry_at(root[key[:place]], key[place + 1:])
            except KeyError:
                pass
    raise KeyError(key)


def state_dicts_in(root):
    """The keys of the entries that are state dicts, outermost first."""
    found, seen = [], {id(root)}
    waiting = collections.deque([(root, "", 0)])
    while waiting:
        where, prefix, depth = waiting.popleft()
        for name, value in where.items():
            if type(name) is str and isinstance(value, dict) and id(value) not in seen:
                seen.add(id(value))
                if is_state_dict(value):
                    found.append(prefix + name)
                elif depth < MAX_KEY_DEPTH:
                    waiting.append((value, prefix + name[:200] + ".", depth + 1))
    return found


def keys_to_take(root):
    found = state_dicts_in(root)
    return "; --key takes " + " or ".join(shown(name, 80) for name in found[:4]) if found else ""


def find_state_dict(root, key):
    require(isinstance(root, dict), "expected a state dict, found a " + kind_of(root))
    if key is not None:
        try:
            entry = entry_at(root, key)
        except KeyError:
            there = ", ".join(shown(name, 20) for name in list(root)[:8])
            raise Refused("no entry %s; there are: %s%s" % (shown(key), there, keys_to_take(root))) from None
        require(is_state_dict(entry), "the entry %s is not a state dict%s" % (shown(key), keys_to_take(root)))
        return entry
    if is_state_dict(root):
        return root
    found = [name for name in STATE_DICT_KEYS if is_state_dict(root.get(name))]
    if len(found) > 1:
        print("convert_torch: note: took %s; --key takes %s" % (found[0], " or ".join(found[1:])), file=sys.stderr)
    if found:
        return root[found[0]]
    missing = "no state dict at the top or under %s" % ", ".join(STATE_DICT_KEYS)
    elsewhere = keys_to_take(root)
    if elsewhere:
        raise Refused(missing + elsewhere)
    where = root
    for name in STATE_DICT_KEYS:
        if isinstance(root.get(name), dict):
            where = root[name]
            break
    strangers = [name for name, value in where.items() if type(value) is not Tensor]
    raise Refused(missing + (": entry %s is a %s, not a tensor" % (shown(strangers[0]), kind_of(where[strangers[0]]))
                             if strangers else ": it is empty"))


def unwrapped(name):
    """The name without those of wrappers, which are put one around the other, torch.compile's around parts, too."""
    while name.startswith(WRAPPERS):
        name = name[name.index(".") + 1:]
    return name.replace("._orig_mod.", ".")


def named_tensors(state_dict):
    tensors = {}
    for name, tensor in state_dict.items():
        require(type(name) is str, "expected the names of tensors to be strings, found a " + kind_of(name))
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise Refused("the name %s is not valid Unicode" % shown(name)) from None
        if name.rsplit(".", 1)[-1] in LEFT_OUT:
            continue
        name = unwrapped(name)
        require(name not in tensors and name != "__metadata__", "duplicate or reserved name " + shown(name))
        tensors[name] = tensor
    require(tensors, "no tensors")
    return tensors


def strided(tensor):
    """[(extent, stride)]: as few dimensions as walk the same elements in the same order."""
    dims = []
    for extent, stride in zip(tensor.shape, tensor.strides):
        if extent == 1:
            continue
        if dims and dims[-1][1] == extent * stride:
            extent *= dims.pop()[0]
        dims.append((extent, stride))
    return dims


def pieces_of(tensor):
    """How many copies dense_bytes makes: the longest dimension is copied by slices, the others are looped over."""
    return tensor.numel // max((extent for extent, _ in strided(tensor)), default=1)


def dense_bytes(tensor, storage_bytes):
    """The elements in row-major order, whatever the strides."""
    code = {1: "B", 2: "H", 4: "I", 8: "Q"}[tensor.storage.itemsize]
    source = memoryview(storage_bytes).cast("B").cast(code)
    count = tensor.numel
    dims = strided(tensor)
    if count == 0:
        data = b""
    elif not dims or dims == [(count, 1)]:
        data = source[tensor.offset:tensor.offset + count].tobytes()
    else:
        dense = [1]
        for extent, _ in reversed(dims):
            dense.insert(0, dense[0] * extent)
        dense = dense[1:]
        longest = max(range(len(dims)), key=lambda d: dims[d][0])
        extent, stride = dims[longest]
        buffer = bytearray(count * tensor.storage.itemsize)
        target = memoryview(buffer).cast(code)
        starts, places = array.array("q", [tensor.offset]), array.array("q", [0])
        for d, (steps, step) in enumerate(dims):
            if d != longest:
                starts = array.array("q", (start + i * step for start in starts for i in range(steps)))
                places = array.array("q", (place + i * dense[d] for place in places for i in range(steps)))
        for start, place in zip(starts, places):
            if stride == 0:
                run = memoryview(source[start:start + 1].tobytes() * extent).cast(code)
            else:
                run = source[start:start + (extent - 1) * stride + 1:stride]
            target[place:place + (extent - 1) * dense[longest] + 1:dense[longest]] = run
        data = bytes(buffer)
    if tensor.storage.dtype == "I16":
        data = array.array("i", array.array("h", data)).tobytes()
    return data


# ---- Writing -----------------------------------------------------------------------------------------------------


def header_text(tensors, metadata):
    header = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [end, end + tensor.bytes]}
        end += tensor.bytes
    return json.dumps(header, ensure_ascii=False, separators=(",", ":"))


def header_bytes(tensors, checksums):
    """The header, with CRC-32 checksums as core/safetensors.h describes them. Its length does not depend on them."""
    own = zlib.crc32(header_text(tensors, {}).encode())
    entry = {"__metadata__": "%08x" % own}
    entry.update((name, "%08x" % checksums.get(name, 0)) for name in tensors)
    metadata = {"crc32": json.dumps(entry, ensure_ascii=False, separators=(",", ":"))}
    text = header_text(tensors, metadata).encode()
    text += b" " * (-len(text) % 8)
    require(len(text) <= 100_000_000, "a header of %d bytes" % len(text))
    return struct.pack("<Q", len(text)) + text


def write_tensors(out, checkpoint, tensors):
    checksums, starts, storages = {}, {}, {}
    end = out.write(header_bytes(tensors, checksums))
    for name, tensor in tensors.items():
        starts[name] = end
        end += tensor.bytes
        storages.setdefault(tensor.storage.key, len(storages))
    held, data = None, b""
    # Those of one storage after one another: it is read once, whoever stands between them in the file.
    for name, tensor in sorted(tensors.items(), key=lambda item: storages[item[1].storage.key]):
        if held is not tensor.storage:
            data = checkpoint.read(tensor.storage)
            require(len(data) == tensor.storage.numel * tensor.storage.itemsize,
                    "the file was cut short while it was being read")
            held = tensor.storage
        converted = dense_bytes(tensor, data)
        checksums[name] = zlib.crc32(converted)
        out.seek(starts[name])
        out.write(converted)
    out.seek(0)
    out.write(header_bytes(tensors, checksums))


def write_atomically(path, write):
    """The old file or the complete new one, whatever happens in between."""
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EEXIST, "exists and is not a regular file", path)
    temporary = os.path.join(folder, ".%s.tmp.%d" % (name, os.getpid()))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(temporary, flags, 0o666)
    except FileExistsError:  # left by a killed process that had our process id
        os.unlink(temporary)
        descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


# ---- The program -------------------------------------------------------------------------------------------------


def require_bounded(tensors):
    """Refuses, before anything is written, what is far more than its storages hold."""
    total = sum(tensor.bytes for tensor in tensors)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors}.values()
    stored = sum(storage.stored_numel * storage.itemsize for storage in storages)
    require(total <= max(MAX_GROWTH_FLOOR, MAX_GROWTH * stored),
            "%s bytes of tensors in %s bytes of storages" % (brief(total), brief(stored)))
    pieces = sum(pieces_of(tensor) for tensor in tensors if tensor.numel)
    require(pieces <= MAX_PIECES, "tensors that have to be copied in %s pieces, expected at most %d"
            % (brief(pieces), MAX_PIECES))


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(64, "convert_torch: %s (try --help)\n" % message)


def convert(options):
    with options.file:
        checkpoint = open_checkpoint(options.file)
        tensors = named_tensors(find_state_dict(checkpoint.root, options.key))
        require_bounded(tensors.values())
        if options.output is not None:
            write_atomically(options.output, lambda out: write_tensors(out, checkpoint, tensors))
        if options.list:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "closed", "standard output")
            sys.stdout.reconfigure(errors="backslashreplace")
            for name, tensor in tensors.items():
                print(name if name.isprintable() else shown(name, len(name)), tensor.dtype, list(tensor.shape))
            sys.stdout.flush()


def main(arguments=None):
    parser = Parser(prog="convert_torch.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="IN", help="a PyTorch checkpoint")
    parser.add_argument("output", metavar="OUT", nargs="?", help="the safetensors file to write")
    parser.add_argument("--key", metavar="NAME", help="the entry that holds the state dict; a.b: entry b of entry a")
    parser.add_argument("--list", action="store_true", help="print name, dtype and shape of every tensor")
    options = parser.parse_args(arguments)
    if options.output is None and not options.list:
        parser.error("expected OUT or --list")
    if options.output is not None and os.path.exists(options.output) and os.path.exists(options.input) and \
            os.path.samefile(options.input, options.output):
        parser.error("IN and OUT are the same file")

    def failed(code, what):
        sys.stderr.write("convert_torch: %s: %s\n" % (options.input, what))
        return code

    try:
        options.file = open(options.input, "rb")
    except (OSError, ValueError) as error:
        return failed(66, "cannot open: %s" % (getattr(error, "strerror", None) or error))
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
        return failed(74, "%s: %s" % (error.filename or options.output or "standard output", what))
    return 0


if __name__ == "__main__":
    sys.exit(main())
