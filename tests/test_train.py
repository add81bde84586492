"""The recipe against the printed one, the loop against one written by hand, and the files of a run."""

import contextlib
import copy
import dataclasses
import io
import json
import math
import platform
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import seeded
from safetensors.torch import load_file
from torch import nn

from resnet_nb import __version__, paper
from resnet_nb.data import Dataset, Stream, shapes10
from resnet_nb.errors import InputError
from resnet_nb.models import build
from resnet_nb.recipes import WARMUP_ERROR, WARMUP_LENGTH, Augmentation
from resnet_nb.runs import load_run, run
from resnet_nb.train import RECIPES, Recipe, Trainer, World, evaluate, fit, graph, recipe_for, training_step
from resnet_nb.train import loop as trainer
from resnet_nb.train.graph import FewerKernels, GraphStep

SHORT = Recipe(iterations=6, batch_size=16, lr=0.05, drops=(4,))


@pytest.fixture(scope="module")
def data():
    return shapes10(64, 30)


def tiny(seed=0):
    torch.manual_seed(seed)
    return build("cifar-resnet8", width=4)


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# ---- the recipe


def test_the_defaults_are_the_printed_recipe():
    printed = paper.recipe("cifar10")
    assert (
        RECIPES["cifar"]
        == Recipe()
        == Recipe(
            iterations=printed["lr"]["stop"],
            batch_size=printed["batch"],
            lr=printed["lr"]["start"],
            drops=tuple(printed["lr"]["at_iterations"]),
            momentum=printed["momentum"],
            weight_decay=printed["weight_decay"],
        )
    )


PAPER = [0.1] * 32_000 + [0.01] * 16_000 + [0.001] * 16_000


EDGES = (0, 1, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_999)


def test_the_learning_rate_of_every_iteration():
    assert [Recipe().rate(iteration, []) for iteration in range(64_000)] == pytest.approx(PAPER, rel=1e-12)
    for name in ("cifar-resnet20", "cifar-plain32", "cifar-resnet44", "cifar-plain56"):
        assert recipe_for("cifar", name) == Recipe()


@pytest.mark.parametrize("name", ["cifar-resnet110", "cifar-plain110", "cifar-resnet1202"])
def test_the_deep_nets_warm_up_until_the_training_error_is_below_80_percent(name):
    printed, recipe = paper.recipe("cifar10")["warmup"], recipe_for("cifar", name)
    assert recipe == Recipe(warmup_lr=printed["lr"]) and printed["depth"] == 110
    assert f"{WARMUP_ERROR:g}%" in printed["until"] and f"{WARMUP_LENGTH} iterations" in printed["until"]
    for warmup in (100, 400, 40_000):
        log = [{"iteration": i, "train_error": 80.0 if i < warmup else 79.9} for i in range(100, warmup + 201, 100)]
        want = [0.01] * warmup + PAPER[warmup:]
        assert [recipe.rate(i, log) for i in EDGES] == pytest.approx([want[i] for i in EDGES], rel=1e-12)
        assert [recipe.learning_rate(i, warmup) for i in EDGES] == [recipe.rate(i, log) for i in EDGES]
    # while the error stays above, the drops still come
    assert [recipe.rate(i, []) for i in EDGES] == pytest.approx([0.01] * 7 + [0.001] * 2, rel=1e-12)


def test_the_learning_rate_of_every_iteration_of_the_second_paper():
    printed = paper.recipe("preact")["cifar"]
    recipe, warmup = recipe_for("preact", "cifar-preact20"), printed["warmup"]
    assert recipe == Recipe(warmup_lr=warmup["lr"], warmup_iterations=warmup["iterations"]) and not recipe.open_warmup
    want = [0.01] * 400 + PAPER[400:]
    assert [recipe.learning_rate(i) for i in EDGES] == pytest.approx([want[i] for i in EDGES], rel=1e-12)
    assert recipe.shortened(640).learning_rate(3) == 0.01 and recipe.shortened(640).learning_rate(4) == 0.1


