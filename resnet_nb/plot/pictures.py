"""Matrices, images and heat maps (all notebooks)."""

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from resnet_nb.plot.figure import ACCENT, Figure, array, picture_grid, show_image, subplots


def grids(maps: dict[str, Tensor], caption: str, digits: int = 1, outline: str = "") -> Figure:
    """Small matrices side by side, every number written into its cell, all cells of one size: title -> (H, W).

    outline: "diagonal" draws a border around the cells on the diagonal of each, "even" around those of the first that have
    even indices, which are the ones that a stride of 2 takes.
    """
    maps = {title: array(values) for title, values in maps.items()}
    most = max(max(values.shape) for values in maps.values())
    wide = [max(values.shape[1], 0.6 * most) for values in maps.values()]  # in cells; a title needs its place
    figure, axes = subplots(1, len(maps), 2.6 * sum(wide) / most, 2.7, gridspec_kw={"width_ratios": wide})
    top = max(float(abs(values).max()) for values in maps.values())
    colors = {"cmap": "vlag", "vmin": -top, "vmax": top, "cbar": False}
    cells = {"square": True, "linewidths": 1, "xticklabels": False, "yticklabels": False}
    numbers = {"annot": True, "fmt": f".{digits}f", "annot_kws": {"size": 10}}
    for axis, width, (title, values) in zip(axes[0], wide, maps.items()):
        sns.heatmap(values, ax=axis, **colors, **cells, **numbers)
        spare = (width - values.shape[1]) / 2
        axis.set_xlim(-spare, values.shape[1] + spare)
        axis.set_title(title, fontsize=11)
        for i, j in _outlined(values.shape, outline, first=axis is axes[0, 0]):
            axis.add_patch(Rectangle((j, i), 1, 1, fill=False, edgecolor=ACCENT, linewidth=2.2))
    said = [
        f"{title}: " + "; ".join(" ".join(f"{v:.{digits}f}" for v in row) for row in values) for title, values in maps.items()
    ]
    return Figure(figure, caption, f"Matrices, row by row. {'. '.join(said)}.")


def _outlined(shape: tuple[int, int], outline: str, first: bool) -> list[tuple[int, int]]:
    if outline == "diagonal":
        return [(i, i) for i in range(min(shape))]
    return [(i, j) for i in range(0, shape[0], 2) for j in range(0, shape[1], 2)] if outline == "even" and first else []


def images(rows: dict[str, Tensor], caption: str) -> Figure:
    """One row of images per label: `rows` is label -> uint8 tensor (N, 3, H, W)."""
    columns = max(len(row) for row in rows.values())
    inches = min(0.9 if max(row.shape[-1] for row in rows.values()) <= 32 else 1.5, 7.5 / columns)
    figure, axes = picture_grid(len(rows), columns, inches * columns, inches * len(rows))
    for (label, row), line in zip(rows.items(), axes):
        _label_row(line[0], label, -0.15)
        for axis, image in zip(line, row):
            show_image(axis, image)
    said = [f"{label} ({len(row)})" if label else f"{len(row)} images" for label, row in rows.items()]
    return Figure(figure, caption, f"Images in rows: {', '.join(said)}.")


def heat_maps(images: Tensor, heat: dict[str, Tensor], outline: Tensor, caption: str) -> Figure:
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
    return Figure(figure, caption, f"{count} images and, below each, its heat map: {', '.join(heat)}.")


def _label_row(axis: Axes, label: str, x: float) -> None:
    axis.text(x, 0.5, label, transform=axis.transAxes, ha="right", va="center", fontsize=10)
