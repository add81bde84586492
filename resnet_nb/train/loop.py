"""The training loop, from the top: what a step does, who decides the rate, what is counted (notebooks 01, 05, 07-12).

A training touches no disk; `runs.training` keeps it in a folder.
"""

import copy
import math
from collections.abc import Callable
from contextlib import closing

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnet_nb.data import Dataset, Images
from resnet_nb.errors import InputError, as_python, first_line, require_int
from resnet_nb.progress import note
from resnet_nb.recipes import WARMUP_WINDOW, Recipe
from resnet_nb.train.checks import as_usual, require_augmentation, require_fit, require_labels, require_trainable
from resnet_nb.train.evaluation import evaluate, evaluating
from resnet_nb.train.graph import FewerKernels, GraphStep
from resnet_nb.train.precision import fast_layout, float32_as, require_precision
from resnet_nb.train.world import World


@torch.enable_grad()
def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, bf16: bool = False
) -> Tensor:
    """One step of SGD on images (B, 3, H, W) float32 and labels (B,) int64.

    Returns the batch's mean loss and share of wrong answers, float64 (2,), still on the device. bf16: compute the forward pass
    with autocast.
    """
    # no cache: inside another autocast it would keep the bf16 copies of the weights from step to step
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        wrong = (logits.argmax(1) != labels).double().mean()
        return torch.stack([loss.double(), wrong])


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int = 0,
    every: int | None = None,
    report: Callable[[dict], None] | None = None,
) -> list[dict]:
    """Train `model` in place on the device of `data`; returns the log, one dict per `every` iterations.

    A line holds `iteration` (steps done), `lr`, `train_loss` and `train_error` (percent; means over the batches since the last
    line, augmentation on, as in Fig. 6) and `test_error`, `test_loss`. report gets each line when it is made. seed sets order
    and augmentation; the weights are the model's own. Raises as `Trainer` and `Trainer.train`.
    """
    trainer = Trainer(model, data, recipe, seed, every)
    trainer.train(report)
    return trainer.log


