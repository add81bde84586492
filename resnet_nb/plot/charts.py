"""Charts: lines, bars, matrices and images (all notebooks)."""

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from resnet_nb.plot.figure import Figure, array, floats, look, picture_grid, show_image, subplots

Log = list[dict]  # as `train.fit` returns it
Series = dict[str, dict[float, float] | list[float]]


def curves(logs: dict[str, Log], what: dict[str, str], alt: str, ylabel: str = "error (%)", top: float | None = None) -> Figure:
    """Values over iterations: one panel per column of the logs, one line per run (Fig. 1).

    logs: name -> log lines as `train.fit` returns them. what: column of the log -> panel title. top: cut the y axis there; say
    so in the caption. The last value of every line is added to `alt`.
    """
    figure, axes = subplots(1, len(what), 4.6 * len(what), 3.6, sharey=True)
    for axis, (column, title) in zip(axes[0], what.items()):
        for i, (name, log) in enumerate(logs.items()):
            _over_iterations(axis, log, column, label=name, **_line_look(i, len(log)))
        axis.set(title=title, xlabel="iteration")
    axes[0, 0].set(ylabel=ylabel, ylim=(0, top))
    axes[0, 0].legend()
    last = [f"{name} {log[-1][column]:.1f}" for column in what for name, log in logs.items()]
    return Figure(figure, f"{alt} Last values, {' then '.join(what.values())}: {', '.join(last)}.")


def train_test(panels: dict[str, dict[str, Log]], alt: str, top: float | None = None) -> Figure:
    """Training error (dashed, hollow) and test error (bold) over iterations, as in Fig. 6: panel title -> name -> log.

    top: cut the y axis there; say so in the caption. The last errors of every run are added to `alt`.
    """
    figure, axes = subplots(1, len(panels), 4.6 * len(panels), 3.6, sharey=True)
    thin = {"linestyle": "--", "linewidth": 1, "markersize": 3.5, "markerfacecolor": "white"}
    last = []
    for axis, (title, logs) in zip(axes[0], panels.items()):
        for i, (name, log) in enumerate(logs.items()):
            bold = _line_look(i, len(log)) | {"linestyle": "-"}
            _over_iterations(axis, log, "test_error", label=name, **bold)
            _over_iterations(axis, log, "train_error", **bold | thin)
            last.append(f"{name} {log[-1]['train_error']:.1f} and {log[-1]['test_error']:.1f}")
        axis.set(title=title, xlabel="iteration")
        axis.legend()
    axes[0, 0].set(ylabel="error (%): dashed training, bold test", ylim=(0, top))
    return Figure(figure, f"{alt} Last training and test errors: {', '.join(last)}.")


