"""Named lists of runs: skipped when finished, continued when not, shared by as many processes as are started."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from resnet_nb.data import Dataset
from resnet_nb.errors import InUseError
from resnet_nb.train.folder import run_name
from resnet_nb.train.recipe import recipe_for
from resnet_nb.train.run import run


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


def _pairs(*depths: int) -> list[str]:
    return [f"cifar-{kind}{depth}" for depth in depths for kind in ("plain", "resnet")]


def _placements(model: str, **overrides) -> list[tuple[str, dict]]:
    return [(model, {"placement": placement, **overrides}) for placement in "abcde"]


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
# the depths at which the schemes meet: 32 and 56 for three of them, 92 for the 14 stages of rk8
HIGH_ORDER = [*(f"{scheme}{depth}" for depth in (32, 56) for scheme in ("euler", "midpoint", "rk4")), "euler92", "rk892"]
PREACT = [
    *_placements("cifar-preact110"),
    *_placements("cifar-preact164", bottleneck=True),
    *(("cifar-preact110", {"placement": "a", **overrides}) for overrides in TABLE_1.values()),
]


SWEEPS = {
    # Table 6 and Fig. 6; every seed of all nets before the next seed, the long one last
    "table6": [
        *(Job(net, seed) for seed in range(3) for net in _pairs(20, 32, 44, 56, 110)),
        Job("cifar-resnet110", 3),
        Job("cifar-resnet110", 4),
        Job("cifar-resnet1202", 0),
    ],
    # options A, B and C (§4.1) on the nets of §4.2; A is the nets' own, so in one folder table6 has trained it
    "shortcuts": [
        Job(f"cifar-resnet{depth}", seed, overrides)
        for seed in range(3)
        for depth in (20, 56)
        for overrides in ({}, {"shortcut": "B"}, {"shortcut": "C"})
    ],
    # plain against residual without a GPU, and the options; the pair that Fig. 6 is about first
    "cpu": [
        *(Job(net, 0, recipe="cpu") for net in _pairs(56, 20)),
        *(Job("cifar-resnet20", 0, {"shortcut": option}, "cpu") for option in "BC"),
        *(Job(net, seed, recipe="cpu") for seed in (1, 2) for net in _pairs(20)),
        *(Job(net, 0, recipe="cpu") for net in ("cifar-resnet110", *_pairs(32, 44))),
    ],
    # 1603.05027, Tables 1 to 3, the medians of 5 runs; every seed of all nets before the next, 1,001 layers last
    "preact": [
        *(Job(net, seed, overrides, "preact") for seed in range(5) for net, overrides in PREACT),
        *(Job("cifar-preact1001", 0, {"placement": placement, "bottleneck": True}, "preact") for placement in "ea"),
    ],
    # the start of its Tables 1 and 2 without a GPU
    "preact-cpu": [Job(net, 0, overrides, "start") for net, overrides in PREACT if net == "cifar-preact110"],
    # 2103.15244: the schemes at the same depth, weights and start
    "higher-order": [Job(f"cifar-{net}", seed) for seed in range(3) for net in HIGH_ORDER],
    "higher-order-cpu": [
        *(Job(f"cifar-{scheme}32", seed, recipe="shapes") for seed in range(2) for scheme in ("euler", "midpoint", "rk4")),
        *(Job(f"cifar-{scheme}92", 0, recipe="start") for scheme in ("euler", "rk8")),
    ],
    # the four nets of Fig. 4 without a GPU and without ImageNet
    "fig4-cpu": [
        Job(f"{kind}{depth}", 0, options, "shapes")
        for depth in (18, 34)
        for kind, options in (("plain", {}), ("resnet", {"shortcut": "A"}))
    ],
    # what the notebooks take apart live, on data that need no download
    "shapes": [Job(net, 0, recipe="shapes") for net in ("cifar-resnet20", "cifar-plain20", "cifar-resnet56", "cifar-euler32")],
}


def sweep(
    jobs: list[Job],
    data: Dataset,
    out: Path,
    device: str = "cpu",
    *,
    iterations: int | None = None,
    precision: str = "float32",
    source: str = "",
    deadline: float | None = None,
    progress: bool = False,
    report: Callable[[str], None] = print,
) -> bool:
    """Train every job in its own folder below `out`; True if all are finished.

    Finished runs are skipped and unfinished ones continued; a run that another process is busy with
    is left to it, so the same sweep can be started several times on one folder. iterations shortens
    the recipes. deadline: a time of `time.monotonic`, before which the sweep stops. report gets one
    line per job. Raises as `run`, but FloatingPointError only after the other jobs.
    """
    left, failed = 0, 0
    for number, job in enumerate(jobs, 1):
        label = f"[{number}/{len(jobs)}] {job.folder}"
        recipe = recipe_for(job.recipe, job.model, iterations)
        try:
            last = run(
                job.model,
                data,
                Path(out) / job.folder,
                recipe,
                job.seed,
                device,
                overrides=job.overrides,
                precision=precision,
                source=source,
                deadline=deadline,
                progress=progress,
            )
        except InUseError:
            report(f"{label}: left to the process that is busy with it")
            left += 1
            continue
        except FloatingPointError as error:
            report(f"{label}: failed, {error}")
            failed += 1
            continue
        if last is None:
            report(f"{label}: stopped by the time limit")
            return False
        report(f"{label}: test error {last['test_error']:.2f} % after {last['iteration']:,} iterations")
        if deadline is not None and time.monotonic() > deadline and number < len(jobs):
            return False
    if failed:
        raise FloatingPointError(f"the loss was not finite in {failed} of {len(jobs)} runs")
    return not left
