"""How a network is trained, as a value: the recipes of arXiv 1512.03385 (§3.4, §4.2), that of 1603.05027, and shorter ones."""

import math
from dataclasses import dataclass, replace

from resnet_nb.data import Augmentation
from resnet_nb.errors import InputError

WARMUP_ERROR = 0.8  # §4.2: "until the training error is below 80%"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the paper's for CIFAR-10 (§4.2).

    An iteration is one batch and one step. The learning rate is divided by 10 at each of `drops`,
    iterations counted from 0.
    Weight decay applies to every parameter, BN included. warmup_lr: learning rate of the first
    `warmup_iterations`, or, if that is None, until the training error is below 80 %; None for no warm-up.
    patience: the learning rate is also divided by 10 when the error plateaus (see `plateaus`); None for never.
    augmentation: views of images that are read from files; None for the augmentation of §4.2, in memory.
    """

    iterations: int = 64_000
    batch_size: int = 128
    lr: float = 0.1
    drops: tuple[int, ...] = (32_000, 48_000)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_lr: float | None = None
    warmup_iterations: int | None = None
    patience: int | None = None
    augmentation: Augmentation | None = None

    @property
    def open_warmup(self) -> bool:
        """Whether only the training shows how long the warm-up is."""
        return self.warmup_lr is not None and self.warmup_iterations is None

    def learning_rate(self, iteration: int, warmup: int = 0, plateaus: int = 0) -> float:
        """Learning rate of one iteration, counted from 0, if an open warm-up took `warmup` iterations.

        plateaus: how many the training had before.
        """
        warmup = warmup if self.warmup_iterations is None else self.warmup_iterations
        if self.warmup_lr is not None and iteration < warmup:
            return self.warmup_lr
        return self.lr / 10 ** (plateaus + sum(iteration >= drop for drop in self.drops))

    def plateaus(self, errors: list[float]) -> int:
        """How often the error plateaued: each time `patience` evaluations passed without a new lowest one."""
        count, lowest, waited = 0, math.inf, 0
        for error in errors if self.patience else ():
            lowest, waited = (error, 0) if error < lowest else (lowest, waited + 1)
            if waited == self.patience:
                count, waited = count + 1, 0
        return count

    def shortened(self, iterations: int) -> "Recipe":
        """The same recipe with `iterations` steps and the drops, and a warm-up, at the same fractions.

        Raises InputError if `iterations` is not a positive integer.
        """
        if type(iterations) is not int or iterations < 1:
            raise InputError(f"iterations must be a positive integer, got {iterations!r}")
        marks = (*self.drops, self.warmup_iterations or 0)
        *drops, warmup = (math.ceil(mark * iterations / self.iterations) for mark in marks)
        return replace(self, iterations=iterations, drops=tuple(drops), warmup_iterations=self.warmup_iterations and warmup)


RECIPES = {
    "cifar": Recipe(),
    # arXiv 1603.05027: the same with 0.01 for the first 400 iterations, for all of its CIFAR nets
    "preact": Recipe(warmup_lr=0.01, warmup_iterations=400),
    # §3.4; the patience is ours: "when the error plateaus" is all that the paper says
    "imagenet": Recipe(iterations=600_000, batch_size=256, drops=(), patience=5, augmentation=Augmentation()),
    # about a minute for a pair of nets on two CPU cores; tests/seeds_degradation.py shows what it can promise
    "live": Recipe(iterations=100, batch_size=32, lr=0.05, drops=()),
    # an eighth of the iterations, a quarter of the batch: what two CPU cores do in an hour or two per net
    "cpu": Recipe(iterations=8_000, batch_size=32, lr=0.05, drops=(4_000, 6_000)),
    # a few minutes per net of 20 layers, for example on shapes10, whose images everybody can draw again
    "shapes": Recipe(iterations=2_000, batch_size=32, lr=0.05, drops=(1_000, 1_500)),
    # only the start of the training, where 110 layers already differ
    "start": Recipe(iterations=600, batch_size=32, lr=0.05, drops=()),
}


def recipe_for(kind: str, model: str, iterations: int | None = None) -> Recipe:
    """The recipe called `kind` for the network called `model`, shortened if `iterations` are given.

    "cifar" warms cifar-resnet and cifar-plain of 110 layers and more up with 0.01 (§4.2; the paper says it of
    ResNet-110 only, 1202 layers are our reading). Raises InputError for an unknown kind or a bad
    number of iterations.
    """
    if kind not in RECIPES:
        raise InputError(f"unknown recipe {kind!r}; allowed: {', '.join(RECIPES)}")
    depth = model.removeprefix("cifar-resnet").removeprefix("cifar-plain")
    deep = kind == "cifar" and depth.isdigit() and int(depth) >= 110
    recipe = replace(RECIPES[kind], warmup_lr=0.01) if deep else RECIPES[kind]
    return recipe if iterations is None else recipe.shortened(iterations)


def augmentation_of(recipe: dict) -> Augmentation | None:
    """The augmentation of a recipe as run.json holds it."""
    found = recipe.get("augmentation")
    return found and Augmentation(**{**found, "shorter_side": tuple(found["shorter_side"])})
