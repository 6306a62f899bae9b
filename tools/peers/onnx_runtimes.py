#!/usr/bin/env python3
"""What ONNX Runtime and OpenVINO make of exported networks, beside the integers of faq: the tables of docs/models.md.

    python3 tools/peers/onnx_runtimes.py [--photos DIR] [--cifar DIR] [--weights DIR] [--only resnet20] [--bits "4 bits"] [--layers]
    python3 tools/peers/onnx_runtimes.py --float

Needs numpy, onnx, onnxruntime and openvino (PyPI); for photographs pillow, too. --photos and --cifar name image folders with train/
and val/ or test/, which networks of 32×32 take from --cifar; without them images are generated. Networks have the weights of
WEIGHTS/MODEL.safetensors. Where there are none they are drawn from a seed and trained for a few steps, at which batch-norms find their
statistics; such logits lie close together, and so top-1 agreement is a lower bound. The quick start's ResNet-20 sees Fashion-MNIST
where Debian's dataset-fashion-mnist is installed.
Every format is calibrated on two batches. Each export passes onnx.checker. Then
- the whole network: how often the first class is ours, and the largest difference of a logit as a share of their spread;
- each op alone, on the integers that ours had read: how many of its integers are not ours, and by how many steps at most.
--layers also prints the ops that differ. --float: float networks with random weights instead, against the logarithms of the five
best probabilities of faq-eval --predict, as a share of their spread. (The file is not named onnx.py: scripts beside it import the package onnx.)"""
import argparse
import gzip
import json
import os
import shlex
import shutil
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
from onnx_ops import Graph, differing_integers  # noqa: E402

FORMATS = {
    "8 bits": ["--scheme", "faq", "--bits", "8"],
    "6 bits": ["--scheme", "faq", "--bits", "6"],
    "4 bits": ["--scheme", "faq", "--bits", "4"],
    "ternary clusters": ["--scheme", "dfp", "--weight-bits", "2"],
    "4-bit clusters": ["--scheme", "dfp", "--weight-bits", "4"],
    "DoReFa, 4 bits": ["--scheme", "dorefa", "--bits", "4"],
    "DoReFa, 2 bits": ["--scheme", "dorefa", "--bits", "2"],
    "LSQ, 4 bits": ["--scheme", "lsq", "--bits", "4"],
    "LSQ, 4 bits, scales of channels": ["--scheme", "lsq", "--bits", "4", "--weight-scales", "channel"],
}
ALL_FORMATS = ("resnet20", "resnet18")  # the others have 8 and 4 bits
FASHION = "/usr/share/datasets/fashion-mnist"
QUICK_START = os.path.join(PROJECT, "tools", "quickstart", "resnet20-fashion-mnist.safetensors")
VALIDATION = 8  # images
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