def test_a_warm_up_of_known_length_ends_by_itself(data):
    recipe, rates = Recipe(iterations=6, batch_size=16, warmup_lr=0.01, warmup_iterations=2, drops=(4, 5)), []
    trainer = Trainer(tiny(), data, recipe)
    trainer.train(pause=lambda _: rates.append(trainer.rate.item()))
    assert rates == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.001])
    assert all("warmup" not in line for line in trainer.log)


def test_only_the_paper_recipes_warm_up():
    for kind in RECIPES:
        assert (recipe_for(kind, "cifar-resnet110").warmup_lr is not None) == (kind in ("cifar", "preact", "eighth"))
    with pytest.raises(InputError, match="cifar, preact, imagenet, eighth, live"):
        recipe_for("fast", "cifar-resnet20")


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 120, 6_400, 64_000, 128_000])
def test_a_shortened_recipe_drops_at_the_same_fractions(n):
    recipe, short = Recipe(), Recipe().shortened(n)
    assert short.iterations == n
    for iteration in range(n):
        assert short.learning_rate(iteration) == recipe.learning_rate(iteration * 64_000 // n), iteration
    kept = ("batch_size", "lr", "momentum", "weight_decay")
    assert [getattr(short, key) for key in kept] == [getattr(recipe, key) for key in kept]


@pytest.mark.parametrize("n", [0, -5, 1.5, "10", True, None])
def test_a_bad_number_of_iterations_is_refused(n):
    with pytest.raises(InputError, match="positive integer"):
        Recipe().shortened(n)


def test_a_recipe_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().lr = 1.0
    assert hash(Recipe()) == hash(Recipe()) and Recipe(lr=0.2) != Recipe()
    Recipe().shortened(10)
    assert Recipe().iterations == 64_000


# ---- the loop


class InDouble(nn.Module):
    """The network in float64, so that a reference can be compared to the last digits."""

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, x):
        return self.net(x.double())


def by_hand(model, data, recipe, seed):
    """SGD as 1512.03385 has it: v = m v + g + wd w; w -= lr v. Returns loss and error of each batch."""
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(w) for w in parameters]
    stream, batches = Stream(data, recipe.batch_size, seed), []
    for iteration in range(recipe.iterations):
        images, labels = stream.batch(iteration)
        logits = model.train()(images)
        loss = (torch.logsumexp(logits, 1) - logits[torch.arange(len(labels)), labels]).mean()
        gradients = torch.autograd.grad(loss, parameters)
        rate = recipe.lr * 0.1 ** sum(iteration >= drop for drop in recipe.drops)
        with torch.no_grad():
            for w, v, g in zip(parameters, velocity, gradients):
                v.copy_(recipe.momentum * v + g + recipe.weight_decay * w)
                w.sub_(rate * v)
        batches.append((loss.item(), 100 * (logits.argmax(1) != labels).double().mean().item()))
    return batches


