"""The networks of 1603.05027: against 1512.03385's and torchvision's units, the authors' layout, and its equations."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from helpers import on_meta, perturb, random_images, refused, seeded
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_nb.anatomy import describe
from resnet_nb.errors import InputError
from resnet_nb.models import build
from resnet_nb.models.preact import PLACEMENTS, Unit, unit_convs
from resnet_nb.paper import counts, facts, table
from resnet_nb.recipes import TABLE_1

V2 = "1603.05027"


def copy_in_order(target, source):
    """The parameters and buffers of `source` for `target`, in the order in which both hold them."""
    pairs = zip(target.state_dict().values(), source.state_dict().values(), strict=True)
    with torch.no_grad():
        for mine, other in pairs:
            assert mine.shape == other.shape
            mine.copy_(other)
    return target


def signal(channels, side=6, count=2):
    """Features (count, channels, side, side) in 64 bits."""
    return torch.randn(count, channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def unit(placement, shortcut="A", inputs=4, width=4, stride=1, bottleneck=False, first=False, **constants):
    torch.manual_seed(1)
    convs = unit_convs(inputs, width, stride, bottleneck)
    return perturb(Unit(convs, placement, shortcut, first, **constants)).double()


# ---- counts and layout


@pytest.fixture(scope="module")
def deepest():
    """ResNet-1001: it takes seconds to build."""
    return on_meta("cifar-preact1001", bottleneck=True)


@pytest.mark.parametrize("depth", [110, 164, 1001])
def test_the_three_nets_of_the_paper(depth, deepest):
    model = deepest if depth == 1001 else on_meta(f"cifar-preact{depth}", bottleneck=depth == 164)
    want, found = counts(f"cifar-preact{depth}"), describe(model, 32)
    assert (found.params, found.multiply_adds, found.layers) == (want["params"], want["multiply_adds"], depth)
    assert found.stage_sizes == (32, 16, 8)


def test_1001_layers_have_the_printed_10_2_million_without_bn(deepest):
    model = deepest
    bn = sum(p.numel() for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    printed = table(4, V2).row("CIFAR-10 ResNet-1001 pre-act")["params"]
    total = sum(p.numel() for p in model.parameters())
    assert abs(total - bn - printed) < 0.05e6 < abs(total - printed)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("bottleneck", [False, True])
def test_the_placement_does_not_change_the_convolutions(placement, bottleneck):
    depth, full = (29, True) if bottleneck else (20, False)
    rows = describe(on_meta(f"cifar-preact{depth}", placement=placement, bottleneck=full), 32).rows
    same = describe(on_meta(f"cifar-preact{depth}", bottleneck=full), 32).rows
    plain = lambda rows: [(r.kernel, r.inputs, r.outputs, r.size, r.projection) for r in rows]  # noqa: E731
    assert sorted(plain(rows)) == sorted(plain(same))


@pytest.mark.parametrize("depth", [152, 200])
def test_imagenet_nets_have_the_layers_of_table_5(depth):
    preact, original = on_meta(f"preact{depth}"), on_meta(f"resnet{depth}")
    new, old = describe(preact, 224), describe(original, 224)
    assert (
        new.layers == old.layers == depth
        and new.multiply_adds == old.multiply_adds == counts(f"resnet{depth}")["multiply_adds"]
    )
    assert old.params == counts(f"resnet{depth}")["params"] and new.stage_sizes == (56, 28, 14, 7)
    # every BN has moved from behind one convolution to before the next; only those of the four projections are gone
    assert new.params == old.params - 2 * (256 + 512 + 1024 + 2048)


def test_200_layers_have_sixteen_more_units_than_152_all_on_28x28_maps():
    units = {depth: [len(getattr(on_meta(f"preact{depth}"), f"layer{i}")) for i in (1, 2, 3, 4)] for depth in (152, 200)}
    assert [b - a for a, b in zip(units[152], units[200])] == [0, 16, 0, 0]
    assert describe(on_meta("preact200"), 224).stage_sizes[1] == 28


def test_the_tutorial_net_has_41_layers_on_64x64_images():
    found = describe(on_meta("tiny-preact"), 64)
    assert (found.layers, found.stage_sizes) == (41, (32, 16, 8))
    assert sum(row.projection for row in found.rows) == 3
    strides = [(row.kernel, row.stride) for row in found.rows if row.stride > 1 and not row.projection]
    assert strides == [(3, 2), (3, 2)] and found.rows[0].kernel == 5
    params, channels = 2 * 3 + 5 * 5 * 3 * 64 + 2 * 64, 64
    for count, filters in ((3, 128), (4, 256), (6, 512)):
        for place in range(count):
            k = filters // 4
            params += 2 * channels + channels * k + 2 * k + 9 * k * k + 2 * k + k * filters
            params += channels * filters if place == 0 else 0
            channels = filters
    assert found.params == params + 2 * 512 + 512 * 200 + 200
    assert seeded("tiny-preact", stages=(1, 1), filters=(8, 16, 32)).eval()(random_images(2, 64)).shape == (2, 200)


def test_the_tutorial_net_begins_with_bn_of_the_images():
    model = seeded("tiny-preact", stages=(1,), filters=(8, 16), num_classes=3)
    images = random_images(4, 64)
    torch.testing.assert_close(model(images), model(2 * images + 3), rtol=0, atol=1e-4)


# ---- the units, against other people's code and against the words of the paper


def test_the_original_placement_is_the_net_of_the_first_paper():
    ours, original = seeded("cifar-preact20", placement="a"), seeded("cifar-resnet20")
    images = random_images(4, 32)
    assert torch.equal(ours(images), original(images))
    gradients = [torch.autograd.grad(net(images).square().sum(), net.fc.weight)[0] for net in (ours, original)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_the_original_units_are_torchvisions(bottleneck, stride):
    inputs, width = 8, 4
    outputs = 16 if bottleneck else 4
    project = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    theirs = perturb((Bottleneck if bottleneck else BasicBlock)(inputs, width, stride, project)).double()
    convs = unit_convs(inputs, width, stride, bottleneck, stride_on="3x3")
    ours = copy_in_order(Unit(convs, "a", "B").double(), theirs)
    x = signal(inputs, 8)
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x))


def by_words(words, layers, x):
    """The layers named in `words`, taken from `layers` kind by kind."""
    for word in words.split():
        x = F.relu(x) if word == "ReLU" else next(layers[word])(x)
    return x


@pytest.mark.parametrize("placement, case", PLACEMENTS.items())
def test_the_five_placements(placement, case):
    """Each against the order of layers in the facts, such as "conv BN ReLU conv | add, BN, ReLU"."""
    key = case.lower().replace("pre-", "pre").replace(" ", "_").replace("-", "_")
    inside, after = facts("preact-units")[key].split("| add")
    after = after.replace(",", " ")
    block, x = unit(placement), signal(4, 6)
    kinds = {"conv": nn.Conv2d, "BN": nn.BatchNorm2d}
    layers = {word: iter([m for m in block.modules() if isinstance(m, kind)]) for word, kind in kinds.items()}
    want = by_words(after, layers, x + by_words(inside, layers, x))
    torch.testing.assert_close(block(x), want, rtol=0, atol=0)
    assert all(next(rest, None) is None for rest in layers.values())  # every layer was used


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_projection_reads_the_activated_signal_and_has_no_second_bn(placement):
    """In (e) the BN before the split serves both paths; elsewhere one follows the projection, as in option B."""
    block, x = unit(placement, "B", inputs=4, width=8, stride=2), signal(4, 6)
    projection, *bn = block.downsample
    assert len(bn) == (placement != "e")
    activated = {"d": F.relu, "e": lambda x: F.relu(block.before[0](x))}.get(placement, lambda x: x)(x)
    h = F.conv2d(activated, projection.weight, stride=2)
    h = bn[0](h) if bn else h
    torch.testing.assert_close(block(x), block.after(h + block.residual(activated)))


@pytest.mark.parametrize(
    "placement, kinds", [("a", []), ("b", []), ("c", []), ("d", [nn.ReLU]), ("e", [nn.BatchNorm2d, nn.ReLU])]
)
def test_what_follows_the_last_unit_is_what_its_successor_would_begin_with(placement, kinds):
    model = on_meta("cifar-preact20", placement=placement)
    assert [type(layer) for layer in model.last] == kinds == [type(layer) for layer in model.layer3[-1].before]
    assert [type(layer) for layer in model.stem] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] and len(model.layer1[0].before) == 0


def test_the_stride_of_the_imagenet_units():
    for stride_on, kernel in (("1x1", 1), ("3x3", 3)):
        rows = describe(on_meta("preact50", stride_on=stride_on), 224).rows
        assert [row.kernel for row in rows if row.stride == 2 and not row.projection] == [7] + [kernel] * 3


def test_variants_stand_on_zero_padding_also_in_bottleneck_nets():
    model = on_meta("cifar-preact20", bottleneck=True, shortcut="dropout")
    assert not any(row.projection for row in describe(model, 32).rows)


@pytest.mark.parametrize("name, smallest", [("cifar-preact20", 8), ("preact50", 32), ("tiny-preact", 8)])
def test_too_small_images_are_refused(name, smallest):
    model = on_meta(name)
    with pytest.raises(InputError, match=f">= {smallest}"):
        model(torch.empty(1, 3, smallest - 1, 64, device="meta"))


def test_zero_padding_reads_the_signal_itself():
    block, x = unit("e", inputs=4, width=8, stride=2), signal(4, 6)
    h = block(x) - block.residual(block.before(x))
    torch.testing.assert_close(h[:, :4], x[:, :, ::2, ::2])
    assert h[:, 4:].abs().max() < 1e-12


class LuaUnit(nn.Module):
    """The bottleneck unit of the authors' layout: BN and ReLU in common where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        width = outputs // 4
        self.same = inputs == outputs
        self.head = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, stride, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False),
        )
        self.side = nn.Identity() if self.same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        z = self.head(x)
        return self.body(z) + (x if self.same else self.side(z))


