"""Who learns the identity? Stacks of plain and residual blocks without BN, over depth (notebook 02).

    python -m tools.identity

writes resnet_nb/runs/experiments/identity-over-depth.json, in about ten minutes on one core; begun before, it goes on.

A stack of blocks of two 16x16 layers is to answer its input: 256 vectors of 16 numbers from [0, 1], 300 steps of SGD with
learning rate 0.1 and momentum 0.9. `start` and `end`: the squared error, in percent of that of always answering the mean,
before the first step and after the last, one per seed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb.runs.recorded import EXPERIMENTS
from tools.records import begun, keep

SEEDS, STEPS, WIDTH = range(12), 300, 16
DEPTHS = (1, 2, 5, 10, 20)
CASES = [(kind, init, depth) for init in ("default", "He") for depth in DEPTHS for kind in ("plain", "residual")]
RESULTS = EXPERIMENTS / "identity-over-depth.json"


class Block(nn.Module):
    """relu(F(x) + x), or relu(F(x)), with F of two layers without biases and BN."""

    def __init__(self, residual: bool):
        super().__init__()
        self.w1 = nn.Linear(WIDTH, WIDTH, bias=False)
        self.w2 = nn.Linear(WIDTH, WIDTH, bias=False)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        f = self.w2(F.relu(self.w1(x)))
        return F.relu(f + x if self.residual else f)


def errors(kind: str, init: str, depth: int, seed: int) -> list[float]:
    """Before the first step and after each, to five digits."""
    torch.manual_seed(seed)
    net = nn.Sequential(*[Block(kind == "residual") for _ in range(depth)]).double()
    if init == "He":
        for weight in net.parameters():
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
    x = torch.rand(256, WIDTH, dtype=torch.float64)
    sgd, found = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), []
    for step in range(STEPS + 1):
        loss = F.mse_loss(net(x), x)
        found.append(float(f"{100 * loss.item() / x.var().item():.5g}"))
        if step < STEPS:
            sgd.zero_grad()
            loss.backward()
            sgd.step()
    return found


def main() -> None:
    torch.set_num_threads(1)
    about = {"seeds": len(SEEDS), "steps": STEPS, "start": {}, "end": {}}
    found = begun(RESULTS, "identity", "float64", "256 random vectors", **about)
    for kind, init, depth in CASES:
        name = f"{kind}, {init}, {depth}"
        start, end = (found[when].setdefault(name, []) for when in ("start", "end"))
        for seed in SEEDS[len(end) :]:
            curve = errors(kind, init, depth, seed)
            start.append(curve[0])
            end.append(curve[-1] if curve[-1] < 1e9 else None)  # None: it diverged
        keep(found, RESULTS, f"{name} {end}")


if __name__ == "__main__":
    main()
