"""Recorded runs: what ships is whole, small and honest, and `record` puts a run there unchanged."""

import hashlib
import json
import re
import statistics

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from resnet_nb import paper, runs
from resnet_nb.cli import main
from resnet_nb.data import shapes10
from resnet_nb.errors import InputError
from resnet_nb.models import build
from resnet_nb.runs import load_run, run
from resnet_nb.train import Recipe, evaluate

SHORT = Recipe(iterations=6, batch_size=16, lr=0.05, drops=(4,))
SHIPPED = runs.index()


@pytest.fixture(scope="module")
def data():
    return shapes10(64, 30)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """Folders of three runs: seeds 0 and 1, and one with option B."""
    out = tmp_path_factory.mktemp("runs")
    run("cifar-resnet8", data, out / "s0", SHORT, 0)
    run("cifar-resnet8", data, out / "s1", SHORT, 1)
    run("cifar-resnet8", data, out / "B", SHORT, 0, overrides={"shortcut": "B"})
    return out


@pytest.fixture
def recorded(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("resnet_nb.runs.recorded.RECORDED", tmp_path / "recorded")
    return [runs.record(finished / name) for name in ("s0", "s1", "B")]


def test_record_copies_log_and_run_and_the_weights_of_seed_0(finished, recorded):
    assert [folder.name for folder in recorded] == ["cifar-resnet8-s0", "cifar-resnet8-s1", "cifar-resnet8-shortcut-B-s0"]
    assert {folder.parent.name for folder in recorded} == {"shapes10-6x16"}
    assert [(folder / "weights.safetensors").exists() for folder in recorded] == [True, False, False]
    for folder, name in zip(recorded, ("s0", "s1", "B")):
        assert (folder / "log.jsonl").read_bytes() == (finished / name / "log.jsonl").read_bytes()
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        digest = info.pop("weights_sha256", None)
        original = json.loads((finished / name / "run.json").read_text(encoding="utf-8"))
        assert original.pop("weights_sha256") != digest and info == original
        if digest:
            assert digest == hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def test_weights_are_kept_in_16_bits_and_batch_normalization_in_32(finished, recorded):
    full, stored = (load_file(folder / "weights.safetensors") for folder in (finished / "s0", recorded[0]))
    for key, value in full.items():
        assert stored[key].dtype == (torch.float16 if value.ndim > 1 else value.dtype)
        torch.testing.assert_close(stored[key].to(value.dtype), value, rtol=2**-11, atol=1e-7)


def test_a_loaded_network_classifies_as_the_trained_one(data, finished, recorded):
    model, original = runs.load("cifar-resnet8"), load_run(finished / "s0")[0]
    assert not model.training and all(weight.dtype == torch.float32 for weight in model.parameters())
    images = data.center(data.test_images)
    with torch.no_grad():
        torch.testing.assert_close(model(images), original(images), rtol=0, atol=0.02)
    assert evaluate(model, data)[0] == pytest.approx(evaluate(original, data)[0], abs=100 / 30)


def test_frames(finished, recorded):
    index = runs.index()
    assert index[["model", "variant", "seed", "weights"]].values.tolist() == [
        ["cifar-resnet8", "", 0, True],
        ["cifar-resnet8", "", 1, False],
        ["cifar-resnet8", "shortcut B", 0, False],
    ]
    assert set(index["data"]) == {"shapes10"} and set(index["iterations"]) == {6} and set(index["batch_size"]) == {16}
    logs = runs.logs("shapes10-6x16")
    for name, variant, seed in (("s0", "", 0), ("s1", "", 1), ("B", "shortcut B", 0)):
        log = load_run(finished / name)[2]
        mine = logs[(logs["variant"] == variant) & (logs["seed"] == seed)]
        assert mine["iteration"].tolist() == [4, 6] and mine["test_error"].tolist() == [line["test_error"] for line in log]
        assert index.loc[(index["variant"] == variant) & (index["seed"] == seed), "test_error"].item() == log[-1]["test_error"]
    lines = (recorded[1] / "log.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    errors = [load_run(finished / "s0")[2][-1]["test_error"], last["test_error"] - 10]  # two that differ, as few steps may not
    lines[-1] = json.dumps({**last, "test_error": errors[1]})
    (recorded[1] / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    summary = runs.summary()
    row = summary[summary["variant"] == ""].iloc[0]
    assert row["seeds"] == 2 and row["mean"] == pytest.approx(sum(errors) / 2)
    assert row["std"] == pytest.approx(statistics.stdev(errors))
    assert summary["paper"].isna().all()  # Table 6 has no 8 layers


def test_recording_again_is_harmless_and_another_run_is_refused(data, finished, recorded, tmp_path):
    before = {path: path.stat().st_size for path in runs.recorded.RECORDED.rglob("*")}
    assert runs.record(finished / "s0") == recorded[0]
    changed = tmp_path / "other"
    changed.mkdir()
    for path in (finished / "s0").iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    lines = (changed / "log.jsonl").read_text(encoding="utf-8").replace("0.05", "0.06")
    (changed / "log.jsonl").write_text(lines, encoding="utf-8")
    with pytest.raises(InputError, match="another run is recorded"):
        runs.record(changed)
    assert before == {path: path.stat().st_size for path in runs.recorded.RECORDED.rglob("*")}


def test_other_networks_are_not_recorded(data, tmp_path, monkeypatch):
    """A narrower net would otherwise stand beside the paper's number."""
    monkeypatch.setattr("resnet_nb.runs.recorded.RECORDED", tmp_path / "recorded")
    run("cifar-resnet8", data, tmp_path / "out", SHORT, overrides={"width": 4})
    with pytest.raises(InputError, match="width"):
        runs.record(tmp_path / "out")
    assert not runs.recorded.RECORDED.exists()


def test_an_unfinished_run_is_not_recorded(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("resnet_nb.runs.recorded.RECORDED", tmp_path / "recorded")
    run("cifar-resnet8", data, tmp_path / "out", SHORT, deadline=0.0)
    assert main(["record", str(tmp_path / "out")]) == 2
    assert "not a finished run" in capsys.readouterr().err
    assert not runs.recorded.RECORDED.exists()


def test_damaged_or_missing_weights_are_reported(recorded):
    for request in (
        {"name": "cifar-resnet20"},
        {"name": "cifar-resnet8", "seed": 1},
        {"name": "cifar-resnet8", "schedule": "x"},
    ):
        with pytest.raises(InputError, match=r"cifar-resnet8 \(seed 0, shapes10-6x16\)"):
            runs.load(**request)
    path = recorded[0] / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(InputError, match="checksum"):
        runs.load("cifar-resnet8")
    with pytest.raises(InputError, match="shapes10-6x16"):
        runs.logs("table7")


def test_the_paper_number_stands_beside_the_nets_of_table_6(recorded, monkeypatch):
    index = runs.index().assign(model=["cifar-resnet20", "cifar-resnet110", "cifar-resnet20"], schedule="cifar10-64000x128")
    monkeypatch.setattr("resnet_nb.runs.recorded.index", lambda: index)
    found = runs.summary().set_index(["model", "variant"])["paper"]
    assert found["cifar-resnet20", ""] == 8.75 and found["cifar-resnet110", ""] == 6.61
    assert pd.isna(found["cifar-resnet20", "shortcut B"])
    for other in ("shapes10-64000x128", "cifar10-sample-64000x128", "cifar10-8000x128"):
        monkeypatch.setattr("resnet_nb.runs.recorded.index", lambda other=other: index.assign(schedule=other))
        assert runs.summary()["paper"].isna().all()


def test_a_log_is_that_of_its_run(recorded, finished):
    plain, option_b = runs.log("cifar-resnet8"), runs.log("cifar-resnet8", shortcut="B")
    assert plain == load_run(finished / "s0")[2] and option_b != plain
    assert runs.log("cifar-resnet8", 1) == load_run(finished / "s1")[2]
    for request in ({"seed": 2}, {"shortcut": "C"}, {"schedule": "x"}):
        with pytest.raises(InputError, match=r"there are: .*cifar-resnet8, shortcut B \(seed 0, shapes10-6x16\)"):
            runs.log("cifar-resnet8", **request)


# ---- what ships


def test_what_ships_is_small():
    assert sum(path.stat().st_size for path in runs.recorded.RECORDED.rglob("*") if path.is_file()) < 20e6


@pytest.mark.parametrize("folder", SHIPPED["folder"], ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_shipped_run_is_whole(folder):
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    recipe = Recipe(**{**info["recipe"], "drops": tuple(info["recipe"]["drops"])})
    warmup = f"-warmup{recipe.warmup_iterations}" * (recipe.warmup_iterations is not None)
    assert folder.parent.name == f"{info['data']['name']}-{recipe.iterations}x{recipe.batch_size}{warmup}"
    assert log[-1]["iteration"] == recipe.iterations and info["wall_seconds"] > 0
    assert [line["iteration"] for line in log] == sorted({line["iteration"] for line in log})
    assert [line["lr"] for line in log] == pytest.approx(
        [recipe.learning_rate(line["iteration"] - 1, line.get("warmup", 0)) for line in log]
    )
    for line in log:
        assert 0 <= line["test_error"] <= 100 and 0 <= line["train_error"] <= 100
        # a share of 10,000 test images
        assert line["test_error"] * info["data"]["test"] / 100 == pytest.approx(
            round(line["test_error"] * info["data"]["test"] / 100)
        )
    assert info["data"]["name"] != "cifar10" or info["data"]["train"] == 50_000


@pytest.mark.parametrize(
    "row", SHIPPED[SHIPPED["weights"]].to_dict("records"), ids=lambda row: f"{row['schedule']}/{row['model']}"
)
def test_a_shipped_network_loads(row):
    model = runs.load(row["model"], row["seed"], row["schedule"])
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in build(row["model"]).state_dict().items()
    }
    with torch.no_grad():
        logits = model(torch.zeros(2, 3, 32, 32))
    assert torch.isfinite(logits).all() and torch.equal(logits[0], logits[1])


def test_the_readme_quotes_the_recorded_runs():
    """The table of README.md is that of `runs.summary()`, to the digit."""
    readme = (runs.recorded.RECORDED.parent.parent / "README.md").read_text(encoding="utf-8")
    for row in runs.summary().to_dict("records"):
        error = f"{row['mean']:.2f}" + (f" ± {row['std']:.2f}" if row["seeds"] > 1 else "")
        name = ", ".join(filter(None, [row["model"], row["variant"]]))
        [line] = [line for line in readme.splitlines() if line.startswith(f"| {name} | {row['schedule']} |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[2:5] == [str(row["seeds"]), f"{row['train_error']:.2f}", error], line
        printed = "" if pd.isna(row["paper"]) else f"{row['paper']:.2f}"
        assert cells[5] == printed and (not printed or float(printed) in paper_errors())
    tables = re.findall(r"(?s)<!-- (?:full|runs):start -->(.*?)<!--", readme)
    assert len(tables) == 2 and sum(table.count("\n| ") - 1 for table in tables) == len(runs.summary())  # and no others


def paper_errors():
    return {row.get("mean", row["error"]) for row in paper.table(6).rows}
