"""Residual units with the activation in five places, and the pre-activation networks (arXiv 1603.05027; notebook 11)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb.errors import (
    InputError,
    require_bool,
    require_choice,
    require_depth,
    require_images,
    require_number,
    require_positive,
)
from resnet_nb.models.blocks import Bottleneck, conv1x1, conv3x3, he_init, make_shortcut, stages, unit_convs
from resnet_nb.models.resnet import LAYOUTS

# Fig. 4, in the words of Table 2
PLACEMENTS = {
    "a": "original",
    "b": "BN after addition",
    "c": "ReLU before addition",
    "d": "ReLU-only pre-activation",
    "e": "full pre-activation",
}
# Table 1, Fig. 2: what else may stand on the shortcut, and its constants
VARIANTS = {
    "scaling": ("on_shortcut", "on_residual"),
    "exclusive-gating": ("gate_bias",),
    "gating": ("gate_bias",),
    "dropout": (),
}


class Add(nn.Module):
    """x_l+1 = h + F, the addition of Eq. 1 (Fig. 2a)."""

    def forward(self, x: Tensor, h: Tensor, residual: Tensor) -> Tensor:
        return h + residual


class Scale(nn.Module):
    """lambda * h + mu * F with constants (Fig. 2b)."""

    def __init__(self, on_shortcut: float, on_residual: float):
        super().__init__()
        self.on_shortcut, self.on_residual = on_shortcut, on_residual

    def forward(self, x: Tensor, h: Tensor, residual: Tensor) -> Tensor:
        return self.on_shortcut * h + self.on_residual * residual

    def extra_repr(self) -> str:
        return f"on_shortcut={self.on_shortcut:g}, on_residual={self.on_residual:g}"


class Gate(nn.Module):
    """(1 - g) * h + F, or exclusively (1 - g) * h + g * F, with g = sigmoid(W_g x + b_g) (Fig. 2c and 2d).

    W_g is a 1x1 convolution of the unit's input; b_g starts at `start` in every channel.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, start: float, exclusive: bool):
        super().__init__()
        self.gate, self.exclusive = conv1x1(inputs, outputs, stride), exclusive
        self.bias = nn.Parameter(torch.full((outputs, 1, 1), float(start)))

    def forward(self, x: Tensor, h: Tensor, residual: Tensor) -> Tensor:
        g = torch.sigmoid(self.gate(x) + self.bias)
        return (1 - g) * h + (g * residual if self.exclusive else residual)


class Drop(nn.Module):
    """dropout(h) + F with ratio 0.5 (Fig. 2f)."""

    def forward(self, x: Tensor, h: Tensor, residual: Tensor) -> Tensor:
        return F.dropout(h, 0.5, self.training) + residual


def make_join(shortcut: str, inputs: int, outputs: int, stride: int, constants: dict[str, float]) -> nn.Module:
    """How a unit joins shortcut and residual: one of VARIANTS (Table 1), the plain addition for "A", "B" and "C"."""
    if shortcut == "scaling":
        return Scale(**constants)
    if shortcut in ("gating", "exclusive-gating"):
        return Gate(inputs, outputs, stride, constants["gate_bias"], exclusive=shortcut == "exclusive-gating")
    return Drop() if shortcut == "dropout" else Add()


