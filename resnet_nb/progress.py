"""What stderr shows while something takes longer than two seconds."""

import os
import sys
from collections.abc import Iterable

from tqdm import tqdm

PAUSE = 10.0  # seconds between the lines of a bar in a file


def leads() -> bool:
    """Whether this process is the one that talks: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def bar(iterable: Iterable | None = None, *, shown: bool, **settings) -> tqdm:
    """tqdm's bar, if `shown`; where stderr is no terminal, a line every ten seconds, none of what is over before."""
    pace = {} if sys.stderr.isatty() else {"delay": PAUSE, "mininterval": PAUSE}
    return tqdm(iterable, disable=not shown, **{**pace, **settings})


def status(doing: str, shown: bool = True) -> tqdm:
    """A context: while it lasts, and stderr is a terminal, it says what is being done."""
    return tqdm(desc=doing, bar_format="{desc} ...", leave=False, disable=None if shown else True)


def note(line: str) -> None:
    """A line on stderr that leaves the bars whole."""
    tqdm.write(line, file=sys.stderr)
