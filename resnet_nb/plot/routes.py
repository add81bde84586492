"""Drawings of what flows where: Runge-Kutta blocks, the paths of an unrolled net, nested functions (notebooks 02, 12)."""

import math
from itertools import product

from matplotlib.patches import Ellipse

from resnet_nb.models.butcher import Tableau
from resnet_nb.plot.figure import ACCENT, PLAIN, Figure
from resnet_nb.plot.pen import BOLD, CONV, DOTTED, MUTED, SMALL, THIN, Pen, arrange, breadth, sheet

TILT = 14  # degrees of the ellipses of `nested`
X, Y = r"$\mathbf{x}$", r"$\mathbf{y}$"


def wirings(methods: dict[str, Tableau], caption: str) -> Figure:
    """How the stages of Runge-Kutta blocks are connected: title -> method."""
    figure, pens = sheet(len(methods))
    said = [f"{title}: {draw_wiring(pen, method)}." for pen, (title, method) in zip(pens, methods.items())]
    arrange(figure, dict(zip(methods, pens)), None, gap=0.35)
    return Figure(figure, caption, " ".join(said))


def draw_wiring(pen: Pen, method: Tableau) -> str:
    """The stages of one step in a row: x above enters every stage, the k_j enter later stages (a_ij) and the result (b_j).

    The rail below gathers the result. Coefficients are written at the arrows up to 4 stages; beyond, dotted arrows are
    negative coefficients. Returns the coefficients in words.
    """
    s, labels = method.stages, method.stages <= 4
    pitch = min(0.95, 7.6 / (s + 1))
    side, end, above = min(0.4, 0.72 * pitch), (s + 1) * pitch, -0.6
    pen.text(0.38 * pitch - 0.08, above, X, 12, "right")
    pen.shortcut((0.38 * pitch, above), (end, above), (end, -0.105), name="x")
    for i in range(1, s + 1):
        pen.arrow((i * pitch, above), (i * pitch, -side / 2), color=ACCENT, width=1.4, label="x")
        pen.box(i * pitch, -side / 2, side, side, "", CONV, f"F{i}")
        pen.text(i * pitch, 0, rf"$\mathcal{{F}}_{{{i}}}$", 11 if labels else SMALL)
    pen.plus(end, 0)
    pen.arrow((end + 0.105, 0), (end + 0.4, 0))
    pen.text(end + 0.47, 0, Y, 12, "left")
    inner = [(j, i, value) for i, row in enumerate(method.a, 1) for j, value in enumerate(row, 1) if value]
    for j, i, value in inner:
        _wire(pen, j * pitch, i * pitch, side, value, labels, i - j == 1)
    outer = [(j, value) for j, value in enumerate(method.b, 1) if value]
    rail = max(0.6, pen.reach[3] + (0.3 if labels else 0.2))
    for j, value in outer:
        pen.arrow((j * pitch, side / 2), (j * pitch, rail), width=1.4, linestyle=_dashes(value), label="b", zorder=2.5)
        if labels:
            pen.text(j * pitch - 0.07, rail - 0.2, _written(value), side="right")
    pen.arrow((outer[0][0] * pitch, rail), (end, rail), (end, 0.105), width=BOLD, label="result")
    if labels:
        return ", ".join([f"{j}→{i} {_written(v)}" for j, i, v in inner] + [f"{j}→y {_written(v)}" for j, v in outer])
    negative = sum(bool(value < 0) for *_, value in (*inner, *outer))
    if negative:
        pen.text(outer[0][0] * pitch, rail + 0.2, "dotted: negative coefficient", SMALL, "left", color=MUTED)
    return f"{s} stages, {len(inner)} arrows between them, {len(outer)} into the result, {negative} negative"


def _written(value) -> str:
    return f"{value}".replace("-", "−")


def _dashes(value) -> str | tuple:
    return "-" if value > 0 else DOTTED


