"""Drawings of what flows where: Runge-Kutta blocks, the paths of an unrolled net, nested functions (notebooks 02, 12)."""

import math
from itertools import product

from matplotlib.patches import Ellipse

from resnet_nb.models.butcher import Tableau
from resnet_nb.plot.figure import ACCENT, INK, PLAIN, Figure
from resnet_nb.plot.pen import BOLD, CONV, DOTTED, MUTED, SIZE, SMALL, THIN, Pen, arrange, breadth, sheet

X, Y = r"$\mathbf{x}$", r"$\mathbf{y}$"


def wirings(methods: dict[str, Tableau], caption: str) -> Figure:
    """How the stages of Runge-Kutta blocks are connected: title -> method."""
    longest = max(method.stages for method in methods.values())
    figure, pens = sheet(len(methods))
    pitch = min(0.95, 7.6 / (longest + 1))
    said = [f"{title}: {draw_wiring(pen, method, pitch)}." for pen, (title, method) in zip(pens, methods.items())]
    arrange(figure, dict(zip(methods, pens)), None, gap=0.35)
    return Figure(figure, caption, " ".join(said))


def draw_wiring(pen: Pen, method: Tableau, pitch: float = 0.95) -> str:
    """The stages of one step in a row: x above enters every stage, the k_j enter later stages (a_ij) and the result (b_j).

    Coefficients are written at the arrows up to 4 stages; beyond, dotted arrows are negative coefficients. Returns the
    coefficients in words.
    """
    s, labels = method.stages, method.stages <= 4
    side = min(0.4, 0.72 * pitch)
    end, rail = (s + 1) * pitch, -0.62
    pen.text(0.38 * pitch - 0.08, rail, X, 12, "right")
    pen.arrow((0.38 * pitch, rail), (end, rail), (end, -0.105), width=BOLD, color=ACCENT, label="x")
    for i in range(1, s + 1):
        pen.arrow((i * pitch, rail), (i * pitch, -side / 2), color=ACCENT, width=1.4, label="x")
        pen.box(i * pitch, -side / 2, side, side, "", CONV, f"F{i}")
        pen.text(i * pitch, 0, rf"$\mathcal{{F}}_{{{i}}}$", 11 if labels else SMALL)
    pen.plus(end, 0)
    pen.arrow((end + 0.105, 0), (end + 0.4, 0))
    pen.text(end + 0.47, 0, Y, 12, "left")
    said = []
    for i, row in enumerate((*method.a, method.b), 1):
        for j, value in enumerate(row, 1):
            if value:
                _wire(pen, j, i, s, value, labels, pitch, side)
                said.append(f"{j}→{'y' if i > s else i}" + (f" {value}" if labels else ""))
    negative = sum(bool(value < 0) for row in (*method.a, method.b) for value in row)
    if not labels:
        pen.text(pitch, pen.reach[3], "dark: into the result; dotted: negative", SMALL, "left", color=MUTED)
        inner = len(said) - sum(bool(value) for value in method.b)
        said = [f"{s} stages, {inner} arrows between them, {len(said) - inner} into the result, {negative} negative"]
    return ", ".join(said)


def _wire(pen: Pen, start: int, end: int, stages: int, value, labels: bool, pitch: float, side: float) -> None:
    """An arc below the row, deeper the further it goes, darker into the result."""
    result = end > stages
    bend = 0.62 if end - start == 1 else 0.46
    spread = 0.28 * side
    foot = 0.13 if result else side / 2 + 0.01
    points = (start * pitch + spread, side / 2 + 0.01), (end * pitch - (0 if result else spread), foot)
    thin = THIN if labels else 0.7
    look = {"width": thin + 0.5 if result else thin, "color": INK if result else PLAIN, "tip": 0.085}
    pen.arrow(*points, bend=bend, linestyle="-" if value > 0 else DOTTED, label=f"{start} to {end}", **look)
    if labels:
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        middle = [sum(coordinates) / 2 for coordinates in zip(*points)]
        across = points[1][0] - points[0][0]
        pen.text(middle[0] - bend * (points[1][1] - points[0][1]) / 2, middle[1] + bend * across / 2, f"{value}", bbox=ground)


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
        start.setdefault(sum(path), y)
        _draw_route(pen, y, path, pitch)
        factors = "".join(rf"J_{i}" for i in range(blocks, 0, -1) if path[i - 1]) or "I"
        pen.text(end + 0.22, y, f"${factors}$", side="left")
        y += step
        if sum(path) < blocks and math.comb(blocks, sum(path)) == paths_so_far(paths, path):
            y += 0.12
    x = end + 0.3 + breadth("$" + "".join(f"J_{i}" for i in range(blocks)) + "$")
    for length, first in start.items():
        count = math.comb(blocks, length)
        last = first + step * (count - 1)
        corners = (x, first - 0.09), (x + 0.08, first - 0.09), (x + 0.08, last + 0.09), (x, last + 0.09)
        pen.arrow(*corners, head=False, color=MUTED)
        through = "no block" if not length else f"{length} block" + "s" * (length > 1)
        words = f"{count} path{'s' * (count > 1)} through {through}"
        pen.text(x + 0.18, (first + last) / 2, words, side="left")
        said.append(words)
    product_words = "".join(rf"(I + J_{i})" for i in range(blocks, 0, -1))
    pen.text(x + 0.18, 0.06, f"${product_words} =$", 11, "right")
    pen.text(x + 0.24, 0.06, "the sum of", SIZE, "left")
    arrange(figure, {"": pen})
    return Figure(figure, caption, f"{blocks} residual blocks in a row are {2**blocks} paths: {', '.join(said)}.")


