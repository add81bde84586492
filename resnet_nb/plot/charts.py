"""Charts of lines and bars (all notebooks)."""

import statistics
from collections.abc import Callable, Iterable, Mapping

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from resnet_nb.plot.figure import (
    COLORS,
    INK,
    Figure,
    color,
    floats,
    horizontal_mark,
    label_ends,
    looks,
    mixed,
    named,
    number,
    spoken,
    subplots,
    vertical_marks,
)

Log = list[dict]  # as `train.fit` returns it
Line = dict[float, float] | list[float]
PANEL = 4.3, 3.5  # inches of one of several panels


def curves(
    logs: dict[str, Log | list[Log]],
    what: dict[str, str],
    caption: str,
    ylabel: str = "error (%)",
    top: float | None = None,
    chance: float | None = None,
    gap: str = "",
) -> Figure:
    """Values over iterations: one panel per column of the logs, one line per run (Fig. 1).

    logs: name -> log lines as `train.fit` returns them, or one such log per seed, drawn thin with their mean. what: column
    of the log -> panel title. top: cut the y axis there. chance: the error of guessing. Cuts of the rate are marked.
    gap: a unit such as "points": the difference of two lines at their ends is drawn with its size.
    """
    logs = spoken(logs)
    figure, axes = _panels(len(what), logs)
    said = []
    for axis, (column, title) in zip(axes, what.items()):
        columns = {name: [{r["iteration"]: r[column] for r in log} for log in _each(own)] for name, own in logs.items()}
        axis.set(title=title, xlabel="iteration")
        said.append(f"{title}: {_draw(axis, columns)}")
        _finish(axis, chance, _rate_cuts(next(iter(logs.values()))), {}, top)
    axes[0].set_ylabel(ylabel)
    for axis in axes:
        if len(logs) > 1:
            label_ends(axis)
        if gap:
            said.append(_mark_gap(axis, gap))
    return Figure(figure, caption, f"Line chart, {ylabel} over iterations. {' '.join(said)}")


def train_test(panels: dict[str, dict[str, Log | list[Log]]], caption: str, top: float | None = None) -> Figure:
    """Training error (thin) and test error (bold) over iterations, as in Fig. 6: panel title -> name -> log.

    A list of logs is one per seed: each is drawn lightly, with their mean. top: cut the y axis there.
    """
    panels = {title: spoken(logs) for title, logs in panels.items()}
    figure, axes = _panels(len(panels), [name for logs in panels.values() for name in logs])
    said = []
    for axis, (title, logs) in zip(axes, panels.items()):
        for name, own in looks(logs, "linestyle").items():
            seeds, ends = _each(logs[name]), {}
            for column, width in (("test_error", 2.2), ("train_error", 0.9)):
                runs = [_points({line["iteration"]: line[column] for line in log}) for log in seeds]
                label = {"label": name} if column == "test_error" else {}
                mean = _draw_runs(axis, runs, statistics.fmean, own, **label, linewidth=width)
                ends[column] = [*mean.values()][-1]
            mean = f" (means of {len(seeds)} seeds)" if len(seeds) > 1 else ""
            said.append(f"{title}, {name}: training {ends['train_error']:.1f}, test {ends['test_error']:.1f}{mean}.")
        axis.set(title=title, xlabel="iteration")
        _finish(axis, None, _rate_cuts(next(iter(logs.values()))), {}, top)
    axes[0].set_ylabel("error (%): thin training, bold test")
    for axis, logs in zip(axes, panels.values()):
        if len(logs) > 1:
            label_ends(axis)
    return Figure(figure, caption, f"Line charts of training and test error over iterations. At the end: {' '.join(said)}")


