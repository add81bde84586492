"""What a network is made of: weighted layers, map sizes, parameters, multiply-adds (notebooks 01, 03, 04, 06, 08, 10 to 13)."""

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from resnet_nb.errors import InputError, is_shape
from resnet_nb.models import stages


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer as it runs on one image."""

    name: str  # as in model.named_modules()
    kind: str  # "conv" or "fc"
    kernel: int  # side of the kernel in pixels; 1 for fc
    stride: int
    inputs: int  # channels in
    outputs: int  # channels out
    size: int  # side of the output map in pixels; 1 for fc
    weights: int  # without bias
    multiply_adds: int  # one multiplication and one addition count once
    projection: bool  # on a shortcut (W_s of Eq. 2, or a gate): not a layer of the papers' count


@dataclass(frozen=True)
class Anatomy:
    """Counts of one network for one image, by the paper's conventions.

    layers: weighted layers (convolutions and fc; projections not counted, Table 1). params: all trainable numbers, BN and
    biases included. multiply_adds: of convolutions (projections included) and fc; one multiply-add is one "FLOP" of the
    paper. stage_sizes: side of the map after each stage of blocks, in pixels; () for VGG. rows: every convolution and fc
    in the order in which they run.
    """

    layers: int
    params: int
    multiply_adds: int
    stage_sizes: tuple[int, ...]
    rows: tuple[Layer, ...]


def describe(model: nn.Module, input_size: int | tuple[int, ...]) -> Anatomy:
    """Count the layers, parameters and multiply-adds of `model` for one image.

    input_size: side in pixels, or (3, H, W), or (N, 3, H, W) of which N is ignored. Nothing is computed: the model is
    copied to the meta device. Raises InputError on any other size.
    """
    shape = (3, input_size, input_size) if type(input_size) is int else input_size
    if not is_shape(shape) or len(shape) not in (3, 4) or shape[-3] != 3:
        raise InputError(f"input_size must be a side in pixels, (3, H, W) or (N, 3, H, W), got {input_size!r}")
    rows: list[Layer] = []
    sizes: dict[str, int] = {}
    meta = copy.deepcopy(model).to("meta").eval()

    def record(name: str, module: nn.Module, inputs, output: Tensor) -> None:
        if isinstance(module, nn.Sequential):
            sizes[name] = output.shape[-1]
        else:
            rows.append(_layer(name, module, output.shape))

    for module in meta.modules():
        module._forward_hooks.clear()  # the reader's own, which the copy came with
        module._forward_pre_hooks.clear()
    layers = {name: module for name, module in meta.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    for name, module in (layers | stages(meta)).items():
        module.register_forward_hook(partial(record, name))
    try:
        with torch.no_grad():
            meta(torch.empty(1, *shape[-3:], device="meta"))
    except RuntimeError as error:
        raise InputError(f"images of {shape[-2]}x{shape[-1]} pixels do not fit this network ({error})") from error
    return Anatomy(
        layers=sum(not row.projection for row in rows),
        params=sum(p.numel() for p in model.parameters()),
        multiply_adds=sum(row.multiply_adds for row in rows),
        stage_sizes=tuple(sizes.values()),
        rows=tuple(rows),
    )


def _layer(name: str, module: nn.Conv2d | nn.Linear, shape: torch.Size) -> Layer:
    conv = isinstance(module, nn.Conv2d)
    size = shape[-1] if conv else 1
    return Layer(
        name=name,
        kind="conv" if conv else "fc",
        kernel=module.kernel_size[0] if conv else 1,
        stride=module.stride[0] if conv else 1,
        inputs=module.in_channels if conv else module.in_features,
        outputs=shape[1],
        size=size,
        weights=module.weight.numel(),
        multiply_adds=module.weight.numel() * (shape[-2] * shape[-1] if conv else 1),
        projection=not {"downsample", "gate"}.isdisjoint(name.split(".")),
    )