def _wire(pen: Pen, start: float, end: float, side: float, value, labels: bool, next_one: bool) -> None:
    """k_j to a later stage: straight to the next one where numbers are written, else an arc, deeper the further it goes."""
    written = _written(value)
    if labels and next_one:
        pen.arrow((start + side / 2, 0), (end - side / 2, 0), width=1.4, color=PLAIN, linestyle=_dashes(value), label="a")
        pen.text((start + end) / 2 - 0.03, -0.13, written)
        return
    points = (start + 0.28 * side, side / 2), (end - 0.28 * side, side / 2)
    across, bend = points[1][0] - points[0][0], 0.4
    look = {"width": THIN if labels else 0.8, "tip": 0.08, "color": PLAIN, "linestyle": _dashes(value)}
    pen.arrow(*points, bend=bend, label="a", **look)
    if labels:
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        part = 0.28  # of the way: in its middle the coefficient of another stage may be
        x, y = points[0][0] + part * across, side / 2 + 2 * part * (1 - part) * bend * across
        pen.text(x, y, written, bbox=ground)


def unrolled(blocks: int, caption: str) -> Figure:
    """The paths through a row of residual blocks: (I + J_n) ... (I + J_1) multiplied out, 2^n routes, by their length.

    Up to four blocks fit a slide.
    """
    figure, (pen,) = sheet(1)
    pitch, step = 1.15, 0.27
    _draw_row(pen, blocks, pitch)
    paths = sorted(product((0, 1), repeat=blocks), key=lambda path: (sum(path), path[::-1]))
    end, y, start, said = (blocks + 0.5) * pitch, 0.75, {}, []
    for path in paths:
        if sum(path) not in start:
            y += 0.12 if start else 0
            start[sum(path)] = y
        _draw_route(pen, y, path, pitch)
        factors = r"\,".join(f"J_{i}" for i in range(blocks, 0, -1) if path[i - 1]) or "I"
        pen.text(end + 0.36, y, f"${factors}$", side="left")
        y += step
    x = end + 0.46 + breadth("$" + r"\,".join(f"J_{i}" for i in range(blocks)) + "$")
    for length, first in start.items():
        count = math.comb(blocks, length)
        last = first + step * (count - 1)
        corners = (x, first - 0.09), (x + 0.08, first - 0.09), (x + 0.08, last + 0.09), (x, last + 0.09)
        pen.arrow(*corners, head=False, color=MUTED)
        through = "no block" if not length else f"{length} block" + "s" * (length > 1)
        words = f"{count} path{'s' * (count > 1)} through {through}"
        pen.text(x + 0.18, (first + last) / 2, words, side="left")
        said.append(words)
    factors = "".join(rf"(I + J_{i})" for i in range(blocks, 0, -1))
    pen.text(end + 0.36, 0.04, rf"$\partial\mathbf{{y}}/\partial\mathbf{{x}} = {factors}$", 11, "left")
    pen.text(end + 0.36, 0.29, "is the sum of", SMALL, "left", color=MUTED)
    arrange(figure, {"": pen})
    return Figure(figure, caption, f"{2**blocks} paths through {blocks} residual blocks in a row: {', '.join(said)}.")


def _draw_row(pen: Pen, blocks: int, pitch: float) -> None:
    """The blocks in a row, their shortcuts above them."""
    pen.text(-0.02, 0.06, X, 12, "right")
    x = 0.06
    for i in range(1, blocks + 1):
        place, join = (i - 0.02) * pitch - 0.2, (i + 0.28) * pitch - 0.1
        pen.shortcut((place - 0.38, 0.06), (place - 0.38, -0.3), (join, -0.3), (join, -0.04), name=f"shortcut {i}")
        pen.arrow((x, 0.06), (place - 0.22, 0.06))
        pen.box(place, -0.1, 0.44, 0.32, "", CONV, f"block {i}")
        pen.text(place, 0.06, rf"$\mathcal{{F}}_{i}$", 11)
        pen.arrow((place + 0.22, 0.06), (join - 0.1, 0.06))
        pen.plus(join, 0.06, 0.1)
        x = join + 0.1
    pen.arrow((x, 0.06), (x + 0.25, 0.06))
    pen.text(x + 0.32, 0.06, Y, 12, "left")


