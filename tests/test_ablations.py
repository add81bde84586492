"""One decision of the recipe changed at a time: what the tool changes, and that it goes on where it was stopped."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from resnet_nb import data, runs
from resnet_nb.data import augment
from resnet_nb.runs import checkpoint
from tools import ablations

SAMPLE = data.cifar10_sample()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    recipe = replace(ablations.RECIPE, iterations=4, batch_size=8, drops=(), warmup_iterations=2)
    monkeypatch.setattr(ablations, "RECIPE", recipe)
    monkeypatch.setattr(ablations, "EVERY", 4)


def seen(decision):
    """The first batch: which photographs, with which views, and what the net gets."""
    stream = ablations.trainer(decision, SAMPLE).stream
    order, codes = stream.indices(0)
    return SAMPLE.train_images[order], codes, stream.batch(0)[0]


def test_views_that_are_changed():
    photographs, codes, got = seen("no crop, no flip")
    assert torch.equal(got, SAMPLE.center(photographs))
    photographs, codes, got = seen("one crop and flip a batch")
    assert len(codes.unique()) > 1
    assert torch.equal(got, augment(SAMPLE.center(photographs), codes[0].repeat(8)))


@pytest.mark.parametrize("decision, decayed", [("no crop, no flip", "all"), ("no decay on BN", "matrices")])
def test_what_a_step_without_gradients_shrinks(decision, decayed):
    training = ablations.trainer(decision, SAMPLE)
    before = {name: weight.detach().clone() for name, weight in training.model.named_parameters()}
    for weight in training.model.parameters():
        weight.grad = torch.zeros_like(weight)
    training.rate.fill_(0.1)
    training.optimizer.step()
    for name, weight in training.model.named_parameters():
        shrinks = decayed == "all" or (decayed == "matrices" and weight.ndim > 1)
        torch.testing.assert_close(weight, before[name] * (1 - 0.1 * 1e-4 * shrinks))


def test_a_stopped_training_goes_on(tmp_path, monkeypatch):
    def main(results):
        monkeypatch.setattr(ablations, "RESULTS", results)
        monkeypatch.setattr(sys, "argv", ["ablations", "--data", "cifar10-sample", "--out", str(tmp_path), "no decay on BN"])
        ablations.main()
        return json.loads(results.read_text(encoding="utf-8"))["runs"]["no decay on BN"]

    monkeypatch.setattr(ablations, "SAVED", 2)
    whole = main(tmp_path / "whole.json")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    checkpoint.remove(folder)
    save = checkpoint.save

    def killed(folder, state):
        save(folder, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        main(tmp_path / "resumed.json")
    monkeypatch.setattr(checkpoint, "save", save)
    assert checkpoint.load(folder)[0]["iteration"] == 2
    assert main(tmp_path / "resumed.json") == whole


def test_the_spreads_are_those_that_circulate():
    """Of the 50,000 photographs, in public code: kuangliu/pytorch-cifar has the second set."""
    assert runs.experiment("ablations")["std"] == {
        "all pixels": pytest.approx([0.2470, 0.2435, 0.2616], abs=5e-5),
        "each photograph": pytest.approx([0.2023, 0.1994, 0.2010], abs=5e-5),
    }
    pixels = SAMPLE.train_images.numpy() / 255
    channels = [pixels[:, i].reshape(len(pixels), -1) for i in range(3)]
    assert ablations.spreads(SAMPLE) == {
        "all pixels": pytest.approx([channel.std(ddof=1) for channel in channels], abs=1e-6),
        "each photograph": pytest.approx([channel.std(1, ddof=1).mean() for channel in channels], abs=1e-6),
    }


def test_every_decision_is_recorded():
    found = runs.experiment("ablations")["runs"]
    assert found.keys() == set(ablations.DECISIONS)
    assert all(0 < run["train_error"] < run["test_error"] < 30 for run in found.values())
