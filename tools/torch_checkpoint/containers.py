"""The files of torch.save: the zip archive, the sequence of pickles before it, and the tar archive of PyTorch 0.1."""
import errno
import io
import os
import stat
import struct
import zipfile

from .messages import Refused, brief, cause_of, is_count, require, shown
from .values import FOREIGN, Global, Opaque, STORAGES, Storage, kind_of
from .stand_ins import Copies, MAX_RANK, STAND_INS, rebuild_tensor, spend
from .machine import MAX_PICKLE_BYTES, run_pickle

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

# Far beyond any honest archive.
MAX_ENTRIES = 200_000
MAX_DIRECTORY_BYTES = 32 << 20


class Storages:
    """The storages mentioned by a pickle, each with one type and size."""

    def __init__(self):
        self.known = {}

    def __call__(self, identity):
        if type(identity) is tuple and len(identity) == 4 and identity[0] == "module" and \
                type(identity[1]) in (Global, Opaque):
            return identity[1]  # a class, with its source
        require(type(identity) is tuple and len(identity) in (5, 6) and identity[0] == "storage",
                "expected a storage as persistent id")
        _, kind, key, _, numel = identity[:5]
        require(type(kind) is Global, "a storage of type " + kind_of(kind))
        require(type(key) is str and is_count(numel), "a storage without key or size")
        first = self.known.setdefault(key, Storage(key, kind.name, numel, 0, numel))
        require((first.kind, first.numel) == (kind.name, numel),
                "storage %s is mentioned with two types or sizes" % shown(key))
        view = identity[5] if len(identity) == 6 else None
        if view is None:
            return first
        require(type(view) is tuple and len(view) == 3 and is_count(view[1]) and is_count(view[2]) and
                view[1] + view[2] <= numel, "storage %s: a view beyond its end" % shown(key))
        return Storage(key, kind.name, numel, view[1], view[2])


class LegacyFile:
    """magic number, version, system, object, list of keys (five pickles); per key an i64 count and the elements."""

    inside = False  # a storage is being read that a pickle holds

    def __init__(self, file, size):
        self.file = file
        first = run_pickle(file, size, limit=size)
        if isinstance(first, (dict, list, tuple)) and not LegacyFile.inside:  # a plain pickle: all is in it
            require(file.tell() == size, "%d bytes after the pickle" % (size - file.tell()))
            self.root, self.starts = first, {}
            return
        require(type(first) is int and first == MAGIC_NUMBER, "expected PyTorch's magic number")
        version = run_pickle(file, size)
        require(version == PROTOCOL_VERSION, "expected version %d, found another" % PROTOCOL_VERSION)
        system = run_pickle(file, size)
        require_little_endian(system)
        storages = Storages()
        self.root = run_pickle(file, size, storages)
        keys = run_pickle(file, size)
        require(type(keys) is list and all(type(key) is str for key in keys) and len(set(keys)) == len(keys),
                "expected a list of different storage keys")
        require(set(keys) == set(storages.known), "the list of storage keys does not match the pickle")

        self.starts = {}
        position = file.tell()
        for key in keys:
            storage = storages.known[key]
            require(storage.kind in STORAGES or storage.kind in FOREIGN,
                    "a storage of type %s, of unknown size" % shown(storage.kind))
            file.seek(position)
            header = file.read(8)
            require(len(header) == 8, "the file ends before storage %s" % shown(key))
            count, = struct.unpack("<q", header)
            require(count == storage.numel, "storage %s at byte %d: expected %s elements, found %s"
                    % (shown(key), position, brief(storage.numel), brief(count)))
            self.starts[key] = position + 8
            position += 8 + count * storage.itemsize
            require(position <= size, "the file ends within storage %s: expected %s bytes, found %d"
                    % (shown(key), brief(position), size))
        require(position == size, "%d bytes after the last storage" % (size - position))

    def read(self, storage):
        """All bytes of the object that the storage is, or is a view of."""
        if storage.data is not None:
            return storage.data
        self.file.seek(self.starts[storage.key])
        return self.file.read(storage.stored_numel * storage.itemsize)


