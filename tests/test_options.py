"""No option of the command line is parsed and then dropped: the value of each one shows in what the command does.

CASES has one line for every (command, option) of COMMANDS, so a new option needs one.
"""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers import SMALL as SMALL_VIEWS
from test_cli import write_pictures

from resnet_nb import data, models, recipes, runs
from resnet_nb.cli import COMMANDS, commands, main
from resnet_nb.data import shapes10
from resnet_nb.recipes import Job, Recipe


@dataclass
class Done:
    """What a command did: exit code, what it printed, the run.json of its run, and the calls that are watched."""

    code: int
    said: str
    info: dict
    loaded: list  # (source, download) of data that were asked for
    devices: list  # to which data were moved
    work: Path

    def loss(self, run):
        """As the last line of a run's log has it."""
        lines = (self.work / run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return f"loss {json.loads(lines[-1])['test_loss']:.4f}"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two sets of pictures, and three finished runs on the first; the last one tests views of them."""
    root = tmp_path_factory.mktemp("options")
    write_pictures(root / "pets", shapes10(100, 20))
    write_pictures(root / "cars", shapes10(100, 20, seed=1))
    for name, seed in (("run", 0), ("other", 1)):
        options = ["--recipe", "live", "--iterations", 1, "--seed", seed, "--data", root / "pets", "--out", root / name]
        assert quiet(["train", "cifar-resnet8", *map(str, options)])[0] == 0
    recipe = Recipe(iterations=1, batch_size=8, augmentation=SMALL_VIEWS)
    images = data.load(root / "pets", augmentation=SMALL_VIEWS)
    runs.run("resnet18", images, root / "views", recipe, 0, overrides={"width": 4}, source=str(root / "pets"))
    return root


def quiet(args):
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = main(args)
    return code, out.getvalue()


@pytest.fixture
def does(work, tmp_path, monkeypatch):
    """Run a command, named by its line; {pets}, {run} ... are paths."""
    monkeypatch.setitem(recipes.SWEEPS, "shapes", [Job("cifar-resnet8", 0, {"width": 4}, "live")])
    monkeypatch.setitem(recipes.SWEEPS, "table6", [Job("cifar-resnet8", 3, {"width": 4}, "live")])
    monkeypatch.setattr(runs.recorded, "RECORDED", tmp_path / "recorded")
    monkeypatch.setattr(commands, "bench", lambda name, images, device, precision: f"{name} {device} {precision}")
    monkeypatch.setattr(data, "shapes10", lambda **_: None)  # of the bench, which is not run
    load, loaded = data.load, []

    def watched(source, download=False, augmentation=None):
        loaded.append((str(source), download))
        return load(source, False, augmentation)

    monkeypatch.setattr(data, "load", watched)
    move, devices = data.Dataset.to, []
    monkeypatch.setattr(data.Dataset, "to", lambda images, device: devices.append(str(device)) or move(images, device))
    paths = {name: str(work / name) for name in ("pets", "cars", "run", "other", "views")} | {"out": str(tmp_path / "out")}
    paths |= {"elsewhere": str(tmp_path / "elsewhere"), "recorded": str(tmp_path / "recorded")}

    def do(line):
        code, said = quiet([part.format(**paths) for part in line.split()])
        written = sorted(tmp_path.glob("out/**/run.json")) or sorted(tmp_path.glob("elsewhere/**/run.json"))
        return Done(code, said, json.loads(written[0].read_text(encoding="utf-8")) if written else {}, loaded, devices, work)

    return do


SMALL = "--recipe live --iterations 1 --set width=4"
TRAIN = f"train cifar-resnet8 --data {{pets}} --out {{out}} {SMALL}"
SWEEP = "sweep shapes --data {pets} --out {out} --iterations 1"


def of_trainings(name, line):
    """The cases of the options that train and sweep share, for a line of one of them."""
    return {
        (name, "--validation"): (f"{line} --validation", lambda d: d.info["data"]["train"] == 90),
        (name, "--iterations"): (
            line.replace("--iterations 1", "--iterations 2"),
            lambda d: d.info["recipe"]["iterations"] == 2,
        ),
        (name, "--batch-size"): (f"{line} --batch-size 7", lambda d: d.info["recipe"]["batch_size"] == 7),
        (name, "--time-limit"): (
            f"{line} --time-limit 0.001s".replace("--iterations 1", "--iterations 9"),
            lambda d: "stopped by the time limit" in d.said,
        ),
        (name, "--download"): (f"{line} --download", lambda d: d.loaded[0][1] is True),
        (name, "--device"): (f"{line} --device cpu:0", lambda d: d.devices == ["cpu:0"]),
        (name, "--precision"): (f"{line} --precision bf16", lambda d: d.info["precision"] == "bf16"),
    }


# (command, option): a line with it, and what only its value can bring about
CASES = {
    ("describe", "name"): ("describe cifar-resnet14", lambda d: "14 weighted layers" in d.said),
    ("describe", "--size"): ("describe cifar-resnet8 --size 64", lambda d: "64, 32, 16" in d.said and "on 64x64" in d.said),
    ("describe", "--set"): (
        "describe cifar-resnet8 --set num_classes=20",
        lambda d: f"{parameters(num_classes=20):,}" in d.said,
    ),
    ("train", "name"): (TRAIN.replace("resnet8", "resnet14"), lambda d: d.info["model"] == "cifar-resnet14"),
    ("train", "--recipe"): (
        TRAIN.replace("live --iterations 1", "shapes --iterations 4"),
        lambda d: d.info["recipe"]["drops"] == [2, 3],
    ),
    ("train", "--seed"): (f"{TRAIN} --seed 5", lambda d: d.info["seed"] == 5 and "seed 5" in d.said),
    ("train", "--set"): (f"{TRAIN} --set shortcut=C", lambda d: d.info["overrides"] == {"width": 4, "shortcut": "C"}),
    ("train", "--data"): (TRAIN.replace("pets", "cars"), lambda d: d.info["data"]["name"] == "cars"),
    ("train", "--out"): (TRAIN.replace("{out}", "{elsewhere}"), lambda d: "elsewhere" in d.said and d.info["model"]),
    **of_trainings("train", TRAIN),
    ("evaluate", "what"): (
        "evaluate {other}",
        lambda d: d.code == 0 and d.loss("other") in d.said and d.loss("run") not in d.said,
    ),
    ("evaluate", "--data"): ("evaluate {run} --data {cars}", lambda d: d.loaded[0][0].endswith("cars")),
    ("evaluate", "--testing"): ("evaluate {views} --testing 10-crop", lambda d: ", 10-crop: top-1 error" in d.said),
    ("evaluate", "--download"): ("evaluate {run} --download", lambda d: d.loaded and d.loaded[0][1] is True),
    ("evaluate", "--device"): ("evaluate {run} --device cpu:0", lambda d: d.devices == ["cpu:0"]),
    ("sweep", "name"): (SWEEP.replace("shapes", "table6"), lambda d: d.info["seed"] == 3),
    ("sweep", "--data"): (SWEEP.replace("pets", "cars"), lambda d: d.info["data"]["name"] == "cars"),
    ("sweep", "--out"): (SWEEP.replace("{out}", "{elsewhere}"), lambda d: d.info["model"]),
    **of_trainings("sweep", SWEEP),
    ("bench", "name"): ("bench cifar-resnet14 --device cpu", lambda d: "cifar-resnet14 cpu float32" in d.said),
    ("bench", "--device"): ("bench cifar-resnet8 --device cpu:0", lambda d: "resnet8 cpu:0 float32" in d.said),
    ("bench", "--precision"): ("bench cifar-resnet8 --device cpu --precision bf16", lambda d: "resnet8 cpu bf16" in d.said),
    ("record", "run_folder"): ("record {other}", lambda d: d.code == 0 and recorded(d, "run.json")["seed"] == 1),
    ("record", "--log-only"): ("record {run} --log-only", lambda d: d.code == 0 and not weights(d)),
}


def parameters(**overrides):
    return sum(p.numel() for p in models.build("cifar-resnet8", **overrides).parameters())


def folder(done):
    return Path(done.said.partition("recorded in ")[2].strip())


def recorded(done, name):
    return json.loads((folder(done) / name).read_text(encoding="utf-8"))


def weights(done):
    return list(folder(done).glob("*.safetensors"))


def test_there_is_a_case_for_every_option():
    assert list(CASES) == [(name, flag) for name, command in COMMANDS.items() for flag, _ in command.options]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_an_option_is_not_dropped(case, does):
    line, shows = CASES[case]
    if torch.cuda.is_available() and "--device" not in line and not line.startswith(("describe", "record")):
        line += " --device cpu"
    done = does(line)
    assert shows(done), (
        f"{' '.join(case)} is dropped: {line} ends with {done.code}, prints {done.said!r}, run.json: {done.info}"
    )
