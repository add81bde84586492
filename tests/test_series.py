"""The map of the series has every chapter, in an order in which each can be read."""

import re

import pytest
from helpers import NOTEBOOKS, ROOT, read

from resnet_nb.plot import series

CELL = next(cell for cell in read(ROOT / "notebooks" / "00-start-here.ipynb").cells if cell.id == "map-code")
ROWS = dict(re.findall(r'"([^"]+)": "([\d ]+)"', CELL.source))
ORDER = " ".join(ROWS.values()).split()


def minutes(number):
    """What the head of a chapter says of the time it takes to read."""
    (path,) = [path for path in NOTEBOOKS if path.name.startswith(number)]
    head = next(cell.source for cell in read(path).cells if cell.source.startswith(f"# {number}"))
    return int(re.search(r"(\d+) minutes", head)[1])


def test_every_chapter_is_on_the_map_once():
    assert sorted(["00", *ORDER]) == [path.name[:2] for path in NOTEBOOKS]
    assert sorted(ORDER) == sorted(series.CHAPTERS) == sorted(series.DRAWINGS)


def test_a_chapter_comes_after_those_that_it_builds_on():
    for place, chapter in enumerate(ORDER):
        before = re.findall(r"\d\d", series.CHAPTERS[chapter][1])
        assert set(before) <= set(ORDER[:place]), f"{chapter} comes before one of {before}"


@pytest.mark.parametrize("words", ROWS)
def test_the_hours_are_those_of_the_chapters(words):
    hours, half = re.search(r"about (\d+)(½?) hour", words).groups()
    said, read_in = int(hours) + 0.5 * bool(half), sum(map(minutes, ROWS[words].split()))
    assert abs(read_in / 60 - said) < 0.4, f"{words}: its chapters take {read_in} minutes"


def test_the_map_says_in_words_what_it_shows():
    figure = series.chapters({"First: the story": "01 02", "Later: much": "12"}, "Three chapters.")
    assert figure.caption == "Three chapters."
    assert "First: the story: 01 the degradation problem, 02 residual learning (after 01)." in figure.alt
    assert "Later: much: 12 networks as ODE solvers (after 11)." in figure.alt
