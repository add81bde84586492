"""Data sets, augmentation and the stream of batches; files that are missing, damaged or slow to come."""

import http.server
import inspect
import io
import os
import pickle
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
import types
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from helpers import md5, one_line
from torchvision.datasets import CIFAR10

from resnet_nb.data import Augmentation, Dataset, ImageFiles, Images, Stream, augment, cifar10, load, shapes10
from resnet_nb.errors import InputError
from resnet_nb.train import evaluate

P_VALUE = 1e-4


def dataset(images, labels=None, test=2):
    """A data set of these training images, with the first of them as test images."""
    images = torch.as_tensor(images, dtype=torch.uint8)
    labels = torch.arange(len(images)) if labels is None else labels
    return Dataset("toy", tuple(map(str, range(len(images)))), images, labels, images[:test], labels[:test])


def random_dataset(count, side=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return dataset(torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8))


# ---- shapes10


@pytest.fixture(scope="module")
def shapes():
    started = time.process_time()
    made = shapes10()
    return types.SimpleNamespace(data=made, seconds=time.process_time() - started)


def test_shapes10_is_made_in_seconds(shapes):
    assert shapes.data.train_images.shape == (10_000, 3, 32, 32) and shapes.data.test_images.shape == (2_000, 3, 32, 32)
    assert shapes.seconds < 10


