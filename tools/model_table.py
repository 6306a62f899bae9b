#!/usr/bin/env python3
"""Prints the table of docs/models.md: every network with its size, cost and speed on this machine.

    python3 tools/model_table.py [--build build] [--batch 16] [--steps 3] [--threads 2] [MODEL ...]

Images in memory, weights random; medians of a few steps. Needs Python's standard library only.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


def output(command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def models(build):
    lines = output([build / "faq-train", "--list-models"]).splitlines()[1:]
    return [line.split() for line in lines]


def bench(arguments, model, mode, bits, steps):
    return json.loads(output([arguments.build / "faq-bench", "--mode", mode, "--model", model, "--bits", bits, "-b",
                              arguments.batch, "--steps", steps, "--threads", arguments.threads, "--json"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("models", nargs="*")
    arguments = parser.parse_args()
    print("| network | input | parameters | MACs | integer file: 8 · 4 bits | training: 8 · 4 bits | inference: 8 · 4 bits |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, _, size, parameters, macs in models(arguments.build):
        if arguments.models and name not in arguments.models:
            continue
        runs = {(mode, bits): bench(arguments, name, mode, bits, arguments.steps * (3 if mode == "infer" else 1))
                for mode in ("train", "infer") for bits in (8, 4)}

        # Two figures, or whole numbers: a few steps tell no more.
        def rate(r):
            return format(r["images_per_s"], ".0f" if r["images_per_s"] >= 10 else ".1f")

        def pair(mode, value):
            return " · ".join(value(runs[mode, bits]) for bits in (8, 4))

        print(f"| {name} | {size} | {int(parameters) / 1e6:.2f} M | {int(macs) / 1e9:.2f} G | "
              f"{pair('infer', lambda r: format(r['weight_bytes'] / 1e6, '.1f'))} MB | "
              f"{pair('train', rate)} | {pair('infer', rate)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
