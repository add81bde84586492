"""Right defaults for `pytest --nbval notebooks/`, from any folder.

They cannot stand in pytest's `addopts`, which must also work where nbval is not installed.
"""

import os
import pathlib

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
    if not option.nbval_kernel_name:
        option.nbval_current_env = True  # not whatever kernel is called "python3" here
    if option.nbval_cell_timeout == NBVAL_DEFAULT_TIMEOUT:
        option.nbval_cell_timeout = 600.0  # a kernel that died is noticed only after this
    if getattr(option, "dist", "no") == "load":
        option.dist = "loadfile"  # the cells of one notebook share one kernel
    # What the kernels inherit: this checkout comes first, and figures are drawn inline.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.pop("MPLBACKEND", None)
