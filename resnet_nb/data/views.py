"""Views of ImageNet-sized images (arXiv 1512.03385, §3.4), on torchvision's transforms (notebook 07)."""

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from resnet_nb import recipes


def training_view(augmentation: recipes.Augmentation, colors: Tensor) -> nn.Module:
    """PIL image to a random view, uint8 (3, crop, crop). colors (3, 3): see `ColorShift`."""
    low, high = augmentation.shorter_side
    parts = [v2.RandomResize(low, high + 1), v2.RandomCrop(augmentation.crop), v2.RandomHorizontalFlip()]
    return v2.Compose([*parts, v2.PILToTensor(), ColorShift(augmentation.color * colors)])


def testing_view(augmentation: recipes.Augmentation, size: int | None = None) -> nn.Module:
    """PIL image to its center, uint8 (3, size, size); by default size is `crop`."""
    return v2.Compose([v2.Resize(augmentation.test_side), v2.CenterCrop(size or augmentation.crop), v2.PILToTensor()])


class Augmentation(recipes.Augmentation):
    """The values of `recipes.Augmentation` with the views that they stand for (notebook 07)."""

    training, testing = training_view, testing_view
    __hash__ = recipes.Augmentation.__hash__

    def __eq__(self, other) -> bool:
        return isinstance(other, recipes.Augmentation) and vars(self) == vars(other)


class ColorShift(nn.Module):
    """AlexNet's color augmentation: to all pixels of an image is added p1 a1 l1 + p2 a2 l2 + p3 a3 l3.

    p and l are principal components and eigenvalues of the covariance of RGB over the training images, a is drawn anew for
    each image from N(0, 0.1). steps (3, 3) has a column 0.1 p l for each component. Pixels are taken in [0, 1], on which
    the size of l depends; AlexNet does not say. uint8 (3, H, W) to uint8.
    """

    def __init__(self, steps: Tensor):
        super().__init__()
        self.steps = steps

    def forward(self, image: Tensor) -> Tensor:
        shift = 255 * self.steps @ torch.randn(3, dtype=self.steps.dtype)
        return (image + shift[:, None, None]).round().clamp(0, 255).to(torch.uint8)


def seeded(view: nn.Module, image: Image.Image, seed: int) -> Tensor:
    """view(image) with its random draws from `seed`; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also queue seeds for every GPU
        return view(image)


def ten_crops(images: Tensor, crop: int = 224) -> Tensor:
    """Four corners and the center, then the same flipped: (N, 3, H, W) to (10, N, 3, crop, crop).

    The standard 10-crop testing of Tables 2 and 3, from AlexNet, on images of 256x256.
    """
    return torch.stack(v2.functional.ten_crop(images, [crop, crop]))


def at_shorter_side(images: Tensor, side: int) -> Tensor:
    """uint8 (N, 3, H, W) resized so that the shorter of H and W is `side` pixels."""
    return v2.functional.resize(images, [side], antialias=True)
