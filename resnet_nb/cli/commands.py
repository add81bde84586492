"""What the commands of `python -m resnet_nb` do: each takes the parsed arguments, works and prints its result."""

import re
from argparse import Namespace
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from resnet_nb import anatomy, data, models, runs, train
from resnet_nb.bench import bench
from resnet_nb.errors import InputError, few, first_line, near, require_int
from resnet_nb.progress import note, status
from resnet_nb.recipes import SWEEPS, Augmentation, network, recipe_for
from resnet_nb.runs.folder import INFO
from resnet_nb.runs.sweep import sweep
from resnet_nb.runs.training import require_settings
from resnet_nb.train.checks import require_fit
from resnet_nb.train.evaluation import scores_of, top_k_error
from resnet_nb.train.precision import require_precision
from resnet_nb.train.world import machine, world_size


def run_describe(args: Namespace) -> None:
    size = network(args.name).side if args.size is None else args.size
    require_int("side of the image", size, 1, 1_000_000)
    with status(f"counting the layers of {args.name}"), torch.device("meta"):
        counts = anatomy.describe(models.build(args.name, **_overrides(args)), size)
    numbers = f"{counts.layers} weighted layers, {counts.params:,} parameters, {counts.multiply_adds:,} multiply-adds"
    print(f"{args.name} on {size}x{size} images: {numbers}")
    if counts.stage_sizes:
        print(f"map sizes of the stages: {', '.join(map(str, counts.stage_sizes))}")


def _overrides(args: Namespace) -> dict:
    overrides = dict(args.set)
    if len(overrides) < len(args.set):
        raise InputError("--set names one override twice; each is given once")
    return overrides


def run_train(args: Namespace) -> None:
    with train.join() as world:
        with world.refuse_together():  # what is typed is looked at before the data are read
            recipe, overrides = recipe_for(args.recipe, args.name, args.iterations, args.batch_size), _overrides(args)
            require_settings(args.seed, overrides)
            if recipe.augmentation and args.validation:
                raise InputError("--validation is for data in memory; the recipe imagenet tests on val/<class>/*")
            with status(f"building {args.name}"), torch.device("meta"):
                models.build(args.name, **overrides)
            settings = _settings(args)
            # files are listed, and their mean image is computed, by one process for all
            shared = recipe.augmentation is not None and world.size > 1
            images = [None if shared and world.rank else _training_images(args, recipe.augmentation)]
        if shared:
            torch.distributed.broadcast_object_list(images, src=0)
        last = runs.run(args.name, images[0], args.out, recipe, args.seed, overrides=overrides, world=world, **settings)
    if world.rank == 0 and last is None:
        print(f"stopped by the time limit, with a checkpoint in {args.out}; the same command continues")
    elif world.rank == 0:
        end = f"test error {last['test_error']:.2f} % after {last['iteration']:,} iterations"
        print(f"{args.name} on {args.data}, seed {args.seed}: {end}; files in {args.out}")


def run_sweep(args: Namespace) -> None:
    if world_size() > 1:
        raise InputError("a sweep is not started with torchrun: start it several times on one --out instead")
    jobs, changes = SWEEPS[args.name], {"iterations": args.iterations, "batch_size": args.batch_size}
    recipe_for(jobs[0].recipe, jobs[0].model, **changes)  # bad numbers are told before the data are read
    settings = {"report": partial(print, flush=True), **_settings(args)}
    finished = sweep(jobs, _training_images(args), args.out, **changes, **settings)
    print(f"all {len(jobs)} runs are finished" if finished else "not finished: the same command continues")


def _settings(args: Namespace) -> dict:
    """What train and sweep have in common, besides the data."""
    deadline = None if args.time_limit is None else args.started + args.time_limit
    device = _device(args.device)
    require_precision(args.precision, torch.device(device))
    return {"source": args.data, "device": device, "precision": args.precision, "deadline": deadline}


def _training_images(args: Namespace, augmentation: Augmentation | None = None) -> data.Images:
    images = _images(args.data, args.download, augmentation)
    return images.validation() if args.validation else images


def _images(source: str, download: bool = False, augmentation: Augmentation | None = None) -> data.Images:
    with status(f"reading {source}"):
        return data.load(source, download, augmentation)


