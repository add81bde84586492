"""The networks of the papers by name, such as `build("resnet50", stride_on="3x3")` (notebooks 00 to 13)."""

from inspect import signature

from torch import nn
from torchvision.models import vgg16, vgg19

from resnet_nb.errors import InputError, as_python, require_positive
from resnet_nb.models.blocks import BasicBlock, Bottleneck, modes_kept, stages
from resnet_nb.models.butcher import SCHEMES, tableau
from resnet_nb.models.high_order import CifarHighOrder, RungeKuttaBlock
from resnet_nb.models.preact import CifarPreact, ImageNetPreact, TinyPreact
from resnet_nb.models.resnet import CifarResNet, ResNet
from resnet_nb.models.weights import pretrained
from resnet_nb.recipes import FAMILIES, network


def vgg(depth: int, num_classes: int = 1000) -> nn.Module:
    """torchvision's VGG with 16 or 19 layers, without BN."""
    require_positive(num_classes=num_classes)
    return {16: vgg16, 19: vgg19}[depth](weights=None, num_classes=num_classes)


# family -> what builds its networks, and the arguments that the family settles; the other arguments are its overrides
BUILDERS = {
    "resnet": (ResNet, {}),
    "plain": (ResNet, {"shortcut": None, "stride_on": "1x1"}),
    "preact": (ImageNetPreact, {}),
    "vgg": (vgg, {}),
    "cifar-resnet": (CifarResNet, {}),
    "cifar-plain": (CifarResNet, {"shortcut": None}),
    "cifar-preact": (CifarPreact, {}),
    **{f"cifar-{scheme}": (CifarHighOrder, {"scheme": scheme, "stages": 14}) for scheme in SCHEMES},
    "cifar-rk8": (CifarHighOrder, {"scheme": "rk8"}),
    "tiny-preact": (TinyPreact, {}),
}


def build(name: str, /, **overrides) -> nn.Module:
    """Build a network of the papers, He-initialized from torch's global generator (VGG: torchvision's way).

    name: resnet18|34|50|101|152|200 (option B), plain18|34, preact50|101|152|200, vgg16|19 (torchvision's, without BN),
    cifar-resnet<6n+2> (option A), cifar-plain<6n+2>, cifar-preact<6n+2>, with bottleneck=True <9n+2>,
    cifar-euler|midpoint|rk4|rk8<6n+2>, tiny-preact; for example "cifar-resnet56".
    overrides, where they make sense: shortcut (None, "A", "B", "C"), width (channels of the first stage), num_classes,
    stride_on ("1x1" the paper's, "3x3" torchvision's); those of the sequels, and what shortcut means there, are
    explained at `CifarPreact`, `CifarHighOrder` and `TinyPreact`.
    Raises InputError with what is allowed on any other name, depth, option or value.
    """
    net = network(name)
    depths, _ = FAMILIES[net.family]
    if "|" in depths and str(net.depth) not in depths.split("|"):
        raise InputError(f"unknown model {name!r}; depth of {net.family} must be one of {depths.replace('|', ', ')}")
    builder, settled = BUILDERS[net.family]
    allowed = [option for option in signature(builder).parameters if option not in ("depth", *settled)]
    for option in overrides:
        if option not in allowed:
            raise InputError(f"{name} has no option {option!r}; allowed: {', '.join(allowed)}")
    depth = {} if net.depth is None else {"depth": net.depth}
    return builder(**depth, **settled, **{option: as_python(value) for option, value in overrides.items()})
