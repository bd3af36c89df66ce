"""Freeze files that PyTorch writes, with what their networks compute, in `torch/`; or check what minicnn writes in PyTorch.

Run by hand from the root of the checkout, in an environment with PyTorch, safetensors and minicnn (it is not needed to run the
tests; last run with torch 2.13.0, safetensors 0.8.0):

    python -m pip install -e . torch==2.13.0 safetensors
    python tests/vectors/make_torch_files.py                    # writes tests/vectors/torch/
    python tests/vectors/make_torch_files.py --check            # minicnn -> PyTorch: loads, predicts the same, trains on

One thread, one seed: two runs write the same bytes, but for small_legacy.pth, where PyTorch calls storages by their addresses.
Images of `expected.safetensors` are channels last, as minicnn's.
"""

import importlib.util
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

FOLDER = Path(__file__).with_name("torch")


class Small(nn.Module):
    """All that a state_dict of a convolutional network holds, over images and maps that are not square."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=6, bias=False), nn.BatchNorm2d(12), nn.ReLU6(),
            nn.Conv2d(12, 8, (3, 2), groups=2, dilation=(1, 2)), nn.SiLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Dropout(0.5), nn.Linear(48, 10), nn.ReLU(),
                                        nn.LayerNorm(10), nn.Linear(10, 3, bias=False))

    def forward(self, x):
        return torch.softmax(self.classifier(self.features(x)), 1)


class Residual(nn.Module):
    """Names as torchvision's ResNet has them: in alphabetical order bn1 stands before conv1, and fc before layer1."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(4, 4, 1), Block(4, 6, 2))
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(self.layer1(torch.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, C, F, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(C, F, 3, stride, 1, bias=False), nn.BatchNorm2d(F)
        self.conv2, self.bn2 = nn.Conv2d(F, F, 3, 1, 1, bias=False), nn.BatchNorm2d(F)
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(C, F, 1, stride, bias=False), nn.BatchNorm2d(F))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def twelve():
    """Twelve convolutions of one shape, features.0 to features.22: as texts, 10 stands before 2."""
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(3, 3, 1), nn.Tanh())]
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers)))


def decoder():
    """A row that is reshaped to an image, channels first."""
    return nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Unflatten(1, (2, 3, 4)), nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(),
                         nn.Linear(36, 4))