def run_evaluate(args: Namespace) -> None:
    what, names = Path(args.what), models.weights.NAMES
    if args.what in names and not what.exists():
        return _evaluate_pretrained(args)
    if what.is_file() and (what.parent / INFO).is_file():
        raise InputError(f"{what} is a file of a run; evaluate its folder, {what.parent}")
    if what.is_file() or (args.what.endswith((".th", ".pt", ".pth")) and not what.exists()):
        return _evaluate_file(args)
    if not what.exists():
        raise InputError(f"{what} is not a finished run: there is no such folder{near(args.what, names)}")
    with status(f"loading {args.what}"):
        model, info, _ = runs.load_run(what)
    augmentation, trained_on, classes = runs.augmentation_of(info["recipe"]), info["data"], info["data"]["classes"]
    if augmentation is None and args.testing != "center":
        raise InputError(f"--testing {args.testing} is for runs of the recipe imagenet; {args.what} is none")
    device = _device(args.device)
    images = _images(args.data or _source_of(info, args.download), args.download, augmentation)
    if list(images.classes) != classes:
        raise InputError(f"{images.name} has the classes {few(images.classes)}; the run has {few(classes)}")
    images = _split_of(images, trained_on["fingerprint"])
    if images.fingerprint != trained_on["fingerprint"]:
        note(f"note: the run was trained on other data ({trained_on['name']})")
    require_fit(model, images)
    if augmentation is not None:
        return _print_errors(info["model"], model, images, device, args.testing)
    _print_error(info["model"], model.to(device), images.to(device))


def _source_of(info: dict, download: bool) -> str:
    """Where a run found its data; a relative place is sought from the folder in which the command is typed."""
    source, cifar = info["source"], info["source"] == "cifar10"
    place = Path("data" if cifar else source)
    if source not in ("shapes10", "cifar10-sample") and not place.is_dir() and not (cifar and download):
        fetch = ", or --download fetches them" if cifar else ""
        raise InputError(f"the run's data are not at {str(place)!r}, seen from {Path.cwd()}; --data says where{fetch}")
    return source


def _split_of(images: data.Images, fingerprint: str) -> data.Images:
    """The validation split if its fingerprint is the given one, else the images as they are."""
    if images.fingerprint != fingerprint and isinstance(images, data.Dataset):
        with suppress(InputError):  # too few images for a split
            split = images.validation()
            return split if split.fingerprint == fingerprint else images
    return images


def _evaluate_pretrained(args: Namespace) -> None:
    if args.data is None:
        raise InputError(f"{args.what} needs --data, a folder with val/<class>/* (or test/<class>/*)")
    with status(f"reading {args.data}"):
        images = data.test_files(Path(args.data), models.weights.MEAN)  # first: weights are not fetched in vain
    model = models.pretrained(args.what, args.download)
    known, there = model.fc.out_features, len(images.classes)
    if there != known:
        raise InputError(f"torchvision's weights know {known:,} classes; {args.data} has {there:,} class folders")
    if not all(re.fullmatch(r"n\d{8}", name) for name in images.classes):
        order = "torchvision's classes are in the order of their WordNet numbers"
        raise InputError(f"{order}; name the class folders so, n01440764 to n15075141")
    _print_errors(f"{args.what} (torchvision's weights)", model, images, _device(args.device), args.testing)


def _evaluate_file(args: Namespace) -> None:
    if args.testing != "center":
        raise InputError(f"--testing {args.testing} is for nets of ImageNet; the file of a net is one of CIFAR-10")
    with status(f"loading {args.what}"):
        model = models.pretrained(Path(args.what))
    device = _device(args.device)
    images = _images(args.data or "cifar10", args.download).to(device)
    if images.classes != models.weights.CIFAR10:
        raise InputError(f"{images.name} has the classes {few(images.classes)}; the net has those of CIFAR-10")
    shift = images.mean - models.weights.MEAN.to(device)[:, None, None]  # from the mean of the data to that of the net
    model.to(device).float().register_forward_pre_hook(lambda _, batch: (batch[0] + shift,))
    _print_error(args.what, model, images)


def _print_error(name: str, model: torch.nn.Module, images: data.Images) -> None:
    with train.float32_as("float32"):
        error, loss = train.evaluate(model, images)
    print(f"{name} on {images.name}: test error {error:.2f} %, loss {loss:.4f}")


def _print_errors(name: str, model: torch.nn.Module, images: data.ImageFiles, device: str, testing: str) -> None:
    with train.float32_as("float32"):
        scores = scores_of(model.to(device), images.to(device), testing)
    top = {k: top_k_error(scores, images.test_labels, k) for k in (1, min(5, len(images.classes)))}
    errors = ", ".join(f"top-{k} error {error:.2f} %" for k, error in top.items())
    print(f"{name} on {images.name}, {testing}: {errors}")


def run_bench(args: Namespace) -> None:
    device = _device(args.device)
    timings = bench(args.name, data.shapes10(train=4_000, test=10), device, args.precision)
    print(f"{args.name}, {args.precision}, {machine(device)['device']}, torch {torch.__version__}\n{timings}")


def run_record(args: Namespace) -> None:
    print(f"recorded in {runs.record(args.run_folder, weights=not args.log_only)}")


def _device(name: str | None) -> str:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
        if kind not in ("cpu", "cuda"):
            raise InputError(f"device must be cpu or cuda, got {name!r}")
        name = train.local_device(name)  # before it is tried, so that no process touches the GPU of another one
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used ({first_line(error)}); leave --device out or use cpu") from error
    return name
