"""Helpers of the ResNet walkthrough: networks, counts, data, training, recorded runs, figures and checks.

Modules in the order of their imports (each knows only those before it):
paper, models, anatomy, data, train, runs, plot, widgets, check, cli.
"""

import contextlib
import importlib.metadata
import os
import re

__version__ = "0.1.0"
OLDEST_TORCH = "2.6"  # as in pyproject.toml

with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # then `import torch` says that there is none
    _torch = importlib.metadata.version("torch")  # without the import, which takes seconds
    if [*map(int, re.findall(r"\d+", _torch)[:2])] < [*map(int, OLDEST_TORCH.split("."))]:
        # name: with it `python -m resnet_nb`, too, says it in one line
        raise ImportError(
            f"resnet_nb needs torch {OLDEST_TORCH} or newer, and {_torch} is installed: "
            "pip install --upgrade torch torchvision, then restart the kernel",
            name=__name__,
        )

# OpenMP threads that spin while they wait make a training step ten times slower on a busy machine;
# 10,000 turns cost little on a quiet one. libgomp reads this when torch is loaded, so it is set before.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
