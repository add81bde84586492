"""Right defaults for `pytest --nbval notebooks/`, from any folder.

They cannot stand in pytest's `addopts`, which must also work where nbval is not installed.
"""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent
NBVAL_DEFAULT_TIMEOUT = 2000


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
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    os.environ.pop("MPLBACKEND", None)
