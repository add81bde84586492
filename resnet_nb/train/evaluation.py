"""Testing: the error on single views, and on ImageNet with many views (arXiv 1512.03385, §3.4 and Tables 2-5; notebook 07)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from resnet_nb.data import ImageFiles, Images
from resnet_nb.data.views import at_shorter_side, ten_crops, testing_view
from resnet_nb.errors import InputError, require_choice
from resnet_nb.models import ResNet, modes_kept
from resnet_nb.progress import bar
from resnet_nb.recipes import TESTINGS
from resnet_nb.train.checks import require_logits
from resnet_nb.train.world import World

SIDES = (224, 256, 384, 480, 640)  # pixels, of the fully convolutional testing
Center = Callable[[Tensor], Tensor]  # uint8 images to what the network takes, such as `ImageFiles.center`


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients; the mode of each of its modules is put back, also after an error."""
    with modes_kept(model), torch.no_grad():
        model.eval()
        yield


def evaluate(model: nn.Module, data: Images, batch_size: int | None = None, world: World = World()) -> tuple[float, float]:
    """Test error in percent and mean cross-entropy, single view of every image, BN in eval mode.

    Every image counts once, whatever the batch size (by default the data's own) and the number of processes; the
    other processes take the BN statistics of process 0. The model's mode is put back. Raises InputError if the model has fewer
    logits than the data have classes.
    """
    wrong_loss = torch.zeros(2, dtype=torch.float64, device=data.device)
    part = slice(world.rank, None, world.size)
    with evaluating(model), bar("testing", len(data.test_labels[part]), unit=" images", leave=False) as shown:
        world.copy_buffers(model)
        for images, labels in data.test_batches(batch_size or data.test_batch, part):
            logits = model(data.center(images))
            require_logits(logits, data)
            wrong_loss[0] += (logits.argmax(1) != labels).sum()
            wrong_loss[1] += F.cross_entropy(logits, labels, reduction="sum")
            shown.update(len(images))
    wrong, loss = world.sum(wrong_loss).tolist()
    return 100 * wrong / len(data.test_labels), loss / len(data.test_labels)


def ten_crop_scores(model: nn.Module, images: Tensor, center: Center, crop: int = 224) -> Tensor:
    """Mean of the softmax of ten forward passes: uint8 (N, 3, H, W) to probabilities (N, classes).

    The testing of Tables 2 and 3, on images of 256x256.
    """
    return torch.stack([model(center(view)).softmax(1) for view in ten_crops(images, crop)]).mean(0)


def dense_logits(model: ResNet, images: Tensor) -> Tensor:
    """The network as a fully convolutional one: centered (N, 3, H, W) to logits (N, classes, h, w).

    The global pooling becomes a window of 7x7 of the last map, the fc layer a 1x1 convolution; a map of 7x7, from images of
    224x224, gives h = w = 1 and the logits of the ordinary network. Raises InputError if the last map is smaller than 7x7, or
    if the network is not one of Table 1.
    """
    if not isinstance(model, ResNet):
        raise InputError("fully convolutional testing is for the nets of Table 1: resnet18|34|50|101|152|200, plain18|34")
    maps = model.features(images)
    if min(maps.shape[2:]) < 7:
        raise InputError(
            f"images of {images.shape[3]}x{images.shape[2]} pixels are too small for fully convolutional "
            "testing; the shorter side must be at least 193 pixels"
        )
    return F.conv2d(F.avg_pool2d(maps, 7, stride=1), model.fc.weight[:, :, None, None], model.fc.bias)


def multi_scale_scores(model: ResNet, images: Tensor, center: Center, sides: tuple[int, ...] = SIDES) -> Tensor:
    """Mean over scales of the softmax of the mean of `dense_logits`: uint8 (N, 3, H, W) to probabilities (N, classes).

    sides: lengths of the shorter side in pixels. The testing of the ResNets in Table 4.
    """
    scores = [dense_logits(model, center(at_shorter_side(images, side))).mean((2, 3)).softmax(1) for side in sides]
    return torch.stack(scores).mean(0)


def top_k_error(scores: Tensor, labels: Tensor, k: int) -> float:
    """Percentage of images whose label is not among the k highest scores (N, classes); labels (N,)."""
    return 100 * (1 - (scores.topk(k, 1).indices == labels[:, None]).any(1).double().mean().item())


def scores_of(model: nn.Module, data: ImageFiles, testing: str = "center") -> Tensor:
    """Probabilities (N, classes) of all test images, in their order, on the CPU; the model's mode is put back.

    testing: "center" (224x224 of a shorter side of 256), "10-crop" (of the central 256x256) or "multi-scale" (the whole image,
    one by one). The mean over several networks of what this returns is their ensemble (Table 5). Raises InputError on another
    testing, or naming a file that cannot be decoded.
    """
    require_choice("testing", testing, TESTINGS)
    if testing == "center":
        view, batch_size, score = None, 128, lambda images: model(data.center(images)).softmax(1)
    elif testing == "10-crop":
        view, batch_size = testing_view(data.augmentation, data.augmentation.test_side), 32
        score = partial(ten_crop_scores, model, center=data.center, crop=data.augmentation.crop)
    else:
        view, batch_size, score = v2.PILToTensor(), 1, partial(multi_scale_scores, model, center=data.center_channels)
    scores = []
    with evaluating(model), bar("testing", len(data.test_labels), unit=" images") as shown:
        for images, _ in data.test_batches(batch_size, view=view):
            scores.append(score(images).cpu())
            shown.update(len(images))
    return torch.cat(scores)
