"""Which pixels a trained network looks at: occlusion and Grad-CAM (notebook 13)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb.errors import InputError, require_positive


def occlusion(model: nn.Module, images: Tensor, labels: Tensor, size: int = 8, stride: int = 4) -> Tensor:
    """How much the logit of the label falls when a square of the image is covered (Zeiler and Fergus, arXiv 1311.2901).

    images: (N, 3, H, W) as the network takes them, so that 0, the cover, is the mean image; labels: (N,) int64.
    The square has `size` pixels a side and moves by `stride`; a pixel gets the mean drop over the squares that
    cover it: (N, H, W), on average larger where the evidence is. Uses the mode the model is in. Raises InputError
    if squares do not fit into the image or leave pixels uncovered.
    """
    require_positive(size=size, stride=stride)
    height, width = images.shape[-2:]
    if stride > size or size > min(height, width) or (height - size) % stride or (width - size) % stride:
        raise InputError(f"squares of {size} pixels moved by {stride} do not cover {height}x{width} pixels evenly")
    drops, covers = torch.zeros_like(images[:, 0]), torch.zeros_like(images[0, 0])
    with torch.no_grad():
        whole = _logit(model(images), labels)
        for top in range(0, height - size + 1, stride):
            for left in range(0, width - size + 1, stride):
                square = slice(top, top + size), slice(left, left + size)
                covered = images.clone()
                covered[:, :, *square] = 0
                drops[:, *square] += (whole - _logit(model(covered), labels))[:, None, None]
                covers[square] += 1
    return drops / covers


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor, layer: nn.Module) -> Tensor:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391): relu of the sum of weighted maps, at the size of the image.

    images: (N, 3, H, W) as the network takes them; labels: (N,) int64. layer: the module of `model` whose output
    (N, C, h, w) is weighted, each map by the mean gradient of the label's logit on it (Eq. 1 and 2). Returns (N, H, W),
    enlarged bilinearly. Leaves no gradients on the parameters. Put the model in eval mode: in training BN mixes the
    images of a batch. Raises InputError if `layer` does not run exactly once, or returns no maps.
    """
    kept = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            # the images require a gradient so that a frozen network has one, too
            logits = model(images.detach().requires_grad_())
    finally:
        handle.remove()
    if len(kept) != 1 or kept[0].ndim != 4:
        raise InputError("layer must be a module of the network that runs once and returns maps (N, C, H, W)")
    (gradients,) = torch.autograd.grad(_logit(logits, labels).sum(), kept[0])
    weights = gradients.mean((2, 3), keepdim=True)
    heat = F.relu((weights * kept[0]).sum(1, keepdim=True)).detach()
    return F.interpolate(heat, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def _logit(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]
