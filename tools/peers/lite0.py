"""EfficientNet-Lite0 on photographs, by PyTorch and Pillow: what faq-eval's predictions are compared with.

    lite0.py WEIGHTS.safetensors FOLDER --class-names FILE [--json FILE] [--symmetric]

WEIGHTS as tools/convert_torch.py makes them of the published file. FOLDER has a folder of images for each class, named as in
the first column of FILE, which has a line for each of the 1000 classes. Images: the shorter side to 256 (bicubic), the
middle 224 x 224, (byte - 127) / 128. Needs torch, numpy and pillow (12: version 13 resizes some shapes in another order).
"""

import argparse
import json
import pathlib
import struct
import sys

import numpy as np
import torch
from PIL import Image
from torch import nn

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures"))
import efficientnet_lite  # noqa: E402


def read_weights(path):
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    state = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + length + begin : 8 + length + end], "<f4")
            state[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    return state


def pixels_of(path, resize=256, crop=224):
    image = Image.open(path).convert("RGB")
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(resize * long / short)
    size = (resize, other) if width <= height else (other, resize)
    image = image.resize(size, Image.BICUBIC)
    left, top = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)), np.float32)
    return torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("folder")
    parser.add_argument("--class-names", required=True)
    parser.add_argument("--json", help="write the predicted class of each image")
    parser.add_argument("--symmetric", action="store_true", help='pad alike at all sides instead of "SAME"')
    options = parser.parse_args()

    names = [line.split()[0] for line in pathlib.Path(options.class_names).read_text().splitlines() if line.strip()]
    state = read_weights(options.weights)
    model = efficientnet_lite.EfficientNetLite("efficientnet_lite0", len(names))
    print(model.load_state_dict(state, strict=False))
    if options.symmetric:
        for module in model.modules():
            if isinstance(module, efficientnet_lite.SameConv2d):
                module.padding = tuple(k // 2 for k in module.kernel_size)
                module.forward = nn.Conv2d.forward.__get__(module)
    model.eval()

    files = sorted(path for path in pathlib.Path(options.folder).glob("*/*") if path.is_file())
    predictions, right, right5 = {}, 0, 0
    with torch.inference_mode():
        for begin in range(0, len(files), 32):
            batch = files[begin : begin + 32]
            best = model(torch.stack([pixels_of(path) for path in batch])).topk(5).indices.tolist()
            for path, five in zip(batch, best):
                label = names.index(path.parent.name)
                right += five[0] == label
                right5 += label in five
                predictions[str(path.relative_to(options.folder))] = five[0]
    print(f"{len(files)} images, top-1 {right} ({100 * right / len(files):.3f} %), top-5 {right5} ({100 * right5 / len(files):.3f} %)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(predictions))


if __name__ == "__main__":
    main()
