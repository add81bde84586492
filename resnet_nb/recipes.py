"""What is known without torch: names of networks, recipes, and the named lists of runs (notebooks 01, 07-09, 11, 12).

The recipes are those of arXiv 1512.03385 (§3.4, §4.2) and 1603.05027, and shorter ones.
"""

import math
import re
from dataclasses import dataclass, field, replace

from resnet_nb.errors import InputError, as_python, is_shape, near, require_choice, require_int, require_number

PRECISIONS = ("float32", "tf32", "bf16")
TESTINGS = ("center", "10-crop", "multi-scale")
FAMILIES = {  # family -> its depths, as they are written after it, and the side of its images in pixels
    "resnet": ("18|34|50|101|152|200", 224),
    "plain": ("18|34", 224),
    "preact": ("50|101|152|200", 224),
    "vgg": ("16|19", 224),
    "cifar-resnet": ("<6n+2>", 32),
    "cifar-plain": ("<6n+2>", 32),
    "cifar-preact": ("<6n+2 or 9n+2>", 32),
    **{f"cifar-{scheme}": ("<6n+2>", 32) for scheme in ("euler", "midpoint", "rk4", "rk8")},
    "tiny-preact": ("", 64),
}
NETWORKS = ", ".join(family + depths for family, (depths, _) in FAMILIES.items())
WARMUP_ERROR = 80.0  # percent; §4.2: "until the training error is below 80%"
WARMUP_LENGTH = 400  # iterations; §4.2: "about 400 iterations"
WARMUP_WINDOW = 100  # iterations between two looks at the training error
MOST = 10**9  # iterations, and images in a batch: what is more is a slip


@dataclass(frozen=True)
class Network:
    """The name of a network taken apart; depth is None where the family has one net, side is that of its images."""

    family: str
    depth: int | None
    side: int


def network(name: str) -> Network:
    """ "cifar-resnet56" as Network("cifar-resnet", 56, 32). Raises InputError on another family or form."""
    match = re.fullmatch(rf"({'|'.join(FAMILIES)})([1-9]\d{{0,5}})?", str(name), re.ASCII)
    if match is None or (match[2] is None) == bool(FAMILIES[match[1]][0]):
        depth = re.search(r"([1-9]\d*)?$", str(name))[0]
        likely = [f + depth.removeprefix(f[-1]) if own else f for f, (own, _) in FAMILIES.items() if depth or not own]
        raise InputError(f"unknown model {name!r}{near(str(name), likely)}; allowed: {NETWORKS}")
    return Network(match[1], match[2] and int(match[2]), FAMILIES[match[1]][1])


