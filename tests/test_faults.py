"""Kill it anywhere: processes that die, files that break, disks that fill. Nothing is lost, nothing is half-loaded.

The quick cases run in `make test`; `python -m pytest -m slow tests/test_faults.py` kills 80 more processes.
"""

import errno
import hashlib
import io
import json
import math
import os
import pickle
import random
import re
import resource
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import SERVER, end
from helpers import start as child

from resnet_nb import files
from resnet_nb.cli import main
from resnet_nb.data import Stream, shapes10
from resnet_nb.errors import STOP_SIGNALS, InputError, Interrupted, InUseError, TrainingStopped
from resnet_nb.models import build
from resnet_nb.recipes import WARMUP_ERROR
from resnet_nb.runs import checkpoint, run
from resnet_nb.runs.folder import RunFolder, load_run
from resnet_nb.train import Recipe, Trainer

NET = "cifar-resnet8"
SMALL = {"width": 4}
# 64 images are 4 batches an epoch: the run crosses 2 epochs, 2 drops and the end of a warm-up
RECIPE = Recipe(iterations=12, batch_size=16, lr=0.05, drops=(5, 9), warmup_lr=0.01)


@pytest.fixture(scope="module")
def data():
    return shapes10(64, 30)


def train(out, data=None, **changes):
    """The run of these tests, saved after each iteration; also the body of the child processes."""
    torch.set_num_threads(1)
    settings = {"recipe": RECIPE, "seed": 3, "overrides": SMALL, "save_seconds": 0.0, **changes}
    return run(settings.pop("name", NET), data or shapes10(64, 30), Path(out), **settings)


def snapshot(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def result(out):
    """What must not depend on interruptions: every bit of log and weights."""
    return [(out / name).read_bytes() for name in ("log.jsonl", "weights.safetensors")]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Result of the run in one piece."""
    out = tmp_path_factory.mktemp("whole")
    train(out, data)
    return result(out)


def continued_at(out):
    """Iterations at which a finished run was continued."""
    return [part["iteration"] for part in json.loads((out / "run.json").read_text(encoding="utf-8")).get("resumed", [])]


class Stop(Exception):
    pass


def raise_stop(*args):
    raise Stop


def meddle(patch, iteration, before=None, after=None):
    """Call `before` or `after` with the trainer, around the step of one iteration."""
    ordinary = Trainer.step

    def step(self, *batch):
        if before and self.iteration == iteration:
            before(self)
        ordinary(self, *batch)
        if after and self.iteration == iteration:
            after(self)

    patch.setattr(Trainer, "step", step)


def stop_at(out, data, iteration, **changes):
    """Leave an unfinished run with checkpoints at `iteration` and the one before it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        meddle(patch, iteration, before=raise_stop)
        train(out, data, **changes)


# ---- continuing


@pytest.mark.parametrize("iteration", range(RECIPE.iterations))
def test_stopped_anywhere_the_run_continues_to_the_same_bits(data, whole, tmp_path, iteration):
    stop_at(tmp_path, data, iteration)  # 0: before the first checkpoint; 4, 8: epochs; 5, 9: drops
    torch.rand(7)  # the global generator has moved on meanwhile
    assert train(tmp_path, data)["iteration"] == 12
    assert result(tmp_path) == whole
    assert continued_at(tmp_path) == [iteration][: iteration > 0]  # not begun anew
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "run.json", "weights.safetensors"]


def test_the_global_generator_is_continued(data, tmp_path):
    torch.manual_seed(3)
    build(NET, num_classes=10, **SMALL)
    want = torch.get_rng_state()  # nothing but the weights draws from it
    stop_at(tmp_path, data, 4)
    torch.manual_seed(99)
    train(tmp_path, data)
    assert torch.equal(torch.get_rng_state(), want)


def test_run_json_tells_where_it_was_continued(data, tmp_path, capsys, monkeypatch):
    stop_at(tmp_path, data, 4)
    stop_at(tmp_path, data, 7)
    capsys.readouterr()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    train(tmp_path, data)
    info = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert [part["iteration"] for part in info["resumed"]] == [4, 7]
    assert "1 threads" in info["device"] and "1 threads" in info["resumed"][0]["device"]
    assert "5 threads" in info["resumed"][1]["device"]
    told = capsys.readouterr().err
    assert "continuing at iteration 7" in told and "1 threads" in told and "5 threads" in told
    assert 0 < info["wall_seconds"] < 60


