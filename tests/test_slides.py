"""Decks, handouts and speaker's notes, without a browser. What they look like, test_browser_slides.py sees."""

import html.parser
import re

import nbformat
import pytest
from helpers import DOT, ROOT, as_a_teacher_leaves_it, contents, each_notebook, read
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

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
    shown, hidden = (slides.page(slides.deck(nb, notes, hide_code=names), "deck", "") for names in ([], ["dozen"]))
    assert "BatchNorm2d" in shown and "BatchNorm2d" not in hidden
    assert "✓ equal, bit by bit" in hidden


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


# --- after a teacher's changes ------------------------------------------------------------------

HEAD = new_markdown_cell("# 04 Tiny", id="head", metadata={"slideshow": {"slide_type": "slide"}})
NOTE = '[head]\nminutes = 1\nsay = "Words."\n'


@pytest.fixture
def make_slides(tmp_path, monkeypatch):
    """`make slides` of one notebook with these cells after its head, and notes; returns the folder of the decks."""
    for name in ("notebooks", "notes", "build/slides"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "build" / "slides" / "old").write_text("old", encoding="utf-8")
    monkeypatch.setattr(slides, "ROOT", tmp_path)
    monkeypatch.setattr(slides, "NOTES", tmp_path / "notes")
    monkeypatch.setattr(slides, "OUT", tmp_path / "build" / "slides")

    def make(*cells, notes=NOTE, head=HEAD, **metadata):
        nbformat.write(new_notebook(cells=[head, *cells], metadata=metadata), tmp_path / "notebooks" / "04-tiny.ipynb")
        if notes is not None:
            (tmp_path / "notes" / "04-tiny.toml").write_bytes(notes if isinstance(notes, bytes) else notes.encode())
        slides.main()
        return slides.OUT

    return make


def test_what_a_teacher_leaves_is_shown(make_slides, tmp_path, capsys):
    cells, shown = as_a_teacher_leaves_it(tmp_path / "notebooks")
    (tmp_path / "notebooks" / "Untitled.ipynb").write_text("", encoding="utf-8")
    widgets = {"application/vnd.jupyter.widget-state+json": {"1": {"model_name": "IntSliderModel"}}}  # as Colab stores them
    out = make_slides(*cells, notes=b"\xef\xbb\xbf" + NOTE.encode(), widgets=widgets)
    for name in ("04-tiny.html", "04-tiny-handout.html"):
        pictures = Elements(out / name).attributes("img")
        assert {picture["alt"]: picture["src"] for picture in pictures} == shown
        assert not [script for script in Elements(out / name).attributes("script") if ":" in script.get("src", "")]
        assert "as &lt;it&gt; is" in (out / name).read_text(encoding="utf-8")
    assert (
        capsys.readouterr().err
        == "left out, since a chapter is called NN-words.ipynb, in small letters a to z and digits: Untitled.ipynb\n"
    )


def ran(*outputs, count=1, **cell):
    return new_code_cell("f()", id="code", execution_count=count, outputs=list(outputs), **cell)


def picture(kind, **metadata):
    return new_output("display_data", {kind: DOT, "text/plain": "<Figure>"}, metadata=metadata)


