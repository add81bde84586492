"""The command line: python -m resnet_nb train | evaluate | describe."""

import argparse
import sys
from pathlib import Path

import torch

from resnet_nb import __version__, anatomy, data, models, train
from resnet_nb.errors import InputError

EXAMPLES = """examples:
  python -m resnet_nb train cifar-resnet20 --data shapes10 --iterations 300 --out runs/first
  python -m resnet_nb train cifar-plain56 --data cifar10 --download --out runs/plain56
  python -m resnet_nb evaluate runs/first
  python -m resnet_nb describe resnet50

Exit codes: 0 done, 1 the training failed, 2 bad input, 130 interrupted."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The argument parser of `python -m resnet_nb`."""
    top = _Parser(prog="python -m resnet_nb", epilog=EXAMPLES,
                  description="Networks and training runs of the ResNet paper (arXiv 1512.03385).",
                  formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    source = "shapes10, cifar10 (below ./data), or a folder with train/<class>/* and test/<class>/*"

    sub = commands.add_parser("train", help="train one network and write the run into a folder")
    sub.add_argument("name", metavar="NAME", help=models.NAMES)
    sub.add_argument("--data", required=True, metavar="SOURCE", help=source)
    sub.add_argument("--out", required=True, type=Path, metavar="DIR",
                     help="gets run.json, log.jsonl and weights.safetensors")
    sub.add_argument("--recipe", default="cifar", help=f"one of {', '.join(train.RECIPES)} (default: cifar)")
    sub.add_argument("--iterations", type=int, metavar="N",
                     help="shorten the recipe: the learning rate drops at the same fractions of N")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of weights, order and augmentation (default: 0)")
    sub.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    sub.add_argument("--download", action="store_true", help="fetch CIFAR-10 (170 MB) if it is not there")
    sub.set_defaults(run=_train)

    sub = commands.add_parser("evaluate", help="test error of a finished run")
    sub.add_argument("run_folder", type=Path, metavar="DIR")
    sub.add_argument("--data", metavar="SOURCE", help=f"{source} (default: the run's own)")
    sub.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    sub.set_defaults(run=_evaluate)

    sub = commands.add_parser("describe", help="layers, parameters and multiply-adds of one network")
    sub.add_argument("name", metavar="NAME", help=models.NAMES)
    sub.add_argument("--size", type=int, metavar="PIXELS", help="side of the image (default: 32 for cifar-*, else 224)")
    sub.set_defaults(run=_describe)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2 and one line on stderr for bad input)."""
    top = parser()
    try:
        args = top.parse_args(argv)
        if args.command is None:
            top.print_help()
            return 0
        args.run(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"error: training stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _train(args) -> None:
    if args.recipe not in train.RECIPES:
        raise InputError(f"unknown recipe {args.recipe!r}; allowed: {', '.join(train.RECIPES)}")
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed must be from 0 to 2**63 - 1, got {args.seed}")
    recipe = train.RECIPES[args.recipe]
    if args.iterations is not None:
        recipe = recipe.shortened(args.iterations)
    device = _device(args.device)
    with torch.device("meta"):
        models.build(args.name)  # a wrong name is told before the data are read
    dataset = data.load(args.data, download=args.download, progress=True)
    last = train.run(args.name, dataset, args.out, recipe, args.seed, device, source=args.data, progress=True)
    print(f"{args.name} on {dataset.name}, seed {args.seed}: test error {last['test_error']:.2f} % "
          f"after {last['iteration']:,} iterations; files in {args.out}")


def _evaluate(args) -> None:
    model, info, _ = train.load_run(args.run_folder)
    device = _device(args.device)
    dataset = data.load(args.data or info["source"], progress=True)
    if list(dataset.classes) != (classes := info["data"]["classes"]):
        raise InputError(f"{dataset.name} has the classes {', '.join(dataset.classes)}; the run has {', '.join(classes)}")
    if dataset.fingerprint != info["data"]["fingerprint"]:
        print(f"note: the run was trained on other data ({info['data']['name']})", file=sys.stderr)
    error, loss = train.evaluate(model.to(device), dataset.to(device))
    print(f"{info['model']} on {dataset.name}: test error {error:.2f} %, loss {loss:.4f}")


def _describe(args) -> None:
    size = args.size if args.size is not None else (32 if args.name.startswith("cifar-") else 224)
    with torch.device("meta"):
        found = anatomy.describe(models.build(args.name), size)
    print(f"{args.name} on {size}x{size} images: {found.layers} weighted layers, {found.params:,} parameters, "
          f"{found.multiply_adds:,} multiply-adds")
    if found.stage_sizes:
        print(f"map sizes of the stages: {', '.join(map(str, found.stage_sizes))}")


def _device(name: str | None) -> str:
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); leave --device out or use cpu") from error
    return name
