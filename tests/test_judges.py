"""Exercises that are judged by running the reader's code: what a judge must not let pass, and what it says instead."""

import functools

import pytest
from helpers import NOTEBOOKS, read

from tools.reading import code_cells

VIEWS = "draw = lambda n, count: torch.randint(n, (count,))\ncodes = lambda batch: draw(162, len(batch))\n"
LESION = """
def answer_1(net, stage, i):
    blocks = getattr(net, stage)
    block = blocks[i]
    blocks[i] = block.downsample
    logits = net(images[:20])
    blocks[i] = block
    return logits
"""
WIRE = """
def answer_1(net, stage, i):
    getattr(net, stage)[i].downsample = NoShortcut()
    return net(images[:20])
"""
ANSWERS = {  # notebook, the cell of the judge, cells it needs -> what the reader wrote -> a part of the reply
    ("08", "ex1-feedback", ()): {
        "answer_1 = lambda i: 0.01 if i < 400 else 0.1 if i < 32_000 else 0.01 if i < 48_000 else 0.001": "✓",
        "answer_1 = lambda i: 0.1 if i < 32_000 else 0.01 if i < 48_000 else 0.001": "no warm-up",
        "answer_1 = lambda i: 0.01 if i < 48_000 else 0.001": "does not return",
        "answer_1 = lambda i: None": "not return a number",
        "answer_1 = lambda i: 0.05": "iteration 0; it gets 0.05",
        "answer_1 = lambda i: 0.01 if i <= 400 else 0.1 if i < 32_000 else 0.01 if i < 48_000 else 0.001": "400; it gets 0.01",
        "calls = []\ndef answer_1(i):\n    calls.append(i)\n    return 0.1 if calls[400:] else 0.01": "order of the calls",
    },
    ("08", "ex2-feedback", ("crop",)): {
        "answer_2 = lambda batch: augment(batch, codes(batch))": "✓",
        "answer_2 = lambda batch: augment(batch, codes(batch)[:1].expand(len(batch)))": "same view",
        "answer_2 = lambda batch: augment(batch, 2 * draw(81, len(batch)) + (draw(9, len(batch)) % 2))": "are mirrored",
        "answer_2 = lambda batch: augment(batch, 2 * draw(81, len(batch)))": "are mirrored",
        "answer_2 = lambda batch: augment(batch, (c := draw(81, len(batch))) * 2 + c % 2)": "equally likely",
        "answer_2 = lambda batch: augment(batch[:1].expand(len(batch), -1, -1, -1), codes(batch))": "no view of its",
        "answer_2 = lambda batch: augment(batch, codes(batch))[torch.randperm(len(batch))]": "no view of its",
        "answer_2 = lambda batch: augment(batch, torch.where((c := codes(batch)) > 30, 80 + c % 2, c))": "likely",
        "answer_2 = lambda batch: augment(batch, codes(batch)) * torch.tensor([1, 0, 0])[:, None, None]": "no view of its",
        "answer_2 = lambda batch: augment(batch, torch.arange(len(batch)) % 162)": "nothing is drawn",
        "answer_2 = lambda batch: augment(batch, torch.where((c := codes(batch)) < 50, c, codes(batch)))": "equally likely",
        "answer_2 = lambda batch: batch[:5]": "of the batch's shape",
    },
    ("09", "exercise-lesion-feedback", ()): {
        LESION: "✓",
        WIRE: "deletes the wire",
        LESION.replace("    blocks[i] = block\n", ""): "not as it was",
        LESION.replace("block.downsample", "block"): "Nothing is deleted",
        LESION.replace("blocks[i]", "blocks[i - 1]"): "something else",
        "answer_1 = lambda net, stage, i: None": "20 rows",
    },
    ("09", "exercise-swap-feedback", ()): {
        "def answer_3(s, i):\n    s[i], s[i + 1] = s[i + 1], s[i]": "✓",
        "def answer_3(s, i):\n    s.insert(i, s.pop(i + 1))": "✓",
        "def answer_3(s, i):\n    s[2], s[3] = s[3], s[2]": "i = 0",
        "def answer_3(s, i):\n    s[i] = s[i + 1]\n    s[i + 1] = s[i]": "there twice",
        "def answer_3(s, i):\n    s = nn.Sequential(*s)\n    s[i], s[i + 1] = s[i + 1], s[i]": "in place",
        "def answer_3(s, i):\n    s[i - 1], s[i] = s[i], s[i - 1]": "something else",
    },
}
CASES = [(*key, code, words) for key, answers in ANSWERS.items() for code, words in answers.items()]


@functools.cache
def cells(notebook):
    (path,) = (path for path in NOTEBOOKS if path.name.startswith(notebook))
    return {cell.id: cell.source for cell in code_cells(read(path))}


@pytest.mark.parametrize("notebook, judge, needed, answer, words", CASES)
def test_a_judge_sees_through_it(notebook, judge, needed, answer, words, capsys):
    names = {"__name__": "__main__"}
    for name in ("setup", *needed):
        exec(cells(notebook)[name], names)
    exec(VIEWS + answer, names)
    capsys.readouterr()
    exec(cells(notebook)[judge], names)
    assert words in capsys.readouterr().out
