"""What only a GPU can show; skipped without one. `python -m pytest tests/test_cuda.py` runs it."""

import copy
import gc
import json
from dataclasses import replace

import pytest
import torch
from helpers import SMALL, make_pictures

from resnet_nb.bench import bench
from resnet_nb.data import load, shapes10
from resnet_nb.data.resident import in_unit
from resnet_nb.models import build
from resnet_nb.recipes import Job
from resnet_nb.runs import checkpoint, run
from resnet_nb.train import Recipe, Trainer
from tools import gpu

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RECIPE = Recipe(iterations=30, batch_size=64, lr=0.05, drops=(15, 25), warmup_lr=0.01)


@pytest.fixture(scope="module")
def data():
    return shapes10(640, 100).to("cuda")


@pytest.fixture
def same_bits():
    """cuDNN takes only algorithms that give the same bits each time."""
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = False


def trained(data, graph, precision="float32", recipe=RECIPE, name="cifar-resnet20", pause=lambda _: None, **overrides):
    torch.manual_seed(0)
    notes, rates = [], []
    trainer = Trainer(build(name, **overrides), data, recipe, seed=1, precision=precision, note=notes.append)
    torch.cuda.manual_seed(5)  # dropout
    if not graph:
        trainer._prepared = trainer.step
    trainer.train(pause=lambda ours: rates.append(ours.rate.item()) or pause(ours))
    assert not notes and trainer.replays == graph
    return trainer, rates


def state(trainer):
    """Weights, BN statistics, momenta and meter, by name."""
    momenta = trainer.optimizer.state_dict()["state"]
    named = {f"momentum {place}": part["momentum_buffer"] for place, part in momenta.items()}
    return {**trainer.model.state_dict(), **trainer.meter.state_dict(), **named}


def require_same_bits(got, want):
    assert got.log == want.log
    want = state(want)
    different = [name for name, value in state(got).items() if not torch.equal(value, want[name])]
    assert not different, f"{len(different)} of {len(want)} differ: {different[:4]}"


@pytest.mark.parametrize("warmup_lr", [None, 0.01])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_replayed_graph_is_the_eager_step_to_the_bit(data, same_bits, precision, warmup_lr):
    recipe = replace(RECIPE, warmup_lr=warmup_lr)
    (eager, _), (graph, rates) = (trained(data, way, precision, recipe) for way in (False, True))
    warmup = graph.log[-1].get("warmup", 0)
    assert graph.meter.iteration == RECIPE.iterations and (warmup_lr is None) == (warmup == 0)
    assert rates == pytest.approx([recipe.learning_rate(i, warmup) for i in range(30)])
    require_same_bits(graph, eager)


SEQUELS = [
    ("cifar-preact20", {}),
    ("cifar-preact20", {"placement": "a", "shortcut": "gating", "gate_bias": -6}),
    ("cifar-rk432", {"learnable": True}),
    ("cifar-midpoint20", {}),
]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize("name, overrides", SEQUELS)
def test_the_nets_of_the_sequels_are_recorded_as_graphs(data, same_bits, name, overrides, precision):
    recipe = replace(RECIPE, iterations=8, warmup_lr=None)
    (eager, _), (graph, _) = (trained(data, way, precision, recipe, name, **overrides) for way in (False, True))
    require_same_bits(graph, eager)


DROPOUT = ("cifar-preact20", {"placement": "a", "shortcut": "dropout"})


def test_a_graph_draws_the_masks_that_the_eager_step_draws(data, same_bits):
    name, overrides = DROPOUT
    recipe = replace(RECIPE, iterations=8, warmup_lr=None)
    (eager, _), (graph, _) = (trained(data, way, "float32", recipe, name, **overrides) for way in (False, True))
    require_same_bits(graph, eager)


