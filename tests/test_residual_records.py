"""The recorded experiments of notebook 02: what they say is what their tools measure today, in a small part of each."""

import math

import pytest

from resnet_nb import runs
from tools import gradients, identity, surface


def test_every_seed_of_every_case_is_there():
    found = runs.experiment("gradients-at-start")
    assert all(found[kind].keys() == gradients.CASES.keys() for kind in ("outputs", "first_weights"))
    blocks = {case: {len(seed) for seed in seeds} for case, seeds in found["outputs"].items()}
    assert all(count == ({27} if "56" in case else {16}) for case, count in blocks.items())
    found = [*found["outputs"].values(), *found["first_weights"].values()]
    found += [v for when in ("start", "end") for v in runs.experiment("identity-over-depth")[when].values()]
    assert {len(seeds) for seeds in found} == {12}


@pytest.mark.parametrize("case, seed", [("resnet56, He, BN", 0), ("plain56, default, no BN", 3), ("resnet56, zero γ", 1)])
def test_gradients_are_those_of_the_record(case, seed):
    found = runs.experiment("gradients-at-start")
    blocks, first = gradients.norms(case, seed)
    assert blocks == pytest.approx(found["outputs"][case][seed], rel=2e-3)
    assert first == pytest.approx(found["first_weights"][case][seed], rel=2e-3)


@pytest.mark.parametrize("case, seed", [("plain, default, 2", 1), ("residual, default, 5", 0), ("residual, He, 1", 2)])
def test_errors_of_the_identity_are_those_of_the_record(case, seed):
    found, (kind, init, depth) = runs.experiment("identity-over-depth"), case.split(", ")
    errors = identity.errors(kind, init, int(depth), seed)
    assert len(errors) == found["steps"] + 1
    assert errors[0] == pytest.approx(found["start"][case][seed], rel=1e-3)
    assert errors[-1] == pytest.approx(found["end"][case][seed], rel=1e-2)


@pytest.fixture(scope="module")
def around():
    images, labels = surface.photographs()
    return surface.Around("cifar-resnet56", images, labels)


def test_the_surface_is_that_of_the_record(around):
    found = runs.experiment("loss-surface")
    grid, losses = found["grid"], found["surfaces"]["56 layers, residual"]
    assert all(len(rows) == len(grid) and {*map(len, rows)} == {len(grid)} for rows in found["surfaces"].values())
    middle = grid.index(0)
    assert around.loss({}) == pytest.approx(losses[middle][middle], rel=1e-3)
    assert around.loss({0: grid[9], 1: grid[5]}) == pytest.approx(losses[5][9], rel=1e-3)
    k = found["line"].index(0.3)
    for statistics in ("stored", "fresh"):
        recorded = found["lines"][f"residual, {statistics}"][2][k]
        assert around.loss({2: 0.3}, statistics == "fresh") == pytest.approx(recorded, rel=1e-3)


def test_each_filter_of_a_direction_is_as_long_as_that_of_the_weights(around):
    first, again, other = around.direction(0), around.direction(0), around.direction(1)
    for weight, part, same, part_of_other in zip(around.center, first, again, other, strict=True):
        assert part.flatten(1).norm(dim=1).tolist() == pytest.approx(weight.flatten(1).norm(dim=1).tolist(), rel=1e-5)
        assert part.equal(same) and not math.isclose(part.flatten()[0], part_of_other.flatten()[0])
    assert all(weight.dim() > 1 for weight in around.weights)
