"""A notebook made readable where nothing runs: what slides, handouts and site have in common."""

import copy
import html
import importlib.util
import pathlib
import re

WIDGET = "application/vnd.jupyter.widget-view+json"  # it needs a kernel; the text beside it does not
PNG = "image/png"


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def pictures(cells):
    """[(cell, output)] of every picture in the outputs of these cells."""
    return [(cell, output) for cell in cells for output in cell.get("outputs", ()) if PNG in output.get("data", {})]


def title(nb):
    """The notebook's heading without the #."""
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1].strip()


def without_widgets(nb):
    """The notebook `nb`, changed: of what a kernel would draw, the text remains."""
    for output in [output for cell in code_cells(nb) for output in cell.outputs]:
        output.get("data", {}).pop(WIDGET, None)
    return nb


def for_readers(nb):
    """A copy that needs neither network nor kernel: a badge becomes its words, a widget its text.

    A picture becomes an element that carries its alternative text, which nbconvert and myst-nb would drop.
    """
    nb = without_widgets(copy.deepcopy(nb))
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"!\[([^\]]*)\]\(https?:[^)]*\)", r"\1", cell.source)
    for _, output in pictures(nb.cells):
        alt, png = html.escape(output.metadata[PNG]["alt"]), output.data.pop(PNG).strip()
        output.data["text/html"] = f'<img alt="{alt}" src="data:{PNG};base64,{png}">'
    return nb


def package(name):
    """The folder of an installed package."""
    return pathlib.Path(importlib.util.find_spec(name).origin).parent


def mathjax():
    """The one file of MathJax that needs no other: it draws, where its sisters load fonts."""
    return package("sphinx-mathjax-offline") / "static" / "mathjax" / "tex-svg.js"
