"""Which pixels a trained network looks at: occlusion and Grad-CAM (notebook 13)."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb.anatomy import bare
from resnet_nb.errors import InputError, first_line, require_positive
from resnet_nb.models import modes_kept

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@torch.no_grad()
def occlusion(model: nn.Module, images: Tensor, labels: Tensor, size: int = 8, stride: int = 4) -> Tensor:
    """How much the logit of the label falls when a square of the image is covered (Zeiler and Fergus, arXiv 1311.2901).

    images: (N, 3, H, W) as the network takes them, so that 0, the cover, is the mean image; labels: (N,) integers.
    The square has `size` pixels a side and moves by `stride`; a pixel gets the mean drop over the squares that
    cover it: (N, H, W), on average larger where the evidence is. Runs in eval mode and puts the model's mode back.
    Raises InputError if squares do not fit into the image or leave pixels uncovered, if the network does not take the
    images, if labels are none of its classes, and if logits are not finite.
    """
    require_positive(size=size, stride=stride)
    _require_batch(images)
    height, width = images.shape[-2:]
    if stride > size or size > min(height, width) or (height - size) % stride or (width - size) % stride:
        raise InputError(f"squares of {size} pixels moved by {stride} do not cover {height}x{width} pixels evenly")
    drops, covers = torch.zeros_like(images[:, 0]), torch.zeros_like(images[0, 0])
    with _evaluated(model) as net:
        whole = _logit(net, images, labels)
        for top in range(0, height - size + 1, stride):
            for left in range(0, width - size + 1, stride):
                square = slice(top, top + size), slice(left, left + size)
                covered = images.clone()
                covered[:, :, *square] = 0
                drops[:, *square] += (whole - _logit(net, covered, labels))[:, None, None]
                covers[square] += 1
    return drops / covers


@torch.inference_mode(False)
@torch.enable_grad()
def grad_cam(model: nn.Module, images: Tensor, labels: Tensor, layer: nn.Module) -> Tensor:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391): relu of the sum of weighted maps, at the size of the image.

    images: (N, 3, H, W) as the network takes them; labels: (N,) integers. layer: the module of `model` whose output
    (N, C, h, w) is weighted, each map by the mean gradient of the label's logit on it (Eq. 1 and 2). Returns (N, H, W),
    enlarged bilinearly. Leaves no gradients on the parameters, and works where gradients are switched off. Runs in eval
    mode and puts the model's mode back. Raises InputError if `layer` does not run exactly once, returns no maps or has
    no influence on the logit, and else as `occlusion`.
    """
    _require_batch(images)
    kept = []

    def keep(module: nn.Module, inputs, output):
        kept.append(output)
        # what comes behind the layer may write into its output, as a ReLU in place does: into a copy
        return output.clone() if isinstance(output, Tensor) else None

    with _evaluated(model) as net:
        handle = bare(layer).register_forward_hook(keep)
        try:
            # the images require a gradient so that a frozen network has one, too; a clone is no tensor of inference mode
            logit = _logit(net, images.detach().clone().requires_grad_(), labels)
        finally:
            handle.remove()
        if len(kept) != 1 or not isinstance(kept[0], Tensor) or kept[0].ndim != 4:
            raise InputError("layer must be a module of the network that runs once and returns maps (N, C, H, W)")
        try:
            (gradients,) = torch.autograd.grad(logit.sum(), kept[0])
        except RuntimeError as error:
            raise InputError(f"the logit has no gradient on the maps of this layer ({first_line(error)})") from error
    weights = gradients.mean((2, 3), keepdim=True)
    heat = F.relu((weights * kept[0]).sum(1, keepdim=True)).detach()
    return F.interpolate(heat, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


@contextlib.contextmanager
def _evaluated(model: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode, not compiled, so that it sees new hooks; afterwards every module has the mode that it had."""
    with modes_kept(bare(model)) as net, torch.compiler.set_stance("force_eager"):
        yield net.eval()


def _require_batch(images) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise InputError(f"images must be a tensor (N, 3, H, W) of floating point numbers, N >= 1, got {_kind(images)}")


def _logit(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The logit (N,) of each image's label."""
    try:
        logits = net(images)
    except InputError:
        raise
    except Exception as error:  # a forward pass and its hooks can do anything
        raise InputError(f"the network does not take these images ({first_line(error)})") from error
    count = len(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != count or logits.is_meta:
        raise InputError(f"the network must return logits, a tensor ({count}, classes), got {_kind(logits)}")
    if not isinstance(labels, Tensor) or labels.shape != (count,) or labels.dtype not in INTEGERS:
        raise InputError(f"labels must be a tensor ({count},) of integers, got {_kind(labels)}")
    if not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise InputError(f"labels must be classes from 0 to {logits.shape[1] - 1}, got {labels.min()} to {labels.max()}")
    if not logits.isfinite().all():
        raise InputError("logits are not finite: there are NaN or infinite numbers in the images or in the network")
    return logits.gather(1, labels.to(logits.device, torch.int64)[:, None])[:, 0]


def _kind(value) -> str:
    return f"{tuple(value.shape)} {value.dtype} on {value.device}" if isinstance(value, Tensor) else type(value).__name__
