"""The networks of arXiv 1512.03385: CIFAR-10's of 6n+2 layers (§4.2) and ImageNet's of Table 1 (§3.3, §4.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb.errors import require_choice, require_depth, require_images, require_positive
from resnet_nb.models.blocks import BasicBlock, Bottleneck, conv3x3, he_init, make_stage

# Table 1: depth -> block and number of blocks in conv2_x to conv5_x
LAYOUTS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
    200: (Bottleneck, (3, 24, 36, 3)),  # not in Table 1: arXiv 1603.05027, Table 5
}


class ResNet(nn.Module):
    """ImageNet network of Table 1: (N, 3, H, W) images to (N, num_classes) logits.

    depth: 18, 34, 50, 101, 152 or 200. shortcut: None makes the plain net; "A", "B", "C" are the options of §4.1.
    width: channels of conv1 and conv2_x. stride_on: "1x1" (the paper's released models) or "3x3" (torchvision, "v1.5");
    the two are the same net at depth 18 and 34, whose blocks hold only 3x3 layers. Parameter names are torchvision's, so
    its state dicts load with shortcut="B". Raises InputError on any other value and on inputs smaller than 32 pixels.
    """

    def __init__(
        self, depth: int, shortcut: str | None = "B", width: int = 64, num_classes: int = 1000, stride_on: str = "1x1"
    ):
        super().__init__()
        require_choice("depth", depth, LAYOUTS)
        require_positive(width=width, num_classes=num_classes)
        block, blocks = LAYOUTS[depth]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for i, count in enumerate(blocks):
            stage = make_stage(block, inputs, width * 2**i, count, 1 if i == 0 else 2, shortcut, stride_on)
            self.add_module(f"layer{i + 1}", stage)
            inputs = width * 2**i * block.expansion
        self.fc = nn.Linear(inputs, num_classes)
        he_init(self)

    def features(self, x: Tensor) -> Tensor:
        """Output of conv5_x: (N, 3, H, W) to (N, C, H/32, W/32), rounded up. Raises InputError on other shapes."""
        require_images(x, smallest=32)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.fc(torch.flatten(x, 1))


class CifarResNet(nn.Module):
    """CIFAR-10 network of §4.2: (N, 3, 32, 32) images to (N, num_classes) logits.

    depth = 6n + 2: one 3x3 convolution, three stages of n two-layer blocks with width, 2*width and 4*width channels on
    32x32, 16x16 and 8x8 maps, global average pooling and one linear layer. shortcut: None makes the plain net, "A" is
    what the paper uses here, "B" and "C" as in §4.1. Raises InputError on any other depth or shortcut, and on inputs
    smaller than 8 pixels.
    """

    def __init__(self, depth: int, shortcut: str | None = "A", width: int = 16, num_classes: int = 10):
        super().__init__()
        n = require_depth(depth, 6)
        require_positive(width=width, num_classes=num_classes)
        self.conv1 = conv3x3(3, width)
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
