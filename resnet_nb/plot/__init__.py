"""Figures of the walkthrough: one look, readable in greyscale, each with a sentence that says what it shows."""

import base64
import io

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image
from torch import Tensor, nn

from resnet_nb.models.butcher import Tableau
from resnet_nb.models.preact import Unit
from resnet_nb.plot.diagrams import draw_block, draw_networks
from resnet_nb.plot.maps import draw_maps
from resnet_nb.plot.units import draw_unit, draw_wiring

__all__ = [
    "Figure",
    "bars",
    "blocks",
    "curves",
    "grids",
    "heat_maps",
    "images",
    "lines",
    "networks",
    "style",
    "train_test",
    "units",
    "wirings",
]

COLORS = sns.color_palette("colorblind")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "//", "..", "xx")


class Figure:
    """A picture and its description, shown by Jupyter.

    The description is the alternative text of the PNG and its plain-text form; it carries the
    figure's key numbers, so that a test which compares the text also checks the figure.
    """

    def __init__(self, figure: MatplotlibFigure, alt: str):
        self.alt, self.png = alt, _png(figure)
        plt.close(figure)

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        return bundle, {"image/png": {"alt": self.alt}}


def _png(figure: MatplotlibFigure) -> bytes:
    """PNG bytes in 256 colors, without matplotlib's version, so that they are small and do not change."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png", bbox_inches="tight", metadata={"Software": None})
    Image.open(raw).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    return small.getvalue()


def style() -> None:
    """Set the look of the series for every figure drawn after this."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.dpi": 90, "savefig.dpi": 90, "axes.titlesize": 12, "figure.figsize": (7, 4)})


def curves(logs: dict[str, list[dict]], what: dict[str, str], alt: str, ylabel: str = "error (%)") -> Figure:
    """Values over iterations: one panel per column of the logs, one line per run (Fig. 1).

    logs: name -> log lines as `train.fit` returns them. what: column of the log -> panel title.
    The last value of every line is added to `alt`.
    """
    figure, axes = _panels(len(what))
    for axis, (column, title) in zip(axes, what.items()):
        for i, (name, log) in enumerate(logs.items()):
            axis.plot(_column(log, "iteration"), _column(log, column), label=name, **_look(i, len(log)))
        axis.set(title=title, xlabel="iteration")
    axes[0].set(ylabel=ylabel, ylim=(0, None))
    axes[0].legend()
    last = [f"{name} {log[-1][column]:.1f}" for column in what for name, log in logs.items()]
    return Figure(figure, f"{alt} Last values, {' then '.join(what.values())}: {', '.join(last)}.")


def train_test(panels: dict[str, dict[str, list[dict]]], alt: str) -> Figure:
    """Training error (dashed, hollow) and test error (bold) over iterations, as in Fig. 6: panel title -> name -> log.

    The last errors of every run are added to `alt`.
    """
    figure, axes = _panels(len(panels))
    for axis, (title, logs) in zip(axes, panels.items()):
        for i, (name, log) in enumerate(logs.items()):
            look = _look(i, len(log)) | {"linestyle": "-"}
            axis.plot(_column(log, "iteration"), _column(log, "test_error"), label=name, **look)
            look |= {"linestyle": "--", "linewidth": 1, "markersize": 3.5, "markerfacecolor": "white"}
            axis.plot(_column(log, "iteration"), _column(log, "train_error"), **look)
        axis.set(title=title, xlabel="iteration")
        axis.legend()
    axes[0].set(ylabel="error (%): dashed training, bold test", ylim=(0, None))
    last = [
        f"{name} {log[-1]['train_error']:.1f} and {log[-1]['test_error']:.1f}"
        for logs in panels.values()
        for name, log in logs.items()
    ]
    return Figure(figure, f"{alt} Last training and test errors: {', '.join(last)}.")


def lines(
    series: dict[str, dict[float, float] | list[float]],
    xlabel: str,
    ylabel: str,
    alt: str,
    log: bool = False,
    top: float | None = None,
    log_x: bool = False,
) -> Figure:
    """Lines in one panel: name -> values at 1, 2, 3, ..., or name -> {x: y}.

    log: logarithmic y axis; the other one starts at 0. log_x: the same for the x axis of {x: y}, with a
    tick at each x. top: cut the y axis there; say so in the caption.
    """
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for i, (name, values) in enumerate(series.items()):
        points = values if isinstance(values, dict) else dict(enumerate(values, 1))
        axis.plot(points.keys(), points.values(), label=name, **_look(i, len(points)))
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    axis.set_ylim(bottom=None if log else 0, top=top)
    if log_x:
        ticks = sorted({x for values in series.values() for x in dict(values)})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    if len(series) > 1:  # beside the picture where lines cross all of it
        axis.legend(**({"loc": "center left", "bbox_to_anchor": (1, 0.5)} if log_x else {}))
    return Figure(figure, alt)


def _panels(count: int) -> tuple[MatplotlibFigure, list]:
    figure, axes = plt.subplots(1, count, figsize=(4.6 * count, 3.6), sharey=True, squeeze=False)
    return figure, list(axes[0])


