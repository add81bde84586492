"""One training step as a CUDA graph: recorded once, replayed with one launch."""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from resnet_nb.train.trainer import Trainer

DRY_RUNS = 3  # cuDNN picks its algorithms and libraries set themselves up before the recording


class GraphStep:
    """`Trainer.step` recorded as a CUDA graph. Calling it copies the indices of a batch and replays.

    The dry runs leave no trace: weights, momenta, statistics and meter are put back. Raises
    RuntimeError if the step cannot be recorded.
    """

    def __init__(self, trainer: "Trainer"):
        self.trainer = trainer
        self.order, self.codes = (part.clone() for part in trainer.stream.indices(trainer.iteration))
        before = copy.deepcopy(trainer.state_dict())
        side = torch.cuda.Stream(trainer.device)
        try:
            side.wait_stream(torch.cuda.current_stream(trainer.device))
            with torch.cuda.stream(side):
                for _ in range(DRY_RUNS):
                    trainer.step(self.order, self.codes)
            torch.cuda.current_stream(trainer.device).wait_stream(side)
            trainer.load_state_dict(before)
            trainer.optimizer.zero_grad()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                trainer.step(self.order, self.codes)
        except RuntimeError:
            trainer.load_state_dict(before)
            trainer.optimizer.zero_grad()
            raise

    def __call__(self, order: Tensor, codes: Tensor) -> None:
        self.order.copy_(order)
        self.codes.copy_(codes)
        self.graph.replay()
