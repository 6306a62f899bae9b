#!/usr/bin/env python3
"""Tests of tools/convert_torch.py and tools/check_layers.py. Python standard library only; no PyTorch needed."""
import collections
import contextlib
import datetime
import decimal
import fractions
import io
import itertools
import json
import os
import pathlib
import pickle
import random
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import types
import unittest
import unittest.mock
import uuid
import warnings
import zipfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(os.path.dirname(HERE), "tools")
FIXTURES = os.path.join(HERE, "fixtures", "torch")
CONVERTER = os.path.join(TOOLS, "convert_torch.py")

sys.dont_write_bytecode = True
sys.path.insert(0, TOOLS)
import convert_torch  # noqa: E402
from torch_checkpoint import containers, elements, stand_ins, state_dicts, values  # noqa: E402


def fixture(name):
    with open(os.path.join(FIXTURES, name), "rb") as file:
        return file.read()


# ---- Pickles made by hand ----------------------------------------------------------------------------------------


def text(value):
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def name_of(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def storage(key="0", kind="FloatStorage", numel=4, extra=b""):
    return tuple_of(text("storage"), name_of("torch", kind), text(key), text("cpu"), number(numel), extra) + b"Q"


def tensor(shape=(4,), strides=(1,), offset=0, store=None):
    return (name_of("torch._utils", "_rebuild_tensor_v2") +
            tuple_of(store or storage(), number(offset), tuple_of(*map(number, shape)),
                     tuple_of(*map(number, strides)), b"\x89", b"N") + b"R")


def dictionary(*items):
    return b"}(" + b"".join(text(key) + value for key, value in items) + b"u"


def program(body):
    return b"\x80\x02" + body + b"."


GOOD = program(dictionary(("w", tensor())))
FLOATS = struct.pack("<4f", 1, 2, 3, 4)


def legacy(main, keys=("0",), data=struct.pack("<q", 4) + FLOATS, magic=containers.MAGIC_NUMBER, version=1001,
           system=None):
    system = {"little_endian": True} if system is None else system
    return b"".join([pickle.dumps(magic, 2), pickle.dumps(version, 2), pickle.dumps(system, 2), main,
                     pickle.dumps(list(keys), 2), data])


def archive(main=GOOD, storages=(("0", FLOATS),), extra=(), **options):
    """`extra`: pairs of a ZipInfo or name, and contents."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", **options) as file:
        warnings.simplefilter("ignore")  # of duplicate names
        file.writestr("m/data.pkl", main)
        for key, data in storages:
            file.writestr("m/data/" + key, data)
        for name, data in extra:
            file.writestr(name, data)
    return out.getvalue()


def tar(main, storages=((5, "FloatStorage", 4, FLOATS),), views=(), tensors=((9, 5, (4,), (1,), 0),), system=None,
        without=()):
    """The archive of PyTorch 0.1. A storage: key, type, elements, bytes; a view: key, storage, offset, elements;
    a tensor: key, storage, shape, strides, offset."""
    stored = b"".join(program(tuple_of(number(key), text("cpu"), name_of("torch", kind))) +
                      struct.pack("<q", numel) + data
                      for key, kind, numel, data in storages)
    described = b"".join(pickle.dumps((key, where, None), 2) +
                         struct.pack("<q%dq" % (2 * len(shape) + 1), len(shape), *shape, *strides, offset)
                         for key, where, shape, strides, offset in tensors)
    members = {"sys_info": pickle.dumps({"little_endian": True} if system is None else system, 2), "pickle": main,
               "tensors": pickle.dumps(len(tensors), 2) + described,
               "storages": pickle.dumps(len(storages), 2) + stored + pickle.dumps(list(views), 2)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as file:
        for name, data in members.items():
            if name not in without:
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(data), 1484500000.25  # a fraction makes a header of its own
                file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def by_key(key=9):
    """A storage or tensor of such an archive."""
    return text(str(key)) + b"Q"


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def patched(data, old, new):
    assert data.count(old) == 1 and len(old) == len(new), (data.count(old), old)
    return data.replace(old, new)


def central(data, entry, offset, new):
    """`data` with bytes of the central directory's record of `entry` replaced."""
    record = data.index(b"PK\x01\x02")
    while data[record + 46:record + 46 + len(entry)] != entry:
        record = data.index(b"PK\x01\x02", record + 4)
    return data[:record + offset] + new + data[record + offset + len(new):]


class ConverterTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.input = os.path.join(self.folder, "in.pth")
        self.output = os.path.join(self.folder, "out.safetensors")

    def write(self, data, path=None):
        with open(path or self.input, "wb") as file:
            file.write(data)

    def read(self):
        """{name: [dtype, shape, hex]} of the output, checksums verified."""
        with open(self.output, "rb") as file:
            data = file.read()
        length, = struct.unpack("<Q", data[:8])
        self.assertEqual(length % 8, 0)
        header = json.loads(data[8:8 + length])
        checksums = json.loads(header.pop("__metadata__")["crc32"])
        own = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        self.assertEqual(checksums.pop("__metadata__"), "%08x" % zlib.crc32(own))
        result = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            piece = data[8 + length + begin:8 + length + end]
            self.assertEqual(checksums.pop(name), "%08x" % zlib.crc32(piece))
            result[name] = [entry["dtype"], entry["shape"], piece.hex()]
        self.assertEqual(checksums, {})
        return result

    def call(self, *arguments):
        """(exit code, stderr) of the converter, run in this process."""
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = convert_torch.main(list(arguments))
            except SystemExit as ended:
                code = ended.code
        return code, errors.getvalue()

    def run_program(self, *arguments, **options):
        return subprocess.run([sys.executable, CONVERTER, *arguments],
                              **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})

    def refuse(self, data, expected=""):
        """Must end with 65 and one line that contains `expected`, and leave the old output as it was."""
        self.write(data)
        self.write(b"old", self.output)
        code, errors = self.call(self.input, self.output)
        self.assertEqual(code, 65, errors)
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assertLess(len(errors), 600)
        self.assertIn(self.input, errors)
        self.assertIn(expected, errors)
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), b"old")

    def accept(self, data, *arguments):
        self.write(data)
        code, errors = self.call(self.input, self.output, *arguments)
        self.assertEqual(code, 0, errors)
        return self.read()


