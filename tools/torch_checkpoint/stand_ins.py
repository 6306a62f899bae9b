"""What stands in for the functions that a pickle calls. None of them runs anything of the file."""
from .messages import MalformedPickle, Unconvertible, brief, is_count, require, shown
from .values import (Array, Global, OrderedDict, STORAGES, Storage, Tensor, filled, is_unconvertible, kind_of,
                     set_item, why_of)

MAX_RANK = 64
DTYPES = {"torch.float32": "torch.FloatStorage", "torch.float16": "torch.HalfStorage",
          "torch.bfloat16": "torch.BFloat16Storage", "torch.float64": "torch.DoubleStorage",
          "torch.int8": "torch.CharStorage", "torch.uint8": "torch.ByteStorage", "torch.bool": "torch.BoolStorage",
          "torch.uint16": "uint16", "torch.float8_e4m3fn": "float8_e4m3fn", "torch.float8_e5m2": "float8_e5m2",
          "torch.int16": "torch.ShortStorage", "torch.int32": "torch.IntStorage", "torch.int64": "torch.LongStorage"}
NUMPY_DTYPES = {"f4": "torch.FloatStorage", "f2": "torch.HalfStorage", "f8": "torch.DoubleStorage",
                "i1": "torch.CharStorage", "u1": "torch.ByteStorage", "b1": "torch.BoolStorage",
                "u2": "uint16", "i2": "torch.ShortStorage", "i4": "torch.IntStorage", "i8": "torch.LongStorage"}


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


class Copies:
    """What stand-ins may still copy, in bytes, for all pickles of a file."""
    left = 0


def spend(size):
    """What stand-ins copy, each once, is in the file: a file that asks for more copies wants to fill the memory."""
    Copies.left -= size
    if Copies.left < 0:
        raise MalformedPickle("more copies of its bytes than the file has bytes")


def encode(*arguments):
    # How protocol 2 spells bytes.
    require(len(arguments) == 2 and type(arguments[0]) is str and arguments[1] == "latin1", "encode: expected a string")
    spend(len(arguments[0]))
    return arguments[0].encode("latin1")


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


# What REDUCE may call, by the name it stands in for. containers.py adds the one that reads a file within a pickle.
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
    "_codecs.encode": encode,
    "numpy.dtype": numpy_dtype,
    "numpy.core.multiarray._reconstruct": lambda *_: Array("numpy.ndarray"),
    "numpy._core.multiarray._reconstruct": lambda *_: Array("numpy.ndarray"),
    "numpy.core.numeric._frombuffer": numpy_from_buffer,
    "numpy._core.numeric._frombuffer": numpy_from_buffer,
}

# Makers of objects of the class they get: copyreg's, of older protocols.
RECONSTRUCTORS = ("copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__")
