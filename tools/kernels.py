"""What the kernels that execute notebooks inherit: nothing of this machine or its user that changes what they show."""

import os

from tools import ROOT

STEERING = ("PYTHON", "IPYTHON", "MPL", "LC_", "LANG", "CLICOLOR", "TQDM_")
PLACES = ("HOME", "PATH", "USERBASE", "NOUSERSITE", "PLATLIBDIR", "PYCACHEPREFIX", "DONTWRITEBYTECODE")
KEPT = {"MPLCONFIGDIR", *(f"PYTHON{name}" for name in PLACES)}  # where things are, not how they behave
DROPPED = {"NO_COLOR", "FORCE_COLOR"}
FIXED = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "TZ": "UTC", "COLUMNS": "80", "LINES": "24", "MATPLOTLIBRC": os.devnull}


def environment(folder, given=os.environ):
    """`given` for kernels: this checkout comes first, figures are drawn inline, IPython's files lie in `folder`, an empty one.

    Matplotlib keeps its fonts where the user has them. Where it cannot, it chooses a temporary place, says so, and names it
    in the environment; here that happens before a kernel starts, in whose cell it would be output.
    """
    import matplotlib.font_manager  # noqa: F401

    place = {name: os.environ[name] for name in ("MPLCONFIGDIR",) if name in os.environ}
    kept = {k: v for k, v in (given | place).items() if k in KEPT or not k.startswith(STEERING) and k not in DROPPED}
    search = os.pathsep.join(filter(None, [str(ROOT), given.get("PYTHONPATH")]))
    return kept | FIXED | {"PYTHONPATH": search, "IPYTHONDIR": str(folder)}
