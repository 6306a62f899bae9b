#!/usr/bin/env python3
"""Fuzzes every parser with libFuzzer: builds the targets with clang, runs them, and keeps small corpora.

  tools/campaigns/fuzz.py [--runs 10000000] [--seconds 600] [--jobs 2] [--seed 1] [--only PARSER] [--keep]

Each parser is run --runs times, or for --seconds. It begins with its seeds (tests/parsers.cpp) and its corpus,
if there is one (tests/corpus/PARSER.zip, as OSS-Fuzz wants it). --keep merges what reached new code into that corpus, the smallest files first,
within --most-bytes for each. --totals FILE adds the executions of this call to those of earlier ones. A finding keeps its input
and prints the command that repeats it. Needs clang with its runtime (Debian: clang-14 libclang-rt-14-dev libomp-14-dev).
"""
import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CORPUS = os.path.join(PROJECT, "tests", "corpus")
FLAGS = "-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
# No stacks of allocations, and freed memory that stays in the cache: they are a third of the time of some parsers. A finding
# that is repeated by hand has them.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1",
               "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=0:malloc_context_size=0:quarantine_size_mb=16"}


def build(work, compiler, jobs):
    """{parser: program}"""
    source = os.path.join(work, "src")
    os.makedirs(source, exist_ok=True)
    out = os.path.join(work, "out")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    if not os.path.islink(os.path.join(source, "faq")):
        os.symlink(PROJECT, os.path.join(source, "faq"))
    subprocess.run([os.path.join(PROJECT, "tools", "campaigns", "oss-fuzz", "build.sh")], check=True, stdout=sys.stderr, env={
        **os.environ, "CC": compiler.replace("++", ""), "CXX": compiler, "CFLAGS": FLAGS, "CXXFLAGS": FLAGS, "SRC": source,
        "WORK": work, "OUT": out, "LIB_FUZZING_ENGINE": "-fsanitize=fuzzer", "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)})
    names = sorted(name for name in os.listdir(out) if name.startswith("faq_fuzz_") and "." not in name)
    return {name[len("faq_fuzz_"):]: os.path.join(out, name) for name in names}


def options_of(program):
    with open(program + ".options", encoding="ascii") as file:
        return ["-%s=%s" % pair for pair in re.findall(r"^(\w+) = (\w+)$", file.read(), re.M)]


def unpack(parser, folder):
    os.makedirs(folder)
    archive = os.path.join(CORPUS, parser + ".zip")
    if os.path.exists(archive):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)


def pack(parser, program, folder, work, most):
    """Replaces the corpus by the least of it that reaches the same code."""
    merged = os.path.join(work, "merged-" + parser)
    os.makedirs(merged)
    subprocess.run([program, "-merge=1", *options_of(program), merged, folder], env={**ENVIRONMENT, "FAQ_PARSER": parser},
                   check=True, capture_output=True)
    files = sorted((os.path.getsize(os.path.join(merged, name)), name) for name in os.listdir(merged))
    os.makedirs(CORPUS, exist_ok=True)
    kept = 0
    with zipfile.ZipFile(os.path.join(CORPUS, parser + ".zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for _, name in files:
            entry = zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0))  # the same bytes every time
            entry.compress_type = zipfile.ZIP_DEFLATED
            with open(os.path.join(merged, name), "rb") as file:
                archive.writestr(entry, file.read())
            kept += 1
            if archive.fp.tell() + 100 * kept > most:  # each file is listed once more at the end
                break
    return kept, len(files)


def fuzz(parser, program, work, given):
    folder = os.path.join(work, "corpus-" + parser)
    unpack(parser, folder)
    found = os.path.join(work, "found-" + parser, "")
    os.makedirs(found)
    log = os.path.join(work, "log-" + parser)
    command = [program, "-runs=%d" % given.runs, "-max_total_time=%d" % given.seconds, "-seed=%d" % given.seed,
               "-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1", "-artifact_prefix=" + found, *options_of(program)]
    began = time.monotonic()
    with open(log, "wb") as said:
        code = subprocess.run([*command, folder], env={**ENVIRONMENT, "FAQ_PARSER": parser}, stdin=subprocess.DEVNULL,
                              stdout=said, stderr=said).returncode
    with open(log, encoding="utf-8", errors="replace") as file:
        text = file.read()
    executions = int((re.findall(r"stat::number_of_executed_units: (\d+)", text) or re.findall(r"^#(\d+)", text, re.M) or ["0"])[-1])
    covered = (re.findall(r"cov: (\d+)", text) or ["?"])[-1]
    inputs = sorted(os.listdir(found))
    if code != 0 or inputs:
        print("FOUND by %s: exit code %d: %s\n  said: %s\n  again: FAQ_PARSER=%s %s %s" %
              (parser, code, ", ".join(re.findall(r"^SUMMARY: .*|^==\d+== ERROR.*", text, re.M)), log, parser, program,
               " ".join(found + name for name in inputs)), file=sys.stderr, flush=True)
    kept = ""
    if given.keep and code == 0:
        kept = "%d of %d" % pack(parser, program, folder, work, given.most_bytes)
    seconds = time.monotonic() - began
    return parser, executions, "%.0f" % (executions / max(seconds, 1e-9)), covered, kept, len(inputs) or int(code != 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10**7, help="executions of each parser")
    parser.add_argument("--seconds", type=int, default=600, help="the most for each parser")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="PARSER[,PARSER…]")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--most-bytes", type=int, default=60000, help="of the corpus of one parser, packed")
    parser.add_argument("--totals", metavar="FILE")
    parser.add_argument("--compiler", default=next(filter(shutil.which, ("clang++-14", "clang++")), "clang++"))
    parser.add_argument("--build", default=os.path.join(PROJECT, "build-fuzz"), help="where it is built")
    given = parser.parse_args()
    programs = build(os.path.abspath(given.build), given.compiler, given.jobs)
    chosen = {name: program for name, program in programs.items() if given.only in ("", name) or name in given.only.split(",")}
    work = tempfile.mkdtemp(prefix="faq-fuzz-")
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        rows = list(pool.map(lambda pair: fuzz(*pair, work, given), chosen.items()))
    header = ["parser", "executions", "executions/s", "edges", "kept", "findings"]
    print("\n".join("| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows]))
    print("%d executions" % sum(row[1] for row in rows))
    if given.totals:
        total = {}
        if os.path.exists(given.totals):
            with open(given.totals, encoding="ascii") as file:
                total = json.load(file)
        for row in rows:
            before = total.get(row[0], {"executions": 0, "findings": 0})
            total[row[0]] = {"executions": before["executions"] + row[1], "findings": before["findings"] + row[5]}
        with open(given.totals, "w", encoding="ascii") as file:
            json.dump(total, file, indent=1)
    if any(row[5] for row in rows):
        return 1
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
