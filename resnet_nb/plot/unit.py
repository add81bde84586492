"""Drawings of the units of 1603.05027, made from the modules (notebook 11)."""

from collections.abc import Iterable

from torch import nn

from resnet_nb.models.preact import Drop, Gate, Scale, Unit
from resnet_nb.plot.figure import ACCENT, Figure
from resnet_nb.plot.pen import BN, BOLD, CONV, PALE, RELU, SMALL, THIN, Pen, arrange, breadth, sheet

STEP, DROP = 0.16, 0.26  # inches: an arrow, and that after its corner
LAYERS = {nn.Conv2d: ("conv", CONV), nn.BatchNorm2d: ("BN", BN), nn.ReLU: ("ReLU", RELU)}


def units(modules: dict[str, Unit], caption: str) -> Figure:
    """Units of 1603.05027 side by side, layer by layer (its Fig. 2 and Fig. 4): title -> unit."""
    figure, pens = sheet(len(modules))
    said = [f"{title}: {draw_unit(pen, unit)}.".replace("\n", " ") for pen, (title, unit) in zip(pens, modules.items())]
    arrange(figure, dict(zip(modules, pens)), None, gap=0.12, size=11)
    return Figure(figure, caption, " ".join(said))


def draw_unit(pen: Pen, unit: Unit) -> str:
    """One unit from top to bottom, every BN and ReLU in its place; the shortcut on the left is bold where it is clean.

    Returns it in words.
    """
    common, branch = (unit.before, unit.residual) if unit.projects else ([], [*unit.before, *unit.residual])
    on_shortcut, factor = _on_paths(unit)
    # clean: nothing on the path from unit to unit, and nothing after the addition
    clean = not on_shortcut and isinstance(unit.downsample, nn.Identity) and len(unit.after) == 0
    side = 0.86 if on_shortcut else 0.68
    most = max(m.out_channels for m in unit.residual if isinstance(m, nn.Conv2d))
    look = {"width": BOLD + 0.6 if clean else THIN + 0.5, "name": "clean" if clean else "shortcut"}
    pen.text(0, -0.1, r"$\mathbf{x}_l$", 12)
    begin = _chain(pen, common, 0, 0.06, most)
    split = begin + 0.16
    end = _chain(pen, branch, side, split + DROP - STEP, most)
    join = end + 0.3
    pen.arrow((0, split), (side, split), (side, split + DROP), width=THIN)
    pen.shortcut((0, begin), (0, split), head=False, **look)
    if on_shortcut:
        middle = (split + join) / 2
        wide = breadth(on_shortcut, SMALL) + 0.14
        pen.shortcut((0, split), (0, middle - 0.14), head=False, **look)
        pen.box(0, middle - 0.14, wide, 0.28, "", PALE, "on the shortcut", edgecolor=ACCENT)
        pen.text(0, middle, on_shortcut, SMALL)
        pen.shortcut((0, middle + 0.14), (0, join - 0.105), **look)
    else:
        pen.shortcut((0, split), (0, join - 0.105), **look)
    pen.arrow((side, end), (side, join), (0.105, join))
    if factor:
        pen.text((side + 0.105) / 2, join - 0.12, factor, SMALL)
    pen.plus(0, join)
    last = _chain(pen, unit.after, 0, join + 0.105, most)
    pen.shortcut((0, last), (0, last + 0.26), **look)
    pen.text(0, last + 0.4, r"$\mathbf{x}_{l+1}$", 12)
    layers = [*(_word(m) for m in (*unit.before, *unit.residual)), *([f"F {factor}"] if factor else []), "addition"]
    path = f"; on the shortcut {on_shortcut}" if on_shortcut else "; clean path" if clean else ""
    return f"{', '.join([*layers, *(_word(m) for m in unit.after)])}{path}"


def _word(layer: nn.Module) -> str:
    return LAYERS[type(layer)][0]


def _chain(pen: Pen, layers: Iterable[nn.Module], x: float, top: float, most: int) -> float:
    """Boxes for `layers` below `top`, each as wide as it has channels; returns where the last one ends."""
    y, channels = top, None
    for layer in layers:
        words, fill = LAYERS[type(layer)]
        channels = getattr(layer, "out_channels", getattr(layer, "num_features", channels or most))
        if y > top or x == 0:
            pen.arrow((x, y), (x, y + STEP))
        y = pen.box(x, y + STEP, max(0.72 * channels / most, 0.46), 0.24, words, fill)
    return y


def _on_paths(unit: Unit) -> tuple[str, str]:
    """What stands on the shortcut, and what multiplies F before the addition; "" for nothing."""
    join = unit.join
    if isinstance(join, Scale):
        return f"× {join.on_shortcut:g}", f"× {join.on_residual:g}" if join.on_residual != 1 else ""
    if isinstance(join, Gate):
        return "1 − g(x)", "× g(x)" if join.exclusive else ""
    if isinstance(join, Drop):
        return "dropout", ""
    return "1×1 conv" if isinstance(unit.downsample, nn.Sequential) else "", ""
