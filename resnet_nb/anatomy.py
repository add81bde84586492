"""What a network is made of: weighted layers, map sizes, parameters, multiply-adds (notebooks 01, 03, 04, 06, 08, 10 to 13)."""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from resnet_nb.errors import InputError, first_line, is_shape
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


@torch.inference_mode(False)
def describe(model: nn.Module, input_size: int | tuple[int, ...]) -> Anatomy:
    """Count the layers, parameters and multiply-adds of `model` for one image.

    input_size: side in pixels, or (3, H, W), or (N, 3, H, W) of which N is ignored. Nothing is computed or changed: a copy
    of the model runs on the meta device, without hooks of yours. Raises InputError on any other size, and if the model
    cannot be copied or does not run there.
    """
    shape = (3, input_size, input_size) if type(input_size) is int else input_size
    if not is_shape(shape) or len(shape) not in (3, 4) or shape[-3] != 3:
        raise InputError(f"input_size must be a side in pixels, (3, H, W) or (N, 3, H, W), got {input_size!r}")
    rows: list[Layer] = []
    sizes: dict[str, int] = {}
    meta = meta_copy(model).eval()

    def record(name: str, module: nn.Module, inputs, output: Tensor) -> None:
        if isinstance(module, nn.Sequential):
            sizes[name] = output.shape[-1]
        else:
            rows.append(_layer(name, module, output))

    layers = {name: module for name, module in meta.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    for name, module in (layers | stages(meta)).items():
        module.register_forward_hook(partial(record, name))
    run_on_meta(meta, (1, *shape[-3:]))
    return Anatomy(
        layers=sum(not row.projection for row in rows),
        params=sum(p.numel() for p in meta.parameters()),
        multiply_adds=sum(row.multiply_adds for row in rows),
        stage_sizes=tuple(sizes.values()),
        rows=tuple(rows),
    )


def bare(model: nn.Module) -> nn.Module:
    """The network inside what torch.compile, DataParallel and DistributedDataParallel make of it; others as they are.

    Raises InputError for what is no network, and for one whose lazy layers have no weights yet.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a network (torch.nn.Module), got {type(model).__name__}; models.build makes one")
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        raise InputError("the model has lazy layers, which have no weights yet; run it once on images of your size")
    return _unwrap(model)


def _unwrap(model: nn.Module) -> nn.Module:
    while "_orig_mod" in model._modules or isinstance(model, (DataParallel, DistributedDataParallel)):
        model = model._modules.get("_orig_mod") or model.module
    return model


def detached_copy(model: nn.Module, memo: dict | None = None, meta: bool = False) -> nn.Module:
    """A deep copy of `bare(model)`, also if it has kept a tensor of a forward pass; nothing in it is compiled.

    memo: as of copy.deepcopy. meta: the copy is on the meta device. Raises InputError if something cannot be copied.
    """
    model, memo = bare(model), {} if memo is None else memo
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError("the layers of a model of torch.jit cannot be seen; take the model that it was made from")
    try:
        with _CopyTensors(meta):
            for module in reversed([*model.modules()]):
                memo[id(module)] = copy.deepcopy(_unwrap(module), memo)
        return memo[id(model)].to("meta") if meta else memo[id(model)]
    except Exception as error:  # anything can hang on a module
        raise InputError(f"cannot copy the model ({first_line(error)}); take off what you have set on its modules") from error


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` on the meta device, without the hooks that a reader set; raises InputError as `detached_copy`.

    torch's own hooks stay: they make the weights of pruned and weight-normalized layers.
    """
    memo = {}
    for module in bare(model).modules():
        for name, hooks in vars(module).items():
            if name.endswith("_hooks") and isinstance(hooks, dict):
                own = {key: hook for key, hook in hooks.items() if (getattr(hook, "__module__", "") or "").startswith("torch.")}
                memo[id(hooks)] = OrderedDict(own)
    return detached_copy(model, memo, meta=True)


def run_on_meta(meta: nn.Module, shape: tuple[int, ...]) -> None:
    """Images of `shape`, in the type of the weights, through a `meta_copy`. Raises InputError if that does not go."""
    kinds = [p.dtype for p in meta.parameters() if p.is_floating_point()]
    try:
        with torch.device("meta"), torch.compiler.set_stance("force_eager"):  # tensors and functions of the network itself
            meta(torch.empty(*shape, dtype=kinds[0] if kinds else torch.float32))
    except InputError:
        raise
    except Exception as error:  # a forward pass can do anything
        size = "x".join(map(str, shape[-2:]))
        why = f"or it cannot run without computing ({first_line(error)})"
        raise InputError(f"images of {size} pixels do not fit this network, {why}") from error


class _CopyTensors(TorchFunctionMode):
    """Inside it `copy.deepcopy` takes tensors out of their graph, where it would fail, or all to the meta device."""

    def __init__(self, meta: bool):
        super().__init__()
        self.meta = meta

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not Tensor.__deepcopy__ or not (self.meta or not args[0].is_leaf):
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        copied = tensor.detach().to("meta") if self.meta else tensor.detach().clone()
        memo[id(tensor)] = copied.requires_grad_(tensor.requires_grad)
        return memo[id(tensor)]


def _layer(name: str, module: nn.Conv2d | nn.Linear, output: Tensor) -> Layer:
    conv = isinstance(module, nn.Conv2d)
    outputs, weights = module.out_channels if conv else module.out_features, module.weight.numel()
    return Layer(
        name=name,
        kind="conv" if conv else "fc",
        kernel=module.kernel_size[0] if conv else 1,
        stride=module.stride[0] if conv else 1,
        inputs=module.in_channels if conv else module.in_features,
        outputs=outputs,
        size=output.shape[-1] if conv else 1,
        weights=weights,
        multiply_adds=weights * (output.numel() // outputs),  # each weight works once at each place of the output
        projection=not {"downsample", "gate"}.isdisjoint(name.split(".")),
    )
