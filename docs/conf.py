"""Sphinx: the executed notebooks as a site that needs no network. Built by docs/build_site.py, which says from what."""

import importlib.util
import pathlib
import re
import tomllib

import nbformat
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.errors import SphinxError

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"].rstrip("/")
# The one file of MathJax that needs no other: pictures instead of fonts.
MATHJAX = pathlib.Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax/tex-svg.js"
NOT_HERE = {"answer", "exercise"}  # a reader of the site cannot type an answer

project = "ResNet, executable"
language = "en"
extensions = ["myst_nb"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
mathjax_path = "tex-svg.js"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "use_repository_button": True,
    "use_fullscreen_button": False,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "home_page_in_toc": True,
    "show_toc_level": 2,
}


def is_notebook(app, docname):
    return pathlib.Path(app.env.doc2path(docname)).suffix == ".ipynb"


def for_readers(app, docname, source):
    """A notebook without what is only for those who run it; its cells keep their places."""
    if not is_notebook(app, docname):
        return
    nb = nbformat.reads(source[0], as_version=4)
    for cell in nb.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "code" and cell.execution_count is None:
            raise SphinxError(f"{docname}.ipynb: cell {cell.id} is not executed: run make notebooks")
        if "badge" in tags:
            colab, cell.source = re.search(r"\]\((\S+)\)$", cell.source)[1], ""
        if "bootstrap" in tags:
            cell.update(cell_type="markdown", source=f"[Open in Colab]({colab}) to run this notebook, change it and get "
                        "feedback on the exercises.")
        if NOT_HERE & tags:
            cell.source = ""
    source[0] = nbformat.writes(nb)


def describe_pictures(app, doctree):
    """myst-nb drops the alternative text in the metadata of the outputs; here it comes back."""
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
        if node.get("refdomain") is None and path and file.is_relative_to(ROOT) and file.exists():
            kind = "tree" if file.is_dir() else "blob"
            address = f"{REPOSITORY}/{kind}/main/{file.relative_to(ROOT).as_posix()}" + (anchor and f"#{anchor}")
            node.replace_self(nodes.reference("", "", *node.children, refuri=address))


def setup(app):
    app.connect("source-read", for_readers)
    app.connect("doctree-read", describe_pictures)
    app.connect("doctree-read", link_to_the_repository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
