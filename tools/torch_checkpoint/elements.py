"""The elements of tensors: in row-major order, in the type that is written, and no more than their storages hold."""
import array
import struct

from .messages import brief, require
from .values import WIDENED

# Views can claim any shape of a small storage, and strides that have to be copied element by element. Honest ones share
# weights between a few layers, or have their dimensions in another order.
MAX_GROWTH = 16
MAX_GROWTH_FLOOR = 16 << 20
MAX_PIECES = 1 << 22


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