class GoodFiles(ConverterTest):
    def test_files_of_pytorch(self):
        expected = json.loads(fixture("expected.json"))
        for name in ("legacy.pth", "zip.pth"):
            with self.subTest(name):
                self.assertEqual(self.accept(fixture(name)), expected)
                self.assertEqual(list(self.read()), list(expected))

    def test_training_checkpoint(self):
        self.write(fixture("checkpoint.pth"))
        code, errors = self.call(self.input, self.output)
        self.assertEqual(code, 0)
        self.assertIn("took model; --key takes model_ema", errors)
        self.assertEqual(set(self.read()), {"weight", "bias"})
        self.assertEqual(self.accept(fixture("checkpoint.pth"), "--key", "model_ema"),
                         {"weight": ["F32", [1, 2], "00" * 8]})

    def test_made_by_hand(self):
        expected = {"w": ["F32", [4], FLOATS.hex()]}
        self.assertEqual(self.accept(archive()), expected)
        self.assertEqual(self.accept(legacy(GOOD)), expected)
        for key in state_dicts.STATE_DICT_KEYS:
            nested = program(dictionary(("epoch", number(3)), (key, dictionary(("module.w", tensor())))))
            self.assertEqual(self.accept(archive(nested)), expected)

    def test_wrappers(self):
        table = [
            ("module.w", "w"), ("_orig_mod.w", "w"), ("module._orig_mod.w", "w"), ("_orig_mod.module.w", "w"),
            ("module.module.w", "w"), ("layer1._orig_mod.0.w", "layer1.0.w"), ("a.module.w", "a.module.w"),
            ("modules.w", "modules.w"), ("module", "module"), ("a._orig_mod._orig_mod.b._orig_mod.w", "a.b.w"),
            ("a._orig_mods.w", "a._orig_mods.w"),
        ]
        for name, expected in table:
            with self.subTest(name):
                made = self.accept(archive(program(dictionary((name, tensor()), ("n_averaged", tensor())))))
                self.assertEqual(list(made), [expected])

    def test_keys(self):
        good = dictionary(("w", tensor()))
        step = b"}" + number(0) + dictionary(("momentum_buffer", tensor())) + b"s"  # an optimizer's, under numbers
        only = program(dictionary(("acc", number(3)), ("mine", good), ("optimizer", dictionary(("state", step)))))
        deep = program(dictionary(("model", dictionary(("state_dict", good), ("n", number(1)))), ("a.b", good),
                                  ("a", dictionary(("c.d", good), ("b", b"N")))))
        circle = program(b"}q\x01" + text("net") + good + b"s" + text("self") + b"h\x01s")
        listed = program(b"](" + number(3) + good + dictionary(("x", number(1))) + b"e")
        expected = {"w": ["F32", [4], FLOATS.hex()]}
        self.refuse(archive(deep), '--key takes "a.b" or "model.state_dict" or "a.c.d"\n')
        for data, said in [(only, 'took "mine"'), (circle, ""), (listed, 'took "1"')]:
            self.assertEqual(self.accept(archive(data)), expected)
            self.assertIn(said, self.call(self.input, self.output)[1])
        self.assertEqual(self.accept(archive(circle), "--key", "net"), expected)
        self.assertEqual(self.accept(archive(listed), "--key", "1"), expected)
        for key in ("model.state_dict", "a.b", "a.c.d"):
            with self.subTest(key):
                self.assertEqual(self.accept(archive(deep), "--key", key), expected)
        for data, key, message in [(only, "acc", 'entry "acc" is not a state dict; --key takes "mine"'),
                                   (only, "model", 'there are: "acc", "mine", "optimizer"; --key takes "mine"'),
                                   (deep, "model", 'not a state dict; --key takes "a.b" or'),
                                   (deep, "model.w", 'no entry "model.w"'), (deep, ".", 'no entry "."')]:
            with self.subTest(key):
                self.write(archive(data))
                code, errors = self.call(self.input, self.output, "--key", key)
                self.assertEqual(code, 65, errors)
                self.assertIn(message, errors)

    def test_a_state_dict_that_is_not_whole(self):
        good = dictionary(("w", tensor()))
        bad = dictionary(("w", tensor()), ("x", name_of("my.net", "Thing") + b")R"))
        for entries, expected in [((("model", bad), ("model_ema", good)), 'in model: entry "x" is a my.net.Thing'),
                                  ((("model", dictionary(("w", tensor((5,))))), ("model_ema", good)),
                                   'in model: entry "w": _rebuild_tensor: element 4')]:
            self.refuse(archive(program(dictionary(*entries))), expected)
        self.assertEqual(list(self.accept(archive(program(dictionary(("model", bad)))), "--ignore-extra", "x")), ["w"])

    def test_prefixes(self):
        def made(*names):
            return archive(program(dictionary(*((name, tensor()) for name in names))))
        net = ("conv1.weight", "layer1.0.conv1.weight", "fc.weight")
        table = [
            ("a word", ["model.w", "model.v"], ["w", "v"]),
            ("two words", ["net.backbone.w", "net.backbone.v"], ["w", "v"]),
            ("not all", ["model.w", "v"], ["model.w", "v"]),
            ("not a word", ["features.0.weight", "features.0.bias"], ["features.0.weight", "features.0.bias"]),
            ("a network under any name", ["my.thing." + name for name in net], list(net)),
            ("and a head beside", ["backbone." + name for name in net[:2]] + ["fc.weight"], list(net)),
            ("wrapped", ["module.model." + name for name in net], list(net)),
            ("none", list(net), list(net)),
            ("a word without end", ["model." * 300_000 + name for name in "wv"],
             ["model." * (300_000 - state_dicts.MAX_KEY_DEPTH) + name for name in "wv"]),
            ("a wrapper without end", ["module." * 300_000 + name for name in "wv"], ["w", "v"]),
            ("a body under features", ["features.0.weight", "features.3.weight"],
             ["features.0.weight", "features.3.weight"]),
            ("counters", ["model.w", "n_averaged", "model.bn.num_batches_tracked"], ["w"]),
        ]
        for what, names, expected in table:
            with self.subTest(what):
                self.assertEqual(list(self.accept(made(*names))), expected)
                stripped = "stripped the prefix" in self.call(self.input, self.output)[1]
                self.assertEqual(stripped, what not in ("not all", "not a word", "none", "a body under features",
                                                          "a wrapper without end"))
        both = made(*("student." + name for name in net), *("teacher." + name for name in net))
        self.refuse(both, 'several networks, under "student.", "teacher.": --prefix takes one')
        for prefix in ("teacher", "teacher."):
            self.assertEqual(list(self.accept(both, "--prefix", prefix)), list(net))
        self.write(both)
        code, errors = self.call(self.input, self.output, "--prefix", "pupil")
        self.assertEqual((code, "they begin with" in errors), (65, True), errors)
        self.refuse(made("model." + net[0], "model." + net[1], net[2], "model." + net[2]), "two tensors get the name")

    def test_names_of_efficientnet_lite(self):
        def names_of(stages, spelled):
            """Of a network with so many blocks in each stage: as the port spells them, or as timm does."""
            parts = [("_conv_stem.weight", "conv_stem.weight"), ("_bn0.running_var", "bn1.running_var")]
            number = 0
            for stage, count in enumerate(stages):
                for block in range(count):
                    expands = stage > 0
                    pairs = (("_expand_conv", "conv_pw"), ("_bn0", "bn1"), ("_depthwise_conv", "conv_dw"), ("_bn1", "bn2"),
                             ("_project_conv", "conv_pwl"), ("_bn2", "bn3")) if expands else \
                        (("_depthwise_conv", "conv_dw"), ("_bn1", "bn1"), ("_project_conv", "conv_pw"), ("_bn2", "bn2"))
                    for theirs, ours in pairs:
                        parts.append(("_blocks.%d.%s.weight" % (number, theirs),
                                      "blocks.%d.%d.%s.weight" % (stage, block, ours)))
                    number += 1
            parts += [("_conv_head.weight", "conv_head.weight"), ("_bn1.bias", "bn2.bias"), ("_fc.weight", "classifier.weight")]
            return [theirs if spelled else ours for theirs, ours in parts]

        def made(names):
            return archive(program(dictionary(*((name, tensor()) for name in names))))

        for stages in ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1)):
            for prefix in ("", "module.", "backbone."):
                with self.subTest(stages=stages, prefix=prefix):
                    found = self.accept(made([prefix + name for name in names_of(stages, True)]))
                    self.assertEqual(list(found), names_of(stages, False))
                    self.assertIn("timm's names", self.call(self.input, self.output)[1])
            ours = names_of(stages, False)
            self.assertEqual(list(self.accept(made(ours))), ours)
        self.refuse(made(names_of((1, 2, 2, 3, 3, 4), True)), "an EfficientNet of 15 blocks")
        lite = names_of((1, 2, 2, 3, 3, 4, 1), True)
        self.refuse(made([name for name in lite if not name.startswith("_blocks.3.")]), "an EfficientNet of 15 blocks")
        # With squeeze-and-excitation it is another network, whose names are left to it.
        other = lite + ["_blocks.0._se_reduce.weight"]
        self.assertEqual(list(self.accept(made(other))), other)
        self.assertIn("squeeze-and-excitation", self.call(self.input, self.output)[1])

    def test_ignore_extra(self):
        data = archive(program(dictionary(("w", tensor()), ("head.a", tensor()), ("head.b", number(1)), ("x[0]", b"N"))))
        self.refuse(data, 'entry "head.b" is a int')
        self.assertEqual(list(self.accept(data, "--ignore-extra", "head.*", "--ignore-extra", "x[?]")), ["w"])
        code, errors = self.call(self.input, self.output, "--ignore-extra", "*")
        self.assertEqual(code, 65, errors)

    def test_tensors_that_are_left_out(self):
        def untyped(dtype, count, size=4):
            store = tuple_of(text("storage"), name_of("torch.storage", "UntypedStorage"), text("1"), text("cpu"),
                             number(size)) + b"Q"
            return (name_of("torch._utils", "_rebuild_tensor_v3") +
                    tuple_of(store, number(0), tuple_of(number(count)), tuple_of(number(1)), b"\x89", b"N",
                             name_of("torch", dtype)) + b"R")

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

    def test_rebuild_functions(self):
        floats = {"w": ["F32", [4], FLOATS.hex()]}
        plain = tensor()
        untyped = tuple_of(text("storage"), name_of("torch.storage", "UntypedStorage"), text("0"), text("cpu"),
                           number(16)) + b"Q"
        v3 = (name_of("torch._utils", "_rebuild_tensor_v3") +
              tuple_of(untyped, number(0), tuple_of(number(4)), tuple_of(number(1)), b"\x89", b"N",
                       name_of("torch", "float32")) + b"R")
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
            ("v3", v3), ("subclass", name_of("torch._tensor", "_rebuild_from_type_v2") +
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

    def test_list(self):
        self.write(archive())
        done = self.run_program(self.input, "--list")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"w F32 [4]\n", b""))
        self.assertEqual(os.listdir(self.folder), ["in.pth"])


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
        untyped = tuple_of(text("storage"), name_of("torch.storage", "UntypedStorage"), text("0"), text("cpu"),
                           number(16)) + b"Q"
        one = (name_of("torch._utils", "_rebuild_tensor_v3") +
               tuple_of(untyped, number(0), tuple_of(number(4)), tuple_of(number(1)), b"\x89", b"N",
                        name_of("torch", "float32")) + b"R")
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


