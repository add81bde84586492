"""The walls of the house: which room may know which, held against the imports as they are written."""

import ast
import importlib
import json
import pathlib
import re

import pytest
from helpers import NOTEBOOKS

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "resnet_nb"
# the floors of resnet_nb/__init__.py, from the ground up; a room may know those before it
FLOORS = [
    "errors files progress recipes",
    "paper models anatomy memory explain",
    "data train plot check widgets detection",
    "runs bench cli",
]
ORDER = " ".join(FLOORS).split()
RANK = {room: number for number, room in enumerate(ORDER)}


def modules():
    return {path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


MODULES = modules()


def dotted(path):
    parts = ["resnet_nb", *path.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {dotted(path): path for path in MODULES}


def imports(tree, inside=True):
    """Dotted names of all that is imported; inside: also in functions."""
    nodes = ast.walk(tree) if inside else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def known(tree, inside=True):
    """The modules of this package that are imported."""
    for name in imports(tree, inside):
        while name.startswith("resnet_nb.") and name not in NAMES:
            name = name.rpartition(".")[0]
        if name.startswith("resnet_nb."):
            yield name


def room(name):
    return name.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_arrows_point_downwards(path):
    if dotted(path) in ("resnet_nb", "resnet_nb.__main__"):
        assert set(map(room, known(MODULES[path]))) <= {"cli"}
        return
    own = room(dotted(path))
    assert own in RANK, f"{own} has no place in the order of resnet_nb/__init__.py"
    upwards = [name for name in known(MODULES[path]) if RANK[room(name)] > RANK[own]]
    assert not upwards, f"{path} knows {', '.join(upwards)}, which comes after it"


def test_the_package_states_the_whole_order():
    rooms = {path.parts[0].removesuffix(".py") for path in MODULES} - {"__init__", "__main__"}
    assert rooms == set(ORDER)
    stated = ast.get_docstring(MODULES[pathlib.Path("__init__.py")])
    floors = [line for line in stated.splitlines() if line.startswith("  ")]
    assert [re.findall(r"\w+", line.partition(":")[2]) for line in floors] == [floor.split() for floor in FLOORS]


def test_there_is_no_circle():
    """Of files; an import of a name through the face of a package is one of that package's face."""
    arrows = {name: set(known(MODULES[path])) - {name} for name, path in NAMES.items()}
    while True:
        free = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        if not free:
            break
        arrows = {name: targets for name, targets in arrows.items() if name not in free}
    assert not arrows, f"a circle among {', '.join(sorted(arrows))}"


DISK = {"open", "mkdir", "write_bytes", "write_text", "read_bytes", "read_text", "unlink", "replace", "save", "load"}


def test_train_touches_no_disk():
    for path, tree in MODULES.items():
        if path.parts[0] != "train":
            continue
        names = {name.split(".")[0] for name in imports(tree)} | {f"resnet_nb.{room(name)}" for name in known(tree)}
        assert not names & {"pathlib", "io", "shutil", "tempfile", "safetensors", "json", "pickle", "resnet_nb.files"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                of = getattr(getattr(node.func, "value", None), "id", "")
                assert called != "open" and (called not in DISK or of not in ("torch", "Path", "path")), (path, node.lineno)


def test_runs_differentiates_nothing():
    for path, tree in MODULES.items():
        if path.parts[0] == "runs":
            attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert not attributes & {"backward", "grad", "optim", "autocast", "functional"}, path


TORCH = {"torch", "torchvision", "safetensors", "pandas", "seaborn"}


@pytest.mark.parametrize(
    "path", ["errors.py", "files.py", "progress.py", "recipes.py", "paper/__init__.py", "models/butcher.py"]
)
def test_what_needs_no_torch_imports_none(path):
    """Also not by way of another module of the package (its own package's face aside)."""
    seen, waiting = set(), [dotted(pathlib.Path(path))]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        tree = MODULES[NAMES[name]]
        loaded = {found.split(".")[0] for found in imports(tree, inside=False)}
        assert not loaded & TORCH, f"{name} imports {loaded & TORCH}"
        waiting += set(known(tree, inside=False)) - seen


def test_no_module_is_long():
    lines = {str(path): len((PACKAGE / path).read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > 300} == {}


def test_a_module_that_a_notebook_imports_names_the_notebook():
    """In its first line: "(notebooks 08, 11)"; ranges such as 01-03 count."""
    users = {}
    for notebook in NOTEBOOKS:
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code" and "resnet_nb" in (source := "".join(cell["source"])):
                source = re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.M)
                for name in known(ast.parse(source)):
                    users.setdefault(name, set()).add(notebook.name[:2])
    assert len(users) > 10
    for name, numbers in users.items():
        if NAMES[name].name == "__init__.py":
            continue  # the face of a package; its modules say more
        first = ast.get_docstring(MODULES[NAMES[name]]).splitlines()[0]
        if "(all notebooks)" in first:
            continue
        said = re.search(r"notebooks? (\d\d(?:(?:, |-| to )\d\d)*)", first)
        assert said, f"the first line of {name} does not say which notebooks use it: {', '.join(sorted(numbers))}"
        spans = [re.split("-| to ", part) for part in said[1].split(", ")]
        named = {f"{number:02}" for span in spans for number in range(int(span[0]), int(span[-1]) + 1)}
        assert numbers <= named, f"{name} is used by {', '.join(sorted(numbers - named))}, too"


def test_every_file_that_is_named_is_there():
    """In the prose of the notebooks, the pages and the notes: a move leaves no dead path."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs" / "notes").glob("*.toml")]
    for page in [*pages, *NOTEBOOKS]:
        text = page.read_text(encoding="utf-8")
        for path in set(re.findall(r"\b(?:resnet_nb|tests|tools|docs|notebooks)/[\w./-]*\w\.[a-z]{2,5}\b", text)):
            assert (ROOT / path).exists(), f"{page.name} names {path}, which is not there"
        for module in set(re.findall(r"python -m (tools\.\w+|resnet_nb)\b", text)):
            assert list(ROOT.glob(module.replace(".", "/") + "*")), f"{page.name} runs {module}, which is not there"


def test_no_function_hides_a_module_of_its_name():
    """`import resnet_nb.runs.training` gives that module, whatever the face of its package exports."""
    for name in NAMES:
        if name not in ("resnet_nb", "resnet_nb.__main__"):
            module = importlib.import_module(name)
            package, _, own = name.rpartition(".")
            assert getattr(importlib.import_module(package), own) is module, f"{package} hides {name}"
