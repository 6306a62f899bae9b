#!/usr/bin/env python3
"""Tests of tools/read_integer.py: it sees what faq sees, and refuses what faq refuses.

  python3 -m unittest discover -s tests -p read_integer_test.py    # FAQ_TRAIN, FAQ_EXPORT: programs that are not in build/
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

import integer_files
from c_files import layouts_of
from programs import PROJECT, output_of, program, quantized, run
from run_files import tensors_of, write_images
import read_integer

READER = os.path.join(PROJECT, "tools", "read_integer.py")


class ReaderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="faq-reader-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.file = self.path("integer.safetensors")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def read(self):
        with open(self.file, "rb") as file:
            return file.read()

    def write(self, data):
        with open(self.file, "wb") as file:
            file.write(data)

    def reader(self, *arguments):
        return run([sys.executable, READER, *arguments])

    def refused_by_faq(self):
        done = run([program("faq-export"), self.file, "--c", self.path("c")])
        return done.returncode, done.stderr


class GoodFiles(ReaderTest):
    def check_layers(self, file):
        """The layers are those of faq-export's comments: name, extents and integers."""
        output_of([program("faq-export"), file, "--c", self.path("c")])
        expected = layouts_of(self.path("c", "network.c"))
        found = {}
        for op in json.loads(output_of([sys.executable, READER, file, "--json"]))["ops"]:
            layout = "x".join(map(str, op["shape"]))
            if "format" in op:
                layout += ", %s %d bits" % ("signed" if op["format"]["signed"] else "unsigned", op["format"]["bits"])
            found[op["name"]] = layout
        self.assertGreater(len(found), 3)
        self.assertEqual(found, expected)

    def test_layers(self):
        integer_files.every_op().write(self.file)
        self.check_layers(self.file)
        write_images(self.path("data"), 6, 3, 8)
        for scheme in ("4 bits", "ternary clusters", "DoReFa, 4 bits"):
            with self.subTest(scheme):
                self.check_layers(quantized(self.path("data"), self.path(scheme), "resnet20", 8, scheme))

    def test_weights(self):
        """Each code, packed and scaled, as it was drawn."""
        draw = random.Random(7)
        for code in ("fixed_point", "clusters", "odd"):
            for bits in range(2, 8 if code == "odd" else 9):
                for channels in (1, 3, 4):
                    with self.subTest(code, bits=bits, channels=channels):
                        self.check_weights(draw, code, bits, channels)

    def check_weights(self, draw, code, bits, channels):
        filters, taps, size = 3, 2, min(2, channels)
        groups = -(-channels // size)
        largest = (1 << (bits - 1)) - 1
        low, high = (0, 2 * largest + 1) if code == "odd" else (-largest, largest)
        codes = [draw.randint(low, high) for _ in range(filters * channels * taps)]
        scales = [draw.randint(0, 127 // largest) for _ in range(filters * groups)]
        data, per_byte = integer_files.packed([c & 255 for c in codes], bits)
        dtype = "I8" if per_byte == 1 and code != "odd" else "U8"
        op = read_integer.Op({"kind": "conv", "name": "it", "weight_bits": bits, "weight_code": code, "weight_scale": 1,
                              "weight_shape": [filters, channels, taps, 1], "cluster_size": size},
                             {"it.weight": read_integer.Tensor(dtype, [len(data)], data),
                              "it.scales": read_integer.Tensor("U8", [filters, groups], bytes(scales))})
        op.read_weights(4)
        expected = []
        for i, c in enumerate(codes):
            group = i // (taps * channels) * groups + i // taps % channels // size
            expected.append({"fixed_point": c, "odd": 2 * c - (1 << bits) + 1, "clusters": c * scales[group]}[code])
        self.assertEqual(op.weights(), expected)

    def test_printed_weights(self):
        integer_files.without_mean().write(self.file)
        printed = output_of([sys.executable, READER, self.file, "--weights", "linear3"]).splitlines()
        data = tensors_of(self.file)["linear3.weight"][2]
        codes = [data[i // 2] >> 4 * (i % 2) & 15 for i in range(20)]
        self.assertEqual(printed, [" ".join(str(2 * c - 15) for c in codes[i:i + 5]) for i in range(0, 20, 5)])

    def test_example_of_the_docs(self):
        integer_files.without_mean().write(self.file)
        with open(os.path.join(PROJECT, "docs", "format.md"), encoding="utf-8") as file:
            docs = file.read()
        for arguments in ([], ["--weights", "conv1"]):
            self.assertIn("```\n%s```\n" % output_of([sys.executable, READER, self.file, *arguments]), docs)
        tensors = tensors_of(self.file)
        self.assertTrue(tensors["conv1.weight"][2].hex().startswith("d47c"))
        self.assertTrue(tensors["linear3.weight"][2].hex().startswith("40"))


class Damage(ReaderTest):
    def test_bytes(self):
        """Whatever byte changes, the file is refused, in one line."""
        integer_files.without_mean().write(self.file)
        good = self.read()
        draw = random.Random(1)
        for position in range(len(good)):
            damaged = bytearray(good)
            damaged[position] ^= 1 << draw.randrange(8)
            with self.assertRaises(read_integer.Refused, msg=position) as caught:
                read_integer.Network(bytes(damaged))
            self.assertNotIn("\n", str(caught.exception))

    def test_ends(self):
        integer_files.without_mean().write(self.file)
        good = self.read()
        for length in (0, 7, 8, 9, 100, len(good) - 1):
            self.write(good[:length])
            done = self.reader(self.file)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (65, "", 1), done.stderr)
            self.assertEqual(self.refused_by_faq()[0], 65)
        self.write(good + b"\0")
        self.assertEqual(self.reader(self.file).returncode, 65)

    def test_contents(self):
        """What is whole and makes no sense, with checksums that are right. faq refuses the same files."""
        def op(index, **fields):
            def change(builder):
                for key, value in fields.items():
                    if value is None:
                        del builder.ops[index][key]
                    else:
                        builder.ops[index][key] = value
            return change

        def tensor(name, of):
            return lambda builder: builder.tensors.update({name: of(*builder.tensors[name])})

        def images(**fields):
            return lambda builder: builder.preprocessing.update(fields)

        infinite = b"\0\0\x80\x7f"
        table = [  # ops: input0 conv1 conv2 conv3 max_pool4 avg_pool5 norm_act6 norm_act7 conv8 concat9 … shortcut13 … linear17
            ("an unknown kind", op(1, kind="deconv")),
            ("no kind", op(1, kind=None)),
            ("a name twice", op(1, name="conv2")),
            ("a later input", op(1, inputs=[5])),
            ("no inputs", op(1, inputs=[])),
            ("three inputs", op(3, inputs=[3, 3, 3])),
            ("an input that is true", op(1, inputs=[True])),
            ("two inputs of a pool", op(4, inputs=[4, 4])),
            ("nobody reads it", op(9, inputs=[7, 7])),
            ("weights of 9 bits", op(1, weight_bits=9)),
            ("weights of fewer bits", op(2, weight_bits=3)),
            ("odd weights of 8 bits", op(1, weight_code="odd")),
            ("a code of its own", op(1, weight_code="huffman")),
            ("another shape", op(1, weight_shape=[6, 3, 3, 4])),
            ("three extents", op(1, weight_shape=[6, 3, 9])),
            ("no scale", op(1, weight_scale=None)),
            ("a denormal scale", op(1, weight_scale=1e-40)),
            ("a negative scale", op(1, weight_scale=-1)),
            ("a cluster of 0", op(3, cluster_size=0)),
            ("clusters of other sizes", op(3, cluster_size=4)),
            ("a scale of clusters", tensor("conv3.scales", lambda d, s, b: (d, s, b"\xff" + b[1:]))),
            ("padding like the kernel", op(1, padding=[1, 1, 3, 1])),
            ("padding of one number", op(1, padding=1)),
            ("padding of two numbers", op(1, padding=[1, 1])),
            ("no groups", op(1, groups=0)),
            ("groups that the filters do not have", op(1, groups=4)),
            ("groups of other channels", op(1, groups=2)),
            ("an interpolation that nobody knows", images(interpolation="nearest")),
            ("no stride", op(1, stride=0)),
            ("a stride with a fraction", op(1, stride=1.5)),
            ("another residual's multiplier", op(3, residual_multiplier=0.5)),
            ("low below the format", op(1, low=-1)),
            ("high above the format", op(1, high=16)),
            ("high below low", op(1, low=3, high=2)),
            ("a format of 1 bit", op(1, format={"bits": 1, "scale": 1, "signed": False})),
            ("a format without a sign", op(1, format={"bits": 4, "scale": 1})),
            ("a multiplier that is infinite", tensor("conv1.multiplier", lambda d, s, b: (d, s, infinite + b[4:]))),
            ("multipliers of other channels", tensor("conv1.multiplier", lambda d, s, b: (d, [5], b[4:]))),
            ("a bias of integers", tensor("conv1.bias", lambda d, s, b: ("U8", [24], b))),
            ("no bias", lambda builder: builder.tensors.pop("conv1.bias")),
            ("a tensor of nobody", lambda builder: builder.tensors.update(extra=("U8", [1], b"\0"))),
            ("a table of fewer values", tensor("input0.table", lambda d, s, b: (d, [3, 255], b[3:]))),
            ("a table outside its bits", op(0, format={"bits": 4, "scale": 1, "signed": True})),
            ("weights outside their bits", tensor("conv2.weight", lambda d, s, b: (d, s, b"\x88" + b[1:]))),
            ("a large window", op(4, kernel=12)),
            ("much padding", op(4, padding=2)),
            ("an output below 0", op(12, output=-1)),
            ("fewer channels", op(13, out_channels=3)),
            ("channels of others", op(6, channels=7)),
            ("scales that are not tied", op(8, format={"bits": 8, "scale": 0.5, "signed": False})),
            ("a classifier of other multipliers", tensor("linear23.multiplier", lambda d, s, b: (d, s, b[:-4] + b"\0" * 4))),
            ("no classifier", lambda builder: builder.ops.pop()),
            ("no ops", lambda builder: builder.ops.clear()),
            ("no rows", images(height=0)),
            ("large images", images(width=5000)),
            ("two channels", images(channels=2)),
            ("one mean", images(mean=[0.5], std=[0.5])),
            ("means alone", images(mean=[0.5] * 3)),
            ("a deviation of 0", images(mean=[0.5] * 3, std=[0.5, 0, 0.5])),
            ("classes that are numbers", images(classes=list(range(9)))),
            ("fewer classes", images(classes=["a"])),
            ("an unknown field", images(flip=True)),
        ]
        for what, change in table:
            with self.subTest(what):
                builder = integer_files.every_op()
                change(builder)
                builder.write(self.file)
                with self.assertRaises(read_integer.Refused) as caught:
                    read_integer.Network(self.read())
                self.assertLess(len(str(caught.exception)), 600)
                code, text = self.refused_by_faq()
                self.assertEqual(code, 65, text)

    def test_metadata(self):
        table = [
            ("another format", {"format": "other"}, "not an integer network"),
            ("an older version", {"format_version": "4"}, "this program reads 5"),
            ("a newer version", {"format_version": "6"}, "newer than this program"),
            ("no version", {"format_version": "four"}, "format version"),
            ("text that is no JSON", {"network": "{"}, "not valid JSON"),
            ("a key twice", {"network": '{"ops": [], "ops": []}'}, "twice"),
            ("deep JSON", {"network": "[" * 100000}, "not valid JSON"),
            ("no number", {"preprocessing": '{"height": NaN}'}, "NaN"),
        ]
        for what, entries, expected in table:
            with self.subTest(what):
                builder = integer_files.without_mean()
                integer_files.write_file(self.file, {**builder.metadata(), **entries}, builder.tensors)
                done = self.reader(self.file)
                self.assertEqual((done.returncode, done.stderr.count("\n")), (65, 1), done.stderr)
                self.assertIn(expected, done.stderr)

    def test_no_checksums(self):
        integer_files.without_mean().write(self.file)
        self.write(self.read().replace(b'"crc32"', b'"crc33"'))
        self.assertIn("no checksums", self.reader(self.file).stderr)
        self.assertEqual(self.refused_by_faq()[0], 65)


class CommandLine(ReaderTest):
    def test_exit_codes(self):
        integer_files.every_op().write(self.file)
        table = [
            ([], 64, "required"),
            ([self.file, "more"], 64, "unrecognized"),
            ([self.file, "--weights"], 64, "expected one argument"),
            ([self.file, "--weights", "concat9"], 64, "no layer with weights"),
            ([self.file, "--weights", "none"], 64, "no layer with weights"),
            ([self.path("missing")], 66, "cannot open"),
            ([self.folder], 66, "cannot open"),
            ([READER], 65, "header"),
        ]
        for arguments, code, text in table:
            with self.subTest(arguments):
                done = self.reader(*arguments)
                self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertIn(text, done.stderr)

    def test_output(self):
        integer_files.every_op().write(self.file)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([sys.executable, READER, self.file], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (74, 1), done.stderr)


if __name__ == "__main__":
    unittest.main()