def test_shapes10_classes_are_balanced(shapes):
    assert len(set(shapes.data.classes)) == 10
    for labels in (shapes.data.train_labels, shapes.data.test_labels):
        assert labels.bincount(minlength=10).tolist() == [len(labels) // 10] * 10
        assert not torch.equal(labels, labels.sort().values)  # and mixed


def test_shapes10_has_no_image_twice(shapes):
    for data in (shapes.data, shapes10(50, 50)):
        every = [image.tobytes() for images in (data.train_images, data.test_images) for image in images.numpy()]
        assert len(set(every)) == len(every)


def test_shapes10_depends_on_the_seed_only(shapes):
    np.random.seed(3)
    torch.manual_seed(3)
    print_it = "from resnet_nb.data import shapes10; print(shapes10(300, 100, seed=5).fingerprint)"
    other = subprocess.run([sys.executable, "-c", print_it], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == shapes10(300, 100, seed=5).fingerprint
    a, b = shapes10(300, 100, seed=5), shapes10(300, 100, seed=6)
    for part in ("train_images", "test_images", "train_labels"):
        assert not torch.equal(getattr(a, part), getattr(b, part))
    train = {image.tobytes() for image in a.train_images.numpy()}
    assert train.isdisjoint(image.tobytes() for image in b.train_images.numpy())


def test_shapes10_needs_more_than_a_linear_model(shapes):
    data = shapes.data
    torch.manual_seed(0)
    train, test = (data.center(images).flatten(1) for images in (data.train_images, data.test_images))
    linear = torch.nn.Linear(train.shape[1], 10)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.02, momentum=0.9)
    for _ in range(12):
        for batch in torch.randperm(len(train)).split(250):
            optimizer.zero_grad()
            F.cross_entropy(linear(train[batch]), data.train_labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        fitted, held_out = (
            100 * (linear(x).argmax(1) == y).double().mean().item()
            for x, y in ((train, data.train_labels), (test, data.test_labels))
        )
    assert fitted > 25  # it was trained
    assert 15 < held_out < 60  # chance is 10


# ---- mean, centering, fingerprint


def test_mean_is_numpys():
    data = random_dataset(5_001, side=4)
    want = data.train_images.numpy().astype(np.float64).mean(0) / 255
    assert data.mean.shape == (3, 4, 4) and data.mean.dtype == torch.float32
    np.testing.assert_allclose(data.mean, want, rtol=1e-6)
    centered = data.center(data.train_images)
    np.testing.assert_allclose(centered, data.train_images.numpy() / 255 - want, atol=1e-6)


def test_fingerprint_sees_every_part():
    def changed(**parts):
        data = random_dataset(6)
        return Dataset(**{**{key: getattr(data, key) for key in Dataset.__dataclass_fields__}, **parts}).fingerprint

    data = random_dataset(6)
    pixel, label = data.test_images.clone(), data.train_labels.clone()
    pixel[1, 2, 7, 7] += 1
    label[5] = 0
    prints = [changed(), changed(test_images=pixel), changed(train_labels=label), changed(classes=tuple("abcdef"))]
    assert len(set(prints)) == 4
    assert changed(name="other") == data.fingerprint == changed()  # the name of the folder is not the data


# ---- augmentation


def slowly(image, top, left, flip):
    """Pad with zeros, crop, flip: one centered image (3, H, W), with loops."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 8, width + 8), image.dtype)
    for y in range(height):
        for x in range(width):
            padded[:, y + 4, x + 4] = image[:, y, x]
    crop = padded[:, top : top + height, left : left + width]
    return crop[:, :, ::-1] if flip else crop


@pytest.mark.parametrize("height, width", [(9, 9), (6, 11)])
def test_the_162_codes_are_the_162_crops_and_flips(height, width):
    image = np.random.default_rng(0).standard_normal((3, height, width)).astype(np.float32)
    want = {slowly(image, *which).tobytes() for which in np.ndindex(9, 9, 2)}
    assert len(want) == 162
    got = augment(torch.from_numpy(image).expand(162, -1, -1, -1), torch.arange(162))
    assert got.shape == (162, 3, height, width)
    assert {one.contiguous().numpy().tobytes() for one in got} == want


def coordinates():
    """256 images in which every pixel says where it stands and channel 2 which image it is.

    Images 128 to 255 hold the complements, so that the mean of every pixel is one half.
    """
    y, x = np.mgrid[:32, :32]
    images = np.empty((256, 3, 32, 32), np.uint8)
    for k in range(256):
        sign = (lambda value: value) if k < 128 else (lambda value: 255 - value)
        images[k] = sign(y), sign(x), np.full((32, 32), k)
    return images


def recovered(image):
    """(top, left, flipped) of an augmented image of `coordinates`, read off its middle."""
    k = round(image[2, 16, 16] * 255 + 127.5)
    y, x = np.rint((1 if k < 128 else -1) * image[:2] * 255 + 127.5).astype(int)
    flip = x[16, 17] < x[16, 16]
    # the crop begins `top` pixels below the padded edge, which is 4 above the image
    left = x[16, 15] - 16 + 4 if flip else x[16, 16] - 16 + 4
    return y[16, 16] - 16 + 4, left, int(flip)


@pytest.fixture(scope="module")
def drawn():
    """(epochs, 256 images, (top, left, flip)) and, for the same, the place in the epoch, as a Stream drew them."""
    data, epochs = dataset(coordinates()), 50
    assert (data.mean == 0.5).all()
    stream = Stream(data, batch_size=256, seed=1)
    codes, places = np.empty((epochs, 256, 3), int), np.empty((epochs, 256), int)
    for epoch in range(epochs):
        images, labels = stream.batch(epoch)
        for place, (image, label) in enumerate(zip(images.numpy(), labels.tolist())):
            codes[epoch, label], places[epoch, label] = recovered(image), place
    return types.SimpleNamespace(codes=codes, places=places)


def p_value(*columns):
    """Of the chi-square test that (column values) are uniform over all combinations; columns are (values, how many)."""
    cells = np.ravel_multi_index([values.ravel() for values, _ in columns], [many for _, many in columns])
    count = np.prod([many for _, many in columns])
    observed, expected = np.bincount(cells, minlength=count), len(cells) / count
    assert expected >= 5 and len(observed) == count
    statistic = ((observed - expected) ** 2 / expected).sum()
    return torch.special.gammaincc(torch.tensor((count - 1) / 2), torch.tensor(statistic / 2)).item()


def test_crops_and_flips_are_uniform(drawn):
    top, left, flip = np.moveaxis(drawn.codes, -1, 0)
    assert p_value((top, 9), (left, 9), (flip, 2)) > P_VALUE


@pytest.mark.parametrize("part, many", [(0, 9), (1, 9), (2, 2)])
def test_crops_and_flips_are_independent(drawn, part, many):
    codes = drawn.codes[..., part]
    in_order = np.take_along_axis(codes, drawn.places.argsort(1), 1)  # neighbours in a batch
    assert p_value((in_order[:, ::2], many), (in_order[:, 1::2], many)) > P_VALUE
    assert p_value((codes[::2], many), (codes[1::2], many)) > P_VALUE  # one image, in two epochs
    assert p_value((in_order[::2], many), (in_order[1::2], many)) > P_VALUE  # one place, in two epochs
    assert p_value((codes[:, :128], many), (codes[:, 128:], many)) > P_VALUE  # two images


def test_orders_are_new_in_every_epoch(drawn):
    assert p_value((drawn.places[::2] // 32, 8), (drawn.places[1::2] // 32, 8)) > P_VALUE
    assert p_value((drawn.places // 32, 8), (drawn.codes[..., 0], 9)) > P_VALUE


def test_batches_are_what_slow_loops_give():
    """The pixels of whole batches: centered, then padded with zeros, which stand for the mean image."""
    data = dataset(coordinates())
    images, labels = Stream(data, batch_size=64, seed=2).batch(7)
    assert images.shape == (64, 3, 32, 32) and images.dtype == torch.float32
    padded = 0
    for image, label in zip(images.numpy(), labels.tolist()):
        top, left, flip = recovered(image)
        want = slowly(data.train_images[label].numpy() / np.float32(255) - np.float32(0.5), top, left, flip)
        np.testing.assert_allclose(image, want, atol=1e-6)
        padded += (want == 0).all(0).sum()
    assert padded > 1000  # black would be -0.5


def test_evaluation_sees_the_images_as_they_are():
    data, seen = random_dataset(40), []

    class Recorder(torch.nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return torch.zeros(len(x), 40)

    evaluate(Recorder().train(), data, batch_size=3)
    want = data.test_images.numpy() / 255 - data.train_images.numpy().mean(0) / 255
    np.testing.assert_allclose(torch.cat(seen), want, atol=1e-6)


# ---- the stream


def test_every_image_comes_once_in_every_epoch():
    data, batch_size = random_dataset(50), 12
    stream = Stream(data, batch_size, seed=0)
    labels = torch.cat([stream.batch(i)[1] for i in range(25)])  # 300 images, 6 epochs; a batch holds parts of two
    assert len(labels) == 300
    epochs = labels.reshape(6, 50)
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(50))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 6
    assert {len(stream.batch(i)[1]) for i in range(25)} == {batch_size}


def test_labels_stay_with_their_images():
    data = dataset(torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32) * 5)
    middle = data.mean[0, 16, 16]
    for iteration in (0, 4, 5, 11):
        images, labels = Stream(data, 12, seed=3).batch(iteration)
        assert torch.equal(((images[:, 0, 16, 16] + middle) * 51).round().long(), labels)


def test_a_batch_depends_on_seed_and_iteration_only():
    data, order = random_dataset(50), [3, 17, 0, 4, 4, 9, 2, 30, 16]
    stream, wanted = Stream(data, 12, seed=0), {}
    for iteration in range(31):
        wanted[iteration] = stream.batch(iteration)
    torch.manual_seed(99)
    again = Stream(data, 12, seed=0)
    for iteration in order:
        assert all(map(torch.equal, again.batch(iteration), wanted[iteration])), iteration
    assert all(map(torch.equal, Stream(data, 12, seed=0).batch(30), wanted[30]))
    others = [Stream(data, 12, seed=seed).batch(0)[1] for seed in (1, 2)]
    assert not any(torch.equal(a, b) for a, b in [(wanted[0][1], others[0]), (wanted[0][1], others[1]), others])
    # order and views are drawn anew for each seed and epoch
    plans = [Stream(data, 12, seed).plan(epoch) for seed in (0, 1, 2) for epoch in (0, 1)]
    for what, drawn in zip(("orders", "codes of the views"), zip(*plans)):
        assert len({tuple(each.tolist()) for each in drawn}) == 6, f"{what} are the same for two seeds or epochs"


def test_a_batch_may_be_the_whole_set():
    images, labels = Stream(random_dataset(50), 50, seed=0).batch(1)
    assert sorted(labels.tolist()) == list(range(50))


@pytest.mark.parametrize("batch_size, told", [(0, "got 0"), (-1, "got -1"), (51, "1 to 50, .* got 51")])
def test_other_batch_sizes_are_refused(batch_size, told):
    with pytest.raises(InputError) as caught:
        Stream(random_dataset(50), batch_size, seed=0)
    assert re.search(told, one_line(caught))


def test_images_in_memory_and_in_files_are_one_protocol(pictures):
    members = [name for name in vars(Images) if not name.startswith("_") and callable(getattr(Images, name))]
    assert {"center", "stream", "test_batches", "to"} <= set(members)
    small = Augmentation(shorter_side=(9, 9), crop=8, test_side=9)
    for data in (random_dataset(6), load(pictures.path, augmentation=small)):
        assert isinstance(data, Images)  # every name is there
        for name in members:
            asked, had = (list(inspect.signature(getattr(kind, name)).parameters.values()) for kind in (Images, type(data)))
            fixed = [p for p in asked if p.kind is not p.VAR_POSITIONAL]
            assert [(p.name, p.default) for p in had[: len(fixed)]] == [(p.name, p.default) for p in fixed], name
        images, labels = next(data.test_batches(data.test_batch))
        assert images.shape[1:] == data.shape and images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert data.center(images).dtype == torch.float32 and data.to("cpu").fingerprint == data.fingerprint
        stream = data.stream(2, seed=0)
        images, labels = stream.batch(1)
        assert images.shape == (2, *data.shape) and torch.equal(labels, data.train_labels[stream.indices(1)[0]])
        assert stream.recordable == isinstance(data, Dataset) != isinstance(data, ImageFiles)


# ---- image folders


@pytest.fixture
def pictures(tmp_path):
    """train/ and test/ with cats and dogs, 6x5 pixels, and what they hold; all of one age, as an archive leaves them."""
    rng, content = np.random.default_rng(0), {}
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (5, 6, 3), np.uint8)
                PIL.Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.{'png' if i == 0 else 'bmp'}")
                content.setdefault(part, []).append((pixels, label))
    for path in tmp_path.rglob("*.*"):
        os.utime(path, (1_230_768_000, 1_230_768_000))
    return types.SimpleNamespace(path=tmp_path, content=content)


def assert_holds(data, content):
    for part, images, labels in (("train", data.train_images, data.train_labels), ("test", data.test_images, data.test_labels)):
        pixels, want = zip(*content[part])
        np.testing.assert_array_equal(images, np.stack(pixels).transpose(0, 3, 1, 2))
        assert labels.tolist() == list(want)


def test_folder_is_read(pictures):
    data = load(pictures.path)
    assert data.classes == ("cat", "dog") and data.train_images.dtype == torch.uint8
    assert_holds(data, pictures.content)


def test_folder_takes_what_pillow_reads(pictures):
    pixels, _ = pictures.content["train"][0]
    gray = PIL.Image.fromarray(pixels).convert("L")
    gray.save(pictures.path / "train" / "cat" / "0.png")
    PIL.Image.fromarray(pixels).convert("RGBA").save(pictures.path / "train" / "cat" / "9.PNG")
    (pictures.path / "train" / "cat" / "notes.txt").write_text("not an image", encoding="utf-8")
    (pictures.path / "train" / ".ipynb_checkpoints").mkdir()
    data = load(pictures.path)
    assert len(data.train_labels) == 7
    np.testing.assert_array_equal(data.train_images[0], np.stack([np.asarray(gray)] * 3))
    np.testing.assert_array_equal(data.train_images[3], pixels.transpose(2, 0, 1))


def test_the_images_on_disk_count_at_each_start(pictures):
    """Two images change places: neither names nor sizes nor times of change tell."""
    load(pictures.path)
    train, cat, dog = pictures.content["train"], pictures.path / "train/cat/2.bmp", pictures.path / "train/dog/2.bmp"
    times = cat.stat()
    cat.rename(pictures.path / "aside")
    dog.rename(cat)
    (pictures.path / "aside").rename(dog)
    assert [(p.stat().st_size, p.stat().st_mtime_ns) for p in (cat, dog)] == 2 * [(times.st_size, times.st_mtime_ns)]
    train[2], train[5] = (train[5][0], 0), (train[2][0], 1)
    assert_holds(load(pictures.path), pictures.content)


def test_reading_a_folder_writes_nothing(pictures):
    before = sorted(pictures.path.rglob("*"))
    load(pictures.path)
    assert sorted(pictures.path.rglob("*")) == before


def remove(path):
    for each in [*path.rglob("*")][::-1]:
        each.unlink() if each.is_file() else each.rmdir()
    path.rmdir()


def big_picture(path):
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    content = io.BytesIO()
    image.save(content, "jpeg")
    path.write_bytes(content.getvalue()[:2000])


FAULTS = {
    "no test": (lambda at: remove(at / "test"), "test", "missing"),
    "no train": (lambda at: remove(at / "train"), "train", "missing"),
    "no classes": (lambda at: [remove(at / "test" / "cat"), remove(at / "test" / "dog")], "test", "no class folders"),
    "empty class": (lambda at: [p.unlink() for p in (at / "test" / "dog").iterdir()], "test/dog", "no images"),
    "class only in train": (lambda at: remove(at / "test" / "dog"), "", "dog only in train"),
    "class only in test": (lambda at: remove(at / "train" / "cat"), "", "cat only in test"),
    "truncated": (lambda at: big_picture(at / "test" / "dog" / "1.jpg"), "test/dog/1.jpg", "truncated"),
    "not an image": (
        lambda at: (at / "train" / "cat" / "0.png").write_text("hello", encoding="utf-8"),
        "train/cat/0.png",
        "cannot decode",
    ),
    "empty file": (lambda at: (at / "train" / "cat" / "0.png").write_bytes(b""), "train/cat/0.png", "cannot decode"),
    "other size": (lambda at: PIL.Image.new("RGB", (6, 4)).save(at / "test" / "cat" / "0.png"), "test/cat/0.png", "6x5.*6x4"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_refused_by_name(pictures, fault):
    spoil, where, why = FAULTS[fault]
    spoil(pictures.path)
    with pytest.raises(InputError) as caught:
        load(pictures.path)
    message = one_line(caught)
    assert str(pictures.path / where) in message and re.search(why, message)


@pytest.mark.parametrize("source", ["shapes11", "no/such/folder"])
def test_an_unknown_source_is_refused_with_what_is_allowed(source):
    with pytest.raises(InputError) as caught:
        load(source)
    assert source in one_line(caught) and "shapes10, cifar10-sample, cifar10 or a folder with train/<class>" in one_line(caught)


def test_only_cifar10_can_be_downloaded(tmp_path):
    with pytest.raises(InputError) as caught:
        load(tmp_path, download=True)
    assert "cifar10" in one_line(caught)


# ---- CIFAR-10


def archive_of(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Three images in each of CIFAR-10's files, with torchvision's check sums set to theirs; `write` unpacks them."""
    rng, files, pixels, labels = np.random.default_rng(0), {}, {}, {}
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    for name in names:
        pixels[name] = rng.integers(0, 256, (3, 3072), np.uint8)
        labels[name] = rng.integers(0, 10, 3).tolist()
        files[name] = pickle.dumps({"data": pixels[name], "labels": labels[name]})
    classes = [f"class {i}" for i in range(10)]
    files["batches.meta"] = pickle.dumps({"label_names": classes})
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(files[name])] for name in names[:-1]])
    monkeypatch.setattr(CIFAR10, "test_list", [[names[-1], md5(files[names[-1]])]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(files["batches.meta"])})
    archive = archive_of(files)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    monkeypatch.setattr(cifar10, "ARCHIVE_BYTES", len(archive))

    def write():
        (tmp_path / CIFAR10.base_folder).mkdir()
        for name, content in files.items():
            (tmp_path / CIFAR10.base_folder / name).write_bytes(content)
        return tmp_path / CIFAR10.base_folder

    def assert_read(data):
        assert data.name == "cifar10" and data.classes == tuple(classes)
        for part, images, targets in (
            (names[:-1], data.train_images, data.train_labels),
            (names[-1:], data.test_images, data.test_labels),
        ):
            rows = np.concatenate([pixels[name] for name in part])
            assert images.shape == (len(rows), 3, 32, 32)
            for image, row in zip(images.numpy(), rows):
                for channel in range(3):  # 1024 values of red, then green, then blue, each row by row
                    np.testing.assert_array_equal(image[channel].ravel(), row[1024 * channel : 1024 * (channel + 1)])
            assert targets.tolist() == sum((labels[name] for name in part), [])

    return types.SimpleNamespace(path=tmp_path, files=files, archive=archive, write=write, assert_read=assert_read)


