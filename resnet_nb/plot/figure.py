"""What all figures share: the picture with its caption and description, colors, labels at the lines, panels (all notebooks)."""

import base64
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

ACCENT, PLAIN, INK = "#d1492e", "#33475b", "#222222"  # residual, plain, words and axes
COLORS = ["#2a6f97", "#d98e04", "#4c956c", "#8e5572", "#6c757d", "#00918f", "#b5838d", "#7f5539"]  # everything else
LOOKS = {"linestyle": ("-", "--", ":", "-."), "marker": "os^Dv", "hatch": ("", "//", "..", "xx")}
SPOKEN = {name.lower(): name for name in ("plain", "ResNet", "VGG", "Euler", "Midpoint", "RK4", "RK8")}
CODE_NAME = re.compile(rf"^(?:cifar-)?({'|'.join(SPOKEN)})(\d*)(?=$|,)")
QUIET = {"color": "0.45", "fontsize": 9}  # words that only explain the drawing
RESOLUTIONS = (180, 150, 120, 90)  # dots per inch: the first whose picture is small enough
LARGEST = 145_000  # bytes


class Figure:
    """A picture with the sentence under it; Jupyter shows both.

    caption: the message, one sentence, shown in italics. alt: what is drawn, in words, with the key numbers: the alternative
    text of the picture and its plain-text form, so that a test which compares the text also checks the figure; without it,
    the caption. png: the picture.
    """

    def __init__(self, figure: MatplotlibFigure, caption: str, alt: str = ""):
        self.caption, self.alt = caption, alt or caption
        self.png = _png(figure)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels at which it is shown: half of those it has, so that it is sharp on a fine screen."""
        width, height = Image.open(io.BytesIO(self.png)).size
        return width // 2, height // 2

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        width, height = self.size
        return bundle, {"image/png": {"alt": self.alt, "width": width, "height": height}}

    def _ipython_display_(self):
        from IPython.display import display

        bundle, metadata = self._repr_mimebundle_()
        display(bundle, metadata=metadata, raw=True)
        said = self.caption.replace("*", r"\*")
        display({"text/markdown": f"*{said}*", "text/plain": self.caption}, raw=True)


def _png(figure: MatplotlibFigure) -> bytes:
    """PNG bytes in 256 colors, without matplotlib's version, so that they are small and do not change."""
    for resolution in RESOLUTIONS:
        raw, small = io.BytesIO(), io.BytesIO()
        figure.savefig(raw, format="png", dpi=resolution, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
        Image.open(raw).convert("RGB").quantize(256).save(small, format="png", optimize=True)
        if small.tell() <= LARGEST:
            break
    return small.getvalue()


def style() -> None:
    """Set the look of the series for every figure drawn after this."""
    sns.set_theme(context="notebook", style="white", palette=COLORS)
    plt.rcParams.update(
        {
            "figure.dpi": RESOLUTIONS[0],
            "figure.figsize": (7, 4),
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.labelsize": 11,
            "axes.labelcolor": INK,
            "axes.edgecolor": "0.6",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "0.92",
            "text.color": INK,
            "xtick.color": "0.35",
            "ytick.color": "0.35",
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
        }
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


def spoken(series: Mapping[str, object]) -> dict[str, object]:
    """The same series, names of `models.build` said as the papers do: plain-20, ResNet-56, RK4-32."""
    return {
        CODE_NAME.sub(lambda match: "-".join(filter(None, (SPOKEN[match[1]], match[2]))), name): own
        for name, own in series.items()
    }


def color(name: str) -> str | None:
    """The color of what is called so: one for residual nets, one for plain nets, None for the rest."""
    words = name.lower()
    if "plain" in words:
        return PLAIN
    return ACCENT if "resid" in words or "resnet" in words else None


def looks(names: Iterable[str], *what: str) -> dict[str, dict]:
    """name -> color and linestyle, marker or hatch (`what`); no two of the first thirty are the same.

    Several plain or several residual nets differ in the rest, and each is a little lighter than the one before.
    """
    found, used = {}, Counter()
    for name in names:
        own = color(name)
        used[own] += 1
        turn = used[own] - 1
        if own is None:
            shown = COLORS[turn % len(COLORS)]
            turn += turn // len(COLORS)  # colors that begin again are one style further
        else:
            shown = mixed(own, 0.15 * min(turn, 2))
        found[name] = {"color": shown} | {key: LOOKS[key][turn % len(LOOKS[key])] for key in what}
    return found


def mixed(own: str, white: float) -> tuple[float, float, float]:
    """A color with this share of white in it."""
    return tuple(white + (1 - white) * part for part in to_rgb(own))


def named(axis: Axes) -> list[Line2D]:
    """The lines that have a name."""
    return [line for line in axis.lines if not line.get_label().startswith("_")]


def label_ends(axis: Axes, size: float = 10) -> None:
    """Each line's name beside its end; names of lines that end at one x are moved apart where they would meet."""
    axis.figure.canvas.draw()  # limits and scales are final now
    inches = axis.get_position().height * axis.figure.get_figheight()
    ends = {line: (line.get_xdata()[-1], np.clip(line.get_ydata()[-1], *axis.get_ylim())) for line in named(axis)}
    places = {line: axis.transAxes.inverted().transform(axis.transData.transform(end)) for line, end in ends.items()}
    for x in {float(x) for x, _ in places.values()}:
        order = sorted((line for line in places if places[line][0] == x), key=lambda line: places[line][1])
        heights = _moved_apart([places[line][1] for line in order], 1.35 * size / 72 / inches)
        for line, height in zip(order, heights):
            own = line.get_color()
            axis.annotate(
                line.get_label(),
                xy=ends[line],
                xytext=(1.03 if x > 0.9 else x + 0.03, height),
                textcoords="axes fraction",
                va="center",
                fontsize=size,
                color=own,
                weight="bold",
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": own, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 1, "shrinkB": 2},
                bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
            )


def _moved_apart(heights: list[float], apart: float) -> list[float]:
    """Rising heights, each at least `apart` above the one before, moved as little as a few passes can."""
    moved = list(heights)
    for _ in range(200):
        for i in range(1, len(moved)):
            short = apart - (moved[i] - moved[i - 1])
            if short > 1e-9:
                moved[i - 1] -= short / 2
                moved[i] += short / 2
    return moved


def vertical_marks(axis: Axes, marks: Mapping[float, str], low: bool = False) -> None:
    """Dotted vertical lines with their words at the top of the panel, or at its bottom."""
    for x, words in marks.items():
        axis.axvline(x, color="0.6", linewidth=0.9, linestyle=":", zorder=1)
        place = {"y": 0.02, "va": "bottom"} if low else {"y": 0.98, "va": "top"}
        ground = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
        axis.text(x, s=words, rotation=90, ha="right", transform=axis.get_xaxis_transform(), bbox=ground, **place, **QUIET)


def horizontal_mark(axis: Axes, y: float, words: str) -> None:
    """A dashed level with its name, such as chance."""
    axis.axhline(y, color="0.55", linewidth=1, linestyle=(0, (5, 4)), zorder=1)
    axis.text(0.995, y, words, ha="right", va="bottom", transform=axis.get_yaxis_transform(), **QUIET)


def number(value: float) -> str:
    """Three digits that matter, for descriptions."""
    return f"{value:,.0f}" if abs(value) >= 1000 and abs(value) < 1e6 else f"{value:.3g}"
