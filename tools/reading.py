"""A notebook made readable where nothing runs: what slides, handouts and site have in common."""

import base64
import copy
import html
import importlib.util
import pathlib
import re
from urllib.parse import unquote, urlsplit

import PIL.Image

from tools.stored import NotebookError, load

WIDGET = "application/vnd.jupyter.widget-view+json"  # it needs a kernel; the text beside it does not
PNG, SVG = "image/png", "image/svg+xml"
PICTURES = (PNG, SVG, "image/jpeg", "image/gif", "image/webp")  # of several forms of one picture, the first is shown
# In Markdown: code and comments, which stay as they are; a picture ![words](file "title") or ![words][label], whose
# file stands elsewhere as [label]: file. In HTML, also inside Markdown, the tag with its source.
VERBATIM = (
    r"^[ \t>]*(?P<fence>```+|~~~+).*?(?:^[ \t>]*(?P=fence)|\Z)"
    r"|(?P<ticks>`+)(?!`)(?:(?!\n\s*\n).)*?(?<!`)(?P=ticks)(?!`)|<!--.*?-->"
)
WORDS = r"(?P<words>(?:\\.|\[[^\]]*\]|[^\[\]\\])*)"
PLACE = r"""\(\s*(?P<place><[^<>\n]*>|[^<()\n]*?(?:\([^()\n]*\)[^()\n]*?)*)(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)"""
TAG = r"""(?P<tag><img\b[^>]*?\ssrc\s*=\s*)(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'>]+))"""
PICTURE = rf"(?<!\\)!\[{WORDS}\](?:{PLACE}|\[(?P<label>[^\]]*)\])?"
MARKDOWN = re.compile(f"{VERBATIM}|{PICTURE}|{TAG}", re.DOTALL | re.MULTILINE | re.IGNORECASE)
HTML = re.compile(TAG, re.DOTALL | re.IGNORECASE)
LABEL = re.compile(r"^ {0,3}\[([^\]]+)\]:\s*(<[^<>\n]*>|\S+)", re.MULTILINE)


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def form(output):
    """The kind of picture, such as image/png, in which an output is shown; None if it is no picture."""
    return next((kind for kind in PICTURES if kind in output.get("data", {})), None)


def pictures(cells):
    """[(cell, output)] of every picture in the outputs of these cells."""
    return [(cell, output) for cell in cells for output in cell.get("outputs", ()) if form(output)]


def title(nb, name):
    """The heading, without the #, of the notebook in the file of that name; NotebookError if it has none."""
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    if not (found := re.search(r"^# (.+)$", text, re.MULTILINE)):
        raise NotebookError(f"{name}: no Markdown cell has a heading: write one, `# NN Title`")
    return found[1].strip()


def without_widgets(nb):
    """The notebook `nb`, changed: of what a kernel would draw, the text remains."""
    nb.metadata.pop("widgets", None)  # for these nbconvert and myst-nb would load scripts
    for cell in code_cells(nb):
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)
        cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
    return nb


# --- what is fit to be shown ---------------------------------------------------------------------


def ready(path):
    """The notebook at `path`, whole in itself: pictures that Markdown takes from files or attachments stand in it.

    Raises NotebookError, which names the cell, if it has no heading, was not executed from top to bottom, ends in an
    error that is not announced, or has a picture without words or one that is not here.
    """
    nb = load(path)
    title(nb, path.name)
    for cell in nb.cells:
        try:
            inspect(cell)
            embed(cell, path.parent)
        except ValueError as error:  # also an address that is none
            raise NotebookError(f"{path.name}: {error}") from error
    ran = [cell for cell in code_cells(nb) if cell.execution_count]
    for above, cell in zip(ran, ran[1:]):
        if cell.execution_count < above.execution_count:  # a copy has that of its original
            raise NotebookError(f"{path.name}: cell {cell.id} is executed before one above it: run make notebooks")
    if len(ran) > 1 and not any(cell.outputs for cell in ran):  # some programs clear them and keep the counts
        raise NotebookError(f"{path.name}: no cell has an output: run make notebooks")
    return nb


def inspect(cell):
    """Refuse what a reader must not see."""
    if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
        raise NotebookError(f"cell {cell.id} is not executed: run make notebooks")
    if re.search(r"^(<{7}|>{7}) ", cell.source, re.MULTILINE):
        raise NotebookError(f"cell {cell.id} holds both sides of a merge conflict: choose one")
    for output in cell.get("outputs", ()):
        if output.output_type == "error" and "raises-exception" not in tags(cell):
            what = f"{output.ename}: {output.evalue}".partition("\n")[0]
            raise NotebookError(f"cell {cell.id} ends in an error ({what}): mend it, then run make notebooks")
    for _, output in pictures([cell]):
        if not output.metadata.get(form(output), {}).get("alt"):
            raise NotebookError(
                f"a picture of cell {cell.id} has no alternative text: draw it with resnet_nb.plot, "
                "your own figure with plot.Figure(figure, 'what it shows') as the last line, then run make notebooks"
            )


