"""The ImageNet protocol (§3.4): views, recipe, images streamed from files, many-view testing, torchvision's weights."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import torchvision
from helpers import SMALL, end, finish, free_port, make_pictures, rank_variables
from helpers import start as start_process
from helpers import start_ranks as start
from torchvision.transforms import v2

from resnet_nb import data, models, paper, recipes, train
from resnet_nb.cli import main
from resnet_nb.data import Augmentation, streamed
from resnet_nb.data.views import ColorShift, seeded, ten_crops
from resnet_nb.errors import InputError, Interrupted, ReadingFailed, TrainingStopped
from resnet_nb.files import sha256
from resnet_nb.models import weights as weights_module
from resnet_nb.runs import augmentation_of, checkpoint, load_run, run
from resnet_nb.train import RECIPES, Recipe, evaluate, recipe_for
from resnet_nb.train.evaluation import dense_logits, multi_scale_scores, scores_of, ten_crop_scores, top_k_error

# of multiprocessing's own threads, when a process that reads images was killed
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

RECIPE = Recipe(iterations=6, batch_size=8, lr=0.05, drops=(4,), augmentation=SMALL)
WIDTH = {"width": 2}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("imagenet") / "tiny", 30, 7)


@pytest.fixture(scope="module")
def files(pictures):
    return data.load(pictures, augmentation=SMALL)


# ---- the recipe


def test_the_recipe_is_the_printed_one():
    recipe, printed = RECIPES["imagenet"], paper.recipe("imagenet")
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay) == (256, 0.9, 1e-4)
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay) == tuple(
        printed[key] for key in ("batch", "momentum", "weight_decay")
    )
    assert recipe.lr == printed["lr"]["start"] == 0.1
    assert recipe.iterations == printed["max_iterations"] == 600_000
    assert recipe.augmentation == recipes.Augmentation(shorter_side=(256, 480), crop=224, color=0.1, test_side=256)
    assert printed["resize"].endswith("[256, 480]") and printed["crop"] == 224
    # nothing but the plateaus changes the learning rate
    assert not recipe.drops and recipe.warmup_lr is None and recipe.patience == 5  # the patience is ours
    assert [recipe.learning_rate(iteration) for iteration in (0, 300_000, 599_999)] == [0.1] * 3
    assert recipe.learning_rate(0, plateaus=2) == pytest.approx(0.1 / printed["lr"]["divide_by"] ** 2)
    assert recipe_for("imagenet", "resnet152", 1_000) == replace(recipe, iterations=1_000)


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_plateaus_are_those_of_torch(patience):
    errors = np.random.default_rng(patience).uniform(20, 30, 60).round(1).tolist()  # with ties
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=patience - 1, threshold=0, eps=0)
    recipe = replace(RECIPES["imagenet"], patience=patience)
    for count in range(1, len(errors) + 1):
        theirs.step(errors[count - 1])
        assert 10.0 ** -recipe.plateaus(errors[:count]) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert recipe.plateaus(errors) > 1 and Recipe().plateaus(errors) == 0


def test_the_training_drops_at_a_plateau_and_after_a_resume(monkeypatch):
    rates = []
    errors = iter([50, 40, 40, 41, 39, 39.5, 39.5, 38, 37, 36])
    monkeypatch.setattr("resnet_nb.train.loop.evaluate", lambda *args, **settings: (next(errors), 1.0))
    recipe = Recipe(iterations=10, batch_size=16, lr=0.08, drops=(), patience=2)

    def trainer():
        torch.manual_seed(0)
        return train.Trainer(models.build("cifar-resnet8", width=2), data.shapes10(32, 10), recipe, every=1)

    first = trainer()
    first.train(pause=lambda t: rates.append(t.rate.item()) or t.iteration == 6)
    second = trainer()
    second.load_state_dict(first.state_dict())
    second.train(pause=lambda t: rates.append(t.rate.item()))
    assert rates == pytest.approx([0.08] * 4 + [0.008] * 3 + [0.0008] * 3)
    assert [line["lr"] for line in second.log] == pytest.approx(rates)


# ---- views


def coordinates(width, height):
    """An image whose red is the column and whose green is the row, scaled to 0..255."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return PIL.Image.fromarray(np.stack([columns, rows, 0 * rows], 2).round().astype(np.uint8))


