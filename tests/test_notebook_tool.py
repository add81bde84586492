"""The tool that executes the notebooks, on tiny ones."""

import sys

import nbformat
import notebook_tool as tool
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

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
    [cell] = [cell for cell in nbformat.read(path, as_version=4).cells if cell.id == name]
    return cell.outputs


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("tool") / "notebooks" / "07-tiny.ipynb")
    tool.main(["execute", str(path)])
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
    nb = nbformat.read(executed, as_version=4)
    assert [c.execution_count for c in tool.code_cells(nb)] == [1, 2, 3, 4, 5]
    assert [(o.name, o.text) for o in outputs(executed, "streams")] == [("stdout", "one\ntwo\n")]
    assert sys.executable in outputs(executed, "interpreter")[0].data["text/plain"]
    assert outputs(executed, "announced")[0].traceback == ["ZeroDivisionError: division by zero"]
    assert nb.metadata == tool.METADATA
    assert [c.id for c in nb.cells] == list(CELLS)
    assert nb.cells[1].metadata == {"slideshow": {"slide_type": "skip"}}
    assert nb.cells[3].metadata["tags"] == ["raises-exception"]
    assert executed.read_bytes().endswith(b"}\n")
    assert [p.name for p in executed.parent.iterdir() if p.is_file()] == ["07-tiny.ipynb"]
    assert (executed.parent / "images" / "07-tiny.png").read_bytes() == b"\x89PNG\r\n\x1a\n"


def test_twice_is_byte_identical(tmp_path):
    path = write(tmp_path / "07-tiny.ipynb", {k: v for k, v in CELLS.items() if k != "clock"})
    tool.main(["execute", str(path)])
    first = path.read_bytes()
    tool.main(["execute", str(path)])
    assert path.read_bytes() == first


def test_failing_notebook_is_not_written(tmp_path, capsys):
    cells = {"fine": "print(1)", "broken": "x = 1\nraise KeyError('gone')", "after": "print(2)"}
    path = write(tmp_path / "07-tiny.ipynb", cells)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="failed: .*07-tiny.ipynb"):
        tool.main(["execute", str(path)])
    assert path.read_bytes() == before
    message = capsys.readouterr().err
    assert "07-tiny.ipynb: cell 1 (broken): KeyError: 'gone'" in message
    assert "\x1b" not in message


def test_cell_that_takes_too_long_is_named(tmp_path, capsys):
    path = write(tmp_path / "07-tiny.ipynb", {"endless": "while True:\n    pass"})
    with pytest.raises(SystemExit):
        tool.main(["execute", "--timeout", "1", str(path)])
    assert "cell 0 (endless): CellTimeoutError" in capsys.readouterr().err


def test_check_accepts_what_execute_wrote(copy):
    before = copy.read_bytes()
    tool.main(["execute", "--check", str(copy)])
    assert copy.read_bytes() == before


def test_check_names_what_changed(copy, capsys):
    text = copy.read_text()
    assert text.count('"two\\n"') == 1 and text.count('"image/png": "') == 1
    copy.write_text(text.replace('"two\\n"', '"three\\n"').replace(': "iVBORw0', ': "iVBORw1') + " ")
    before = copy.read_bytes()
    (copy.parent / "images" / "07-tiny.png").write_bytes(b"old")
    with pytest.raises(SystemExit):
        tool.main(["execute", "--check", str(copy)])
    assert copy.read_bytes() == before
    message = capsys.readouterr().err
    for part in ("form", "cell streams", "cell picture", "images/07-tiny.png"):
        assert part in message
    assert "cell clock" not in message and "cell announced" not in message


def make_project(root, url="https://github.com/somebody/resnet-nb"):
    (root / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{url}"\n')
    start, end = "<!-- badges:start -->", "<!-- badges:end -->"
    (root / "README.md").write_text(f"# Readme\n\n{start}\nold\n{end}\n\nThe end\n")
    return write(root / "notebooks" / "07-tiny.ipynb", {"head": "# 07 Tiny", "badge": "# old", "first": "1"})


def test_address_is_written_everywhere(tmp_path, monkeypatch):
    monkeypatch.setitem(TAGS, "badge", ["badge"])
    monkeypatch.setitem(TAGS, "first", ["bootstrap", "nbval-ignore-output"])
    path = make_project(tmp_path)
    tool.write_address(tmp_path)
    head, badge, first = nbformat.read(path, as_version=4).cells
    assert head.source == "# 07 Tiny"
    assert badge.source == (
        "[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        "(https://colab.research.google.com/github/somebody/resnet-nb/blob/main/notebooks/07-tiny.ipynb)"
    )
    assert first.source.splitlines() == [
        "try:",
        "    import resnet_nb",
        "except ModuleNotFoundError:",
        '    %pip install -q "resnet-nb @ git+https://github.com/somebody/resnet-nb"',
        "    import resnet_nb",
    ]
    readme = (tmp_path / "README.md").read_text()
    assert "old" not in readme and readme.endswith("\n\nThe end\n")
    assert f"| [07 Tiny](notebooks/07-tiny.ipynb) | {badge.source} |" in readme
    again = readme, path.read_bytes()
    tool.write_address(tmp_path)
    assert again == ((tmp_path / "README.md").read_text(), path.read_bytes())


def test_address_says_what_it_misses(tmp_path, monkeypatch):
    make_project(tmp_path)
    with pytest.raises(tool.NotebookError, match="07-tiny.ipynb: 0 cells with the tag badge"):
        tool.write_address(tmp_path)
    make_project(tmp_path, url="https://example.org/x")
    with pytest.raises(tool.NotebookError, match="not a GitHub address"):
        tool.write_address(tmp_path)
