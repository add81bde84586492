"""A run: trained in its folder, stopped and continued without losing work."""

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from resnet_nb import models
from resnet_nb.data import Dataset
from resnet_nb.errors import InputError, Interrupted, TrainingStopped
from resnet_nb.train.distributed import World
from resnet_nb.train.folder import INFO, RunFolder, load_run, machine, read_json
from resnet_nb.train.recipe import Recipe
from resnet_nb.train.trainer import Trainer


def run(name: str, data: Dataset, out: Path, recipe: Recipe, seed: int = 0, device: str = "cpu", *,
        overrides: dict | None = None, precision: str = "float32", source: str = "", deadline: float | None = None,
        save_seconds: float = 60.0, world: World = World(), progress: bool = False) -> dict | None:
    """Train the network called `name` in the folder `out`; returns its last log line, None if time ran out.

    Writes run.json (model, recipe, seed, precision, processes, data fingerprint, versions, device, wall
    time), log.jsonl (one line per evaluation), checkpoint.pt (every `save_seconds` while unfinished)
    and weights.safetensors (when finished). The same call again continues from the checkpoint; on one
    CPU with the same number of threads the result is that of an uninterrupted run to the last bit. A
    finished run is left alone. overrides: for `models.build`. deadline: a time of `time.monotonic`;
    the run stops before it, with a checkpoint. source says where the data came from (default: the
    name of the data); `python -m resnet_nb evaluate` looks there.
    Raises InputError if `out` holds any other run, is in use, cannot be written, or has damaged
    checkpoints only; FloatingPointError if the loss is not finite; TrainingStopped if a file cannot be
    written on the way; Interrupted on Ctrl-C or SIGTERM, after a checkpoint.
    """
    settings = {
        "model": name, "overrides": overrides or {}, "recipe": asdict(recipe), "seed": seed,
        "precision": precision, "processes": world.size,
        "data": {"name": data.name, "fingerprint": data.fingerprint, "classes": data.classes,
                 "train": len(data.train_labels), "test": len(data.test_labels)},
    }
    folder = RunFolder(out, json.loads(json.dumps(settings)))  # tuples become lists, as in the file
    if folder.finished:
        return load_run(out)[2][-1]
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise InputError(f"seed must be an integer from 0 to 2**63 - 1, got {seed}")
    torch.manual_seed(seed)
    model = models.build(name, num_classes=len(data.classes), **settings["overrides"])
    with torch.no_grad():
        model.eval()(data.center(data.test_images[:1]))  # images that are too small are told before anything is written
    writes = world.rank == 0
    note = _note if writes else lambda line: None
    trainer = Trainer(model, data.to(device), recipe, seed, precision=precision, world=world, note=note)
    with folder.locked() if writes else nullcontext():
        state, damage = folder.load_checkpoint()
        if damage:
            note(damage)
        info = {"source": source or data.name, **machine(device)}
        seconds = 0.0
        if state is not None:
            trainer.load_state_dict(state["trainer"])
            torch.set_rng_state(state["rng"])
            seconds, info = state["seconds"], _continued(read_json(out / INFO), info, trainer.iteration, note)
        world.wait()  # every process has read the folder
        if writes:
            folder.start(info, trainer.log)
        session = _Session(folder, trainer, seconds, writes)
        with tqdm(total=recipe.iterations, initial=trainer.iteration, desc=name, unit=" it",
                  disable=not (progress and writes)) as bar:
            done = session.train(deadline, save_seconds, bar)
        if done and writes:
            folder.finish({**info, "wall_seconds": round(session.seconds, 1)}, trainer.model)
    return trainer.log[-1] if done else None


class _Session:
    """The part of a run that this process does: when it saves and when it stops."""

    def __init__(self, folder: RunFolder, trainer: Trainer, seconds: float, writes: bool):
        self.folder, self.trainer, self.writes = folder, trainer, writes
        self.before, self.started, self.saved = seconds, time.monotonic(), trainer.iteration

    @property
    def seconds(self) -> float:
        """Training time so far, with that of the sessions before."""
        return self.before + time.monotonic() - self.started

    def train(self, deadline: float | None, save_seconds: float, bar: tqdm) -> bool:
        """Train to the end (True), or to the deadline or a signal, with a checkpoint."""
        last = saved = time.monotonic()
        slowest = 0.0

        def report(line: dict) -> None:
            if self.writes:
                self.folder.append(line)
            bar.set_postfix_str(f"train error {line['train_error']:.1f} %, test error {line['test_error']:.1f} %")

        def pause(trainer: Trainer) -> bool:
            nonlocal last, saved, slowest
            bar.update()
            if time.monotonic() - saved >= save_seconds:
                self.save()
                saved = time.monotonic()
            now = time.monotonic()
            slowest, last = max(slowest, now - last), now
            # the next iteration may be the slowest again, and the last checkpoint takes its time
            return bool(signals) or (deadline is not None and now + 2 * slowest + 0.5 > deadline)

        with _signals() as signals:
            try:
                done = self.trainer.train(report, pause)
                if not done:
                    self.save()
            except FloatingPointError as error:
                raise FloatingPointError(f"{error}; the last good checkpoint in {self.folder.out} is of iteration "
                                         f"{self.saved:,}") from error
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if self.trainer.world.size == 1:
                    raise
                raise TrainingStopped(f"a process of the job failed ({str(error).splitlines()[0]}); the same command "
                                      "continues from the last checkpoint") from error
        if signals and not done:
            raise Interrupted(signals[0])
        return done

    def save(self) -> None:
        """Write a checkpoint if there is anything new, and if it is finite."""
        if self.saved < self.trainer.iteration:
            self.trainer.check_finite()
            if self.writes:
                self.folder.save({"seconds": self.seconds, "rng": torch.get_rng_state(),
                                  "trainer": self.trainer.state_dict()})
            self.saved = self.trainer.iteration


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C instead of dying; a second one acts as ever."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def catch(number: int, frame) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _continued(old: dict, now: dict, iteration: int, note) -> dict:
    """Info of a run that goes on: where it began, and each place where it was continued."""
    resumed = [*old.get("resumed", []), {"iteration": iteration, **{key: now[key] for key in ("device", "versions")}}]
    before = resumed[-2] if len(resumed) > 1 else old
    note(f"continuing at iteration {iteration:,}")
    for key in ("device", "versions"):
        if before[key] != now[key]:
            note(f"note: {key} was {before[key]} and is now {now[key]}; the last bits may differ from those of one piece")
    return {"source": now["source"], "device": old["device"], "versions": old["versions"], "resumed": resumed}


def _note(line: str) -> None:
    print(line, file=sys.stderr)
