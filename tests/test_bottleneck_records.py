"""The recorded experiments of notebook 04: what they say is what their tools measure today, in a small part of each."""

import numpy as np
import pytest
import torch
from helpers import no

from resnet_nb import runs
from tools import times, waist


def test_every_case_is_there():
    found = runs.experiment("waist")
    assert tuple(found["waists"]) == waist.WAISTS and found["error"].keys() == found["directions"].keys() == waist.NETS.keys()
    lengths = {len(errors) for net in found["error"].values() for errors in net.values()}
    assert lengths == {len(waist.WAISTS)}


def test_times_were_measured_on_a_machine_that_did_not_stall():
    one, two = runs.experiment("block-times")["seconds"].values()
    assert {len(own) for own in one.values()} == {len(own) for own in two.values()} == set(times.REPEATS.values())
    no(
        f"{name}: shortest {min(own):g}, median {np.median(own):g} seconds"
        for name, own in (*one.items(), *two.items())
        if np.median(own) > 2 * min(own)
    )
    no(f"{name} is not faster with two threads" for name, own in one.items() if min(two[name]) >= min(own))


@pytest.mark.parametrize("what", ["correction", "everything"])
def test_errors_with_a_waist_are_those_of_the_record(what):
    found = runs.experiment("waist")["error"]["ResNet-20"][what]
    assert waist.error(waist.squeezed("ResNet-20", what, 2)) == pytest.approx(found[1], abs=0.3)


def test_directions_are_those_of_the_record():
    net = waist.squeezed("ResNet-20", "correction", 1)
    assert [waist.needed(block.waist.variances) for block in waist.blocks(net)] == runs.experiment("waist")["directions"][
        "ResNet-20"
    ]


def test_a_waist_lets_the_first_directions_through_and_nothing_else():
    torch.manual_seed(0)
    narrow, wide = waist.Waist(4).double(), waist.Waist(1).double()
    maps = torch.randn(6, 8, 5, 5).double()
    maps[:, 0] += 3 * torch.randn(6, 5, 5)
    maps[:, 1] += 9
    through = narrow(maps)
    spread = (through.movedim(1, -1).reshape(-1, 8) - narrow.mean).double()
    assert torch.linalg.matrix_rank(spread, atol=1e-6) == 2
    assert (through - maps)[:, 0].abs().max() < 0.2 * maps[:, 0].abs().max()
    torch.testing.assert_close(narrow(through), through)
    assert wide(maps).equal(maps)


def test_the_two_of_a_pair_are_timed_on_what_they_take():
    for pair in times.pairs().values():
        for net, x in pair.values():
            assert len(x) == times.BATCH and net(x[:1]).shape[0] == 1
    block, x = times.pairs()["blocks"]["basic, 64-d"]
    assert times.seconds(block, x[:1]) > 0
