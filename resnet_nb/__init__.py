"""Helpers of the ResNet walkthrough: networks, counts, data, training, figures and checks.

Modules in the order of their imports (each knows only those before it):
paper, models, anatomy, data, train, plot, check, cli.
"""

import os

__version__ = "0.1.0"

# OpenMP threads that spin while they wait make a training step ten times slower on a busy machine.
# Read when torch is loaded, so it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
