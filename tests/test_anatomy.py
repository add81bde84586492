"""Counts of `describe` against torch's own flop counter, torchinfo and the modules themselves."""

import pytest
import torch
import torchinfo
from helpers import on_meta
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_nb.anatomy import describe
from resnet_nb.errors import InputError
from resnet_nb.models import build
from resnet_nb.paper import counts

NETS = [
    ("cifar-resnet20", {}, (32, 32)),
    ("cifar-plain20", {}, (32, 32)),
    ("cifar-resnet14", {"shortcut": "B", "width": 5}, (48, 40)),
    ("cifar-resnet14", {"shortcut": "C", "num_classes": 100}, (33, 29)),
    ("plain34", {}, (224, 224)),
    ("resnet34", {"shortcut": "C"}, (224, 224)),
    ("resnet50", {}, (224, 224)),
    ("resnet50", {"stride_on": "3x3"}, (224, 160)),
    ("vgg16", {}, (224, 224)),
]


@pytest.mark.parametrize("name, overrides, size", NETS)
def test_multiply_adds_are_half_of_what_torch_counts(name, overrides, size):
    model = on_meta(name, **overrides)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, *size, device="meta"))  # torch counts a multiplication and an addition as two
    assert describe(model, (3, *size)).multiply_adds == counter.get_total_flops() // 2


# layers that the networks of the papers do not have, and a reader's network may
OTHER_LAYERS = {
    "grouped": nn.Conv2d(3, 6, 3, groups=3),
    "depthwise": nn.Conv2d(3, 3, 5, padding=2, groups=3, bias=False),
    "1x3": nn.Conv2d(3, 4, (1, 3), padding=(0, 1)),
    "3x1, strides 2 and 1": nn.Conv2d(3, 4, (3, 1), stride=(2, 1)),
    "dilated": nn.Conv2d(3, 4, 3, dilation=2),
    "padded by name": nn.Conv2d(3, 4, (3, 5), padding="same"),
    "fc on each row": nn.Linear(10, 7),
}


@pytest.mark.parametrize("layer", OTHER_LAYERS.values(), ids=OTHER_LAYERS)
def test_other_layers_are_counted_too(layer):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = layer(torch.empty(1, 3, 12, 10))
    (row,) = describe(nn.Sequential(layer), (3, 12, 10)).rows
    bias = 0 if layer.bias is None else layer.bias.numel()
    assert (row.multiply_adds, row.weights) == (
        counter.get_total_flops() // 2,
        sum(p.numel() for p in layer.parameters()) - bias,
    )
    conv = isinstance(layer, nn.Conv2d)
    assert (row.inputs, row.outputs, row.size) == (3, output.shape[1], output.shape[-1]) if conv else (10, 7, 1)


@pytest.mark.parametrize("name", ["cifar-resnet20", "resnet50"])
def test_rows_are_torchinfos_layers(name):
    size = 32 if name.startswith("cifar") else 64
    model = build(name)
    found = describe(model, size)
    summary = torchinfo.summary(model, (1, 3, size, size), verbose=0)
    theirs = [info for info in summary.summary_list if isinstance(info.module, (nn.Conv2d, nn.Linear))]
    assert [row.kind for row in found.rows] == [{"Conv2d": "conv", "Linear": "fc"}[info.class_name] for info in theirs]
    for row, info in zip(found.rows, theirs):
        bias = row.outputs if row.kind == "fc" else 0  # torchinfo counts an addition of the bias as one more
        assert (row.multiply_adds + bias, row.weights + bias) == (info.macs, info.num_params), row.name
        assert row.outputs == info.output_size[1] and row.size == (info.output_size[-1] if row.kind == "conv" else 1)
    # ... and one for each parameter of BN
    extra = found.params - sum(row.weights for row in found.rows)
    assert found.multiply_adds + extra == summary.total_mult_adds
    assert found.params == summary.total_params


def test_rows_say_what_the_modules_are():
    model = on_meta("resnet50")
    modules = dict(model.named_modules())
    for row in describe(model, 224).rows:
        module = modules[row.name]
        if row.kind == "conv":
            assert module.kernel_size == (row.kernel, row.kernel) and module.stride == (row.stride, row.stride)
            assert (module.in_channels, module.out_channels) == (row.inputs, row.outputs)
        else:
            assert (row.kernel, row.stride) == (1, 1)
            assert (module.in_features, module.out_features) == (row.inputs, row.outputs)


@pytest.mark.parametrize("option, projections", [("B", 4), ("C", 16), ("A", 0)])
def test_projections_are_computed_but_not_counted_as_layers(option, projections):
    model = on_meta("resnet50", shortcut=option)
    found = describe(model, 224)
    rows = [row for row in found.rows if row.projection]
    assert found.layers == 50 and len(found.rows) == 50 + projections and len(rows) == projections
    assert all(row.name.endswith(".downsample.0") and row.kernel == 1 for row in rows)
    if option == "B":
        computed = sum(row.multiply_adds for row in rows)
        assert computed == counts("resnet50")["of_which_projections"]
        assert found.multiply_adds - computed == describe(on_meta("resnet50", shortcut="A"), 224).multiply_adds


def test_vgg_has_no_stages():
    assert describe(on_meta("vgg16"), 64).stage_sizes == ()


# ---- sizes


@pytest.mark.parametrize("size", [(3, 32, 32), (1, 3, 32, 32), (7, 3, 32, 32), [3, 32, 32], torch.Size((4, 3, 32, 32))])
def test_every_form_of_the_input_size_means_one_image(size):
    model = on_meta("cifar-resnet8")
    assert describe(model, size) == describe(model, 32)


BAD_SIZES = [
    0,
    -32,
    32.0,
    "32",
    None,
    True,
    (),
    (32,),
    (32, 32),
    (1, 32, 32),
    (3, 0, 32),
    (3, 32, -1),
    (3, 32, 32.0),
    (1, 1, 32, 32),
    (1, 32, 32, 3),
    (2, 2, 3, 32, 32),
    {3, 32},
    7,
]


@pytest.mark.parametrize("size", BAD_SIZES, ids=repr)
def test_other_sizes_are_refused(size):
    with pytest.raises(InputError) as caught:
        describe(on_meta("cifar-resnet8"), size)
    assert "(N, 3, H, W)" in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_sizes_that_pool_to_nothing_are_refused():
    with pytest.raises(InputError) as caught:
        describe(on_meta("vgg16"), 16)  # halved five times
    assert len(str(caught.value).splitlines()) == 1


# ---- nothing happens to the model


def test_describe_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = build("cifar-resnet8", width=4)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    model.train()
    model.bn1.eval()  # a mixture of modes
    model.conv1.weight.requires_grad_(False)
    called = []
    model.layer1.register_forward_hook(lambda *_: called.append("forward"))
    model.register_forward_pre_hook(lambda *_: called.append("pre"))

    def state():
        return {
            "modes": [m.training for m in model.modules()],
            "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
            "parameters": [(id(p), p.device, p.requires_grad, p.grad is None) for p in model.parameters()],
            "children": [id(m) for m in model.modules()],
        }

    before, values = state(), {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    describe(model, 32)
    assert state() == before
    assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())  # BN statistics too
    assert torch.equal(torch.get_rng_state(), generator) and torch.is_grad_enabled()
    assert called == []  # the reader's own hooks see no pass that the reader did not make


def test_real_and_meta_models_have_the_same_counts():
    assert describe(build("cifar-resnet14", width=3), 32) == describe(on_meta("cifar-resnet14", width=3), 32)
