"""The training loop: steps, metrics that stay on the device, evaluation, and the state that a checkpoint holds."""

import math
from collections.abc import Callable
from contextlib import ExitStack, closing

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnet_nb.data import Dataset, ImageFiles
from resnet_nb.errors import InputError, first_line
from resnet_nb.progress import bar
from resnet_nb.train.distributed import World
from resnet_nb.train.graph import GraphStep
from resnet_nb.train.meter import Meter
from resnet_nb.train.precision import float32_as, require_precision
from resnet_nb.train.recipe import Recipe


def evaluate(
    model: nn.Module, data: Dataset | ImageFiles, batch_size: int = 500, world: World = World(), progress: bool = False
) -> tuple[float, float]:
    """Test error in percent and mean cross-entropy, single view of every image, BN in eval mode.

    Every image counts once, whatever the batch size and the number of processes. The model's mode is put back.
    progress: a bar on stderr.
    """
    was_training = model.training
    model.eval()
    wrong_loss = torch.zeros(2, dtype=torch.float64, device=data.device)
    world.copy_buffers(model)
    part = slice(world.rank, None, world.size)
    try:
        with (
            torch.no_grad(),
            bar(shown=progress, desc="testing", total=len(data.test_labels[part]), unit=" images", leave=False) as shown,
        ):
            for images, labels in data.test_batches(batch_size, part):
                logits = model(data.center(images))
                wrong_loss[0] += (logits.argmax(1) != labels).sum()
                wrong_loss[1] += F.cross_entropy(logits, labels, reduction="sum")
                shown.update(len(images))
    finally:
        model.train(was_training)
    wrong, loss = world.add(wrong_loss).tolist()
    return 100 * wrong / len(data.test_labels), loss / len(data.test_labels)


