"""Two gloo processes on the CPU: one run, the batch shared, BN per process, one writer, no hanging."""

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from helpers import finish
from helpers import start_ranks as start
from safetensors.torch import load_file

from resnet_nb.data import Stream, shapes10
from resnet_nb.errors import InputError, Interrupted, TrainingStopped
from resnet_nb.models import build
from resnet_nb.runs import checkpoint, load_run, run
from resnet_nb.train import Recipe, Trainer, World, evaluate

RECIPE = Recipe(iterations=7, batch_size=16, lr=0.05, drops=(3, 5))
SMALL = {"width": 4}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def train(world, out, deadline=None):
    """Body of a rank: the run; then its own weights and what it was fed, in a file beside the run."""
    data, seen, ordinary = shapes10(64, 31), [], Trainer.step

    def step(self, order, codes):
        seen.append((order.tolist(), codes.tolist(), self.rate.item()))
        ordinary(self, order, codes)

    Trainer.step = step
    run("cifar-resnet8", data, Path(out), RECIPE, 3, overrides=SMALL, world=world, deadline=deadline, save_seconds=0.0)
    (Path(out).parent / f"rank{world.rank}.json").write_text(json.dumps(seen), encoding="utf-8")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    assert finish(start(train, folder / "run")) == [0, 0]
    return folder


