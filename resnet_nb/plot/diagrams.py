"""Drawings of blocks and whole networks, made from the modules and their counts."""

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from torch import nn

from resnet_nb.anatomy import describe
from resnet_nb.models.blocks import NoShortcut, ZeroPad

BOX = {"boxstyle": "round,pad=0.02", "linewidth": 1, "edgecolor": "0.25"}
# a plain block, NoShortcut, has none
SHORTCUT_LABELS = {nn.Identity: "x\nidentity", ZeroPad: "x, every 2nd\npixel, zeros", nn.Sequential: "W$_s$x\nprojection"}
# one light color per map size; the label says the size too
SHADES = {224: "#f7f7f7", 112: "#fde0ef", 56: "#d9d2e9", 28: "#d0e8d0", 14: "#f9e0d0", 7: "#cfe2f3", 1: "#eeeeee"}


def draw_block(axis: Axes, block: nn.Module) -> None:
    """One residual block: its convolutions from top to bottom, the shortcut beside them."""
    convs = [m for name, m in block.named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in name]
    top = len(convs) + 0.9
    axis.set(xlim=(-1.3, 2.6), ylim=(-1.1, top + 0.5))
    axis.axis("off")
    axis.text(0.12, top + 0.2, f"x, {convs[0].in_channels}-d", ha="left", va="center")
    bottom = top
    for i, conv in enumerate(convs):
        y = top - 0.9 - i
        arrow(axis, (0, bottom), (0, y + 0.28))
        if i:
            axis.text(0.12, y + 0.5, "relu", va="center", fontsize=10)
        side = conv.kernel_size[0]
        box(axis, 0, y, 2.2, 0.5, f"{side}×{side}, {conv.out_channels}", "#d0e3f5", 11)
        bottom = y - 0.28
    shortcut = SHORTCUT_LABELS.get(type(block.downsample))
    arrow(axis, (0, bottom), (0, -0.42 if shortcut else -0.78))
    axis.text(-0.2, bottom / 2 - 0.25, "F(x)" if shortcut else "H(x)", ha="right", va="center")
    if shortcut:
        plus(axis, 0, -0.6, 15, 0.12)
        around = Path([(0, top), (1.5, top), (1.5, -0.6), (0.2, -0.6)])
        axis.add_patch(
            FancyArrowPatch(
                path=around,
                arrowstyle="-|>",
                mutation_scale=12,
                color="0.25",
                linestyle="-" if isinstance(block.downsample, nn.Identity) else ":",
            )
        )
        axis.text(1.6, top / 2 - 0.3, shortcut, va="center")
    arrow(axis, (0, -0.78), (0, -1.1))
    axis.text(0.12, -1.0, "relu", va="center", fontsize=10)


def draw_networks(axis: Axes, models: dict[str, nn.Module], input_size: int) -> None:
    """Columns of boxes, one per weighted layer; maps of one size share a band across the columns."""
    columns = {title: _with_pools(describe(model, input_size).rows) for title, model in models.items()}
    sizes = sorted({size for boxes in columns.values() for size, *_ in boxes}, reverse=True)
    heights = {size: max(sum(s == size for s, *_ in boxes) for boxes in columns.values()) for size in sizes}
    top, start = 0, {}
    for size in sizes:
        start[size] = top
        top += heights[size] + 0.5
    axis.set(xlim=(-0.85, 2.2 * len(columns) - 0.5), ylim=(top, -1.3))
    axis.axis("off")
    for size in sizes:
        label = f"map\n{size}×{size}" if size > 1 else "fc"
        axis.text(-0.8, start[size] + heights[size] / 2 - 0.5, label, va="center", fontsize=8)
    for column, (title, boxes) in enumerate(columns.items()):
        x, seen, places = 0.55 + 2.2 * column, dict.fromkeys(sizes, 0), {}
        axis.text(x, -0.95, title, ha="center", va="center", fontsize=11, weight="bold")
        previous = None
        for size, text, layer in boxes:
            y = start[size] + seen[size]
            seen[size] += 1
            if previous is not None:
                arrow(axis, (x, previous + 0.38), (x, y - 0.38), 4)
            box(axis, x, y, 1.15, 0.62, text, "white" if layer is None else SHADES.get(size, "white"), 7)
            places.setdefault(_block_of(layer), []).append(y)
            previous = y
        _draw_shortcuts(axis, x, models[title], places)


def _draw_shortcuts(axis: Axes, x: float, model: nn.Module, places: dict[str, list[float]]) -> None:
    """An arc over every block that has a shortcut: dotted where it is not the identity."""
    for block in filter(None, places):
        shortcut = model.get_submodule(block).downsample
        if not isinstance(shortcut, NoShortcut):
            dots = "-" if isinstance(shortcut, nn.Identity) else (0, (1, 1.5))
            ends = (x + 0.62, places[block][0] - 0.5), (x + 0.62, places[block][-1] + 0.42)
            axis.add_patch(
                FancyArrowPatch(
                    *ends,
                    connectionstyle="arc3,rad=-0.45",
                    arrowstyle="-|>",
                    mutation_scale=7,
                    linestyle=dots,
                    color="0.2",
                    linewidth=1,
                )
            )


def _block_of(layer) -> str:
    """ "layer2.0" for a layer of that block, "" for a layer outside the blocks."""
    parts = layer.name.split(".") if layer is not None else []
    return ".".join(parts[:2]) if parts and parts[0].startswith("layer") else ""


def _with_pools(rows: tuple) -> list[tuple]:
    """(map size, text, layer) of every box; a pool is where the map shrinks before a layer that does not stride."""
    layers = [row for row in rows if not row.projection]
    boxes = [(layers[0].size, _text(layers[0]), layers[0])]
    for before, layer in pairwise(layers):
        entering = layer.size * layer.stride if layer.kind == "conv" else layer.size
        if entering < before.size:
            boxes.append((layer.size, "pool", None))
        boxes.append((layer.size, _text(layer), layer))
    return boxes


def _text(layer) -> str:
    if layer.kind == "fc":
        return f"fc {layer.outputs}"
    return f"{layer.kernel}×{layer.kernel} conv, {layer.outputs}" + (f", /{layer.stride}" if layer.stride > 1 else "")


def box(axis: Axes, x: float, y: float, width: float, height: float, text: str, color: str, size: int) -> None:
    """A rounded box around (x, y) with text of this size."""
    axis.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=color, **BOX))
    axis.text(x, y, text, ha="center", va="center", fontsize=size)


def plus(axis: Axes, x: float, y: float, size: int = 13, pad: float = 0.1) -> None:
    """The addition: a plus in a circle."""
    axis.text(
        x,
        y,
        "+",
        ha="center",
        va="center",
        fontsize=size,
        bbox={"boxstyle": f"circle,pad={pad}", "facecolor": "white", "edgecolor": "0.25"},
    )


def arrow(axis: Axes, start: tuple, end: tuple, scale: int = 9) -> None:
    """A straight arrow."""
    axis.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=scale, color="0.25", linewidth=1, shrinkA=0, shrinkB=0)
    )
