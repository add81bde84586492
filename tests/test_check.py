"""A check prints one line or raises; feedback explains and never raises."""

import ast

import numpy as np
import pytest
import torch
from helpers import each_notebook, no, read

from resnet_nb.check import CheckFailed, Sealed, check, feedback, sealed
from tools.reading import tags

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


@pytest.mark.parametrize(
    "got, want, tol, shown",
    [
        (269_723, 269_722, 0, ["269,723", "269,722"]),
        (8.7, 6.43, 0.5, ["8.7", "6.43", "0.5"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, 0, ["a: 1, 2", "a: 1, 3"]),
        (False, True, 0, ["False", "True"]),
    ],
)
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
    plain, error = capsys.readouterr().out.splitlines()
    assert plain == "✓ plain is worse"
    assert error == "✓ error in percent: 8.75 (expected 8.5, within 0.25)"


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
    assert said(capsys, 40, 20, mistakes=mistakes) == "✗ 40 is not it. You counted blocks twice."
    unknown = said(capsys, 27, 20, mistakes=mistakes)
    assert unknown == "✗ 27 is not it. Look at the hints and try again."  # the solution is not given away


@pytest.mark.parametrize(
    "answer, want, tol, reason",
    [
        # of another form
        ("64", 64, 0, "text; one number is wanted. Leave out the quotation marks."),
        ("[4, -7]", (4, -7), 0, "text; a list of 2 values is wanted."),
        (["c", "d"], "cd", 0, "a list of 2 values; text is wanted."),
        ([64], 64, 0, "a list of 1 value; one number is wanted."),
        (torch.tensor([64]), 64, 0, "a list of 1 value; one number is wanted."),
        (4, (4, -7), 0, "one number; a list of 2 values is wanted."),
        ([1, 2, 3], [1, 2, 3, 4], 0, "a list of 3 values; a list of 4 values is wanted."),
        (torch.zeros(4, 8), torch.zeros(8, 4), 0, "a list of 4×8 values; a list of 8×4 values is wanted."),
        (lambda: 64, 64, 0, "a function; one number is wanted. Call it"),
        (True, 1, 0, "True or False; one number is wanted."),
        # of another size
        (-2_752, 2_752, 0, "The size is right, the sign is not."),
        (5_504, 2_752, 0, "It is 2 times too large. Is something counted twice, or left out?"),
        (1_376, 2_752, 0, "It is 2 times too small. Is something counted twice, or left out?"),
        (0.1694, 16.94, 0.01, "It is 100 times too small. Percent, or a fraction?"),
        (np.float64(1694), 16.94, 0.01, "It is 100 times too large. Percent, or a fraction?"),
        ([16, 24], [16_000, 24_000], 0, "It is 1,000 times too small. Which unit?"),
        (0.27, 269_722, 0, "It is 1,000,000 times too small. Which unit?"),
        (118.01, 118_013_952, 0, "It is 1,000,000 times too small. Which unit?"),
        (2_753, 2_752, 0, "It is off by one."),
        (16, 16.94, 0.01, "The decimals are missing."),
        (118_000_000, 118_013_952, 0, "Within 1 %."),
        (62.2, 62, 0, "Within 1 %."),
        # of several values
        ([-7, 4], (4, -7), 0, "These are the right values in reverse order."),
        ((4, 7), (4, -7), 0, "Look at number 2; the rest is right. The size is right, the sign is not."),
        ((4, None), (4, -7), 0, "Look at number 2; the rest is right. Look at the hints"),
    ],
)
def test_feedback_says_what_differs(capsys, answer, want, tol, reason):
    line = said(capsys, answer, want, tol, mistakes={18: "You counted the projections."})
    assert line.startswith("✗") and reason in line


def test_feedback_knows_arrays_among_mistakes(capsys):
    eye = torch.eye(2)
    mistakes = {eye: "That is the identity.", 2 * eye: "That is twice the identity."}
    assert "twice the identity" in said(capsys, 2 * np.eye(2), torch.ones(2, 2), mistakes=mistakes)


def test_feedback_stays_on_a_line_that_can_be_read(capsys):
    assert len(said(capsys, torch.rand(100), torch.zeros(100))) < 120
    assert len(said(capsys, "c\nd " * 50, "cd")) < 120


class Contrary:
    """Whatever feedback asks of it, it refuses."""

    def __eq__(self, other):
        raise RuntimeError("no")

    __getattr__ = __str__ = __repr__ = __eq__
    __hash__ = None


ITSELF = []
ITSELF.append(ITSELF)
ODD = [
    "20",
    "",
    "a\nb",
    b"20",
    [20],
    [],
    [[]],
    [None, 20],
    [None, None],
    [[1], [2, 3]],
    {},
    {"a": 20},
    {20},
    range(2),
    ...,
    float("nan"),
    float("inf"),
    -1e308,
    10**400,
    10**5000,
    1j,
    True,
    7 * [None],
    Contrary(),
    ITSELF,
    len,
    object(),
    np.array([1, 2]),
    np.zeros((2, 3)),
    np.array(["a", "b"]),
    np.datetime64("2015-12-10"),
    np.ndarray,
    np.float32(7),
    torch.tensor([1, 2]),
    torch.zeros(0),
    torch.zeros(2, device="meta"),
    torch.nn.ReLU(),
    torch.Tensor,
    torch.float32,
]


@pytest.mark.parametrize("answer", ODD, ids=[f"{k}-{type(answer).__name__}" for k, answer in enumerate(ODD)])
def test_feedback_never_raises(capsys, answer):
    for want in (20, 20.5, [20, 30], [[1.0, 2.0], [3.0, 4.0]], "cde", 1):
        for tol in (0, 0.5):
            assert said(capsys, answer, want, tol, mistakes={18: "a", "b": "b", (1, 3): "c"}).startswith("✗")


# --- in the notebooks: a tolerance that lets nothing wrong pass ---------------------------------------

ARGUMENTS = {"check": ("claim", "got", "want", "tol"), "feedback": ("got", "want", "tol")}


def tolerances(source):
    """(function, what is wanted, largest tolerance) of each call with a tolerance."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "id", "")
        given = dict(zip(ARGUMENTS.get(name, ()), call.args)) | {keyword.arg: keyword.value for keyword in call.keywords}
        if name in ARGUMENTS and "tol" in given:
            tol = given["tol"]
            parts = (tol.body, tol.orelse) if isinstance(tol, ast.IfExp) else (tol,)
            yield name, given["want"], max(value for part in parts for value, _ in written(part))


def written(node):
    """The numbers that are written out in an expression, without a sign: (value, one unit of its last digit)."""
    numbers = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and type(each.value) in (int, float))
    return [(value, 10.0 ** -len(f"{value}".partition(".")[2])) for value in numbers]


def most(name, want):
    """The largest tolerance that says something of what is wanted."""
    try:
        value = eval(ast.unparse(want), {})
    except NameError:  # the notebook computes it
        return 0.1
    values = np.abs(np.ravel([*value.values()] if isinstance(value, dict) else value))
    tenth = min(value / 10 if value else 0.05 for value in values)
    # a check compares with the digits that it shows; an answer is wanted with fewer than we have
    plain = name == "check" and not any(isinstance(node, ast.BinOp) for node in ast.walk(want))
    return min(tenth, max(unit for _, unit in written(want))) if plain else tenth


def loose(source):
    for name, want, tol in tolerances(source):
        if tol > most(name, want) * (1 + 1e-9):
            yield f"{name}: within {tol:g} of {ast.unparse(want)}, where more than {most(name, want):.2g} says too little"


@each_notebook
def test_tolerances_say_something(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code" and "bootstrap" not in tags(cell)]
    no(f"cell {cell.id}: {fault}" for cell in cells for fault in loose(cell.source))


@pytest.mark.parametrize(
    "source, passes",
    [
        ("check('gain', a, 3.51, tol=0.005)", True),
        ("check('gain', a, 3.51, tol=5)", False),
        ("check('gain', a, 3.51, 0.02)", False),
        ("check('gains', a, [0.51, 0.3], tol=0.1)", False),
        ("check('off', a, 0, tol=1)", False),
        ("check('half', a, 0.5 ** 18, tol=1e-3)", False),
        ("check('as counted', a, b / 2, tol=0.5)", False),
        ("feedback(a, 0.5128, tol=0.0006)", True),
        ("feedback(a, (4.0, -7.0), 1)", False),
    ],
)
def test_a_loose_tolerance_is_seen(source, passes):
    assert (not [*loose(source)]) is passes


@pytest.mark.parametrize("right", [16, 2.5, [0, 0.5, -1], (0.5, 0.4), "BN", True, np.float64(2.5), torch.tensor([1.0, 2.0])])
def test_a_sealed_answer_is_known_without_being_told(capsys, right):
    seal = sealed(right, 1)
    assert said(capsys, right, seal).startswith("✓ Right")
    plain = right.tolist() if hasattr(right, "tolist") else right
    assert str(plain) not in repr(seal)
    for wrong in (17, [0, 0.5, 1], (0.4, 0.5), "bn", False, 2.4):
        assert said(capsys, wrong, seal).startswith("✗"), wrong


def test_a_seal_rounds_and_stays_the_same(capsys):
    assert sealed(2.5, 1) == Sealed("c9d79c2b26da77d3", 1)  # notebooks have such digests in their cells
    assert said(capsys, 2.5408, sealed(2.5, 1)).startswith("✓")
    assert said(capsys, -0.01, sealed(0, 1)).startswith("✓")
    assert said(capsys, 2.56, sealed(2.5, 1)).startswith("✗")
    assert "y. F is" in said(capsys, [1, 2.5, 2], sealed([0, 0.5, -1], 1), mistakes={(1, 2.5, 2): "That is y. F is less."})


def double(answer):
    return True if answer(3) == 6 else f"It makes {answer(3)} of 3."


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: 2 * x, "✓ Right."),
        (lambda x: x, "✗ It makes 3 of 3."),
        (lambda x: x / 0, "✗ Running your answer fails: ZeroDivisionError: division by zero"),
        (lambda: 1, "✗ Running your answer fails: TypeError: "),
        (6, "✗ Your answer is one number; a function or a class is wanted."),
        (None, "Not answered yet"),
    ],
)
def test_an_answer_in_code_is_run_by_its_judge(capsys, answer, words):
    assert said(capsys, answer, double).startswith(words.strip())
