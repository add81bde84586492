"""Charts of few numbers: dots with their seeds, slopes, scatter; and heights over a plane (all notebooks)."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from torch import Tensor

from resnet_nb.plot.figure import (
    ACCENT,
    COLORS,
    INK,
    QUIET,
    Figure,
    array,
    color,
    floats,
    label_ends,
    looks,
    named,
    number,
    subplots,
)

Value = float | list[float]  # of one run, or one per seed
Places = list[tuple[float, float]] | dict[str, tuple[float, float]]


def dots(
    values: dict[str, Value], xlabel: str, caption: str, paper: Mapping[str, float] | None = None, digits: int = 1
) -> Figure:
    """One row per label: a hollow dot for each seed, a filled one with its number for their mean.

    paper: label -> the number that the paper prints, a hollow diamond. The axis begins where the data are.
    """
    paper = paper or {}
    figure, axes = subplots(1, 1, 6.4, 0.7 + 0.42 * len(values))
    axis, said = axes[0, 0], []
    for row, (label, value) in enumerate(values.items()):
        seeds, own = _seeds(value), color(label) or COLORS[0]
        mean = sum(seeds) / len(seeds)
        if len(seeds) > 1:
            axis.plot(seeds, [row] * len(seeds), "o", markersize=6, markerfacecolor="none", color=own, alpha=0.8)
        axis.plot(mean, row, "o", markersize=9, color=own)
        axis.text(mean, row - 0.24, f"{mean:z.{digits}f}", ha="center", va="bottom", fontsize=9, color=own, weight="bold")
        said.append(f"{label} {mean:z.{digits}f}" + (f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""))
        if label in paper:
            axis.plot(paper[label], row, "D", markersize=7, markerfacecolor="none", color=INK)
            first = "the paper: " if label == next(iter(paper)) else ""
            axis.text(paper[label], row + 0.22, f"{first}{paper[label]:z.{digits}f}", ha="center", va="top", **QUIET)
            said[-1] += f", the paper {paper[label]:z.{digits}f}"
    axis.set_yticks(range(len(values)), list(values))
    axis.set(xlabel=xlabel, ylim=(len(values) - 0.4, -0.7))
    axis.margins(x=0.1)
    axis.grid(axis="y", visible=False)
    return Figure(figure, caption, f"Dots, {xlabel}: {'; '.join(said)}.")


def slopes(values: dict[str, dict[str, Value]], ylabel: str, caption: str, digits: int = 1) -> Figure:
    """From left to right: name -> {left label: value, right label: value}; lists are one value per seed."""
    sides = list(next(iter(values.values())))
    figure, axes = subplots(1, 1, 1.9 + 1.5 * len(sides), 3.7)
    axis, said = axes[0, 0], []
    for name, style in looks(values, "linestyle").items():
        seeds = [_seeds(values[name][side]) for side in sides]
        means = [sum(own) / len(own) for own in seeds]
        axis.plot(range(len(sides)), means, marker="o", markersize=8, linewidth=2.4, label=name, **style)
        for x, own in enumerate(seeds):
            if len(own) > 1:
                axis.plot([x] * len(own), own, "o", markersize=5, markerfacecolor="white", color=style["color"])
        said.append(f"{name} " + ", ".join(f"{side} {mean:z.{digits}f}" for side, mean in zip(sides, means)))
    axis.set_xticks(range(len(sides)), sides)
    axis.set(ylabel=ylabel, xlim=(-0.35, len(sides) - 0.75))
    axis.margins(y=0.15)
    axis.grid(axis="x", visible=False)
    _write_apart(axis, digits)
    label_ends(axis)
    return Figure(figure, caption, f"Slopes, {ylabel}: {'; '.join(said)}.")


def _write_apart(axis: Axes, digits: int) -> None:
    """The number at each point: above it where the line is the higher one there, else below."""
    for line in named(axis):
        for i, (x, y) in enumerate(zip(line.get_xdata(), line.get_ydata())):
            others = [other.get_ydata()[i] for other in named(axis) if other is not line]
            up = not others or y >= max(others) or (y > min(others) and i % 2 == 0)
            axis.annotate(
                f"{y:z.{digits}f}",
                (x, y),
                xytext=(0, 8 if up else -8),
                textcoords="offset points",
                ha="center",
                va="bottom" if up else "top",
                fontsize=9,
                color=line.get_color(),
            )


def scatter(points: dict[str, Places], xlabel: str, ylabel: str, caption: str) -> Figure:
    """Two quantities: name -> places (x, y), or name -> {label: (x, y)} with the label beside each place."""
    figure, axes = subplots(1, 1, 6.4, 3.9)
    axis, said = axes[0, 0], []
    for name, own in looks(points, "marker").items():
        places = points[name]
        labels = list(places) if isinstance(places, dict) else [""] * len(places)
        xs, ys = zip(*(places.values() if isinstance(places, dict) else places))
        axis.plot(floats(xs), floats(ys), linestyle="none", markersize=7, label=name, **own)
        for label, x, y in zip(labels, xs, ys):
            axis.annotate(label, (x, y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9, color=own["color"])
        said.append(f"{name}: " + ", ".join(f"{label} ({number(x)}, {number(y)})" for label, x, y in zip(labels, xs, ys)))
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.margins(0.12)
    if len(points) > 1:
        axis.legend(loc="best", frameon=False)
    return Figure(figure, caption, f"Scatter of {ylabel} over {xlabel}. {'; '.join(said)}.")


def contours(
    panels: dict[str, Tensor],
    x: Iterable[float],
    y: Iterable[float],
    xlabel: str,
    ylabel: str,
    caption: str,
    paths: Mapping[str, list[list[tuple[float, float]]]] | None = None,
    log: bool = False,
) -> Figure:
    """The loss over a plane, dark is low: title -> values (len(y), len(x)), all on one scale.

    paths: title -> ways (x, y), ..., drawn from their hollow start to their filled end. log: levels in equal ratios.
    """
    x, y, heights = floats(x), floats(y), {title: array(values) for title, values in panels.items()}
    low, high = min(float(v.min()) for v in heights.values()), max(float(v.max()) for v in heights.values())
    norm = LogNorm(max(low, high * 1e-6), high) if log else Normalize(low, high)
    levels = np.geomspace(norm.vmin, high, 13) if log else np.linspace(low, high, 13)
    figure, axes = subplots(1, len(panels), 3.6 * len(panels) + 0.3, 3.6, sharex=True, sharey=True)
    figure.subplots_adjust(wspace=0.16)
    said = []
    for axis, (title, values) in zip(axes[0], heights.items()):
        shown = np.clip(values, norm.vmin, None)
        filled = axis.contourf(x, y, shown, levels=levels, cmap="cividis", norm=norm)
        axis.contour(x, y, shown, levels=levels, colors="white", linewidths=0.5, alpha=0.7)
        for way in (paths or {}).get(title, []):
            axis.plot(*zip(*way), color="white", linewidth=3)
            axis.plot(*zip(*way), color=ACCENT, linewidth=1.6)
            axis.plot(*way[0], "o", color=ACCENT, markerfacecolor="white", markersize=6)
            axis.plot(*way[-1], "o", color=ACCENT, markeredgecolor="white", markersize=7)
        axis.set(title=title, xlabel=xlabel)
        axis.grid(visible=False)
        row, column = np.unravel_index(values.argmin(), values.shape)
        place = f"({number(x[column])}, {number(y[row])})"
        said.append(f"{title}: lowest {number(values.min())} at {place}, highest {number(values.max())}.")
    axes[0, 0].set_ylabel(ylabel)
    bar = figure.colorbar(filled, ax=list(axes[0]), pad=0.02, label="loss", format=lambda value, _: number(value))
    bar.outline.set_visible(False)
    return Figure(figure, caption, f"Contours of the loss over {xlabel} and {ylabel}. {' '.join(said)}")


def _seeds(value: Value) -> list[float]:
    return floats(value) if isinstance(value, (list, tuple)) else floats([value])
