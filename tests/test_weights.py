"""CIFAR-10 weights of other repositories, against a network of that layout written here from its description."""

import io
import os
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import perturb, random_images, refused
from torch import nn

from resnet_nb import models
from resnet_nb.cli import main
from resnet_nb.data import shapes10
from resnet_nb.models import weights

MEAN, STD = (torch.tensor(values).double()[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


class TwoSided(nn.Module):
    """Every second pixel, and half of the new zero channels on each side of the old ones."""

    def __init__(self, planes):
        super().__init__()
        self.planes = planes

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4))


class TheirBlock(nn.Module):
    def __init__(self, inputs, planes, stride, option):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride == 2 and option == "A":
            self.shortcut = TwoSided(planes)
        elif stride == 2:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class TheirNet(nn.Module):
    """Takes images in [0, 1] that are normalized with mean and std per channel."""

    def __init__(self, depth, option="A"):
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (inputs, planes) in enumerate([(16, 16), (16, 32), (32, 64)]):
            first = TheirBlock(inputs, planes, 2 if stage else 1, option)
            rest = (TheirBlock(planes, planes, 1, option) for _ in range(n - 1))
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def their_net(depth=8, option="A"):
    """With random weights, and statistics of noise that are then changed at random; in float64."""
    torch.manual_seed(depth)
    theirs = TheirNet(depth, option)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    theirs(random_images(8, 32))  # in training mode
    return perturb(theirs, depth).double().eval()


def saved(path, state, **options):
    torch.save(state, path, **options)
    return path


def difference(path, theirs):
    """The largest one between the logits of both on the same images in [0, 1], and the spread of the logits over images."""
    ours = models.pretrained(path)
    images = torch.rand(6, 1, 1, 1) * torch.rand(6, 3, 32, 32).double()  # dark and bright ones
    with torch.no_grad():
        found, want = ours(images - weights.MEAN[:, None, None]), theirs((images - MEAN) / STD)
    assert not ours.training
    return (found - want).abs().max().item(), want.std(0).max().item()


@pytest.mark.parametrize("option", ["A", "B"])
@pytest.mark.parametrize("depth", [8, 20, 32, 56])
def test_the_logits_are_theirs(depth, option, tmp_path):
    theirs = their_net(depth, option)
    path = saved(tmp_path / "net.th", {"state_dict": nn.DataParallel(theirs).state_dict(), "best_prec1": 91.5})
    found, spread = difference(path, theirs)
    assert found < 1e-10 and spread > 1e-3  # the logits tell images apart


def renamed(state, *pairs):
    for old, new in pairs:
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


FORMS = {
    "plain": lambda state: state,
    "module": lambda state: {f"module.{key}": value for key, value in state.items()},
    "fc": lambda state: renamed(state, ("linear.", "fc.")),
    "downsample": lambda state: renamed(state, ("shortcut.", "downsample."), ("linear.", "fc.")),
    "without counts": lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    "shuffled": lambda state: dict(reversed(state.items())),
    "nested": lambda state: {"epoch": 200, "state_dict": state, "best_prec1": torch.tensor(91.5)},
}


@pytest.mark.parametrize("option", ["A", "B"])
@pytest.mark.parametrize("form", FORMS)
def test_the_forms_in_which_nets_are_saved(form, option, tmp_path):
    theirs = their_net(8, option)
    for old in (True, False):  # the format of torch before 1.6, and that of today
        path = saved(tmp_path / "net.pt", FORMS[form](theirs.state_dict()), _use_new_zipfile_serialization=not old)
        assert difference(str(path), theirs)[0] < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_net_of_lower_precision_is_float32(dtype, tmp_path):
    theirs = their_net().to(dtype)
    model = models.pretrained(saved(tmp_path / "net.pth", theirs.state_dict()))
    images = torch.sigmoid(random_images(4, 32))
    with torch.no_grad():
        found = model(images - weights.MEAN[:, None, None])
        want = theirs.double()((images - MEAN) / STD)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [lambda order: torch.arange(2 * len(order)), lambda order: right(torch.arange(len(order)))],
    ids=["none", "layer3 without that of layer2"],
)
def test_another_order_of_the_channels_gives_other_logits(wrong, tmp_path, monkeypatch):
    theirs = their_net(20)
    path = saved(tmp_path / "net.th", theirs.state_dict())
    monkeypatch.setattr(weights, "zeros_last", wrong)
    assert difference(path, theirs)[0] > 1e-2


right = weights.zeros_last


