"""What can go wrong, told in one line, and the checks of input; the command line turns each into that line and an exit code."""

import difflib
import os
import signal
import sys

# what asks a process to end: the keyboard, a batch system (also some time before it kills), a closed terminal
STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)  # Windows has three of them
)


class InputError(ValueError):
    """Bad input: the message says in one line what is wrong, what is allowed and what to do. Exit code 2.

    setting: what would have to be chosen otherwise ("out", "download", ...); the command line names its option for it.
    """

    def __init__(self, message: str = "", setting: str = ""):
        super().__init__(message)
        self.setting = setting


class InUseError(InputError):
    """Another process works on the same run."""


class ReadingFailed(RuntimeError):
    """A process that reads images failed; the message says why and what helps. Exit code 1."""


class TrainingStopped(RuntimeError):
    """A training could not go on; the message says why and where it continues. Exit code 1."""


class Interrupted(KeyboardInterrupt):
    """One of STOP_SIGNALS stopped a training after a checkpoint, or when its run was just finished. Exit code 128 + signal."""

    def __init__(self, signal: int, finished: bool = False):
        kept = "when the run was finished; nothing is lost" if finished else "after a checkpoint; the same command continues"
        super().__init__(f"interrupted {kept}")
        self.signal = signal


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def few(names, most: int = 5) -> str:
    """The first names and how many more there are, for a message that stays readable."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def near(name: str, known) -> str:
    """ " (did you mean resnet50?)" if one of the `known` names looks like `name`, else ""."""
    found = [each for each in difflib.get_close_matches(name.lower(), known, 1, 0.8) if each != name]
    return f" (did you mean {found[0]}?)" if found else ""


def as_python(value):
    """A number of NumPy or torch as Python's; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def require_int(name: str, value, least: int, most: int | None = None) -> None:
    """Raise InputError unless `value` is an integer from `least` to `most`; True and False are none."""
    if type(value) is not int or value < least or (most is not None and value > most):
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        kind += "" if most is None else f" up to {most:,}"
        raise InputError(f"{name} must be {kind}, got {repr(value)[:40]}")


def from_environment(name: str, default: int, least: int = 1, most: int | None = None) -> int:
    """The integer in the environment variable `name`, `default` where it is not set or empty.

    Raises InputError, as `require_int`, on any other text.
    """
    text = os.environ.get(name, "").strip() or str(default)
    try:
        value = int(text)
    except ValueError:
        value = text
    try:
        require_int(f"the environment variable {name}", value, least, most)
    except InputError as error:
        raise InputError(f"{error}; torchrun sets it, to train in one process: unset {name}") from None
    return value


def require_number(name: str, value, least: float, most: float = sys.float_info.max, open_end: bool = False) -> None:
    """Raise InputError unless `value` is a finite number from `least` to `most`; open_end: `least` itself is not allowed."""
    if type(value) not in (int, float) or not least <= value <= most or (open_end and value == least):
        bound = f"above {least:g}" if open_end else f"of at least {least:g}"
        upper = "" if most == sys.float_info.max else f" and at most {most:g}"
        raise InputError(f"{name} must be a finite number {bound}{upper}, got {repr(value)[:40]}")


def require_positive(**values) -> None:
    """Raise InputError naming the first value that is not a positive integer of at most a million."""
    for name, value in values.items():
        require_int(name, value, 1, 1_000_000)


def require_depth(depth, layers: int, note: str = "") -> int:
    """The n of a net of layers*n + 2 layers. Raises InputError with the first such depths, and `note`, on another depth."""
    if type(depth) is not int or depth < layers + 2 or depth % layers != 2:
        first = ", ".join(str(layers * n + 2) for n in (1, 2, 3))
        raise InputError(f"depth must be an integer {layers}n+2 with n >= 1 ({first}, ...){note}, got {repr(depth)[:40]}")
    return (depth - 2) // layers


def require_choice(name: str, value, allowed) -> None:
    """Raise InputError unless `value` is one of `allowed`, in value and type."""
    if (type(value), value) not in [(type(each), each) for each in allowed]:  # a list also takes values that cannot be hashed
        raise InputError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def require_bool(**values) -> None:
    """Raise InputError naming the first value that is neither True nor False."""
    for name, value in values.items():
        if type(value) is not bool:
            raise InputError(f"{name} must be True or False, got {value!r}")


def is_shape(value) -> bool:
    """Whether `value` is a tuple or list of positive integers, as shapes are."""
    return isinstance(value, (tuple, list)) and all(type(n) is int and n > 0 for n in value)


def require_images(x, smallest: int) -> None:
    """Raise InputError unless x is a batch (N, 3, H, W) with H and W of at least `smallest` pixels."""
    if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < smallest:
        raise InputError(f"images must have shape (N, 3, H, W) with H, W >= {smallest}, got {tuple(x.shape)}")
