#!/usr/bin/env python3
"""Converts a PyTorch checkpoint (.pth, .pt, .th) to safetensors. Needs Python >= 3.9 and nothing else.

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
import array
import collections
import contextlib
import errno
import fnmatch
import io
import json
import os
import pickletools
import re
import signal
import stat
import struct
import sys
import zipfile
import zlib

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

# Far beyond any honest file, near enough that a hostile one cannot exhaust the machine.
MAX_PICKLE_BYTES = 64 << 20
MAX_OPCODES = 8_000_000
MAX_DEPTH = 64
MAX_STACK = 1_000_000
MAX_RANK = 64
FAQ_RANK = 4  # core/shape.h
MAX_ENTRIES = 200_000
MAX_DIRECTORY_BYTES = 32 << 20
MAX_TENSORS = 100_000
MAX_KEY_DEPTH = 8
MAX_MESSAGE = 500

# Views can claim any shape of a small storage, and strides that have to be copied element by element. Honest ones share
# weights between a few layers, or have their dimensions in another order.
MAX_GROWTH = 16
MAX_GROWTH_FLOOR = 16 << 20
MAX_PIECES = 1 << 22

STATE_DICT_KEYS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "net", "network",
                   "model_state", "module", "weights", "params")
# nn/load_weights.cpp has the same rule of wrappers and counters.
WRAPPERS = ("module.", "_orig_mod.")
INNER_WRAPPERS = re.compile(r"(?:\._orig_mod)+(?=\.)")
LEFT_OUT = ("num_batches_tracked", "n_averaged", "_extra_state")

# What people call the part of their network that is a network itself. Any other name is stripped, too, if a
# convolution that one of the families below begins with, and another tensor of it, are found behind it.
PREFIXES = ("model", "net", "network", "backbone", "encoder", "base_model", "base", "body", "trunk", "resnet", "cnn",
            "ema_model", "model_ema", "student", "teacher", "feature_extractor", "module", "_model", "_net")
FAMILIES = (("conv1.weight", "layer1.0.conv1.weight"), ("conv1.0.weight", "layer1.0.conv1.weight"),
            ("features.0.weight", "features.3.weight"),
            ("features.conv0.weight", "features.denseblock1.denselayer1.norm1.weight"),
            ("features.conv0.weight", "features.denseblock1.denselayer1.norm.1.weight"),
            ("Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"),
            ("features.0.0.weight", "features.1.conv.0.0.weight"), ("conv_stem.weight", "blocks.0.0.conv_dw.weight"),
            ("_conv_stem.weight", "_blocks.0._depthwise_conv.weight"))

# EfficientNet-Lite as its first port to PyTorch spells it, and timm's names, which faq has. Its blocks are numbered through;
# which stage one belongs to follows from how many there are (Lite0; Lite1 and Lite2).
LITE_STEM = "_conv_stem.weight"
LITE_STAGES = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}
LITE_PARTS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
LITE_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LITE_EXPANDING_BLOCK = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                        "_project_conv": "conv_pwl", "_bn2": "bn3"}

# Storage class: safetensors dtype, bytes of an element. The last three have no class: their tensors name a dtype.
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
    "uint16": ("U16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
}
# What is widened when written, without loss, and to what: the type, the bytes of an element, array's name of it. faq
# reads no other types than these and those above, and refuses a file that has one.
WIDENED = {"I16": ("I32", 4, "i"), "U16": ("I32", 4, "i"), "F8_E4M3": ("F32", 4, "f"), "F8_E5M2": ("F32", 4, "f")}

# Bytes of an element of other types, of which nothing is converted.
FOREIGN = {"torch.storage.UntypedStorage": 1, "torch.UntypedStorage": 1, "torch.ComplexFloatStorage": 8,
           "torch.ComplexDoubleStorage": 16, "torch.QInt8Storage": 1, "torch.QUInt8Storage": 1,
           "torch.QInt32Storage": 4, "torch.QUInt4x2Storage": 1, "torch.QUInt2x4Storage": 1}
DTYPES = {"torch.float32": "torch.FloatStorage", "torch.float16": "torch.HalfStorage",
          "torch.bfloat16": "torch.BFloat16Storage", "torch.float64": "torch.DoubleStorage",
          "torch.int8": "torch.CharStorage", "torch.uint8": "torch.ByteStorage", "torch.bool": "torch.BoolStorage",
          "torch.uint16": "uint16", "torch.float8_e4m3fn": "float8_e4m3fn", "torch.float8_e5m2": "float8_e5m2",
          "torch.int16": "torch.ShortStorage", "torch.int32": "torch.IntStorage", "torch.int64": "torch.LongStorage"}
NUMPY_DTYPES = {"f4": "torch.FloatStorage", "f2": "torch.HalfStorage", "f8": "torch.DoubleStorage",
                "i1": "torch.CharStorage", "u1": "torch.ByteStorage", "b1": "torch.BoolStorage",
                "u2": "uint16", "i2": "torch.ShortStorage", "i4": "torch.IntStorage", "i8": "torch.LongStorage"}

# Where the classes of networks live, and the entries that hold a whole one when it is saved with a checkpoint.
MODEL_MODULES = ("torch.nn.", "torchvision.models.", "timm.models.")
MODEL_KEYS = STATE_DICT_KEYS + ("ema",)


class Refused(Exception):
    """A file that cannot be used: exit code 65."""


class Unconvertible(Refused):
    """A tensor that is whole, of a kind that is not converted: it is left out, if others are there."""


class MalformedPickle(Refused):
    """The same, whatever it stands beside."""


def require(condition, message, kind=Refused):
    if not condition:
        raise kind(message)


def is_count(value):
    return type(value) is int and 0 <= value < 1 << 63


def cause_of(error):
    """The first line of an exception of a library."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def shortened(text, longest):
    return text if len(text) <= longest else text[:longest] + "..."


def shown(text, longest=120):
    """A string from a file, fit for a message of one line."""
    text = str(text)
    escaped = json.dumps(text[:longest])[1:-1]
    cut = len(text) > longest or len(escaped) > longest
    return '"' + escaped[:longest] + '"' + ("..." if cut else "")


# ---- The pickle machine ------------------------------------------------------------------------------------------


class Global:
    """A name the pickle mentions. It is never looked up."""
    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


class Opaque(dict):
    """An object of the class or function `name`: whatever made it or filled it has been dropped, except the items of
    those that are dicts. `why`: what is wrong with a tensor that could not be described (an error)."""
    __slots__ = ("name", "why")

    def __init__(self, name, why=None):
        super().__init__()
        self.name = name
        self.why = why


