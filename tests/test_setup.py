"""The files that set up the project agree with each other, and with what is installed."""

import ast
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib

import pytest
import yaml
from colab import COLAB, COLAB_PYTHON
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PYTHONS = SpecifierSet(PROJECT["requires-python"])
MODULE_OF = {"pillow": "PIL", "pyyaml": "yaml"}


def dependencies():
    """[Requirement] of the package and of its extras."""
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for group in [PROJECT["dependencies"], *extras] for line in group]


def pins():
    """{name: version} of requirements.txt."""
    found = {}
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            [specifier] = requirement.specifier
            assert specifier.operator == "==" and "*" not in specifier.version, line
            assert canonicalize_name(requirement.name) not in found, line
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


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
    """Top-level names that the Python files of a folder import."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"resnet_nb", "IPython"}


@pytest.mark.parametrize("folder", ["resnet_nb", "tests"])
def test_what_is_imported_is_declared(folder):
    """IPython is the exception: where it is imported, the notebook that runs brought it."""
    own = {path.stem for where in ("tests", "docs") for path in (ROOT / where).glob("*.py")}
    groups = [PROJECT["dependencies"]]
    if folder == "tests":
        groups.append(PROJECT["optional-dependencies"]["test"])
    declared = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    modules = {MODULE_OF.get(name, name.replace("-", "_")) for name in declared}
    assert imported(folder) - own <= modules


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
    suffixes = {p.rpartition("*")[2] for p in PYPROJECT["tool"]["setuptools"]["package-data"]["resnet_nb"]}
    files = (p for p in (ROOT / "resnet_nb").rglob("*") if p.is_file())
    left = [p for p in files if p.suffix not in {*suffixes, ".py", ".pyc"}]
    assert not left, f"not in package-data: {left}"


def test_version_is_stated_once():
    import resnet_nb

    assert resnet_nb.__version__ == PROJECT["version"]


# --- make ----------------------------------------------------------------------------------


def make(*arguments, cwd=ROOT, **env):
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=cwd, env=inherited | env, capture_output=True, text=True)


def test_make_help_lists_the_targets():
    listed = re.findall(r"^  make ([a-z-]+)", make().stdout, re.MULTILINE)
    assert listed == [
        "help",
        "setup",
        "lab",
        "test",
        "chromium",
        "browser",
        "slides",
        "site",
        "notebooks",
        "check-notebooks",
        "colab",
        "address",
        "clean",
    ]


def test_make_runs_what_it_says(tmp_path):
    """Nothing is installed: the environment is a folder with a stamp."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    fake_python(venv / "bin" / "python")
    (venv / ".resnet-nb-ready").touch()
    commands = make("-n", "test", f"VENV={venv}").stdout.splitlines()
    python = f"{venv}/bin/python"
    assert commands == [f"{python} -m pytest -n auto --maxprocesses 4 {what}" for what in ("tests", "--nbval notebooks/")]
    lab = make("-n", "lab", f"VENV={venv}", "LAB_ARGS=--no-browser").stdout
    assert "jupyterlab" in lab and "root_dir=notebooks" in lab and "--no-browser" in lab
    assert ("--allow-root" in lab) == (os.getuid() == 0)
    for repo in ("you/fork", ""):
        address = make("-n", "address", f"REPO={repo}", f"VENV={venv}").stdout
        assert address.split() == [python, "tests/notebook_tool.py", "address", *repo.split()]
    assert make("-n", "colab", "PYTHON=p", f"VENV={venv}").stdout.split() == [python, "tests/colab.py", "p"]


