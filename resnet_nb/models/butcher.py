"""Explicit Runge-Kutta methods as exact Butcher tableaus, and the conditions of their order: mathematics only (notebook 12).

The formulas of arXiv 2103.15244 could not be read: these are the textbook's, J. C. Butcher's order conditions with them.
"""

import functools
import itertools
import math
import re
import tomllib
from dataclasses import dataclass
from importlib import resources

from sympy import QQ, Expr, Float, sqrt, sympify
from sympy.polys.polyerrors import CoercionFailed

from resnet_nb.errors import InputError, require_choice, require_positive

SCHEMES = ("euler", "midpoint", "rk4", "rk8")  # those that wire a net
TABLEAUS = (*SCHEMES, "rk9")
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
    sizes = _partitions(nodes - 1, nodes - 1)
    return tuple(sorted({tuple(sorted(forest)) for parts in sizes for forest in itertools.product(*map(_trees, parts))}))


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
