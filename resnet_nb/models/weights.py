"""Published weights in this package's networks: torchvision's of ImageNet, and CIFAR-10 weights of other repositories."""

import io
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from resnet_nb.errors import InputError, few, first_line
from resnet_nb.files import sha256
from resnet_nb.models.blocks import ZeroPad
from resnet_nb.models.resnet import CifarResNet, ResNet

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # of torchvision's training, RGB in [0, 1]
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # labels 0 to 9


def pretrained(name: str | Path, download: bool = False) -> nn.Module:
    """A network with published weights, in eval mode. It takes images in [0, 1] minus `MEAN`: `STD` is divided into conv1.

    name: resnet18|34|50|101|152 gives torchvision's IMAGENET1K_V1, stride in the 3x3, from the file that torchvision keeps
    below torch.hub.get_dir(); download: fetch it if it is not there. Any other name, and every Path, is the file of a CIFAR-10
    net of 6n+2 layers: a state dict as torch.save writes it, or a dict that has one as "state_dict", in the layout of
    https://github.com/akamaster/pytorch_resnet_cifar10. Keys may begin with "module."; the last layer is linear or fc. The
    keys tell the depth, and option B if there is a shortcut or downsample. Float64 stays, other types become float32.

    A file does not tell two things, which are taken to be as in that repository: that the net was trained on images minus
    `MEAN`, divided by `STD`, and that option A put half of its zero channels before the old ones. `ZeroPad` puts all of them
    after, so channels are reordered (`zeros_last`) and the logits stay the same to rounding. Not for files of this package's
    own nets with option A, whose zeros are last already.

    Raises InputError, with what to do, on a name that is neither; if torchvision's file is missing or damaged or cannot be
    fetched; on a file that cannot be read as tensors and plain values alone; and naming keys or shapes that do not fit.
    """
    if name in NAMES:
        model = ResNet(int(name.removeprefix("resnet")), stride_on="3x3")
        model.load_state_dict(_state(name, download))
    elif isinstance(name, (str, Path)) and Path(name).expanduser().is_file():
        model = _from_file(Path(name).expanduser())
    else:
        allowed = f"{', '.join(NAMES)}, or the file of a CIFAR-10 net"
        raise InputError(f"no file is called {str(name)!r}, and torchvision has no weights for it that fit; allowed: {allowed}")
    with torch.no_grad():
        model.conv1.weight /= STD[:, None, None].to(model.conv1.weight)
    return model.eval()


def zeros_last(order: Tensor) -> Tensor:
    """One more padding on both sides: int64 (C,) to (2C,), the channel of theirs that is each of ours.

    Option A of theirs puts C/2 zero channels before and C/2 after the C old ones. Ours are the old ones in the given order,
    then their zeros. From four channels a b c d, theirs are 0 0 a b c d 0 0 and ours a b c d 0 0 0 0:

    >>> zeros_last(torch.arange(4)).tolist()
    [2, 3, 4, 5, 0, 1, 6, 7]
    """
    half = torch.arange(len(order) // 2)
    return torch.cat([len(half) + order, half, len(half) + len(order) + half])


def _from_file(path: Path) -> CifarResNet:
    """The net of the file, before the division by `STD`."""
    state = _read(path)
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    found = {key: key.removeprefix(prefix).replace("shortcut.", "downsample.") for key in state}
    found = {name.replace("linear.", "fc."): key for key, name in found.items()}
    blocks = len({name.split(".")[1] for name in found if name.startswith("layer1.")})
    depth = 6 * max(1, blocks) + 2  # without any block the missing ones are told
    shortcut = "B" if any(".downsample." in name for name in found) else "A"
    model = CifarResNet(depth, shortcut)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    pairs = [(key, tuple(state[key].shape), shapes[name]) for name, key in found.items() if name in shapes]
    wrong = [f"{key} has shape {shape} instead of {want}" for key, shape, want in pairs if shape != want]
    wrong += [f"{key} has no place" for name, key in found.items() if name not in shapes]
    wrong += [f"{key} is there under another name, too" for key in state.keys() - found.values()]
    # old files count no batches, which nothing here needs
    wrong += [f"{name} is missing" for name in shapes if name not in found and not name.endswith("num_batches_tracked")]
    if wrong:
        needed = "conv1, bn1, layer1 to layer3 with n two-layer blocks each, and linear or fc"
        raise InputError(f"{path} does not fit a CIFAR-10 net of {depth} layers: {few(wrong, 3)}; needed are {needed}")
    model.to(torch.promote_types(state[found["conv1.weight"]].dtype, torch.float32))
    model.load_state_dict({name: state[key] for name, key in found.items()})
    if shortcut == "A":
        _put_zeros_last(model)
    return model


@torch.no_grad()
def _put_zeros_last(model: CifarResNet) -> None:
    """Reorder what writes the shortcut's stream (conv2 and bn2 of a block) and what reads it (conv1 of the next, fc)."""
    stream = torch.arange(model.conv1.out_channels)
    for block in (*model.layer1, *model.layer2, *model.layer3):
        block.conv1.weight.copy_(block.conv1.weight[:, stream])
        if isinstance(block.downsample, ZeroPad):
            stream = zeros_last(stream)
        bn = block.bn2
        for tensor in (block.conv2.weight, bn.weight, bn.bias, bn.running_mean, bn.running_var):
            tensor.copy_(tensor[stream])
    model.fc.weight.copy_(model.fc.weight[:, stream])


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in the file."""
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error})") from error
    try:
        with warnings.catch_warnings(action="ignore"):  # of the pickle protocol in what is no checkpoint
            state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no pickle, or a damaged one, raises nearly everything: KeyError, struct.error, ...
        todo = "get the file again, or save its state dict alone"
        raise InputError(f"{path} is damaged, no checkpoint, or holds more than tensors and plain values; {todo}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise InputError(f'{path} holds no state dict, neither alone nor as "state_dict"')
    if other := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise InputError(f'{path} holds no state dict, neither alone nor as "state_dict": no tensors are {few(other)}')
    return state


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
