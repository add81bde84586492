"""Notebooks as teachers and other programs leave them: read whatever their form, whole in themselves, or refused in a line."""

import base64
import json
import os
import urllib.parse

import nbformat
import PIL.Image
import pytest
from helpers import ROOT, each_notebook, no
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import chapters, notebooks, reading, stored

# --- the forms in which programs save ----------------------------------------------------------

CELLS = {"head": "# 04 Tiny\n\nWords.", "setup": "import sys\n\nx = 1", "late": "x"}


def tiny():
    """A notebook as we store it, as JSON."""
    make = {"head": new_markdown_cell}
    nb = new_notebook(cells=[make.get(name, new_code_cell)(source, id=name) for name, source in CELLS.items()])
    return json.loads(nbformat.writes(nb))


def without_ids(nb, minor, keep=lambda name: {}):
    nb["nbformat_minor"] = minor
    for cell in nb["cells"]:
        cell["metadata"] |= keep(cell.pop("id"))
    return nb


def colab(nb, name=lambda name: name):
    """Format 4.0; the id becomes metadata, and outputs get ids of their own."""
    nb["metadata"] = {"colab": {"provenance": []}, "kernelspec": {"name": "ir", "display_name": "R"}}
    return without_ids(nb, 0, lambda cell: {"id": name(cell), "outputId": "a1b2", "colab": {"height": 35}})


def bare(nb):
    """What a script wrote: neither metadata nor outputs, and each source one string."""
    del nb["metadata"]
    for cell in nb["cells"]:
        cell["source"] = "".join(cell["source"])
        for key in ("id", "metadata", "outputs", "execution_count"):
            cell.pop(key, None)
    return nb


def renamed(nb, *names):
    for cell, name in zip(nb["cells"], names, strict=True):
        cell["id"] = name
    return nb


def with_windows_lines(nb):
    for cell in nb["cells"]:
        cell["source"] = [line.replace("\n", "\r\n") for line in cell["source"]]
    return nb


def of_format_3(nb):
    code = [{"cell_type": "code", "input": "".join(c["source"]), "language": "python", "outputs": []} for c in nb["cells"][1:]]
    head = {"cell_type": "markdown", "source": "".join(nb["cells"][0]["source"])}
    return {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": [head, *code]}]}


OURS = [*CELLS]
FROM_WORDS = ["tiny-words", "import-sys-x", "x"]
SAVED = {
    "ours": (lambda nb: nb, OURS),
    "Colab, of ours": (colab, OURS),
    "Colab, of its own": (lambda nb: colab(nb, lambda name: f"X{name}_4cRE"), FROM_WORDS),
    "Kaggle": (lambda nb: without_ids(nb, 4, lambda name: {"trusted": True, "execution": {}}), FROM_WORDS),
    "VS Code": (lambda nb: without_ids(nb, 2, lambda name: {"vscode": {"languageId": "python"}}), FROM_WORDS),
    "JupyterLab's random ids": (lambda nb: renamed(nb, "a1b2c3d4", "0f1e2d3c-aaaa", "setup"), [*FROM_WORDS[:2], "setup"]),
    "a copy": (lambda nb: renamed(nb, "head", "setup", "setup"), ["head", "setup", "x"]),
    "words that are taken": (lambda nb: renamed(nb, "head", "x", "A!"), ["head", "x", "x-no2"]),
    "a script": (bare, FROM_WORDS),
    "lines of Windows": (with_windows_lines, OURS),
    "IPython 3": (of_format_3, FROM_WORDS),
}


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "BOM"])
@pytest.mark.parametrize("form, names", SAVED.values(), ids=SAVED)
def test_a_notebook_of_any_program_is_stored_as_ours(tmp_path, form, names, mark):
    path = tmp_path / "04-tiny.ipynb"
    path.write_bytes((mark + json.dumps(form(tiny()), indent=1)).replace("\n", "\r\n" if mark else "\n").encode())
    nb = stored.load(path)
    assert [cell.id for cell in nb.cells] == names
    assert [cell.source for cell in nb.cells] == [*CELLS.values()]
    path.write_bytes(notebooks.as_bytes(notebooks.canonical(nb)))
    again = nbformat.read(path, as_version=4)
    nbformat.validate(again)
    assert (again.nbformat, again.nbformat_minor) == (4, 5)
    assert [(cell.id, cell.source) for cell in again.cells] == [*zip(names, CELLS.values(), strict=True)]
    assert again.metadata == notebooks.METADATA
    assert notebooks.as_bytes(notebooks.canonical(stored.load(path))) == path.read_bytes()


