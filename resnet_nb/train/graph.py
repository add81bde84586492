"""A training step recorded once as a CUDA graph and replayed: one launch instead of hundreds, and fewer kernels in it."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

_mine = threading.local()  # the stream on which a thread records: libraries keep memory for each stream that they have seen
DRY_RUNS = 3  # cuDNN picks its algorithms and libraries set themselves up before a graph is recorded
AHEAD = 8  # steps that the host may be ahead of the device, so that its clock means something


class GraphStep:
    """`step` recorded as a CUDA graph. Calling it copies its inputs to fixed addresses and replays, with one launch.

    inputs: an example, on the device. undo: puts back what the dry runs changed, in place. Raises RuntimeError if the step
    cannot be recorded; `undo` was called then.
    """

    def __init__(self, step: Callable[..., None], inputs: tuple[Tensor, ...], undo: Callable[[], None]):
        self.inputs = [part.clone() for part in inputs]
        with torch.cuda.device(self.inputs[0].device):
            current, side = torch.cuda.current_stream(), _recording_stream()
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):
                    for _ in range(DRY_RUNS):
                        step(*self.inputs)
                    undo()
                    self.graph = torch.cuda.CUDAGraph()
                    # thread_local: what other threads do with CUDA meanwhile does not spoil the recording
                    with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
                        step(*self.inputs)
            except RuntimeError:
                torch.cuda.synchronize()
                undo()
                raise
            current.wait_stream(side)
            # blocking: the host sleeps while it waits, as the trainings beside it want the cores
            self.done, self.calls = [torch.cuda.Event(blocking=True) for _ in range(AHEAD)], 0

    def __call__(self, *inputs: Tensor) -> None:
        event = self.done[self.calls % AHEAD]
        event.synchronize()  # of AHEAD calls ago
        for place, part in zip(self.inputs, inputs):
            place.copy_(part)
        self.graph.replay()
        event.record(torch.cuda.current_stream(self.inputs[0].device))  # which need not be the current device
        self.calls += 1


def _recording_stream() -> torch.cuda.Stream:
    """Of this thread and the current device; always the same."""
    streams, device = vars(_mine).setdefault("streams", {}), torch.cuda.current_device()
    if device not in streams:
        streams[device] = torch.cuda.Stream()
    return streams[device]


class FewerKernels(nn.Module):
    """The network with one kernel for what usually takes one for each layer; every bit of the result stays the same.

    The counters of all BN layers grow together. bf16: the weights of convolutions and linear layers are cast together, and so
    are their gradients, as autocast does one by one. A forward pass uses each BN layer once.
    """

    def __init__(self, model: nn.Module, bf16: bool):
        super().__init__()
        self.model = model
        norms = {name: part for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}
        # without a momentum the counter is not only counted: it sets how fast the statistics move
        norms = {name: part for name, part in norms.items() if part.track_running_stats and part.momentum is not None}
        self.counters = {f"{name}.num_batches_tracked": part.num_batches_tracked for name, part in norms.items()}
        layers = {name: part for name, part in model.named_modules() if bf16 and isinstance(part, (nn.Conv2d, nn.Linear))}
        self.cast = {
            f"{name}.{key}": part for name, layer in layers.items() for key, part in layer.named_parameters(recurse=False)
        }

    def forward(self, x: Tensor) -> Tensor:
        copies = _Bf16.apply(*self.cast.values()) if self.cast else ()
        if self.counters:
            torch._foreach_add_(list(self.counters.values()), 1)
        return functional_call(self.model, {**dict(zip(self.cast, copies)), **dict.fromkeys(self.counters)}, (x,))


class _Bf16(torch.autograd.Function):
    """Tensors as bf16; their gradients as float32."""

    @staticmethod
    def forward(ctx, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a layer that was not used has no gradient, which is not the gradient 0
        return _copies(weights, torch.bfloat16)

    @staticmethod
    def backward(ctx, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        copies = iter(_copies(tuple(part for part in gradients if part is not None), torch.float32))
        return tuple(part if part is None else next(copies) for part in gradients)


def _copies(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    copies = tuple(torch.empty_like(tensor, dtype=dtype) for tensor in tensors)
    if tensors:
        torch._foreach_copy_(copies, tensors)
    return copies