def embed(cell, folder):
    """Put the pictures of a cell's Markdown and of its HTML outputs, whose files are named from `folder`, into the cell."""
    labels = {label.casefold(): place for label, place in LABEL.findall(cell.source)}

    def in_tag(found):
        source = html.unescape(found["double"] or found["single"] or found["bare"] or "")
        return f'{found["tag"]}"{data_url(source, cell, folder)}"'

    def in_markdown(found):
        if found["tag"]:
            return in_tag(found)
        place = found["place"]
        if place is None and found["words"] is not None:
            place = labels.get((found["label"] or found["words"]).casefold())
        if place is None:
            return found[0]  # code, a comment, or no picture
        words = html.escape(re.sub(r"\\(.)", r"\1", found["words"]))
        return f'<img alt="{words}" src="{data_url(place.strip("<>"), cell, folder)}">'

    if cell.cell_type == "markdown" and "badge" not in tags(cell):  # for_readers makes words of badges
        cell.source = MARKDOWN.sub(in_markdown, cell.source)
        cell.pop("attachments", None)
    for output in cell.get("outputs", ()):
        if page := output.get("data", {}).get("text/html"):
            output.data["text/html"] = HTML.sub(in_tag, page)


def data_url(place, cell, folder):
    """The picture at a place that a cell names, as a `data:` address."""
    try:
        url = urlsplit(place)
    except ValueError as error:
        raise NotebookError(f"cell {cell.id}: the picture {place} is at no address ({error})") from error
    if url.scheme == "data":
        return place
    if url.scheme == "attachment":
        attached = cell.get("attachments", {}).get(unquote(url.path), {})
        if not (kind := next((kind for kind in PICTURES if kind in attached), None)):
            raise NotebookError(f"cell {cell.id}: the picture {place} is not attached to it: paste it again")
        return address(kind, attached[kind])
    if url.scheme in ("http", "https") or url.netloc:
        raise NotebookError(f"cell {cell.id}: the picture {place} is on the network: save it here and name the file")
    files = [folder / place, folder / unquote(place), folder / unquote(url.path)]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise NotebookError(f"cell {cell.id}: there is no picture {place}; its name begins at the folder of the notebook")
    return address(kind_of(file, cell), base64.b64encode(file.read_bytes()).decode())


def kind_of(file, cell):
    """The kind of picture that a file is, whatever its name; NotebookError if browsers do not show it."""
    if file.suffix.lower() == ".svg":
        return SVG
    try:
        with PIL.Image.open(file) as picture:
            kind = picture.get_format_mimetype()
            picture.load()
    except PIL.UnidentifiedImageError:
        kind = None
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise NotebookError(f"cell {cell.id}: the picture {file.name} cannot be read ({error})") from error
    if kind not in PICTURES:
        raise NotebookError(f"cell {cell.id}: {file.name} is no picture for browsers: save it as PNG, JPEG, GIF, WebP or SVG")
    return kind


def address(kind, content):
    """The `data:` address of a picture in base64."""
    return f"data:{kind};base64,{''.join(content.split())}"


def for_readers(nb):
    """A copy that needs neither network nor kernel: a badge becomes its words, a widget its text, a raw cell what it shows.

    A picture becomes an element that carries its alternative text, which nbconvert and myst-nb would drop.
    """
    nb = without_widgets(copy.deepcopy(nb))
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"!\[([^\]]*)\]\(https?:[^)]*\)", r"\1", cell.source)
        elif cell.cell_type == "raw":
            plain = f"<pre>{html.escape(cell.source)}</pre>"
            cell.source = {"": plain, "text/html": cell.source}.get(cell.metadata.get("raw_mimetype", ""), "")
            cell.cell_type = "markdown"
    for _, output in pictures(nb.cells):
        kind = form(output)
        about, content = output.metadata[kind], output.data[kind]
        if kind == SVG:  # an output has it as text
            content = base64.b64encode(content.encode()).decode()
        for other in PICTURES:
            output.data.pop(other, None)
        width = f' width="{about["width"]}"' if "width" in about else ""  # a sharp picture is shown smaller than it is
        output.data["text/html"] = f'<img alt="{html.escape(about["alt"])}"{width} src="{address(kind, content)}">'
    return nb


def package(name):
    """The folder of an installed package."""
    return pathlib.Path(importlib.util.find_spec(name).origin).parent


def mathjax():
    """The one file of MathJax that needs no other: it draws, where its sisters load fonts."""
    return package("sphinx-mathjax-offline") / "static" / "mathjax" / "tex-svg.js"