def _line_look(i: int, points: int) -> dict:
    """The look of the i-th line; a long line carries about eight markers."""
    return look(i, "linestyle", "marker") | {"markersize": 5, "markevery": max(1, points // 8)}


def _over_iterations(axis: Axes, log: Log, column: str, **look) -> None:
    axis.plot([line["iteration"] for line in log], floats(line[column] for line in log), **look)
    if log[-1]["iteration"] >= 10_000:  # ticks of five digits need room
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter("{x:,.0f}")


def lines(
    series: Series, xlabel: str, ylabel: str, alt: str, log: bool = False, top: float | None = None, log_x: bool = False
) -> Figure:
    """Lines in one panel: name -> values at 1, 2, 3, ..., or name -> {x: y}.

    log: logarithmic y axis; the other one starts at 0. log_x: the same for the x axis of {x: y}, with a tick at each x.
    top: cut the y axis there; say so in the caption.
    """
    figure, axes = subplots(1, 1, 7, 3.6)
    axis = axes[0, 0]
    for i, (name, values) in enumerate(series.items()):
        points = values if isinstance(values, dict) else dict(enumerate(values, 1))
        axis.plot([*points], floats(points.values()), label=name, **_line_look(i, len(points)))
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    axis.set_ylim(bottom=None if log else 0, top=top)
    if log_x:
        ticks = sorted({x for values in series.values() for x in dict(values)})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    if len(series) > 1:  # beside the picture where lines cross all of it
        beside = log_x or len(series) > 4
        axis.legend(**({"loc": "center left", "bbox_to_anchor": (1, 0.5)} if beside else {}))
    return Figure(figure, alt)


def bars(values: dict[str, dict[str, float]], xlabel: str, alt: str, digits: int = 1) -> Figure:
    """Horizontal bars: `values` is label -> series -> value; every bar carries its number."""
    series = list(next(iter(values.values())))
    figure, axes = subplots(1, 1, 7, 0.6 + 0.32 * len(series) * len(values))
    axis = axes[0, 0]
    for drawn in grouped_bars(axis, values):
        axis.bar_label(drawn, fmt=f"{{:,.{digits}f}}", padding=3, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel(xlabel)
    axis.margins(x=0.12)
    if len(series) > 1:
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(series), frameon=False)
    parts = [f"{label} " + ", ".join(f"{name} {row[name]:,.{digits}f}" for name in series) for label, row in values.items()]
    return Figure(figure, f"{alt} Values: {'; '.join(parts)}.")


def grouped_bars(axis: Axes, values: dict[str, dict[str, float]], upright: bool = False) -> list:
    """Draw label -> series -> value as a group of bars for each label; returns the bars of each series."""
    series, draw = list(next(iter(values.values()))), axis.bar if upright else axis.barh
    rows, width, drawn = range(len(values)), 0.8 / len(series), []
    for i, name in enumerate(series):
        places, lengths = [row + i * width for row in rows], floats(row[name] for row in values.values())
        drawn.append(draw(places, lengths, width, label=name, **look(i, "hatch"), edgecolor="white"))
    ticks = [row + 0.4 - width / 2 for row in rows]
    if upright:
        axis.set_xticks(ticks, list(values), rotation=50, ha="right")
    else:
        axis.set_yticks(ticks, list(values))
    axis.grid(axis="x" if upright else "y", visible=False)
    return drawn


def grids(maps: dict[str, Tensor], alt: str, digits: int = 1) -> Figure:
    """Small matrices side by side, every number written into its cell: title -> (H, W)."""
    figure, axes = subplots(1, len(maps), 2.6 * len(maps), 2.7)
    maps = {title: array(values) for title, values in maps.items()}
    top = max(float(abs(values).max()) for values in maps.values())
    colors = {"cmap": "vlag", "vmin": -top, "vmax": top, "cbar": False}
    cells = {"square": True, "linewidths": 1, "xticklabels": False, "yticklabels": False}
    numbers = {"annot": True, "fmt": f".{digits}f", "annot_kws": {"size": 9}}
    for axis, (title, values) in zip(axes[0], maps.items()):
        sns.heatmap(values, ax=axis, **colors, **cells, **numbers)
        axis.set_title(title, fontsize=11)
    return Figure(figure, alt)


def images(rows: dict[str, Tensor], alt: str) -> Figure:
    """One row of images per label: `rows` is label -> uint8 tensor (N, 3, H, W)."""
    columns = max(len(row) for row in rows.values())
    inches = min(0.9 if max(row.shape[-1] for row in rows.values()) <= 32 else 1.5, 7.5 / columns)
    figure, axes = picture_grid(len(rows), columns, inches * columns, inches * len(rows))
    for (label, row), line in zip(rows.items(), axes):
        _label_row(line[0], label, -0.15)
        for axis, image in zip(line, row):
            show_image(axis, image)
    return Figure(figure, alt)


def heat_maps(images: Tensor, heat: dict[str, Tensor], outline: Tensor, alt: str) -> Figure:
    """A row of images, and below it a row of heat maps per label, each from dark (its lowest value) to light.

    images: uint8 (N, 3, H, W). heat: label -> (N, H, W). outline: bool (N, H, W), its edge is drawn in white on black over
    the heat maps.
    """
    count, (height, width) = len(images), images.shape[-2:]
    figure, axes = picture_grid(1 + len(heat), count, 0.95 * count, 0.95 * (1 + len(heat)))
    for line, label in zip(axes, ["image", *heat]):
        _label_row(line[0], label, -0.12)
    for axis, image in zip(axes[0], images):
        show_image(axis, image)
    for line, maps in zip(axes[1:], heat.values()):
        for axis, values, inside in zip(line, maps, outline):
            axis.imshow(array(values), cmap="cividis", interpolation="nearest")  # lightness grows with the value
            for color, thickness in (("black", 2.2), ("white", 1.0)):
                axis.contour(array(inside), levels=[0.5], colors=color, linewidths=thickness)
            axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return Figure(figure, alt)


def _label_row(axis: Axes, label: str, x: float) -> None:
    axis.text(x, 0.5, label, transform=axis.transAxes, ha="right", va="center", fontsize=10)
