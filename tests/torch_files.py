"""Checkpoints of PyTorch made by hand, and what tests of the converter share."""
import contextlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tempfile
import unittest
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
from torch_checkpoint import containers  # noqa: E402


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


def untyped_tensor(dtype="float32", count=4, key="0", size=16):
    """As newer versions of PyTorch write one: of a storage of `size` bytes that has no type."""
    store = tuple_of(text("storage"), name_of("torch.storage", "UntypedStorage"), text(key), text("cpu"), number(size)) + b"Q"
    return (name_of("torch._utils", "_rebuild_tensor_v3") +
            tuple_of(store, number(0), tuple_of(number(count)), tuple_of(number(1)), b"\x89", b"N",
                     name_of("torch", dtype)) + b"R")


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