def paths_so_far(paths: list[tuple[int, ...]], path: tuple[int, ...]) -> int:
    """How many paths as long as this one there are up to it."""
    return sum(sum(other) == sum(path) for other in paths[: paths.index(path) + 1])


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
            pen.shortcut((x, y), (join, y), head=False, name=f"{name} past {i}")
        x = join
    pen.arrow((x, y), (x + 0.33, y), color=PLAIN if path[-1] else ACCENT, width=1.6)


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
    goal, said = (2.85, -1.55), []
    count = len(classes)
    for pen, title, is_nested in zip(pens, titles, (False, True)):
        distances = []
        for i in range(count):
            size = 0.42 + 0.75 * i / max(1, count - 1)
            # nested ones share their lower left; the others drift away to the right and downwards
            drift = i / max(1, count - 1)
            center = (size * 1.0 + 0.02, -0.6 * size) if is_nested else (0.75 + 0.75 * drift, -1.1 + 1.2 * drift)
            distances.append(_draw_class(pen, center, (size, 0.62 * size), 14, classes[i], goal, i))
        pen.axis.plot(*goal, marker="*", markersize=15, color=ACCENT, markeredgecolor="white", zorder=6, clip_on=False)
        pen.text(goal[0] + 0.14, goal[1], target, 11, "left", color=ACCENT, weight="bold")
        order = ", ".join(f"{distance:.1f}" for distance in distances)
        said.append(f"{title}: the distances to the target are {order}")
    arrange(figure, dict(zip(titles, pens)), None, gap=0.5)
    return Figure(figure, caption, ". ".join(said) + ".")


def _draw_class(
    pen: Pen, center: tuple[float, float], radii: tuple[float, float], tilt: float, name: str, goal: tuple[float, float], i: int
) -> float:
    """An ellipse, its closest point to the goal and the way that is left; returns how long that is."""
    angle = math.radians(-tilt)
    points = []
    for k in range(720):
        a, b = radii[0] * math.cos(math.pi * k / 360), radii[1] * math.sin(math.pi * k / 360)
        x = center[0] + a * math.cos(angle) - b * math.sin(angle)
        points.append((x, center[1] + a * math.sin(angle) + b * math.cos(angle)))
    best = min(points, key=lambda point: math.dist(point, goal))
    look = {"facecolor": PLAIN, "alpha": 0.13, "linewidth": 0, "zorder": 1 + 0.1 * i, "label": name, "clip_on": False}
    pen.axis.add_patch(Ellipse(center, 2 * radii[0], 2 * radii[1], angle=-tilt, **look))
    edge = {"facecolor": "none", "edgecolor": PLAIN, "linewidth": 1.3, "zorder": 2, "clip_on": False}
    pen.axis.add_patch(Ellipse(center, 2 * radii[0], 2 * radii[1], angle=-tilt, **edge))
    for point in points:
        pen.at(*point)
    pen.arrow(best, goal, head=False, color=ACCENT, linestyle=DOTTED, width=1.2, label=f"way {i}")
    pen.axis.plot(*best, "o", markersize=6, color=PLAIN, markeredgecolor="white", zorder=5, clip_on=False)
    lowest = min(points, key=lambda point: point[0])
    pen.text(lowest[0] + 0.2, lowest[1], name, 11)
    return math.dist(best, goal)
