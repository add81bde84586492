"""Checkpoints that are whole or reported: written beside, checksummed, renamed; the one before is kept."""

import hashlib
import io
import pickle
from pathlib import Path

import torch

from resnet_nb.errors import InputError
from resnet_nb.files import write_atomically

NAME, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
DIGEST = 64  # hexadecimal digits of the sha256 that ends the file; torch.load does not mind them


def save(folder: Path, state: dict) -> None:
    """Write `state` as the newest checkpoint; the one before stays as `checkpoint.previous.pt`.

    Raises OSError if it cannot be written; then the checkpoints are as they were.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    fresh = folder / "checkpoint.new.pt"
    write_atomically(fresh, content + hashlib.sha256(content).hexdigest().encode())
    if (folder / NAME).exists():
        (folder / NAME).replace(folder / PREVIOUS)
    fresh.replace(folder / NAME)


def load(folder: Path) -> tuple[dict | None, str]:
    """The newest whole checkpoint and "", or the one before it and a line about the damaged one.

    (None, "") if there is none. Tensors come to the CPU. Raises InputError if none is whole.
    """
    damage = []
    for path in (folder / NAME, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except (ValueError, OSError) as error:
            damage.append(f"{path} is damaged ({error})")
            continue
        return state, f"{damage[0]}; continuing from the checkpoint before it" if damage else ""
    if damage:
        raise InputError(f"{' and '.join(damage)}; delete the folder to train again, or choose another --out")
    return None, ""


def remove(folder: Path) -> None:
    """Delete the checkpoints in `folder` and what an interrupted save left there."""
    for path in (folder / NAME, folder / PREVIOUS, *leftovers(folder)):
        path.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """Files of saves that were killed."""
    return [*folder.glob("checkpoint.new.pt"), *folder.glob(".*.tmp")]


def _read(path: Path) -> dict:
    """Raises ValueError or OSError unless the file is whole and holds nothing but tensors and plain values."""
    raw = path.read_bytes()
    content, digest = raw[:-DIGEST], raw[-DIGEST:]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError(f"wrong checksum, {len(raw):,} bytes")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"not a checkpoint: {str(error).splitlines()[0]}") from error
