"""Figures of the walkthrough: one look, readable in greyscale, each with a sentence that says what it shows (all notebooks)."""

from resnet_nb.plot.architectures import networks, volumes
from resnet_nb.plot.charts import bars, curves, grids, heat_maps, images, lines, train_test
from resnet_nb.plot.figure import Figure, style
from resnet_nb.plot.residual import blocks, units
from resnet_nb.plot.routes import nested, unrolled, wirings
