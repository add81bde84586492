"""The networks of the papers by name: `build("cifar-resnet56")`, `build("resnet50", stride_on="3x3")`."""

import re

from torch import nn
from torchvision.models import vgg16, vgg19

from resnet_nb.errors import InputError, require_positive
from resnet_nb.models.blocks import BasicBlock, Bottleneck, stages
from resnet_nb.models.butcher import tableau
from resnet_nb.models.high_order import SCHEMES, CifarHighOrder, RungeKuttaBlock
from resnet_nb.models.preact import CifarPreact, ImageNetPreact, TinyPreact
from resnet_nb.models.resnet import LAYOUTS, CifarResNet, ResNet
from resnet_nb.models.weights import pretrained
from resnet_nb.recipes import NETWORKS

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "CifarHighOrder",
    "CifarPreact",
    "CifarResNet",
    "ImageNetPreact",
    "ResNet",
    "RungeKuttaBlock",
    "TinyPreact",
    "build",
    "pretrained",
    "stages",
    "tableau",
]

HIGH_ORDER = ("nested", "learnable", "width", "num_classes")
OVERRIDES = {
    "vgg": ("num_classes",),
    "resnet": ("shortcut", "width", "num_classes", "stride_on"),
    "plain": ("width", "num_classes"),
    "preact": ("width", "num_classes", "stride_on"),
    "cifar-resnet": ("shortcut", "width", "num_classes"),
    "cifar-plain": ("width", "num_classes"),
    "cifar-preact": ("placement", "bottleneck", "shortcut", "on_shortcut", "on_residual", "gate_bias", "width", "num_classes"),
    **{f"cifar-{scheme}": HIGH_ORDER for scheme in SCHEMES},
    "cifar-rk8": ("stages", *HIGH_ORDER),
    "tiny-preact": ("stages", "filters", "num_classes"),
}


def build(name: str, /, **overrides) -> nn.Module:
    """Build a network of the papers, He-initialized from torch's global generator (VGG: torchvision's way).

    name: resnet18|34|50|101|152|200 (option B), plain18|34, preact50|101|152|200, vgg16|19 (torchvision's,
    without BN), cifar-resnet<6n+2> (option A), cifar-plain<6n+2>, cifar-preact<6n+2>, with bottleneck=True
    <9n+2>, cifar-euler|midpoint|rk4|rk8<6n+2>, tiny-preact; for example "cifar-resnet56".
    overrides, where they make sense: shortcut (None, "A", "B", "C"), width (channels of the first
    stage), num_classes, stride_on ("1x1" the paper's, "3x3" torchvision's); those of the sequels, and
    what shortcut means there, are explained at `CifarPreact`, `CifarHighOrder` and `TinyPreact`.
    Raises InputError with what is allowed on any other name, depth, option or value.
    """
    match = re.fullmatch(r"([a-z]+(?:-(?:rk[48]|[a-z]+))?)(-?[1-9]\d{0,5})?", str(name))
    if match is None or match[1] not in OVERRIDES or (match[2] is None) != (match[1] == "tiny-preact"):
        raise InputError(f"unknown model {name!r}; allowed: {NETWORKS}")
    family, depth = match[1], int(match[2] or 0)
    for option in overrides:
        if option not in OVERRIDES[family]:
            raise InputError(f"{name} has no option {option!r}; allowed: {', '.join(OVERRIDES[family])}")
    if family.endswith("plain"):
        overrides["shortcut"] = None
    if family == "tiny-preact":
        return TinyPreact(**overrides)
    if family == "cifar-preact":
        return CifarPreact(depth, **overrides)
    if family in ("cifar-resnet", "cifar-plain"):
        return CifarResNet(depth, **overrides)
    if family.startswith("cifar"):
        return CifarHighOrder(family.removeprefix("cifar-"), depth, **overrides)
    if family == "preact":
        return ImageNetPreact(depth, **overrides)
    allowed = {"vgg": [16, 19], "plain": [18, 34], "resnet": list(LAYOUTS)}[family]
    if depth not in allowed:
        raise InputError(f"unknown model {name!r}; depth of {family} must be one of {', '.join(map(str, allowed))}")
    if family == "vgg":
        require_positive(**overrides)
        return {16: vgg16, 19: vgg19}[depth](weights=None, **overrides)
    return ResNet(depth, **overrides)
