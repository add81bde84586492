"""The trainings of arXiv 1512.03385, §3.4 and §4.2: recipes, loop, evaluation, and runs that never lose work."""

from resnet_nb.train.distributed import World, join, local_device
from resnet_nb.train.folder import load_run, machine
from resnet_nb.train.precision import float32_as
from resnet_nb.train.recipe import RECIPES, Recipe, augmentation_of, recipe_for
from resnet_nb.train.run import run
from resnet_nb.train.trainer import Trainer, evaluate, fit, training_step

__all__ = [
    "RECIPES",
    "Recipe",
    "Trainer",
    "World",
    "augmentation_of",
    "evaluate",
    "fit",
    "float32_as",
    "join",
    "load_run",
    "local_device",
    "machine",
    "recipe_for",
    "run",
    "training_step",
]
