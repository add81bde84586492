"""Networks as readers have them: hooks, modes, wrappers, kept tensors, gradients switched off. Each works or is one line."""

import copy
import threading
import warnings

import pytest
import torch
from helpers import random_images, seeded
from torch import nn
from torch.nn.utils import parametrizations, prune

from resnet_nb import plot
from resnet_nb.anatomy import describe
from resnet_nb.errors import InputError
from resnet_nb.explain import grad_cam, occlusion
from resnet_nb.memory import activation_bytes, recompute

SHAPE, IMAGES, LABELS = (2, 3, 32, 32), random_images(2, 32), torch.tensor([0, 1])
MAPS = random_images(2, 16)


def small():
    return seeded("cifar-resnet8", width=4)


def everything(net, images=MAPS):
    """What the package says of a network, that of `recompute` too."""
    bare = getattr(net, "_orig_mod", getattr(net, "module", net))
    return [
        describe(net, 32),
        activation_bytes(net, SHAPE),
        activation_bytes(recompute(net, 1), SHAPE),
        occlusion(net, images, LABELS).tolist(),
        grad_cam(net, images, LABELS, bare.layer2).tolist(),
    ]


@pytest.fixture(scope="module")
def plain():
    return everything(small())


def state(net):
    """All that must stay: values, gradients, flags, modes, hooks, modules."""
    return [
        [(name, value.tolist()) for name, value in net.state_dict().items()],
        [(id(p), p.requires_grad, p.grad if p.grad is None else p.grad.tolist()) for p in net.parameters()],
        [
            (id(m), m.training, [id(v) for v in vars(m).values()], [len(v) for k, v in vars(m).items() if k.endswith("_hooks")])
            for m in net.modules()
        ],
        [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_rng_state().tolist()],
    ]


# --- switched off -----------------------------------------------------------------------------------

OFF = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "default device": lambda: torch.device("cpu"),
}


@pytest.mark.parametrize("off", OFF)
def test_answers_do_not_depend_on_what_is_switched_off_around(off, plain):
    net = small()
    with OFF[off]():
        assert everything(net) == plain


def test_counts_do_not_depend_on_autocast_or_on_the_default_type(plain):
    net = small()
    with torch.autocast("cpu", torch.bfloat16):
        assert everything(net)[:3] == plain[:3]
    torch.set_default_dtype(torch.float64)
    try:
        assert everything(net)[:3] == plain[:3]
    finally:
        torch.set_default_dtype(torch.float32)


# --- hooks, modes, kept tensors ----------------------------------------------------------------------


def keep_on_module(net):
    net.layer1.register_forward_hook(lambda module, inputs, output: setattr(module, "seen", output))


def keep_in_list(net):
    net.seen = []
    net.layer1.register_forward_hook(lambda module, inputs, output: net.seen.append({"map": (output,)}))


class Keeper:
    def __init__(self):
        self.maps, self.lock = [], threading.Lock()

    def __call__(self, module, inputs, output):
        self.maps.append(output)

    def keep(self, module, inputs, output):
        self.maps.append(output)


def keep_in_object(net):
    net.layer1.register_forward_hook(Keeper())
    net.layer2.register_forward_hook(Keeper().keep)


def backward_hooks(net):
    net.layer1.register_full_backward_hook(lambda module, inputs, outputs: None)
    net.layer2.register_full_backward_pre_hook(lambda module, outputs: None)


def mixed_modes(net):
    net.train().layer2.eval()


def gradients(net):
    net(IMAGES).sum().backward()


WAYS = [keep_on_module, keep_in_list, keep_in_object, backward_hooks, mixed_modes, gradients]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_a_reader_does_to_a_network_changes_no_answer_and_stays(way, plain):
    net = small().eval()
    way(net)
    modes = [module.training for module in net.modules()]
    weights = copy.deepcopy(net.state_dict())
    net.eval()(IMAGES)  # now a hook has kept a tensor inside a graph
    for module, mode in zip(net.modules(), modes):
        module.training = mode
    before = state(net)
    found = [describe(net, 32), activation_bytes(net, SHAPE)]
    if way is not keep_in_object:  # a lock cannot be copied with its hook; without the hooks it can
        found.append(activation_bytes(recompute(net, 1), SHAPE))
    assert state(net) == before
    assert found == plain[: len(found)]
    net.load_state_dict(weights)  # `gradients` made a training step of BN
    maps = [occlusion(net, MAPS, LABELS).tolist(), grad_cam(net, MAPS, LABELS, net.layer2).tolist()]
    assert maps == plain[3:]
    assert [module.training for module in net.modules()] == modes
    torch.testing.assert_close(dict(net.state_dict()), dict(weights), rtol=0, atol=0)  # no statistics of BN moved