def spread(root, splits, count):
    """So many files of an image folder, one as far from the next as the other."""
    for split in splits:
        files = sorted(os.path.join(path, name) for path, _, names in os.walk(os.path.join(root, split)) for name in names)
        if len(files) >= count:
            return [files[i * len(files) // count] for i in range(count)]
    raise SystemExit("onnx_runtimes.py: %s: expected %d images or more in %s/" % (root, count, "/ or ".join(splits)))


def photographs(files, size):
    """The middles of photographs, as they are evaluated."""
    from PIL import Image
    result = np.empty((len(files), size, size, 3), np.uint8)
    shorter = size if size == 32 else size * 8 // 7
    for pixels, file in zip(result, files):
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        width, height = (max(shorter, round(side * shorter / min(image.size))) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
        pixels[:] = np.asarray(image)
    return result


class Network:
    """A model of the zoo: its weights, and images that it is quantized for and sees."""

    def __init__(self, given, folder, model, size):
        self.given, self.folder, self.size = given, folder, size
        count = given.images * (16 if size <= 32 else 1)
        self.words = [os.path.join(given.build, "faq-train"), "--model", model, "--threads", str(given.threads), "-j", "1",
                      "--quiet", "--report", "none", "--seed", "1"]
        weights = os.path.join(given.weights, model + ".safetensors")
        if not size:
            self.words += ["--data-path", FASHION]
            with gzip.open(os.path.join(FASHION, "t10k-images-idx3-ubyte.gz")) as file:
                self.images = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 28, 28, 1)[:count]
            self.weights, self.sees = QUICK_START, "Fashion-MNIST, trained"
            return
        self.words += ["--data-path", self.make_data(count), "--allow-empty-classes", "-b", "8", "--train-crop-size", str(size),
                       "--val-crop-size", str(size), "--val-resize-size", str(size)]
        self.sees = "%d×%d" % (size, size)
        if os.path.exists(weights):
            self.weights = weights
            self.sees += ", trained"
        else:
            run([*self.words, "--scheme", "none", "--epochs", "1", "--lr", "0.01", "--output-dir", os.path.join(folder, "float")])
            self.weights = os.path.join(folder, "float", "best.safetensors")

    def make_data(self, count):
        data = os.path.join(self.folder, "data")
        root = self.given.cifar if self.size == 32 else self.given.photos
        if not root:
            write_images(data, self.given.training, VALIDATION, self.size)
            self.images = pictures(count, self.size, 3, 1)
            return data
        self.images = photographs(spread(root, ("val", "test"), count), self.size)
        # The classes of CIFAR-10; of ImageNet so many, most of them without images.
        for split, splits, files in (("train", ("train",), self.given.training), ("val", ("val", "test"), VALIDATION)):
            for i in range(10 if self.size == 32 else 1000):
                os.makedirs(os.path.join(data, split, "%03d" % i))
            names = sorted(os.listdir(os.path.join(root, split if os.path.isdir(os.path.join(root, split)) else "test")))
            for i, file in enumerate(spread(root, splits, files)):
                place = names.index(os.path.basename(os.path.dirname(file)))
                os.symlink(os.path.abspath(file), os.path.join(data, split, "%03d" % place, "%03d%s" % (i, os.path.splitext(file)[1])))
        return data

    def quantized(self, bits):
        """Its file."""
        out = os.path.join(self.folder, "run")
        shutil.rmtree(out, ignore_errors=True)
        run([*self.words, "--weights", self.weights, "--output-dir", out, "--epochs", "0", "--calibration-batches", "2", *FORMATS[bits]])
        return os.path.join(out, "integer.safetensors")


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


def measured(given, network, bits):
    """(columns of the table, notes)"""
    integers, file = network.quantized(bits), os.path.join(network.folder, "network.onnx")
    run([os.path.join(given.build, "faq-export"), integers, "--onnx", file])
    onnx.checker.check_model(file, full_check=True)
    exported = onnx.load(file)
    graph = Graph(exported)
    ours = values_of(given, network.folder, integers, network.images)
    logits = ours[-1][2]
    columns = [str(exported.opset_import[0].version), "%.0f" % (os.path.getsize(file) / 1000)]
    notes = []
    for runtime in (OnnxRuntime, OpenVino):
        try:
            found = in_batches(runtime(exported), {"image": network.images})
            total, differing, most, rows = differing_integers(runtime, graph, integers, ours)
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
    parser.add_argument("--photos", default="", help="an image folder")
    parser.add_argument("--cifar", default="", help="an image folder for networks of 32×32")
    parser.add_argument("--weights", default="", help="a folder of MODEL.safetensors")
    parser.add_argument("--only", default="", help="a model")
    parser.add_argument("--bits", default="", help="a number format of the table")
    parser.add_argument("--images", type=int, default=16, help="that a network sees; sixteen times as many small ones")
    parser.add_argument("--training", type=int, default=48, help="images that a network without weights learns from, and is calibrated on")
    parser.add_argument("--threads", type=int, default=1, help="of what prepares a network")
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--float", action="store_true")
    given = parser.parse_args()
    listed = run([os.path.join(given.build, "faq-train"), "--list-models"]).splitlines()[1:]
    sizes = [(line.split()[0], int(line.split()[2])) for line in listed]
    if given.float:
        print("| float network | ONNX Runtime | OpenVINO |\n|---|---|---|", flush=True)
    else:
        print("| network | opset | file, kB | ONNX Runtime: top-1 agreement, % | logits | integers per million (steps) | "
              "OpenVINO: top-1 agreement, % | logits | integers per million (steps) |\n|---|---|---|---|---|---|---|---|---|", flush=True)
        if os.path.isdir(FASHION):
            sizes.insert(0, ("resnet20", 0))
    for model, size in sizes:
        if given.only not in ("", model):
            continue
        with tempfile.TemporaryDirectory(prefix="faq-onnx-") as folder:
            if given.float:
                print("| %s, %d×%d | %s |" % (model, size, size, " | ".join(float_measured(given, folder, model, size))), flush=True)
                continue
            network = Network(given, folder, model, size)
            for bits in FORMATS if size and model in ALL_FORMATS else ("8 bits", "4 bits"):
                if given.bits in ("", bits):
                    columns, notes = measured(given, network, bits)
                    print("| %s, %s, %s | %s |" % (model, network.sees, bits, " | ".join(columns)), flush=True)
                    for note in notes:
                        print("  " + note, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
