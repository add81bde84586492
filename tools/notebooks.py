"""Execute the notebooks so that the stored files depend on nothing but their content.

    python -m tools.notebooks execute [NB ...]           execute and store
    python -m tools.notebooks execute --check [NB ...]   execute and compare
    python -m tools.notebooks address [OWNER/NAME]       rewrite badges and first cells

Tags it knows: `raises-exception` (the cell must raise), `nbval-ignore-output` (not compared),
`readme-figure` (its picture goes to notebooks/images/), `badge` and `bootstrap` (rewritten).
"""

import argparse
import base64
import copy
import pathlib
import re
import sys
import tempfile
import time
import tomllib

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError

from tools import ROOT, chapters, kernels
from tools.reading import PNG, code_cells, pictures, tags, title, without_widgets
from tools.stored import NotebookError, load
from tools.whole import write_files

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
CLIENT = {"record_timing": False, "store_widget_state": False, "coalesce_streams": True}
CLIENT["extra_arguments"] = ["--Application.log_level=40"]  # no warning about local TCP
COLAB = "https://colab.research.google.com"
BINDER = "https://mybinder.org"
ADDRESS = r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+(?<!\.git)(?<!\.)"  # OWNER/NAME on GitHub


class ThisInterpreter(AsyncKernelManager):
    """The kernel of the running Python, whatever kernels are installed under its name."""

    @property
    def kernel_spec(self):
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def canonical(nb):
    """A copy with canonical metadata, without empty cells, and without widgets, of which each kernel makes its own.

    A cell is left out of the slides until it says otherwise.
    """
    nb = copy.deepcopy(nb)
    nb.cells = [cell for cell in nb.cells if cell.source.strip() or tags(cell)]
    nb.metadata = nbformat.from_dict(METADATA)
    for cell in nb.cells:
        kept = {key: cell.metadata[key] for key in ("tags", "slideshow", "raw_mimetype") if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict({"slideshow": {"slide_type": "skip"}} | kept)
    return without_widgets(nb)


def as_bytes(nb):
    return (nbformat.writes(nb, version=nbformat.NO_CONVERT).rstrip("\n") + "\n").encode()


def execute(path, timeout=600):
    """The notebook at `path`, executed top to bottom by this interpreter, in canonical form."""
    nb, at = canonical(load(path)), {}
    client = NotebookClient(nb, kernel_manager_class=ThisInterpreter, timeout=timeout, **CLIENT)
    client.resources = {"metadata": {"path": str(path.parent)}}
    client.on_cell_start = lambda cell, cell_index: at.update(cell=cell, index=cell_index)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the kernel may still write
            client.execute(env=kernels.environment(folder))
    except (CellControlSignal, DeadKernelError) as error:
        name = getattr(error, "ename", type(error).__name__)
        what = f"{name}: {getattr(error, 'evalue', error)}\n{at['cell'].source}"
        raise NotebookError(f"{path.name}: cell {at['index']} ({at['cell'].id}): {what}") from error
    for output in [o for cell in code_cells(nb) for o in cell.outputs if o.output_type == "error"]:
        output.traceback = [f"{output.ename}: {output.evalue}".splitlines()[0]]
    return canonical(nb)


def readme_figures(path, nb):
    """{file: PNG bytes} of the cell tagged readme-figure, if there is one."""
    cells = [cell for cell in code_cells(nb) if "readme-figure" in tags(cell)]
    png = [output.data[PNG] for _, output in pictures(cells) if PNG in output.data]
    if len(png) != len(cells) or len(cells) > 1:
        raise NotebookError(f"{path.name}: readme-figure is for one cell with one picture")
    return {path.parent / "images" / f"{path.stem}.png": base64.b64decode(data) for data in png}


def differences(path, fresh):
    """What `execute` would change, apart from the outputs that are not compared."""
    stored = canonical(load(path))
    if path.read_bytes() != as_bytes(stored):
        yield "form (metadata, order of keys or white space)"
    for old, new in zip(stored.cells, fresh.cells, strict=True):
        compared = new.cell_type == "code" and "nbval-ignore-output" not in tags(new)
        if compared and (old.outputs, old.execution_count) != (new.outputs, new.execution_count):
            yield f"cell {new.id}"
    for file, data in readme_figures(path, fresh).items():
        if not file.exists() or file.read_bytes() != data:
            yield f"images/{file.name}"


def run(path, check=False, timeout=600):
    """Execute one notebook, then store or compare it, and say so on one line."""
    began, stored = time.perf_counter(), path.read_bytes()
    fresh = execute(path, timeout)
    if check and (found := list(differences(path, fresh))):
        raise NotebookError(f"{path.name}: differs: {', '.join(found)}")
    if not check:
        if path.read_bytes() != stored:
            raise NotebookError(
                f"{path.name}: was saved while it was executed, and is left as it was saved: run make notebooks again"
            )
        write_files(readme_figures(path, fresh) | {path: as_bytes(fresh)})
    print(f"{path.name}: executed in {time.perf_counter() - began:.1f} s", flush=True)


def repository(root=ROOT):
    """OWNER/NAME, from the one place of the address."""
    url = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    match = re.fullmatch(rf"https://github\.com/({ADDRESS})/?", url)
    if not match:
        raise NotebookError(f"pyproject.toml: Repository is not https://github.com/OWNER/NAME: {url}")
    return match[1]


def badges(repo, name):
    """The notebook called `name` in Colab and in Binder: two pictures with links, in Markdown."""
    colab = f"{COLAB}/github/{repo}/blob/main/notebooks/{name}"
    binder = f"{BINDER}/v2/gh/{repo}/main?urlpath=lab/tree/notebooks/{name}"
    return f"[![Open In Colab]({COLAB}/assets/colab-badge.svg)]({colab}) [![Open in Binder]({BINDER}/badge_logo.svg)]({binder})"


def bootstrap(repo):
    return f"""try:
    import resnet_nb
except ModuleNotFoundError:
    %pip install -q "resnet-nb @ git+https://github.com/{repo}"
    import resnet_nb"""


def readme_badges(root=ROOT, repo=None):
    """The README's table of notebooks, with their titles."""
    rows = ["| Notebook | In the browser |", "|---|---|"]
    for path in chapters(root / "notebooks"):
        name = title(load(path), path.name)
        rows.append(f"| [{name}](notebooks/{path.name}) | {badges(repo or repository(root), path.name)} |")
    return "\n".join(rows)


def with_address(path, repo):
    """The notebook at `path` with the badges and the first cell of a repository."""
    nb = load(path)
    for tag, source in {"badge": badges(repo, path.name), "bootstrap": bootstrap(repo)}.items():
        cells = [cell for cell in nb.cells if tag in tags(cell)]
        if len(cells) != 1:
            raise NotebookError(f"{path.name}: {len(cells)} cells with the tag {tag}, not one: copy it from another notebook")
        cells[0].source = source
    return as_bytes(nb)


def substituted(path, pattern, new):
    """The text at `path` with the one place of `pattern` replaced."""
    text, found = re.subn(pattern, lambda match: new, path.read_text(encoding="utf-8"))
    if found != 1:
        raise NotebookError(f"{path.name}: {found} places look like {pattern}, there must be one")
    return text.encode()


def write_address(root=ROOT, repo=None):
    """Write OWNER/NAME, by default pyproject.toml's, into every place that has it: all or none."""
    if repo is not None and not re.fullmatch(ADDRESS, repo):
        raise NotebookError(f"REPO is {repo!r}; it must be OWNER/NAME: make address REPO=you/your-fork")
    repo = repo or repository(root)
    table = f"<!-- badges:start -->\n{readme_badges(root, repo)}\n<!-- badges:end -->"
    places = {
        "pyproject.toml": ('(?m)^Repository = ".*"$', f'Repository = "https://github.com/{repo}"'),
        "README.md": ("(?s)<!-- badges:start -->.*?<!-- badges:end -->", table),
    }
    files = {root / name: substituted(root / name, *place) for name, place in places.items()}
    files |= {path: with_address(path, repo) for path in chapters(root / "notebooks")}
    # An untouched pyproject.toml keeps its time stamp, and make does not install anew.
    write_files({path: data for path, data in files.items() if path.read_bytes() != data})


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    address = commands.add_parser("address", help="write the repository's address everywhere")
    address.add_argument("repo", nargs="?", metavar="OWNER/NAME", help="default: pyproject.toml's")
    execution = commands.add_parser("execute", help="execute notebooks, and store or compare")
    execution.add_argument("notebooks", nargs="*", type=pathlib.Path, help="default: all")
    execution.add_argument("--check", action="store_true", help="compare, write nothing")
    execution.add_argument("--timeout", type=int, default=600, help="seconds for one cell (600)")
    args, failed = parser.parse_args(argv), []
    if args.command == "address":
        try:
            return write_address(ROOT, args.repo)
        except (OSError, ValueError) as error:
            sys.exit(str(error))
    for path in args.notebooks or chapters(ROOT / "notebooks", say=True):
        try:
            run(path.resolve(), args.check, args.timeout)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr, flush=True)
            failed.append(str(path))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
