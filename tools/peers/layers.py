#!/usr/bin/env python3
"""Where the time of int8 inference goes, layer by layer, in faq and in its ONNX peers.

    python3 tools/peers/layers.py --faq-bench build/faq-bench --model resnet18 --batch 32 --threads 2

One row per kind of convolution, in ms of one batch, and one for everything else. The peers' figures are those of their
own profilers inside the running network (bias, requantization and ReLU included where they fuse them); ours are the
convolutions alone, as faq-bench replays them, and requantization is part of the rest. Needs what compare.py needs for
ONNX Runtime and OpenVINO.
"""

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from compare import IMAGE_SIZES, ONNX, Failed, measure, missing_modules, run

PEERS = {"onnxruntime": "layers_onnxruntime", "openvino": "layers_openvino"}
# forward u8·s8 [32, 56, 56, 64] ⋆ [64, 64, 3, 3] stride 1
OURS = re.compile(r"\[\d+, (\d+), \d+, (\d+)\] ⋆ \[(\d+), \d+, (\d+), \d+\] stride (\d+)")


def by_convolution(rows):
    """{(input H, input channels, output channels, kernel, stride): [calls, ms]}, None: everything else."""
    sums = defaultdict(lambda: [0, 0.0])
    for convolution, calls, ms in rows:
        entry = sums[convolution]
        entry[0] += calls
        entry[1] += calls * ms
    return sums


def ours(o):
    command = [o.faq_bench, "--json", "--layers", "--mode", "infer", "--model", o.model, "-b", str(o.batch), "--bits", "8",
               "--threads", str(o.threads), "--steps", str(o.steps), "--image-size", str(o.image_size)]
    result = run(command, o.threads)
    rows = []
    for layer in result["layers"]:
        height, channels, out, kernel, stride = map(int, OURS.search(layer["what"]).groups())
        # A signed input is padded before it is convolved; the classifier is a 1×1 convolution of one pixel.
        if channels == 3:
            height -= 2 * (kernel // 2)
        rows.append(((height, channels, out, kernel, stride) if height > 1 else None, layer["calls"], layer["ms"]))
    sums = by_convolution(rows)
    sums[None][1] = result["step_ms"] - sum(ms for key, (_, ms) in sums.items() if key is not None)
    return sums


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faq-bench", required=True)
    parser.add_argument("--model", default="resnet18", choices=sorted(IMAGE_SIZES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    o = parser.parse_args()
    o.image_size = IMAGE_SIZES[o.model]
    if missing := missing_modules((*ONNX, "openvino")):
        sys.exit("layers.py: not installed: " + ", ".join(missing))
    with tempfile.TemporaryDirectory() as folder:
        work = {"model": o.model, "batch": o.batch, "threads": o.threads, "steps": o.steps, "image_size": o.image_size,
                "onnx": str(Path(folder) / "network.onnx")}
        measure("write_qdq", work)
        table = {"faq": ours(o)}
        for name, kind in PEERS.items():
            rows = measure(kind, work)["layers"]
            table[name] = by_convolution((tuple(r["convolution"]) if r["convolution"] else None, 1, r["ms"]) for r in rows)
    print(f"{'convolution':<34}{'calls':>6}" + "".join(f"{name:>14}" for name in table))
    for key in dict.fromkeys(key for rows in table.values() for key in rows):
        calls = table["faq"][key][0] if key in table["faq"] else 0
        what = "everything else" if key is None else "{0}x{0}x{1} -> {2}, {3}x{3} stride {4}".format(*key)
        cells = "".join(f"{rows[key][1]:>14.2f}" if key in rows else f"{'-':>14}" for rows in table.values())
        print(f"{what:<34}{calls if key and calls else '':>6}{cells}")
    print(f"{'sum':<40}" + "".join(f"{sum(ms for _, ms in t.values()):>14.2f}" for t in table.values()))


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"layers.py: {error}")