class Unit(nn.Module):
    """One residual unit, Fig. 4 (a) to (e) and Fig. 2: (N, inputs, H, W) -> (N, outputs, H/stride, W/stride).

    before: the activation that comes before F (d, e), residual: the layers of F, after: what follows the addition (a, b),
    each an nn.Sequential in the order of Fig. 4. A projection reads the activated signal, too, as in the authors' code;
    every other shortcut reads x itself, so that the path stays clean.
    convs: two or three, as `unit_convs` gives them; first: without `before`, which the stem has done.
    Raises InputError on another placement or shortcut, or on constants that it does not take.
    """

    def __init__(self, convs: list[nn.Conv2d], placement: str, shortcut: str, first: bool = False, **constants):
        super().__init__()
        require_choice("placement", placement, PLACEMENTS)
        require_choice("shortcut", shortcut, ("A", "B", "C", *VARIANTS))
        require_constants(shortcut, constants)
        inputs, outputs = convs[0].in_channels, convs[-1].out_channels
        stride = convs[0].stride[0] * convs[1].stride[0]
        layers = unit_layers(convs, placement)
        start = layers.index(convs[0])
        end = len(layers) - {"a": 1, "b": 2}.get(placement, 0)
        self.before = nn.Sequential(*([] if first else layers[:start]))  # the first unit's stands behind conv1
        self.residual, self.after = nn.Sequential(*layers[start:end]), nn.Sequential(*layers[end:])
        self.downsample = make_shortcut("A" if shortcut in VARIANTS else shortcut, inputs, outputs, stride)
        self.projects = isinstance(self.downsample, nn.Sequential)
        if self.projects and placement == "e":
            self.downsample = nn.Sequential(conv1x1(inputs, outputs, stride))  # BN stands before it, not after
        self.join = make_join(shortcut, inputs, outputs, stride, constants)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.before(x)
        h = self.downsample(activated if self.projects else x)
        return self.after(self.join(x, h, self.residual(activated)))


def unit_layers(convs: list[nn.Conv2d], placement: str) -> list[nn.Module]:
    """The convolutions of a unit with their BN and ReLU in the order of Fig. 4; the last of (a) and (b) follow the addition."""
    layers: list[nn.Module] = []
    for conv in convs:
        if placement == "e":
            layers += [nn.BatchNorm2d(conv.in_channels), nn.ReLU(), conv]
        elif placement == "d":
            layers += [nn.ReLU(), conv, nn.BatchNorm2d(conv.out_channels)]
        else:
            layers += [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()]
    return layers


def require_constants(shortcut: str, constants: dict) -> None:
    """Raise InputError unless `constants` are the numbers that this shortcut needs, within a million, and no others."""
    needed = VARIANTS.get(shortcut, ())
    for name in sorted(constants.keys() ^ set(needed)):
        fault = "missing" if name in needed else "not one of them"
        raise InputError(f"shortcut {shortcut!r} takes {' and '.join(needed) or 'no constants'}, {name} is {fault}")
    for name, value in constants.items():
        require_number(name, value, -1e6, 1e6)


