"""Claims that can fail: one line printed when they hold, an error when they do not."""


class CheckFailed(AssertionError):
    """A claim of a notebook does not hold; the message shows what was got and what was wanted."""


def check(claim: str, got, want=True, tol: float = 0) -> None:
    """Print one line if `got` equals `want` (within `tol`, for numbers); raise CheckFailed if not.

    claim: a statement that reads well with the value after it, such as "parameters of ResNet-20".
    Sequences and dicts are compared element by element.
    """
    if not _same(got, want, tol):
        within = f" within {tol:g}" if tol else ""
        show = repr if _text(got) == _text(want) else _text  # more digits where these do not tell them apart
        raise CheckFailed(f"{claim}: got {show(got)}, expected {show(want)}{within}")
    if want is True:
        print(f"✓ {claim}")
    elif tol and _text(got) != _text(want):
        print(f"✓ {claim}: {_text(got)} (expected {_text(want)}, within {tol:g})")
    else:
        print(f"✓ {claim}: {_text(got)}")


def feedback(answer, want, tol: float = 0, mistakes: dict | None = None) -> None:
    """Say whether a reader's `answer` is right; never raises.

    answer: None means not answered yet. mistakes: a wrong answer -> what probably led to it.
    """
    if answer is None:
        print("Not answered yet: replace None in the cell above and run both cells.")
    elif _same(answer, want, tol):
        print(f"✓ Right: {_text(answer)}")
    else:
        reasons = [why for wrong, why in (mistakes or {}).items() if _same(answer, wrong, tol)]
        print(f"✗ {_text(answer)} is not it. {reasons[0] if reasons else 'Look at the hints and try again.'}")


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