def test_the_ranks_share_the_batches_and_rates_of_one_process(pair):
    seen = [json.loads((pair / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    stream = Stream(shapes10(64, 31), RECIPE.batch_size, seed=3)
    assert len(seen[0]) == len(seen[1]) == RECIPE.iterations
    for iteration, parts in enumerate(zip(*seen)):
        order, codes = stream.indices(iteration)
        assert parts[0][0] + parts[1][0] == order.tolist()
        assert parts[0][1] + parts[1][1] == codes.tolist()
        assert [part[2] for part in parts] == pytest.approx([RECIPE.learning_rate(iteration)] * 2)


def test_only_rank_0_writes(pair):
    assert sorted(path.name for path in (pair / "run").iterdir()) == ["log.jsonl", "run.json", "weights.safetensors"]
    info = json.loads((pair / "run" / "run.json").read_text(encoding="utf-8"))
    assert info["processes"] == 2
    assert len((pair / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()) == len(load_run(pair / "run")[2]) == 2


def two_halves(data):
    """The paper's two GPUs by hand: each half of a batch has its own BN, the gradients are averaged."""
    torch.manual_seed(3)
    model = build("cifar-resnet8", **SMALL)
    halves = [model, copy.deepcopy(model)]
    velocity = [torch.zeros_like(weight) for weight in model.parameters()]
    stream = Stream(data, RECIPE.batch_size, seed=3)
    losses = []
    for iteration in range(RECIPE.iterations):
        images, labels = stream.batch(iteration)
        gradients = []
        for half, x, y in zip(halves, images.chunk(2), labels.chunk(2)):
            half.load_state_dict(
                {key: value for key, value in model.state_dict().items() if "running" not in key}, strict=False
            )
            loss = F.cross_entropy(half.train()(x), y)
            losses.append(loss.item())
            gradients.append(torch.autograd.grad(loss, list(half.parameters())))
        with torch.no_grad():
            for weight, v, *both in zip(model.parameters(), velocity, *gradients):
                v.mul_(RECIPE.momentum).add_(sum(both) / 2 + RECIPE.weight_decay * weight)
                weight.sub_(RECIPE.learning_rate(iteration) * v)
    return model, losses


def test_two_ranks_are_two_halves_of_a_batch_with_batch_normalization_of_their_own(pair):
    data = shapes10(64, 31)
    model, losses = two_halves(data)
    weights = load_file(pair / "run" / "weights.safetensors")
    for key, want in model.state_dict().items():  # running statistics: those of rank 0
        torch.testing.assert_close(weights[key], want, rtol=2e-3, atol=2e-4, msg=lambda why, key=key: f"{key}: {why}")
    log = load_run(pair / "run")[2]
    assert log[0]["iteration"] == 4 and log[0]["train_loss"] == pytest.approx(sum(losses[:8]) / 8, rel=1e-4)
    assert log[-1]["train_loss"] == pytest.approx(sum(losses[8:]) / 6, rel=1e-3)
    # 31 images by two ranks: each counts once
    assert (log[-1]["test_error"], log[-1]["test_loss"]) == pytest.approx(evaluate(load_run(pair / "run")[0], data), rel=1e-5)
    # and it is not what one process does, which normalizes over all 16
    torch.manual_seed(3)
    alone = Trainer(build("cifar-resnet8", **SMALL), data, RECIPE, seed=3)
    alone.train()
    assert alone.log[0]["train_loss"] != pytest.approx(log[0]["train_loss"], rel=1e-3)


def equal_weights(world, folder):
    data = shapes10(64, 31)
    torch.manual_seed(world.rank)  # DDP gives all ranks the weights of rank 0
    trainer = Trainer(build("cifar-resnet8", **SMALL), data, RECIPE, seed=3, world=world)
    trainer.train()
    torch.save(trainer.model.state_dict(), Path(folder) / f"{world.rank}.pt")


def test_every_rank_ends_with_equal_weights(tmp_path):
    assert finish(start(equal_weights, tmp_path)) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_stopped_pair_continues_to_the_same_bits(pair, tmp_path):
    for iteration in (1, 2):  # each time the deadline has passed before it begins
        assert finish(start(train, tmp_path / "run", 0.0)) == [0, 0]
        assert checkpoint.load(tmp_path / "run")[0]["trainer"]["iteration"] == iteration
    assert finish(start(train, tmp_path / "run")) == [0, 0]
    for name in ("log.jsonl", "weights.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (pair / "run" / name).read_bytes()


def one_fails(world, out):
    """Rank 1 cannot read the data, say: both must end, with the reason, before anything is written."""
    try:
        with world.refuse_together():
            if world.rank == 1:
                raise InputError("no data at 'x'")
    except InputError as error:
        raise SystemExit(42 if "no data at 'x'" in str(error) else 1) from None


def in_use(world, out):
    try:
        train(world, out)
    except InputError as error:
        raise SystemExit(42 if "in use by another process" in str(error) else 1) from None


def test_what_one_rank_cannot_do_ends_all_with_the_reason(tmp_path):
    assert finish(start(one_fails, tmp_path)) == [42, 42]
    with FileLock(tmp_path / ".lock"):
        assert finish(start(in_use, tmp_path)) == [42, 42]
    assert not (tmp_path / "run.json").exists()


def meddle(world, call):
    """`call` in the third step of rank 1."""
    ordinary = Trainer.step

    def step(self, *batch):
        if world.rank == 1 and self.iteration == 2:
            call()
        ordinary(self, *batch)

    Trainer.step = step


def signalled(world, out):
    meddle(world, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        train(world, out)
    except Interrupted as error:
        raise SystemExit(128 + error.signal) from None


def test_a_signal_to_one_rank_is_told_by_all(tmp_path):
    """Some batch systems warn one process only; the others are not "stopped by the time limit"."""
    assert finish(start(signalled, tmp_path / "run")) == [128 + signal.SIGUSR1] * 2
    assert checkpoint.load(tmp_path / "run")[0]["trainer"]["iteration"] == 3


def full(world, out):
    def fail():
        raise MemoryError("11 GiB are not there")

    meddle(world, fail)
    with open(Path(out).parent / f"stderr{world.rank}", "w", encoding="utf-8") as file, contextlib.redirect_stderr(file):
        try:
            train(world, out)
        except (MemoryError, TrainingStopped) as error:
            print(type(error).__name__, file=file)


def test_what_ends_one_rank_alone_is_told_by_it(tmp_path):
    """The first, which talks otherwise, only sees that it is gone."""
    assert finish(start(full, tmp_path / "run")) == [0, 0]
    first, second = ((tmp_path / f"stderr{rank}").read_text(encoding="utf-8") for rank in range(2))
    assert first.splitlines()[-1] == "TrainingStopped" and second == "error: process 1: 11 GiB are not there\nMemoryError\n"


def test_ranks_that_read_different_checkpoints_are_told(monkeypatch):
    for values, same in (((5, 5), True), ((5, 6), False), ((0, 3), False)):
        monkeypatch.setattr(World, "sum", lambda self, value, values=values: torch.tensor(values))
        assert World(0, 2).all_equal(values[0]) is same


def children(process):
    """pids of the ranks below torchrun."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def test_torchrun_trains_and_a_dead_rank_ends_the_job(tmp_path):
    command = ["-m", "resnet_nb", "train", "cifar-resnet8", "--data", "shapes10", "--recipe", "live", "--out", "run"]
    job = subprocess.Popen(
        [*TORCHRUN, *command, "--iterations", "100000"],
        cwd=tmp_path,
        text=True,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        while not (tmp_path / "run" / "log.jsonl").exists():
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.1)
        ranks = children(job)
        assert len(ranks) == 2
        os.kill(max(ranks), signal.SIGKILL)
        began = time.monotonic()
        assert job.wait(60) != 0
        assert time.monotonic() - began < 45
        assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    finally:
        for pid in [*children(job), job.pid]:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        job.stderr.close()
    assert not (tmp_path / "run" / "weights.safetensors").exists()
