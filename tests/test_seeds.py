"""What notebook 01 promises of its live run was seen with at least ten seeds."""

import seeds_degradation

from resnet_nb.train import RECIPES

MARGIN = 10  # points of training error


def test_the_deeper_plain_net_trains_worse_with_every_seed():
    results = seeds_degradation.results()
    assert len({line["seed"] for line in results}) == len(results) >= 10
    gaps = {}
    for line in results:
        shallow, deep = (line["logs"][name][-1]["train_error"] for name in ("cifar-plain20", "cifar-plain56"))
        gaps[line["seed"]] = deep - shallow
    assert min(gaps.values()) >= MARGIN, gaps


def test_the_seeds_were_run_with_the_live_recipe():
    recipe = RECIPES["live"]
    for line in seeds_degradation.results():
        assert set(line["logs"]) == {"cifar-plain20", "cifar-plain56"}
        for log in line["logs"].values():
            assert log[-1]["iteration"] == recipe.iterations
            assert all(row["lr"] == recipe.learning_rate(row["iteration"] - 1) for row in log)
