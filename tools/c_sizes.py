#!/usr/bin/env python3
"""Exports networks as C, compiles and runs them, and prints what they cost: the table of docs/commands.md.

  tools/c_sizes.py [--build build] [--cc "gcc -O3 -march=native"] [--only resnet20]

The weights are random, which changes neither sizes nor times. Each export must have the bits of faq: its test is what is timed.
"""
import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(PROJECT, "tests"))
from run_files import write_images  # noqa: E402

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


def measured(given, folder, model, size, bits):
    data, out = os.path.join(folder, "data"), os.path.join(folder, "run")
    if not os.path.exists(data):
        write_images(data, 6, 3)
    train, export = (os.path.join(given.build, name) for name in ("faq-train", "faq-export"))
    run([train, "--model", model, "--data-path", data, "--output-dir", out, "--epochs", "0", "-b", "2", "--train-crop-size", str(size),
         "--val-crop-size", str(size), "--val-resize-size", str(size), "--calibration-batches", "2", "--threads", "1", "-j", "1",
         "--quiet", *FORMATS[bits]])
    written = json.loads(run([export, os.path.join(out, "integer.safetensors"), "--c", folder, "--c-test", "2", "--json"]))
    program = os.path.join(folder, "test")
    run([*shlex.split(given.cc), "-std=c99", "-o", program, written["source"], written["test"]])
    said = run([program])
    milliseconds = float(re.search(r"bit for bit; ([\d.]+) ms", said).group(1))
    return written["constant_bytes"] / 1000, written["arena_bytes"] / 1000, milliseconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(PROJECT, "build"))
    parser.add_argument("--cc", default="gcc -O3 -march=native")
    parser.add_argument("--only", default="", help="a model")
    given = parser.parse_args()
    print("| network | constants, kB | arena, kB | ms/image |\n|---|---|---|---|")
    for model, size, bits in ROWS:
        if given.only in ("", model):
            with tempfile.TemporaryDirectory(prefix="faq-c-") as folder:
                constants, arena, ms = measured(given, folder, model, size, bits)
                print("| %s, %d×%d, %s | %.0f | %.0f | %s |" % (model, size, size, bits, constants, arena, "%#.2g" % ms if ms < 10 else "%.0f" % ms), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