def test_a_deadline_stops_with_a_checkpoint(data, whole, tmp_path):
    assert train(tmp_path, data, deadline=time.monotonic(), save_seconds=99) is None
    assert checkpoint.load(tmp_path)[0]["trainer"]["iteration"] == 1
    train(tmp_path, data)
    assert result(tmp_path) == whole


# ---- processes that die


def announced(out, begun):
    ordinary = Trainer.step

    def step(self, *batch):
        begun.set()
        ordinary(self, *batch)

    Trainer.step = step
    train(out)


def kill_until_finished(out, seed, kills):
    """Start the run again and again, kill -9 each child at a random time; yields when the run is finished."""
    draw, killed = random.Random(seed), 0
    while killed < kills:
        begun = SERVER.Event()
        process = child(announced, out, begun)
        while not begun.wait(0.05) and process.is_alive():
            pass  # one that was killed after its last iteration has nothing left to do
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        killed += end(process) == -signal.SIGKILL
        if process.exitcode == 0:
            yield
            shutil.rmtree(out)
            out.mkdir()
        else:
            assert process.exitcode == -signal.SIGKILL
    assert end(child(train, out)) == 0
    yield


@pytest.mark.parametrize("kills, seed", [(10, 0), (10, 1), pytest.param(80, 2, marks=pytest.mark.slow)])
def test_kill_9_at_random_points_changes_no_bit(whole, tmp_path, kills, seed):
    out = tmp_path / "run"
    out.mkdir()
    continued = set()
    for _ in kill_until_finished(out, seed, kills):
        assert result(out) == whole
        continued |= {*continued_at(out)}
    assert len(continued) > kills // 6  # the kills came in the midst of the training


def die(out, call, point):
    """Train, but die at the `point`-th call of `call` while checkpoints are saved, before it acts or after."""
    count, module = 0, {"fsync": os, "replace": os, "path_replace": Path}[call]
    name = call.removeprefix("path_")
    ordinary = getattr(module, name)

    def deadly(*args):
        nonlocal count
        count += 1
        if count == math.ceil(point / 2) and point % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        ordinary(*args)
        if count == point // 2 and not point % 2:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, deadly)
    train(out)


@pytest.mark.parametrize("call, points", [("fsync", range(9, 17)), ("replace", range(5, 11)), ("path_replace", range(1, 7))])
def test_death_during_a_save_leaves_a_whole_checkpoint(whole, tmp_path, call, points):
    renamed = {"fsync": 11, "replace": 6, "path_replace": 1}[call]  # from here on the first checkpoint is there
    for point in points:  # run.json and log.jsonl come before the first save
        out = tmp_path / str(point)
        assert end(child(die, out, call, point)) == -signal.SIGKILL, point
        state, damage = checkpoint.load(out)
        assert damage == ""
        assert (state is not None) == (point >= renamed)
        assert end(child(train, out)) == 0
        assert result(out) == whole, (call, point)
        assert continued_at(out) == ([] if state is None else [state["trainer"]["iteration"]])
        assert len(list(out.iterdir())) == 3  # what the dead process left is gone


def test_death_after_a_damaged_checkpoint_was_put_aside(whole, data, tmp_path):
    """Between the two renames of a save the only whole checkpoint is the new one."""
    stop_at(tmp_path, data, 6)
    flip(tmp_path / "checkpoint.pt")
    assert end(child(die, tmp_path, "path_replace", 2)) == -signal.SIGKILL
    train(tmp_path, data)
    assert result(tmp_path) == whole and continued_at(tmp_path) == [5, 6]


