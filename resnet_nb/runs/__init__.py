"""Runs: trained in a folder, stopped and continued without losing work, and the recorded ones that ship with the package."""

from resnet_nb.runs.folder import augmentation_of, load_run
from resnet_nb.runs.recorded import RECORDED, experiment, index, load, log, logs, record, summary
from resnet_nb.runs.training import run
