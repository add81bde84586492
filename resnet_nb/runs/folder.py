"""The folder of a run: its files, its lock, and what is refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from resnet_nb import models
from resnet_nb.errors import InputError, InUseError, TrainingStopped, first_line
from resnet_nb.files import is_system_file, patiently, reason, sha256, write_atomically
from resnet_nb.recipes import Augmentation, Recipe
from resnet_nb.runs import checkpoint
from resnet_nb.train.checks import as_usual

LOCK, INFO, LOG, WEIGHTS = ".lock", "run.json", "log.jsonl", "weights.safetensors"


class RunFolder:
    """Files of one run of given `settings` (JSON values). Raises as `check`.

    run.json says what the run is and where it ran, log.jsonl has one line per evaluation; checkpoint.pt and
    checkpoint.previous.pt are there while the run is unfinished, weights.safetensors when it is finished.
    """

    def __init__(self, out: Path, settings: dict):
        self.out, self.settings = out, settings
        self._lock: tuple[int, int] | None = None  # device and inode of the file that this process has locked
        self.check()

    @property
    def finished(self) -> bool:
        return (self.out / WEIGHTS).exists()

    def check(self) -> None:
        """Raise InputError if the folder holds anything else than this run."""
        try:
            # first the names, then run.json: another process may write it in between
            names = [path.name for path in self.out.iterdir()] if self.out.exists() else []
            known = (self.out / INFO).exists()
        except OSError as error:
            raise InputError(f"{self.out} cannot be used as a folder ({error.strerror}); choose another one", "out") from error
        if known:
            self._compare(read_json(self.out / INFO), str(self.out))
        elif not all(map(is_system_file, names)):
            raise InputError(f"{self.out} is not empty and holds no run; choose another folder", "out")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out. The lock goes with the process, however that ends.

        Raises InUseError if another process has it, InputError if the folder cannot be written or locked.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.out / LOCK, timeout=0)
            lock.acquire()
            self._lock = self._lock_file()
        except Timeout as error:
            raise InUseError(f"{self.out} is in use by another process; wait for it or choose another folder", "out") from error
        except NotImplementedError as error:
            raise InputError(f"the file system of {self.out} has no locks; choose a folder on another one", "out") from error
        except OSError as error:
            raise InputError(f"cannot write to {self.out} ({error.strerror or error}); choose another folder", "out") from error
        try:
            yield
        finally:
            self._lock = None
            lock.release()
            if self.finished:  # nobody needs the lock any more; a folder that refuses may keep it
                with suppress(OSError):
                    patiently((self.out / LOCK).unlink)

    def load_checkpoint(self) -> tuple[dict | None, str]:
        """As `checkpoint.load`; raises InputError also if the checkpoint is of another run."""
        state, damage = checkpoint.load(self.out)
        if state is not None:
            self._compare(state["settings"], f"the checkpoint in {self.out}")
        return state, damage

    def start(self, info: dict, log: list[dict]) -> None:
        """Write run.json, and log.jsonl up to the checkpoint; clear away what killed saves left.

        Raises TrainingStopped if a file cannot be written.
        """
        with self._errors():
            checkpoint.settle(self.out)
            for name in (INFO, LOG, WEIGHTS, checkpoint.NEW):
                for path in self.out.glob(f".{name}.*.tmp"):
                    patiently(path.unlink)
            write_atomically(self.out / INFO, json_bytes({**self.settings, **info}))
            write_atomically(self.out / LOG, log_bytes(log))

    def append(self, line: dict) -> None:
        """Add one line to log.jsonl. Raises TrainingStopped if that fails."""
        with self._errors(), patiently(open, self.out / LOG, "ab") as file:
            file.write(log_bytes([line]))

    def save(self, state: dict) -> None:
        """Write a checkpoint with the settings in it. Raises TrainingStopped if that fails."""
        with self._errors():
            checkpoint.save(self.out, {"settings": self.settings, **state})

    def finish(self, info: dict, log: list[dict], model: nn.Module) -> None:
        """Write log, run.json and, last, the weights: they say that the run is finished. Delete the checkpoints.

        Raises TrainingStopped if a file cannot be written.
        """
        weights = save({key: value.contiguous().cpu() for key, value in model.state_dict().items()})
        with self._errors():
            write_atomically(self.out / LOG, log_bytes(log))
            write_atomically(self.out / INFO, json_bytes({**self.settings, **info, "weights_sha256": sha256(weights)}))
            write_atomically(self.out / WEIGHTS, weights)
            checkpoint.remove(self.out)

    def _compare(self, found: dict, where: str) -> None:
        """The data count by their fingerprint: their folder may have moved."""
        for key, value in self.settings.items():
            old, new = found.get(key), value
            if old != new and isinstance(old, dict) and key in ("recipe", "data"):
                if key == "data" and old.get("fingerprint") == new["fingerprint"]:
                    continue
                changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
                old, new = ({name: part.get(name) for name in changed} for part in (old, new))
            if old != new:
                asked = f"its {key} is {_short(old)}, asked for {_short(new)}"
                raise InputError(f"{where} is of another run: {asked}; choose another folder", "out")

    def _lock_file(self) -> tuple[int, int]:
        found = (self.out / LOCK).stat()
        return found.st_dev, found.st_ino

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            # who moved or deleted the folder may have begun another run in one of its name
            if self._lock is not None and self._lock_file() != self._lock:
                raise TrainingStopped(
                    f"{self.out} was removed or renamed, and another folder has its name; nothing is written to it"
                )
            yield
        except OSError as error:
            kept = "the same command continues from what was saved there"
            raise TrainingStopped(f"cannot write to {self.out} ({reason(error)}); {kept}") from error


def _short(value) -> str:
    """At most 100 characters of what is compared, so that an error stays one readable line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def as_json(recipe: Recipe) -> dict:
    """A recipe as run.json holds it: `gradual` only where it is true, as most recipes have no such warm-up."""
    return {key: value for key, value in json.loads(json.dumps(asdict(recipe))).items() if key != "gradual" or value}


