"""Experiments that ship with the package: begun by a tool, kept after each part of them, and continued where they were left."""

import json
from pathlib import Path

import torch

from resnet_nb.files import write_atomically
from resnet_nb.runs.recorded import EXPERIMENTS


def begun(file: Path, tool: str, precision: str, data: str, **parts) -> dict:
    """The record in that file, with what the tool has measured already, or a new one with these empty parts."""
    new = {"command": f"python -m tools.{tool}", "torch": torch.__version__, "precision": precision, "data": data, **parts}
    return new | (json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})


def keep(found: dict, file: Path, done: str) -> None:
    """Write the record, and say what was done last."""
    EXPERIMENTS.mkdir(exist_ok=True)
    write_atomically(file, (json.dumps(found, ensure_ascii=False) + "\n").encode())
    print(done, flush=True)
