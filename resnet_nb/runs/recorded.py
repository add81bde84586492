"""Recorded runs, shipped with the package: logs as data frames, and trained networks (notebooks 01-03, 08, 09, 11-13).

A recorded run is a folder <schedule>/<run> beside this file: run.json, log.jsonl and, for seed 0 of the networks as the paper
has them, weights.safetensors. A schedule names data, iterations and batch size, for example cifar10-64000x128.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save
from torch import Tensor, nn

from resnet_nb import paper
from resnet_nb.errors import InputError
from resnet_nb.files import reason, sha256, write_atomically
from resnet_nb.recipes import run_name
from resnet_nb.runs.folder import json_bytes, load_run, log_bytes, read_json, read_log

if TYPE_CHECKING:
    import pandas as pd

RECORDED = Path(__file__).parent
EXPERIMENTS = RECORDED / "experiments"
LARGEST = 4_000_000  # parameters; the weights of larger networks would not fit into a small package
KEYS = ["schedule", "model", "variant", "seed"]
SETTINGS = ["data", "iterations", "batch_size", "precision", "processes", "device", "hours"]
COLUMNS = [*KEYS, *SETTINGS, "train_error", "test_error", "weights", "folder"]


def index() -> "pd.DataFrame":
    """One row per recorded run: what it is, where it ran, how long, its last errors in percent, its folder.

    variant names what the run overrides, for example "shortcut B", or is "". weights says whether `load` has it.
    """
    import pandas as pd  # here, so that a training does not pay for it

    rows = []
    for path in sorted(RECORDED.glob("*/*/run.json")):
        folder, info, last = path.parent, read_json(path), read_log(path.parent / "log.jsonl")[-1]
        own = {"schedule": folder.parent.name, "variant": _variant(info["overrides"]), "hours": info["wall_seconds"] / 3600}
        own |= {"data": info["data"]["name"], "weights": "weights_sha256" in info, "folder": folder}
        rows.append({**info["recipe"], **info, **last, **own})
    return pd.DataFrame(rows, columns=COLUMNS)


def logs(schedule: str | None = None) -> "pd.DataFrame":
    """Every line of every log, or of one schedule: the columns of `train.fit` and KEYS.

    Raises InputError if nothing is recorded under that schedule.
    """
    import pandas as pd

    found = index()
    parts = [
        pd.DataFrame(read_log(row["folder"] / "log.jsonl")).assign(**{key: row[key] for key in KEYS})
        for row in found.to_dict("records")
        if schedule in (None, row["schedule"])
    ]
    if not parts:
        raise InputError(f"no recorded runs of schedule {schedule!r}; there are: {', '.join(_longest_first(found))}")
    return pd.concat(parts, ignore_index=True)


def _longest_first(found: "pd.DataFrame") -> list[str]:
    """Names of the recorded schedules, the one that trained on most images first."""
    images = (found["iterations"] * found["batch_size"]).groupby(found["schedule"]).max()
    return images.sort_values(ascending=False).index.to_list()


def experiment(name: str) -> dict:
    """A recorded experiment that is no training of one network: what `command` measured, as experiments/<name>.json holds it.

    Raises InputError if there is none of that name.
    """
    found = {path.stem: path for path in sorted(EXPERIMENTS.glob("*.json"))}
    if name not in found:
        raise InputError(f"no recorded experiment {name!r}; there are: {', '.join(found) or 'none'}")
    return read_json(found[name])


def summary() -> "pd.DataFrame":
    """Test error in percent per schedule and network: mean and std over the seeds, and what Table 6 prints.

    std is that of a sample (n - 1), NaN for one seed. Table 6 stands beside its nets where they were trained as long as in
    the paper, on CIFAR-10 itself. For ResNet-110 it prints a mean of 5 runs, which is taken.
    """
    rows = {f"cifar-resnet{row['layers']}": row for row in paper.table(6).rows if row["method"] == "ResNet"}
    printed = {name: row.get("mean", row["error"]) for name, row in rows.items()}
    groups = index().groupby(["schedule", "data", "model", "variant", "precision", "processes"], sort=False)
    test = {"mean": ("test_error", "mean"), "std": ("test_error", "std")}
    found = groups.agg(
        seeds=("seed", "count"), train_error=("train_error", "mean"), **test, hours=("hours", "mean")
    ).reset_index()
    comparable = (found["variant"] == "") & (found["schedule"] == "cifar10-64000x128")
    return found.assign(paper=found["model"].where(comparable).map(printed))


def log(name: str, seed: int = 0, schedule: str | None = None, **overrides) -> list[dict]:
    """Log of one recorded run, as `train.fit` returns it.

    schedule: by default the one that trained on most images. overrides: those of `models.build` that the run has, for example
    shortcut="B". Raises InputError if there is no such run.
    """
    return read_log(_folder(index(), name, seed, schedule, _variant(overrides)) / "log.jsonl")


def load(name: str, seed: int = 0, schedule: str | None = None, **overrides) -> nn.Module:
    """The recorded network called `name` with its trained weights, in eval mode.

    schedule and overrides as for `log`. Weights are stored in 16 bits, BN and biases in 32. Raises InputError if there is no
    such run with weights, or if its file is damaged.
    """
    found = index()
    return load_run(_folder(found[found["weights"]], name, seed, schedule, _variant(overrides)))[0]


def _variant(overrides: dict) -> str:
    plain = {key: f"{value:g}" if type(value) is float else value for key, value in sorted(overrides.items())}  # -6.0 is -6
    return ", ".join(f"{key} {value}" for key, value in plain.items())


def _folder(found: "pd.DataFrame", name: str, seed: int, schedule: str | None, variant: str = "") -> Path:
    fitting = found[(found["model"] == name) & (found["seed"] == seed) & (found["variant"] == variant)]
    for choice in [schedule] if schedule else _longest_first(found):
        for folder in fitting.loc[fitting["schedule"] == choice, "folder"]:
            return folder
    rows = found[["model", "variant", "seed", "schedule"]].itertuples(index=False)
    names = "; ".join(f"{model}{kind and ', ' + kind} (seed {number}, {place})" for model, kind, number, place in rows)
    what = ", ".join(filter(None, [name, variant, f"seed {seed}", f"schedule {schedule}"]))
    raise InputError(f"nothing recorded of {what}; there are: {names}")


def record(out: Path, weights: bool = True) -> Path:
    """Copy the finished run in `out` into the recorded runs; returns its new folder.

    weights: they go along for seed 0 of a network without overrides, of up to 4 million parameters: as float16 where they have
    two dimensions or more, with their sha256 in run.json. Raises InputError if the run is not finished, is not of a network of
    the papers, or cannot be written, or if another one is recorded in its place.
    """
    model, info, log = load_run(out)
    if "width" in info["overrides"] or info["model"] == "tiny-preact":
        raise InputError(f"only networks of the papers are recorded; {out} is {info['model']} {info['overrides']}")
    del info["weights_sha256"]  # of the float32 weights
    recipe = info["recipe"]
    schedule = f"{info['data']['name']}-{recipe['iterations']}x{recipe['batch_size']}"
    if warmup := recipe.get("warmup_iterations"):
        schedule += f"-warmup{warmup}"
    folder = RECORDED / schedule / run_name(info["model"], info["overrides"], info["seed"])
    files = {"log.jsonl": log_bytes(log)}
    size = sum(weight.numel() for weight in model.parameters())
    if weights and info["seed"] == 0 and not info["overrides"] and size <= LARGEST:
        files["weights.safetensors"] = save({key: _shorter(value) for key, value in model.state_dict().items()})
        info["weights_sha256"] = sha256(files["weights.safetensors"])
    files["run.json"] = json_bytes(info)
    for name, content in files.items():
        if (folder / name).exists() and (folder / name).read_bytes() != content:
            raise InputError(f"another run is recorded in {folder}; delete that folder first to replace it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({reason(error)})") from error
    return folder


def _shorter(value: Tensor) -> Tensor:
    return value.half().contiguous() if value.ndim > 1 else value