def test_fit_is_the_loop_written_by_hand(data):
    recipe = Recipe(iterations=5, batch_size=24, lr=0.1, drops=(2, 4), momentum=0.9, weight_decay=0.01)
    ours, reference = InDouble(tiny()), InDouble(tiny())
    log = fit(ours, data, recipe, seed=4, every=2)
    batches = by_hand(reference, data, recipe, seed=4)
    for (key, got), want in zip(ours.state_dict().items(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11, msg=lambda why, key=key: f"{key}: {why}")
    # one line after 2, 4 and 5 iterations, with the means over the batches since the line before
    assert [line["iteration"] for line in log] == [2, 4, 5]
    assert [line["lr"] for line in log] == pytest.approx([0.1, 0.01, 0.001])
    for line, part in zip(log, (batches[:2], batches[2:4], batches[4:])):
        loss, error = (sum(column) / len(part) for column in zip(*part))
        assert line["train_loss"] == pytest.approx(loss) and line["train_error"] == pytest.approx(error)
    assert (log[-1]["test_error"], log[-1]["test_loss"]) == pytest.approx(evaluate(reference, data))


def test_weight_decay_acts_on_every_parameter(data):
    start = dict(InDouble(tiny()).named_parameters())
    trained = []
    for decay in (0.0, 0.25):
        model = InDouble(tiny())
        fit(model, data, Recipe(iterations=1, batch_size=16, lr=0.5, drops=(), weight_decay=decay))
        trained.append(dict(model.named_parameters()))
    for key, w in start.items():  # BN and bias too
        decayed, named = trained[0][key] - trained[1][key], f"weight decay of {key}"
        torch.testing.assert_close(
            decayed, 0.5 * 0.25 * w, rtol=1e-9, atol=1e-12, msg=lambda why, named=named: f"{named}: {why}"
        )
    assert start["net.layer1.0.bn1.weight"].all()


def test_one_seed_gives_one_result_bit_for_bit(data):
    logs, trained = [], []
    for seed in (1, 1, 2):
        model = tiny()
        torch.manual_seed(len(logs))  # fit does not look at the global generator
        logs.append(fit(model, data, SHORT, seed=seed))
        trained.append(weights(model))
    assert equal(trained[0], trained[1]) and logs[0] == logs[1]
    assert not equal(trained[0], trained[2])


def test_lines_are_reported_before_the_pause(data):
    lines, steps = [], []
    ours = Trainer(tiny(), data, SHORT, every=4)
    assert ours.train(lines.append, lambda _: steps.append(len(lines)))
    assert lines == ours.log == fit(tiny(), data, SHORT, every=4)
    assert [line["iteration"] for line in lines] == [4, 6] and steps == [0, 0, 0, 1, 1, 2]


def test_a_pause_stops_after_its_iteration_and_changes_nothing(data):
    model, whole = tiny(), tiny()
    ours = Trainer(model, data, SHORT, every=4)
    while not ours.train(pause=lambda trainer: trainer.iteration in (1, 2, 5)):
        pass
    assert ours.log == fit(whole, data, SHORT, every=4) and equal(weights(model), weights(whole))


def test_the_state_of_a_trainer_is_all_that_matters(data):
    """Continued by a trainer of another network object after each iteration, by way of a file."""
    whole = tiny()
    log = fit(whole, data, SHORT, every=4)
    state = Trainer(tiny(), data, SHORT, every=4).state_dict()
    for _ in range(SHORT.iterations):
        ours = Trainer(tiny(seed=9), data, SHORT, every=4)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        ours.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
        ours.train(pause=lambda _: True)
        state = ours.state_dict()
    assert ours.log == log and equal(weights(ours.model), weights(whole))


class FakeGraph:
    """A CUDA graph for machines without one: what is recorded leaves no trace, a replay does it again."""

    def __init__(self, trainer):
        self.trainer = trainer

    def __enter__(self):
        self.tensors = [
            *self.trainer.model.state_dict().values(),
            *self.trainer.meter.buffers(),
            self.trainer.rate,
            *(state["momentum_buffer"] for state in self.trainer.optimizer.state.values()),
        ]
        self.before = [tensor.clone() for tensor in self.tensors]

    def __exit__(self, *error):
        with torch.no_grad():
            for tensor, value in zip(self.tensors, self.before):
                tensor.copy_(value)

    def replay(self):
        self.trainer.step(*self.trainer.prepare().inputs)


class FakeEvent:
    """Waits for nothing; recorded where the step runs, whatever device is the current one."""

    def synchronize(self):
        pass

    def record(self, stream):
        assert stream.device == torch.device("cpu")


def on_a_fake_gpu(ours, monkeypatch):
    """The trainer records its step, as on CUDA; its tensors stay on the CPU."""
    monkeypatch.setattr(ours, "device", SimpleNamespace(type="cuda"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(wait_stream=lambda stream: None))
    current = SimpleNamespace(wait_stream=lambda stream: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: SimpleNamespace(device=device, **vars(current)))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(graph, "_recording_stream", torch.cuda.Stream)
    monkeypatch.setattr(torch.cuda, "Event", lambda blocking: FakeEvent())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: FakeGraph(ours))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: graph)