class Trainer:
    """One training in memory: network, optimizer, meter and log.

    Trains `model` in place on the device of `data`. precision: arithmetic of the network, "float32", on CUDA "tf32", or "bf16"
    (autocast); weights, their updates and the evaluation stay float32. every: iterations between two lines of the log; by
    default a hundredth of the run, but not before twice as many images were trained on as an evaluation reads. While a warm-up
    waits for the training error there is a line every 100 iterations, too. On CUDA a step on data in memory is one replayed
    graph; if that cannot be made, `note` gets a line that says so. Gradients that the program has switched off are on here.

    Raises InputError on a bad seed or precision, on a batch size that the data or the processes cannot give, if the recipe asks
    for another augmentation than the data make, if a label is no index into the classes, if the network cannot take the images,
    has too few logits or nothing to train.
    """

    @as_usual()
    def __init__(
        self,
        model: nn.Module,
        data: Images,
        recipe: Recipe,
        seed: int = 0,
        every: int | None = None,
        precision: str = "float32",
        world: World = World(),
        note: Callable[[str], None] = note,
    ):
        require_augmentation(recipe, data)
        world.require_shares(recipe.batch_size)
        require_precision(precision, data.device)
        require_int("seed", seed := as_python(seed), 0, 2**63 - 1)
        require_labels(data)
        require_trainable(model)
        self.data, self.recipe, self.precision, self.world, self.note = data, recipe, precision, world, note
        self.device, self.stream = data.device, data.stream(recipe.batch_size, seed)
        self.layout = fast_layout(model, self.device)
        self.model = model.to(self.device, memory_format=self.layout).train()
        require_fit(self.model, data, recipe.batch_size // world.size)
        # DDP averages the gradients; BN stays with each process, as on the two GPUs of the paper
        self.net = self.model
        if world.size > 1:
            self.net = DistributedDataParallel(self.model)
            self.net.broadcast_buffers = False  # as an argument it warns in newer versions of torch
        cuda = self.device.type == "cuda"
        if cuda and world.size == 1:
            self.net = FewerKernels(self.model, precision == "bf16")
        # a tensor, so that a replayed graph sees it change; the fused CUDA kernel wants float32
        self.rate = torch.tensor(recipe.lr, dtype=torch.float32 if cuda else torch.float64, device=self.device)
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=self.rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=cuda
        )
        if recipe.momentum:
            for weight in model.parameters():
                self.optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        self.meter = Meter().to(self.device)
        if every is None:
            every = max(recipe.iterations // 100, math.ceil(2 * len(data.test_labels) / recipe.batch_size))
        require_int("every", every := as_python(every), 1)
        self.every = every
        self.iteration: int = 0
        self.log: list[dict] = []
        self.between_steps = True  # while a step lasts, the state is half that of the next iteration
        self._prepared: Callable[..., None] | None = None
        self._recorded_at = 0  # where the graph finds the first weight

    @as_usual()
    def train(self, report: Callable[[dict], None] | None = None, pause: Callable[["Trainer"], bool] | None = None) -> bool:
        """Train to the end; True if it was reached. report gets each line of the log when it is made.

        Indices, not images, come out of the stream of data in memory: a recorded graph reads its inputs at fixed addresses, so
        the images are gathered inside the step. pause is called after each iteration; when it returns True on any process, all
        stop there. Raises FloatingPointError at the next line after the loss was not finite, and InputError if the network was
        moved after its step was recorded.
        """
        step = self.prepare()
        draws = self.stream.batches(self.iteration, self.recipe.iterations, self.world.share)
        with float32_as(self.precision), closing(draws):
            self._write_line(report)  # before the first step: after an evaluation that failed
            for batch in draws:  # which images, with which augmentation
                self.rate.fill_(self.recipe.rate(self.iteration, self.log))  # the schedule has one author
                self.between_steps = False
                step(*batch)
                self.iteration += 1
                self.between_steps = True
                self._write_line(report)
                if pause is not None and self.world.any(pause(self)):
                    break
        return self.iteration == self.recipe.iterations

    def step(self, *batch: Tensor) -> None:
        """One step of SGD on what `stream.batches` yields: for data in memory two (B,) int64, images and augmentations.

        Gathers, centers and augments on the device; nothing leaves it.
        """
        images, labels = self.stream.images(*batch)
        images = images.contiguous(memory_format=self.layout)
        loss_wrong = training_step(self.net, self.optimizer, images, labels, self.precision == "bf16")
        self.meter.update(self.world.sum(loss_wrong) / self.world.size)

    @as_usual()
    def prepare(self) -> Callable[..., None]:
        """The step as `train` calls it; on CUDA its graph is recorded first, once, which takes seconds."""
        if self.replays and self._recorded_at != next(self.model.parameters()).data_ptr():
            raise InputError("the network was moved after its step was recorded; go on with a new Trainer and its state_dict")
        if self._prepared is None:
            graph = self.device.type == "cuda" and self.stream.recordable
            with float32_as(self.precision):
                self._prepared = self._record() if graph else self.step
        return self._prepared

    @property
    def replays(self) -> bool:
        """Whether `prepare` has recorded a graph that `train` replays."""
        return isinstance(self._prepared, GraphStep)

    def check_finite(self) -> None:
        """Raise FloatingPointError if a loss, a weight or a statistic of BN is not finite. Waits for the device."""
        bad = self.meter.bad.item()
        if bad >= 0:
            raise FloatingPointError(
                f"the loss is not finite at iteration {bad} (counted from 0); learning rate "
                f"{self.recipe.rate(bad, self.log):g} may be too high"
            )
        # the weights are equal in all processes; of the statistics only those of process 0 are kept
        state = self.model.state_dict() if self.world.rank == 0 else dict(self.model.named_parameters())
        state = {name: value for name, value in state.items() if value.is_floating_point()}
        if not torch.stack([torch.isfinite(value).all() for value in state.values()]).all():
            name = next(name for name, value in state.items() if not torch.isfinite(value).all())
            raise FloatingPointError(
                f"{name} is not finite after {self.iteration} iterations; learning rate "
                f"{self.recipe.rate(max(0, self.iteration - 1), self.log):g} may be too high"
            )

    def state_dict(self) -> dict:
        """Everything that the next step depends on, and the log so far."""
        parts = {"model": self.model, "optimizer": self.optimizer, "meter": self.meter}
        return {"iteration": self.iteration, "log": self.log, **{name: part.state_dict() for name, part in parts.items()}}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state` of a trainer of the same settings."""
        kept = {name: state["meter"][name] for name in self.meter.state_dict()}
        if self.recipe.open_warmup and kept.keys() != state["meter"].keys():
            raise InputError(
                "the checkpoint is of an older version, which ended the warm-up by another rule; train again", "out"
            )
        self.model.load_state_dict(state["model"])
        momenta = state["optimizer"]["state"]
        for place, weight in enumerate(self.model.parameters()):  # in place: the layout stays this device's
            if place in momenta:
                self.optimizer.state[weight]["momentum_buffer"].copy_(momenta[place]["momentum_buffer"])
        self.meter.load_state_dict(kept)
        self.iteration, self.log = state["iteration"], list(state["log"])

    def _record(self) -> Callable[..., None]:
        """The step as a CUDA graph, or as it is where that cannot be made."""
        if self.world.size > 1:
            self.note("several processes: each step runs operation by operation, not as a replayed CUDA graph")
            return self.step
        before, draws = copy.deepcopy(self.state_dict()), torch.cuda.get_rng_state(self.device)

        def undo() -> None:
            self.load_state_dict(before)
            torch.cuda.set_rng_state(draws, self.device)  # what dropout drew
            self.optimizer.zero_grad()

        try:
            step = GraphStep(self.step, self.stream.indices(self.iteration), undo)
            self._recorded_at = next(self.model.parameters()).data_ptr()
        except RuntimeError as error:
            self.note(f"no CUDA graph ({first_line(error)}): the same step runs operation by operation")
            step = self.step
        images, _ = next(iter(self.data.test_batches(self.data.test_batch)))
        with evaluating(self.model), float32_as("float32"):  # so that no evaluation takes longer than the others
            self.model(self.data.center(images))
        return step

    def _write_line(self, report: Callable[[dict], None] | None) -> None:
        """Add the line of this iteration to the log, if one is due and not there."""
        written = self.log[-1]["iteration"] if self.log else 0
        if written < self.iteration and self._line_is_due():
            self.log.append(self._line())
            if report is not None:
                report(self.log[-1])

    def _line_is_due(self) -> bool:
        waiting = self.recipe.open_warmup and self.recipe.warmup_end(self.log) is None
        intervals = (self.every, self.recipe.iterations, WARMUP_WINDOW if waiting else self.every)
        return any(self.iteration % interval == 0 for interval in intervals)

    def _line(self) -> dict:
        """The line of the log after this iteration; starts the sums anew."""
        self.check_finite()
        done = self.log[-1]["iteration"] if self.log else 0
        loss, wrong = (self.meter.sums / (self.iteration - done)).tolist()
        line = {"iteration": self.iteration, "lr": self.recipe.rate(self.iteration - 1, self.log)}
        with float32_as("float32"):
            test_error, test_loss = evaluate(self.model, self.data, world=self.world)
        self.meter.sums.zero_()  # only now: an evaluation that fails is made again
        line |= {"train_loss": loss, "train_error": 100 * wrong, "test_error": test_error, "test_loss": test_loss}
        if self.recipe.open_warmup:
            line["warmup"] = self.recipe.warmup_end([*self.log, line]) or self.iteration
        return line


class Meter(nn.Module):
    """What the loop counts, kept on the device: reading it each step would make the device wait.

    `sums` of loss and share of wrong answers since the last line, `iteration` (steps done) and `bad` (first iteration with a
    loss that is not finite, or -1).
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("sums", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("iteration", torch.tensor(0))
        self.register_buffer("bad", torch.tensor(-1))

    def update(self, loss_wrong: Tensor) -> None:
        """Take in mean loss and share of wrong answers of one batch: float64 (2,)."""
        self.sums += loss_wrong
        first = (self.bad < 0) & ~torch.isfinite(loss_wrong[0])
        self.bad.copy_(torch.where(first, self.iteration, self.bad))
        self.iteration += 1
