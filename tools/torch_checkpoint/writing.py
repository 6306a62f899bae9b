"""The safetensors file."""
import contextlib
import errno
import json
import os
import struct
import zlib

from .messages import require
from .elements import dense_bytes


def header_text(tensors, metadata):
    header = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [end, end + tensor.bytes]}
        end += tensor.bytes
    return json.dumps(header, ensure_ascii=False, separators=(",", ":"))


def header_bytes(tensors, checksums):
    """The header, with CRC-32 checksums as core/safetensors.h describes them. Its length does not depend on them."""
    own = zlib.crc32(header_text(tensors, {}).encode())
    entry = {"__metadata__": "%08x" % own}
    entry.update((name, "%08x" % checksums.get(name, 0)) for name in tensors)
    metadata = {"crc32": json.dumps(entry, ensure_ascii=False, separators=(",", ":"))}
    text = header_text(tensors, metadata).encode()
    text += b" " * (-len(text) % 8)
    require(len(text) <= 100_000_000, "a header of %d bytes" % len(text))
    return struct.pack("<Q", len(text)) + text


def write_tensors(out, checkpoint, tensors):
    checksums, starts, storages = {}, {}, {}
    end = out.write(header_bytes(tensors, checksums))
    for name, tensor in tensors.items():
        starts[name] = end
        end += tensor.bytes
        storages.setdefault(tensor.storage.key, len(storages))
    held, stored = None, b""
    # Those of one storage after one another: it is read once, whoever stands between them in the file.
    for name, tensor in sorted(tensors.items(), key=lambda item: storages[item[1].storage.key]):
        if held != tensor.storage.key:
            stored = None  # before the next one takes its memory
            stored, held = checkpoint.read(tensor.storage), tensor.storage.key
        converted = dense_bytes(tensor, tensor.storage.part_of(stored))
        checksums[name] = zlib.crc32(converted)
        out.seek(starts[name])
        out.write(converted)
    out.seek(0)
    out.write(header_bytes(tensors, checksums))


def write_atomically(path, write):
    """The old file or the complete new one, whatever happens in between."""
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EEXIST, "exists and is not a regular file", path)
    name = os.fsdecode(os.fsencode(name)[:200])  # the longest names have no room for more
    temporary = os.path.join(folder, ".%s.tmp.%d" % (name, os.getpid()))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    try:
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileExistsError:  # left by a killed process that had our process id
            os.unlink(temporary)
            descriptor = os.open(temporary, flags, 0o666)
    except OSError as error:  # of the name that people know
        raise OSError(error.errno, "cannot write: " + error.strerror, path) from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # The file is there. That its name is on the disk, too, cannot be asked of folders that may not be read, and of some
    # file systems.
    try:
        directory = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise OSError(error.errno, error.strerror, folder) from None
    finally:
        os.close(directory)
