"""AlexNet, VGG-16, DenseNet-161, Inception-v3 and EfficientNet-Lite0 in plain PyTorch, for peers without torchvision and
timm. Layers and their order are torchvision's, Lite0's timm's (which pads alike at all sides); names are not, as nothing
loads weights here."""

import torch
import torch.nn.functional as F
from torch import nn


def alexnet(classes=1000):
    layers, inputs = [], 3
    for outputs, kernel, stride, padding, pools in ((64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False),
                                                    (256, 3, 1, 1, False), (256, 3, 1, 1, True)):
        layers += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(True)]
        layers += [nn.MaxPool2d(3, 2)] if pools else []
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Dropout(), nn.Linear(256 * 36, 4096),
                         nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True), nn.Linear(4096, classes))


def vgg16_bn(classes=1000):
    layers, inputs = [], 3
    for outputs, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(True),
                         nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, classes))


class DenseLayer(nn.Module):
    """Its `growth` features behind those it was given."""

    def __init__(self, inputs, growth):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(True), nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(True), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False))

    def forward(self, x):
        return torch.cat([x, self.layers(x)], 1)


def densenet(growth, depths, classes=1000):
    channels = 2 * growth
    layers = [nn.Conv2d(3, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    for number, depth in enumerate(depths):
        if number > 0:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(True), nn.Conv2d(channels, channels // 2, 1, bias=False),
                       nn.AvgPool2d(2)]
            channels //= 2
        for _ in range(depth):
            layers.append(DenseLayer(channels, growth))
            channels += growth
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(channels, classes))


def unit(inputs, outputs, kernel, stride=1, padding=0):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
                         nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU(True))


def chain(inputs, *units):
    """Units one after the other: (outputs, kernel, stride, padding) of each."""
    layers = []
    for outputs, kernel, stride, padding in units:
        layers.append(unit(inputs, outputs, kernel, stride, padding))
        inputs = outputs
    return nn.Sequential(*layers)


class Branches(nn.Module):
    """The channels of all branches, one after the other."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def pooled(inputs, outputs):
    return nn.Sequential(nn.AvgPool2d(3, 1, 1), unit(inputs, outputs, 1))


def mixed_35(inputs, pool):
    return Branches(chain(inputs, (64, 1, 1, 0)), chain(inputs, (48, 1, 1, 0), (64, 5, 1, 2)),
                    chain(inputs, (64, 1, 1, 0), (96, 3, 1, 1), (96, 3, 1, 1)), pooled(inputs, pool))


def to_17(inputs):
    return Branches(chain(inputs, (384, 3, 2, 0)), chain(inputs, (64, 1, 1, 0), (96, 3, 1, 1), (96, 3, 2, 0)),
                    nn.MaxPool2d(3, 2))


def mixed_17(inputs, width):
    row, column = (1, 7), (7, 1)
    across, along = (0, 3), (3, 0)
    return Branches(
        chain(inputs, (192, 1, 1, 0)),
        chain(inputs, (width, 1, 1, 0), (width, row, 1, across), (192, column, 1, along)),
        chain(inputs, (width, 1, 1, 0), (width, column, 1, along), (width, row, 1, across), (width, column, 1, along),
              (192, row, 1, across)),
        pooled(inputs, 192))


def to_8(inputs):
    return Branches(
        chain(inputs, (192, 1, 1, 0), (320, 3, 2, 0)),
        chain(inputs, (192, 1, 1, 0), (192, (1, 7), 1, (0, 3)), (192, (7, 1), 1, (3, 0)), (192, 3, 2, 0)),
        nn.MaxPool2d(3, 2))


def mixed_8(inputs):
    def both(channels):
        return Branches(unit(channels, 384, (1, 3), 1, (0, 1)), unit(channels, 384, (3, 1), 1, (1, 0)))

    return Branches(chain(inputs, (320, 1, 1, 0)), nn.Sequential(unit(inputs, 384, 1), both(384)),
                    nn.Sequential(unit(inputs, 448, 1), unit(448, 384, 3, 1, 1), both(384)), pooled(inputs, 192))


class Inception(nn.Module):
    """In training the logits and those of the auxiliary classifier."""

    def __init__(self, classes):
        super().__init__()
        self.front = nn.Sequential(
            chain(3, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3, 1, 1)), nn.MaxPool2d(3, 2),
            chain(64, (80, 1, 1, 0), (192, 3, 1, 0)), nn.MaxPool2d(3, 2), mixed_35(192, 32), mixed_35(256, 64),
            mixed_35(288, 64), to_17(288), mixed_17(768, 128), mixed_17(768, 160), mixed_17(768, 160),
            mixed_17(768, 192))
        self.auxiliary = nn.Sequential(nn.AvgPool2d(5, 3), unit(768, 128, 1), unit(128, 768, 5), nn.AdaptiveAvgPool2d(1),
                                       nn.Flatten(), nn.Linear(768, classes))
        self.back = nn.Sequential(to_8(768), mixed_8(1280), mixed_8(2048), nn.AdaptiveAvgPool2d(1), nn.Dropout(),
                                  nn.Flatten(), nn.Linear(2048, classes))

    def forward(self, x):
        features = self.front(x)
        logits = self.back(features)
        return (logits, self.auxiliary(features)) if self.training else logits


def inception_v3(classes=1000):
    return Inception(classes)


def unit6(inputs, outputs, kernel, stride=1, groups=1, activates=True):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs, eps=1e-3)]
    return nn.Sequential(*layers, nn.ReLU6(True)) if activates else nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Expands by 1x1, filters each channel, projects without an activation."""

    def __init__(self, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        inner = inputs * expansion
        expand = [unit6(inputs, inner, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(*expand, unit6(inner, inner, kernel, stride, inner),
                                    unit6(inner, outputs, 1, activates=False))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.adds else self.layers(x)


def efficientnet_lite0(classes=1000):
    layers, inputs = [unit6(3, 32, 3, 2)], 32
    for expansion, kernel, stride, outputs, depth in (
            (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
            (6, 3, 1, 320, 1)):
        for i in range(depth):
            layers.append(InvertedResidual(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
            inputs = outputs
    return nn.Sequential(*layers, unit6(inputs, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes))


def loss(outputs, labels):
    """Cross-entropy; with an auxiliary classifier 0.4 of its own is added, as torchvision's reference scripts do it."""
    if isinstance(outputs, tuple):
        return F.cross_entropy(outputs[0], labels) + 0.4 * F.cross_entropy(outputs[1], labels)
    return F.cross_entropy(outputs, labels)
