"""Sweeps: the right lists, skipping what is finished, continuing what is not, sharing with other processes."""

import json
import math
import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from helpers import end, start

from resnet_nb import paper
from resnet_nb.data import shapes10
from resnet_nb.errors import InputError
from resnet_nb.models import build
from resnet_nb.models.blocks import ZeroPad
from resnet_nb.recipes import SWEEPS, Job
from resnet_nb.runs import checkpoint, load_run, run
from resnet_nb.runs.sweep import sweep
from resnet_nb.train import RECIPES, Trainer, recipe_for

JOBS = [Job("cifar-resnet8", 0, {"width": 4}, "live"), Job("cifar-plain8", 1, {"width": 4}, "live")]


@pytest.fixture(scope="module")
def data():
    return shapes10(64, 30)


def seeds(name, overrides=None):
    return [job.seed for job in SWEEPS["table6"] if job.model == name and job.overrides == (overrides or {})]


def test_table6_has_the_nets_of_the_paper_and_three_seeds_each():
    depths = [row["layers"] for row in paper.table(6).rows if row["method"] == "ResNet"]
    assert depths == [20, 32, 44, 56, 110, 1202]
    for depth in depths[:-1]:
        assert seeds(f"cifar-plain{depth}") == [0, 1, 2]
        assert seeds(f"cifar-resnet{depth}") == ([0, 1, 2, 3, 4] if depth == 110 else [0, 1, 2])
    assert seeds("cifar-resnet1202") == [0] and SWEEPS["table6"][-1].model == "cifar-resnet1202"
    runs = next(row["runs"] for row in paper.table(6).rows if row["net"] == "ResNet-110")
    assert len(seeds("cifar-resnet110")) == runs


def test_shortcuts_has_the_three_options_at_20_and_56():
    found = {(job.model, job.overrides.get("shortcut", "A"), job.seed) for job in SWEEPS["shortcuts"]}
    assert found == {(f"cifar-resnet{depth}", option, seed) for depth in (20, 56) for option in "ABC" for seed in range(3)}
    # option A is the net's own: its runs are those of table6 and are trained once
    assert {job.folder for job in SWEEPS["shortcuts"]} & {job.folder for job in SWEEPS["table6"]} == {
        f"cifar-resnet{depth}-s{seed}" for depth in (20, 56) for seed in range(3)
    }


def test_preact_has_five_runs_of_every_row_of_tables_1_and_2():
    jobs = [job for job in SWEEPS["preact"] if job.model != "cifar-preact1001"]
    assert {job.recipe for job in SWEEPS["preact"]} == {"preact"}
    placements = {
        (job.model, job.overrides["placement"], job.seed)
        for job in jobs
        if job.overrides.get("bottleneck") or "shortcut" not in job.overrides and "placement" in job.overrides
    }
    nets = [row["net"] for row in paper.table(3, "1603.05027").rows[1:3]]  # ResNet-110 and ResNet-164
    assert placements == {
        (f"cifar-preact{net[7:]}", placement, seed) for net in nets for placement in "abcde" for seed in range(5)
    }
    variants = [job for job in jobs if "shortcut" in job.overrides]
    assert len(variants) == 5 * (
        len(paper.table(1, "1603.05027").rows) - 2
    )  # the original is placement a; "b 0 to -5" is six runs
    assert all(job.model == "cifar-preact110" and job.overrides["placement"] == "a" for job in variants)
    assert [job.overrides["placement"] for job in SWEEPS["preact"][-2:]] == ["e", "a"]  # Table 3, 1,001 layers


def test_higher_order_compares_schemes_at_the_same_depth():
    found = {(job.model, job.seed) for job in SWEEPS["higher-order"]}
    for depth, schemes in ((32, ("euler", "midpoint", "rk4")), (56, ("euler", "midpoint", "rk4")), (92, ("euler", "rk8"))):
        for scheme in schemes:
            assert {(f"cifar-{scheme}{depth}", seed) for seed in range(3)} <= found
    assert len(found) == 3 * 8


def test_fig4_trains_its_four_nets_with_equal_parameters_at_each_depth():
    with torch.device("meta"):
        sizes = {
            job.model: sum(p.numel() for p in build(job.model, **job.overrides).parameters()) for job in SWEEPS["fig4-cpu"]
        }
    assert list(sizes) == ["plain18", "resnet18", "plain34", "resnet34"]
    assert sizes["plain18"] == sizes["resnet18"] < sizes["plain34"] == sizes["resnet34"]


@pytest.mark.parametrize("name", SWEEPS)
def test_the_jobs_can_be_built_and_have_folders_of_their_own(name):
    jobs = SWEEPS[name]
    assert len({job.folder for job in jobs}) == len(jobs)
    for job in {(job.model, *job.overrides.items()): job for job in jobs}.values():
        if "1001" not in job.model:  # takes seconds, and test_preact.py builds it
            with torch.device("meta"):
                build(job.model, **job.overrides)
        assert recipe_for(job.recipe, job.model).iterations == RECIPES[job.recipe].iterations


