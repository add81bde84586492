"""CIFAR-10 in torchvision's layout: verified file by file, downloaded with resume."""

import http.client
import urllib.request
from pathlib import Path

from filelock import FileLock
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from resnet_nb.data.folder import Part
from resnet_nb.errors import InputError, first_line
from resnet_nb.progress import bar

FOLDER = CIFAR10.base_folder
ARCHIVE_BYTES = 170_498_071
GZIP = b"\x1f\x8b"  # how an archive begins


def read(root: Path, download: bool = False) -> tuple[list[str], Part, Part]:
    """Class names, (images, labels) for training and for testing: arrays (N, 3, 32, 32) uint8, and lists.

    Raises InputError naming the first file that is missing or does not have the published md5.
    """
    try:
        parts = [CIFAR10(str(root), train=train) for train in (True, False)]
    except RuntimeError as error:  # torchvision compares the md5 of every file before it reads it
        if not download:
            raise _first_wrong(root) or InputError(first_line(error)) from error
        fetch(root)
        return read(root)
    return parts[0].classes, *((part.data.transpose(0, 3, 1, 2), part.targets) for part in parts)


def _first_wrong(root: Path) -> InputError | None:
    """What is wrong with the first file that is missing or damaged, and what to do."""
    todo = f"load it with download=True, or unpack {CIFAR10.filename} (md5 {CIFAR10.tgz_md5}) from {CIFAR10.url} into {root}"
    for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]:
        path = root / FOLDER / name
        if not path.is_file():
            return InputError(f"{path} is missing; {todo}", "download")
        if (actual := calculate_md5(path)) != md5:
            damage = f"{path.stat().st_size} bytes with md5 {actual}, expected md5 {md5}"
            return InputError(f"{path} is damaged: {damage}; {todo}", "download")
    return None


def fetch(root: Path) -> None:
    """Download and unpack the archive below `root`; a second call goes on where the first one stopped.

    A process that comes while another one downloads waits for it. Raises InputError if the server cannot be reached or the
    finished file has the wrong md5.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".download.lock"):
            if _first_wrong(root):
                _download(root / CIFAR10.filename)
                CIFAR10(str(root), download=True)  # the archive is there: only unpacks
    except NotImplementedError as error:
        raise InputError(f"the file system of {root} has no locks; work in a folder on another one") from error
    except OSError as error:
        raise InputError(f"cannot write to {root} ({error.strerror or error})") from error


def _download(archive: Path) -> None:
    partial = archive.with_name(archive.name + ".part")
    if not archive.exists():
        _go_on(CIFAR10.url, partial)
        partial.rename(archive)
    if (actual := calculate_md5(archive)) != CIFAR10.tgz_md5:
        raise InputError(f"{archive} is damaged: md5 {actual}, expected {CIFAR10.tgz_md5}; delete it and try again")


def _go_on(url: str, partial: Path) -> None:
    have = _kept(partial)
    if have == ARCHIVE_BYTES:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            have *= reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")  # else it comes from its beginning
            chunk = b"" if have else reply.read(len(GZIP))
            length = int(reply.headers.get("Content-Length", ARCHIVE_BYTES - have))
            if (not have and chunk != GZIP) or have + length != ARCHIVE_BYTES:
                came = f"{length:,} bytes of {reply.headers.get_content_type()}, which are not the archive"
                raise ConnectionError(f"what came is {came}: perhaps a login page; open any web page in a browser to see")
            size = {"unit": "B", "unit_scale": True, "initial": have + len(chunk)}
            # what is there already is written over, not cut: a server that cannot resume may break off earlier
            with (
                open(partial, "r+b" if _kept(partial) else "wb") as file,
                bar(CIFAR10.filename, ARCHIVE_BYTES, **size) as shown,
            ):
                file.seek(have)
                file.write(chunk)
                while chunk := reply.read(1 << 16):
                    shown.update(file.write(chunk))
                    if file.tell() > ARCHIVE_BYTES:
                        raise ConnectionError("more came than the archive has")
        if partial.stat().st_size < ARCHIVE_BYTES:
            raise ConnectionError("the server closed the connection early")
    except (http.client.HTTPException, OSError, ValueError) as error:  # ValueError: of a proxy that is no address
        have = _kept(partial)
        kept = f"{have / 1e6:.0f} of {ARCHIVE_BYTES / 1e6:.0f} MB are kept in {partial}" if have else "nothing is kept of it"
        by_hand = f"place {CIFAR10.filename} (md5 {CIFAR10.tgz_md5}) in {partial.parent} yourself"
        raise InputError(
            f"cannot download {url} ({first_line(error)}); {kept}: run the same command again to go on, or {by_hand}"
        ) from error


def _kept(partial: Path) -> int:
    """Bytes of the archive that an earlier download left; 0 if they are of something else, or too many."""
    if not partial.exists():
        return 0
    with open(partial, "rb") as file:
        begins = file.read(len(GZIP)) == GZIP
    have = partial.stat().st_size
    return have if begins and have <= ARCHIVE_BYTES else 0
