#!/usr/bin/env python3
"""Runs all kernels of convolution on random geometries, under each instruction set that this CPU has.

    tools/campaigns/convolutions.py [--count 10000] [--seed 1] [--jobs N] [--isa AVX2 ...] [--kernels TEXT] [BUILD]

BUILD (build) is a folder in which this project is built. Every case is a process: forward pass and both gradients in f32, bf16
and integers, on 1, 2 or 4 threads, each element compared with a plain sum, without a tolerance; memory ends at pages that
nobody may touch. It is a finding when an element differs, or a process is killed. oneDNN's kernels that are known to be wrong
(core/kernels/onednn_faults.cpp) are not used. With another version of oneDNN, this is what to run. Exit code 1: findings.
"""
import argparse
import json
import os
import sys

import shares

INSTRUCTION_SETS = ("SSE41", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16", "AVX512_CORE_AMX")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build")
    parser.add_argument("--count", type=int, default=10000, help="cases for each instruction set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--isa", nargs="+", default=INSTRUCTION_SETS, metavar="NAME", help="values of ONEDNN_MAX_CPU_ISA")
    parser.add_argument("--kernels", default="", metavar="TEXT", help="only those in whose names this stands")
    o = parser.parse_args()
    program = os.path.join(o.build, "tests", "faq_convolution_campaign")
    options = ["--seed", o.seed, "--kernels", o.kernels]

    findings, seen = 0, set()
    for limit in o.isa:
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit, "OMP_WAIT_POLICY": "passive"}
        used = shares.result_of(shares.start(program, ["--count", 0], environment=environment))["instruction_set"]
        if used in seen:  # the CPU has nothing more
            continue
        seen.add(used)
        total = shares.run(program, options, o.count, o.jobs, environment=environment, same=("instruction_set",))
        print(json.dumps(total), flush=True)
        findings += total["findings"]
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
