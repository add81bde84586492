"""What notebooks 01 and 02 read of the hand-over to 56 layers is what the tool measures."""

import copy

import pytest
import torch

from resnet_nb import runs
from resnet_nb.data import cifar10_sample
from tools import handed

RECORDED = runs.experiment("handed")
PAIRS = [("20 layers, plain", "56 layers, plain"), ("20 layers, residual", "56 layers, residual")]


@pytest.fixture(scope="module")
def data():
    return cifar10_sample()


@pytest.fixture(scope="module")
def nets(data):
    return handed.nets(data)


def test_every_seed_and_measurement_is_there(nets):
    assert RECORDED["logs"].keys() == nets.keys()
    assert RECORDED["controls"].keys() == handed.controls(nets).keys()
    assert (RECORDED["batch"], RECORDED["photographs"]) == (handed.BATCH, handed.MEASURED)
    counts = {part: {len(logs) for logs in RECORDED[part].values()} for part in ("logs", "controls", "batches of 128")}
    assert counts == {"logs": {handed.SEEDS}, "controls": {handed.FEW}, "batches of 128": {handed.FEW}}
    for log in (log for part in counts for logs in RECORDED[part].values() for log in logs):
        assert [line["iteration"] for line in log] == [*range(0, handed.ITERATIONS + 1, handed.EVERY)]
        assert all(line.keys() == {"iteration", *map(str, handed.RATES)} for line in log)


@pytest.mark.parametrize("pair", PAIRS)
def test_both_nets_of_a_pair_start_as_one_function(pair, data, nets):
    images, labels = handed.photographs(data)
    with torch.no_grad():
        shallow, deep = (nets[name].train()(images) for name in pair)
    assert (shallow - deep).abs().max() < 1e-3 * shallow.abs().max()  # 36 layers in float32
    at_first = {log[0][str(rate)] for name in pair for log in RECORDED["logs"][name] for rate in handed.RATES}
    assert at_first == {handed.error(nets[name], images, labels) for name in pair}


def test_the_controls_share_the_learning_among_them(nets):
    plain = [*handed.controls(nets).values()][:2]
    only, rest = ({name for name, p in net.named_parameters() if p.requires_grad} for net in plain)
    shallow, deep = (dict(nets[name].named_parameters()).keys() for name in PAIRS[0])
    assert (rest, only) == (set(shallow), set(deep) - set(shallow))


@pytest.mark.parametrize("name, near", [("20 layers, plain", 1.2), ("56 layers, plain", 15)])  # float32 differs by machine
def test_the_first_iterations_come_out_again(name, near, data, nets):
    found = handed.train_on(copy.deepcopy(nets[name]), data, seed=0, rate=0.01, iterations=handed.EVERY)
    first, after = RECORDED["logs"][name][0][:2]
    assert found == {0: first["0.01"], handed.EVERY: pytest.approx(after["0.01"], abs=near)}
