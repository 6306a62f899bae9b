"""An engine for integer networks, written from docs/format.md: whole numbers and fractions, nothing that is fast."""
import struct
from fractions import Fraction


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def requantize(op, channel, total, residual=0):
    """Python rounds fractions half to even, exactly."""
    exact = (total * Fraction(op.multiplier[channel]) + Fraction(op.bias[channel]) +
             (residual * Fraction(op.residual_multiplier) if residual else 0))
    return min(max(round(exact), op.low), op.high)


def places(shape):
    return ((row, column) for row in range(shape[0]) for column in range(shape[1]))


def run_input(op, values):
    table = op.table.values()
    return [[[table[256 * k + byte] for k, byte in enumerate(pixel)] for pixel in row] for row in values[0]]


def run_conv(op, values):
    x, residual = values[0], values[1] if len(values) > 1 else None
    filters, channels, height, width = op.weight_shape
    weights = op.weights()
    # By filter and tap: the channels side by side, as a pixel has them.
    taps = [[[weights[((f * channels + k) * height + i) * width + j] for k in range(channels)]
             for i in range(height) for j in range(width)] for f in range(filters)]
    # The filters of a group see the channels of their group.
    first = [f // (filters // op.groups) * channels for f in range(filters)]
    y = [[None] * op.shape[1] for _ in range(op.shape[0])]
    for row, column in places(op.shape):
        seen = []
        for i in range(height):
            for j in range(width):
                r, c = row * op.stride + i - op.padding[0], column * op.stride + j - op.padding[1]
                if 0 <= r < len(x) and 0 <= c < len(x[0]):
                    seen.append((i * width + j, x[r][c]))
        y[row][column] = [
            requantize(op, f, sum(w * v for tap, pixel in seen for w, v in zip(taps[f][tap], pixel[first[f]:])),
                       residual[row][column][f] if residual else 0)
            for f in range(filters)]
    return y


def run_norm_act(op, values):
    return [[[requantize(op, k, v) for k, v in enumerate(pixel)] for pixel in row] for row in values[0]]


def run_shortcut(op, values):
    x = values[0]
    before = (op.out_channels - len(x[0][0])) // 2
    after = op.out_channels - len(x[0][0]) - before
    return [[[0] * before + x[row * op.stride][column * op.stride] + [0] * after for column in range(op.shape[1])]
            for row in range(op.shape[0])]


def windows(op, x):
    """Of each result: the pixels of its window that lie in the image."""
    for row, column in places(op.shape):
        top, left = row * op.stride - op.padding, column * op.stride - op.padding
        yield row, column, [x[r][c] for r in range(max(top, 0), min(top + op.kernel, len(x)))
                            for c in range(max(left, 0), min(left + op.kernel, len(x[0])))]


def run_max_pool(op, values):
    y = [[None] * op.shape[1] for _ in range(op.shape[0])]
    for row, column, pixels in windows(op, values[0]):
        y[row][column] = [max(channel) for channel in zip(*pixels)]
    return y


def run_avg_pool(op, values):
    x, n = values[0], op.output
    y = [[None] * op.shape[1] for _ in range(op.shape[0])]
    if n == 0:
        for row, column, pixels in windows(op, x):
            y[row][column] = [round(Fraction(sum(channel), op.kernel ** 2)) for channel in zip(*pixels)]
        return y
    for row, column in places(op.shape):
        pixels = [x[r][c] for r in range(row * len(x) // n, -(-(row + 1) * len(x) // n))
                  for c in range(column * len(x[0]) // n, -(-(column + 1) * len(x[0]) // n))]
        y[row][column] = [round(Fraction(sum(channel), len(pixels))) for channel in zip(*pixels)]
    return y


def run_concat(op, values):
    return [[sum((x[row][column] for x in values), []) for column in range(op.shape[1])] for row in range(op.shape[0])]


def run_global_avg_pool(op, values):
    return [sum(channel) for channel in zip(*(pixel for row in values[0] for pixel in row))]


def run_linear(op, values, of_input):
    x = values[0]
    if of_input.bits == 32:
        ratio = of_input.scale / op.input.scale
        x = [min(max(round(total * ratio), op.input.min), op.input.max) for total in x]
    elif isinstance(x[0], list):
        x = x[0][0]
    weights = op.weights()
    sums = [sum(w * v for w, v in zip(weights[f * len(x):(f + 1) * len(x)], x)) for f in range(len(op.bias))]
    return [f32(total * op.multiplier[f] + op.bias[f]) for f, total in enumerate(sums)]


RUN = {"input": run_input, "conv": run_conv, "norm_act": run_norm_act, "shortcut": run_shortcut, "max_pool": run_max_pool,
       "avg_pool": run_avg_pool, "concat": run_concat, "global_avg_pool": run_global_avg_pool}


def run(network, image):
    """The values of all ops for an image, a list of rows of pixels of bytes; the logits are the last one."""
    values = [image]
    for op in network.ops:
        read = [values[i] for i in op.inputs]
        values.append(run_linear(op, read, network.ops[op.inputs[0] - 1].format) if op.kind == "linear" else RUN[op.kind](op, read))
    return values[1:]
