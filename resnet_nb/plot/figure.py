"""What all figures share: the picture with its description, the look of a series, panels (all notebooks)."""

import base64
import io
from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image
from torch import Tensor

ACCENT, PLAIN, INK = "#d1492e", "#33475b", "#222222"  # residual, plain, words and axes
COLORS = sns.color_palette("colorblind")
LOOKS = {"linestyle": ("-", "--", "-.", ":"), "marker": "os^Dv", "hatch": ("", "//", "..", "xx")}


class Figure:
    """A picture and its description, shown by Jupyter.

    The description is the alternative text of the PNG and its plain-text form; it carries the figure's key numbers, so that
    a test which compares the text also checks the figure.
    """

    def __init__(self, figure: MatplotlibFigure, caption: str, alt: str = ""):
        self.caption, self.alt, self.png = caption, alt or caption, _png(figure)

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        return bundle, {"image/png": {"alt": self.alt}}


def _png(figure: MatplotlibFigure) -> bytes:
    """PNG bytes in 256 colors, without matplotlib's version, so that they are small and do not change."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png", bbox_inches="tight", metadata={"Software": None})
    Image.open(raw).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    return small.getvalue()


def style() -> None:
    """Set the look of the series for every figure drawn after this."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update(
        {"figure.dpi": 180, "savefig.dpi": 180, "axes.titlesize": 12, "axes.titleweight": "bold", "figure.figsize": (7, 4)}
    )


def subplots(rows: int, columns: int, width: float, height: float, **options) -> tuple[MatplotlibFigure, np.ndarray]:
    """A figure of so many inches and its axes (rows, columns). pyplot does not know it, so after an error none stays open."""
    figure = FigureCanvasAgg(MatplotlibFigure((width, height))).figure
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def picture_grid(rows: int, columns: int, width: float, height: float, **gaps: float) -> tuple[MatplotlibFigure, np.ndarray]:
    """`subplots` without axes, for images; gaps: wspace and hspace, where not the usual ones."""
    figure, axes = subplots(rows, columns, width, height)
    for axis in axes.flat:
        axis.axis("off")
    figure.subplots_adjust(**{"wspace": 0.06, "hspace": 0.06, **gaps})
    return figure, axes


def array(values: Tensor) -> np.ndarray:
    """The numbers of a tensor of any type, on any device, inside a graph or not."""
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy(force=True)


def floats(values: Iterable) -> list[float]:
    """Numbers, or tensors of one number each, such as the losses of a training loop."""
    return [float(value.detach() if isinstance(value, Tensor) else value) for value in values]


def show_image(axis: Axes, image: Tensor, **options) -> None:
    """uint8 (3, H, W), pixel by pixel."""
    axis.imshow(array(image.permute(1, 2, 0)), interpolation="nearest", **options)


def look(i: int, *what: str) -> dict:
    """Color, and linestyle, marker or hatch (`what`), of the i-th series; no two of the first forty are the same."""
    turn = i + i // len(COLORS)  # when the colors begin again, the rest is one further
    return {"color": COLORS[i % len(COLORS)]} | {key: LOOKS[key][turn % len(LOOKS[key])] for key in what}
