"""tools/gpu.py, and what a CPU can show of the path on a GPU; the rest is in test_cuda.py."""

import contextlib
import json
import subprocess
import sys
import tarfile
import threading
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT

from resnet_nb.data import shapes10
from resnet_nb.errors import InputError
from resnet_nb.recipes import SWEEPS, Job, Recipe
from resnet_nb.runs import run
from resnet_nb.train import Trainer, float32_as
from resnet_nb.train.precision import require_precision
from tools import gpu

SHORT = Recipe(iterations=6, batch_size=8, lr=0.05, drops=(4,))


def test_the_plan_is_a_part_of_table_6_and_begins_with_figure_6():
    assert all(job in SWEEPS["table6"] for job in gpu.PLAN) and len({job.folder for job in gpu.PLAN}) == len(gpu.PLAN)
    first = {job.folder for job in gpu.PLAN[:5]}
    assert first == {f"cifar-{net}-s0" for net in ("resnet110", "resnet56", "plain56", "resnet20", "plain20")}


def runs_in(root, sizes):
    """Run folders of so many bytes; the last one is unfinished."""
    for number, size in enumerate(sizes):
        folder = root / f"run{number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_bytes(b"{}")
        (folder / "log.jsonl").write_bytes(b"{}\n")
        name = "checkpoint.pt" if number == len(sizes) - 1 else "weights.safetensors"
        (folder / name).write_bytes(bytes([number]) * size)
        (folder / "checkpoint.previous.pt").write_bytes(bytes(size))  # nobody needs it elsewhere


def unpacked(folder, target):
    content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    (folder.parent / "all.tar").write_bytes(content)
    with tarfile.open(folder.parent / "all.tar") as tar:
        tar.extractall(target, filter="data")
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def test_a_pack_brings_the_runs_back(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "PIECE", 40_000)
    runs_in(tmp_path / "runs", [30_000, 20_000, 10_000])
    gpu.pack(tmp_path / "runs", tmp_path / "pack", 4)
    pieces = [path.stat().st_size for path in (tmp_path / "pack").iterdir()]
    assert len(pieces) <= 4 and max(pieces) <= 40_000
    found = unpacked(tmp_path / "pack", tmp_path / "back")
    for number, name in enumerate(["weights.safetensors", "weights.safetensors", "checkpoint.pt"]):
        assert found[f"run{number}/{name}"] == (tmp_path / "runs" / f"run{number}" / name).read_bytes()
    assert len(found) == 9


def test_a_pack_of_many_pieces_is_put_together_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "PIECE", 10_000)
    runs_in(tmp_path / "runs", [30_000, 40_000, 50_000])
    for pieces in (40, 20):  # the second one leaves nothing of the first
        gpu.pack(tmp_path / "runs", tmp_path / "pack", pieces)
    assert 11 < len(list((tmp_path / "pack").iterdir())) <= 20 and len(unpacked(tmp_path / "pack", tmp_path / "back")) == 9


