"""What the environment carries: ranks and sizes of launchers, whole, leftover, empty or bad; settings of tqdm."""

import os
import subprocess
import sys

import pytest
from test_terminal import LIVE

from resnet_nb import progress
from resnet_nb.cli import main
from resnet_nb.data import shapes10
from resnet_nb.errors import InputError, TrainingStopped, from_environment
from resnet_nb.runs import load_run
from resnet_nb.train import join, local_device, world

WORLD = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29501"}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    drawn = shapes10(40, 20)
    monkeypatch.setattr("resnet_nb.data.shapes10", lambda: drawn)
    for name in [*WORLD, "LOCAL_WORLD_SIZE"]:
        monkeypatch.delenv(name, raising=False)


def carry(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("rank", ["1", "", "x", "-1"])
@pytest.mark.parametrize(
    "args", [["describe", "resnet19"], ["evaluate", "nosuch"], ["train", "alexnet", *LIVE[2:], "r"], ["x"]]
)
def test_who_has_joined_no_world_talks(monkeypatch, capsys, rank, args):
    monkeypatch.setenv("RANK", rank)
    assert main(args) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    "variables",
    [{"RANK": "1"}, {"LOCAL_RANK": "3"}, {"LOCAL_WORLD_SIZE": "8"}, {"WORLD_SIZE": "1", "RANK": "0"}, {"MASTER_PORT": "x"}]
    + [{name: " "} for name in [*WORLD, "LOCAL_WORLD_SIZE"]],
    ids=str,
)
def test_what_is_left_over_or_empty_starts_one_process(monkeypatch, capsys, tmp_path, variables):
    carry(monkeypatch, variables)
    assert main([*LIVE, str(tmp_path / "run")]) == 0
    assert load_run(tmp_path / "run")[1]["processes"] == 1
    out, err = capsys.readouterr()
    assert "after 3 iterations" in out and "3/3" in err


@pytest.mark.parametrize(
    "changes, name",
    [({"WORLD_SIZE": value}, "WORLD_SIZE") for value in ("abc", "-2", "0", "2.0", "9" * 5000)]
    + [({**WORLD, "RANK": value}, "RANK") for value in ("abc", "-1", "2", "")]
    + [({**WORLD, "MASTER_PORT": value}, "MASTER_PORT") for value in ("abc", "0", "70000", "")]
    + [({**WORLD, "LOCAL_RANK": value}, "LOCAL_RANK") for value in ("abc", "-1", "")]
    + [({**WORLD, "LOCAL_WORLD_SIZE": "1"}, "LOCAL_WORLD_SIZE"), ({"LOCAL_WORLD_SIZE": "abc"}, "LOCAL_WORLD_SIZE")]
    + [({**WORLD, "MASTER_ADDR": ""}, "MASTER_ADDR"), ({"WORLD_SIZE": "1", "RANK": "1"}, "RANK")],
)
def test_a_bad_variable_is_named_in_one_line(monkeypatch, capsys, tmp_path, changes, name):
    carry(monkeypatch, changes)
    monkeypatch.setattr(world.dist, "init_process_group", lambda *args, **settings: pytest.fail("the others are waited for"))
    assert main([*LIVE, str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and name in err and "unset" in err and err.count("\n") == 1 and len(err) < 250
    assert not (tmp_path / "run").exists()


def test_others_that_do_not_come_are_told(monkeypatch, capsys, tmp_path):
    """A leftover of a job, say: the line says how to train alone. No silence, though this is process 1."""

    def nobody(*args, **settings):
        raise RuntimeError("timed out after 300 s waiting for clients\nmore of it")

    carry(monkeypatch, WORLD)
    monkeypatch.setattr(world.dist, "init_process_group", nobody)
    assert main([*LIVE, str(tmp_path / "run")]) == 1
    err = capsys.readouterr().err
    assert "do not meet at 127.0.0.1:29501 (timed out" in err and "unset WORLD_SIZE" in err and err.count("\n") == 1
    with pytest.raises(TrainingStopped), join():
        pass


def test_who_has_joined_with_a_rank_above_0_is_silent(monkeypatch, capsys):
    carry(monkeypatch, WORLD)
    monkeypatch.setitem(progress._switch, "leads", True)
    for rank, leads in ((0, True), (1, False)):
        for name, function in (("init_process_group", lambda *a, **s: None), ("destroy_process_group", lambda: None)):
            monkeypatch.setattr(world.dist, name, function)
        monkeypatch.setattr(world.dist, "get_rank", lambda rank=rank: rank)
        with join() as joined:
            assert (joined.rank, joined.size, progress.leads()) == (rank, 2, leads)
        progress.note("a note")
        assert main(["describe", "resnet19"]) == 2  # also what fails after it
        assert bool(capsys.readouterr().err) == leads


def test_each_process_has_its_gpu_also_where_a_launcher_does_not_say_how_many(monkeypatch):
    """SLURM's scripts set LOCAL_RANK and no LOCAL_WORLD_SIZE: not all on the first one."""
    chosen = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == "cuda" and chosen == []  # a leftover
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert local_device("cuda") == "cuda:3" and chosen == ["cuda:3"]
    assert local_device("cpu") == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match="4 processes need as many GPUs, there are 2"):
        local_device("cuda")


def test_an_integer_of_the_environment(monkeypatch):
    for text, value in (("", 7), ("  ", 7), ("3", 3), (" 3\n", 3)):
        monkeypatch.setenv("COUNT", text)
        assert from_environment("COUNT", 7) == value
    monkeypatch.delenv("COUNT")
    assert from_environment("COUNT", 7) == 7
    for text in ("0", "-1", "1e3", "1.0", "x", "0x1", "9"):
        monkeypatch.setenv("COUNT", text)
        with pytest.raises(InputError, match="variable COUNT must be a positive integer up to 8"):
            from_environment("COUNT", 7, most=8)


@pytest.mark.parametrize(
    "variable", ["TQDM_MININTERVAL=abc", "TQDM_DELAY=", "TQDM_BAR_FORMAT={foo}", "TQDM_GUI=1", "TQDM_WRITE_BYTES=1"]
)
def test_a_setting_that_tqdm_cannot_read_is_named_in_one_line(variable):
    name, _, value = variable.partition("=")
    command = [sys.executable, "-m", "resnet_nb", "describe", "cifar-resnet8"]
    done = subprocess.run(command, env={**os.environ, name: value}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and name in done.stderr and done.stderr.count("\n") == 1