def test_hooks_that_fail_or_replace_are_left_out_of_counts(plain):
    net = small()

    def fail(*args):
        raise KeyError("of the reader")

    net.register_forward_pre_hook(fail)
    net.layer1.register_forward_hook(lambda module, inputs, output: output[:, :, :4, :4])
    assert [describe(net, 32), activation_bytes(net, SHAPE)] == plain[:2]
    for look in (lambda: occlusion(net, MAPS, LABELS), lambda: grad_cam(net, MAPS, LABELS, net.layer2)):
        with pytest.raises(InputError, match="of the reader"):  # these are passes of the reader's own network
            look()
    assert [len(module._forward_hooks) for module in net.modules()].count(1) == 1 and net.training


def test_recompute_keeps_hooks_modes_and_draws_the_same_dropout_again():
    torch.manual_seed(0)
    net = seeded("cifar-preact20", shortcut="dropout", width=4).double()
    net.layer1.eval()
    called = []
    net.layer2.register_forward_hook(lambda *_: called.append(1))
    found = []
    for each in (net, recompute(net, 1)):
        torch.manual_seed(1)
        each(IMAGES.double()).square().sum().backward()
        found.append([p.grad for p in each.parameters()])
        assert not each.layer1.training and each.layer2.training
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    assert len(called) == 2


# --- wrappers, layers whose weights are computed, other types -----------------------------------------


def compile_children(net):
    net.layer1, net.layer2 = (torch.compile(layer, backend="eager") for layer in (net.layer1, net.layer2))
    return net


def compile_in_place(net):
    net.compile(backend="eager")
    return net


