"""What only a GPU can show; skipped without one. `python -m pytest tests/test_cuda.py` runs it."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers import SMALL, make_pictures

from resnet_nb.bench import bench
from resnet_nb.data import load, shapes10
from resnet_nb.models import build
from resnet_nb.runs import checkpoint, run
from resnet_nb.train import Recipe, Trainer
from resnet_nb.train.loop import GraphStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RECIPE = Recipe(iterations=30, batch_size=64, lr=0.05, drops=(15, 25), warmup_lr=0.01)


@pytest.fixture(scope="module")
def data():
    return shapes10(640, 100).to("cuda")


def trained(data, graph, precision="float32", recipe=RECIPE):
    torch.manual_seed(0)
    notes, rates = [], []
    trainer = Trainer(build("cifar-resnet20"), data, recipe, seed=1, precision=precision, note=notes.append)
    if not graph:
        trainer._prepared = trainer.step
    trainer.train(pause=lambda _: rates.append(trainer.rate.item()))
    assert not notes and isinstance(trainer.prepare(), GraphStep) == graph
    return trainer, rates


@pytest.mark.parametrize("warmup_lr", [None, 0.01])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_replayed_graph_is_the_eager_step(data, precision, warmup_lr):
    recipe = replace(RECIPE, warmup_lr=warmup_lr)
    (eager, _), (graph, rates) = (trained(data, way, precision, recipe) for way in (False, True))
    warmup = graph.log[-1].get("warmup", 0)
    assert graph.meter.iteration == RECIPE.iterations and (warmup_lr is None) == (warmup == 0)
    assert rates == pytest.approx([recipe.learning_rate(i, warmup) for i in range(30)])
    for line, want in zip(graph.log, eager.log, strict=True):
        assert line["iteration"] == want["iteration"] and line["lr"] == want["lr"]
        assert line["train_loss"] == pytest.approx(want["train_loss"], rel=0.05)


SEQUELS = [
    ("cifar-preact20", {}),
    ("cifar-preact20", {"placement": "a", "shortcut": "gating", "gate_bias": -6}),
    ("cifar-rk432", {"learnable": True}),
    ("cifar-midpoint20", {}),
]


@pytest.mark.parametrize("name, overrides", SEQUELS)
def test_the_nets_of_the_sequels_are_recorded_as_graphs(data, name, overrides):
    losses, notes = [], []
    for graph in (False, True):
        torch.manual_seed(0)
        trainer = Trainer(build(name, **overrides), data, replace(RECIPE, warmup_lr=None), seed=1, note=notes.append)
        if not graph:
            trainer._prepared = trainer.step
        trainer.train()
        losses.append(trainer.log[-1]["train_loss"])
    assert not notes and losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.parametrize("name, overrides", [("cifar-resnet20", {}), *SEQUELS])
def test_one_step_on_the_gpu_is_one_step_on_the_cpu(data, name, overrides):
    torch.manual_seed(0)
    model, one = build(name, **overrides), Recipe(iterations=1, batch_size=64, lr=0.1, drops=())
    models = {}
    for device in ("cpu", "cuda"):
        trainer = Trainer(copy.deepcopy(model), data.to(device), one, seed=1)
        trainer.train()
        models[device] = trainer.model.cpu()
        models[device, "log"] = trainer.log[0]
    assert models["cuda", "log"]["train_loss"] == pytest.approx(models["cpu", "log"]["train_loss"], rel=1e-4)
    for (key, got), want in zip(models["cuda"].state_dict().items(), models["cpu"].state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4, msg=key)


def test_the_loop_does_not_wait_for_the_gpu(data):
    trainer, _ = trained(data, True)
    trainer.iteration, trainer.every = 0, 10**9
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train(pause=lambda trainer: trainer.iteration == 15)  # crosses an epoch
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_stopped_run_continues_on_the_gpu(tmp_path):
    data = shapes10(640, 100)
    assert run("cifar-resnet20", data, tmp_path, RECIPE, 1, "cuda", deadline=0.0) is None
    assert checkpoint.load(tmp_path)[0]["trainer"]["iteration"] == 1
    assert run("cifar-resnet20", data, tmp_path, RECIPE, 1, "cuda")["iteration"] == RECIPE.iterations


@pytest.mark.parametrize("first, second", [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_changes_its_device(data, first, second):
    torch.manual_seed(0)
    before = Trainer(build("cifar-resnet20"), data.to(first), RECIPE, seed=1)
    before.train(pause=lambda trainer: trainer.iteration == 5)
    state = copy.deepcopy(before.state_dict())
    notes, losses = [], []
    for device in (first, second):
        trainer = Trainer(build("cifar-resnet20"), data.to(device), RECIPE, seed=1, note=notes.append)
        trainer.load_state_dict(state)
        trainer.train()
        losses.append(trainer.log[-1]["train_loss"])
    assert not notes and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_ours_is_faster(data):
    found = bench("cifar-resnet20", shapes10(2_000, 10), "cuda", "bf16", rounds=2, seconds=1.0)
    assert min(found.ratios) > 3


def test_images_from_files_train_on_the_gpu_as_on_the_cpu(tmp_path):
    files, losses = load(make_pictures(tmp_path / "tiny", 30, 7), augmentation=SMALL), {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        net = build("resnet18", width=4, num_classes=3)
        trainer = Trainer(net, files.to(device), Recipe(iterations=3, batch_size=8, lr=0.01, augmentation=SMALL), seed=1)
        trainer.train()
        losses[device] = [line[key] for line in trainer.log for key in ("train_loss", "test_loss")]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.02)
