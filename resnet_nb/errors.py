"""What can go wrong, told in one line; the command line turns each into that line and an exit code."""


class InputError(ValueError):
    """Bad input: the message says in one line what is wrong, what is allowed and what to do. Exit code 2."""


class InUseError(InputError):
    """Another process works on the same run."""


class TrainingStopped(RuntimeError):
    """A training could not go on; the message says why and where it continues. Exit code 1."""


class Interrupted(KeyboardInterrupt):
    """A signal stopped a training after a checkpoint. Exit code 128 + signal."""

    def __init__(self, signal: int):
        super().__init__("interrupted after a checkpoint; the same command continues")
        self.signal = signal


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
