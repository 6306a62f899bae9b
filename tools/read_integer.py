#!/usr/bin/env python3
"""Reads integer.safetensors, verifies its checksums and prints its layers. Needs Python >= 3.9 and nothing else.

    read_integer.py FILE                    the preprocessing, and every op with its shapes, bits and scales
    read_integer.py FILE --weights LAYER    the integers that a layer multiplies with, a line for each filter
    read_integer.py FILE --json             the same as one JSON object

This is docs/format.md as a program: what it says of a section stands in a function below. It reads the present format,
version 5; faq-eval reads the older ones, too.

Exit codes: 0 done, 64 usage, 65 bad data, 66 missing input, 71 out of memory, 74 input/output error.
"""
import argparse
import json
import math
import os
import stat
import struct
import sys
import zlib

FORMAT = "faq-integer-network"
VERSION = 5
MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 100_000
MAX_OPS = 1 << 13
MAX_EXTENT = 1 << 12
MAX_MESSAGE = 500
DTYPE_BYTES = {"F32": 4, "I8": 1, "U8": 1}  # of this format; safetensors has more


class Refused(Exception):
    """A file that is no integer network, or is damaged: exit code 65."""


def require(condition, message, *values):
    if not condition:
        raise Refused(message % values if values else message)


def shown(value, longest=120):
    """A value from a file, fit for a message of one line."""
    text = json.dumps(value)
    return text if len(text) <= longest else text[:longest] + "..."


# ---- JSON: no key twice, no NaN ----------------------------------------------------------------------------------------


def parse_json(text, what):
    def once(pairs):
        names = [name for name, _ in pairs]
        for name in names:
            require(names.count(name) == 1 or len(names) > 1000, "%s: the key %s twice", what, shown(name))
        require(len(set(names)) == len(names), "%s: a key twice", what)
        return dict(pairs)

    def refused(word):
        raise Refused("%s: %s is no number of JSON" % (what, word))

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise Refused("%s: not valid JSON: %s" % (what, str(error).splitlines()[0][:200])) from None


def is_int(value, low, high):
    return type(value) is int and low <= value <= high


def are_ints(values, low, high):
    return isinstance(values, list) and all(is_int(value, low, high) for value in values)


def integer(of, key, low, high):
    value = of.get(key)
    require(is_int(value, low, high), "%s: expected an integer from %d to %d, found %s", key, low, high, shown(value))
    return value


def f32(value, key):
    """A number as the nearest f32."""
    require(type(value) in (int, float), "%s: expected a number, found %s", key, shown(value))
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except (OverflowError, struct.error):
        raise Refused("%s: %s does not fit f32" % (key, shown(value))) from None


def boolean(of, key):
    require(type(of.get(key)) is bool, "%s: expected true or false, found %s", key, shown(of.get(key)))
    return of[key]


# ---- The file: safetensors, with checksums -----------------------------------------------------------------------------


class Tensor:
    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, shape, data

    def values(self):
        code = {"F32": "f", "I8": "b", "U8": "B"}[self.dtype]
        return struct.unpack("<%d%s" % (math.prod(self.shape), code), self.data)