ERROR = new_output("error", ename="NameError", evalue="name 'f'\nis not there", traceback=["\x1b[31mNameError"])
PLAIN = new_markdown_cell("# 04 Tiny", id="head", metadata={"slideshow": {"slide_type": "skip"}})
UNFIT = {
    "own plot": (
        [ran(picture("image/png"))],
        {},
        "04-tiny.ipynb: a picture of cell code has no alternative text: draw",
    ),
    "own JPEG": (
        [ran(picture("image/jpeg", needs_background="light"))],
        {},
        "04-tiny.ipynb: a picture of cell code has no",
    ),
    "own SVG": ([ran(picture("image/svg+xml"))], {}, "04-tiny.ipynb: a picture of cell code has no alternative text"),
    "cleared": ([ran(count=None)], {}, "04-tiny.ipynb: cell code is not executed: run make notebooks"),
    "outputs cleared": (
        [ran(), new_code_cell("2", id="b", execution_count=2)],
        {},
        "04-tiny.ipynb: no cell has an output: run make notebooks",
    ),
    "half way": ([ran(), new_code_cell("2", id="b")], {}, "04-tiny.ipynb: cell b is not executed: run make notebooks"),
    "order": (
        [ran(count=2), new_code_cell("2", id="b", execution_count=1)],
        {},
        "04-tiny.ipynb: cell b is executed before",
    ),
    "error": ([ran(ERROR)], {}, r"04-tiny.ipynb: cell code ends in an error \(NameError: name 'f'\): mend it, then"),
    "missing": ([new_markdown_cell("![x](no.png)", id="a")], {}, "04-tiny.ipynb: cell a: there is no picture no.png"),
    "remote": ([new_markdown_cell("![x](http://x.y/z.png)", id="a")], {}, "04-tiny.ipynb: cell a: the picture http://x.y/z"),
    "dead link": (
        [new_markdown_cell("[x](05-gone.ipynb#a)", id="a")],
        {},
        "04-tiny.ipynb: cell a links to 05-gone.ipynb",
    ),
    "no heading": ([], {"head": new_markdown_cell("## 04 Tiny")}, "04-tiny.ipynb: no Markdown cell has a heading: write one"),
    "no slide": ([], {"head": PLAIN, "notes": ""}, "04-tiny.ipynb: no cell is on a slide: choose a Slide Type"),
    "no notes": (
        [],
        {"notes": None},
        "docs/notes/04-tiny.toml: there is no such file: write in it what to say on",
    ),
    "no minutes": ([], {"notes": "[head]\nsay = 'x'"}, "docs/notes/04-tiny.toml: the note head must have a number `minutes`"),
    "not a number": (
        [],
        {"notes": "[head]\nminutes = nan\nsay = 'x'"},
        "docs/notes/04-tiny.toml: the note head must have a number `minutes`, above 0",
    ),
    "a conflict": (
        [new_markdown_cell("<<<<<<< HEAD\na\n=======\nb\n>>>>>>> b", id="a")],
        {},
        "04-tiny.ipynb: cell a holds both sides of a merge conflict",
    ),
    "no address": ([new_markdown_cell("![x](//[a.png)", id="a")], {}, "04-tiny.ipynb: cell a: the picture //.a.png is at no"),
    "no text": ([], {"notes": "[head]\nminutes = 1"}, "docs/notes/04-tiny.toml: the note head must have a number `minutes`"),
    "no table": (
        [],
        {"notes": "head = 1"},
        "docs/notes/04-tiny.toml: the note head must have a number `minutes`, above 0, and",
    ),
    "no list": (
        [],
        {"notes": "hide_code = 'a'\n" + NOTE},
        "docs/notes/04-tiny.toml: hide_code must be a list of slides",
    ),
    "no TOML": ([], {"notes": "[head"}, "docs/notes/04-tiny.toml: Expected ']'"),
    "no UTF-8": ([], {"notes": b"# \xe4"}, "docs/notes/04-tiny.toml: 'utf-8' codec can't decode byte 0xe4"),
}


@pytest.mark.parametrize("cells, contents, message", UNFIT.values(), ids=UNFIT)
def test_what_is_wrong_is_said_in_a_line_and_the_old_slides_stay(make_slides, cells, contents, message):
    with pytest.raises(SystemExit, match=f"^error: {message}[^\n]*$"):
        make_slides(*cells, **contents)
    assert [path.name for path in slides.OUT.parent.iterdir()] == ["slides"]
    assert (slides.OUT / "old").read_text(encoding="utf-8") == "old"


def test_a_file_that_is_no_notebook_is_named_and_the_old_slides_stay(make_slides, tmp_path):
    (tmp_path / "notebooks" / "03-broken.ipynb").write_text('{"cells": [', encoding="utf-8")
    with pytest.raises(SystemExit, match="^error: 03-broken.ipynb: not a notebook that can be read [^\n]*$"):
        make_slides()
    assert (slides.OUT / "old").exists()


def test_an_error_that_is_announced_is_shown(make_slides):
    out = make_slides(ran(ERROR, metadata={"tags": ["raises-exception"]}))
    assert "NameError" in (out / "04-tiny-handout.html").read_text(encoding="utf-8")


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