def _draw_route(pen: Pen, y: float, path: tuple[int, ...], pitch: float) -> None:
    """One path: through a block in the plain color, along a shortcut in the accent color."""
    x, name = 0.06, "".join(map(str, path))
    for i, inside in enumerate(path, 1):
        place, join = (i - 0.02) * pitch - 0.2, (i + 0.28) * pitch - 0.1
        if inside:
            pen.arrow((x, y), (join, y), head=False, color=PLAIN, width=1.6, label=f"{name} through {i}")
            pen.box(place, y - 0.095, 0.34, 0.19, "", CONV, f"{name} block {i}")
            pen.text(place, y, f"$J_{i}$", SMALL)
        else:
            pen.shortcut((x - 0.01 * (i > 1), y), (join, y), head=False, name=f"{name} past {i}")
        x = join
    pen.arrow((x - 0.01, y), (x + 0.33, y), color=PLAIN if path[-1] else ACCENT, width=1.6 if path[-1] else BOLD)


def nested(
    caption: str,
    classes: tuple[str, ...] = (r"$\mathcal{F}_1$", r"$\mathcal{F}_2$", r"$\mathcal{F}_3$"),
    target: str = "target",
    titles: tuple[str, str] = ("larger, not nested", "larger and nested"),
) -> Figure:
    """Classes of functions, each larger than the one before, and the best that each has: not nested, and nested.

    classes: their names, the smallest first. target: the name of the function that is looked for. Dots are the functions of
    each class that are closest to it.
    """
    figure, pens = sheet(2)
    goal, said, steps = (2.55, -0.95), [], max(1, len(classes) - 1)
    for pen, title, is_nested in zip(pens, titles, (False, True)):
        distances = []
        for i, name in enumerate(classes):
            size = 0.42 + 0.68 * i / steps
            # nested ones grow from one point towards the target; the others come near it and then move away
            far = i / steps
            apart = 0.45 + 2.45 * far - 0.9 * far**2, -0.75 + 1.1 * far + 0.6 * far**2
            center = (0.62 + 0.5 * size, 0.6 - 0.42 * size) if is_nested else apart
            distances.append(_draw_class(pen, center, size, name, goal, is_nested))
        pen.axis.plot(*goal, marker="*", markersize=15, color=ACCENT, markeredgecolor="white", zorder=6, clip_on=False)
        pen.text(goal[0] + 0.14, goal[1], target, 11, "left", color=ACCENT, weight="bold")
        order = ", ".join(f"{distance:.1f}" for distance in distances)
        said.append(f"{title}: from the smallest class to the largest, the distance to the target is {order}")
    arrange(figure, dict(zip(titles, pens)), None, gap=0.5)
    return Figure(figure, caption, ". ".join(said) + ".")


def _draw_class(
    pen: Pen, center: tuple[float, float], size: float, name: str, goal: tuple[float, float], is_nested: bool
) -> float:
    """An ellipse with its name, its closest point to the goal and the way that is left; returns how long that is."""
    tilt = math.radians(-TILT)
    points = []
    for k in range(720):
        a, b = size * math.cos(math.pi * k / 360), 0.66 * size * math.sin(math.pi * k / 360)
        across, down = a * math.cos(tilt) - b * math.sin(tilt), a * math.sin(tilt) + b * math.cos(tilt)
        points.append((center[0] + across, center[1] + down))
        pen.at(*points[-1])
    best = min(points, key=lambda point: math.dist(point, goal))
    shape = {"width": 2 * size, "height": 2 * 0.66 * size, "angle": -TILT, "clip_on": False}
    pen.axis.add_patch(Ellipse(center, **shape, facecolor=PLAIN, alpha=0.13, linewidth=0, zorder=1, label=name))
    pen.axis.add_patch(Ellipse(center, **shape, facecolor="none", edgecolor=PLAIN, linewidth=1.3, zorder=2))
    pen.arrow(best, goal, head=False, color=ACCENT, linestyle=DOTTED, width=1.2, label="way")
    pen.axis.plot(*best, "o", markersize=6, color=PLAIN, markeredgecolor="white", zorder=5, clip_on=False)
    if is_nested:
        x, y = min(points, key=lambda point: point[1])  # below its top edge no smaller class is near
        pen.text(x - 0.14, y + 0.15, name, 11)
    else:
        pen.text(points[360][0] + 0.1, points[360][1], name, 11, "left")
    return math.dist(best, goal)