def test_a_state_taken_in_after_the_recording_is_trained_on(data, same_bits):
    whole, _ = trained(data, True)
    first, _ = trained(data, True, pause=lambda ours: ours.iteration == 11)
    other = Trainer(build("cifar-resnet20"), data, RECIPE, seed=1)
    other.prepare()
    other.load_state_dict(copy.deepcopy(first.state_dict()))
    other.train()
    require_same_bits(other, whole)


class Asking(torch.nn.Module):
    """A network that asks the host: no graph can hold that."""

    def __init__(self):
        super().__init__()
        self.net = build("cifar-resnet8")

    def forward(self, x):
        return self.net(x) * (1.0 if x.sum().item() else 2.0)


def test_a_step_that_cannot_be_recorded_is_done_and_told(data, same_bits):
    torch.manual_seed(0)
    asking, notes = Asking(), []
    plain = copy.deepcopy(asking.net)
    recipe = replace(RECIPE, iterations=5, warmup_lr=None)
    got = Trainer(asking, data, recipe, seed=1, note=notes.append)
    got.train()
    want = Trainer(plain, data, recipe, seed=1)
    want._prepared = want.step
    want.train()
    [line] = notes
    assert "no CUDA graph" in line and not got.replays and got.log == want.log


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
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4, msg=lambda why, key=key: f"{key}: {why}")


def test_every_pixel_value_has_the_same_bits_on_both_devices():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(in_unit(values.to("cuda")).cpu(), in_unit(values))
    assert torch.equal(in_unit(values), (values.double() / 255).float())


def test_the_loop_does_not_wait_for_the_gpu(data):
    trainer, _ = trained(data, True)
    trainer.iteration, trainer.every = 0, 10**9
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train(pause=lambda trainer: trainer.iteration == 15)  # crosses an epoch
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name, overrides, precision", [("cifar-resnet20", {}, "bf16"), (*DROPOUT, "float32")])
def test_a_stopped_run_continues_on_the_gpu(tmp_path, same_bits, name, overrides, precision):
    """Across the graph, which is recorded anew, and with the masks that an uninterrupted run draws."""
    data, recipe = shapes10(640, 100), replace(RECIPE, warmup_lr=None)
    settings = {"overrides": overrides, "precision": precision}
    whole = run(name, data, tmp_path / "whole", recipe, 1, "cuda", **settings)
    assert run(name, data, tmp_path / "parts", recipe, 1, "cuda", deadline=0.0, **settings) is None
    assert checkpoint.load(tmp_path / "parts")[0]["trainer"]["iteration"] == 1
    assert run(name, data, tmp_path / "parts", recipe, 1, "cuda", **settings) == whole
    digests = [(tmp_path / part / "weights.safetensors").read_bytes() for part in ("whole", "parts")]
    infos = [json.loads((tmp_path / part / "run.json").read_text(encoding="utf-8")) for part in ("whole", "parts")]
    assert digests[0] == digests[1] and all(info["graph"] for info in infos)


def test_runs_in_threads_give_what_each_gives_alone(tmp_path, same_bits):
    data, recipe = shapes10(640, 100).to("cuda"), replace(RECIPE, warmup_lr=None)
    jobs = [Job("cifar-resnet20", 1), Job("cifar-plain20", 2), Job("cifar-resnet20", 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "recipe_for", lambda *_: recipe)
        for together in (1, 3):
            ends = gpu.train(jobs, data, tmp_path / str(together), "bf16", together, 100)
            assert len(ends) == 3 and all("test error" in end for end in ends.values())
    for job in jobs:
        one, three = ((tmp_path / count / job.folder / "weights.safetensors").read_bytes() for count in "13")
        assert one == three


def test_a_run_gives_its_memory_back(tmp_path):
    data, held = shapes10(640, 100), []
    for number in range(3):
        run("cifar-resnet20", data, tmp_path / str(number), replace(RECIPE, iterations=3), number, "cuda")
        gc.collect()
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_reserved())
    assert held[2] <= held[0] + 2**20


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_gpu_is_waited_for(data):
    trainer, _ = trained(data.to("cuda:1"), True)
    assert trainer.log == trained(data, True)[0].log


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
