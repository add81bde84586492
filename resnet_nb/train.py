"""The CIFAR-10 training of arXiv 1512.03385, §4.2: recipe, loop, evaluation and the files of a run."""

import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from resnet_nb import __version__, models
from resnet_nb.data import Dataset, Stream
from resnet_nb.errors import InputError
from resnet_nb.files import write_atomically


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the paper's for CIFAR-10 (§4.2).

    An iteration is one batch and one step. The learning rate is divided by 10 at each of `drops`.
    Weight decay applies to every parameter, BN included.
    """

    iterations: int = 64_000
    batch_size: int = 128
    lr: float = 0.1
    drops: tuple[int, ...] = (32_000, 48_000)
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def learning_rate(self, iteration: int) -> float:
        """Learning rate of one iteration, counted from 0."""
        return self.lr / 10 ** sum(iteration >= drop for drop in self.drops)

    def shortened(self, iterations: int) -> "Recipe":
        """The same recipe with `iterations` steps and the drops at the same fractions of it.

        Raises InputError if `iterations` is not a positive integer.
        """
        if type(iterations) is not int or iterations < 1:
            raise InputError(f"iterations must be a positive integer, got {iterations!r}")
        drops = tuple(math.ceil(drop * iterations / self.iterations) for drop in self.drops)
        return replace(self, iterations=iterations, drops=drops)


RECIPES = {
    "cifar": Recipe(),
    # about a minute for a pair of nets on two CPU cores; tests/seeds_degradation.py shows what it can promise
    "live": Recipe(iterations=100, batch_size=32, lr=0.05, drops=()),
}


def evaluate(model: nn.Module, data: Dataset, batch_size: int = 500) -> tuple[float, float]:
    """Test error in percent and mean cross-entropy, single view of every image, BN in eval mode.

    Every image counts once, whatever the batch size. The model's mode is put back.
    """
    was_training = model.training
    model.eval()
    wrong = torch.zeros((), dtype=torch.int64, device=data.test_images.device)
    loss = torch.zeros((), dtype=torch.float64, device=data.test_images.device)
    try:
        with torch.no_grad():
            for images, labels in zip(data.test_images.split(batch_size), data.test_labels.split(batch_size)):
                logits = model(data.center(images))
                wrong += (logits.argmax(1) != labels).sum()
                loss += F.cross_entropy(logits, labels, reduction="sum")
    finally:
        model.train(was_training)
    count = len(data.test_labels)
    return 100 * wrong.item() / count, loss.item() / count


def fit(model: nn.Module, data: Dataset, recipe: Recipe, seed: int = 0, every: int | None = None,
        report: Callable[[dict], None] | None = None, step: Callable[[], object] | None = None) -> list[dict]:
    """Train `model` in place on the device of `data`; returns the log, one dict per `every` iterations.

    A line holds `iteration` (steps done), `lr`, `train_loss` and `train_error` (percent; means over
    the batches since the last line, augmentation on, as in Fig. 6) and `test_error`, `test_loss`.
    every: iterations between lines; by default a hundredth of the run, but not before twice as many
    images were trained on as an evaluation reads. report gets each line when it is made; step is
    called after each iteration. seed sets order and augmentation; the weights are the model's own.
    Raises FloatingPointError if the mean loss of a line is not finite.
    """
    device = data.train_images.device
    model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum,
                                weight_decay=recipe.weight_decay)
    stream = Stream(data, recipe.batch_size, seed)
    every = every or max(recipe.iterations // 100, math.ceil(2 * len(data.test_labels) / recipe.batch_size))
    log, done = [], 0
    # sums stay on the device: reading them each step would make the device wait
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    for iteration in range(recipe.iterations):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(iteration)
        sums += training_step(model, optimizer, *stream.batch(iteration))
        if step is not None:
            step()
        if (iteration + 1) % every == 0 or iteration + 1 == recipe.iterations:
            loss, wrong = (sums / (iteration + 1 - done)).tolist()
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} between iterations {done} and {iteration + 1}; "
                                         f"learning rate {recipe.learning_rate(iteration):g} may be too high")
            test_error, test_loss = evaluate(model, data)
            log.append({"iteration": iteration + 1, "lr": recipe.learning_rate(iteration), "train_loss": loss,
                        "train_error": 100 * wrong, "test_error": test_error, "test_loss": test_loss})
            if report is not None:
                report(log[-1])
            sums.zero_()
            done = iteration + 1
    return log


def training_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    """One step of SGD; returns the batch's mean loss and share of wrong answers, float64 (2,), still on the device."""
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        wrong = (logits.argmax(1) != labels).double().mean()
        return torch.stack([loss.double(), wrong])


