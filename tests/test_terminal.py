"""Where output goes: pipes whose reader ended, full disks, closed or missing streams, other encodings. A training ends well."""

import errno
import io
import os
import signal
import subprocess
import sys

import pytest

from resnet_nb import progress
from resnet_nb.cli import main
from resnet_nb.data import shapes10
from resnet_nb.runs import load_run

LIVE = ["train", "cifar-resnet8", "--data", "shapes10", "--recipe", "live", "--iterations", "3", "--set", "width=4", "--out"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    drawn = shapes10(40, 20)
    monkeypatch.setattr("resnet_nb.data.shapes10", lambda: drawn)


class Failing(io.StringIO):
    """Takes some characters, then has no room or no reader; a terminal or not."""

    def __init__(self, number, room=0, terminal=False):
        super().__init__()
        self.number, self.room, self.terminal = number, room, terminal

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.room -= len(text)
        if self.room < 0:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


class Bare:
    """Has nothing but write, as what programs with windows put in place of stderr."""

    def write(self, text):
        pass


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "bare": Bare,
    **{
        f"{name}-{room}-{'terminal' if terminal else 'file'}": lambda name=name, room=room, terminal=terminal: Failing(
            getattr(errno, name), room, terminal
        )
        for name in ("EPIPE", "ENOSPC", "EIO", "EAGAIN")
        for room in (0, 30)
        for terminal in (True, False)
    },
}


@pytest.mark.parametrize("stream", STREAMS)
def test_without_a_stderr_the_training_ends_with_its_files(tmp_path, monkeypatch, capsys, stream):
    monkeypatch.setattr(sys, "stderr", STREAMS[stream]())
    assert main([*LIVE, str(tmp_path / "run")]) == 0
    assert load_run(tmp_path / "run")[2][-1]["iteration"] == 3
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    "stream, code", [("none", 0), ("EPIPE-0-file", 128 + signal.SIGPIPE), ("ENOSPC-0-file", 1), ("closed", 1)]
)
def test_a_result_that_cannot_be_printed(tmp_path, monkeypatch, capsys, stream, code):
    """The training is kept; the code is that of other programs, and one line says why, unless the reader knows it."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", STREAMS[stream]())
        assert main([*LIVE, str(tmp_path / "run")]) == code
    assert load_run(tmp_path / "run")[2][-1]["iteration"] == 3
    assert ("error: the result cannot be printed" in capsys.readouterr().err) == (code == 1)
    assert main([*LIVE, str(tmp_path / "run")]) == 0 and "after 3 iterations" in capsys.readouterr().out  # the same command


def test_an_error_keeps_its_code_where_nobody_reads(monkeypatch):
    monkeypatch.setattr(sys, "stderr", STREAMS["EPIPE-0-file"]())
    assert main(["describe", "resnet19"]) == 2
    monkeypatch.setattr(sys, "stdout", STREAMS["EPIPE-0-file"]())
    assert main(["describe", "resnet19"]) == 2


def test_a_note_of_the_package_stops_nothing(monkeypatch):
    for stream in STREAMS.values():
        monkeypatch.setattr(sys, "stderr", stream())
        progress.note("continuing at iteration 5")


def test_letters_that_an_encoding_lacks_are_escaped(monkeypatch):
    for encoding, text in (("ascii", "B\\xe4r \\u6f22"), ("latin-1", "Bär \\u6f22"), ("utf-8", "Bär 漢")):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
        with progress.outlets() as out:
            print("Bär 漢")
        assert raw.getvalue().decode(encoding) == f"{text}\n" and out.error is None
    with progress.outlets():
        print(b"B\xe4r".decode("utf-8", "surrogateescape"))  # a file name that is not UTF-8


def python(*args, **streams):
    return subprocess.Popen([sys.executable, "-m", "resnet_nb", *args], text=True, **streams)


@pytest.mark.parametrize("args", [[], ["--help"], ["train", "--help"]])
def test_a_reader_that_ends_leaves_no_trace_at_pythons_end(args):
    """Without a word such as "Exception ignored", and without its code 120."""
    reading, writing = os.pipe()
    os.close(reading)
    process = python(*args, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 128 + signal.SIGPIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_told_in_one_line():
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = python("--help", stdout=full, stderr=subprocess.PIPE)
        line = process.communicate(timeout=60)[1]
        assert process.returncode == 1 and line.startswith("error: ") and "No space left" in line and line.count("\n") == 1
        process = python("describe", "--size", stdout=subprocess.PIPE, stderr=full)
        assert process.communicate(timeout=60)[0] == "" and process.returncode == 2  # not the 120 of a flush at the end


WATCH = """
import os, sys
from resnet_nb.progress import outlets
with outlets():
    print("seen by nobody", file=sys.stderr)
    opened = open(sys.argv[1], "w")
    os.write(2, b"what a library prints")
    os.write(1, b"what a library prints")
    sys.exit(opened.fileno())
"""


@pytest.mark.parametrize("closing", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path, closing):
    """Its number would be 2, and warnings of libraries would be written into it."""
    command = f'"$0" -c "$1" "$2" {closing}'
    done = subprocess.run(["sh", "-c", command, sys.executable, WATCH, tmp_path / "file"], capture_output=True, timeout=60)
    assert done.returncode > 2 and (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("columns", ["1", "0", "-3", "abc", ""])
def test_a_narrow_terminal(columns, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0 and "--recipe" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stderr", Failing(errno.EIO, 1_000_000, terminal=True))
    assert main([*LIVE, str(tmp_path / "run")]) == 0 and sys.stderr.getvalue()
