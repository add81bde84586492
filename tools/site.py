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

from tools import ROOT, chapters
from tools.reading import ready
from tools.whole import new_folder

DOCS = ROOT / "docs"


def listed(readme, notebooks):
    """The README's list of the notebooks with its titles made links, as Markdown for the index."""
    section = re.search(r"(?ms)^## The notebooks$(.+?)^## ", readme)
    lines = re.findall(r"(?m)^\* \*\*((\d\d) .+?)\*\*(.*(?:\n  .+)*)", section[1] if section else "")
    titles = {number: (title, text) for title, number, text in lines}
    if missing := [path.name for path in notebooks if path.name[:2] not in titles]:
        raise SphinxError(f'README.md: "## The notebooks" has no line `* **NN Title**: ...` for {", ".join(missing)}')
    found = [(path.name, *titles[path.name[:2]]) for path in notebooks]
    return "\n".join(f"* [**{title}**](notebooks/{name}){text}" for name, title, text in found)


def assemble(source, notebooks):
    """The pages in the folder `source`, at the places they have in the repository, so that links between them hold.

    Raises NotebookError if one is not `ready`.
    """
    for folder in ("notebooks", "docs"):
        (source / folder).mkdir(parents=True)
    for path in notebooks:
        (source / "notebooks" / path.name).write_text(nbformat.writes(ready(path)) + "\n", encoding="utf-8")
    shutil.copy(DOCS / "teaching.md", source / "docs")
    chapter_list = listed((ROOT / "README.md").read_text(encoding="utf-8"), notebooks)
    index = (DOCS / "index.md").read_text(encoding="utf-8").replace("<!-- chapters -->", chapter_list)
    (source / "index.md").write_text(index, encoding="utf-8")


def build(target, notebooks):
    """The site of these notebooks in the folder `target`.

    Raises NotebookError or SphinxError, and the old site stays, if anything is wrong.
    """
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
        build(target, chapters(ROOT / "notebooks", say=True))
    except (SphinxError, OSError, ValueError) as error:
        sys.exit(f"no new site: {' '.join(str(error).split())}")
    print(f"the site is in {target}: open {target / 'index.html'} in a browser")


if __name__ == "__main__":
    main()
