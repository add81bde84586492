"""The form of the notebooks, read from the files. What they compute, `pytest --nbval` tests."""

import ast
import base64
import functools
import json
import math
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field

import helpers
import nbformat
import pytest
from helpers import NOTEBOOKS, ROOT, each_notebook, no

from tools import kernels, notebooks, stored

NOT_COMPARED = {"nbval-ignore-output", "nbval-skip"}
ON_A_SLIDE = {"slide", "subslide", "fragment", "-"}
PLACES = ON_A_SLIDE | {"skip", "notes"}
WRITTEN_OUT = {"02", "03", "04", "08", "09"}  # the reader writes a network there, its shortcuts, its training, lesions
UNSTABLE = {
    "a memory address": r"\b0x[0-9a-fA-F]{6,}",
    "a terminal colour code": "\x1b",
    "a path of one machine": r"(?<![\w.])/(?:home|root|Users|tmp)/|\b[A-Z]:\\Users\\",
}


read = functools.cache(helpers.read)


def number(path):
    return path.stem[:2]


def markdown(path):
    return [cell for cell in read(path).cells if cell.cell_type == "markdown"]


def code(path):
    return notebooks.code_cells(read(path))


def outputs(path):
    return [(cell, output) for cell in code(path) for output in cell.outputs]


def tagged(path, tag):
    return [cell for cell in code(path) if tag in notebooks.tags(cell)]


def place(cell):
    return cell.metadata.get("slideshow", {}).get("slide_type")


def text_of(output):
    """What a reader can read of an output."""
    found = [output.get("text", ""), *output.get("traceback", [])]
    found += [v for k, v in output.get("data", {}).items() if k.startswith(("text/", "image/svg"))]
    return "\n".join(found)


# --- the series ----------------------------------------------------------------------------


def test_names_and_numbers():
    assert NOTEBOOKS, "there are no notebooks"
    numbers = [number(p) for p in NOTEBOOKS]
    assert numbers == sorted(set(numbers)), "two notebooks have one number"


def test_readme_lists_the_notebooks():
    readme = ROOT / "README.md"
    assert readme.exists()
    assert notebooks.readme_badges() in readme.read_text(encoding="utf-8"), (
        "the README's table of notebooks is not the present one: run make address"
    )


@each_notebook
def test_first_cells(path):
    repo = notebooks.repository()
    badges = [cell for cell in markdown(path) if "badge" in notebooks.tags(cell)]
    assert [cell.source for cell in badges] == [notebooks.badges(repo, path.name)]
    first = code(path)[0]
    assert first.source == notebooks.bootstrap(repo), "the first code cell is not the generated one"
    assert sorted(notebooks.tags(first)) == ["bootstrap", "nbval-ignore-output"]
    heading = next(cell for cell in markdown(path) if "badge" not in notebooks.tags(cell))
    assert re.match(rf"# {number(path)}\b", heading.source), "no H1 that starts with the number"
    assert "minutes" in heading.source, "the head does not say how many minutes it takes"


@each_notebook
def test_closing_sections(path):
    headings = re.findall(r"^## .+$", "\n".join(c.source for c in markdown(path)), re.MULTILINE)
    wanted = ["## Summary"] + ["## Exercises"] * (number(path) != "00")
    no(f"no heading {name!r}" for name in wanted if name not in map(str.strip, headings))


# --- executed, and nothing stored that changes from run to run ------------------------------


