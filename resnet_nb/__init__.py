"""Helpers of the ResNet walkthrough: networks, counts, data, training, figures and checks.

Modules in the order of their imports (each knows only those before it):
paper, models, anatomy, data, train, plot, check, cli.
"""

__version__ = "0.1.0"
