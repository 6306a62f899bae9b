#!/usr/bin/env python3
"""Times CIFAR ResNet-20 training steps in PyTorch, the peer that `faq-bench` is compared with.

    nice -n 10 python3 tools/peers/train_resnet20.py --batch 128 --threads 2 --seconds 4

One line of JSON per variant: fp32 (channels-last) and qat (FX graph mode, torch.ao.quantization, x86 qconfig,
channels-last). A step is zero_grad, forward, cross-entropy, backward and an SGD step with momentum 0.9 and weight decay
1e-4 on one synthetic batch that is already in memory: no data loading. images_per_s is batch / median step.
"""

import argparse
import json
import statistics
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut subsamples and pads with zero channels (He et al., 2015, option A)."""

    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.stride, self.pad = stride, (planes - inputs) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return self.relu2(y + x)


def resnet20():
    def stage(inputs, planes, stride):
        return [BasicBlock(inputs, planes, stride), BasicBlock(planes, planes, 1), BasicBlock(planes, planes, 1)]

    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *stage(16, 16, 1), *stage(16, 32, 2), *stage(32, 64, 2), *head)


def prepare_qat(model, images):
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    torch.backends.quantized.engine = "x86"
    return prepare_qat_fx(model.train(), get_default_qat_qconfig_mapping("x86"), (images,))


def step_times(model, images, labels, seconds, warmup):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    for _ in range(warmup):
        step()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=4, help="measured time per variant")
    parser.add_argument("--warmup", type=int, default=3, help="steps before measuring")
    parser.add_argument("--variants", default="fp32,qat", help="comma-separated subset of fp32,qat")
    options = parser.parse_args()
    variants = options.variants.split(",")
    if unknown := set(variants) - {"fp32", "qat"}:
        parser.error(f"--variants: expected fp32 or qat, got {', '.join(sorted(unknown))}")
    if options.batch < 2 or options.threads < 1:
        parser.error("--batch must be at least 2 and --threads at least 1")

    warnings.filterwarnings("ignore")  # torch.ao.quantization announces its successor at every call
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    images = torch.randn(options.batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (options.batch,))
    for variant in variants:
        model = resnet20()
        if variant == "qat":
            model = prepare_qat(model, images)
        model = model.to(memory_format=torch.channels_last)
        times = step_times(model, images, labels, options.seconds, options.warmup)
        median = statistics.median(times)
        print(json.dumps({
            "peer": "pytorch " + torch.__version__, "network": "cifar-resnet20", "variant": variant,
            "batch": options.batch, "threads": options.threads, "steps": len(times),
            "step_ms": round(1e3 * median, 2), "min_step_ms": round(1e3 * min(times), 2),
            "images_per_s": round(options.batch / median, 1)}), flush=True)


if __name__ == "__main__":
    main()
