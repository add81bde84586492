"""Scenes for detection: one to three shapes of shapes10 on one ground, with their boxes, made in seconds (notebook 10)."""

import numpy as np
import torch
from torch import Tensor

from resnet_nb.data.shapes import SHAPES, TAU, coverage, stripes, to_bytes
from resnet_nb.errors import require_int

Objects = dict[str, Tensor]  # of one image: boxes (n, 4), labels (n,), and if they are predictions scores (n,)
CLASSES = ("background", *SHAPES)  # label 0 is no object, as in torchvision
SIZE = 64
MOST = 3  # objects in a scene
REACH = 1.3  # no shape goes further from its center, in radii (the corners of the hourglass: 1.29)


def scenes(count: int, seed: int = 0) -> tuple[Tensor, list[Objects]]:
    """`count` scenes and their objects, the same for the same seed.

    Images: uint8 (count, 3, 64, 64), drawn like shapes10; each shape has its own place, color, scale and rotation and covers
    no other. Targets, one dict per image as torchvision wants them: boxes float32 (n, 4), x1, y1, x2, y2 in pixels, tight
    around the drawn pixels; labels int64 (n,), indices into CLASSES. Raises InputError unless count and seed are integers,
    count at least 1 and seed at least 0.
    """
    require_int("count", count, 1)
    require_int("seed", seed, 0)
    rng = np.random.default_rng([seed, 2])  # 0 and 1 are the parts of shapes10
    chunks = [_draw(min(500, count - start), rng) for start in range(0, count, 500)]
    return torch.cat([images for images, _ in chunks]), [target for _, targets in chunks for target in targets]


def _draw(n: int, rng: np.random.Generator) -> tuple[Tensor, list[Objects]]:
    places = [_place(rng) for _ in range(n)]  # of each scene: (objects, 3)
    ground = rng.uniform(0, 0.45, (n, 3, 1, 1))
    image = ground + _texture(n, rng)
    boxes, labels = [[] for _ in range(n)], [[] for _ in range(n)]
    for i in range(max(map(len, places))):
        with_more = np.flatnonzero([len(place) > i for place in places])  # scenes that have an i-th shape
        m = len(with_more)
        kind = rng.integers(len(SHAPES), size=m)
        x, y, radius = np.stack([places[scene][i] for scene in with_more]).T[..., None, None]
        alpha = coverage(kind, np.stack([x, y]), radius, rng.uniform(0, TAU, (m, 1, 1)), SIZE)
        color = ground[with_more] + rng.uniform(0.25, 0.55, (m, 3, 1, 1)) + _texture(m, rng)
        image[with_more] = (1 - alpha) * image[with_more] + alpha * color
        for scene, label, mask in zip(with_more, kind, alpha[:, 0] >= 0.5):
            boxes[scene].append(_box(mask))
            labels[scene].append(int(label) + 1)
    image += rng.uniform(0.02, 0.1, (n, 1, 1, 1)) * rng.standard_normal(image.shape)
    targets = [{"boxes": torch.stack(b), "labels": torch.tensor(k)} for b, k in zip(boxes, labels)]
    return torch.from_numpy(to_bytes(image)), targets


def _place(rng: np.random.Generator) -> np.ndarray:
    """x, y (pixels from the middle) and radius of one to three shapes, inside the image and apart: (objects, 3)."""
    wanted = rng.integers(1, MOST + 1)
    placed: list[np.ndarray] = []
    while len(placed) < wanted:
        if rng.random() < 0.02:
            placed.clear()  # the first ones may leave no place
        radius = rng.uniform(7, 11)
        far = SIZE / 2 - REACH * radius
        disk = np.array([*rng.uniform(-far, far, 2), radius])
        if all(np.hypot(*(disk - other)[:2]) > REACH * (radius + other[2]) for other in placed):
            placed.append(disk)
    return np.stack(placed)


def _texture(n: int, rng: np.random.Generator) -> np.ndarray:
    wave, turn = rng.uniform(0.2, 1.2, (n, 1, 1)), rng.uniform(0, TAU, (n, 1, 1))
    return stripes(wave, turn, rng.uniform(0, 0.1, (n, 1, 1, 1)), SIZE)


def _box(mask: np.ndarray) -> Tensor:
    """The smallest box that holds the True pixels of (H, W): x1, y1, x2, y2, the last two exclusive."""
    y, x = np.nonzero(mask)
    return torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1], dtype=torch.float32)
