"""Chromium for the tests that look at the result as a person does: the system's, or the one Playwright installs.

python -m tools.browser        print where it is; an error when there is none
"""

import contextlib
import pathlib
import shutil
import sys
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from tools import ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome")
HERE = ("127.0.0.1", "localhost", "")  # "" is the host of file:, data: and blob:
PICTURES = ROOT / "build" / "browser"


def chromium(playwright):
    """Where Chromium is. Raises FileNotFoundError, which says how to get it, if it is nowhere."""
    path = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
    if not pathlib.Path(path).exists():
        raise FileNotFoundError("There is no Chromium here. Install it with `make chromium`.")
    return path


@contextlib.contextmanager
def chromium_page(width=1280, height=720):
    """A page and the list of addresses outside this machine it asked for; none of them is answered."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=["--no-sandbox"])
        page, outside = browser.new_page(viewport={"width": width, "height": height}), []

        def answer(route):
            if urlsplit(route.request.url).hostname in (*HERE, None):
                route.continue_()
            else:
                outside.append(route.request.url)
                route.abort()

        page.route("**/*", answer)
        yield page, outside
        browser.close()


def picture(page, name):
    """A screenshot of a page, or of a part of one, in build/browser, for a person to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def serious(page):
    """What axe-core finds on the page that it calls serious or critical, one line each."""
    return [
        f"{rule['id']} ({rule['impact']}): {len(rule['nodes'])} times, first {rule['nodes'][0]['html'][:200]}"
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


if __name__ == "__main__":
    with sync_playwright() as installed:
        try:
            print(chromium(installed))
        except FileNotFoundError as missing:
            sys.exit(str(missing))