def load_from_bytes(*arguments):
    # A storage in a pickle that is not torch.save's.
    require(len(arguments) == 1 and type(arguments[0]) is bytes, "_load_from_bytes: expected bytes")
    require(not LegacyFile.inside, "_load_from_bytes: a storage within a storage")
    spend(len(arguments[0]))
    LegacyFile.inside = True
    try:
        inner = LegacyFile(io.BytesIO(arguments[0]), len(arguments[0]))
    finally:
        LegacyFile.inside = False
    storage = inner.root
    require(type(storage) is Storage, "_load_from_bytes: expected a storage, found " + kind_of(storage))
    data = bytes(storage.part_of(inner.read(storage)))
    return Storage(object(), storage.kind, storage.numel, 0, storage.numel, data=data)


STAND_INS["torch.storage._load_from_bytes"] = load_from_bytes


class TarFile:
    """The archive of PyTorch 0.1, which torchvision's first ResNets are.
    storages: their number; per storage (key, place, type) as a pickle, an i64 count and the elements; list of views.
    tensors: their number; per tensor (key, storage, type) as a pickle, i32 rank, 4 bytes, i64 shape, strides, offset.
    pickle: the object, with keys of storages and tensors as persistent ids."""

    read = LegacyFile.read

    def __init__(self, file, size):
        self.file = file
        self.members = self.members_of(file, size)
        for name in ("storages", "tensors", "pickle"):
            inner = next(iter(self.members), "nothing")
            require(name in self.members,
                    "expected a PyTorch checkpoint, found a tar archive that holds %s: unpack it" % shown(inner, 60))
        if "sys_info" in self.members:
            require_little_endian(self.next_pickle(self.seek("sys_info")))
        self.starts, self.objects = {}, {}
        self.read_storages(self.seek("storages"))
        self.read_tensors(self.seek("tensors"))
        self.root = self.next_pickle(self.seek("pickle"), self.persistent_load)

    @staticmethod
    def members_of(file, size):
        """{name: (start, end)} of the first regular files."""
        members, position = {}, 0
        for _ in range(100):
            file.seek(position)
            block = file.read(512)
            if not block.strip(b"\0"):
                break
            fields = [block[at:at + length].strip(b" \0") or b"0" for at, length in ((124, 12), (148, 8))]
            require(len(block) == 512 and all(set(field) <= set(b"01234567") for field in fields) and
                    sum(block[:148]) + 8 * 32 + sum(block[156:]) == int(fields[1], 8),
                    "malformed tar archive: the header at byte %d" % position)
            start, length = position + 512, int(fields[0], 8)
            position = start + (length + 511) // 512 * 512
            name = block[:100].rstrip(b"\0").decode("utf-8", "replace")
            if block[156:157] in (b"0", b"\0"):
                require(start + length <= size, "the file ends within %s: expected %d bytes, found %d"
                        % (shown(name), start + length, size))
                require(name not in members, "tar archive: %s is there twice" % shown(name))
                members[name] = (start, start + length)
        return members

    def seek(self, name):
        start, end = self.members[name]
        self.file.seek(start)
        return end

    def next_pickle(self, end, persistent_load=None):
        return run_pickle(self.file, end, persistent_load)

    def next_numbers(self, end, layout):
        data = self.file.read(min(struct.calcsize(layout), max(0, end - self.file.tell())))
        require(len(data) == struct.calcsize(layout), "a member of the tar archive ends too early")
        return struct.unpack(layout, data)

    def next_row(self, end, what, keys):
        """The (key, _, _) before each storage and tensor."""
        row = self.next_pickle(end)
        require(type(row) is tuple and len(row) == 3 and is_count(row[0]) and row[0] not in keys,
                "expected the key and type of a %s" % what)
        return row

    def read_storages(self, end):
        count = self.next_pickle(end)
        require(is_count(count), "expected the number of storages")
        for _ in range(count):
            key, _, kind = self.next_row(end, "storage", self.objects)
            require(type(kind) is Global and (kind.name in STORAGES or kind.name in FOREIGN),
                    "a storage of type %s, of unknown size" % kind_of(kind))
            numel, = self.next_numbers(end, "<q")
            storage = Storage(key, kind.name, numel, 0, numel)
            self.starts[key] = self.file.tell()
            require(0 <= numel * storage.itemsize <= end - self.starts[key], "storage %d reaches beyond its end" % key)
            self.file.seek(self.starts[key] + numel * storage.itemsize)
            self.objects[key] = storage
        views = self.next_pickle(end)
        require(type(views) is list, "expected a list of views of storages")
        for view in views:
            require(type(view) is tuple and len(view) == 4 and all(map(is_count, view)) and
                    view[0] not in self.objects and type(self.objects.get(view[1])) is Storage and view[2] + view[3] <= self.objects[view[1]].numel,
                    "a view of a storage beyond its end")
            root = self.objects[view[1]]
            self.objects[view[0]] = Storage(root.key, root.kind, root.stored_numel, root.start + view[2], view[3])

    def read_tensors(self, end):
        count = self.next_pickle(end)
        require(is_count(count), "expected the number of tensors")
        for _ in range(count):
            key, where, _ = self.next_row(end, "tensor", self.objects)
            rank, _ = self.next_numbers(end, "<ii")
            require(0 <= rank <= MAX_RANK, "a tensor of %d dimensions" % rank)
            numbers = self.next_numbers(end, "<%dq" % (2 * rank + 1))
            storage = self.objects.get(where) if is_count(where) else None
            try:
                self.objects[key] = rebuild_tensor(storage, numbers[-1], numbers[:rank], numbers[rank:-1])
            except Refused as error:
                self.objects[key] = Opaque("tensor", error.with_traceback(None))

    def persistent_load(self, identity):
        if type(identity) is tuple and identity and type(identity[0]) in (Global, Opaque):
            return identity[0]  # a class, with its source
        key = int(identity) if type(identity) is str and identity.isdecimal() else None
        require(key in self.objects, "a persistent id of no storage and no tensor")
        return self.objects[key]


