"""Recipes, sweeps and names as values: what is refused, what shortening keeps, who decides the rate."""

import dataclasses
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from resnet_nb.data import views
from resnet_nb.errors import InputError
from resnet_nb.recipes import RECIPES, SWEEPS, Augmentation, Network, Recipe, network, recipe_for


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"iterations": 0}, "iterations"),
        ({"iterations": 10.0}, "iterations"),
        ({"batch_size": True}, "batch_size"),
        ({"lr": 0}, "lr"),
        ({"lr": -0.1}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"lr": math.inf}, "lr"),
        ({"lr": "0.1"}, "lr"),
        ({"momentum": 1.5}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"drops": (5, 1)}, "drops"),
        ({"drops": (-1, 1)}, "drop"),
        ({"drops": (0.5,)}, "drop"),
        ({"drops": 5}, "drops"),
        ({"drops": None}, "drops"),
        ({"drops": (True, 2)}, "drops"),
        ({"lr": 10**400}, "lr must be a finite number"),
        ({"augmentation": "x"}, "augmentation"),
        ({"augmentation": {}}, "augmentation"),
        ({"gradual": None}, "gradual"),
        ({"patience": 0}, "patience"),
        ({"patience": -1}, "patience"),
        ({"warmup_iterations": 400}, "warmup_lr"),
        ({"warmup_lr": 0.0}, "warmup_lr"),
        ({"warmup_lr": 0.01, "warmup_iterations": 0}, "warmup_iterations"),
        ({"warmup_lr": 0.01, "warmup_iterations": 4.0}, "warmup_iterations"),
        ({"gradual": True}, "gradual"),
        ({"gradual": True, "warmup_lr": 0.0}, "gradual"),
    ],
    ids=str,
)
def test_a_recipe_that_no_training_can_have_is_refused(changes, named):
    with pytest.raises(InputError, match=named) as caught:
        Recipe(**changes)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 200


def test_every_recipe_and_every_job_can_be_had():
    for name, recipe in RECIPES.items():
        assert replace(recipe) == recipe and recipe.shortened(recipe.iterations) == recipe, name
    for jobs in SWEEPS.values():
        assert len({job.folder for job in jobs}) == len(jobs)  # no run overwrites another
        for job in jobs:
            assert recipe_for(job.recipe, job.model).iterations > 0 and network(job.model).side in (32, 224)


@pytest.mark.parametrize("name", ["cifar-resnet110", "cifar-plain110", "cifar-resnet1202"])
@pytest.mark.parametrize("n", [60, 640, 8_000, 32_000])
def test_a_shortened_recipe_of_the_deep_nets_leaves_its_warm_up_in_proportion(name, n):
    """§4.2: about 400 of 64,000 iterations; then the drops act, at 1/2 and 3/4."""
    recipe = recipe_for("cifar", name, n)
    warmup, drops = math.ceil(400 * n / 64_000), (n // 2, 3 * n // 4)
    rates = [recipe.rate(iteration, []) for iteration in range(n)]
    want = [0.01] * warmup + [0.1] * (drops[0] - warmup) + [0.01] * (drops[1] - drops[0]) + [0.001] * (n - drops[1])
    assert rates == pytest.approx(want)


@pytest.mark.parametrize("n", [1, 2, 7, 400, 8_000, 16_000])
def test_a_gradual_warm_up_is_shortened_like_the_drops(n):
    """In equal steps up to the full rate, which is reached at the end of the warm-up and not before."""
    recipe = RECIPES["eighth"].shortened(n)
    warmup = math.ceil(400 * n / 8_000)
    rates = [recipe.rate(iteration, []) for iteration in range(n)]
    assert rates[:warmup] == pytest.approx([0.1 * (i + 1) / warmup for i in range(warmup)])
    assert rates[warmup:] == pytest.approx([0.1 / 10 ** ((i >= n / 2) + (i >= 3 * n / 4)) for i in range(warmup, n)])


def test_eighth_is_the_papers_recipe_in_an_eighth_of_the_iterations_but_for_the_warm_up():
    eighth, paper = RECIPES["eighth"], Recipe()
    assert 8 * eighth.iterations == paper.iterations and tuple(8 * drop for drop in eighth.drops) == paper.drops
    assert replace(eighth, warmup_lr=None, warmup_iterations=None, gradual=False) == paper.shortened(8_000)


def test_the_rate_falls_at_plateaus_of_the_log():
    recipe = Recipe(iterations=100, lr=1.0, drops=(50,), patience=2)
    log = [{"iteration": 10 * i, "test_error": error} for i, error in enumerate([60, 50, 50, 51, 49, 49, 49], 1)]
    assert [recipe.rate(0, log[:n]) for n in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert recipe.rate(50, log) == pytest.approx(0.001)


@pytest.mark.parametrize(
    "name, want",
    [
        ("cifar-resnet56", Network("cifar-resnet", 56, 32)),
        ("cifar-rk432", Network("cifar-rk4", 32, 32)),
        ("cifar-rk892", Network("cifar-rk8", 92, 32)),
        ("resnet152", Network("resnet", 152, 224)),
        ("tiny-preact", Network("tiny-preact", None, 64)),
    ],
)
def test_a_name_is_taken_apart_in_one_place(name, want):
    assert network(name) == want


@pytest.mark.parametrize(
    "name", ["", "resnet", "cifar-56", "cifar-resnet", "cifar-resnet056", "tiny-preact3", "xresnet50", None, 56]
)
def test_other_names_are_refused_with_what_is_allowed(name):
    with pytest.raises(InputError, match="unknown model .*cifar-resnet<6n\\+2>"):
        network(name)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"crop": 300}, "must fit"),
        ({"shorter_side": (300, 256)}, "must fit"),
        ({"crop": 1.5}, "crop"),
        ({"crop": True}, "crop"),
        ({"test_side": None}, "test_side"),
        ({"color": -1}, "color"),
        ({"color": math.nan}, "color"),
        ({"shorter_side": 5}, "shorter_side"),
        ({"shorter_side": (256,)}, "shorter_side"),
        ({"shorter_side": (256.5, 300)}, "shorter_side"),
    ],
    ids=str,
)
def test_an_augmentation_that_does_not_fit_is_refused(changes, named):
    with pytest.raises(InputError, match=named):
        Augmentation(**changes)


def test_numbers_of_numpy_and_lists_are_taken_as_pythons():
    recipe = Recipe(np.int64(20), np.int32(8), np.float64(0.5), [np.int64(10).item(), 15], momentum=np.float32(0.5))
    assert recipe == Recipe(20, 8, 0.5, (10, 15), momentum=0.5) and json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert Augmentation(shorter_side=[256, 480]) == Augmentation() == views.Augmentation()
    assert views.Augmentation(crop=200) == Augmentation(crop=200) != views.Augmentation()
    assert hash(views.Augmentation()) == hash(Augmentation())


def test_recipes_are_known_without_torch():
    code = "import sys, resnet_nb.recipes; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
