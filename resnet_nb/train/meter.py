"""What the training loop counts, kept on the device."""

import torch
from torch import Tensor, nn

from resnet_nb.train.recipe import WARMUP_ERROR, Recipe

WINDOW = 100  # batches; the warm-up looks at their mean training error


class Meter(nn.Module):
    """What the loop knows on the device: reading it each step would make the device wait.

    `sums` of loss and share of wrong answers since the last line, `iteration` (steps done), `bad`
    (first iteration with a loss that is not finite, or -1), and for an open warm-up the `recent` errors,
    `warming` (0 or 1) and the iterations it has taken so far, `warmup`.
    """

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.warmup_lr = recipe.warmup_lr if recipe.open_warmup else None
        for name, value in {
            "sums": torch.zeros(2, dtype=torch.float64),
            "iteration": torch.tensor(0),
            "bad": torch.tensor(-1),
            "recent": torch.ones(WINDOW, dtype=torch.float64),
            "warmup": torch.tensor(0),
            "warming": torch.tensor(int(recipe.open_warmup)),
        }.items():
            self.register_buffer(name, value)

    def adjust(self, rate: Tensor) -> None:
        """Put the learning rate of the warm-up into `rate` while it lasts."""
        if self.warmup_lr is not None:
            rate.copy_(torch.where(self.warming == 1, self.warmup_lr, rate))

    def update(self, loss_wrong: Tensor) -> None:
        """Take in mean loss and share of wrong answers of one batch: float64 (2,)."""
        self.sums += loss_wrong
        first = (self.bad < 0) & ~torch.isfinite(loss_wrong[0])
        self.bad.copy_(torch.where(first, self.iteration, self.bad))
        if self.warmup_lr is not None:
            self.warmup += self.warming
            self.recent.index_copy_(0, (self.iteration % WINDOW)[None], loss_wrong[1:])
            self.warming *= self.recent.mean() >= WARMUP_ERROR
        self.iteration += 1