def test_death_between_the_weights_and_the_end(whole, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(checkpoint, "remove", raise_stop)
        train(tmp_path, data)
    train(tmp_path, data)
    assert result(tmp_path) == whole


def test_a_run_that_another_process_finishes_meanwhile_is_left_alone(whole, data, tmp_path, monkeypatch):
    ordinary = RunFolder.locked

    def late(self):
        monkeypatch.undo()
        train(tmp_path, data)
        return ordinary(self)

    monkeypatch.setattr(RunFolder, "locked", late)
    assert train(tmp_path, data)["iteration"] == 12
    assert result(tmp_path) == whole and continued_at(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 3


def command(out):
    torch.set_num_threads(1)
    raise SystemExit(main(["train", NET, "--data", "shapes10", "--recipe", "live", "--out", str(out)]))


def catches(pid, number):
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what a process catches stands in /proc of Linux")
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_at_the_next_iteration_with_a_checkpoint(tmp_path, number, code):
    process = child(command, tmp_path)
    while not catches(process.pid, signal.SIGHUP):  # which nothing but a training does
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, number)
    assert end(process) == code
    assert 0 < checkpoint.load(tmp_path)[0]["trainer"]["iteration"] < 100
    assert not (tmp_path / "weights.safetensors").exists()


def test_after_a_signal_the_run_continues_to_the_same_bits(data, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        meddle(patch, 6, after=lambda _: os.kill(os.getpid(), signal.SIGTERM))
        train(tmp_path, data, save_seconds=99)
    assert caught.value.signal == signal.SIGTERM
    assert checkpoint.load(tmp_path)[0]["trainer"]["iteration"] == 7  # the iteration was finished
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(tmp_path, data)
    assert result(tmp_path) == whole


@pytest.mark.parametrize("name", "SIGINT SIGTERM SIGHUP SIGQUIT SIGXCPU SIGUSR1 SIGUSR2".split())
def test_each_signal_that_asks_to_end_leaves_a_checkpoint(data, tmp_path, monkeypatch, name):
    """A closed terminal, Ctrl-\\, a limit of CPU time, the warning of a batch system: without a handler each would kill."""
    number = getattr(signal, name)
    monkeypatch.setattr("resnet_nb.data.load", lambda *args: data)
    meddle(monkeypatch, 6, after=lambda _: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    args = ["train", NET, "--data", "shapes10", "--recipe", "live", "--set", "width=4", "--out", str(tmp_path / "run")]
    assert main(args) == 128 + number
    assert checkpoint.load(tmp_path / "run")[0]["trainer"]["iteration"] == 7
    assert signal.getsignal(number) == before


def test_batch_systems_signal_more_than_once_and_the_checkpoint_is_whole(data, whole, tmp_path, monkeypatch):
    repeated = [number for number in STOP_SIGNALS if number not in (signal.SIGINT, signal.SIGQUIT)]
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        meddle(patch, 6, after=lambda _: [os.kill(os.getpid(), number) for number in 2 * repeated])
        train(tmp_path, data, save_seconds=99)
    assert caught.value.signal == repeated[0]
    train(tmp_path, data)
    assert result(tmp_path) == whole and continued_at(tmp_path) == [7]


def test_a_second_ctrl_c_acts_as_ever(data, tmp_path, monkeypatch):
    meddle(monkeypatch, 6, after=lambda _: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    with pytest.raises(KeyboardInterrupt) as caught:
        train(tmp_path, data)
    assert not isinstance(caught.value, Interrupted)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_an_ignored_signal_stays_ignored_and_a_handler_of_the_caller_stays(data, whole, tmp_path, monkeypatch, number):
    """nohup ignores SIGHUP, a shell Ctrl-C of what runs in the background; a script may use SIGUSR1 for itself."""
    heard, before = [], signal.getsignal(number)
    meddle(monkeypatch, 6, after=lambda _: os.kill(os.getpid(), number))
    try:
        for handler in (signal.SIG_IGN, lambda *args: heard.append(args)):
            signal.signal(number, handler)
            train(tmp_path / str(len(list(tmp_path.iterdir()))), data)
            assert signal.getsignal(number) == handler
    finally:
        signal.signal(number, before)
    assert len(heard) == 1 and [result(out) for out in tmp_path.iterdir()] == [whole, whole]


def raising(kind):
    def fail(*args, **settings):
        raise kind("something")

    return fail


@pytest.mark.parametrize("kind", [MemoryError, KeyError, OSError, RuntimeError, TrainingStopped, InputError, ZeroDivisionError])
@pytest.mark.parametrize("place", ["resnet_nb.data.Stream.images", "resnet_nb.train.loop.evaluate", "report"])
def test_after_an_exception_the_work_is_kept_unless_it_broke_off_a_step(data, whole, tmp_path, monkeypatch, kind, place):
    """A reader that fails, an evaluation, the log: the state between two steps is whole, and no line is missing later."""
    with monkeypatch.context() as patch, pytest.raises(kind):
        if place == "report":
            place = "resnet_nb.runs.training.RunFolder.append"
        meddle(patch, 5, before=lambda _: patch.setattr(place, raising(kind)))
        train(tmp_path, data, save_seconds=99)
    state, _ = checkpoint.load(tmp_path)
    if place.endswith("images"):  # inside a step: half of it may be done
        assert state is None
    else:
        assert state["trainer"]["iteration"] in (6, 8)  # where the next line was due
    train(tmp_path, data)
    assert result(tmp_path) == whole


def test_a_reader_that_fails_between_two_steps_costs_nothing(data, whole, tmp_path, monkeypatch):
    ordinary = Stream.batches

    def failing(self, start, stop, share):
        for number, batch in enumerate(ordinary(self, start, stop, share)):
            if number == 7:
                raise KeyError("a reader")
            yield batch

    with monkeypatch.context() as patch, pytest.raises(KeyError):
        patch.setattr(Stream, "batches", failing)
        train(tmp_path, data, save_seconds=99)
    train(tmp_path, data)
    assert result(tmp_path) == whole and continued_at(tmp_path) == [7]


def test_a_signal_in_the_last_iteration_is_not_lost(data, whole, tmp_path, monkeypatch):
    """A sweep would otherwise go on with the next run."""
    meddle(monkeypatch, 11, after=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="when the run was finished"):  # no word of a checkpoint: there is none
        train(tmp_path, data)
    assert result(tmp_path) == whole


def hold(out, ready):
    def wait(self, *batch):
        ready.set()
        time.sleep(60)

    Trainer.step = wait
    train(out)


def test_a_second_process_is_refused_until_the_first_is_gone(data, whole, tmp_path):
    ready = SERVER.Event()
    process = child(hold, tmp_path, ready)
    assert ready.wait(30)
    before = snapshot(tmp_path)
    with pytest.raises(InUseError, match="in use by another process"):
        train(tmp_path, data)
    assert snapshot(tmp_path) == before
    process.kill()
    assert end(process) == -signal.SIGKILL
    train(tmp_path, data)  # the lock has gone with its process
    assert result(tmp_path) == whole


# ---- files that break


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, flip])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(data, whole, tmp_path, capsys, damage):
    stop_at(tmp_path, data, 6)
    damage(tmp_path / "checkpoint.pt")
    capsys.readouterr()
    train(tmp_path, data)
    told = capsys.readouterr().err
    assert f"{tmp_path / 'checkpoint.pt'} is damaged" in told and "continuing at iteration 5" in told
    assert result(tmp_path) == whole


@pytest.mark.parametrize("damage", [truncate, empty, flip])
def test_without_a_whole_checkpoint_nothing_is_loaded_or_deleted(data, tmp_path, damage):
    stop_at(tmp_path, data, 6)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        damage(tmp_path / name)
    before = snapshot(tmp_path)
    with pytest.raises(InputError) as caught:
        train(tmp_path, data)
    assert "checkpoint.pt" in str(caught.value) and "checkpoint.previous.pt" in str(caught.value)
    assert snapshot(tmp_path) == before


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_a_malicious_checkpoint_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    stop_at(out, data, 6)
    (out / "checkpoint.previous.pt").unlink()
    for content in (pickle.dumps(Evil(), protocol=2), saved({"settings": Evil()})):
        (out / "checkpoint.pt").write_bytes(content + hashlib.sha256(content).hexdigest().encode())
        with pytest.raises(InputError, match="damaged"):
            train(out, data)
    assert not (tmp_path / "evil").exists()


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_what_cannot_be_saved_leaves_the_checkpoint_alone(tmp_path):
    checkpoint.save(tmp_path, {"a": 1})
    before = snapshot(tmp_path)
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoint.save(tmp_path, {"a": lambda: 1})
    assert snapshot(tmp_path) == before


def test_torch_can_read_a_checkpoint(data, tmp_path):
    stop_at(tmp_path, data, 6)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["trainer"]["iteration"] == 6 and state["settings"]["seed"] == 3


@pytest.mark.parametrize(
    "changes, shown",
    [
        ({"name": "cifar-plain8"}, ["cifar-resnet8", "cifar-plain8"]),
        ({"overrides": {"width": 4, "shortcut": "B"}}, ['"shortcut": "B"']),
        ({"seed": 4}, ["3", "4"]),
        ({"recipe": replace(RECIPE, iterations=13)}, ["12", "13"]),
        ({"recipe": replace(RECIPE, batch_size=8)}, ["16", "8"]),
        ({"data": shapes10(64, 20)}, ["30", "20"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_unfinished_run_of_other_settings_is_refused(data, tmp_path, changes, shown):
    ours, other = tmp_path / "ours", tmp_path / "other"
    stop_at(ours, data, 2)
    stop_at(other, **{"data": data, "iteration": 2, **changes})
    before = snapshot(ours)
    with pytest.raises(InputError) as caught:
        train(ours, **{"data": data, **changes})
    assert all(text in str(caught.value) for text in [str(ours), *shown])
    assert snapshot(ours) == before
    # run.json is the right one, the checkpoint is not
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        shutil.copy(other / name, ours / name)
    before = snapshot(ours)
    with pytest.raises(InputError, match="the checkpoint in .* is of another run") as caught:
        train(ours, data)
    assert all(text in str(caught.value) for text in [str(ours), *shown])
    assert snapshot(ours) == before


@pytest.mark.parametrize("stopped", [True, False])
def test_data_that_moved_are_the_same_data(data, whole, tmp_path, stopped):
    """Their folder got another name; the fingerprint is that of the images."""
    if stopped:
        stop_at(tmp_path, data, 7)
    else:
        train(tmp_path, data)
    moved = replace(data, name="moved")
    assert train(tmp_path, moved)["iteration"] == 12 and result(tmp_path) == whole
    names = [json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["data"]["name"], data.name, "moved"]
    assert names[0] in names[1:]
    other = replace(data, train_labels=data.train_labels.flip(0))
    with pytest.raises(InputError, match="its data is"):
        train(tmp_path, other)


def with_the_old_meter(out):
    """Its checkpoint as a version before wrote it: the device decided when the warm-up ends."""
    state, _ = checkpoint.load(out)
    state["trainer"]["meter"] |= {"recent": torch.ones(100), "warmup": torch.tensor(7), "warming": torch.tensor(1)}
    checkpoint.save(out, state)


def test_a_checkpoint_of_an_older_version_is_continued(data, tmp_path):
    recipe = replace(RECIPE, warmup_lr=None)
    train(tmp_path / "whole", data, recipe=recipe)
    stop_at(tmp_path / "run", data, 7, recipe=recipe)
    with_the_old_meter(tmp_path / "run")
    assert train(tmp_path / "run", data, recipe=recipe)["iteration"] == 12
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_a_warm_up_that_ended_by_another_rule_is_not_continued_in_silence(data, tmp_path):
    stop_at(tmp_path, data, 7)
    with_the_old_meter(tmp_path)
    with pytest.raises(InputError, match="another rule"):
        train(tmp_path, data)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": 1_000},
        {"recipe": replace(RECIPE, drops=tuple(range(1_000)))},
        {"overrides": {"width": 4, **{f"name{i}": i for i in range(100)}}},
        {"name": "cifar-" + 500 * "resnet"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_refused_is_told_in_one_readable_line(data, tmp_path, changes):
    """Also when what differs is long, such as a thousand class names."""
    stop_at(tmp_path, data, 2)
    if "data" in changes:
        changes = {"data": replace(data, classes=tuple(f"class number {i}" for i in range(changes["data"])))}
    with pytest.raises(InputError) as caught:
        train(tmp_path, **{"data": data, **changes})
    line = str(caught.value).replace(str(tmp_path), "")
    assert len(line.splitlines()) == 1 and len(line) < 320 and "another run" in line and "choose another folder" in line


def test_an_unfinished_run_is_not_continued_with_other_processes_or_arithmetic(data, tmp_path):
    stop_at(tmp_path, data, 2)
    info = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    for key, value in (("processes", 2), ("precision", "bf16")):
        assert info[key] != value
        (tmp_path / "run.json").write_text(json.dumps({**info, key: value}), encoding="utf-8")
        with pytest.raises(InputError) as caught:
            train(tmp_path, data)
        assert all(str(text) in str(caught.value) for text in (key, value, info[key]))


# ---- disks that fill


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint(data, whole, tmp_path, monkeypatch):
    stop_at(tmp_path, data, 6)
    before = {name: (tmp_path / name).read_bytes() for name in ("checkpoint.pt", "checkpoint.previous.pt")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # a checkpoint is larger, run.json is not
    try:
        with pytest.raises(TrainingStopped) as caught:
            train(tmp_path, data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path) in str(caught.value) and "too large" in str(caught.value)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not list(tmp_path.glob(".*.tmp"))
    train(tmp_path, data)
    assert result(tmp_path) == whole


@pytest.mark.parametrize("file", ["run.json", "log.jsonl", "weights.safetensors"])
def test_a_full_disk_at_other_files(data, whole, tmp_path, monkeypatch, file):
    def full(path, content):
        if path.name == file:
            raise OSError(28, os.strerror(28))
        return files.write_atomically(path, content)

    stop_at(tmp_path, data, 6)
    with monkeypatch.context() as patch, pytest.raises(TrainingStopped, match="No space left"):
        patch.setattr("resnet_nb.runs.folder.write_atomically", full)
        train(tmp_path, data)
    train(tmp_path, data)
    assert result(tmp_path) == whole


@pytest.mark.parametrize(
    "name, advice",
    [
        *(("ENOSPC", "make room"), ("EDQUOT", "make room"), ("EROFS", "read-only"), ("EIO", "network drive")),
        *(("ESTALE", "network drive"), ("EFBIG", "ulimit"), ("EMFILE", "open files"), ("ENOENT", "removed or renamed")),
        *((name, "another program may hold it") for name in ("EACCES", "EPERM", "EBUSY")),
    ],
)
def test_the_advice_fits_the_error(data, tmp_path, monkeypatch, name, advice):
    number, waited = getattr(errno, name), []
    monkeypatch.setattr(files, "wait", waited.append)
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(TrainingStopped) as caught:
        train(tmp_path, data)
    line = str(caught.value)
    assert (
        advice in line and os.strerror(number) in line and str(tmp_path) in line and ("make room" in line) == ("make" in advice)
    )
    assert bool(waited) == advice.startswith("another") and sum(waited) < 2


def held(call, number, times):
    """`call` that fails for the first `times` times on each file, as while another program reads it."""
    tries = {}

    def act(*args, **settings):
        path = str(args[0]).partition(f".{os.getpid()}.")[0]
        if path.endswith((".jsonl", ".json", ".pt", ".safetensors", ".lock")):
            tries[path] = tries.get(path, 0) + 1
            if tries[path] <= times:
                raise PermissionError(number, os.strerror(number))
        return call(*args, **settings)

    return act, tries


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EBUSY])
@pytest.mark.parametrize("module, name", [(os, "replace"), (Path, "replace"), (Path, "unlink"), (Path, "read_bytes")])
def test_a_file_that_is_held_for_a_moment_is_waited_for(data, whole, tmp_path, monkeypatch, module, name, number):
    stop_at(tmp_path, data, 6)
    waited = []
    with monkeypatch.context() as patch:
        act, tries = held(getattr(module, name), number, 3)
        patch.setattr(files, "wait", waited.append)
        patch.setattr(module, name, act)
        train(tmp_path, data)
    assert result(tmp_path) == whole and continued_at(tmp_path)[-1] == 6
    assert tries and len(waited) >= 3 and all(0 < seconds < 1 for seconds in waited)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_log_that_is_held_for_a_moment_is_waited_for(data, whole, tmp_path, monkeypatch):
    ordinary = open
    act, tries = held(open, errno.EACCES, 2)
    monkeypatch.setattr(files, "wait", lambda seconds: None)
    monkeypatch.setattr("builtins.open", lambda path, *args, **named: (act if "ab" in args else ordinary)(path, *args, **named))
    train(tmp_path, data)
    assert tries and result(tmp_path) == whole


@pytest.mark.parametrize("name", ["checkpoint.pt", "run.json"])
def test_what_may_not_be_read_is_not_called_damaged(data, tmp_path, monkeypatch, name):
    """Nothing is to be deleted, and no older checkpoint is taken."""
    stop_at(tmp_path, data, 6)
    before = snapshot(tmp_path)
    act, _ = held(Path.read_bytes, errno.EACCES, 99)
    with monkeypatch.context() as patch, pytest.raises(InputError) as caught:
        patch.setattr(files, "wait", lambda seconds: None)
        ordinary = Path.read_bytes
        patch.setattr(Path, "read_bytes", lambda path: (act if path.name == name else ordinary)(path))
        train(tmp_path, data)
    assert f"cannot read {tmp_path / name} (Permission denied: another program may hold it" in str(caught.value)
    assert "damaged" not in str(caught.value) and "delete" not in str(caught.value) and snapshot(tmp_path) == before


def test_half_a_line_of_a_full_disk_does_not_stay_in_the_log(data, whole, tmp_path):
    stop_at(tmp_path, data, 9)
    log = (tmp_path / "log.jsonl").read_bytes()
    (tmp_path / "log.jsonl").write_bytes(log + log[:20])
    train(tmp_path, data)
    assert result(tmp_path) == whole


SYSTEM = ".DS_Store .gitkeep ._run.json .nfs0000000012 .ipynb_checkpoints .stfolder .dropbox .Trash-1000".split()
SYSTEM += "Thumbs.db THUMBS.DB ehthumbs.db desktop.ini Desktop.ini lost+found @eaDir __MACOSX $RECYCLE.BIN #recycle".split()
SYSTEM += ["System Volume Information"]


def test_files_of_a_system_are_known():
    assert all(map(files.is_system_file, SYSTEM))
    assert not any(
        map(files.is_system_file, ["cat", "run.json", "thumbs", "lost", "a.DS_Store", "MACOSX", "desktop", "recycle"])
    )


@pytest.mark.parametrize("folders", [True, False])
def test_files_of_a_system_do_not_make_a_folder_full(data, whole, tmp_path, folders):
    """They are there before, or come into an unfinished or finished run; they stay."""

    def put(name):
        (tmp_path / name).mkdir(exist_ok=True) if folders else (tmp_path / name).write_bytes(b"not ours")

    for name in SYSTEM:
        put(name)
    stop_at(tmp_path, data, 4)
    for name in [".log.jsonl.swp", ".other.tmp"]:
        put(name)
    train(tmp_path, data)
    put(".nfs1")
    train(tmp_path, data)
    assert result(tmp_path) == whole and continued_at(tmp_path) == [4]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*SYSTEM, ".log.jsonl.swp", ".other.tmp", ".nfs1", "log.jsonl", "run.json", "weights.safetensors"}
    out = tmp_path / "own"
    out.mkdir()
    (out / "thesis.tex").write_bytes(b"years of work")
    with pytest.raises(InputError, match="not empty"):
        train(out, data)


def test_a_folder_that_vanishes_stops_the_run(data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    meddle(monkeypatch, 3, before=lambda _: shutil.rmtree(out))
    with pytest.raises(TrainingStopped, match="cannot write"):
        train(out, data)


def unprivileged(out):
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        train(out)
    except InputError as error:
        raise SystemExit(42 if "cannot write to" in str(error) and str(out) in str(error) else 1) from None


def test_a_read_only_folder_is_refused():
    folder = Path(tempfile.mkdtemp())  # pytest's folders are closed to other users
    try:
        folder.chmod(0o555)
        assert end(child(unprivileged, folder / "run")) == 42
        assert end(child(unprivileged, folder)) == 42
        assert not list(folder.iterdir())
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# ---- numbers that break


def set_weight(trainer, value):
    with torch.no_grad():
        trainer.model.fc.weight[0, 0] = value


def test_a_loss_that_is_not_finite_names_iteration_and_last_good_checkpoint(data, tmp_path, monkeypatch):
    meddle(monkeypatch, 5, before=lambda trainer: set_weight(trainer, math.nan))
    with pytest.raises(FloatingPointError) as caught:
        train(tmp_path, data)
    message = str(caught.value)
    assert "at iteration 5 " in message and "checkpoint" in message and "of iteration 5" in message and str(tmp_path) in message
    state = checkpoint.load(tmp_path)[0]["trainer"]
    assert state["iteration"] == 5
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_weights_that_are_not_finite_are_not_saved(data, tmp_path, monkeypatch):
    meddle(monkeypatch, 5, after=lambda trainer: set_weight(trainer, math.inf))  # the loss of this batch was fine
    with pytest.raises(FloatingPointError, match="last good checkpoint .* of iteration 5"):
        train(tmp_path, data)
    assert checkpoint.load(tmp_path)[0]["trainer"]["iteration"] == 5


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("name", ["fc.weight", "layer1.0.bn1.running_var", "layer3.0.bn2.bias"])
def test_a_number_that_is_not_finite_is_named(data, name, value):
    """A weight is not the loss, no iteration of the future is blamed, and the statistics of BN count, too."""
    torch.manual_seed(0)
    trainer = Trainer(build(NET, **SMALL), data, RECIPE, seed=1)
    trainer.train(pause=lambda trainer: trainer.iteration == 3)
    trainer.check_finite()
    with torch.no_grad():
        trainer.model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(FloatingPointError) as caught:
        trainer.check_finite()
    assert f"{name} is not finite after 3 iterations" in str(caught.value) and "loss" not in str(caught.value)


def test_statistics_that_are_not_finite_are_not_saved(data, tmp_path, monkeypatch):
    def spoil(trainer):
        trainer.model.layer1[0].bn1.running_var[0] = math.nan

    meddle(monkeypatch, 5, after=spoil)
    with pytest.raises(FloatingPointError, match="running_var .*last good checkpoint .* of iteration 5"):
        train(tmp_path, data)
    assert all(torch.isfinite(value).all() for value in checkpoint.load(tmp_path)[0]["trainer"]["model"].values())


def test_the_step_does_not_read_from_the_device(data, monkeypatch):
    """`.item()`, `.tolist()` and the like would make a GPU wait; lines and checkpoints may, steps may not."""
    torch.manual_seed(0)
    trainer = Trainer(build(NET, **SMALL), data, RECIPE, seed=1, every=100)
    trainer.optimizer.param_groups[0]["lr"] = 0.01  # on the CPU SGD reads its own learning rate; fused CUDA does not

    def forbidden(*args):
        raise AssertionError("a step reads from the device")

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    for iteration in range(3):
        trainer.step(*trainer.stream.indices(iteration))


# ---- the warm-up


@pytest.mark.parametrize("every", [1, 7, 50, 150, 400])
def test_the_warm_up_ends_when_the_training_error_is_below_80_percent(data, every, monkeypatch):
    """The rates and the end of the warm-up, recomputed from the batches' errors: how often there is a line changes nothing."""
    recipe = Recipe(iterations=400, batch_size=16, lr=0.05, drops=(300,), warmup_lr=0.01)
    torch.manual_seed(0)
    trainer, rates, wrongs = Trainer(build(NET, **SMALL), data, recipe, seed=1, every=every), [], []
    update = trainer.meter.update
    monkeypatch.setattr(trainer.meter, "update", lambda values: wrongs.append(100 * values[1].item()) or update(values))
    monkeypatch.setattr("resnet_nb.train.loop.evaluate", lambda *args, **options: (50.0, 1.0))  # as fast as every line needs
    trainer.train(pause=lambda trainer: rates.append(trainer.rate.item()))
    windows = [sum(wrongs[start : start + 100]) / 100 for start in range(0, 400, 100)]
    warmup = 100 * (1 + next(i for i, mean in enumerate(windows) if mean < WARMUP_ERROR))
    assert warmup < 300
    assert rates == pytest.approx([0.01] * warmup + [0.05] * (300 - warmup) + [0.005] * 100)
    assert rates == pytest.approx([recipe.learning_rate(i, warmup) for i in range(400)])
    assert [line["warmup"] for line in trainer.log] == [min(line["iteration"], warmup) for line in trainer.log]
    assert [line["lr"] for line in trainer.log] == pytest.approx([rates[line["iteration"] - 1] for line in trainer.log])


@pytest.mark.parametrize("gone", ["deleted", "renamed"])
def test_a_run_does_not_write_into_the_folder_of_another_one(data, tmp_path, gone):
    """The folder is removed in the middle, and another run begins under its name."""
    out = tmp_path / "run"

    def begin_another(trainer):
        shutil.rmtree(out) if gone == "deleted" else out.rename(tmp_path / "old")
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Trainer, "step", ordinary)
            stop_at(out, data, 3, seed=9)

    ordinary = Trainer.step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TrainingStopped, match="was removed or renamed"):
        meddle(patch, 5, before=begin_another)
        train(out, data)
    assert checkpoint.load(out)[0]["settings"]["seed"] == 9 and not (out / "weights.safetensors").exists()
    assert train(out, data, seed=9)["iteration"] == 12
    assert continued_at(out) == [3]


@pytest.mark.parametrize("change", [{"device": None}, {"versions": None}, {"resumed": "x"}, {"resumed": [{}]}])
def test_an_incomplete_run_json_is_told(data, tmp_path, change):
    stop_at(tmp_path, data, 4)
    path = tmp_path / "run.json"
    info = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps({key: value for key, value in info.items() if value is not None}), encoding="utf-8")
    with pytest.raises(InputError, match="run.json is damaged"):
        train(tmp_path, data)


@pytest.mark.parametrize("key", ["source", "data", "recipe"])
def test_a_finished_run_without_a_part_of_run_json_is_told(data, tmp_path, key):
    train(tmp_path, data)
    path = tmp_path / "run.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    del info[key]
    path.write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        load_run(tmp_path)
