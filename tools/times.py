"""How long forward and backward pass of the two blocks of Figure 5 take on a CPU, and of ResNet-34 and 50 (notebook 04).

    python -m tools.times

writes resnet_nb/runs/experiments/block-times.json, in about two minutes; begun before, it goes on. `seconds`: threads ->
name -> one number for each repetition. The two of a pair take turns, so that both see the same machine; the first turn
of each is not counted. "convolutions" are those of the blocks alone, without BN, ReLU and sum. Blocks see BATCH maps of
56×56 pixels, nets BATCH images of 224×224. float32, training mode.
"""

import time

import torch
from torch import Tensor, nn

from resnet_nb.models import BasicBlock, Bottleneck, build
from resnet_nb.runs.recorded import EXPERIMENTS
from tools.records import begun, keep

RESULTS = EXPERIMENTS / "block-times.json"
BATCH, REPEATS = 4, {"blocks": 40, "convolutions": 40, "nets": 8}


def pairs() -> dict[str, dict[str, tuple[nn.Module, Tensor]]]:
    torch.manual_seed(0)
    shapes = {"basic, 64-d": (BasicBlock(64, 64), 64), "bottleneck, 256-d": (Bottleneck(256, 64), 256)}
    blocks = {name: (block, torch.rand(BATCH, channels, 56, 56)) for name, (block, channels) in shapes.items()}
    alone = {
        f"{name}, convolutions": (nn.Sequential(*(m for m in block.children() if isinstance(m, nn.Conv2d))), x)
        for name, (block, x) in blocks.items()
    }
    images = torch.rand(BATCH, 3, 224, 224)
    nets = {f"ResNet-{depth}": (build(f"resnet{depth}"), images) for depth in (34, 50)}
    return {"blocks": blocks, "convolutions": alone, "nets": nets}


def seconds(net: nn.Module, x: Tensor) -> float:
    """Of one forward and one backward pass, down to the input."""
    x = x.detach().requires_grad_()
    begin = time.perf_counter()
    net(x).sum().backward()
    return time.perf_counter() - begin


def main() -> None:
    about = {"batch": BATCH, "seconds": {"1": {}, "2": {}}}
    found = begun(RESULTS, "times", "float32", "random maps and images; two cores of a server", **about)
    for threads, times in found["seconds"].items():
        torch.set_num_threads(int(threads))
        for kind, pair in pairs().items():
            if not pair.keys() <= times.keys():
                turns = [[seconds(*own) for own in pair.values()] for _ in range(REPEATS[kind] + 1)][1:]
                times |= {name: [float(f"{t:.4g}") for t in own] for name, own in zip(pair, zip(*turns))}
                low = [min(times[name]) for name in pair]
                keep(found, RESULTS, f"{threads} threads, {kind}: {low[1] / low[0]:.2f}")


if __name__ == "__main__":
    main()
