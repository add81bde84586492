"""What stderr shows: bars, which the command line switches on, and notes."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

PAUSE = 10.0  # seconds between the lines of a bar in a file
_switch = {"shown": False}


def leads() -> bool:
    """Whether this process is the one that talks: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def shown() -> Iterator[None]:
    """While it lasts, bars appear on stderr, if this process is the one that talks."""
    before, _switch["shown"] = _switch["shown"], leads()
    try:
        yield
    finally:
        _switch["shown"] = before


def bar(doing: str, total: int, iterable: Iterable | None = None, **settings) -> tqdm:
    """tqdm's bar, if bars are shown.

    Where stderr is no terminal: a line every ten seconds, none of what is over before, and no second bar beside another.
    """
    terminal = sys.stderr.isatty()
    pace = {} if terminal else {"delay": PAUSE, "mininterval": PAUSE}
    off = not _switch["shown"] or (not terminal and len(getattr(tqdm, "_instances", ())) > 0)
    return tqdm(iterable, desc=doing, total=total, disable=off, **{**pace, **settings})


def status(doing: str) -> tqdm:
    """A context: while it lasts, bars are shown and stderr is a terminal, it says what is being done."""
    return tqdm(desc=doing, bar_format="{desc} ...", leave=False, disable=None if _switch["shown"] else True)


def note(line: str) -> None:
    """A line on stderr that leaves the bars whole; only the process that talks has notes."""
    if leads():
        tqdm.write(line, file=sys.stderr)
