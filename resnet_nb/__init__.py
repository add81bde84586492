"""Helpers of the ResNet walkthrough: networks, counts, data, training, recorded runs, figures and checks.

The house has four floors. A module knows only what comes before it in this list, and there is no circle:

  the ground: errors, files, progress, recipes
  the papers: paper, models, anatomy, memory, explain
  the lesson: data, train, plot, check, widgets, detection
  the machine room: runs, bench, cli

The notebooks need the first three floors and the recorded runs. `train` computes and touches no disk; `runs` keeps and
differentiates nothing. No error below `cli` names a command line option. What can be known without torch is known without
importing torch: recipes, the papers' numbers and all help. tests/test_house.py holds these rules.
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
