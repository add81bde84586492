"""The command line: python -m resnet_nb describe | train | evaluate | sweep | bench | record.

`COMMANDS` is the table of what can be typed; what a command does is `commands.run_<command>`. No torch here: help is there at
once.
"""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from resnet_nb import __version__
from resnet_nb.cli import typed
from resnet_nb.errors import InputError, Interrupted, ReadingFailed, TrainingStopped, first_line
from resnet_nb.progress import Outlet, leads, outlets, shown, status
from resnet_nb.recipes import NETWORKS, PRECISIONS, RECIPE_LINES, SWEEP_LINES, TESTINGS

PROG = "python -m resnet_nb"
ABOUT = "Networks and training runs of the ResNet papers (arXiv 1512.03385, 1603.05027, 2103.15244)."
SOURCE = (
    "shapes10, cifar10-sample (3,000 images that come with the package), cifar10 (below ./data), "
    "or a folder with train/<class>/* and test/<class>/* (or val/)"
)
CODES = """The same train or sweep command again continues where it stopped.
Exit codes: 0 done or stopped by the time limit, 1 the training failed, 2 bad input,
130 Ctrl-C, 143 SIGTERM, 128 + n signal n (all after a checkpoint; n also SIGHUP of a closed
terminal, SIGQUIT, SIGXCPU, SIGUSR1, SIGUSR2). Output that cannot be written stops no
training; at its end the code is 141 if nobody reads it (| head), else 1."""
UNREAD = 128 + 13  # as if SIGPIPE had ended it, which Python ignores
# what the settings of an InputError are called here
OPTION_OF = {"out": "--out", "download": "--download", "device": "--device", "batch_size": "--batch-size"}
OPTION_OF["processes"] = "torchrun --nproc-per-node"


class Command(NamedTuple):
    """What a command does in a few words, its examples, options (flag, settings), and what its help lists besides."""

    what: str
    examples: str
    options: list[tuple[str, dict]]
    lists: str = ""


def _option(flag: str, text: str, metavar: str | None = None, **settings) -> tuple[str, dict]:
    return flag, {"help": text, "metavar": metavar, **settings}


def _flag(flag: str, text: str) -> tuple[str, dict]:
    return flag, {"help": text, "action": "store_true"}


def _listed(names: dict[str, str]) -> str:
    return "\n".join(f"  {name:{max(map(len, names)) + 2}}{what}" for name, what in names.items())


