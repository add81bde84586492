"""Residual blocks and their shortcuts (arXiv 1512.03385, §3.2-3.3, Fig. 2 and Fig. 5; notebooks 00, 02, 03, 04, 09)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb.errors import InputError, require_choice, require_positive

SHORTCUTS = (None, "A", "B", "C")


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution, padding 1, no bias: the batch normalization after it has one."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def unit_convs(inputs: int, width: int, stride: int, bottleneck: bool, stride_on: str = "1x1") -> list[nn.Conv2d]:
    """The convolutions of a block: two 3x3, or 1x1, 3x3, 1x1 with 4*width channels at the end (Fig. 5).

    stride_on: the layer of a bottleneck that has the stride, "1x1" in the paper's released models (v1), "3x3" in
    torchvision (v1.5). Raises InputError on another one, and on channels or a stride that are not positive integers.
    """
    require_positive(inputs=inputs, width=width, stride=stride)
    require_choice("stride_on", stride_on, ("1x1", "3x3"))
    if not bottleneck:
        return [conv3x3(inputs, width, stride), conv3x3(width, width)]
    first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
    return [conv1x1(inputs, width, first), conv3x3(width, width, second), conv1x1(width, 4 * width)]


class NoShortcut(nn.Module):
    """No shortcut: the block computes y = F(x) + 0, which makes the network plain."""

    def forward(self, x: Tensor) -> int:
        return 0


class ZeroPad(nn.Module):
    """Option A: every `stride`-th pixel of the identity, new channels filled with zeros.

    (N, inputs, H, W) -> (N, outputs, ceil(H/stride), ceil(W/stride)). It has no parameters. The zero channels come
    after the old ones; the paper does not say where they go (§3.3, §4.1). Raises InputError if outputs < inputs.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        if outputs < inputs:
            raise InputError(f"option A cannot drop channels: from {inputs} to {outputs} it takes a projection, B or C")
        self.new_channels, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))

    def extra_repr(self) -> str:
        return f"new_channels={self.new_channels}, stride={self.stride}"


def make_shortcut(option: str | None, inputs: int, outputs: int, stride: int) -> nn.Module:
    """The shortcut of one block: None, "A", "B" or "C" (§4.1, "Identity vs. Projection Shortcuts").

    A: identity, zero-padded where the shape changes. B: identity, a projection (1x1 convolution and BN, W_s of Eq. 2)
    where the shape changes. C: projections everywhere. Raises InputError for any other option, for channels or a stride
    that are not positive integers, and where A would have to drop channels.
    """
    if option not in SHORTCUTS:
        raise InputError(f'shortcut must be None, "A", "B" or "C", got {option!r}')
    require_positive(inputs=inputs, outputs=outputs, stride=stride)
    same_shape = inputs == outputs and stride == 1
    if option is None:
        return NoShortcut()
    if option == "C" or (option == "B" and not same_shape):
        return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    return nn.Identity() if same_shape else ZeroPad(inputs, outputs, stride)


class Block(nn.Module):
    """y = relu(F(x) + shortcut(x)): Eq. 1 where the shortcut is the identity, Eq. 2 elsewhere.

    Subclasses define `residual`, the F of the paper. Parameter names are torchvision's. Arguments: see `unit_convs`
    and `make_shortcut`.
    """

    downsample: nn.Module

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.downsample(x))


class BasicBlock(Block):
    """Two 3x3 layers (Fig. 2, Fig. 5 left): (N, inputs, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1, shortcut: str | None = "A", stride_on: str = "1x1"):
        super().__init__()
        conv1, conv2 = unit_convs(inputs, width, stride, False, stride_on)
        self.conv1, self.bn1 = conv1, nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv2, nn.BatchNorm2d(width)
        self.downsample = make_shortcut(shortcut, inputs, width, stride)

    def residual(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class Bottleneck(Block):
    """1x1, 3x3, 1x1 layers (Fig. 5 right): (N, inputs, H, W) -> (N, 4*width, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1, shortcut: str | None = "A", stride_on: str = "1x1"):
        super().__init__()
        conv1, conv2, conv3 = unit_convs(inputs, width, stride, True, stride_on)
        self.conv1, self.bn1 = conv1, nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv2, nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv3, nn.BatchNorm2d(4 * width)
        self.downsample = make_shortcut(shortcut, inputs, 4 * width, stride)

    def residual(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


def make_stage(
    block: type[Block], inputs: int, width: int, blocks: int, stride: int, shortcut: str | None, stride_on: str
) -> nn.Sequential:
    """`blocks` blocks of one width; only the first changes the shape (Table 1). Raises InputError as the blocks do."""
    require_positive(blocks=blocks)
    first = block(inputs, width, stride, shortcut, stride_on)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1, shortcut, stride_on) for _ in range(blocks - 1)))


def stages(model: nn.Module) -> dict[str, nn.Sequential]:
    """The stages of blocks of a network, layer1, layer2, ... in order; none where children have other names, as in VGG."""
    children = model.named_children()
    return {name: child for name, child in children if re.fullmatch(r"layer\d+", name) and isinstance(child, nn.Sequential)}


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[nn.Module]:
    """The network, each module of which has its mode, training or not, again afterwards, also after an error."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


def he_init(model: nn.Module) -> nn.Module:
    """He initialization (arXiv 1502.01852): weights N(0, 2 / fan_in), biases 0, BN scale 1 and shift 0.

    Changes the model in place from torch's global generator and returns it.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
