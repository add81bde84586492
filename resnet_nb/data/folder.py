"""Image folders train/<class>/* and test/<class>/*, decoded once and cached beside the images."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torchvision.datasets.folder import IMG_EXTENSIONS

from resnet_nb.errors import InputError
from resnet_nb.files import sha256, write_atomically
from resnet_nb.progress import bar, note

CACHE = ".resnet_nb_cache.safetensors"


def read(root: Path):
    """Class names, (images, labels) for training and (images, labels) for testing, as numpy arrays.

    All images must have one size. Raises InputError naming the folder or file at fault.
    """
    files, labels, classes = {}, {}, None
    for part in ("train", "test"):
        files[part], labels[part], found = list_images(root / part)
        require_same_classes(root / "train", classes or found, root / "test", found)
        classes = found
    every = files["train"] + files["test"]
    key = _key(root, every)
    images = _read_cache(root / CACHE, key)
    if images is None:
        images = _decode(every)
        _write_cache(root / CACHE, key, images)
    split = len(files["train"])
    return classes, (images[:split], labels["train"]), (images[split:], labels["test"])


def list_images(folder: Path) -> tuple[list[Path], list[int], list[str]]:
    """Images, their labels and the classes of one part of an image folder. Raises InputError if it has none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; an image folder holds train/<class>/* and test/<class>/*")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise InputError(f"{folder} has no class folders; put the images of each class into {folder}/<class>/")
    files, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in IMG_EXTENSIONS)
        if not found:
            raise InputError(f"{folder / name} has no images; add some ({', '.join(IMG_EXTENSIONS)}) or remove it")
        files += found
        labels += [label] * len(found)
    return files, labels, classes


def require_same_classes(train: Path, classes: list[str], test: Path, found: list[str]) -> None:
    """Raise InputError if the folders `train` and `test` have different classes."""
    only = [
        f"{name} only in {part.name}"
        for part, names in ((train, set(classes) - set(found)), (test, set(found) - set(classes)))
        for name in sorted(names)
    ]
    if only:
        raise InputError(f"{train} and {test} have different classes: {', '.join(only)}")


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
        found = pool.map(decode, files)
        decoded = list(bar("decoding images", len(files), found, unit=" images"))
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
