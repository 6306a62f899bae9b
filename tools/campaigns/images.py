#!/usr/bin/env python3
"""Decodes damaged images by the thousand, and compares what we make of images with what Pillow makes of them.

    tools/campaigns/images.py [--count 100000] [--seed 1] [--jobs N] [--pillow 3000] [--memcheck] [--keep DIR] [BUILD]

BUILD (build) is a folder in which this project is built; with the preset asan, sanitizers look on. Every mutant is decoded
twice, with other contents of uninitialised memory and after another image. It is a finding when the pixels or the verdict
differ, or when anything but a refusal is thrown. Pillow then reads all valid images, and the first --pillow mutants: it is
a finding when both read an image and its pixels differ, or when Pillow reads a valid image and we do not. How often one
reads what the other refuses is a figure. With --memcheck valgrind looks on, and knows of each bit whether it was initialised.
(clang's MemorySanitizer would want all libraries compiled for it.) Exit codes: 0 nothing found, 1 findings, 77 only the comparison with Pillow was
asked for (--count 0) and Pillow is not installed.
"""
import argparse
import collections
import json
import os
import sys
import tempfile
import warnings
import zlib

import shares

# Valgrind takes some vector instructions of libjpeg-turbo for reads of what is not initialised; its plain code makes the same pixels.
MEMCHECK = ["valgrind", "--quiet", "--error-exitcode=9", "--track-origins=yes"]
PLAIN_JPEG = {**os.environ, "JSIMD_FORCENONE": "1"}


def mutants(program, o):
    return shares.run(program, ["--seed", o.seed, "--keep", o.keep], o.count, o.jobs, before=MEMCHECK if o.memcheck else (),
                      environment=PLAIN_JPEG if o.memcheck else None, same=("seeds", "heap_poisoned"))


def pillow_pixels(path):
    """The checksum of the RGB pixels, or nothing and why."""
    from PIL import Image
    try:
        with Image.open(path) as image:
            return zlib.crc32(image.convert("RGB").tobytes()), ""
    except Exception as error:  # whatever it is, Pillow does not read it
        return None, f"{type(error).__name__}: {error}".split("<")[0][:60]


def compare(program, o):
    from PIL import Image
    Image.MAX_IMAGE_PIXELS = 500_000  # twice as many are an error: mutants claim anything
    warnings.simplefilter("ignore")
    figures, reasons, findings, recorded = collections.Counter(), collections.Counter(), [], []
    with tempfile.TemporaryDirectory() as folder:
        shares.result_of(shares.start(program, ["--seed", o.seed, "--count", o.pillow, "--list", folder]))
        with open(os.path.join(folder, "list.tsv"), encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file]
        for name, verdict, checksum, text in rows:
            theirs, why = pillow_pixels(os.path.join(folder, name))
            if o.record and name.endswith(".png") and not name.startswith(("mutant_", "fixture_")):
                recorded.append(f"{name} {theirs}\n")
            ours = int(checksum) if verdict == "decoded" else None
            if ours is None and theirs is None:
                figures["both refuse"] += 1
            elif ours is None:
                figures["only Pillow reads"] += 1
                reasons["only Pillow reads: " + text.split(": ", 1)[1]] += 1
                if not name.startswith("mutant_"):
                    findings.append(f"{name}: we refuse a valid image: {text}")
            elif theirs is None:
                figures["only we read"] += 1
                reasons["only we read: " + why] += 1
            elif ours == theirs:
                figures["same pixels"] += 1
            else:
                findings.append(f"{name}: other pixels than Pillow's {text}")
    if o.record:
        with open(o.record, "w", encoding="utf-8") as file:
            file.writelines(recorded)
    return figures, reasons, findings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build")
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pillow", type=int, default=3000)
    parser.add_argument("--keep", default="image-findings", help="where files go that are decoded differently")
    parser.add_argument("--memcheck", action="store_true", help="the mutants under valgrind (Debian: valgrind), some hundred times as slow")
    parser.add_argument("--record", metavar="FILE", help="writes Pillow's checksums of the valid PNGs, for the tests")
    parser.add_argument("--verbose", action="store_true", help="why one reads what the other refuses")
    o = parser.parse_args()
    program = os.path.join(o.build, "tests", "faq_image_campaign")

    failed = False
    if o.count > 0:
        total = mutants(program, o)
        print(json.dumps(total))
        failed = total["findings"] > 0
    try:
        import PIL
    except ImportError:
        print("skipped: not compared with Pillow, which is not installed")
        return 1 if failed else 77 if o.count == 0 else 0
    figures, reasons, findings = compare(program, o)
    print(json.dumps({"pillow": PIL.__version__, **figures, "findings": len(findings)}))
    if o.verbose:
        for reason, count in reasons.most_common():
            print(f"{count:7} {reason}")
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if failed or findings else 0


if __name__ == "__main__":
    sys.exit(main())
