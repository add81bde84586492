"""Folders and several files are replaced whole or stay as they were, whatever fails."""

import os
import pathlib

import pytest
from helpers import contents

from tools.whole import new_folder, write_files

OLD = {"a.html": b"old", "assets/b.js": b"old, too"}
NEW = {"a.html": b"new", "c.html": b"added"}


def fill(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def files(folder):
    return {path.relative_to(folder).as_posix(): content for path, content in contents(folder).items()}


@pytest.fixture
def target(tmp_path):
    fill(tmp_path / "build" / "site", OLD)
    return tmp_path / "build" / "site"


def alone(target):
    """The content of the folder, beside which nothing was left."""
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return files(target)


def test_a_folder_is_replaced(target):
    with new_folder(target) as folder:
        fill(folder, NEW)
        assert files(target) == OLD
    assert alone(target) == NEW


def test_a_folder_is_made_where_there_is_none(tmp_path):
    with new_folder(tmp_path / "build" / "site") as folder:
        fill(folder, NEW)
    assert alone(tmp_path / "build" / "site") == NEW


def test_a_failure_while_building_leaves_the_old_folder(target):
    with pytest.raises(KeyboardInterrupt), new_folder(target) as folder:
        fill(folder, NEW)
        raise KeyboardInterrupt
    assert alone(target) == OLD


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_while_renaming_leaves_the_old_folder(target, monkeypatch, failing):
    rename, calls = pathlib.Path.rename, []

    def fail_once(path, to):
        calls.append(path)
        if len(calls) == failing:
            raise OSError("no rename today")
        return rename(path, to)

    monkeypatch.setattr(pathlib.Path, "rename", fail_once)
    with pytest.raises(OSError, match="no rename today"), new_folder(target) as folder:
        fill(folder, NEW)
    assert alone(target) == OLD


@pytest.mark.parametrize("owner, step", [(pathlib.Path, "write_bytes"), (os, "replace")])
def test_files_are_written_all_or_none(tmp_path, monkeypatch, owner, step):
    fill(tmp_path, OLD)
    before, act, new = contents(tmp_path), getattr(owner, step), {tmp_path / name: content for name, content in NEW.items()}

    def fail_at_the_last(path, to):
        if "c.html" in path.name:
            raise OSError("disk full")
        return act(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail_at_the_last)
        with pytest.raises(OSError, match="disk full"):
            write_files(new)
    assert contents(tmp_path) == before
    write_files(new)
    assert files(tmp_path) == OLD | NEW
