"""What test files share."""

import base64
import hashlib
import multiprocessing
import os
import pathlib
import socket

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from resnet_nb.data import Augmentation
from resnet_nb.errors import InputError
from resnet_nb.models import build
from resnet_nb.train import join
from tools import chapters

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = chapters(ROOT / "notebooks")
PAGES = ["index", "search", "docs/teaching", *(f"notebooks/{path.stem}" for path in NOTEBOOKS)]  # of the site
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def no(wrong):
    """Fail with all that is wrong, one thing on a line."""
    wrong = list(wrong)
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def read(path):
    import nbformat  # the tests of a GPU need none

    return nbformat.read(path, as_version=4)


def contents(root):
    """{path: bytes} of all files below a folder."""
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def md5(content):
    return hashlib.md5(content).hexdigest()


# one gray pixel
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="


def as_a_teacher_leaves_it(folder):
    """Cells, and the pictures they name below the folder: a file, one pasted, others than PNG, HTML, raw cells, a widget.

    Returns the cells and the addresses of the six pictures.
    """
    from nbformat import v4

    (folder / "my images").mkdir()
    (folder / "my images" / "ä.png").write_bytes(base64.b64decode(DOT))
    kinds = {"image/jpeg": "/9j/4AAQ", "image/svg+xml": "<svg/>"}
    outputs = [v4.new_output("display_data", {kind: data}, metadata={kind: {"alt": kind}}) for kind, data in kinds.items()]
    outputs.append(v4.new_output("display_data", {"text/html": "<img alt='html' src='my images/ä.png'>"}))
    outputs.append(v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}))
    cells = [
        v4.new_markdown_cell("![file](my%20images/ä.png) ![pasted](attachment:image.png)", id="drawings"),
        v4.new_markdown_cell('<p><img alt="tag" src="my images/ä.png"></p>', id="tag"),
        v4.new_code_cell("draw()", id="code", execution_count=1, outputs=outputs),
        v4.new_raw_cell("as <it> is", id="raw"),
        v4.new_code_cell("", id="empty"),
    ]
    for cell in cells:
        cell.metadata["slideshow"] = {"slide_type": "-"}  # on the slide above
    cells[0].attachments = {"image.png": {"image/png": DOT}}
    dot = f"data:image/png;base64,{DOT}"
    shown = {"file": dot, "pasted": dot, "tag": dot, "image/jpeg": "data:image/jpeg;base64,/9j/4AAQ"}
    return cells, shown | {"image/svg+xml": "data:image/svg+xml;base64,PHN2Zy8+", "html": dot}


# --- networks and images -----------------------------------------------------------------------


def on_meta(name, **overrides):
    """The network without memory for its weights."""
    with torch.device("meta"):
        return build(name, **overrides)


def seeded(name, **overrides):
    """The network with the weights of seed 0."""
    torch.manual_seed(0)
    return build(name, **overrides)


def perturb(model, seed=0):
    """Batch normalizations that are all different, so that none can stand in for another."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.add_(0.5 * torch.rand(tensor.shape, generator=generator))
    return model


def one_line(caught):
    """The message of an error that pytest caught: one line."""
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def refused(make, what, /, **overrides):
    """The one line with which make(what, **overrides) is refused."""
    with pytest.raises(InputError) as caught, torch.device("meta"):
        make(what, **overrides)
    message = str(caught.value)
    assert isinstance(caught.value, ValueError) and len(message.splitlines()) == 1
    return message


def random_images(count, side, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


SMALL = Augmentation(shorter_side=(36, 48), crop=32, test_side=36)  # the views of the pictures below


def make_pictures(root, train_images, test_images, test="val"):
    """A folder of noise in three classes and sizes, as PNG; class i is brighter than class i - 1."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train_images), (test, test_images)):
        for i in range(count):
            folder = root / part / f"class{i % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            width, height = ((20, 12), (12, 16), (14, 14))[i % 3]
            pixels = rng.integers(60 * (i % 3), 60 * (i % 3) + 80, (height, width, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return root


# --- processes that tests kill, forked from a fresh one that has imported torch once -------------

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["resnet_nb.cli.commands", "nbformat", "pytest", "PIL.Image"])


def start(target, *args):
    """A running child that calls `target(*args)`."""
    process = SERVER.Process(target=target, args=args)
    process.start()
    return process


def end(process, seconds=60):
    """Exit code of a child that ends by itself."""
    process.join(seconds)
    assert process.exitcode is not None, "the child hangs"
    return process.exitcode


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def rank_variables(rank, port):
    """The variables that torchrun sets, for one of two processes."""
    sizes = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return sizes | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def rank_main(target, rank, port, args):
    os.environ |= rank_variables(rank, port)
    torch.set_num_threads(1)
    with join() as world:
        target(world, *args)


def start_ranks(target, *args):
    """Two processes as torchrun makes them, without its start-up time."""
    port = free_port()
    return [start(rank_main, target, rank, port, args) for rank in range(2)]


def finish(ranks):
    return [end(process) for process in ranks]
