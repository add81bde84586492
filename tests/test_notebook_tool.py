"""The tool that executes the notebooks, on tiny ones."""

import errno
import os
import pathlib
import re
import subprocess
import sys

import nbformat
import pytest
from helpers import contents, read
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import notebooks
from tools.colab import copy_checkout, not_a_clone

# The smallest PNG, as a cell would return it.
PICTURE = """
class Picture:
    def _repr_mimebundle_(self, **kwargs):
        return {"text/plain": "a dot", "image/png": "iVBORw0KGgo="}, {"image/png": {"alt": "a dot"}}
Picture()
"""
CELLS = {
    "head": "# 07 Tiny",
    "streams": "import sys, time\nprint('one', flush=True)\ntime.sleep(0.2)\nprint('two')",
    "interpreter": "sys.executable, sys.path[0] or 'here'",
    "announced": "1 / 0",
    "picture": PICTURE.strip(),
    "clock": "time.time_ns()",
}
TAGS = {
    "announced": ["raises-exception"],
    "picture": ["readme-figure"],
    "clock": ["nbval-ignore-output"],
}


def write(path, cells=CELLS):
    """A notebook that was saved by an editor: metadata of all kinds, and a kernel not installed here."""
    nb = new_notebook(metadata={"kernelspec": {"name": "elsewhere", "display_name": "E"}, "x": 1})
    for name, source in cells.items():
        new = new_markdown_cell if source.startswith("#") else new_code_cell
        metadata = {"tags": TAGS.get(name, []), "collapsed": True}
        nb.cells.append(new(source, id=name, metadata=metadata))
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nb, path)
    return path


def outputs(path, name):
    [cell] = [cell for cell in read(path).cells if cell.id == name]
    return cell.outputs


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("tool") / "notebooks" / "07-tiny.ipynb")
    notebooks.main(["execute", str(path)])
    return path


@pytest.fixture
def copy(executed, tmp_path):
    """A copy that a test may change."""
    (tmp_path / "images").mkdir()
    picture = "images/07-tiny.png"
    (tmp_path / picture).write_bytes((executed.parent / picture).read_bytes())
    path = tmp_path / executed.name
    path.write_bytes(executed.read_bytes())
    return path


def test_executes_in_canonical_form(executed):
    nb = read(executed)
    assert [c.execution_count for c in notebooks.code_cells(nb)] == [1, 2, 3, 4, 5]
    assert [(o.name, o.text) for o in outputs(executed, "streams")] == [("stdout", "one\ntwo\n")]
    assert sys.executable in outputs(executed, "interpreter")[0].data["text/plain"]
    assert outputs(executed, "announced")[0].traceback == ["ZeroDivisionError: division by zero"]
    assert nb.metadata == notebooks.METADATA
    assert [c.id for c in nb.cells] == list(CELLS)
    assert nb.cells[1].metadata == {"slideshow": {"slide_type": "skip"}}
    assert nb.cells[3].metadata["tags"] == ["raises-exception"]
    assert executed.read_bytes().endswith(b"}\n")
    assert [p.name for p in executed.parent.iterdir() if p.is_file()] == ["07-tiny.ipynb"]
    assert (executed.parent / "images" / "07-tiny.png").read_bytes() == b"\x89PNG\r\n\x1a\n"


def test_twice_is_byte_identical(tmp_path):
    path = write(tmp_path / "07-tiny.ipynb", {k: v for k, v in CELLS.items() if k != "clock"})
    notebooks.main(["execute", str(path)])
    first = path.read_bytes()
    notebooks.main(["execute", str(path)])
    assert path.read_bytes() == first


def test_failing_notebook_is_not_written(tmp_path, capsys):
    cells = {"fine": "print(1)", "broken": "x = 1\nraise KeyError('gone')", "after": "print(2)"}
    path = write(tmp_path / "07-tiny.ipynb", cells)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="failed: .*07-tiny.ipynb"):
        notebooks.main(["execute", str(path)])
    assert path.read_bytes() == before
    message = capsys.readouterr().err
    assert "07-tiny.ipynb: cell 1 (broken): KeyError: 'gone'" in message
    assert "\x1b" not in message


def test_cell_that_takes_too_long_is_named(tmp_path, capsys):
    path = write(tmp_path / "07-tiny.ipynb", {"endless": "while True:\n    pass"})
    with pytest.raises(SystemExit):
        notebooks.main(["execute", "--timeout", "1", str(path)])
    assert "cell 0 (endless): CellTimeoutError" in capsys.readouterr().err


