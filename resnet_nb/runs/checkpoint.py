"""Checkpoints that are whole or reported: written beside, checksummed, renamed; the one before is kept."""

import io
import pickle
from pathlib import Path

import torch

from resnet_nb.errors import InputError, first_line
from resnet_nb.files import patiently, reason, sha256, sync_folder, write_atomically

NEW, NAME, PREVIOUS = "checkpoint.new.pt", "checkpoint.pt", "checkpoint.previous.pt"
DIGEST = 64  # hexadecimal digits of the sha256 that ends the file; torch.load does not mind them


def save(folder: Path, state: dict) -> None:
    """Write `state` as the newest checkpoint; the one before stays as `checkpoint.previous.pt`.

    Raises OSError if it cannot be written; `load` then finds what it found before, or the new one.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomically(folder / NEW, content + sha256(content).encode())
    settle(folder)


def settle(folder: Path) -> None:
    """Give the newest checkpoint its name; also after a save that was killed before it did."""
    if (folder / NEW).exists():
        if (folder / NAME).exists():
            patiently((folder / NAME).replace, folder / PREVIOUS)
        patiently((folder / NEW).replace, folder / NAME)
        sync_folder(folder)


def load(folder: Path) -> tuple[dict | None, str]:
    """The newest whole checkpoint and "", or an older one and a line about the damaged one.

    (None, "") if there is none. Tensors come to the CPU. Raises InputError if none is whole, or if one may not be read.
    """
    damage = []
    for path in (folder / NEW, folder / NAME, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except PermissionError as error:  # it may be whole
            raise InputError(f"cannot read {path} ({reason(error)}); then the same command continues") from error
        except (ValueError, OSError) as error:
            damage.append(f"{path} is damaged ({error})")
            continue
        return state, f"{damage[0]}; continuing from the checkpoint before it" if damage else ""
    if damage:
        raise InputError(f"{' and '.join(damage)}; delete the folder to train again, or choose another one", "out")
    return None, ""


def remove(folder: Path) -> None:
    """Delete the checkpoints in `folder`."""
    for name in (PREVIOUS, NAME, NEW):
        patiently((folder / name).unlink, True)


def _read(path: Path) -> dict:
    """Raises ValueError or OSError unless the file is whole and holds nothing but tensors and plain values."""
    raw = patiently(path.read_bytes)
    content, digest = raw[:-DIGEST], raw[-DIGEST:]
    if sha256(content).encode() != digest:
        raise ValueError(f"wrong checksum, {len(raw):,} bytes")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"not a checkpoint: {first_line(error)}") from error