OVERRIDES = "an override of models.build, such as shortcut=B, placement=a or bottleneck=true; repeatable"
ARITHMETIC = "arithmetic of the network; the paper's is float32 (default)"
NAME = _option("name", NETWORKS, "NAME")
SIZE = _option(
    "--size", "side of the image (default: 32 for cifar-*, 64 for tiny-preact, else 224)", "PIXELS", type=typed.integer
)
RECIPE = _option("--recipe", "one of those below (default: cifar)", "R", default="cifar")
SEED = _option("--seed", "of weights, order and augmentation (default: 0)", "S", type=typed.integer, default=0)
SET = _option("--set", OVERRIDES, "KEY=VALUE", action="append", type=typed.override, default=[])
DEVICE = _option("--device", "cpu, cuda, cuda:1, ... (default: cuda if there is one)", "D")
PRECISION = _option("--precision", ARITHMETIC, choices=PRECISIONS, default="float32")
FILES = "gets run.json, log.jsonl, a checkpoint on the way, and weights.safetensors"
TRAINING = [  # what train and sweep have in common
    _option("--data", SOURCE, "SOURCE", required=True, type=typed.place),
    _option("--out", FILES, "DIR", required=True, type=typed.folder),
    _flag("--validation", "test on a tenth of the training images and do not train on them: 45k/5k of §4.2"),
    _option("--iterations", "shorten the recipe: the learning rate drops at the same fractions of N", "N", type=typed.integer),
    _option(
        "--batch-size", "images in a batch; iterations, drops and learning rate stay the recipe's", "B", type=typed.integer
    ),
    _option("--time-limit", "stop with a checkpoint before this time has passed: 90s, 25m, 2h", "T", type=typed.seconds),
    _flag("--download", "fetch CIFAR-10 (170 MB) if it is not there"),
    DEVICE,
    PRECISION,
]
VIEWS = "of ImageNet: one view (default), ten crops (Tables 2, 3), or the whole image at five scales (Table 4)"
TESTED = (
    "folder of a finished run, resnet18|34|50|101|152 with torchvision's weights, or a net of CIFAR-10 as a .th or .pt file"
)
COMMANDS = {
    "describe": Command(
        "layers, parameters and multiply-adds of one network",
        """\
  python -m resnet_nb describe resnet50
  python -m resnet_nb describe cifar-resnet56 --set shortcut=B
  python -m resnet_nb describe cifar-preact1001 --set bottleneck=true
  python -m resnet_nb describe plain34 --size 64""",
        [NAME, SIZE, SET],
    ),
    "train": Command(
        "train one network and write the run into a folder",
        """\
  python -m resnet_nb train cifar-resnet20 --data shapes10 --recipe shapes --iterations 300 --out runs/first
  python -m resnet_nb train cifar-plain56 --data cifar10 --download --out runs/plain56 --time-limit 25m
  python -m resnet_nb train cifar-resnet110 --data cifar10 --validation --out runs/chosen --device cuda:1
  python -m resnet_nb train cifar-preact110 --set placement=a --recipe start --data shapes10 --out runs/placement-a
  torchrun --nproc-per-node=8 -m resnet_nb train resnet50 --recipe imagenet --data IMAGENET --out runs/resnet50""",
        [NAME, RECIPE, SEED, SET, *TRAINING],
        f"recipes:\n{_listed(RECIPE_LINES)}",
    ),
    "evaluate": Command(
        "test error of a finished run, or of published weights",
        """\
  python -m resnet_nb evaluate runs/first
  python -m resnet_nb evaluate runs/plain56 --data cifar10 --device cpu
  python -m resnet_nb evaluate runs/plain56 --data cifar10-sample
  python -m resnet_nb evaluate runs/resnet50 --testing 10-crop
  python -m resnet_nb evaluate resnet50 --data IMAGENET --testing multi-scale --download
  python -m resnet_nb evaluate resnet20.th --data cifar10""",
        [
            _option("what", TESTED, "DIR|NAME|FILE", type=typed.place),
            _option("--data", f"{SOURCE} (default: the run's own, of a FILE cifar10)", "SOURCE", type=typed.place),
            _option("--testing", VIEWS, choices=TESTINGS, default="center"),
            _flag("--download", "fetch torchvision's weights, or CIFAR-10, if not there"),
            DEVICE,
        ],
    ),
    "sweep": Command(
        "train a named list of networks, each in its own folder",
        """\
  python -m resnet_nb sweep shapes --data shapes10 --iterations 100 --out runs/quick
  python -m resnet_nb sweep table6 --data cifar10 --download --out runs/paper --time-limit 25m""",
        [_option("name", "one of those below", "NAME", choices=SWEEP_LINES), *TRAINING],
        f"sweeps:\n{_listed(SWEEP_LINES)}",
    ),
    "bench": Command(
        "time the usual training loop and this one, side by side",
        """\
  python -m resnet_nb bench cifar-resnet20
  python -m resnet_nb bench cifar-resnet56 --device cuda --precision bf16""",
        [_option("name", "a network of CIFAR-10: cifar-...", "NAME"), DEVICE, PRECISION],
    ),
    "record": Command(
        "copy a finished run into the package's recorded runs",
        """\
  python -m resnet_nb record runs/paper/cifar-resnet20-s0
  python -m resnet_nb record runs/paper/cifar-resnet56-s1 --log-only""",
        [
            _option("run_folder", "folder of a finished run", "DIR", type=typed.folder),
            _flag("--log-only", "leave the weights out"),
        ],
    ),
}
WELCOME = f"""{ABOUT}

To begin with (no download, no GPU; the training takes a minute or two):
  python -m resnet_nb describe resnet50
  python -m resnet_nb train cifar-resnet20 --data shapes10 --recipe shapes --iterations 300 --out runs/first
  python -m resnet_nb evaluate runs/first

Commands:
{_listed({name: command.what for name, command in COMMANDS.items()})}

Options and examples of a command: python -m resnet_nb train --help
The notebooks: make lab, or open the folder notebooks in JupyterLab. All else: README.md"""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The argument parser of `python -m resnet_nb`; it raises InputError on what it does not know."""
    raw = argparse.RawDescriptionHelpFormatter
    epilog = f"{PROG} COMMAND --help has the options of a command, and examples.\n\n{CODES}"
    top = _Parser(prog=PROG, description=ABOUT, formatter_class=raw, epilog=epilog)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        examples = f"examples:\n{command.examples}"
        epilog = f"{command.lists}\n\n{examples}\n\n{CODES}" if command.lists else examples
        words = {"help": command.what, "description": f"{command.what[0].upper()}{command.what[1:]}.", "epilog": epilog}
        sub = commands.add_parser(name, formatter_class=raw, **words)
        for flag, settings in command.options:
            sub.add_argument(flag, **settings)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Whatever goes wrong is one line on stderr."""
    started = time.monotonic()
    with outlets() as printed:
        try:
            code = _command(argv, started)
        except SystemExit as asked:  # --help and --version
            raise SystemExit(_delivered(printed, asked.code)) from None
        return _delivered(printed, code)