class Pickles(ConverterTest):
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


class Containers(ConverterTest):
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


class Program(ConverterTest):
    def test_exit_codes(self):
        self.write(archive())
        missing = os.path.join(self.folder, "missing")
        other = tempfile.TemporaryDirectory()
        self.addCleanup(other.cleanup)
        pipe = os.path.join(other.name, "pipe")
        os.mkfifo(pipe)
        table = [
            ([], 64), ([self.input], 64), (["--unknown"], 64), ([self.input, self.output, "more"], 64),
            ([self.input, self.input], 64), ([self.input, "-"], 64), (["-", self.output], 64), ([self.input, ""], 64),
            ([self.input, self.output, "--keys", "a"], 64), ([self.input, self.output, "--ke", "a"], 64),
            ([self.input, self.output, "--key"], 64), ([self.input, self.output, "x" * 5000], 64),
            ([self.input, self.output, "--a\nb"], 64), ([missing * 99, self.output], 66),
            ([self.input, os.path.join(self.folder, "x" * 300)], 74), ([self.input, self.output], 0), (["--help"], 0),
            ([self.input, self.output, "--key", "model"], 65), ([missing, self.output], 66),
            ([self.folder, self.output], 66), ([self.input, os.path.join(missing, "out")], 74),
            ([pipe, self.output], 66), (["/dev/zero", self.output], 66), ([self.input, self.folder], 74), ([self.input, "/dev/null"], 74),
        ]
        for arguments, expected in table:
            with self.subTest(arguments):
                done = self.run_program(*arguments)
                self.assertEqual(done.returncode, expected, done.stderr)
                self.assertEqual(done.stderr.count(b"\n"), int(expected != 0), done.stderr)
                self.assertLess(len(done.stderr), 600)
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])

    def test_write_fails(self):
        self.write(archive())
        self.write(b"old", self.output)
        done = self.run_program(self.input, self.output,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
        self.assertEqual(done.returncode, 74, done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), b"old")

    def test_standard_output_fails(self):
        self.write(archive())
        with open("/dev/full", "wb") as full:
            done = self.run_program(self.input, "--list", stdout=full)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (74, 1), done.stderr)
        done = self.run_program(self.input, "--list", preexec_fn=lambda: os.close(1))
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (74, 1), done.stderr)

    def test_names_of_files(self):
        self.write(archive())
        code, errors = self.call(self.input, os.path.join(self.folder, "no", "out"))
        self.assertEqual(code, 74)
        self.assertTrue(errors.endswith("/no/out: cannot write: No such file or directory\n"), errors)
        for name in ("x" * 255, "\u00e9" * 127):
            self.output = os.path.join(self.folder, name)
            self.assertEqual(self.call(self.input, self.output), (0, ""))
            self.assertEqual(list(self.read()), ["w"])

    def test_a_folder_that_may_not_be_read(self):
        self.write(archive())
        actual = os.open
        for kind, code in ((PermissionError(13, "Permission denied"), 0), (OSError(5, "Input/output error"), 74)):
            def refused(path, flags, *more, error=kind, **options):
                if flags == os.O_RDONLY and path == self.folder:
                    raise error
                return actual(path, flags, *more, **options)
            with unittest.mock.patch("os.open", refused), unittest.mock.patch("os.dup2"):
                self.assertEqual(self.call(self.input, self.output)[0], code)
            self.assertEqual(list(self.read()), ["w"])

    def test_standard_error_fails(self):
        self.write(archive(program(dictionary(("model.w", tensor())))))
        expected = b"w F32 [4]\n"
        with open("/dev/full", "wb") as full:
            for options in ({"stderr": full}, {"preexec_fn": lambda: os.close(2)}):
                done = self.run_program(self.input, self.output, "--list", **options)
                self.assertEqual((done.returncode, done.stdout), (0, expected))
                self.assertEqual(self.run_program(self.input, **options).returncode, 64)
                self.assertEqual(self.run_program(self.input + "x", self.output, **options).returncode, 66)

    def test_stopped_by_a_signal(self):
        self.write(archive())
        self.write(b"old", self.output)
        stopping = ("import os, runpy, signal, sys; fsync = os.fsync; "
                    "os.fsync = lambda fd: os.kill(os.getpid(), %d) or fsync(fd); "
                    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')")
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(one):
                done = subprocess.run([sys.executable, "-c", stopping % one, CONVERTER, self.input, self.output],
                                      stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(one, signal.SIG_DFL))
                self.assertEqual((done.returncode, done.stderr), (-one, b""))
                self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])
                with open(self.output, "rb") as file:
                    self.assertEqual(file.read(), b"old")

    def test_temporary_of_a_killed_process(self):
        self.write(archive())
        self.write(b"left", os.path.join(self.folder, ".out.safetensors.tmp.%d" % os.getpid()))
        self.assertEqual(self.call(self.input, self.output)[0], 0)
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])


class Layers(unittest.TestCase):
    def test_check_layers(self):
        done = subprocess.run([sys.executable, os.path.join(TOOLS, "check_layers.py"), "--self-test"])
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
