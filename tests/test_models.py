"""The networks against torchvision's, the counts of the paper, closed forms and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import on_meta, perturb, random_images, refused
from torch import nn

from resnet_nb.anatomy import describe
from resnet_nb.errors import InputError
from resnet_nb.models import BUILDERS, BasicBlock, Bottleneck, CifarResNet, ResNet, build, stages
from resnet_nb.models.blocks import ZeroPad, make_shortcut, make_stage, unit_convs
from resnet_nb.paper import counts, facts
from resnet_nb.recipes import FAMILIES

IMAGENET = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


# ---- counts


def build_counted(name):
    """The network that `paper.counts` knows by `name`."""
    if name.endswith("-v1.5"):
        return on_meta(name.removesuffix("-v1.5"), stride_on="3x3")
    if name[-2:] in ("-A", "-B", "-C"):
        return on_meta(name[:-2], shortcut=name[-1])
    return on_meta(name)


COUNTED = [
    "plain18",
    "resnet18-A",
    "resnet18-B",
    "plain34",
    "resnet34-A",
    "resnet34-B",
    "resnet34-C",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet50-v1.5",
    "resnet101-v1.5",
    "resnet152-v1.5",
    "vgg16",
    "vgg19",
    *[f"cifar-resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)],
    *[f"cifar-resnet{depth}-B" for depth in (20, 32, 44, 56, 110)],
]


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_and_multiply_adds(name):
    model, want = build_counted(name), counts(name)
    assert sum(p.numel() for p in model.parameters()) == want["params"]
    if "multiply_adds" in want and "1202" not in name:  # a pass through 1202 layers takes seconds and shows nothing new
        assert describe(model, 32 if name.startswith("cifar") else 224).multiply_adds == want["multiply_adds"]


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110, 1202])
def test_plain_nets_have_the_parameters_of_the_residual_ones(depth):
    assert sum(p.numel() for p in on_meta(f"cifar-plain{depth}").parameters()) == counts(f"cifar-resnet{depth}")["params"]


@pytest.mark.parametrize("depth", [20, 56])
def test_options_b_and_c_add_their_projections(depth):
    n = (depth - 2) // 6
    zero_padding = describe(on_meta(f"cifar-resnet{depth}", shortcut="A"), 32)
    assert zero_padding == describe(on_meta(f"cifar-resnet{depth}"), 32)  # the default
    # channels in and out, side of the map: one 1x1 convolution with BN each
    change = [(16, 32, 16), (32, 64, 8)]
    every = [(16, 16, 32)] * n + [(32, 32, 16)] * (n - 1) + [(64, 64, 8)] * (n - 1) + change
    for option, projections in (("B", change), ("C", every)):
        found = describe(on_meta(f"cifar-resnet{depth}", shortcut=option), 32)
        assert found.params - zero_padding.params == sum(a * b + 2 * b for a, b, _ in projections)
        assert found.multiply_adds - zero_padding.multiply_adds == sum(a * b * s * s for a, b, s in projections)
        assert found.layers == depth  # projections are not layers


@pytest.mark.parametrize("kind", ["cifar-resnet", "cifar-plain"])
@pytest.mark.parametrize("n", [1, 3, 9])
def test_cifar_layers_stand_on_the_maps_of_section_4_2(kind, n):
    found = describe(on_meta(f"{kind}{6 * n + 2}"), 32)
    assert found.layers == 6 * n + 2
    assert found.stage_sizes == (32, 16, 8)
    sizes = [row.size for row in found.rows if row.kind == "conv"]
    assert {size: sizes.count(size) for size in sizes} == {32: 1 + 2 * n, 16: 2 * n, 8: 2 * n}
    assert {row.outputs for row in found.rows if row.size == 8} == {64}


@pytest.mark.parametrize("name", ["plain18", "plain34", *IMAGENET])
def test_imagenet_layers_and_maps(name):
    found = describe(on_meta(name), 224)
    assert found.layers == int(name.removeprefix("plain").removeprefix("resnet"))
    assert found.stage_sizes == tuple(facts("architecture")["stage_sizes"].values())


def test_vgg_layers():
    assert [describe(on_meta(name), 224).layers for name in ("vgg16", "vgg19")] == [16, 19]


# ---- torchvision's networks


@pytest.mark.parametrize("name", IMAGENET)
def test_logits_are_torchvisions_bit_for_bit(name):
    theirs = perturb(getattr(torchvision.models, name)(weights=None)).eval()
    ours = on_meta(name, stride_on="3x3")
    ours.load_state_dict(theirs.state_dict(), assign=True)
    images = random_images(2, 64)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs(images))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_training_step_is_torchvisions_bit_for_bit(name):
    torch.manual_seed(0)
    theirs = perturb(getattr(torchvision.models, name)(weights=None, num_classes=10))
    ours = build(name, stride_on="3x3", num_classes=10)
    ours.load_state_dict(theirs.state_dict())
    images = random_images(4, 64)
    logits = [model.train()(images) for model in (ours, theirs)]
    assert torch.equal(*logits)
    for each in logits:
        F.cross_entropy(each, torch.tensor([3, 1, 4, 1])).backward()
    after = theirs.state_dict()  # holds the running statistics
    assert all(torch.equal(value, after[key]) for key, value in ours.state_dict().items())
    gradients = {key: value.grad for key, value in theirs.named_parameters()}
    assert all(torch.equal(value.grad, gradients[key]) for key, value in ours.named_parameters())


def test_where_the_stride_stands_is_all_that_differs_between_v1_and_torchvisions():
    paper, torchvisions = on_meta("resnet50"), on_meta("resnet50", stride_on="3x3")
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (paper, torchvisions)]
    assert list(shapes[0]) == list(shapes[1]) and shapes[0] == shapes[1]
    strides = {}
    for (name, a), (same_name, b) in zip(paper.named_modules(), torchvisions.named_modules(), strict=True):
        assert name == same_name and type(a) is type(b)
        if isinstance(a, nn.Conv2d):
            hyper = [(c.kernel_size, c.padding, c.dilation, c.groups, c.padding_mode) for c in (a, b)]
            assert hyper[0] == hyper[1], name
            if a.stride != b.stride:
                strides[name] = a.stride, b.stride
    expected = {}
    for stage in (2, 3, 4):
        expected[f"layer{stage}.0.conv1"] = (2, 2), (1, 1)  # the first 1x1
        expected[f"layer{stage}.0.conv2"] = (1, 1), (2, 2)  # the 3x3
    assert strides == expected


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_without_bottlenecks_both_versions_are_one_net(name):
    a, b = on_meta(name, stride_on="1x1"), on_meta(name, stride_on="3x3")
    assert str(a) == str(b)


# ---- Eq. 1 and the shortcuts, by value


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_blocks_without_residual_are_the_identity(shortcut):
    torch.manual_seed(0)
    net = perturb(CifarResNet(14, shortcut=shortcut, width=4)).eval()
    for module in net.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
            nn.init.zeros_(module.bn2.bias)
    images = random_images(2, 32)
    maps = [F.relu(net.bn1(net.conv1(images)))]  # not negative, so the last ReLU of a block changes nothing
    for stage in (net.layer1, net.layer2, net.layer3):
        maps.append(stage(maps[-1]))
    assert maps[0].abs().sum() > 0
    assert torch.equal(maps[1], maps[0])
    for before, after, stage in zip(maps[1:], maps[2:], (net.layer2, net.layer3)):
        if shortcut == "A":
            kept = before[:, :, [*range(0, before.shape[2], 2)]][:, :, :, [*range(0, before.shape[3], 2)]]
            want = torch.cat([kept, torch.zeros_like(kept)], dim=1)
        else:
            project, normalize = stage[0].downsample
            want = F.relu(normalize(F.conv2d(before, project.weight, stride=2)))
        assert torch.equal(after, want)


def test_option_a_takes_every_second_pixel_and_appends_zero_channels():
    x = torch.arange(1.0, 51).reshape(1, 2, 5, 5)
    y = make_shortcut("A", 2, 5, stride=2)(x)
    assert y.shape == (1, 5, 3, 3)
    assert y[0, 0].tolist() == [[1, 3, 5], [11, 13, 15], [21, 23, 25]]
    assert y[0, 1].tolist() == [[26, 28, 30], [36, 38, 40], [46, 48, 50]]
    assert y[0, 2:].count_nonzero() == 0


@pytest.mark.parametrize("option", ["A", "B"])
def test_options_a_and_b_are_the_identity_where_the_shape_stays(option):
    x = random_images(1, 4)
    assert torch.equal(make_shortcut(option, 3, 3, stride=1)(x), x)


@pytest.mark.parametrize("kind, args", [(BasicBlock, (6, 6)), (Bottleneck, (24, 6))])
def test_a_block_adds_before_the_last_relu(kind, args):
    torch.manual_seed(0)
    block = perturb(kind(*args, 1, "A", "1x1")).eval()
    x = torch.randn(2, args[0], 5, 5)
    convolutions = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    normalizations = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    y = x
    for i, (convolve, normalize) in enumerate(zip(convolutions, normalizations, strict=True)):
        y = normalize(convolve(y))
        y = F.relu(y if i < len(convolutions) - 1 else y + x)
    assert (x < 0).any() and torch.equal(block(x), y)


@pytest.mark.parametrize("name, side", [("cifar-plain14", 32), ("plain18", 64)])
def test_plain_nets_are_a_chain_of_convolution_bn_relu(name, side):
    torch.manual_seed(0)
    net = perturb(build(name, width=4)).eval()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    normalizations = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    x = images = random_images(2, side)
    with torch.no_grad():
        for convolve, bn in zip(convolutions, normalizations, strict=True):
            x = F.conv2d(x, convolve.weight, None, convolve.stride, convolve.kernel_size[0] // 2)
            x = (x - bn.running_mean[:, None, None]) / (bn.running_var[:, None, None] + bn.eps).sqrt()
            x = (x * bn.weight[:, None, None] + bn.bias[:, None, None]).clamp(min=0)
            if name == "plain18" and convolve is convolutions[0]:
                x = F.max_pool2d(x, 3, stride=2, padding=1)
        want = x.mean((2, 3)) @ net.fc.weight.T + net.fc.bias
        torch.testing.assert_close(net(images), want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


def test_plain_and_residual_nets_of_one_seed_start_equal():
    nets = []
    for name in ("cifar-plain20", "cifar-resnet20"):
        torch.manual_seed(7)
        nets.append(build(name))
    plain, residual = (net.state_dict() for net in nets)
    assert list(plain) == list(residual)
    assert all(torch.equal(plain[key], residual[key]) for key in plain)
    images = random_images(1, 32)
    assert not torch.equal(nets[0].eval()(images), nets[1].eval()(images))  # only the shortcuts differ


@pytest.mark.parametrize("shortcut", [None, "A", "B", "C"])
@pytest.mark.parametrize("kind, inputs, stride", [(BasicBlock, 2, 2), (Bottleneck, 8, 1)])
def test_gradients_agree_with_finite_differences(kind, inputs, stride, shortcut):
    torch.manual_seed(1)
    block = perturb(kind(inputs, 3 if kind is BasicBlock else 2, stride, shortcut, "1x1")).double().eval()
    names, values = zip(*block.named_parameters())
    x = torch.randn(1, inputs, 4, 4, dtype=torch.float64, requires_grad=True)

    def output(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters)), (x,))

    assert torch.autograd.gradcheck(output, (x, *values), eps=1e-6, atol=1e-6)


# ---- initialization


@pytest.mark.parametrize("name, overrides", [("cifar-resnet56", {}), ("resnet50", {"width": 16}), ("plain18", {"width": 16})])
def test_he_initialization(name, overrides):
    torch.manual_seed(0)
    net, scaled = build(name, **overrides), []
    for key, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = math.prod(module.weight.shape[1:])
            n, sigma = module.weight.numel(), math.sqrt(2 / fan_in)
            scaled.append(module.weight.detach().flatten() / sigma)
            assert abs(module.weight.std().item() - sigma) < 5 * sigma / math.sqrt(2 * n), key
            assert abs(module.weight.mean().item()) < 5 * sigma / math.sqrt(n), key
            assert module.bias is None or not module.bias.any(), key
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.bias.any(), key
    within = (torch.cat(scaled).abs() < 1).double().mean().item()
    assert abs(within - math.erf(1 / math.sqrt(2))) < 0.01  # normal; a uniform distribution has 0.58


def test_weights_follow_the_global_seed():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in build("cifar-resnet8").parameters()])

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))


def test_overrides_change_what_they_name():
    net = build("resnet18", width=8, num_classes=7, shortcut="A")
    assert net.conv1.out_channels == 8 and net(random_images(2, 32)).shape == (2, 7)
    assert CifarResNet(8, width=4, num_classes=3)(random_images(5, 32)).shape == (5, 3)


# ---- bad input: one line that says what is allowed


ALLOWED_NAMES = "resnet18|34|50|101|152"
BAD_NETS = [
    (CifarResNet, 18, {}, "6n+2"),
    (CifarResNet, "56", {}, "6n+2"),
    (CifarResNet, -2, {}, "6n+2"),
    (CifarResNet, 2, {}, "6n+2"),
    (CifarResNet, 20.0, {}, "6n+2"),
    (CifarResNet, 20, {"shortcut": "D"}, 'None, "A", "B" or "C"'),
    (CifarResNet, 20, {"width": 0}, "positive"),
    (CifarResNet, 20, {"num_classes": -1}, "positive"),
    (ResNet, 20, {}, "18, 34, 50, 101, 152"),
    (ResNet, "50", {}, "18, 34, 50, 101, 152"),
    (ResNet, 50, {"stride_on": "2x2"}, "1x1, 3x3"),
    (ResNet, 18, {"width": 0}, "positive"),
    (ResNet, 50.0, {}, "18, 34, 50, 101, 152"),
    (build, "cifar-resnet18", {}, "6n+2"),
    (build, "cifar-resnet-2", {}, "6n+2"),
    (build, "cifar-plain21", {}, "6n+2"),
    (build, "resnet19", {}, "18, 34, 50, 101, 152"),
    (build, "plain50", {}, "18, 34"),
    (build, "vgg11", {}, "16, 19"),
    (build, "resnet", {}, ALLOWED_NAMES),
    (build, "resnet50 ", {}, ALLOWED_NAMES),
    (build, "alexnet", {}, ALLOWED_NAMES),
    (build, "", {}, ALLOWED_NAMES),
    (build, 50, {}, ALLOWED_NAMES),
    (build, None, {}, ALLOWED_NAMES),
    (build, "resnet18", {"shortcut": "D"}, 'None, "A", "B" or "C"'),
    (build, "resnet18", {"shortcut": ["A"]}, 'None, "A", "B" or "C"'),
    (build, "resnet50", {"stride_on": "2x2"}, "1x1, 3x3"),
    (build, "cifar-resnet20", {"width": 0}, "positive"),
    (build, "cifar-resnet20", {"width": 16.0}, "positive"),
    (build, "cifar-resnet20", {"num_classes": -1}, "positive"),
    (build, "resnet18", {"num_classes": True}, "positive"),
    (build, "cifar-resnet20", {"stride_on": "3x3"}, "shortcut, width, num_classes"),
    (build, "cifar-resnet20", {"depth": 56}, "shortcut, width, num_classes"),
    (build, "cifar-plain20", {"shortcut": "A"}, "width, num_classes"),
    (build, "plain34", {"shortcut": None}, "width, num_classes"),
    (build, "vgg16", {"width": 8}, "allowed: num_classes"),
    (build, "vgg16", {"num_classes": 0}, "positive"),
    (build, "plain34", {"stride_on": "3x3"}, "allowed: width, num_classes"),
]


@pytest.mark.parametrize("make, what, overrides, allowed", BAD_NETS)
def test_bad_networks_are_refused_with_what_is_allowed(make, what, overrides, allowed):
    assert allowed in refused(make, what, **overrides)


def test_every_family_can_be_built():
    assert BUILDERS.keys() == FAMILIES.keys()
    for family, (depths, _) in FAMILIES.items():
        for depth in depths.split("|") if "|" in depths else ["176" if depths else ""]:  # n = 29: 28 units for 4 or 14 stages
            assert isinstance(on_meta(family + depth, num_classes=3), nn.Module)


BUILDING = [
    lambda **changed: BasicBlock(**{"inputs": 4, "width": 4} | changed),
    lambda **changed: Bottleneck(**{"inputs": 4, "width": 4} | changed),
    lambda **changed: unit_convs(**{"inputs": 4, "width": 4, "stride": 1, "bottleneck": False} | changed),
    lambda **changed: unit_convs(**{"inputs": 4, "width": 4, "stride": 1, "bottleneck": True} | changed),
    *(
        lambda block=block, **changed: make_stage(
            **{"block": block, "inputs": 4, "width": 4, "blocks": 2, "stride": 1, "shortcut": "B", "stride_on": "1x1"} | changed
        )
        for block in (BasicBlock, Bottleneck)
    ),
]


@pytest.mark.parametrize("make", BUILDING)
def test_blocks_refuse_what_a_net_refuses(make):
    """A wrong place of the stride once built torchvision's layout without a word."""
    make()
    for stride_on in ("1×1", "3X3", "", None, 1, ["1x1"]):
        with pytest.raises(InputError, match="stride_on must be one of 1x1, 3x3"):
            make(stride_on=stride_on)
    for name in ("inputs", "width", "stride"):
        for value in (0, -2, 1.0, True, "1", None):
            with pytest.raises(InputError, match=f"{name} must be a positive integer"):
                make(**{name: value})


