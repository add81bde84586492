"""The arithmetic of a training: which there is, how float32 is multiplied, and the layout of the maps in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from resnet_nb.errors import InputError
from resnet_nb.recipes import PRECISIONS


def require_precision(precision: str, device: torch.device) -> None:
    """Raise InputError unless `device` can compute in `precision`."""
    if precision not in PRECISIONS or (precision == "tf32" and device.type != "cuda"):
        raise InputError(f"precision must be float32, bf16 or, on CUDA, tf32; got {precision!r} on {device.type}")
    if precision == "bf16" and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        # measured on AVX2: ten times slower than float32
        raise InputError("this CPU has no bf16 convolutions (they need AVX-512); use float32")


@contextmanager
def float32_as(precision: str) -> Iterator[None]:
    """Multiply float32 numbers on CUDA with TF32's 10-bit mantissa if precision is "tf32", else in full."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=precision == "tf32"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def fast_layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, except where oneDNN writes past its memory (uxlfoundation/oneDNN issue 6035)."""
    risky = device.type == "cpu" and any(
        conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.in_channels < 16
        for conv in model.modules()
        if isinstance(conv, nn.Conv2d)
    )
    return torch.contiguous_format if risky else torch.channels_last
