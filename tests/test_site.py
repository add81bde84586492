"""The site: no picture or word of the notebooks is lost, no link is dead, nothing is loaded from elsewhere."""

import base64
import functools
import html.parser
import tomllib
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from helpers import DOT, NOTEBOOKS, PAGES, ROOT, as_a_teacher_leaves_it, no, read
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import reading
from tools import site as sites

pytestmark = pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API")  # in the theme
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
COLAB = "https://colab.research.google.com/"
LOADED = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}


class Page(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag, attribute):
        return [attributes[attribute] for name, attributes in self.tags if name == tag and attribute in attributes]


page_at = functools.cache(Page)


def pictures(path):
    """(alternative text, PNG) of every picture in the outputs of a notebook."""
    outputs = [output for _, output in reading.pictures(read(path).cells)]
    return [(output.metadata[reading.PNG]["alt"], base64.b64decode(output.data[reading.PNG])) for output in outputs]


def shown(page):
    """The same of a page, which holds its pictures."""
    content = [base64.b64decode(source.partition(",")[2]) for source in page_at(page).all("img", "src")]
    return list(zip(page_at(page).all("img", "alt"), content, strict=True))


def wrong_links(page, site):
    """Links that lead nowhere, and what is loaded from outside the site."""
    used = [(tag, value) for tag, name in LOADED.items() for value in page_at(page).all(tag, name) if value[:5] != "data:"]
    for tag, link in [*used, *(("a", value) for value in page_at(page).all("a", "href"))]:
        url = urlsplit(link)
        if url.scheme or url.netloc:
            if tag != "a" or url.scheme != "https":
                yield f"{page.name}: <{tag}> loads {link}"
            continue
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        if not target.is_file() or not target.is_relative_to(site):
            yield f"{page.name}: {link} leads to no file"
        elif url.fragment and url.fragment not in {attributes.get("id") for _, attributes in page_at(target).tags}:
            yield f"{page.name}: {link} leads to no place on that page"


def wrong_contents(path, page):
    """What a page lacks of its notebook, or shows although it is of no use without Python."""
    cells = read(path).cells
    hints = sum(cell.source.count("<details>") for cell in cells)
    links = page_at(page).all("a", "href")
    asking = [words for words in ("answer_1 = None", "Not answered yet") if words in page_at(page).text]
    held = {
        "with the pictures of the notebook and their words": shown(page) == pictures(path),
        f"with {hints} hints and solutions": [tag for tag, _ in page_at(page).tags].count("details") == hints,
        "with one link to Colab": sum(link.startswith(COLAB) and link.endswith(path.name) for link in links) == 1,
        "without the first cell": "%pip install" not in page_at(page).text,
        "without the cells for answers": not asking,
    }
    return [f"{page.name}: not {what}" for what, holds in held.items() if not holds]


def test_every_page_is_whole(tmp_path):
    site = tmp_path / "site"
    sites.build(site, NOTEBOOKS)
    wrong = [line for name in PAGES for line in wrong_links(site / f"{name}.html", site)]
    for path in NOTEBOOKS:
        wrong += wrong_contents(path, site / "notebooks" / f"{path.stem}.html")
    no(wrong)
    listed = page_at(site / "index.html").all("a", "href")  # in the sidebar and in the text
    no(f"{name}: not described on the first page" for name in PAGES[3:] if listed.count(f"{name}.html") < 2)


LISTED = "## The notebooks\n\n* **04 Tiny** (§1): words.\n* **05 Next**: words.\n\n## The end\n"


def project(root, *cells, readme=LISTED):
    """A project of two notebooks, the first with these cells."""
    (root / "notebooks").mkdir(exist_ok=True)
    (root / "README.md").write_text(readme, encoding="utf-8")
    second = [new_markdown_cell("# 05 Next\n## A part")]
    for name, content in {"04-tiny": [new_markdown_cell("# 04 Tiny"), *cells], "05-next": second}.items():
        notebook = new_notebook(cells=content, metadata={"language_info": {"name": "python"}})
        nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")
    return root


def drawn(*sentences, **cell):
    outputs = [
        new_output("display_data", {"image/png": DOT, "text/plain": words}, metadata={"image/png": {"alt": words}})
        for words in sentences
    ]
    return new_code_cell("draw()", outputs=outputs, **{"execution_count": 1} | cell)


@pytest.fixture
def make_site(monkeypatch, tmp_path):
    """`make site` in a project whose first notebook has these cells; returns the folder of the site."""

    def make(*cells, **contents):
        monkeypatch.setattr(sites, "ROOT", project(tmp_path, *cells, **contents))
        sites.main()
        return tmp_path / "build" / "site"

    return make


def test_two_pictures_of_one_cell_keep_their_own_words(make_site, capsys):
    sentences = ['One <dot> & "words".', "Another."]
    site = make_site(drawn(*sentences), drawn("Last."))
    page = site / "notebooks" / "04-tiny.html"
    assert page_at(page).all("img", "alt") == [*sentences, "Last."]
    assert capsys.readouterr().out == f"the site is in {site}: open {site / 'index.html'} in a browser\n"


def test_links_lead_to_pages_of_the_site_or_to_the_repository(make_site):
    leads = {
        "05-next.ipynb#a-part": "05-next.html#a-part",
        "../README.md#train-a-network": f"{REPOSITORY}/blob/main/README.md#train-a-network",
        "../tests": f"{REPOSITORY}/tree/main/tests",
    }
    site = make_site(new_markdown_cell(" ".join(f"[words]({link})" for link in leads)))
    links = page_at(site / "notebooks" / "04-tiny.html").all("a", "href")
    assert [link for link in links if link in leads.values()] == list(leads.values())


def test_what_a_teacher_leaves_is_shown(make_site, tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    cells, shown = as_a_teacher_leaves_it(tmp_path / "notebooks")
    (tmp_path / "notebooks" / "Untitled.ipynb").write_text("", encoding="utf-8")
    page = page_at(make_site(*cells) / "notebooks" / "04-tiny.html")
    assert dict(zip(page.all("img", "alt"), page.all("img", "src"), strict=True)) == shown
    assert "as <it> is" in page.text
    assert (
        capsys.readouterr().err
        == "left out, since a chapter is called NN-words.ipynb, in small letters a to z and digits: Untitled.ipynb\n"
    )


@pytest.mark.parametrize(
    "cell, contents, message",
    [
        (new_markdown_cell("[x](06-gone.ipynb)"), {}, "notebooks/04-tiny.ipynb:.*WARNING.*06-gone.ipynb"),
        (new_code_cell("1", id="late"), {}, "04-tiny.ipynb: cell late is not executed: run make notebooks"),
        (drawn("", id="dumb"), {}, "04-tiny.ipynb: a picture of cell dumb has no alternative text: draw it with"),
        (new_markdown_cell("![x](no.png)", id="a"), {}, "04-tiny.ipynb: cell a: there is no picture no.png"),
        (new_markdown_cell(""), {"readme": "\n"}, 'README.md: "## The notebooks" has no line .* for 04-tiny.ipynb, 05-'),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_the_old_site_stays(make_site, tmp_path, cell, contents, message):
    old = tmp_path / "build" / "site" / "index.html"
    old.parent.mkdir(parents=True)
    old.write_text("old", encoding="utf-8")
    with pytest.raises(SystemExit, match=f"^no new site: {message}[^\n]*$"):
        make_site(cell, **contents)
    assert [path.name for path in old.parent.parent.iterdir()] == ["site"]
    assert old.read_text(encoding="utf-8") == "old"
