"""One training step as a CUDA graph: recorded once, replayed with one launch."""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from resnet_nb.train.trainer import Trainer

DRY_RUNS = 3  # cuDNN picks its algorithms and libraries set themselves up before the recording
AHEAD = 8  # steps that the host may be ahead of the device, so that its clock means something


class GraphStep:
    """`Trainer.step` recorded as a CUDA graph. Calling it copies the indices of a batch and replays.

    The dry runs leave no trace: weights, momenta, statistics and meter are put back. Raises
    RuntimeError if the step cannot be recorded.
    """

    def __init__(self, trainer: "Trainer"):
        self.order, self.codes = (part.clone() for part in trainer.stream.indices(trainer.iteration))
        before = copy.deepcopy(trainer.state_dict())
        with torch.cuda.device(trainer.device):
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):
                    for _ in range(DRY_RUNS):
                        trainer.step(self.order, self.codes)
                    trainer.load_state_dict(before)
                    trainer.optimizer.zero_grad()
                    self.graph = torch.cuda.CUDAGraph()
                    # thread_local: what other threads do with CUDA meanwhile does not spoil the recording
                    with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
                        trainer.step(self.order, self.codes)
            except RuntimeError:
                torch.cuda.synchronize()
                trainer.load_state_dict(before)
                trainer.optimizer.zero_grad()
                raise
            current.wait_stream(side)
            self.done, self.calls = [torch.cuda.Event() for _ in range(AHEAD)], 0

    def __call__(self, order: Tensor, codes: Tensor) -> None:
        event = self.done[self.calls % AHEAD]
        event.synchronize()  # of AHEAD calls ago
        self.order.copy_(order)
        self.codes.copy_(codes)
        self.graph.replay()
        event.record()
        self.calls += 1
