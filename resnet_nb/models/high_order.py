"""Pre-activation CIFAR nets rewired by Runge-Kutta methods (HO-ResNet, arXiv 2103.15244)."""

from torch import nn

from resnet_nb.errors import InputError
from resnet_nb.models.blocks import require_bool, require_choice
from resnet_nb.models.preact import CifarPreact, Unit
from resnet_nb.models.runge_kutta import Increment, RungeKuttaBlock, tableau

SCHEMES = ("euler", "midpoint", "rk4", "rk8")


class CifarHighOrder(CifarPreact):
    """The net cifar-preact<depth>, wired by a Runge-Kutta method: (N, 3, 32, 32) images to (N, num_classes) logits.

    depth = 6n + 2. The first unit of each stage stays an ordinary one: it changes the shape, or follows conv1.
    The residual functions of the other n - 1 are taken by s in turn for the s stages of one block, so the
    weights and their start are those of cifar-preact<depth> for every scheme; with "euler" it is that net.
    stages: 14 or 16, of rk8 only: Verner's method of order 8, or with the two stages of its error estimate,
    which make order 9. nested: a scheme whose block is the residual function of the outer one. learnable: see
    `RungeKuttaBlock`. No ReLU follows the blocks, unlike in the authors' code: it would break y = x + sum b k.
    Raises InputError unless n - 1 is a positive multiple of the residual functions in a block.
    """

    def __init__(
        self,
        scheme: str,
        depth: int,
        stages: int = 14,
        nested: str | None = None,
        learnable: bool = False,
        width: int = 16,
        num_classes: int = 10,
    ):
        require_choice("scheme", scheme, SCHEMES)
        require_bool(learnable=learnable)
        if type(stages) is not int or stages not in (14, 16) or (stages == 16 and scheme != "rk8"):
            raise InputError(f"stages must be 14 or 16 and is for rk8, got {stages!r} for {scheme}")
        method = tableau("rk9" if stages == 16 else scheme)
        inner = None
        if nested is not None:
            require_choice("nested", nested, SCHEMES)
            inner = tableau(nested)
        size = method.stages * (inner.stages if inner else 1)
        super().__init__(depth, width=width, num_classes=num_classes)
        n = (depth - 2) // 6
        if n == 1 or (n - 1) % size:
            examples = ", ".join(str(6 * (1 + blocks * size) + 2) for blocks in (1, 2, 3))
            raise InputError(
                f"depth must be 6n+2 with n-1 a positive multiple of {size}, the residual functions in a block "
                f"({examples}, ...), got {depth}"
            )
        for name in self.stages:
            opening, *units = self.get_submodule(name)
            functions = [residual_function(unit) for unit in units]
            if inner:
                functions = [
                    Increment(RungeKuttaBlock(inner, part, learnable=learnable)) for part in _parts(functions, inner.stages)
                ]
            blocks = [RungeKuttaBlock(method, part, learnable=learnable) for part in _parts(functions, method.stages)]
            self.add_module(name, nn.Sequential(opening, *blocks))


def residual_function(unit: Unit) -> nn.Sequential:
    """F of a pre-activation unit: BN, ReLU, convolution, twice."""
    return nn.Sequential(*unit.before, *unit.residual)


def _parts(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]
