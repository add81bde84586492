"""The arithmetic of a training: which there is, how float32 is multiplied, and the layout of the maps in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from resnet_nb.errors import InputError, first_line
from resnet_nb.recipes import PRECISIONS

_lock = threading.Lock()
_multiplying: dict[int, list[bool]] = {}  # thread -> whether it multiplies with TF32, innermost last
_before: dict = {}  # the program's own settings


def require_precision(precision: str, device: torch.device) -> None:
    """Raise InputError unless `device` can compute in `precision`."""
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"a training runs on cpu or cuda, got data on {device.type}")
    if precision not in PRECISIONS or (precision == "tf32" and device.type != "cuda"):
        raise InputError(f"precision must be float32, bf16 or, on CUDA, tf32; got {precision!r} on {device.type}")
    if precision != "float32" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        name = torch.cuda.get_device_name(device)
        raise InputError(f"{name} has no {precision} (it needs compute capability 8.0, Ampere, or newer); use float32")
    if precision == "bf16" and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        # measured on AVX2: ten times slower than float32
        raise InputError("this CPU has no bf16 convolutions (they need AVX-512); use float32")


@contextmanager
def float32_as(precision: str) -> Iterator[None]:
    """Multiply float32 numbers on CUDA with TF32's 10-bit mantissa if precision is "tf32", else in full.

    cuDNN tries which of its algorithms is fastest; where the program has set `torch.backends.cudnn.deterministic`, it takes one
    that gives the same bits each time. The settings are the whole process's; they are put back when the last of its threads
    leaves. Raises InputError while another thread multiplies otherwise, and in a program that has set TF32 by the names of
    torch 2.9, beside which torch refuses the older ones.
    """
    me, tf32 = threading.get_ident(), precision == "tf32"
    with _lock:
        if any(stack[-1] != tf32 for thread, stack in _multiplying.items() if thread != me):
            raise InputError("another thread of this program trains in another precision; wait for it")
        if not _multiplying:
            _before.update(_settings())
        _multiplying.setdefault(me, []).append(tf32)
        _multiply(tf32)
    try:
        yield
    finally:
        with _lock:
            stack = _multiplying[me]
            stack.pop()
            if stack:
                _multiply(stack[-1])
            else:
                del _multiplying[me]
            if not _multiplying:
                torch.set_float32_matmul_precision(_before["precision"])
                torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = _before["benchmark"], _before["allow_tf32"]


def _settings() -> dict:
    cudnn = torch.backends.cudnn
    try:
        before = {"precision": torch.get_float32_matmul_precision(), "allow_tf32": cudnn.allow_tf32}
    except RuntimeError as error:
        raise InputError(
            "the program has set an fp32_precision of torch.backends, but a training chooses its precision itself; leave that "
            f"out and use precision ({first_line(error)})"
        ) from error
    return {**before, "benchmark": cudnn.benchmark}


def _multiply(tf32: bool) -> None:
    cudnn = torch.backends.cudnn
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    # what is fastest comes out differently now and then, and with it the last bits
    cudnn.benchmark, cudnn.allow_tf32 = not cudnn.deterministic, tf32


def fast_layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, except where oneDNN writes past its memory (uxlfoundation/oneDNN issue 6035).

    On an H100 (cuDNN 9.19) it is the faster one in full float32, too: 3.9 ms an iteration of ResNet-20, against 4.5 ms.
    """
    risky = device.type == "cpu" and any(
        conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.in_channels < 16
        for conv in model.modules()
        if isinstance(conv, nn.Conv2d)
    )
    return torch.contiguous_format if risky else torch.channels_last
