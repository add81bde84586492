"""Activation memory, checkpointing, occlusion and Grad-CAM against closed forms and autograd itself."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import on_meta
from torch import nn

from resnet_nb import plot
from resnet_nb.errors import InputError
from resnet_nb.explain import grad_cam, occlusion
from resnet_nb.memory import Segments, activation_bytes, recompute
from resnet_nb.models import build

MIB = 2**20


def kept(model, *shape):
    return activation_bytes(model, shape).kept


# --- activation memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("depth, batch", [(1, 2), (3, 5)])
def test_a_stack_of_conv_bn_relu_keeps_two_maps_a_layer(depth, batch):
    layers = [
        layer
        for i in range(depth)
        for layer in (nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    ]
    image, each = 3 * 6 * 5, 8 * 6 * 5
    # in front of BN (for BN) and behind ReLU (for ReLU and the next layer); BN keeps a mean and a scale per channel.
    # The last ReLU keeps its output, too.
    floats = batch * (image + 2 * depth * each) + 2 * 8 * depth
    assert kept(nn.Sequential(*layers), batch, 3, 6, 5) == 4 * floats


def test_without_bn_and_with_relu_in_place_one_map_a_layer_is_enough():
    layers = [layer for inputs in (3, 8) for layer in (nn.Conv2d(inputs, 8, 3, padding=1), nn.ReLU(inplace=True))]
    assert kept(nn.Sequential(*layers), 2, 3, 6, 6) == 4 * 2 * 36 * (3 + 8 + 8)


def test_vgg16_keeps_one_map_a_layer():
    plan = [(64, 2, 224), (128, 2, 112), (256, 3, 56), (512, 3, 28), (512, 3, 14)]  # channels, layers, side
    convolutions = sum(channels * layers * side**2 for channels, layers, side in plan)
    pooled = sum(channels * (side // 2) ** 2 for channels, _, side in plan)
    # the last maps twice (average pooling to 7x7 copies them); each hidden fc: ReLU, mask and output of dropout
    floats = 3 * 224**2 + convolutions + pooled + 512 * 7**2 + 2 * 3 * 4096
    assert kept(on_meta("vgg16"), 1, 3, 224, 224) == 4 * floats + 8 * pooled  # and the places of the maxima


@pytest.mark.parametrize(
    "name, shape", [("cifar-resnet14", (4, 3, 32, 32)), ("resnet18", (2, 3, 64, 96)), ("cifar-preact14", (2, 3, 32, 32))]
)
def test_the_meta_device_keeps_what_the_cpu_keeps(name, shape):
    model, found = build(name).train(), {}
    own = {p.data_ptr() for p in (*model.parameters(), *model.buffers())}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(torch.randn(shape))
    assert logits.requires_grad and kept(model, *shape) == sum(found.values())


# measured by dispatch counting on other code (fp32, batch 128), weights of the convolutions included
@pytest.mark.parametrize("depth, mebibytes", [(20, 186), (56, 524)])  # also 32: 299, 44: 411, 110: 1030
def test_the_cifar_nets_keep_what_was_measured_elsewhere(depth, mebibytes):
    net = on_meta(f"cifar-resnet{depth}")
    weights = 4 * sum(p.numel() for p in net.parameters() if p.ndim > 1)
    assert (kept(net, 128, 3, 32, 32) + weights) / MIB == pytest.approx(mebibytes, rel=0.004)


def test_memory_is_linear_in_the_batch_and_in_the_depth():
    net = on_meta("cifar-resnet8")
    one, two, three = (kept(net, n, 3, 32, 32) for n in (1, 2, 3))
    assert three - two == two - one > 0.99 * one  # not equal: the statistics of BN do not grow with the batch
    depths = [kept(on_meta(f"cifar-resnet{d}"), 8, 3, 32, 32) for d in (8, 14, 20)]
    assert depths[2] - depths[1] == depths[1] - depths[0]


def test_counting_leaves_the_model_alone():
    model = build("cifar-resnet8").eval()
    before = copy.deepcopy(model.state_dict())
    activation_bytes(model, (2, 3, 32, 32))
    assert not model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("shape", [32, (3, 32, 32), (0, 3, 32, 32), (2, 3, 32.0, 32), None, (2, 4, 32, 32), (2, 3, 4, 4)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(InputError, match="shape"):
        activation_bytes(build("cifar-resnet8"), shape)


# --- checkpointing --------------------------------------------------------------------------------


def step(model, images, labels):
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    return loss.item(), [p.grad for p in model.parameters()]


@pytest.mark.parametrize("size", [1, 2])
def test_recomputing_changes_neither_loss_nor_gradients(size):
    torch.manual_seed(0)
    model = build("cifar-resnet14").double()
    again = recompute(model, size)
    images, labels = torch.randn(4, 3, 16, 16).double(), torch.arange(4)
    loss, gradients = step(model, images, labels)
    other_loss, others = step(again, images, labels)
    assert loss == other_loss
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert not isinstance(model.layer1, Segments)  # the argument stays as it was
    again.load_state_dict(model.state_dict())  # the names are the same


def test_bn_inside_a_segment_counts_a_batch_twice():
    model = build("cifar-resnet8").double()
    again = recompute(model, 1)
    images, labels = torch.randn(4, 3, 16, 16).double(), torch.arange(4)
    for net in (model, again):
        step(net, images, labels)
    assert model.layer2[0].bn1.num_batches_tracked == again.bn1.num_batches_tracked == 1
    inside = again.layer2[0].bn1
    assert inside.num_batches_tracked == 2
    # from 0: m, then m + (1 - m) m of the mean of the batch, with momentum m = 0.1
    torch.testing.assert_close(inside.running_mean, model.layer2[0].bn1.running_mean * 1.9)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_segments_keep_is_their_inputs(size):
    n, batch = 3, 4  # ResNet-20
    net = on_meta("cifar-resnet20")
    found = activation_bytes(recompute(net, size), (batch, 3, 32, 32))
    per_stage = -(-n // size)
    a = 16 * 32 * 32  # numbers in a map of stage 1; half and a quarter of it in stages 2 and 3
    # the image, conv1 in front of BN, the statistics of its BN, what comes into each segment, what leaves the last
    # (average pooling needs none of it), and what comes into fc
    inputs = per_stage * a + (a + (per_stage - 1) * a // 2) + (a // 2 + (per_stage - 1) * a // 4)
    assert found.kept == 4 * (batch * (3 * 32 * 32 + a + inputs + 64) + 2 * 16)
    # inside a segment: four maps a block, the first stage being the largest
    first = 4 * batch * 4 * a * min(size, n)
    assert found.kept < found.peak < found.kept + 1.01 * first


def test_the_peak_is_the_memory_that_exists_when_a_segment_is_recomputed():
    """One stage of equal blocks: known kept maps up to the last segment, and those inside it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1 = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU()) for _ in range(6)])

        def forward(self, x):
            return self.layer1(x).sum()

    map_bytes = 4 * 2 * 3 * 25
    assert activation_bytes(Net(), (2, 3, 5, 5)).peak == 7 * map_bytes  # the image and six outputs
    for size, segments in ((1, 6), (2, 3), (3, 2), (6, 1)):
        found = activation_bytes(recompute(Net(), size), (2, 3, 5, 5))
        assert found.kept == segments * map_bytes
        assert found.peak == (segments + size) * map_bytes  # smallest near the square root of 6


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2"])
def test_a_bad_segment_is_refused(size):
    with pytest.raises(InputError, match="size must be a positive integer"):
        recompute(on_meta("cifar-resnet8"), size)