@pytest.mark.parametrize("name, overrides", [("cifar-resnet8", {}), ("cifar-preact8", {}), ("cifar-midpoint20", {})])
@pytest.mark.parametrize("bf16", [False, True])
def test_fewer_kernels_give_the_same_bits(name, overrides, bf16):
    """Weights that are cast together train as those that autocast casts one by one; no counter of BN is left behind."""
    plain = seeded(name, **overrides)
    fewer = copy.deepcopy(plain)
    steps = [(net, torch.optim.SGD(net.parameters(), 0.05, 0.9)) for net in (plain, FewerKernels(fewer, bf16))]
    for _ in range(3):
        images, labels = torch.randn(8, 3, 32, 32), torch.randint(10, (8,))
        assert torch.equal(*(training_step(net, optimizer, images, labels, bf16) for net, optimizer in steps))
    assert equal(plain.state_dict(), fewer.state_dict()) and plain.state_dict().keys() == fewer.state_dict().keys()


class Unusual(nn.Module):
    """No counter that only counts, and a layer that nothing uses."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.Linear(4, 10)
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(F.relu(self.norm(self.conv(x))).mean((2, 3)))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("make", [Unusual, lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 10))])
def test_fewer_kernels_leave_unusual_nets_as_they_are(make, bf16):
    plain = make()
    fewer = copy.deepcopy(plain)
    for net in (plain, FewerKernels(fewer, bf16)):
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=0.1)
        for _ in range(3):
            training_step(net, optimizer, torch.randn(8, 3, 32, 32), torch.randint(10, (8,)), bf16)
    assert equal(plain.state_dict(), fewer.state_dict())


@pytest.mark.parametrize("warmup_lr", [None, 0.01])
def test_replaying_a_recorded_step_is_the_same_as_doing_it(data, monkeypatch, warmup_lr):
    """The dry runs leave no trace, each replay gets its own batch and rate. Real graphs: test_cuda.py."""
    recipe = dataclasses.replace(SHORT, warmup_lr=warmup_lr)
    whole, model = tiny(), tiny()
    log = fit(whole, data, recipe, seed=4)
    ours = Trainer(model, data, recipe, seed=4)
    on_a_fake_gpu(ours, monkeypatch)
    while not ours.train(pause=lambda trainer: trainer.iteration == 2):
        pass
    assert isinstance(ours.prepare(), GraphStep) and ours.prepare().calls == SHORT.iterations
    assert ours.log == log and equal(weights(model), weights(whole))


def test_a_network_that_moved_after_the_recording_is_refused(data, monkeypatch):
    """The graph would write to memory that is no longer the network's."""
    ours = Trainer(tiny(), data, SHORT)
    on_a_fake_gpu(ours, monkeypatch)
    ours.train(pause=lambda trainer: trainer.iteration == 2)
    ours.model.double().float()
    with pytest.raises(InputError, match="was moved after its step was recorded"):
        ours.train()


def test_a_step_that_cannot_be_recorded_runs_without_a_graph_and_says_so(data, monkeypatch):
    """What a GPU does whose driver refuses graphs: one line, then the same step without a graph."""
    notes, model, whole = [], tiny(), tiny()
    ours = Trainer(model, data, SHORT, note=notes.append)
    log = fit(whole, data, SHORT)

    def refuse(*args, **options):
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    on_a_fake_gpu(ours, monkeypatch)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", refuse)  # after the dry runs
    ours.train()
    assert ours.log == log and equal(weights(model), weights(whole))
    [line] = notes
    assert "not permitted" in line and "much more" not in line and "operation by operation" in line


@pytest.mark.parametrize("trouble", ["weights", "rate"])
def test_a_loss_that_is_not_finite_stops_the_run(data, trouble):
    model, recipe = tiny(), dataclasses.replace(SHORT, iterations=40)
    if trouble == "weights":
        nn.init.constant_(model.fc.weight, math.nan)
    else:
        recipe = dataclasses.replace(recipe, lr=1e6, weight_decay=1.0)
    lines = []
    with pytest.raises(FloatingPointError) as caught:
        fit(model, data, recipe, every=4, report=lines.append)
    message = str(caught.value)
    named = int(re.search(r"iteration (\d+)", message)[1])
    assert 4 * len(lines) <= named < 4 * (len(lines) + 1) and f"{recipe.lr:g}" in message
    assert named == 0 or trouble == "rate"
    assert all(math.isfinite(line["train_loss"]) for line in lines)


# ---- evaluation