@pytest.mark.parametrize(
    "args, told",
    [
        (["cifar-resnet20:x"], "NET:SEED"),
        (["cifar-resnet20", "nosuchnet"], "unknown model 'nosuchnet'"),
        (["--together", "0"], "together"),
        (["--together", "17"], "16"),
        (["--pack", "EMPTY/pack", "--pieces", "0"], "pieces"),
        (["--pack", "EMPTY/pack", "--out", "EMPTY/none"], "no runs below"),
        ([], "no CUDA GPU"),
    ],
)
def test_bad_input_is_one_line(args, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu", *(arg.replace("EMPTY", str(tmp_path)) for arg in args)])
    assert gpu.main() == 2
    line = capsys.readouterr().err
    assert told in line and line.startswith("error: ") and line.count("\n") == 1


def test_a_run_that_fails_stops_no_other(tmp_path, monkeypatch):
    jobs = [Job("cifar-resnet20", seed) for seed in range(5)]

    def run(model, images, out, recipe, seed, device, **settings):
        if seed == 1:
            raise KeyError("broken")
        return {"test_error": 10.0 + seed}

    monkeypatch.setattr(gpu, "run", run)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    ends = gpu.train(jobs, None, tmp_path, "bf16", 2, 60)
    assert len(ends) == 5 and ends["cifar-resnet20-s1"].startswith("failed, KeyError")
    assert all("test error 1" in end for folder, end in ends.items() if folder != "cifar-resnet20-s1")
    assert gpu.train(jobs, None, tmp_path, "bf16", 2, 0) == {}
    with pytest.raises(InputError, match="nosuchnet"):
        gpu.train([*jobs, Job("nosuchnet", 0)], None, tmp_path, "bf16", 2, 60)


def test_a_pack_takes_finished_runs_first_and_names_what_has_no_room(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PIECE", 60_000)
    runs_in(tmp_path / "runs", [30_000, 20_000, 10_000])
    (tmp_path / "runs" / "run2").rename(tmp_path / "runs" / "a-first-by-name")
    gpu.pack(tmp_path / "runs", tmp_path / "pack", 1)
    assert {path.split("/")[0] for path in unpacked(tmp_path / "pack", tmp_path / "back")} == {"run0"}
    assert capsys.readouterr().out.count("no room for") == 2


def test_runs_in_threads_give_what_each_gives_alone(tmp_path):
    """Seeds and random weights come from a generator of the whole process."""
    data = shapes10(64, 30)

    def train(seed, out):
        run("cifar-resnet8", data, out / str(seed), SHORT, seed, overrides={"width": 4})

    threads = [threading.Thread(target=train, args=(seed, tmp_path / "together")) for seed in range(6)]
    for thread in threads:
        thread.start()
    for seed, thread in enumerate(threads):
        thread.join()
        train(seed, tmp_path / "alone")
        ways = [tmp_path / way / str(seed) / "weights.safetensors" for way in ("together", "alone")]
        assert ways[0].read_bytes() == ways[1].read_bytes()
        assert "graph" not in json.loads((ways[0].parent / "run.json").read_text(encoding="utf-8"))  # a CPU has none


def test_threads_do_not_change_each_others_arithmetic():
    """The first to leave puts nothing back; who would multiply otherwise is told."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32, torch.get_float32_matmul_precision()
    entered, leave, told = threading.Event(), threading.Event(), []

    def other():
        with float32_as("bf16"):
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(20)
    with float32_as("float32"):
        leave.set()
        thread.join()
        assert not cudnn.allow_tf32 and cudnn.benchmark and torch.get_float32_matmul_precision() == "highest"

        def third():
            try:
                with float32_as("tf32"):
                    pass
            except InputError as error:
                told.append(str(error))

        thread = threading.Thread(target=third)
        thread.start()
        thread.join()
        assert "another precision" in told[0] and not cudnn.allow_tf32
        with float32_as("tf32"):  # one's own may change
            assert cudnn.allow_tf32
        assert not cudnn.allow_tf32
    assert (cudnn.benchmark, cudnn.allow_tf32, torch.get_float32_matmul_precision()) == before


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_choice_of_the_program_for_the_same_bits_is_kept(deterministic, monkeypatch):
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", deterministic)
    before = cudnn.benchmark, cudnn.allow_tf32
    with float32_as("tf32"):
        assert cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "high"
        assert (cudnn.deterministic, cudnn.benchmark) == (
            deterministic,
            not deterministic,
        )
    assert (cudnn.benchmark, cudnn.allow_tf32) == before and cudnn.deterministic == deterministic


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="names that torch has since 2.9")
def test_a_program_that_set_tf32_by_its_new_names_is_told():
    code = """
import torch
from resnet_nb.errors import InputError
from resnet_nb.train import float32_as
torch.backends.cuda.matmul.fp32_precision = "tf32"
try:
    with float32_as("float32"):
        print("trained")
except InputError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert told.startswith("the program has set an fp32_precision") and told.count("\n") == 1


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("capability, good", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_that_would_emulate_a_precision_is_refused(monkeypatch, precision, capability, good):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    if good:
        require_precision(precision, torch.device("cuda"))
    else:
        with pytest.raises(InputError, match=f"Tesla T4 has no {precision}.*use float32"):
            require_precision(precision, torch.device("cuda"))
    require_precision("float32", torch.device("cuda"))


def test_data_on_another_kind_of_device_are_refused_in_one_line():
    data = SimpleNamespace(augmentation=None, device=torch.device("mps"))
    with pytest.raises(InputError, match="runs on cpu or cuda, got data on mps"):
        Trainer(torch.nn.Linear(2, 2), data, SHORT)