def test_a_stage_has_a_block():
    for blocks in (0, -1, 1.5):
        with pytest.raises(InputError, match="blocks must be a positive integer"):
            make_stage(BasicBlock, 4, 4, blocks, 1, "A", "1x1")


@pytest.mark.parametrize("option", [None, "A", "B", "C"])
def test_a_shortcut_takes_positive_channels_and_strides(option):
    for name in ("inputs", "outputs", "stride"):
        for value in (0, -1, 2.0, None):
            with pytest.raises(InputError, match=f"{name} must be a positive integer"):
                make_shortcut(option, **{"inputs": 4, "outputs": 4, "stride": 1, name: value})


def test_option_a_drops_no_channels():
    makers = (
        lambda: make_shortcut("A", 8, 4, 1),
        lambda: ZeroPad(8, 4, 2),
        lambda: BasicBlock(8, 4),
        lambda: Bottleneck(20, 4),
    )
    for make in makers:
        with pytest.raises(InputError, match="cannot drop channels"):
            make()
    for option in ("B", "C"):
        assert make_shortcut(option, 8, 4, 1)(torch.zeros(1, 8, 2, 2)).shape == (1, 4, 2, 2)


def test_a_block_without_options_is_the_papers():
    """Identity where the shape stays, zeros where it changes, the stride in the first 1x1."""
    x = random_images(2, 8).repeat(1, 2, 1, 1)
    assert isinstance(BasicBlock(6, 6).downsample, nn.Identity) and BasicBlock(6, 6)(x).shape == (2, 6, 8, 8)
    block = Bottleneck(6, 6, 2)
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1)) and block(x).shape == (2, 24, 4, 4)
    assert torch.equal(block.downsample(x)[:, :6], x[:, :, ::2, ::2]) and not block.downsample(x)[:, 6:].any()


