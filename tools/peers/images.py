"""An image folder as training data through Pillow: torchvision's decode, RandomResizedCrop and horizontal flip."""

import itertools
import math
import random
from pathlib import Path

import numpy
from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png"}
SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)

# Bytes an epoch decodes at least: starting its workers must not count.
LONG_EPOCH = 5 << 28


def crop_box(width, height, rng):
    """(left, top, width, height) as torchvision's RandomResizedCrop.get_params draws it."""
    for _ in range(10):
        area = width * height * rng.uniform(*SCALE)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, width - w), rng.randint(0, height - h), w, h
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (width - w) // 2, (height - h) // 2, w, h


def training_image(path, size, rng):
    """H x W x 3 bytes."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    left, top, width, height = crop_box(*image.size, rng)
    image = image.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return numpy.array(image)


def training_files(root):
    files = sorted(p for p in (Path(root) / "train").glob("*/*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{root}: expected images in train/CLASS/, found none")
    return files


def decoded_bytes(files, limit):
    """Of all files together, from their headers; stops at the limit."""
    total = 0
    for path in itertools.takewhile(lambda _: total < limit, files):
        with Image.open(path) as file:
            total += 3 * file.width * file.height
    return total


def repeat(root, folder, limit=LONG_EPOCH):
    """Links each training image of root into folder so often that the pixels make `limit` bytes; returns how often."""
    root, folder = Path(root).resolve(), Path(folder)
    files = training_files(root)
    copies = math.ceil(limit / decoded_bytes(files, limit))
    folder.mkdir()
    for split in ("train", "val", "test"):
        if (root / split).is_dir() and (split != "train" or copies == 1):
            (folder / split).symlink_to(root / split)
    for path, copy in itertools.product(files, range(copies) if copies > 1 else ()):
        link = folder / "train" / path.parent.name / f"{path.stem}-{copy}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return copies


class Folder:
    """The images under ROOT/train for torch's DataLoader, which seeds `random` in each worker."""

    def __init__(self, root, size):
        self.paths = training_files(root)
        self.size = size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return training_image(self.paths[index], self.size, random)


def self_test():
    rng = random.Random(1)
    for width, height in ((500, 375), (32, 32), (1000, 20), (20, 1000), (1, 1)):
        for _ in range(100):
            left, top, w, h = crop_box(width, height, rng)
            assert w > 0 and h > 0 and left >= 0 and top >= 0 and left + w <= width and top + h <= height
    assert crop_box(1000, 20, rng)[2:] == (27, 20), "a wide image falls back to the largest 4:3 box"