def test_training_views_cover_scales_places_and_flips():
    image, view = coordinates(600, 500), Augmentation().training(torch.zeros(3, 3))
    shares, flipped, tops = [], [], []
    for seed in range(300):
        crop = seeded(view, image, seed).double().numpy()
        assert crop.shape == (3, 224, 224)
        red, green = crop[0].mean(0), crop[1].mean(1)
        flipped.append(bool(red[-1] < red[0]))
        share = (green[-1] - green[0]) / 255  # of the height, which is the shorter side
        shares.append(share)
        tops.append(green[0] / 255 / (1 - share))  # 0 at the upper edge, 1 at the lower
        assert abs(red[-1] - red[0]) / 255 * 600 == pytest.approx(share * 500, rel=0.03)  # the aspect is kept
    sides = 224 / np.array(shares)
    assert 250 < sides.min() < 262 and 472 < sides.max() < 490
    # uniform lengths: means and quartiles of 300 draws, more than four standard errors wide
    assert sides.mean() == pytest.approx(368, abs=16)
    assert np.mean(sides < 312) == pytest.approx(0.25, abs=0.1)
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.12)
    assert np.mean(tops) == pytest.approx(0.5, abs=0.07) and min(tops) < 0.03 and max(tops) > 0.97


def test_the_test_view_is_the_center_of_a_shorter_side_of_256():
    crop = Augmentation().testing()(coordinates(512, 384)).double()
    assert crop.shape == (3, 224, 224)
    for channel, length in ((crop[0].mean(0), 512 * 256 / 384), (crop[1].mean(1), 256)):
        assert ((channel[0] + channel[-1]) / 2).item() == pytest.approx(127.5, abs=1)
        assert ((channel[-1] - channel[0]) / 255 * length).item() == pytest.approx(223, abs=2)


def test_colors_are_shifted_along_the_principal_components():
    rng = np.random.default_rng(0)
    mixing = np.array([[0.2, 0.05, 0.0], [0.2, -0.05, 0.02], [0.2, 0.0, -0.02]])
    components = torch.tensor(mixing)
    image = torch.full((3, 4, 4), 128, dtype=torch.uint8)
    torch.manual_seed(0)
    shifts = torch.stack([ColorShift(components)(image)[:, 0, 0].double() - 128 for _ in range(4_000)]).numpy() / 255
    np.testing.assert_allclose(np.cov(shifts.T), mixing @ mixing.T, atol=0.004)
    np.testing.assert_allclose(shifts.mean(0), 0, atol=0.015)
    edges = ColorShift(100 * components)(torch.from_numpy(rng.integers(0, 256, (3, 4, 4), dtype=np.uint8)))
    assert edges.dtype == torch.uint8 and set(edges.flatten().tolist()) <= {0, 255} | set(range(256))


def test_the_color_augmentation_of_training_views_has_a_tenth_of_the_components():
    gray, colors = PIL.Image.new("RGB", (300, 260), (128, 128, 128)), torch.tensor([[0.5, 0, 0], [0, 0.3, 0], [0, 0, 0.1]])
    view = Augmentation(shorter_side=(40, 40), crop=8, test_side=40).training(colors)
    shifts = torch.stack([seeded(view, gray, seed)[:, 0, 0].double() - 128 for seed in range(1_000)]) / 255
    np.testing.assert_allclose(shifts.std(0), [0.05, 0.03, 0.01], rtol=0.1)