def _command(argv: list[str] | None, started: float) -> int:
    try:
        args = parser().parse_args(argv, argparse.Namespace(started=started))
        if args.command is None:
            print(WELCOME)
            return 0
        with shown():
            with status("loading PyTorch"), _interrupted_after():
                from resnet_nb.cli import commands  # only now: it takes seconds, and help needs none of it
            getattr(commands, f"run_{args.command}")(args)
    except InputError as error:
        return _fail(f"error: {_with_option(error)}", 2)
    except (FloatingPointError, TrainingStopped) as error:
        return _fail(f"error: training stopped: {error}", 1)
    except ReadingFailed as error:
        return _fail(f"error: {error}", 1)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        advice = "try a smaller network, or on GPUs --precision bf16 or several of them with torchrun"
        return _fail(f"error: not enough memory ({first_line(error)}); {advice}", 1)
    except OSError as error:
        return _fail(f"error: {error}", 1)
    except Interrupted as error:
        return _fail(str(error), 128 + error.signal)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


@contextmanager
def _interrupted_after() -> Iterator[None]:
    """Ctrl-C counts when this is over: some packages swallow it while they are imported, and of some half is left."""
    pressed, before = [], signal.getsignal(signal.SIGINT)
    own = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if own:
        signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    except ValueError as error:  # such as TORCH_LOGS
        raise InputError(
            f"PyTorch cannot be loaded ({first_line(error)}); is a variable of the environment for it bad?"
        ) from error
    finally:
        if own:
            signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _delivered(printed: Outlet, code: int) -> int:
    """The exit code, if what was printed has arrived; else that of other programs, as a script may need the output.

    Who ends a pipe knows it: nothing is told. What was trained is kept, and the same command prints its line again.
    """
    printed.flush()
    if code or printed.error is None:
        return code
    if isinstance(printed.error, BrokenPipeError):
        return UNREAD
    return _fail(f"error: the result cannot be printed ({first_line(printed.error)}); the same command prints it again", 1)


def _with_option(error: InputError) -> str:
    """The message with the name of the option that would help: "choose another folder (--out)"."""
    if error.setting not in OPTION_OF:
        return str(error)
    option = OPTION_OF[error.setting]
    line = str(error).replace(f"{error.setting}=True", option)  # what a notebook would write
    return line if option in line else f"{line} ({option})"


def _out_of_memory(error: Exception) -> bool:
    """Of numpy, of a GPU, or of torch's allocator on the CPU, which has no type of its own."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _fail(line: str, code: int) -> int:
    if leads():  # of several processes one talks
        print(" ".join(line.splitlines()), file=sys.stderr)  # a name of a file may have two
    return code
