"""A notebook as it is stored, whatever program saved it."""

import itertools
import json
import re

import nbformat

NAME = re.compile(r"(?!(?=.*\d)[0-9a-f]{8}[0-9a-f-]*$)[a-z][a-z0-9]*(-[a-z0-9]+)*")  # but not eight random digits


class NotebookError(ValueError):
    """What is wrong, with the notebook and the cell."""


def load(path):
    """The notebook at `path` in format 4.5, each cell with a name of its own; NotebookError if it cannot be read.

    Colab, Kaggle and older programs store other formats, cells without names, or with equal or random ones.
    """
    try:
        stored = json.loads(path.read_bytes().decode("utf-8-sig"))
        if not isinstance(stored, dict) or not {"cells", "worksheets"} & set(stored):
            raise ValueError("it has no cells")
        if stored.get("nbformat") == 4:
            nb = nbformat.v4.to_notebook_json(complete(stored))
        else:
            nb = nbformat.convert(nbformat.reader.reads(json.dumps(stored)), 4)
        nb.nbformat_minor = 5
        name_cells(nb.cells)
        nbformat.validate(nb)
    except (ValueError, TypeError, AttributeError, KeyError, nbformat.ValidationError) as error:
        what = str(error).partition("\n")[0]
        raise NotebookError(f"{path.name}: not a notebook that can be read ({what}): restore it, or save it anew") from error
    return nb


def complete(stored):
    """The JSON of a notebook with what programs leave out of it; lines end as everywhere."""
    stored.setdefault("metadata", {}).setdefault("language_info", {"name": "python"})
    for cell in stored["cells"]:
        cell |= {"metadata": {}, "source": ""} | cell
        cell["source"] = "".join(cell["source"]).replace("\r\n", "\n")
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None} | cell
    return stored


def name_cells(cells):
    """Give the first words of a cell as name to each that has no name in words-with-hyphens, or that of one above it."""
    taken, nameless = set(), []
    for cell in cells:
        cell.id = cell.get("id") or cell.metadata.get("id", "")  # Colab puts it there
        if NAME.fullmatch(cell.id) and cell.id not in taken:
            taken.add(cell.id)
        else:
            nameless.append(cell)
    for cell in nameless:
        words = "-".join(re.findall(r"[a-z][a-z0-9]*", cell.source.lower())[:4])[:40].rstrip("-") or "cell"
        numbered = (f"{words}-no{k}" for k in itertools.count(2))
        cell.id = next(name for name in itertools.chain([words], numbered) if name not in taken)
        taken.add(cell.id)
