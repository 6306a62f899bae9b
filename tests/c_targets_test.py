#!/usr/bin/env python3
"""What faq-export --c writes makes the bits of faq on other machines: compiled for them, and run by qemu-user.

  tests/c_targets_test.py [--folder DIR] [--export] [--network MODEL]… [TARGET …]

Without a target all are tried. --export only writes the networks into the folder, where the next call finds them. --network takes
these networks, at their own size and 4 bits, in the place of the small ones. FAQ_TRAIN and FAQ_EXPORT name programs that are not in
build/. The exit code is 77 if a target was skipped because its compiler is not installed (tools/install_deps.sh --targets), and
nothing failed.
"""
import argparse
import os
import re
import shlex
import shutil
import sys
import tempfile

import integer_files
from programs import SCHEMES, output_of, program, quantized, run
from run_files import write_images

# What embedded code is compiled with: nothing is left to warn of.
STRICT = "-std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Werror"
SANITIZERS = "-O1 -fsanitize=address,undefined,integer -fno-sanitize-recover=all"
# Compiler, what runs its programs, and the options each network is compiled with.
TARGETS = {
    "gcc": ("gcc", "", ["-O0", "-O3 -march=native -ffp-contract=fast", "-Os -funsigned-char"]),
    "clang": ("clang", "", ["-O2", SANITIZERS]),
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64", ["-O2 -static"]),
    "armhf": ("arm-linux-gnueabihf-gcc", "qemu-arm", ["-O2 -static", "-Os -mthumb -static"]),
    "riscv64": ("riscv64-linux-gnu-gcc", "qemu-riscv64", ["-O2 -static"]),
    "s390x": ("s390x-linux-gnu-gcc", "qemu-s390x", ["-O2 -static"]),  # 64 bits, big-endian
    "powerpc": ("powerpc-linux-gnu-gcc", "qemu-ppc", ["-O2 -static"]),  # 32 bits, big-endian, char is unsigned
}
NAMES = {"clang": ("clang", "clang-19", "clang-14")}
IMAGES = 3
LARGE = ("densenet121", "mobilenet_v2")  # that take a compiler seconds
MOST_STACK = 1024  # bytes
CALLS = 4  # network_run, an op, unpack_filter, code_at: no calls are deeper


def export(folder, models):
    """Every scheme, every op, a network of concatenations and a depthwise one; or the models."""
    def write(name, file):
        output_of([program("faq-export"), file, "--c", os.path.join(folder, name), "--c-test", IMAGES])

    data = os.path.join(folder, "data")
    write_images(data, 6, 3, 8)
    sizes = {words[0]: int(words[2]) for words in map(str.split, output_of([program("faq-train"), "--list-models"]).splitlines()[1:])}
    for model in models:
        if model not in sizes:
            sys.exit("c_targets_test.py: no network %s" % model)
    rows = [(model, sizes[model], "4 bits") for model in models] or [
        *(("resnet20", 8, scheme) for scheme in SCHEMES), *((model, 32, "4 bits") for model in LARGE)]
    for model, size, scheme in rows:
        write("%s, %s" % (model, scheme), quantized(data, os.path.join(folder, "run"), model, size, scheme))
        shutil.rmtree(os.path.join(folder, "run"))
    for make in () if models else (integer_files.every_op, integer_files.without_mean):
        file = os.path.join(folder, "file")
        make().write(file)
        write(make.__name__, file)
        os.remove(file)
    shutil.rmtree(data)


def networks_of(folder):
    return sorted(name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, "network.c")))


def compiler_of(target):
    for name in NAMES.get(target, (TARGETS[target][0],)):
        if shutil.which(name):
            return name
    return ""


def why_not(target):
    """Why a target cannot be tested here; empty if it can."""
    if not compiler_of(target):
        return "no %s" % TARGETS[target][0]
    runner = TARGETS[target][1]
    if runner and not shutil.which(runner):
        return "no %s" % runner
    for options in TARGETS[target][2]:  # a compiler may lack its C library, or that of its sanitizers
        with tempfile.TemporaryDirectory(prefix="faq-c-") as work:
            source = os.path.join(work, "empty.c")
            with open(source, "w", encoding="utf-8") as file:
                file.write("#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n")
            done = run([compiler_of(target), *shlex.split(options), "-o", os.path.join(work, "empty"), source])
            if done.returncode != 0:
                return "%s %s: %s" % (compiler_of(target), options, (done.stderr.splitlines() or ["no reason"])[0])
    return ""


def check_bits(target, options, sources, work):
    """Compiles and runs a network; returns what it says."""
    test = os.path.join(work, "test")
    output_of([compiler_of(target), *shlex.split(STRICT), *shlex.split(options), "-o", test, *sources])
    said = output_of([*shlex.split(TARGETS[target][1]), test])
    if not said.startswith("%d of %d images have the logits of faq, bit for bit" % (IMAGES, IMAGES)):
        raise AssertionError(said)
    return said


