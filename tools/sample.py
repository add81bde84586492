"""Makes the sample of CIFAR-10 that ships with the package from data/cifar-10-batches-py: python -m tools.sample"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_nb.data import cifar10
from resnet_nb.data.sample import FOLDER, LABELS, SIDE
from tools import ROOT
from tools.whole import write_files

PER_CLASS = {"train": 200, "test": 100}
COLUMNS = 40  # of images on a sheet


def first_of_each(labels: list[int], count: int) -> np.ndarray:
    """Places of the first `count` images of each class, from the first to the last."""
    labels = np.asarray(labels)
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def sheet(images: np.ndarray) -> bytes:
    """(N, 3, 32, 32) uint8 side by side, COLUMNS in a row, as lossless WebP; N is a multiple of COLUMNS."""
    rows = images.reshape(-1, COLUMNS, 3, SIDE, SIDE).transpose(0, 3, 1, 4, 2)
    file = io.BytesIO()
    Image.fromarray(rows.reshape(-1, COLUMNS * SIDE, 3)).save(file, "webp", lossless=True, quality=100)  # 100: of the search
    return file.getvalue()


def contents(root: Path) -> dict[Path, bytes]:
    """{path: bytes} of the sample's files, from CIFAR-10 below `root`; InputError if that is missing or damaged."""
    classes, *parts = cifar10.read(root)
    files, known = {}, {"classes": classes}
    for (part, count), (images, labels) in zip(PER_CLASS.items(), parts):
        places = first_of_each(labels, count)
        known[part] = [labels[place] for place in places]
        files[FOLDER / f"{part}.webp"] = sheet(images[places])
    return files | {FOLDER / LABELS: json.dumps(known).encode() + b"\n"}


def main() -> None:
    files = contents(ROOT / "data")
    write_files(files)
    for path, content in files.items():
        print(f"{path.relative_to(ROOT)}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
