"""Numbers in a notebook's prose are those of the runs, tables and cells that they come from.

tests/quotes/<notebook>.toml ties them: under [cells.<cell>] each text as the cell quotes it, with a Python expression
whose values are its numbers, in their order, to the digits that are shown. `setup` makes names for the expressions;
they also have SCOPE, printed(cell), the numbers in a cell's stored output, and code(cell), those in its source.
`given` lists texts whose numbers are chosen or common knowledge. Any other number in the prose is an error, but for
those of NEED_NO_TIE and in exercises, whose solutions are run (test_notebooks.py).
"""

import functools
import re
import tomllib

import numpy as np
import pytest
from helpers import ROOT, no, on_meta, read

from resnet_nb import paper, recipes, runs
from resnet_nb.anatomy import describe
from tools import seeds
from tools.reading import tags

QUOTES = sorted((ROOT / "tests" / "quotes").glob("*.toml"))
SCOPE = {"paper": paper, "recipes": recipes, "runs": runs, "describe": describe, "on_meta": on_meta, "seeds": seeds, "np": np}
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?"
NEED_NO_TIE = {
    "code": r"(?s)```.*?```|`[^`]*`",
    "formulas": r"(?s)\$\$.*?\$\$|\$[^$]*\$",
    "quotations": r"(?m)^>.*$|“[^”]*”",
    "links": r"\[[^\]]*\]\([^)]*\)",
    "tags": r"<[^>]+>",
    "places": r"(?:§|\b(?:Section|Table|Figure|Fig\.|Exercise|Hint|[Nn]otebooks?) )[\d.]*\d(?:(?:, | and | to )\d\d)*",
    "years and arXiv ids": r"(?<![\w.,])(?:19|20)\d\d(?!\w|[.,]\d)|\b\d{4}\.\d{5}\b",
    "numbers of lists and chapters": r"(?m)^\s*\d+\. |^#+ \d\d\b",
    "names": r"\b[A-Za-z]+-?\d+\b",
    "sizes": r"\d+×\d+",
}


def tied_only(text):
    """The text with blanks for what needs no tie."""
    for pattern in NEED_NO_TIE.values():
        text = re.sub(pattern, lambda match: " " * len(match[0]), text)
    return text


def numbers(text):
    """[(number, half a unit of its last digit)]"""
    found = []
    for shown in re.findall(NUMBER, tied_only(text)):
        mantissa, _, exponent = shown.replace(",", "").partition("e")
        decimals = len(mantissa.partition(".")[2])
        found.append((float(shown.replace(",", "")), 0.5 * 10.0 ** (int(exponent or 0) - decimals)))
    return found


def says(quote, values):
    """Whether the numbers of the quote are these values, as far as they are shown."""
    shown, values = numbers(quote), np.ravel(values)
    return 0 < len(shown) == len(values) and all(abs(n - v) <= 1.000001 * half for (n, half), v in zip(shown, values))


def faults(name, source, ties, given):
    """What is wrong with the prose of a cell: ties are {quote: values}."""
    for quote, values in ties.items():
        if quote not in source:
            yield f"{name}: does not say {quote!r}"
        if not says(quote, values):
            yield f"{name}: {quote!r} should say {', '.join(f'{value:.6g}' for value in np.ravel(values))}"
    rest = source.partition("### Exercise")[0]
    for text in sorted([*ties, *given], key=len, reverse=True):
        rest = re.sub(rf"(?<!\d){re.escape(text)}(?!\d)", " ", rest)
    for line in tied_only(rest).splitlines():
        if untied := re.findall(rf".{{0,30}}{NUMBER}.{{0,30}}", line):
            yield f"{name}: a number that nothing ties: {' ... '.join(untied)}"


@functools.cache
def quoted(path):
    """Of a file of quotes: {cell: source of the prose}, {cell: {quote: values}} and the texts that are given."""
    quotes = tomllib.loads(path.read_text(encoding="utf-8"))
    cells = {cell.id: cell for cell in read(ROOT / "notebooks" / f"{path.stem}.ipynb").cells}

    def printed(cell):
        outputs = cells[cell].outputs
        text = "\n".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
        return [number for number, _ in numbers(text)]

    names = SCOPE | {"printed": printed, "code": lambda cell: [number for number, _ in numbers(cells[cell].source)]}
    exec(quotes["setup"], names)
    ties = {cell: {text: eval(made, names) for text, made in texts.items()} for cell, texts in quotes["cells"].items()}
    sources = {name: cell.source for name, cell in cells.items() if cell.cell_type == "markdown" and "badge" not in tags(cell)}
    return sources, ties, quotes["given"]


each_file = pytest.mark.parametrize("path", QUOTES, ids=lambda path: path.stem)


@each_file
def test_every_number_in_the_prose_is_tied(path):
    sources, ties, given = quoted(path)
    prose = "\n".join(sources.values())
    no(f"no prose cell {name}" for name in ties.keys() - sources.keys())
    no(f"nowhere given: {text!r}" for text in given if text not in prose)
    no(fault for name, source in sources.items() for fault in faults(name, source, ties.get(name, {}), given))


def other_digits(text):
    """The text with each digit of its numbers in turn changed to each other one."""
    for at, digit in enumerate(tied_only(text)):
        yield from (text[:at] + other + text[at + 1 :] for other in "0123456789" if digit.isdigit() and other != digit)


@each_file
def test_a_changed_digit_turns_the_test_red(path):
    """In the prose alone, and in the prose and its quote together."""
    sources, ties, given = quoted(path)
    unnoticed = []
    for name, quotes in ties.items():
        for quote, values in quotes.items():
            for wrong in other_digits(quote):
                source = sources[name].replace(quote, wrong)
                both = {wrong if text == quote else text: value for text, value in quotes.items()}
                if not all(any(faults(name, source, changed, given)) for changed in (quotes, both)):
                    unnoticed.append(f"{name}: {wrong!r} for {quote!r}, {values}")
    no(unnoticed)
    for name, source in sources.items():
        for text in (text for text in given if text in source):
            no(
                f"{name}: {wrong!r} for {text!r}"
                for wrong in other_digits(text)
                if not any(faults(name, source.replace(text, wrong), ties.get(name, {}), given))
            )


def test_numbers_are_compared_as_far_as_they_are_shown():
    assert says("56 layers: 41 points, 2.0e+05 times", [56, 40.75, 203_000])
    assert not says("41 points", [40.4]) and not says("2.05 points", [2.0]) and not says("41 points", [41, 41])
    assert numbers("ResNet-56 (§4.2, Table 6) has `3` of $4$ at 5×5, 1,202 in all") == [(1202, 0.5)]


@pytest.mark.parametrize(
    "source, ties, fault",
    [
        ("It takes 7 epochs.", {}, "nothing ties: It takes 7 epochs"),
        ("It takes 7 epochs.", {"8 epochs": 8}, "does not say '8 epochs'"),
        ("It takes 7 epochs.", {"7 epochs": 7.6}, "'7 epochs' should say 7.6"),
        ("It takes 7 epochs, then 17.", {"7 epochs": 7}, "then 17"),
    ],
)
def test_a_fault_is_named(source, ties, fault):
    assert any(fault in said for said in faults("a-cell", source, ties, ["32-bit"]))