def test_what_is_saved_meanwhile_is_not_overwritten(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "open.ipynb")
    execute = notebooks.execute

    def save_meanwhile(path, timeout):
        fresh = execute(path, timeout)
        path.write_bytes(b"the editor's")
        return fresh

    monkeypatch.setattr(notebooks, "execute", save_meanwhile)
    with pytest.raises(SystemExit):
        notebooks.main(["execute", str(path)])
    assert path.read_bytes() == b"the editor's"
    assert "open.ipynb: was saved while it was executed" in capsys.readouterr().err


def test_check_accepts_what_execute_wrote(copy):
    before = copy.read_bytes()
    notebooks.main(["execute", "--check", str(copy)])
    assert copy.read_bytes() == before


def test_check_names_what_changed(copy, capsys):
    text = copy.read_text(encoding="utf-8")
    assert text.count('"two\\n"') == 1 and text.count('"image/png": "') == 1
    copy.write_text(text.replace('"two\\n"', '"three\\n"').replace(': "iVBORw0', ': "iVBORw1') + " ", encoding="utf-8")
    before = copy.read_bytes()
    (copy.parent / "images" / "07-tiny.png").write_bytes(b"old")
    with pytest.raises(SystemExit):
        notebooks.main(["execute", "--check", str(copy)])
    assert copy.read_bytes() == before
    message = capsys.readouterr().err
    for part in ("form", "cell streams", "cell picture", "images/07-tiny.png"):
        assert part in message
    assert "cell clock" not in message and "cell announced" not in message


def test_check_counts_cells_as_execute_stores_them(copy, capsys):
    """An empty cell at the end is a matter of form."""
    nb = read(copy)
    nb.cells.append(new_code_cell(""))
    nbformat.write(nb, copy)
    with pytest.raises(SystemExit):
        notebooks.main(["execute", "--check", str(copy)])
    assert capsys.readouterr().err == f"{copy.name}: differs: form (metadata, order of keys or white space)\n"


def test_a_file_that_is_no_notebook_is_named(tmp_path, capsys):
    path = tmp_path / "07-tiny.ipynb"
    path.write_text('{"cells": [', encoding="utf-8")
    with pytest.raises(SystemExit, match="failed: .*07-tiny.ipynb"):
        notebooks.main(["execute", str(path)])
    assert re.fullmatch("07-tiny.ipynb: not a notebook that can be read .+\n", capsys.readouterr().err)
    assert path.read_text(encoding="utf-8") == '{"cells": ['


# --- what the kernels inherit, here and under pytest ------------------------------------------

SEES = """
import os, shutil, sys, time, matplotlib, pandas
from IPython import get_ipython
print(pandas.get_option("display.max_rows"), matplotlib.rcParams["font.size"], matplotlib.get_backend())
print(sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions, os.environ.get("NO_COLOR"), sys.path[0] or sys.path[1])
print(shutil.get_terminal_size().columns, time.tzname, open(os.devnull).encoding, get_ipython().ast_node_interactivity)
import matplotlib.pyplot  # says on stderr where it cannot write
"""


