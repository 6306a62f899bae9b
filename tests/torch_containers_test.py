#!/usr/bin/env python3
"""The files around pickles: zip, PyTorch's older format, the archive of PyTorch 0.1. Needs no PyTorch."""
import io
import json
import pickle
import struct
import tarfile
import unittest
import unittest.mock
import zipfile

from torch_files import (FLOATS, GOOD, ConverterTest, archive, by_key, central, dictionary, fixture, legacy, link,
                         name_of, number, patched, program, storage, tar, tensor, text, tuple_of)
from torch_checkpoint import state_dicts


class Containers(ConverterTest):
    def test_files_of_pytorch(self):
        expected = json.loads(fixture("expected.json"))
        for name in ("legacy.pth", "zip.pth"):
            with self.subTest(name):
                self.assertEqual(self.accept(fixture(name)), expected)
                self.assertEqual(list(self.read()), list(expected))

    def test_made_by_hand(self):
        expected = {"w": ["F32", [4], FLOATS.hex()]}
        self.assertEqual(self.accept(archive()), expected)
        self.assertEqual(self.accept(legacy(GOOD)), expected)
        for key in state_dicts.STATE_DICT_KEYS:
            nested = program(dictionary(("epoch", number(3)), (key, dictionary(("module.w", tensor())))))
            self.assertEqual(self.accept(archive(nested)), expected)

    def test_views_of_legacy_storages(self):
        view = storage(extra=tuple_of(text("v"), number(1), number(2)))
        main = program(dictionary(("w", tensor((2,), store=view))))
        self.assertEqual(self.accept(legacy(main)), {"w": ["F32", [2], FLOATS[4:12].hex()]})
        beyond = storage(extra=tuple_of(text("v"), number(3), number(2)))
        self.refuse(legacy(program(dictionary(("w", tensor((2,), store=beyond))))), "a view beyond its end")

    def test_tar_of_pytorch_0_1(self):
        made = name_of("torch.nn.parameter", "Parameter")
        state = tuple_of(by_key(10), b"N", dictionary(), b"\x88", b"\x89")
        main = program(dictionary(("a", by_key()), ("b", made + b")\x81" + state + b"b"),
                                  ("c", made + tuple_of(by_key(11), b"\x88") + b"R"), ("n", by_key())))
        data = tar(main, views=[(6, 5, 1, 3)],
                   tensors=[(9, 5, (2, 2), (2, 1), 0), (10, 6, (3,), (1,), 0), (11, 6, (2,), (1,), 1),
                            (12, None, (), (), 0)])
        expected = {"a": ["F32", [2, 2], FLOATS.hex()], "b": ["F32", [3], FLOATS[4:].hex()],
                    "c": ["F32", [2], FLOATS[8:].hex()], "n": ["F32", [2, 2], FLOATS.hex()]}
        self.assertEqual(self.accept(data), expected)
        source = tuple_of(name_of("net", "Net"), text("net.py"), text("class Net: ...")) + b"Q"
        main = program(dictionary(("x", source + b")\x81"), ("model", dictionary(("w", by_key())))))
        self.assertEqual(self.accept(tar(main)), {"w": ["F32", [4], FLOATS.hex()]})

    def test_legacy(self):
        table = [
            ("empty", b"", "an empty file"),
            ("text", b"hello", "something else"),
            ("safetensors", struct.pack("<Q", 2) + b"{}", "a safetensors file: faq reads it as it is"),
            ("LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
            ("HTML", b"\n<!DOCTYPE html><html>", "an HTML page"), ("HTML in capitals", b"<HTML>", "an HTML page"),
            ("XML", b"<?xml version='1.0'?><Error>", "XML"), ("gzip", b"\x1f\x8b\x08\0", "gunzip"),
            ("xz", b"\xfd7zXZ\0", "unxz"), ("bzip2", b"BZh91AY", "bunzip2"), ("zstd", b"\x28\xb5\x2f\xfd", "unzstd"),
            ("HDF5", b"\x89HDF\r\n\x1a\n", "HDF5"), ("npy", b"\x93NUMPY\1\0", "NumPy"),
            ("ONNX", b"\x08\x08\x12\x07pytorch", "an ONNX model"), ("JSON", b'{"weight_map": {}}', "JSON"),
            ("zeros", bytes(1000), "nothing but zeros"), ("PNG", b"\x89PNG\r\n", "a PNG image"),
            ("magic", legacy(GOOD, magic=1), "magic number"),
            ("version", legacy(GOOD, version=1002), "version"),
            ("big-endian", legacy(GOOD, system={"little_endian": False}), "little-endian"),
            ("system", legacy(GOOD, system=[]), "little-endian"),
            ("no keys", legacy(GOOD, keys=()), "list of storage keys"),
            ("more keys", legacy(GOOD, keys=("0", "1")), "list of storage keys"),
            ("keys twice", legacy(GOOD, keys=("0", "0")), "different storage keys"),
            ("keys of numbers", legacy(GOOD, keys=(0,)), "storage keys"),
            ("count", legacy(GOOD, data=struct.pack("<q", 5) + FLOATS), "expected 4 elements, found 5"),
            ("negative count", legacy(GOOD, data=struct.pack("<q", -1) + FLOATS), "expected 4 elements, found -1"),
            ("trailing", legacy(GOOD) + b"x", "1 bytes after"),
            ("persistent id in the keys", legacy(GOOD).replace(pickle.dumps(["0"], 2), program(storage())),
             "persistent id"),
        ]
        for name, data, expected in table:
            with self.subTest(name):
                self.refuse(data, expected)

    def test_tar(self):
        main = program(dictionary(("w", by_key())))
        good = tar(main)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:") as file:
            file.addfile(tarfile.TarInfo("folder/net.pth"))
        header = good.index(b"pickle")
        table = [
            ("of a checkpoint", out.getvalue(), 'a tar archive that holds "folder/net.pth": unpack it'),
            ("header", good[:header] + b"q" + good[header + 1:], "the header at byte"),
            ("cut short", good[:good.index(FLOATS)], 'the file ends within "storages"'),
            ("big-endian", tar(main, system={"little_endian": False}), "little-endian"),
            ("no tensors", tar(main, without=["tensors"]), "unpack it"),
            ("no such tensor", tar(main, tensors=[]), "a persistent id of no storage and no tensor"),
            ("a key of letters", tar(program(dictionary(("w", by_key("x"))))), "a persistent id of no"),
            ("a key of many digits", tar(program(dictionary(("w", by_key("9" * 5000))))), "malformed pickle"),
            ("storage too large", tar(main, storages=[(5, "FloatStorage", 1 << 61, FLOATS)]), "storage 5 reaches beyond"),
            ("negative storage", tar(main, storages=[(5, "FloatStorage", -1, FLOATS)]), "storage 5 reaches beyond"),
            ("unknown storage", tar(main, storages=[(5, "NewStorage", 4, FLOATS)]), "torch.NewStorage"),
            ("key twice", tar(main, tensors=[(9, 5, (4,), (1,), 0)] * 2), "the key and type of a tensor"),
            ("view beyond", tar(main, views=[(6, 5, 2, 3)]), "a view of a storage beyond its end"),
            ("view of nothing", tar(main, views=[(6, 7, 0, 1)]), "a view of a storage beyond its end"),
            ("tensor beyond", tar(main, tensors=[(9, 5, (4,), (1,), 1)]), "element 4 of a storage of 4"),
            ("tensor of nothing", tar(main, tensors=[(9, None, (4,), (1,), 0)]), "expected a storage, found NoneType"),
            ("65 dimensions", tar(main, tensors=[(9, 5, (1,) * 65, (1,) * 65, 0)]), "a tensor of 65 dimensions"),
            ("a Parameter of nothing", tar(program(dictionary(("w", name_of("torch.nn.parameter", "Parameter") + b")\x81")))),
             'entry "w"'),
        ]
        for name, data, expected in table:
            with self.subTest(name):
                self.refuse(data, expected)

    def test_zip(self):
        plain = archive()
        second = plain.index(b"PK\x03\x04", 1)
        table = [
            ("compressed", archive(compression=zipfile.ZIP_DEFLATED), "is compressed"),
            ("bzip2", archive(compression=zipfile.ZIP_BZIP2), "is compressed"),
            ("duplicate", archive(extra=[("m/data/0", FLOATS)]), "there twice"),
            ("../", archive(extra=[("m/../../x", b"")]), "leaves the archive"),
            ("absolute", archive(extra=[("/etc/x", b"")]), "leaves the archive"),
            ("backslash", archive(extra=[("m\\..\\x", b"")]), "leaves the archive"),
            ("link", archive(extra=[(link("m/link"), "/etc/passwd")]), "is a link"),
            ("two pickles", archive(extra=[("n/data.pkl", GOOD)]), "found 2"),
            ("no pickle", plain.replace(b"m/data.pkl", b"m/data.pkx"), "found 0"),
            ("compressed data", archive(compression=zipfile.ZIP_DEFLATED), "zip -0 -r"),
            ("TorchScript", archive(extra=[("m/code/x.py", b"")]), "TorchScript"),
            (".pt2", archive(extra=[("m/archive_format", b"pt2")]), ".pt2"),
            ("an older .pt2", archive(extra=[("serialized_exported_program.json", b"{}")]), ".pt2"),
            (".npz", plain.replace(b"m/data.pkl", b"m/data.npy"), "NumPy"),
            ("zip of a checkpoint", plain.replace(b"m/data.pkl", b"m/data.pth"), 'holds "m/data.pth": unpack it'),
            ("big-endian", archive(extra=[("m/byteorder", b"big")]), "little-endian"),
            ("storage missing", archive(storages=()), "not in the archive"),
            ("storage too small", archive(storages=[("0", FLOATS[:-1])]), "expected 16 bytes, found 15"),
            ("storage too large", archive(storages=[("0", FLOATS + b"x")]), "expected 16 bytes, found 17"),
            ("encrypted", central(plain, b"m/data/0", 8, b"\x01\0"), "encrypted"),
            ("two sizes", central(plain, b"m/data/0", 24, struct.pack("<I", 1 << 30)), "two sizes"),
            ("absurd size", central(plain, b"m/data/0", 20, struct.pack("<II", 1 << 31, 1 << 31)), "beyond the end"),
            ("overlap", central(plain, b"m/data/0", 42, struct.pack("<I", 0)), "overlaps"),
            ("checksum", patched(plain, FLOATS, FLOATS[:-1] + b"\xff"), "CRC"),
            ("local header", plain[:second + 30] + b"n" + plain[second + 31:], "m/data/0"),
            ("no directory", plain[:plain.index(b"PK\x01\x02")], "zip archive"),
            ("only the magic", b"PK\x03\x04", "zip archive"),
            ("empty archive", b"PK\x05\x06" + bytes(18), "found 0"),
            ("before the archive", b"PK" + plain, ""),
        ]
        for name, data, expected in table:
            with self.subTest(name):
                self.refuse(data, expected)
        self.accept(plain.replace(b"m/", b":/"))  # torch.save calls the folder like the file, "12:30.pth"

    def test_truncated_anywhere(self):
        old = tar(program(dictionary(("w", by_key()))))
        for data in (archive(), legacy(GOOD), fixture("legacy.pth")[:-1], old[:old.index(FLOATS) + len(FLOATS)]):
            for length in range(len(data)):
                if len(data) < 1000 or length % 7 == 0:
                    self.refuse(data[:length])

    @unittest.mock.patch("os.fsync")  # for speed
    def test_any_byte_flipped(self, _):
        for data in (archive(), legacy(GOOD)):
            for place in range(len(data)):
                for flip in (0x01, 0x80, 0xFF):
                    self.write(data[:place] + bytes([data[place] ^ flip]) + data[place + 1:])
                    code, errors = self.call(self.input, self.output)
                    self.assertIn(code, (0, 65), errors)
                    self.assertEqual(errors.count("\n"), int(code == 65), errors)


if __name__ == "__main__":
    unittest.main()