class Fixed(nn.Module):
    """Logits that depend on the first pixel of each image; says how it was called."""

    def __init__(self, mean):
        super().__init__()
        self.mean, self.calls, self.lowest = mean, [], 0.0

    def forward(self, x):
        self.calls.append((len(x), self.training, torch.is_grad_enabled()))
        self.lowest = min(self.lowest, x.min().item())
        value = ((x + self.mean)[:, 0, 0, 0] * 255).round().long()
        return 3 * F.one_hot(value % 4, 4).float()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 500])
@pytest.mark.parametrize("training", [True, False])
def test_evaluation_counts_every_image_once(batch_size, training):
    images = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 0])  # the last is wrong
    data = Dataset("toy", tuple("abcd"), images, labels, images, labels)
    model = Fixed(data.mean).train(training)
    error, loss = evaluate(model, data, batch_size)
    assert model.lowest < 0, "the images that the network gets are not centered: the mean is not subtracted"
    right, wrong = math.log(1 + 3 / math.e**3), math.log(3 + math.e**3)
    assert error == 10 and loss == pytest.approx((9 * right + wrong) / 10)
    assert sum(count for count, _, _ in model.calls) == 10 and max(model.calls)[0] == min(batch_size, 10)
    assert not any(mode or gradients for _, mode, gradients in model.calls)
    assert model.training is training


@pytest.mark.parametrize("size", [2, 3, 7])
def test_several_processes_count_every_image_once(data, size, monkeypatch):
    model, parts = tiny().eval(), []
    monkeypatch.setattr(World, "copy_buffers", lambda self, model: None)
    monkeypatch.setattr(World, "sum", lambda self, value: parts.append(value.clone()) or value)
    for rank in range(size):
        evaluate(model, data, batch_size=4, world=World(rank, size))
    wrong, loss = sum(parts[:size])
    assert evaluate(model, data) == (100 * wrong / 30, pytest.approx(loss / 30))


@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_the_shares_of_the_processes_are_the_batch(size):
    batch = torch.arange(16)
    parts = [World(rank, size).share(batch) for rank in range(size)]
    assert torch.equal(torch.cat(parts), batch) and {len(part) for part in parts} == {16 // size}


@pytest.mark.parametrize("size", [3, 32])
def test_an_unequal_share_is_refused(data, size):
    with pytest.raises(InputError, match="divide the batch size"):
        Trainer(tiny(), data, SHORT, world=World(0, size))


def test_the_augmentation_of_the_recipe_is_that_of_the_data(data):
    """What run.json records is what trains, for data in memory and from files."""
    small, tiny_crops = Augmentation((40, 60), 32, test_side=40), Augmentation((20, 30), 16, test_side=20)

    class Files:  # as much of ImageFiles as is asked before the first step
        name, augmentation, device = "files", small, torch.device("cpu")

    for source, asked in ((data, small), (Files, None), (Files, tiny_crops)):
        with pytest.raises(InputError, match="augmentation") as caught:
            Trainer(tiny(), source, dataclasses.replace(SHORT, augmentation=asked))
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("every", [0, -5, 2.5, True])
def test_lines_come_every_so_many_iterations(data, every):
    with pytest.raises(InputError, match="every must be a positive integer"):
        Trainer(tiny(), data, SHORT, every=every)


def test_the_statistics_of_other_processes_stop_nothing(data):
    """Only those of process 0 are evaluated and kept; the weights are equal everywhere."""
    for rank, stops in ((0, True), (1, False)):
        ours = Trainer(tiny(), data, SHORT)
        ours.world = World(rank, 2)
        ours.model.layer1[0].bn1.running_var[0] = math.inf
        with pytest.raises(FloatingPointError, match="running_var") if stops else contextlib.nullcontext():
            ours.check_finite()


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_a_line_is_evaluated_in_float32(data, monkeypatch, precision):
    """Like `evaluate` on the finished run, so that both give the same error; only the steps use TF32."""
    ours, used = Trainer(tiny(), data, SHORT, every=6), []
    ours.precision = precision  # as on CUDA
    look = lambda: used.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))  # noqa: E731
    monkeypatch.setattr(trainer, "evaluate", lambda *args, **options: look() or (0.0, 0.0))
    ours.train(pause=lambda _: look())
    high = ("high", True) if precision == "tf32" else ("highest", False)
    assert used == [high] * 5 + [("highest", False), high]


