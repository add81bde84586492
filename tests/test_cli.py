"""`python -m resnet_nb`: what it prints, what it writes, and one line for bad input."""

import ast
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import PIL.Image
import pytest
import torch

from resnet_nb import OLDEST_TORCH, __version__, cli, progress, train
from resnet_nb.bench import Bench, bench
from resnet_nb.cli import COMMANDS, OPTION_OF, WELCOME, commands, main, parser
from resnet_nb.data import load, shapes10
from resnet_nb.errors import InputError
from resnet_nb.paper import counts
from resnet_nb.progress import shown

FILES = ["log.jsonl", "run.json", "weights.safetensors"]


def write_pictures(root, data):
    """The images of a data set as a folder of PNG files."""
    for part in ("train", "test"):
        images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        for i, (image, label) in enumerate(zip(images.numpy(), labels)):
            folder = root / part / data.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:02}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of shapes: 40 images to train on and 20 to test, 32x32 pixels, as PNG."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_pictures(root, shapes10(40, 20))
    load(root)  # decoded once, so that no test sees the bar of the first time
    return root


def python(*args, folder):
    command = [sys.executable, "-m", "resnet_nb", *map(str, args)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here: more would add in another order
    return subprocess.run(command, cwd=folder, env=one_thread, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """One training run by a process of its own: (its result, DIR)."""
    out = tmp_path_factory.mktemp("runs") / "first"
    args = ["train", "cifar-resnet8", "--data", pictures, "--out", out, "--recipe", "live", "--iterations", 2, "--seed", 3]
    return python(*args, folder=out.parent), out


def last_line(out):
    return json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])


# ---- the commands


def test_train(trained):
    result, out = trained
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert "2/2" in result.stderr and "cifar-resnet8" in result.stderr  # the bar
    assert result.stdout.count("\n") == 1  # and one line for a pipe
    assert f"{last_line(out)['test_error']:.2f} %" in result.stdout and str(out) in result.stdout
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert (info["seed"], info["recipe"]["iterations"], info["recipe"]["batch_size"]) == (3, 2, 32)
    assert info["data"]["train"] == 40 and info["data"]["test"] == 20


def test_train_again_does_nothing(trained, pictures, capsys):
    result, out = trained
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    args = ["train", "cifar-resnet8", "--data", pictures, "--out", out, "--recipe", "live", "--iterations", 2, "--seed", 3]
    assert main([*map(str, args)]) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()} == before
    assert capsys.readouterr().out == result.stdout


def test_evaluate_prints_the_logged_error(trained, capsys):
    _, out = trained
    assert main(["evaluate", str(out)]) == 0  # the data are found where the run found them
    printed, noted = capsys.readouterr()
    assert f"test error {last_line(out)['test_error']:.2f} %" in printed and noted == ""


def test_evaluate_on_other_data_says_so(trained, pictures, tmp_path, capsys):
    for part in ("train", "test"):
        for source in (pictures / part).rglob("*.png"):
            target = tmp_path / part / source.parent.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.open(source).rotate(90).save(target)
    _, out = trained
    assert main(["evaluate", str(out), "--data", str(tmp_path)]) == 0
    assert "other data" in capsys.readouterr().err


def test_the_seed_decides(trained, pictures, tmp_path):
    for name, seed in (("same", "3"), ("other", "4")):
        args = ["train", "cifar-resnet8", "--data", str(pictures), "--recipe", "live", "--iterations", "2"]
        assert main([*args, "--out", str(tmp_path / name), "--seed", seed]) == 0
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (trained[1], tmp_path / "same", tmp_path / "other")]
    assert weights[0] == weights[1] != weights[2]  # bit for bit, in another process


@pytest.mark.parametrize("name, size", [("cifar-resnet20", []), ("resnet50", []), ("resnet50", ["--size", "64"])])
def test_describe(capsys, name, size):
    assert main(["describe", name, *size]) == 0
    out = capsys.readouterr().out
    want = counts(name)
    assert f"{want['params']:,} parameters" in out and f"{name[name.index('net') + 3 :]} weighted layers" in out
    assert (f"{want['multiply_adds']:,} multiply-adds" in out) == (not size)
    sides = {"cifar-resnet20": "32, 16, 8", "resnet50": "16, 8, 4, 2" if size else "56, 28, 14, 7"}
    assert sides[name] in out


