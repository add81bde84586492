"""Right defaults for `pytest --nbval notebooks/`, from any folder.

They cannot stand in pytest's `addopts`, which must also work where nbval is not installed.
"""

import os
import pathlib
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent
NBVAL_DEFAULT_TIMEOUT = 2000


# Several workers of pytest-xdist share the cores; this comes before they, or what they start, import torch.
if "PYTEST_XDIST_WORKER" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))


def pytest_configure(config):
    option = config.option
    if not (getattr(option, "nbval", False) or getattr(option, "nbval_lax", False)):
        return
    sys.path.insert(0, str(ROOT))  # pytest does so, but not in its import mode "importlib"
    from tools import kernels

    if not option.nbval_kernel_name:
        option.nbval_current_env = True  # not whatever kernel is called "python3" here
    if option.nbval_cell_timeout == NBVAL_DEFAULT_TIMEOUT:
        option.nbval_cell_timeout = 600.0  # a kernel that died is noticed only after this
    if getattr(option, "dist", "no") in ("load", "loadgroup", "worksteal"):
        option.dist = "loadfile"  # the cells of one notebook share one kernel
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # a kernel may still write
    config.add_cleanup(folder.cleanup)
    inherited = kernels.environment(folder.name)
    os.environ.clear()
    os.environ.update(inherited)
    config.pluginmanager.register(Cells())  # after all others, so that it has the last word


class Cells:
    """The cells of a chapter run together and in order, with all that come before them, whatever chooses or reorders tests."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        result = yield
        chosen = {}  # notebook: {number: cell}
        for item in items:
            if hasattr(item, "cell_num"):
                chosen.setdefault(item.parent, {})[item.cell_num] = item

        def whole(notebook):
            cells, last = chosen[notebook], max(chosen[notebook])
            if len(cells) <= last:
                cells = {cell.cell_num: cell for cell in notebook.collect()} | cells
            return [cells[number] for number in range(last + 1)]

        ordered = []
        for item in items:
            if item.parent not in chosen:
                ordered.append(item)
            elif item is next(iter(chosen[item.parent].values())):
                ordered += whole(item.parent)
        items[:] = ordered
        return result

    def pytest_ignore_collect(self, collection_path):
        """Other notebooks beside the chapters are tested only if they are named."""
        from tools import CHAPTER

        if collection_path.parent == ROOT / "notebooks" and collection_path.suffix == ".ipynb":
            return None if CHAPTER.fullmatch(collection_path.name) else True
        return None
