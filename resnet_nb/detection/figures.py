"""Figures for detection: scenes with boxes, IoU, precision-recall curves, gains per class."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from resnet_nb.plot import COLORS, DASHES, HATCHES, Figure


def scenes(
    images: Tensor,
    targets: Sequence[dict],
    classes: Sequence[str],
    alt: str,
    predictions: Sequence[dict] | None = None,
    least: float = 0.5,
) -> Figure:
    """Images in rows of four with their boxes: objects solid, predictions with a score of `least` or more dashed.

    images: uint8 (N, 3, H, W); targets and predictions as in `train.detector`, one dict per image. Names stand above
    the objects or, with the score in percent, above the predictions.
    """
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.4 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images)):
        extent = (0, image.shape[2], image.shape[1], 0)
        axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", extent=extent)
        for box, label in zip(targets[i]["boxes"].tolist(), targets[i]["labels"].tolist()):
            _rectangle(axis, box, "-", "" if predictions else classes[label])
        if predictions:
            good = predictions[i]["scores"] >= least
            shown = (predictions[i][key][good].tolist() for key in ("boxes", "labels", "scores"))
            for box, label, score in zip(*shown):
                _rectangle(axis, box, "--", f"{classes[label]} {100 * score:.0f}")
    figure.subplots_adjust(wspace=0.05, hspace=0.08)
    return Figure(figure, alt)


def _rectangle(axis: Axes, box: Sequence[float], dashes: str, text: str) -> None:
    """A box that can be seen on any ground: white where solid, yellow on black where dashed."""
    place, width, height = box[:2], box[2] - box[0], box[3] - box[1]
    if dashes != "-":
        axis.add_patch(Rectangle(place, width, height, fill=False, color="black", linewidth=1.8))
    axis.add_patch(
        Rectangle(
            place, width, height, fill=False, linestyle=dashes, linewidth=1.6, color="white" if dashes == "-" else "#ffe34d"
        )
    )
    if text:
        axis.text(
            box[0],
            max(box[1] - 1, 4),
            text,
            color="white",
            fontsize=7.5,
            va="bottom",
            bbox={"facecolor": "black", "alpha": 0.65, "pad": 1, "edgecolor": "none"},
        )


def overlaps(box: Sequence[float], others: dict[str, Sequence[float]], alt: str) -> Figure:
    """One box (solid) against others (dashed), a panel each with the intersection hatched: title -> x1, y1, x2, y2."""
    size = (2.5 * len(others), 2.7)
    figure, axes = plt.subplots(1, len(others), figsize=size, squeeze=False, sharex=True, sharey=True)
    corners = np.array([box, *others.values()])
    margin = 0.1 * np.ptp(corners)
    for axis, (title, other) in zip(axes[0], others.items()):
        x1, y1, x2, y2 = *np.maximum(box, other)[:2], *np.minimum(box, other)[2:]
        if x1 < x2 and y1 < y2:
            look = {"facecolor": "0.85", "edgecolor": "0.45", "hatch": "//", "linewidth": 0}
            axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
        for (a1, b1, a2, b2), dashes, color in ((box, "-", COLORS[0]), (other, "--", COLORS[1])):
            look = {"fill": False, "linestyle": dashes, "color": color, "linewidth": 2}
            axis.add_patch(Rectangle((a1, b1), a2 - a1, b2 - b1, **look))
        axis.set(
            xlim=(corners[:, [0, 2]].min() - margin, corners[:, [0, 2]].max() + margin),
            ylim=(corners[:, [1, 3]].max() + margin, corners[:, [1, 3]].min() - margin),
            aspect="equal",
        )
        axis.set_title(title, fontsize=11)
    return Figure(figure, alt)


def precision_recall(curves: dict[str, tuple[np.ndarray, np.ndarray]], alt: str) -> Figure:
    """Precision over recall, one panel with a line per curve: name -> (precision, recall), best score first.

    Thin: as counted; bold: the highest precision at that recall or beyond, of which AP takes the mean.
    """
    figure, axis = plt.subplots(figsize=(6, 3.6))
    for i, (name, (precision, recall)) in enumerate(curves.items()):
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        look = {"color": COLORS[i], "linestyle": DASHES[i % len(DASHES)]}
        axis.plot(recall, precision, linewidth=0.8, marker=".", markersize=4, **look)
        axis.plot([0, *recall, recall[-1]], [highest[0], *highest, 0], drawstyle="steps-pre", linewidth=2.2, label=name, **look)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.05))
    axis.legend(loc="lower left")
    return Figure(figure, alt)


def gains(values: dict[str, dict[str, float]], ylabel: str, alt: str) -> Figure:
    """Upright bars in groups, for many short labels: label -> series -> value. The values are added to `alt`."""
    series = list(next(iter(values.values())))
    figure, axis = plt.subplots(figsize=(10, 3.4))
    width = 0.8 / len(series)
    for i, name in enumerate(series):
        axis.bar(
            [place + i * width for place in range(len(values))],
            [row[name] for row in values.values()],
            width,
            label=name,
            color=COLORS[i],
            hatch=HATCHES[i % len(HATCHES)],
            edgecolor="white",
        )
    axis.set_xticks([place + 0.4 - width / 2 for place in range(len(values))], list(values), rotation=50, ha="right")
    axis.axhline(0, color="0.25", linewidth=1)
    axis.set_ylabel(ylabel)
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.17), ncol=len(series), frameon=False)
    parts = [f"{label} " + ", ".join(f"{row[name]:.1f}" for name in series) for label, row in values.items()]
    return Figure(figure, f"{alt} {', '.join(series)}: {'; '.join(parts)}.")