def test_without_arguments_it_says_what_it_can_do(tmp_path):
    """At once: what takes seconds to import is not imported."""
    watched = "import sys; from resnet_nb.cli import main; code = main([]); sys.exit(code or 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", watched], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)
    assert len(result.stdout.splitlines()) <= 20 and max(map(len, result.stdout.splitlines())) <= 110
    assert list(tmp_path.iterdir()) == []


def test_what_is_proposed_first_works_in_an_empty_folder(tmp_path, monkeypatch, capsys):
    """As it stands, but with fewer and smaller steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "recipe_for", lambda *args: train.RECIPES["live"].shortened(2))
    monkeypatch.setattr("resnet_nb.data.shapes10", lambda: shapes10(40, 20))
    proposed = [shlex.split(line)[3:] for line in WELCOME.splitlines() if line.startswith("  python -m resnet_nb ")]
    assert [words[0] for words in proposed] == ["describe", "train", "evaluate"]
    assert [main(words) for words in proposed] == [0, 0, 0]
    described, _, trained, evaluated = capsys.readouterr().out.splitlines()
    assert "50 weighted layers" in described
    assert re.search(r"test error \d+\.\d\d %", trained)[0] == re.search(r"test error \d+\.\d\d %", evaluated)[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0 and f"-m resnet_nb {name} " in out.partition("\nexamples:\n")[2]


@pytest.mark.parametrize("installed", ["2.5.1", "2.5.1+cu124", "1.13.1"])
def test_an_older_torch_is_told_in_one_line(tmp_path, installed):
    """The line of `python -m resnet_nb`, and the last one of a notebook's traceback."""
    (tmp_path / "torch-0.dist-info").mkdir()
    (tmp_path / "torch-0.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torch\nVersion: {installed}\n", encoding="utf-8"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for how, lines in (["-m", "resnet_nb"], 1), (["-c", "import resnet_nb"], None):
        result = subprocess.run([sys.executable, *how], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
        told = result.stderr.splitlines()
        assert result.returncode == 1 and len(told) == (lines or len(told)), result.stderr
        assert f"torch {OLDEST_TORCH} or newer, and {installed} is installed" in told[-1] and "pip install" in told[-1]


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def left(self):
        """The line that the cursor stands on."""
        return self.getvalue().rpartition("\n")[2].rstrip("\r").rpartition("\r")[2].strip()


def on_a_terminal(monkeypatch):
    """What stands for stderr from now on."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def test_a_terminal_shows_what_takes_seconds(trained, pictures, tmp_path, monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    assert main(["describe", "cifar-resnet20"]) == 0
    assert "loading PyTorch ..." in terminal.getvalue() and "counting the layers of cifar-resnet20 ..." in terminal.getvalue()
    assert main(["evaluate", str(trained[1])]) == 0
    assert f"reading {pictures} ..." in terminal.getvalue() and re.search(r"testing: .* 0/20 ", terminal.getvalue())
    assert terminal.left() == ""
    args = ["train", "cifar-resnet8", "--data", pictures, "--out", tmp_path / "out", "--recipe", "live", "--iterations", 2]
    assert main([*map(str, args)]) == 0
    assert len(re.findall(r"testing: .* 0/20 ", terminal.getvalue())) == 2  # the evaluation of the training, too


def test_bars_of_drawing_and_of_the_bench(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    for peak in ("_peak_flops", "_peak_bytes"):
        monkeypatch.setattr(f"resnet_nb.bench.{peak}", lambda *args: 1e9)
    with shown():
        data = shapes10(96, 10)
        assert re.search(r"drawing shapes10: .* 0/96 ", terminal.getvalue()) and terminal.left() == ""
        bench("cifar-resnet8", data, batch_size=32, rounds=2, seconds=0.01)
    assert re.search(r"cifar-resnet8: 100%.*6/6", terminal.getvalue())  # one timing to set up and two rounds, of each loop


def test_only_the_command_line_shows_bars_and_only_one_process(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    shapes10(96, 10)  # as a notebook calls it
    monkeypatch.setitem(progress._switch, "leads", False)  # as in a world that it has joined
    with shown():
        shapes10(96, 10)
    assert terminal.getvalue() == ""


def test_a_file_gets_no_bar_of_what_is_soon_over(trained, capsys):
    assert main(["evaluate", str(trained[1])]) == 0
    assert capsys.readouterr().err == ""


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("text, seconds", [("90s", 90), ("25m", 1500), ("2h", 7200), ("1.5h", 5400), ("40", 40)])
def test_time_limits(text, seconds):
    args = parser().parse_args(["train", "cifar-resnet8", "--data", "shapes10", "--out", "x", "--time-limit", text])
    assert args.time_limit == seconds


def test_a_time_limit_stops_and_the_same_command_continues(pictures, tmp_path, capsys):
    args = ["train", "cifar-resnet8", "--data", str(pictures), "--recipe", "live", "--iterations", "3", "--out"]
    out = tmp_path / "out"
    for iteration in (1, 2):
        assert main([*args, str(out), "--time-limit", "0.01s"]) == 0
        assert "stopped by the time limit" in capsys.readouterr().out
        assert torch.load(out / "checkpoint.pt", weights_only=True)["trainer"]["iteration"] == iteration
    assert main([*args, str(out)]) == 0 and main([*args, str(tmp_path / "whole")]) == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    for name in ("log.jsonl", "weights.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_option_of_the_shortcuts(pictures, tmp_path, capsys):
    args = ["train", "cifar-resnet8", "--data", str(pictures), "--recipe", "live", "--iterations", "1", "--out"]
    assert main([*args, str(tmp_path / "C"), "--set", "shortcut=C"]) == 0
    assert json.loads((tmp_path / "C" / "run.json").read_text(encoding="utf-8"))["overrides"] == {"shortcut": "C"}
    assert main(["evaluate", str(tmp_path / "C")]) == 0
    assert f"test error {last_line(tmp_path / 'C')['test_error']:.2f} %" in capsys.readouterr().out


def test_a_run_on_the_validation_split_is_evaluated_on_it(tmp_path, capsys):
    args = ["train", "cifar-resnet8", "--data", "shapes10", "--recipe", "live", "--iterations", "1", "--validation"]
    assert main([*args, "--out", str(tmp_path / "out")]) == 0
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["data"]
    assert info["name"] == "shapes10-validation" and info["train"] + info["test"] == 10_000
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert f"test error {last_line(tmp_path / 'out')['test_error']:.2f} %" in out and err == ""


@pytest.mark.parametrize("split, before, after", [("validation", "old", "new"), ("test", "new-validation", "new")])
def test_the_split_of_a_run_is_known_by_its_images_not_by_the_name_of_the_folder(tmp_path, capsys, split, before, after):
    write_pictures(tmp_path / before, shapes10(100, 20))
    args = ["train", "cifar-resnet8", "--data", tmp_path / before, "--recipe", "live", "--iterations", 1]
    assert call(*args, "--out", tmp_path / "out", *["--validation"] * (split == "validation")) == 0
    (tmp_path / before).rename(tmp_path / after)
    capsys.readouterr()
    assert call("evaluate", tmp_path / "out", "--data", tmp_path / after) == 0
    (out, err), line = capsys.readouterr(), last_line(tmp_path / "out")
    assert f"test error {line['test_error']:.2f} %, loss {line['test_loss']:.4f}" in out and err == ""


def test_bench_prints_both_loops_and_the_floors(capsys, monkeypatch):
    found = Bench(128, [0.4, 0.6], [0.2, 0.2], 8e9, 1e11, 2e9, 1e11)
    monkeypatch.setattr(commands, "bench", lambda name, data, device, precision: found)
    assert main(["bench", "cifar-resnet20", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "cifar-resnet20, float32, cpu" in out
    assert re.search(r"usual loop +256 img/s +500.00 ms", out) and re.search(r"ours +640 img/s +200.00 ms", out)
    assert re.search(r"ratio +2.50 \(2.00 to 3.00", out)
    assert "80.00 ms, 40% of ours" in out and "20.00 ms, 10% of ours" in out


@pytest.mark.parametrize(
    "kind, message",
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 11.00 GiB.\nmuch more"),
        (RuntimeError, "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 11.00 GiB."),
        (MemoryError, "Unable to allocate 11.00 GiB for an array"),
    ],
    ids=["gpu", "cpu", "numpy"],
)
def test_too_little_memory_is_told_with_advice(pictures, tmp_path, capsys, monkeypatch, kind, message):
    def full(*args):
        raise kind(message)

    monkeypatch.setattr(train.Trainer, "step", full)
    args = ["train", "cifar-resnet8", "--data", str(pictures), "--recipe", "live", "--out", str(tmp_path / "out")]
    assert main(args) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "11.00 GiB" in error and "--precision bf16" in error


# ---- bad input


def call(*args):
    """The exit code of main, also where argparse exits by itself."""
    try:
        return main([*map(str, args)])
    except SystemExit as error:
        return error.code


def refused(capsys, folder, *args):
    """The one line on stderr of a command that must fail, and write nothing below `folder`."""
    before = sorted(folder.rglob("*"))
    code = call(*args)
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.endswith("\n") and len(err.splitlines()) == 1, err
    assert sorted(folder.rglob("*")) == before
    return err


STRINGS = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


OTHERS = {"--upgrade", "--shm-size", "--ipc"}  # options of pip and of docker


def test_no_error_below_the_command_line_names_an_option():
    """Who calls the package from a notebook has no options; whole strings, docstrings too."""
    package = Path(commands.__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        if path.is_relative_to(package / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not set(STRINGS.findall(node.value)) - OTHERS, f"{path}:{node.lineno}"


def test_every_setting_that_an_error_names_has_an_option():
    package, options = Path(commands.__file__).parents[1], {flag for c in COMMANDS.values() for flag, _ in c.options}
    named = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("InputError", "InUseError"):
                named |= {argument.value for argument in node.args[1:] if isinstance(argument, ast.Constant)}
    assert {"out", "download"} <= named <= OPTION_OF.keys()
    assert set(OPTION_OF.values()) - options == {"torchrun --nproc-per-node"}


@pytest.mark.parametrize(
    "message, setting, line",
    [
        ("x holds no run; choose another folder", "out", "x holds no run; choose another folder (--out)"),
        ("x is missing; load it with download=True", "download", "x is missing; load it with --download"),
        ("it cannot be downloaded", "download", "it cannot be downloaded (--download)"),
        ("choose cuda", "device", "choose cuda (--device)"),
        ("start fewer", "processes", "start fewer (torchrun --nproc-per-node)"),
        ("no data", "", "no data"),
        ("bottleneck=True is for preact", "", "bottleneck=True is for preact"),
    ],
)
def test_the_command_line_names_the_option_that_would_help(capsys, monkeypatch, message, setting, line):
    def refuse(args):
        raise InputError(message, setting)

    monkeypatch.setattr(commands, "run_describe", refuse)
    assert main(["describe", "resnet50"]) == 2
    assert capsys.readouterr() == ("", f"error: {line}\n")


def test_missing_data_and_a_folder_in_the_way_are_told_with_their_options(capsys, tmp_path, pictures, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    args = ["train", "cifar-resnet8", "--recipe", "live", "--out", "out", "--data"]
    told = "error: out is not empty and holds no run; choose another folder (--out)\n"
    assert refused(capsys, tmp_path, *args, pictures) == told
    assert "data_batch_1 is missing; load it with --download, or unpack" in refused(capsys, tmp_path, *args, "cifar10")


TRAIN = {"name": "cifar-resnet8", "--data": "PICTURES", "--out": "OUT", "--recipe": "live", "--iterations": "2"}
BAD_TRAINING = [
    ({"name": "cifar-resnet9"}, "6n+2"),
    ({"name": "resnet9"}, "18, 34, 50, 101, 152"),
    ({"name": "alexnet"}, "cifar-resnet<6n+2>"),
    ({"--data": "no/such/folder"}, "no/such/folder"),
    ({"--recipe": "fast"}, "cifar, preact, imagenet, eighth, live"),
    ({"--recipe": "cifar"}, "40"),  # its batch of 128 is more than there are
    ({"--iterations": "0"}, "positive"),
    ({"--iterations": "-3"}, "positive"),
    ({"--iterations": "many"}, "many"),
    ({"--time-limit": "soon"}, "25m"),
    ({"--time-limit": "5 minutes"}, "5 minutes"),
    ({"--precision": "float16"}, "float16"),
    ({"--precision": "tf32", "--device": "cpu"}, "tf32"),
    ({"--set": "shortcut=D"}, "D"),
    ({"--set": "shortcut"}, "KEY=VALUE"),
    ({"--set": "num_classes=10"}, "comes from the data"),
    ({"--set": "name=x"}, "no option"),
    ({"--seed": "-1"}, "-1"),
    ({"--seed": "99999999999999999999"}, "99999999999999999999"),  # torch takes 64 bits
    ({"--seed": "1.5"}, "1.5"),
    ({"--device": "gpu"}, "gpu"),
    ({"--device": "meta"}, "meta"),  # has no numbers in it
    ({"--device": "mps"}, "mps"),
    ({"--device": "cuda:99"}, "cuda:99"),
    ({"--data": None}, "--data"),
    ({"--out": None}, "--out"),
    ({"name": None}, "NAME"),
    ({"--speed": "9"}, "--speed"),
    ({"--download": ""}, "cifar10"),
]


@pytest.mark.parametrize("change, word", BAD_TRAINING, ids=lambda value: str(value)[:60])
def test_bad_training_commands_are_refused(capsys, tmp_path, pictures, change, word):
    settings = {key: value for key, value in {**TRAIN, **change}.items() if value is not None}
    places = {"PICTURES": str(pictures), "OUT": str(tmp_path / "out")}
    args = ["train"]
    for key, value in settings.items():
        args += [key] * key.startswith("-") + [places.get(value, value)] * (value != "")
    assert word in refused(capsys, tmp_path, *args)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused(capsys, tmp_path, pictures):
    args = ["train", "cifar-resnet8", "--data", pictures, "--out", tmp_path / "out", "--device", "cuda"]
    assert "cpu" in refused(capsys, tmp_path, *args)


def test_a_folder_of_something_else_is_refused(capsys, tmp_path, pictures):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    args = ["train", "cifar-resnet8", "--data", pictures, "--out", tmp_path, "--recipe", "live", "--iterations", "2"]
    assert str(tmp_path) in refused(capsys, tmp_path, *args)


def test_a_folder_of_another_run_is_refused(capsys, trained, pictures):
    _, out = trained
    args = ["train", "cifar-resnet8", "--data", pictures, "--out", out, "--recipe", "live", "--iterations", "2", "--seed", "5"]
    assert "seed" in refused(capsys, out, *args)


def test_images_that_are_too_small_are_refused_before_anything_is_written(capsys, tmp_path):
    for part, count in (("train", 32), ("test", 2)):
        (tmp_path / "data" / part / "dot").mkdir(parents=True)
        for i in range(count):
            PIL.Image.new("RGB", (4, 4)).save(tmp_path / "data" / part / "dot" / f"{i}.png")
    args = ["train", "cifar-resnet8", "--data", tmp_path / "data", "--out", tmp_path / "out", "--recipe", "live"]
    assert call(*args) == 2
    assert re.search(r"error: .*\b8\b.*\b4\b", capsys.readouterr().err.splitlines()[-1])  # after the bar of the decoding
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "args, word",
    [
        (["evaluate"], "DIR"),
        (["evaluate", "EMPTY"], "not a finished run"),
        (["evaluate", "EMPTY/none"], "not a finished run"),
        (["evaluate", "RUN", "--data", "no/such/folder"], "no/such/folder"),
        (["evaluate", "RUN", "--data", "PICTURES", "--device", "gpu"], "gpu"),
        (["evaluate", "RUN", "--download"], "can be downloaded"),
        (["describe"], "NAME"),
        (["describe", "resnet19"], "18, 34, 50, 101, 152"),
        (["describe", "resnet50", "--size", "0"], "0"),
        (["describe", "resnet50", "--size", "-4"], "-4"),
        (["describe", "resnet50", "--size", "31"], "32"),
        (["describe", "vgg16", "--size", "16"], "16"),
        (["describe", "resnet50", "--size", "big"], "big"),
        (["sweep", "table7", "--data", "shapes10", "--out", "EMPTY/none"], "table6"),
        (["sweep", "eighth", "--data", "no/such/folder", "--out", "EMPTY/none"], "no/such/folder"),
        (["sweep", "eighth", "--data", "PICTURES", "--out", "EMPTY/none", "--iterations", "0"], "positive"),
        (["bench"], "NAME"),
        (["bench", "resnet50"], "cifar-"),
        (["bench", "cifar-resnet21"], "6n+2"),
        (["record", "EMPTY"], "not a finished run"),
        (["paint"], "paint"),
        (["--paint"], "--paint"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_other_bad_commands_are_refused(capsys, tmp_path, trained, pictures, args, word):
    places = {"EMPTY": str(tmp_path), "EMPTY/none": str(tmp_path / "none"), "RUN": str(trained[1]), "PICTURES": str(pictures)}
    assert word in refused(capsys, tmp_path, *[places.get(arg, arg) for arg in args])


def test_a_run_on_other_classes_is_not_evaluated(capsys, tmp_path, trained):
    for part in ("train", "test"):
        (tmp_path / part / "dot").mkdir(parents=True)
        PIL.Image.new("RGB", (32, 32)).save(tmp_path / part / "dot" / "1.png")
    assert call("evaluate", trained[1], "--data", tmp_path) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "classes dot;" in error and "arrow, circle" in error


def test_a_bad_file_is_named_by_a_process_too(tmp_path, pictures):
    for part in ("train", "test"):
        (tmp_path / "data" / part / "dot").mkdir(parents=True)
        (tmp_path / "data" / part / "dot" / "1.png").write_text("not an image", encoding="utf-8")
    result = python("train", "cifar-resnet8", "--data", "data", "--out", "out", folder=tmp_path)
    assert result.returncode == 2 and result.stdout == "" and "Traceback" not in result.stderr
    error = result.stderr.splitlines()[-1]  # after the bar of the decoding
    assert error.startswith("error: ") and "data/train/dot/1.png" in error
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite_is_a_failure_of_the_training(capsys, tmp_path, pictures, monkeypatch):
    monkeypatch.setitem(train.RECIPES, "hot", train.Recipe(iterations=40, batch_size=32, lr=1e9, drops=(), weight_decay=1))
    args = ["train", "cifar-resnet8", "--data", pictures, "--out", tmp_path / "out", "--recipe", "hot"]
    assert call(*args) == 1
    out, err = capsys.readouterr()
    assert (
        re.match(
            r"error: .* not finite (at iteration \d+|after \d+ iterations).*no checkpoint was written", err.splitlines()[-1]
        )
        and out == ""
    )
    assert not (tmp_path / "out" / "weights.safetensors").exists()


def test_ctrl_c_while_pytorch_loads_is_not_lost():
    """Some packages swallow a KeyboardInterrupt in their import."""

    class Loading:
        def __enter__(self):
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)

        def __exit__(self, *error):
            pass

    with pytest.raises(KeyboardInterrupt):
        with cli._interrupted_after(), Loading():
            pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_variable_that_pytorch_cannot_read_is_one_line():
    env = os.environ | {"TORCH_LOGS": "foo"}
    done = subprocess.run(
        [sys.executable, "-m", "resnet_nb", "describe", "cifar-resnet8"],
        env=env,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 2 and done.stderr.startswith("error: PyTorch cannot be loaded")
    assert done.stderr.count("\n") == 1
