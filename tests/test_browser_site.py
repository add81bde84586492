"""The site as a reader sees it: from a folder, without network, wide and narrow, light and dark."""

import pytest
from helpers import NOTEBOOKS, PAGES, no

from tools.browser import chromium_page, picture, serious
from tools.site import build

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API")]
# What the reader would miss: formulas not set, pictures not loaded, text beyond the right edge.
MISSING = """() => ({
    "formulas not set": document.querySelectorAll(".math:not(:has(> mjx-container))").length,
    "formulas with errors": document.querySelectorAll("[data-mml-node=merror]").length,
    "pictures not loaded": [...document.images].filter(image => !image.naturalWidth).length,
    "pixels beyond the edge": document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("built") / "site"
    build(target, NOTEBOOKS)
    return target.as_uri()


@pytest.fixture(scope="module", params=[(1280, "light"), (400, "dark")], ids=["wide light", "narrow dark"])
def view(request):
    width, colors = request.param
    with chromium_page(width=width, height=900) as (page, outside):
        page.emulate_media(color_scheme=colors)
        yield page, outside, colors


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_accessible_offline(site, view, name):
    page, outside, colors = view
    outside.clear()
    page.goto(f"{site}/{name}.html")
    page.evaluate("window.MathJax?.startup.promise.then(() => null)")
    picture(page, f"site-{name.replace('/', '-')}-{colors}")
    missing = [f"{count} {what}" for what, count in page.evaluate(MISSING).items() if count]
    no([*missing, *serious(page), *(f"asks for {address}" for address in outside)])


def test_search_without_a_server(site, view):
    page, *_ = view
    page.goto(f"{site}/notebooks/00-start-here.html")
    page.keyboard.press("Control+k")
    page.locator("dialog input[type=search]").fill("bottleneck")
    page.keyboard.press("Enter")
    results = page.locator("#search-results li a")
    results.first.wait_for()
    assert results.first.inner_text() == "04 The bottleneck"
    results.first.click()
    page.wait_for_url("**/notebooks/04-bottleneck.html*")


def test_a_hint_opens_with_the_keyboard(site, view):
    page, *_ = view
    page.goto(f"{site}/notebooks/06-architectures.html")
    hint = page.locator("details").filter(has_text="Weights times pixels").first
    assert not hint.locator("p").is_visible()
    hint.locator("summary").press("Enter")
    assert hint.locator("p").is_visible()
