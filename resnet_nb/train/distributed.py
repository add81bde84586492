"""Several processes that train one network, started by torchrun; one process is the world of size 1."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resnet_nb.errors import InputError

# a process that waits this long for another one gives up, so that a job with a hung rank ends
TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class World:
    """This process among those of the run. Rank 0 writes the files and talks."""

    rank: int = 0
    size: int = 1

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch (B, ...): B / size rows. All parts together are the batch."""
        if len(batch) % self.size:
            raise InputError(f"a batch of {len(batch)} cannot be shared equally by {self.size} processes; "
                             "choose --nproc-per-node so that it divides the batch size")
        return batch.tensor_split(self.size)[self.rank]

    def add(self, value: Tensor) -> Tensor:
        """Sum of `value` over the processes, in place, without waiting for the device."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """True on every process as soon as it is true on one."""
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag))
        dist.all_reduce(value)  # a CPU tensor: gloo, the GPU is not waited for
        return value.item() > 0

    def copy_buffers(self, model: nn.Module) -> None:
        """Give every process the BN statistics of rank 0."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Return when every process has come here."""
        self.any(False)


@contextmanager
def join() -> Iterator[World]:
    """The world that torchrun has started this process in, or a world of one process.

    Collectives use gloo for CPU tensors and NCCL for CUDA tensors.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def local_device(name: str) -> str:
    """`name`, or the GPU of this process if `name` is "cuda" and torchrun started several."""
    if name == "cuda" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name
