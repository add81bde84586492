"""What can be typed after `python -m resnet_nb`, with its help. Imports no torch: help is there at once."""

import argparse
import json
import re
from pathlib import Path

from resnet_nb import __version__
from resnet_nb.errors import InputError
from resnet_nb.recipes import NETWORKS, PRECISIONS, RECIPE_LINES, SWEEP_LINES, TESTINGS

PROG = "python -m resnet_nb"
ABOUT = "Networks and training runs of the ResNet papers (arXiv 1512.03385, 1603.05027, 2103.15244)."
SOURCE = "shapes10, cifar10 (below ./data), or a folder with train/<class>/* and test/<class>/* (or val/ for imagenet)"
COMMANDS = {
    "describe": "layers, parameters and multiply-adds of one network",
    "train": "train one network and write the run into a folder",
    "evaluate": "test error of a finished run, or of torchvision's weights",
    "sweep": "train a named list of networks, each in its own folder",
    "bench": "time the usual training loop and this one, side by side",
    "record": "copy a finished run into the package's recorded runs",
}
EXAMPLES = {
    "describe": """
  python -m resnet_nb describe resnet50
  python -m resnet_nb describe cifar-resnet56 --set shortcut=B
  python -m resnet_nb describe cifar-preact1001 --set bottleneck=true
  python -m resnet_nb describe plain34 --size 64""",
    "train": """
  python -m resnet_nb train cifar-resnet20 --data shapes10 --recipe shapes --iterations 300 --out runs/first
  python -m resnet_nb train cifar-plain56 --data cifar10 --download --out runs/plain56 --time-limit 25m
  python -m resnet_nb train cifar-resnet110 --data cifar10 --validation --out runs/chosen --device cuda:1
  python -m resnet_nb train cifar-preact110 --set placement=a --recipe start --data shapes10 --out runs/placement-a
  torchrun --nproc-per-node=8 -m resnet_nb train resnet50 --recipe imagenet --data IMAGENET --out runs/resnet50""",
    "evaluate": """
  python -m resnet_nb evaluate runs/first
  python -m resnet_nb evaluate runs/plain56 --data cifar10 --device cpu
  python -m resnet_nb evaluate runs/resnet50 --testing 10-crop
  python -m resnet_nb evaluate resnet50 --data IMAGENET --testing multi-scale --download""",
    "sweep": """
  python -m resnet_nb sweep shapes --data shapes10 --iterations 100 --out runs/quick
  python -m resnet_nb sweep table6 --data cifar10 --download --out runs/paper --time-limit 25m""",
    "bench": """
  python -m resnet_nb bench cifar-resnet20
  python -m resnet_nb bench cifar-resnet56 --device cuda --precision bf16""",
    "record": """
  python -m resnet_nb record runs/paper/cifar-resnet20-s0
  python -m resnet_nb record runs/paper/cifar-resnet56-s1 --log-only""",
}
CODES = """The same train or sweep command again continues where it stopped.
Exit codes: 0 done or stopped by the time limit, 1 the training failed, 2 bad input,
130 Ctrl-C, 143 SIGTERM (both after a checkpoint)."""


def _listed(names: dict[str, str]) -> str:
    return "\n".join(f"  {name:{max(map(len, names)) + 2}}{what}" for name, what in names.items())


WELCOME = f"""{ABOUT}

To begin with (no download, no GPU; the training takes a minute or two):
  python -m resnet_nb describe resnet50
  python -m resnet_nb train cifar-resnet20 --data shapes10 --recipe shapes --iterations 300 --out runs/first
  python -m resnet_nb evaluate runs/first

Commands:
{_listed(COMMANDS)}

Options and examples of a command: python -m resnet_nb train --help
The notebooks: make lab, or open the folder notebooks in JupyterLab. All else: README.md"""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The argument parser of `python -m resnet_nb`; it raises InputError on what it does not know."""
    raw = argparse.RawDescriptionHelpFormatter
    top = _Parser(
        prog=PROG,
        description=ABOUT,
        formatter_class=raw,
        epilog=f"{PROG} COMMAND --help has the options of a command, and examples.\n\n{CODES}",
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    lists = {"train": f"recipes:\n{_listed(RECIPE_LINES)}\n\n", "sweep": f"sweeps:\n{_listed(SWEEP_LINES)}\n\n"}
    for name, what in COMMANDS.items():
        epilog = f"{lists.get(name, '')}examples:{EXAMPLES[name]}" + f"\n\n{CODES}" * (name in lists)
        sub = commands.add_parser(
            name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=epilog, formatter_class=raw
        )
        OPTIONS[name](sub)
    return top


def _describe(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME", help=NETWORKS)
    sub.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of the image (default: 32 for cifar-*, 64 for tiny-preact, else 224)"
    )
    _overrides(sub)


def _train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME", help=NETWORKS)
    sub.add_argument("--recipe", default="cifar", metavar="R", help="one of those below (default: cifar)")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of weights, order and augmentation (default: 0)")
    _overrides(sub)
    _training(sub)


def _evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "what", metavar="DIR|NAME", help="folder of a finished run, or resnet18|34|50|101|152 with torchvision's weights"
    )
    sub.add_argument("--data", metavar="SOURCE", help=f"{SOURCE} (default: the run's own)")
    sub.add_argument(
        "--testing",
        choices=TESTINGS,
        default="center",
        help="of ImageNet: one view (default), ten crops (Tables 2, 3), or the whole image at five scales (Table 4)",
    )
    sub.add_argument("--download", action="store_true", help="fetch torchvision's weights if they are not there")
    _device(sub)


def _sweep(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME", choices=SWEEP_LINES, help="one of those below")
    _training(sub)


def _bench(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME", help="a network of CIFAR-10: cifar-...")
    _device(sub)
    _precision(sub)


def _record(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run_folder", type=Path, metavar="DIR", help="folder of a finished run")
    sub.add_argument("--log-only", action="store_true", help="leave the weights out")


OPTIONS = {"describe": _describe, "train": _train, "evaluate": _evaluate, "sweep": _sweep, "bench": _bench, "record": _record}


def _overrides(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--set",
        action="append",
        type=_override,
        default=[],
        metavar="KEY=VALUE",
        help="an override of models.build, such as shortcut=B, placement=a or bottleneck=true; repeatable",
    )


def _override(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"an override is KEY=VALUE, for example shortcut=B, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _training(sub: argparse.ArgumentParser) -> None:
    """What train and sweep have in common."""
    sub.add_argument("--data", required=True, metavar="SOURCE", help=SOURCE)
    sub.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="gets run.json, log.jsonl, a checkpoint on the way, and weights.safetensors",
    )
    sub.add_argument(
        "--validation",
        action="store_true",
        help="test on a tenth of the training images and do not train on them: 45k/5k of §4.2",
    )
    sub.add_argument(
        "--iterations", type=int, metavar="N", help="shorten the recipe: the learning rate drops at the same fractions of N"
    )
    sub.add_argument(
        "--time-limit", type=_seconds, metavar="T", help="stop with a checkpoint before this time has passed: 90s, 25m, 2h"
    )
    sub.add_argument("--download", action="store_true", help="fetch CIFAR-10 (170 MB) if it is not there")
    _device(sub)
    _precision(sub)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"a time is a number with s, m or h (90s, 25m, 2h), got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def _precision(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="arithmetic of the network; the paper's is float32 (default)"
    )