def lines(
    series: dict[str, Line | list[Line]],
    xlabel: str,
    ylabel: str,
    caption: str,
    log: bool = False,
    top: float | None = None,
    log_x: bool = False,
    chance: float | None = None,
    drops: Iterable[float] = (),
    borders: Mapping[float, str] | None = None,
) -> Figure:
    """Lines in one panel, each with its name at its end: name -> values at 1, 2, 3, ..., or name -> {x: y}.

    A list of several such lines is one per seed: drawn thin, with their mean. log: logarithmic y axis, geometric means.
    log_x: logarithmic x axis of {x: y}, with a tick at each x. top: cut the y axis there. chance: the level of guessing.
    drops: where the learning rate is cut. borders: x -> words at a vertical line.
    """
    figure, axes = subplots(1, 1, 6.4, 3.7)
    axis = axes[0, 0]
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    said = _draw(axis, spoken(series))
    if log_x:
        ticks = sorted({x for line in axis.lines for x in line.get_xdata()})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axis.minorticks_off()
    _finish(axis, chance, drops, borders or {}, top)
    if len(series) > 1:
        label_ends(axis)
    return Figure(figure, caption, f"Line chart, {ylabel} over {xlabel}. {said}")


def panels(
    series: dict[str, dict[str, Line | list[Line]]],
    xlabel: str,
    ylabel: str,
    caption: str,
    log: bool = False,
    borders: Mapping[float, str] | None = None,
) -> Figure:
    """Lines as in `lines`, in panels side by side with one y axis: panel title -> name -> line, or one line per seed."""
    figure, axes = _panels(len(series), [name for own in series.values() for name in own])
    said = []
    for axis, (title, own) in zip(axes, series.items()):
        axis.set(title=title, xlabel=xlabel, yscale="log" if log else "linear")
        said.append(f"{title}: {_draw(axis, spoken(own))}")
        _finish(axis, None, (), borders or {}, None)
    axes[0].set_ylabel(ylabel)
    for axis in axes:  # the limits of all are final now
        label_ends(axis)
    return Figure(figure, caption, f"Line charts, {ylabel} over {xlabel}. {' '.join(said)}")


def _panels(count: int, names: Iterable[str]) -> tuple:
    """Panels in a row, with room beside each for the names of its lines."""
    room, panel = 0.3 + 0.085 * max(map(len, names)), PANEL[0] if count <= 2 else 0.7 * PANEL[0]
    figure, axes = subplots(1, count, count * panel + (count - 1) * room, PANEL[1], sharey=True)
    figure.subplots_adjust(wspace=(room + 0.25) / panel)
    return figure, axes[0]


def _mark_gap(axis: Axes, unit: str) -> str:
    """A bar between the ends of two lines, beside the panel, with its length; returns that in words."""
    low, high = sorted(line.get_ydata()[-1] for line in named(axis))
    words = f"{high - low:.1f} {unit}"
    beside = {"transform": axis.get_yaxis_transform(), "clip_on": False}
    axis.plot([1.012, 1.012], [low, high], color=INK, linewidth=3.5, solid_capstyle="butt", **beside)
    axis.text(1.04, (low + high) / 2, words, va="center", fontsize=10, weight="bold", color=INK, **beside)
    return f"{axis.get_title()}: {words} apart."


def _each(own) -> list:
    """The runs of one name: one, or one per seed."""
    several = isinstance(own, list) and isinstance(own[0], (list, dict)) and "iteration" not in own[0]  # a log has that
    return own if several else [own]


def _points(line: Line) -> dict[float, float]:
    points = line if isinstance(line, dict) else dict(enumerate(line, 1))
    return dict(zip(points, floats(points.values())))


def _draw(axis: Axes, series: dict[str, Line | list[Line]]) -> str:
    """Draws the lines, seeds thin under their mean, geometric on a logarithmic axis; returns what they show in words."""
    said, average = [], statistics.geometric_mean if axis.get_yscale() == "log" else statistics.fmean
    for name, style in looks(series, "linestyle").items():
        own = [_points(line) for line in _each(series[name])]
        marker = {"marker": "o", "markersize": 4} if len(own[0]) <= 12 else {}
        mean = _draw_runs(axis, own, average, style, label=name, linewidth=2.2, **marker)
        first, *_, last = [*mean.values()] * 2
        seeds = f", the mean of {len(own)} seeds" if len(own) > 1 else ""
        ends = [line[[*line][-1]] for line in own]
        spread = f" (single seeds {number(min(ends))} to {number(max(ends))})" if len(own) > 1 else ""
        said.append(f"{name}{seeds}: from {number(first)} at {[*mean][0]:,g} to {number(last)} at {[*mean][-1]:,g}{spread}.")
    return " ".join(said)