BIG_ENDIAN = "expected the file of a little-endian machine (torch.load reads others: save it again)"


def require_little_endian(system):
    require(type(system) is dict and system.get("little_endian") is True, BIG_ENDIAN)


class ZipFile:
    """An archive of stored entries: NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder and others."""

    def __init__(self, file, size):
        try:
            # Before the whole directory is read.
            end = zipfile._EndRecData(file) if hasattr(zipfile, "_EndRecData") else None
            require(not end or end[5] <= MAX_DIRECTORY_BYTES, "a zip archive whose directory has %d bytes"
                    % (end[5] if end else 0))
            self.archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
            raise Refused("malformed zip archive: %s" % cause_of(error)) from None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Older versions of zipfile seek to negative places.
            raise Refused("malformed zip archive: an offset outside of the file") from None
        kind = archive_kind(self.archive.namelist())
        require(not kind, "expected a PyTorch checkpoint, found " + kind)
        self.entries = self.validated(self.archive.infolist(), size)
        pickles = [name for name in self.entries if name.endswith("/data.pkl") and name.count("/") == 1]
        require(len(pickles) == 1, "expected one NAME/data.pkl in the archive, found %d" % len(pickles))
        self.folder = pickles[0][:-len("data.pkl")]
        order = self.folder + "byteorder"
        require(order not in self.entries or self.contents(order, 64) == b"little", BIG_ENDIAN)

        storages = Storages()
        data = self.contents(pickles[0], MAX_PICKLE_BYTES)
        self.root = run_pickle(io.BytesIO(data), len(data), storages)
        for key, storage in storages.known.items():
            entry = self.entries.get(self.folder + "data/" + key)
            require(entry, "storage %s is not in the archive" % shown(key))
            untyped = storage.kind.endswith(".UntypedStorage")
            require(entry.file_size == storage.numel * storage.itemsize or (storage.dtype is None and not untyped),
                    "storage %s: expected %s bytes, found %d"
                    % (shown(key), brief(storage.numel * storage.itemsize), entry.file_size))

    @staticmethod
    def validated(infos, size):
        require(len(infos) <= MAX_ENTRIES, "more than %d entries" % MAX_ENTRIES)
        entries = {}
        end = 0
        for info in sorted(infos, key=lambda one: one.header_offset):
            entry = "archive entry " + shown(info.filename)
            require(not info.flag_bits & 0x41, entry + " is encrypted")
            require(info.compress_type == zipfile.ZIP_STORED,
                    entry + " is compressed: unpack the archive, and pack its folder with zip -0 -r")
            # orig_filename: ZipInfo cuts a name at a zero byte. A colon may be there: torch.save calls the folder like
            # the file ("12:30:00.pth").
            parts = info.orig_filename.split("/")
            require(not info.filename.startswith("/") and ".." not in parts and
                    not any(c in info.orig_filename for c in "\\\0"), entry + " leaves the archive")
            require(not stat.S_ISLNK(info.external_attr >> 16), entry + " is a link")
            require(info.filename not in entries, entry + " is there twice")
            require(info.file_size == info.compress_size, entry + " has two sizes")
            require(info.header_offset >= end, entry + " overlaps another")
            require(end or info.header_offset == 0, "the archive does not start the file")
            end = info.header_offset + 30 + info.file_size
            require(end <= size, entry + " reaches beyond the end of the file")
            entries[info.filename] = info
        return entries

    def contents(self, name, limit=None):
        info = self.entries[name]
        require(limit is None or info.file_size <= limit, "archive entry %s has %d bytes" % (shown(name),
                                                                                           info.file_size))
        try:
            data = self.archive.read(info)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as error:
            raise Refused("archive entry %s: %s" % (shown(name), cause_of(error))) from None
        require(len(data) == info.file_size, "archive entry %s is cut short" % shown(name))
        return data

    def read(self, storage):
        if storage.data is not None:
            return storage.data
        return self.contents(self.folder + "data/" + storage.key)


