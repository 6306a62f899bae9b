#!/usr/bin/env python3
"""What stands in pickles beside tensors, and pickles that are refused. Needs no PyTorch."""
import collections
import datetime
import decimal
import fractions
import os
import pathlib
import pickle
import struct
import sys
import types
import unittest
import uuid

from torch_files import (FLOATS, ConverterTest, archive, dictionary, legacy, name_of, number, program, storage, tensor,
                         text, tuple_of)
from torch_checkpoint import containers, values


class Beside(ConverterTest):
    def test_protocols_and_plain_pickles(self):
        inner = (pickle.dumps(containers.MAGIC_NUMBER, 2) + pickle.dumps(1001, 2) +
                 pickle.dumps({"little_endian": True}, 2) + program(storage()) + pickle.dumps(["0"], 2) +
                 struct.pack("<q", 4) + FLOATS)
        loaded = (name_of("torch.storage", "_load_from_bytes") +
                  tuple_of(b"B" + struct.pack("<I", len(inner)) + inner) + b"R")
        plain = b"\x80\x03" + dictionary(("w", tensor(store=loaded))) + b"."
        self.assertEqual(self.accept(plain), {"w": ["F32", [4], FLOATS.hex()]})
        self.refuse(plain + b"x", "1 bytes after the pickle")
        beside = {"epoch": 3, "lr": 0.5, "names": ["a", ("b", None)], "n": 1 << 70, "s": {1}, "f": True}
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with self.subTest(protocol):
                made = pickle.dumps(beside, protocol)
                body = made[2:-1] if protocol >= 2 else made[:-1]
                main = b"\x80\x05" + dictionary(("x", body), ("model", dictionary(("w", tensor())))) + b"."
                self.assertEqual(list(self.accept(archive(main))), ["w"])

    def test_what_stands_beside(self):
        now = datetime.datetime(2024, 5, 6, 7, tzinfo=datetime.timezone.utc)
        beside = [
            now, now.date(), now.time(), datetime.timedelta(1), {1, 2}, frozenset("a"), slice(1, 2), range(3),
            bytearray(b"ab"), bytearray(), 1j, decimal.Decimal("0.1"), fractions.Fraction(1, 3), uuid.UUID(int=5),
            pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.Path("a"), collections.deque([1, 2], 3),
            collections.defaultdict(list, a=[1]), collections.Counter("a"), types.SimpleNamespace(a=1),
            [{1}, {"a": {2}}],
        ]
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            for value in beside:
                with self.subTest((protocol, value)):
                    made = pickle.dumps(value, protocol)
                    entries = dictionary(("x", made[2:-1]), ("model", dictionary(("w", tensor()))))
                    main = b"\x80" + bytes([protocol]) + entries + b"."
                    self.assertEqual(self.accept(archive(main)), {"w": ["F32", [4], FLOATS.hex()]})
        main = program(dictionary(("w", tensor()), ("x", pickle.dumps(now, 2)[2:-1])))
        self.refuse(archive(main), '"x" is a datetime.datetime, not a tensor')

    def test_anything_may_stand_beside(self):
        unknown = name_of("my.config", "Config")
        state = dictionary(("lr", number(1)), ("hook", name_of("os", "system")))
        quantized = tuple_of(text("storage"), name_of("torch", "QInt8Storage"), text("1"), text("cpu"), number(4)) + b"Q"
        beside = [
            ("a class", unknown), ("a function", name_of("os", "system")), ("an object", unknown + b")R" + state + b"b"),
            ("an enum", unknown + tuple_of(number(1)) + b"R"), ("NEWOBJ", unknown + b")\x81" + state + b"b"),
            ("NEWOBJ_EX", unknown + b")}\x92"), ("INST", b"(" + text("1") + b"ios\nsystem\n"),
            ("OBJ", b"(" + unknown + b"o"), ("EXT1", b"\x82\x01)R"), ("LONG4", b"\x8b\x04\0\0\0\1\0\0\0"),
            ("a method", name_of("builtins", "getattr") + tuple_of(unknown + b")R", text("load")) + b"R)R"),
            ("a dict subclass", unknown + b")\x81" + text("a") + number(1) + b"s"),
            ("a list subclass", unknown + b")\x81" + number(1) + b"a"),
            ("a tuple as key", b"}" + tuple_of(text("a")) + text("b") + b"s"),
            ("a class as key", b"}" + unknown + text("b") + b"s"),
            ("a list as key", b"}]" + text("b") + b"s"),
            ("a huge number as key", b"}" + b"\x8a\x09" + bytes(8) + b"\1" + text("b") + b"s"),
            ("slots", unknown + b")R" + tuple_of(b"N", dictionary()) + b"b"),
            ("sparse", name_of("torch._utils", "_rebuild_sparse_tensor") + tuple_of(text("x")) + b"R"),
            ("a size", name_of("torch", "Size") + tuple_of(tuple_of(number(1))) + b"R"),
            ("a dtype", name_of("torch", "float8_e4m3fn")), ("a tensor that cannot be", tensor((5,))),
            ("DUP and POP", text("a") + b"20"), ("copyreg", name_of("copyreg", "_reconstructor") +
                                                tuple_of(unknown, name_of("builtins", "object"), b"N") + b"R"),
        ]
        for what, body in beside:
            with self.subTest(what):
                main = program(dictionary(("x", body), ("model", dictionary(("w", tensor())))))
                for data in (archive(main), legacy(main)):
                    self.assertEqual(self.accept(data), {"w": ["F32", [4], FLOATS.hex()]})
        main = program(dictionary(("x", quantized), ("model", dictionary(("w", tensor())))))
        self.assertEqual(list(self.accept(archive(main, [("0", FLOATS), ("1", b"1234")]))), ["w"])
        both = struct.pack("<q", 4) + FLOATS + struct.pack("<q", 4) + b"1234"
        self.assertEqual(list(self.accept(legacy(main, keys=("0", "1"), data=both))), ["w"])
        self.refuse(legacy(main.replace(b"QInt8Storage", b"NewKindStorage"), keys=("0", "1"), data=both),
                    'a storage of type "torch.NewKindStorage", of unknown size')
        source = tuple_of(text("module"), unknown, text("net.py"), text("class Net: ...")) + b"Q"
        main = program(dictionary(("x", source + b")\x81" + state + b"b"), ("model", dictionary(("w", tensor())))))
        self.assertEqual(list(self.accept(legacy(main))), ["w"])


