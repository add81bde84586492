"""Execute the notebooks so that the stored files depend on nothing but their content.

    python tests/notebook_tool.py execute [NB ...]           execute and store
    python tests/notebook_tool.py execute --check [NB ...]   execute and compare
    python tests/notebook_tool.py address                    rewrite badges and first cells

Tags it knows: `raises-exception` (the cell must raise), `nbval-ignore-output` (not compared),
`readme-figure` (its picture goes to notebooks/images/), `badge` and `bootstrap` (rewritten).
"""

import argparse
import base64
import copy
import os
import pathlib
import re
import sys
import time
import tomllib

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
CLIENT = {"record_timing": False, "store_widget_state": False, "coalesce_streams": True}
CLIENT["extra_arguments"] = ["--Application.log_level=40"]  # no warning about local TCP
COLAB = "https://colab.research.google.com"


class NotebookError(Exception):
    """What is wrong, with the notebook and the cell."""


class ThisInterpreter(AsyncKernelManager):
    """The kernel of the running Python, whatever kernels are installed under its name."""
    @property
    def kernel_spec(self):
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def canonical(nb):
    """A copy with canonical metadata; a cell is left out of the slides until it says otherwise."""
    nb = copy.deepcopy(nb)
    nb.metadata = nbformat.from_dict(METADATA)
    for cell in nb.cells:
        kept = {key: cell.metadata[key] for key in ("tags", "slideshow") if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict({"slideshow": {"slide_type": "skip"}} | kept)
    return nb


def as_bytes(nb):
    return (nbformat.writes(nb, version=nbformat.NO_CONVERT).rstrip("\n") + "\n").encode()


def write_whole(path, data):
    """Write all or nothing: to a file beside it, then rename."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".notebook-{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def execute(path, timeout=600):
    """The notebook at `path`, executed top to bottom by this interpreter, in canonical form."""
    nb, at = canonical(nbformat.read(path, as_version=4)), {}
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    client = NotebookClient(nb, kernel_manager_class=ThisInterpreter, timeout=timeout, **CLIENT)
    client.resources = {"metadata": {"path": str(path.parent)}}
    client.on_cell_start = lambda cell, cell_index: at.update(cell=cell, index=cell_index)
    try:
        client.execute(env=os.environ | {"PYTHONPATH": search, "MPLBACKEND": ""})
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
    png = [o.data["image/png"] for c in cells for o in c.outputs if "image/png" in o.get("data", "")]
    if len(png) != len(cells) or len(cells) > 1:
        raise NotebookError(f"{path.name}: readme-figure is for one cell with one picture")
    return {path.parent / "images" / f"{path.stem}.png": base64.b64decode(data) for data in png}


def differences(path, fresh):
    """What `execute` would change, apart from the outputs that are not compared."""
    stored = nbformat.read(path, as_version=4)
    if path.read_bytes() != as_bytes(canonical(stored)):
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
    began = time.perf_counter()
    fresh = execute(path, timeout)
    if check and (found := list(differences(path, fresh))):
        raise NotebookError(f"{path.name}: differs: {', '.join(found)}")
    files = {} if check else readme_figures(path, fresh) | {path: as_bytes(fresh)}
    for file, data in files.items():
        write_whole(file, data)
    print(f"{path.name}: executed in {time.perf_counter() - began:.1f} s", flush=True)


def repository(root=ROOT):
    """ORG/REPO, from the one place of the address."""
    url = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)/?", url)
    if not match:
        raise NotebookError(f"pyproject.toml: Repository is not a GitHub address: {url}")
    return match[1]


def badge(repo, name):
    target = f"{COLAB}/github/{repo}/blob/main/notebooks/{name}"
    return f"[![Open In Colab]({COLAB}/assets/colab-badge.svg)]({target})"


def bootstrap(repo):
    return f"""try:
    import resnet_nb
except ModuleNotFoundError:
    %pip install -q "resnet-nb @ git+https://github.com/{repo}"
    import resnet_nb"""


def readme_badges(root=ROOT):
    """The README's table of notebooks, with their titles."""
    rows = ["| Notebook | |", "|---|---|"]
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1].strip()
        rows.append(f"| [{title}](notebooks/{path.name}) | {badge(repository(root), path.name)} |")
    return "\n".join(rows)


def write_address(root=ROOT):
    """Write the address of pyproject.toml into every notebook and the README."""
    repo = repository(root)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        for tag, source in {"badge": badge(repo, path.name), "bootstrap": bootstrap(repo)}.items():
            cells = [cell for cell in nb.cells if tag in tags(cell)]
            if len(cells) != 1:
                raise NotebookError(f"{path.name}: {len(cells)} cells with the tag {tag}, not one")
            cells[0].source = source
        write_whole(path, as_bytes(nb))
    marked = r"(?s)(<!-- badges:start -->\n).*?(<!-- badges:end -->)"
    table, text = readme_badges(root), (root / "README.md").read_text()
    text, found = re.subn(marked, lambda match: f"{match[1]}{table}\n{match[2]}", text)
    if found != 1:
        raise NotebookError("README.md: the badges:start and badges:end comments must stand once")
    write_whole(root / "README.md", text.encode())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["execute", "address"])
    parser.add_argument("notebooks", nargs="*", type=pathlib.Path, help="default: all")
    parser.add_argument("--check", action="store_true", help="execute and compare, write nothing")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one cell (600)")
    args, failed = parser.parse_intermixed_args(argv), []
    notebooks = args.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in notebooks if args.command == "execute" else ["address"]:
        try:
            write_address() if path == "address" else run(path.resolve(), args.check, args.timeout)
        except (NotebookError, OSError, ValueError) as error:
            print(error, file=sys.stderr, flush=True)
            failed.append(str(path))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