def test_a_sweep_trains_each_job_in_its_folder_and_skips_it_afterwards(data, tmp_path):
    lines = []
    assert sweep(JOBS, data, tmp_path, iterations=4, report=lines.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-plain8-width-4-s1", "cifar-resnet8-width-4-s0"]
    for job, line in zip(JOBS, lines):
        _, info, log = load_run(tmp_path / job.folder)
        assert (info["model"], info["seed"], info["overrides"]) == (job.model, job.seed, {"width": 4})
        assert log[-1]["iteration"] == 4
        assert job.folder in line and f"{log[-1]['test_error']:.2f} %" in line
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")}
    assert sweep(JOBS, data, tmp_path, iterations=4, report=lines.append)
    assert lines[2:] == lines[:2] and files == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")}


def test_a_sweep_stops_inside_its_limit_and_continues(data, tmp_path):
    lines = []
    limit = time.monotonic() + 1.5
    assert not sweep(JOBS, data, tmp_path, iterations=20_000, deadline=limit, report=lines.append)
    assert time.monotonic() < limit
    assert len(lines) == 1 and "time limit" in lines[0]  # the second job was not begun
    done = checkpoint.load(tmp_path / JOBS[0].folder)[0]["trainer"]["iteration"]
    assert done > 1 and not (tmp_path / JOBS[1].folder).exists()
    sweep(JOBS, data, tmp_path, iterations=20_000, deadline=time.monotonic() + 1.5, report=lines.append)
    assert checkpoint.load(tmp_path / JOBS[0].folder)[0]["trainer"]["iteration"] > done


def test_another_run_in_the_folder_of_a_job_is_refused(data, tmp_path):
    sweep(JOBS[:1], data, tmp_path, iterations=2)
    with pytest.raises(InputError, match="iterations"):
        sweep(JOBS, data, tmp_path, iterations=3)


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_of_an_older_version_is_continued_and_skipped(data, tmp_path, finished):
    """Its run.json has a recipe without the fields that were added later."""
    recipe, info = recipe_for("live", "cifar-resnet8", 4), tmp_path / "run.json"
    run("cifar-resnet8", data, tmp_path, recipe, deadline=None if finished else 0.0)
    before = json.loads(info.read_text(encoding="utf-8"))
    for added in ("warmup_iterations", "patience", "augmentation"):
        assert before["recipe"].pop(added, 0) is None
    info.write_text(json.dumps(before), encoding="utf-8")
    assert run("cifar-resnet8", data, tmp_path, recipe)["iteration"] == 4
    assert ("resumed" in json.loads(info.read_text(encoding="utf-8"))) != finished
    with pytest.raises(InputError, match="recipe"):
        run("cifar-resnet8", data, tmp_path, replace(recipe, warmup_lr=0.01, warmup_iterations=2))


def test_a_run_that_diverges_does_not_keep_the_others_waiting(data, tmp_path, monkeypatch):
    ordinary, lines = Trainer.step, []

    def step(self, *batch):
        if isinstance(self.model.layer2[0].downsample, ZeroPad):  # the residual net, job 1
            with torch.no_grad():
                self.model.fc.bias[0] = math.nan
        ordinary(self, *batch)

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(FloatingPointError, match="1 of 2 runs"):
        sweep(JOBS, data, tmp_path, iterations=4, report=lines.append)
    assert "failed" in lines[0] and "iteration 0" in lines[0] and "test error" in lines[1]


def endless(out):
    torch.set_num_threads(1)
    sweep(JOBS, shapes10(64, 30), out, iterations=10**6)


def test_two_sweeps_share_a_folder_and_one_that_is_killed_continues(tmp_path):
    infos = [tmp_path / job.folder / "run.json" for job in JOBS]
    first = start(endless, tmp_path)
    wait_until(infos[0].exists, first)
    second = start(endless, tmp_path)
    wait_until(infos[1].exists, second)  # not the first job: that one is taken
    assert first.is_alive()
    os.kill(first.pid, signal.SIGTERM)
    assert end(first) != 0
    second.kill()
    assert end(second) == -signal.SIGKILL
    done = checkpoint.load(infos[0].parent)[0]["trainer"]["iteration"]
    again = start(endless, tmp_path)
    wait_until(lambda: "resumed" in json.loads(infos[0].read_text(encoding="utf-8")), again)
    assert [part["iteration"] for part in json.loads(infos[0].read_text(encoding="utf-8"))["resumed"]] == [done] and done > 0
    again.kill()
    end(again)


def wait_until(condition, process):
    while not condition():
        assert process.is_alive()
        time.sleep(0.02)
