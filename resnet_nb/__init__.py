"""Helpers of the ResNet walkthrough: networks, counts, data, training, recorded runs, figures and checks.

Modules in the order of their imports (each knows only those before it):
paper, models, anatomy, data, train, runs, plot, check, cli.
"""

import os

__version__ = "0.1.0"

# OpenMP threads that spin while they wait make a training step ten times slower on a busy machine;
# 10,000 turns cost little on a quiet one. libgomp reads this when torch is loaded, so it is set before.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
