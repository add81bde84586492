"""The arithmetic of a training: which there is, how float32 is multiplied, and the layout of the maps in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from resnet_nb.errors import InputError, first_line
from resnet_nb.recipes import PRECISIONS


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
    that gives the same bits each time. Raises InputError in a program that has set TF32 by the names of torch 2.9, beside which
    torch refuses the older ones.
    """
    cudnn, tf32 = torch.backends.cudnn, precision == "tf32"
    try:
        before, deterministic, _ = torch.get_float32_matmul_precision(), cudnn.deterministic, cudnn.allow_tf32
    except RuntimeError as error:
        raise InputError(
            "the program has set an fp32_precision of torch.backends, but a training chooses its precision itself; leave that "
            f"out and use precision ({first_line(error)})"
        ) from error
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        # what is fastest comes out differently now and then, and with it the last bits
        with cudnn.flags(enabled=True, benchmark=not deterministic, deterministic=deterministic, allow_tf32=tf32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


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
