"""`bench`: the floors against other counts, and both loops do the work that they are timed for."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from resnet_nb import bench as module
from resnet_nb.bench import bench, work
from resnet_nb.data import shapes10
from resnet_nb.errors import InputError
from resnet_nb.models import build


@pytest.mark.parametrize("name", ["cifar-resnet20", "cifar-plain32"])
def test_the_operations_are_those_that_torch_counts(name):
    model, batch = build(name), 4
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(torch.zeros(batch, 3, 32, 32)), torch.zeros(batch, dtype=torch.int64)).backward()
    # torch leaves out the gradient of the images, 1 % of the whole
    assert work(model, batch, 4)[0] == pytest.approx(counter.get_total_flops(), rel=0.012)


def test_the_bytes_of_resnet20_by_hand():
    outputs = 7 * 16 * 32**2 + 6 * 32 * 16**2 + 6 * 64 * 8**2  # convolutions per stage
    for batch, itemsize in ((1, 4), (128, 2)):
        assert work(build("cifar-resnet20"), batch, itemsize)[1] == 5 * outputs * batch * itemsize + 6 * 4 * 269_722


def test_both_loops_train(monkeypatch):
    """Each loop is fed its batches and changes its weights as often as it is timed."""
    nets, made = [], module.models.build
    monkeypatch.setattr(module.models, "build", lambda name: nets.append(made(name)) or nets[-1])
    data = shapes10(96, 10)
    found = bench("cifar-resnet8", data, batch_size=32, rounds=2, seconds=0.05)
    usual, ours = nets[:2]
    fresh = made("cifar-resnet8")
    for net in (usual, ours):
        assert net.bn1.num_batches_tracked >= 3 + 3 + 2  # first ones, those that set the pace, two rounds
        assert not torch.equal(net.fc.bias, fresh.fc.bias)
    assert len(found.usual) == len(found.ours) == 2 and all(0 < seconds < 60 for seconds in found.usual + found.ours)
    assert found.ratios == [a / b for a, b in zip(found.usual, found.ours)]
    assert 1e8 < found.flops_per_second < 1e15 and 1e8 < found.bytes_per_second < 1e13


def test_the_usual_loop_gets_the_usual_images():
    data = shapes10(96, 10)
    pictures = module._Pictures(data)
    images = torch.stack([pictures[index][0] for index in range(96)])
    assert images.shape == (96, 3, 32, 32) and len(pictures) == 50_000  # an epoch is as long as CIFAR-10's
    assert [pictures[index][1] for index in range(192)] == 2 * data.train_labels.tolist()
    assert images.std() == pytest.approx(1, abs=0.3)


def test_other_networks_are_refused():
    with pytest.raises(InputError, match="cifar-"):
        bench("resnet18", shapes10(96, 10))