@each_notebook
def test_a_chapter_that_colab_saved_becomes_what_it_was(path, tmp_path):
    saved = tmp_path / path.name
    saved.write_text(json.dumps(colab(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    assert notebooks.as_bytes(notebooks.canonical(stored.load(saved))) == path.read_bytes()


def test_empty_cells_are_not_stored():
    """Run and Advance leaves one at the end; one with a tag is someone's."""
    cells = [
        new_code_cell("", id="a"),
        new_markdown_cell(" \n", id="b"),
        new_code_cell("", id="c", metadata={"tags": ["answer"]}),
    ]
    kept = notebooks.canonical(new_notebook(cells=[*cells, new_code_cell("1", id="d")])).cells
    assert [cell.id for cell in kept] == ["c", "d"]


MERGED = b'{"cells": [],\n<<<<<<< HEAD\n "metadata": {}\n'


@pytest.mark.parametrize(
    "content, what",
    [
        (b"", "Expecting value"),
        (b'{"cells": [', "Expecting value"),
        (MERGED, "line 2 column 1"),
        (b"[]", "it has no cells"),
        (b'{"name": "config"}', "it has no cells"),
        (b'{"cells": 1, "nbformat": 4}', ""),
        (b'{"cells": [1], "nbformat": 4}', ""),
        (b'{"cells": [], "nbformat": 9}', "9"),
        (b'{"cells": [{"cell_type": "poem"}], "nbformat": 4}', "poem"),
        ('{"cells": []}'.encode("utf-16"), "utf-8"),
    ],
)
def test_a_file_that_is_no_notebook_is_refused_in_a_line(tmp_path, content, what):
    path = tmp_path / "04-tiny.ipynb"
    path.write_bytes(content)
    with pytest.raises(stored.NotebookError) as caught:
        stored.load(path)
    assert str(caught.value).startswith("04-tiny.ipynb: not a notebook that can be read (") and what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_lies_beside_the_chapters_is_left_alone(tmp_path, capsys):
    names = ["01-a-b.ipynb", "00-c.ipynb", "Untitled.ipynb", "01-a-b-Copy1.ipynb", "1-d.ipynb", "._00-c.ipynb"]
    for name in names:
        (tmp_path / name).write_text("", encoding="utf-8")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    assert [path.name for path in chapters(tmp_path, say=True)] == ["00-c.ipynb", "01-a-b.ipynb"]
    said = "left out, since a chapter is called NN-words.ipynb, in small letters a to z and digits:"
    said += " 01-a-b-Copy1.ipynb, 1-d.ipynb, Untitled.ipynb\n"
    assert capsys.readouterr() == ("", said)
    assert chapters(ROOT / "notebooks") == sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))


# --- pictures of Markdown -----------------------------------------------------------------------

FILES = ["a.png", "b c.png", "in/ö (1).png", "100%.png", "x#1.png", "bär's.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a notebook with pictures that are all different."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "in").mkdir()
    for gray, name in enumerate(FILES):
        PIL.Image.new("L", (1, 1), gray).save(folder / name)
    PIL.Image.new("L", (1, 1)).save(folder / "really.png", format="JPEG")
    (folder / "v.svg").write_text("<svg/>", encoding="utf-8")
    (folder / "words.png").write_text("version https://git-lfs.github.com/spec/v1", encoding="utf-8")
    PIL.Image.effect_noise((64, 64), 99).save(folder / "cut.png")
    os.truncate(folder / "cut.png", 200)
    (folder / "chart.pdf").write_bytes(b"%PDF-1.7")
    return folder


def address(folder, name, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode((folder / name).read_bytes()).decode()}"


def embedded(source, folder, **cell):
    cell = new_markdown_cell(source, id="drawing", **cell)
    reading.embed(cell, folder)
    return cell.source


@pytest.mark.parametrize(
    "source, file",
    [
        ("![W](a.png)", "a.png"),
        ('![W]( ./a.png "A title" )', "a.png"),
        ("![W](<b c.png> 'A title')", "b c.png"),
        ("![W](b%20c.png)", "b c.png"),
        ("![W](b c.png)", "b c.png"),
        ("![W](in/ö (1).png)", "in/ö (1).png"),
        (f"![W]({urllib.parse.quote('in/ö (1).png')})", "in/ö (1).png"),
        ("![W](100%.png)", "100%.png"),
        ("![W](100%25.png)", "100%.png"),
        ("![W](x#1.png)", "x#1.png"),
        ("![W](x%231.png)", "x#1.png"),
        ("![W](a.png?raw=true)", "a.png"),
        ("![W](a.png#right)", "a.png"),
        ("![W][place]\n\n[Place]: a.png 'A title'", "a.png"),
        ("![W][]\n\n[w]: <b c.png>", "b c.png"),
        ("![W]\n\n[W]: a.png", "a.png"),
    ],
)
def test_a_picture_of_markdown_is_put_into_the_cell(folder, source, file):
    assert embedded(source, folder).partition("\n")[0] == f'<img alt="W" src="{address(folder, file)}">'
    inside = embedded(f"* in a [{source.partition(chr(10))[0]}](x.md)\n{source.partition(chr(10))[2]}", folder)
    assert inside.startswith(f'* in a [<img alt="W" src="{address(folder, file)}">](x.md)\n')


@pytest.mark.parametrize(
    "source, file",
    [
        ("<img src=a.png>", "a.png"),
        ('<p align="center"><img alt="W"\n  src = "bär\'s.png" width=9/></p>', "bär's.png"),
        ("<IMG width='9' SRC='in/&#246; (1).png'>", "in/ö (1).png"),
    ],
)
def test_a_picture_of_html_is_put_into_the_cell(folder, source, file):
    assert f'"{address(folder, file)}"' in embedded(source, folder)
    output = new_output("display_data", {"text/html": source})
    reading.embed(new_code_cell("", outputs=[output]), folder)
    assert f'"{address(folder, file)}"' in output.data["text/html"]


def test_a_picture_is_what_its_content_says(folder):
    assert address(folder, "really.png", "image/jpeg") in embedded("![W](really.png)", folder)
    assert address(folder, "v.svg", "image/svg+xml") in embedded("![W](v.svg)", folder)
    assert address(folder, "a.png") in embedded(f"![W]({folder / 'a.png'})", folder)
    assert address(folder, "a.png") in embedded(f"![W]({(folder / 'a.png').as_uri()})", folder)


def test_words_of_a_picture_are_kept(folder):
    assert r'alt="a [b] &lt;c&gt; ]"' in embedded(r"![a [b] <c> \]](a.png)", folder)


def test_what_was_pasted_is_put_into_the_cell(folder):
    pasted = {"two words.png": {"image/png": "iVBO\nRw=="}, "v.svg": {"image/svg+xml": "PHN2Zy8+"}}
    source = embedded("![](attachment:two%20words.png) ![](attachment:v.svg)", folder, attachments=pasted)
    assert source == '<img alt="" src="data:image/png;base64,iVBORw=="> <img alt="" src="data:image/svg+xml;base64,PHN2Zy8+">'


@pytest.mark.parametrize(
    "source",
    [
        "`![W](gone.png)` and ``a ` ![W](gone.png)``",
        "```\n![W](gone.png)\n```\n\n~~~\n<img src='gone.png'>\n~~~",
        "* text\n\n  ```python\n  ![W](gone.png)\n  ```",
        "<!-- ![W](gone.png) -->",
        r"\![W](gone.md)",
        "![no picture] and [a link](gone.md)",
        '<img src="data:image/png;base64,iVBO">',
    ],
)
def test_what_is_no_picture_stays(folder, source):
    assert embedded(source, folder) == source


@pytest.mark.parametrize(
    "source, message",
    [
        ("![W](gone.png)", "there is no picture gone.png"),
        ("![W](in)", "there is no picture in;"),
        ("![W](a one `tick b\n\n![W](gone.png) c` d", "there is no picture gone.png"),
        ("<img alt='' src='gone.png'>", "there is no picture gone.png"),
        ("![W][p]\n\n[p]: gone.png", "there is no picture gone.png"),
        ("![W](attachment:gone.png)", "the picture attachment:gone.png is not attached to it: paste it again"),
        ("![W](https://example.org/a.png)", "the picture https://example.org/a.png is on the network: save it here"),
        ("<img src='//example.org/a.png'>", "the picture //example.org/a.png is on the network: save it here"),
        ("![W](//[a.png)", r"the picture //\[a.png is at no address"),
        ("![W](cut.png)", "the picture cut.png cannot be read"),
        ("![W](words.png)", "words.png is no picture for browsers: save it as PNG"),
        ("![W](chart.pdf)", "chart.pdf is no picture for browsers: save it as PNG"),
    ],
)
def test_a_picture_that_cannot_be_shown_is_named(folder, source, message):
    with pytest.raises(stored.NotebookError, match=f"^cell drawing: {message}"):
        embedded(source, folder)
    if source.startswith("<img"):
        output = new_output("display_data", {"text/html": source})
        with pytest.raises(stored.NotebookError, match=f"^cell drawing: {message}"):
            reading.embed(new_code_cell("", outputs=[output], id="drawing"), folder)


@each_notebook
def test_chapters_are_ready(path):
    """As they are: nothing is refused, and nothing but their form changes."""
    ready, now = reading.ready(path), stored.load(path)
    no(f"cell {cell.id}" for cell, was in zip(ready.cells, now.cells, strict=True) if cell != was)