def test_mean_and_colors_are_those_of_the_center_crops(files):
    crops = [SMALL.testing()(PIL.Image.open(os.fsdecode(path)).convert("RGB")).numpy() / 255 for path in files.train_files]
    np.testing.assert_allclose(files.mean, np.mean(crops, 0), atol=1e-6)
    pixels = np.stack(crops).transpose(1, 0, 2, 3).reshape(3, -1)
    covariance = np.cov(pixels, bias=True)
    values = np.linalg.norm(files.colors, axis=0)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(covariance), rtol=1e-4)
    for column, value in zip(files.colors.numpy().T, values):
        np.testing.assert_allclose(covariance @ column, value * column, atol=1e-6)


def test_drawing_a_view_leaves_the_global_generator_alone():
    image, view = coordinates(60, 50), SMALL.training(torch.eye(3) / 100)
    torch.manual_seed(3)
    want = torch.rand(3)
    torch.manual_seed(3)
    first, again, other = (seeded(view, image, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), want)
    assert torch.equal(first, again) and not torch.equal(first, other)


# ---- streaming


def test_batches_are_a_pure_function_of_seed_and_iteration(files):
    stream = files.stream(8, seed=5)
    batches = stream.batches(2, 9)
    third, fourth, fifth = (stream.images(*next(batches)) for _ in range(3))
    for iteration, want in ((2, third), (4, fifth)):
        images, labels = files.stream(8, seed=5).batch(iteration)
        assert torch.equal(images, want[0]) and torch.equal(labels, want[1])
    order = stream.indices(3)[0]
    assert torch.equal(fourth[1], files.train_labels[order])  # labels stay with their images
    levels = files.mean.mean() + fourth[0].mean((1, 2, 3))
    assert torch.equal((levels * 255).sub(40).div(60).round().long(), fourth[1])
    assert not torch.equal(files.stream(8, seed=6).batch(2)[0], third[0])


def test_every_image_is_seen_once_in_each_epoch(files):
    labels = torch.cat([files.stream(10, seed=0).batch(i)[1] for i in range(3)])
    assert torch.equal(labels.bincount(), torch.full((3,), 10))


def test_the_test_images_come_in_order_and_parts(files):
    images, labels = zip(*files.test_batches(3))
    assert torch.equal(torch.cat(labels), files.test_labels) and len(files.test_labels) == 7
    odd = torch.cat([batch for batch, _ in files.test_batches(3, slice(1, None, 2))])
    assert torch.equal(odd, torch.cat(images)[1::2])


def test_evaluation_counts_every_image_once(files):
    torch.manual_seed(0)
    model = models.build("resnet18", num_classes=3, **WIDTH).eval()
    images = torch.cat([batch for batch, _ in files.test_batches(7)])
    with torch.no_grad():
        wrong = (model(files.center(images)).argmax(1) != files.test_labels).double().mean().item()
    assert evaluate(model, files, batch_size=2)[0] == pytest.approx(100 * wrong)


def test_a_test_folder_may_stand_for_val(tmp_path, files):
    other = data.load(make_pictures(tmp_path / "tiny", 30, 7, test="test"), augmentation=SMALL)
    assert torch.equal(other.test_labels, files.test_labels) and other.fingerprint != files.fingerprint
    assert data.load(tmp_path / "tiny", augmentation=SMALL).fingerprint == other.fingerprint


def train_files(pictures, out, **changes):
    files = data.load(pictures, augmentation=SMALL)
    return run("resnet18", files, Path(out), RECIPE, 1, overrides=WIDTH, **changes)


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train_files(pictures, out)
    return out


def result(out):
    return (out / "log.jsonl").read_bytes(), (out / "weights.safetensors").read_bytes()


def test_the_run_says_what_it_was(whole):
    info = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    assert asdict(augmentation_of(info["recipe"])) == asdict(SMALL)
    model, _, log = load_run(whole)
    assert model.fc.out_features == 3 and log[-1]["iteration"] == 6


