"""What maintainers run, from the root of the checkout, as `python -m tools.notebooks`; the Makefile does it for them."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
