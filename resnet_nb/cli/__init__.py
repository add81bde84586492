"""The command line: python -m resnet_nb describe | train | evaluate | sweep | bench | record."""

import argparse
import sys
import time

from resnet_nb.cli.parser import WELCOME, parser
from resnet_nb.errors import InputError, Interrupted, TrainingStopped, first_line
from resnet_nb.progress import leads, status


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Whatever goes wrong is one line on stderr."""
    started = time.monotonic()
    try:
        args = parser().parse_args(argv, argparse.Namespace(started=started))
        if args.command is None:
            print(WELCOME)
            return 0
        with status("loading PyTorch"):
            from resnet_nb.cli import commands  # only now: it takes seconds, and help needs none of it
        commands.COMMANDS[args.command](args)
    except InputError as error:
        return _fail(f"error: {error}", 2)
    except (FloatingPointError, TrainingStopped) as error:
        return _fail(f"error: training stopped: {error}", 1)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        return _fail(
            f"error: not enough memory ({first_line(error)}); try a smaller network, or on GPUs "
            "--precision bf16 or several of them with torchrun",
            1,
        )
    except OSError as error:
        return _fail(f"error: {error}", 1)
    except Interrupted as error:
        return _fail(str(error), 128 + error.signal)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def _out_of_memory(error: Exception) -> bool:
    """Of numpy, of a GPU, or of torch's allocator on the CPU, which has no type of its own."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _fail(line: str, code: int) -> int:
    if leads():  # of several processes one talks
        print(line, file=sys.stderr)
    return code
