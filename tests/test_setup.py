"""The files that set up the project agree with each other; what a fresh `make test` proves anyway is not tested here."""

import ast
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from helpers import ROOT, no
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.colab import COLAB, COLAB_PYTHON

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PYTHONS = SpecifierSet(PROJECT["requires-python"])
MODULE_OF = {"pillow": "PIL", "pyyaml": "yaml"}
# Which extras bring what a folder imports.
EXTRAS = {"resnet_nb": (), "tests": ("test",), "tools": ("test", "docs"), "docs": ("docs",)}


def dependencies():
    """[Requirement] of the package and of its extras."""
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for group in [PROJECT["dependencies"], *extras] for line in group]


def pins():
    """{name: version} of requirements.txt."""
    versions = {}
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            [specifier] = requirement.specifier
            assert specifier.operator == "==" and "*" not in specifier.version, line
            assert canonicalize_name(requirement.name) not in versions, line
            versions[canonicalize_name(requirement.name)] = specifier.version
    return versions


def names():
    return {canonicalize_name(requirement.name) for requirement in dependencies()}


def environment(path="environment.yml"):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


# --- versions ------------------------------------------------------------------------------


def test_lower_bounds_only():
    for requirement in dependencies():
        operators = [specifier.operator for specifier in requirement.specifier]
        assert operators == [">="], f"{requirement}: one lower bound, and no other"
    assert [s.operator for s in PYTHONS] == [">="]


def test_every_dependency_is_pinned_within_its_bounds():
    for requirement in dependencies():
        version = pins().get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.txt"
        assert version in requirement.specifier, f"{requirement}: pinned to {version}"


def test_only_direct_dependencies_are_pinned():
    assert set(pins()) == names()


def test_hosted_versions_are_accepted():
    assert COLAB_PYTHON in PYTHONS
    for requirement in dependencies():
        version = COLAB.get(canonicalize_name(requirement.name))
        assert version is None or version in requirement.specifier, f"{requirement}: Colab has {version}"


def imported(folder):
    """Top-level names that the Python files of a folder import, without the project's own."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    own = {"resnet_nb", "tools"} | {path.stem for path in (ROOT / "tests").glob("*.py")}
    return names - set(sys.stdlib_module_names) - own


@pytest.mark.parametrize("folder", EXTRAS)
def test_what_is_imported_is_declared(folder):
    """But for IPython, which the notebook that runs brought, and docutils, which is Sphinx's."""
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in EXTRAS[folder])]
    declared = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    modules = {MODULE_OF.get(name, name.replace("-", "_")) for name in declared}
    assert imported(folder) - {"IPython", "docutils"} <= modules


def test_environment_yml():
    env = environment()
    assert env["channels"] == ["conda-forge", "nodefaults"]
    conda = [d for d in env["dependencies"] if isinstance(d, str)]
    [pip] = [d["pip"] for d in env["dependencies"] if isinstance(d, dict)]
    assert pip == ["-r requirements.txt", "-e ."]
    # repo2docker reads the Python version as `python=x.y`, and wants pip named.
    [python] = [re.fullmatch(r"python=(\d+\.\d+)", d) for d in conda if d.startswith("python")]
    assert python[1] in PYTHONS and "pip" in conda


def test_binder_installs_the_same_for_cpus():
    """Its folder's file is read instead of the one above, and paths are relative to that folder."""
    ours, binder = environment(), environment(".binder/environment.yml")
    pip = [env["dependencies"].pop()["pip"] for env in (ours, binder)]
    assert binder == ours
    assert pip[1].pop(0) == "--extra-index-url https://download.pytorch.org/whl/cpu"
    found = [
        [(option, (folder / path).resolve()) for option, path in map(str.split, lines)]
        for folder, lines in zip((ROOT, ROOT / ".binder"), pip, strict=True)
    ]
    assert found[0] == found[1]


def test_workflow():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    pythons = job["strategy"]["matrix"]["python"]
    assert all(isinstance(p, str) and p in PYTHONS for p in pythons)
    assert environment()["dependencies"][0].partition("=")[2] in pythons
    assert any(step.get("run") == ".ci/run PYTHON=python" for step in job["steps"])
    assert workflow["permissions"] == {"contents": "read"}


def test_installed_versions_are_the_tested_ones():
    stamp = pathlib.Path(sys.prefix) / ".resnet-nb-ready"
    if not stamp.exists():
        pytest.skip("not an environment that `make setup` made: its versions are its own")
    installed = {name: importlib.metadata.version(name) for name in pins()}
    # "==" accepts a local build such as 2.14.1+cpu.
    wrong = [f"{n} {v}" for n, v in installed.items() if v not in SpecifierSet(f"=={pins()[n]}")]
    assert not wrong, f"not as pinned: {', '.join(wrong)}; run make setup"


# --- the package ---------------------------------------------------------------------------


