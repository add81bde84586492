"""The recipe `eighth` with one decision changed, on CIFAR-10: what each of them is worth (notebook 08).

    python -m tools.ablations --out runs/ablations [DECISION ...]

trains ResNet-20 once for each decision, seed 0, and adds its errors to resnet_nb/runs/experiments/ablations.json: 8,000
iterations, about 40 minutes on a core with AVX-512; begun before, a training goes on. The recorded runs of `eighth` are what
to compare with. `test_error` and `train_error` in percent, the latter over the last 150 iterations, as in their logs. `std`:
see `spreads`.
"""

import argparse
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from resnet_nb import data
from resnet_nb.data.resident import OFFSETS, Dataset
from resnet_nb.models import build
from resnet_nb.recipes import RECIPES
from resnet_nb.runs import checkpoint
from resnet_nb.runs.recorded import EXPERIMENTS
from resnet_nb.train import Trainer
from tools.records import begun, keep

RESULTS = EXPERIMENTS / "ablations.json"
RECIPE, EVERY, SAVED = RECIPES["eighth"], 1_570, 500  # a line at 7,850 iterations, as in the recorded runs


@dataclass(frozen=True)
class Untouched(Dataset):
    """Neither crop nor flip: every view is the photograph."""

    def finish(self, order: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        return super().finish(order, torch.full_like(codes, OFFSETS // 2 * 2))


@dataclass(frozen=True)
class OnePerBatch(Dataset):
    """One crop and one flip for the whole batch."""

    def finish(self, order: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        return super().finish(order, codes[:1].expand(len(codes)))


VIEWS = {"no crop, no flip": Untouched, "one crop and flip a batch": OnePerBatch}
NO_DECAY = "no decay on BN"
DECISIONS = (*VIEWS, NO_DECAY)


def spreads(source: Dataset) -> dict[str, list[float]]:
    """Standard deviations of red, green and blue in [0, 1]: of all pixels, and of each photograph, averaged."""
    pixels = source.train_images.double() / 255
    found = {"all pixels": pixels.std((0, 2, 3)), "each photograph": pixels.std((2, 3)).mean(0)}
    return {name: [round(value, 6) for value in values.tolist()] for name, values in found.items()}


def trainer(decision: str, source: Dataset) -> Trainer:
    """The training of seed 0 with that decision."""
    viewed = VIEWS.get(decision, Dataset)(*(getattr(source, field.name) for field in fields(Dataset)))
    torch.manual_seed(0)
    made = Trainer(build("cifar-resnet20"), viewed, RECIPE, 0, EVERY, "bf16")
    if decision == NO_DECAY:
        (group,) = made.optimizer.param_groups
        weights = group.pop("params")  # one group each, so that their places stay
        made.optimizer.param_groups = [
            group | {"params": [weight], "weight_decay": group["weight_decay"] if weight.ndim > 1 else 0.0}
            for weight in weights
        ]
    return made


def saved(folder: Path, training: Trainer) -> bool:
    """Keep the training in that folder now and then; it never pauses."""
    if training.iteration % SAVED == 0:
        checkpoint.save(folder, training.state_dict())
    return False


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tools.ablations")
    options.add_argument("--data", default="cifar10", help="as for train")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("decisions", nargs="*", metavar="DECISION", help=f"of {', '.join(DECISIONS)}; default: all")
    chosen = options.parse_args()
    source = data.load(chosen.data)
    about = {"recipe": "eighth", "seed": 0, "std": spreads(source), "runs": {}}
    for decision in chosen.decisions or DECISIONS:
        folder = chosen.out / decision.replace(" ", "-").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        training = trainer(decision, source)
        state, _ = checkpoint.load(folder)
        if state is not None:
            training.load_state_dict(state)
        training.train(print, partial(saved, folder))
        found = begun(RESULTS, "ablations", "bf16", "cifar10", **about)
        found["runs"][decision] = {what: round(training.log[-1][what], 2) for what in ("train_error", "test_error")}
        keep(found, RESULTS, f"{decision}: {found['runs'][decision]}")


if __name__ == "__main__":
    main()
