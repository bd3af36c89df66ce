"""The memory of a training step of residual networks on 32x32x3 images, minicnn beside PyTorch.

    python -m benchmarks.residual_memory [--batch 128]

Each library builds the network in a process of its own, takes a step on 2 images, and then three on a whole batch. What
counts is how much the largest resident set has grown by these: the code of a library and its weights are in it before.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np

from benchmarks.report import table

DEPTHS = {"ResNet-8": 1, "ResNet-20": 3}        # {name: residual blocks in each of three stages}


def ours(blocks, classes=10):
    """Return a function of (x, t) that takes a training step."""
    from minicnn import (Add, BatchNormalization, Conv2D, Dense, GlobalAveragePooling2D, Input, Model, ReLU, Softmax)

    def conv(x, filters, size, strides=1):
        return BatchNormalization()(Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x))
    x = Input((32, 32, 3))
    y = ReLU()(conv(x, 16, 3))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            body = conv(ReLU()(conv(y, filters, 3, strides)), filters, 3)
            y = ReLU()(Add()([body, conv(y, filters, 1, strides) if strides > 1 else y]))
    model = Model(x, Softmax()(Dense(classes)(GlobalAveragePooling2D()(y))))
    model.compile("adam", "categorical_crossentropy")
    return model.train_on_batch


def theirs(blocks, classes=10):
    """Return a function of (x, t) that takes a training step in PyTorch, channels last."""
    import torch
    from torch import nn

    def conv(C, F, K, stride=1):
        return nn.Sequential(nn.Conv2d(C, F, K, stride, K // 2, bias=False), nn.BatchNorm2d(F))

    class Block(nn.Module):
        def __init__(self, C, F, stride):
            super().__init__()
            self.body = nn.Sequential(conv(C, F, 3, stride), nn.ReLU(inplace=True), conv(F, F, 3))
            self.shortcut = conv(C, F, 1, stride) if stride > 1 else nn.Identity()

        def forward(self, x):
            return torch.relu_(self.body(x) + self.shortcut(x))
    layers, C = [conv(3, 16, 3), nn.ReLU(inplace=True)], 16
    for stage, F in enumerate((16, 32, 64)):
        for block in range(blocks):
            layers.append(Block(C, F, 2 if stage and not block else 1))
            C = F
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
    model = model.to(memory_format=torch.channels_last)
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()

    def step(x, t):
        images = torch.from_numpy(x).permute(0, 3, 1, 2)
        optimizer.zero_grad()
        loss(model(images), torch.from_numpy(t)).backward()
        optimizer.step()
    return step


def measure(library, blocks, batch):
    """Print (MB before the batch, MB more at most) of this process."""
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    step, rng = {"minicnn": ours, "PyTorch": theirs}[library](blocks), np.random.default_rng(0)
    x, t = rng.random((batch, 32, 32, 3), dtype=np.float32), rng.integers(0, 10, batch)
    step(x[:2], t[:2])
    before = peak()
    for _ in range(3):
        step(x, t)
    print(before, peak() - before)


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.residual_memory", description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.of:
        return measure(options.of[0], int(options.of[1]), options.batch)
    rows = [["network", "library", "before, MB", "the step, MB"]]
    for name, blocks in DEPTHS.items():
        for library in ("minicnn", "PyTorch"):
            done = subprocess.run([sys.executable, "-m", "benchmarks.residual_memory", "--of", library, str(blocks), "--batch",
                                   str(options.batch)], capture_output=True, text=True)
            rows.append([name, library, *(f"{float(one):.0f}" for one in done.stdout.split())] if not done.returncode else
                        [name, library, done.stderr.strip().rpartition("\n")[2], ""])
    print(table(rows[0], rows[1:]))


if __name__ == "__main__":
    main()
