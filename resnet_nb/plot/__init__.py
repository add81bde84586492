"""Figures of the walkthrough: one look, readable in greyscale, each with the sentence that it stands for (all notebooks)."""

from resnet_nb.plot.architectures import networks, volumes
from resnet_nb.plot.charts import bars, curves, lines, panels, train_test
from resnet_nb.plot.figure import ACCENT, INK, PLAIN, Figure, color, style, subplots
from resnet_nb.plot.pictures import grids, heat_maps, images
from resnet_nb.plot.points import contours, dots, scatter, slopes
from resnet_nb.plot.residual import blocks
from resnet_nb.plot.routes import nested, unrolled, wirings
from resnet_nb.plot.unit import units
