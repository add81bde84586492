"""What training keeps in memory for the backward pass, and activation checkpointing, which keeps less (notebooks 10, 13)."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from resnet_nb.errors import InputError, first_line, is_shape, require_positive
from resnet_nb.models import stages


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes that exist for the backward pass of one training step; without `recompute` the two are equal.

    kept: from the forward to the backward pass. peak: the most at one time. Where the backward pass through a segment
    of `Segments` begins, that is what was kept up to there and what it computes again inside.
    """

    kept: int
    peak: int


def activation_bytes(model: nn.Module, shape: tuple[int, int, int, int]) -> ActivationBytes:
    """What autograd keeps in a training step in float32, for images of `shape` = (N, 3, H, W).

    Every storage counts once; parameters and buffers do not count, the images do. Nothing is computed: the model is
    copied to the meta device. Not in it: gradients, the optimizer, work space of the kernels. Raises InputError if the
    images do not fit the network.
    """
    if not is_shape(shape) or len(shape) != 4:
        raise InputError(f"shape must be (N, 3, H, W), got {shape!r}")
    meta = copy.deepcopy(model).to("meta").train()
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
    try:
        with _saved_into(kept, own):
            meta(torch.empty(*shape, device="meta"))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"images of shape {tuple(shape)} do not fit this network ({first_line(error)})") from error
    return ActivationBytes(_bytes(kept), max(_bytes(kept), *peaks, 0))


class Segments(nn.Sequential):
    """Blocks of which only every `size`-th input is kept; the backward pass computes what lies between again.

    Outputs, gradients and parameter names are those of nn.Sequential. BN in training updates its running statistics in
    both computations.
    """

    def __init__(self, blocks: nn.Sequential, size: int):
        super().__init__(*blocks)
        self.size = size

    def segments(self) -> list[nn.Sequential]:
        """The blocks in groups of `size`, the last one maybe shorter."""
        blocks = list(self)
        return [nn.Sequential(*blocks[i : i + self.size]) for i in range(0, len(blocks), self.size)]

    def forward(self, x: Tensor) -> Tensor:
        for segment in self.segments():
            # the blocks draw no random numbers, so their state need not be put back
            x = checkpoint(segment, x, use_reentrant=False, preserve_rng_state=False)
        return x


def recompute(model: nn.Module, size: int) -> nn.Module:
    """A copy of `model` whose stages layer1, layer2, ... run in segments of `size` blocks (`Segments`).

    Activation checkpointing (Chen et al., arXiv 1604.06174). Raises InputError for a network without such stages
    or a size that is not a positive integer.
    """
    require_positive(size=size)
    if not stages(model):
        raise InputError(f"{type(model).__name__} has no stages layer1, layer2, ... of blocks to compute again")
    changed = copy.deepcopy(model)
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
