"""Data sets that tests make, and the files that runs leave: for tests and campaigns."""
import gzip
import json
import os
import random
import struct
import tarfile
import zlib


def tensors_of(path):
    """{name: (dtype, shape, bytes)} of a safetensors file."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length:]
    return {name: (entry["dtype"], tuple(entry["shape"]), body[slice(*entry["data_offsets"])])
            for name, entry in header.items()}


def damage_of(path):
    """What is wrong with a safetensors file of faq; empty: it is whole, and its checksums are right."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < 8 or len(data) - 8 < struct.unpack("<Q", data[:8])[0]:
        return "cut short: %d bytes" % len(data)
    (length,) = struct.unpack("<Q", data[:8])
    try:
        header = json.loads(data[8:8 + length])
        checksums = json.loads(header.pop("__metadata__")["crc32"])
    except (ValueError, KeyError) as error:
        return "its header: %r" % error
    body = data[8 + length:]
    end = max([entry["data_offsets"][1] for entry in header.values()], default=0)
    if end != len(body):
        return "%d bytes of data, expected %d" % (len(body), end)
    for name, entry in header.items():
        found = "%08x" % zlib.crc32(body[slice(*entry["data_offsets"])])
        if checksums[name] != found:
            return "%s: CRC-32 %s, expected %s" % (name, found, checksums[name])
    return ""


def write_cifar(folder, training=193, validation=47, seed=1):
    """CIFAR-10's files. Neither number is a multiple of the ranks, or of a shard."""
    os.makedirs(folder)
    draw = random.Random(seed)

    def entry(label):
        return bytes([label]) + bytes((draw.randrange(128) + 12 * label) & 255 for _ in range(3072))

    entries = [entry(i % 10) for i in range(training + validation)]
    for part in range(5):
        with open(os.path.join(folder, "data_batch_%d.bin" % (part + 1)), "wb") as file:
            file.write(b"".join(entries[part:training:5]))
    with open(os.path.join(folder, "test_batch.bin"), "wb") as file:
        file.write(b"".join(entries[training:]))


def write_png(path, value, size=32):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes((value + 7 * x) & 255 for x in range(3 * size))) * size
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)) +
                   chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_images(folder, training, validation, size=8, classes="abc"):
    """An image folder."""
    for i in range(training + validation):
        split = "train" if i < training else "val"
        write_png(os.path.join(folder, split, classes[i % len(classes)], "%03d.png" % i), 11 * i, size)


def write_tar(folder, training, validation):
    """The same in two shards for training and one for validation."""
    write_images(folder, training, validation)
    for split, shards in (("train", 2), ("val", 1)):
        files = sorted(os.path.join(path, name) for path, _, names in os.walk(os.path.join(folder, split)) for name in names)
        for shard in range(shards):
            with tarfile.open(os.path.join(folder, "%s-%d.tar" % (split, shard)), "w") as tar:
                for file in files[shard::shards]:
                    tar.add(file, os.path.relpath(file, os.path.join(folder, split)))
        for path, _, names in os.walk(os.path.join(folder, split), topdown=False):
            for name in names:
                os.remove(os.path.join(path, name))
            os.rmdir(path)


def write_idx(folder, training, validation, size=8):
    """MNIST's files; the images are compressed."""
    os.makedirs(folder)
    for name, count, first in (("train", training, 0), ("t10k", validation, training)):
        labels = bytes((first + i) % 3 for i in range(count))
        pixels = bytes((11 * (first + i) + 7 * x) & 255 for i in range(count) for x in range(size * size))
        with gzip.open(os.path.join(folder, name + "-images-idx3-ubyte.gz"), "wb") as file:
            file.write(struct.pack(">IIII", 0x803, count, size, size) + pixels)
        with open(os.path.join(folder, name + "-labels-idx1-ubyte"), "wb") as file:
            file.write(struct.pack(">II", 0x801, count) + labels)
