"""Build one deck and one handout a chapter, to be opened from disk without network.

    python -m tools.slides        from notebooks/ and docs/notes/ into build/slides

A deck has the cells whose slide_type puts them on a slide; a heading `## ` inside a cell begins the next
slide. What to say on each slide, and its minutes, stand in docs/notes/<notebook>.toml under the name of the
slide: the id of its first cell, with -2, -3, ... for slides that begin at a heading inside that cell. The
slides named in its `leave_out` are not shown, those in `hide_code` without their code.
A handout is the whole notebook as a page to read and to print.
"""

import copy
import html
import re
import shutil
import sys
import tomllib

import nbformat
from nbconvert import HTMLExporter, SlidesExporter

from tools import ROOT, chapters
from tools.reading import for_readers, mathjax, package, ready, title
from tools.stored import NotebookError
from tools.whole import new_folder

TEMPLATES = ROOT / "docs" / "templates"
NOTES = ROOT / "docs" / "notes"
OUT = ROOT / "build" / "slides"
ENDINGS = {"deck": ".html", "handout": "-handout.html"}  # of the pages
UNSAID = ("## Where to go next", "## Exercises")  # parts of a cell that are for readers
LINK = re.compile(r"\]\((\d\d-[\w-]+)\.ipynb(?=[)#])")  # to another chapter, or to a place in it
BEGINS = ("slide", "subslide")  # the others, "-" and "fragment", go on


class DeckError(Exception):
    """What is wrong, with the notebook and the slide or the cell."""


def slide_type(cell):
    return (cell.metadata.get("slideshow") or {}).get("slide_type", "skip")  # as make notebooks stores it


def offline(nb, ending):
    """The notebook for readers; a link to another one leads to the page with that ending."""
    nb = for_readers(nb)
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(rf"](\1{ending}", cell.source)
    return nb


def parts(cell):
    """The pieces of a cell that goes on a slide, cut before each heading that is not its first line."""
    pieces = re.split(r"\n(?=## )", cell.source) if cell.cell_type == "markdown" else [cell.source]
    for k, source in enumerate(pieces, 1):
        part = copy.deepcopy(cell)
        part.source = source.strip()
        part.id = cell.id if k == 1 else f"{cell.id}-{k}"
        part.metadata["slideshow"] = {"slide_type": "slide" if k > 1 else slide_type(cell)}
        yield part


def slides(nb, leave_out=()):
    """The slides of a notebook: lists of cells. The first cell's id is the slide's name.

    Raises DeckError if a name in `leave_out` is that of no slide.
    """
    found = []
    for cell in nb.cells:
        if slide_type(cell) in ("skip", "notes"):
            continue
        for part in parts(cell):
            if part.source.partition("\n")[0].rstrip() in UNSAID:
                continue
            if not found or slide_type(part) in BEGINS:
                found.append([])
            found[-1].append(part)
    if wrong := set(leave_out) - {cells[0].id for cells in found}:
        raise DeckError(f"no slide to leave out is called {', '.join(sorted(wrong))}")
    return [cells for cells in found if cells[0].id not in leave_out]


def read_notes(stem):
    """Of one chapter: {name of the slide: {"minutes": number, "say": Markdown}}, and `leave_out` and `hide_code`.

    Raises DeckError if there is no such file or it holds anything else.
    """
    file = NOTES / f"{stem}.toml"
    if not file.is_file():
        raise DeckError(f"there is no such file: write in it what to say on the slides of {stem}.ipynb, as in the others")
    try:
        notes = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DeckError(str(error)) from error
    options = {key: notes.pop(key) for key in ("leave_out", "hide_code") if key in notes}
    for key, names in options.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DeckError(f"{key} must be a list of slides' names in quotation marks")
    for name, note in notes.items():
        given = note if isinstance(note, dict) else {}
        minutes = given.get("minutes")
        if type(minutes) not in (int, float) or not 0 < minutes < 600 or not isinstance(given.get("say"), str):
            raise DeckError(f"the note {name} must have a number `minutes`, above 0, and a text `say`")
    return notes, options


