"""Image folders train/<class>/* and test/<class>/*, decoded once and cached beside the images."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torchvision.datasets.folder import IMG_EXTENSIONS

from resnet_nb.errors import InputError, few
from resnet_nb.files import sha256, write_atomically
from resnet_nb.progress import bar, note

CACHE = ".resnet_nb_cache.safetensors"
Part = tuple[np.ndarray, list[int]]


class Listing(NamedTuple):
    """The images of one part of an image folder, by class and name, with their labels; the classes in their order."""

    files: list[Path]
    labels: list[int]
    classes: list[str]


def read(root: Path) -> tuple[list[str], Part, Part]:
    """Class names, (images, labels) for training and for testing: arrays (N, 3, H, W) uint8, and lists.

    All images must have one size. Raises InputError naming the folder or file at fault.
    """
    train, test = list_parts(root, "test")
    files = train.files + test.files
    key = _key(root, files)
    images = _read_cache(root / CACHE, key)
    if images is None:
        images = _decode(files)
        _write_cache(root / CACHE, key, images)
    split = len(train.files)
    return train.classes, (images[:split], train.labels), (images[split:], test.labels)


def list_images(folder: Path) -> Listing:
    """The images of one part, such as root/train. Raises InputError if it has no classes, or a class has no images."""
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; an image folder holds train/<class>/* and test/<class>/*")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise InputError(f"{folder} has no class folders; put the images of each class into {folder}/<class>/")
    listing = Listing([], [], classes)
    for label, name in enumerate(classes):
        images = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in IMG_EXTENSIONS)
        if not images:
            raise InputError(f"{folder / name} has no images; add some ({', '.join(IMG_EXTENSIONS)}) or remove it")
        listing.files.extend(images)
        listing.labels.extend([label] * len(images))
    return listing


def list_parts(root: Path, test: str) -> tuple[Listing, Listing]:
    """`list_images` of root/train and root/`test`. Raises InputError also if they have different classes."""
    parts = {name: list_images(root / name) for name in ("train", test)}
    classes = [set(part.classes) for part in parts.values()]
    only = [f"{name} only in {part}" for part, own in zip(parts, classes) for name in sorted(own - set.intersection(*classes))]
    if only:
        raise InputError(f"{root / 'train'} and {root / test} have different classes: {few(only)}")
    return tuple(parts.values())


def read_image(path: str | Path) -> Image.Image:
    """The image in RGB. Raises InputError if the file cannot be decoded."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot decode {path} ({error}); replace or delete it") from error


def _decode(files: list[Path]) -> np.ndarray:
    def decode(path: Path) -> np.ndarray:
        return np.asarray(read_image(path)).transpose(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        decoded = list(bar("decoding images", len(files), pool.map(decode, files), unit=" images"))
    for path, array in zip(files, decoded):
        if array.shape != decoded[0].shape:
            sizes = [f"{a.shape[2]}x{a.shape[1]}" for a in (array, decoded[0])]
            raise InputError(f"all images must have one size: {path} is {sizes[0]}, {files[0]} is {sizes[1]}")
    return np.ascontiguousarray(np.stack(decoded))  # safetensors writes the memory as it lies


def _key(root: Path, files: list[Path]) -> str:
    """Changes with any file's name, size or time of change."""
    digest = hashlib.sha256()
    for path in files:
        stat = path.stat()
        digest.update(f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path, key: str) -> np.ndarray | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as cache:
            if (cache.metadata() or {}).get("key") == key:
                images = cache.get_tensor("images")
                if sha256(images.data) != cache.metadata().get("sum"):
                    raise OSError("wrong check sum")
                return images
    except (SafetensorError, OSError) as error:
        note(f"ignoring the damaged cache {path} ({error}); decoding again")
    return None


def _write_cache(path: Path, key: str, images: np.ndarray) -> None:
    try:
        write_atomically(path, save({"images": images}, metadata={"key": key, "sum": sha256(images.data)}))
    except OSError as error:
        note(f"cannot cache the decoded images in {path} ({error}); they are decoded each time")
