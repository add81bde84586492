"""Image folders too large for memory: worker processes read, cut out and augment the images as the training goes."""

import atexit
import hashlib
import os
import shutil
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from resnet_nb.data.folder import LAYOUT, Listing, list_images, list_parts, readable, test_folder
from resnet_nb.data.pictures import Look, read_image, tell
from resnet_nb.data.resident import Pairs, Stream, encoded, in_unit
from resnet_nb.data.views import seeded, testing_view, training_view
from resnet_nb.errors import STOP_SIGNALS, InputError, ReadingFailed, first_line, from_environment
from resnet_nb.progress import bar
from resnet_nb.recipes import Augmentation

SAMPLE = 10_000  # images that the mean, the colors and the fingerprint are taken from
SHARED = "/dev/shm"  # where Linux keeps what processes share
NARROW = 100  # times as long as wide


@dataclass(frozen=True)
class ImageFiles:
    """A classification set in files of any sizes, such as ImageNet; `Dataset` is its counterpart in memory.

    Files are paths as bytes (N,), labels int64 (N,) on the CPU. mean (3, crop, crop): per-pixel mean of the training images
    in [0, 1]. colors (3, 3): principal components of their RGB values, each times its eigenvalue, as columns. fingerprint:
    of the classes, the names and sizes of the files, and the content of up to 10,000 of each part. Batches come to `device`.
    """

    name: str
    classes: tuple[str, ...]
    train_files: np.ndarray
    train_labels: Tensor
    test_files: np.ndarray
    test_labels: Tensor
    augmentation: Augmentation
    mean: Tensor
    colors: Tensor
    fingerprint: str
    device: torch.device = torch.device("cpu")

    test_batch = 125  # each image has fifty times as many pixels as one of CIFAR-10
    codes = 2**62  # the seeds of the views
    recordable = False

    def to(self, device: torch.device | str) -> "ImageFiles":
        """The same data, whose batches come to another device."""
        return replace(self, device=torch.device(device), mean=self.mean.to(device))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every crop: (3, crop, crop)."""
        return (3, self.augmentation.crop, self.augmentation.crop)

    def center(self, images: Tensor) -> Tensor:
        """Crops, uint8 (B, 3, crop, crop), to float32 in [0, 1] minus the per-pixel mean (§3.4)."""
        return in_unit(images) - self.mean

    def center_channels(self, images: Tensor) -> Tensor:
        """Images of any size, uint8 (B, 3, H, W), to float32 in [0, 1] minus the mean of each channel."""
        return in_unit(images) - self.mean.mean((1, 2), keepdim=True)

    def stream(self, batch_size: int, seed: int) -> Stream:
        """The training batches. Raises InputError on a bad batch size."""
        return Stream(self, batch_size, seed)

    def fetch(self, indices: Pairs) -> Pairs:
        """Views uint8 (B, 3, crop, crop) and labels (B,) on the CPU, read ahead by worker processes.

        Raises InputError naming a file that cannot be decoded, and ReadingFailed if a worker process dies.
        """
        views = _Views(self.train_files, self.train_labels, training_view(self.augmentation, self.colors))
        return _read(views, (list(zip(*map(Tensor.tolist, pair))) for pair in indices), self.device)

    def finish(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Centered images (B, 3, crop, crop) and labels (B,) on the device."""
        return self.center(images.to(self.device, non_blocking=True)), labels.to(self.device, non_blocking=True)

    def test_batches(self, batch_size: int, part: slice = slice(None), view: nn.Module | None = None) -> Pairs:
        """Test images (B, 3, H, W) uint8 and labels (B,), in their order: all, or those in `part`.

        view makes a tensor of a PIL image; by default the center crop. Raises InputError naming a file that cannot be
        decoded, and ReadingFailed if a worker process dies.
        """
        items = [(index, 0) for index in range(len(self.test_labels))[part]]
        batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
        views = _Views(self.test_files, self.test_labels, view or testing_view(self.augmentation))
        for images, labels in _read(views, batches, self.device):
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


class _Views(torch.utils.data.Dataset):
    """(index, seed) to view and label, or to the InputError that the file causes."""

    def __init__(self, files: np.ndarray, labels: Tensor, view: nn.Module):
        self.files, self.labels, self.view = files, labels, view

    def __getitem__(self, item: tuple[int, int]):
        index, seed = item
        try:
            image = read_image(path := os.fsdecode(self.files[index]))
            if max(image.size) > NARROW * min(image.size):  # at the side of a view it would fill the memory
                width, height = image.size
                raise InputError(f"{path} has {width}x{height} pixels; cut it: one side is over {NARROW} times the other")
        except InputError as error:
            return error  # raised here it would come with the worker's traceback
        return seeded(self.view, image, seed), self.labels[index]


def _collate(items: list):
    return next((item for item in items if isinstance(item, InputError)), None) or default_collate(items)


