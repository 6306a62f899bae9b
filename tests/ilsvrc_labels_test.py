#!/usr/bin/env python3
"""Tests of tools/ilsvrc_labels.py on development kits made here, in the forms in which MATLAB and SciPy write them."""
import os
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools", "ilsvrc_labels.py")
INT8, UINT8, UINT16, INT32, UINT32, DOUBLE, MATRIX, COMPRESSED, UTF8 = 1, 2, 4, 5, 6, 9, 14, 15, 16


def element(kind, content, small=False):
    if small and len(content) <= 4:
        return struct.pack("<HH", kind, len(content)) + content.ljust(4, b"\0")
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (0 if kind == COMPRESSED else -len(content) % 8)


def matrix(kind, shape, *parts, name=b""):
    flags = element(UINT32, struct.pack("<II", kind, 0))
    return element(MATRIX, flags + element(INT32, struct.pack("<2i", *shape)) + element(INT8, name, small=True) + b"".join(parts))


def number(value):
    if isinstance(value, float):
        return matrix(6, (1, 1), element(DOUBLE, struct.pack("<d", value)))
    return matrix(9, (1, 1), element(UINT8, bytes([value]), small=True))


def text(value, kind):
    encoded = value.encode("utf-16-le" if kind == UINT16 else "utf-8")
    return matrix(4, (1, len(value)), element(kind, encoded))


def meta(classes, form=UTF8, compress=True):
    names = b"".join(name.ljust(32, b"\0") for name in (b"ILSVRC2012_ID", b"WNID", b"words"))
    fields = b"".join(number(n) + text(wnid, form) + text("a name", form) for n, wnid in classes)
    synsets = matrix(2, (len(classes), 1), element(INT32, struct.pack("<i", 32), small=True), element(INT8, names), fields,
                     name=b"synsets")
    body = element(COMPRESSED, zlib.compress(synsets)) if compress else synsets
    return b"MATLAB 5.0 MAT-file, a test".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + body


class Labels(unittest.TestCase):
    CLASSES = [(1, "n02119789"), (2, "n02100735"), (3, "n01440764")]

    def run_on(self, mat, truth, folder="data"):
        kit = tempfile.TemporaryDirectory()
        self.addCleanup(kit.cleanup)
        os.makedirs(os.path.join(kit.name, folder), exist_ok=True)
        for name, content in (("meta.mat", mat), ("ILSVRC2012_validation_ground_truth.txt", truth)):
            if content is not None:
                with open(os.path.join(kit.name, folder, name), "wb") as file:
                    file.write(content)
        return subprocess.run([sys.executable, PROGRAM, kit.name], capture_output=True, text=True, timeout=60)

    def test_classes_by_the_numbers_of_the_kit(self):
        for form in (UTF8, UINT16):
            for compress in (True, False):
                for folder in ("data", "."):
                    done = self.run_on(meta(self.CLASSES, form, compress), b"3\n1\n3\n2\n", folder)
                    self.assertEqual(done.stderr, "")
                    self.assertEqual(done.stdout.splitlines(),
                                     ["ILSVRC2012_val_0000000%d.JPEG %s" % pair for pair in
                                      ((1, "n01440764"), (2, "n02119789"), (3, "n01440764"), (4, "n02100735"))])

    def test_refused(self):
        good = meta(self.CLASSES)
        damaged = bytearray(good)
        damaged[150] ^= 255
        nested = b""
        for _ in range(300):
            nested = matrix(2, (1, 1), element(INT32, struct.pack("<i", 8), small=True), element(INT8, b"a".ljust(8, b"\0")), nested)
        bomb = matrix(9, (1, 1), element(UINT8, bytes(80 << 20)))
        header = good[:128]
        packed = zlib.compress(meta(self.CLASSES, compress=False)[128:])
        of_class = lambda *rows: meta(self.CLASSES[:1] + list(rows))
        for mat, truth, code, said in (
                (good, b"1\n4\n", 65, "class 4"), (good, b"1\nx\n", 65, "line 2: expected a number"),
                (good, None, 66, "No such file"), (None, b"1\n", 66, "No such file"), (b"PK\3\4", b"1\n", 65, "no MAT file"),
                (good[:140], b"1\n", 65, "ends within"), (bytes(damaged), b"1\n", 65, "damaged element"),
                (header, b"1\n", 65, "has no classes"), (good, b"", 65, "has no lines"), (good, b"\n", 65, "has no lines"),
                (good, b"3\n1", 65, "ends within a line"), (good, b"1\n\n2\n", 65, "line 2: expected a number"),
                (header + element(COMPRESSED, packed[:-4]), b"1\n", 65, "ends within an element"),
                (header + nested, b"1\n", 65, "nested deeper"),
                (header + element(COMPRESSED, zlib.compress(bomb)), b"1\n", 65, "has more than"),
                (of_class((float("inf"), "n02119789")), b"1\n", 65, "meta.mat: ILSVRC2012_ID: expected a number"),
                (of_class((float("nan"), "n02119789")), b"1\n", 65, "meta.mat: ILSVRC2012_ID: expected a number"),
                (of_class((1.5, "n02119789")), b"1\n", 65, "found [1.5]"), (of_class((0, "n02119789")), b"1\n", 65, "found [0]"),
                (of_class((1, "n00000000")), b"1\n", 65, "class 1 is n02119789 and n00000000"),
                (of_class((2, "n02119789\nevil")), b"1\n", 65, "WNID: expected"), (of_class((2, "")), b"1\n", 65, "WNID: expected")):
            done = self.run_on(mat, truth)
            self.assertEqual((done.returncode, done.stdout), (code, ""), said)
            self.assertIn(said, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_output_that_cannot_be_written(self):
        with tempfile.TemporaryDirectory() as kit:
            for name, content in (("meta.mat", meta(self.CLASSES)), ("ILSVRC2012_validation_ground_truth.txt", b"3\n")):
                with open(os.path.join(kit, name), "wb") as file:
                    file.write(content)
            for words in ('"$0" "$1" "$2" >&-', '"$0" "$1" "$2" >/dev/full'):
                done = subprocess.run(["/bin/sh", "-c", words, sys.executable, PROGRAM, kit], stderr=subprocess.PIPE, text=True)
                self.assertEqual(done.returncode, 74, words)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


if __name__ == "__main__":
    unittest.main()
