"""Build the site: the executed notebooks and the teacher's page in build/site, all or nothing.

python -m tools.site
"""

import io
import pathlib
import re
import shutil
import sys
import tempfile

import nbformat
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.console import strip_escape_sequences
from sphinx.util.docutils import docutils_namespace, patch_docutils

from tools import ROOT
from tools.reading import PNG, pictures
from tools.whole import new_folder

DOCS = ROOT / "docs"


def chapters(readme, notebooks):
    """The README's list of the notebooks with its titles made links, as Markdown for the index."""
    section = re.search(r"(?ms)^## The notebooks$(.+?)^## ", readme)
    lines = re.findall(r"(?m)^\* \*\*((\d\d) .+?)\*\*(.*(?:\n  .+)*)", section[1] if section else "")
    listed = {number: (title, text) for title, number, text in lines}
    if missing := [path.name for path in notebooks if path.name[:2] not in listed]:
        raise SphinxError(f'README.md: "## The notebooks" has no line `* **NN Title**: ...` for {", ".join(missing)}')
    found = [(path.name, *listed[path.name[:2]]) for path in notebooks]
    return "\n".join(f"* [**{title}**](notebooks/{name}){text}" for name, title, text in found)


def inspect(path):
    """Refuse a notebook that is not executed, or whose pictures have no words."""
    cells = nbformat.read(path, as_version=4).cells
    for cell in cells:
        if cell.cell_type == "code" and cell.execution_count is None:
            raise SphinxError(f"{path.name}: cell {cell.id} is not executed: run make notebooks")
    for cell, output in pictures(cells):
        if not output.metadata.get(PNG, {}).get("alt"):
            raise SphinxError(f"{path.name}: a picture of cell {cell.id} has no alternative text: draw it with resnet_nb.plot")


def assemble(source, notebooks):
    """The pages in the folder `source`, at the places they have in the repository, so that links between them hold."""
    for folder in ("notebooks", "docs"):
        (source / folder).mkdir(parents=True)
    for path in notebooks:
        inspect(path)
        shutil.copy(path, source / "notebooks")
    shutil.copy(DOCS / "teaching.md", source / "docs")
    listed = chapters((ROOT / "README.md").read_text(encoding="utf-8"), notebooks)
    index = (DOCS / "index.md").read_text(encoding="utf-8").replace("<!-- chapters -->", listed)
    (source / "index.md").write_text(index, encoding="utf-8")


def build(target, notebooks):
    """The site of these notebooks in the folder `target`; SphinxError, and the old site stays, if anything is wrong."""
    said = io.StringIO()
    with new_folder(target) as site, tempfile.TemporaryDirectory() as work:
        source, doctrees = pathlib.Path(work) / "source", pathlib.Path(work) / "doctrees"
        assemble(source, notebooks)
        with patch_docutils(DOCS), docutils_namespace():  # what one build registers, the next must not find
            Sphinx(source, DOCS, site, doctrees, "html", status=None, warning=said).build()
        if warnings := strip_escape_sequences(said.getvalue()).replace(f"{source}/", "").split("\n")[:-1]:
            raise SphinxError("; ".join(warnings))


def main():
    target = ROOT / "build" / "site"
    try:
        build(target, sorted((ROOT / "notebooks").glob("*.ipynb")))
    except (SphinxError, OSError, ValueError) as error:
        sys.exit(f"no new site: {' '.join(str(error).split())}")
    print(f"the site is in {target}: open {target / 'index.html'} in a browser")


if __name__ == "__main__":
    main()
