"""What training keeps in memory for the backward pass, and checkpointing, which keeps less (notebooks 04, 10, 13)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from resnet_nb.anatomy import detached_copy, meta_copy, run_on_meta
from resnet_nb.errors import InputError, is_shape, require_positive
from resnet_nb.models import stages


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes that exist for the backward pass of one training step; without `recompute` the two are equal.

    kept: from the forward to the backward pass. peak: the most at one time. Where the backward pass through a segment
    of `Segments` begins, that is what was kept up to there and what it computes again inside.
    """

    kept: int
    peak: int


@torch.inference_mode(False)
@torch.enable_grad()
def activation_bytes(model: nn.Module, shape: tuple[int, int, int, int]) -> ActivationBytes:
    """What autograd keeps in a training step, for images of `shape` = (N, 3, H, W) in the type of the weights (float32).

    Every storage counts once; parameters and buffers do not count, the images do. Nothing is computed or changed: a copy
    of the model runs on the meta device, without hooks of yours, also where gradients are switched off. Not in it:
    gradients, the optimizer, work space of the kernels. Raises InputError if the images do not fit the network, and if
    the model cannot be copied or does not run there.
    """
    if not is_shape(shape) or len(shape) != 4:
        raise InputError(f"shape must be (N, 3, H, W), got {shape!r}")
    meta = meta_copy(model).train()
    own = {_key(tensor) for tensor in (*meta.parameters(), *meta.buffers())}
    kept, peaks = {}, []

    def enter(stage: Segments, inputs: tuple[Tensor]) -> None:
        (x,), before = inputs, dict(kept)
        for segment in stage.segments():
            before[_key(x)] = x
            inside = dict(before)
            with _saved_into(inside, own):
                x = segment(x)
            peaks.append(_bytes(inside))

    for stage in meta.modules():
        if isinstance(stage, Segments):
            stage.register_forward_pre_hook(enter)
    with _saved_into(kept, own):
        run_on_meta(meta, shape)
    return ActivationBytes(_bytes(kept), max(_bytes(kept), *peaks, 0))


class Segments(nn.Sequential):
    """Blocks of which only every `size`-th input is kept; the backward pass computes what lies between again.

    Outputs, gradients and parameter names are those of nn.Sequential. BN in training updates its running statistics in
    both computations.
    """

    def __init__(self, blocks: nn.Sequential, size: int):
        super().__init__()
        vars(self).update(vars(blocks))  # its blocks, its mode and its hooks
        self.size = size

    def segments(self) -> list[nn.Sequential]:
        """The blocks in groups of `size`, the last one maybe shorter."""
        blocks = list(self)
        return [nn.Sequential(*blocks[i : i + self.size]) for i in range(0, len(blocks), self.size)]

    def forward(self, x: Tensor) -> Tensor:
        for segment in self.segments():
            x = checkpoint(segment, x, use_reentrant=False)
        return x


@torch.inference_mode(False)
def recompute(model: nn.Module, size: int) -> nn.Module:
    """A copy of `model` whose stages layer1, layer2, ... run in segments of `size` blocks (`Segments`).

    Activation checkpointing (Chen et al., arXiv 1604.06174). Raises InputError for a network without such stages
    or a size that is not a positive integer.
    """
    require_positive(size=size)
    changed = detached_copy(model)
    if not stages(changed):
        raise InputError(f"{type(changed).__name__} has no stages layer1, layer2, ... of blocks to compute again")
    for name, blocks in stages(changed).items():
        setattr(changed, name, Segments(blocks, size))
    return changed


def _saved_into(storages: dict[int, Tensor], own: set[int]) -> saved_tensors_hooks:
    """Collect what autograd saves, by storage; `storages` keeps it alive, so that no storage is taken for a new one."""

    def pack(tensor: Tensor) -> Tensor:
        if _key(tensor) not in own:
            storages[_key(tensor)] = tensor
        return tensor

    return saved_tensors_hooks(pack, lambda tensor: tensor)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # a meta tensor has no address of its own


def _bytes(storages: dict[int, Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
