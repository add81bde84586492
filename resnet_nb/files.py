"""Writing files so that a crash leaves the old file or the new one, never half of it."""

import contextlib
import hashlib
import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, flush it to disk, then rename. Raises OSError, leaving `path` as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut, where the system can do that."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # some network file systems refuse; the data themselves are safe
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def sha256(content: bytes | memoryview) -> str:
    """Checksum of `content`, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
