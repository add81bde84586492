"""What maintainers run, from the root of the checkout, as `python -m tools.notebooks`; the Makefile does it for them."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHAPTER = re.compile(r"\d\d(-[a-z0-9]+)+\.ipynb")


def chapters(folder, say=False):
    """The notebooks of the series in a folder, in order; say: name on stderr those beside them, which are left out."""
    found = sorted(path for path in folder.glob("*.ipynb") if not path.name.startswith("."))
    others = [path.name for path in found if not CHAPTER.fullmatch(path.name)]
    if say and others:
        print(
            f"left out, since a chapter is called NN-words.ipynb, in small letters a to z and digits: {', '.join(others)}",
            file=sys.stderr,
        )
    return [path for path in found if path.name not in others]
