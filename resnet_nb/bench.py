"""The usual training loop and ours, side by side in one process, and what the hardware would allow."""

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from resnet_nb import models
from resnet_nb.anatomy import describe
from resnet_nb.data import Dataset
from resnet_nb.errors import InputError
from resnet_nb.progress import bar
from resnet_nb.recipes import Recipe, network
from resnet_nb.train import Trainer, float32_as

FOREVER = 10**9  # iterations; the bench stops long before
EPOCH = 50_000  # images, as CIFAR-10 has: at the end of an epoch the DataLoader runs dry


@dataclass(frozen=True)
class Bench:
    """Seconds per iteration of each round, interleaved, and the floors of one iteration in seconds."""

    batch_size: int
    usual: list[float]
    ours: list[float]
    flops: float
    flops_per_second: float
    bytes: float
    bytes_per_second: float

    @property
    def ratios(self) -> list[float]:
        """How many times faster ours is, per round."""
        return [usual / ours for usual, ours in zip(self.usual, self.ours)]

    def __str__(self) -> str:
        usual, ours, ratio = map(statistics.median, (self.usual, self.ours, self.ratios))
        lines = [
            f"{name:10} {self.batch_size / seconds:9,.0f} img/s {1000 * seconds:9.2f} ms per iteration"
            for name, seconds in (("usual loop", usual), ("ours", ours))
        ]
        span = f"({min(self.ratios):.2f} to {max(self.ratios):.2f} over {len(self.ratios)} interleaved rounds)"
        lines.append(f"ratio      {ratio:9.2f} {span}")
        floors = ("arithmetic", "GFLOP", self.flops, self.flops_per_second), ("memory", "GB", self.bytes, self.bytes_per_second)
        for name, unit, amount, rate in floors:
            floor = f"{1000 * amount / rate:.2f} ms, {amount / rate / ours:.0%} of ours"
            lines.append(f"{name} floor: {amount / 1e9:.2f} {unit} at {rate / 1e9:,.0f} {unit}/s measured = {floor}")
        return "\n".join(lines)


def bench(
    name: str,
    data: Dataset,
    device: str = "cpu",
    precision: str = "float32",
    batch_size: int = 128,
    rounds: int = 5,
    seconds: float = 3.0,
) -> Bench:
    """Time both loops on `data`: `rounds` times, each for about `seconds`, in turn.

    The usual loop: torchvision transforms on PIL images in a DataLoader with workers, eager float32 with PyTorch's defaults,
    loss and accuracy read with .item() after every step. Ours: `Trainer` in `precision`. Raises InputError unless the network
    takes CIFAR's 32x32 images.
    """
    if network(name).side != 32:
        raise InputError(f"bench takes the networks of CIFAR-10 (cifar-...), got {name!r}")
    torch.manual_seed(0)
    place = torch.device(device)
    recipe = Recipe(FOREVER, batch_size)
    trainer = Trainer(models.build(name), data.to(place), recipe, every=FOREVER, precision=precision)
    loops = {"usual": _usual(models.build(name), data, place, batch_size), "ours": _ours(trainer)}
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {key: [] for key in loops}
    for key in bar(name, len(loops) * (1 + rounds), [*loops] * (1 + rounds), unit=" timings"):
        if key in counts:
            times[key].append(_time(loops[key], counts[key], place))
        else:
            counts[key] = _iterations(loops[key], place, seconds)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    flops, moved = work(models.build(name), batch_size, dtype.itemsize)
    with float32_as(precision):
        peak = _peak_flops(place, dtype)
    return Bench(batch_size, times["usual"], times["ours"], flops, peak, moved, _peak_bytes(place))


def work(model: nn.Module, batch_size: int, itemsize: int) -> tuple[float, float]:
    """Floating-point operations and bytes that one iteration of a CIFAR net cannot do without.

    Operations: two per multiply-add, three times (forward, gradient of the input, gradient of the weights). Bytes: each
    convolution's output is written and read once forward; backward it is read once, and its gradient written and read once,
    with `itemsize` bytes per number. Each weight, its gradient and its momentum are read and written once, in float32.
    """
    found = describe(model, 32)
    outputs = sum(row.outputs * row.size**2 for row in found.rows if row.kind == "conv")
    return 6.0 * found.multiply_adds * batch_size, 5.0 * outputs * batch_size * itemsize + 24.0 * found.params


class _Pictures:
    """The training images as PIL images with the usual transforms, for a DataLoader."""

    def __init__(self, data: Dataset):
        self.images = data.train_images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = data.train_labels.tolist()
        scaled = self.images.astype(np.float32) / 255
        views = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        usual = transforms.Normalize(scaled.mean((0, 1, 2)), scaled.std((0, 1, 2)))
        self.transform = transforms.Compose([*views, usual])

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        index %= len(self.labels)
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def _usual(model: nn.Module, data: Dataset, device: torch.device, batch_size: int) -> Iterator[None]:
    workers = {"num_workers": min(8, os.cpu_count() or 1), "persistent_workers": True, "pin_memory": device.type == "cuda"}
    loader = DataLoader(_Pictures(data), batch_size, shuffle=True, drop_last=True, **workers)
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    loss_sum, right = 0.0, 0
    for images, labels in itertools.chain.from_iterable(itertools.repeat(loader)):
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item()
        right += (logits.argmax(1) == labels).sum().item()
        yield


def _ours(trainer: Trainer) -> Iterator[None]:
    while True:
        yield trainer.train(pause=lambda _: True)


def _iterations(loop: Iterator[None], device: torch.device, seconds: float) -> int:
    """Iterations that take about `seconds`; the first ones, which set everything up, are not counted."""
    _time(loop, 3, device)
    return max(1, round(seconds / _time(loop, 3, device)))


def _time(loop: Iterator[None], iterations: int, device: torch.device) -> float:
    """Seconds per iteration, the device's work included."""

    def run() -> None:
        for _ in range(iterations):
            next(loop)

    return _seconds(run, device) / iterations


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - started


def _peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, the best of ten."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device).to(dtype)
    return 2.0 * side**3 / min(_seconds(lambda: a @ a, device) for _ in range(10))


def _peak_bytes(device: torch.device) -> float:
    """Bytes per second read and written by a large copy, the best of ten."""
    a = torch.ones(2**28 if device.type == "cuda" else 2**25, dtype=torch.float32, device=device)
    b = torch.empty_like(a)
    return 2.0 * a.nbytes / min(_seconds(lambda: b.copy_(a), device) for _ in range(10))
