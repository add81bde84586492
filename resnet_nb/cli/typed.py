"""What can be typed as a value: each function takes a text and raises ArgumentTypeError with what is wanted."""

import argparse
import ast
import os
import re
from pathlib import Path

CONSTANTS = {"true": True, "false": False, "none": None, "null": None}  # in JSON or Python, in any case


def place(text: str) -> str:
    """A path or a name; ~ is the home folder also after an equals sign, where shells leave it."""
    place = os.path.expanduser(text)
    if not text.strip():
        raise argparse.ArgumentTypeError("a name or a path is wanted, got an empty text")
    if place.startswith("~"):
        raise argparse.ArgumentTypeError(f"there is no home folder for {text!r}; ./{text} is a folder of that name")
    return place


def folder(text: str) -> Path:
    """A path of a folder; see `place`."""
    return Path(place(text))


def integer(text: str) -> int:
    """An integer in digits."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"an integer in digits is wanted, such as 8000, got {repr(text)[:40]}") from error


def override(text: str) -> tuple[str, object]:
    """Key and value of KEY=VALUE; the value as a literal of Python or JSON, else as the word it is."""
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"an override is KEY=VALUE, for example shortcut=B, got {text!r}")
    if value.lower() in CONSTANTS:
        return key, CONSTANTS[value.lower()]
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # no literal of Python: a word such as B or 3x3
        return key, value


def seconds(text: str) -> float:
    """A time such as 90s, 25m or 2h."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"a time is a number with s, m or h (90s, 25m, 2h), got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
