"""Several processes that train one network, started by torchrun; one process is the world of size 1."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resnet_nb import __version__
from resnet_nb.errors import InputError, TrainingStopped, first_line, from_environment
from resnet_nb.progress import follow, status, tell

# a process that waits this long for another one gives up, so that a job with a hung rank ends
TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class World:
    """This process among those of the run. Rank 0 writes the files and talks.

    The paper trains on two GPUs (§4.2): each normalizes over its own 64 of the 128 images of a batch, the gradients are
    averaged. So do the processes of a world of size 2.
    """

    rank: int = 0
    size: int = 1

    def require_shares(self, batch_size: int) -> None:
        """Raise InputError if the processes cannot take equal shares of a batch."""
        if batch_size % self.size:
            raise InputError(
                f"a batch of {batch_size} cannot be shared equally by {self.size} processes; "
                "start as many as divide the batch size",
                "processes",
            )

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch (B, ...): B / size rows. All parts together are the batch."""
        return batch.tensor_split(self.size)[self.rank]

    def sum(self, value: Tensor) -> Tensor:
        """Sum of `value` over the processes, in place. On CUDA the host does not wait for it."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """True on every process as soon as it is true on one."""
        if self.size == 1:
            return flag
        return self.sum(torch.tensor(float(flag))).item() > 0  # a CPU tensor: the GPU is not waited for

    def all_equal(self, value: int) -> bool:
        """True on every process if `value` is equal on all."""
        values = self.sum(torch.nn.functional.one_hot(torch.tensor(self.rank), self.size) * value)
        return bool((values == value).all()) if self.size > 1 else True

    def largest(self, value: int) -> int:
        """The largest `value` of all processes, on each."""
        if self.size == 1:
            return value
        values = torch.tensor(value, device="cpu")  # whatever the program's default is
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def copy_buffers(self, model: nn.Module) -> None:
        """Give every process the BN statistics of rank 0."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    @contextmanager
    def refuse_together(self) -> Iterator[None]:
        """An InputError of one process is raised on all of them, so that none waits for the others."""
        error = None
        try:
            yield
        except InputError as caught:
            error = caught
        if self.size > 1:
            told: list[tuple[str, str] | None] = [None] * self.size
            dist.all_gather_object(told, error and (str(error), error.setting))
            failed = [(f"process {rank}: {said[0]}", said[1]) for rank, said in enumerate(told) if said is not None]
            if error is None and failed:
                error = InputError(*failed[0])
        if error is not None:
            raise error

    @contextmanager
    def end_together(self) -> Iterator[None]:
        """Tell the end of another process as TrainingStopped, and what ended this one, which the others cannot know."""
        try:
            yield
        except (TrainingStopped, OSError, MemoryError, torch.OutOfMemoryError) as error:
            if self.rank:
                tell(f"error: process {self.rank}: {first_line(error)}")
            raise
        except RuntimeError as error:
            if self.size == 1:
                raise
            raise TrainingStopped(
                f"a process of the job failed ({first_line(error)}); the same command continues from the last checkpoint"
            ) from error


def world_size() -> int:
    """How many processes train together, as the launcher has set WORLD_SIZE; 1 without one. Raises InputError if it is bad."""
    return from_environment("WORLD_SIZE", 1)


@contextmanager
def join() -> Iterator[World]:
    """The world that torchrun has started this process in, or a world of one process.

    Collectives use gloo for CPU tensors and NCCL for CUDA tensors. Once it has joined, of several processes only the first
    talks. Raises InputError if the variables that torchrun sets are incomplete or bad, and TrainingStopped if the others do
    not come.
    """
    size = world_size()
    if os.environ.get("WORLD_SIZE", "").strip():
        from_environment("RANK", 0, 0, size - 1)
    if size == 1:
        yield World()
        return
    needed = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK")
    if missing := [name for name in needed if not os.environ.get(name, "").strip()]:
        raise InputError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; "
            "start several processes with torchrun, or one after: unset WORLD_SIZE"
        )
    port = from_environment("MASTER_PORT", 0, 1, 65_535)
    _place_on_this_machine()
    place = f"{os.environ['MASTER_ADDR']}:{port}"
    try:
        with status(f"waiting for the {size} processes of the job at {place}"):
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise TrainingStopped(
            f"the {size} processes of the job do not meet at {place} ({first_line(error)}); "
            "start them with torchrun, or one after: unset WORLD_SIZE"
        ) from error
    if dist.get_rank():
        follow()
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def _place_on_this_machine() -> tuple[int, int]:
    """Number of this process among those on its machine, and how many they are at least: not all launchers say it."""
    number = from_environment("LOCAL_RANK", 0, 0) if world_size() > 1 else 0
    return number, from_environment("LOCAL_WORLD_SIZE", number + 1, number + 1)


def local_device(name: str) -> str:
    """`name`, or the GPU of this process if a launcher started several.

    Raises InputError if there are more processes than GPUs, if one GPU is named for all of them, or on bad variables.
    """
    number, processes = _place_on_this_machine()
    if world_size() == 1 or processes == 1 or torch.device(name).type != "cuda":
        return name
    if name != "cuda":
        raise InputError(f"{processes} processes cannot share {name}; choose cuda, which gives each its own", "device")
    if torch.cuda.device_count() < processes:
        raise InputError(
            f"{processes} processes need as many GPUs, there are {torch.cuda.device_count()}; start fewer of them",
            "processes",
        )
    device = f"cuda:{number}"
    torch.cuda.set_device(device)
    return device


def machine(device: str) -> dict:
    """What the last bits of a result depend on besides the settings: device and versions."""
    if torch.device(device).type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, {os.cpu_count()} cores)"
    return {
        "device": where,
        "versions": {"resnet_nb": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