def test_data_files_are_shipped():
    """With the marker py.typed, for type checkers."""
    package = ROOT / "resnet_nb"
    shipped = {path for glob in PYPROJECT["tool"]["setuptools"]["package-data"]["resnet_nb"] for path in package.glob(glob)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert package / "py.typed" in shipped
    no(f"not in package-data: {path}" for path in files - shipped)


def test_version_is_stated_once():
    import resnet_nb

    assert resnet_nb.__version__ == PROJECT["version"]


def as_the_system_likes(call):
    """Does a call read or write text in the system's encoding, which on Windows is not UTF-8?"""
    keywords = {keyword.arg for keyword in call.keywords}
    if {"encoding", None} & keywords:  # None: **options
        return False
    of, _, name = ast.unparse(call.func).rpartition(".")
    inside = [node for given in [*call.args, *call.keywords] for node in ast.walk(given)]
    words = [node.value for node in inside if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    modes = "".join(word for word in words if re.fullmatch("[rwaxbt+]+", word))
    if name.endswith("TemporaryFile"):
        return bool(modes) and "b" not in modes
    if name == "open" and of in ("gzip", "bz2", "lzma", "tarfile", "os"):
        return "t" in modes
    if name == "open" and of not in ("", "io"):  # of a path; Image.open(path) is none
        return "b" not in modes and bool(modes or not (call.args or keywords))
    if name in ("open", "fdopen"):
        return "b" not in modes
    if of == "subprocess":
        return name.startswith("get") or bool({"text", "universal_newlines"} & keywords)
    least = {"read_text": 1, "write_text": 2, "TextIOWrapper": 2, "FileHandler": 3}.get(name, 0)
    return name == "popen" or len(call.args) < least


@pytest.mark.parametrize(
    "source, found",
    [
        ("open(a)", True),
        ("open(a, 'rb')", False),
        ("open(a, mode='ab')", False),
        ("open(a, 'w', encoding='utf-8')", False),
        ("io.open(a, 'r')", True),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.open('wb')", False),
        ("Image.open(path)", False),
        ("tarfile.open(path, 'w')", False),
        ("open(a, 'ab' if b else 'wb')", False),
        ("os.open(a, os.O_RDONLY)", False),
        ("gzip.open(path)", False),
        ("gzip.open(path, 'w')", False),
        ("gzip.open(path, 'rt')", True),
        ("os.fdopen(1, 'w')", True),
        ("NamedTemporaryFile()", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(a)", True),
        ("path.write_text(a, **options)", False),
        ("subprocess.run(a, text=True)", True),
        ("subprocess.Popen(a, universal_newlines=True)", True),
        ("subprocess.run(a, capture_output=True)", False),
        ("subprocess.getoutput(a)", True),
        ("os.popen(a)", True),
        ("logging.FileHandler(a)", True),
        ("io.TextIOWrapper(a)", True),
    ],
)
def test_text_in_the_systems_encoding_is_noticed(source, found):
    assert as_the_system_likes(ast.parse(source, mode="eval").body) == found


@pytest.mark.parametrize("folder", [*EXTRAS, "."])
def test_text_is_utf8_on_every_system(folder):
    """But for what tests read from the commands they run, which write as the system likes."""
    wrong = []
    for path in sorted((ROOT / folder).glob("*.py" if folder == "." else "**/*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        found = [(call.lineno, ast.unparse(call)) for call in calls if as_the_system_likes(call)]
        wrong += [(path.relative_to(ROOT), *call) for call in found if folder != "tests" or "subprocess." not in call[1]]
    no(f"{path}:{line}: {source[:60]} without encoding" for path, line, source in wrong)


# --- make ----------------------------------------------------------------------------------

# Answers the Makefile's questions, makes environments of itself, and installs nothing.
PYTHON = """#!/bin/sh
case "$*" in
  *version_info*) exit "${TOO_OLD:-0}";;
  *venv*--clear*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
  *install*) echo "$@" >> installed; exit "${PIP_FAILS:-0}";;
esac
"""


@pytest.fixture
def make_setup(tmp_path):
    """`make setup` in a project with this Makefile, with variables of the environment: its result and the folder."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(PYTHON, encoding="utf-8")
    (tmp_path / "python").chmod(0o755)

    def make(**variables):
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | variables
        command = ["make", "setup", f"PYTHON={tmp_path / 'python'}"]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True), tmp_path

    return make


def test_a_python_that_is_too_old_is_told_in_one_line(make_setup):
    result, folder = make_setup(TOO_OLD="1")
    assert result.returncode != 0
    [line] = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert "older than Python 3.11" in line
    assert not (folder / ".venv").exists()


def test_an_interrupted_setup_is_taken_up_again(make_setup):
    failed, folder = make_setup(PIP_FAILS="1")
    stamp, installed = folder / ".venv" / ".resnet-nb-ready", folder / "installed"
    assert failed.returncode != 0 and not stamp.exists()
    done, _ = make_setup()
    assert done.returncode == 0 and stamp.exists(), done.stderr
    calls = installed.read_text(encoding="utf-8").splitlines()
    assert ["--no-deps -e ." in call for call in calls] == [False, False, True]
    make_setup()
    assert installed.read_text(encoding="utf-8").splitlines() == calls, "nothing to do the second time"
