"""The site as a reader sees it: from a folder, without network, wide and narrow, light and dark."""

import sys

import pytest
from browser import chromium_page, picture, serious
from test_notebooks import NOTEBOOKS, ROOT, no

sys.path.append(str(ROOT / "docs"))

import build_site  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API")]
PAGES = ["index", "search", "docs/teaching", *(f"notebooks/{path.stem}" for path in NOTEBOOKS)]
# What the reader would miss: formulas not set, pictures not loaded, text beyond the right edge.
MISSING = """() => ({
    "formulas not set": document.querySelectorAll(".math").length - document.querySelectorAll(".math > mjx-container").length,
    "formulas with errors": document.querySelectorAll("[data-mml-node=merror]").length,
    "pictures not loaded": [...document.images].filter(image => !image.naturalWidth).length,
    "pixels beyond the edge": document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("built") / "site"
    build_site.build(target, NOTEBOOKS)
    return target.as_uri()


@pytest.mark.parametrize("width, colors", [(1280, "light"), (400, "dark")])
def test_every_page_offline(site, width, colors):
    wrong = []
    with chromium_page(width=width, height=900) as (page, outside):
        page.emulate_media(color_scheme=colors)
        for name in PAGES:
            page.goto(f"{site}/{name}.html")
            page.evaluate("window.MathJax?.startup.promise.then(() => null)")
            picture(page, f"site-{name.replace('/', '-')}-{colors}")
            missing = [f"{count} {what}" for what, count in page.evaluate(MISSING).items() if count]
            wrong += [f"{name}: {line}" for line in [*missing, *serious(page)]]
    no([*wrong, *(f"asked for {address}" for address in outside)])


def test_search_without_a_server(site):
    with chromium_page() as (page, outside):
        page.goto(f"{site}/notebooks/00-start-here.html")
        page.keyboard.press("Control+k")
        page.locator("dialog input[type=search]").fill("bottleneck")
        page.keyboard.press("Enter")
        results = page.locator("#search-results li a")
        results.first.wait_for()
        assert results.first.inner_text() == "04 Bottleneck arithmetic"
        results.first.click()
        page.wait_for_url("**/notebooks/04-bottleneck.html*")
        assert not outside


def test_a_hint_opens_with_the_keyboard(site):
    with chromium_page() as (page, _):
        page.goto(f"{site}/notebooks/06-architectures.html")
        hint = page.locator("details").filter(has_text="Weights times pixels").first
        assert not hint.locator("p").is_visible()
        hint.locator("summary").press("Enter")
        assert hint.locator("p").is_visible()
