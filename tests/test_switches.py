"""Trainings from Python: what cannot be trained is told before the first step, and no switch of the program spoils one."""

import contextlib
import dataclasses
import re
import threading

import numpy as np
import pytest
import torch
from torch import nn

from resnet_nb import anatomy, data, models, runs, train
from resnet_nb.errors import InputError
from resnet_nb.models import build
from resnet_nb.recipes import Recipe
from resnet_nb.train.checks import as_usual

RECIPE = Recipe(3, 8, 0.05, drops=())


@pytest.fixture(scope="module")
def shapes():
    return data.shapes10(40, 20)


def net(name="cifar-resnet8", **overrides):
    torch.manual_seed(0)
    return build(name, **({} if name.startswith("vgg") else {"width": 4}) | {"num_classes": 10} | overrides)


def trained(shapes, model=None, recipe=RECIPE, **settings):
    """Log and weights."""
    model = model or net()
    return train.fit(model, shapes, recipe, **settings), {key: value.tolist() for key, value in model.state_dict().items()}


def refused(shapes, model=None, **settings):
    """The line that refuses a training; the network is left as it was."""
    model = model or net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    was_training = model.training
    with pytest.raises(InputError) as caught:
        train.fit(model, shapes, settings.pop("recipe", RECIPE), **settings)
    assert len(str(caught.value).splitlines()) == 1
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items() if not value.is_meta)
    assert model.training in (was_training, True)
    return str(caught.value)


# ---- switches of the program