def test_the_command_evaluates_a_run(pictures, whole, capsys):
    _, _, log = load_run(whole)
    assert main(["evaluate", str(whole), "--data", str(pictures), "--device", "cpu"]) == 0
    assert f"center: top-1 error {log[-1]['test_error']:.2f} %, top-3 error 0.00 %" in capsys.readouterr().out


def test_stopped_in_the_middle_it_continues_to_the_same_bits(pictures, whole, tmp_path, monkeypatch):
    step = train.Trainer.step

    def stopping(self, *batch):
        step(self, *batch)
        if self.iteration == 2:  # the third iteration
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train.Trainer, "step", stopping)
    with pytest.raises(Interrupted):
        train_files(pictures, tmp_path / "run")
    monkeypatch.setattr(train.Trainer, "step", step)
    train_files(pictures, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["resumed"][0]["iteration"] == 3
    assert result(tmp_path / "run") == result(whole)


def kill_in_the_middle(pictures, out):
    def die(self, *batch):
        if self.iteration == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, *batch)

    os.setsid()  # a group of its own, with the processes that read images
    step, train.Trainer.step = train.Trainer.step, die
    train_files(pictures, out, save_seconds=0.0)


def is_alive(group):
    """Whether a process of the group is left, other than those that nobody has waited for."""
    rows = subprocess.run(["ps", "-e", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout.splitlines()
    return any(row.split()[0] == str(group) and "Z" not in row.split()[1] for row in rows)


def test_after_kill_9_it_continues_to_the_same_bits(pictures, whole, tmp_path):
    child = start_process(kill_in_the_middle, pictures, tmp_path / "run")
    assert end(child) == -signal.SIGKILL
    wait_until(lambda: not is_alive(child.pid))
    train_files(pictures, tmp_path / "run")
    assert result(tmp_path / "run") == result(whole)


def wait_until(happened, seconds=30):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


def train_until_interrupted(pictures, out):
    os.setsid()  # a group of its own, with the processes that read images
    files = data.load(pictures, augmentation=SMALL)
    ordinary = streamed.seeded
    streamed.seeded = lambda *args: (time.sleep(0.05), ordinary(*args))[1]  # so that the training waits for images
    try:
        run("resnet18", files, Path(out), replace(RECIPE, iterations=10_000), overrides=WIDTH, save_seconds=0.0)
    except Interrupted:
        os._exit(130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_ends_with_a_checkpoint(pictures, tmp_path, number):
    child = start_process(train_until_interrupted, pictures, tmp_path / "run")
    try:
        wait_until((tmp_path / "run" / "checkpoint.pt").exists)
        os.killpg(child.pid, number)  # as a terminal or a batch system does
        assert end(child) == 130
    finally:
        child.kill()
    state, damage = checkpoint.load(tmp_path / "run")
    assert state["trainer"]["iteration"] > 0 and not damage


def train_pair(world, pictures, out):
    """Body of a rank: the run, and the labels that it was fed, in a file beside it."""
    seen, step = [], train.Trainer.step

    def noting(self, images, labels):
        seen.append(labels.tolist())
        step(self, images, labels)

    train.Trainer.step = noting
    train_files(pictures, out, world=world)
    (Path(out).parent / f"rank{world.rank}.json").write_text(json.dumps(seen), encoding="utf-8")


def test_two_processes_share_the_batches(pictures, files, tmp_path):
    assert finish(start(train_pair, pictures, tmp_path / "run")) == [0, 0]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in range(2))
    stream = files.stream(8, seed=1)
    for iteration, (a, b) in enumerate(zip(first, second, strict=True)):
        assert a + b == files.train_labels[stream.indices(iteration)[0]].tolist()
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["processes"] == 2


def train_quietly(world, pictures, out):
    """Body of a rank; its lines on stderr go into a file beside the run."""
    with open(Path(out).parent / f"stderr{world.rank}", "w", encoding="utf-8") as file, contextlib.redirect_stderr(file):
        try:
            files = data.load(pictures, augmentation=SMALL)
            bad = os.fsdecode(files.test_files[1])  # the second image is tested by the second process
            Path(bad).with_suffix(".bad").write_bytes(b"")  # damaged after the look at the beginning
            files.test_files[1] = os.fsencode(Path(bad).with_suffix(".bad"))
            run("resnet18", files, Path(out), RECIPE, 1, overrides=WIDTH, world=world)
        except (InputError, TrainingStopped):
            sys.exit(2)


def test_a_damaged_image_of_another_process_is_named_too(tmp_path, files):
    root = make_pictures(tmp_path / "tiny", 30, 7)
    bad = root / Path(os.fsdecode(files.test_files[1])).relative_to(Path(os.fsdecode(files.test_files[1])).parents[2])
    bad = bad.with_suffix(".bad")
    assert finish(start(train_quietly, root, tmp_path / "run")) == [2, 2]
    assert f"error: process 1: cannot decode {bad}" in (tmp_path / "stderr1").read_text(encoding="utf-8")


def test_the_global_generator_is_left_to_the_network(files):
    torch.manual_seed(0)
    want = torch.get_rng_state()
    files.stream(8, seed=5).batch(0)
    list(files.test_batches(4))
    assert torch.equal(torch.get_rng_state(), want)


def test_a_damaged_image_stops_the_training_by_name_and_nothing_is_lost(pictures, whole, tmp_path):
    root = tmp_path / "tiny"
    make_pictures(root, 30, 7)
    files = data.load(root, augmentation=SMALL)
    bad = os.fsdecode(files.train_files[files.stream(8, 1).indices(2)[0][0]])
    content = Path(bad).read_bytes()
    Path(bad).write_bytes(content[:40])
    with pytest.raises(InputError, match=f"cannot decode {bad}") as caught:
        run("resnet18", files, tmp_path / "run", RECIPE, 1, overrides=WIDTH)
    assert "\n" not in str(caught.value)
    Path(bad).write_bytes(content)
    run("resnet18", files, tmp_path / "run", RECIPE, 1, overrides=WIDTH)
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["resumed"][0]["iteration"] == 2
    assert result(tmp_path / "run") == result(whole)


def test_a_dead_worker_process_is_told_in_one_line(files, monkeypatch):
    monkeypatch.setattr("resnet_nb.data.streamed.seeded", lambda *args: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ReadingFailed, match="a process that reads images failed") as caught:
        files.stream(8, 0).batch(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batches, kept", [(0, "no checkpoint was written before"), (2, "the same command continues")])
def test_readers_that_fail_stop_the_training_and_nothing_is_lost(files, whole, tmp_path, batches, kept, monkeypatch):
    ordinary = data.ImageFiles.fetch

    def fetch(self, indices):
        yield from itertools.islice(ordinary(self, indices), batches)
        raise ReadingFailed("no room")

    monkeypatch.setattr(data.ImageFiles, "fetch", fetch)
    with pytest.raises(TrainingStopped, match=f"^no room; {kept}$"):
        run("resnet18", files, tmp_path / "run", RECIPE, 1, overrides=WIDTH)
    monkeypatch.undo()
    run("resnet18", files, tmp_path / "run", RECIPE, 1, overrides=WIDTH)
    resumed = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8")).get("resumed", [])
    assert [part["iteration"] for part in resumed] == [batches][: batches > 0]
    assert result(tmp_path / "run") == result(whole)


@pytest.mark.parametrize("missing, match", [("train", "train is missing"), ("val", "test is missing"), (".", "no data at")])
def test_missing_folders_are_named(tmp_path, missing, match):
    if missing != ".":
        make_pictures(tmp_path / "tiny", 3, 3)
        (tmp_path / "tiny" / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=match):
        data.load(tmp_path / "tiny", augmentation=SMALL)


# ---- testing with many views


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return models.build("resnet18", width=8, num_classes=4).double().eval()


def center(images):
    return images.double() / 255 - 0.5


def noise(*shape):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_ten_crops_are_corners_center_and_flips():
    images = noise(2, 3, 256, 256)
    crops = ten_crops(images)
    assert crops.shape == (10, 2, 3, 224, 224)
    places = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    for i, (top, left) in enumerate(places):
        want = images[:, :, top : top + 224, left : left + 224]
        assert any(torch.equal(crop, want) for crop in crops[:5]), i
        assert any(torch.equal(crop, want.flip(3)) for crop in crops[5:]), i


def test_ten_crop_scores_are_the_mean_of_ten_forwards(net):
    images = noise(2, 3, 64, 64)
    with torch.no_grad():
        found = ten_crop_scores(net, images, center, crop=48)
        want = sum(net(center(crop)).softmax(1) for crop in ten_crops(images, 48)) / 10
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet18", "plain18", "resnet50"])
def test_the_convolutional_form_is_the_fc_form_at_224(name):
    torch.manual_seed(1)
    net = models.build(name, width=4, num_classes=3).double().eval()
    images = center(noise(2, 3, 224, 224))
    with torch.no_grad():
        torch.testing.assert_close(dense_logits(net, images)[:, :, 0, 0], net(images), rtol=0, atol=1e-12)


def test_the_convolutional_form_slides_the_fc_layer(net):
    images = center(noise(1, 3, 256, 320))
    with torch.no_grad():
        found, maps = dense_logits(net, images), net.features(images)
        assert found.shape == (1, 4, 2, 4) and maps.shape[2:] == (8, 10)
        for i in range(2):
            for j in range(4):
                want = net.fc(maps[:, :, i : i + 7, j : j + 7].mean((2, 3)))
                torch.testing.assert_close(found[:, :, i, j], want, rtol=0, atol=1e-12)


def test_multi_scale_scores_average_over_scales(net):
    images = noise(1, 3, 240, 200)
    with torch.no_grad():
        found = multi_scale_scores(net, images, center, sides=(224, 256))
        views = [v2.functional.resize(images, [h, w], antialias=True) for h, w in ((268, 224), (307, 256))]
        want = sum(dense_logits(net, center(view)).mean((2, 3)).softmax(1) for view in views) / 2
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    assert found.sum().item() == pytest.approx(1)


def test_what_cannot_be_tested_densely_is_refused(net):
    with pytest.raises(InputError, match="at least 193"), torch.no_grad():
        dense_logits(net, center(noise(1, 3, 192, 224)))
    with torch.no_grad():
        assert dense_logits(net, center(noise(1, 3, 193, 224))).shape[2:] == (1, 1)
    with pytest.raises(InputError, match="nets of Table 1"):
        dense_logits(models.build("cifar-resnet8"), center(noise(1, 3, 224, 224)))


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_top_k_error_counts_labels_below_the_k_highest(k):
    rng = np.random.default_rng(k)
    scores, labels = rng.permuted(np.tile(np.arange(10.0), (200, 1)), axis=1), rng.integers(0, 10, 200)
    places = 9 - scores[np.arange(200), labels]  # a score is its own place from below
    found = top_k_error(torch.from_numpy(scores), torch.from_numpy(labels), k)
    assert found == pytest.approx(100 * np.mean(places >= k))


def test_scores_of_all_test_images(files, pictures):
    torch.manual_seed(0)
    model = models.build("resnet18", num_classes=3, **WIDTH)
    images = torch.cat([batch for batch, _ in files.test_batches(7)])
    whole = torch.cat([batch for batch, _ in files.test_batches(7, view=SMALL.testing(36))])
    with torch.no_grad():
        one, ten = model.eval()(files.center(images)).softmax(1), ten_crop_scores(model, whole, files.center, 32)
    torch.testing.assert_close(scores_of(model.train(), files), one)
    assert model.training  # the mode is put back
    model.eval()
    torch.testing.assert_close(scores_of(model, files, "10-crop"), ten)
    colors = torch.zeros(3)  # the mean of each channel
    many = scores_of(model, data.test_files(pictures, colors), "multi-scale")
    with torch.no_grad():
        pixels = PIL.Image.open(sorted((pictures / "val" / "class0").iterdir())[0]).convert("RGB")
        image = v2.functional.pil_to_tensor(pixels)[None]
        want = multi_scale_scores(model, image, lambda images: images.float() / 255)
    torch.testing.assert_close(many[:1], want)
    with pytest.raises(InputError, match="center, 10-crop, multi-scale"):
        scores_of(model, files, "12-crop")


# ---- the command line, at full size


def command(rank, port, args, seen):
    """What torchrun starts, without its start-up time; what it does with images goes into the file `seen`."""
    os.environ |= rank_variables(rank, port)
    torch.set_num_threads(1)
    note_what_is_read(seen)
    sys.exit(main(args))


def note_what_is_read(seen):
    """From now on in this process: a line for each look at the mean, group of workers and beginning of a training."""

    def noting(what, function):
        def noted(*args, **settings):
            with open(seen, "a", encoding="utf-8") as file:
                file.write(f"{what}\n")
            return function(*args, **settings)

        return noted

    streamed._statistics = noting("mean", streamed._statistics)
    streamed.DataLoader = noting("workers", streamed.DataLoader)
    train.Trainer.train = noting("training", train.Trainer.train)


def test_the_command_trains_with_two_processes(tmp_path):
    """The recipe as it is: 256 crops of 224x224 an iteration. Only the network is thin."""
    pictures = make_pictures(tmp_path / "tiny", 256, 6)
    args = ["train", "resnet18", "--set", "width=1", "--recipe", "imagenet", "--iterations", "1"]
    args += ["--data", str(pictures), "--out", str(tmp_path / "run")]
    port = free_port()
    assert finish([start_process(command, rank, port, args, tmp_path / f"seen{rank}") for rank in range(2)]) == [0, 0]
    first, second = ((tmp_path / f"seen{rank}").read_text(encoding="utf-8").split() for rank in range(2))
    # one process looks at the images before the training, once
    assert first[:4] == ["mean", "workers", "workers", "training"]
    assert second[0] == "training" and len(second) == len(first) - 3
    info = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert info["processes"] == 2 and info["recipe"]["augmentation"]["shorter_side"] == [256, 480]
    assert augmentation_of(info["recipe"]) == RECIPES["imagenet"].augmentation


@pytest.mark.parametrize(
    "args, match",
    [
        (["train", "resnet18", "--recipe", "imagenet", "--data", "nowhere"], "an image folder holds train/<class>"),
        (["train", "resnet18", "--recipe", "imagenet", "--data", "cifar10", "--download"], "not downloaded"),
        (["train", "resnet18", "--recipe", "imagenet", "--data", "tiny", "--validation"], "is for data in memory"),
    ],
)
def test_bad_sources_are_one_line(args, match, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*args, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert match in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


# ---- torchvision's weights


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file as torchvision would download it, of a random ResNet-18; returns torchvision's network."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
    path = tmp_path / "hub" / "checkpoints" / "new.pth"
    path.parent.mkdir(parents=True)
    torch.save(theirs.state_dict(), path)
    path = path.rename(path.with_name(f"resnet18-{sha256(path.read_bytes())[:8]}.pth"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    published_at(f"https://weights.example/{path.name}", monkeypatch)
    return theirs, path


def published_at(url, monkeypatch):
    """The weights of resnet18 have this address."""

    class Published(torchvision.models.WeightsEnum):
        IMAGENET1K_V1 = torchvision.models.Weights(url, transforms=None, meta={})

    monkeypatch.setattr(weights_module, "get_model_weights", {"resnet18": Published}.get)


def test_torchvisions_weights_give_torchvisions_answers(weights):
    """On images as torchvision prepares them: shorter side 256, center 224, mean and std per channel."""
    preset = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    photo = PIL.Image.fromarray(noise(300, 400, 3).numpy())
    crop = Augmentation().testing()(photo)[None]
    model = models.pretrained("resnet18")
    with torch.no_grad():
        found = model(crop.float() / 255 - weights_module.MEAN[:, None, None])
        want = weights[0](preset(photo)[None])
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-3)
    assert not model.training


def test_the_file_is_looked_for_where_torchvision_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url
    with pytest.raises(InputError) as caught:
        models.pretrained("resnet50")
    assert url in str(caught.value) and str(tmp_path / "checkpoints" / url.rsplit("/", 1)[1]) in str(caught.value)
    assert caught.value.setting == "download" and "--" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_are_downloaded_once_and_checked(weights, monkeypatch, capsys):
    """From a server that is a folder: the file is kept; with wrong content, or none, it is told in one line."""
    server = weights[1].parent.parent.parent / "server"
    server.mkdir()
    served = weights[1].rename(server / weights[1].name)
    published_at(served.as_uri(), monkeypatch)
    model = models.pretrained("resnet18", download=True)
    assert torch.equal(model.fc.weight, weights[0].fc.weight) and weights[1].read_bytes() == served.read_bytes()
    assert capsys.readouterr().out == ""
    served.unlink()
    models.pretrained("resnet18", download=True)  # it is here
    weights[1].unlink()
    for content in (None, b"something else"):
        if content:
            served.write_bytes(content)
        with pytest.raises(InputError, match="cannot download") as caught:
            models.pretrained("resnet18", download=True)
        assert str(weights[1]) in str(caught.value) and len(str(caught.value).splitlines()) == 1
        assert not weights[1].exists()


def test_damaged_and_unknown_weights_are_refused(weights):
    content = weights[1].read_bytes()
    weights[1].write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(InputError, match="damaged"):
        models.pretrained("resnet18")
    with pytest.raises(InputError, match="resnet18, resnet34, resnet50"):
        models.pretrained("vgg16")


def test_the_command_evaluates_torchvisions_weights(weights, tmp_path, capsys, monkeypatch):
    root = make_pictures(tmp_path / "tiny", 3, 3)
    assert main(["evaluate", "resnet18", "--data", str(root), "--device", "cpu"]) == 2
    assert "know 1,000 classes" in capsys.readouterr().err
    for i in range(1_000):
        (root / "test" / f"n{i:08}").mkdir(parents=True)
    (root / "val").rename(root / "elsewhere")
    PIL.Image.fromarray(noise(20, 30, 3).numpy()).save(tmp_path / "one.png")
    for folder in (root / "test").iterdir():
        (folder / "one.png").hardlink_to(tmp_path / "one.png")
    monkeypatch.setattr(models.ResNet, "forward", lambda self, x: torch.eye(1_000)[:1].repeat(len(x), 1))
    assert main(["evaluate", "resnet18", "--data", str(root), "--device", "cpu"]) == 0
    assert "top-1 error 99.90 %, top-5 error 99." in capsys.readouterr().out
    (root / "test" / "n00000007").rename(root / "test" / "goldfish")
    assert main(["evaluate", "resnet18", "--data", str(root), "--device", "cpu"]) == 2
    assert "order of their WordNet numbers" in capsys.readouterr().err
    assert main(["evaluate", "resnet18"]) == 2 and "needs --data" in capsys.readouterr().err


def test_a_run_in_memory_has_one_testing(tmp_path, capsys):
    run("cifar-resnet8", data.shapes10(40, 20), tmp_path / "run", Recipe(iterations=1, batch_size=8), overrides={"width": 2})
    assert main(["evaluate", str(tmp_path / "run"), "--testing", "10-crop"]) == 2
    assert "is for runs of the recipe imagenet" in capsys.readouterr().err
