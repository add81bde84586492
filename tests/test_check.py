"""A check prints one line or raises; feedback explains and never raises."""

import numpy as np
import pytest
import torch

from resnet_nb.check import CheckFailed, check, feedback

HOLD = [
    (269_722, 269_722, 0),
    (2.5, 2.0, 0.5),  # the tolerance is part of the allowed range; halves are exact in binary
    (1.5, 2.0, 0.5),
    ("A", "A", 0),
    ("A", "A", 0.1),
    (None, None, 0.1),
    ([32, 16, 8], (32, 16, 8), 0),
    ({"a": [1.0, {"b": (2.0,)}]}, {"a": [1.25, {"b": (1.75,)}]}, 0.25),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, 0),
    ({"net": "ResNet-20", "error": 8.75}, {"net": "ResNet-20", "error": 8.5}, 0.25),
    (np.float32(0.5), 0.5, 0),
    (np.bool_(True), True, 0),
    (torch.tensor(True), True, 0),
    (torch.tensor(3.0), 3, 0.1),
]


@pytest.mark.parametrize("got, want, tol", HOLD)
def test_one_line_when_it_holds(capsys, got, want, tol):
    check("the claim", got, want, tol)
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.startswith("✓ the claim") and out.endswith("\n")


FAIL = [
    (269_723, 269_722, 0),
    (2.5 + 2**-40, 2.0, 0.5),
    (1.5 - 2**-40, 2.0, 0.5),
    (float("nan"), 1.0, 0.5),
    ("A", "B", 0.1),
    ("1", 1, 0.1),
    (None, 1, 0.1),
    ([32, 16, 16], (32, 16, 8), 0),
    ([32, 16], (32, 16, 8), 1),
    ([], [1], 0),
    ({"a": 1}, {"b": 1}, 0),
    ({"a": 1}, {"a": 1, "b": 2}, 0),
    ({"a": [1.0, {"b": (2.0,)}]}, {"a": [1.0, {"b": (1.5,)}]}, 0.25),
    ({"a": 1}, [1], 0.5),
    (False, True, 0),
    (False, True, 1),
    # a boolean is an answer to another question than a number is
    (1, True, 0),
    (1.0, True, 0.5),
    (True, 1, 0),
    ([True], [1], 0),
    (0, False, 0),
]


@pytest.mark.parametrize("got, want, tol", FAIL)
def test_an_error_when_it_does_not(capsys, got, want, tol):
    with pytest.raises(CheckFailed) as caught:
        check("the claim", got, want, tol)
    message = str(caught.value)
    assert isinstance(caught.value, AssertionError) and message.startswith("the claim: ")
    assert len(message.splitlines()) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("got, want, tol, shown", [
    (269_723, 269_722, 0, ["269,723", "269,722"]),
    (8.7, 6.43, 0.5, ["8.7", "6.43", "0.5"]),
    ({"a": [1, 2]}, {"a": [1, 3]}, 0, ["a: 1, 2", "a: 1, 3"]),
    (False, True, 0, ["False", "True"]),
])  # fmt: skip
def test_the_error_shows_both_values(got, want, tol, shown):
    with pytest.raises(CheckFailed) as caught:
        check("the claim", got, want, tol)
    assert all(text in str(caught.value) for text in shown)


def test_the_error_shows_numbers_that_differ_as_different():
    with pytest.raises(CheckFailed) as caught:
        check("the claim", 0.12345678, 0.12345679)
    got, want = str(caught.value).removeprefix("the claim: got ").split(", expected ")
    assert got != want


def test_a_statement_needs_no_value(capsys):
    check("plain is worse", 3 > 2)
    check("error in percent", 8.75, 8.5, tol=0.25)
    assert capsys.readouterr().out.splitlines() == ["✓ plain is worse", "✓ error in percent: 8.75 (expected 8.5, within 0.25)"]


@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_arrays_are_compared_element_by_element(array):
    check("equal", array([1.0, 2.0]), [1.0, 2.0])
    check("close", array([1.0, 2.0]), array([1.0, 2.25]), tol=0.25)
    for wrong in ([1.0, 3.0], [1.0], [[1.0, 2.0]]):
        with pytest.raises(CheckFailed):
            check("different", array([1.0, 2.0]), wrong, tol=0.5)


# ---- feedback


def said(capsys, *args, **kwargs):
    feedback(*args, **kwargs)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return out.strip()


def test_feedback_to_no_answer(capsys):
    assert "Not answered yet" in said(capsys, None, 3)


def test_feedback_to_a_right_answer(capsys):
    assert said(capsys, 1_234, 1_234) == "✓ Right: 1,234"
    assert said(capsys, 3.25, 3.0, tol=0.25).startswith("✓")


def test_feedback_to_mistakes(capsys):
    mistakes = {18: "You counted the projections.", 40: "You counted blocks twice."}
    assert "You counted blocks twice." in (known := said(capsys, 40, 20, mistakes=mistakes)) and known.startswith("✗")
    unknown = said(capsys, 21, 20, mistakes=mistakes)
    assert unknown.startswith("✗") and "21" in unknown and "hints" in unknown
    assert not any(why in unknown for why in mistakes.values())
    assert "20 " not in unknown  # the solution is not given away


@pytest.mark.parametrize("answer", ["20", [20], {}, np.array([1, 2]), torch.tensor([1, 2]), len, float("nan"), 1j, True])
@pytest.mark.parametrize("want, tol", [(20, 0), (20, 0.5), ([20, 30], 0.5), (1, 0)])
def test_feedback_never_raises(capsys, answer, want, tol):
    assert said(capsys, answer, want, tol, mistakes={18: "a"}).startswith("✗")