def deck(nb, notes, leave_out=(), hide_code=()):
    """A notebook of the cells on slides, with the speaker's notes as cells of their own.

    Raises DeckError if a slide has no note, or a note or a name in the lists has no slide.
    """
    found = slides(nb, leave_out)
    names = [cells[0].id for cells in found]
    if missing := [name for name in names if name not in notes]:
        raise DeckError(f"no speaker's note for {', '.join(missing)}")
    if extra := [name for name in [*notes, *hide_code] if name not in names]:
        raise DeckError(f"no slide for the notes {', '.join(extra)}")
    cells = []
    for name, (first, *others) in zip(names, found):
        minutes, say = notes[name]["minutes"], notes[name]["say"].strip()
        first.metadata["slideshow"]["data"] = {"timing": round(60 * minutes)}  # of the speaker view's clock
        note = nbformat.v4.new_markdown_cell(f"**{minutes:g} min.** {say}", id=f"{name}-notes")
        note.metadata["slideshow"] = {"slide_type": "notes"}
        if name in hide_code:
            for cell in [first, *others]:
                cell.metadata["transient"] = {"remove_source": cell.cell_type == "code"}
        cells += [first, note, *others]
    return nbformat.v4.new_notebook(cells=cells, metadata=nb.metadata)


def page(nb, template, name):
    """The HTML of a notebook by one of the templates, "deck" or "handout"."""
    exporter = (SlidesExporter if template == "deck" else HTMLExporter)(
        template_name=template,
        extra_template_basedirs=[str(TEMPLATES)],
        language_code="en",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    if template == "deck":
        exporter.reveal_url_prefix, exporter.reveal_theme = "assets/reveal", "deck"
    nb = offline(nb, ENDINGS[template])
    nb.metadata["title"] = name
    return exporter.from_notebook_node(nb)[0]


def copy_assets(folder):
    """reveal.js, MathJax and our style sheets, from the installed packages."""
    reveal = package("sphinx_revealjs") / "_static" / "revealjs"
    for name in ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js", "LICENSE"):
        (folder / "reveal" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(reveal / name, folder / "reveal" / name)
    shutil.copy(mathjax(), folder)
    for path in TEMPLATES.glob("*.[cj]s*"):
        shutil.copy(path, folder)
    (folder / "reveal" / "dist" / "theme").mkdir()
    shutil.move(folder / "deck.css", folder / "reveal" / "dist" / "theme")


def index(rows):
    """The page that lists the decks: [(stem, title, number of slides, minutes)]."""
    lines = "\n".join(
        f'<tr><td><a href="{stem}.html">{html.escape(name)}</a></td><td>{count}</td><td>{minutes:.0f}</td>'
        f'<td><a href="{stem}-handout.html">Handout of {stem[:2]}</a></td></tr>'
        for stem, name, count, minutes in rows
    )
    return (TEMPLATES / "index.html").read_text(encoding="utf-8").replace("<!-- rows -->", lines)


def chapter(path):
    """The notebook at `path`, its deck and its notes. Raises DeckError, which names the notebook and the cell or the slide."""
    try:
        nb = ready(path)
    except NotebookError as error:
        raise DeckError(str(error)) from error
    for cell in nb.cells:
        for name in LINK.findall(cell.source) if cell.cell_type == "markdown" else ():
            if not (path.parent / f"{name}.ipynb").exists():
                raise DeckError(f"{path.name}: cell {cell.id} links to {name}.ipynb, which is not there")
    if not slides(nb):
        raise DeckError(f"{path.name}: no cell is on a slide: choose a Slide Type in JupyterLab's Property Inspector")
    try:
        notes, options = read_notes(path.stem)
        return nb, deck(nb, notes, **options), notes
    except DeckError as error:
        raise DeckError(f"docs/notes/{path.stem}.toml: {error}") from error


def build(paths, out):
    """Write decks, handouts and index of these notebooks into the folder `out`; all or nothing. Raises DeckError."""
    rows = []
    with new_folder(out) as folder:
        copy_assets(folder / "assets")
        for path in paths:
            nb, cells, notes = chapter(path)
            name = title(nb, path.name)
            for template, content in {"deck": cells, "handout": nb}.items():
                text = page(content, template, name)
                (folder / f"{path.stem}{ENDINGS[template]}").write_text(text, encoding="utf-8")
            rows.append((path.stem, name, len(notes), sum(note["minutes"] for note in notes.values())))
        (folder / "index.html").write_text(index(rows), encoding="utf-8")


def main():
    paths = chapters(ROOT / "notebooks", say=True)
    try:
        build(paths, OUT)
    except (DeckError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{len(paths)} decks and handouts: open {OUT / 'index.html'} in a browser (in a deck, S shows the notes)")


if __name__ == "__main__":
    main()
