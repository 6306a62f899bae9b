#!/usr/bin/env python3
"""Writes the classes of ILSVRC2012's validation images from its development kit, for `--val-labels`.

  python3 tools/ilsvrc_labels.py ILSVRC2012_devkit_t12 > val_labels.txt
  faq-eval --data-path imagenet --val-labels val_labels.txt --weights …

The kit numbers the classes in an order of its own, which its file data/meta.mat has. This reads it
(MATLAB's MAT format, level 5: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf) and writes
`IMAGE WNID` for each line of data/ILSVRC2012_validation_ground_truth.txt. Standard library only.
"""
import argparse
import os
import struct
import sys
import zlib

NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}  # as struct has them
BYTES, UTF8, MATRIX, COMPRESSED = (1, 2), 16, 14, 15
STRUCT, CHARACTERS, FIRST_OF_NUMBERS = 2, 4, 6
MOST_BYTES = 1 << 28


class BadFile(Exception):
    pass


def elements(data):
    """The (type, content) of the elements that follow each other in `data`."""
    at = 0
    while at + 8 <= len(data):
        first, size = struct.unpack_from("<II", data, at)
        if first >> 16:  # four bytes or fewer lie in the tag itself
            yield first & 0xffff, data[at + 4:at + 4 + (first >> 16)]
            at += 8
            continue
        if at + 8 + size > len(data):
            raise BadFile("ends within an element")
        yield first, data[at + 8:at + 8 + size]
        at += 8 + size + (0 if first == COMPRESSED else -size % 8)


def value_of(matrix):
    """A text, a list of numbers, or a list of {field: value}; None for what is none of them."""
    parts = elements(matrix)
    try:
        (_, flags), (_, shape), _ = next(parts), next(parts), next(parts)
        kind = flags[0]
        if kind == STRUCT:
            (length,) = struct.unpack("<i", next(parts)[1])
            joined = next(parts)[1]
            names = [joined[i:i + length].split(b"\0")[0].decode("ascii") for i in range(0, len(joined), length)]
            values = [value_of(content) for _, content in parts]
            return [dict(zip(names, values[i:i + len(names)])) for i in range(0, len(values), len(names))]
        if kind == CHARACTERS:
            form, content = next(parts)
            return content.decode("utf-8" if form == UTF8 else "latin-1" if form in BYTES else "utf-16-le")
        if kind >= FIRST_OF_NUMBERS:
            form, content = next(parts)
            return list(struct.unpack("<%d%s" % (len(content) // struct.calcsize(NUMBERS[form]), NUMBERS[form]), content))
    except (StopIteration, KeyError, ValueError, IndexError, struct.error) as error:
        raise BadFile("a damaged matrix (%s)" % type(error).__name__) from error
    return None


def wnids_of(file):
    """{number: wnid} of the classes of meta.mat."""
    with open(file, "rb") as source:
        data = source.read(MOST_BYTES)
    if not data.startswith(b"MATLAB 5.0 MAT-file") or data[126:128] != b"IM":
        raise BadFile("no MAT file of level 5")
    found = {}
    for form, content in elements(data[128:]):
        if form == COMPRESSED:
            inflate = zlib.decompressobj()
            try:
                form, content = next(elements(inflate.decompress(content, MOST_BYTES)))
            except (zlib.error, StopIteration) as error:
                raise BadFile("a damaged element (%s)" % error) from error
        rows = value_of(content) if form == MATRIX else None
        for row in rows or []:
            if isinstance(row, dict) and row.get("ILSVRC2012_ID") and isinstance(row.get("WNID"), str):
                found.setdefault(int(row["ILSVRC2012_ID"][0]), row["WNID"])
    if not found:
        raise BadFile("has no classes")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("devkit", help="the unpacked development kit")
    folder = parser.parse_args().devkit
    if os.path.isdir(os.path.join(folder, "data")):
        folder = os.path.join(folder, "data")
    meta, truth = (os.path.join(folder, name) for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"))
    try:
        wnids = wnids_of(meta)
        with open(truth, encoding="ascii") as source:
            numbers = [int(line) for line in source.read().split()]
    except OSError as error:
        sys.exit("ilsvrc_labels.py: %s: %s" % (error.filename, error.strerror))
    except BadFile as error:
        sys.exit("ilsvrc_labels.py: %s: %s" % (meta, error))
    except ValueError as error:
        sys.exit("ilsvrc_labels.py: %s: expected a number in each line: %s" % (truth, error))
    unknown = sorted({number for number in numbers if number not in wnids})
    if unknown:
        sys.exit("ilsvrc_labels.py: %s: class %d, which %s does not have" % (truth, unknown[0], meta))
    for i, number in enumerate(numbers, 1):
        print("ILSVRC2012_val_%08d.JPEG %s" % (i, wnids[number]))


if __name__ == "__main__":
    main()