def made(network):
    """Return a network whose statistics and factors are no ones and zeros, ready to predict."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked += 7
    return network.eval()


def freeze():
    """Write the files."""
    torch.manual_seed(20201108)
    FOLDER.mkdir(exist_ok=True)
    networks = {"small": (made(Small()), (4, 2, 11, 15)), "residual": (made(Residual()), (3, 3, 7, 8)),
                "twelve": (made(twelve()), (2, 3, 2, 2)), "decoder": (made(decoder()), (3, 5))}
    expected = {}
    for name, (network, shape) in networks.items():
        x = torch.rand(shape)
        with torch.no_grad():
            y = network(x)
        expected |= {f"{name}/x": (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).contiguous(), f"{name}/y": y}
        save_file(network.state_dict(), FOLDER / f"{name}.safetensors")
    save_file(expected, FOLDER / "expected.safetensors", {"versions": f"torch {torch.__version__}"})
    small = networks["small"][0]
    optimizer = torch.optim.Adam(small.classifier.parameters())
    small.classifier.eval()(torch.rand(2, 48)).sum().backward()
    optimizer.step()
    small.load_state_dict(load_file(FOLDER / "small.safetensors"))
    torch.save({"epoch": 3, "state_dict": small.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.5}, FOLDER / "small.pt")
    torch.save({f"module.{name}": tensor for name, tensor in small.state_dict().items()}, FOLDER / "small_legacy.pth",
               _use_new_zipfile_serialization=False)
    state = {name: tensor for name, tensor in small.state_dict().items() if tensor.dtype == torch.float32}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16), ("float64", torch.float64)):
        save_file({key: tensor.to(dtype) for key, tensor in state.items()}, FOLDER / f"small_{name}.safetensors")
    torch.save({name: tensor.half() for name, tensor in state.items()}, FOLDER / "small_half.pt")
    torch.save(nn.Sequential(nn.Linear(2, 1)), FOLDER / "whole_module.pt")
    weight = torch.arange(24, dtype=torch.float32)
    torch.save({"turned.weight": weight.view(4, 6).T, "turned.bias": weight[3:21:3], "column.weight": weight[:6].view(6, 1)},
               FOLDER / "views.pt")
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


# ---- The way out -----------------------------------------------------------------------------------------------------

def check():
    """Write networks with minicnn, load them here, compare predictions, and train on; print what came out."""
    from minicnn import cov19net
    from minicnn.interop import pytorch
    from tests.interop.networks import chains, graphs
    from tests.support.random_networks import random_graph

    worst, count, fell = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        cases = [*chains(engine="reference").items(), *graphs(engine="reference").items()]
        cases += [(f"random graph {n}", random_graph(n, "reference")[0]) for n in range(60)]
        cases += [("cov19net", cov19net(seed=3, engine="reference"))]
        for name, model in cases:
            rng = np.random.default_rng(count)
            model.set_weights([np.abs(w) + 0.5 if p.name == "moving_variance" else rng.normal(0, 0.5, w.shape)
                               for w, p in zip(model.get_weights(), model.weights)])
            path = Path(folder) / f"network_{count}.py"
            pytorch.save(model, path)
            specification = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(specification)
            specification.loader.exec_module(module)
            network, several = module.load(), model.input_names
            shapes = model.input_shape if several else [model.input_shape]
            xs = [(0.2 + 0.7 * rng.random((5, *shape))).astype(model.dtype) for shape in shapes]
            theirs = network(*map(_channels_first, xs))
            ours = model.predict(xs if several else xs[0])
            ours, theirs = (ours, theirs) if model.output_names else ([ours], [theirs])
            for y, z in zip(ours, theirs, strict=True):
                z = z.detach().movedim(1, -1).numpy() if z.ndim == 4 else z.detach().numpy()
                assert y.shape == z.shape, (name, y.shape, z.shape)
                error = float(np.max(np.abs(y - z) / np.maximum(1, np.abs(y))))
                if not error <= 1e-5:
                    print(path.read_text())
                    raise AssertionError(f"{name}: {error}")
                worst = max(worst, error)
            count += 1
            fell += trains_on(network, [_channels_first(x) for x in xs], name)
    print(f"torch {torch.__version__}: {count} networks load with strict=True; the largest difference is {worst:.1e}; {fell} have "
          "weights, are trained on, and their loss falls")


def trains_on(network, xs, name):
    """Take ten steps; return whether there was anything to train. The loss must fall."""
    learned = [p for p in network.parameters() if p.requires_grad]
    if not learned:
        return False
    torch.manual_seed(0)
    network.eval()          # without dropout and the statistics of a batch: the loss of ten small steps falls
    goals, losses = None, []
    optimizer = torch.optim.SGD(learned, lr=1e-3)
    for _ in range(10):
        ys = network(*xs)
        ys = ys if isinstance(ys, tuple) else (ys,)
        goals = goals or [y.detach() + 0.1 * torch.randn_like(y) for y in ys]
        loss = sum(((y - goal) ** 2).sum() for y, goal in zip(ys, goals))
        optimizer.zero_grad()
        loss.backward()
        if torch.nn.utils.clip_grad_norm_(learned, 1.0) < 1e-6:
            return False            # the softmax of one number, or only zeros behind ReLU
        optimizer.step()
        losses.append(loss.item())
    network.train()
    if all(len(x) > 1 for x in xs):
        network(*xs)        # as in training
    assert losses[-1] < losses[0], (name, losses)
    return True


def _channels_first(x):
    return torch.tensor(np.moveaxis(x, -1, 1) if x.ndim == 4 else x)


if __name__ == "__main__":
    torch.set_num_threads(1)
    check() if sys.argv[1:] == ["--check"] else freeze()
