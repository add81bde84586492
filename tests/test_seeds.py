"""What the notebooks promise of their live runs was seen with at least ten seeds."""

import json
import pathlib
import re

import nbformat
import notebook_tool as tool
import pytest
import seeds
import seeds_degradation

from resnet_nb.train import RECIPES

NOTEBOOK = pathlib.Path(__file__).resolve().parent.parent / "notebooks" / "01-degradation.ipynb"
MARGIN = 10  # points of training error; the notebook promises half of it


def gaps():
    """Seed -> by how many points the last training error of plain-56 is the higher one."""
    found = {}
    for line in seeds_degradation.results():
        shallow, deep = (line["logs"][name][-1]["train_error"] for name in ("cifar-plain20", "cifar-plain56"))
        found[line["seed"]] = deep - shallow
    return found


def test_the_deeper_plain_net_trains_worse_with_every_seed():
    assert len(gaps()) == len(seeds_degradation.results()) >= 10
    assert min(gaps().values()) >= MARGIN, gaps()


def test_the_notebook_quotes_these_seeds():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    text = "".join(line for cell in cells for line in cell["source"])
    held = sum(gap > 0 for gap in gaps().values())
    assert f"{held} of {len(gaps())} seeds; the smallest gap was {min(gaps().values()):.1f} points" in text
    assert "5 points higher" in text and MARGIN >= 2 * 5


def test_the_seeds_were_run_with_the_live_recipe():
    recipe = RECIPES["live"]
    for line in seeds_degradation.results():
        assert set(line["logs"]) == {"cifar-plain20", "cifar-plain56"}
        for log in line["logs"].values():
            assert log[-1]["iteration"] == recipe.iterations
            assert all(row["lr"] == recipe.learning_rate(row["iteration"] - 1) for row in log)


# --- the other notebooks: tests/seeds.py runs their own cells

LIVE = sorted(
    {
        (path.stem[:2], tag.removeprefix("live-"))
        for path in (tool.ROOT / "notebooks").glob("*.ipynb")
        for cell in tool.code_cells(nbformat.read(path, as_version=4))
        for tag in tool.tags(cell)
        if tag.startswith("live-")
    }
)
# the sentence that quotes the seeds, with the command that made them
QUOTE = r"held for (\d+) of (\d+) seeds; the smallest [^.;]*? was ([\d.e+]+) \(`python tests/seeds.py {} {}`\)"


@pytest.mark.parametrize("notebook, name", LIVE)
def test_a_live_run_promises_less_than_every_seed_gave(notebook, name):
    margins = seeds.margins(notebook, name)
    (promised,) = re.findall(r"\bmargin >= ([\d.]+)", "\n".join(seeds.sources(notebook, name)))
    assert sorted(margins) == list(range(len(margins))) and len(margins) >= 10
    assert min(margins.values()) >= 1.25 * float(promised), margins
    (path,) = (tool.ROOT / "notebooks").glob(f"{notebook}-*.ipynb")
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    ((held, of, smallest),) = re.findall(QUOTE.format(notebook, name), text)
    assert int(held) == int(of) == len(margins)
    assert float(smallest) == pytest.approx(min(margins.values()), rel=0.03)


def test_live_runs_are_found():
    assert ("02", "identity") in LIVE
    with pytest.raises(ValueError, match="live-nothing"):
        seeds.sources("02", "nothing")
