"""Sphinx: the executed notebooks as pages that need no network. docs/build_site.py lays out the source and builds."""

import importlib.util
import pathlib
import re
import tomllib

import nbformat
from docutils import nodes
from sphinx.addnodes import pending_xref

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"].rstrip("/")
# The one file of MathJax that needs no other: it draws, where its sisters load fonts.
MATHJAX = pathlib.Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax/tex-svg.js"

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


def is_notebook(app, docname):
    return pathlib.Path(app.env.doc2path(docname)).suffix == ".ipynb"


def for_readers(app, docname, source):
    """A notebook without what serves only those who run it. Its cells keep their numbers; an empty one is not shown."""
    if not is_notebook(app, docname):
        return
    nb, links = nbformat.reads(source[0], as_version=4), ""
    for cell in nb.cells:
        tags = cell.metadata.get("tags", [])
        if "badge" in tags:  # the badges' pictures are elsewhere
            badges, cell.source = re.findall(r"\[!\[(.*?)\]\(.*?\)\]\((.*?)\)", cell.source), ""
            links = " or ".join(f"[{text}]({address})" for text, address in badges)
        elif "bootstrap" in tags:
            cell.update(cell_type="markdown", source=f"{links}: run it, change it, answer the exercises.")
        elif "answer" in tags or "exercise" in tags:
            cell.source = ""
    source[0] = nbformat.writes(nb)


def describe_pictures(app, doctree):
    """myst-nb drops the alternative text in the metadata of an output: here it comes back."""
    if not is_notebook(app, app.env.docname):
        return
    cells = nbformat.read(app.env.doc2path(app.env.docname), as_version=4).cells
    for node in doctree.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            pictures = [o for o in cells[node["cell_index"]].outputs if "image/png" in o.get("data", {})]
            for image, output in zip(node.findall(nodes.image), pictures, strict=True):
                image["alt"] = output.metadata["image/png"]["alt"]


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
    app.connect("doctree-read", describe_pictures)
    app.connect("doctree-read", link_to_the_repository)