class PreactResNet(nn.Module):
    """A stem, stages of `Unit`, global average pooling and one linear layer: (N, 3, H, W) -> (N, num_classes).

    stem: layers up to the first unit, its BN and ReLU included; blocks: units per stage; widths: channels of the 3x3
    layers per stage. Stages after the first halve the map. smallest: side of the smallest images, in pixels. first:
    whether the stem's last BN and ReLU are those of the first unit ("right after conv1", §A). The other arguments are
    those of `unit_convs` and `Unit`. After the last unit follow the BN and ReLU that its successor would begin with.
    """

    def __init__(
        self,
        stem: nn.Sequential,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int,
        smallest: int,
        bottleneck: bool = True,
        placement: str = "e",
        shortcut: str = "B",
        stride_on: str = "1x1",
        first: bool = True,
        **constants,
    ):
        super().__init__()
        require_positive(num_classes=num_classes)
        self.smallest, self.stem = smallest, stem
        channels = next(layer.out_channels for layer in stem if isinstance(layer, nn.Conv2d))
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            units = []
            for place in range(count):
                convs = unit_convs(channels, width, 2 if stage and not place else 1, bottleneck, stride_on)
                units.append(Unit(convs, placement, shortcut, first and not stage and not place, **constants))
                channels = convs[-1].out_channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*units))
        last = {"d": [nn.ReLU()], "e": [nn.BatchNorm2d(channels), nn.ReLU()]}
        self.last = nn.Sequential(*last.get(placement, []))
        self.fc = nn.Linear(channels, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        require_images(x, self.smallest)
        x = self.stem(x)
        for stage in stages(self).values():
            x = stage(x)
        x = F.adaptive_avg_pool2d(self.last(x), 1)
        return self.fc(torch.flatten(x, 1))


class CifarPreact(PreactResNet):
    """CIFAR network of 1603.05027: (N, 3, 32, 32) images to (N, num_classes) logits.

    depth = 6n + 2 with two 3x3 layers per unit, 9n + 2 with bottleneck units (164 and 1001 in the paper), n units in each
    of three stages. placement: "a" to "e" of Fig. 4. shortcut: "A", "B" or "C" ("default": A, with bottleneck units B),
    or on option A a variant of Table 1: "scaling" with constants on_shortcut and on_residual, "gating" or
    "exclusive-gating" with gate_bias, "dropout" (ratio 0.5); the table's 1x1 convolution is "C". With placement "a" it is
    the network of 1512.03385. Raises InputError on anything else.
    """

    def __init__(
        self,
        depth: int,
        placement: str = "e",
        bottleneck: bool = False,
        shortcut: str = "default",
        width: int = 16,
        num_classes: int = 10,
        on_shortcut: float | None = None,
        on_residual: float | None = None,
        gate_bias: float | None = None,
    ):
        require_bool(bottleneck=bottleneck)
        n = require_depth(depth, 9) if bottleneck else require_depth(depth, 6, ", or 9n+2 with bottleneck=True")
        require_positive(width=width)
        constants = {"on_shortcut": on_shortcut, "on_residual": on_residual, "gate_bias": gate_bias}
        super().__init__(
            nn.Sequential(conv3x3(3, width), nn.BatchNorm2d(width), nn.ReLU()),
            (n, n, n),
            (width, 2 * width, 4 * width),
            num_classes,
            smallest=8,
            bottleneck=bottleneck,
            placement=placement,
            shortcut=("B" if bottleneck else "A") if shortcut == "default" else shortcut,
            **{name: value for name, value in constants.items() if value is not None},
        )


class ImageNetPreact(PreactResNet):
    """ImageNet network of 1603.05027, Table 5: (N, 3, H, W) images to (N, num_classes) logits.

    Bottleneck units with full pre-activation and option B. depth: 50, 101, 152 or 200, whose 16 more units than 152 all
    stand on the 28x28 maps. width: channels of conv1 and of the first stage's 3x3 layers. stride_on: "1x1" as in the
    authors' code, or "3x3". Raises InputError on another value and on inputs below 32 pixels.
    """

    def __init__(self, depth: int, width: int = 64, num_classes: int = 1000, stride_on: str = "1x1"):
        require_choice("depth", depth, [known for known, (block, _) in LAYOUTS.items() if block is Bottleneck])
        require_positive(width=width)
        conv = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        stem = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        widths = (width, 2 * width, 4 * width, 8 * width)
        super().__init__(stem, LAYOUTS[depth][1], widths, num_classes, smallest=32, stride_on=stride_on)


class TinyPreact(PreactResNet):
    """A widespread pre-activation net for 64x64 images, as in a Keras tutorial: it belongs to neither paper.

    (N, 3, 64, 64) -> (N, num_classes). BN on the input, a 5x5 stem and a pool, then `stages` bottleneck units with
    filters[1:] channels at their ends (filters[0]: the stem's); the stride in the 3x3. Average pooling is global here,
    so that other sizes than 64 work, too. Raises InputError on lengths that do not fit, or on filters that are not
    multiples of 4.
    """

    def __init__(
        self, stages: tuple[int, ...] = (3, 4, 6), filters: tuple[int, ...] = (64, 128, 256, 512), num_classes: int = 200
    ):
        if not all(isinstance(v, (list, tuple)) for v in (stages, filters)) or not len(filters) == len(stages) + 1 > 1:
            raise InputError(f"filters must be one positive integer more than stages, got {stages!r} and {filters!r}")
        for n in (*stages, *filters):
            require_positive(stages_and_filters=n)
        if any(n % 4 for n in filters[1:]):
            raise InputError(f"filters after the first must be multiples of 4, got {filters!r}")
        conv = nn.Conv2d(3, filters[0], 5, padding=2, bias=False)
        pool = nn.MaxPool2d(3, 2, padding=1)
        stem = nn.Sequential(nn.BatchNorm2d(3), conv, nn.BatchNorm2d(filters[0]), nn.ReLU(), pool)
        widths, smallest = tuple(n // 4 for n in filters[1:]), 2 ** len(stages)
        super().__init__(stem, tuple(stages), widths, num_classes, smallest, stride_on="3x3", first=False)
