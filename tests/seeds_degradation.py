"""Does the live run of notebook 01 come out the same for every seed? Trains both nets for each seed.

    python tests/seeds_degradation.py --seeds 12

appends one line per seed to tests/seeds_degradation.jsonl (seeds that are there are skipped) and
prints the gap. The notebook promises the order only because of that file; test_seeds.py reads it.
"""

import argparse
import json
from pathlib import Path

import torch

from resnet_nb.data import shapes10
from resnet_nb.models import build
from resnet_nb.train import RECIPES, fit

RESULTS = Path(__file__).with_suffix(".jsonl")
NETS = ("cifar-plain20", "cifar-plain56")


def results() -> list[dict]:
    """One dict per seed: net -> log, as in notebook 01."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    seeds = parser.parse_args().seeds
    data = shapes10(train=4_000, test=200)
    have = {line["seed"] for line in results()}
    for seed in sorted(set(range(seeds)) - have):
        logs = {}
        for name in NETS:
            torch.manual_seed(seed)
            logs[name] = fit(build(name), data, RECIPES["live"], seed, every=20)
        with open(RESULTS, "a") as file:
            file.write(json.dumps({"seed": seed, "torch": torch.__version__, "logs": logs}) + "\n")
        print(seed, *(f"{logs[name][-1]['train_error']:.1f} %" for name in NETS), flush=True)


if __name__ == "__main__":
    main()
