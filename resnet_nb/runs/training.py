"""A run: trained in its folder, stopped and continued without losing work."""

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from resnet_nb import models
from resnet_nb.data import Images
from resnet_nb.errors import STOP_SIGNALS, InputError, Interrupted, ReadingFailed, TrainingStopped, as_python, require_int
from resnet_nb.progress import bar, tell
from resnet_nb.recipes import Recipe
from resnet_nb.runs.folder import INFO, RunFolder, as_json, load_run, read_json
from resnet_nb.train import Trainer, World
from resnet_nb.train.checks import as_usual
from resnet_nb.train.world import machine

if TYPE_CHECKING:
    from tqdm import tqdm

KEYBOARD = {getattr(signal, name, None) for name in ("SIGINT", "SIGQUIT", "SIGBREAK")}
NOTHING_KEPT = "no checkpoint was written before"
# seeds, random weights and the recording of a graph are the whole process's: of several threads one starts its run at a time
_STARTING = threading.RLock()


def run(
    name: str,
    data: Images,
    out: Path,
    recipe: Recipe,
    seed: int = 0,
    device: str = "cpu",
    *,
    overrides: dict | None = None,
    precision: str = "float32",
    source: str = "",
    deadline: float | None = None,
    save_seconds: float = 60.0,
    world: World = World(),
) -> dict | None:
    """Train the network called `name` in the folder `out`; returns its last log line, None if time ran out.

    Writes run.json (model, overrides, recipe, seed, precision, processes, data fingerprint, source, versions, device, on CUDA
    whether a graph is replayed, wall time, where it was continued), log.jsonl (one line per evaluation), checkpoint.pt (every
    `save_seconds` while unfinished; the one before it is kept) and weights.safetensors (when finished). The same call again
    continues from the checkpoint, also after the folder of the data moved; on one CPU with the same number of threads the
    result is that of an uninterrupted run to the last bit. A finished run is left alone. overrides: for `models.build`, without
    num_classes. deadline: a time of `time.monotonic`; after at least one iteration the run stops before it, with a checkpoint.
    source says where the data came from (default: the name of the data); `python -m resnet_nb evaluate` looks there. Seeds
    torch's global generator; several threads of a process may each have a run, of nets without dropout and in one precision.
    Raises InputError if a setting is bad, or if `out` holds any other run, is in use, cannot be written, or has damaged
    checkpoints only; FloatingPointError if the loss is not finite; TrainingStopped if a file cannot be written on the way, or
    if a reader of images or another process ends; Interrupted on one of `errors.STOP_SIGNALS` (Ctrl-C, SIGTERM, a closed
    terminal, what batch systems send), after a checkpoint. A signal that is ignored, as by nohup, or has a handler of the
    caller's stays as it is. After any other exception, too, what was trained is kept, unless it broke off a step.
    """
    seed, overrides = as_python(seed), {option: as_python(value) for option, value in (overrides or {}).items()}
    require_settings(seed, overrides)
    settings = {"model": name, "overrides": overrides, "recipe": as_json(recipe), "seed": seed, "precision": precision}
    counts = {"classes": data.classes, "train": len(data.train_labels), "test": len(data.test_labels)}
    settings |= {"processes": world.size, "data": {"name": data.name, "fingerprint": data.fingerprint, **counts}}
    with world.refuse_together():
        folder = RunFolder(Path(out).expanduser(), json.loads(json.dumps(settings)))  # tuples become lists, as in the file
    if world.any(folder.finished):
        return load_run(folder.out)[2][-1]  # which says if it is damaged
    with world.end_together(), ExitStack() as held:
        with _STARTING, as_usual():
            with world.refuse_together():
                torch.manual_seed(seed)
                model = models.build(name, num_classes=len(data.classes), **overrides)
            # not among what can fail on one process alone: several processes talk to each other inside
            trainer = Trainer(model, data.to(device), recipe, seed, precision=precision, world=world)
            with world.refuse_together():
                if world.rank == 0:
                    held.enter_context(folder.locked())
            with world.refuse_together():
                folder.check()  # again: another process may have finished it, or begun another run
            if world.any(folder.finished):
                return load_run(folder.out)[2][-1]  # which says if it is damaged
            with world.refuse_together():
                state, damage = folder.load_checkpoint()
            session = _Session(folder, trainer)
            session.begin(state, damage, {"source": source or data.name, **machine(device)})
        with bar(name, recipe.iterations, initial=trainer.iteration, unit=" it", delay=0) as shown:
            done = session.train(deadline, save_seconds, shown)
    return trainer.log[-1] if done else None


def require_settings(seed: int, overrides: dict) -> None:
    """Raise InputError on a seed or an override that no training takes."""
    require_int("seed", seed, 0, 2**63 - 1)
    if "num_classes" in overrides:
        raise InputError("num_classes is no override of a training: it comes from the data")


