#!/usr/bin/env python3
"""Exports networks as C, compiles and runs them, and prints what they cost: the table of docs/commands.md.

  tools/c_sizes.py [--build build] [--cc "gcc -O3 -march=native"] [--only resnet20]
  tools/c_sizes.py --zoo [--build build] [--only vgg16_bn]

The weights are random, which changes neither sizes nor times. Each export must have the bits of faq: its test is what is timed, in
seconds of one CPU.

--zoo prints the table of docs/models.md: every network in every format. A network is calibrated once, at 4 bits, and timed; for the
sizes its file is written anew in each format, with weights of 0 in as many bytes. GCC needs 2 GB of memory for the largest.
"""
import argparse
import json
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(PROJECT, "tests"), os.path.join(PROJECT, "tools")]
from integer_files import compact, write_file  # noqa: E402
from run_files import tensors_of, write_images  # noqa: E402
import read_integer  # noqa: E402

FORMATS = {
    "8 bits": ["--scheme", "faq", "--bits", "8"],
    "4 bits": ["--scheme", "faq", "--bits", "4"],
    "ternary clusters": ["--scheme", "dfp", "--weight-bits", "2"],
    "DoReFa, 2 bits": ["--scheme", "dorefa", "--bits", "2"],
}
ROWS = [(model, 32, bits) for model in ("resnet20", "resnet56") for bits in FORMATS] + [
    ("resnet18", 224, "8 bits"), ("resnet18", 224, "4 bits"), ("densenet121", 224, "4 bits")]


def run(words, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise SystemExit("%s\n%s%s" % (shlex.join(words), done.stdout, done.stderr))
    return done.stdout


def quantized(given, folder, model, size, bits):
    """integer.safetensors of a network that was calibrated and not trained."""
    data, out = os.path.join(folder, "data"), os.path.join(folder, "run")
    write_images(data, 6, 3)
    run([os.path.join(given.build, "faq-train"), "--model", model, "--data-path", data, "--output-dir", out, "--epochs", "0", "-b", "2",
         "--train-crop-size", str(size), "--val-crop-size", str(size), "--val-resize-size", str(size), "--calibration-batches", "1",
         "--threads", str(given.threads), "-j", "1", "--quiet", *FORMATS[bits]])
    return os.path.join(out, "integer.safetensors")


def exported(given, file, folder, images):
    return json.loads(run([os.path.join(given.build, "faq-export"), file, "--c", folder, "--c-test", str(images), "--json"]))


def measured(given, folder, file):
    """(constants and arena in kB, milliseconds of an image as text)"""
    written = exported(given, file, folder, 2)
    program = os.path.join(folder, "test")
    run([*shlex.split(given.cc), "-std=c99", "-o", program, written["source"], written["test"]])
    said = run([program])
    if not said.startswith("2 of 2 images"):
        raise SystemExit(said)
    ms = float(re.search(r"bit for bit; ([\d.]+) ms", said).group(1))
    return written["constant_bytes"] / 1000, written["arena_bytes"] / 1000, "%#.2g" % ms if ms < 10 else "%.0f" % ms


# What becomes of the weights that have 4 bits; the first and the last layer keep 8.
WEIGHTS = {
    "8 bits": {"weight_bits": 8, "weight_code": "fixed_point"},
    "4 bits": {"weight_bits": 4, "weight_code": "fixed_point"},
    "ternary clusters": {"weight_bits": 2, "weight_code": "clusters", "cluster_size": 4},
    "DoReFa, 2 bits": {"weight_bits": 2, "weight_code": "odd"},
}


def rewrite(file, to, bits):
    """Writes a network of 4 bits with weights of 0 in another format."""
    with open(file, "rb") as opened:
        _, metadata, _ = read_integer.read_entries(opened.read())
    del metadata["crc32"]
    tensors, network = tensors_of(file), json.loads(metadata["network"])
    for op in network["ops"]:
        if op.get("weight_bits") != 4:
            continue
        op.update(WEIGHTS[bits])
        shape = op["weight_shape"]
        count = -(-math.prod(shape) // read_integer.codes_per_byte(op["weight_bits"]))
        tensors[op["name"] + ".weight"] = ("I8", shape, bytes(count)) if op["weight_bits"] == 8 else ("U8", [count], bytes(count))
        if "cluster_size" in op:
            op["cluster_size"] = min(op["cluster_size"], shape[1])  # a depthwise filter has one channel
            groups = -(-shape[1] // op["cluster_size"])
            tensors[op["name"] + ".scales"] = ("U8", [shape[0], groups], bytes(shape[0] * groups))
    write_file(to, {**metadata, "network": compact(network)}, tensors)


def print_zoo(given):
    models = [line.split() for line in run([os.path.join(given.build, "faq-train"), "--list-models"]).splitlines()[1:]]
    print("| network | input | flash, kB: %s | RAM, kB | ms/image |\n|---|---|---|---|---|" % " · ".join(WEIGHTS), flush=True)
    for model, _, size, *_ in models:
        if given.only not in ("", model):
            continue
        with tempfile.TemporaryDirectory(prefix="faq-c-") as folder:
            file, other = quantized(given, folder, model, int(size), "4 bits"), os.path.join(folder, "other")
            sizes = []
            for bits in WEIGHTS:
                rewrite(file, other, bits)
                sizes.append(exported(given, other, folder, 0)["constant_bytes"])
            _, arena, time = measured(given, folder, file)
            print("| %s | %s | %s | %.0f | %s |" % (model, size, " · ".join("%.0f" % (flash / 1000) for flash in sizes), arena, time),
                  flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(PROJECT, "build"))
    parser.add_argument("--cc", default="gcc -O3 -march=native")
    parser.add_argument("--only", default="", help="a model")
    parser.add_argument("--threads", type=int, default=1, help="of what prepares a network")
    parser.add_argument("--zoo", action="store_true", help="the table of docs/models.md")
    given = parser.parse_args()
    if given.zoo:
        print_zoo(given)
        return 0
    print("| network | constants, kB | arena, kB | ms/image |\n|---|---|---|---|")
    for model, size, bits in ROWS:
        if given.only in ("", model):
            with tempfile.TemporaryDirectory(prefix="faq-c-") as folder:
                constants, arena, time = measured(given, folder, quantized(given, folder, model, size, bits))
                print("| %s, %d×%d, %s | %.0f | %.0f | %s |" % (model, size, size, bits, constants, arena, time), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
