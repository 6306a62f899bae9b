#!/usr/bin/env python3
"""What ONNX Runtime and OpenVINO make of exported networks, beside the integers of faq: the tables of docs/models.md.

    python3 tools/peers/onnx_runtimes.py [--build build] [--only resnet20] [--bits "4 bits"] [--images 64] [--layers]
    python3 tools/peers/onnx_runtimes.py --float

Needs numpy, onnx, onnxruntime and openvino (PyPI). Each network is made by faq-train --epochs 0 on generated images, with random
weights, whose logits lie closer together than those of a trained network: its top-1 agreement is a lower bound. The quick
start's ResNet-20 is trained, and sees Fashion-MNIST where Debian's dataset-fashion-mnist is installed.
Each export passes onnx.checker. Then
- the whole network: how often the first class is ours, and the largest difference of a logit as a share of their spread;
- each op alone, on the integers that ours had read: how many of its integers are not ours, and by how many steps at most.
--layers also prints the ops that differ. --float: float networks with random weights instead, against the logarithms of the five
best probabilities of faq-eval --predict, as a share of their spread. (The file is not named onnx.py: scripts beside it import the package onnx.)"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(PROJECT, "tests"))
from run_files import write_images, write_png  # noqa: E402

try:
    import numpy as np
    import onnx
    import onnxruntime
    import openvino
except ImportError as error:
    sys.exit("onnx_runtimes.py: not installed: %s" % error.name)

FORMATS = {
    "8 bits": ["--scheme", "faq", "--bits", "8"],
    "6 bits": ["--scheme", "faq", "--bits", "6"],
    "4 bits": ["--scheme", "faq", "--bits", "4"],
    "ternary clusters": ["--scheme", "dfp", "--weight-bits", "2"],
    "4-bit clusters": ["--scheme", "dfp", "--weight-bits", "4"],
    "DoReFa, 4 bits": ["--scheme", "dorefa", "--bits", "4"],
    "DoReFa, 2 bits": ["--scheme", "dorefa", "--bits", "2"],
}
SIZES = {"resnet18": 224, "resnet50": 224, "vgg16_bn": 64, "densenet121": 224, "inception_v3": 299, "alexnet": 224}
ROWS = [("resnet20", 32, bits) for bits in FORMATS] + [
    (model, size, bits) for model, size in SIZES.items() for bits in ("8 bits", "4 bits")]
FASHION = "/usr/share/datasets/fashion-mnist"
TRAINED = os.path.join(PROJECT, "tools", "quickstart", "resnet20-fashion-mnist.safetensors")
NARROW = {onnx.TensorProto.UINT4, onnx.TensorProto.INT4}
NUMPY = {"u8": np.uint8, "s8": np.int8, "s32": np.int32, "f32": np.float32}


def run(words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit("%s\n%s%s" % (shlex.join(words), done.stdout, done.stderr))
    return done.stdout


def pictures(count, size, channels, seed):
    """Noise of several grains, the coarse ones stronger: as smooth as photographs are."""
    draw = np.random.default_rng(seed)
    result = np.zeros((count, size, size, channels))
    for grain in (1, 2, 4, 8, 16, 32):
        coarse = draw.normal(size=(count, -(-size // grain), -(-size // grain), channels)) * grain
        result += np.kron(coarse, np.ones((1, grain, grain, 1)))[:, :size, :size]
    low, high = result.min(axis=(1, 2, 3), keepdims=True), result.max(axis=(1, 2, 3), keepdims=True)
    return ((result - low) / (high - low) * 255).round().astype(np.uint8)


def make_network(given, folder, model, size, bits):
    """Its file and images. The last row of a model is trained on real images; its size is 0."""
    out = os.path.join(folder, "run")
    words = [os.path.join(given.build, "faq-train"), "--model", model, "--output-dir", out, "--epochs", "0", "--threads", "1", "-j", "1",
             "--quiet", "--calibration-batches", "2", *FORMATS[bits]]
    if size:
        data = os.path.join(folder, "data")
        write_images(data, 6, 3)
        words += ["-b", "2", "--train-crop-size", str(size), "--val-crop-size", str(size), "--val-resize-size", str(size)]
        images = pictures(given.images, size, 3, 1)
    else:
        data = FASHION
        words += ["--weights", TRAINED]
        import gzip
        with gzip.open(os.path.join(FASHION, "t10k-images-idx3-ubyte.gz")) as file:
            images = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 28, 28, 1)[:16 * given.images]
    run([*words, "--data-path", data])
    return os.path.join(out, "integer.safetensors"), images


def values_of(given, folder, network, images):
    """[(name, kind, integers or logits, N,C,H,W)] of our ops."""
    file, values = os.path.join(folder, "images"), os.path.join(folder, "values")
    images.tofile(file)
    os.makedirs(values, exist_ok=True)
    ops = json.loads(run([os.path.join(given.build, "faq_layer_values"), network, file, values]))
    found = []
    for i, op in enumerate(ops):
        value = np.fromfile(os.path.join(values, str(i)), NUMPY[op["dtype"]]).reshape(op["shape"])
        found.append((op["name"], op["kind"], value.transpose(0, 3, 1, 2) if value.ndim == 4 else value))
    return found


class OnnxRuntime:
    name = "ONNX Runtime"

    def __init__(self, model):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def __call__(self, feeds):
        return self.session.run(None, feeds)[0]


class OpenVino:
    name = "OpenVINO"
    core = openvino.Core()

    def __init__(self, model):
        read = self.core.read_model(model.SerializeToString())
        self.compiled = self.core.compile_model(read, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})

    def __call__(self, feeds):
        return self.compiled(feeds)[0]


def in_batches(network, feeds, size=16):
    count = len(next(iter(feeds.values())))
    parts = [network({name: value[i:i + size] for name, value in feeds.items()}) for i in range(0, count, size)]
    return np.concatenate(parts)


class Graph:
    """The parts of an exported model."""

    def __init__(self, model):
        self.model = model
        self.nodes = {node.name: node for node in model.graph.node}
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def type_of(self, name):
        """Of a quantized value: that of its zero."""
        return self.tensors[name + "/zero"].data_type

    def scale_of(self, name):
        return onnx.numpy_helper.to_array(self.tensors[self.nodes[name].input[1]])

    def op(self, name, inputs, values):
        """A model that computes one op from its quantized inputs. Those of 4 bits, and such a result, are real numbers outside."""
        fed = {self.fed(given): given for given in inputs}

        def info(part, kind, value):
            return onnx.helper.make_tensor_value_info(part, kind, ["N", *values[value].shape[1:]])

        wanted, nodes, tensors = [name], [], []
        seen = set()
        narrow = self.type_of(name) in NARROW
        while wanted:
            part = wanted.pop()
            if part in fed or part in seen:
                continue
            seen.add(part)
            if part + "/fed" in fed:
                nodes.append(onnx.helper.make_node("QuantizeLinear", [part + "/fed", part + "/scale", part + "/zero"], [part], part))
                wanted += nodes[-1].input[1:]
            elif part in self.nodes:
                nodes.append(self.nodes[part])
                wanted += self.nodes[part].input
            else:
                tensors.append(self.tensors[part])
        order = {node.name: i for i, node in enumerate(self.model.graph.node)}
        nodes.sort(key=lambda node: order[node.name])
        if narrow:
            nodes.append(onnx.helper.make_node("DequantizeLinear", [name, self.nodes[name].input[1], name + "/zero"], ["seen"]))
        given = [info(part, onnx.TensorProto.FLOAT if part != source else self.type_of(source), source) for part, source in fed.items()]
        output = info("seen" if narrow else name, onnx.TensorProto.FLOAT if narrow else self.type_of(name), name)
        graph = onnx.helper.make_graph(nodes, "op", given, [output], tensors)
        return onnx.helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)

    def fed(self, name):
        return name + "/fed" if self.type_of(name) in NARROW else name


def reals(graph, name, integers):
    scale = graph.scale_of(name)
    real = graph.nodes.get(name + "/real")
    if real is not None:
        scale = onnx.numpy_helper.to_array(graph.tensors[real.input[1]])
    return integers.astype(np.float32) * scale


def differing_integers(runtime, graph, network, ours, given):
    """(of all ops, differing, the most steps, [(name, share, steps)])"""
    values = {name: value for name, _, value in ours}
    document = json.loads(metadata_of(network)["network"])
    of_op, total, differing, most, rows = {i + 1: op["name"] for i, op in enumerate(document["ops"])}, 0, 0, 0, []
    for op in document["ops"]:
        if op["kind"] in ("input", "linear", "global_avg_pool"):
            continue
        inputs = [of_op[i] for i in op["inputs"]]
        model = runtime(graph.op(op["name"], inputs, values))
        count = min(given.images, 8)
        feeds = {graph.fed(name): np.ascontiguousarray(
            reals(graph, name, values[name][:count]) if graph.fed(name) != name else values[name][:count]) for name in inputs}
        found = model(feeds)
        if graph.type_of(op["name"]) in NARROW:
            found = np.rint(found / graph.scale_of(op["name"]))
        steps = np.abs(found.astype(np.int64) - values[op["name"]][:count].astype(np.int64))
        total, differing, most = total + steps.size, differing + np.count_nonzero(steps), max(most, steps.max())
        if steps.any():
            rows.append(("%s %s" % (op["kind"], op["name"]), np.count_nonzero(steps) / steps.size, steps.max()))
    return total, differing, most, rows


def metadata_of(file):
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(length))["__metadata__"]


def measured(given, folder, model, size, bits):
    network, images = make_network(given, folder, model, size, bits)
    file = os.path.join(folder, "network.onnx")
    run([os.path.join(given.build, "faq-export"), network, "--onnx", file])
    onnx.checker.check_model(file, full_check=True)
    exported = onnx.load(file)
    graph = Graph(exported)
    ours = values_of(given, folder, network, images)
    logits = ours[-1][2]
    columns = [str(exported.opset_import[0].version), "%.0f" % (os.path.getsize(file) / 1000)]
    notes = []
    for runtime in (OnnxRuntime, OpenVino):
        try:
            found = in_batches(runtime(exported), {"image": images})
            total, differing, most, rows = differing_integers(runtime, graph, network, ours, given)
        except Exception as error:  # what a runtime cannot do is a result, too
            notes.append("%s: %s" % (runtime.name, " ".join(str(error).split())[:300]))
            columns += ["fails", "", ""]
            continue
        agreed = np.mean(found.argmax(1) == logits.argmax(1)) * 100
        columns += ["%.1f" % agreed, "%.2g" % (np.abs(found - logits).max() / np.ptp(logits)),
                    "%.3g (%d)" % (1e6 * differing / total, most)]
        if given.layers:
            notes += ["%s: %s: %.2g of its integers, by %d" % (runtime.name, *row) for row in rows]
    return columns, notes


def float_measured(given, folder, model, size):
    """[largest difference] for each runtime."""
    data, out, file = (os.path.join(folder, name) for name in ("data", "run", "float.onnx"))
    write_images(data, 6, 3)
    run([os.path.join(given.build, "faq-train"), "--model", model, "--output-dir", out, "--epochs", "1", "--lr", "1e-6", "--threads", "1",
         "-j", "1", "--quiet", "--scheme", "none", "-b", "6", "--train-crop-size", str(size), "--val-crop-size", str(size),
         "--val-resize-size", str(size), "--data-path", data])
    weights = os.path.join(out, "best.safetensors")
    run([os.path.join(given.build, "faq-export"), weights, "--float-onnx", file])
    onnx.checker.check_model(file, full_check=True)
    exported = onnx.load(file)
    about = json.loads({entry.key: entry.value for entry in exported.metadata_props}["preprocessing"])
    files = [os.path.join(folder, "image%d.png" % i) for i in range(3)]
    for i, name in enumerate(files):
        write_png(name, 60 * i, size)
    said = json.loads(run([os.path.join(given.build, "faq-eval"), "--weights", weights, "--threads", "1", "--json", "--predict", *files]))
    rows = (np.arange(3 * size) * 7)[None, :] + np.array([60 * i for i in range(3)])[:, None]
    pixels = np.repeat((rows & 255).reshape(3, 1, size, 3), size, axis=1).transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(about[name]).reshape(1, 3, 1, 1) for name in ("mean", "std"))
    results = []
    for runtime in (OnnxRuntime, OpenVino):
        logits = runtime(exported)({"input": ((pixels - mean) / std).astype(np.float32)}).astype(np.float64)
        logs = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(1, keepdims=True)
        worst = 0
        for row, image in zip(logs, said["predictions"]):
            for best in image["top5"]:
                worst = max(worst, abs(np.log(best["probability"]) - row[best["index"]]) / max(1, np.ptp(row)))
        results.append("%.2g" % worst)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(PROJECT, "build"))
    parser.add_argument("--only", default="", help="a model")
    parser.add_argument("--bits", default="", help="a number format of the table")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--float", action="store_true")
    given = parser.parse_args()
    if given.float:
        print("| float network | ONNX Runtime | OpenVINO |\n|---|---|---|")
        for model, size in {"resnet20": 32, **SIZES}.items():
            if given.only in ("", model):
                with tempfile.TemporaryDirectory(prefix="faq-onnx-") as folder:
                    print("| %s, %d×%d | %s |" % (model, size, size, " | ".join(float_measured(given, folder, model, size))), flush=True)
        return 0
    print("| network | opset | file, kB | ONNX Runtime: top-1 agreement, % | logits | integers per million (steps) | OpenVINO: top-1 agreement, % | "
          "logits | integers per million (steps) |\n|---|---|---|---|---|---|---|---|---|")
    rows = list(ROWS)
    if os.path.isdir(FASHION):
        rows = [("resnet20", 0, bits) for bits in ("8 bits", "4 bits")] + rows
    for model, size, bits in rows:
        if given.only in ("", model) and given.bits in ("", bits):
            with tempfile.TemporaryDirectory(prefix="faq-onnx-") as folder:
                columns, notes = measured(given, folder, model, size, bits)
                what = "%d×%d" % (size, size) if size else "Fashion-MNIST, trained"
                print("| %s, %s, %s | %s |" % (model, what, bits, " | ".join(columns)), flush=True)
                for note in notes:
                    print("  " + note, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
