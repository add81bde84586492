"""The pen of all drawings: boxes, arrows and words, measured in inches, on panels side by side (all notebooks)."""

import math
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from resnet_nb.plot.figure import ACCENT, INK, PLAIN

CONV, BN, RELU, PALE = "#cfdae5", "#edf1f5", "#ffffff", "#fbe9e4"  # fills; PALE: what is on a shortcut
MUTED = "#5f6b76"  # words that explain
SIZE, SMALL, TITLE = 10, 9, 12  # points; nothing is smaller than SMALL
BOLD, THIN = 2.6, 1.1  # points: a shortcut, any other line
DOTTED = (0, (1, 1.1))
WIDEST = 8.8  # inches: what fits a slide and a page


def breadth(words: str, size: float = SIZE, weight: str = "normal") -> float:
    """Inches from the left to the right end of the words."""
    font = FontProperties(size=size, weight=weight)
    return max(TextPath((0, 0), line, prop=font).get_extents().width for line in words.split("\n") if line.strip()) / 72


@dataclass
class Pen:
    """Draws on one panel, in inches, y downwards, and knows how far it went: left, right, top, bottom."""

    axis: Axes
    reach: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])

    def at(self, x: float, y: float) -> None:
        """The panel reaches to this point."""
        left, right, top, bottom = self.reach
        self.reach = [min(left, x), max(right, x), min(top, y), max(bottom, y)]

    def text(self, x: float, y: float, words: str, size: float = SIZE, side: str = "center", **look) -> None:
        """Words around (x, y), or with their left or right end there (side)."""
        wide, half = breadth(words, size, look.get("weight", "normal")), 0.6 * size / 72 * (1 + words.count("\n"))
        left = x - wide * {"left": 0, "center": 0.5, "right": 1}[side]
        self.at(left, y - half)
        self.at(left + wide, y + half)
        look = {"color": INK, "zorder": 4, **look}
        self.axis.text(x, y, words, ha=side, va="center_baseline" if "\n" not in words else "center", fontsize=size, **look)

    def shape(self, points: list[tuple[float, float]], fill: str, name: str = "", **look) -> None:
        """A filled polygon; name: what it is, for those who look for it."""
        look = {"edgecolor": PLAIN, "linewidth": 1.0, "joinstyle": "round", "zorder": 3, "clip_on": False, **look}
        self.axis.add_patch(Polygon(points, closed=True, facecolor=fill, label=name, **look))
        for point in points:
            self.at(*point)

    def box(self, x: float, top: float, width: float, height: float, words: str, fill: str, name: str = "", **look) -> float:
        """A box below `top`, centered on x, with words of that size; returns where it ends."""
        self.funnel(x, top, width, width, height, fill, name or words, **look)
        if words:
            self.text(x, top + height / 2, words, SIZE if height > 0.25 else SMALL)
        return top + height

    def funnel(self, x: float, top: float, above: float, below: float, height: float, fill: str, name: str, **look) -> None:
        """A box that is `above` inches wide at its top and `below` at its bottom."""
        end = top + height
        self.shape([(x - above / 2, top), (x + above / 2, top), (x + below / 2, end), (x - below / 2, end)], fill, name, **look)

    def plus(self, x: float, y: float, radius: float = 0.105) -> None:
        """The addition: a plus in a circle."""
        look = {"facecolor": "white", "edgecolor": INK, "linewidth": 1.2, "zorder": 3, "clip_on": False, "label": "+"}
        self.axis.add_patch(Circle((x, y), radius, **look))
        arm = 0.55 * radius
        for ends in (((x - arm, x + arm), (y, y)), ((x, x), (y - arm, y + arm))):
            self.axis.plot(*ends, color=INK, linewidth=1.4, zorder=4, solid_capstyle="butt", clip_on=False)
        self.at(x - radius, y - radius)
        self.at(x + radius, y + radius)

    def arrow(self, *points: tuple, width: float = THIN, color: str = INK, head: bool = True, bend: float = 0, **look) -> None:
        """A line with one head, from the first point to the last by way of the others with rounded corners, or bent.

        tip: inches that the head is long.
        """
        name, tip = look.pop("label", "arrow"), look.pop("tip", min(0.055 + 0.026 * width, 0.125))
        if bend:
            (x0, y0), (x1, y1) = points
            points = points[0], ((x0 + x1) / 2 - bend * (y1 - y0), (y0 + y1) / 2 + bend * (x1 - x0)), points[1]
        (x0, y0), (x, y) = points[-2:]
        length, reach = math.hypot(x - x0, y - y0), tip if head else 0
        dx, dy = (x - x0) / length, (y - y0) / length
        ends = (*points[:-1], (x - 0.8 * reach * dx, y - 0.8 * reach * dy))
        way = Path(ends, [Path.MOVETO, Path.CURVE3, Path.CURVE3]) if bend else rounded(ends)
        look = {"linewidth": width, "capstyle": "butt", "joinstyle": "round", "zorder": 2, "clip_on": False, **look}
        self.axis.add_patch(PathPatch(way, facecolor="none", edgecolor=color, label=name, **look))
        if head:
            foot, side = (x - reach * dx, y - reach * dy), 0.46 * reach
            corners = [(x, y), (foot[0] - side * dy, foot[1] + side * dx), (foot[0] + side * dy, foot[1] - side * dx)]
            self.shape(corners, color, "head", edgecolor=color, linewidth=0.4, zorder=look["zorder"], joinstyle="miter")
        mid = [tuple((a + 2 * b + c) / 4 for a, b, c in zip(*points))] if bend else []
        for point in (*mid, points[0], points[-1]) if bend else points:
            self.at(*point)

    def shortcut(self, *points: tuple, name: str = "shortcut", dotted: bool = False, **look) -> None:
        """The shortcut: bold, in its color, dotted where the shape changes."""
        self.arrow(*points, **{"width": BOLD, "color": ACCENT, "linestyle": DOTTED if dotted else "-", "label": name, **look})


