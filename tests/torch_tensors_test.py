#!/usr/bin/env python3
"""What the converter makes of tensors: types, strides, storages, and what it leaves out. Needs no PyTorch."""
import itertools
import random
import struct
import unittest
import unittest.mock

from torch_files import (FLOATS, ConverterTest, archive, dictionary, legacy, name_of, number, program, storage, tensor,
                         text, tuple_of, untyped_tensor)
from torch_checkpoint import containers, elements, stand_ins, values


class Tensors(ConverterTest):
    def test_rebuild_functions(self):
        floats = {"w": ["F32", [4], FLOATS.hex()]}
        plain = tensor()
        v2 = name_of("torch._utils", "_rebuild_tensor_v2")
        arguments = tuple_of(storage(), number(0), tuple_of(number(4)), tuple_of(number(1)), b"\x89", b"N")
        kind = name_of("fastai.torch_core", "TensorBase")
        dtype = name_of("numpy", "dtype") + tuple_of(text("f4"), b"\x89", b"\x88") + b"R" + \
            tuple_of(number(3), text("<"), b"N", b"N", b"N", number(-1), number(-1), number(0)) + b"b"
        array = name_of("numpy.core.multiarray", "_reconstruct") + \
            tuple_of(name_of("numpy", "ndarray"), tuple_of(number(0)), text("b")) + b"R" + \
            tuple_of(number(1), tuple_of(number(4)), dtype, b"\x89",
                     name_of("_codecs", "encode") + tuple_of(text(FLOATS.decode("latin1")), text("latin1")) + b"R") + b"b"
        device = (name_of("torch._utils", "_rebuild_device_tensor_from_numpy") +
                  tuple_of(array, name_of("torch", "float32"), text("xla:0"), b"\x89") + b"R")
        table = [
            ("v3", untyped_tensor()), ("subclass", name_of("torch._tensor", "_rebuild_from_type_v2") +
                         tuple_of(v2, kind, arguments, dictionary()) + b"R"),
            ("Parameter", name_of("torch._utils", "_rebuild_parameter") + tuple_of(plain, b"\x88", b"N") + b"R"),
            ("Parameter with attributes", name_of("torch._utils", "_rebuild_parameter_with_state") +
             tuple_of(plain, b"\x88", b"N", dictionary(("note", text("x")))) + b"R"),
            ("tensor with attributes", plain + dictionary(("tag", text("x"))) + b"b"),
        ]
        for what, body in table:
            with self.subTest(what):
                self.assertEqual(self.accept(archive(program(dictionary(("w", body))))), floats)
        for what, body in [("numpy", array), ("device", device)]:
            with self.subTest(what):
                self.assertEqual(self.accept(archive(program(dictionary(("w", body))), storages=())), floats)

    def test_tensors_that_are_left_out(self):
        def untyped(dtype, count):
            return untyped_tensor(dtype, count, key="1", size=4)

        def made_by(function, *arguments):
            return name_of("torch._utils", function) + tuple_of(*arguments) + b"R"

        def numpy(kind, order):
            dtype = name_of("numpy", "dtype") + tuple_of(text(kind), b"\x89", b"\x88") + b"R" + \
                tuple_of(number(3), text(order), b"N", b"N", b"N", number(-1), number(-1), number(0)) + b"b"
            return name_of("numpy.core.multiarray", "_reconstruct") + \
                tuple_of(name_of("numpy", "ndarray"), tuple_of(number(0)), text("b")) + b"R" + \
                tuple_of(number(1), tuple_of(number(1)), dtype, b"\x89", b"C\x04abcd") + b"b"

        conjugate = (name_of("torch._utils", "_rebuild_tensor_v2") +
                     tuple_of(storage(), number(0), tuple_of(number(4)), tuple_of(number(1)), b"\x89", b"N",
                              dictionary(("conj", b"\x88"))) + b"R")
        sharded = tuple_of(name_of("torch._utils", "_rebuild_wrapper_subclass"),
                           name_of("torch.distributed.tensor", "DTensor"), b")", dictionary())
        table = [
            ("complex", tensor((2,), store=storage("1", "ComplexFloatStorage", 2)), "torch.ComplexFloatStorage"),
            ("uint32", untyped("uint32", 1), "torch.uint32"), ("uint64", untyped("uint64", 0), "torch.uint64"),
            ("float4", untyped("float4_e2m1fn_x2", 4), "torch.float4_e2m1fn_x2"),
            ("conjugate", conjugate, "a conjugate or negated view"),
            ("sparse", made_by("_rebuild_sparse_tensor", text("x")), "a sparse tensor"),
            ("quantized", made_by("_rebuild_qtensor"), "a quantized tensor"),
            ("meta", made_by("_rebuild_meta_tensor_no_storage"), "the device meta"),
            ("nested", made_by("_rebuild_nested_tensor"), "a nested tensor"),
            ("a Parameter of one", made_by("_rebuild_parameter", made_by("_rebuild_qtensor"), b"\x88", b"N"),
             "quantized"),
            ("a subclass", name_of("torch._tensor", "_rebuild_from_type_v2") + sharded + b"R", "DTensor, which cannot"),
            ("big-endian array", numpy("f4", ">"), "big-endian"), ("array of strings", numpy("U1", "<"), 'type "U1"'),
        ]
        for what, body, why in table:
            with self.subTest(what):
                stored = [("0", FLOATS), ("1", bytes(16 if what == "complex" else 4))]
                made = self.accept(archive(program(dictionary(("w", tensor()), ("x", body))), stored))
                self.assertEqual(made, {"w": ["F32", [4], FLOATS.hex()]})
                errors = self.call(self.input, self.output)[1]
                self.assertTrue('left out "x" (' in errors and why in errors and errors.count("\n") == 1, errors)
                self.assertEqual(list(self.accept(archive(program(dictionary(("x", body), ("model", dictionary(
                    ("w", tensor()))))), stored))), ["w"])
                self.refuse(archive(program(dictionary(("x", body))), stored), why)
        many = program(dictionary(("w", tensor()), *(("x%d" % i, made_by("_rebuild_qtensor")) for i in range(9))))
        self.accept(archive(many))
        self.assertIn("and 6 more", self.call(self.input, self.output)[1])
        deep = program(dictionary(*((name, tensor((1, 1, 1, 2, 2), (4, 4, 4, 2, 1))) for name in "ab"), ("w", tensor())))
        self.assertEqual(len(self.accept(archive(deep))), 3)
        self.assertIn('"a" and 1 more: faq reads no file with', self.call(self.input, self.output)[1])
        mixed = dictionary(("w", tensor()), ("q", made_by("_rebuild_qtensor")), ("n", number(1)))
        self.refuse(archive(program(mixed)), 'in.pth: entry "n" is a int, not a tensor; --ignore-extra leaves it out')
        self.refuse(archive(program(dictionary(("state", dictionary()), ("param_groups", b"]")))), "an optimizer")

        sixteen = [("0", FLOATS), ("1", struct.pack("<2H", 1, 65535))]
        eight = [("0", FLOATS), ("1", bytes((0x38, 0xC0, 0x01, 0x7E)))]  # e4m3: 1, -2, 2^-9, 448; e5m2: 0.5, -2, 2^-16, NaN
        for dtype, count, stored, kind, expected in [
                ("uint16", 2, sixteen, "I32", struct.pack("<2i", 1, 65535)),
                ("float8_e4m3fn", 4, eight, "F32", struct.pack("<4f", 1, -2, 2 ** -9, 448)),
                ("float8_e5m2", 3, eight, "F32", struct.pack("<3f", 0.5, -2, 2 ** -16))]:
            with self.subTest(dtype):
                made = self.accept(archive(program(dictionary(("x", untyped(dtype, count)))), stored))
                self.assertEqual(made, {"x": [kind, [count], expected.hex()]})
        self.assertEqual([str(elements.float8(byte, kind)) for kind in ("F8_E4M3", "F8_E5M2")
                          for byte in (0x7F, 0xFF, 0x80)], ["nan", "nan", "-0.0"] * 2)

    def test_any_strides(self):
        stored = list(range(100, 196))
        data = bytes(stored)
        rng = random.Random(1)
        for _ in range(300):
            extents = (0, 1, 2, 3) if rng.random() < 0.1 else (1, 2, 2, 3, 4)
            shape = [rng.choice(extents) for _ in range(rng.randrange(6))]
            strides, dense = [], 1
            for extent in reversed(shape):  # dense ones, some of them replaced, so that some neighbours walk as one
                strides.insert(0, dense if rng.random() < 0.7 else rng.choice((0, 1, 2, 3)))
                dense *= extent
            if rng.random() < 0.2:
                strides.reverse()
            last = sum((extent - 1) * stride for extent, stride in zip(shape, strides) if extent)
            if last >= len(stored):
                continue
            offset = rng.randrange(len(stored) - last)
            expected = bytes(stored[offset + sum(i * s for i, s in zip(index, strides))]
                             for index in itertools.product(*map(range, shape)))
            with self.subTest((shape, strides, offset)):
                source = values.Storage("0", "torch.ByteStorage", len(stored), 0, len(stored))
                view = stand_ins.rebuild_tensor(source, offset, tuple(shape), tuple(strides))
                self.assertEqual(elements.dense_bytes(view, data), expected)

    def test_a_storage_is_read_once(self):
        one = untyped_tensor()
        main = program(dictionary(*(("w%d" % i, one) for i in range(9))))
        read = containers.ZipFile.read
        with unittest.mock.patch.object(containers.ZipFile, "read", autospec=True, side_effect=read) as counted:
            self.assertEqual(len(self.accept(archive(main))), 9)
        self.assertEqual(counted.call_count, 1)
        claimed = number(1 << 62)
        self.refuse(archive(program(dictionary(("w", one))).replace(number(16), claimed)), "bytes, found 16")

    def test_storages_in_turns(self):
        others = struct.pack("<4f", 5, 6, 7, 8)
        second = storage("1")
        main = program(dictionary(("a", tensor()), ("b", tensor(store=second)), ("c", tensor((2,), offset=1)),
                                  ("d", tensor((2,), store=second))))
        made = self.accept(archive(main, [("0", FLOATS), ("1", others)]))
        self.assertEqual(list(made), ["a", "b", "c", "d"])
        self.assertEqual([row[2] for row in made.values()],
                         [FLOATS.hex(), others.hex(), FLOATS[4:12].hex(), others[:8].hex()])

    def test_tensors(self):
        table = [
            ("beyond the end", tensor((5,)), "element 4 of a storage of 4"),
            ("offset beyond the end", tensor(offset=1), "element 4"),
            ("stride beyond the end", tensor((2, 2), (3, 1)), "element 4"),
            ("negative offset", tensor(offset=-1), "whole numbers"),
            ("negative stride", tensor(strides=(-1,)), "whole numbers"),
            ("a huge extent", tensor((-1 << 63,), (0,)).replace(b"\x8a\x08" + b"\0" * 7 + b"\x80",
                                                                             b"\x8a\x09" + b"\0" * 7 + b"\x80\0"),
             "whole numbers"),
            ("negative extent", tensor((-4,)), "whole numbers"),
            ("ranks differ", tensor((2, 2), (1,)), "do not match"),
            ("65 dimensions", tensor((1,) * 65, (1,) * 65), "do not match"),
            ("a gigabyte of one element", tensor((2,) * 28, (0,) * 28), "bytes of tensors in 16 bytes of storages"),
            ("a petabyte of one element", tensor((1 << 50,), (0,)), "bytes of tensors"),
            ("overflow", tensor((1 << 62, 1 << 62), (0, 0)), "2^63 or more bytes"),
            ("no storage", tensor(store=b"N"), "expected a storage"),
            ("storage of another size", tensor(store=storage(numel=5)), "storage"),
            ("negative storage", tensor(store=storage(numel=-1)), "storage"),
            ("storage that is not there", tensor(store=storage(key="7")), "storage"),
            ("two types", tensor() + b"0" + tensor(store=storage(kind="IntStorage")), "two types"),
            ("conjugate", name_of("torch._utils", "_rebuild_tensor_v2") +
             tuple_of(storage(), number(0), tuple_of(number(4)), tuple_of(number(1)), b"\x89", b"N",
                      dictionary(("conj", b"\x88"))) + b"R", "conjugate"),
            ("Parameter of nothing", name_of("torch._utils", "_rebuild_parameter") + tuple_of(b"N", b"\x88", b"N") +
             b"R", "expected a tensor"),
        ]
        for name, body, expected in table:
            with self.subTest(name):
                main = program(dictionary(("w", body)))
                self.refuse(archive(main), expected)
                if b"storage" in body:
                    self.refuse(legacy(main), expected)
        pieces = storage(kind="ByteStorage", numel=16)
        slow = program(dictionary(("w", tensor((2,) * 24, (0, 1) * 12, store=pieces))))
        self.refuse(archive(slow, [("0", FLOATS)]), "in 8388608 pieces")
        both = program(dictionary(("a", tensor()), ("b", tensor(store=storage(kind="IntStorage")))))
        self.refuse(archive(both), "two types")


if __name__ == "__main__":
    unittest.main()