class _Session:
    """The part of a run that this process does: where it begins, when it saves and when it stops."""

    def __init__(self, folder: RunFolder, trainer: Trainer):
        self.folder, self.trainer, self.writes = folder, trainer, trainer.world.rank == 0
        self.earlier_seconds, self.saved_iteration, self.info = 0.0, 0, {}
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far, with that of the sessions before."""
        return self.earlier_seconds + time.monotonic() - self.started

    def begin(self, state: dict | None, damage: str, info: dict) -> None:
        """Continue from a checkpoint, if there is one, and write the files up to it."""
        if damage:
            self.trainer.note(damage)
        if state is not None:
            self.trainer.load_state_dict(state["trainer"])
        self.trainer.prepare()
        self.info = info | ({"graph": self.trainer.replays} if self.trainer.device.type == "cuda" else {})
        if state is not None:
            torch.set_rng_state(state["rng"])
            if "cuda_rng" in state and self.trainer.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_rng"], self.trainer.device)
            self.earlier_seconds, self.saved_iteration = state["seconds"], self.trainer.iteration
            old = read_json(self.folder.out / INFO)
            try:
                self.info = _continued(old, self.info, self.trainer.iteration, self.trainer.note)
            except (KeyError, TypeError, AttributeError) as error:
                todo = "restore it, or delete the folder and train again"
                raise InputError(f"{self.folder.out / INFO} is damaged (no {error}); {todo}") from error
        if not self.trainer.world.all_equal(self.trainer.iteration):
            raise InputError(f"the processes read different checkpoints; all of them need the same {self.folder.out}")
        if self.writes:
            self.folder.start(self.info, self.trainer.log)

    def train(self, deadline: float | None, save_seconds: float, shown: "tqdm") -> bool:
        """Train to the end (True), or to the deadline or a signal, with a checkpoint."""
        last = saved_at = time.monotonic()
        fastest, slowest = math.inf, 0.0
        evaluation_steps = len(self.trainer.data.test_labels) / self.trainer.recipe.batch_size  # at most so many iterations

        def report(line: dict) -> None:
            if self.writes:
                self.folder.append(line)
            shown.set_postfix_str(f"train error {line['train_error']:.1f} %, test error {line['test_error']:.1f} %")

        def pause(trainer: Trainer) -> bool:
            nonlocal last, saved_at, fastest, slowest
            shown.update()
            if time.monotonic() - saved_at >= save_seconds:
                self.save()
                saved_at = time.monotonic()
            now = time.monotonic()
            fastest, slowest, last = min(fastest, now - last), max(slowest, now - last), now
            # the next iteration may be the slowest again, or end with an evaluation; the checkpoint takes its time
            reserve = max(2 * slowest, slowest + evaluation_steps * fastest) + 0.5
            return bool(signals) or (deadline is not None and now + reserve > deadline)

        with _signals() as signals:
            try:
                done = self.trainer.train(report, pause)
                if done and self.writes:
                    info = {**self.info, "wall_seconds": round(self.seconds, 1)}
                    self.folder.finish(info, self.trainer.log, self.trainer.model)
                elif not done:
                    self.save()
            except FloatingPointError as error:
                kept = f"the last good checkpoint in {self.folder.out} is of iteration {self.saved_iteration:,}"
                raise FloatingPointError(f"{error}; {kept if self.saved_iteration else NOTHING_KEPT}") from error
            except Exception as error:
                if isinstance(error, InputError) and not self.writes:  # an image; the command line talks for process 0 only
                    tell(f"error: process {self.trainer.world.rank}: {error}")
                if self.trainer.between_steps and not self.folder.finished:
                    with suppress(RuntimeError, FloatingPointError, MemoryError):  # what went wrong first is told
                        self.save()
                if isinstance(error, ReadingFailed):
                    kept = self.saved_iteration or not self.writes
                    raise TrainingStopped(f"{error}; {'the same command continues' if kept else NOTHING_KEPT}") from error
                raise
        # also when all is done: a sweep would go on with the next run; and of all processes, if one of them got it
        if number := self.trainer.world.largest(signals[0] if signals else 0):
            raise Interrupted(number, done)
        return done

    def save(self) -> None:
        """Write a checkpoint if there is anything new, and if it is finite."""
        if self.writes and self.saved_iteration < self.trainer.iteration:
            self.trainer.check_finite()
            device, draws = self.trainer.device, {"rng": torch.get_rng_state()}
            if device.type == "cuda":
                draws["cuda_rng"] = torch.cuda.get_rng_state(device)
            self.folder.save({"seconds": self.seconds, **draws, "trainer": self.trainer.state_dict()})
            self.saved_iteration = self.trainer.iteration


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect STOP_SIGNALS instead of dying; a second one from the keyboard acts as ever."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    # what is ignored, as by nohup, stays ignored; who has a handler knows what the signal means
    before = {number: old for number, old in handlers.items() if old in (signal.SIG_DFL, signal.default_int_handler)}

    def catch(number: int, frame) -> None:
        caught.append(number)
        if number in KEYBOARD:  # launchers and batch systems send theirs more than once
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
    where = {key: now[key] for key in ("device", "versions", "graph") if key in now}
    resumed = [*old.get("resumed", []), {"iteration": iteration, **where}]
    before = resumed[-2] if len(resumed) > 1 else old
    note(f"continuing at iteration {iteration:,}")
    for key in ("device", "versions"):
        if before[key] != now[key]:
            note(f"note: {key} was {before[key]} and is now {now[key]}; the last bits may differ from those of one piece")
    first = {key: old[key] for key in ("device", "versions", "graph") if key in old}
    return {"source": now["source"], **first, "resumed": resumed}