@contextlib.contextmanager
def no_gradients():
    """As a notebook does it in its first cell."""
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(True)


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device():
    """As "cuda" would be, on a machine without one."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SWITCHES = {
    "set_grad_enabled": no_gradients,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": default_dtype,
    "default device": default_device,
    "deterministic": deterministic,
}
switched = pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)


def state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
    )


@switched
def test_a_training_is_the_same_whatever_is_switched(shapes, switch):
    want, model = trained(shapes), net()
    with switch():
        before = state()
        got = trained(shapes, model)
        assert state() == before
    assert got == want


@switched
def test_so_is_a_run_and_its_continuation(shapes, switch, tmp_path):
    """`run` builds the network itself."""
    settings = {"overrides": {"width": 4}}
    want = runs.run("cifar-resnet8", shapes, tmp_path / "usual", RECIPE, **settings)
    with switch():
        before = state()
        assert runs.run("cifar-resnet8", shapes, tmp_path / "a", RECIPE, deadline=0.0, **settings) is None
        assert runs.run("cifar-resnet8", shapes, tmp_path / "a", RECIPE, **settings) == want
        assert runs.run("cifar-resnet8", shapes, tmp_path / "a", RECIPE, **settings) == want  # finished
        model, _, _ = runs.load_run(tmp_path / "a")
        assert state() == before
    usual, _, _ = runs.load_run(tmp_path / "usual")
    for key, value in usual.state_dict().items():
        found = model.state_dict()[key]
        assert found.device == value.device and found.dtype == value.dtype and torch.equal(found, value)


@switched
def test_loaded_networks_are_evaluated_and_described(shapes, switch):
    model = runs.load("cifar-resnet20")
    want = train.evaluate(model, shapes), anatomy.describe(model, 32)
    with switch():
        model = runs.load("cifar-resnet20")
        tolerance = 0.02 if switch is SWITCHES["autocast"] else 0  # the evaluation is in the caller's arithmetic
        assert train.evaluate(model, shapes) == pytest.approx(want[0], rel=tolerance)
        assert anatomy.describe(model, 32) == want[1]


@pytest.mark.parametrize("switch", [no_gradients, torch.no_grad], ids=["set_grad_enabled", "no_grad"])
def test_one_step_has_its_gradients(shapes, switch):
    losses = []
    for around in (contextlib.nullcontext, switch):
        model = net().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        images, labels = shapes.stream(8, 0).batch(0)
        with around():
            losses.append([train.training_step(model, optimizer, images, labels)[0].item() for _ in range(3)])
    assert losses[0] == losses[1] and losses[0][2] < losses[0][0]


def test_as_usual_puts_everything_back_after_an_error():
    with default_dtype(), torch.no_grad():
        before = state()
        with pytest.raises(KeyError), as_usual():
            assert state() == (True, False, False, torch.float32, torch.device("cpu"))
            raise KeyError
        assert state() == before


# ---- what cannot be trained


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "3", None, True, np.array([1])], ids=repr)
def test_a_seed_that_is_none_is_refused(shapes, seed):
    assert refused(shapes, seed=seed).startswith("seed must be an integer of at least 0")


@pytest.mark.parametrize("three", [np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)], ids=repr)
def test_integers_of_numpy_and_torch_are_integers(shapes, three, tmp_path):
    want = trained(shapes, seed=3, every=3)
    assert trained(shapes, seed=three, every=three) == want
    last = runs.run("cifar-resnet8", shapes, tmp_path / "a", RECIPE, three, overrides={"width": three})
    assert last == runs.run("cifar-resnet8", shapes, tmp_path / "b", RECIPE, 3, overrides={"width": 3})
    assert (tmp_path / "a" / "run.json").read_text(encoding="utf-8").count('"width": 3') == 1
    assert models.build("cifar-resnet8", width=three).conv1.out_channels == 3
    assert RECIPE.shortened(three) == Recipe(three, 8, 0.05, drops=())


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "10", np.array([1, 2])], ids=repr)
def test_an_interval_that_is_none_is_refused(shapes, bad):
    assert refused(shapes, every=bad).startswith("every must be a positive integer")
    with pytest.raises(InputError, match="iterations must be a positive integer"):
        Recipe(bad)
    with pytest.raises(InputError, match="iterations must be a positive integer"):
        RECIPE.shortened(bad)


@pytest.mark.parametrize(
    "name, said", [("vgg16", r"3x16x16, as shapes10 has them \(.*too small\)"), ("resnet18", "H, W >= 32, got .*16, 16")]
)
def test_images_that_are_too_small_are_told(shapes, name, said, tmp_path):
    parts = {part: getattr(shapes, part)[..., :16, :16].contiguous() for part in ("train_images", "test_images")}
    small = dataclasses.replace(shapes, **parts)
    assert re.search(said, refused(small, net(name)))
    with pytest.raises(InputError, match=said):
        runs.run(name, small, tmp_path / "a", RECIPE)
    assert not (tmp_path / "a").exists()


def test_a_network_of_other_classes_is_told(shapes):
    for count in (1, 9):
        line = refused(shapes, net(num_classes=count))
        assert f"logits of shape (B, {count})" in line and "build the network with num_classes=10" in line
        with pytest.raises(InputError, match="build the network with num_classes=10"):
            train.evaluate(net(num_classes=count), shapes)
    assert "(B, 10, 30, 30)" in refused(shapes, nn.Conv2d(3, 10, 3))
    assert trained(shapes, net(num_classes=12))[0]  # as the paper's nets have it, some classes may have no images


@pytest.mark.parametrize("part", ["train_labels", "test_labels"])
@pytest.mark.parametrize("shift, span", [(-1, "-1 to 8"), (5, "5 to 14")])
def test_labels_that_are_no_classes_are_told(shapes, part, shift, span):
    wrong = dataclasses.replace(shapes, **{part: getattr(shapes, part) + shift})
    line = refused(wrong)
    assert "must be 0 to 9" in line and f"its {'training' if 'train' in part else 'test'} labels are {span}" in line


def test_a_set_without_test_images_is_told(shapes):
    empty = dataclasses.replace(shapes, test_images=shapes.test_images[:0], test_labels=shapes.test_labels[:0])
    assert refused(empty) == "shapes10 has no test images"


def test_a_network_with_nothing_to_train_is_told(shapes):
    for model in (net().requires_grad_(False), nn.Flatten()):
        assert "no weight of the network has requires_grad=True" in refused(shapes, model)
    with torch.inference_mode():
        assert "torch.inference_mode" in refused(shapes, net())
    with torch.device("meta"):
        assert "device meta" in refused(shapes, net())


def test_frozen_weights_stay_and_the_rest_is_trained(shapes):
    model, start = net(), net().state_dict()
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith("fc."))
    train.fit(model.eval(), shapes, RECIPE)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, start[name]) != name.startswith("fc."), name
    assert model.training  # a network in eval mode is trained in training mode


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_weights_of_another_type_are_told(shapes, dtype):
    assert f"its weights are {dtype}, the images float32: model.float() mends it" in refused(shapes, net().to(dtype))


def test_the_trial_of_one_image_leaves_no_trace(shapes):
    """Neither in the statistics, nor in the draws that follow."""
    model = net("cifar-preact8", shortcut="dropout", placement="a")
    for recipe in (RECIPE, dataclasses.replace(RECIPE, batch_size=1)):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        torch.manual_seed(5)
        train.Trainer(model, shapes, recipe)
        drawn = torch.rand(3)
        torch.manual_seed(5)
        assert torch.equal(torch.rand(3), drawn)
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_default_type_is_put_back_when_the_last_thread_leaves():
    torch.set_default_dtype(torch.float64)
    try:
        entered, leave = threading.Event(), threading.Event()

        def stay():
            with as_usual():
                entered.set()
                leave.wait(20)

        other = threading.Thread(target=stay)
        with as_usual():
            other.start()
            assert entered.wait(20)
        assert torch.get_default_dtype() == torch.float32  # the other one still trains
        leave.set()
        other.join(20)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_evaluation_leaves_every_module_in_its_mode(shapes):
    model = models.build("cifar-resnet8", width=4)
    model.layer1.eval()  # a part that is frozen in a network that trains
    modes = {name: module.training for name, module in model.named_modules()}
    train.evaluate(model, shapes)
    assert {name: module.training for name, module in model.named_modules()} == modes