def archive_kind(names):
    """What else a zip archive is than a checkpoint, by the names of its entries; empty for what is not known."""
    def has(*ends):
        return any(name.endswith(ends) for name in names)
    if has("/archive_format", "serialized_exported_program.json") or any("/models/" in name for name in names):
        return "a .pt2 archive of torch.export: only state dicts can be converted (save model.state_dict())"
    if any("/code/" in name or name.startswith("code/") for name in names) or has("/constants.pkl"):
        return "a TorchScript archive: only state dicts can be converted (save model.state_dict())"
    if has("/data.pkl"):
        return ""
    if has(".npy"):
        return "an archive of NumPy arrays (.npz): torch.save a dict of them"
    if has("model.weights.h5"):
        return "a Keras model"
    inner = [name for name in names if name.endswith((".pth", ".pt", ".th", ".ckpt", ".bin", ".safetensors"))]
    if inner:
        return "a zip archive that holds %s: unpack it" % shown(inner[0], 60)
    return ""


# core/file_kind.cpp has the same table.
KINDS = (
    (b"version https://git-lfs", "a git LFS pointer, not the file itself: run git lfs pull"),
    (b"\x1f\x8b", "a gzip file: unpack it with gunzip"),
    (b"BZh", "a bzip2 file: unpack it with bunzip2"),
    (b"\xfd7zXZ\0", "an xz file: unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file: unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (of Keras?)"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"GGUF", "a GGUF file"),
    (b"%PDF", "a PDF file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)


def file_kind(start, size):
    """What a file is that begins so and is no checkpoint; empty for what is not known."""
    for magic, kind in KINDS:
        if start.startswith(magic):
            return kind
    if len(start) > 8 and 2 <= int.from_bytes(start[:8], "little") <= size - 8 and start[8:9] == b"{":
        return "a safetensors file: faq reads it as it is"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if len(start) > 4 and start[0] == 8 and 0 < start[1] < 32 and start[2] in (0x12, 0x3A, 0x42):
        return "an ONNX model"
    text = start[3:] if start.startswith(b"\xef\xbb\xbf") else start
    text = text.lstrip()[:16].lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page: the download gave a page, not the file"
    if text.startswith(b"<?xml"):
        return "an XML document: the download gave an error, not the file?"
    if text.startswith((b"{", b"[")):
        return "JSON text (an index of several files, or a configuration?)"
    if start and not start.strip(b"\0"):
        return "nothing but zeros: the download or the copy is damaged"
    if not start:
        return "an empty file"
    return ""


def open_checkpoint(file):
    size = os.fstat(file.fileno()).st_size
    Copies.left = size
    start = file.read(512)
    file.seek(0)
    if start.startswith(b"PK"):
        return ZipFile(file, size)
    if start[257:262] == b"ustar":
        return TarFile(file, size)
    # Protocols 0 and 1 have no mark of their own: a pickle of a container begins with "(" or "}" or a name.
    if start[:1] != b"\x80" and not (start[:1] in (b"(", b"}", b"c") and file_kind(start, size) == ""):
        raise Refused("expected a PyTorch checkpoint (a zip archive or a pickle), found %s"
                      % (file_kind(start, size) or "something else"))
    return LegacyFile(file, size)
