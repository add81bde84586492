"""What SGD does when it is handed the solution: 56 layers that start as exactly the function of 20 (notebooks 01 and 02).

    python -m tools.handed

takes the recorded plain-20 of 64,000 iterations, writes it into a plain-56 whose 36 added layers are identities, and trains
both on; the same for ResNet-20 and a ResNet-56 whose 18 added blocks add nothing. All four see the same batches of
`cifar10_sample`'s training photographs, cropped and flipped as before. A seed is an order of the batches. The training errors
go into resnet_nb/runs/experiments/handed.json, one after the other: stopped, it goes on with the next. Each is that of the
net as it is, not of the batches that led to it: on the first photographs of the training set, whole, with the BN statistics
of these photographs.
"""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_nb import runs
from resnet_nb.data import Dataset, cifar10_sample
from resnet_nb.models import build
from resnet_nb.models.blocks import stages
from resnet_nb.runs.recorded import EXPERIMENTS
from tools.records import begun, keep

RESULTS = EXPERIMENTS / "handed.json"
SEEDS, FEW = 10, 3  # of the experiment and of its controls
RATES = (0.01, 0.001)  # those of the recipe's second and third part
ITERATIONS, EVERY, BATCH = 40, 10, 32
MEASURED = 250  # photographs
AWAKE = 0.1  # the last gamma of added blocks that do not start silent


def added(net: nn.Module) -> Iterator[nn.Module]:
    """The blocks that a net of 56 layers has and one of 20 has not."""
    for stage in stages(net).values():
        yield from stage[3:]


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


@torch.no_grad()
def hand_over_residual(shallow: nn.Module, deep: nn.Module) -> None:
    """Make the deeper residual net the function that the shallower one is: the last BN of each added block gives 0."""
    deep.load_state_dict(shallow.state_dict(), strict=False)
    for block in added(deep):
        nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(block.bn2.bias)


def nets(data: Dataset) -> dict[str, nn.Module]:
    """The trained nets of 20 layers, and for each the net of 56 layers that is the same function."""
    loaded = (runs.load("cifar-plain20"), build("cifar-plain56"), runs.load("cifar-resnet20"), build("cifar-resnet56"))
    plain20, plain56, resnet20, resnet56 = (net.to(memory_format=torch.channels_last) for net in loaded)
    hand_over(plain20, plain56, photographs(data)[0])
    hand_over_residual(resnet20, resnet56)
    return {
        "20 layers, plain": plain20,
        "56 layers, plain": plain56,
        "20 layers, residual": resnet20,
        "56 layers, residual": resnet56,
    }


def photographs(data: Dataset) -> tuple[Tensor, Tensor]:
    """Those on which the error is measured, and their labels."""
    return data.center(data.train_images[:MEASURED]), data.train_labels[:MEASURED]


@torch.no_grad()
def error(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """In percent, of all images as one batch, which BN takes its statistics from."""
    wrong = net.train()(images).argmax(1) != labels
    return round(100 * wrong.double().mean().item(), 1)


def train_on(
    net: nn.Module, data: Dataset, seed: int, rate: float, batch: int = BATCH, iterations: int = ITERATIONS
) -> dict[int, float]:
    """Trains what of the net requires a gradient, seed is the order of the batches; {iterations done: its training error}."""
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=rate, momentum=0.9, weight_decay=1e-4)
    found, stream = {0: error(net, *photographs(data))}, data.stream(batch, seed)
    for iteration in range(iterations):
        images, labels = stream.batch(iteration)
        optimizer.zero_grad()
        F.cross_entropy(net.train()(images), labels).backward()
        optimizer.step()
        if (iteration + 1) % EVERY == 0:
            found[iteration + 1] = error(net, *photographs(data))
    return found


def log(net: nn.Module, data: Dataset, seed: int, batch: int) -> list[dict]:
    """One line per measurement, as plot.curves takes them: the iteration, and the error by rate."""
    curves = {str(rate): train_on(copy.deepcopy(net), data, seed, rate, batch) for rate in RATES}
    return [{"iteration": i} | {rate: curve[i] for rate, curve in curves.items()} for i in curves[str(RATES[0])]]


def controls(start: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """plain-56 in which only the added layers learn, or only the others, and ResNet-56 whose added blocks say a little."""
    only, rest = (copy.deepcopy(start["56 layers, plain"]) for _ in range(2))
    awake = copy.deepcopy(start["56 layers, residual"])
    for block in added(awake):
        nn.init.constant_(block.bn2.weight, AWAKE)
    only.requires_grad_(False)
    for block in added(only):
        block.requires_grad_(True)
    for block in added(rest):
        block.requires_grad_(False)
    return {"only the added layers learn": only, "the added layers are frozen": rest, f"residual, γ = {AWAKE}": awake}


def plan(start: dict[str, nn.Module]) -> list[tuple[str, str, nn.Module, int, int]]:
    """(part of the record, name, net, seed, batch) of every training, in their order."""
    main = [("logs", name, net, seed, BATCH) for seed in range(SEEDS) for name, net in start.items()]
    few = [("controls", name, net, seed, BATCH) for seed in range(FEW) for name, net in controls(start).items()]
    plain = {name: net for name, net in start.items() if "plain" in name}
    large = [("batches of 128", name, net, seed, 128) for seed in range(FEW) for name, net in plain.items()]
    return main + few + large


def main() -> None:
    data = cifar10_sample()
    # name -> one log per seed: of the nets, of copies of them, of the plain nets with the batches of the recorded training
    parts = {"logs": {}, "controls": {}, "batches of 128": {}}
    found = begun(RESULTS, "handed", "float32", data.name, batch=BATCH, photographs=MEASURED, **parts)
    for part, name, net, seed, batch in plan(nets(data)):
        own = found[part].setdefault(name, [])
        if seed < len(own):
            continue
        own.append(log(net, data, seed, batch))
        keep(found, RESULTS, f"{part}: {name}, seed {seed}: {own[-1][-1]}")


if __name__ == "__main__":
    main()
