"""What a training asks of network, data and program before its first step."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call

from resnet_nb.data import Images
from resnet_nb.errors import InputError, few, first_line
from resnet_nb.models import modes_kept
from resnet_nb.recipes import Recipe


@contextmanager
def as_usual() -> Iterator[None]:
    """Gradients on, autocast off, new tensors float32 on the CPU, whatever the program has switched; all is put back."""
    # only where it differs: while it lasts, every call of torch takes a little longer
    place = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
    plain = (torch.autocast(device, enabled=False) for device in ("cpu", "cuda"))
    with torch.inference_mode(False), torch.enable_grad(), place, next(plain), next(plain), _float32_by_default():
        yield


_lock, _inside = threading.Lock(), []  # the default type before, once for each that is inside: it is the whole process's


@contextmanager
def _float32_by_default() -> Iterator[None]:
    with _lock:
        _inside.append(_inside[0] if _inside else torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                torch.set_default_dtype(before)


def require_augmentation(recipe: Recipe, data: Images) -> None:
    """Raise InputError unless the recipe names the augmentation that the data make: what is recorded is what trains."""
    if recipe.augmentation != data.augmentation:
        asked, made = (wanted or "None, that of data in memory" for wanted in (recipe.augmentation, data.augmentation))
        mend = "load the data with the recipe's augmentation, or choose a recipe that fits"
        raise InputError(f"the recipe's augmentation is {asked}; that of {data.name} is {made}: {mend}")


def require_labels(data: Images) -> None:
    """Raise InputError unless there are images of both parts and every label is an index into the classes."""
    for part, labels in (("training", data.train_labels), ("test", data.test_labels)):
        if not len(labels):
            raise InputError(f"{data.name} has no {part} images")
        low, high = labels.min().item(), labels.max().item()
        if not 0 <= low <= high < len(data.classes):
            allowed = f"0 to {len(data.classes) - 1}, indices into its {len(data.classes)} classes"
            raise InputError(f"labels of {data.name} must be {allowed}; its {part} labels are {low} to {high}")


def require_trainable(model: nn.Module) -> None:
    """Raise InputError unless the network has a weight that can be trained."""
    weights = list(model.parameters())
    if any(weight.is_meta for weight in weights):
        raise InputError("the network is on the device meta, without numbers in it; build it on the CPU")
    if any(weight.is_inference() for weight in weights):
        raise InputError("the network was made in torch.inference_mode, which no training can change; build it outside")
    if not any(weight.requires_grad for weight in weights):
        raise InputError("nothing to train: no weight of the network has requires_grad=True")


def require_logits(logits: Tensor, data: Images) -> None:
    """Raise InputError unless the network gives each image one number, or more, for each class."""
    if logits.ndim != 2 or logits.shape[1] < len(data.classes):
        asked = f"{data.name} has {len(data.classes)} classes: build the network with num_classes={len(data.classes)}"
        raise InputError(f"the network gives logits of shape (B, {', '.join(map(str, logits.shape[1:]))}), and {asked}")


def require_fit(model: nn.Module, data: Images, share: int | None = None) -> None:
    """Raise InputError unless the network takes images as the data have them; share: of a batch, in training.

    One image is tried; mode and BN statistics stay.
    """
    image = data.center(torch.zeros(1, *data.shape, dtype=torch.uint8, device=data.device))
    try:
        with modes_kept(model), torch.no_grad():
            require_logits(model.eval()(image), data)
            if share == 1:  # which BN cannot normalize where its map is one pixel
                for module in model.modules():
                    module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)  # dropout would draw
                functional_call(model, {name: buffer.clone() for name, buffer in model.named_buffers()}, image)
    except (InputError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError) as error:
        kinds = {weight.dtype for weight in model.parameters() if weight.is_floating_point()} - {torch.float32}
        mend = f"; its weights are {few(kinds)}, the images float32: model.float() mends it" if kinds else ""
        shape, why = "x".join(map(str, data.shape)), first_line(error)
        raise InputError(f"the network cannot take images of {shape}, as {data.name} has them ({why}){mend}") from error
