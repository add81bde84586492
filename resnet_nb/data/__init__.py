"""CIFAR-10, image folders and drawn shapes: in memory, or read from files as the training goes."""

from pathlib import Path

import numpy as np

from resnet_nb.data import cifar10, folder, sample, shapes
from resnet_nb.data.resident import Dataset, Images, Stream, augment, from_arrays
from resnet_nb.data.streamed import ImageFiles, read_files, test_files
from resnet_nb.data.views import Augmentation
from resnet_nb.errors import InputError

NAMED = ("shapes10", "cifar10-sample", "cifar10")
ALLOWED = f"{', '.join(NAMED)} or a folder with train/<class>/* and test/<class>/*"


def shapes10(train: int = 10_000, test: int = 2_000, seed: int = 0) -> Dataset:
    """Ten drawn shapes, 32x32, made in seconds and deterministic per seed (see `data.shapes`)."""
    parts = (shapes.make(count, np.random.default_rng([seed, part])) for part, count in enumerate((train, test)))
    return from_arrays("shapes10", shapes.SHAPES, *parts)


def cifar10_sample() -> Dataset:
    """Photographs without a download: the first 200 training and first 100 test images of each class of CIFAR-10.

    2,000 and 1,000 images, 32x32, in the official order; from Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny
    Images", and not under this project's licence (see data/cifar10-sample/README.md). One standard deviation of a test error
    near 8 % is 0.9 points on 1,000 images. `mean` is that of these 2,000: 1.1 of 255 levels from that of all 50,000 on average,
    4.1 at most. For a net that was trained with the latter this matters little: the recorded ResNet-20 of 64,000 iterations has
    8.3 % test error here with the one and 8.4 % with the other, on all 10,000 test images 7.98 % and 7.96 %; of five nets
    of that length none moved by more than 0.4 points.
    """
    return from_arrays("cifar10-sample", *sample.read())


def load(source: str | Path, download: bool = False, augmentation: Augmentation | None = None) -> Images:
    """The data named by `source`.

    "shapes10"; "cifar10-sample"; "cifar10" (torchvision's layout below ./data); a folder with torchvision's
    cifar-10-batches-py, or that one; or a folder with train/<class>/* and test/<class>/* images (or val/<class>/*, as in
    ImageNet). download: fetch CIFAR-10 if it is not there. With an `augmentation` the images of a folder, of any sizes, are
    read as the training goes.
    Raises InputError if the source is unknown, missing or damaged.
    """
    with folder.readable(source):
        return _load(source, download, augmentation)


def _load(source: str | Path, download: bool, augmentation: Augmentation | None) -> Images:
    path = Path("data") if str(source) == "cifar10" else _folder(source)
    if augmentation is not None:
        if download:
            raise InputError("this recipe reads a folder of images, which is not downloaded; leave it out", "download")
        if str(source) in NAMED:
            raise InputError(f"this recipe reads a folder of images, not {source}; {folder.LAYOUT}")
        return read_files(path, augmentation)
    if str(source) == "shapes10":
        return shapes10()
    if str(source) == "cifar10-sample":
        return cifar10_sample()
    path = path.resolve().parent if path.resolve().name == cifar10.FOLDER else path
    if str(source) == "cifar10" or ((path / cifar10.FOLDER).is_dir() and not (path / "train").is_dir()):
        return from_arrays("cifar10", *cifar10.read(path, download))
    if download:
        raise InputError(f'only "cifar10" can be downloaded, not {str(source)!r}; leave it out', "download")
    if not path.is_dir():
        what = f"{path} is no folder" if path.exists() else f"no data at {str(source)!r}"
        raise InputError(f"{what}; use {ALLOWED}")
    return from_arrays(path.resolve().name, *folder.read(path))


def _folder(source: str | Path) -> Path:
    if not isinstance(source, str | Path) or not str(source):
        raise InputError(f"the source of the data is {source!r}; use {ALLOWED}")
    try:
        return Path(source).expanduser()  # a shell does not after an =
    except RuntimeError as error:
        raise InputError(f"no data at {str(source)!r} ({error})") from error
