"""Figures for detection: scenes with boxes, IoU, precision-recall curves, gains per class (notebook 10)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from resnet_nb.detection.precision import highest_beyond
from resnet_nb.detection.scenes import Objects
from resnet_nb.plot.charts import grouped_bars
from resnet_nb.plot.figure import Figure, looks, picture_grid, show_image, subplots


def scenes(
    images: Tensor,
    targets: Sequence[Objects],
    classes: Sequence[str],
    caption: str,
    predictions: Sequence[Objects] | None = None,
    least: float = 0.5,
) -> Figure:
    """Images in rows of four with their boxes: objects solid, predictions with a score of `least` or more dashed.

    images: uint8 (N, 3, H, W), targets and predictions one dict per image. Names stand above the objects or, with the score
    in percent, above the predictions.
    """
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure, axes = picture_grid(rows, columns, 2.3 * columns, 2.4 * rows, wspace=0.05, hspace=0.08)
    for i, (axis, image) in enumerate(zip(axes.flat, images)):
        show_image(axis, image, extent=(0, image.shape[2], image.shape[1], 0))
        for box, label in zip(targets[i]["boxes"].tolist(), targets[i]["labels"].tolist()):
            _rectangle(axis, box, "-", "" if predictions else classes[label])
        if predictions:
            good = predictions[i]["scores"] >= least
            shown = (predictions[i][key][good].tolist() for key in ("boxes", "labels", "scores"))
            for box, label, score in zip(*shown):
                _rectangle(axis, box, "--", f"{classes[label]} {100 * score:.0f}")
    return Figure(figure, caption)


def _rectangle(axis: Axes, box: Sequence[float], dashes: str, text: str) -> None:
    """A box that can be seen on any ground: white where solid, yellow on black where dashed."""
    if dashes != "-":
        _outline(axis, box, color="black", linewidth=1.8)
    _outline(axis, box, color="white" if dashes == "-" else "#ffe34d", linewidth=1.6, linestyle=dashes)
    if text:
        ground = {"facecolor": "black", "alpha": 0.65, "pad": 1, "edgecolor": "none"}
        axis.text(box[0], max(box[1] - 1, 4), text, color="white", fontsize=7.5, va="bottom", bbox=ground)


def _outline(axis: Axes, box: Sequence[float], **look) -> None:
    x1, y1, x2, y2 = box
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **{"fill": False, **look}))


def overlaps(box: Sequence[float], others: dict[str, Sequence[float]], caption: str) -> Figure:
    """One box (solid) against others (dashed), a panel each with the intersection hatched: title -> x1, y1, x2, y2."""
    figure, axes = subplots(1, len(others), 2.5 * len(others), 2.7, sharex=True, sharey=True)
    corners = np.array([box, *others.values()]).reshape(-1, 2)
    margin = 0.1 * np.ptp(corners)
    (left, top), (right, bottom) = corners.min(0) - margin, corners.max(0) + margin
    for axis, (title, other) in zip(axes[0], others.items()):
        x1, y1, x2, y2 = *np.maximum(box, other)[:2], *np.minimum(box, other)[2:]
        if x1 < x2 and y1 < y2:
            hatched = {"facecolor": "0.85", "edgecolor": "0.45", "hatch": "//", "linewidth": 0}
            _outline(axis, (x1, y1, x2, y2), fill=True, **hatched)
        for outline, own in zip((box, other), looks(["box", "other"], "linestyle").values()):
            _outline(axis, outline, **own, linewidth=2)
        axis.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axis.set_title(title, fontsize=11)
    return Figure(figure, caption)


def precision_recall(curves: dict[str, tuple[np.ndarray, np.ndarray]], caption: str) -> Figure:
    """Precision over recall, one panel with a line per curve: name -> (precision, recall), best score first.

    Thin: as counted; bold: the highest precision at that recall or beyond, of which AP takes the mean.
    """
    figure, axes = subplots(1, 1, 6, 3.6)
    axis = axes[0, 0]
    for name, same in looks(curves, "linestyle").items():
        precision, recall = curves[name]
        highest = highest_beyond(precision)
        axis.plot(recall, precision, linewidth=0.8, marker=".", markersize=4, **same)
        axis.plot([0, *recall, recall[-1]], [highest[0], *highest, 0], drawstyle="steps-pre", linewidth=2.2, label=name, **same)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.05))
    axis.legend(loc="lower left")
    return Figure(figure, caption)


def gains(values: dict[str, dict[str, float]], ylabel: str, caption: str) -> Figure:
    """Upright bars in groups, for many short labels: label -> series -> value."""
    series = list(next(iter(values.values())))
    figure, axes = subplots(1, 1, 10, 3.4)
    axis = axes[0, 0]
    grouped_bars(axis, values, upright=True)
    axis.axhline(0, color="0.25", linewidth=1)
    axis.set_ylabel(ylabel)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.17), ncol=len(series), frameon=False)
    parts = [f"{label} " + ", ".join(f"{row[name]:.1f}" for name in series) for label, row in values.items()]
    return Figure(figure, caption, f"Bars, {ylabel}, {', '.join(series)}: {'; '.join(parts)}.")
