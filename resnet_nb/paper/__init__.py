"""What the papers print, as data, and the ledger of what the notebooks recompute (all notebooks).

Sources: 1512.03385 (Deep Residual Learning), 1603.05027 (pre-activation), 2103.15244 (high-order blocks; abstract only).
Every block says how sure its numbers are; the head of `tables.toml` explains the words (confirmed, one, computed, ...).
What the functions return is a fresh copy: change it freely.
"""

import copy
import functools
import tomllib
from dataclasses import dataclass
from importlib import resources

from resnet_nb.errors import InputError

PAPER = "1512.03385"  # arXiv id of the paper that the series follows
NAMES = {PAPER: "ResNet", "1603.05027": "Pre-activation", "2103.15244": "High order"}
KINDS = {  # of an entry of the ledger: where the numbers in the notebook come from
    "exact": "algebra or architecture, computed in full while you watch",
    "live": "a short training or measurement while you watch",
    "recorded": "longer trainings of ours, which come with the package",
    "printed": "the paper's own numbers",
}
STATUSES = {  # of an entry of the ledger: how far it has been recomputed
    "reproduced": "computed here, as the paper has it",
    "reproduced at smaller scale": "computed here with fewer nets, seeds or iterations, or on smaller images",
    "read": "read and discussed; nothing here could contradict it",
    "open": "not done, or no more than one reading of ours",
}


@dataclass(frozen=True)
class Table:
    """One printed table. A row is a dict from column to cell; a cell that the paper leaves empty is missing from it.

    `unit` gives the unit of the numbers, `section` the place in the paper, `title` and `note` are our words.
    """

    source: str
    number: int
    title: str
    section: str
    confidence: str
    unit: str
    columns: tuple[str, ...]
    rows: tuple[dict, ...]
    note: str = ""

    def frame(self):
        """The table as a pandas DataFrame: all columns, in the printed order; empty cells are NaN or None."""
        import pandas  # here, so that reading a number does not cost the import

        return pandas.DataFrame(list(self.rows), columns=list(self.columns))

    def row(self, name: str | int) -> dict:
        """The row whose first column equals `name`; InputError (a ValueError) names the rows there are."""
        return _pick({row[self.columns[0]]: row for row in self.rows}, name, f"{self.cite()} has no row")

    def cite(self) -> str:
        """Where the table stands, such as "Table 6, arXiv 1512.03385, §4.2"."""
        section = f"§{self.section}" if self.section[0].isdigit() else self.section
        return f"Table {self.number}, arXiv {self.source}, {section}"


@dataclass(frozen=True)
class Entry:
    """One line of the ledger; `kind` is one of KINDS, `status` one of STATUSES."""

    id: str
    what: str
    source: str
    title: str
    notebook: str
    kind: str
    status: str
    note: str = ""


@functools.cache
def _read(name: str) -> dict:
    return tomllib.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _pick(choices: dict, key, wrong: str) -> dict:
    """A copy of choices[key], so that no caller can change the parsed file that all share."""
    if key not in list(choices):  # a list also takes keys that cannot be hashed
        raise InputError(f"{wrong} {key!r}; allowed: {', '.join(map(str, choices))}")
    return copy.deepcopy(choices[key])


def tables() -> tuple[Table, ...]:
    """All printed tables: 1-14 of 1512.03385, then 1-5 of 1603.05027."""
    blocks = copy.deepcopy(_read("tables.toml")["table"])
    return tuple(Table(**{**block, "columns": tuple(block["columns"]), "rows": tuple(block["rows"])}) for block in blocks)


def table(number: int, source: str = PAPER) -> Table:
    """Table `number` of the paper with arXiv id `source`; InputError (a ValueError) if there is none."""
    by_source = {}
    for t in tables():
        by_source.setdefault(t.source, {})[t.number] = t
    return _pick(_pick(by_source, source, "no tables of arXiv"), number, f"arXiv {source} has no table")


def recipe(name: str) -> dict:
    """A training recipe as printed: "imagenet" (1512.03385 §3.4), "cifar10" (§4.2) or "preact" (1603.05027).

    Schedules are in iterations unless the key says epochs, sizes in images or pixels; `computed` holds what follows
    from the printed numbers. InputError on another name.
    """
    return _pick(_read("tables.toml")["recipe"], name, "no recipe")


def figure(number: int) -> dict:
    """What Figure 1-7 of 1512.03385 shows, in our own words (key `words`); InputError on another number."""
    return _pick({int(key): block for key, block in _read("tables.toml")["figure"].items()}, number, "1512.03385 has no figure")


def counts(name: str) -> dict:
    """Parameters and multiply-adds of a network: recomputed, not printed, with the printed number beside it.

    Names are those of `models.build`, with "-A", "-B" or "-C" for the shortcut option where it matters and "-v1.5" for
    the stride in the 3x3; the head of the section `counts` of `tables.toml` states the convention. InputError on another name.
    """
    return _pick(_read("tables.toml")["counts"], name, "no counts of")


def facts(name: str) -> dict:
    """What is not a table, figure, recipe or count: architectures, stated gains, bottleneck arithmetic, released models,
    reimplementations, high-order blocks. Each block names its source and confidence. InputError lists the names.
    """
    return _pick(_read("tables.toml")["facts"], name, "no facts")


def misreadings() -> tuple[dict, ...]:
    """Misreadings found in real reading notes: `severity`, `says`, and `paper` (what it has) or `remark` (ours) or both."""
    return tuple(copy.deepcopy(_read("tables.toml")["misreading"]))


def ledger(notebook: str | None = None) -> tuple[Entry, ...]:
    """The ledger, or its entries for one notebook ("00".."13"; some have none); InputError if there is no such notebook."""
    data = _read("ledger.toml")
    if notebook is not None and notebook not in data["notebooks"]:
        raise InputError(f"no notebook {notebook!r}; allowed: {', '.join(data['notebooks'])}")
    return tuple(Entry(**entry) for entry in data["entry"] if notebook in (None, entry["notebook"]))


def ledger_markdown() -> str:
    """The ledger as Markdown: for each status its name, how many entries it has, what it means, and a table of them."""
    parts = ["*How* tells where the numbers come from. " + " ".join(f"**{kind}**: {words}." for kind, words in KINDS.items())]
    for status, words in STATUSES.items():
        found = [entry for entry in ledger() if entry.status == status]
        rows = [f"| {NAMES[e.source]}, {e.what} | {e.title} | {e.notebook} | {e.kind} | {e.note} |" for e in found]
        head = ["| | what it is | notebook | how | note |", "|:---|:---|:---|:---|:---|"]
        parts.append("\n".join([f"**{status[0].upper()}{status[1:]}** ({len(found)}): {words}.", "", *head, *rows]))
    return "\n\n".join(parts)