def _draw_runs(axis: Axes, runs: list[Line], average: Callable, style: dict, **look) -> dict[float, float]:
    """Draws the mean of the runs of one name, over them if there are several, which are thin; returns it."""
    mean = {x: average(run[x] for run in runs) if len(runs) > 1 else runs[0][x] for x in runs[0]}
    for run in runs if len(runs) > 1 else ():
        axis.plot([*run], [*run.values()], color=mixed(style["color"], 0.35), linewidth=0.6, alpha=0.8)
    axis.plot([*mean], [*mean.values()], **style, **look)
    return mean


def _finish(axis: Axes, chance, drops: Iterable[float], borders: Mapping[float, str], top: float | None) -> None:
    if top is not None:
        axis.set_ylim(top=top)
    lowest = min(y for line in axis.lines for y in line.get_ydata())
    if axis.get_yscale() == "linear" and 0 <= lowest < 0.3 * axis.get_ylim()[1]:
        axis.set_ylim(bottom=0)  # so near to zero that zero belongs into the picture
    _set_x_range(axis)
    if chance is not None:
        horizontal_mark(axis, chance, "chance")
    vertical_marks(axis, dict.fromkeys(drops, "rate ÷ 10"))
    vertical_marks(axis, borders, low=True)
    if axis.get_yscale() == "log" and 1e-3 < axis.get_ylim()[0] and axis.get_ylim()[1] < 1e5:
        axis.yaxis.set_major_formatter("{x:,g}")  # 0.1, 1, 10 are easier to read than powers
    if axis.get_xscale() == "linear" and axis.get_xlim()[1] >= 10_000:  # ticks of five digits need room
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter("{x:,.0f}")


def _set_x_range(axis: Axes) -> None:
    """The panel begins and ends with its lines; x that falls is drawn from left to right, too."""
    axis.margins(x=0.02)  # of the axis, linear or logarithmic
    first = axis.lines[0].get_xdata()
    axis.set_xlim(*sorted(axis.get_xlim(), reverse=bool(first[0] > first[-1])))


def _rate_cuts(log: Log | list[Log]) -> list[int]:
    """The iterations at which a log's learning rate falls to a tenth."""
    lines = _each(log)[0]
    pairs = zip(lines, lines[1:])
    return [a["iteration"] for a, b in pairs if "lr" in a and 0 < b["lr"] < 0.2 * a["lr"]]


def bars(values: dict[str, dict[str, float]], xlabel: str, caption: str, digits: int = 1) -> Figure:
    """Horizontal bars: `values` is label -> series -> value; every bar carries its number."""
    values = {label: spoken(row) for label, row in spoken(values).items()}
    series = list(next(iter(values.values())))
    figure, axes = subplots(1, 1, 6.4, 0.6 + 0.32 * len(series) * len(values))
    axis = axes[0, 0]
    for drawn in grouped_bars(axis, values):
        axis.bar_label(drawn, fmt=f"{{:,.{digits}f}}", padding=3, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel(xlabel)
    axis.margins(x=0.12)
    if len(series) > 1:
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(series), frameon=False)
    parts = [f"{label} " + ", ".join(f"{name} {row[name]:,.{digits}f}" for name in series) for label, row in values.items()]
    return Figure(figure, caption, f"Bars, {xlabel}: {'; '.join(parts)}.")


def grouped_bars(axis: Axes, values: dict[str, dict[str, float]], upright: bool = False) -> list:
    """Draw label -> series -> value as a group of bars for each label; returns the bars of each series."""
    series, draw = list(next(iter(values.values()))), axis.bar if upright else axis.barh
    styles = looks(series, "hatch")
    rows, width, drawn = range(len(values)), 0.8 / len(series), []
    for i, name in enumerate(series):
        places, lengths = [row + i * width for row in rows], floats(row[name] for row in values.values())
        drawn.append(draw(places, lengths, width, label=name, **styles[name], edgecolor="white"))
        if len(series) == 1:  # then the labels carry the colors
            for bar, label in zip(drawn[0], values):
                bar.set_facecolor(color(label) or COLORS[0])
    ticks = [row + 0.4 - width / 2 for row in rows]
    if upright:
        axis.set_xticks(ticks, list(values), rotation=50, ha="right")
    else:
        axis.set_yticks(ticks, list(values))
    axis.grid(axis="x" if upright else "y", visible=False)
    return drawn
