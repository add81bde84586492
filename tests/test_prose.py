"""Numbers in a notebook's prose are those of the runs, tables and cells that they come from.

tests/quotes/<notebook>.toml ties them: under [cells.<cell>] each text as the cell quotes it, with a Python expression
whose values are its numbers, in their order, to the digits that are shown. `setup` makes names for the expressions;
they also have SCOPE, printed(cell), the numbers in a cell's stored output, and code(cell), those in its source.
`given` lists texts whose numbers are chosen or common knowledge. Any other number in the prose is an error, but for
those of NEED_NO_TIE and in exercises, whose solutions are run (test_notebooks.py). Of a notebook without such a file
the numbers with a decimal are looked for in what it prints and in the papers' tables: decimals.toml.
"""

import functools
import json
import re
import tomllib
import zlib

import numpy as np
import pytest
from helpers import NOTEBOOKS, ROOT, no, on_meta, read

from resnet_nb import paper, recipes, runs
from resnet_nb.anatomy import describe
from resnet_nb.memory import activation_bytes
from tools import seeds
from tools.reading import tags

QUOTES = sorted((ROOT / "tests" / "quotes").glob("*.toml"))
SCOPE = {"paper": paper, "recipes": recipes, "runs": runs, "seeds": seeds, "np": np}
SCOPE |= {"describe": describe, "activation_bytes": activation_bytes, "on_meta": on_meta}
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?"
NEED_NO_TIE = {
    "code": r"(?s)```.*?```|`[^`]*`",
    "formulas": r"(?s)\$\$.*?\$\$|\$[^$]*\$",
    "quotations": r"(?m)^>.*$|“[^”]*”",
    "sections": r"\bSections \d\.\d(?:(?:, | and | to )\d\.\d)*",
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


def text_of(cell):
    """What a cell has printed."""
    return "\n".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs)


@functools.cache
def quoted(path):
    """Of a file of quotes: {cell: source of the prose}, {cell: {quote: values}} and the texts that are given."""
    quotes = tomllib.loads(path.read_text(encoding="utf-8"))
    cells = {cell.id: cell for cell in read(ROOT / "notebooks" / f"{path.stem}.ipynb").cells}

    def printed(cell):
        return [number for number, _ in numbers(text_of(cells[cell]))]

    names = SCOPE | {"printed": printed, "code": lambda cell: [number for number, _ in numbers(cells[cell].source)]}
    exec(quotes["setup"], names)
    ties = {cell: {text: eval(made, names) for text, made in texts.items()} for cell, texts in quotes["cells"].items()}
    return prose(read(ROOT / "notebooks" / f"{path.stem}.ipynb")), ties, quotes["given"]


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


# --- notebooks without a file of quotes ------------------------------------------------------------

DECIMALS = tomllib.loads((ROOT / "tests" / "decimals.toml").read_text(encoding="utf-8"))
PRINTED = (ROOT / "resnet_nb" / "paper" / "tables.toml").read_text(encoding="utf-8")
each_other = pytest.mark.parametrize("name", [name for name in DECIMALS if name != "setup"])


def prose(nb):
    """{cell: its text}"""
    return {cell.id: cell.source for cell in nb.cells if cell.cell_type == "markdown" and "badge" not in tags(cell)}


def decimals(text):
    return [shown for shown in re.findall(NUMBER, tied_only(text)) if "." in shown]


def strays(sources, ties, given, known):
    """What is wrong with the decimals in the prose {cell: text}; known: the numbers that they may be."""
    whole = "\n".join(sources.values())
    for text in [*ties, *given]:
        if text not in whole:
            yield f"the prose does not say {text!r}, which decimals.toml ties"
    for quote, values in ties.items():
        if not says(quote, values):
            yield f"{quote!r} should say {', '.join(f'{value:.6g}' for value in np.ravel(values))}"
    for name, source in sources.items():
        rest = source.partition("### Exercise")[0]
        for text in [*ties, *given]:
            rest = rest.replace(text, " ")
        for shown in decimals(rest):
            ((value, half),) = numbers(shown)
            if not np.any(np.abs(known - value) <= 1.000001 * half):
                yield f"{name}: {shown} is in no output, no cell and no table of the papers"


@functools.cache
def compared(name):
    """What `strays` takes, of one notebook."""
    nb, quotes, names = read(ROOT / "notebooks" / f"{name}.ipynb"), DECIMALS[name], dict(SCOPE)
    exec(DECIMALS["setup"], names)
    code = "\n".join(f"{cell.source}\n{text_of(cell)}" for cell in nb.cells if cell.cell_type == "code")
    lines = map(json.loads, seeds.RESULTS.read_text(encoding="utf-8").splitlines())
    margins = [line["margin"] for line in lines if line["notebook"] == name[:2]]
    known = np.array([float(shown.replace(",", "")) for shown in re.findall(NUMBER, f"{code}\n{PRINTED}")] + margins)
    return prose(nb), {text: eval(made, names) for text, made in quotes.get("ties", {}).items()}, quotes.get("given", []), known


def test_every_notebook_is_compared():
    assert sorted([path.stem for path in QUOTES] + list(DECIMALS.keys() - {"setup"})) == [path.stem for path in NOTEBOOKS]


@each_other
def test_every_decimal_in_the_prose_comes_from_somewhere(name):
    no(strays(*compared(name)))


@each_other
def test_no_decimal_in_the_prose_drifts_unnoticed(name):
    shown = {cell: decimals(text) for cell, text in compared(name)[0].items() if decimals(text)}
    found = f"{zlib.crc32(json.dumps([*shown.values()]).encode()):08x}"
    assert found == DECIMALS[name]["sum"], (
        f"a number in the prose of {name} changed, or two traded places: compare {shown} with where they come from, "
        f'then write sum = "{found}" into tests/decimals.toml'
    )


@pytest.mark.parametrize(
    "text, fault",
    [
        ("After 10 batches 3.62.", "3.62 is in no output"),
        ("It takes 1.5 hours, 7.9 %.", "'1.5 hours' should say 1.25"),
        ("It takes long, 7.9 %.", "does not say '1.5 hours'"),
    ],
)
def test_a_stray_decimal_is_named(text, fault):
    assert any(fault in said for said in strays({"a-cell": text}, {"1.5 hours": 1.25}, [], np.array([3.26, 7.93])))
    assert not [*strays({"a-cell": "1.5 hours and 7.9 %"}, {"1.5 hours": 1.5}, [], np.array([3.26, 7.93]))]


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
