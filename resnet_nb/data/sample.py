"""The sample of CIFAR-10 that ships with the package: two sheets of images and their labels, made by tools/sample.py.

What the files are and where they come from: cifar10-sample/README.md, beside this file.
"""

import json
from pathlib import Path

import numpy as np

from resnet_nb.data.folder import Part
from resnet_nb.data.pictures import read_image

FOLDER = Path(__file__).with_name("cifar10-sample")
LABELS = "labels.json"
SIDE = 32


def read() -> tuple[list[str], Part, Part]:
    """Class names, (images, labels) for training and for testing: arrays (N, 3, 32, 32) uint8, and lists."""
    known = json.loads((FOLDER / LABELS).read_text(encoding="utf-8"))
    return known["classes"], *(
        (cut(np.asarray(read_image(FOLDER / f"{part}.webp"))), known[part]) for part in ("train", "test")
    )


def cut(sheet: np.ndarray) -> np.ndarray:
    """The images on a sheet, row by row: (32 R, 32 C, 3) to (R*C, 3, 32, 32)."""
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    return sheet.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIDE, SIDE)
