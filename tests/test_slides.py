"""Decks, handouts and speaker's notes, without a browser. What they look like, test_browser_slides.py sees."""

import html.parser
import re

import nbformat
import pytest
from helpers import ROOT, contents, each_notebook, read

from tools import slides
from tools.reading import PNG, pictures

SHORT = ROOT / "notebooks" / "04-bottleneck.ipynb"


class Elements(html.parser.HTMLParser):
    """[(tag, attributes)] of a page, and the text of its speaker's notes."""

    def __init__(self, path):
        super().__init__()
        self.found, self.notes, self.inside = [], "", False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside |= tag == "aside"

    def handle_endtag(self, tag):
        self.inside &= tag != "aside"

    def handle_data(self, data):
        self.notes += data if self.inside else ""

    def attributes(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("build") / "slides"
    slides.build([SHORT], out)
    return out


# --- speaker's notes ---------------------------------------------------------------------------


@each_notebook
def test_every_slide_has_its_note_and_minutes(path):
    notes, options = slides.read_notes(path.stem)
    slides.deck(read(path), notes, **options)  # raises where one is missing or left over
    wrong = [
        f"{name}: {note}"
        for name, note in notes.items()
        if set(note) != {"minutes", "say"} or not 0.5 <= note["minutes"] <= 6 or len(note["say"].split()) < 15
    ]
    assert not wrong, "\n".join(wrong)
    assert 5 <= sum(note["minutes"] for note in notes.values()) <= 45, "a deck is for one lesson at most"


def test_a_slide_without_note_and_a_note_without_slide_are_refused():
    nb, (notes, _) = read(SHORT), slides.read_notes(SHORT.stem)
    first = next(iter(notes))
    with pytest.raises(slides.DeckError, match=f"no speaker's note for {first}$"):
        slides.deck(nb, {name: note for name, note in notes.items() if name != first})
    with pytest.raises(slides.DeckError, match="no slide for the notes tea-break$"):
        slides.deck(nb, notes | {"tea-break": notes[first]})


def test_a_heading_inside_a_cell_begins_a_slide():
    source = "**What it means.** Text.\n\n## Next\n\nMore.\n\n### Not this one"
    cell = nbformat.v4.new_markdown_cell(source, id="means", metadata={"slideshow": {"slide_type": "-"}})
    code = nbformat.v4.new_code_cell("## no heading", id="code", metadata={"slideshow": {"slide_type": "slide"}})
    skipped = nbformat.v4.new_markdown_cell("## No", id="no", metadata={"slideshow": {"slide_type": "skip"}})
    found = slides.slides(nbformat.v4.new_notebook(cells=[code, cell, skipped]))
    assert [[part.id for part in cells] for cells in found] == [["code", "means"], ["means-2"]]
    assert found[1][0].source == "## Next\n\nMore.\n\n### Not this one"


def test_code_can_be_hidden():
    nb, (notes, _) = read(SHORT), slides.read_notes(SHORT.stem)
    shown, hidden = (slides.page(slides.deck(nb, notes, hide_code=names), "deck", "") for names in ([], ["weights"]))
    assert "conv_weights" in shown.partition("def block_cost")[0]
    assert "conv_weights" not in hidden.partition("block_cost")[0]
    assert "[36864, 36864]" in hidden


def test_a_slide_can_be_left_out():
    nb = read(SHORT)
    names = [cells[0].id for cells in slides.slides(nb)]
    assert [cells[0].id for cells in slides.slides(nb, names[1:3])] == [names[0], *names[3:]]
    with pytest.raises(slides.DeckError, match="no slide to leave out is called tea-break$"):
        slides.slides(nb, ["tea-break"])


# --- what is built -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["04-bottleneck.html", "04-bottleneck-handout.html", "index.html"])
def test_nothing_is_loaded_from_outside_and_every_file_is_there(built, name):
    page = Elements(built / name)
    loaded = [a["src"] for tag in ("script", "img") for a in page.attributes(tag) if "src" in a]
    loaded += [a["href"] for a in page.attributes("link")]
    files = [source for source in loaded if not source.startswith("data:")]
    assert files and not [source for source in files if not (built / source).is_file()]
    assert page.attributes("html") == [{"lang": "en"}]


def test_pictures_keep_their_alternative_text(built):
    nb = read(SHORT)
    wanted = [output.metadata[PNG]["alt"] for _, output in pictures(nb.cells)]
    handout = [a["alt"] for a in Elements(built / "04-bottleneck-handout.html").attributes("img")]
    deck = [a["alt"] for a in Elements(built / "04-bottleneck.html").attributes("img")]
    assert wanted and handout == wanted
    assert deck and set(deck) <= set(wanted)


def test_deck_has_the_notes_and_their_minutes(built):
    notes, _ = slides.read_notes(SHORT.stem)
    page = Elements(built / "04-bottleneck.html")
    clock = [int(a["data-timing"]) for a in page.attributes("section") if "data-timing" in a]
    assert set(clock) == {round(60 * note["minutes"]) for note in notes.values()}
    for note in notes.values():
        assert f"{note['minutes']:g} min." in page.notes
        assert note["say"].split()[0].strip("*`") in page.notes


def test_a_failed_build_leaves_the_old_one(built, monkeypatch):
    before = contents(built)
    monkeypatch.setattr(slides, "read_notes", lambda stem: ({}, {}))
    with pytest.raises(slides.DeckError, match="docs/notes/04-bottleneck.toml: no speaker's note for "):
        slides.build([SHORT], built)
    assert contents(built) == before
    assert [path.name for path in built.parent.iterdir()] == [built.name]


# --- the teacher's page ------------------------------------------------------------------------

ROW = re.compile(r"\| (\d):(\d\d) \| (\d+) \| (.+?) \| .+ \|")
PART = re.compile(r"\[(\d\d)\]\(\.\./notebooks/\1-[\w-]+\.ipynb\), (slides|exercise) (\d+)(?:–(\d+))?")


def lessons():
    """The tables of the teacher's page: lists of (minute at which it begins, minutes, what)."""
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    tables = [ROW.findall(table) for table in re.split(r"\n(?=\| From)", text)[1:]]
    return [[(60 * int(h) + int(m), int(minutes), what) for h, m, minutes, what in table] for table in tables]


def planned(chapter, kind, first, last):
    """The minutes that the chapter itself gives to these slides, or to this exercise."""
    [path] = (ROOT / "notebooks").glob(f"{chapter}-*.ipynb")
    if kind == "exercise":
        text = "\n".join(cell.source for cell in read(path).cells)
        return float(re.search(rf"### Exercise {first}: .+\(.+, (\d+) min\)", text)[1])
    notes, options = slides.read_notes(path.stem)
    names = [cells[0].id for cells in slides.slides(read(path), options.get("leave_out", ()))]
    assert 1 <= int(first) <= int(last) <= len(names), f"{path.stem} has {len(names)} slides"
    return sum(notes[name]["minutes"] for name in names[int(first) - 1 : int(last)])


def test_lessons_take_ninety_minutes():
    assert len(lessons()) == 4, "one lesson, and a course of three"
    for lesson in lessons():
        ends = [at + minutes for at, minutes, _ in lesson]
        assert [at for at, _, _ in lesson] == [0, *ends[:-1]]
        assert ends[-1] == 90


def test_lessons_give_each_part_the_time_of_its_notes():
    parts = [(minutes, what, PART.match(what)) for lesson in lessons() for _, minutes, what in lesson]
    assert sum(found is not None for _, _, found in parts) >= 15
    wrong = []
    for minutes, what, found in parts:
        if found and not -0.5 <= minutes - planned(*found.groups()) <= 3:
            wrong.append(f"{what}: {minutes} minutes, its notes say {planned(*found.groups()):g}")
        assert found or what in ("Questions", "Homework"), what
    assert not wrong, "\n".join(wrong)