def _start_worker(number: int) -> None:
    for signal_number in STOP_SIGNALS:  # they may reach all processes; the main one decides
        signal.signal(signal_number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # as `without_warnings` says


def _read(views: _Views, batches, device: torch.device) -> Pairs:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = max(1, min(16, cores // from_environment("LOCAL_WORLD_SIZE", 1)))
    context = "fork" if sys.platform == "linux" else None  # those of a fork server would outlive a kill -9 of this process
    settings = {"num_workers": workers, "multiprocessing_context": context, "worker_init_fn": _start_worker}
    settings |= {"collate_fn": _collate, "pin_memory": device.type == "cuda"}
    try:
        # a generator of its own: the global one would be moved by each loader, and a continued run has one more
        with _no_alarm():
            readers = iter(DataLoader(views, batch_sampler=batches, generator=torch.Generator(), **settings))
        # a program ends with a loop half way, too, or with an error whose traceback holds the readers: they deafly wait
        atexit.register(readers._shutdown_workers)
        try:
            for batch in readers:
                if isinstance(batch, InputError):
                    raise batch
                yield batch
        finally:
            atexit.unregister(readers._shutdown_workers)
            readers._shutdown_workers()
    except (RuntimeError, OSError) as error:
        raise ReadingFailed(f"a process that reads images failed ({_cause(error)})") from error


@contextmanager
def _no_alarm() -> Iterator[None]:
    """torch's handler of a dead reader is taken away: it would raise in the middle of a training step.

    Without it the death is told where the reader's batch is awaited.
    """
    main = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if main else None
    yield
    if before is not None:
        signal.signal(signal.SIGCHLD, before)


def _cause(error: Exception) -> str:
    """What happened in the worker, of which the first line of a wrapped error says nothing; and what helps."""
    lines = str(error).splitlines()
    line = lines[-1] if lines and lines[0].startswith("Caught ") else first_line(error)
    if "shared memory" not in line and "Bus error" not in line:
        return line
    room = f" ({shutil.disk_usage(SHARED).total / 2**20:,.0f} MB)" if os.path.isdir(SHARED) else ""
    return f"no room in {SHARED}{room}: start the container with more, docker run --shm-size=8g or --ipc=host"


def read_files(root: Path, augmentation: Augmentation) -> ImageFiles:
    """The image folder `root` with train/<class>/* and val/<class>/* or test/<class>/*, images of any sizes.

    Mean and colors are taken from the center crops of at most 10,000 training images, evenly spaced; as many test images are
    decoded, too. Notes say what reading took from them. Raises InputError if a folder is missing, or naming a file that cannot
    be decoded.
    """
    _require_folder(root)
    train, test = list_parts(root)
    fingerprint = hashlib.sha256(f"{_fingerprint(root, train)} {_fingerprint(root, test)}".encode()).hexdigest()
    mean, colors = _statistics(_look_at(train, augmentation, "mean image"))
    deque(_look_at(test, augmentation, "test images"), maxlen=0)
    arrays = *_arrays(train), *_arrays(test)
    return ImageFiles(root.resolve().name, tuple(train.classes), *arrays, augmentation, mean, colors, fingerprint)


def test_files(root: Path, mean: Tensor) -> ImageFiles:
    """Only the test images of an image folder, for a network that was trained with the mean (3,) of each channel.

    Raises InputError if a folder is missing.
    """
    _require_folder(root)
    with readable(root):
        test, augmentation = list_images(test_folder(root)), Augmentation()
        colors, fingerprint = torch.zeros(3, 3), _fingerprint(root, test)
    arrays = *_arrays(Listing([], [], [])), *_arrays(test)
    mean = mean[:, None, None].expand(3, augmentation.crop, augmentation.crop)
    return ImageFiles(root.resolve().name, tuple(test.classes), *arrays, augmentation, mean, colors, fingerprint)


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise InputError(f"no data at {str(root)!r}; {LAYOUT}")


def _arrays(part: Listing) -> tuple[np.ndarray, Tensor]:
    """Paths and labels (N,), because a list of a million paths would be copied into every worker process."""
    files = np.array([os.fsencode(path.absolute()) for path in part.files], dtype=bytes)
    return files, torch.tensor(part.labels, dtype=torch.int64)


def _fingerprint(root: Path, part: Listing) -> str:
    digest = hashlib.sha256(encoded("\n".join(part.classes)))
    step = _step(len(part.files))
    for index, path in enumerate(part.files):
        digest.update(encoded(f"{path.relative_to(root)}\0{path.stat().st_size}\n"))
        if index % step == 0:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _step(count: int) -> int:
    """Between images that are evenly spaced, at most 10,000 of `count`."""
    return max(1, -(-count // SAMPLE))


class _Looked(nn.Module):
    """PIL image to its center, uint8 (3, crop, crop), and what reading took from it."""

    def __init__(self, augmentation: Augmentation):
        super().__init__()
        self.view = testing_view(augmentation)

    def forward(self, image: Image.Image) -> tuple[Tensor, Look]:
        return self.view(image), image.info["look"]


def _look_at(part: Listing, augmentation: Augmentation, doing: str) -> Iterator[Tensor]:
    """Centers, uint8 (B, 3, crop, crop), of at most 10,000 images, evenly spaced; then notes on what reading took from them.

    What cannot be decoded among them stops no training that has begun.
    """
    chosen = [(index, 0) for index in range(0, len(part.files), _step(len(part.files)))]
    batches, looks = [chosen[start : start + 32] for start in range(0, len(chosen), 32)], []
    with bar(doing, len(chosen), unit=" images") as shown:
        for (images, batch), _ in _read(_Views(*_arrays(part), _Looked(augmentation)), batches, torch.device("cpu")):
            looks += map(Look._make, zip(*map(Tensor.tolist, batch)))
            yield images
            shown.update(len(images))
    tell(zip((part.files[index] for index, _ in chosen), looks), len(chosen))


def _statistics(centers: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    total, products, count = 0.0, torch.zeros(3, 3).double(), 0
    for images in centers:
        images = images.double() / 255
        total += images.sum(0)
        products += torch.einsum("nchw,ndhw->cd", images, images)
        count += len(images)
    mean = total / count
    channel = mean.mean((1, 2))
    pixels = count * mean.shape[1] * mean.shape[2]
    values, vectors = torch.linalg.eigh(products / pixels - channel[:, None] * channel)
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()  # eigh leaves them open
    return mean.float(), (signs * vectors * values).float()
