"""The command line: python -m resnet_nb train | sweep | evaluate | bench | describe | record."""

import argparse
import json
import os
import re
import sys
import time
from functools import partial
from pathlib import Path

import torch

from resnet_nb import __version__, anatomy, data, models, train
from resnet_nb.errors import InputError, Interrupted, TrainingStopped, first_line
from resnet_nb.train.bench import bench
from resnet_nb.train.sweep import SWEEPS, sweep
from resnet_nb.train.testing import TESTINGS, scores_of, top_k_error

EXAMPLES = """examples:
  python -m resnet_nb train cifar-resnet20 --data shapes10 --iterations 300 --out runs/first
  python -m resnet_nb train cifar-plain56 --data cifar10 --download --out runs/plain56
  python -m resnet_nb sweep table6 --data cifar10 --out runs/table6 --time-limit 25m
  python -m resnet_nb evaluate runs/first
  python -m resnet_nb train resnet50 --recipe imagenet --data IMAGENET --out runs/resnet50
  python -m resnet_nb evaluate resnet50 --data IMAGENET --testing 10-crop --download
  python -m resnet_nb bench cifar-resnet20
  python -m resnet_nb describe resnet50
  python -m resnet_nb record runs/table6/cifar-resnet20-s0

The same train or sweep command again continues where it stopped.
Exit codes: 0 done or stopped by the time limit, 1 the training failed, 2 bad input,
130 Ctrl-C, 143 SIGTERM (both after a checkpoint)."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The argument parser of `python -m resnet_nb`."""
    top = _Parser(prog="python -m resnet_nb", epilog=EXAMPLES,
                  description="Networks and training runs of the ResNet papers (arXiv 1512.03385, 1603.05027, 2103.15244).",
                  formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    source = "shapes10, cifar10 (below ./data), or a folder with train/<class>/* and test/<class>/* (or val/ for imagenet)"

    sub = commands.add_parser("train", help="train one network and write the run into a folder")
    sub.add_argument("name", metavar="NAME", help=models.NAMES)
    sub.add_argument("--recipe", default="cifar", help=f"one of {', '.join(train.RECIPES)} (default: cifar)")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of weights, order and augmentation (default: 0)")
    _overrides(sub)
    _training_options(sub, source)
    sub.set_defaults(run=_train)

    sub = commands.add_parser("sweep", help="train a named list of networks, each in its own folder")
    sub.add_argument("name", metavar="NAME", choices=SWEEPS, help=f"one of {', '.join(SWEEPS)}")
    _training_options(sub, source)
    sub.set_defaults(run=_sweep)

    sub = commands.add_parser("evaluate", help="test error of a finished run, or of torchvision's weights")
    sub.add_argument("what", metavar="DIR|NAME", help=f"folder of a run, or {'|'.join(models.weights.NAMES)} with torchvision's weights")
    sub.add_argument("--data", metavar="SOURCE", help=f"{source} (default: the run's own)")
    sub.add_argument("--testing", choices=TESTINGS, default="center",
                     help="of ImageNet: one view (default), ten crops (Tables 2, 3), or the whole image at five scales (Table 4)")
    sub.add_argument("--download", action="store_true", help="fetch torchvision's weights if they are not there")
    sub.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    sub.set_defaults(run=_evaluate)

    sub = commands.add_parser("bench", help="time the usual training loop and this one, side by side")
    sub.add_argument("name", metavar="NAME", help="a network of CIFAR-10: cifar-...")
    _device_options(sub)
    sub.set_defaults(run=_bench)

    sub = commands.add_parser("record", help="copy a finished run into the package's recorded runs")
    sub.add_argument("run_folder", type=Path, metavar="DIR")
    sub.add_argument("--log-only", action="store_true", help="leave the weights out")
    sub.set_defaults(run=_record)

    sub = commands.add_parser("describe", help="layers, parameters and multiply-adds of one network")
    sub.add_argument("name", metavar="NAME", help=models.NAMES)
    sub.add_argument("--size", type=int, metavar="PIXELS",
                     help="side of the image (default: 32 for cifar-*, 64 for tiny-preact, else 224)")
    _overrides(sub)
    sub.set_defaults(run=_describe)
    return top


def _overrides(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--set", action="append", type=_override, default=[], metavar="KEY=VALUE",
                     help="an override of models.build, such as shortcut=B, placement=a or bottleneck=true; repeatable")


def _override(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"an override is KEY=VALUE, for example shortcut=B, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _overridden(args) -> dict:
    overrides = dict(args.set)
    if len(overrides) < len(args.set):
        raise InputError("--set names one override twice; each is given once")
    return overrides


def _training_options(sub: argparse.ArgumentParser, source: str) -> None:
    """What train and sweep have in common."""
    sub.add_argument("--data", required=True, metavar="SOURCE", help=source)
    sub.add_argument("--out", required=True, type=Path, metavar="DIR",
                     help="gets run.json, log.jsonl, a checkpoint on the way, and weights.safetensors")
    sub.add_argument("--validation", action="store_true",
                     help="test on a tenth of the training images and do not train on them: 45k/5k of §4.2")
    sub.add_argument("--iterations", type=int, metavar="N",
                     help="shorten the recipe: the learning rate drops at the same fractions of N")
    sub.add_argument("--time-limit", type=_seconds, metavar="T",
                     help="stop with a checkpoint before this time has passed: 90s, 25m, 2h")
    sub.add_argument("--download", action="store_true", help="fetch CIFAR-10 (170 MB) if it is not there")
    _device_options(sub)


def _device_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    sub.add_argument("--precision", choices=train.PRECISIONS, default="float32",
                     help="arithmetic of the network; the paper's is float32 (default)")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Whatever goes wrong is one line on stderr."""
    started = time.monotonic()
    top = parser()
    try:
        args = top.parse_args(argv, argparse.Namespace(started=started))
        if args.command is None:
            top.print_help()
            return 0
        args.run(args)
    except InputError as error:
        return _fail(f"error: {error}", 2)
    except (FloatingPointError, TrainingStopped) as error:
        return _fail(f"error: training stopped: {error}", 1)
    except torch.OutOfMemoryError as error:
        return _fail(f"error: the device has not enough memory ({first_line(error)}); "
                     "try --precision bf16, several GPUs with torchrun, or a smaller network", 1)
    except OSError as error:
        return _fail(f"error: {error}", 1)
    except Interrupted as error:
        return _fail(str(error), 128 + error.signal)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def _train(args) -> None:
    recipe = train.recipe_for(args.recipe, args.name, args.iterations)
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed must be from 0 to 2**63 - 1, got {args.seed}")
    overrides = _overridden(args)
    with torch.device("meta"):
        models.build(args.name, **overrides)  # a wrong name is told before the data are read
    with train.join() as world:
        with world.agreed():
            settings = _training_settings(args, recipe.augmentation)
        last = train.run(args.name, recipe=recipe, seed=args.seed, overrides=overrides, world=world,
                         out=args.out, **settings)
        if world.rank == 0 and last is None:
            print(f"stopped by the time limit, with a checkpoint in {args.out}; the same command continues")
        elif world.rank == 0:
            print(f"{args.name} on {args.data}, seed {args.seed}: test error {last['test_error']:.2f} % "
                  f"after {last['iteration']:,} iterations; files in {args.out}")


def _sweep(args) -> None:
    if "WORLD_SIZE" in os.environ:
        raise InputError("a sweep is not started with torchrun: start it several times on one --out instead")
    jobs = SWEEPS[args.name]
    finished = sweep(jobs, out=args.out, iterations=args.iterations, report=partial(print, flush=True),
                     **_training_settings(args))
    print(f"all {len(jobs)} runs are finished" if finished else "not finished: the same command continues")


def _training_settings(args, augmentation: data.Augmentation | None = None) -> dict:
    if augmentation is not None and args.validation:
        raise InputError("--validation is for data in memory; the recipe imagenet tests on val/<class>/*")
    device = _device(args.device)
    deadline = None if args.time_limit is None else args.started + args.time_limit
    dataset = data.load(args.data, args.download, os.environ.get("RANK", "0") == "0", augmentation)
    return {"data": dataset.validation() if args.validation else dataset, "source": args.data, "device": device,
            "precision": args.precision, "deadline": deadline, "progress": True}


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"a time is a number with s, m or h (90s, 25m, 2h), got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _fail(line: str, code: int) -> int:
    if os.environ.get("RANK", "0") == "0":  # of several processes one talks
        print(line, file=sys.stderr)
    return code


def _evaluate(args) -> None:
    if args.what in models.weights.NAMES and not Path(args.what).exists():
        _evaluate_pretrained(args)
        return
    model, info, _ = train.load_run(Path(args.what))
    augmentation = train.augmentation_of(info["recipe"])
    if augmentation is None and args.testing != "center":
        raise InputError(f"--testing {args.testing} is for runs of the recipe imagenet; {args.what} is none")
    device = _device(args.device)
    dataset = data.load(args.data or info["source"], False, True, augmentation)
    if info["data"]["name"] == f"{dataset.name}-validation":
        dataset = dataset.validation()
    if list(dataset.classes) != (classes := info["data"]["classes"]):
        raise InputError(f"{dataset.name} has the classes {', '.join(dataset.classes)}; the run has {', '.join(classes)}")
    if dataset.fingerprint != info["data"]["fingerprint"]:
        print(f"note: the run was trained on other data ({info['data']['name']})", file=sys.stderr)
    if isinstance(dataset, data.ImageFiles):
        _print_errors(info["model"], model, dataset, device, args.testing)
        return
    with train.float32_as("float32"):
        error, loss = train.evaluate(model.to(device), dataset.to(device))
    print(f"{info['model']} on {dataset.name}: test error {error:.2f} %, loss {loss:.4f}")


def _evaluate_pretrained(args) -> None:
    if args.data is None:
        raise InputError(f"{args.what} needs --data, a folder with val/<class>/* (or test/<class>/*)")
    model = models.pretrained(args.what, args.download)
    dataset = data.test_files(Path(args.data), models.weights.MEAN)
    if len(dataset.classes) != model.fc.out_features:
        raise InputError(f"torchvision's weights know {model.fc.out_features:,} classes; {args.data} has "
                         f"{len(dataset.classes):,} class folders")
    if not all(re.fullmatch(r"n\d{8}", name) for name in dataset.classes):
        raise InputError("torchvision's classes are in the order of their WordNet numbers; name the class folders so, "
                         "n01440764 to n15075141")
    _print_errors(f"{args.what} (torchvision's weights)", model, dataset, _device(args.device), args.testing)


def _print_errors(name: str, model, dataset: data.ImageFiles, device: str, testing: str) -> None:
    with train.float32_as("float32"):
        scores = scores_of(model.to(device), dataset.to(device), testing, progress=True)
    top = {k: top_k_error(scores, dataset.test_labels, k) for k in (1, min(5, len(dataset.classes)))}
    print(f"{name} on {dataset.name}, {testing}: " + ", ".join(f"top-{k} error {error:.2f} %" for k, error in top.items()))


def _bench(args) -> None:
    device = _device(args.device)
    found = bench(args.name, data.shapes10(train=4_000, test=10), device, args.precision)
    print(f"{args.name}, {args.precision}, {train.machine(device)['device']}, torch {torch.__version__}\n{found}")


def _record(args) -> None:
    from resnet_nb import runs  # here, so that the other commands do not pay for pandas

    print(f"recorded in {runs.record(args.run_folder, weights=not args.log_only)}")


def _describe(args) -> None:
    usual = 32 if args.name.startswith("cifar-") else 64 if args.name == "tiny-preact" else 224
    size = usual if args.size is None else args.size
    with torch.device("meta"):
        found = anatomy.describe(models.build(args.name, **_overridden(args)), size)
    print(f"{args.name} on {size}x{size} images: {found.layers} weighted layers, {found.params:,} parameters, "
          f"{found.multiply_adds:,} multiply-adds")
    if found.stage_sizes:
        print(f"map sizes of the stages: {', '.join(map(str, found.stage_sizes))}")


def _device(name: str | None) -> str:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        name = train.local_device(name)  # first, so that no process touches the GPU of another one
        torch.zeros(1, device=name).item()
        kind = torch.device(name).type
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used ({first_line(error)}); leave --device out or use cpu") from error
    if kind not in ("cpu", "cuda"):
        raise InputError(f"device must be cpu or cuda, got {name!r}")
    return name
