"""What notebook 01 reads of the hand-over to 56 layers is what the tool measures."""

import copy

import pytest
import torch

from resnet_nb import runs
from resnet_nb.data import cifar10_sample
from tools import handed

RECORDED = runs.experiment("handed")
DATA = cifar10_sample()
NETS = handed.nets(DATA)
SHALLOW, DEEP = NETS


def test_every_seed_and_measurement_is_there():
    assert RECORDED["logs"].keys() == NETS.keys()
    assert (RECORDED["batch"], RECORDED["photographs"]) == (handed.BATCH, handed.MEASURED)
    for logs in RECORDED["logs"].values():
        assert len(logs) == handed.SEEDS
        for log in logs:
            assert [line["iteration"] for line in log] == [*range(0, handed.ITERATIONS + 1, handed.EVERY)]
            assert all(line.keys() == {"iteration", *map(str, handed.RATES)} for line in log)


def test_both_nets_start_as_one_function():
    images, labels = handed.photographs(DATA)
    with torch.no_grad():
        shallow, deep = (net.train()(images) for net in NETS.values())
    assert (shallow - deep).abs().max() < 1e-3 * shallow.abs().max()  # 36 layers in float32
    at_first = {log[0][str(rate)] for logs in RECORDED["logs"].values() for log in logs for rate in handed.RATES}
    assert at_first == {handed.error(net, images, labels) for net in NETS.values()}


@pytest.mark.parametrize("name, near", [(SHALLOW, 1.2), (DEEP, 15)])  # points: float32 differs between machines
def test_the_first_iterations_come_out_again(name, near):
    found = handed.train_on(copy.deepcopy(NETS[name]), DATA, seed=0, rate=0.01, iterations=handed.EVERY)
    first, after = RECORDED["logs"][name][0][:2]
    assert found == {0: first["0.01"], handed.EVERY: pytest.approx(after["0.01"], abs=near)}
