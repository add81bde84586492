"""The CIFAR-10 networks of arXiv 1512.03385, §4.2: 6n+2 weighted layers on 32x32 images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb.errors import InputError
from resnet_nb.models.blocks import BasicBlock, he_init, make_stage, require_images, require_positive


class CifarResNet(nn.Module):
    """CIFAR-10 network of §4.2: (N, 3, 32, 32) images to (N, num_classes) logits.

    depth = 6n + 2: one 3x3 convolution, three stages of n two-layer blocks with width, 2*width and
    4*width channels on 32x32, 16x16 and 8x8 maps, global average pooling and one linear layer.
    shortcut: None makes the plain net, "A" is what the paper uses here, "B" and "C" as in §4.1.
    Raises InputError on any other depth or shortcut, and on inputs smaller than 8 pixels.
    """

    def __init__(self, depth: int, shortcut: str | None = "A", width: int = 16, num_classes: int = 10):
        super().__init__()
        if type(depth) is not int or depth < 8 or depth % 6 != 2:
            raise InputError(f"depth must be an integer 6n+2 with n >= 1 (8, 14, 20, ..., 56, 110), got {depth!r}")
        require_positive(width=width, num_classes=num_classes)
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = make_stage(BasicBlock, width, width, n, 1, shortcut, "3x3")
        self.layer2 = make_stage(BasicBlock, width, 2 * width, n, 2, shortcut, "3x3")
        self.layer3 = make_stage(BasicBlock, 2 * width, 4 * width, n, 2, shortcut, "3x3")
        self.fc = nn.Linear(4 * width, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        require_images(x, smallest=8)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.adaptive_avg_pool2d(x, 1)
        return self.fc(torch.flatten(x, 1))
