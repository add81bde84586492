"""The loss around two recorded networks of 56 layers, plain and residual, along random directions (notebook 02).

    python -m tools.surface

writes resnet_nb/runs/experiments/loss-surface.json, in about 30 minutes on one core; begun before, it goes on.

As in Li et al. (2018, "Visualizing the Loss Landscape of Neural Nets"): a direction is random, each of its filters is
scaled to the norm of the weights' filter, and BN parameters and biases stay. Both nets have weights of the same shapes and
go along the same random numbers. `surfaces`: the mean loss of 500 training photographs in evaluation mode, rows along
direction 1, columns along direction 0. `lines`: along four directions, with the stored BN statistics, and with fresh
ones, of the 500 images in each place.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb import data, runs
from resnet_nb.runs.recorded import EXPERIMENTS
from tools.records import begun, keep

NETS = {"56 layers, plain": "cifar-plain56", "56 layers, residual": "cifar-resnet56"}
GRID = [round(step / 7, 4) for step in range(-7, 8)]
LINE = [step / 10 for step in range(-10, 11)]
DIRECTIONS = (0, 1, 2, 3)  # seeds; the surfaces take the first two
RESULTS = EXPERIMENTS / "loss-surface.json"


def photographs() -> tuple[Tensor, Tensor]:
    """The first 500 training photographs of the sample, as the networks take them, and their labels."""
    sample = data.cifar10_sample()
    images = sample.center(sample.train_images[:500])
    return images.contiguous(memory_format=torch.channels_last), sample.train_labels[:500]


class Around:
    """The loss of a recorded net at its weights plus coordinates times directions."""

    def __init__(self, name: str, images: Tensor, labels: Tensor):
        self.net = runs.load(name).to(memory_format=torch.channels_last)
        self.images, self.labels = images, labels
        self.weights = [w for w in self.net.parameters() if w.dim() > 1]
        self.center = [w.detach().clone() for w in self.weights]
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0  # in training mode the stored statistics stay

    def direction(self, seed: int) -> list[Tensor]:
        """Random numbers of the weights' shapes, each filter as long as the weights' filter."""
        generator = torch.Generator().manual_seed(seed)
        return [longer(torch.randn(w.shape, generator=generator), w) for w in self.center]

    @torch.no_grad()
    def loss(self, steps: dict[int, float], batch_statistics: bool = False) -> float:
        """steps: seed of a direction -> how far along it."""
        for weight, center in zip(self.weights, self.center, strict=True):
            weight.copy_(center)
        for seed, step in steps.items():
            for weight, part in zip(self.weights, self.direction(seed), strict=True):
                weight.add_(part, alpha=step)
        self.net.train(batch_statistics)
        logits = [self.net(part) for part in self.images.split(500 if batch_statistics else 100)]
        return float(f"{F.cross_entropy(torch.cat(logits), self.labels).item():.5g}")


def longer(part: Tensor, weight: Tensor) -> Tensor:
    """`part` with each filter scaled to the norm of that of `weight`."""
    norms = [each.flatten(1).norm(dim=1) for each in (weight, part)]
    return part * (norms[0] / norms[1]).view(-1, *[1] * (part.dim() - 1))


def main() -> None:
    torch.set_num_threads(1)
    about = {"grid": GRID, "line": LINE, "surfaces": {}, "lines": {}}
    found = begun(RESULTS, "surface", "float32", "cifar10-sample, 500 training images", **about)
    images, labels = photographs()
    around = {name: Around(net, images, labels) for name, net in NETS.items()}
    for statistics in ("stored", "fresh"):
        for name, net in around.items():
            case = f"{name.split()[-1]}, {statistics}"
            lines = found["lines"].setdefault(case, [])
            for seed in DIRECTIONS[len(lines) :]:
                lines.append([net.loss({seed: step}, statistics == "fresh") for step in LINE])
                keep(found, RESULTS, f"{case}, direction {seed}")
    for y in GRID:
        for name, net in around.items():
            rows = found["surfaces"].setdefault(name, [])
            if len(rows) <= GRID.index(y):
                rows.append([net.loss({0: x, 1: y}) for x in GRID])
                keep(found, RESULTS, f"{name}, row {y}")


if __name__ == "__main__":
    main()
