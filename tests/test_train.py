"""The recipe against the printed one, the loop against one written by hand, and the files of a run."""

import dataclasses
import json
import math
import platform

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from resnet_nb import __version__, paper, train
from resnet_nb.data import Dataset, Stream, shapes10
from resnet_nb.errors import InputError
from resnet_nb.models import build
from resnet_nb.train import RECIPES, Recipe, evaluate, fit, load_run, run

torch.set_num_threads(1)  # the tensors are small: threads would only wait for each other

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
    assert RECIPES["cifar"] == Recipe() == Recipe(
        iterations=printed["lr"]["stop"],
        batch_size=printed["batch"],
        lr=printed["lr"]["start"],
        drops=tuple(printed["lr"]["at_iterations"]),
        momentum=printed["momentum"],
        weight_decay=printed["weight_decay"],
    )  # fmt: skip


def test_the_learning_rate_of_every_iteration():
    want = [0.1] * 32_000 + [0.01] * 16_000 + [0.001] * 16_000
    recipe = Recipe()
    assert recipe.iterations == len(want)
    got = [recipe.learning_rate(iteration) for iteration in range(64_000)]
    assert got == pytest.approx(want, rel=1e-12)


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
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11, msg=key)
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
        torch.testing.assert_close(trained[0][key] - trained[1][key], 0.5 * 0.25 * w, rtol=1e-9, atol=1e-12, msg=key)
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


def test_fit_reports_lines_and_steps(data):
    lines, steps = [], []
    log = fit(tiny(), data, SHORT, every=4, report=lines.append, step=lambda: steps.append(len(lines)))
    assert lines == log and [line["iteration"] for line in log] == [4, 6]
    assert steps == [0, 0, 0, 0, 1, 1]  # one call for each iteration, lines in between


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
    bad = 4 * (len(lines) + 1)
    assert f"{bad - 4} and {bad}" in message and f"{recipe.lr:g}" in message
    assert all(math.isfinite(line["train_loss"]) for line in lines)


# ---- evaluation


class Fixed(nn.Module):
    """Logits that depend on the first pixel of each image; says how it was called."""

    def __init__(self, mean):
        super().__init__()
        self.mean, self.calls = mean, []

    def forward(self, x):
        self.calls.append((len(x), self.training, torch.is_grad_enabled()))
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
    right, wrong = math.log(1 + 3 / math.e**3), math.log(3 + math.e**3)
    assert error == 10 and loss == pytest.approx((9 * right + wrong) / 10)
    assert sum(count for count, _, _ in model.calls) == 10 and max(model.calls)[0] == min(batch_size, 10)
    assert not any(mode or gradients for _, mode, gradients in model.calls)
    assert model.training is training


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
    info = json.loads((out / "run.json").read_text())
    assert info["model"] == "cifar-resnet8" and info["seed"] == 3 and info["source"] == "shapes10"
    assert info["recipe"] == {**dataclasses.asdict(SHORT), "drops": [4]}
    assert info["data"] == {"name": "shapes10", "fingerprint": data.fingerprint,
                            "classes": list(data.classes), "train": 64, "test": 30}
    assert info["versions"] == {"resnet_nb": __version__, "torch": torch.__version__, "python": platform.python_version()}
    assert info["device"].startswith("cpu") and 0 <= info["wall_seconds"] < 60
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
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
    (tmp_path / "thesis.tex").write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(InputError) as caught:
        run("cifar-resnet8", data, tmp_path, SHORT)
    assert str(tmp_path) in str(caught.value) and snapshot(tmp_path) == before


def test_a_file_as_folder_is_refused(data, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError) as caught:
        run("cifar-resnet8", data, tmp_path / "out", SHORT)
    assert str(tmp_path / "out") in str(caught.value) and (tmp_path / "out").read_text() == "a file"


def test_an_interrupted_run_is_refused(data, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "evaluate", interrupt)
        run("cifar-resnet8", data, tmp_path / "out", SHORT)
    assert not (tmp_path / "out" / "weights.safetensors").exists()
    before = snapshot(tmp_path / "out")
    with pytest.raises(InputError, match="interrupted"):
        run("cifar-resnet8", data, tmp_path / "out", SHORT)
    with pytest.raises(InputError, match="not a finished run"):
        load_run(tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("settings", [
    {"name": "cifar-resnet9"},
    {"recipe": dataclasses.replace(SHORT, batch_size=65)},  # of 64 images
    {"seed": -1},
], ids=lambda settings: next(iter(settings)))  # fmt: skip
def test_bad_settings_write_nothing(data, tmp_path, settings):
    out = tmp_path / "out"
    with pytest.raises(ValueError) as caught:
        run(**{"name": "cifar-resnet8", "data": data, "out": out, "recipe": SHORT, **settings})
    assert len(str(caught.value).splitlines()) == 1
    assert not out.exists()


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
