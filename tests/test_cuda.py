"""What only a GPU can show; skipped without one. `python -m pytest tests/test_cuda.py` runs it."""

import copy

import pytest
import torch

from resnet_nb.data import shapes10
from resnet_nb.models import build
from resnet_nb.train import Recipe, Trainer, checkpoint, run
from resnet_nb.train.bench import bench
from resnet_nb.train.graph import GraphStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RECIPE = Recipe(iterations=30, batch_size=64, lr=0.05, drops=(15, 25), warmup_lr=0.01)


@pytest.fixture(scope="module")
def data():
    return shapes10(640, 100).to("cuda")


def trained(data, graph, precision="float32", recipe=RECIPE):
    torch.manual_seed(0)
    notes = []
    trainer = Trainer(build("cifar-resnet20"), data, recipe, seed=1, precision=precision, note=notes.append)
    if not graph:
        trainer._step_function = lambda: trainer.step
    trainer.train()
    assert not notes and isinstance(trainer._graph, GraphStep) == graph
    return trainer


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_replayed_graph_is_the_eager_step(data, precision):
    eager, graph = trained(data, False, precision), trained(data, True, precision)
    assert graph.meter.warmup == eager.meter.warmup and graph.meter.iteration == RECIPE.iterations
    for line, want in zip(graph.log, eager.log, strict=True):
        assert line["iteration"] == want["iteration"] and line["lr"] == want["lr"]
        assert line["train_loss"] == pytest.approx(want["train_loss"], rel=0.05)


def test_one_step_on_the_gpu_is_one_step_on_the_cpu(data):
    torch.manual_seed(0)
    model, one = build("cifar-resnet20"), Recipe(iterations=1, batch_size=64, lr=0.1, drops=())
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
    trainer = trained(data, True)
    trainer.iteration, trainer.every = 0, 10**9
    torch.cuda.set_sync_debug_mode("error")
    try:
        for iteration in range(5):
            trainer.rate.fill_(trainer.recipe.learning_rate(iteration))
            trainer._graph(*trainer.stream.indices(iteration))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_stopped_run_continues_on_the_gpu(tmp_path):
    data = shapes10(640, 100)
    assert run("cifar-resnet20", data, tmp_path, RECIPE, 1, "cuda", deadline=0.0) is None
    assert checkpoint.load(tmp_path)[0]["trainer"]["iteration"] == 1
    assert run("cifar-resnet20", data, tmp_path, RECIPE, 1, "cuda")["iteration"] == RECIPE.iterations


def test_ours_is_faster(data):
    found = bench("cifar-resnet20", shapes10(2_000, 10), "cuda", "bf16", rounds=2, seconds=1.0)
    assert min(found.ratios) > 3
