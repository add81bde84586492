"""The commands of `python -m resnet_nb`: each takes the parsed arguments, works and prints its result."""

import os
import re
from functools import partial
from pathlib import Path

import torch

from resnet_nb import anatomy, data, models, train
from resnet_nb.bench import bench
from resnet_nb.errors import InputError, first_line
from resnet_nb.progress import note, status
from resnet_nb.recipes import SWEEPS
from resnet_nb.runs import augmentation_of, folder, training
from resnet_nb.runs.sweep import sweep
from resnet_nb.train.evaluation import scores_of, top_k_error


def _train(args) -> None:
    recipe = train.recipe_for(args.recipe, args.name, args.iterations)
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed must be from 0 to 2**63 - 1, got {args.seed}")
    overrides = _overrides(args)
    with status(f"building {args.name}"), torch.device("meta"):
        models.build(args.name, **overrides)  # a wrong name is told before the data are read
    with train.join() as world:
        with world.agreed():
            settings = _training_settings(args, recipe.augmentation)
        last = training.run(
            args.name, recipe=recipe, seed=args.seed, overrides=overrides, world=world, out=args.out, **settings
        )
        if world.rank == 0 and last is None:
            print(f"stopped by the time limit, with a checkpoint in {args.out}; the same command continues")
        elif world.rank == 0:
            print(
                f"{args.name} on {args.data}, seed {args.seed}: test error {last['test_error']:.2f} % "
                f"after {last['iteration']:,} iterations; files in {args.out}"
            )


def _sweep(args) -> None:
    if "WORLD_SIZE" in os.environ:
        raise InputError("a sweep is not started with torchrun: start it several times on one --out instead")
    jobs = SWEEPS[args.name]
    finished = sweep(
        jobs, out=args.out, iterations=args.iterations, report=partial(print, flush=True), **_training_settings(args)
    )
    print(f"all {len(jobs)} runs are finished" if finished else "not finished: the same command continues")


def _training_settings(args, augmentation: data.Augmentation | None = None) -> dict:
    if augmentation is not None and args.validation:
        raise InputError("--validation is for data in memory; the recipe imagenet tests on val/<class>/*")
    device = _device(args.device)
    deadline = None if args.time_limit is None else args.started + args.time_limit
    dataset = _load(args.data, args.download, augmentation)
    return {
        "data": dataset.validation() if args.validation else dataset,
        "source": args.data,
        "device": device,
        "precision": args.precision,
        "deadline": deadline,
    }


def _load(source: str, download: bool = False, augmentation: data.Augmentation | None = None) -> data.Dataset | data.ImageFiles:
    with status(f"reading {source}"):
        return data.load(source, download, augmentation=augmentation)


def _overrides(args) -> dict:
    overrides = dict(args.set)
    if len(overrides) < len(args.set):
        raise InputError("--set names one override twice; each is given once")
    return overrides


def _evaluate(args) -> None:
    if args.what in models.weights.NAMES and not Path(args.what).exists():
        _evaluate_pretrained(args)
        return
    if args.download:
        raise InputError(f"--download fetches torchvision's weights; {args.what} is the folder of a run: leave it out")
    with status(f"loading {args.what}"):
        model, info, _ = folder.load_run(Path(args.what))
    augmentation = augmentation_of(info["recipe"])
    if augmentation is None and args.testing != "center":
        raise InputError(f"--testing {args.testing} is for runs of the recipe imagenet; {args.what} is none")
    device = _device(args.device)
    dataset = _load(args.data or info["source"], augmentation=augmentation)
    if info["data"]["name"] == f"{dataset.name}-validation":
        dataset = dataset.validation()
    if list(dataset.classes) != (classes := info["data"]["classes"]):
        raise InputError(f"{dataset.name} has the classes {', '.join(dataset.classes)}; the run has {', '.join(classes)}")
    if dataset.fingerprint != info["data"]["fingerprint"]:
        note(f"note: the run was trained on other data ({info['data']['name']})")
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
    with status(f"reading {args.data}"):
        dataset = data.test_files(Path(args.data), models.weights.MEAN)
    if len(dataset.classes) != model.fc.out_features:
        raise InputError(
            f"torchvision's weights know {model.fc.out_features:,} classes; {args.data} has "
            f"{len(dataset.classes):,} class folders"
        )
    if not all(re.fullmatch(r"n\d{8}", name) for name in dataset.classes):
        raise InputError(
            "torchvision's classes are in the order of their WordNet numbers; name the class folders so, n01440764 to n15075141"
        )
    _print_errors(f"{args.what} (torchvision's weights)", model, dataset, _device(args.device), args.testing)


def _print_errors(name: str, model, dataset: data.ImageFiles, device: str, testing: str) -> None:
    with train.float32_as("float32"):
        scores = scores_of(model.to(device), dataset.to(device), testing)
    top = {k: top_k_error(scores, dataset.test_labels, k) for k in (1, min(5, len(dataset.classes)))}
    errors = ", ".join(f"top-{k} error {error:.2f} %" for k, error in top.items())
    print(f"{name} on {dataset.name}, {testing}: {errors}")


def _bench(args) -> None:
    device = _device(args.device)
    found = bench(args.name, data.shapes10(train=4_000, test=10), device, args.precision)
    print(f"{args.name}, {args.precision}, {train.world.machine(device)['device']}, torch {torch.__version__}\n{found}")


def _record(args) -> None:
    from resnet_nb import runs  # here, so that the other commands do not pay for pandas

    print(f"recorded in {runs.record(args.run_folder, weights=not args.log_only)}")


def _describe(args) -> None:
    usual = 32 if args.name.startswith("cifar-") else 64 if args.name == "tiny-preact" else 224
    size = usual if args.size is None else args.size
    with status(f"counting the layers of {args.name}"), torch.device("meta"):
        found = anatomy.describe(models.build(args.name, **_overrides(args)), size)
    print(
        f"{args.name} on {size}x{size} images: {found.layers} weighted layers, {found.params:,} parameters, "
        f"{found.multiply_adds:,} multiply-adds"
    )
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


COMMANDS = {"describe": _describe, "train": _train, "evaluate": _evaluate, "sweep": _sweep, "bench": _bench, "record": _record}
