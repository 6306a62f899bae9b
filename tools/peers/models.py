#!/usr/bin/env python3
"""The networks the peers run: ResNet-18 to 152 and the CIFAR ResNet-20, with torchvision's parameter names, and those of
other_models.py.

    python3 tools/peers/models.py --self-test     checks parameter counts and output shapes
"""

import sys
from collections import OrderedDict
from importlib import util

if __name__ == "__main__" and util.find_spec("torch") is None:
    sys.exit("models.py: not installed: torch")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import other_models  # noqa: E402


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class PadShortcut(nn.Module):
    """Subsamples by two and appends zero channels, half on each side (He et al., 2015, option A)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.pad = (outputs - inputs) // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


def projection(inputs, outputs, stride):
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, inputs, planes, stride, downsample):
        super().__init__()
        self.conv1, self.bn1, self.relu1 = conv(inputs, planes, 3, stride), nn.BatchNorm2d(planes), nn.ReLU(True)
        self.conv2, self.bn2, self.relu2 = conv(planes, planes, 3), nn.BatchNorm2d(planes), nn.ReLU(True)
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the stride in the middle one as torchvision has it."""

    expansion = 4

    def __init__(self, inputs, planes, stride, downsample):
        super().__init__()
        outputs = 4 * planes
        self.conv1, self.bn1, self.relu1 = conv(inputs, planes, 1), nn.BatchNorm2d(planes), nn.ReLU(True)
        self.conv2, self.bn2, self.relu2 = conv(planes, planes, 3, stride), nn.BatchNorm2d(planes), nn.ReLU(True)
        self.conv3, self.bn3, self.relu3 = conv(planes, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU(True)
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        return self.relu3(self.bn3(self.conv3(y)) + shortcut)


class ResNet(nn.Sequential):
    """Stem, stages and head under torchvision's names; the names without parameters are ours."""

    def __init__(self, stem, block, depths, planes, shortcut, classes):
        super().__init__(OrderedDict(stem))
        inputs = planes[0]
        for i, (depth, width) in enumerate(zip(depths, planes)):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                outputs = width * block.expansion
                downsample = shortcut(inputs, outputs, stride) if stride > 1 or inputs != outputs else None
                blocks.append(block(inputs, width, stride, downsample))
                inputs = outputs
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool, self.flatten, self.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)


def imagenet_resnet(block, depths):
    stem = {"conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(64), "relu": nn.ReLU(True),
            "maxpool": nn.MaxPool2d(3, 2, 1)}
    return ResNet(stem, block, depths, (64, 128, 256, 512), projection, 1000)


def cifar_resnet(depths):
    stem = {"conv1": conv(3, 16, 3), "bn1": nn.BatchNorm2d(16), "relu": nn.ReLU(True)}
    return ResNet(stem, BasicBlock, depths, (16, 32, 64), lambda i, o, stride: PadShortcut(i, o), 10)


# Name: constructor, side of the images, parameters (torchvision's count where it has the network).
MODELS = {
    "resnet20": (lambda: cifar_resnet((3, 3, 3)), 32, 269_722),
    "resnet18": (lambda: imagenet_resnet(BasicBlock, (2, 2, 2, 2)), 224, 11_689_512),
    "resnet34": (lambda: imagenet_resnet(BasicBlock, (3, 4, 6, 3)), 224, 21_797_672),
    "resnet50": (lambda: imagenet_resnet(Bottleneck, (3, 4, 6, 3)), 224, 25_557_032),
    "resnet101": (lambda: imagenet_resnet(Bottleneck, (3, 4, 23, 3)), 224, 44_549_160),
    "resnet152": (lambda: imagenet_resnet(Bottleneck, (3, 8, 36, 3)), 224, 60_192_808),
    "alexnet": (other_models.alexnet, 224, 61_100_840),
    "vgg16_bn": (other_models.vgg16_bn, 224, 138_365_992),
    "densenet121": (lambda: other_models.densenet(32, (6, 12, 24, 16)), 224, 7_978_856),
    "densenet161": (lambda: other_models.densenet(48, (6, 12, 36, 24)), 224, 28_681_000),
    "inception_v3": (other_models.inception_v3, 299, 27_161_264),
    "efficientnet_lite0": (other_models.efficientnet_lite0, 224, 4_652_008),
}


def build(name):
    return MODELS[name][0]()


def input_size(name):
    return MODELS[name][1]


def classes(name):
    return 10 if input_size(name) == 32 else 1000


def self_test():
    for name, (_, size, expected) in MODELS.items():
        model = build(name).eval()
        found = sum(p.numel() for p in model.parameters())
        assert found == expected, f"{name}: expected {expected} parameters, found {found}"
        with torch.inference_mode():
            shape = tuple(model(torch.zeros(2, 3, size, size)).shape)
        assert shape == (2, classes(name)), f"{name}: expected logits of shape (2, {classes(name)}), found {shape}"
    names = set(build("resnet50").state_dict())
    for key in ("bn1.running_var", "layer1.0.downsample.1.bias", "layer4.2.conv3.weight", "fc.bias"):
        assert key in names, f"resnet50: expected a tensor {key}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--self-test"]:
        sys.exit(__doc__)
    self_test()