def rounded(points: tuple, radius: float = 0.09) -> Path:
    """The way through these points, its corners rounded."""
    way, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:]):
        way += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*way, points[-1]], [*codes, Path.LINETO])


def _towards(start: tuple, end: tuple, distance: float) -> tuple[float, float]:
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    part = min(distance / length, 0.5) if length else 0
    return start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])


def sheet(panels: int) -> tuple[MatplotlibFigure, list[Pen]]:
    """A figure and a pen for each panel of it; `arrange` gives them their size and place."""
    figure = FigureCanvasAgg(MatplotlibFigure()).figure
    return figure, [Pen(figure.add_axes((0, 0, 1, 1))) for _ in range(panels)]


def arrange(
    figure: MatplotlibFigure,
    pens: dict[str, Pen],
    center: float | None = 0.0,
    gap: float = 0.25,
    size: float = TITLE,
    stacked: bool = False,
) -> None:
    """Put the panels side by side, in as many rows as they need, each with its title over `center` (None: its middle).

    stacked: each panel is a row of its own.
    """
    rows, used = [[]], 0.0
    for title, pen in pens.items():
        left, right, *_ = pen.reach
        middle = (left + right) / 2 if center is None else center
        if title:
            half = breadth(title, size, "bold") / 2
            pen.at(middle - half, pen.reach[2])
            pen.at(middle + half, pen.reach[2])
        left, right, *_ = pen.reach
        if rows[-1] and (stacked or used + right - left > WIDEST):
            rows, used = [*rows, []], 0.0
        rows[-1].append((title, pen, middle))
        used += right - left + gap
    _place(figure, rows, gap, size)


def _place(figure: MatplotlibFigure, rows: list[list[tuple[str, Pen, float]]], gap: float, size: float) -> None:
    widths = [sum(pen.reach[1] - pen.reach[0] for _, pen, _ in row) + gap * (len(row) - 1) for row in rows]
    lines = [max(title.count("\n") + 1 if title else 0 for title, *_ in row) for row in rows]
    tops = [min(pen.reach[2] for _, pen, _ in row) for row in rows]
    heights = [max(pen.reach[3] for _, pen, _ in row) - top for row, top in zip(rows, tops)]
    rises = [0.19 * count + 0.1 if count else 0.0 for count in lines]
    width, height = max(widths), sum(heights) + sum(rises) + gap * (len(rows) - 1)
    figure.set_size_inches(width, height)
    y = height
    for row, used, top, tall, rise in zip(rows, widths, tops, heights, rises):
        y, x = y - rise - tall, (width - used) / 2
        for title, pen, middle in row:
            left, right, *_ = pen.reach
            pen.axis.set_position((x / width, y / height, (right - left) / width, tall / height))
            pen.axis.set(xlim=(left, right), ylim=(top + tall, top))
            pen.axis.axis("off")
            pen.axis.set_title(title, x=(middle - left) / (right - left), fontsize=size, weight="bold", pad=6, color=INK)
            x += right - left + gap
        y -= gap
