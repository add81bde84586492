"""Blocks of trained nets measured, deleted, swapped with their neighbor, and read (notebook 09).

    python -m tools.lesions

writes resnet_nb/runs/experiments/lesions.json, in about fifteen minutes on one core; begun before, it goes on with the
next net. Everything is measured on the 1,000 test photographs of the sample, in percent where it is an error. For each net:

`error`: of the whole net; `blocks`: how many blocks each stage has; `f`, `wire`: the standard deviation of F(x) and of what
the shortcut brings to the sum (in a plain net: of the input); `correlation`: theirs. `deleted`: the error with F = 0 in one
block, null where a plain net has none that keeps the shape. `offset`, of ResNet-20 only: with F of one block replaced by its
mean in each channel over the 2,000 training photographs. `swapped`: with block k and block k+1 exchanged, null where
one of them changes the shape. `mended`: k -> the error without block k after the statistics of all later BN were taken again
from the 2,000 training photographs, "whole" -> of all BN of the whole net. `stopped`: the net's own classifier after block k,
shortcuts only from there on (residual nets). `fitted`: a linear read-out of the averaged maps, by ridge regression on
the training photographs. The last two begin with 0, what the first convolution gives. Nothing is trained again.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb import data, runs
from resnet_nb.models import stages
from resnet_nb.models.blocks import NoShortcut
from resnet_nb.runs.recorded import EXPERIMENTS
from tools.records import begun, keep
from tools.waist import blocks

RESULTS = EXPERIMENTS / "lesions.json"
NETS = {f"{kind}-{depth}": f"cifar-{kind.lower()}{depth}" for depth in (20, 56) for kind in ("plain", "ResNet")}
NETS["ResNet-110"] = "cifar-resnet110"
MENDED = {20: 1, 56: 3, 110: 6}  # depth -> every how many blocks the statistics are taken again
BATCH, PENALTY = 250, 1e-2


class Laid(nn.Module):
    """A net laid out as a list of blocks, so that it can begin anywhere."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.stages = net, [len(stage) for stage in stages(net).values()]
        self.blocks = nn.ModuleList(blocks(net))
        self.plain = isinstance(self.blocks[0].downsample, NoShortcut)

    def stem(self, images: Tensor) -> Tensor:
        return F.relu(self.net.bn1(self.net.conv1(images)))

    def keeps_shape(self, k: int) -> bool:
        conv = self.blocks[k].conv1
        return conv.stride == (1, 1) and conv.in_channels == conv.out_channels

    def without(self, k: int, x: Tensor) -> Tensor:
        """What block k gives if F = 0: what its shortcut brings, in a plain net, which has none, what it gets."""
        return x if self.plain else self.blocks[k].downsample(x)

    def logits(self, x: Tensor, order: list[int]) -> Tensor:
        for k in order:
            x = self.blocks[k](x)
        return self.net.fc(x.mean((2, 3)))


def percent_wrong(logits: Tensor, labels: Tensor) -> float:
    return round(100 * (logits.argmax(1) != labels).double().mean().item(), 1)


def error(laid: Laid, x: Tensor, order: list[int], labels: Tensor) -> float:
    """The error if these maps go through these blocks and the classifier."""
    return percent_wrong(torch.cat([laid.logits(part, order) for part in x.split(BATCH)]), labels)


def through(function, x: Tensor) -> Tensor:
    return torch.cat([function(part) for part in x.split(BATCH)])


def mended(laid: Laid, train_x: Tensor, x: Tensor, order: list[int], labels: Tensor) -> float:
    """As `error`, the statistics of BN in these blocks taken again from the maps of the training photographs."""
    fresh = copy.deepcopy(laid)
    for k in order:
        for bn in (fresh.blocks[k].bn1, fresh.blocks[k].bn2):
            bn.reset_running_stats()
            bn.momentum = None  # the plain average over batches
        fresh.blocks[k].train()
    for part in train_x.split(2 * BATCH):
        fresh.logits(part, order)
    return error(fresh.eval(), x, order, labels)