@each_notebook
def test_executed_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in code(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_errors_only_where_announced(path):
    wrong = []
    for cell in code(path):
        raised = any(output.output_type == "error" for output in cell.outputs)
        if raised != ("raises-exception" in notebooks.tags(cell)):
            wrong.append(f"cell {cell.id}: " + ("raises" if raised else "tagged, raises nothing"))
    no(wrong)


@each_notebook
def test_outputs_are_stable(path):
    wrong = [f"cell {c.id}: writes to stderr" for c, o in outputs(path) if o.get("name") == "stderr"]
    for cell, output in outputs(path):
        for what, pattern in UNSTABLE.items():
            if re.search(pattern, text_of(output)):
                wrong.append(f"cell {cell.id}: {what} in the output")
    no(wrong)


@each_notebook
def test_sources_suit_nbval(path):
    """nbval shows what a trailing `;` hides, and our tool knows tags but not its comments."""
    wrong = []
    for cell in code(path):
        if any(line.rstrip().endswith(";") for line in cell.source.splitlines()):
            wrong.append(f"cell {cell.id}: `;` at the end of a line")
        if "NBVAL_" in cell.source:
            wrong.append(f"cell {cell.id}: a comment for nbval instead of a tag")
        if re.search(UNSTABLE["a path of one machine"], cell.source):
            wrong.append(f"cell {cell.id}: a path of one machine")
    no(wrong)


@each_notebook
def test_few_outputs_are_left_uncompared(path):
    ignored = [cell for cell in code(path) if NOT_COMPARED & set(notebooks.tags(cell))]
    no(f"cell {cell.id}: a check that nobody compares" for cell in ignored if "check(" in cell.source)
    # The generated first cell is one of them, so that a short notebook may have one of its own.
    assert len(ignored) <= max(2, 0.2 * len(code(path)))


# --- pictures --------------------------------------------------------------------------------


@each_notebook
def test_pictures_say_what_they_show(path):
    wrong = []
    for cell, output in outputs(path):
        for kind in {"image/png", "image/jpeg"} & set(output.get("data", {})):
            alt = output.metadata.get(kind, {}).get("alt")
            if not alt or alt != output.data.get("text/plain"):
                wrong.append(f"cell {cell.id}: alternative text {alt!r} is not its text/plain")
            kilobytes = len(base64.b64decode(output.data[kind])) / 1000
            if kilobytes >= 150:
                wrong.append(f"cell {cell.id}: a picture of {kilobytes:.0f} kB")
    no(wrong)


@each_notebook
def test_every_picture_has_its_sentence_under_it(path):
    wrong = []
    for cell in code(path):
        for picture, below in zip(cell.outputs, [*cell.outputs[1:], {}]):
            caption = "".join(below.get("data", {}).get("text/markdown", ""))
            if "image/png" in picture.get("data", {}) and not re.fullmatch(r"\*\S.*[.?!)]\*", caption):
                wrong.append(f"cell {cell.id}: no sentence in italics under its picture: {caption!r}")
    no(wrong)


@each_notebook
def test_readme_picture_is_the_stored_one(path):
    for file, data in notebooks.readme_figures(path, read(path)).items():
        assert file.exists() and file.read_bytes() == data, f"{file.name}: execute the notebook"


# --- the file --------------------------------------------------------------------------------


@each_notebook
def test_file_is_canonical(path):
    nbformat.validate(read(path))
    canonical = notebooks.as_bytes(notebooks.canonical(stored.load(path)))
    if path.read_bytes() != canonical:
        pytest.fail(f"run python -m tools.notebooks execute notebooks/{path.name}", pytrace=False)


@each_notebook
def test_cell_ids_can_be_read(path):
    ids = [cell.get("id", "") for cell in read(path).cells]
    wrong = [f"cell {i!r} stands twice" for i in sorted(set(ids)) if ids.count(i) > 1]
    for name in ids:
        random = re.fullmatch(r"[0-9a-f]{8}[0-9a-f-]*", name) and re.search(r"\d", name)
        if random or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            wrong.append(f"cell {name!r}: not a name in words-with-hyphens")
    no(wrong)


@each_notebook
def test_small_enough_to_read(path):
    assert path.stat().st_size < 1_000_000
    assert len(read(path).cells) <= 45
    lengths = {cell.id: len(cell.source.splitlines()) for cell in code(path)}
    assert statistics.median(lengths.values()) <= (12 if number(path) in WRITTEN_OUT else 6)
    no(f"cell {name}: {lines} lines" for name, lines in lengths.items() if lines > 25)
    assert all(lengths.values()), "an empty code cell"


@each_notebook
def test_code_fits_the_page(path):
    wrong = []
    for cell in code(path):
        width = max(map(len, cell.source.splitlines()), default=0)
        limit = 68 if place(cell) in ON_A_SLIDE else 88
        if width > limit:
            wrong.append(f"cell {cell.id}: a line of {width} columns, over {limit}")
    no(wrong)


@each_notebook
def test_slides(path):
    cells = read(path).cells
    no(f"cell {c.id}: slide_type {place(c)!r}" for c in cells if place(c) not in PLACES)
    assert sum(place(cell) in ("slide", "subslide", "fragment") for cell in cells) >= 5


# --- the ledger ------------------------------------------------------------------------------


def ledger_cells():
    """{(notebook, entry): [cells]} from the tags `ledger-<entry>`."""
    found = {}
    for path in NOTEBOOKS:
        for cell in read(path).cells:
            for tag in notebooks.tags(cell):
                if tag.startswith("ledger-"):
                    key = number(path), tag.removeprefix("ledger-")
                    found.setdefault(key, []).append(cell)
    return found


def entries():
    """{(notebook, entry): status}"""
    from resnet_nb import paper

    return {(e.notebook, e.id): e.status for e in paper.ledger()}


def test_every_ledger_entry_has_its_cell():
    """What is called reproduced is checked there; what was read is said there."""
    cells, wrong = ledger_cells(), []
    for (notebook, entry), status in sorted(entries().items()):
        tagged_cells = cells.get((notebook, entry), [])
        if status == "read" and not tagged_cells:
            wrong.append(f"{entry}: notebook {notebook} has no cell with the tag ledger-{entry}")
        checked = any(c.cell_type == "code" and "check(" in c.source for c in tagged_cells)
        if "reproduced" in status and not checked:
            wrong.append(f"{entry}: notebook {notebook} has no check with the tag ledger-{entry}")
    no(wrong)


def test_every_ledger_cell_has_its_entry():
    wrong = []
    for (notebook, entry), cells in ledger_cells().items():
        if (notebook, entry) not in entries():
            names = ", ".join(cell.id for cell in cells)
            wrong.append(f"notebook {notebook}, {names}: no entry {entry} here")
    no(wrong)


# --- the exercises ---------------------------------------------------------------------------


@dataclass
class Exercise:
    number: int
    text: str = ""
    answers: list = field(default_factory=list)
    feedback: list = field(default_factory=list)

    @property
    def details(self):
        """[(summary, body)] of its <details>."""
        found = r"<details>\s*<summary>(.*?)</summary>(.*?)</details>"
        return [(s.strip(), body) for s, body in re.findall(found, self.text, re.DOTALL)]

    @property
    def question(self):
        return self.text.partition("<details>")[0]

    @property
    def solutions(self):
        """The Python blocks of its solution."""
        bodies = [body for summary, body in self.details if summary == "Solution"]
        return re.findall(r"```python\n(.*?)```", "\n".join(bodies), re.DOTALL)


def exercises(path):
    """The exercises in order; each ends with the next one or with the next section."""
    found, current = [], None
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            in_code = False
            for line in cell.source.splitlines():
                in_code ^= line.startswith("```")
                heading = re.match(r"### Exercise (\d+)", line)
                if heading and not in_code:
                    current = Exercise(int(heading[1]))
                    found.append(current)
                elif line.startswith("## ") and not in_code:
                    current = None
                if current:
                    current.text += line + "\n"
        elif current and "answer" in notebooks.tags(cell):
            current.answers.append(cell)
        elif current and "exercise" in notebooks.tags(cell):
            current.feedback.append(cell)
    return found


@each_notebook
def test_exercises_are_complete(path):
    found = exercises(path)
    assert [e.number for e in found] == list(range(1, len(found) + 1))
    assert 3 <= len(found) <= 5 or number(path) == "00"
    for tag, mine in (("answer", "answers"), ("exercise", "feedback")):
        inside = sum(len(getattr(e, mine)) for e in found)
        assert len(tagged(path, tag)) == inside, f"a cell with the tag {tag} outside the exercises"
    wrong = []
    for e in found:
        hints = [summary for summary, _ in e.details if summary != "Solution"]
        layers = 1 if "(easy," in e.question else 2
        everything = "\n".join(cell.source for cell in read(path).cells)
        set_in = re.findall(rf"^(?:answer_{e.number} = |def answer_{e.number}\()", everything, re.MULTILINE)
        left = [(cell.source, cell.outputs) for cell in e.answers]
        counts = {
            "its difficulty": re.search(r"\((easy|medium|hard), ", e.question),
            f"{layers} or more hints in <details>": len(hints) >= layers,
            "one <summary>Solution</summary>": len(e.details) - len(hints) == 1,
            "one ```python block in the solution": len(e.solutions) == 1,
            "one cell with the tag answer": len(e.answers) == 1,
            "one cell with the tag exercise": len(e.feedback) == 1,
            "an answer cell left open": left == [(f"answer_{e.number} = None", [])],
            "its solution in one place": len(set_in) == 2,  # the other one is the open answer
            "its minutes": re.search(r"\d+ min", e.text),
        }
        wrong += [f"exercise {e.number} has not {what}" for what, ok in counts.items() if not ok]
    no(wrong)


# Runs the setup once and then each exercise in copies of its names: untouched, with our solution, with that rounded as
# the question asks, and with each mistake that the feedback names. In a process of its own, because notebooks set
# defaults (float64, random seeds, styles).
DRIVER = """
import contextlib, io, json, sys, traceback

def printed(sources, **names):
    names, stdout = setup | names, io.StringIO()
    try:
        with contextlib.redirect_stdout(stdout):
            exec(sources, names)
    except Exception:
        stdout.write(traceback.format_exc())
    return stdout.getvalue(), names

with open(sys.argv[1], encoding="utf-8") as file:
    job = json.load(file)
setup, found = {"__name__": "__main__"}, []
exec(job["setup"], setup)
for e in job["exercises"]:
    named, name, said = {}, e["name"], {}
    printed(e["untouched"], feedback=lambda *args, mistakes={}, **kwargs: named.update(mistakes))
    said["untouched"], _ = printed(e["untouched"])
    said["solved"], names = printed(e["solved"])
    answer = names.get(name)
    said["answer"] = str(answer)
    if e["decimals"] and isinstance(answer, float):
        said["rounded"], _ = printed(e["feedback"], **{name: round(answer, e["decimals"])})
    if callable(answer):
        said["nonsense"], _ = printed(e["feedback"], **{name: lambda *args, **options: None})
    said["mistakes"] = [(why, printed(e["feedback"], **{name: wrong})[0]) for wrong, why in named.items()]
    found.append(said)
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(found, file)
"""
UNANSWERED = "Not answered yet: replace None in the cell above and run both cells.\n"


def tried(path, found, file):
    """What the feedback of each exercise says to the answers of DRIVER."""
    setup = [cell.source for cell in tagged(path, "setup")]
    assert len(setup) == 1, "there must be one cell with the tag setup"
    job = {"setup": setup[0], "exercises": []}
    for e in found:
        answer, feedback = e.answers[0].source, e.feedback[0].source
        places = re.search(r"\b(one|two|three|four) decimals?\b", e.question, re.IGNORECASE)
        job["exercises"].append(
            {
                "name": f"answer_{e.number}",
                "feedback": feedback,
                "untouched": f"{answer}\n{feedback}",
                "solved": f"{e.solutions[0]}\n{feedback}",
                "decimals": places and "zero one two three four".split().index(places[1].lower()),
            }
        )
    file.write_text(json.dumps(job), encoding="utf-8")
    env = kernels.environment(file.parent) | {"MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, "-c", DRIVER, str(file)], check=True, cwd=path.parent, env=env)
    return json.loads(file.read_text(encoding="utf-8"))


def named_mistakes(source):
    """How many mistakes a feedback cell names in its source; of equal ones Python keeps the last only."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    given = [key.value for call in calls for key in call.keywords if key.arg == "mistakes"]
    return sum(len(mistakes.keys) for mistakes in given)


def given_away(e, answer):
    """Numbers in the hints that are the answer; one digit says nothing, it can stand for anything."""
    hints = "".join(body for summary, body in e.details if summary != "Solution")
    numbers = re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d)(,|\{,\}|_)(?=\d)", "", hints))
    if re.fullmatch(r"-?\d+(\.\d+)?", answer):
        return [n for n in numbers if len(n) > 1 and math.isclose(float(n), abs(float(answer)), rel_tol=0.005)]
    return [answer] if answer in hints else []


def faults(e, said):
    """What is wrong with what an exercise says."""
    stored = "".join(map(text_of, e.feedback[0].outputs))
    if said["untouched"] != UNANSWERED or stored != UNANSWERED:
        yield f"not answered, prints or has stored:\n{said['untouched']}{stored}"
    for text in {said["solved"], said.get("rounded", said["solved"])}:
        if not re.fullmatch("✓ Right(: .+|\\.)\n", text):
            yield f"with our solution, prints:\n{text}"
    if "nonsense" in said and not named_mistakes(e.feedback[0].source):  # code is judged by what it does
        if not re.fullmatch("✗ .+\n", said["nonsense"]):
            yield f"with a function that returns None, prints:\n{said['nonsense']}"
        return
    if len(said["mistakes"]) < 2 or len(said["mistakes"]) != named_mistakes(e.feedback[0].source):
        yield f"names {len(said['mistakes'])} mistakes; two or more are wanted, no two of them equal"
    for why, text in said["mistakes"]:
        if not re.fullmatch(f"✗ .+ is not it. {re.escape(why)}\n", text):
            yield f"with the mistake {why!r}, prints:\n{text}"
    if found := given_away(e, said["answer"]):
        yield f"gives its answer away in a hint: {found}"


@each_notebook
def test_exercises_can_be_solved(path, tmp_path):
    """Feedback needs the setup cell and the answer alone, accepts our solution and knows each mistake it names."""
    found = [e for e in exercises(path) if e.answers and e.feedback and e.solutions]
    if not found:
        pytest.skip("no complete exercise")
    said = tried(path, found, tmp_path / "job.json")
    no(f"exercise {e.number} {fault}" for e, each in zip(found, said, strict=True) for fault in faults(e, each))