def check_stack(target, source, work):
    """What network.h says of the stack."""
    output_of([compiler_of(target), "-std=c99", "-O2", "-fstack-usage", "-c", source, "-o", os.path.join(work, "network.o")])
    with open(os.path.join(work, "network.su"), encoding="utf-8") as file:
        rows = [line.split("\t") for line in file]
    used = sum(sorted(int(row[1]) for row in rows)[-CALLS:])
    if used >= MOST_STACK or any(row[2].strip() != "static" for row in rows):
        raise AssertionError("%s: %d bytes of stack: %s" % (source, used, rows))


def sections_of(program_file):
    """{name: bytes} of a program."""
    return {words[1]: int(words[2], 16) for words in map(str.split, output_of(["objdump", "-h", program_file]).splitlines())
            if len(words) == 7 and words[0].isdigit()}


def check_header(target, folder, sources, work):
    """What network.h promises: sizes, sections, times by op, a caller in C++; no library; refused by other machines."""
    sections = " ".join("-DNETWORK_%s='__attribute__((section(\".faq_%s\")))'" % (name, place)
                        for name, place in (("TABLE", "tables"), ("ARENA", "arena")))
    said = check_bits(target, "-O2 -DNETWORK_PROFILE " + sections, sources, work)
    found = re.findall(r"^(\w+) +[\d.]+ ms$", said, re.MULTILINE)
    if "conv" not in found or "linear" not in found or len(set(found)) != len(found):
        raise AssertionError("times of ops: " + said)
    with open(os.path.join(folder, "network.h"), encoding="utf-8") as file:
        sizes = dict(re.findall(r"#define NETWORK_(\w+)_BYTES (\d+)", file.read()))
    arena, constants = int(sizes["ARENA"]), int(sizes["CONSTANT"])
    found = sections_of(os.path.join(work, "test"))
    if found[".faq_arena"] != arena or not constants <= found[".faq_tables"] <= constants * 1.1 + 1000:
        raise AssertionError("%s: %s" % (sizes, found))  # tables are aligned
    caller, source = os.path.join(work, "caller.cpp"), os.path.join(work, "network.o")
    output_of(["gcc", "-std=c99", "-O3", "-ffreestanding", "-c", sources[0], "-o", source])
    if output_of(["nm", "-u", source]).strip():
        raise AssertionError("it calls " + output_of(["nm", "-u", source]))
    for other in ("-U__INT_MAX__ -D__INT_MAX__=32767", "-U__DBL_MANT_DIG__ -D__DBL_MANT_DIG__=24",
                  "-U__FLT_EVAL_METHOD__ -D__FLT_EVAL_METHOD__=2"):
        refused = run(["gcc", "-std=c99", *other.split(), "-c", sources[0], "-o", source])
        if refused.returncode == 0 or "expected int of 32 bits" not in refused.stderr:
            raise AssertionError("%s: %s" % (other, refused.stderr))
    with open(caller, "w", encoding="utf-8") as file:
        file.write('#include "network.h"\nstatic uint8_t image[NETWORK_HEIGHT * NETWORK_WIDTH * NETWORK_CHANNELS];\n'
                   "int main() {\n  float logits[NETWORK_CLASSES];\n  network_run(image, logits);\n"
                   "  return network_argmax(logits) >= NETWORK_CLASSES || NETWORK_LOGIT_SCALE <= 0 || NETWORK_ARENA_BYTES <= 0;\n}\n")
    output_of(["gcc", "-std=c99", "-O2", "-c", sources[0], "-o", source])
    output_of(["g++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", folder, caller, source, "-o",
               os.path.join(work, "caller")])
    output_of([os.path.join(work, "caller")])


def check(target, folder):
    for name in networks_of(folder):
        for i, options in enumerate(TARGETS[target][2][:1 if name.startswith(LARGE) else None]):
            with tempfile.TemporaryDirectory(prefix="faq-c-") as work:
                sources = [os.path.join(folder, name, file) for file in ("network.c", "network_test.c")]
                said = check_bits(target, options, sources, work)
                if i == 0 and target != "clang":
                    check_stack(target, sources[0], work)
                if i == 0 and target == "gcc":
                    check_header(target, os.path.join(folder, name), sources, work)
            print("%s %s: %s: %s" % (target, options, name, said.split(";")[0]), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="for the exported networks")
    parser.add_argument("--export", action="store_true", help="write the networks, and test nothing")
    parser.add_argument("--network", action="append", default=[], metavar="MODEL", help="in the place of the small networks")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    given = parser.parse_args()
    if given.network and given.folder and os.path.isdir(given.folder) and not given.export:
        parser.error("--network has no effect: %s has its networks" % given.folder)
    unknown = [target for target in given.targets if target not in TARGETS]
    if unknown:
        parser.error("no target %s: expected %s" % (unknown[0], ", ".join(TARGETS)))
    with tempfile.TemporaryDirectory(prefix="faq-c-") as temporary:
        folder = given.folder or temporary
        if given.export or not given.folder or not os.path.isdir(folder):
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            export(folder, given.network)
        if given.export:
            return 0
        skipped = []
        for target in given.targets or TARGETS:
            reason = why_not(target)
            if reason:
                print("skipped: %s: %s (tools/install_deps.sh --targets)" % (target, reason), flush=True)
                skipped.append(target)
            else:
                check(target, folder)
    return 77 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
