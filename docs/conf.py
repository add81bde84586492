"""Sphinx: the executed notebooks as pages that need no network. tools/site.py lays out the source and builds."""

import pathlib
import re
import tomllib

import nbformat
from docutils import nodes
from sphinx.addnodes import pending_xref

from tools import ROOT, reading

REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"].rstrip("/")
MATHJAX = reading.mathjax()

project = html_title = "ResNet, executable"
language = "en"
extensions = ["myst_nb"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
mathjax_path = MATHJAX.name

html_theme = "sphinx_book_theme"
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["site.css"]
html_use_index = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "use_repository_button": True,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # one field for searching is enough
    "footer_content_items": [],
}


def for_readers(app, docname, source):
    """A notebook without what serves only those who run it. Its cells keep their numbers; an empty one is not shown."""
    if pathlib.Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    nb, badges = reading.for_readers(nbformat.reads(source[0], as_version=4)), ""
    for at, cell in enumerate(nb.cells):
        tags = reading.tags(cell)
        if "badge" in tags:
            badges, cell.source = " or ".join(re.findall(r"\[.*?\]\(.*?\)", cell.source)), ""
        elif "bootstrap" in tags:
            nb.cells[at] = nbformat.v4.new_markdown_cell(f"{badges}: run it, change it, answer the exercises.", id=cell.id)
        elif "answer" in tags or "exercise" in tags:
            cell.source = ""
    source[0] = nbformat.writes(nb)


def link_to_the_repository(app, doctree):
    """A link to a file that is no page of the site leads to the repository."""
    for node in list(doctree.findall(pending_xref)):
        path, _, anchor = node["reftarget"].partition("#")
        file = (ROOT / app.env.docname).parent.joinpath(path).resolve()
        if path and not node["refdomain"] and file.is_relative_to(ROOT) and file.exists():
            place = f"{'tree' if file.is_dir() else 'blob'}/main/{file.relative_to(ROOT).as_posix()}#{anchor}"
            node.replace_self(nodes.reference("", "", *node.children, refuri=f"{REPOSITORY}/{place.rstrip('#')}"))


def setup(app):
    app.connect("source-read", for_readers)
    app.connect("doctree-read", link_to_the_repository)
