#!/usr/bin/env python3
"""Writes the classes of ILSVRC2012's validation images from its development kit, for `--val-labels`.

  python3 tools/ilsvrc_labels.py ILSVRC2012_devkit_t12 > val_labels.txt
  faq-eval --data-path imagenet --val-labels val_labels.txt --weights …

The kit numbers the classes in an order of its own, which its file data/meta.mat has. This reads it
(MATLAB's MAT format, level 5: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf) and writes
`IMAGE WNID` for each line of data/ILSVRC2012_validation_ground_truth.txt. Standard library only.
Exit codes as those of faq's programs: 65 a file that is damaged, 66 one that is missing, 74 output that cannot be written.
"""
import argparse
import os
import re
import struct
import sys
import zlib

NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}  # as struct has them
BYTES, UTF8, MATRIX, COMPRESSED = (1, 2), 16, 14, 15
STRUCT, CHARACTERS, FIRST_OF_NUMBERS = 2, 4, 6
# The kit's own file has 2 MB in structs within structs within one.
MOST_BYTES, MOST_NESTED, MOST_VALUES = 1 << 26, 8, 1 << 16
WNID = re.compile(r"n[0-9]{8}")


class BadFile(Exception):
    pass


def elements(data):
    """The (type, content) of the elements that follow each other in `data`, a memoryview."""
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


def value_of(matrix, depth=0):
    """A text, a list of numbers, or a list of {field: value}; None for what is none of them."""
    if depth > MOST_NESTED:
        raise BadFile("structs are nested deeper than %d" % MOST_NESTED)
    parts = elements(matrix)
    try:
        (_, flags), (_, shape), _ = next(parts), next(parts), next(parts)
        kind = flags[0]
        if kind == STRUCT:
            (length,) = struct.unpack("<i", next(parts)[1])
            joined = bytes(next(parts)[1])
            names = [joined[i:i + length].split(b"\0")[0].decode("ascii") for i in range(0, len(joined), length)]
            values = [value_of(content, depth + 1) for _, content in parts]
            return [dict(zip(names, values[i:i + len(names)])) for i in range(0, len(values), len(names))]
        if kind == CHARACTERS:
            form, content = next(parts)
            return bytes(content).decode("utf-8" if form == UTF8 else "latin-1" if form in BYTES else "utf-16-le")
        if kind >= FIRST_OF_NUMBERS:
            form, content = next(parts)
            count = len(content) // struct.calcsize(NUMBERS[form])
            return list(struct.unpack("<%d%s" % (count, NUMBERS[form]), content)) if count <= MOST_VALUES else None
    except (StopIteration, KeyError, ValueError, IndexError, struct.error) as error:
        raise BadFile("a damaged matrix (%s)" % type(error).__name__) from error
    return None


def inflated(content, most):
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(content, most)
    except zlib.error as error:
        raise BadFile("a damaged element (%s)" % error) from error
    if not inflate.eof:
        raise BadFile("has more than %d bytes" % MOST_BYTES if len(data) == most else "ends within an element")
    return data


def class_of(row):
    """(number, wnid) of a row of `synsets`."""
    number, wnid = row["ILSVRC2012_ID"], row["WNID"]
    value = number[0] if isinstance(number, list) and len(number) == 1 and isinstance(number[0], (int, float)) else 0
    if not 1 <= value < 1e9 or value != int(value):
        raise BadFile("ILSVRC2012_ID: expected a number from 1 on, found %.40r" % (number,))
    if not isinstance(wnid, str) or not WNID.fullmatch(wnid):
        raise BadFile("WNID: expected n and eight digits, found %.40r" % (wnid,))
    return int(value), wnid


def wnids_of(file):
    """{number: wnid} of the classes of meta.mat."""
    with open(file, "rb") as source:
        data = source.read(MOST_BYTES)
    if not data.startswith(b"MATLAB 5.0 MAT-file") or data[126:128] != b"IM":
        raise BadFile("no MAT file of level 5")
    found, left = {}, MOST_BYTES
    for form, content in elements(memoryview(data)[128:]):
        if form == COMPRESSED:
            plain = inflated(content, left)
            left -= len(plain)
            form, content = next(elements(memoryview(plain)), (0, b""))
        rows = value_of(content) if form == MATRIX else None
        for row in rows or []:
            if isinstance(row, dict) and "ILSVRC2012_ID" in row and "WNID" in row:
                number, wnid = class_of(row)
                if found.setdefault(number, wnid) != wnid:
                    raise BadFile("class %d is %s and %s" % (number, found[number], wnid))
    if not found:
        raise BadFile("has no classes")
    return found


def numbers_of(file):
    """The number in each line."""
    with open(file, "rb") as source:
        text = source.read(MOST_BYTES)
    if not text.strip():
        raise BadFile("has no lines")
    if not text.endswith(b"\n"):
        raise BadFile("ends within a line")
    numbers = []
    for i, line in enumerate(text.splitlines(), 1):
        if not re.fullmatch(rb"[0-9]{1,9}", line.strip()):
            raise BadFile("line %d: expected a number, found %.40r" % (i, line.decode("latin-1")))
        numbers.append(int(line))
    return numbers


def stop(code, *said):
    print("ilsvrc_labels.py", *said, sep=": ", file=sys.stderr)
    sys.exit(code)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("devkit", help="the unpacked development kit")
    folder = parser.parse_args().devkit
    if os.path.isdir(os.path.join(folder, "data")):
        folder = os.path.join(folder, "data")
    meta, truth = (os.path.join(folder, name) for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"))
    read = {}
    for file, reader in ((meta, wnids_of), (truth, numbers_of)):
        try:
            read[file] = reader(file)
        except OSError as error:
            stop(66 if isinstance(error, FileNotFoundError) else 74, file, error.strerror)
        except BadFile as error:
            stop(65, file, error)
    wnids, numbers = read[meta], read[truth]
    unknown = sorted({number for number in numbers if number not in wnids})
    if unknown:
        stop(65, truth, "class %d, which %s does not have" % (unknown[0], meta))
    try:
        sys.stdout.write("".join("ILSVRC2012_val_%08d.JPEG %s\n" % (i, wnids[number]) for i, number in enumerate(numbers, 1)))
        sys.stdout.flush()
    except (OSError, AttributeError, ValueError) as error:  # there is no standard output, or no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its end
        stop(74, "standard output", getattr(error, "strerror", None) or "closed")


if __name__ == "__main__":
    main()