def test_a_network_without_stages_is_refused():
    with pytest.raises(InputError, match="VGG has no stages"):
        recompute(on_meta("vgg16"), 1)


# --- what a network looks at ------------------------------------------------------------------------


class Pooled(nn.Module):
    """Maps, their mean, fc: then Grad-CAM is CAM, the maps weighted by the rows of fc, over the pixels of a map."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Linear(5, 4)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize("frozen", [False, True])
def test_grad_cam_of_a_linear_head_is_cam(frozen):
    torch.manual_seed(0)
    net, images, labels = Pooled().double(), torch.randn(3, 3, 12, 8).double(), torch.tensor([0, 3, 1])
    net.requires_grad_(not frozen)
    cam = torch.einsum("nchw,nc->nhw", net.conv(images), net.fc.weight[labels]).relu() / (6 * 4)
    want = F.interpolate(cam[:, None], (12, 8), mode="bilinear", align_corners=False)[:, 0]
    got = grad_cam(net, images, labels, net.conv)
    torch.testing.assert_close(got, want.detach())
    assert not got.requires_grad and all(p.grad is None for p in net.parameters())
    assert not net.conv._forward_hooks


def test_the_weights_of_grad_cam_are_mean_slopes():
    """Inside a ResNet: adding t to a whole map changes the logit by t times h*w times the weight of that map."""
    torch.manual_seed(1)
    net = build("cifar-resnet8").double().eval()
    images, labels = torch.randn(1, 3, 16, 16).double(), torch.tensor([7])
    maps = net.layer2(net.layer1(F.relu(net.bn1(net.conv1(images))))).detach()

    def logit(maps):
        return net.fc(net.layer3(maps).mean((2, 3)))[0, 7].item()

    slopes, t = torch.zeros(32).double(), 1e-5
    with torch.no_grad():
        for channel in range(32):
            shift = torch.zeros(1, 32, 1, 1).double()
            shift[0, channel] = t
            slopes[channel] = (logit(maps + shift) - logit(maps - shift)) / (2 * t)
    small = torch.einsum("chw,c->hw", maps[0], slopes / (8 * 8)).relu()
    want = F.interpolate(small[None, None], (16, 16), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(grad_cam(net, images, labels, net.layer2), want, rtol=1e-4, atol=1e-7)


def test_a_layer_without_maps_is_refused():
    net = build("cifar-resnet8").eval()
    for layer in (net.fc, nn.Conv2d(3, 3, 1)):
        with pytest.raises(InputError, match="layer must be a module of the network"):
            grad_cam(net, torch.randn(1, 3, 16, 16), torch.tensor([0]), layer)
        assert not layer._forward_hooks


class Sum(nn.Module):
    """Logit k is a weighted sum of the pixels: covering a square takes away its part."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, x):
        return torch.einsum("nchw,kchw->nk", x, self.weights)


