"""Build the site: the executed notebooks and the teacher's page as static pages in build/site, or nothing.

    python docs/build_site.py
"""

import io
import pathlib
import re
import shutil
import sys
import tempfile

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.console import strip_escape_sequences

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent


def chapters(readme, notebooks):
    """The README's list of the notebooks, its titles made links: Markdown for the index."""
    section = re.search(r"(?ms)^## The notebooks$(.+?)^## ", readme)
    lines = dict(re.findall(r"(?m)^\* \*\*(\d\d .+?)\*\*(.*(?:\n  .+)*)", section[1] if section else ""))
    by_number = {title[:2]: (title, text) for title, text in lines.items()}
    if missing := [path.name for path in notebooks if path.name[:2] not in by_number]:
        raise SphinxError(f"README.md: no line `* **NN Title**: ...` under \"## The notebooks\" for {', '.join(missing)}")
    found = [(path, *by_number[path.name[:2]]) for path in notebooks]
    return "\n".join(f"* [**{title}**](notebooks/{path.name}){text}" for path, title, text in found)


def assemble(source, notebooks):
    """The pages in the folder `source`, at the places they have in the repository, so that links between them hold."""
    (source / "docs").mkdir(parents=True)
    (source / "notebooks").mkdir()
    for path in notebooks:
        shutil.copy(path, source / "notebooks")
    shutil.copy(DOCS / "teaching.md", source / "docs")
    listed = chapters((ROOT / "README.md").read_text(), notebooks)
    (source / "index.md").write_text((DOCS / "index.md").read_text().replace("<!-- chapters -->", listed))


def build(target, notebooks):
    """The site of these notebooks in the folder `target`, all or nothing; SphinxError says what is wrong."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=target.parent) as work:
        work, said = pathlib.Path(work), io.StringIO()
        assemble(work / "source", notebooks)
        Sphinx(work / "source", DOCS, work / "site", work / "doctrees", "html", status=None, warning=said).build()
        warnings = strip_escape_sequences(said.getvalue()).replace(f"{work / 'source'}/", "").splitlines()
        if warnings:
            raise SphinxError("; ".join(warnings))
        if target.exists():
            target.rename(work / "old")
        (work / "site").rename(target)


def main():
    target = ROOT / "build" / "site"
    build(target, sorted((ROOT / "notebooks").glob("*.ipynb")))
    print(target)


if __name__ == "__main__":
    main()