class Key:
    """What is not a plain value, as key of a dict."""

    def __init__(self, kind):
        self.kind = kind


class OrderedDict(dict):
    pass


class Storage:
    """`numel` elements of the stored object `key`, starting at element `start`. `data`: the bytes themselves, of what
    was stored in the pickle."""

    def __init__(self, key, kind, stored_numel, start, numel, data=None):
        self.key = key
        self.kind = kind
        self.dtype, self.itemsize = STORAGES.get(kind, (None, FOREIGN.get(kind, 1)))
        self.stored_numel = stored_numel
        self.start = start
        self.numel = numel
        self.data = data

    def part_of(self, stored):
        """The bytes of the view among those of the stored object."""
        part = memoryview(stored)[self.start * self.itemsize:(self.start + self.numel) * self.itemsize]
        require(len(part) == self.numel * self.itemsize, "the file was cut short while it was being read")
        return part

    def retyped(self, kind):
        """The same bytes as elements of another type."""
        itemsize = STORAGES[kind][1]
        sizes = [count * self.itemsize for count in (self.stored_numel, self.start, self.numel)]
        require(sizes[1] % itemsize == 0, "_rebuild_tensor_v3: a storage that begins within an element")
        return Storage(self.key, kind, *(size // itemsize for size in sizes), data=self.data)


class Array:
    """An array of numpy, or a Parameter of PyTorch 0.1, which a pickle makes empty and fills later."""
    __slots__ = ("name", "tensor")

    def __init__(self, name):
        self.name = name
        self.tensor = None


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides
        self.dtype, self.itemsize, _ = WIDENED.get(storage.dtype, (storage.dtype, storage.itemsize, None))

    @property
    def numel(self):
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def bytes(self):
        return self.numel * self.itemsize


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
    require(storage.dtype, "a tensor of type %s, which cannot be converted" % shown(storage.kind), Unconvertible)
    return Tensor(storage, offset, shape, strides)


def rebuild_tensor_v2(*arguments):
    # storage, offset, shape, strides, requires_grad, backward hooks, [metadata: conjugate or negated views]
    require(len(arguments) in (6, 7), "_rebuild_tensor_v2: expected 6 or 7 arguments, found %d" % len(arguments))
    require(len(arguments) == 6 or not arguments[6], "a conjugate or negated view", Unconvertible)
    return rebuild_tensor(*arguments[:4])


def rebuild_tensor_v3(*arguments):
    # storage, offset, shape, strides, requires_grad, backward hooks, dtype, [metadata]
    require(len(arguments) in (7, 8), "_rebuild_tensor_v3: expected 7 or 8 arguments, found %d" % len(arguments))
    require(len(arguments) == 7 or not arguments[7], "a conjugate or negated view", Unconvertible)
    storage, dtype = arguments[0], arguments[6]
    require(type(storage) is Storage, "_rebuild_tensor_v3: expected a storage, found " + kind_of(storage))
    require(type(dtype) is Global, "_rebuild_tensor_v3: expected a type, found " + kind_of(dtype))
    require(dtype.name in DTYPES, "a tensor of type %s, which cannot be converted" % kind_of(dtype), Unconvertible)
    return rebuild_tensor(storage.retyped(DTYPES[dtype.name]), *arguments[1:4])


def tensor_of(value, what):
    """A tensor or a filled array."""
    value = filled(value)
    if is_unconvertible(value):
        raise value.why
    require(type(value) is Tensor, "%s: expected a tensor%s" % (what, why_of(value)))
    return value


def filled(value):
    """The value itself, of what is made empty and filled later."""
    return value.tensor if type(value) is Array else value


def is_unconvertible(value):
    return type(value) is Opaque and type(value.why) is Unconvertible


def rebuild_subclass(*_):
    raise Unconvertible("a tensor of a subclass")


def unconvertible(what):
    """Of functions that make such a tensor."""
    def rebuild(*_):
        raise Unconvertible(what)
    return rebuild


def first_argument(what, least):
    """Of functions that make a tensor, or the like of it, from one: a Parameter, a tensor of another device."""
    def rebuild(*arguments):
        require(len(arguments) >= least, what + ": expected a tensor")
        return tensor_of(arguments[0], what)
    return rebuild


def parameter(*arguments):
    # Before PyTorch 0.4 its state follows, of which the first is the tensor.
    return tensor_of(arguments[0], "Parameter") if arguments else Array("Parameter")


def rebuild_from_type(*arguments):
    # A subclass of tensor: the function that makes the tensor, the class, the function's arguments, attributes
    require(len(arguments) == 4 and type(arguments[0]) is Global and type(arguments[2]) is tuple,
            "_rebuild_from_type: expected a tensor")
    kind, function = kind_of(arguments[1]), STAND_INS.get(arguments[0].name)
    require(function not in (None, rebuild_subclass), "a %s, which cannot be converted%s"
            % (kind, ": save full_tensor() of each" if "DTensor" in kind else ""), Unconvertible)
    return tensor_of(function(*arguments[2]), "_rebuild_from_type")


def spend(size):
    """What stand-ins copy, each once, is in the file: a file that asks for more copies wants to fill the memory."""
    Machine.copies_left -= size
    if Machine.copies_left < 0:
        raise MalformedPickle("more copies of its bytes than the file has bytes")


def encode(*arguments):
    # How protocol 2 spells bytes.
    require(len(arguments) == 2 and type(arguments[0]) is str and arguments[1] == "latin1", "encode: expected a string")
    spend(len(arguments[0]))
    return arguments[0].encode("latin1")


def load_from_bytes(*arguments):
    # A storage in a pickle that is not torch.save's.
    require(len(arguments) == 1 and type(arguments[0]) is bytes, "_load_from_bytes: expected bytes")
    require(not LegacyFile.inside, "_load_from_bytes: a storage within a storage")
    spend(len(arguments[0]))
    LegacyFile.inside = True
    try:
        inner = LegacyFile(io.BytesIO(arguments[0]), len(arguments[0]))
    finally:
        LegacyFile.inside = False
    storage = inner.root
    require(type(storage) is Storage, "_load_from_bytes: expected a storage, found " + kind_of(storage))
    data = bytes(storage.part_of(inner.read(storage)))
    return Storage(object(), storage.kind, storage.numel, 0, storage.numel, data=data)


class NumpyDtype:
    def __init__(self, kind):
        self.kind = kind
        self.order = "<"


def numpy_dtype(*arguments):
    require(arguments and type(arguments[0]) is str, "an array without type")
    require(arguments[0] in NUMPY_DTYPES, "an array of type %s, which cannot be converted" % shown(arguments[0], 40),
            Unconvertible)
    return NumpyDtype(NUMPY_DTYPES[arguments[0]])


def array_of(shape, dtype, fortran, data):
    if is_unconvertible(dtype):
        raise dtype.why
    require(type(dtype) is NumpyDtype, "an array without type")
    require(dtype.order in "<|=", "an array of big-endian numbers", Unconvertible)
    require(type(shape) is tuple and len(shape) <= MAX_RANK and all(map(is_count, shape)) and type(data) is bytes,
            "an array without shape or data")
    numel, strides = 1, []
    for extent in (shape if fortran else reversed(shape)):
        strides.append(numel)
        numel *= extent
    itemsize = STORAGES[dtype.kind][1]
    require(len(data) == numel * itemsize, "an array with %d bytes, expected %s" % (len(data), brief(numel * itemsize)))
    storage = Storage(object(), dtype.kind, numel, 0, numel, data=data)
    return rebuild_tensor(storage, 0, shape, tuple(strides if fortran else reversed(strides)))


def numpy_from_buffer(*arguments):
    require(len(arguments) == 4, "_frombuffer: expected 4 arguments")
    data, dtype, shape, order = arguments
    array = Array("numpy.ndarray")
    array.tensor = array_of(shape, dtype, order == "F", data)
    return array


# What REDUCE may call: functions of this file, by the name they stand in for.
STAND_INS = {
    "collections.OrderedDict": rebuild_ordered_dict,
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": rebuild_tensor_v3,
    "torch.nn.parameter.Parameter": parameter,
    "torch.autograd.variable.Variable": parameter,
    "torch._utils._rebuild_parameter": first_argument("_rebuild_parameter", 3),
    "torch._utils._rebuild_parameter_with_state": first_argument("_rebuild_parameter_with_state", 4),
    "torch._utils._rebuild_device_tensor_from_numpy": first_argument("_rebuild_device_tensor_from_numpy", 4),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor":
        first_argument("_rebuild_device_tensor_from_cpu_tensor", 4),
    "torch._utils._rebuild_xla_tensor": first_argument("_rebuild_xla_tensor", 4),
    "torch._tensor._rebuild_from_type": rebuild_from_type,
    "torch._tensor._rebuild_from_type_v2": rebuild_from_type,
    "torch.tensor._rebuild_from_type": rebuild_from_type,
    "torch._utils._rebuild_sparse_tensor": unconvertible("a sparse tensor"),
    "torch._utils._rebuild_sparse_csr_tensor": unconvertible("a sparse tensor"),
    "torch._utils._rebuild_nested_tensor": unconvertible("a nested tensor"),
    "torch._utils._rebuild_qtensor": unconvertible("a quantized tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": unconvertible("a tensor of the device meta, without numbers"),
    "torch._utils._rebuild_wrapper_subclass": rebuild_subclass,
    "torch.storage._load_from_bytes": load_from_bytes,
    "_codecs.encode": encode,
    "numpy.dtype": numpy_dtype,
    "numpy.core.multiarray._reconstruct": lambda *_: Array("numpy.ndarray"),
    "numpy._core.multiarray._reconstruct": lambda *_: Array("numpy.ndarray"),
    "numpy.core.numeric._frombuffer": numpy_from_buffer,
    "numpy._core.numeric._frombuffer": numpy_from_buffer,
}
# Makers of objects of the class they get: copyreg's, of older protocols.
RECONSTRUCTORS = ("copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__")


def kind_of(value):
    if type(value) in (Global, Opaque):
        name = shown(value.name, 80)
        return name if name[1:-1] != value.name or not value.name.isprintable() else value.name
    return type(value).__name__


def why_of(value):
    return ", found %s%s" % (kind_of(value), " (%s)" % value.why if type(value) is Opaque and value.why else "")


def brief(number):
    return str(number) if number < 1 << 63 else "2^63 or more"


def set_item(target, key, value):
    # Hashing what a file has made may take for ever: of a tuple of tuples, or of whole numbers that are chosen so.
    plain = type(key) in (str, bytes, float, bool, type(None)) or (type(key) is int and abs(key) < 1 << 63)
    if not plain:
        key = Key(kind_of(key))
    require(key not in target or type(target) is Opaque, "duplicate key %s" % shown(key))
    target[key] = value


class Machine:
    """Runs one pickle. `step_NAME` is the meaning of the opcode NAME; an opcode without one is refused."""

    copies_left = 0  # bytes, of all pickles of a file

    def __init__(self, persistent_load=None):
        self.persistent_load = persistent_load
        self.stack = []
        self.marks = []
        self.memo = {}

    def run(self, stream):
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            require(count < MAX_OPCODES, "a pickle of more than %d instructions" % MAX_OPCODES)
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

    def step_POP(self, _):
        if self.marks and len(self.stack) == self.marks[-1]:
            self.marks.pop()
        else:
            self.pop()

    def step_POP_MARK(self, _):
        self.pop_to_mark()

    def step_DUP(self, _):
        value = self.pop()
        self.stack += [value, value]

    step_BININT = step_BININT1 = step_BININT2 = step_LONG1 = step_LONG4 = step_BINFLOAT = push
    step_INT = step_LONG = step_FLOAT = step_STRING = step_UNICODE = push  # protocol 0
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

    def step_LIST(self, _):
        self.push(self.pop_to_mark())

    def step_DICT(self, _):
        values = self.pop_to_mark()
        self.push({})
        self.set_items(values)

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
        self.push(Opaque("set"))

    def step_ADDITEMS(self, _):
        self.pop_to_mark()
        require(type(self.stack[-1]) is Opaque, "ADDITEMS to a " + kind_of(self.stack[-1]))

    def step_FROZENSET(self, _):
        self.pop_to_mark()
        self.push(Opaque("frozenset"))

    def step_BYTEARRAY8(self, value):
        self.push(bytes(value))

    def extend(self, values):
        if type(self.stack[-1]) is Opaque:
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
        require(type(target) in (dict, OrderedDict, Opaque), "SETITEMS on a " + kind_of(target))
        for key, value in zip(values[::2], values[1::2]):
            set_item(target, key, value)

    def step_SETITEM(self, _):
        value = self.pop()
        self.set_items([self.pop(), value])

    def step_SETITEMS(self, _):
        self.set_items(self.pop_to_mark())

    def step_BINPUT(self, index):
        require(0 <= index < 1 << 32, "a memo of number %s" % brief(index))
        self.memo[index] = self.stack[-1]

    step_LONG_BINPUT = step_PUT = step_BINPUT

    def step_MEMOIZE(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def step_BINGET(self, index):
        self.push(self.memo[index])

    step_LONG_BINGET = step_GET = step_BINGET

    def step_GLOBAL(self, argument):
        self.push(Global(argument.replace(" ", ".")))

    def step_STACK_GLOBAL(self, _):
        name, module = self.pop(), self.pop()
        require(type(name) is str and type(module) is str, "STACK_GLOBAL of something else than two strings")
        self.push(Global(module + "." + name))

    def step_EXT1(self, code):
        self.push(Global("extension.%d" % code))

    step_EXT2 = step_EXT4 = step_EXT1

    def call(self, function, arguments, what):
        """Never a call: a stand-in of this file, or a marker."""
        require(type(arguments) is tuple, "%s with a %s as arguments" % (what, kind_of(arguments)))
        require(type(function) in (Global, Opaque), "%s of a %s" % (what, kind_of(function)))
        name = function.name
        if name in RECONSTRUCTORS and arguments and type(arguments[0]) is Global:
            name = arguments[0].name
            arguments = arguments[1:] if "newobj" in function.name else arguments
        if type(function) is Global and name in STAND_INS:
            try:
                return STAND_INS[name](*arguments)
            except MalformedPickle:
                raise
            except Refused as error:
                return Opaque(name, error.with_traceback(None))
        return Opaque(name)

    def step_REDUCE(self, _):
        arguments, function = self.pop(), self.pop()
        self.push(self.call(function, arguments, "REDUCE"))

    def step_NEWOBJ(self, _):
        arguments, kind = self.pop(), self.pop()
        require(type(arguments) is tuple and type(kind) in (Global, Opaque), "NEWOBJ of a " + kind_of(kind))
        made = kind.name == "collections.OrderedDict" or STAND_INS.get(kind.name) is parameter
        self.push(self.call(kind, arguments, "NEWOBJ") if made else Opaque(kind.name))

    def step_NEWOBJ_EX(self, _):
        self.pop()
        self.step_NEWOBJ(None)

    def step_INST(self, argument):
        self.pop_to_mark()
        self.push(Opaque(argument.replace(" ", ".")))

    def step_OBJ(self, _):
        values = self.pop_to_mark()
        require(values and type(values[0]) in (Global, Opaque), "OBJ without a class")
        self.push(Opaque(values[0].name))

    def step_BUILD(self, _):
        state = self.pop()
        target = self.stack[-1]
        if type(target) is Array:
            try:
                require(type(state) is tuple and len(state) == 5, "a %s without data" % target.name)
                target.tensor = tensor_of(state[0], target.name) if target.name == "Parameter" else array_of(*state[1:])
            except Refused as error:
                target.tensor = Opaque(target.name, error.with_traceback(None))
        elif type(target) is NumpyDtype:
            target.order = state[1] if type(state) is tuple and len(state) > 1 and type(state[1]) is str else "?"
        else:
            # Attributes, of which a state dict needs none.
            require(type(target) in (Opaque, OrderedDict, Tensor), "BUILD of attributes on a " + kind_of(target))

    def step_BINPERSID(self, _):
        require(self.persistent_load, "a persistent id where none belongs")
        self.push(self.persistent_load(self.pop()))

    def step_BINBYTES8(self, value):
        self.push(value)


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


def run_pickle(file, size, persistent_load=None, limit=MAX_PICKLE_BYTES):
    try:
        return Machine(persistent_load).run(Bounded(file, size, limit))
    except (ValueError, OverflowError, struct.error) as error:  # UnicodeError is a ValueError
        raise Refused("malformed pickle: " + cause_of(error)) from None


# ---- The two containers ------------------------------------------------------------------------------------------


class Storages:
    """The storages mentioned by a pickle, each with one type and size."""

    def __init__(self):
        self.known = {}

    def __call__(self, identity):
        if type(identity) is tuple and len(identity) == 4 and identity[0] == "module" and \
                type(identity[1]) in (Global, Opaque):
            return identity[1]  # a class, with its source
        require(type(identity) is tuple and len(identity) in (5, 6) and identity[0] == "storage",
                "expected a storage as persistent id")
        _, kind, key, _, numel = identity[:5]
        require(type(kind) is Global, "a storage of type " + kind_of(kind))
        require(type(key) is str and is_count(numel), "a storage without key or size")
        first = self.known.setdefault(key, Storage(key, kind.name, numel, 0, numel))
        require((first.kind, first.numel) == (kind.name, numel),
                "storage %s is mentioned with two types or sizes" % shown(key))
        view = identity[5] if len(identity) == 6 else None
        if view is None:
            return first
        require(type(view) is tuple and len(view) == 3 and is_count(view[1]) and is_count(view[2]) and
                view[1] + view[2] <= numel, "storage %s: a view beyond its end" % shown(key))
        return Storage(key, kind.name, numel, view[1], view[2])


class LegacyFile:
    """magic number, version, system, object, list of keys (five pickles); per key an i64 count and the elements."""

    inside = False  # a storage is being read that a pickle holds

    def __init__(self, file, size):
        self.file = file
        first = run_pickle(file, size, limit=size)
        if isinstance(first, (dict, list, tuple)) and not LegacyFile.inside:  # a plain pickle: all is in it
            require(file.tell() == size, "%d bytes after the pickle" % (size - file.tell()))
            self.root, self.starts = first, {}
            return
        require(type(first) is int and first == MAGIC_NUMBER, "expected PyTorch's magic number")
        version = run_pickle(file, size)
        require(version == PROTOCOL_VERSION, "expected version %d, found another" % PROTOCOL_VERSION)
        system = run_pickle(file, size)
        require_little_endian(system)
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
            require(storage.kind in STORAGES or storage.kind in FOREIGN,
                    "a storage of type %s, of unknown size" % shown(storage.kind))
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
        """All bytes of the object that the storage is, or is a view of."""
        if storage.data is not None:
            return storage.data
        self.file.seek(self.starts[storage.key])
        return self.file.read(storage.stored_numel * storage.itemsize)


class TarFile:
    """The archive of PyTorch 0.1, which torchvision's first ResNets are.
    storages: their number; per storage (key, place, type) as a pickle, an i64 count and the elements; list of views.
    tensors: their number; per tensor (key, storage, type) as a pickle, i32 rank, 4 bytes, i64 shape, strides, offset.
    pickle: the object, with keys of storages and tensors as persistent ids."""

    read = LegacyFile.read

    def __init__(self, file, size):
        self.file = file
        self.members = self.members_of(file, size)
        for name in ("storages", "tensors", "pickle"):
            inner = next(iter(self.members), "nothing")
            require(name in self.members,
                    "expected a PyTorch checkpoint, found a tar archive that holds %s: unpack it" % shown(inner, 60))
        if "sys_info" in self.members:
            require_little_endian(self.next_pickle(self.seek("sys_info")))
        self.starts, self.objects = {}, {}
        self.read_storages(self.seek("storages"))
        self.read_tensors(self.seek("tensors"))
        self.root = self.next_pickle(self.seek("pickle"), self.persistent_load)

    @staticmethod
    def members_of(file, size):
        """{name: (start, end)} of the first regular files."""
        members, position = {}, 0
        for _ in range(100):
            file.seek(position)
            block = file.read(512)
            if not block.strip(b"\0"):
                break
            fields = [block[at:at + length].strip(b" \0") or b"0" for at, length in ((124, 12), (148, 8))]
            require(len(block) == 512 and all(set(field) <= set(b"01234567") for field in fields) and
                    sum(block[:148]) + 8 * 32 + sum(block[156:]) == int(fields[1], 8),
                    "malformed tar archive: the header at byte %d" % position)
            start, length = position + 512, int(fields[0], 8)
            position = start + (length + 511) // 512 * 512
            name = block[:100].rstrip(b"\0").decode("utf-8", "replace")
            if block[156:157] in (b"0", b"\0"):
                require(start + length <= size, "the file ends within %s: expected %d bytes, found %d"
                        % (shown(name), start + length, size))
                require(name not in members, "tar archive: %s is there twice" % shown(name))
                members[name] = (start, start + length)
        return members

    def seek(self, name):
        start, end = self.members[name]
        self.file.seek(start)
        return end

    def next_pickle(self, end, persistent_load=None):
        return run_pickle(self.file, end, persistent_load)

    def next_numbers(self, end, layout):
        data = self.file.read(min(struct.calcsize(layout), max(0, end - self.file.tell())))
        require(len(data) == struct.calcsize(layout), "a member of the tar archive ends too early")
        return struct.unpack(layout, data)

    def next_row(self, end, what, keys):
        """The (key, _, _) before each storage and tensor."""
        row = self.next_pickle(end)
        require(type(row) is tuple and len(row) == 3 and is_count(row[0]) and row[0] not in keys,
                "expected the key and type of a %s" % what)
        return row

    def read_storages(self, end):
        count = self.next_pickle(end)
        require(is_count(count), "expected the number of storages")
        for _ in range(count):
            key, _, kind = self.next_row(end, "storage", self.objects)
            require(type(kind) is Global and (kind.name in STORAGES or kind.name in FOREIGN),
                    "a storage of type %s, of unknown size" % kind_of(kind))
            numel, = self.next_numbers(end, "<q")
            storage = Storage(key, kind.name, numel, 0, numel)
            self.starts[key] = self.file.tell()
            require(0 <= numel * storage.itemsize <= end - self.starts[key], "storage %d reaches beyond its end" % key)
            self.file.seek(self.starts[key] + numel * storage.itemsize)
            self.objects[key] = storage
        views = self.next_pickle(end)
        require(type(views) is list, "expected a list of views of storages")
        for view in views:
            require(type(view) is tuple and len(view) == 4 and all(map(is_count, view)) and
                    view[0] not in self.objects and type(self.objects.get(view[1])) is Storage and view[2] + view[3] <= self.objects[view[1]].numel,
                    "a view of a storage beyond its end")
            root = self.objects[view[1]]
            self.objects[view[0]] = Storage(root.key, root.kind, root.stored_numel, root.start + view[2], view[3])

    def read_tensors(self, end):
        count = self.next_pickle(end)
        require(is_count(count), "expected the number of tensors")
        for _ in range(count):
            key, where, _ = self.next_row(end, "tensor", self.objects)
            rank, _ = self.next_numbers(end, "<ii")
            require(0 <= rank <= MAX_RANK, "a tensor of %d dimensions" % rank)
            numbers = self.next_numbers(end, "<%dq" % (2 * rank + 1))
            storage = self.objects.get(where) if is_count(where) else None
            try:
                self.objects[key] = rebuild_tensor(storage, numbers[-1], numbers[:rank], numbers[rank:-1])
            except Refused as error:
                self.objects[key] = Opaque("tensor", error.with_traceback(None))

    def persistent_load(self, identity):
        if type(identity) is tuple and identity and type(identity[0]) in (Global, Opaque):
            return identity[0]  # a class, with its source
        key = int(identity) if type(identity) is str and identity.isdecimal() else None
        require(key in self.objects, "a persistent id of no storage and no tensor")
        return self.objects[key]


BIG_ENDIAN = "expected the file of a little-endian machine (torch.load reads others: save it again)"


def require_little_endian(system):
    require(type(system) is dict and system.get("little_endian") is True, BIG_ENDIAN)


class ZipFile:
    """An archive of stored entries: NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder and others."""

    def __init__(self, file, size):
        try:
            # Before the whole directory is read.
            end = zipfile._EndRecData(file) if hasattr(zipfile, "_EndRecData") else None
            require(not end or end[5] <= MAX_DIRECTORY_BYTES, "a zip archive whose directory has %d bytes"
                    % (end[5] if end else 0))
            self.archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
            raise Refused("malformed zip archive: %s" % cause_of(error)) from None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Older versions of zipfile seek to negative places.
            raise Refused("malformed zip archive: an offset outside of the file") from None
        kind = archive_kind(self.archive.namelist())
        require(not kind, "expected a PyTorch checkpoint, found " + kind)
        self.entries = self.validated(self.archive.infolist(), size)
        pickles = [name for name in self.entries if name.endswith("/data.pkl") and name.count("/") == 1]
        require(len(pickles) == 1, "expected one NAME/data.pkl in the archive, found %d" % len(pickles))
        self.folder = pickles[0][:-len("data.pkl")]
        order = self.folder + "byteorder"
        require(order not in self.entries or self.contents(order, 64) == b"little", BIG_ENDIAN)

        storages = Storages()
        data = self.contents(pickles[0], MAX_PICKLE_BYTES)
        self.root = run_pickle(io.BytesIO(data), len(data), storages)
        for key, storage in storages.known.items():
            entry = self.entries.get(self.folder + "data/" + key)
            require(entry, "storage %s is not in the archive" % shown(key))
            untyped = storage.kind.endswith(".UntypedStorage")
            require(entry.file_size == storage.numel * storage.itemsize or (storage.dtype is None and not untyped),
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
            require(info.compress_type == zipfile.ZIP_STORED,
                    entry + " is compressed: unpack the archive, and pack its folder with zip -0 -r")
            # orig_filename: ZipInfo cuts a name at a zero byte. A colon may be there: torch.save calls the folder like
            # the file ("12:30:00.pth").
            parts = info.orig_filename.split("/")
            require(not info.filename.startswith("/") and ".." not in parts and
                    not any(c in info.orig_filename for c in "\\\0"), entry + " leaves the archive")
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
        if storage.data is not None:
            return storage.data
        return self.contents(self.folder + "data/" + storage.key)


def archive_kind(names):
    """What else a zip archive is than a checkpoint, by the names of its entries; empty for what is not known."""
    def has(*ends):
        return any(name.endswith(ends) for name in names)
    if has("/archive_format", "serialized_exported_program.json") or any("/models/" in name for name in names):
        return "a .pt2 archive of torch.export: only state dicts can be converted (save model.state_dict())"
    if any("/code/" in name or name.startswith("code/") for name in names) or has("/constants.pkl"):
        return "a TorchScript archive: only state dicts can be converted (save model.state_dict())"
    if has("/data.pkl"):
        return ""
    if has(".npy"):
        return "an archive of NumPy arrays (.npz): torch.save a dict of them"
    if has("model.weights.h5"):
        return "a Keras model"
    inner = [name for name in names if name.endswith((".pth", ".pt", ".th", ".ckpt", ".bin", ".safetensors"))]
    if inner:
        return "a zip archive that holds %s: unpack it" % shown(inner[0], 60)
    return ""


# core/file_kind.cpp has the same table.
KINDS = (
    (b"version https://git-lfs", "a git LFS pointer, not the file itself: run git lfs pull"),
    (b"\x1f\x8b", "a gzip file: unpack it with gunzip"),
    (b"BZh", "a bzip2 file: unpack it with bunzip2"),
    (b"\xfd7zXZ\0", "an xz file: unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file: unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (of Keras?)"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"GGUF", "a GGUF file"),
    (b"%PDF", "a PDF file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)


def file_kind(start, size):
    """What a file is that begins so and is no checkpoint; empty for what is not known."""
    for magic, kind in KINDS:
        if start.startswith(magic):
            return kind
    if len(start) > 8 and 2 <= int.from_bytes(start[:8], "little") <= size - 8 and start[8:9] == b"{":
        return "a safetensors file: faq reads it as it is"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if len(start) > 4 and start[0] == 8 and 0 < start[1] < 32 and start[2] in (0x12, 0x3A, 0x42):
        return "an ONNX model"
    text = start[3:] if start.startswith(b"\xef\xbb\xbf") else start
    text = text.lstrip()[:16].lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page: the download gave a page, not the file"
    if text.startswith(b"<?xml"):
        return "an XML document: the download gave an error, not the file?"
    if text.startswith((b"{", b"[")):
        return "JSON text (an index of several files, or a configuration?)"
    if start and not start.strip(b"\0"):
        return "nothing but zeros: the download or the copy is damaged"
    if not start:
        return "an empty file"
    return ""


def open_checkpoint(file):
    size = os.fstat(file.fileno()).st_size
    Machine.copies_left = size
    start = file.read(512)
    file.seek(0)
    if start.startswith(b"PK"):
        return ZipFile(file, size)
    if start[257:262] == b"ustar":
        return TarFile(file, size)
    # Protocols 0 and 1 have no mark of their own: a pickle of a container begins with "(" or "}" or a name.
    if start[:1] != b"\x80" and not (start[:1] in (b"(", b"}", b"c") and file_kind(start, size) == ""):
        raise Refused("expected a PyTorch checkpoint (a zip archive or a pickle), found %s"
                      % (file_kind(start, size) or "something else"))
    return LegacyFile(file, size)


# ---- From the object to named tensors ----------------------------------------------------------------------------


def is_tensor(value):
    return type(filled(value)) is Tensor


def is_ignored(name, patterns):
    """`patterns`: of --ignore-extra; "[" is no more than itself, as in faq-train."""
    return type(name) is str and any(fnmatch.fnmatchcase(name, one.replace("[", "[[]")) for one in patterns)


def is_left_out(name):
    return type(name) is str and name.rsplit(".", 1)[-1] in LEFT_OUT


def wanted_items(value, patterns):
    return [(name, one) for name, one in value.items() if not is_left_out(name) and not is_ignored(name, patterns)]


def is_state_dict(value, patterns=()):
    if not isinstance(value, dict):
        return False
    items = wanted_items(value, patterns)
    return any(is_tensor(one) for _, one in items) and \
        all(is_tensor(one) or is_unconvertible(filled(one)) for _, one in items)


def has_tensors(value):
    """A dict of tensors, of which some may not be as expected."""
    return isinstance(value, dict) and any(is_tensor(one) or (type(filled(one)) is Opaque and filled(one).why)
                                           for one in value.values())


def children(value):
    """The entries of a container, by name; those of a list by number."""
    if isinstance(value, dict):
        return [(name, one) for name, one in value.items() if type(name) is str]
    if type(value) in (list, tuple):
        return [(str(i), one) for i, one in enumerate(value[:1000])]
    return []


def entry_at(root, key):
    """The entry of that name, or, for a.b, the entry b of the entry a. Names may hold dots themselves."""
    entries = dict(children(root))
    if key in entries:
        return entries[key]
    for place, character in enumerate(key):
        if character == "." and children(entries.get(key[:place])):
            try:
                return entry_at(entries[key[:place]], key[place + 1:])
            except KeyError:
                pass
    raise KeyError(key)


def state_dicts_in(root, patterns):
    """(key, value) of the entries that are state dicts, outermost first."""
    found, seen = [], {id(root)}
    waiting = collections.deque([(root, "", 0)])
    while waiting:
        where, prefix, depth = waiting.popleft()
        for name, value in children(where):
            if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
                seen.add(id(value))
                if is_state_dict(value, patterns):
                    found.append((prefix + name, value))
                elif depth < MAX_KEY_DEPTH:
                    waiting.append((value, prefix + name[:200] + ".", depth + 1))
    return found


def keys_to_take(found):
    more = " and %d more" % (len(found) - 4) if len(found) > 4 else ""
    return "; --key takes " + " or ".join(shown(name, 60) for name, _ in found[:4]) + more if found else ""


def say(text):
    """To standard error, which may be closed or full: that changes nothing."""
    try:
        if sys.stderr is not None:
            sys.stderr.write("convert_torch: %s\n" % shortened(text, MAX_MESSAGE))
            sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = None  # or Python 3.13 tries once more at the end, and ends with 120


def note(text):
    say("note: " + text)


def advice_on(value, key):
    """What to do about an object where a state dict is expected, as far as that can be told."""
    if type(value) not in (Opaque, Global):
        return ""
    module = value.name.split(".")[0]
    foreign = module not in getattr(sys, "stdlib_module_names", ()) and module not in ("torch", "__builtin__", "numpy")
    if value.name.startswith(MODEL_MODULES) or (foreign and (key is None or key in MODEL_KEYS)):
        return " (only state dicts can be converted: save model.state_dict(), not the model)"
    return ""


def refuse_strangers(where, value, patterns):
    """Names the first entry of a dict that makes it no state dict."""
    items = [(name, filled(one)) for name, one in wanted_items(value, patterns)]
    strangers = sorted((row for row in items if not is_tensor(row[1])), key=lambda row: is_unconvertible(row[1]))
    require(strangers, where + "it is empty")
    name, one = strangers[0]
    way_out = "" if len(strangers) == len(items) else "; --ignore-extra leaves it out"
    if type(one) is Opaque and one.why:
        raise Refused("%sentry %s: %s%s" % (where, shown(name), one.why, way_out))
    raise Refused("%sentry %s is a %s, not a tensor%s" % (where, shown(name), kind_of(one),
                                                          advice_on(one, name) or way_out))


def find_state_dict(root, key, patterns):
    require(isinstance(root, (dict, list, tuple)) and not (type(root) is Opaque and not root),
            "expected a state dict, found a %s%s" % (kind_of(root), advice_on(root, None)))
    if key is not None:
        try:
            entry = entry_at(root, key)
        except KeyError:
            there = ", ".join(shown(name, 20) for name, _ in children(root)[:8])
            raise Refused("no entry %s; there are: %s%s" % (shown(key), there,
                                                            keys_to_take(state_dicts_in(root, patterns)))) from None
        if not is_state_dict(entry, patterns):
            if has_tensors(entry):
                refuse_strangers("in %s: " % shown(key, 60), entry, patterns)
            raise Refused("the entry %s is not a state dict%s" % (shown(key),
                                                                  keys_to_take(state_dicts_in(root, patterns))))
        return entry
    if is_state_dict(root, patterns):
        return root
    entries = dict(children(root))
    # A state dict that is not whole is the one that is meant nevertheless.
    usual = [name for name in STATE_DICT_KEYS if has_tensors(entries.get(name))]
    if usual:
        if not is_state_dict(entries[usual[0]], patterns):
            refuse_strangers("in %s: " % usual[0], entries[usual[0]], patterns)
        if len(usual) > 1:
            note("took %s; --key takes %s" % (usual[0], " or ".join(usual[1:])))
        return entries[usual[0]]
    found = state_dicts_in(root, patterns)
    likely = [row for row in found if not row[0].startswith(("optim", "ema", "sched"))]
    if len(likely) == 1:
        note("took %s%s" % (shown(likely[0][0], 60),
                            keys_to_take([row for row in found if row is not likely[0]])))
        return likely[0][1]
    missing = "no state dict at the top or under %s" % ", ".join(STATE_DICT_KEYS[:5])
    if found:
        raise Refused(missing + keys_to_take(found))
    for name in STATE_DICT_KEYS:
        value = entries.get(name)
        if isinstance(value, dict) and value:
            refuse_strangers(missing + ": in %s: " % name, value, patterns)
        if type(value) in (Opaque, Global):
            raise Refused("%s: entry %s is a %s, not a tensor%s" % (missing, shown(name), kind_of(value),
                                                                    advice_on(value, name)))
    require("param_groups" not in entries, "the state of an optimizer, without weights")
    if isinstance(root, dict):
        refuse_strangers("" if has_tensors(root) else missing + ": ", root, patterns)
    raise Refused(missing)


def unwrapped(name):
    """The name without those of wrappers, which are put one around the other, torch.compile's around parts, too."""
    start = 0
    while name.startswith(WRAPPERS, start):
        start = name.index(".", start) + 1
    return INNER_WRAPPERS.sub("", name[start:])


def networks_in(names):
    """What stands before the networks of a known family ("backbone."), outermost first. "": nothing does."""
    there = set(names)
    found = set()
    for stem, other in FAMILIES:
        for name in names:
            prefix = name[:-len(stem)]
            if name.endswith(stem) and (not prefix or prefix.endswith(".")) and prefix + other in there:
                found.add(prefix)
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def without_prefix(tensors, prefix):
    """The tensors under names without what stands before those of a network."""
    names = list(tensors)
    if prefix is not None:
        prefix += "" if prefix.endswith(".") or not prefix else "."
        kept = {name[len(prefix):]: tensor for name, tensor in tensors.items()
                if name.startswith(prefix) and name != prefix}
        firsts = sorted({name.split(".")[0] + "." for name in names})
        require(kept, "no name begins with %s; they begin with %s%s" %
                (shown(prefix, 60), ", ".join(shown(first, 30) for first in firsts[:6]),
                 " and %d more" % (len(firsts) - 6) if len(firsts) > 6 else ""))
        if len(kept) < len(names):
            note("left out %d tensors whose names do not begin with %s" % (len(names) - len(kept), shown(prefix, 60)))
        return kept
    networks = networks_in(names)
    if networks:
        require(networks[0] == "" or len(networks) == 1, "several networks, under %s%s: --prefix takes one of them" %
                (", ".join(shown(one, 40) for one in networks[:4]), " and more" if len(networks) > 4 else ""))
        prefix = networks[0]
    else:
        prefix = ""
        for first in names[0].split(".", MAX_KEY_DEPTH)[:-1]:
            if first not in PREFIXES or not all(name.startswith(prefix + first + ".") for name in names):
                break
            prefix += first + "."
    if not prefix:
        return tensors
    result, stripped = {}, 0
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            name = name[len(prefix):]
            stripped += 1
        require(name not in result, "two tensors get the name %s without the prefix %s" % (shown(name),
                                                                                         shown(prefix, 60)))
        result[name] = tensor
    note("stripped the prefix %s of %d of %d names" % (shown(prefix, 60), stripped, len(names)))
    return result


def lite_with_our_names(tensors):
    """EfficientNet-Lite's tensors under timm's names, which begin with no underscore; those of other networks as they are."""
    if LITE_STEM not in tensors or any("._se_reduce." in name for name in tensors):
        return tensors
    blocks = {name.split(".")[1] for name in tensors if name.startswith("_blocks.") and name.count(".") > 2}
    stages = LITE_STAGES.get(len(blocks))
    require(stages is not None and blocks == {str(i) for i in range(len(blocks))},
            "an EfficientNet of %d blocks, expected Lite0 with 16, or Lite1 or Lite2 with 21" % len(blocks))
    places = [(stage, block) for stage, count in enumerate(stages) for block in range(count)]
    result = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        ours = name
        if first in LITE_PARTS:
            ours = "%s.%s" % (LITE_PARTS[first], rest)
        elif first == "_blocks" and rest.count(".") > 1:
            number, part, last = rest.split(".", 2)
            expands = "_blocks.%s._expand_conv.weight" % number in tensors
            part = (LITE_EXPANDING_BLOCK if expands else LITE_BLOCK).get(part, part)
            ours = "blocks.%d.%d.%s.%s" % (places[int(number)] + (part, last))
        require(ours not in result, "two tensors get the name " + shown(ours))
        result[ours] = tensor
    note("gave the tensors of EfficientNet-Lite timm's names")
    return result


def named_tensors(state_dict, prefix=None, patterns=()):
    tensors, left_out = {}, []
    for name, value in wanted_items(state_dict, patterns):
        require(type(name) is str, "expected the names of tensors to be strings, found a %s"
                % (name.kind if type(name) is Key else kind_of(name)))
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise Refused("the name %s is not valid Unicode" % shown(name)) from None
        name = unwrapped(name)
        if is_left_out(name) or is_ignored(name, patterns):
            continue
        value = filled(value)
        if is_unconvertible(value):
            left_out.append("%s (%s)" % (shown(name, 60), value.why))
            continue
        require(name not in tensors and name != "__metadata__", "duplicate or reserved name " + shown(name))
        tensors[name] = value
    if left_out:
        more = " and %d more" % (len(left_out) - 3) if len(left_out) > 3 else ""
        note("left out %s%s" % (", ".join(left_out[:3]), more))
    require(tensors, "no tensors")
    require(len(tensors) <= MAX_TENSORS, "%d tensors, expected at most %d" % (len(tensors), MAX_TENSORS))
    tensors = lite_with_our_names(without_prefix(tensors, prefix))
    tensors = {name: tensor for name, tensor in tensors.items() if not is_ignored(name, patterns)}
    require(tensors and "__metadata__" not in tensors, "no tensors, or one of the reserved name")
    return tensors


# Networks that faq does not have, by what they alone have. nn/looks_like.cpp names more of them when they are loaded.
STRANGERS = (
    (("conv1.0.weight", "conv1.3.weight", "conv1.6.weight", "layer1.0.conv1.weight"), "d: the stem has three convolutions"),
    (("layer1.0.se.fc1.weight",), "with squeeze-and-excitation"),
    (("patch_embed.proj.weight",), "a vision transformer"),
    (("conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"), "a vision transformer"),
    (("stages.0.blocks.0.conv_dw.weight",), "a ConvNeXt"),
    (("conv_stem.weight", "blocks.0.0.se.conv_reduce.weight"), "an EfficientNet with squeeze-and-excitation"),
    (("_conv_stem.weight", "_blocks.0._se_reduce.weight"), "an EfficientNet with squeeze-and-excitation"),
    (("conv_stem.weight", "conv_head.bias"), "timm's MobileNetV3"),
    (("features.3.squeeze.weight",), "SqueezeNet"),
    (("inception3a.branch1.conv.weight",), "GoogLeNet"),
)
DEPTHS = {(2, 2, 2, 2): ("18", "26"), (3, 4, 6, 3): ("34", "50"), (3, 4, 23, 3): ("", "101"), (3, 8, 36, 3): ("", "152")}


def stranger(tensors):
    """What a network is that faq does not have; empty for all others."""
    for names, what in STRANGERS:
        if all(name in tensors for name in names):
            blocks = tuple(len({name.split(".")[1] for name in tensors if name.startswith("layer%d." % i)})
                           for i in range(1, 5))
            resnet = "resnet" + DEPTHS.get(blocks, ("", ""))["layer1.0.conv3.weight" in tensors]
            return "timm's " + resnet + what if what.startswith("d:") else \
                "a " + resnet + " " + what if what.startswith("with") else what
    return ""


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
    return widened(tensor.storage.dtype, data)


def widened(dtype, data):
    """The same numbers in the type that is written."""
    if dtype not in WIDENED:
        return data
    if dtype in ("I16", "U16"):
        data = array.array("h" if dtype == "I16" else "H", data)
    else:
        values = [float8(byte, dtype) for byte in range(256)]
        data = [values[byte] for byte in data]
    return array.array(WIDENED[dtype][2], data).tobytes()


def float8(byte, dtype):
    if dtype == "F8_E5M2":  # the upper half of a float16
        return struct.unpack("<e", bytes((0, byte)))[0]
    exponent, mantissa = byte >> 3 & 15, byte & 7  # no infinities, one NaN
    value = float("nan") if byte & 127 == 127 else \
        (mantissa / 8 + (exponent > 0)) * 2.0 ** (max(exponent, 1) - 7)
    return -value if byte & 128 else value


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
    held, stored = None, b""
    # Those of one storage after one another: it is read once, whoever stands between them in the file.
    for name, tensor in sorted(tensors.items(), key=lambda item: storages[item[1].storage.key]):
        if held != tensor.storage.key:
            stored = None  # before the next one takes its memory
            stored, held = checkpoint.read(tensor.storage), tensor.storage.key
        converted = dense_bytes(tensor, tensor.storage.part_of(stored))
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
    name = os.fsdecode(os.fsencode(name)[:200])  # the longest names have no room for more
    temporary = os.path.join(folder, ".%s.tmp.%d" % (name, os.getpid()))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    try:
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileExistsError:  # left by a killed process that had our process id
            os.unlink(temporary)
            descriptor = os.open(temporary, flags, 0o666)
    except OSError as error:  # of the name that people know
        raise OSError(error.errno, "cannot write: " + error.strerror, path) from None
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
    # The file is there. That its name is on the disk, too, cannot be asked of folders that may not be read, and of some
    # file systems.
    try:
        directory = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise OSError(error.errno, error.strerror, folder) from None
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
