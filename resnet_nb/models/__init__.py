"""The networks of the paper by name: `build("cifar-resnet56")`, `build("resnet50", stride_on="3x3")`."""

import re

from torch import nn
from torchvision.models import vgg16, vgg19

from resnet_nb.errors import InputError
from resnet_nb.models.blocks import BasicBlock, Bottleneck, require_positive
from resnet_nb.models.cifar import CifarResNet
from resnet_nb.models.imagenet import LAYOUTS, ResNet

__all__ = ["NAMES", "BasicBlock", "Bottleneck", "CifarResNet", "ResNet", "build"]

NAMES = "resnet18|34|50|101|152, plain18|34, vgg16|19, cifar-resnet<6n+2>, cifar-plain<6n+2>"
OVERRIDES = {
    "vgg": ("num_classes",),
    "resnet": ("shortcut", "width", "num_classes", "stride_on"),
    "plain": ("width", "num_classes"),
    "cifar-resnet": ("shortcut", "width", "num_classes"),
    "cifar-plain": ("width", "num_classes"),
}


def build(name: str, **overrides) -> nn.Module:
    """Build a network of the paper, He-initialized from torch's global generator (VGG: torchvision's way).

    name: resnet18|34|50|101|152 (option B), plain18|34, vgg16|19 (torchvision's, without BN),
    cifar-resnet<6n+2> (option A), cifar-plain<6n+2>; for example "cifar-resnet56".
    overrides, where they make sense: shortcut (None, "A", "B", "C"), width (channels of the first
    stage), num_classes, stride_on ("1x1" the paper's, "3x3" torchvision's).
    Raises InputError with what is allowed on any other name, depth, option or value.
    """
    match = re.fullmatch(r"(resnet|plain|vgg|cifar-resnet|cifar-plain)(-?[1-9]\d*)", str(name))
    if match is None:
        raise InputError(f"unknown model {name!r}; allowed: {NAMES}")
    family, depth = match[1], int(match[2])
    for option in overrides:
        if option not in OVERRIDES[family]:
            raise InputError(f"{name} has no option {option!r}; allowed: {', '.join(OVERRIDES[family])}")
    if family.endswith("plain"):
        overrides["shortcut"] = None
    if family.startswith("cifar"):
        return CifarResNet(depth, **overrides)
    allowed = {"vgg": [16, 19], "plain": [18, 34], "resnet": list(LAYOUTS)}[family]
    if depth not in allowed:
        raise InputError(f"unknown model {name!r}; depth of {family} must be one of {', '.join(map(str, allowed))}")
    if family == "vgg":
        require_positive(**overrides)
        return {16: vgg16, 19: vgg19}[depth](weights=None, **overrides)
    return ResNet(depth, **overrides)
