"""What a hosted notebook needs: a first cell that brings the package and nothing else, and no files beside it."""

import ast
import pathlib
import re
import shutil
import sysconfig
import venv

import pytest
from helpers import NOTEBOOKS, each_notebook, no, read

from tools import colab, notebooks
from tools.colab import not_a_clone, publish, trial

# --- the first cell --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A Python with all that is installed here except resnet_nb, and an environment without network."""
    if why := not_a_clone():
        pytest.skip(f"publishes what git knows: {why}")
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    # Outside the new environment, so that pip cannot remove what belongs to this one.
    (folder / "others").mkdir()
    for path in pathlib.Path(sysconfig.get_path("purelib")).iterdir():
        if "resnet_nb" not in path.name:
            (folder / "others" / path.name).symlink_to(path)
    python = folder / "env" / "bin" / "python"
    [site] = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "others.pth").write_text(f"{folder / 'others'}\n", encoding="utf-8")
    env = publish(folder / "github")
    # pip takes `0` for yes in the last two. The build uses the setuptools that torch brought.
    return python, env | {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_COMPILE": "0"}


def test_first_cell_brings_the_package_and_nothing_else(elsewhere):
    python, env = elsewhere
    [light] = [path for path in NOTEBOOKS if path.name == "00-start-here.ipynb"]
    added = trial(python, light, env)
    assert list(added) == ["resnet-nb"]
    assert f'"url": "https://github.com/{notebooks.repository()}"' in added["resnet-nb"]


# --- checkouts of all kinds ----------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path):
    """A small repository, not committed, and an empty folder beside it."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    clone = tmp_path / "a [clone] #1"
    (clone / "in").mkdir(parents=True)
    (tmp_path / "copy").mkdir()
    for name, text in {"in/ä ö.txt": "kept", ".gitignore": "*.log", "a.log": "ignored"}.items():
        (clone / name).write_text(text, encoding="utf-8")
    colab.call("git", "init", "-q", cwd=clone)
    return clone


def copied(clone):
    colab.copy_checkout(clone.parent / "copy", clone)
    return {path.relative_to(clone.parent / "copy").as_posix() for path in (clone.parent / "copy").rglob("*.*")}


def test_a_checkout_of_another_owner_is_read(clone, monkeypatch):
    monkeypatch.setitem(colab.ENV, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(colab.NotebookError, match="dubious ownership"):
        colab.call("git", "ls-files", cwd=clone)
    assert colab.not_a_clone(clone) == ""
    assert copied(clone) == {"in/ä ö.txt", ".gitignore"}


def test_a_worktree_is_read(clone, tmp_path):
    author = ["-c", "user.name=a", "-c", "user.email=a", "-c", "commit.gpgsign=false"]
    colab.call("git", "add", ".", cwd=clone)
    colab.call("git", *author, "commit", "-q", "-m", "all", cwd=clone)
    colab.call("git", "worktree", "add", "-q", tmp_path / "tree", cwd=clone)
    assert colab.not_a_clone(tmp_path / "tree") == ""
    assert copied(tmp_path / "tree") == {"in/ä ö.txt", ".gitignore"}


def test_why_a_checkout_cannot_be_copied_is_said(clone, tmp_path, monkeypatch):
    assert colab.not_a_clone(clone / "in") == "this folder is no clone, it lies in one"
    assert "git does not read this checkout: fatal: not a git repository" in colab.not_a_clone(tmp_path / "copy")
    (tmp_path / "copy" / ".git").write_text("gitdir: /proc/none", encoding="utf-8")
    assert "git does not read this checkout: fatal: not a git repository" in colab.not_a_clone(tmp_path / "copy")
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert colab.not_a_clone(clone) == "git is not installed"
    with pytest.raises(SystemExit, match="^the trial publishes what git lists: git is not installed$"):
        colab.main(["python3"])


# --- no file but the package's ---------------------------------------------------------------

# Modules that exist to reach files, processes or the network.
OUTSIDE = {
    "asyncio",
    "ftplib",
    "glob",
    "http",
    "httpx",
    "importlib",
    "io",
    "mmap",
    "os",
    "pathlib",
    "pickle",
    "requests",
    "shelve",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "sys",
    "tarfile",
    "tempfile",
    "urllib",
    "zipfile",
}
# What torch, torchvision, NumPy, pandas, Matplotlib and Python call reading or fetching, whatever it is called on.
READS = (
    r"open|load|loadtxt|genfromtxt|fromfile|imread|read(_\w+)?|Path|system|getoutput|"
    r"get_weight|get_state_dict|download\w*|load_state_dict_from_url|urlopen|urlretrieve|\w*datasets?\.\w+"
)
# Recorded runs come with the package, a photo with Matplotlib.
SHIPPED = r"runs\.load\(.*|Image\.open\(matplotlib\.cbook\.get_sample_data\(file\)\)"


def reads(source):
    """What in the source of a cell reads something from outside the cell and the package."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:
        return [f"{error.text.strip()} is not Python (a magic or a shell command?)"]
    found = []
    for node in nodes:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        found += [f"import {name}" for name in names if name.partition(".")[0] in OUTSIDE]
        if isinstance(node, ast.Call):
            called, text = ast.unparse(node.func), ast.unparse(node)
            if re.fullmatch(rf"(.*\.)?({READS})", called) and not re.fullmatch(SHIPPED, text):
                found.append(text)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            weights = {given.get(name, "None") for name in ("weights", "weights_backbone")}
            if "download" in given or weights != {"None"}:
                found.append(text)
    return found


@each_notebook
def test_notebooks_read_no_file_of_their_own(path):
    wrong = []
    for cell in read(path).cells:
        sources, pictures = [cell.source], []
        if cell.cell_type == "markdown":  # its solutions are code, and its pictures files
            sources = re.findall(r"```python\n(.*?)```", cell.source, re.DOTALL)
            pictures = re.findall(r"!\[[^\]]*\]\((?!https:|attachment:)[^)]*\)|<img\b[^>]*>", cell.source)
        if "bootstrap" not in notebooks.tags(cell):
            wrong += [f"cell {cell.id}: {what}" for source in sources for what in reads(source)]
            wrong += [f"cell {cell.id}: {what}" for what in pictures]
    no(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "open('log.csv')",
        "import pathlib",
        "from os import path",
        "import urllib.request",
        "!wget a",
        "%run a.py",
        "pd.read_csv('a.csv')",
        "torch.load('weights.pt')",
        "np.load(file)",
        "plt.imread('a.png')",
        "Image.open(file)",
        "torchvision.datasets.CIFAR10('data')",
        "load_file('a').read()",
        "resnet18(weights='DEFAULT')",
        "torch.hub.load('a', 'b')",
        "weights.get_state_dict()",
        "stream(download=True)",
        "data.load('cifar10')",
    ],
)
def test_reading_is_noticed(source):
    assert reads(source)


def test_what_a_notebook_may_read():
    """Recorded runs, weights it has, and networks without weights."""
    assert reads("import torch\nnet = runs.load('a')\nnet.load_state_dict(b)\nvgg16(weights=None)\nc.get('d')") == []
