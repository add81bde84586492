"""Image folders train/<class>/* and test/<class>/* (or val/<class>/*): what counts, what is left out, and the images."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from resnet_nb.data.pictures import Look, read_image, tell, without_warnings
from resnet_nb.errors import InputError, few
from resnet_nb.files import is_system_file
from resnet_nb.progress import bar, note

Part = tuple[np.ndarray, list[int]]
LAYOUT = "an image folder holds train/<class>/* and test/<class>/* (or val/<class>/*)"


@contextmanager
def readable(source: str | Path) -> Iterator[None]:
    """Tell what cannot be read below `source` as InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {error.filename or source} ({error.strerror or error})") from error


class Listing(NamedTuple):
    """The images of one part of an image folder, by class and name, with their labels; the classes in their order."""

    files: list[Path]
    labels: list[int]
    classes: list[str]


def read(root: Path) -> tuple[list[str], Part, Part]:
    """Class names, (images, labels) for training and for testing: arrays (N, 3, H, W) uint8, and lists.

    All images must have one size. Notes say what is left out. Raises InputError naming the folder or the files at fault.
    """
    train, test = list_parts(root)
    images = _decode(train.files + test.files)
    split = len(train.files)
    return train.classes, (images[:split], train.labels), (images[split:], test.labels)


def list_parts(root: Path) -> tuple[Listing, Listing]:
    """`list_images` of root/train and of its `test_folder`. Raises InputError also if they have different classes."""
    parts = {folder.name: list_images(folder) for folder in (root / "train", test_folder(root))}
    classes = [set(part.classes) for part in parts.values()]
    only = [f"{name} only in {part}" for part, own in zip(parts, classes) for name in sorted(own - set.intersection(*classes))]
    if only:
        raise InputError(f"{' and '.join(str(root / part) for part in parts)} have different classes: {few(only)}")
    return tuple(parts.values())


def test_folder(root: Path) -> Path:
    """root/val if there is one, unless root/test has the classes of root/train: the test images of ImageNet have no labels."""
    test, val = root / "test", root / "val"
    if not val.is_dir():
        return test
    if not (classes := _class_names(test)) or classes != _class_names(root / "train"):
        return val
    note(f"note: the test images are those of {test}; {val} is left out")
    return test


def _class_names(folder: Path) -> set[str]:
    there = folder.iterdir() if folder.is_dir() else ()
    return {_composed(p) for p in there if p.is_dir() and not is_system_file(p.name)}


def list_images(folder: Path) -> Listing:
    """The images of one part, such as root/train: what torchvision's ImageFolder takes, but not of subfolders.

    Files that systems add are no images. Of all else that is left out a note says how much. Names are compared in Unicode's
    composed form. Raises InputError if the folder has no classes or a class has no images, and OSError if it cannot be read.
    """
    if not folder.is_dir():
        there = sorted(p.name for p in folder.parent.iterdir() if not is_system_file(p.name))
        raise InputError(f"{folder} is missing; {LAYOUT}; {folder.parent} has {few(there) or 'nothing'}")
    found = sorted((p for p in folder.iterdir() if not is_system_file(p.name)), key=_composed)
    listing = Listing([], [], [_composed(p) for p in found if p.is_dir()])
    if not listing.classes:
        raise InputError(f"{folder} has no class folders; put the images of each class into {folder}/<class>/")
    if len(set(listing.classes)) < len(listing.classes):
        twice = [name for name, times in Counter(listing.classes).items() if times > 1]
        raise InputError(f"{folder} has two folders {few(twice)}, written in two Unicode forms; merge them")
    loose = [f"{p.name}{', a broken link' if not p.exists() else ''}" for p in found if not p.is_dir()]
    left_out = [f"{len(loose):,} in no class folder ({few(loose, 2)})"] if loose else []
    for label, part in enumerate(p for p in found if p.is_dir()):
        images, others = _images(part)
        if not images:
            has = f" ({others})" if others else ""
            raise InputError(f"{part} has no images{has}; add some ({', '.join(IMG_EXTENSIONS)}) or remove it")
        listing.files.extend(images)
        listing.labels.extend([label] * len(images))
        left_out += [f"{part.name}: {others}"] if others else []
    if left_out:
        note(f"note: left out of {folder}: {few(left_out)}")
    return listing


def _composed(path: Path) -> str:
    return unicodedata.normalize("NFC", path.name)  # a Mac writes decomposed names, which look the same


def _images(folder: Path) -> tuple[list[Path], str]:
    """The images in a folder, by name, and what else there is, in words."""
    images, others = [], Counter()
    for path in sorted((p for p in folder.iterdir() if not is_system_file(p.name)), key=_composed):
        if path.is_dir():
            others["in subfolders"] += sum(not is_system_file(name) for _, _, names in os.walk(path) for name in names)
        elif path.suffix.lower() not in IMG_EXTENSIONS:
            others[f"of no known kind of image ({path.suffix.lower() or 'no extension'})"] += 1
        elif not path.is_file():
            others["special files" if path.exists() else "broken links"] += 1
        else:
            images.append(path)
    return images, ", ".join(f"{count:,} {what}" for what, count in others.items() if count)


def _decode(files: list[Path]) -> np.ndarray:
    """(N, 3, H, W) uint8. Raises InputError naming the files that cannot be decoded or have another size."""

    def decode(path: Path) -> tuple[np.ndarray, Look] | InputError:
        try:
            image = read_image(path)
        except InputError as error:
            return error  # all of them are told at once
        return np.asarray(image).transpose(2, 0, 1), image.info["look"]

    images, wrong, sizes, looks = None, [], {}, []
    with without_warnings(), ThreadPoolExecutor() as pool:
        try:
            decoded = bar("decoding images", len(files), pool.map(decode, files), unit=" images")
            for index, result in enumerate(decoded):
                if isinstance(result, InputError):
                    wrong.append(result)
                    continue
                pixels, look = result
                looks.append((files[index], look))
                sizes.setdefault(f"{pixels.shape[2]}x{pixels.shape[1]}", []).append(files[index])
                if len(sizes) == 1:
                    images = np.empty((len(files), *pixels.shape), np.uint8) if images is None else images
                    images[index] = pixels
        finally:
            pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for what was not begun
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise InputError(f"{len(wrong):,} of {len(files):,} images cannot be used: {few(wrong, 3)}")
    if len(sizes) > 1:
        shown = few((f"{len(paths):,} of {size} ({paths[0]})" for size, paths in sizes.items()), 3)
        raise InputError(f"all images must have one size, there are {shown}; the recipe imagenet takes any sizes")
    tell(looks, len(files))
    return images
