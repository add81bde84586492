"""shapes10: ten drawn shapes as 32x32 color images, made in seconds, no download (notebook 13).

Each image shows one shape in random color, position, scale and rotation on a darker, textured and noisy ground. A shape is
a function of (u, v) that is positive inside and about the distance to its edge; unions are maxima, intersections minima.
"""

import numpy as np

from resnet_nb.progress import bar

SIZE = 32
TAU = 2 * np.pi


def _polygon(u, v, corners, apothem):
    """Regular polygon: the intersection of half-planes at distance `apothem` from the center."""
    angles = TAU * np.arange(corners) / corners
    return np.min([apothem - u * np.cos(a) - v * np.sin(a) for a in angles], axis=0)


def _box(u, v, half_width, half_height):
    return np.minimum(half_width - np.abs(u), half_height - np.abs(v))


def _disk(u, v, radius, u0=0.0, v0=0.0):
    return radius - np.hypot(u - u0, v - v0)


def _star(u, v):
    # one tip of five, repeated: fold the angle into half a tip, then one straight edge
    angle = np.abs((np.arctan2(v, u) + TAU / 4) % (TAU / 5) - TAU / 10)
    radius = np.hypot(u, v)
    x, y = radius * np.cos(TAU / 10 - angle), radius * np.sin(TAU / 10 - angle)
    inner = np.array([0.42 * np.cos(TAU / 10), 0.42 * np.sin(TAU / 10)])
    normal = np.array([inner[1], 1 - inner[0]]) / np.hypot(inner[1], 1 - inner[0])
    return normal[0] * (1 - x) - normal[1] * y


def _heart(u, v):
    # a square on its corner with a disk on each upper side
    a, b = (u + v) / np.sqrt(2), (v - u) / np.sqrt(2)
    square = _box(a, b, 0.5, 0.5)
    return np.max([square, _disk(a, b, 0.5, -0.5, 0.0), _disk(a, b, 0.5, 0.0, -0.5)], axis=0)


def _arrow(u, v):
    head = np.minimum(u + 0.05, (0.95 - u) * 0.62 - np.abs(v) * 0.78)
    shaft = _box(u + 0.45, v, 0.5, 0.22)
    return np.maximum(head, shaft)


SHAPES = {
    "arrow": _arrow,
    "circle": lambda u, v: _disk(u, v, 0.85),
    "crescent": lambda u, v: np.minimum(_disk(u, v, 0.95), -_disk(u, v, 0.75, 0.45)),
    "cross": lambda u, v: np.maximum(_box(u, v, 0.95, 0.28), _box(u, v, 0.28, 0.95)),
    "heart": _heart,
    "hourglass": lambda u, v: np.minimum(0.85 - np.abs(v), 0.8 * (np.abs(v) - np.abs(u)) + 0.1),
    "ring": lambda u, v: 0.2 - np.abs(np.hypot(u, v) - 0.72),
    "square": lambda u, v: _box(u, v, 0.75, 0.75),
    "star": _star,
    "triangle": lambda u, v: _polygon(u, v, 3, 0.5),
}


def coverage(labels: np.ndarray, center: np.ndarray, radius: np.ndarray, turn: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel the shape covers: (N,) labels to (N, 1, size, size) in [0, 1].

    center (2, N, 1, 1), x and y from the middle of the image, radius (N, 1, 1) in pixels; turn (N, 1, 1) in radians.
    """
    y, x = _pixels(size)
    du, dv = (x - center[0]) / radius, (y - center[1]) / radius
    u, v = du * np.cos(turn) + dv * np.sin(turn), dv * np.cos(turn) - du * np.sin(turn)
    inside = np.empty((len(labels), size, size))
    for label, shape in enumerate(SHAPES.values()):
        own = labels == label
        inside[own] = shape(u[own], v[own])
    return np.clip(inside * radius + 0.5, 0, 1)[:, None]  # one pixel of anti-aliasing


def stripes(wave: np.ndarray, turn: np.ndarray, height: np.ndarray, size: int) -> np.ndarray:
    """Light and dark: wave (radians per pixel) and turn (N, 1, 1), height (N, 1, 1, 1) to (N, 1, size, size)."""
    y, x = _pixels(size)
    return height * np.sin(wave * (x * np.cos(turn) + y * np.sin(turn)))[:, None]


def _pixels(size: int) -> np.ndarray:
    return np.mgrid[:size, :size] - (size - 1) / 2


def to_bytes(image: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8; what is outside is cut off."""
    return np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)


def draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one image per label (index into SHAPES): (N,) integers to (N, 3, 32, 32) uint8."""
    n = len(labels)
    center = rng.uniform(-4, 4, (2, n, 1, 1))
    radius = rng.uniform(8, 12, (n, 1, 1))
    turn = rng.uniform(0, TAU, (n, 1, 1))
    ground = rng.uniform(0, 0.45, (n, 3, 1, 1))
    color = ground + rng.uniform(0.25, 0.55, (n, 3, 1, 1))  # the shape is the lighter part
    wave = rng.uniform(0.2, 1.2, (2, n, 1, 1))
    wave_turn = rng.uniform(0, TAU, (2, n, 1, 1))
    wave_height = rng.uniform(0, 0.1, (2, n, 1, 1, 1))
    noise = rng.uniform(0.02, 0.1, (n, 1, 1, 1)) * rng.standard_normal((n, 3, SIZE, SIZE))

    alpha = coverage(labels, center, radius, turn, SIZE)
    behind, on_shape = (stripes(*values, SIZE) for values in zip(wave, wave_turn, wave_height))
    return to_bytes((1 - alpha) * (ground + behind) + alpha * (color + on_shape) + noise)


def make(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`count` images (count, 3, 32, 32) uint8 in random order and their labels, classes balanced."""
    labels = rng.permutation(np.arange(count) % len(SHAPES))
    chunks = []
    with bar("drawing shapes10", count, unit=" images", leave=False) as shown:
        for part in np.array_split(labels, max(1, count // 1000)):
            chunks.append(draw(part, rng))
            shown.update(len(part))
    return np.concatenate(chunks), labels