@pytest.mark.parametrize("precision", ["float16", "tf32", ""])
def test_a_precision_that_the_device_does_not_have_is_refused(data, precision):
    with pytest.raises(InputError, match="float32"):
        Trainer(tiny(), data, SHORT, precision=precision)


def test_a_cpu_without_bf16_refuses_it(data, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(InputError, match="AVX-512"):
        Trainer(tiny(), data, SHORT, precision="bf16")


def test_bf16_follows_float32_step_by_step(data):
    """Weights that autocast had cached would give the loss of the first step again and again."""
    images, labels = Stream(data, 16, 0).batch(0)
    losses = []
    for bf16 in (False, True):
        model = tiny().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        losses.append([trainer.training_step(model, optimizer, images, labels, bf16)[0].item() for _ in range(6)])
    assert losses[0][-1] < 0.9 * losses[0][0] and losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


def test_narrow_strided_projections_are_not_trained_channels_last(data):
    """oneDNN writes past its memory there (uxlfoundation/oneDNN issue 6035)."""
    for width, shortcut, layout in [
        (8, "B", torch.contiguous_format),
        (16, "B", torch.channels_last),
        (8, "A", torch.channels_last),
    ]:
        ours = Trainer(build("cifar-resnet8", width=width, shortcut=shortcut), data, SHORT)
        assert ours.layout == layout
        seen = []
        ours.model.layer2[0].conv1.register_forward_hook(lambda module, args, output, seen=seen: seen.append(args[0]))
        ours.train(pause=lambda _: True)
        assert seen[0].is_contiguous(memory_format=layout)


def test_evaluation_uses_running_statistics_and_keeps_them(data):
    model = tiny().train()
    fit(model, data, SHORT)
    before = weights(model)
    (error, loss), alone = evaluate(model, data, batch_size=30), evaluate(model, data, batch_size=1)
    assert alone == (error, pytest.approx(loss, rel=1e-4))  # no image sees its neighbours
    assert equal(weights(model), before)
    assert all(module.training for module in model.modules())


def test_the_mode_is_put_back_after_an_error(data):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(5, 5, 1)).train()
    with pytest.raises(RuntimeError):
        evaluate(model, data)
    assert model.training


# ---- the files of a run


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a" / "b"
    last = run("cifar-resnet8", data, out, SHORT, seed=3, source="shapes10")
    return out, last


def snapshot(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_run_writes_three_files(data, finished):
    out, last = finished
    assert sorted(path.name for path in out.iterdir()) == ["log.jsonl", "run.json", "weights.safetensors"]
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert info["model"] == "cifar-resnet8" and info["seed"] == 3 and info["source"] == "shapes10"
    assert info["overrides"] == {} and info["precision"] == "float32" and info["processes"] == 1
    assert info["recipe"] == {key: value for key, value in dataclasses.asdict(SHORT).items() if key != "gradual"} | {
        "drops": [4]
    }
    assert info["data"] == {
        "name": "shapes10",
        "fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "train": 64,
        "test": 30,
    }
    assert info["versions"] == {"resnet_nb": __version__, "torch": torch.__version__, "python": platform.python_version()}
    assert info["device"].startswith("cpu") and 0 <= info["wall_seconds"] < 60
    log = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["iteration"] for line in log] == [4, 6] and log[-1] == last  # 2 * 30 test images are 4 batches
    assert {key: value.shape for key, value in load_file(out / "weights.safetensors").items()} == {
        key: value.shape for key, value in build("cifar-resnet8").state_dict().items()
    }


def test_the_seed_gives_weights_order_and_augmentation(data, finished):
    torch.manual_seed(3)
    model = build("cifar-resnet8")
    log = fit(model, data, SHORT, seed=3)
    assert log[-1] == finished[1]
    assert equal(load_file(finished[0] / "weights.safetensors"), weights(model))


def test_a_loaded_run_has_the_logged_test_error(data, finished):
    out, last = finished
    model, info, log = load_run(out)
    assert not model.training and info["seed"] == 3 and log[-1] == last
    error, loss = evaluate(model, data)
    assert error == last["test_error"] and loss == pytest.approx(last["test_loss"], rel=1e-4)


