"""CIFAR-10, image folders and drawn shapes: in memory, or read from files as the training goes."""

from pathlib import Path

import numpy as np

from resnet_nb.data import cifar10, folder, shapes
from resnet_nb.data.resident import Dataset, Images, Stream, augment, from_arrays
from resnet_nb.data.streamed import ImageFiles, read_files, test_files
from resnet_nb.data.views import Augmentation
from resnet_nb.errors import InputError


def shapes10(train: int = 10_000, test: int = 2_000, seed: int = 0) -> Dataset:
    """Ten drawn shapes, 32x32, made in seconds and deterministic per seed (see `data.shapes`)."""
    parts = (shapes.make(count, np.random.default_rng([seed, part])) for part, count in enumerate((train, test)))
    return from_arrays("shapes10", shapes.SHAPES, *parts)


def load(source: str | Path, download: bool = False, augmentation: Augmentation | None = None) -> Images:
    """The data named by `source`.

    "shapes10"; "cifar10" (torchvision's layout below ./data); a folder with torchvision's cifar-10-batches-py; or a folder
    with train/<class>/* and test/<class>/* images. download: fetch CIFAR-10 if it is not there. With an `augmentation` the
    images of a folder, of any sizes, are read as the training goes; val/ may stand for test/, as in ImageNet.
    Raises InputError if the source is unknown, missing or damaged.
    """
    path = Path("data") if str(source) == "cifar10" else Path(source)
    if augmentation is not None:
        if download:
            raise InputError("this recipe reads a folder of images, which is not downloaded", "download")
        return read_files(path, augmentation)
    if str(source) == "shapes10":
        return shapes10()
    if str(source) == "cifar10" or (path / cifar10.FOLDER).is_dir():
        return from_arrays("cifar10", *cifar10.read(path, download))
    if download:
        raise InputError(f'only "cifar10" can be downloaded, not {str(source)!r}', "download")
    if not path.is_dir():
        allowed = "shapes10, cifar10 or a folder with train/<class>/* and test/<class>/*"
        raise InputError(f"no data at {str(source)!r}; use {allowed}")
    return from_arrays(path.resolve().name, *folder.read(path))
