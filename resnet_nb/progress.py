"""What stdout and stderr show: bars, which the command line switches on, and notes. A stream that ends stops no training."""

import functools
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resnet_nb.errors import InputError, first_line

if TYPE_CHECKING:
    from tqdm import tqdm

PAUSE = 10.0  # seconds between the lines of a bar in a file
_switch = {"shown": False, "leads": True}


class Outlet:
    """A stream of text that cannot fail: what it does not take is left out, and `error` is the first reason."""

    def __init__(self, stream):
        self.stream, self.error = stream, None

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write `text`, with escapes for letters that the encoding of the stream has not."""
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding
            self._do("write", text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:  # its reader ended, the disk is full; ValueError: it is closed
            self.error = self.error or error
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self._do("flush")

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return bool(self._do("isatty"))

    def abandon(self) -> None:
        """If there is something left that cannot be written, let it vanish: Python would try once more at its end, and fail."""
        try:
            getattr(self.stream, "flush", lambda: None)()
        except (OSError, ValueError):
            with suppress(OSError, ValueError, AttributeError):  # a stream without a file descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def _do(self, name: str, *args):
        try:
            return getattr(self.stream, name, lambda *args: None)(*args)
        except (OSError, ValueError) as error:
            self.error = self.error or error


@contextmanager
def outlets() -> Iterator[Outlet]:
    """While it lasts, nothing that is printed or shown raises; yields what stands for stdout."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # 0, 1 or 2 was closed: a file opened later would get that number, and what libraries print there
    os.close(descriptor)
    before = sys.stdout, sys.stderr
    standing = [Outlet(stream or open(os.devnull, "w", encoding="utf-8")) for stream in before]  # pythonw has None
    sys.stdout, sys.stderr = standing
    try:
        yield standing[0]
    finally:
        sys.stdout, sys.stderr = before
        for outlet in standing:
            outlet.abandon()


def leads() -> bool:
    """Whether this process is the one that talks: of a world of several, the first."""
    return _switch["leads"]


def follow() -> None:
    """From now on another process talks: this one has joined its world."""
    _switch["leads"] = False


@contextmanager
def shown() -> Iterator[None]:
    """While it lasts, bars appear on stderr, if this process is the one that talks."""
    before, _switch["shown"] = _switch["shown"], True
    try:
        yield
    finally:
        _switch["shown"] = before


def bar(doing: str, total: int, iterable: Iterable | None = None, **settings) -> "tqdm":
    """tqdm's bar, if bars are shown. Raises as `status`.

    Where stderr is no terminal: a line every ten seconds, none of what is over before, and no second bar beside another.
    """
    pace = {} if _on_a_terminal() else {"delay": PAUSE, "mininterval": PAUSE}
    off = not _on_a_terminal() and len(getattr(_tqdm(), "_instances", ())) > 0
    return _tqdm()(iterable, desc=doing, total=total, file=sys.stderr, **{**pace, **_hidden(off), **settings})


def status(doing: str) -> "tqdm":
    """A context: while it lasts, bars are shown and stderr is a terminal, it says what is being done.

    Raises InputError if a variable of the environment is for tqdm, and bad.
    """
    off = _hidden(not _on_a_terminal())
    return _tqdm()(desc=doing, bar_format="{desc} ...", leave=False, file=sys.stderr, **off)


def note(line: str) -> None:
    """A line on stderr that leaves the bars whole; only the process that talks has notes."""
    if leads():
        tell(line)


def tell(line: str) -> None:
    """A line on stderr that leaves the bars whole, of any process. Where there is no stderr it is left out."""
    write = _tqdm().write
    with suppress(OSError, ValueError, AttributeError):
        write(line, file=sys.stderr)


def _on_a_terminal() -> bool:
    with suppress(OSError, ValueError, AttributeError):  # as in `tell`
        return sys.stderr.isatty()
    return False


def _hidden(off: bool) -> dict:
    """Settings of a bar; where it is not hidden by us, TQDM_DISABLE of the user counts."""
    return {"disable": True} if off or not (_switch["shown"] and leads()) else {}


@functools.cache
def _tqdm() -> "type[tqdm]":
    """Imported late: with a bad variable it cannot be."""
    try:
        from tqdm import tqdm

        with tqdm(None, desc="", total=1, file=io.StringIO()) as trial:  # some are read only now
            trial.refresh()
    except (ValueError, TypeError, KeyError, IndexError, Warning) as error:
        names = " or ".join(sorted(name for name in os.environ if name.startswith("TQDM_")))
        raise InputError(f"the environment variable {names} has a value that tqdm cannot read ({first_line(error)})") from error
    return tqdm