@pytest.fixture
def fake_project(tmp_path):
    """A project with the Makefile, no requirements, and an empty package."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text("# none\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "fake"\nversion = "0"\n', encoding="utf-8")
    return tmp_path


def fake_python(path, *, version_ok=0, ensurepip_ok=0):
    """A `python` that answers the Makefile's questions, and makes environments of itself."""
    path.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        echo "$@" >> "$LOG"
        case "$*" in
          *ensurepip*) exit {ensurepip_ok};;
          *"import sys;"*) exit {version_ok};;
          *venv*--clear*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
          *"-r requirements.txt"*) exit "${{PIP_FAILS:-0}}";;
        esac
        """)
    encoding="utf-8")
    path.chmod(0o755)
    return path


def test_make_setup_once_and_never_half(fake_project):
    python, log = fake_python(fake_project / "python"), fake_project / "log"
    stamp = fake_project / ".venv" / ".resnet-nb-ready"
    arguments = {"cwd": fake_project, "LOG": str(log)}

    failed = make("setup", f"PYTHON={python}", PIP_FAILS="1", **arguments)
    assert failed.returncode != 0 and not stamp.exists()

    done = make("setup", f"PYTHON={python}", **arguments)
    assert done.returncode == 0, done.stderr
    assert stamp.exists()
    calls = log.read_text(encoding="utf-8")
    assert calls.count("--clear") == 1, "an environment that works is not made again"
    assert calls.index("-r requirements.txt") < calls.index("--no-deps -e .")

    make("setup", f"PYTHON={python}", **arguments)
    assert log.read_text(encoding="utf-8") == calls, "nothing to do the second time"

    later = stamp.stat().st_mtime + 10
    os.utime(fake_project / "requirements.txt", (later, later))
    make("setup", f"PYTHON={python}", **arguments)
    assert log.read_text(encoding="utf-8").count("-r requirements.txt") == 3

    (fake_project / ".venv" / "bin" / "python").unlink()
    make("setup", f"PYTHON={python}", **arguments)
    assert log.read_text(encoding="utf-8").count("--clear") == 2, "made again when its Python is gone"


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ({"version_ok": 1}, "older than Python 3.11"),
        ({"ensurepip_ok": 1}, "venv or ensurepip is missing"),
        (None, "There is no"),
    ],
)
def test_make_says_what_is_missing_in_one_line(fake_project, python, message):
    path = fake_project / "python"
    if python:
        fake_python(path, **python)
    result = make("setup", f"PYTHON={path}", cwd=fake_project, LOG=os.devnull)
    assert result.returncode != 0
    ours = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert len(ours) == 1 and message in ours[0]
    assert not (fake_project / ".venv").exists()


# --- the CI ---------------------------------------------------------------------------------


@pytest.fixture
def ci(tmp_path):
    """A caller of a script in .ci: its result, and what it called of these commands, which only pretend."""
    log, installed = tmp_path / "log", tmp_path / "installed"
    for name in ("make", "python", "apt-get", "sudo"):
        (tmp_path / name).write_text(
            textwrap.dedent(f"""\
            #!/bin/sh
            [ {name} != sudo ] || exec "$@"
            echo {name} "$@" >> {log}
            case "$*" in
              *tests/browser.py) test -e {installed};;
              *install*) [ -z "$FAILS" ] && touch {installed};;
            esac
            """)
        encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    def call(*command, **env):
        log.write_text("", encoding="utf-8")
        env |= os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        result = subprocess.run([ROOT / ".ci" / command[0], *command[1:]], env=env, capture_output=True, text=True)
        return result, log.read_text(encoding="utf-8").splitlines()

    return call


def test_ci_runs_all_tests_before_and_in_the_browser(ci):
    result, calls = ci("run", "PYTHON=python")
    assert result.returncode == 0
    assert calls == [f"make {target} PYTHON=python" for target in ("test", "chromium", "browser")]


def test_chromium_is_installed_once(ci):
    result, calls = ci("chromium", "python")
    assert result.returncode == 0, result.stderr
    [install] = [call for call in calls if " install " in call]
    assert install.endswith(" chromium") and calls[-1] == "python tests/browser.py"
    assert ci("chromium", "python")[1] == ["python tests/browser.py"], "nothing to do the second time"


def test_no_chromium_is_an_error_of_one_line(ci):
    result, _ = ci("chromium", "python", FAILS="1")
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert "could not be installed" in line and "make browser" in line


# --- pytest's defaults ---------------------------------------------------------------------


PROBE = """
def pytest_sessionstart(session):
    option = session.config.option
    print("timeout", getattr(option, "nbval_cell_timeout", None))
"""


def tiny_notebook(output):
    """It prints its interpreter; the kernel it asks for is not installed."""
    cell = {
        "cell_type": "code",
        "execution_count": 1,
        "id": "only",
        "metadata": {},
        "source": "import sys, os\nprint(sys.executable, os.environ.get('MPLBACKEND')[:6])",
        "outputs": [{"output_type": "stream", "name": "stdout", "text": output}],
    }
    metadata = {"kernelspec": {"name": "not-installed", "display_name": "none"}}
    return {"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def tiny_project(tmp_path):
    project = tmp_path / "project"
    (project / "notebooks").mkdir(parents=True)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, project)
    (project / "test_it.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
    notebook = tiny_notebook(f"{sys.executable} module\n")
    (project / "notebooks" / "00-tiny.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    (tmp_path / "probe.py").write_text(PROBE, encoding="utf-8")
    return project


def pytest_from_elsewhere(project, *arguments):
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    env = os.environ | {"PYTHONPATH": str(project.parent), "MPLBACKEND": "Agg"}
    command = [sys.executable, "-m", "pytest", "-s", "-p", "probe", *arguments]
    return subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True).stdout


def test_nbval_defaults_from_another_folder(tiny_project):
    pytest.importorskip("nbval")
    out = pytest_from_elsewhere(tiny_project, "--nbval", str(tiny_project / "notebooks"))
    assert "1 passed" in out, out
    assert "timeout 600.0" in out


def test_nbval_options_still_count(tiny_project):
    pytest.importorskip("nbval")
    notebooks = str(tiny_project / "notebooks")
    out = pytest_from_elsewhere(tiny_project, "--nbval", "--nbval-cell-timeout=33", notebooks)
    assert "1 passed" in out, out
    assert "timeout 33.0" in out


def test_pytest_without_nbval(tiny_project):
    out = pytest_from_elsewhere(tiny_project, "-p", "no:nbval", str(tiny_project))
    assert "1 passed" in out, out
