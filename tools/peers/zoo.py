#!/usr/bin/env python3
"""Every network of torchvision's that we have, all the way: torchvision's state dict -> torch.save -> convert_torch.py ->
faq-eval --predict on images, against torchvision's own probabilities for the same files.

    python3 tools/peers/zoo.py [--faq-eval build/faq-eval] [--networks resnet18 ...] [--images FILE ...]

Needs torch, torchvision and pillow. Weights are torchvision's random ones with random batch-norm statistics, from --seed.
Every second file is saved as from DataParallel (names with "module."). Prints, per network, the largest difference of the
logarithms of the five best probabilities, as a share of the logits' spread; ends with 1 if one is above 1e-4 or if another
class comes first."""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
from importlib import util

if missing := [m for m in ("torch", "torchvision", "PIL") if util.find_spec(m) is None]:
    sys.exit("zoo.py: not installed: " + ", ".join(missing))

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from torchvision_cpu import models, transforms  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
NETWORKS = """resnet18 resnet34 resnet50 resnet101 resnet152 vgg11_bn vgg13_bn vgg16_bn vgg19_bn alexnet
densenet121 densenet161 densenet169 densenet201 inception_v3""".split()
IMAGES = [ROOT / "tests" / "fixtures" / "images" / name for name in ("rgb.png", "rgb420.jpg", "progressive.jpg")]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TOLERANCE = 1e-4
SPREAD = 10


def network(name, seed, batch):
    """Its classifier scaled so that logits are 10 apart, as a trained one's are: no probability is 0."""
    torch.manual_seed(seed)
    options = {"init_weights": True, "transform_input": True} if name == "inception_v3" else {}
    model = getattr(models, name)(weights=None, **options).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.1)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    classifier = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        spread = model(batch).aminmax()
        for parameter in classifier.parameters():
            parameter.mul_(SPREAD / (spread.max - spread.min))
    return model


def images(files, resize, crop):
    transform = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop), transforms.ToTensor(),
                                    transforms.Normalize(MEAN, STD)])
    return torch.stack([transform(Image.open(file).convert("RGB")) for file in files])


def theirs(model, batch):
    """The logarithms of the probabilities."""
    with torch.inference_mode():
        return model.double()(batch.double()).log_softmax(1)


def ours(model, name, files, faq_eval, folder, data_parallel):
    """For each file the best classes with their probabilities, [{"index", "probability"}]."""
    prefix = "module." if data_parallel else ""
    saved, weights = folder / "weights.pth", folder / "weights.safetensors"
    torch.save({prefix + key: tensor for key, tensor in model.state_dict().items()}, saved)
    subprocess.run([sys.executable, ROOT / "tools" / "convert_torch.py", saved, weights], check=True, stdout=subprocess.DEVNULL)
    run = subprocess.run([faq_eval, "--weights", weights, "--model", name, "--json", "--predict", *files],
                         check=True, stdout=subprocess.PIPE, text=True)
    return [row["top5"] for row in json.loads(run.stdout)["predictions"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faq-eval", default=ROOT / "build" / "faq-eval")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS, metavar="NETWORK")
    parser.add_argument("--images", nargs="+", default=IMAGES, metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    failed = False
    print("network | largest difference of log-probabilities, over the logits' spread")
    for i, name in enumerate(options.networks):
        batch = images(options.images, *((342, 299) if name == "inception_v3" else (256, 224)))
        model = network(name, options.seed, batch)
        with tempfile.TemporaryDirectory() as folder:
            rows = ours(model, name, options.images, options.faq_eval, pathlib.Path(folder), i % 2 == 1)
        expected = theirs(model, batch)
        worst = max(abs(math.log(best["probability"]) - expected[n, best["index"]].item())
                    for n, row in enumerate(rows) for best in row) / SPREAD
        same = [row[0]["index"] for row in rows] == expected.argmax(1).tolist()
        failed |= not (same and worst <= TOLERANCE)
        print(f"{name} | {worst:.1e}{'' if same else ', other classes come first'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
