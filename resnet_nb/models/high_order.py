"""Pre-activation CIFAR nets rewired by Runge-Kutta methods (HO-ResNet, arXiv 2103.15244; notebook 12)."""

import torch
from torch import Tensor, nn

from resnet_nb.errors import InputError, require_bool, require_choice, require_depth
from resnet_nb.models.blocks import stages
from resnet_nb.models.butcher import SCHEMES, Tableau, tableau
from resnet_nb.models.preact import CifarPreact, Unit


class CifarHighOrder(CifarPreact):
    """The net cifar-preact<depth>, wired by a Runge-Kutta method: (N, 3, 32, 32) images to (N, num_classes) logits.

    depth = 6n + 2. The first unit of each stage stays an ordinary one: it changes the shape, or follows conv1. The
    residual functions of the other n - 1 are taken by s in turn for the s stages of one block, so the weights and their
    start are those of cifar-preact<depth> for every scheme; with "euler" it is that net.
    stages: 14 or 16, of rk8 only: Verner's method of order 8, or with the two stages of its error estimate, which make
    order 9. nested: a scheme whose block is the residual function of the outer one. learnable: see `RungeKuttaBlock`.
    No ReLU follows the blocks, unlike in the authors' code: it would break y = x + sum b k.
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
        require_choice("nested", nested, (None, *SCHEMES))
        require_bool(learnable=learnable)
        require_choice(f"stages of {scheme}", stages, (14, 16) if scheme == "rk8" else (14,))
        n = require_depth(depth, 6)
        method, inner = tableau("rk9" if stages == 16 else scheme), tableau(nested) if nested else None
        size = method.stages * (inner.stages if inner else 1)
        if n == 1 or (n - 1) % size:
            examples = ", ".join(str(6 * (1 + blocks * size) + 2) for blocks in (1, 2, 3))
            raise InputError(
                f"depth must be 6n+2 with n-1 a positive multiple of {size}, the residual functions in a block "
                f"({examples}, ...), got {depth}"
            )
        super().__init__(depth, width=width, num_classes=num_classes)
        self._rewire(method, inner, learnable)

    def _rewire(self, method: Tableau, inner: Tableau | None, learnable: bool) -> None:
        for name, (opening, *units) in stages(self).items():
            functions = [residual_function(unit) for unit in units]
            if inner:
                functions = [Increment(block) for block in _blocks(inner, functions, learnable)]
            setattr(self, name, nn.Sequential(opening, *_blocks(method, functions, learnable)))


def residual_function(unit: Unit) -> nn.Sequential:
    """F of a pre-activation unit: BN, ReLU, convolution, twice."""
    return nn.Sequential(*unit.before, *unit.residual)


def _blocks(method: Tableau, functions: list[nn.Module], learnable: bool) -> list["RungeKuttaBlock"]:
    """The functions in turn, as many for each block as the method has stages."""
    s = method.stages
    return [RungeKuttaBlock(method, functions[i : i + s], learnable=learnable) for i in range(0, len(functions), s)]


class RungeKuttaBlock(nn.Module):
    """One step of an explicit Runge-Kutta method: k_i = F_i(x + h sum_j a_ij k_j), y = x + h sum_i b_i k_i.

    functions: the F_1 .. F_s, shape-keeping; in HO-ResNet each has its own weights, in a solver all are the same module.
    step: h. learnable: a trained number is added to every coefficient of the tableau that is not zero; it starts at 0, so
    that weight decay draws the coefficients toward the tableau (our reading of "flexible scaling factors", whose formula
    is lost). Raises InputError unless there are s functions.
    """

    def __init__(self, method: Tableau, functions: list[nn.Module], step: float = 1.0, learnable: bool = False):
        super().__init__()
        if len(functions) != method.stages:
            raise InputError(f"{method.name} has {method.stages} stages, got {len(functions)} functions")
        self.functions, self.step = nn.ModuleList(functions), step
        entries = [(i, j, float(value)) for i, row in enumerate((*method.a, method.b)) for j, value in enumerate(row) if value]
        # per stage, and last for the result: which k_j enter, with which coefficient
        self.rows = [[(j, n) for n, (i, j, _) in enumerate(entries) if i == row] for row in range(method.stages + 1)]
        self.coefficients = [value for *_, value in entries]
        self.change = nn.Parameter(torch.zeros(len(entries))) if learnable else None

    def forward(self, x: Tensor) -> Tensor:
        k: list[Tensor] = []
        sums = torch.promote_types(x.dtype, torch.float32)  # in 16 bits the large coefficients of rk8 do not cancel
        x = x.to(sums)
        for function, row in zip(self.functions, self.rows):
            k.append(function(self._moved(x, row, k)).to(sums))
        return self._moved(x, self.rows[-1], k)

    def _moved(self, x: Tensor, row: list[tuple[int, int]], k: list[Tensor]) -> Tensor:
        for j, n in row:
            factor = self.coefficients[n] if self.change is None else self.coefficients[n] + self.change[n]
            x = x + self.step * factor * k[j]
        return x


class Increment(nn.Module):
    """G(z) = P(z) - z of a block P: what it adds, as the residual function of an outer block (nested HO-Net, our reading)."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, z: Tensor) -> Tensor:
        return self.block(z) - z
