"""torchvision's ImageNet weights in this package's networks, by torchvision's own loader."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from resnet_nb.errors import InputError, first_line
from resnet_nb.files import sha256
from resnet_nb.models.resnet import ResNet

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # of torchvision's training, RGB in [0, 1]


def pretrained(name: str, download: bool = False) -> nn.Module:
    """resnet18|34|50|101|152 with torchvision's weights IMAGENET1K_V1, stride in the 3x3, in eval mode.

    It takes images in [0, 1] minus `MEAN`: torchvision's division by `STD` is in the weights of conv1. The file is looked
    for where torchvision keeps it, below torch.hub.get_dir(). download: fetch it if it is not there. Raises InputError on
    another name, and, with what to do, if the file is missing or damaged or cannot be fetched.
    """
    if name not in NAMES:
        raise InputError(f"torchvision has no weights for {name!r} that fit; allowed: {', '.join(NAMES)}")
    state = _state(name, download)
    model = ResNet(int(name.removeprefix("resnet")), stride_on="3x3")
    model.load_state_dict(state)
    with torch.no_grad():
        model.conv1.weight /= STD[:, None, None]
    return model.eval()


def _state(name: str, download: bool) -> dict[str, Tensor]:
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    if path.is_file():  # torchvision checks only what it has just downloaded
        digits = path.stem.rsplit("-", 1)[1]  # its file names end with the first digits of the sha256
        if not sha256(path.read_bytes()).startswith(digits):
            raise InputError(f"{path} is damaged: its sha256 does not begin with {digits}; delete it and download it again")
    elif not download:
        raise InputError(
            f"torchvision's weights are not here: load them with download=True, or place {weights.url} as {path}", "download"
        )
    try:
        with redirect_stdout(sys.stderr):  # it prints what it downloads
            return weights.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the sha256 of what came is another one
        raise InputError(f"cannot download {weights.url} ({first_line(error)}); place the file as {path} yourself") from error
