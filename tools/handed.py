"""What SGD does when it is handed the solution: plain-56 starts as exactly the function of a trained plain-20 (notebook 01).

    python -m tools.handed

takes the recorded plain-20 of 64,000 iterations, writes it into a plain-56 whose 36 added layers are identities, and trains
both on with the same batches of `cifar10_sample`'s training photographs, cropped and flipped as before. A seed is an order of
the batches. The training errors go into resnet_nb/runs/experiments/handed.json, one seed after the other: stopped, it goes on
with the next. Each is that of the net as it is, not of the batches that led to it: on the first photographs of the training
set, whole, with the BN statistics of these photographs.
"""

import copy
import json

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb import runs
from resnet_nb.data import Dataset, cifar10_sample
from resnet_nb.files import write_atomically
from resnet_nb.models import build
from resnet_nb.models.blocks import stages
from resnet_nb.runs.recorded import RECORDED

OUT = RECORDED / "experiments" / "handed.json"
SEEDS = 10
RATES = (0.01, 0.001)  # those of the recipe's second and third part
ITERATIONS, EVERY, BATCH = 40, 10, 32
MEASURED = 250  # photographs


@torch.no_grad()
def hand_over(shallow: nn.Module, deep: nn.Module, images: Tensor) -> None:
    """Make the deeper plain net the function that the shallower one is, in training mode on these images."""
    deep.load_state_dict(shallow.state_dict(), strict=False)
    x = F.relu(shallow.train().bn1(shallow.conv1(images)))
    for copied, stage in zip(stages(shallow).values(), stages(deep).values()):
        x = copied(x)
        for block in stage[len(copied) :]:
            for conv, bn in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
                nn.init.dirac_(conv.weight)
                bn.weight.copy_((x.var((0, 2, 3), correction=0) + bn.eps).sqrt())
                bn.bias.copy_(x.mean((0, 2, 3)))


def nets(data: Dataset) -> dict[str, nn.Module]:
    """The trained plain-20, and the plain-56 that is the same function."""
    shallow, deep = (net.to(memory_format=torch.channels_last) for net in (runs.load("cifar-plain20"), build("cifar-plain56")))
    hand_over(shallow, deep, photographs(data)[0])
    return {"20 layers, plain": shallow, "56 layers, plain": deep}


def photographs(data: Dataset) -> tuple[Tensor, Tensor]:
    """Those on which the error is measured, and their labels."""
    return data.center(data.train_images[:MEASURED]), data.train_labels[:MEASURED]


@torch.no_grad()
def error(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """In percent, of all images as one batch, which BN takes its statistics from."""
    wrong = net.train()(images).argmax(1) != labels
    return round(100 * wrong.double().mean().item(), 1)


def train_on(net: nn.Module, data: Dataset, seed: int, rate: float, iterations: int = ITERATIONS) -> dict[int, float]:
    """Trains the net; returns {iterations done: its training error}."""
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    found, stream = {0: error(net, *photographs(data))}, data.stream(BATCH, seed)
    for iteration in range(iterations):
        images, labels = stream.batch(iteration)
        optimizer.zero_grad()
        F.cross_entropy(net.train()(images), labels).backward()
        optimizer.step()
        if (iteration + 1) % EVERY == 0:
            found[iteration + 1] = error(net, *photographs(data))
    return found


def log(net: nn.Module, data: Dataset, seed: int) -> list[dict]:
    """One line per measurement, as plot.curves takes them: the iteration, and the error by rate."""
    curves = {str(rate): train_on(copy.deepcopy(net), data, seed, rate) for rate in RATES}
    return [{"iteration": i} | {rate: curve[i] for rate, curve in curves.items()} for i in curves[str(RATES[0])]]


def main() -> None:
    data = cifar10_sample()
    start = nets(data)
    found = {
        "command": "python -m tools.handed",
        "torch": torch.__version__,
        "precision": "float32",
        "data": data.name,
        "batch": BATCH,
        "photographs": MEASURED,
        "logs": {name: [] for name in start},  # by seed
    }
    if OUT.exists():
        found = json.loads(OUT.read_text(encoding="utf-8"))
    for seed in range(len(found["logs"]["56 layers, plain"]), SEEDS):
        for name, own in {name: log(net, data, seed) for name, net in start.items()}.items():
            found["logs"][name].append(own)
        OUT.parent.mkdir(exist_ok=True)
        write_atomically(OUT, (json.dumps(found, indent=1) + "\n").encode())
        print(f"seed {seed}: " + ", ".join(f"{name} {own[-1][-1]}" for name, own in found["logs"].items()), flush=True)


if __name__ == "__main__":
    main()
