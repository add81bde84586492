"""Several files, or a folder of them, written all or none; a single file is for `resnet_nb.files.write_atomically`."""

import contextlib
import os
import pathlib
import tempfile


def write_files(contents):
    """Write {path: bytes}: to files beside them first, then rename; if anything fails, all are as they were."""
    temporary = {path.with_name(f".{path.name}.tmp"): path for path in contents}
    before = {path: path.read_bytes() for path in contents if path.exists()}
    try:
        for new, path in temporary.items():
            path.parent.mkdir(exist_ok=True)
            new.write_bytes(contents[path])
        for new, path in temporary.items():
            os.replace(new, path)
    except BaseException:
        for path in contents:
            if path not in before:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != before[path]:
                path.write_bytes(before[path])
        raise
    finally:
        for new in temporary:
            new.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(target):
    """A folder to be filled, which then takes the place of `target`; if anything fails, the old one stays as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        new, old = pathlib.Path(work) / "new", pathlib.Path(work) / "old"
        new.mkdir()
        yield new
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