WRAPPERS = {
    "compile": lambda net: torch.compile(net, backend="eager"),
    "parallel": nn.DataParallel,
    "compiled children": compile_children,
    "compiled in place": compile_in_place,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_networks_are_what_is_inside(wrapper, plain):
    assert everything(WRAPPERS[wrapper](small())) == plain


def weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.nn.utils.weight_norm(layer)


def pruned_twice(layer):
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.random_unstructured(layer, "weight", 0.5)


MADE = [weight_norm, parametrizations.weight_norm, parametrizations.spectral_norm, torch.nn.utils.spectral_norm, pruned_twice]


@pytest.mark.parametrize("make", MADE, ids=lambda make: f"{make.__module__}.{make.__name__}")
def test_weights_that_are_computed_are_weights(make, plain):
    net = small()
    make(net.layer2[0].conv1)
    net(IMAGES)  # the old ways keep the last weight, inside its graph
    found = describe(net, 32)
    assert found.rows == plain[0].rows and found.params == sum(p.numel() for p in net.parameters())
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net.train()(IMAGES)
    own = {p.untyped_storage().data_ptr() for p in (*net.parameters(), *net.buffers())}
    there = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
    assert activation_bytes(net, SHAPE).kept == pytest.approx(there, rel=2e-3)  # a norm may be kept or not


@pytest.mark.parametrize("dtype, size", [(torch.float64, 2), (torch.bfloat16, 0.5), (torch.float16, 0.5)])
def test_other_types_of_weights(dtype, size, plain):
    net = small().to(dtype)
    found = everything(net, MAPS.to(dtype))
    assert found[0] == plain[0]
    assert found[1].kept == pytest.approx(size * plain[1].kept, rel=0.01)  # statistics of BN may stay float32


def test_frozen_shared_and_own_tensors():
    net = small().requires_grad_(False)
    assert describe(net, 32) == describe(small(), 32) and activation_bytes(net, SHAPE).kept == 0  # nothing is trained
    layer = nn.Conv2d(3, 3, 3, padding=1)
    twice = nn.Sequential(layer, nn.ReLU(inplace=True), layer)
    assert describe(twice, 8).layers == 2 and describe(twice, 8).params == 3 * 3 * 9 + 3

    class Normalized(nn.Module):  # a tensor that is no buffer, tensors made on the way, a list that grows
        def __init__(self):
            super().__init__()
            self.net, self.mean, self.sizes = small(), torch.zeros(3, 1, 1), []

        def forward(self, x):
            self.sizes.append(x)
            return self.net(x - self.mean + torch.zeros(1))

    net = Normalized()
    assert describe(net, 32).multiply_adds == describe(net.net, 32).multiply_adds and net.sizes == []
    assert grad_cam(net, MAPS, LABELS, net.net.layer2).shape == (2, 16, 16)


CANNOT = {
    "lock": lambda net: setattr(net.layer1, "lock", threading.Lock()),
    "lazy": lambda net: setattr(net, "conv1", nn.LazyConv2d(4, 3, padding=1)),
    "number of an image": lambda net: net.layer1.append(Chooses()),
    "fails": lambda net: net.layer1.append(nn.Unflatten(1, (3, 3))),
    "scripted": lambda net: setattr(net, "bn1", torch.jit.script(net.bn1)),
}


class Chooses(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("why", CANNOT)
def test_what_cannot_be_counted_is_one_line(why):
    net = small()
    CANNOT[why](net)
    for count in (lambda: describe(net, 32), lambda: activation_bytes(net, SHAPE)):
        with pytest.raises(InputError) as caught:
            count()
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("model", ["resnet18", None, nn.ReLU])
def test_what_is_no_network_is_one_line(model):
    calls = [
        lambda: describe(model, 32),
        lambda: activation_bytes(model, SHAPE),
        lambda: recompute(model, 1),
        lambda: occlusion(model, MAPS, LABELS),
        lambda: grad_cam(model, MAPS, LABELS, nn.ReLU()),
        lambda: grad_cam(small(), MAPS, LABELS, model),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"^model must be a network \(torch.nn.Module\), got "):
            call()


# --- what a network looks at ----------------------------------------------------------------------


def test_grad_cam_of_a_layer_is_its_own_and_not_that_of_what_writes_into_it():
    class Adds(nn.Module):  # as torchvision's VGG and ResNet: ReLU in place behind a convolution, += behind another
        def __init__(self, inplace):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.relu, self.fc, self.inplace = nn.ReLU(inplace), nn.Linear(3, 2), inplace

        def forward(self, x):
            y = self.conv2(self.relu(self.conv1(x)))
            y = y.add_(x) if self.inplace else y + x
            return self.fc(self.relu(y).mean((2, 3)))

    torch.manual_seed(0)
    one, other = Adds(False).eval(), Adds(True).eval()
    other.load_state_dict(one.state_dict())
    x = random_images(2, 8)
    assert torch.equal(one(x), other(x))
    for layer in ("conv1", "conv2"):
        found = [grad_cam(net, x, LABELS, net.get_submodule(layer)) for net in (one, other)]
        assert torch.equal(*found) and found[0].max() > 0, f"the map of {layer} is that of what writes into its output"


def test_the_readers_hook_on_the_layer_is_seen():
    net = small().eval()
    net.layer2.register_forward_hook(lambda module, inputs, output: output * 0)
    assert grad_cam(net, MAPS, LABELS, net.layer2).abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_labels_of_every_integer_type_and_images_inside_a_graph(dtype, plain):
    images = MAPS.clone().requires_grad_() * 1
    found = occlusion(small(), images, LABELS.to(dtype)), grad_cam(net := small(), images, LABELS.to(dtype), net.layer2)
    assert [heat.tolist() for heat in found] == plain[3:] and not any(heat.requires_grad for heat in found)


WRONG = [
    (MAPS, LABELS.float(), r"labels must be a tensor \(2,\) of integers, got \(2,\) torch.float32 on cpu"),
    (MAPS, LABELS[:1], "labels must be"),
    (MAPS, [0, 1], "labels must be a tensor .* got list"),
    (MAPS, LABELS + 9, "labels must be classes from 0 to 9, got 9 to 10"),
    (MAPS, LABELS - 1, "labels must be classes"),
    (MAPS[0], LABELS, "images must be a tensor"),
    (MAPS.byte(), LABELS, "images must be .* torch.uint8"),
    (MAPS.numpy(), LABELS, "images must be .* ndarray"),
    (MAPS[:0], LABELS[:0], "images must be"),
    (MAPS.double(), LABELS, "the network does not take these images"),
    (MAPS.to("meta"), LABELS, "(does not take|must return)"),
    (MAPS * float("nan"), LABELS, "logits are not finite"),
]


@pytest.mark.parametrize("images, labels, message", WRONG)
def test_other_images_and_labels_are_one_line(images, labels, message):
    net = small()
    for look in (lambda: occlusion(net, images, labels), lambda: grad_cam(net, images, labels, net.layer2)):
        with pytest.raises(InputError, match=message) as caught:
            look()
        assert len(str(caught.value).splitlines()) == 1
    assert net.training and not net.layer2._forward_hooks


def test_a_layer_without_influence_is_one_line():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.idle = small(), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            self.idle(x)
            return self.net(x)

    net = Idle()
    with pytest.raises(InputError, match="no gradient on the maps of this layer"):
        grad_cam(net, MAPS, LABELS, net.idle)


# --- pictures --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_tensors_of_every_kind_are_drawn():
    heat, images = torch.rand(2, 8, 8), torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    outline = heat > 0.5
    values = torch.tensor([0.5, 0.25])

    def pictures(change):
        h, v = change(heat), change(values)
        return [
            plot.heat_maps(images, {"a": h}, outline, "x").png,
            plot.grids({"a": h[0, :3, :3]}, "x").png,
            plot.lines({"a": v, "b": list(v), "c": {1: v[0], 2: v[1]}}, "x", "y", "x").png,
            plot.bars({"a": {"b": v[0]}, "c": {"b": v[1]}}, "x", "x").png,
            plot.curves({"a": [{"iteration": 1, "loss": v[0]}]}, {"loss": "loss"}, "x").png,
        ]

    wanted = pictures(lambda t: t)
    assert pictures(lambda t: t.clone().requires_grad_() * 1) == wanted
    assert pictures(lambda t: t.double()) == wanted
    assert all(pictures(lambda t: t.bfloat16()))
