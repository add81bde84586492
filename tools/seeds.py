"""Does a live experiment of a notebook come out the same for every seed? Runs the notebook's own cells.

    python -m tools.seeds 02 identity --seeds 12

runs the setup cell and the cells tagged live-identity of notebook 02 with the value 0 of `seed` replaced by
each seed, and appends what they leave in `margin` (or `gap`) to tools/seeds.jsonl (seeds that are there are
skipped). tests/test_seeds.py compares what the notebook promises with that file.
"""

import argparse
import contextlib
import json
import os
import re
from pathlib import Path

import torch

from resnet_nb.check import CheckFailed
from tools import ROOT
from tools.reading import code_cells, tags
from tools.stored import load

RESULTS = Path(__file__).with_suffix(".jsonl")
SEED = re.compile(r"^(seed(?:, \w+)* = )0\b", re.MULTILINE)
PROMISE = re.compile(r"\b(margin|gap) >= ([\d.]+)")


def margins(notebook: str, name: str) -> dict[int, float]:
    """seed -> margin, as recorded."""
    lines = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else [])
    return {line["seed"]: line["margin"] for line in lines if (line["notebook"], line["live"]) == (notebook, name)}


def sources(notebook: str, name: str) -> list[str]:
    """The setup cell and the live cells, in order; ValueError if there are none with a line `seed = 0`."""
    (path,) = (ROOT / "notebooks").glob(f"{notebook}-*.ipynb")
    cells = code_cells(load(path))
    live = [cell.source for cell in cells if {"setup", f"live-{name}"} & set(tags(cell))]
    if not SEED.search("\n".join(live)):
        raise ValueError(f"notebook {notebook} has no cells tagged live-{name} with a line `seed = 0`")
    return live


def promise(cells: list[str]) -> tuple[str, float]:
    """The name that the one check of these cells compares, and the least it promises."""
    ((name, least),) = PROMISE.findall("\n".join(cells))
    return name, float(least)


def run(cells: list[str], seed: int) -> float:
    """The margin that the cells leave with this seed."""
    names: dict = {"__name__": "__main__"}
    with contextlib.suppress(CheckFailed):  # the margin says it, too
        for source in cells:
            exec(SEED.sub(rf"\g<1>{seed}", source), names)
    return float(names[promise(cells)[0]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", help="its number, such as 02")
    parser.add_argument("live", help="NAME of the tag live-NAME")
    parser.add_argument("--seeds", type=int, default=12)
    args = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "agg")
    have, cells = margins(args.notebook, args.live), sources(args.notebook, args.live)
    for seed in sorted(set(range(args.seeds)) - set(have)):
        margin = run(cells, seed)
        line = {"notebook": args.notebook, "live": args.live, "seed": seed, "margin": margin, "torch": torch.__version__}
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"seed {seed}: margin {margin:.4g}", flush=True)


if __name__ == "__main__":
    main()
