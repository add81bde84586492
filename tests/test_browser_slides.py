"""Every slide of every deck in Chromium: it fits, its mathematics is drawn, and nothing is fetched."""

import re

import pytest
from helpers import NOTEBOOKS, each_notebook

from tools.browser import PICTURES, chromium_page, serious
from tools.slides import build

pytestmark = pytest.mark.browser

# What is wrong with the slide in view, as a list of sentences.
FAULTS = """([width, height]) => {
  const slide = Reveal.getCurrentSlide(), zoom = Number(slide.style.zoom || 1), found = [];
  const tall = Math.round(slide.scrollHeight * zoom);
  if (tall > height) found.push(`${tall} px tall, over ${height}`);
  for (const element of slide.querySelectorAll("pre, table, img, p, li, mjx-container")) {
    const over = element.scrollWidth - element.clientWidth;
    const style = getComputedStyle(element);
    if (element.checkVisibility() && (element.offsetWidth > slide.clientWidth + 1 ||
        (over > 1 && style.display !== "inline" && element.tagName !== "MJX-CONTAINER")))
      found.push(`${element.tagName} is ${element.scrollWidth} px wide: ${element.textContent.slice(0, 60)}`);
    if (element.tagName === "IMG" && !(element.naturalWidth > 0 && element.alt)) found.push("picture missing or without text");
  }
  const text = slide.cloneNode(true);
  text.querySelectorAll("pre, code, aside, mjx-container").forEach((part) => part.remove());
  if (/\\$[^$\\n]*[\\\\_^][^$\\n]*\\$/.test(text.textContent)) found.push("mathematics is not drawn");
  return found;
}"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    out = tmp_path_factory.mktemp("build") / "slides"
    build(NOTEBOOKS, out)
    return out


def test_every_link_to_a_page_has_its_page(decks):
    wrong = []
    for path in sorted(decks.glob("*.html")):
        links = re.findall(r'<a [^>]*href="([^"#:]+)(?:#[^"]*)?"', path.read_text(encoding="utf-8"))
        wrong += [f"{path.name}: {link}" for link in links if not (decks / link).is_file()]
    assert not wrong, "\n".join(wrong)


def visit(page, deck):
    """Each slide of a deck in turn: its position as 3 or 3-2, with all its fragments shown."""
    page.goto(deck.as_uri())
    page.wait_for_function("document.body.dataset.ready === 'yes'")
    page.evaluate("Reveal.configure({fragments: false, controls: false})")
    for at in page.evaluate("Reveal.getSlides().map((slide) => Reveal.getIndices(slide))"):
        page.evaluate("([h, v]) => Reveal.slide(h, v)", [at["h"], at["v"]])
        yield f"{at['h'] + 1}" + (f"-{at['v'] + 1}" if at["v"] else "")


@each_notebook
def test_every_slide_fits(decks, path):
    wrong, folder = [], PICTURES / "slides" / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    with chromium_page() as (page, outside):
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        for at in visit(page, decks / f"{path.stem}.html"):
            wrong += [f"slide {at}: {fault}" for fault in page.evaluate(FAULTS, [1280, 720])]
            page.screenshot(path=folder / f"{at.zfill(2)}.png")
    assert not wrong, "\n".join(wrong)
    assert not outside and not errors


def test_speaker_view_shows_notes_and_clock(decks):
    with chromium_page() as (page, outside):
        page.goto((decks / "01-degradation.html").as_uri())
        page.wait_for_function("document.body.dataset.ready === 'yes'")
        with page.context.expect_page() as opened:
            page.keyboard.press("s")
        speaker = opened.value
        speaker.wait_for_selector(".speaker-controls-notes:not(.hidden) .value")
        assert "min." in speaker.inner_text(".speaker-controls-notes .value")
        speaker.wait_for_selector(".speaker-controls-time .pacing", state="visible")
    assert not outside


def test_handout_has_no_serious_findings(decks):
    with chromium_page() as (page, outside):
        page.goto((decks / "04-bottleneck-handout.html").as_uri())
        page.wait_for_selector("mjx-container")
        assert serious(page) == []
        page.goto((decks / "index.html").as_uri())
        assert serious(page) == []
    assert not outside
