"""The trainings of arXiv 1512.03385, §3.4 and §4.2: loop, evaluation, several processes. It computes and touches no disk."""

from resnet_nb.recipes import RECIPES, Recipe, recipe_for
from resnet_nb.train.evaluation import evaluate
from resnet_nb.train.loop import Trainer, fit, training_step
from resnet_nb.train.precision import float32_as
from resnet_nb.train.world import World, join, local_device