def test_the_bottleneck_net_is_the_authors():
    n, channels = 2, (16, 64, 128, 256)
    units = [
        LuaUnit(channels[s] if i == 0 else channels[s + 1], channels[s + 1], 2 if s and i == 0 else 1)
        for s in range(3)
        for i in range(n)
    ]
    torch.manual_seed(5)
    theirs = perturb(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1, bias=False),
            *units,
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.AvgPool2d(8),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
    ).eval()
    ours = copy_in_order(build("cifar-preact20", bottleneck=True), theirs).eval()
    images = random_images(3, 32)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-4)


# ---- the equations


def trained_like(name="cifar-preact32", **overrides):
    return perturb(seeded(name, **overrides)).double().eval()


def test_deep_features_are_the_sum_of_all_residuals():
    """x_L = x_l + sum of F, from any unit to any later one of a stage."""
    units = trained_like().layer1
    x = [signal(16, 8)]
    residuals = []
    for block in units:
        residuals.append(block.residual(block.before(x[-1])))
        x.append(block(x[-1]))
    for low, high in itertools.combinations(range(len(x)), 2):
        torch.testing.assert_close(x[high], x[low] + sum(residuals[low:high]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("placement, holds", [("a", False), ("b", False), ("c", True), ("d", True), ("e", True)])
def test_the_gradient_has_an_additive_term(placement, holds):
    """dE/dx_l = dE/dx_L + (d sum F / dx_l)^T dE/dx_L, where nothing follows the addition."""
    units = trained_like(placement=placement).layer1[1:]
    x = signal(16, 8, count=1).requires_grad_()
    top, total = x, 0
    for block in units:
        residual = block.residual(block.before(top))
        total, top = total + residual, block(top)
    ones = torch.linspace(-1, 1, top.numel(), dtype=torch.float64).view_as(top)
    whole = torch.autograd.grad(top, x, ones, retain_graph=True)[0]
    through_residuals = torch.autograd.grad(total, x, ones)[0]
    assert torch.allclose(whole, ones + through_residuals, rtol=0, atol=1e-9) == holds


def test_a_scaled_shortcut_multiplies_over_depth():
    units = trained_like(placement="c", shortcut="scaling", on_shortcut=0.5, on_residual=0).layer1
    x = signal(16, 8, count=1).requires_grad_()
    top = units(x)
    torch.testing.assert_close(top, 0.5 ** len(units) * x)
    torch.testing.assert_close(torch.autograd.grad(top.sum(), x)[0], torch.full_like(x, 0.5 ** len(units)))


# ---- Table 1


def test_every_row_of_table_1_can_be_built():
    printed = {row["case"]: row for row in table(1, V2).rows}
    assert set(TABLE_1) == set(printed) - {"original", "exclusive gating, b 0 to -5"}
    for case, overrides in TABLE_1.items():
        describe(on_meta("cifar-preact20", placement="a", **overrides), 32)
        row = printed[case]
        if "on_shortcut" in overrides:
            assert [f"{overrides[key]:g}" for key in ("on_shortcut", "on_residual")] == [row["on_shortcut"], row["on_residual"]]
        if "gate_bias" in overrides:
            assert str(overrides["gate_bias"]) == row["init_b"]
            assert (row["on_residual"] == "g(x)") == (overrides["shortcut"] == "exclusive-gating")


def test_scaling_by_zero_is_the_plain_net_and_by_one_the_residual_net():
    images = random_images(4, 32)
    for on_shortcut, twin in ((0, "cifar-plain20"), (1, "cifar-resnet20")):
        ours = seeded("cifar-preact20", placement="a", shortcut="scaling", on_shortcut=on_shortcut, on_residual=1)
        assert torch.equal(ours(images), seeded(twin)(images))


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_gating(exclusive, stride):
    kind = "exclusive-gating" if exclusive else "gating"
    block = unit("a", kind, inputs=4, width=8 if stride == 2 else 4, stride=stride, gate_bias=-1.5)
    x = signal(4, 6)
    g = torch.sigmoid(F.conv2d(x, block.join.gate.weight, stride=stride) + block.join.bias)
    h, residual = block.downsample(x), block.residual(x)
    want = F.relu((1 - g) * h + (g if exclusive else 1) * residual)
    torch.testing.assert_close(block(x), want)


def test_a_gate_starts_at_its_bias_and_is_no_layer():
    model = seeded("cifar-preact20", placement="a", shortcut="gating", gate_bias=-6)
    gates = [block.join for stage in (model.layer1, model.layer2, model.layer3) for block in stage]
    assert len(gates) == 9 and all(gate.bias.eq(-6).all() for gate in gates)
    found = describe(model, 32)
    extra = sum(i * o + o for i, o in [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 2 + [(32, 64)] + [(64, 64)] * 2)
    assert found.layers == 20 and found.params == counts("cifar-resnet20")["params"] + extra


def test_dropout_stands_on_the_shortcut_in_training_only():
    block = unit("c", "dropout")
    x = torch.ones(1, 4, 50, 50, dtype=torch.float64)
    block.residual = nn.Conv2d(4, 4, 1).double().requires_grad_(False)
    nn.init.zeros_(block.residual.weight), nn.init.zeros_(block.residual.bias)
    assert torch.equal(block.eval()(x), x)
    torch.manual_seed(0)
    dropped = block.train()(x)
    assert set(dropped.unique().tolist()) == {0, 2} and abs(dropped.mean().item() - 1) < 0.05


# ---- bad input


@pytest.mark.parametrize(
    "name, overrides, words",
    [
        ("cifar-preact21", {}, "6n+2"),
        ("cifar-preact1001", {}, "bottleneck=True"),
        ("cifar-preact110", {"placement": "f"}, "a, b, c, d, e"),
        ("cifar-preact110", {"placement": None}, "a, b, c, d, e"),
        ("cifar-preact30", {"bottleneck": True}, "9n+2"),
        ("cifar-preact20", {"bottleneck": "yes"}, "True or False"),
        ("cifar-preact20", {"shortcut": "highway"}, "gating"),
        ("cifar-preact20", {"shortcut": "gating"}, "gate_bias is missing"),
        ("cifar-preact20", {"gate_bias": -6}, "no constants"),
        ("cifar-preact20", {"shortcut": "scaling", "on_shortcut": 1}, "on_residual is missing"),
        ("cifar-preact20", {"shortcut": "gating", "gate_bias": "-6"}, "at most 1e+06"),
        ("cifar-preact20", {"shortcut": "gating", "gate_bias": float("nan")}, "at most 1e+06"),
        ("cifar-preact20", {"shortcut": "gating", "gate_bias": 10**400}, "at most 1e+06"),
        ("cifar-preact20", {"shortcut": None}, "gating"),
        ("cifar-preact20", {"shortcut": []}, "gating"),
        ("cifar-preact20", {"shortcut": False}, "gating"),
        ("cifar-preact20", {"width": 2**63}, "width"),
        ("cifar-preact20", {"name": "x"}, "no option"),
        ("cifar-preact20", {"constants": {}}, "placement, bottleneck, shortcut, width, num_classes, on_shortcut, on_residual"),
        ("cifar-preact" + "1" * 5000, {}, "allowed"),
        ("tiny-preact", {"stages": 3}, "one positive integer more"),
        ("tiny-preact", {"filters": None}, "one positive integer more"),
        ("tiny-preact", {"stages": (3, 4, 6.0)}, "positive integer"),
        ("tiny-preact", {"filters": (8, 4 * 10**18), "stages": (1,)}, "positive integer"),
        ("cifar-preact20", {"depth": 20}, "no option"),
        ("preact34", {}, "50, 101, 152, 200"),
        ("preact50", {"stride_on": "5x5"}, "1x1, 3x3"),
        ("tiny-preact", {"stages": (3, 4)}, "one positive integer more"),
        ("tiny-preact", {"filters": (64, 128, 256, 510)}, "multiples of 4"),
        ("tiny-preact41", {}, "tiny-preact"),
        ("cifar-preact", {}, "allowed"),
    ],
)
def test_bad_names_and_options_are_refused(name, overrides, words):
    assert words in refused(build, name, **overrides)


def test_a_unit_refuses_what_a_net_refuses():
    for placement, shortcut, constants, word in (
        ("f", "A", {}, "a, b, c, d, e"),
        ("a", "gating", {}, "gate_bias"),
        ("a", "A", {"gate_bias": 1}, "no constants"),
    ):
        with pytest.raises(InputError, match=word):
            Unit(unit_convs(4, 4, 1, False), placement, shortcut, **constants)


def test_the_names_and_channels_are_the_papers(deepest):
    said, model = facts("preact-architectures"), deepest
    stages = [model.layer1, model.layer2, model.layer3]
    assert [len(stage) for stage in stages] == [said["resnet1001"]["units_per_map_size"]] * 3
    assert [stage[-1].residual[-1].out_channels for stage in stages] == said["channels"]["stages"]
    assert [row["case"] for row in table(2, V2).rows] == list(PLACEMENTS.values())