def test_the_order_turns_their_padding_into_ours():
    """Once, as in the example of the docstring, and twice."""
    assert right(torch.arange(4)).tolist() == [2, 3, 4, 5, 0, 1, 6, 7]
    x = random_images(1, 8).reshape(1, 4, -1, 8)
    ours, theirs, order = x, x, torch.arange(4)
    for channels in (8, 16):
        ours = models.blocks.ZeroPad(channels // 2, channels, 2)(ours)
        theirs, order = TwoSided(channels)(theirs), right(order)
        assert torch.equal(theirs[:, order], ours)


# ---- files that are refused


@pytest.mark.parametrize("name", ["none.th", ".", "", "resnet20", 5], ids=str)
def test_what_is_no_file_is_told_with_what_is_allowed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"no file is called {str(name)!r}" in (line := refused(models.pretrained, name)) and "resnet18, resnet34" in line


def contents():
    """What is in a file, and a word of the refusal."""
    whole, module = io.BytesIO(), io.BytesIO()
    torch.save(their_net().state_dict(), whole)
    torch.save(their_net(), module)
    yield from (
        (b"", "damaged"),
        (b"hello\n", "damaged"),
        (b"<html>not found</html>", "damaged"),
        (bytes(range(256)), "damaged"),
    )
    yield b"version https://git-lfs.github.com/spec/v1\nsize 1\n", "damaged"
    yield pickle.dumps(os.getcwd), "damaged"
    yield module.getvalue(), "more than tensors"
    yield whole.getvalue()[:5_000], "damaged"
    for held in (torch.zeros(3), [1, 2], {1: torch.zeros(2)}, {"state_dict": 3}, {"epoch": 3, "model": {}}, None):
        buffer = io.BytesIO()
        torch.save(held, buffer)
        yield buffer.getvalue(), "holds no state dict"


@pytest.mark.parametrize("number", range(len(list(contents()))))
def test_a_file_without_a_state_dict_is_refused(number, tmp_path, recwarn):
    content, word = list(contents())[number]
    path = tmp_path / "net.th"
    path.write_bytes(content)
    assert str(path) in (line := refused(models.pretrained, path)) and word in line
    assert not recwarn.list


def changed(**changes):
    """A state dict with some keys changed, or taken out; a dot in a key is __."""
    state = their_net(20).state_dict() | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in state.items() if value is not None}


MISFITS = {
    "missing": (changed(layer2__1__bn2__bias=None), ["layer2.1.bn2.bias is missing"]),
    "no block": ({"conv1.weight": torch.zeros(16, 3, 3, 3)}, ["bn1.weight is missing", "8 layers", "more"]),
    "empty": ({}, ["conv1.weight is missing", "more"]),
    "unknown": (changed(layer3__0__se__weight=torch.zeros(3)), ["layer3.0.se.weight has no place"]),
    "other shape": (changed(linear__weight=torch.zeros(100, 64)), ["linear.weight has shape (100, 64) instead of (10, 64)"]),
    "scalar": (changed(bn1__bias=torch.tensor(1.0)), ["bn1.bias has shape () instead of (16,)"]),
    "longer stage": (renamed(their_net(20).state_dict(), ("layer3.2.", "layer3.3.")), ["20 layers", "layer3.3.conv1.weight"]),
    "option C": (
        changed(**{"layer1.0.shortcut.0.weight": torch.zeros(16, 16, 1, 1)}),
        ["layer1.0.shortcut.0.weight has no place"],
    ),
    "linear and fc": (changed(fc__bias=torch.zeros(10)), ["linear.bias is there under another name, too"]),
    "half a prefix": (changed(**{"module.conv1.weight": torch.zeros(16, 3, 3, 3)}), ["module.conv1.weight has no place"]),
    "ImageNet": (torchvision.models.resnet18().state_dict(), ["conv1.weight has shape (64, 3, 7, 7) instead of (16, 3, 3, 3)"]),
}


@pytest.mark.parametrize("case", MISFITS)
def test_keys_and_shapes_that_do_not_fit_are_named(case, tmp_path):
    state, words = MISFITS[case]
    line = refused(models.pretrained, saved(tmp_path / "net.th", state))
    assert all(word in line for word in [*words, str(tmp_path), "conv1, bn1, layer1 to layer3"]), line
    assert len(line) < 500


# ---- the command


@pytest.fixture
def pictures(tmp_path):
    """A folder with three test images of each class of CIFAR-10, and the images and labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    for part in ("train", "test"):
        for i, image in enumerate(pixels):
            (folder := tmp_path / "pictures" / part / names[i // 3]).mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path / "pictures", torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.arange(30) // 3


def test_the_command_tests_a_file(pictures, tmp_path, capsys):
    folder, images, labels = pictures
    theirs = their_net(20)
    path = saved(tmp_path / "resnet20.th", {"state_dict": nn.DataParallel(theirs).state_dict()})
    assert main(["evaluate", str(path), "--data", str(folder), "--device", "cpu"]) == 0
    with torch.no_grad():
        logits = theirs((images.double() / 255 - MEAN) / STD)
    wrong, loss = (logits.argmax(1) != labels).double().mean(), F.cross_entropy(logits, labels)
    assert capsys.readouterr().out == f"{path} on pictures: test error {100 * wrong:.2f} %, loss {loss:.4f}\n"


def test_the_command_refuses_other_classes_other_testings_and_no_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("resnet_nb.data.shapes10", lambda: shapes10(20, 10))
    monkeypatch.chdir(tmp_path)
    saved("net.th", their_net().state_dict())
    bad = (["--data", "shapes10"], "those of CIFAR-10"), (["--testing", "10-crop"], "nets of ImageNet")
    for args, word in (*((["net.th", *options], word) for options, word in bad), (["none.th"], "no file is called 'none.th'")):
        assert main(["evaluate", "--device", "cpu", *args]) == 2
        error = capsys.readouterr().err.splitlines()
        assert word in error[-1] and error[-1].startswith("error: ")