def test_stages_are_the_layers_of_blocks_in_order():
    for name, count in (("cifar-resnet8", 3), ("resnet18", 4), ("cifar-preact20", 3), ("cifar-rk432", 3), ("vgg16", 0)):
        model = on_meta(name)
        assert list(stages(model)) == [f"layer{i + 1}" for i in range(count)]
        assert all(stage is getattr(model, key) for key, stage in stages(model).items())


@pytest.mark.parametrize("name, smallest", [("cifar-resnet8", 8), ("resnet18", 32)])
@pytest.mark.parametrize(
    "shape", [(1, 1, 32, 32), (3, 32, 32), (2, 32, 32, 3), (1, 4, 32, 32), (1, 3, 32), (1, 3, 7, 32), (1, 3, 32, 7)]
)
def test_images_of_another_shape_are_refused(name, smallest, shape):
    with pytest.raises(InputError) as caught:
        on_meta(name)(torch.zeros(shape, device="meta"))
    message = str(caught.value)
    assert "(N, 3, H, W)" in message and f">= {smallest}" in message and str(shape) in message
    assert len(message.splitlines()) == 1


def test_the_smallest_images_pass():
    assert build("cifar-resnet8", width=4)(random_images(2, 8)).shape == (2, 10)
    assert build("resnet18", width=4).eval()(random_images(1, 32)).shape == (1, 1000)
