"""Every recorded experiment: it is complete and says how it was made."""

import importlib

import pytest

from resnet_nb import runs
from resnet_nb.runs.recorded import EXPERIMENTS

RECORDS = sorted(EXPERIMENTS.glob("*.json"))


def test_there_are_records():
    assert RECORDS


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_is_complete_and_says_how_it_was_made(path):
    found = runs.experiment(path.stem)
    tool = importlib.import_module(found["command"].removeprefix("python -m "))
    assert found["command"] == f"python -m {tool.__name__}" and {"torch", "precision", "data"} <= found.keys()
    assert path == tool.RESULTS
