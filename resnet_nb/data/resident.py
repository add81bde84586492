"""What a training asks of its images; images that stay on one device, and their augmentation (§4.2; notebooks 08, 13)."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from resnet_nb.errors import InputError
from resnet_nb.recipes import Augmentation

PAD = 4
OFFSETS = (2 * PAD + 1) ** 2  # 81 crops of the padded image
Share = Callable[[Tensor], Tensor]  # (B, ...) to a process's part of it
Pairs = Iterator[tuple[Tensor, Tensor]]


@runtime_checkable
class Images(Protocol):
    """What a training asks of a classification set: `Dataset` holds it in memory, `ImageFiles` reads it from files.

    Images are uint8 (3, H, W) and labels int64. shape: of an image as the network takes it. augmentation: that of the
    files, None for the one of data in memory (§4.2). test_batch: images that an evaluation takes at a time. codes: how many
    views of an image there are; `Stream` draws one, `fetch` reads what it takes, `finish` brings it to the device.
    recordable: whether `finish` can be part of a CUDA graph.
    """

    name: str
    classes: tuple[str, ...]
    train_labels: Tensor
    test_labels: Tensor
    device: torch.device
    fingerprint: str
    shape: tuple[int, int, int]
    augmentation: Augmentation | None
    test_batch: int
    codes: int
    recordable: bool

    def to(self, device: torch.device | str) -> "Images": ...
    def center(self, images: Tensor) -> Tensor: ...
    def stream(self, batch_size: int, seed: int) -> "Stream": ...
    def fetch(self, indices: Pairs) -> Pairs: ...
    def finish(self, *batch: Tensor) -> tuple[Tensor, Tensor]: ...
    def test_batches(self, batch_size: int, part: slice = slice(None)) -> Pairs: ...


@dataclass(frozen=True)
class Dataset:
    """A classification set in memory: images uint8 (N, 3, H, W), labels int64 (N,), indices into `classes`; on one device."""

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    augmentation = None  # but the crops and flips of §4.2, which `augment` makes
    codes = 2 * OFFSETS
    recordable = True

    @property
    def device(self) -> torch.device:
        """Where all of it is."""
        return self.train_images.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every image: (3, H, W)."""
        return tuple(self.train_images.shape[1:])

    @property
    def test_batch(self) -> int:
        """What fits into the caches of a CPU, or keeps a GPU busy."""
        return 2500 if self.device.type == "cuda" else 500

    @cached_property
    def mean(self) -> Tensor:
        """Per-pixel mean of the training images: float32 (3, H, W) in [0, 1] (§4.2)."""
        total = sum(chunk.sum(0, dtype=torch.int64) for chunk in self.train_images.split(4096))
        return (total.double() / (255 * len(self.train_images))).float()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of class names, images and labels: equal if and only if the data are."""
        digest = hashlib.sha256(encoded("\n".join(self.classes)))
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data on another device."""
        tensors = {key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)}
        tensors.pop("mean", None)
        return replace(self, **tensors)

    def validation(self) -> "Dataset":
        """The split on which the paper chose its schedule, 45k/5k on CIFAR-10 (§4.2): the test images stay unseen.

        The last tenth of the training images of each class, in their order, takes the place of the test images. Raises
        InputError if a class has fewer than ten.
        """
        held_out = torch.zeros_like(self.train_labels, dtype=torch.bool)
        for label, name in enumerate(self.classes):
            (places,) = torch.nonzero(self.train_labels == label, as_tuple=True)
            if len(places) < 10:
                has = f"{self.name} has {len(places)} of {name!r}"
                raise InputError(f"a validation split needs 10 training images of each class; {has}")
            held_out[places[-(len(places) // 10) :]] = True
        parts = [part[mask] for mask in (~held_out, held_out) for part in (self.train_images, self.train_labels)]
        return Dataset(f"{self.name}-validation", self.classes, *parts)

    def center(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) to float32 in [0, 1] minus the per-pixel mean. No division by a std."""
        return in_unit(images) - self.mean

    def stream(self, batch_size: int, seed: int) -> "Stream":
        """The training batches. Raises InputError on a bad batch size."""
        return Stream(self, batch_size, seed)

    def fetch(self, indices: Pairs) -> Pairs:
        """Batches of images and codes as they are: `finish` reads nothing but tensors on the device."""
        return indices

    def finish(self, order: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Centered, augmented images (B, 3, H, W) and labels (B,); the codes are those of `augment`."""
        return augment(self.center(self.train_images[order]), codes), self.train_labels[order]

    def test_batches(self, batch_size: int, part: slice = slice(None)) -> Pairs:
        """Test images (B, 3, H, W) uint8 and labels (B,), in their order: all, or those in `part`."""
        return zip(self.test_images[part].split(batch_size), self.test_labels[part].split(batch_size))


def encoded(name: str) -> bytes:
    """A name of files as bytes, also one that is not UTF-8 on disk."""
    return name.encode("utf-8", "surrogateescape")


def in_unit(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1], with the same bits on every device."""
    # by a tensor: by a number CUDA multiplies with its reciprocal, which is an ulp off now and then
    return images.float() / torch.full((), 255.0, device=images.device)


def augment(images: Tensor, codes: Tensor) -> Tensor:
    """Pad 4 pixels on each side, crop to the old size, flip: each image by its own code (§4.2).

    images: (B, 3, H, W), already centered, so that the zero padding is the mean image.
    codes: int64 (B,) in [0, 162): crop offset (81 of them) times two, plus one if flipped.
    """
    side_y, side_x = images.shape[-2:]
    places, inside = _crops(side_y, side_x, images.device)
    image = torch.arange(len(images), device=images.device)[:, None]
    pixels = images.flatten(2)[image, :, places[codes]]  # indices around a slice put the channels last: (B, H*W, 3)
    return torch.where(inside[codes], pixels, 0).unflatten(1, (side_y, side_x)).permute(0, 3, 1, 2)


@cache
def _crops(side_y: int, side_x: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each code the pixel that each pixel of a view shows, int64 (162, H*W), and whether it is no padding, (162, H*W, 1)."""
    codes = torch.arange(2 * OFFSETS)[:, None]
    top, left = codes // 2 // (2 * PAD + 1) - PAD, codes // 2 % (2 * PAD + 1) - PAD
    columns = torch.arange(side_x)
    columns = left + torch.where(codes % 2 == 1, columns.flip(0), columns)
    rows = top + torch.arange(side_y)
    inside = ((rows >= 0) & (rows < side_y))[:, :, None] & ((columns >= 0) & (columns < side_x))[:, None, :]
    places = rows.clamp(0, side_y - 1)[:, :, None] * side_x + columns.clamp(0, side_x - 1)[:, None, :]
    return places.flatten(1).to(device), inside.flatten(1)[:, :, None].to(device)


class Stream:
    """Training batches of `Images` as a pure function of (seed, iteration) (notebooks 08, 13).

    Every epoch is a new permutation of all images; batches run on across epochs, so 64,000 iterations of 128 are exactly
    64000 * 128 / N epochs. Codes, below `data.codes`, are drawn independently for every image and epoch; the data know
    which view of an image a code stands for. All draws are made on the CPU, so every device sees the same stream. Raises
    InputError on a bad batch size.
    """

    def __init__(self, data: Images, batch_size: int, seed: int):
        count = len(data.train_labels)
        if type(batch_size) is not int or not 1 <= batch_size <= count:
            allowed = f"an integer of 1 to {count:,}, the number of training images of {data.name}"
            raise InputError(f"batch_size must be {allowed}, got {batch_size!r}; choose another batch_size", "batch_size")
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.recordable = data.recordable
        self._plans: dict[int, tuple[Tensor, Tensor]] = {}

    def plan(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Order of the images and code of each position in one epoch: two (N,) int64."""
        if epoch not in self._plans:
            # a batch touches two epochs at most
            self._plans = {e: p for e, p in self._plans.items() if e == epoch - 1}
            entropy = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(entropy >> 1))
            count, device = len(self.data.train_labels), self.data.train_labels.device
            order = torch.randperm(count, generator=generator)
            codes = torch.randint(self.data.codes, (count,), generator=generator)
            if device.type == "cuda":  # page-locked memory is copied without waiting for the device
                order, codes = order.pin_memory(), codes.pin_memory()
            self._plans[epoch] = order.to(device, non_blocking=True), codes.to(device, non_blocking=True)
        return self._plans[epoch]

    def indices(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Images and codes of one iteration, counted from 0: two (B,) int64."""
        epoch, start = divmod(iteration * self.batch_size, len(self.data.train_labels))
        order, codes = (part[start : start + self.batch_size] for part in self.plan(epoch))
        if missing := self.batch_size - len(order):
            following = self.plan(epoch + 1)
            order, codes = (torch.cat([part, after[:missing]]) for part, after in zip((order, codes), following))
        return order, codes

    def batches(self, start: int, stop: int, share: Share = lambda batch: batch) -> Pairs:
        """What `images` takes, for the iterations from `start` to before `stop`; share picks a process's part."""
        return self.data.fetch(tuple(map(share, self.indices(iteration))) for iteration in range(start, stop))

    def images(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Centered, augmented images (B, 3, H, W) float32 and labels (B,) on the device, of what `batches` yields."""
        return self.data.finish(*batch)

    def batch(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Centered, augmented images (B, 3, H, W) and labels (B,) of one iteration, counted from 0."""
        return self.images(*next(self.batches(iteration, iteration + 1)))


def from_arrays(name: str, classes: Iterable[str], *parts: tuple) -> Dataset:
    """Dataset from the (images, labels) of training and test as arrays: uint8 (N, 3, H, W) and integers (N,)."""
    pairs = ((array, kind) for part in parts for array, kind in zip(part, (np.uint8, np.int64)))
    return Dataset(name, tuple(classes), *(torch.from_numpy(np.ascontiguousarray(*pair)) for pair in pairs))