def _look(i: int, points: int) -> dict:
    """Color, dashes and marker of the i-th line; a long line carries about eight markers."""
    return {
        "color": COLORS[i],
        "linestyle": DASHES[i % len(DASHES)],
        "marker": "os^Dv"[i % 5],
        "markersize": 5,
        "markevery": max(1, points // 8),
    }


def _column(log: list[dict], name: str) -> list:
    return [line[name] for line in log]


def bars(values: dict[str, dict[str, float]], xlabel: str, alt: str, digits: int = 1) -> Figure:
    """Horizontal bars: `values` is label -> series -> value; every bar carries its number."""
    series = list(next(iter(values.values())))
    height = 0.8 / len(series)
    figure, axis = plt.subplots(figsize=(7, 0.6 + 0.32 * len(series) * len(values)))
    for i, name in enumerate(series):
        places = [row + i * height for row in range(len(values))]
        drawn = axis.barh(
            places,
            [row[name] for row in values.values()],
            height,
            label=name,
            color=COLORS[i],
            hatch=HATCHES[i % len(HATCHES)],
            edgecolor="white",
        )
        axis.bar_label(drawn, fmt=f"{{:,.{digits}f}}", padding=3, fontsize=9)
    axis.set_yticks([row + 0.4 - height / 2 for row in range(len(values))], list(values))
    axis.invert_yaxis()
    axis.set_xlabel(xlabel)
    axis.margins(x=0.12)
    axis.grid(axis="y", visible=False)
    if len(series) > 1:
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(series), frameon=False)
    parts = [f"{label} " + ", ".join(f"{name} {row[name]:,.{digits}f}" for name in series) for label, row in values.items()]
    return Figure(figure, f"{alt} Values: {'; '.join(parts)}.")


def images(rows: dict[str, Tensor], alt: str) -> Figure:
    """One row of images per label: `rows` is label -> uint8 tensor (N, 3, H, W)."""
    columns = max(len(row) for row in rows.values())
    inches = min(0.9 if max(row.shape[-1] for row in rows.values()) <= 32 else 1.5, 7.5 / columns)
    figure, axes = plt.subplots(len(rows), columns, figsize=(inches * columns, inches * len(rows)), squeeze=False)
    for (label, row), line in zip(rows.items(), axes):
        line[0].text(-0.15, 0.5, label, transform=line[0].transAxes, ha="right", va="center", fontsize=10)
        for axis in line:
            axis.axis("off")
        for axis, image in zip(line, row):
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return Figure(figure, alt)


def grids(maps: dict[str, Tensor], alt: str, digits: int = 1) -> Figure:
    """Small matrices side by side, every number written into its cell: title -> (H, W)."""
    figure, axes = plt.subplots(1, len(maps), figsize=(2.6 * len(maps), 2.7), squeeze=False)
    top = max(float(values.abs().max()) for values in maps.values())
    for axis, (title, values) in zip(axes[0], maps.items()):
        sns.heatmap(
            values.detach().numpy(),
            ax=axis,
            annot=True,
            fmt=f".{digits}f",
            cmap="vlag",
            vmin=-top,
            vmax=top,
            cbar=False,
            square=True,
            linewidths=1,
            xticklabels=False,
            yticklabels=False,
            annot_kws={"size": 9},
        )
        axis.set_title(title, fontsize=11)
    return Figure(figure, alt)


def heat_maps(images: Tensor, heat: dict[str, Tensor], outline: Tensor, alt: str) -> Figure:
    """Images above what a network looks at in them; see `draw_maps` of `plot.maps` for the shapes."""
    return Figure(draw_maps(images, heat, outline), alt)


def blocks(modules: dict[str, nn.Module], alt: str) -> Figure:
    """Diagrams of residual blocks side by side (Fig. 2 and Fig. 5): title -> block module."""
    figure, axes = plt.subplots(1, len(modules), figsize=(3.6 * len(modules), 3.8), squeeze=False)
    for axis, (title, block) in zip(axes[0], modules.items()):
        draw_block(axis, block)
        axis.set_title(title)
    return Figure(figure, alt)


def networks(models: dict[str, nn.Module], alt: str, input_size: int = 224) -> Figure:
    """Networks side by side, one box per weighted layer, map sizes aligned (Fig. 3): title -> network.

    Arcs are shortcuts, dotted where they change the shape. input_size is the image's side in pixels.
    """
    figure, axis = plt.subplots(figsize=(3.0 * len(models), 11))
    draw_networks(axis, models, input_size)
    return Figure(figure, alt)


def units(modules: dict[str, Unit], alt: str) -> Figure:
    """Units of 1603.05027 side by side, layer by layer (its Fig. 2 and Fig. 4): title -> unit."""
    figure, axes = plt.subplots(1, len(modules), figsize=(2.1 * len(modules), 4.2), squeeze=False)
    for axis, (title, unit) in zip(axes[0], modules.items()):
        draw_unit(axis, unit)
        axis.set_title(title, fontsize=11)
    return Figure(figure, alt)


def wirings(methods: dict[str, Tableau], alt: str) -> Figure:
    """How the stages of Runge-Kutta blocks are connected, one below the other: title -> method."""
    heights = [2 + 0.2 * method.stages for method in methods.values()]
    width = max(method.stages for method in methods.values()) + 2.4
    scale = min(1.1, 9 / width)  # inches for the distance of two stages
    figure, axes = plt.subplots(
        len(methods),
        1,
        figsize=(scale * width, scale * (sum(heights) + 0.4 * len(methods))),
        height_ratios=heights,
        squeeze=False,
    )
    for axis, (title, method) in zip(axes[:, 0], methods.items()):
        draw_wiring(axis, method)
        axis.set_xlim(right=width - 0.6)
        axis.set_title(title, fontsize=11, loc="left")
    return Figure(figure, alt)