@dataclass(frozen=True)
class Augmentation:
    """Random views of training images, as values. The defaults are the paper's for ImageNet (§3.4).

    The shorter side gets a random length in `shorter_side`, both ends included, then a random square of `crop` pixels is cut
    out, then flipped or not. color: standard deviation of the multiples of the principal components of RGB that are added
    (AlexNet's color augmentation); 0 for none. test_side: shorter side when one view is tested. Lengths in pixels. `data.views`
    makes the views. Raises InputError if a view would not fit into an image.
    """

    shorter_side: tuple[int, int] = (256, 480)
    crop: int = 224
    color: float = 0.1
    test_side: int = 256

    def __post_init__(self):
        if isinstance(self.shorter_side, list):  # as JSON has it
            object.__setattr__(self, "shorter_side", tuple(self.shorter_side))
        if not is_shape(self.shorter_side) or len(self.shorter_side) != 2:
            raise InputError(f"shorter_side must be two lengths in pixels, the smaller first, got {self.shorter_side!r}")
        for name in ("crop", "test_side"):
            require_int(name, getattr(self, name), 1, 1_000_000)
        require_number("color", self.color, 0)
        if not self.crop <= min(self.test_side, *self.shorter_side) or self.shorter_side[0] > self.shorter_side[1]:
            sides = f"of {self.shorter_side}, smaller end first, and of {self.test_side} pixels"
            raise InputError(f"a crop of {self.crop} pixels must fit into a shorter side {sides}")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the paper's for CIFAR-10 (§4.2).

    An iteration is one batch and one step. The learning rate is divided by 10 at each of `drops`, iterations counted from 0.
    Weight decay applies to every parameter, BN included. warmup_lr: learning rate of the first `warmup_iterations`, or, if that
    is None, until the training error is below 80 %; None for no warm-up. gradual: the warm-up grows from `warmup_lr` to `lr` in
    equal steps, as in arXiv 1706.02677. patience: the learning rate is also divided by 10 when the error plateaus (see
    `plateaus`); None for never. augmentation: views of images that are read from files; None for the augmentation of §4.2, in
    memory. Raises InputError on a value that no training can have.
    """

    iterations: int = 64_000
    batch_size: int = 128
    lr: float = 0.1
    drops: tuple[int, ...] = (32_000, 48_000)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_lr: float | None = None
    warmup_iterations: int | None = None
    gradual: bool = False
    patience: int | None = None
    augmentation: Augmentation | None = None

    def __post_init__(self):
        for name, value in vars(self).items():  # NumPy's numbers and a list of drops become Python's
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else as_python(value))
        require_int("iterations", self.iterations, 1, MOST)
        require_int("batch_size", self.batch_size, 1, MOST)
        require_number("lr", self.lr, 0, open_end=True)
        require_number("momentum", self.momentum, 0, 1)
        require_number("weight_decay", self.weight_decay, 0)
        if not isinstance(self.drops, tuple) or list(self.drops) != sorted(n for n in self.drops if type(n) is int and n >= 0):
            raise InputError(f"drops must be iterations from 0 on in ascending order, got {self.drops!r}")
        if not isinstance(self.augmentation, Augmentation | None):
            raise InputError(f"augmentation must be an Augmentation or None, got {self.augmentation!r}")
        require_choice("gradual", self.gradual, (False, True))
        if self.warmup_lr is not None:
            require_number("warmup_lr", self.warmup_lr, 0, open_end=not self.gradual)
        for name in ("warmup_iterations", "patience"):
            if getattr(self, name) is not None:
                require_int(name, getattr(self, name), 1)
        if self.warmup_iterations is not None and self.warmup_lr is None:
            raise InputError("warmup_iterations need a warmup_lr, the learning rate of the warm-up")
        if self.gradual and self.warmup_iterations is None:
            raise InputError("a gradual warm-up needs warmup_iterations and a warmup_lr, at which it begins")

    @property
    def open_warmup(self) -> bool:
        """Whether only the training shows how long the warm-up is."""
        return self.warmup_lr is not None and self.warmup_iterations is None

    def rate(self, iteration: int, log: list[dict]) -> float:
        """Learning rate of one iteration, counted from 0, of a training whose lines so far are `log`.

        The one author of the schedule: what a training can decide, the end of an open warm-up and plateaus, is in its log.
        """
        end = self.warmup_end(log) if self.open_warmup else 0
        plateaus = self.plateaus([line["test_error"] for line in log]) if self.patience else 0
        return self.learning_rate(iteration, iteration + 1 if end is None else end, plateaus)

    def learning_rate(self, iteration: int, warmup: int = 0, plateaus: int = 0) -> float:
        """Learning rate of one iteration, counted from 0, after `plateaus`, if an open warm-up took `warmup` iterations."""
        warmup = warmup if self.open_warmup else self.warmup_iterations or 0
        dropped = self.lr / 10 ** (plateaus + sum(iteration >= drop for drop in self.drops))
        if iteration >= warmup:
            return dropped
        if self.gradual:
            return self.warmup_lr + (self.lr - self.warmup_lr) * (iteration + 1) / warmup
        return min(self.warmup_lr, dropped)

    def warmup_end(self, log: list[dict]) -> int | None:
        """Where an open warm-up ends: after the first 100 iterations with a mean training error below 80 %; None: not yet.

        It is looked at every 100 iterations, whatever lines there are between.
        """
        start = done = errors = 0
        for line in log:
            errors += line["train_error"] * (line["iteration"] - done)
            done = line["iteration"]
            if done % WARMUP_WINDOW == 0:
                if errors < WARMUP_ERROR * (done - start):
                    return done
                start, errors = done, 0
        return None

    def plateaus(self, errors: list[float]) -> int:
        """How often the error plateaued: each time `patience` evaluations passed without a new lowest one."""
        count, lowest, waited = 0, math.inf, 0
        for error in errors if self.patience else ():
            lowest, waited = (error, 0) if error < lowest else (lowest, waited + 1)
            if waited == self.patience:
                count, waited = count + 1, 0
        return count

    def shortened(self, iterations: int) -> "Recipe":
        """The same recipe with `iterations` steps and the drops, and the warm-up, at the same fractions.

        An open warm-up becomes the about 400 iterations that the paper reports of its own (§4.2), at the same fraction. Raises
        InputError if `iterations` is not a positive integer.
        """
        require_int("iterations", iterations := as_python(iterations), 1, MOST)
        if iterations == self.iterations:
            return self
        warmup = WARMUP_LENGTH if self.open_warmup else self.warmup_iterations
        *drops, warmup = (math.ceil(mark * iterations / self.iterations) for mark in (*self.drops, warmup or 0))
        return replace(self, iterations=iterations, drops=tuple(drops), warmup_iterations=warmup or None)


# ours, not the paper's: without it 56 layers lose much of a short run at its start (README, "Reproduce the paper")
GRADUAL = {"warmup_lr": 0.0, "warmup_iterations": 400, "gradual": True}
_RECIPES = {
    "cifar": ("the paper's (§4.2); the default", Recipe()),
    "preact": ("that of 1603.05027", Recipe(warmup_lr=0.01, warmup_iterations=400)),  # for all CIFAR nets of that paper
    # the patience is ours: "when the error plateaus" is all that the paper says
    "imagenet": ("the paper's (§3.4)", Recipe(600_000, 256, drops=(), patience=5, augmentation=Augmentation())),
    "eighth": ("an eighth of the paper's, with a gradual warm-up", Recipe(8_000, drops=(4_000, 6_000), **GRADUAL)),
    # about a minute for a pair of nets on two CPU cores; tools/seeds.jsonl shows what it can promise
    "live": ("to see that all works", Recipe(100, 32, 0.05, drops=())),
    "shapes": ("for shapes10 on a CPU", Recipe(2_000, 32, 0.05, drops=(1_000, 1_500))),
    "start": ("how a training starts", Recipe(600, 32, 0.05, drops=())),  # where 110 layers already differ
}
RECIPES = {name: recipe for name, (_, recipe) in _RECIPES.items()}
RECIPE_LINES = {name: f"{r.iterations:,} iterations of {r.batch_size} images: {words}" for name, (words, r) in _RECIPES.items()}


def recipe_for(kind: str, model: str, iterations: int | None = None, batch_size: int | None = None) -> Recipe:
    """The recipe called `kind` for the network called `model`, shortened if `iterations` are given.

    batch_size: another than the recipe's; the rest stays. "cifar" warms cifar-resnet and cifar-plain of 110 layers and more up
    with 0.01 (§4.2; of 1202 layers it is our reading). Raises InputError for an unknown kind or name, or a bad number.
    """
    require_choice("recipe", kind, RECIPES)
    net = network(model)
    deep = kind == "cifar" and net.family in ("cifar-resnet", "cifar-plain") and net.depth >= 110
    recipe = replace(RECIPES[kind], warmup_lr=0.01) if deep else RECIPES[kind]
    recipe = recipe if iterations is None else recipe.shortened(iterations)
    return recipe if batch_size is None else replace(recipe, batch_size=batch_size)


def run_name(model: str, overrides: dict, seed: int) -> str:
    """Name of the folder of one of several runs, for example cifar-resnet20-shortcut-B-s0."""
    return "-".join([model, *(f"{key}-{value}" for key, value in overrides.items()), f"s{seed}"])


@dataclass(frozen=True)
class Job:
    """One run of a sweep: network, overrides for `models.build`, seed and kind of recipe."""

    model: str
    seed: int
    overrides: dict = field(default_factory=dict)
    recipe: str = "cifar"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return run_name(self.model, self.overrides, self.seed)


def _jobs(recipe: str, seeds: int, *nets: str | tuple[str, dict]) -> list[Job]:
    """Every seed of all nets before the next seed; a net is its name, or its name and overrides."""
    pairs = [net if isinstance(net, tuple) else (net, {}) for net in nets]
    return [Job(name, seed, overrides, recipe) for seed in range(seeds) for name, overrides in pairs]


def _pairs(*depths: int) -> list[str]:
    return [f"cifar-{kind}{depth}" for depth in depths for kind in ("plain", "resnet")]


def _each(net: str, rows, **overrides) -> list[tuple[str, dict]]:
    return [(net, {**row, **overrides}) for row in rows]


# 1603.05027, Table 1, as overrides of the original unit, with the printed row that each belongs to
TABLE_1 = {
    "constant scaling 0, 1": {"shortcut": "scaling", "on_shortcut": 0, "on_residual": 1},
    "constant scaling 0.5, 1": {"shortcut": "scaling", "on_shortcut": 0.5, "on_residual": 1},
    "constant scaling 0.5, 0.5": {"shortcut": "scaling", "on_shortcut": 0.5, "on_residual": 0.5},
    "exclusive gating, b -6": {"shortcut": "exclusive-gating", "gate_bias": -6},
    "exclusive gating, b -7": {"shortcut": "exclusive-gating", "gate_bias": -7},
    "shortcut-only gating, b 0": {"shortcut": "gating", "gate_bias": 0},
    "shortcut-only gating, b -6": {"shortcut": "gating", "gate_bias": -6},
    "1x1 conv shortcut": {"shortcut": "C"},
    "dropout shortcut": {"shortcut": "dropout"},
}
PLACEMENTS = [{"placement": placement} for placement in "abcde"]
ABC = ({}, {"shortcut": "B"}, {"shortcut": "C"})  # the options of §4.1; A is the nets' own
PREACT110 = _each("cifar-preact110", [*PLACEMENTS, *({"placement": "a", **row} for row in TABLE_1.values())])
PREACT164 = _each("cifar-preact164", PLACEMENTS, bottleneck=True)
PREACT1001 = _each("cifar-preact1001", [PLACEMENTS[4], PLACEMENTS[0]], bottleneck=True)
FIGURE_4 = ["plain18", ("resnet18", {"shortcut": "A"}), "plain34", ("resnet34", {"shortcut": "A"})]
SCHEMES32, SCHEMES56 = ([f"cifar-{scheme}{depth}" for scheme in ("euler", "midpoint", "rk4")] for depth in (32, 56))
SCHEMES92 = ["cifar-euler92", "cifar-rk892"]  # the depth at which the 14 stages of rk8 meet the others

_SWEEPS = {
    "table6": (
        "Table 6 and Figure 6, 20 to 1202 layers",
        _jobs("cifar", 3, *_pairs(20, 32, 44, 56, 110))
        + [Job("cifar-resnet110", 3), Job("cifar-resnet110", 4), Job("cifar-resnet1202", 0)],
    ),
    "shortcuts": (
        "options A, B and C (§4.1) at 20 and 56 layers",
        _jobs("cifar", 3, *_each("cifar-resnet20", ABC), *_each("cifar-resnet56", ABC)),
    ),
    "preact": ("Tables 1 to 3 of 1603.05027", _jobs("preact", 5, *PREACT110, *PREACT164) + _jobs("preact", 1, *PREACT1001)),
    "higher-order": ("Euler, Midpoint, RK4 and RK8 of 2103.15244", _jobs("cifar", 3, *SCHEMES32, *SCHEMES56, *SCHEMES92)),
    "eighth": (
        "Figure 6, options A to C, an eighth",
        _jobs("eighth", 2, "cifar-plain20", *_each("cifar-resnet20", ABC)) + _jobs("eighth", 1, *_pairs(56)),
    ),
    "preact-cpu": ("the start of Tables 1 and 2 of 1603.05027", _jobs("start", 1, *PREACT110)),
    "higher-order-cpu": ("the same schemes without a GPU", _jobs("shapes", 2, *SCHEMES32) + _jobs("start", 1, *SCHEMES92)),
    "fig4-cpu": ("the nets of Figure 4 on small images", _jobs("shapes", 1, *FIGURE_4)),
    "shapes": ("the nets that the notebooks take apart", _jobs("shapes", 1, *_pairs(20), "cifar-resnet56", "cifar-euler32")),
}
SWEEPS = {name: jobs for name, (_, jobs) in _SWEEPS.items()}
SWEEP_LINES = {name: f"{len(jobs)} runs: {words}" for name, (words, jobs) in _SWEEPS.items()}