def header_text(entries, metadata):
    """The header as faq writes it, without padding: what its checksum is of."""
    def text(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    parts = ['"__metadata__":' + text(metadata)] if metadata else []
    parts += ['%s:{"dtype":"%s","shape":%s,"data_offsets":%s}' % (text(name), e["dtype"], text(e["shape"]), text(e["data_offsets"]))
              for name, e in entries]
    return "{" + ",".join(parts) + "}"


def read_entries(data):
    """(name, entry) in the order of their data, the metadata, and where the data begin."""
    require(len(data) >= 8, "expected a safetensors file, found only %d bytes", len(data))
    (length,) = struct.unpack("<Q", data[:8])
    require(2 <= length <= MAX_HEADER_BYTES, "expected a header of 2 to %d bytes, found length %d", MAX_HEADER_BYTES, length)
    require(length <= len(data) - 8, "the header of %d bytes ends beyond the file of %d bytes", length, len(data))
    try:
        text = data[8:8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("the header is not UTF-8 at byte %d" % error.start) from None
    require(text[0] == "{", "expected '{' at offset 8, found %s", shown(text[0]))
    header = parse_json(text, "header")
    metadata = header.pop("__metadata__", {})
    require(isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values()), "metadata: expected strings")
    require(len(header) <= MAX_TENSORS, "expected at most %d tensors, found more", MAX_TENSORS)
    for name, entry in header.items():
        where = "tensor " + shown(name)
        require(isinstance(entry, dict) and sorted(entry) == ["data_offsets", "dtype", "shape"],
                "%s: expected dtype, shape and data_offsets", where)
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        require(isinstance(dtype, str) and dtype in DTYPE_BYTES, "%s: dtype %s has no place in this format", where, shown(dtype))
        require(are_ints(shape, 0, 1 << 62) and len(shape) <= 4, "%s: shape %s", where, shown(shape))
        require(are_ints(offsets, 0, 1 << 62) and len(offsets) == 2, "%s: data_offsets %s", where, shown(offsets))
        size = math.prod(shape) * DTYPE_BYTES[dtype]
        require(offsets[1] - offsets[0] == size, "%s: expected %d bytes, found data_offsets %s", where, size, offsets)
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    end = 0
    for name, entry in entries:
        begin = entry["data_offsets"][0]
        require(begin == end, "tensor %s: expected data at offset %d, found %d", shown(name), end, begin)
        end = entry["data_offsets"][1]
    require(end == len(data) - 8 - length, "expected %d bytes, found %d", 8 + length + end, len(data))
    return entries, metadata, 8 + length


def verify(entries, metadata, body):
    """Compares all checksums; takes their entry out of the metadata."""
    require("crc32" in metadata, "no checksums, which faq writes into all its files: this one is damaged, or was written anew "
            "by another program")
    expected = parse_json(metadata.pop("crc32"), "checksums")
    require(isinstance(expected, dict) and set(expected) == {"__metadata__", *(name for name, _ in entries)},
            "checksums: expected one for each tensor and one for the header")
    found = {name: zlib.crc32(body[slice(*entry["data_offsets"])]) for name, entry in entries}
    found["__metadata__"] = zlib.crc32(header_text(entries, metadata).encode())
    for name, checksum in found.items():
        require(expected[name] == "%08x" % checksum, "%s: damaged: expected CRC-32 %s, found %08x",
                "the header" if name == "__metadata__" else "tensor " + shown(name), shown(expected[name]), checksum)


# ---- Weights -----------------------------------------------------------------------------------------------------------


def codes_per_byte(bits):
    return 4 if bits <= 2 else 2 if bits <= 4 else 1


def unpack(data, per_byte, count, is_signed):
    """Codes of 8 / per_byte bits, the first in the lowest bits of a byte; signed ones in two's complement."""
    width = 8 // per_byte
    half = 1 << (width - 1)
    fields = (data[i // per_byte] >> (i % per_byte * width) & ((1 << width) - 1) for i in range(count))
    return [(field ^ half) - half for field in fields] if is_signed else list(fields)


# ---- Formats and ops ---------------------------------------------------------------------------------------------------


class Format:
    """How integers are to be read: value = integer * scale."""

    def __init__(self, scale, bits, is_signed):
        self.scale, self.bits, self.is_signed = scale, bits, is_signed
        self.max = (1 << (bits - 1 if is_signed else bits)) - 1
        self.min = -self.max if is_signed else 0

    def __eq__(self, other):
        return (self.scale, self.bits, self.is_signed) == (other.scale, other.bits, other.is_signed)

    def __str__(self):
        return "%s%d × %.9g" % ("s" if self.is_signed else "u", self.bits, self.scale)


def parse_scale(of, key):
    scale = f32(of.get(key), key)
    require(math.isfinite(scale) and scale >= 2.0 ** -126, "%s: expected a normal number above 0, found %s", key, shown(of.get(key)))
    return scale


def parse_format(of, key):
    fields = of.get(key)
    require(isinstance(fields, dict), "%s: expected scale, bits and signed, found %s", key, shown(fields))
    return Format(parse_scale(fields, "scale"), integer(fields, "bits", 2, 8), boolean(fields, "signed"))


class Op:
    """An op: its fields, checked, as attributes. `shape` is that of its result for one image, H, W, C or C; `format` says what
    the integers stand for, and is None for logits."""

    def __init__(self, fields, tensors):
        self.fields, self.tensors = fields, tensors
        self.kind, self.name = fields["kind"], fields["name"]
        self.inputs = fields.get("inputs")
        self.used = set()
        self.shape, self.format = (), None
        self.has_weights = False

    def tensor(self, suffix, dtype):
        name = "%s.%s" % (self.name, suffix)
        require(name in self.tensors, "missing tensor %s", shown(name))
        self.used.add(name)
        tensor = self.tensors[name]
        require(tensor.dtype == dtype, "tensor %s: expected %s, found %s", shown(name), dtype, tensor.dtype)
        return tensor

    def channels_of(self, suffix, count):
        """Finite f32 numbers, one per channel."""
        tensor = self.tensor(suffix, "F32")
        require(tensor.shape == [count], "tensor %s.%s: expected [%d], found %s", self.name, suffix, count, tensor.shape)
        require(all(map(math.isfinite, tensor.values())), "tensor %s.%s: a value is not finite", self.name, suffix)
        return tensor.values()

    def integer(self, key, low, high):
        return integer(self.fields, key, low, high)

    def read_requantize(self, channels):
        self.multiplier, self.bias = self.channels_of("multiplier", channels), self.channels_of("bias", channels)
        self.format = parse_format(self.fields, "format")
        self.low = self.integer("low", self.format.min, self.format.max)
        self.high = self.integer("high", self.low, self.format.max)

    def read_weights(self, rank):
        self.has_weights = True
        self.weight_bits = self.integer("weight_bits", 2, 8)
        self.weight_code = self.fields.get("weight_code")
        require(self.weight_code in ("fixed_point", "odd", "clusters"), "weight_code: found %s", shown(self.weight_code))
        require(self.weight_code != "odd" or self.weight_bits < 8, "odd weights of 8 bits")
        self.weight_scale = parse_scale(self.fields, "weight_scale")
        self.weight_shape = self.fields.get("weight_shape")
        require(are_ints(self.weight_shape, 1, 1 << 20) and len(self.weight_shape) == rank and math.prod(self.weight_shape) <= 1 << 32,
                "weight_shape: found %s", shown(self.weight_shape))
        per_byte = codes_per_byte(self.weight_bits)
        as_numbers = per_byte == 1 and self.weight_code != "odd"
        self.stored = self.tensor("weight", "I8" if as_numbers else "U8")
        expected = -(-math.prod(self.weight_shape) // per_byte)
        require(math.prod(self.stored.shape) == expected, "tensor %s.weight: expected %d bytes, found %s", self.name, expected,
                self.stored.shape)
        if self.weight_code == "clusters":
            self.cluster_size = self.integer("cluster_size", 1, self.weight_shape[1])
            groups = -(-self.weight_shape[1] // self.cluster_size)
            self.scales = self.tensor("scales", "U8")
            require(self.scales.shape == [self.weight_shape[0], groups], "tensor %s.scales: expected %s, found %s", self.name,
                    [self.weight_shape[0], groups], self.scales.shape)
            require(all(scale * ((1 << (self.weight_bits - 1)) - 1) <= 127 for scale in self.scales.values()),
                    "tensor %s.scales: a weight is outside 8 bits", self.name)

    def weights(self):
        """The integers that are multiplied, in the order of weight_shape."""
        bits, count = self.weight_bits, math.prod(self.weight_shape)
        is_odd = self.weight_code == "odd"
        per_byte = codes_per_byte(bits)
        codes = self.stored.values() if self.stored.dtype == "I8" else unpack(self.stored.data, per_byte, count, not is_odd)
        low, high = (0, (1 << bits) - 1) if is_odd else (1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1)
        require(low <= min(codes) and max(codes) <= high, "tensor %s.weight: a value is outside %d bits", self.name, bits)
        if is_odd:
            return [2 * code - high for code in codes]
        if self.weight_code == "fixed_point":
            return list(codes)
        scales, taps = self.scales.values(), math.prod(self.weight_shape[2:])
        channels, groups = self.weight_shape[1], self.scales.shape[1]
        return [code * scales[i // (channels * taps) * groups + i // taps % channels // self.cluster_size]
                for i, code in enumerate(codes)]

    def pixels_of(self, value):
        """The shape of a value that must be an image of integers."""
        require(len(value.shape) == 3 and value.format is not None and value.format.bits <= 8, "expected an image of integers")
        return value.shape

    def pooled(self, shape, kernel, stride, padding):
        """padding: top, left, bottom, right."""
        padded = [n + padding[i] + padding[i + 2] for i, n in enumerate(shape[:2])]
        require(all(n >= k for n, k in zip(padded, kernel)), "an image %s is smaller than the window %s", shape, kernel)
        return tuple((n - k) // stride + 1 for n, k in zip(padded, kernel))


def read_input(op, values):
    require(op.inputs == [0], "inputs: expected [0]")
    op.format = parse_format(op.fields, "format")
    op.table = op.tensor("table", "I8" if op.format.is_signed else "U8")
    height, width, channels = values[0].shape
    require(op.table.shape == [channels, 256], "tensor %s.table: expected [%d, 256], found %s", op.name, channels, op.table.shape)
    require(all(op.format.min <= v <= op.format.max for v in op.table.values()), "tensor %s.table: a value is outside %s", op.name,
            op.format)
    op.shape = (height, width, channels)


def read_conv(op, values):
    op.read_weights(4)
    filters, channels, *kernel = op.weight_shape
    op.stride = op.integer("stride", 1, 64)
    op.padding = op.fields.get("padding")
    require(are_ints(op.padding, 0, 64) and len(op.padding) == 4 and all(p < k for p, k in zip(op.padding, kernel * 2)),
            "padding: expected [top, left, bottom, right], less than the kernel %s, found %s", kernel, shown(op.padding))
    op.groups = op.integer("groups", 1, 1 << 20)
    require(filters % op.groups == 0, "groups %d of %d filters", op.groups, filters)
    if op.name + ".channel_scales" in op.tensors:
        op.channel_scales = op.channels_of("channel_scales", filters)
        require(min(op.channel_scales) >= 2.0 ** -126, "tensor %s.channel_scales: a value is not a scale", op.name)
    op.read_requantize(filters)
    shape = op.pixels_of(values[0])
    require(shape[2] == channels * op.groups, "%d channels, weights %s in %d groups", shape[2], op.weight_shape, op.groups)
    op.shape = op.pooled(shape, kernel, op.stride, op.padding) + (filters,)
    op.residual_multiplier = f32(op.fields.get("residual_multiplier"), "residual_multiplier")
    require(len(values) <= 2, "%d inputs", len(values))
    if len(values) == 2:
        require(op.pixels_of(values[1]) == op.shape, "a residual %s for %s", values[1].shape, op.shape)
        require(op.residual_multiplier == f32(values[1].format.scale / op.format.scale, "residual_multiplier"),
                "residual_multiplier: not the quotient of the scales")


def read_norm_act(op, values):
    op.read_requantize(op.integer("channels", 1, 1 << 16))
    op.shape = op.pixels_of(values[0])
    require(op.shape[2] == len(op.bias), "%d channels, %d multipliers", op.shape[2], len(op.bias))


def read_shortcut(op, values):
    op.stride, op.out_channels = op.integer("stride", 1, 64), op.integer("out_channels", 1, 1 << 16)
    height, width, channels = op.pixels_of(values[0])
    require(channels <= op.out_channels, "%d channels to %d", channels, op.out_channels)
    op.shape, op.format = (-(-height // op.stride), -(-width // op.stride), op.out_channels), values[0].format


def read_max_pool(op, values):
    op.kernel, op.stride, op.padding = op.integer("kernel", 1, 11), op.integer("stride", 1, 64), op.integer("padding", 0, 32)
    shape = op.pixels_of(values[0])
    require(op.padding * 2 <= op.kernel, "padding %d of windows of %d", op.padding, op.kernel)
    op.shape = op.pooled(shape, [op.kernel] * 2, op.stride, [op.padding] * 4) + shape[2:]
    op.format = values[0].format


def read_avg_pool(op, values):
    op.kernel, op.stride, op.padding = op.integer("kernel", 1, 64), op.integer("stride", 1, 64), op.integer("padding", 0, 32)
    op.output = op.integer("output", 0, 64)
    shape = op.pixels_of(values[0])
    require(op.output > 0 or op.padding * 2 <= op.kernel, "padding %d of windows of %d", op.padding, op.kernel)
    extents = (op.output, op.output) if op.output else op.pooled(shape, [op.kernel] * 2, op.stride, [op.padding] * 4)
    op.shape, op.format = extents + shape[2:], values[0].format


def read_concat(op, values):
    shapes = [op.pixels_of(value) for value in values]
    require(len({shape[:2] for shape in shapes}) == 1, "images of several sizes: %s", shapes)
    require(all(value.format == values[0].format for value in values), "scales are not tied")
    op.shape, op.format = shapes[0][:2] + (sum(shape[2] for shape in shapes),), values[0].format


def read_global_avg_pool(op, values):
    height, width, channels = op.pixels_of(values[0])
    inverse = f32(1.0 / (height * width), "pixels")
    op.shape, op.format = (channels,), Format(f32(values[0].format.scale * inverse, "scale"), 32, True)


def read_linear(op, values):
    op.read_weights(2)
    classes, channels = op.weight_shape
    op.input = parse_format(op.fields, "input")
    op.multiplier, op.bias = op.channels_of("multiplier", classes), op.channels_of("bias", classes)
    scale = f32(op.input.scale * op.weight_scale, "scale")
    require(all(m == scale for m in op.multiplier), "tensor %s.multiplier: a value is not the scales' product", op.name)
    value = values[0]
    shape = value.shape[2:] if value.shape[:2] == (1, 1) else value.shape
    require(shape == (channels,), "an input %s, weights %s", value.shape, op.weight_shape)
    require(value.format is not None and (value.format.bits == 32 or value.format == op.input), "its input is not as the field says")
    op.shape = (classes,)


KINDS = {"input": read_input, "conv": read_conv, "norm_act": read_norm_act, "shortcut": read_shortcut, "max_pool": read_max_pool,
         "avg_pool": read_avg_pool, "concat": read_concat, "global_avg_pool": read_global_avg_pool, "linear": read_linear}
SEVERAL_INPUTS = ("conv", "concat")


class Image:
    """Value 0: an image of bytes."""

    def __init__(self, preprocessing):
        self.shape = tuple(preprocessing[key] for key in ("height", "width", "channels"))
        self.format = None


def read_ops(network, tensors, preprocessing):
    require(isinstance(network, dict) and isinstance(network.get("ops"), list) and network["ops"], "no ops")
    require(len(network["ops"]) <= MAX_OPS, "%d ops, at most %d", len(network["ops"]), MAX_OPS)
    values, names, used = [Image(preprocessing)], set(), set()
    for index, fields in enumerate(network["ops"]):
        try:
            require(isinstance(fields, dict) and isinstance(fields.get("name"), str) and isinstance(fields.get("kind"), str),
                    "expected a name and a kind")
            require(fields["name"] not in names, "another op has this name")
            require(fields["kind"] in KINDS, "unknown op kind %s", shown(fields["kind"]))
            op = Op(fields, tensors)
            require(are_ints(op.inputs, 0, index) and op.inputs, "inputs: found %s", shown(op.inputs))
            require(len(op.inputs) == 1 or op.kind in SEVERAL_INPUTS, "%d inputs", len(op.inputs))
            KINDS[op.kind](op, [values[i] for i in op.inputs])
        except Refused as error:
            name = fields.get("name") if isinstance(fields, dict) else None
            raise Refused("op %d %s: %s" % (index, shown(name), error)) from None
        names.add(op.name)
        used |= op.used
        values.append(op)
    ops = values[1:]
    require(ops[-1].kind == "linear", "the network does not end in a classifier")
    read = {i for op in ops for i in op.inputs}
    for index, op in enumerate(ops[:-1]):
        require(index + 1 in read, "op %d %s: nobody reads its result", index, shown(op.name))
    for name in tensors:
        require(name in used, "tensor %s: no op uses it", shown(name))
    return ops


def read_preprocessing(text):
    fields = parse_json(text, "preprocessing")
    keys = ["channels", "classes", "height", "interpolation", "mean", "resize", "std", "width"]
    require(isinstance(fields, dict) and sorted(fields) == keys, "preprocessing: expected %s", ", ".join(keys))
    for key, low in (("height", 1), ("width", 1), ("resize", 0)):
        integer(fields, key, low, MAX_EXTENT)
    require(fields["interpolation"] in ("bilinear", "bicubic"), "preprocessing: interpolation %s: expected bilinear or bicubic",
            shown(fields["interpolation"]))
    require(is_int(fields["channels"], 1, 3) and fields["channels"] != 2, "preprocessing: channels %s: expected 1 or 3",
            shown(fields["channels"]))
    for key in ("mean", "std"):
        numbers = fields[key]
        require(isinstance(numbers, list) and len(numbers) in (0, fields["channels"]), "preprocessing: %s: expected one per channel",
                key)
        fields[key] = [parse_scale({key: n}, key) if key == "std" else f32(n, key) for n in numbers]
    require(len(fields["mean"]) == len(fields["std"]), "preprocessing: %d means, %d standard deviations", len(fields["mean"]),
            len(fields["std"]))
    names = fields["classes"]
    require(isinstance(names, list) and all(isinstance(name, str) for name in names), "preprocessing: classes: expected names")
    return fields


class Network:
    """An integer network: preprocessing (a dict), ops (a list of Op) and the other entries of the metadata."""

    def __init__(self, data):
        entries, metadata, start = read_entries(data)
        require(metadata.get("format") == FORMAT, "not an integer network (its metadata has no \"format\": \"%s\")", FORMAT)
        body = memoryview(data)[start:]
        verify(entries, metadata, body)
        version = metadata.get("format_version", "")
        require(version.isascii() and version.isdigit() and int(version[:9]) >= 1, "format version %s", shown(version))
        require(int(version[:9]) <= VERSION, "format version %s is newer than this program, which reads %d", version, VERSION)
        require(int(version) == VERSION, "format version %s: this program reads %d, faq-eval the older ones, too", version, VERSION)
        for key in ("preprocessing", "network"):
            require(key in metadata, "its metadata has no \"%s\"", key)
        tensors = {name: Tensor(e["dtype"], e["shape"], body[slice(*e["data_offsets"])]) for name, e in entries}
        self.preprocessing = read_preprocessing(metadata["preprocessing"])
        self.ops = read_ops(parse_json(metadata["network"], "network"), tensors, self.preprocessing)
        classes = len(self.preprocessing["classes"])
        require(classes in (0, self.ops[-1].shape[0]), "%d class names, %d classes", classes, self.ops[-1].shape[0])
        for op in self.ops:
            if op.has_weights:
                op.weights()  # each within its bits
        own = ("format", "format_version", "network", "preprocessing")
        self.about = {key: value for key, value in metadata.items() if key not in own}
        self.tensors = tensors

    def op(self, name):
        for op in self.ops:
            if op.name == name:
                return op
        return None


# ---- What is printed ---------------------------------------------------------------------------------------------------


def extents(shape):
    return "×".join(map(str, shape))


def row_of(index, op):
    weights = scale = ""
    if op.has_weights:
        groups = " in %d groups" % op.groups if getattr(op, "groups", 1) > 1 else ""
        weights = "%s%s %d bits, %s" % (extents(op.weight_shape), groups, op.weight_bits, op.weight_code)
        scale = "%.9g" % op.weight_scale
    result = "f32" if op.format is None else str(op.format)
    return [str(index), op.kind, op.name, ",".join(map(str, op.inputs)), extents(op.shape), result, weights, scale]


def as_json(network):
    ops = []
    for op in network.ops:
        row = {"kind": op.kind, "name": op.name, "inputs": op.inputs, "shape": op.shape}
        if op.format:
            row["format"] = {"scale": op.format.scale, "bits": op.format.bits, "signed": op.format.is_signed}
        if op.has_weights:
            row.update({key: op.fields[key] for key in ("weight_bits", "weight_code", "weight_scale", "weight_shape")})
        ops.append(row)
    return {"version": VERSION, "preprocessing": network.preprocessing, "ops": ops, "about": network.about,
            "tensors": len(network.tensors), "weight_bytes": sum(len(t.data) for t in network.tensors.values())}


def as_text(network):
    p = network.preprocessing
    resized = ", shorter side resized to %d, %s" % (p["resize"], p["interpolation"]) if p["resize"] else ""
    lines = ["integer network, format version %d; checksums of %d tensors and the header are right" % (VERSION, len(network.tensors)),
             "image: %d×%d×%d bytes%s" % (p["height"], p["width"], p["channels"], resized)]
    if p["mean"]:
        lines.append("mean %s, std %s" % tuple(" ".join("%.9g" % v for v in p[key]) for key in ("mean", "std")))
    if p["classes"]:
        names = [shown(name, 40) for name in p["classes"][:10]]
        lines.append("classes: %s%s" % (", ".join(names), ", … (%d)" % len(p["classes"]) if len(p["classes"]) > 10 else ""))
    lines += ["%s: %s" % (key, shown(value)) for key, value in sorted(network.about.items())]
    rows = [["value", "kind", "name", "reads", "result", "integers", "weights", "scale of weights"]]
    rows += [row_of(i + 1, op) for i, op in enumerate(network.ops)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines.append("")
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def weights_text(op):
    values = op.weights()
    length = len(values) // op.weight_shape[0]
    return "\n".join(" ".join(map(str, values[i:i + length])) for i in range(0, len(values), length))


# ---- The command line --------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(64, "%s: %s (see --help)\n" % (self.prog, message))


def main(arguments=None):
    parser = Parser(prog="read_integer.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", help="integer.safetensors of a run")
    parser.add_argument("--weights", metavar="LAYER", help="print the integers of this layer's weights, a line for each filter")
    parser.add_argument("--json", action="store_true", help="print the layers as one JSON object")
    options = parser.parse_args(arguments)

    def failed(code, what):
        what = str(what)
        name = options.file if options.file.isprintable() else shown(options.file, 4096)
        sys.stderr.write("read_integer: %s: %s\n" % (name, what[:MAX_MESSAGE] + "..." if len(what) > MAX_MESSAGE else what))
        return code

    try:
        # A named pipe must not be waited for.
        file = open(options.file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except (OSError, ValueError) as error:
        return failed(66, "cannot open: %s" % (getattr(error, "strerror", None) or error))
    try:
        with file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return failed(66, "cannot open: expected a regular file")
            network = Network(file.read())
        if options.weights is not None:
            op = network.op(options.weights)
            if op is None or not op.has_weights:
                return failed(64, "--weights %s: no layer with weights has this name" % shown(options.weights))
            text = weights_text(op)
        else:
            text = json.dumps(as_json(network)) if options.json else as_text(network)
        sys.stdout.reconfigure(encoding="utf-8")
        print(text, flush=True)
    except Refused as error:
        return failed(65, error)
    except MemoryError:
        return failed(71, "out of memory")
    except OSError as error:
        what = error.strerror or str(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries standard output once more at exit
        return failed(74, what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
