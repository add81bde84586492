"""Diagrams made from the modules themselves: blocks, networks, units, Runge-Kutta methods (notebooks 02-04, 06, 11, 12)."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from torch import nn

from resnet_nb.anatomy import Layer, bare, describe
from resnet_nb.models.blocks import NoShortcut, ZeroPad, stages
from resnet_nb.models.butcher import Tableau
from resnet_nb.models.preact import Drop, Gate, Scale, Unit
from resnet_nb.plot.figure import Figure, subplots

INK = "0.25"
CONV = "#d0e3f5"
DOTTED = (0, (1, 1.5))
# a plain block, NoShortcut, has none
SHORTCUT_LABELS = {nn.Identity: "x\nidentity", ZeroPad: "x, every 2nd\npixel, zeros", nn.Sequential: "W$_s$x\nprojection"}
# one light color per map size; the label says the size too
SHADES = {224: "#f7f7f7", 112: "#fde0ef", 56: "#d9d2e9", 28: "#d0e8d0", 14: "#f9e0d0", 7: "#cfe2f3", 1: "#eeeeee"}
LAYERS = {nn.Conv2d: ("conv", CONV), nn.BatchNorm2d: ("BN", "#e4e4e4"), nn.ReLU: ("ReLU", "#ffffff")}


def text(axis: Axes, x: float, y: float, words: str, size: float | None = None, **look) -> None:
    """Words around (x, y), unless `look` puts them beside it."""
    axis.text(x, y, words, **{"ha": "center", "va": "center", "fontsize": size, **look})


def box(axis: Axes, x: float, y: float, width: float, height: float, words: str, color: str, size: float) -> None:
    """A rounded box around (x, y) with words of this size."""
    corner, look = (x - width / 2, y - height / 2), {"linewidth": 1, "edgecolor": INK, "facecolor": color}
    axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0.02", **look))
    text(axis, x, y, words, size)


def plus(axis: Axes, x: float, y: float, size: float = 13, pad: float = 0.1) -> None:
    """The addition: a plus in a circle."""
    text(axis, x, y, "+", size, bbox={"boxstyle": f"circle,pad={pad}", "facecolor": "white", "edgecolor": INK})


def arrow(axis: Axes, *points: tuple, scale: float = 9, bend: float = 0, head: str = "-|>", **look) -> None:
    """An arrow from the first point to the last: straight, bent, or by way of the points between them."""
    if len(points) > 2:
        way = {"path": Path(points)}
    else:
        gap = 2 if bend else 0
        way = {"posA": points[0], "posB": points[1], "connectionstyle": f"arc3,rad={bend}", "shrinkA": gap, "shrinkB": gap}
    axis.add_patch(FancyArrowPatch(**way, arrowstyle=head, mutation_scale=scale, **{"color": INK, "linewidth": 1, **look}))


def blocks(modules: dict[str, nn.Module], caption: str) -> Figure:
    """Diagrams of residual blocks side by side (Fig. 2 and Fig. 5): title -> block module."""
    figure, axes = subplots(1, len(modules), 3.6 * len(modules), 3.8)
    for axis, (title, block) in zip(axes[0], modules.items()):
        draw_block(axis, block)
        axis.set_title(title)
    return Figure(figure, caption)


def draw_block(axis: Axes, block: nn.Module) -> None:
    """One residual block: its convolutions from top to bottom, the shortcut beside them."""
    convs = [m for name, m in block.named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in name]
    top = len(convs) + 0.9
    axis.set(xlim=(-1.3, 2.6), ylim=(-1.1, top + 0.5))
    axis.axis("off")
    text(axis, 0.12, top + 0.2, f"x, {convs[0].in_channels}-d", ha="left")
    bottom = top
    for i, conv in enumerate(convs):
        y = top - 0.9 - i
        arrow(axis, (0, bottom), (0, y + 0.28))
        if i:
            text(axis, 0.12, y + 0.5, "relu", 10, ha="left")
        side = conv.kernel_size[0]
        box(axis, 0, y, 2.2, 0.5, f"{side}×{side}, {conv.out_channels}", CONV, 11)
        bottom = y - 0.28
    shortcut = SHORTCUT_LABELS.get(type(block.downsample))
    arrow(axis, (0, bottom), (0, -0.42 if shortcut else -0.78))
    text(axis, -0.2, bottom / 2 - 0.25, "F(x)" if shortcut else "H(x)", ha="right")
    if shortcut:
        plus(axis, 0, -0.6, 15, 0.12)
        dashes = "-" if isinstance(block.downsample, nn.Identity) else ":"
        arrow(axis, (0, top), (1.5, top), (1.5, -0.6), (0.2, -0.6), scale=12, linestyle=dashes)
        text(axis, 1.6, top / 2 - 0.3, shortcut, ha="left")
    arrow(axis, (0, -0.78), (0, -1.1))
    text(axis, 0.12, -1.0, "relu", 10, ha="left")


def networks(models: dict[str, nn.Module], caption: str, input_size: int = 224) -> Figure:
    """Networks side by side, one box per weighted layer (Fig. 3): title -> network. Maps of one size share a band.

    Arcs are shortcuts, dotted where they change the shape. input_size is the image's side in pixels.
    """
    figure, axes = subplots(1, 1, 3.0 * len(models), 11)
    axis = axes[0, 0]
    columns = {title: _with_pools(describe(model, input_size).rows) for title, model in models.items()}
    bands = sorted({size for boxes in columns.values() for size, *_ in boxes}, reverse=True)
    top, start = 0, {}
    for band in bands:
        height = max(sum(size == band for size, *_ in boxes) for boxes in columns.values())
        text(axis, -0.8, top + height / 2 - 0.5, f"map\n{band}×{band}" if band > 1 else "fc", 8, ha="left")
        start[band] = top
        top += height + 0.5
    axis.set(xlim=(-0.85, 2.2 * len(columns) - 0.5), ylim=(top, -1.3))
    axis.axis("off")
    for column, (title, boxes) in enumerate(columns.items()):
        x = 0.55 + 2.2 * column
        text(axis, x, -0.95, title, 11, weight="bold")
        _draw_shortcuts(axis, x, bare(models[title]), _draw_column(axis, x, boxes, start))
    return Figure(figure, caption)


def _with_pools(rows: tuple[Layer, ...]) -> list[tuple[int, str, str]]:
    """(map size, words, layer) of every box; a pool, "", is where the map shrinks before a layer that does not stride."""
    boxes, before = [], None
    for layer in rows:
        if layer.projection:
            continue
        entering = layer.size * layer.stride if layer.kind == "conv" else layer.size
        if before is not None and entering < before.size:
            boxes.append((layer.size, "pool", ""))
        stride = f", /{layer.stride}" if layer.stride > 1 else ""
        words = f"fc {layer.outputs}" if layer.kind == "fc" else f"{layer.kernel}×{layer.kernel} conv, {layer.outputs}{stride}"
        boxes.append((layer.size, words, layer.name))
        before = layer
    return boxes


def _draw_column(axis: Axes, x: float, boxes: list[tuple[int, str, str]], start: dict[int, float]) -> dict[str, float]:
    """The boxes of one network from top to bottom, each band from its start on; returns the height of every layer."""
    free, heights, previous = dict(start), {}, None
    for size, words, layer in boxes:
        y = free[size]
        free[size] += 1
        if previous is not None:
            arrow(axis, (x, previous + 0.38), (x, y - 0.38), scale=4)
        box(axis, x, y, 1.15, 0.62, words, SHADES.get(size, "white") if layer else "white", 7)
        heights[layer] = previous = y
    return heights


def _draw_shortcuts(axis: Axes, x: float, model: nn.Module, heights: dict[str, float]) -> None:
    """An arc over every block that has a shortcut: dotted where it is not the identity."""
    for stage, its_blocks in stages(model).items():
        for name, block in its_blocks.named_children():
            inside = [y for layer, y in heights.items() if layer.startswith(f"{stage}.{name}.")]
            shortcut = getattr(block, "downsample", None)  # a Runge-Kutta block has several
            if shortcut is not None and not isinstance(shortcut, NoShortcut):
                dashes = "-" if isinstance(shortcut, nn.Identity) else DOTTED
                ends = (x + 0.62, inside[0] - 0.5), (x + 0.62, inside[-1] + 0.42)
                arrow(axis, *ends, scale=7, bend=-0.45, linestyle=dashes, color="0.2")


def units(modules: dict[str, Unit], caption: str) -> Figure:
    """Units of 1603.05027 side by side, layer by layer (its Fig. 2 and Fig. 4): title -> unit."""
    figure, axes = subplots(1, len(modules), 2.1 * len(modules), 4.2)
    for axis, (title, unit) in zip(axes[0], modules.items()):
        draw_unit(axis, unit)
        axis.set_title(title, fontsize=11)
    return Figure(figure, caption)


def draw_unit(axis: Axes, unit: Unit) -> None:
    """One unit from top to bottom, every BN and ReLU in its place; the shortcut on the left is bold where it is clean."""
    common, branch = (unit.before, unit.residual) if unit.projects else ([], [*unit.before, *unit.residual])
    axis.set(xlim=(-0.75, 1.95), ylim=(-len(common) - len(branch) - len(unit.after) - 2.6, 0.45))
    axis.axis("off")
    text(axis, 0, 0.2, "$x_l$", 11)
    split = _chain(axis, common, 0, 0.0) - 0.2
    arrow(axis, (0, split), (1.3, split), (1.3, split - 0.3), head="-")
    end = _chain(axis, branch, 1.3, split - 0.3)
    add = end - 0.45
    on_shortcut, factor = _on_paths(unit)
    # clean: nothing on the path from unit to unit, and nothing after the addition
    clean = not on_shortcut and isinstance(unit.downsample, nn.Identity) and len(unit.after) == 0
    text(axis, 0.75, add + 0.1, factor, 9, va="bottom")
    axis.plot([0, 0], [split + 0.2, add + 0.2], color=INK, linewidth=3.5 if clean else 1, zorder=0.5)
    if on_shortcut:
        box(axis, 0, (split + add) / 2, 1.15, 0.62, on_shortcut, "#fbe3d6", 9)
    arrow(axis, (1.3, end), (1.3, add), (0.2, add))
    plus(axis, 0, add)
    last = _chain(axis, unit.after, 0, add - 0.22)
    arrow(axis, (0, last), (0, last - 0.4))
    text(axis, 0, last - 0.62, "$x_{l+1}$", 11)


def _chain(axis: Axes, layers: Iterable[nn.Module], x: float, top: float) -> float:
    """Boxes for `layers` below `top`; returns where the last one ends, `top` if there are none."""
    bottom = top
    for i, layer in enumerate(layers):
        y = top - 0.62 - i
        arrow(axis, (x, bottom), (x, y + 0.28))
        box(axis, x, y, 0.95, 0.5, *LAYERS[type(layer)], 9)
        bottom = y - 0.28
    return bottom


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


def wirings(methods: dict[str, Tableau], caption: str) -> Figure:
    """How the stages of Runge-Kutta blocks are connected, one below the other: title -> method."""
    heights = [2 + 0.2 * method.stages for method in methods.values()]
    width = max(method.stages for method in methods.values()) + 2.4
    scale = min(1.1, 9 / width)  # inches for the distance of two stages
    inches = scale * width, scale * (sum(heights) + 0.4 * len(methods))
    figure, axes = subplots(len(methods), 1, *inches, height_ratios=heights)
    for axis, (title, method) in zip(axes[:, 0], methods.items()):
        draw_wiring(axis, method)
        axis.set_xlim(right=width - 0.6)
        axis.set_title(title, fontsize=11, loc="left")
    return Figure(figure, caption)


def draw_wiring(axis: Axes, method: Tableau) -> None:
    """The stages of one step in a row: x above enters every stage, the k_j enter later stages (a_ij) and the result (b_j).

    Coefficients are written at the arrows up to 4 stages; beyond, dotted arrows are negative coefficients.
    """
    s, labels = method.stages, method.stages <= 4
    axis.set(xlim=(-0.6, s + 1.8), ylim=(-0.6 - 0.2 * s, 1.4), aspect="equal")
    axis.axis("off")
    axis.plot([0, s + 1], [1.1, 1.1], color=INK, linewidth=2.5, solid_capstyle="round")
    text(axis, -0.25, 1.1, "$x$", 12)
    for i in range(1, s + 2):
        arrow(axis, (i, 1.1), (i, 0.32))
    for i, row in enumerate((*method.a, method.b), 1):
        for j, value in enumerate(row, 1):
            if value:
                _wire(axis, j, i, value, labels)
    for i in range(1, s + 1):
        box(axis, i, 0, 0.5, 0.5, f"$F_{{{i}}}$", CONV, 11 if labels else 8)
    plus(axis, s + 1, 0)
    arrow(axis, (s + 1.2, 0), (s + 1.45, 0))
    text(axis, s + 1.55, 0, "$y$", 12, ha="left")


def _wire(axis: Axes, start: int, end: int, value, labels: bool) -> None:
    """An arc below the row, deeper the further it goes."""
    bend = 0.6 if end - start == 1 else 0.4
    look = {"linewidth": 1 if labels else 0.7, "linestyle": "-" if value > 0 else DOTTED}
    arrow(axis, (start + 0.12, -0.3), (end - 0.12, -0.3), scale=8, bend=bend, **look)
    if labels:
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        text(axis, (start + end) / 2, -0.3 - bend * (end - start - 0.24) / 2, f"{value}", 10, bbox=ground)
