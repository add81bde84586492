"""JupyterLab as a reader meets it: `make lab`, open a notebook, run all cells, save, move a slider."""

import contextlib
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from helpers import ROOT, free_port
from PIL import Image
from playwright.sync_api import expect

from tools.browser import chromium_page, picture

pytestmark = pytest.mark.browser
LIVE = "02-residual-learning.ipynb"  # trains in its cells with a live-* tag, faster than the others
WIDGET = "04-bottleneck.ipynb"
START, RUN, REDRAW = 60, 240, 30  # seconds that the server, all cells and a slider may take

# What the newcomer has not set, or the test runner has: nothing of it reaches the server or its kernels.
PERSONAL = ("JUPYTER", "IPYTHON", "XDG_", "MPL", "MAKE", "PYTEST")
PROMPTS = '[...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map((prompt) => prompt.textContent)'


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address, with room for a path, and notebook folder of a `make lab` in a copy, with an empty home."""
    home, copy = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "Makefile", copy)
    for folder in (".jupyter", "notebooks"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    port, token = free_port(), secrets.token_hex()
    options = f"--no-browser --port={port} --ServerApp.port_retries=0 --IdentityProvider.token={token}"
    # -o: the environment is the one that runs this, whether or not `make setup` made it
    command = ["make", "-o", f"{sys.prefix}/.resnet-nb-ready", "lab", f"VENV={sys.prefix}", f"LAB_ARGS={options}"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(PERSONAL)}
    env |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    with open(home / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=copy, env=env, stdout=log, stderr=log, start_new_session=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is stopped then, too
    try:
        assert answers(server, port), f"`make lab` does not answer:\n{(home / 'log').read_text(encoding='utf-8')}"
        yield f"http://127.0.0.1:{port}/{{}}?token={token}", copy / "notebooks"
    finally:
        stop(server)
        signal.signal(signal.SIGTERM, before)


def answers(server, port):
    end = time.monotonic() + START
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return True
        time.sleep(0.3)
    return False


def stop(server):
    """End `make lab` and what it started; the server ends its kernels, which are in groups of their own."""
    for number in [signal.SIGTERM, *[0] * 60, signal.SIGKILL]:
        server.poll()
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            return
        time.sleep(0.3)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def choose(page, menu, item):
    for kind, label in (("MenuBar", menu), ("Menu", item)):
        page.locator(f".lm-{kind}-itemLabel", has_text=re.compile(f"^{label}$")).click()


@contextlib.contextmanager
def after_run_all(lab, name):
    """The page of a notebook that was opened, run and saved, and the cells of the file. Nothing interrupted."""
    address, folder = lab
    before = read(folder / name)
    with chromium_page(1300, 900) as (page, outside):
        asked = []
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        page.goto(address.format(f"lab/tree/{name}") + "&reset")  # not the notebooks of the test before
        page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=1000 * START)
        # the notebook's own indicator says idle before there is a kernel, and what is run then is lost
        page.wait_for_selector("#jp-main-statusbar >> text=| Idle", timeout=1000 * START)
        page.wait_for_function(f"{PROMPTS}.length === {len(code(before))}")
        choose(page, "Edit", "Clear Outputs of All Cells")
        page.wait_for_function(f"{PROMPTS}.every((text) => text === '[ ]:')")
        choose(page, "Run", "Run All Cells")
        # an error ends the run: the cells after it then stay [ ]
        page.wait_for_function(f"/^[^*]*\\d[^*]*$/.test({PROMPTS}.join(''))", timeout=1000 * RUN)
        with page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url):
            page.keyboard.press("Control+s")
        saved = read(folder / name)
        wrong = faults(code(saved), code(before))
        assert not wrong, "\n".join(wrong)
        yield page, saved
        assert page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts() == []
        assert not {"/lab/api/news", "/lab/api/update"} & {*asked}
        badges = "".join("".join(cell["source"]) for cell in saved if "badge" in cell["metadata"].get("tags", []))
        assert [url for url in outside if url not in badges] == []


def faults(cells, before):
    """What is wrong with the code cells of a saved notebook, compared with those of the committed one."""
    found = []
    for number, (cell, old) in enumerate(zip(cells, before, strict=True), 1):
        announced = "raises-exception" in cell["metadata"].get("tags", [])
        errors = [output["ename"] for output in cell["outputs"] if output["output_type"] == "error"]
        if cell["execution_count"] != number:
            found.append(f"{cell['id']}: ran as number {cell['execution_count']}, not {number}")
        if bool(errors) != announced:
            found.append(f"{cell['id']}: raised {errors or 'nothing'}")
        if checks(cell) != checks(old):
            found.append(f"{cell['id']}: checks {checks(cell)}, not {checks(old)}")
    return found


def checks(cell):
    text = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    return [line for line in text.splitlines() if "✓" in line]


def drawn(image):
    """Whether a picture is there and has dark and light in it on the screen."""
    shot = Image.open(io.BytesIO(image.screenshot())).convert("L")
    darkest, lightest = shot.getextrema()
    return image.evaluate("(image) => image.naturalWidth") > 0 and lightest - darkest > 100


def test_a_notebook_with_a_live_run(lab):
    with after_run_all(lab, LIVE) as (page, cells):
        [at] = [at for at, cell in enumerate(cells) if cell["id"] == "learn-run"]
        cell = page.locator(".jp-Notebook-cell").nth(at)
        assert any(tag.startswith("live-") for tag in cells[at]["metadata"]["tags"])
        assert drawn(cell.locator("img"))
        picture(cell, "lab-live")


def test_a_slider_draws_its_figure_anew(lab):
    with after_run_all(lab, WIDGET) as (page, cells):
        [at] = [at for at, cell in enumerate(cells) if "explore(" in "".join(cell["source"])]
        cell = page.locator(".jp-Notebook-cell").nth(at)
        image, sliders = cell.locator("img"), cell.get_by_role("slider").all()
        assert sliders
        for slider in sliders:
            text, source = image.get_attribute("alt"), image.get_attribute("src")
            slider.press("ArrowRight")
            expect(image).not_to_have_attribute("alt", text, timeout=1000 * REDRAW)
            expect(image).not_to_have_attribute("src", source, timeout=1000 * REDRAW)
            assert drawn(image)
        picture(cell, "lab-widget")
