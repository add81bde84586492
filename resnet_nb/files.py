"""Writing files so that a crash leaves the old file or the new one, never half of it."""

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

HELD = (errno.EACCES, errno.EPERM, errno.EBUSY)  # a virus scanner or a cloud drive reads the file; Windows then refuses others
WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between the tries
wait = time.sleep
ADVICE = {
    "make room": ("ENOSPC", "EDQUOT"),
    "another program may hold it, or its rights forbid it; end that program, or change them": ("EACCES", "EPERM", "EBUSY"),
    "the disk is read-only; make it writable": ("EROFS",),
    "the folder was removed or renamed; put it back": ("ENOENT",),
    "the disk or network drive does not answer; see to it": ("EIO", "ESTALE", "ENXIO", "ENODEV", "ETIMEDOUT", "ENOTCONN"),
    "allow larger files (ulimit -f)": ("EFBIG",),
    "close other programs, or allow more open files (ulimit -n)": ("EMFILE", "ENFILE"),
}

# what systems put into folders, besides names with a leading dot; compared without regard to case
SYSTEM_FILES = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
    *("lost+found", "@eadir", "#recycle", "@recycle", "#snapshot"),  # ext file systems, network drives
    *("__macosx", "icon\r"),  # a Mac
}


def is_system_file(name: str) -> bool:
    """Whether a file or folder of this name is of the system or a tool, not of the user: .DS_Store, Thumbs.db, ..."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def patiently(action: Callable, *args):
    """`action(*args)`, tried for two seconds while another program holds the file. Raises OSError as `action` does."""
    for seconds in WAITS:
        try:
            return action(*args)
        except OSError as error:
            if error.errno not in HELD:
                raise
        wait(seconds)
    return action(*args)


def reason(error: OSError) -> str:
    """What the system says and what to do: "No space left on device: make room"."""
    said = error.strerror or str(error)
    fitting = [text for text, names in ADVICE.items() if errno.errorcode.get(error.errno) in names]
    return f"{said}: {fitting[0]}" if fitting else said


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, flush it to disk, then rename. Raises OSError, leaving `path` as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:  # a new name: nobody holds it
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        patiently(os.replace, temporary, path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # what went wrong is told by the error before it
            temporary.unlink()


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