class Trainer:
    """One training in memory: network, optimizer, meter and log.

    Trains `model` in place on the device of `data`. precision: arithmetic of the network, "float32", on
    CUDA "tf32", or "bf16" (autocast; weights, their updates and the evaluation stay float32). every: iterations
    between two lines of the log; by default a hundredth of the run, but not before twice as many
    images were trained on as an evaluation reads. On CUDA a step on data in memory is one replayed graph; if that
    cannot be made, `note` gets a line that says so. On images from files it runs operation by operation.
    progress: a bar on stderr while an evaluation lasts.
    Raises InputError on a bad precision, no iterations, or a batch size that the data or the processes cannot give.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset | ImageFiles,
        recipe: Recipe,
        seed: int = 0,
        every: int | None = None,
        precision: str = "float32",
        world: World = World(),
        note: Callable[[str], None] = print,
        progress: bool = False,
    ):
        self.data, self.recipe, self.precision, self.world = data, recipe, precision, world
        self.note, self.progress = note, progress
        self.device = data.device
        if recipe.iterations < 1:
            raise InputError(f"a recipe needs at least one iteration, got {recipe.iterations}")
        self.stream = data.stream(recipe.batch_size, seed)
        world.share(torch.empty(recipe.batch_size))  # an unequal share is told before the first step
        require_precision(precision, self.device)
        self.layout = _fast_layout(model, self.device)
        self.model = model.to(self.device, memory_format=self.layout).train()
        # DDP averages the gradients; BN stays with each process, as on the two GPUs of the paper
        self.net = self.model
        if world.size > 1:
            self.net = DistributedDataParallel(self.model)
            self.net.broadcast_buffers = False  # as an argument it warns in newer versions of torch
        cuda = self.device.type == "cuda"
        # a tensor, so that a replayed graph sees it change; the fused CUDA kernel wants float32
        self.rate = torch.tensor(recipe.lr, dtype=torch.float32 if cuda else torch.float64, device=self.device)
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=self.rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=cuda
        )
        if recipe.momentum:
            for weight in model.parameters():
                self.optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        self.meter = Meter(recipe).to(self.device)
        self.every = every or max(recipe.iterations // 100, math.ceil(2 * len(data.test_labels) / recipe.batch_size))
        self.iteration, self.log, self.plateaus = 0, [], 0
        self._recorded: Callable[[Tensor, Tensor], None] | None = None

    def prepare(self) -> None:
        """Make the step ready: on CUDA record its graph, which takes seconds. `train` does it if this did not."""
        with float32_as(self.precision):
            self._step_function()

    def train(self, report: Callable[[dict], None] | None = None, pause: Callable[["Trainer"], bool] | None = None) -> bool:
        """Train to the end; True if it was reached. report gets each line of the log when it is made.

        pause is called after each iteration; when it returns True on any process, all stop there.
        Raises FloatingPointError at the next line after the loss was not finite.
        """
        with ExitStack() as held:
            held.enter_context(float32_as(self.precision))
            compute = self._step_function()
            batches = held.enter_context(closing(self.stream.batches(self.iteration, self.recipe.iterations, self.world.share)))
            while self.iteration < self.recipe.iterations:
                self.rate.fill_(self.recipe.learning_rate(self.iteration, plateaus=self.plateaus))
                compute(*next(batches))
                self.iteration += 1
                if self.iteration % self.every == 0 or self.iteration == self.recipe.iterations:
                    self._extend_log([self._line()])
                    if report is not None:
                        report(self.log[-1])
                if pause is not None and self.world.any(pause(self)):
                    break
        return self.iteration == self.recipe.iterations

    def step(self, *batch: Tensor) -> None:
        """One step of SGD on what `stream.batches` yields: for data in memory two (B,) int64, images and augmentations.

        Nothing leaves the device.
        """
        self.meter.adjust(self.rate)
        images, labels = self.stream.images(*batch)
        images = images.contiguous(memory_format=self.layout)
        loss_wrong = training_step(self.net, self.optimizer, images, labels, self.precision == "bf16")
        self.meter.update(self.world.add(loss_wrong) / self.world.size)

    def check_finite(self) -> None:
        """Raise FloatingPointError if a loss or a weight is not finite. Waits for the device."""
        bad = self.meter.bad.item()
        if bad < 0 and not torch.stack([torch.isfinite(weight).all() for weight in self.model.parameters()]).all():
            bad = self.iteration
        if bad >= 0:
            raise FloatingPointError(
                f"the loss is not finite at iteration {bad} (counted from 0); learning rate "
                f"{self.recipe.learning_rate(bad, self.meter.warmup.item(), self.plateaus):g} may be too high"
            )

    def state_dict(self) -> dict:
        """Everything that the next step depends on, and the log so far."""
        return {
            "iteration": self.iteration,
            "log": self.log,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": self.meter.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state` of a trainer of the same settings."""
        self.model.load_state_dict(state["model"])
        momenta = state["optimizer"]["state"]
        for place, weight in enumerate(self.model.parameters()):  # in place: the layout stays this device's
            if place in momenta:
                self.optimizer.state[weight]["momentum_buffer"].copy_(momenta[place]["momentum_buffer"])
        self.meter.load_state_dict(state["meter"])
        self.iteration, self.log = state["iteration"], []
        self._extend_log(state["log"])

    def _extend_log(self, lines: list[dict]) -> None:
        self.log += lines
        self.plateaus = self.recipe.plateaus([line["test_error"] for line in self.log])

    def _step_function(self) -> Callable[[Tensor, Tensor], None]:
        if self.device.type != "cuda" or not self.stream.resident:
            return self.step
        if self._recorded is None:
            self._recorded = self._record()
        return self._recorded

    def _record(self) -> Callable[[Tensor, Tensor], None]:
        """The step as a CUDA graph, or as it is where that cannot be made."""
        if self.world.size > 1:
            self.note("several processes: each step runs operation by operation, not as a replayed CUDA graph")
            return self.step
        try:
            return GraphStep(self)
        except RuntimeError as error:
            self.note(f"no CUDA graph ({first_line(error)}): the same step runs operation by operation")
            return self.step

    def _line(self) -> dict:
        """The line of the log after this iteration; starts the sums anew."""
        self.check_finite()
        done = self.log[-1]["iteration"] if self.log else 0
        loss, wrong = (self.meter.sums / (self.iteration - done)).tolist()
        warmup = {} if not self.recipe.open_warmup else {"warmup": self.meter.warmup.item()}
        batch_size = 125 if not self.stream.resident else 2500 if self.device.type == "cuda" else 500
        test_error, test_loss = evaluate(self.model, self.data, batch_size, self.world, self.progress)
        self.meter.sums.zero_()
        return {
            "iteration": self.iteration,
            "lr": self.recipe.learning_rate(self.iteration - 1, *warmup.values(), plateaus=self.plateaus),
            **warmup,
            "train_loss": loss,
            "train_error": 100 * wrong,
            "test_error": test_error,
            "test_loss": test_loss,
        }


def _fast_layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, except where oneDNN writes past its memory (uxlfoundation/oneDNN issue 6035)."""
    risky = device.type == "cpu" and any(
        conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.in_channels < 16
        for conv in model.modules()
        if isinstance(conv, nn.Conv2d)
    )
    return torch.contiguous_format if risky else torch.channels_last


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int = 0,
    every: int | None = None,
    report: Callable[[dict], None] | None = None,
) -> list[dict]:
    """Train `model` in place on the device of `data`; returns the log, one dict per `every` iterations.

    A line holds `iteration` (steps done), `lr`, `train_loss` and `train_error` (percent; means over
    the batches since the last line, augmentation on, as in Fig. 6) and `test_error`, `test_loss`.
    report gets each line when it is made. seed sets order and augmentation; the weights are the
    model's own. Raises as `Trainer` and `Trainer.train`.
    """
    trainer = Trainer(model, data, recipe, seed, every)
    trainer.train(report)
    return trainer.log


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, bf16: bool = False
) -> Tensor:
    """One step of SGD on images (B, 3, H, W) float32 and labels (B,) int64.

    Returns the batch's mean loss and share of wrong answers, float64 (2,), still on the device.
    bf16: compute the forward pass with autocast.
    """
    # left before the update: autocast keeps the bf16 copies of the weights as long as it lasts
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        wrong = (logits.argmax(1) != labels).double().mean()
        return torch.stack([loss.double(), wrong])
