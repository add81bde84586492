"""Gradients at the start of training, at two initializations, with BN and without (notebooks 02, 09, 11, 13).

    python -m tools.gradients

writes resnet_nb/runs/experiments/gradients-at-start.json, in about ten minutes on one core; begun before, it goes on.

`outputs`: the norm of the gradient of the loss with respect to the output of each block; `first_weights`: that of the
first convolution's weights; both as one list per seed. Nets of 56 layers, plain and residual, see the first 32 training
photographs of the sample, in training mode; "zero γ" is the residual net whose last BN of each block has the scale 0.
plain34 and resnet34, ImageNet's nets, see the first 16 of them, enlarged to 128 pixels.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb import data
from resnet_nb.models import BasicBlock, build
from resnet_nb.runs.recorded import EXPERIMENTS
from tools.records import begun, keep

SEEDS = range(12)
RESULTS = EXPERIMENTS / "gradients-at-start.json"


def default_init(net: nn.Module) -> None:
    """PyTorch's: weights of variance 1 / (3 fan_in), a sixth of He's."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.reset_parameters()


def without_bn(net: nn.Module) -> None:
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())


def zero_scale(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)


CASES: dict[str, tuple[str, list[Callable]]] = {
    f"{kind}56, {words}": (f"cifar-{kind}56", changes)
    for words, changes in {
        "He, BN": [],
        "He, no BN": [without_bn],
        "default, no BN": [default_init, without_bn],
        "default, BN": [default_init],
    }.items()
    for kind in ("plain", "resnet")
}
CASES |= {"resnet56, zero γ": ("cifar-resnet56", [zero_scale]), "plain34": ("plain34", []), "resnet34": ("resnet34", [])}


@functools.cache
def photographs(case: str) -> tuple[Tensor, Tensor]:
    """The images that a case sees, and their labels."""
    sample = data.cifar10_sample()
    count = 32 if "56" in case else 16
    images = sample.center(sample.train_images[:count]).double()
    images = images if "56" in case else F.interpolate(images, scale_factor=4, mode="bilinear")
    return images, sample.train_labels[:count]


def norms(case: str, seed: int) -> tuple[list[float], float]:
    """Of the gradients with respect to the blocks' outputs, and to the first weights."""
    torch.manual_seed(seed)
    name, changes = CASES[case]
    net, outputs = build(name).double().train(), []
    for change in changes:
        change(net)
    for module in net.modules():
        if isinstance(module, BasicBlock):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    images, labels = photographs(case)
    loss = F.cross_entropy(net(images), labels)
    *blocks, first = torch.autograd.grad(loss, [*outputs, net.conv1.weight])
    return [shown(gradient) for gradient in blocks], shown(first)


def shown(gradient: Tensor) -> float:
    return float(f"{gradient.norm().item():.4g}")


def main() -> None:
    torch.set_num_threads(1)
    about = {"seeds": len(SEEDS), "outputs": {}, "first_weights": {}}
    found = begun(RESULTS, "gradients", "float64", "cifar10-sample, first training images", **about)
    for case in CASES:
        outputs, first = (found[kind].setdefault(case, []) for kind in ("outputs", "first_weights"))
        for seed in SEEDS[len(outputs) :]:
            blocks, weights = norms(case, seed)
            outputs.append(blocks)
            first.append(weights)
            keep(found, RESULTS, f"{case}, seed {seed}: {blocks[0] / blocks[-1]:.3g}")


if __name__ == "__main__":
    main()
