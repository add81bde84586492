"""Faster R-CNN with the paper's nets as backbone (notebook 10; arXiv 1512.03385, §4.3, Appendix A), on torchvision's parts."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import VGG
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from resnet_nb.detection.scenes import CLASSES, SIZE
from resnet_nb.errors import InputError, require_int
from resnet_nb.models.blocks import stages
from resnet_nb.models.resnet import CifarResNet, ResNet

# the three sizes (pixels) and three ratios of Faster R-CNN, for images with a shorter side of 600
ANCHORS = {"sizes": ((128, 256, 512),), "aspect_ratios": ((0.5, 1.0, 2.0),)}


def split(model: nn.Module) -> tuple[nn.Sequential, nn.Sequential, int, int]:
    """Cut a classification net where the paper cuts it: the shared layers, those for each region, sizes between them.

    The shared layers run once per image, (N, 3, H, W) to (N, shared.out_channels, H / stride, W / stride). ResNets for
    ImageNet: conv1 to conv4_x | conv5_x and the average pooling; VGG: all convolutions, without the last max pooling | fc6
    and fc7; ResNets for CIFAR: conv1 to the second stage | the third. The parts are the model's own modules, not copies.
    Then the side of the RoI-pooled map that the region part takes (VGG: 7, by its fc layers; conv5_x: 14, our choice, its
    side for 224x224 images; CIFAR: 8, ours), and the length of the vector that it gives. Raises InputError on any other net.
    """
    if isinstance(model, VGG):
        early, out_channels, side, features = {"features": model.features[:-1]}, 512, 7, 4096
        region = [nn.Flatten(), *list(model.classifier)[:-1]]
    elif isinstance(model, (ResNet, CifarResNet)):
        *first, (_, last) = stages(model).items()
        pool, side = ({"maxpool": nn.MaxPool2d(3, stride=2, padding=1)}, 14) if isinstance(model, ResNet) else ({}, 8)
        early = {"conv1": model.conv1, "bn1": model.bn1, "relu": nn.ReLU(), **pool, **dict(first)}
        out_channels, features = last[0].conv1.in_channels, model.fc.in_features
        region = [last, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    else:
        raise InputError(f"a detector takes a resnet, cifar-resnet or vgg of this package, got {type(model).__name__}")
    shared = nn.Sequential(OrderedDict(early))
    shared.out_channels = out_channels  # FasterRCNN asks its backbone for it
    return shared, nn.Sequential(*region), side, features


def freeze_bn(model: nn.Module) -> nn.Module:
    """Replace every BN by torchvision's FrozenBatchNorm2d with its statistics, scale and shift; returns the model.

    "the BN layers become linear activations with constant offsets and scales" (Appendix A).
    """
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps).to(child.weight.device)
            state = child.state_dict()
            frozen.load_state_dict({key: state[key] for key in frozen.state_dict()})
            setattr(model, name, frozen)
        else:
            freeze_bn(child)
    return model


def faster_rcnn(model: nn.Module, num_classes: int, mean: Tensor | None = None, frozen: bool = True, **options) -> FasterRCNN:
    """A Faster R-CNN from a trained classification net, cut by `split`; the net's own modules go into it.

    num_classes counts the background. mean: (3,) per channel in [0, 1], subtracted from the images (zero by default); there
    is no division. frozen: fix the BN layers, as the paper does. options are those of torchvision's FasterRCNN. Where the
    options do not say otherwise, as in the paper: 300 proposals, a shorter side of 600 pixels (the longer one at most 1000),
    and Faster R-CNN's anchors. RoI pooling is torchvision's RoIAlign. Raises InputError on a net that `split` does not know,
    or fewer than two classes.
    """
    require_int("num_classes, which counts the background,", num_classes, 2)
    shared, region, side, features = split(freeze_bn(model) if frozen else model)
    paper = {
        "min_size": 600,
        "max_size": 1000,
        "rpn_post_nms_top_n_test": 300,
        "rpn_anchor_generator": AnchorGenerator(**ANCHORS),
    }
    return FasterRCNN(
        shared,
        image_mean=[0.0] * 3 if mean is None else mean.tolist(),
        image_std=[1.0] * 3,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=side, sampling_ratio=2),
        box_head=region,
        box_predictor=FastRCNNPredictor(features, num_classes),
        **(paper | options),
    )


def scene_detector(model: nn.Module, mean: Tensor, frozen: bool = True) -> FasterRCNN:
    """`faster_rcnn` for the scenes of `detection.scenes`: ten classes, one anchor of 18x18 pixels, few proposals."""
    sizes = {"min_size": SIZE, "max_size": SIZE, "rpn_anchor_generator": AnchorGenerator(((18,),), ((1.0,),))}
    train = {"rpn_pre_nms_top_n_train": 200, "rpn_post_nms_top_n_train": 50}
    test = {"rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 20}
    sampled = {"rpn_batch_size_per_image": 64, "box_batch_size_per_image": 16}
    return faster_rcnn(model, len(CLASSES), mean, frozen, **sizes, **train, **test, **sampled)
