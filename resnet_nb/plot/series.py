"""The map of the series: one card with a small drawing for each chapter (notebook 00)."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from resnet_nb.plot.figure import ACCENT, INK, PLAIN, Figure, subplots

GRAY, LIGHT = "0.6", "#e9edf2"
CHAPTERS = {  # number -> words on the card, the chapters that it builds on
    "01": ("the degradation\nproblem", ""),
    "02": ("residual\nlearning", "01"),
    "08": ("CIFAR-10\nexperiments", "01, 02"),
    "03": ("shortcuts", "02"),
    "04": ("the bottleneck", "02"),
    "05": ("batch\nnormalization", ""),
    "06": ("the architecture\ntable", "03, 04"),
    "07": ("ImageNet", "03, 06"),
    "09": ("layer responses,\n1000 layers", "05, 08"),
    "10": ("detection", "05, 06"),
    "11": ("pre-activation", "03, 05"),
    "12": ("networks as\nODE solvers", "11"),
    "13": ("costs, limits,\nuses", "06, 09"),
}
WIDTH, HEIGHT, ACROSS, DOWN = 1.28, 1.66, 1.5, 1.95  # of a card, and from one to the next


def chapters(rows: dict[str, str], caption: str) -> Figure:
    """Cards in rows: the words beside a row, such as "First: about 1 hour" -> its chapters, such as "01 02 08".

    An arrow joins two neighbors of which one builds on the other.
    """
    figure, axes = subplots(1, 1, 9.4, 1.06 * DOWN * len(rows))
    axis = axes[0, 0]
    axis.set(xlim=(-1.75, 5 * ACROSS - 0.2), ylim=((1 - len(rows)) * DOWN - HEIGHT - 0.05, 0.05), aspect="equal")
    axis.axis("off")
    for row, (words, chapters) in enumerate(rows.items()):
        y = -row * DOWN - HEIGHT / 2
        head, _, rest = words.partition(": ")
        axis.text(-1.7, y + 0.16, head, fontsize=13, weight="bold", va="center")
        axis.text(-1.7, y - 0.16, rest.replace(", ", ",\n"), fontsize=9, color="0.35", va="top")
        for column, chapter in enumerate(chapters.split()):
            _card(axis, column * ACROSS + WIDTH / 2, y, chapter)
            if column and chapters.split()[column - 1] in CHAPTERS[chapter][1]:
                x = column * ACROSS
                _arrow(axis, (x - (ACROSS - WIDTH) + 0.02, y), (x - 0.02, y), color=GRAY)
    said = [f"{words}: {', '.join(_spoken(chapter) for chapter in chapters.split())}." for words, chapters in rows.items()]
    return Figure(figure, caption, f"A map of the chapters. {' '.join(said)}")


def _arrow(axis: Axes, *points: tuple, **look) -> None:
    axis.add_patch(FancyArrowPatch(path=Path(points), arrowstyle="-|>", mutation_scale=8, **{"linewidth": 1, **look}))


def _spoken(chapter: str) -> str:
    title, before = CHAPTERS[chapter]
    return f"{chapter} {' '.join(title.split())}" + (f" (after {before})" if before else "")


def _card(axis: Axes, x: float, y: float, chapter: str) -> None:
    title, before = CHAPTERS[chapter]
    look = {"boxstyle": "round,pad=0,rounding_size=0.09", "facecolor": "white", "edgecolor": "0.75", "linewidth": 1}
    axis.add_patch(FancyBboxPatch((x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, **look))
    left, top = x - WIDTH / 2, y + HEIGHT / 2
    axis.text(left + 0.09, top - 0.16, chapter, fontsize=9.5, weight="bold", va="center", color=ACCENT)
    if before:
        axis.text(left + WIDTH - 0.09, top - 0.16, f"after {before}", fontsize=6.8, va="center", ha="right", color="0.45")
    axis.text(x, y - HEIGHT / 2 + 0.26, title, fontsize=8.5, va="center", ha="center", linespacing=1.15)
    DRAWINGS[chapter](Sketch(axis, x - 0.4, y - 0.22))


class Sketch:
    """Draws in a square of 0.8 whose lower left corner is (x, y), in coordinates from 0 to 1."""

    def __init__(self, axis: Axes, x: float, y: float):
        self.axis, self.corner = axis, np.array([x, y])

    def at(self, *points) -> np.ndarray:
        return self.corner + 0.8 * np.array(points, dtype=float)

    def line(self, *points, color: str = INK, width: float = 1.6, **look) -> None:
        self.axis.plot(*self.at(*points).T, color=color, linewidth=width, solid_capstyle="round", **look)

    def curve(self, f: Callable, color: str = INK, start: float = 0, **look) -> None:
        x = np.linspace(start, 1, 60)
        self.line(*zip(x, f(x)), color=color, **look)

    def box(self, x: float, y: float, width: float, height: float, color: str = LIGHT, edge: str = PLAIN, **look) -> None:
        corner = self.at((x, y))[0]
        self.axis.add_patch(Rectangle(corner, 0.8 * width, 0.8 * height, facecolor=color, edgecolor=edge, **look))

    def arrow(self, *points, color: str = INK, **look) -> None:
        _arrow(self.axis, *map(tuple, self.at(*points)), color=color, linewidth=1.4, **look)

    def plus(self, x: float, y: float) -> None:
        look = {"boxstyle": "circle,pad=0.08", "facecolor": "white", "edgecolor": INK}
        self.axis.text(*self.at((x, y))[0], "+", fontsize=8, ha="center", va="center", bbox=look)


def _axes(pen: Sketch) -> None:
    pen.line((0, 1), (0, 0), (1, 0), color=GRAY, width=1)


def _degradation(pen: Sketch) -> None:
    _axes(pen)
    pen.curve(lambda x: 0.14 + 0.8 * np.exp(-5 * x), PLAIN)
    pen.curve(lambda x: 0.42 + 0.55 * np.exp(-3 * x), PLAIN, linestyle="--")


def _block(pen: Sketch) -> None:
    pen.line((0.35, 1.05), (0.35, 0.14))
    for y in (0.66, 0.36):
        pen.box(0.08, y, 0.54, 0.17)
    pen.arrow((0.35, 0.97), (0.95, 0.97), (0.95, 0.12), (0.45, 0.12), color=ACCENT)
    pen.line((0.35, 0.03), (0.35, -0.06))
    pen.plus(0.35, 0.12)


def _shortcuts(pen: Sketch) -> None:
    pen.box(0, 0.18, 0.16, 0.64)
    pen.box(0.72, 0.34, 0.16, 0.32)
    pen.box(0.88, 0.34, 0.16, 0.32, "white", linestyle=":")
    pen.arrow((0.2, 0.5), (0.68, 0.5), color=ACCENT, linestyle=(0, (1, 1)))


def _bottleneck(pen: Sketch) -> None:
    for y, width in ((0.8, 1), (0.55, 0.3), (0.3, 0.3), (0.05, 1)):
        pen.box(0.5 - width / 2, y, width, 0.15)
    for side in (-1, 1):
        pen.line((0.5 + side * 0.5, 0.8), (0.5 + side * 0.15, 0.7), color=GRAY, width=0.8)
        pen.line((0.5 + side * 0.5, 0.2), (0.5 + side * 0.15, 0.3), color=GRAY, width=0.8)


def _normalization(pen: Sketch) -> None:
    pen.line((0, 0), (1, 0), color=GRAY, width=1)
    pen.curve(lambda x: 0.5 * np.exp(-(((x - 0.72) / 0.2) ** 2)), GRAY)
    pen.curve(lambda x: 0.95 * np.exp(-(((x - 0.4) / 0.1) ** 2)), PLAIN)
    pen.line((0.4, 0), (0.4, 0.95), color=PLAIN, width=0.8, linestyle=":")


def _tower(pen: Sketch) -> None:
    for i in range(8):
        pen.box(0.5 - 0.11 * (1 + i // 2), 0.9 - 0.125 * i, 0.22 * (1 + i // 2), 0.085, linewidth=0.8)


def _crops(pen: Sketch) -> None:
    pen.box(0, 0.08, 1, 0.82)
    pen.axis.add_patch(Circle(pen.at((0.55, 0.42))[0], 0.17, facecolor="#c9d3de", edgecolor="none"))
    for x, y in ((0.06, 0.26), (0.34, 0.14)):
        pen.box(x, y, 0.58, 0.58, "none", ACCENT, linestyle="--", linewidth=1.2)


def _trainings(pen: Sketch) -> None:
    _axes(pen)
    for last, color in ((0.5, PLAIN), (0.3, PLAIN), (0.2, ACCENT), (0.08, ACCENT)):
        drops = (1.9 * last, 1.9 * last, 1.25 * last, 1.25 * last, last, last)
        middle = [*zip((0.2, 0.5, 0.52, 0.75, 0.77, 1), drops)]
        pen.line((0.03, 1), *middle, color=color, linestyle="-" if last in (0.3, 0.2) else "--", width=1.3)


def _responses(pen: Sketch) -> None:
    _axes(pen)
    pen.curve(lambda x: 0.9 - 0.45 * x, PLAIN)
    pen.curve(lambda x: 0.62 * np.exp(-3 * x) + 0.16, ACCENT)


def _detection(pen: Sketch) -> None:
    pen.box(0, 0.08, 1, 0.82)
    pen.axis.add_patch(Circle(pen.at((0.3, 0.55))[0], 0.13, facecolor="#c9d3de", edgecolor="none"))
    pen.box(0.62, 0.2, 0.24, 0.34, "#c9d3de", "none")
    pen.box(0.1, 0.35, 0.4, 0.41, "none", ACCENT, linewidth=1.6)
    pen.box(0.58, 0.15, 0.32, 0.44, "none", ACCENT, linewidth=1.6)


def _preactivation(pen: Sketch) -> None:
    pen.arrow((0.2, 1.05), (0.2, -0.06), color=ACCENT)
    for y in (0.62, 0.12):
        pen.arrow((0.2, y + 0.38), (0.7, y + 0.38), (0.7, y), (0.24, y))
        pen.box(0.48, y + 0.11, 0.44, 0.16)


def _steps(pen: Sketch) -> None:
    _axes(pen)
    pen.curve(lambda x: 0.95 / (1 + 14 * np.exp(-6.5 * x)), GRAY)
    points = [(0.05, 0.08), (0.3, 0.18), (0.5, 0.5), (0.72, 0.86), (1, 0.9)]
    pen.line(*points, color=ACCENT, width=1.3, marker="o", markersize=3)


def _balance(pen: Sketch) -> None:
    pen.line((0.5, 0.08), (0.5, 0.9))
    pen.line((0.3, 0.08), (0.7, 0.08))
    pen.line((0.1, 0.72), (0.9, 0.88))
    for x, y, color in ((0.1, 0.72, PLAIN), (0.9, 0.88, ACCENT)):
        pen.line((x - 0.16, y - 0.4), (x, y), (x + 0.16, y - 0.4), width=0.8)
        pen.line((x - 0.18, y - 0.4), (x + 0.18, y - 0.4), color=color, width=3)


DRAWINGS = {
    "01": _degradation,
    "02": _block,
    "03": _shortcuts,
    "04": _bottleneck,
    "05": _normalization,
    "06": _tower,
    "07": _crops,
    "08": _trainings,
    "09": _responses,
    "10": _detection,
    "11": _preactivation,
    "12": _steps,
    "13": _balance,
}