def test_cifar10_is_read(fake, monkeypatch):
    fake.write()
    fake.assert_read(load(fake.path))
    (fake.path / "data").mkdir()
    (fake.path / CIFAR10.base_folder).rename(fake.path / "data" / CIFAR10.base_folder)
    monkeypatch.chdir(fake.path)
    fake.assert_read(load("cifar10"))


def test_cifar10_is_read_from_its_own_folder_too(fake, monkeypatch):
    folder = fake.write()
    fake.assert_read(load(folder))
    monkeypatch.chdir(folder)
    fake.assert_read(load("."))


def test_files_that_torchvision_finds_whole_are_not_hashed_again(fake, monkeypatch):
    fake.write()
    monkeypatch.setattr(cifar10, "calculate_md5", lambda path: pytest.fail(f"{path} was hashed again"))
    fake.assert_read(load(fake.path))


class Payload:
    """Unpickling it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
@pytest.mark.parametrize("fault", ["missing", "truncated", "one bit", "other content"])
def test_faulty_cifar10_files_are_refused_by_name(fake, name, fault):
    path, content = fake.write() / name, bytearray(fake.files[name])
    trace = fake.path / "unpickled"
    content[-10] ^= fault == "one bit"
    if fault == "missing":
        path.unlink()
    elif fault == "other content":
        path.write_bytes(pickle.dumps(Payload(trace)))
    else:
        path.write_bytes(content[:-1] if fault == "truncated" else content)
    with pytest.raises(InputError) as caught:
        load(fake.path)
    message = one_line(caught)
    assert str(path) in message
    assert caught.value.setting == "download" and "download=True" in message
    assert CIFAR10.filename in message and CIFAR10.tgz_md5 in message
    if fault != "missing":
        assert md5(fake.files[name]) in message and md5(path.read_bytes()) in message
    assert not trace.exists()  # a file is not unpickled before its check sum is known


# ---- download


@pytest.fixture
def server(fake, monkeypatch):
    """Serves the archive on 127.0.0.1; `cut` bytes of a reply are sent before the connection closes."""
    state = types.SimpleNamespace(archive=fake.archive, cut=None, ranges=True, requests=[], sent=0)

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self):
            wanted = self.headers.get("Range")
            state.requests.append(wanted)
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and state.ranges else 0
            body = state.archive[start:]
            self.send_response(206 if wanted and state.ranges else 200)
            if wanted and state.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(state.archive) - 1}/{len(state.archive)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut])
            state.sent += len(body[: state.cut])

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{httpd.server_port}/{CIFAR10.filename}")
    monkeypatch.chdir(fake.path)  # "cifar10" is below ./data
    yield state
    httpd.shutdown()
    httpd.server_close()


def test_download(fake, server):
    fake.assert_read(load("cifar10", download=True))
    fake.assert_read(load("cifar10", download=True))
    assert server.requests == [None]  # once


def test_download_goes_on_where_it_was_cut(fake, server):
    kept = 0
    for cut in (20_001, 7_000):
        server.cut = cut
        with pytest.raises(InputError) as caught:
            load("cifar10", download=True)
        kept += cut
        message = one_line(caught)
        assert CIFAR10.url in message and "again" in message
    server.cut = None
    fake.assert_read(load("cifar10", download=True))
    assert server.requests == [None, "bytes=20001-", "bytes=27001-"]
    assert server.sent == len(fake.archive)  # no byte twice


def test_download_starts_anew_where_the_server_cannot_resume(fake, server):
    server.cut = 20_001
    with pytest.raises(InputError):
        load("cifar10", download=True)
    server.cut, server.ranges = None, False
    fake.assert_read(load("cifar10", download=True))
    assert len(server.requests) == 2


def test_a_server_that_cannot_resume_and_breaks_off_earlier_costs_nothing(fake, server):
    server.ranges = False
    for cut in (20_001, 7_000):
        server.cut = cut
        with pytest.raises(InputError):
            load("cifar10", download=True)
        assert (fake.path / "data" / f"{CIFAR10.filename}.part").read_bytes() == fake.archive[:20_001]
    server.ranges, server.cut = True, None
    fake.assert_read(load("cifar10", download=True))
    assert server.requests[-1] == "bytes=20001-"


def test_a_wrong_archive_is_explained(fake, server):
    server.archive = fake.archive[:-1] + bytes([fake.archive[-1] ^ 1])
    with pytest.raises(InputError) as caught:
        load("cifar10", download=True)
    message = one_line(caught)
    assert CIFAR10.filename in message and md5(server.archive) in message and md5(fake.archive) in message
    assert "delete" in message
    assert not (fake.path / "data" / CIFAR10.base_folder).exists()  # nothing was unpacked
    server.archive = fake.archive
    (fake.path / "data" / CIFAR10.filename).unlink()  # as the message says
    fake.assert_read(load("cifar10", download=True))


PAGE = b"<html>Please log in to this network</html>" * 30


@pytest.mark.parametrize("kept", [0, 20_001], ids=["nothing yet", "a part is there"])
@pytest.mark.parametrize("other", [PAGE, bytes.fromhex("1f8b") + PAGE], ids=["a page", "another archive"])
def test_nothing_of_what_is_not_the_archive_is_kept(fake, server, kept, other):
    if kept:
        server.cut = kept
        with pytest.raises(InputError):
            load("cifar10", download=True)
    server.cut, server.ranges, server.archive = None, False, other
    with pytest.raises(InputError) as caught:
        load("cifar10", download=True)
    assert f"{len(other):,} bytes of" in one_line(caught) and "login page" in one_line(caught)
    assert ("nothing is kept" in one_line(caught)) == (not kept)
    server.ranges, server.archive = True, fake.archive
    fake.assert_read(load("cifar10", download=True))  # the same command, after the login
    assert server.requests[-1] == (f"bytes={kept}-" if kept else None)


@pytest.mark.parametrize("other", [PAGE, bytes.fromhex("1f8b") + bytes(100_000)], ids=["a page", "too long"])
def test_what_others_left_as_a_part_is_not_gone_on_with(fake, server, other):
    (fake.path / "data").mkdir()
    (fake.path / "data" / f"{CIFAR10.filename}.part").write_bytes(other)
    fake.assert_read(load("cifar10", download=True))
    assert server.requests == [None]


def test_a_reply_that_begins_elsewhere_is_not_appended(fake, server, monkeypatch):
    server.cut = 20_001
    with pytest.raises(InputError):
        load("cifar10", download=True)
    ordinary = http.server.BaseHTTPRequestHandler.send_header
    monkeypatch.setattr(
        http.server.BaseHTTPRequestHandler,
        "send_header",
        lambda self, key, value: ordinary(self, key, "bytes 5-9/10" if key == "Content-Range" else value),
    )
    server.cut = None
    with pytest.raises(InputError):
        load("cifar10", download=True)
    monkeypatch.undo()
    assert (fake.path / "data" / f"{CIFAR10.filename}.part").read_bytes() == fake.archive[:20_001]


def test_an_archive_placed_by_hand_needs_no_server(fake, server):
    (fake.path / "data").mkdir()
    (fake.path / "data" / CIFAR10.filename).write_bytes(fake.archive)
    fake.assert_read(load("cifar10", download=True))
    assert server.requests == []


@pytest.mark.parametrize("source", ["{root}", "{root}/cifar-10-batches-py"])
def test_a_damaged_folder_is_mended_as_the_message_says(fake, server, source):
    source = source.format(root=fake.path)
    (fake.write() / "data_batch_3").write_bytes(b"")
    with pytest.raises(InputError, match="download=True"):
        load(source)
    fake.assert_read(load(source, download=True))


def test_a_folder_half_unpacked_is_completed(fake, server):
    """As a process killed in the middle of unpacking leaves it."""
    load("cifar10", download=True)
    (fake.path / "data" / CIFAR10.base_folder / "test_batch").unlink()
    (fake.path / "data" / CIFAR10.base_folder / "data_batch_3").write_bytes(fake.files["data_batch_3"][:500])
    fake.assert_read(load("cifar10", download=True))
    assert len(server.requests) == 1


@pytest.mark.parametrize("trouble", ["closed port", "not found"])
def test_an_unreachable_server_is_explained_at_once(fake, server, trouble, monkeypatch):
    if trouble == "closed port":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{port}/{CIFAR10.filename}")
    else:
        monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "send_response", not_found)
    started = time.perf_counter()
    with pytest.raises(InputError) as caught:
        load("cifar10", download=True)
    assert time.perf_counter() - started < 5 and len(server.requests) <= 1
    message = one_line(caught)
    assert CIFAR10.url in message and CIFAR10.filename in message and CIFAR10.tgz_md5 in message
    assert "place" in message and re.search(r"\bin data\b", message)


def not_found(self, code, original=http.server.BaseHTTPRequestHandler.send_response):
    original(self, 404)


def test_a_target_that_cannot_be_written_is_explained(fake, server):
    (fake.path / "data").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load("cifar10", download=True)
    assert "data" in one_line(caught)


def test_the_validation_split_is_disjoint_balanced_and_fixed():
    data = shapes10(500, 50)
    split = data.validation()
    assert split.name == "shapes10-validation" and split.classes == data.classes
    seen = {image.numpy().tobytes() for image in split.train_images}
    held_out = {image.numpy().tobytes() for image in split.test_images}
    everything = {image.numpy().tobytes() for image in data.train_images}
    assert seen | held_out == everything and not seen & held_out
    assert not held_out & {image.numpy().tobytes() for image in data.test_images}
    counts = data.train_labels.bincount(minlength=10)
    last = [place for k in range(10) for place in [i for i in range(500) if data.train_labels[i] == k][-(counts[k] // 10) :]]
    as_documented = torch.equal(split.test_images, data.train_images[sorted(last)])
    assert as_documented, "the images held out are not the last tenth of each class"
    assert split.test_labels.bincount(minlength=10).tolist() == [count // 10 for count in counts.tolist()]
    for image, label in zip(split.test_images, split.test_labels):  # labels stay with their images
        [place] = [i for i in range(500) if torch.equal(data.train_images[i], image)]
        assert data.train_labels[place] == label
    assert split.fingerprint == shapes10(500, 50).validation().fingerprint != data.fingerprint


def test_45k_and_5k_of_cifar10():
    labels = torch.arange(50_000) % 10
    images = torch.zeros(50_000, 3, 1, 1, dtype=torch.uint8)
    split = Dataset("cifar10", tuple("0123456789"), images, labels, images[:10], labels[:10]).validation()
    assert len(split.train_labels) == 45_000 and len(split.test_labels) == 5_000


def test_too_few_images_for_a_validation_split_are_refused():
    images, labels = torch.zeros(19, 3, 8, 8, dtype=torch.uint8), torch.tensor([0] * 10 + [1] * 9)
    with pytest.raises(InputError, match="9 of 'cat'"):
        Dataset("pets", ("dog", "cat"), images, labels, images, labels).validation()
