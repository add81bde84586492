"""Writing files so that a crash leaves the old file or the new one, never half of it."""

import contextlib
import hashlib
import os
from pathlib import Path

# what systems put into folders, besides names with a leading dot; compared without regard to case
SYSTEM_FILES = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
    *("lost+found", "@eadir", "#recycle", "@recycle", "#snapshot"),  # ext file systems, network drives
    *("__macosx", "icon\r"),  # a Mac
}


def is_system_file(name: str) -> bool:
    """Whether a file or folder of this name is of the system or a tool, not of the user: .DS_Store, Thumbs.db, ..."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


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
