"""Writes integer.safetensors as docs/format.md describes it: random networks of every kind of op, for tests."""
import json
import math
import random
import struct
import zlib


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def packed(codes, bits):
    per_byte = 4 if bits <= 2 else 2 if bits <= 4 else 1
    width = 8 // per_byte
    data = bytearray(-(-len(codes) // per_byte))
    for i, code in enumerate(codes):
        data[i // per_byte] |= (code & ((1 << width) - 1)) << (i % per_byte * width)
    return bytes(data), per_byte


def write_file(path, metadata, tensors):
    """tensors: {name: (dtype, shape, bytes)}."""
    entries, end = [], 0
    for name, (dtype, shape, data) in tensors.items():
        entries.append('%s:{"dtype":"%s","shape":%s,"data_offsets":%s}' %
                       (compact(name), dtype, compact(shape), compact([end, end + len(data)])))
        end += len(data)

    def header(of):
        return ("{" + ",".join(['"__metadata__":' + compact(of)] + entries) + "}").encode()

    checksums = {name: "%08x" % zlib.crc32(data) for name, (_, _, data) in tensors.items()}
    checksums["__metadata__"] = "%08x" % zlib.crc32(header(metadata))
    text = header({**metadata, "crc32": compact(checksums)})
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


class Builder:
    """Ops one after the other. Each function returns the number of the value that its op makes."""

    def __init__(self, height, width, channels, seed=1):
        self.draw = random.Random(seed)
        self.ops, self.tensors = [], {}
        self.channels, self.formats = {0: channels}, {}
        self.preprocessing = {"height": height, "width": width, "channels": channels, "resize": 0,
                              "interpolation": "bilinear", "mean": [], "std": [],
                              "classes": []}
        table = [self.draw.randint(-127, 127) for _ in range(channels * 256)]
        self.add("input", [0], channels, self.format(8, True, 0.03125),
                 table=("I8", [channels, 256], struct.pack("<%db" % len(table), *table)))

    @staticmethod
    def format(bits, signed, scale):
        return {"bits": bits, "signed": signed, "scale": f32(scale)}

    def add(self, kind, inputs, channels, form, fields=(), **tensors):
        name = "%s%d" % (kind, len(self.ops))
        self.ops.append({"kind": kind, "name": name, "inputs": inputs, **dict(fields)})
        if kind in ("input", "conv", "norm_act"):
            self.ops[-1]["format"] = form
        self.tensors.update({"%s.%s" % (name, suffix): tensor for suffix, tensor in tensors.items()})
        self.channels[len(self.ops)], self.formats[len(self.ops)] = channels, form
        return len(self.ops)

    def floats(self, count, low, high):
        return "F32", [count], struct.pack("<%df" % count, *(self.draw.uniform(low, high) for _ in range(count)))

    def weights(self, shape, bits, code, cluster_size=0):
        """The fields and the tensors of random weights."""
        count, largest = math.prod(shape), (1 << (bits - 1)) - 1
        fields = {"weight_bits": bits, "weight_code": code, "weight_scale": 0.5, "weight_shape": shape}
        is_odd = code == "odd"
        low, high = (0, (1 << bits) - 1) if is_odd else (-largest, largest)
        codes = [self.draw.randint(low, high) for _ in range(count)]
        data, per_byte = packed([code & 255 for code in codes], bits)
        tensors = {"weight": ("I8" if per_byte == 1 and not is_odd else "U8", shape if per_byte == 1 else [len(data)], data)}
        if code == "clusters":
            fields["cluster_size"] = cluster_size
            groups = -(-shape[1] // cluster_size)
            scales = bytes(self.draw.randint(0, 127 // largest) for _ in range(shape[0] * groups))
            tensors["scales"] = ("U8", [shape[0], groups], scales)
        return fields, tensors

    @staticmethod
    def levels(form, relu, high=None):
        """The least and the largest integer that an activation leaves."""
        largest = (1 << (form["bits"] - form["signed"])) - 1
        return {"low": 0 if relu or not form["signed"] else -largest, "high": largest if high is None else high}

    def conv(self, x, filters, kernel, form, stride=1, padding=(0, 0), bits=8, code="fixed_point", cluster_size=0, residual=0,
             relu=True, high=None, groups=1):
        """padding: rows and columns, or top, left, bottom, right."""
        fields, tensors = self.weights([filters, self.channels[x] // groups, *kernel], bits, code, cluster_size)
        factor = f32(self.formats[residual]["scale"] / form["scale"]) if residual else 0.0
        fields.update(stride=stride, padding=list(padding) * (4 // len(padding)), groups=groups, residual_multiplier=factor,
                      **self.levels(form, relu, high))
        size = 8 / ((1 << bits) * (self.channels[x] // groups) * math.sqrt(math.prod(kernel)))
        return self.add("conv", [x, residual] if residual else [x], filters, form, fields, **tensors,
                        multiplier=self.floats(filters, -size, size), bias=self.floats(filters, -5, (1 << form["bits"]) / 2))

    def norm_act(self, x, form, relu=True):
        count = self.channels[x]
        # Halves and whole numbers: many exact ties.
        multipliers = struct.pack("<%df" % count, *(self.draw.choice((-1.5, -0.5, 0.5, 1.5)) for _ in range(count)))
        biases = struct.pack("<%df" % count, *(self.draw.randint(-3, 9) for _ in range(count)))
        return self.add("norm_act", [x], count, form, {"channels": count, **self.levels(form, relu)}, multiplier=("F32", [count], multipliers),
                        bias=("F32", [count], biases))

    def shortcut(self, x, stride, channels):
        return self.add("shortcut", [x], channels, self.formats[x], {"stride": stride, "out_channels": channels})

    def pool(self, kind, x, kernel, stride, padding, **more):
        return self.add(kind, [x], self.channels[x], self.formats[x], {"kernel": kernel, "stride": stride, "padding": padding, **more})

    def concat(self, *parts):
        return self.add("concat", list(parts), sum(self.channels[x] for x in parts), self.formats[parts[0]])

    def global_avg_pool(self, x):
        return self.add("global_avg_pool", [x], self.channels[x], None)

    def linear(self, x, form, classes, bits=8, code="fixed_point"):
        fields, tensors = self.weights([classes, self.channels[x]], bits, code)
        scale = f32(form["scale"] * fields["weight_scale"])
        return self.add("linear", [x], classes, None, {**fields, "input": form}, **tensors,
                        multiplier=("F32", [classes], struct.pack("<%df" % classes, *[scale] * classes)),
                        bias=self.floats(classes, -3, 3))

    def metadata(self):
        return {"format": "faq-integer-network", "format_version": "5", "network": compact({"ops": self.ops}),
                "preprocessing": compact(self.preprocessing)}

    def write(self, path):
        write_file(path, self.metadata(), self.tensors)


def every_op(seed=1):
    """Every op with what it has of sides, signs, borders and weights."""
    b = Builder(19, 14, 3, seed)
    u4, s8, u8 = b.format(4, False, 0.5), b.format(8, True, 0.25), b.format(8, False, 0.37)
    stem = b.conv(1, 6, (3, 3), u4, stride=2, padding=(1, 1))
    wide = b.conv(stem, 8, (1, 7), s8, padding=(0, 3), bits=4, relu=False)
    tall = b.conv(wide, 8, (5, 1), s8, padding=(2, 0), bits=2, code="clusters", cluster_size=3, residual=wide, relu=False)
    largest = b.pool("max_pool", tall, 3, 2, 1)
    mean = b.pool("avg_pool", tall, 2, 2, 1, output=0)
    rectified = b.norm_act(largest, u8)
    signed = b.norm_act(mean, s8, relu=False)
    odd = b.conv(rectified, 7, (3, 3), u8, padding=(1, 1), bits=3, code="odd")
    both = b.concat(rectified, odd)
    again = b.conv(signed, 9, (1, 1), s8, bits=6, relu=False)
    gathered = b.conv(again, 9, (3, 2), u8, stride=2, padding=(2, 1), bits=5, code="odd")
    few = b.pool("avg_pool", gathered, 1, 1, 0, output=2)
    padded = b.shortcut(both, 2, 20)
    # Depthwise, with a border as "SAME" padding has it and a ReLU6; then in groups, without activation, as a bottleneck adds it.
    apart = b.conv(again, 9, (3, 3), u4, stride=2, padding=(0, 0, 1, 1), bits=4, groups=9, high=11)
    apart = b.conv(apart, 18, (5, 5), s8, padding=(2, 2), bits=2, code="clusters", cluster_size=1, groups=9, relu=False)
    grouped = b.conv(apart, 18, (3, 3), s8, padding=(1, 1), groups=3, residual=apart, relu=False)
    linear = b.conv(grouped, 5, (1, 1), u8)
    few = b.concat(few, b.pool("avg_pool", linear, 1, 1, 0, output=2))
    joined = b.concat(b.pool("avg_pool", padded, 1, 1, 0, output=2), few)
    b.linear(b.global_avg_pool(joined), b.format(8, False, 0.7), 9, bits=7)
    return b


def without_mean(seed=2):
    """Grey, with class names, and a classifier that reads integers as they are."""
    b = Builder(7, 9, 1, seed)
    u3 = b.format(3, False, 0.125)
    x = b.conv(1, 5, (3, 3), u3, stride=2, padding=(1, 1), bits=2)
    x = b.pool("avg_pool", x, 1, 1, 0, output=1)
    b.linear(x, u3, 4, bits=4, code="odd")
    b.preprocessing["classes"] = ["a", "zwei \"2\"", "trois\n", "四"]
    b.preprocessing.update(mean=[f32(0.4)], std=[f32(0.2)], resize=12)
    return b
