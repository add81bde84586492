"""Drawings of residual units layer by layer, and of the wiring of Runge-Kutta blocks."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from torch import nn

from resnet_nb.models.butcher import Tableau
from resnet_nb.models.preact import Drop, Gate, Scale, Unit
from resnet_nb.plot.diagrams import arrow, box, plus

LAYERS = {nn.Conv2d: ("conv", "#d0e3f5"), nn.BatchNorm2d: ("BN", "#e4e4e4"), nn.ReLU: ("ReLU", "#ffffff")}


def draw_unit(axis: Axes, unit: Unit) -> None:
    """One unit from top to bottom, every BN and ReLU in its place; the shortcut on the left is bold where it is clean."""
    common, branch = (unit.before, []) if unit.projects else ([], [*unit.before])
    branch += [*unit.residual]
    axis.set(xlim=(-0.75, 1.95), ylim=(-len(common) - len(branch) - len(unit.after) - 2.6, 0.45))
    axis.axis("off")
    axis.text(0, 0.2, "$x_l$", ha="center", va="center", fontsize=11)
    split = _chain(axis, common, 0, 0.0) - 0.2
    path = Path([(0, split), (1.3, split), (1.3, split - 0.3)])
    axis.add_patch(FancyArrowPatch(path=path, arrowstyle="-", color="0.25"))
    end = _chain(axis, branch, 1.3, split - 0.3)
    add = end - 0.45
    text, clean = _shortcut(unit)
    axis.text(0.75, add + 0.1, _factor(unit), ha="center", va="bottom", fontsize=9)
    axis.plot([0, 0], [split + 0.2, add + 0.2], color="0.25", linewidth=3.5 if clean else 1, zorder=0.5)
    if text:
        box(axis, 0, (split + add) / 2, 1.15, 0.62, text, "#fbe3d6", 9)
    axis.add_patch(
        FancyArrowPatch(path=Path([(1.3, end), (1.3, add), (0.2, add)]), arrowstyle="-|>", mutation_scale=9, color="0.25")
    )
    plus(axis, 0, add)
    last = _chain(axis, unit.after, 0, add - 0.22)
    arrow(axis, (0, last), (0, last - 0.4))
    axis.text(0, last - 0.62, "$x_{l+1}$", ha="center", va="center", fontsize=11)


def _chain(axis: Axes, layers, x: float, top: float) -> float:
    """Boxes for `layers` below `top`; returns where the last one ends, `top` if there are none."""
    bottom = top
    for i, layer in enumerate(layers):
        y = top - 0.62 - i
        arrow(axis, (x, bottom), (x, y + 0.28))
        text, color = LAYERS[type(layer)]
        box(axis, x, y, 0.95, 0.5, text, color, 9)
        bottom = y - 0.28
    return bottom


def _shortcut(unit: Unit) -> tuple[str, bool]:
    """What stands on the shortcut, and whether the path from unit to unit is clean: nothing on it, nothing after the addition."""
    join = unit.join
    if isinstance(join, Scale):
        return f"× {join.on_shortcut:g}", False
    if isinstance(join, Gate):
        return "1 − g(x)", False
    if isinstance(join, Drop):
        return "dropout", False
    if isinstance(unit.downsample, nn.Sequential):
        return "1×1 conv", False
    return "", isinstance(unit.downsample, nn.Identity) and len(unit.after) == 0


def _factor(unit: Unit) -> str:
    """What multiplies F before the addition, "" for nothing."""
    if isinstance(unit.join, Scale) and unit.join.on_residual != 1:
        return f"× {unit.join.on_residual:g}"
    return "× g(x)" if isinstance(unit.join, Gate) and unit.join.exclusive else ""


def draw_wiring(axis: Axes, method: Tableau) -> None:
    """The stages of one step in a row: x above enters every stage, the k_j enter later stages (a_ij) and the result (b_j).

    Coefficients are written at the arrows up to 4 stages; beyond, dotted arrows are negative coefficients.
    """
    s, labels = method.stages, method.stages <= 4
    axis.set(xlim=(-0.6, s + 1.8), ylim=(-0.6 - 0.2 * s, 1.4), aspect="equal")
    axis.axis("off")
    axis.plot([0, s + 1], [1.1, 1.1], color="0.25", linewidth=2.5, solid_capstyle="round")
    axis.text(-0.25, 1.1, "$x$", ha="center", va="center", fontsize=12)
    for i in range(1, s + 2):
        arrow(axis, (i, 1.1), (i, 0.32))
    for i, row in enumerate((*method.a, method.b), 1):
        for j, value in enumerate(row, 1):
            if value:
                _wire(axis, j, i, value, labels)
    for i in range(1, s + 1):
        box(axis, i, 0, 0.5, 0.5, f"$F_{{{i}}}$", "#d0e3f5", 11 if labels else 8)
    plus(axis, s + 1, 0)
    arrow(axis, (s + 1.2, 0), (s + 1.45, 0))
    axis.text(s + 1.55, 0, "$y$", ha="left", va="center", fontsize=12)


def _wire(axis: Axes, start: int, end: int, value, labels: bool) -> None:
    """An arc below the row, deeper the further it goes."""
    ends = (start + 0.12, -0.3), (end - 0.12, -0.3)
    bend = 0.6 if end - start == 1 else 0.4
    axis.add_patch(
        FancyArrowPatch(
            *ends,
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=8,
            color="0.25",
            linewidth=1 if labels else 0.7,
            linestyle="-" if value > 0 else (0, (1, 1.5)),
        )
    )
    if labels:
        axis.text(
            (start + end) / 2,
            -0.3 - bend * (end - start - 0.24) / 2,
            f"{value}",
            ha="center",
            va="center",
            fontsize=10,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
