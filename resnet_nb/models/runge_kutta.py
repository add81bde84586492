"""Explicit Runge-Kutta methods as exact Butcher tableaus, and the residual block that one defines (arXiv 2103.15244).

The formulas of that paper could not be read: these are the textbook's, J. C. Butcher's order conditions with them.
"""

import functools
import itertools
import math
import re
import tomllib
from dataclasses import dataclass
from importlib import resources

import torch
from sympy import QQ, Expr, Float, sqrt, sympify
from sympy.polys.polyerrors import CoercionFailed
from torch import Tensor, nn

from resnet_nb.errors import InputError
from resnet_nb.models.blocks import require_choice, require_positive

TABLEAUS = ("euler", "midpoint", "rk4", "rk8", "rk9")
FIELD = QQ.algebraic_field(sqrt(6))  # the numbers p + q√6 with fractions p and q: sums and products stay exact


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: a is strictly lower triangular, s rows of s; b has s weights.

    The numbers are sympy's, exact; Python's integers become such. Raises InputError on another shape, on an
    implicit method, or on floating-point numbers.
    """

    name: str
    order: int
    a: tuple[tuple[Expr, ...], ...]
    b: tuple[Expr, ...]

    def __post_init__(self):
        a, b = tuple(tuple(map(sympify, row)) for row in self.a), tuple(map(sympify, self.b))
        if not b or any(len(row) != len(b) for row in a) or len(a) != len(b):
            raise InputError(f"a must have {len(b)} rows of {len(b)} numbers, one for each of b")
        if any(value for i, row in enumerate(a) for value in row[i:]):
            raise InputError("a must be zero on and above its diagonal: the method is not explicit")
        if any(value.has(Float) for value in (*b, *sum(a, ()))):
            raise InputError("a tableau takes exact numbers, such as Rational(1, 2), not floats")
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "b", b)

    @property
    def stages(self) -> int:
        """s, the number of evaluations of the right-hand side in one step."""
        return len(self.b)

    @property
    def c(self) -> tuple[Expr, ...]:
        """Where each stage stands in the step: the sums of the rows of a."""
        return tuple(sum(row, sympify(0)).expand() for row in self.a)


def tableau(name: str) -> Tableau:
    """The method called `name`: euler, midpoint, rk4 (the classical one), rk8 or rk9 (Verner's 14 and 16 stages).

    Raises InputError for another name.
    """
    require_choice("tableau", name, TABLEAUS)
    return _tableau(name)


@functools.cache
def _tableau(name: str) -> Tableau:
    data = tomllib.loads((resources.files("resnet_nb") / "models" / "tableaus.toml").read_text(encoding="utf-8"))
    rows, b = data[name]["a"], data[name]["b"]
    if name == "rk9":
        rows = data["rk8"]["a"] | rows
    stages = range(1, len(rows) + 2)
    a = tuple(tuple(_number(rows.get(str(i), {}).get(str(j), "0")) for j in stages) for i in stages)
    return Tableau(name, data[name]["order"], a, tuple(_number(b.get(str(i), "0")) for i in stages))


def _number(text: str) -> Expr:
    return sympify(re.sub(r"(\d)√", r"\1*√", text).replace("√6", "sqrt(6)")).expand()


def rooted_trees(nodes: int) -> tuple[tuple, ...]:
    """All rooted trees with so many nodes (1, 1, 2, 4, 9, 20, 48, 115, ...); a tree is the tuple of the trees below its root.

    Raises InputError unless nodes is a positive integer.
    """
    require_positive(nodes=nodes)
    return _trees(nodes)


@functools.cache
def _trees(nodes: int) -> tuple[tuple, ...]:
    found = set()
    for parts in _partitions(nodes - 1, nodes - 1):
        for forest in itertools.product(*(_trees(size) for size in parts)):
            found.add(tuple(sorted(forest)))
    return tuple(sorted(found))


def _partitions(total: int, largest: int):
    if total == 0:
        yield ()
    for part in range(min(total, largest), 0, -1):
        for rest in _partitions(total - part, part):
            yield (part, *rest)


def order_conditions(method: Tableau, order: int) -> dict[tuple, Expr]:
    """Butcher's conditions of one order: rooted tree -> sum_i b_i Phi_i(tree) - 1 / gamma(tree), exactly.

    A method is of order p if these are all zero for the orders 1 to p. Raises InputError unless order is a
    positive integer and the numbers are of the form p + q√6.
    """
    try:
        return _conditions(method, rooted_trees(order))
    except CoercionFailed as error:
        raise InputError(f"the conditions are for numbers p + q√6 with fractions p and q ({error})") from error


def _conditions(method: Tableau, trees: tuple[tuple, ...]) -> dict[tuple, Expr]:
    a = [[(j, FIELD.from_sympy(value)) for j, value in enumerate(row) if value] for row in method.a]
    b = [FIELD.from_sympy(value) for value in method.b]
    weights: dict[tuple, list] = {}

    def phi(tree):  # one number per stage: the product over the subtrees t of sum_j a_ij phi_j(t)
        if tree not in weights:
            below = [[sum((v * phi(t)[j] for j, v in row), FIELD.zero) for row in a] for t in tree]
            weights[tree] = [math.prod(values, start=FIELD.one) for values in zip(*below)] or [FIELD.one] * len(b)
        return weights[tree]

    return {
        tree: FIELD.to_sympy(sum((w * v for w, v in zip(b, phi(tree))), FIELD.zero) - FIELD.one / _gamma(tree))
        for tree in trees
    }


def _nodes(tree: tuple) -> int:
    return 1 + sum(map(_nodes, tree))


def _gamma(tree: tuple) -> int:
    return _nodes(tree) * math.prod(map(_gamma, tree))


class RungeKuttaBlock(nn.Module):
    """One step of an explicit Runge-Kutta method: k_i = F_i(x + h sum_j a_ij k_j), y = x + h sum_i b_i k_i.

    functions: the F_1 .. F_s, shape-keeping; in HO-ResNet each has its own weights, in a solver all are the
    same module. step: h. learnable: a trained number is added to every coefficient of the tableau that is
    not zero; it starts at 0, so that weight decay draws the coefficients toward the tableau (our reading of
    "flexible scaling factors", whose formula is lost). Raises InputError unless there are s functions.
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
    """G(z) = P(z) - z of a block P: what it adds, to be the residual function of an outer block (nested HO-Net, our reading)."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, z: Tensor) -> Tensor:
        return self.block(z) - z