def augmentation_of(recipe: dict) -> Augmentation | None:
    """The augmentation of a recipe as run.json holds it."""
    found = recipe.get("augmentation")
    return found and Augmentation(**{**found, "shorter_side": tuple(found["shorter_side"])})


@as_usual()
def load_run(out: str | Path) -> tuple[nn.Module, dict, list[dict]]:
    """Network on the CPU in eval mode with its trained weights, run.json and the log of a finished run.

    Raises InputError if the folder does not hold a finished run, or a damaged one, or cannot be read.
    """
    out = Path(out).expanduser()
    for name in (INFO, LOG, WEIGHTS):
        if not (out / name).is_file():
            raise InputError(f"{out} is not a finished run: {name} is missing")
    info = read_json(out / INFO)
    try:
        log = read_log(out / LOG)
        content = patiently((out / WEIGHTS).read_bytes)
        if sha256(content) != info.get("weights_sha256"):
            raise ValueError(f"{WEIGHTS} has another checksum than run.json says")
        model = models.build(info["model"], num_classes=len(info["data"]["classes"]), **info["overrides"])
        model.load_state_dict(load(content))
        info["source"], info["data"]["name"], info["data"]["fingerprint"], augmentation_of(info["recipe"])  # what else is used
        if not log or log[-1]["iteration"] != info["recipe"]["iterations"]:
            raise ValueError(f"{LOG} does not reach the last iteration")
    except OSError as error:
        raise InputError(f"cannot read {out} ({reason(error)})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{out} is damaged ({first_line(error)}); delete it and train again") from error
    return model.eval(), info, log


def read_json(path: Path) -> dict:
    """Content of a file of a run. Raises InputError if it is damaged or cannot be read."""
    try:
        content = json.loads(patiently(path.read_bytes))
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except OSError as error:
        raise InputError(f"cannot read {path} ({reason(error)})") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); restore it, or delete the folder and train again") from error
    return content


def read_log(path: Path) -> list[dict]:
    """The lines of a log.jsonl. Raises ValueError or OSError if it is damaged."""
    return [json.loads(line) for line in patiently(path.read_bytes).splitlines()]


def json_bytes(content: dict) -> bytes:
    """`content` as the bytes of a run.json."""
    return (json.dumps(content, indent=2) + "\n").encode()


def log_bytes(log: list[dict]) -> bytes:
    """`log` as the bytes of a log.jsonl."""
    return "".join(json.dumps(line) + "\n" for line in log).encode()