class Refused(ConverterTest):
    def everywhere(self, body, expected):
        """`body` as the value of an entry, in both formats."""
        main = program(dictionary(("w", tensor()), ("x", body)))
        self.refuse(archive(main), expected)
        self.refuse(legacy(main), expected)

    def test_nothing_is_executed(self):
        canary = os.path.join(self.folder, "canary")

        class Command:
            def __reduce__(self):
                return os.system, ("touch " + canary,)

        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with self.subTest(protocol):
                self.refuse(archive(pickle.dumps({"w": Command()}, protocol)))
                self.refuse(legacy(pickle.dumps({"w": Command()}, protocol)))
        self.everywhere(name_of("os", "system") + tuple_of(text("touch " + canary)) + b"R", 'entry "x" is a os.system')
        self.accept(archive(program(dictionary(("x", name_of("os", "system") + tuple_of(text("touch " + canary)) + b"R"),
                                               ("model", dictionary(("w", tensor())))))))
        self.assertFalse(os.path.exists(canary))

    def test_refused_by_name(self):
        call = tuple_of(text("1")) + b"R"
        table = [
            ("GLOBAL", name_of("builtins", "eval") + call, "is a builtins.eval, not a tensor"),
            ("STACK_GLOBAL", text("builtins") + text("eval") + b"\x93" + call, "is a builtins.eval, not"),
            ("two names in one", name_of("torch os", "system") + call, "is a torch.os.system, not"),
            ("dotted", text("collections") + text("OrderedDict.fromkeys") + b"\x93" + call, "OrderedDict.fromkeys"),
            ("torch's own", name_of("torch.hub", "load") + call, "is a torch.hub.load, not"),
            ("sparse", name_of("torch._utils", "_rebuild_sparse_tensor"), "is a torch._utils._rebuild_sparse_tensor"),
            ("control characters", name_of("a\rb", "c"), '"a\\rb.c"'),
            ("a long name", name_of("a" * 50_000, "c"), "aaaa"),
            ("INST", b"(" + text("1") + b"ios\nsystem\n", "is a os.system, not"),
            ("OBJ", b"(" + name_of("os", "system") + b"o", "is a os.system, not"),
            ("OBJ of nothing", b"(o", "OBJ without a class"),
            ("EXT1", b"\x82\x01", "is a extension.1, not"),
            ("PERSID", b"P0\n", "PERSID"),
            ("NEXT_BUFFER", b"\x97", "NEXT_BUFFER"),
            ("NEWOBJ", name_of("my", "Config") + b")\x81", "is a my.Config, not"),
            ("REDUCE of a string", text("eval") + call, "REDUCE of a str"),
            ("REDUCE with a list", name_of("collections", "OrderedDict") + b"]R", "REDUCE with a list"),
            ("BUILD on a dict", b"}" + dictionary(("__class__", text("x"))) + b"b", "BUILD of attributes on a dict"),
            ("BUILD on a class", name_of("collections", "OrderedDict") + dictionary(("fromkeys", text("x"))) + b"b",
             "BUILD of attributes on a collections.OrderedDict"),
            ("copies of copies", b"](" + b"".join(
                [text("x" * 100_000) + b"q\x05"] + [name_of("_codecs", "encode") + tuple_of(b"h\x05", text("latin1")) + b"R"] * 9) +
             b"e", "more copies of its bytes than the file has bytes"),
            ("PUT of a huge number", b"}p99999999999\n", "a memo of number"),
            ("BUILD on a list", b"]" + dictionary() + b"b", "BUILD of attributes on a list"),
            ("SETITEM on a list", b"]" + text("a") + text("b") + b"s", "SETITEMS on a list"),
            ("APPEND to a dict", b"}" + text("a") + b"a", "APPENDS to a dict"),
            ("duplicate key", dictionary(("a", b"N"), ("a", b"N")), 'duplicate key "a"'),
            ("odd items", b"}(" + text("a") + b"u", "SETITEMS"),
            ("unknown memo", b"h\x63", "BINGET"),
            ("OrderedDict of no pairs", name_of("collections", "OrderedDict") + tuple_of(text("ab")) + b"R", "pairs"),
        ]
        for name, body, expected in table:
            with self.subTest(name):
                self.everywhere(body, expected)

    def test_advice(self):
        whole = "save model.state_dict(), not the model"
        made = b")R"
        table = [
            ("the object itself", name_of("net", "Net") + made, whole),
            ("a model's name", dictionary(("epoch", number(1)), ("model", name_of("net", "Net") + made)), whole),
            ("torch's class", dictionary(("x", name_of("torch.nn.modules.conv", "Conv2d") + made)), whole),
            ("another class", dictionary(("config", name_of("net", "Config") + made)), 'entry "config" is a net.Config'),
            ("the standard library's", dictionary(("x", name_of("functools", "partial") + made)), "functools.partial"),
            ("the standard library's as a model", dictionary(("model", name_of("os", "system") + made)), "os.system"),
        ]
        for name, body, expected in table:
            with self.subTest(name):
                self.refuse(archive(program(body), storages=()), expected)
                self.assertEqual(whole in self.call(self.input, self.output)[1], expected == whole)

    def test_malformed(self):
        long = b"\x8d" + struct.pack("<Q", 1 << 62)
        table = [
            ("empty", b""), ("no STOP", b"\x80\x02}"), ("nothing", b"\x80\x02."), ("two objects", program(b"}}")),
            ("unknown opcode", b"\x80\x02\xff."), ("bad UTF-8", program(b"X\x01\0\0\0\xff")),
            ("length beyond the end", program(b"X\xff\xff\xff\x7fabc")), ("2^62 characters", program(long)),
            ("a million marks", program(b"(" * 1_000_000)), ("a million dicts", program(b"}(" * 1_000_000)),
            ("two million lists", program(b"]" * 2_000_000)),
            ("a deep tuple", program(b")" + b"\x85" * 1_000_000)),
            ("a deep tuple as key", program(b"})" + b"\x85" * 1_000_000 + b"Ns")),
            ("underflow", program(b"\x85")), ("no mark", program(b"t")), ("a mark for a value", program(b"(\x85")),
            ("empty state dict", program(b"}")), ("not a dict", program(b"K\x01")), ("a tensor alone", program(tensor())),
            ("entry of another kind", program(dictionary(("w", tensor()), ("n", number(1))))),
            ("only left out", program(dictionary(("bn.num_batches_tracked", tensor())))),
            ("numbers as names", program(b"}K\x01" + tensor() + b"s")),
            ("surrogates", program(dictionary(("\ud800", tensor())))),
            ("names collide", program(dictionary(("w", tensor()), ("module.w", tensor())))),
            ("reserved name", program(dictionary(("__metadata__", tensor())))),
        ]
        for name, main in table:
            with self.subTest(name):
                self.refuse(archive(main))
                self.refuse(legacy(main))

    def test_size_of_markers(self):
        # A file of eight megabytes can ask for eight million of them.
        for one in (values.Opaque("a"), values.Global("a"), values.Array("a")):
            self.assertFalse(hasattr(one, "__dict__"))
        self.assertLess(sys.getsizeof(values.Opaque("a")), 120)


if __name__ == "__main__":
    unittest.main()
