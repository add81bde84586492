"""Claims that can fail: one line printed when they hold, an error when they do not (all notebooks)."""

import hashlib
import math
import textwrap
from dataclasses import dataclass

from resnet_nb.errors import first_line

HELP = {"text": " Leave out the quotation marks.", "a function": " Call it and answer with what it returns."}
UNIT = "Which unit?"
FACTORS = {2: "Is something counted twice, or left out?", 100: "Percent, or a fraction?", 1_000: UNIT, 1_000_000: UNIT}
TIMES = {  # how many times too large -> what to say
    1: "Within 1 %. Is it rounded as the question asks, or is a small part left out?",
    -1: "The size is right, the sign is not.",
    **{factor: f"It is {factor:,} times too large. {why}" for factor, why in FACTORS.items()},
    **{1 / factor: f"It is {factor:,} times too small. {why}" for factor, why in FACTORS.items()},
}


class CheckFailed(AssertionError):
    """A claim of a notebook does not hold; the message shows what was got and what was wanted."""


def check(claim: str, got, want=True, tol: float = 0) -> None:
    """Print one line if `got` equals `want` (within `tol`, for numbers); raise CheckFailed if not.

    claim: a statement that reads well with the value after it, such as "parameters of ResNet-20". Sequences and dicts are
    compared element by element.
    """
    if not _same(got, want, tol):
        within = f" within {tol:g}" if tol else ""
        show = repr if _text(got) == _text(want) else _text  # more digits where these do not tell them apart
        raise CheckFailed(f"{claim}: got {show(got)}, expected {show(want)}{within}")
    value = "" if want is True else f": {_text(got)}"
    expected = f" (expected {_text(want)}, within {tol:g})" if value and tol and _text(got) != _text(want) else ""
    print(f"✓ {claim}{value}{expected}")


@dataclass(frozen=True)
class Sealed:
    """A right answer that cannot be read off: its digest; numbers are compared after rounding to `decimals`."""

    digest: str
    decimals: int = 0


def sealed(value, decimals: int = 0) -> Sealed:
    """The seal of a value, for the author of an exercise: `print(sealed(2.5, 1))` gives what `feedback` takes."""
    text = repr(_rounded(_plain(value), decimals))
    return Sealed(hashlib.sha256(f"resnet_nb {text}".encode()).hexdigest()[:16], decimals)


def feedback(answer, want, tol: float = 0, mistakes: dict | None = None) -> None:
    """Say whether a reader's `answer` is right and, if it is not, what probably went wrong; never raises.

    answer: None means not answered yet. want: the right answer, or its `Sealed` digest, or a judge: a function of the answer
    that returns True or says in a sentence what the answer does wrong, for answers that are code. mistakes: a wrong answer
    -> what probably led to it.
    """
    if answer is None:
        print("Not answered yet: replace None in the cell above and run both cells.")
        return
    try:
        print(_judged(answer, want) if callable(want) else _verdict(_plain(answer), _plain(want), tol, mistakes or {}))
    except Exception as error:  # an answer can be any object, and its own methods can fail
        if callable(want):
            print(f"✗ Running your answer fails: {type(error).__name__}: {first_line(error)}")
            return
        what = f"an answer of type {type(answer).__name__} ({type(error).__name__})"
        print(f"✗ Cannot compare {what}: give plain numbers or a list of them.")


def _judged(answer, judge) -> str:
    if not callable(answer):
        return f"✗ Your answer is {_form(_plain(answer))}; a function or a class is wanted."
    said = judge(answer)
    return "✓ Right." if said is True else f"✗ {said}"


def _rounded(value, decimals: int):
    """The numbers of a value at these decimals, each written in one way only."""
    if isinstance(value, (list, tuple)):
        return [_rounded(item, decimals) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{round(value, decimals) + 0.0:.{decimals}f}"  # no minus before a zero
    return value


def _verdict(answer, want, tol: float, mistakes: dict) -> str:
    if sealed(answer, want.decimals) == want if isinstance(want, Sealed) else _same(answer, want, tol):
        return f"✓ Right: {_short(answer)}"
    for wrong, why in mistakes.items():
        if _same(answer, wrong, tol):
            return f"✗ {_short(answer)} is not it. {why}"
    if isinstance(want, Sealed):
        return f"✗ {_short(answer)} is not it. Look at the hints and try again."
    given, wanted = _form(answer), _form(want)
    if given != wanted:
        return f"✗ Your answer is {given}; {wanted} is wanted.{HELP.get(given, '')}"
    return f"✗ {_short(answer)} is not it. {_difference(answer, want, tol)}"


def _difference(answer, want, tol: float) -> str:
    """What is wrong with an answer of the right form, judged by its values alone."""
    if isinstance(want, (list, tuple)) and _same(answer[::-1], want, tol):
        return "These are the right values in reverse order."
    pairs = list(zip(_flat(answer), _flat(want), strict=True))
    wrong = {k: pair for k, pair in enumerate(pairs, 1) if not _same(*pair, tol)}
    where = f"Look at number {_short(list(wrong))}; the rest is right. " if len(wrong) < len(pairs) else ""
    return where + _size(list(wrong.values()))


def _size(pairs: list) -> str:
    """What the sizes tell of pairs (answer, wanted) that differ."""
    if all(type(value) in (int, float) for pair in pairs for value in pair):
        if len(pairs) == 1 and abs(pairs[0][0] - pairs[0][1]) == 1:
            return "It is off by one."
        if all(a == w // 1 for a, w in pairs):
            return "The decimals are missing. Were they cut off, by // or int()?"
        for times, words in TIMES.items():
            if all(math.isclose(a, times * w, rel_tol=0.01) for a, w in pairs):
                return words
    return "Look at the hints and try again."


def _plain(value):
    """Arrays, tensors and their scalars as lists and numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _form(value) -> str:
    """What kind of answer it is, in words."""
    if isinstance(value, (list, tuple)):
        sizes = "×".join(map(str, _sizes(value)))
        return f"a list of {sizes} value" + ("" if sizes == "1" else "s")
    other = "a function" if callable(value) else f"of type {type(value).__name__}"
    return {bool: "True or False", int: "one number", float: "one number", str: "text"}.get(type(value), other)


def _sizes(value) -> list:
    if not isinstance(value, (list, tuple)):
        return []
    return [len(value), *(_sizes(value[0]) if value else [])]


def _flat(value) -> list:
    return [x for item in value for x in _flat(item)] if isinstance(value, (list, tuple)) else [value]


def _short(value) -> str:
    return textwrap.shorten(_text(value), 60, placeholder=" …")


def _same(got, want, tol: float) -> bool:
    got, want = (value.tolist() if hasattr(value, "tolist") else value for value in (got, want))  # arrays, tensors
    if isinstance(want, dict) and isinstance(got, dict):
        return got.keys() == want.keys() and all(_same(got[key], want[key], tol) for key in want)
    if isinstance(want, (list, tuple)) and isinstance(got, (list, tuple)):
        return len(got) == len(want) and all(_same(a, b, tol) for a, b in zip(got, want))
    if isinstance(want, bool) or isinstance(got, bool):
        return got is want
    if got == want or not tol:
        return bool(got == want)
    try:
        return bool(abs(got - want) <= tol)
    except TypeError:
        return False


def _text(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
