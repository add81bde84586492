"""The recorded experiment of notebook 09: what it says is what its tool measures today, in a small part of it."""

import pytest
import torch
import torch.nn.functional as F

from resnet_nb import data, runs
from resnet_nb.models import build
from tools import lesions

NEAR = 0.3  # points of 1,000 photographs: another CPU may decide three of them differently


@pytest.fixture(scope="module")
def late():
    """Before the last but one block of ResNet-20: the net, the maps of training and of test photographs."""
    laid, sample = lesions.Laid(runs.load("cifar-resnet20").eval()), data.cifar10_sample()

    def maps(images):
        x = laid.stem(images)
        for block in laid.blocks[:7]:
            x = block(x)
        return x

    with torch.no_grad():
        return laid, *(lesions.through(maps, sample.center(part)) for part in (sample.train_images, sample.test_images))


def test_every_block_of_every_net_is_there():
    found = runs.experiment("lesions")["nets"]
    assert found.keys() == lesions.NETS.keys()
    for name, own in found.items():
        count = (int(name.split("-")[1]) - 2) // 2
        assert sum(own["blocks"]) == count
        assert {len(own[key]) for key in ("f", "wire", "correlation", "deleted", "swapped")} == {count}
        plain = "plain" in name
        assert len(own["fitted"]) == count + 1 and len(own["stopped"]) == (0 if plain else count + 1)
        assert own["deleted"].count(None) == (2 if plain else 0) and own["swapped"].count(None) == 5
        assert plain or own["stopped"][-1] == own["error"]
        assert len(own["offset"]) == (count if name == "ResNet-20" else 0)


@torch.no_grad()
def test_lesions_and_read_outs_are_those_of_the_record(late):
    laid, train_x, x = late
    found, sample = runs.experiment("lesions")["nets"]["ResNet-20"], data.cifar10_sample()
    labels, gone, gone_train = sample.test_labels, laid.without(7, x), laid.without(7, train_x)
    assert lesions.error(laid, gone, [8], labels) == pytest.approx(found["deleted"][7], abs=NEAR)
    assert lesions.error(laid, x, [8, 7], labels) == pytest.approx(found["swapped"][7], abs=NEAR)
    average = laid.blocks[7].residual(train_x).flatten(2).mean((0, 2))[:, None, None]
    assert lesions.error(laid, F.relu(x + average), [8], labels) == pytest.approx(found["offset"][7], abs=NEAR)
    assert lesions.mended(laid, gone_train, gone, [8], labels) == pytest.approx(found["mended"]["8"], abs=NEAR)
    read = {"fitted": [], "stopped": []}
    lesions.read(read, laid, train_x, sample.train_labels, x, labels, 7)
    assert read["fitted"] == pytest.approx(found["fitted"][7:8], abs=NEAR)
    assert read["stopped"] == pytest.approx(found["stopped"][7:8], abs=NEAR)
    assert laid.blocks[7].residual(x).std().item() == pytest.approx(found["f"][7], rel=1e-3)


@torch.no_grad()
def test_without_all_blocks_a_residual_net_is_its_wire_and_its_classifier():
    torch.manual_seed(0)
    laid, x = lesions.Laid(build("cifar-resnet20").eval()), torch.rand(2, 16, 32, 32)
    wire = F.pad(x[:, :, ::4, ::4].mean((2, 3)), (0, 48))
    torch.testing.assert_close(lesions.stopped(laid, x, 0), laid.net.fc(wire))


def test_of_a_plain_net_only_blocks_that_keep_the_shape_can_go():
    laid = lesions.Laid(build("cifar-plain20"))
    assert laid.plain and [k for k in range(9) if not laid.keeps_shape(k)] == [3, 6]
    x = torch.rand(1, 16, 4, 4)
    assert laid.without(0, x) is x


def test_a_linear_read_out_finds_what_is_linear_and_guesses_where_nothing_is():
    torch.manual_seed(0)
    labels = torch.arange(400) % 10
    told = F.one_hot(labels, 10).double() + 0.01 * torch.randn(400, 10).double()
    assert lesions.ridge(told[:200], labels[:200], told[200:], labels[200:]) == 0
    nothing = torch.randn(400, 10).double()
    assert lesions.ridge(nothing[:200], labels[:200], nothing[200:], labels[200:]) > 75
