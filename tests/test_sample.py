"""The sample of CIFAR-10 in the package: it is what was published, and what was trained on CIFAR-10 is tested on it."""

import json
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ROOT, md5
from torchvision.datasets import CIFAR10

from resnet_nb import runs
from resnet_nb.cli import main
from resnet_nb.data import Dataset, cifar10_sample, load, sample
from resnet_nb.train import evaluate
from tools.sample import contents, first_of_each, sheet

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FINGERPRINT = "af8a671215acfbbb2842cfa5be7909023d84964aa9859c302f8248879cf89ccf"
PUBLISHED = ROOT / "data" / CIFAR10.base_folder
needs_cifar10 = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no {PUBLISHED.relative_to(ROOT)}")


@pytest.fixture(scope="module")
def data():
    return cifar10_sample()


def test_it_has_the_first_images_of_each_class(data):
    assert isinstance(data, Dataset) and data.name == "cifar10-sample" and data.classes == CLASSES
    for images, labels, count in ((data.train_images, data.train_labels, 200), (data.test_images, data.test_labels, 100)):
        assert images.shape == (10 * count, 3, 32, 32) and images.dtype == torch.uint8
        assert labels.bincount().tolist() == [count] * 10 and labels.dtype == torch.int64
    assert data.train_labels[:5].tolist() == [6, 9, 9, 4, 1]  # the frog, two trucks, the deer and the car that begin the set
    assert data.test_labels[:5].tolist() == [3, 8, 8, 0, 6]


def test_it_is_the_same_everywhere(data):
    assert data.fingerprint == FINGERPRINT == load("cifar10-sample").fingerprint


def test_its_colors_are_those_of_the_whole_set(data):
    """Means of red, green and blue of the 50,000 images as they are given everywhere."""
    np.testing.assert_allclose(data.mean.mean((1, 2)), [0.4914, 0.4822, 0.4465], atol=0.005)


def test_its_files_are_small_and_say_where_they_come_from():
    assert sum(path.stat().st_size for path in sample.FOLDER.iterdir()) < 5.2e6
    note = (sample.FOLDER / "README.md").read_text(encoding="utf-8")
    for said in ("Learning Multiple Layers of Features from Tiny Images", "https://www.cs.toronto.edu/~kriz/cifar.html", "MIT"):
        assert said in note


# ---- how it was made


def published(files):
    """(image (3, 32, 32), label) of one batch after the other, as they stand there."""
    for name, want in files:
        content = (PUBLISHED / name).read_bytes()
        assert md5(content) == want
        batch = pickle.loads(content, encoding="latin1")
        yield from zip(batch["data"].reshape(-1, 3, 32, 32), batch["labels"])


@needs_cifar10
@pytest.mark.parametrize("part, files, count", [("train", CIFAR10.train_list, 200), ("test", CIFAR10.test_list, 100)])
def test_images_and_labels_are_the_published_ones(data, part, files, count):
    seen, kept = Counter(), []
    for image, label in published(files):
        seen[label] += 1
        if seen[label] <= count:
            kept.append((image, label))
    images, labels = zip(*kept)
    np.testing.assert_array_equal(getattr(data, f"{part}_images"), np.stack(images))
    assert getattr(data, f"{part}_labels").tolist() == list(labels)


@needs_cifar10
def test_the_published_files_are_read():
    """The runs that are recorded on CIFAR-10 were trained on these."""
    data, found = load(ROOT / "data"), runs.index()
    assert data.name == "cifar10" and data.classes == CLASSES
    assert data.train_labels.bincount().tolist() == [5000] * 10 and data.test_labels.bincount().tolist() == [1000] * 10
    np.testing.assert_allclose(data.mean.mean((1, 2)), [0.4914, 0.4822, 0.4465], atol=5e-5)
    infos = [
        json.loads((path / "run.json").read_text(encoding="utf-8")) for path in found.loc[found["data"] == "cifar10", "folder"]
    ]
    assert {info["data"]["fingerprint"] for info in infos} == {data.fingerprint}


@needs_cifar10
def test_its_mean_serves_a_net_that_was_trained_with_the_mean_of_all(data):
    """The numbers of the docstring of `cifar10_sample`."""
    full, net = load(ROOT / "data"), runs.load("cifar-resnet20", schedule="cifar10-64000x128")
    levels = 255 * (data.mean - full.mean).abs()
    assert levels.mean() == pytest.approx(1.1, abs=0.05) and levels.max() == pytest.approx(4.1, abs=0.05)
    centered_by_all = replace(data, train_images=full.train_images, train_labels=full.train_labels)
    errors = [evaluate(net, images)[0] for images in (data, centered_by_all)]
    assert errors == pytest.approx([8.3, 8.4], abs=0.25)  # two images by another machine's rounding


@needs_cifar10
def test_the_tool_makes_the_files_again(data, tmp_path, monkeypatch):
    """To the pixel: another version of the encoder may write other bytes."""
    made = contents(ROOT / "data")
    assert {path.parent for path in made} == {sample.FOLDER}
    for path, content in made.items():
        (tmp_path / path.name).write_bytes(content)
    monkeypatch.setattr(sample, "FOLDER", tmp_path)
    assert cifar10_sample().fingerprint == data.fingerprint


def test_a_sheet_is_lossless(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (80, 3, 32, 32), np.uint8)
    for part in ("train", "test"):
        (tmp_path / f"{part}.webp").write_bytes(sheet(images))
    (tmp_path / sample.LABELS).write_text('{"classes": [], "train": [], "test": []}', encoding="utf-8")
    monkeypatch.setattr(sample, "FOLDER", tmp_path)
    np.testing.assert_array_equal(sample.read()[1][0], images)


def test_the_first_of_each_class_keep_their_order():
    assert first_of_each([2, 0, 2, 1, 1, 2, 0, 0, 1, 2], 2).tolist() == [0, 1, 2, 3, 4, 6]


# ---- what it is for


def test_a_net_trained_on_cifar10_is_tested_on_it(capsys, tmp_path, monkeypatch):
    """Within what 1,000 images allow of the error on all 10,000."""
    monkeypatch.chdir(tmp_path)  # nothing is needed there
    [row] = runs.index().query("schedule == 'cifar10-64000x128' and model == 'cifar-resnet20' and weights").to_dict("records")
    assert main(["evaluate", str(row["folder"]), "--data", "cifar10-sample", "--device", "cpu"]) == 0
    said, noted = capsys.readouterr()
    error = float(said.partition("cifar-resnet20 on cifar10-sample: test error ")[2].partition(" %")[0])
    assert error == pytest.approx(row["test_error"], abs=1.5)
    assert "trained on other data (cifar10)" in noted


def test_a_run_on_it_finds_it_again(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["train", "cifar-resnet8", "--data", "cifar10-sample", "--recipe", "live", "--iterations", "2", "--device", "cpu"]
    assert main([*args, "--out", "run"]) == 0
    info = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["data"]
    assert (info["name"], info["train"], info["test"]) == ("cifar10-sample", 2_000, 1_000)
    trained = capsys.readouterr().out.partition("test error ")[2].partition(" %")[0]
    assert main(["evaluate", "run", "--device", "cpu"]) == 0
    said, noted = capsys.readouterr()
    assert f"test error {trained} %" in said and "other data" not in noted
