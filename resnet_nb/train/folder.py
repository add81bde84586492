"""The folder of a run: its files, its lock, and what is refused."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from resnet_nb import __version__, models
from resnet_nb.errors import InputError, InUseError, TrainingStopped
from resnet_nb.files import write_atomically
from resnet_nb.train import checkpoint

LOCK, INFO, LOG, WEIGHTS = ".lock", "run.json", "log.jsonl", "weights.safetensors"


class RunFolder:
    """Files of one run of given `settings` (JSON values). Raises InputError if `out` holds anything else.

    run.json says what the run is and where it ran, log.jsonl has one line per evaluation,
    checkpoint.pt is there while the run is unfinished, weights.safetensors when it is finished.
    """

    def __init__(self, out: Path, settings: dict):
        self.out, self.settings = out, settings
        if not (out / INFO).exists():
            ours = {LOCK, *(path.name for path in checkpoint.leftovers(out))}
            if out.exists() and (not out.is_dir() or any(path.name not in ours for path in out.iterdir())):
                raise InputError(f"{out} is not an empty folder and holds no run; choose another --out")
            return
        info = read_json(out / INFO)
        for key, value in settings.items():
            if info.get(key) != value:
                raise InputError(f"{out} holds another run: its {key} is {info.get(key)}, asked for {value}; "
                                 "choose another --out")

    @property
    def finished(self) -> bool:
        return (self.out / WEIGHTS).exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out. The lock goes with the process, however that ends.

        Raises InUseError if another process has it, InputError if the folder cannot be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.out / LOCK, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise InUseError(f"{self.out} is in use by another process; wait for it or choose another --out") from error
        except OSError as error:
            raise InputError(f"cannot write to {self.out} ({error.strerror}); choose another --out") from error
        try:
            yield
        finally:
            if self.finished:
                (self.out / LOCK).unlink(missing_ok=True)
            lock.release()

    def load_checkpoint(self) -> tuple[dict | None, str]:
        """As `checkpoint.load`; raises InputError also if the checkpoint is of another run."""
        state, damage = checkpoint.load(self.out)
        if state is not None and state["settings"] != self.settings:
            raise InputError(f"{self.out / checkpoint.NAME} is of another run: {state['settings']}; "
                             f"asked for {self.settings}; delete it or choose another --out")
        return state, damage

    def start(self, info: dict, log: list[dict]) -> None:
        """Write run.json, and log.jsonl up to the checkpoint; clear away what killed saves left."""
        with self._errors(InputError, "choose another --out"):
            for path in checkpoint.leftovers(self.out):
                path.unlink()
            write_json(self.out / INFO, {**self.settings, **info})
            write_atomically(self.out / LOG, "".join(json.dumps(line) + "\n" for line in log).encode())

    def append(self, line: dict) -> None:
        """Add one line to log.jsonl."""
        with self._errors(), open(self.out / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def save(self, state: dict) -> None:
        """Write a checkpoint with the settings in it."""
        with self._errors():
            checkpoint.save(self.out, {"settings": self.settings, **state})

    def finish(self, info: dict, model: nn.Module) -> None:
        """Write run.json and the weights; these come last, since they say that the run is finished."""
        weights = {key: value.contiguous().cpu() for key, value in model.state_dict().items()}
        with self._errors():
            write_json(self.out / INFO, {**self.settings, **info})
            write_atomically(self.out / WEIGHTS, save(weights))
            checkpoint.remove(self.out)

    @contextmanager
    def _errors(self, kind: type = TrainingStopped, advice: str = "the same command continues from the last checkpoint"):
        try:
            yield
        except OSError as error:
            raise kind(f"cannot write to {self.out} ({error.strerror or error}); {advice}") from error


def load_run(out: Path) -> tuple[nn.Module, dict, list[dict]]:
    """Network with its trained weights, run.json and the log of a finished run.

    Raises InputError if the folder does not hold a finished run.
    """
    for name in (INFO, LOG, WEIGHTS):
        if not (out / name).is_file():
            raise InputError(f"{out} is not a finished run: {name} is missing")
    info = read_json(out / INFO)
    try:
        log = [json.loads(line) for line in (out / LOG).read_text(encoding="utf-8").splitlines()]
        weights = load_file(out / WEIGHTS)
        model = models.build(info["model"], num_classes=len(info["data"]["classes"]), **info["overrides"])
        model.load_state_dict(weights)
        if not log:
            raise ValueError("log.jsonl is empty")
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{out} is damaged ({str(error).splitlines()[0]}); delete it and train again") from error
    return model.eval(), info, log


def machine(device: str) -> dict:
    """What the last bits of a result depend on besides the settings: device and versions."""
    if torch.device(device).type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, {os.cpu_count()} cores)"
    return {"device": where, "versions": {
        "resnet_nb": __version__, "torch": torch.__version__, "python": platform.python_version()}}


def read_json(path: Path) -> dict:
    """Content of a file of a run. Raises InputError if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); delete the folder and train again") from error


def write_json(path: Path, content: dict) -> None:
    """Write `content` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
