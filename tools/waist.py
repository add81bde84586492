"""Trained nets whose corrections F(x), or whose whole signal F(x) + x, must pass a waist (notebook 04).

    python -m tools.waist

writes resnet_nb/runs/experiments/waist.json, in about five minutes on one core; begun before, it goes on.

A waist keeps, at every pixel, the first k principal directions of the channels around their mean. Each block gets one of
its own, fitted to the first training photographs of the sample, block after block, so that a later block is fitted to
what the earlier ones let through. `error`: percent of the test photographs, as net -> what is squeezed -> one number for
each of `waists`, the part of the channels that is kept. `directions`: how many directions of F hold 90 % of its
variance, one number for each block of the untouched net. Nothing is trained again, BN keeps its statistics.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb import data, runs
from resnet_nb.models import stages
from resnet_nb.runs.recorded import EXPERIMENTS
from resnet_nb.train import evaluate
from tools.records import begun, keep

RESULTS = EXPERIMENTS / "waist.json"
NETS = {f"ResNet-{depth}": f"cifar-resnet{depth}" for depth in (20, 56, 110)}
WAISTS, SHARE, FITTED = (1, 2, 4, 8), 0.9, 500


class Waist(nn.Module):
    """The first directions of the channels; the first images that it sees decide which."""

    def __init__(self, part: int):
        super().__init__()
        self.part, self.directions = part, None

    def forward(self, maps: Tensor) -> Tensor:
        pixels = maps.movedim(1, -1)
        if self.directions is None:
            self.variances, self.mean, directions = principal(pixels)
            self.directions = directions[:, : directions.shape[1] // self.part]
        if self.part == 1:
            return maps
        inside = (pixels - self.mean) @ self.directions
        return (inside @ self.directions.T + self.mean).movedim(-1, 1)


def principal(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of vectors (..., channels): variances, largest first, the mean, and the directions as columns."""
    flat = pixels.reshape(-1, pixels.shape[-1]).double()
    variances, directions = torch.linalg.eigh(flat.T.cov())
    return variances.flip(0), flat.mean(0).to(pixels.dtype), directions.flip(1).to(pixels.dtype)


def blocks(net: nn.Module) -> list[nn.Module]:
    return [block for stage in stages(net).values() for block in stage]


def squeezed(name: str, what: str, part: int, fitted: int = FITTED) -> nn.Module:
    """A trained net with a waist in each block, around the "correction" or around "everything"."""
    net, sample = runs.load(NETS[name]).eval(), data.cifar10_sample()
    for block in blocks(net):
        block.waist = Waist(part)
        block.forward = _through(block, what)
    with torch.no_grad():
        net(sample.center(sample.train_images[:fitted]))
    return net


def _through(block: nn.Module, what: str):
    def forward(x: Tensor) -> Tensor:
        f = block.residual(x)
        if what == "correction":
            return F.relu(block.waist(f) + block.downsample(x))
        return F.relu(block.waist(f + block.downsample(x)))

    return forward


def error(net: nn.Module) -> float:
    return evaluate(net, data.cifar10_sample())[0]


def needed(variances: Tensor) -> int:
    """How many directions hold the share of the variance."""
    return int((variances.cumsum(0) < SHARE * variances.sum()).sum()) + 1


def main() -> None:
    torch.set_num_threads(1)
    about = {"waists": WAISTS, "fitted": FITTED, "share": SHARE, "error": {}, "directions": {}}
    found = begun(RESULTS, "waist", "float32", "cifar10-sample, 1,000 test images", **about)
    for name in NETS:
        for what in ("correction", "everything"):
            errors = found["error"].setdefault(name, {}).setdefault(what, [])
            for part in WAISTS[len(errors) :]:
                net = squeezed(name, what, part)
                if what == "correction" and part == 1:
                    found["directions"][name] = [needed(block.waist.variances) for block in blocks(net)]
                errors.append(round(error(net), 1))
                keep(found, RESULTS, f"{name}, {what}, 1/{part}: {errors[-1]} %")


if __name__ == "__main__":
    main()
