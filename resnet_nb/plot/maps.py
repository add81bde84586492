"""Drawings of what a network looks at: images above their heat maps."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor


def draw_maps(images: Tensor, heat: dict[str, Tensor], outline: Tensor) -> Figure:
    """A row of images, and below it a row of heat maps per label, each from dark (its lowest value) to light.

    images: uint8 (N, 3, H, W). heat: label -> (N, H, W). outline: bool (N, H, W), its edge is drawn in white
    on black over the heat maps.
    """
    count, (height, width) = len(images), images.shape[-2:]
    figure, axes = plt.subplots(1 + len(heat), count, figsize=(0.95 * count, 0.95 * (1 + len(heat))), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, label in zip(axes, ["image", *heat]):
        row[0].text(-0.12, 0.5, label, transform=row[0].transAxes, ha="right", va="center", fontsize=10)
    for axis, image in zip(axes[0], images):
        axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    for row, maps in zip(axes[1:], heat.values()):
        for axis, values, inside in zip(row, maps, outline):
            axis.imshow(values.numpy(), cmap="cividis", interpolation="nearest")  # lightness grows with the value
            for color, line in (("black", 2.2), ("white", 1.0)):
                axis.contour(inside.numpy(), levels=[0.5], colors=color, linewidths=line)
            axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return figure
