"""Does a live experiment of a notebook come out the same for every seed? Runs the notebook's own cells.

    python tests/seeds.py 02 identity --seeds 12

runs the setup cell and the cells tagged live-identity of notebook 02 with `seed = 0` replaced by each
seed, and appends what they leave in `margin` to tests/seeds.jsonl (seeds that are there are skipped).
test_seeds.py compares what the notebook promises with that file.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path

import nbformat
import notebook_tool as tool
import torch

from resnet_nb.check import CheckFailed

RESULTS = Path(__file__).with_suffix(".jsonl")


def margins(notebook: str, name: str) -> dict[int, float]:
    """seed -> margin, as recorded."""
    lines = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else [])
    return {line["seed"]: line["margin"] for line in lines if (line["notebook"], line["live"]) == (notebook, name)}


def sources(notebook: str, name: str) -> list[str]:
    """The setup cell and the live cells, in order; ValueError if there are none with a `seed = 0`."""
    (path,) = (tool.ROOT / "notebooks").glob(f"{notebook}-*.ipynb")
    cells = tool.code_cells(nbformat.read(path, as_version=4))
    found = [cell.source for cell in cells if {"setup", f"live-{name}"} & set(tool.tags(cell))]
    if "seed = 0" not in "\n".join(found):
        raise ValueError(f"notebook {notebook} has no cells tagged live-{name} with a line `seed = 0`")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", help="its number, such as 02")
    parser.add_argument("live", help="NAME of the tag live-NAME")
    parser.add_argument("--seeds", type=int, default=12)
    args = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "agg")
    have, cells = margins(args.notebook, args.live), sources(args.notebook, args.live)
    for seed in sorted(set(range(args.seeds)) - set(have)):
        names: dict = {"__name__": "__main__"}
        with contextlib.suppress(CheckFailed):  # the margin says it, too
            for source in cells:
                exec(source.replace("seed = 0", f"seed = {seed}"), names)
        line = {
            "notebook": args.notebook,
            "live": args.live,
            "seed": seed,
            "margin": float(names["margin"]),
            "torch": torch.__version__,
        }
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"seed {seed}: margin {line['margin']:.4g}", flush=True)


if __name__ == "__main__":
    main()