def test_a_finished_run_is_left_alone(data, finished):
    out, last = finished
    before = snapshot(out)
    assert run("cifar-resnet8", data, out, SHORT, seed=3) == last
    assert snapshot(out) == before


def test_other_settings_are_refused(data, finished):
    out, _ = finished
    before = snapshot(out)
    for name, other_data, recipe, seed, shown in [
        ("cifar-plain8", data, SHORT, 3, ["cifar-resnet8", "cifar-plain8"]),
        ("cifar-resnet8", data, SHORT, 11, ["3", "11"]),
        ("cifar-resnet8", data, dataclasses.replace(SHORT, lr=0.125), 3, ["0.05", "0.125"]),
        ("cifar-resnet8", shapes10(64, 20), SHORT, 3, [data.fingerprint, "30", "20"]),
    ]:
        with pytest.raises(InputError) as caught:
            run(name, other_data, out, recipe, seed)
        message = str(caught.value)
        assert len(message.splitlines()) == 1 and all(text in message for text in [str(out), *shown])
    assert snapshot(out) == before


def test_a_folder_with_other_files_is_refused(data, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    before = snapshot(tmp_path)
    with pytest.raises(InputError) as caught:
        run("cifar-resnet8", data, tmp_path, SHORT)
    assert str(tmp_path) in str(caught.value) and snapshot(tmp_path) == before


def test_a_file_as_folder_is_refused(data, tmp_path):
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        run("cifar-resnet8", data, tmp_path / "out", SHORT)
    assert str(tmp_path / "out") in str(caught.value) and (tmp_path / "out").read_text(encoding="utf-8") == "a file"


def test_an_unfinished_run_cannot_be_loaded(data, tmp_path):
    assert run("cifar-resnet8", data, tmp_path / "out", SHORT, deadline=0.0) is None
    before = snapshot(tmp_path / "out")
    with pytest.raises(InputError, match="not a finished run"):
        load_run(tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "cifar-resnet9"},
        {"recipe": dataclasses.replace(SHORT, batch_size=65)},  # of 64 images
        {"seed": -1},
        {"seed": 1.5},
        {"seed": True},
        {"recipe": dataclasses.replace(SHORT, augmentation=Augmentation())},  # the data are in memory
        {"precision": "tf32"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_bad_settings_write_nothing(data, tmp_path, settings):
    out = tmp_path / "out"
    with pytest.raises(InputError) as caught:
        run(**{"name": "cifar-resnet8", "data": data, "out": out, "recipe": SHORT, **settings})
    assert len(str(caught.value).splitlines()) == 1
    assert not out.exists()


def test_a_log_that_lost_its_end_and_a_flipped_bit_are_reported(finished, tmp_path):
    for path in finished[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = bytearray((tmp_path / "weights.safetensors").read_bytes())
    weights[-100] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="checksum"):
        load_run(tmp_path)
    weights[-100] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(weights)
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(InputError, match="last iteration"):
        load_run(tmp_path)


@pytest.mark.parametrize("content", ["[]", '{"model": 3}', '{"model": "cifar-resnet8", "data": "x"}', "null"])
def test_a_run_json_of_something_else_is_reported(finished, tmp_path, content):
    for path in finished[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "log.jsonl", "weights.safetensors"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_run_is_reported(data, finished, tmp_path, name, kept):
    for path in finished[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(kept * len(content))])
    for use in (lambda: load_run(tmp_path), lambda: run("cifar-resnet8", data, tmp_path, SHORT, seed=3)):
        with pytest.raises(InputError) as caught:
            use()
        assert str(tmp_path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_each_bf16_step_sees_the_weights_of_the_step_before():
    """An autocast around the loop must not keep bf16 copies of the first weights: the losses follow those of float32."""
    data, losses = shapes10(train=64, test=10), {}
    recipe = Recipe(iterations=24, batch_size=32, lr=0.05, drops=())
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        trained = Trainer(build("cifar-resnet8"), data, recipe, seed=0, precision=precision, every=8)
        trained.train()
        losses[precision] = [line["train_loss"] for line in trained.log]
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["float32"][-1] < 0.95 * losses["float32"][0]