@pytest.fixture
def checkout(tmp_path):
    """What pytest and the kernels take from a checkout, with two small chapters and a notebook that is none."""
    for name in ("conftest.py", "tools/__init__.py", "tools/kernels.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((notebooks.ROOT / name).read_bytes())
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    for name in ("04-tiny", "05-more"):
        path = write(tmp_path / "notebooks" / f"{name}.ipynb", {"a": "x = 1", "b": "x += 1\nx", "c": "x += 1\nx"})
        notebooks.main(["execute", str(path)])
    write(tmp_path / "notebooks" / "Untitled.ipynb", {"a": "1 / 0"})
    return tmp_path


def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


def nbval(folder, *options, env=None):
    """What `pytest --nbval notebooks` says first at its end, such as `1 failed`."""
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", *(options or ["notebooks"])]
    done = subprocess.run(command, cwd=folder, env=env or clean(), capture_output=True, encoding="utf-8")
    return re.match(r"\d+ \w+", done.stdout.splitlines()[-1])[0]


@pytest.fixture
def user(tmp_path):
    """An environment in which everything is set that a person may have set; HOME has an IPython of their own."""
    home = tmp_path / "home"
    profile, matplotlibrc = home / ".ipython" / "profile_default", home / "matplotlibrc"
    (profile / "startup").mkdir(parents=True)
    startup = profile / "startup" / "own.py"
    startup.write_text("import pandas\npandas.set_option('display.max_rows', 5)\n", encoding="utf-8")
    settings = "c.InteractiveShell.ast_node_interactivity = 'all'\nc.InlineBackend.figure_formats = {'svg'}\n"
    (profile / "ipython_kernel_config.py").write_text(settings, encoding="utf-8")
    matplotlibrc.write_text("font.size: 30\n", encoding="utf-8")
    places = {"HOME": home, "PYTHONSTARTUP": startup, "MATPLOTLIBRC": matplotlibrc}
    python = {"PYTHONWARNINGS": "default", "PYTHONDEVMODE": "1", "PYTHONOPTIMIZE": "1", "PYTHONUTF8": "0"}
    terminal = {"COLUMNS": "40", "NO_COLOR": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo", "MPLBACKEND": "agg"}
    without = {name: value for name, value in clean().items() if not name.startswith(("MPL", "XDG_", "IPYTHON"))}
    return without | {name: str(value) for name, value in (places | python | terminal).items()}


def test_settings_of_a_user_change_nothing_that_is_stored(tmp_path, user):
    """Neither do they where the home cannot be written."""
    path = write(tmp_path / "04-tiny.ipynb", {"sees": SEES.strip()})
    notebooks.main(["execute", str(path)])
    stored, [output] = path.read_bytes(), outputs(path, "sees")
    assert output.name == "stdout" and str(notebooks.ROOT) in output.text
    command = [sys.executable, "-m", "tools.notebooks", "execute", str(path)]
    env = user | {"IPYTHONDIR": f"{user['HOME']}/.ipython", "HOME": "/proc/none"}
    subprocess.run(command, cwd=notebooks.ROOT, env=env, check=True, capture_output=True)
    assert path.read_bytes() == stored


@pytest.mark.parametrize("home", [None, "/proc/none"], ids=["their home", "no home"])
def test_settings_of_a_user_change_nothing_for_pytest(checkout, user, home):
    path = write(checkout / "notebooks" / "04-tiny.ipynb", {"sees": SEES.strip()})
    notebooks.main(["execute", str(path)])
    text = path.read_text(encoding="utf-8").replace(str(notebooks.ROOT), str(checkout))  # whose tools are asked there
    path.write_text(text, encoding="utf-8")
    assert nbval(checkout, "notebooks/04-tiny.ipynb", env=user | ({"HOME": home} if home else {})) == "1 passed"


REVERSED = "def pytest_collection_modifyitems(items):\n    items.reverse()\n"


@pytest.mark.parametrize(
    "options, passed",
    [
        (["-p", "reordered", "notebooks"], 6),
        (["-p", "reordered", "-n", "2", "--dist", "worksteal", "notebooks"], 6),
        (["-n", "2", "--dist", "loadgroup", "notebooks"], 6),
        (["notebooks/04-tiny.ipynb::Cell 1"], 2),
        (["--lf", "notebooks"], 3),
    ],
    ids=lambda options: " ".join(options) if isinstance(options, list) else "",
)
def test_cells_run_in_order_after_those_they_need(checkout, options, passed):
    (checkout / "reordered.py").write_text(REVERSED, encoding="utf-8")
    failed = checkout / ".pytest_cache" / "v" / "cache" / "lastfailed"
    failed.parent.mkdir(parents=True)
    failed.write_text('{"notebooks/05-more.ipynb::Cell 2": true}', encoding="utf-8")
    assert nbval(checkout, *options) == f"{passed} passed"


# --- the address of the repository ------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """This checkout, as far as git does not ignore it, which a test may change."""
    if why := not_a_clone():
        pytest.skip(f"copies what git knows: {why}")
    copy_checkout(tmp_path)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    return tmp_path


def links(text):
    """The targets of the pictures in Markdown that are links, and the pictures' texts."""
    return re.findall(r"\[!\[([^\]]+)\]\(https://[^)]+\.svg\)\]\(([^)]+)\)", text)


def test_address_of_a_fork_is_written_everywhere(project):
    old, untouched = notebooks.repository(project), contents(project)
    notebooks.main(["address", "some-body/res.net_2"])
    table = (project / "README.md").read_text(encoding="utf-8")
    for path in sorted((project / "notebooks").glob("*.ipynb")):
        nb, before = (nbformat.reads(data.decode(), 4) for data in (path.read_bytes(), untouched.pop(path)))
        [badge] = [cell.source for cell in nb.cells if "badge" in notebooks.tags(cell)]
        file = path.relative_to(project).as_posix()
        assert links(badge) == [
            ("Open In Colab", f"https://colab.research.google.com/github/some-body/res.net_2/blob/main/{file}"),
            ("Open in Binder", f"https://mybinder.org/v2/gh/some-body/res.net_2/main?urlpath=lab/tree/{file}"),
        ]
        assert f"]({file}) | {badge} |\n" in table
        assert notebooks.code_cells(nb)[0].source.splitlines() == [
            "try:",
            "    import resnet_nb",
            "except ModuleNotFoundError:",
            '    %pip install -q "resnet-nb @ git+https://github.com/some-body/res.net_2"',
            "    import resnet_nb",
        ]
        changed = [cell.id for cell, was in zip(nb.cells, before.cells, strict=True) if cell != was]
        assert changed == ["badge", "bootstrap"], "nothing was executed, and no other cell changed"
    assert notebooks.repository(project) == "some-body/res.net_2"
    now = contents(project)
    kept = [path for path, data in now.items() if re.search(rf"(github(\.com)?|gh)/{re.escape(old)}\b".encode(), data)]
    assert not kept, "the old address stands in places that are not generated"
    assert [path.name for path, data in untouched.items() if now[path] != data] == ["README.md", "pyproject.toml"]


def test_address_of_pyproject_is_written_where_it_is_not_yet(project):
    """Without a name the one of pyproject.toml counts, and a file that is right is left alone."""
    before = {path: path.stat().st_mtime_ns for path in contents(project)}
    notebooks.main(["address"])
    assert {path: path.stat().st_mtime_ns for path in contents(project)} == before
    pyproject = project / "pyproject.toml"
    pyproject.write_text(
        pyproject.read_text(encoding="utf-8").replace(notebooks.repository(project), "some/body"), encoding="utf-8"
    )
    notebooks.main(["address"])
    for path in [project / "README.md", *(project / "notebooks").glob("*.ipynb")]:
        assert "mybinder.org/v2/gh/some/body/main" in path.read_text(encoding="utf-8")


def test_address_that_is_none_is_refused_in_one_line(project):
    before = contents(project)
    for name in ("", "fork", "you/", "you/your fork", "you/fork/x", "you/fork.git", "https://github.com/you/fork"):
        with pytest.raises(SystemExit) as stop:
            notebooks.main(["address", name])
        assert stop.value.code == f"REPO is {name!r}; it must be OWNER/NAME: make address REPO=you/your-fork"
    assert contents(project) == before


def break_pyproject(root):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    (root / "pyproject.toml").write_text(text.replace("https://github.com/", "https://example.org/"), encoding="utf-8")


def break_readme(root):
    (root / "README.md").write_text("# No table\n", encoding="utf-8")


def break_notebook(root):
    path = root / "notebooks" / "13-costs-and-uses.ipynb"
    nb = read(path)
    nb.cells = [cell for cell in nb.cells if "badge" not in notebooks.tags(cell)]
    nbformat.write(nb, path)


@pytest.mark.parametrize(
    ("damage", "repo", "message"),
    [
        (break_pyproject, [], "pyproject.toml: Repository is not https://github.com/OWNER/NAME: https://example.org/"),
        (break_readme, ["you/fork"], "README.md: 0 places look like .*badges:start"),
        (break_notebook, ["you/fork"], "13-costs-and-uses.ipynb: 0 cells with the tag badge, not one"),
    ],
    ids=["pyproject", "readme", "notebook"],
)
def test_address_is_written_everywhere_or_nowhere(project, damage, repo, message):
    damage(project)
    before = contents(project)
    with pytest.raises(SystemExit, match=f"^.*{message}.*$"):
        notebooks.main(["address", *repo])
    assert contents(project) == before


def test_address_on_a_full_disk_is_written_nowhere(project, monkeypatch):
    before, write = contents(project), pathlib.Path.write_bytes

    def fail_at_the_last(path, data):
        if path.name == ".13-costs-and-uses.ipynb.tmp":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(pathlib.Path, "write_bytes", fail_at_the_last)
    with pytest.raises(SystemExit, match="No space left on device$"):
        notebooks.main(["address", "you/fork"])
    assert contents(project) == before