def run(name: str, data: Dataset, out: Path, recipe: Recipe, seed: int = 0, device: str = "cpu",
        source: str = "", progress: bool = False) -> dict:
    """Train the network called `name` and write the run into the folder `out`; returns its last log line.

    Writes run.json (model, recipe, seed, data fingerprint, versions, device, wall time), log.jsonl
    (one line per evaluation) and, when finished, weights.safetensors. source says where the data
    came from (default: the name of the data); `python -m resnet_nb evaluate` looks there. A finished
    run of the same settings is left alone. Raises InputError if `out` holds any other run or cannot
    be written.
    """
    settings = {
        "model": name, "recipe": asdict(recipe), "seed": seed,
        "data": {"name": data.name, "fingerprint": data.fingerprint, "classes": data.classes,
                 "train": len(data.train_labels), "test": len(data.test_labels)},
    }
    settings = json.loads(json.dumps(settings))  # tuples become lists, as in the file
    finished = _existing(out, settings)
    if finished is not None:
        return finished
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise InputError(f"seed must be an integer from 0 to 2**63 - 1, got {seed}")
    torch.manual_seed(seed)
    model = models.build(name, num_classes=len(data.classes))
    Stream(data, recipe.batch_size, seed)  # a bad batch size is told before anything is written
    with torch.no_grad():
        model.eval()(data.center(data.test_images[:1]))  # and so are images that are too small
    info = {**settings, "source": source or data.name, "device": _device_name(device), "versions": {
        "resnet_nb": __version__, "torch": torch.__version__, "python": platform.python_version()}}
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_json(out / "run.json", info)
        log_file = open(out / "log.jsonl", "w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another --out") from error

    def report(line: dict) -> None:
        log_file.write(json.dumps(line) + "\n")
        log_file.flush()
        bar.set_postfix_str(f"train error {line['train_error']:.1f} %, test error {line['test_error']:.1f} %")

    started = time.perf_counter()
    with log_file, tqdm(total=recipe.iterations, desc=name, unit=" it", disable=not progress) as bar:
        log = fit(model, data.to(device), recipe, seed, report=report, step=bar.update)
    weights = {key: value.contiguous().cpu() for key, value in model.state_dict().items()}
    write_atomically(out / "weights.safetensors", save(weights))
    _write_json(out / "run.json", {**info, "wall_seconds": round(time.perf_counter() - started, 1)})
    return log[-1]


def load_run(out: Path) -> tuple[nn.Module, dict, list[dict]]:
    """Network with its trained weights, run.json and the log of a finished run.

    Raises InputError if the folder does not hold a finished run.
    """
    for name in ("run.json", "log.jsonl", "weights.safetensors"):
        if not (out / name).is_file():
            raise InputError(f"{out} is not a finished run: {name} is missing")
    info = _read_json(out / "run.json")
    try:
        log = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        weights = load_file(out / "weights.safetensors")
        model = models.build(info["model"], num_classes=len(info["data"]["classes"]))
        model.load_state_dict(weights)
        if not log:
            raise ValueError("log.jsonl is empty")
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{out} is damaged ({str(error).splitlines()[0]}); delete it and train again") from error
    return model.eval(), info, log


def _existing(out: Path, settings: dict) -> dict | None:
    """Last log line of the finished run in `out`, None if the folder is free; anything else is refused."""
    if not (out / "run.json").exists():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} is not empty and holds no run; choose another --out")
        return None
    info = _read_json(out / "run.json")
    for key, value in settings.items():
        if info.get(key) != value:
            raise InputError(f"{out} holds another run: its {key} is {info.get(key)}, asked for {value}; "
                             "choose another --out")
    if not (out / "weights.safetensors").exists():
        raise InputError(f"{out} holds an interrupted run; delete the folder or choose another --out")
    return load_run(out)[2][-1]


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); delete the folder and train again") from error


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads, {os.cpu_count()} cores)"


def _write_json(path: Path, content: dict) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