def offset(block: nn.Module, x: Tensor) -> Tensor:
    """The mean of F(x) in each channel: (1, C, 1, 1)."""
    return through(block.residual, x).mean((0, 2, 3), keepdim=True)


def ridge(train: Tensor, train_labels: Tensor, test: Tensor, labels: Tensor) -> float:
    """The error of the linear classifier of (N, C) that fits the training labels best, with a small penalty."""
    mean, std = train.mean(0), train.std(0) + 1e-9
    train, test = ((x - mean) / std for x in (train, test))
    wanted = F.one_hot(train_labels, 10).double() - 0.1
    gram = train.T @ train + PENALTY * len(train) * torch.eye(train.shape[1]).double()
    return percent_wrong(test @ torch.linalg.solve(gram, train.T @ wanted), labels)


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3)).double()


def stopped(laid: Laid, x: Tensor, k: int) -> Tensor:
    """Logits if F = 0 in block k and in all later ones."""
    for later in range(k, len(laid.blocks)):
        x = laid.without(later, x)
    return laid.net.fc(x.mean((2, 3)))


@torch.no_grad()
def measured(name: str) -> dict:
    """All that the record says of one net."""
    sample = data.cifar10_sample()
    laid, labels = Laid(runs.load(NETS[name]).eval()), sample.test_labels
    x, train_x = (through(laid.stem, sample.center(part)) for part in (sample.test_images, sample.train_images))
    every, last = MENDED[int(name.split("-")[1])], len(laid.blocks)
    names = "f wire correlation deleted offset swapped fitted stopped".split()
    found = {"error": error(laid, x, [*range(last)], labels), "blocks": laid.stages, **{key: [] for key in names}, "mended": {}}
    found["mended"]["whole"] = mended(laid, train_x, x, [*range(last)], labels)
    for k in range(last):
        read(found, laid, train_x, sample.train_labels, x, labels, k)
        block, later = laid.blocks[k], [*range(k + 1, last)]
        able = laid.keeps_shape(k) or not laid.plain
        wire = laid.without(k, x)
        found["deleted"].append(error(laid, wire, later, labels) if able else None)
        if able and k % every == 0 and later:
            found["mended"][str(k + 1)] = mended(laid, laid.without(k, train_x), wire, later, labels)
        both = k + 1 < last and laid.keeps_shape(k) and laid.keeps_shape(k + 1)
        found["swapped"].append(error(laid, x, [k + 1, k, *later[1:]], labels) if both else None)
        f = through(block.residual, x)
        found["f"].append(round(f.std().item(), 4))
        found["wire"].append(round(wire.std().item(), 4))
        same = f.shape == wire.shape
        found["correlation"].append(
            round(torch.stack([f.flatten(), wire.flatten()]).corrcoef()[0, 1].item(), 4) if same else None
        )
        if name == "ResNet-20":
            found["offset"].append(error(laid, F.relu(wire + offset(block, train_x)), later, labels))
        x, train_x = through(block, x), through(block, train_x)
    read(found, laid, train_x, sample.train_labels, x, labels, last)
    return found


def read(found: dict, laid: Laid, train_x: Tensor, train_labels: Tensor, x: Tensor, labels: Tensor, k: int) -> None:
    found["fitted"].append(ridge(pooled(train_x), train_labels, pooled(x), labels))
    if not laid.plain:
        found["stopped"].append(percent_wrong(stopped(laid, x, k), labels))


def main() -> None:
    torch.set_num_threads(1)
    found = begun(RESULTS, "lesions", "float32", "cifar10-sample, 1,000 test and 2,000 training images", nets={})
    for name in NETS:
        if name not in found["nets"]:
            found["nets"][name] = measured(name)
            worst = max(e for e in found["nets"][name]["deleted"] if e is not None)
            keep(found, RESULTS, f"{name}: {found['nets'][name]['error']} %, at worst {worst} % without a block")


if __name__ == "__main__":
    main()
