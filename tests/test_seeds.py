"""What the notebooks promise of their live runs was seen with at least ten seeds."""

import ast
import math
import re

import pytest
from helpers import NOTEBOOKS, read

from tools import seeds
from tools.reading import code_cells, tags

LIVE = sorted(
    {
        (path.stem[:2], tag.removeprefix("live-"))
        for path in NOTEBOOKS
        for cell in code_cells(read(path))
        for tag in tags(cell)
        if tag.startswith("live-")
    }
)
# the sentence that quotes the seeds, with the command that made them
QUOTE = r"held for (\d+) of (\d+) seeds; the smallest [^.;]*? was ([\d.e+]+)(?: points)? \(`python {}`\)"
COMMAND = r"-m tools\.seeds {} {}"


@pytest.mark.parametrize("notebook, name", LIVE)
def test_a_live_run_promises_less_than_every_seed_gave(notebook, name):
    margins = seeds.margins(notebook, name)
    _, promised = seeds.promise(seeds.sources(notebook, name))
    assert sorted(margins) == list(range(len(margins))) and len(margins) >= 10
    assert min(margins.values()) >= 1.25 * promised, margins
    (path,) = [path for path in NOTEBOOKS if path.name.startswith(notebook)]
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    command = COMMAND.format(notebook, name)
    ((held, of, smallest),) = re.findall(QUOTE.format(command), text)
    assert int(held) == int(of) == len(margins)
    assert float(smallest) == pytest.approx(min(margins.values()), rel=0.03)


# what the claim says of the margin, where it is not the margin itself
SAID = {
    ("11", "init"): lambda margin: round(10**margin, -2),  # a factor, of which the cell takes the logarithm
}


def claim(cells):
    """The words of the check that compares the margin."""
    calls = [call for cell in cells for call in ast.walk(ast.parse(cell)) if isinstance(call, ast.Call)]
    (words,) = [call.args[0].value for call in calls if seeds.PROMISE.search(" ".join(map(ast.unparse, call.args[1:])))]
    return words


@pytest.mark.parametrize("notebook, name", LIVE)
def test_the_code_compares_with_the_number_of_the_claim(notebook, name):
    cells = seeds.sources(notebook, name)
    _, promised = seeds.promise(cells)
    said = SAID.get((notebook, name), float)(promised)
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", claim(cells))]
    assert any(math.isclose(said, number) for number in numbers), f"{claim(cells)!r}, but the code compares with {promised:g}"


def test_every_line_of_the_record_belongs_to_a_live_run():
    lines = seeds.RESULTS.read_text(encoding="utf-8").splitlines()
    assert len(lines) == sum(len(seeds.margins(*live)) for live in LIVE)


def test_live_runs_are_found():
    assert ("01", "degradation") in LIVE and ("02", "identity") in LIVE
    with pytest.raises(ValueError, match="live-nothing"):
        seeds.sources("02", "nothing")


def test_the_seed_is_the_only_thing_that_changes():
    cells = ["seed, recipe = 0, 1\nother = 0", "margin = 10 * seed + other\nassert margin >= 10"]
    assert seeds.promise(cells) == ("margin", 10)
    assert seeds.run(cells, 7) == 70