@pytest.mark.parametrize("size, stride", [(4, 4), (4, 2), (2, 1)])
def test_occlusion_of_a_linear_net_is_the_sum_under_the_square(size, stride):
    torch.manual_seed(0)
    images, weights, labels = torch.randn(2, 3, 8, 12), torch.randn(3, 3, 8, 12), torch.tensor([2, 0])
    parts = (images * weights[labels]).sum(1)
    drops, covers = torch.zeros(2, 8, 12), torch.zeros(8, 12)
    for pixel in range(8 * 12):  # from the point of view of a pixel
        y, x = divmod(pixel, 12)
        for top in range(0, 8 - size + 1, stride):
            for left in range(0, 12 - size + 1, stride):
                if top <= y < top + size and left <= x < left + size:
                    drops[:, y, x] += parts[:, top : top + size, left : left + size].sum((1, 2))
                    covers[y, x] += 1
    got = occlusion(Sum(weights), images, labels, size, stride)
    torch.testing.assert_close(got, drops / covers, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size, stride", [(9, 1), (4, 5), (3, 2), (0, 1), (4, 0), (4.0, 2)])
def test_squares_that_do_not_cover_the_image_are_refused(size, stride):
    with pytest.raises(InputError):
        occlusion(Sum(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 8, 8), torch.tensor([0]), size, stride)


def test_heat_maps_are_drawn():
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    outline = torch.zeros(2, 32, 32, dtype=torch.bool)
    outline[:, 8:20, 8:20] = True
    figures = [
        plot.heat_maps(images, {"heat": heat}, outline, "Two images.") for heat in (torch.rand(2, 32, 32), outline.float())
    ]
    assert figures[0].caption == "Two images." and figures[0].png != figures[1].png
