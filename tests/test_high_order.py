"""Runge-Kutta tableaus by Butcher's conditions and by known solutions; the blocks and nets that they wire."""

import functools
import math
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import on_meta, random_images, refused, seeded
from sympy import Integer, Rational, sqrt
from torch import nn

from resnet_nb.anatomy import describe
from resnet_nb.errors import InputError
from resnet_nb.models import build, butcher
from resnet_nb.models.butcher import Tableau, order_conditions, rooted_trees, tableau
from resnet_nb.models.high_order import Increment, RungeKuttaBlock
from resnet_nb.paper import facts

ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4, "rk8": 8, "rk9": 9}


def broken(method, order):
    """The conditions of this order that do not hold: {tree: by how much}."""
    return {tree: off for tree, off in order_conditions(method, order).items() if off}


def holds(method, order):
    return not broken(method, order)


def with_entry(method, i, j, value):
    """The method with a_ij changed, or with b_j if i is None; counted from 1."""
    changed = list(method.b if i is None else method.a[i - 1])
    changed[j - 1] = value
    if i is None:
        return replace(method, b=tuple(changed))
    return replace(method, a=(*method.a[: i - 1], tuple(changed), *method.a[i:]))


# ---- the tableaus


def test_there_are_as_many_rooted_trees_as_known():
    assert [len(rooted_trees(n)) for n in range(1, 10)] == [1, 1, 2, 4, 9, 20, 48, 115, 286]


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_conditions_hold_up_to_the_order(name):
    method = tableau(name)
    assert method.order == ORDERS[name]
    for order in range(1, min(method.order, 6 if name == "rk8" else 4) + 1):
        assert broken(method, order) == {}
    assert float_conditions(method, method.order) < 1e-11  # to the last order also of rk9
    if method.order < 8:
        assert not holds(method, method.order + 1)


@pytest.mark.slow
def test_rk8_fulfils_all_two_hundred_conditions_exactly():  # as notebook 12 does
    assert all(holds(tableau("rk8"), order) for order in range(1, 9))


@pytest.mark.slow
def test_nine_is_the_order_of_sixteen_stages_and_not_of_fourteen():
    assert holds(tableau("rk9"), 9) and not holds(tableau("rk8"), 9)


@pytest.mark.parametrize("name", ORDERS)
def test_the_quadrature_conditions_hold_in_fractions(name):
    """sum b c^q = 1 / (q + 1), with sympy's own arithmetic."""
    method = tableau(name)
    for q in range(method.order):
        assert sum(b * c**q for b, c in zip(method.b, method.c)).expand() == Rational(1, q + 1)


def test_verners_nodes():
    r = sqrt(6)
    want = (
        0,
        Rational(1, 12),
        Rational(1, 9),
        Rational(1, 6),
        (2 + 2 * r) / 15,
        (6 + r) / 15,
        (6 - r) / 15,
        Rational(2, 3),
        Rational(1, 2),
        Rational(1, 3),
        Rational(1, 4),
        Rational(4, 3),
        Rational(5, 6),
        1,
        Rational(1, 6),
        1,
    )
    assert [(c - w).expand() for c, w in zip(tableau("rk9").c, want, strict=True)] == [0] * 16
    assert tableau("rk8").c == tableau("rk9").c[:14]


def test_the_methods_are_explicit_and_have_the_stages_of_the_paper():
    for name in ORDERS:
        method = tableau(name)
        assert all(value == 0 for i, row in enumerate(method.a) for value in row[i:])
    replaced = facts("ho-resnet")["euler_blocks_replaced"]
    assert [tableau(name).stages for name in ("midpoint", "rk4", "rk8", "rk9")] == list(replaced.values())


def float_conditions(method, order):
    """Butcher's conditions once more, in 64 bits and by matrices: the largest violation up to `order`."""
    a, b = np.array(method.a, dtype=float), np.array(method.b, dtype=float)

    @functools.cache
    def phi(tree):
        return np.prod([a @ phi(part) for part in tree], axis=0) if tree else np.ones(len(b))

    def size(tree):
        return 1 + sum(map(size, tree))

    def gamma(tree):
        return size(tree) * math.prod(map(gamma, tree))

    return max(abs(b @ phi(tree) - 1 / gamma(tree)) for n in range(1, order + 1) for tree in rooted_trees(n))


def test_every_wrong_coefficient_is_caught():
    """A thousandth more in any of the 64 numbers of rk8, one at a time, breaks a condition of order 8 or less."""
    method, planted = tableau("rk8"), 0
    assert float_conditions(method, 8) < 1e-12 < 1e-6 < float_conditions(tableau("rk4"), 5)
    for i in (*range(1, 15), None):
        for j, value in enumerate(method.b if i is None else method.a[i - 1], 1):
            if value:
                wrong = with_entry(method, i, j, value + Rational(1, 1000))
                assert float_conditions(wrong, 8) > 1e-10, (i, j)
                planted += 1
    assert planted == 56 + 8


def test_the_four_wrong_numbers_of_the_public_code():
    code = with_entry(tableau("rk8"), None, 8, Rational(27, 140))
    assert not holds(code, 1) and float(sum(code.b)) == pytest.approx(1.3857, abs=1e-4)
    code = with_entry(tableau("rk8"), 6, 1, Rational("0.053333333"))
    code = with_entry(with_entry(code, 12, 7, Rational("847.8814815")), 12, 10, Rational("605.7315968"))
    assert float(sum(code.a[11])) == pytest.approx(1283.0, abs=0.05)  # instead of 4/3
    assert holds(code, 1) and not holds(code, 2)  # with the sign of b_8 repaired


def test_the_mathematics_need_no_torch():
    """The file alone, in a process in which torch cannot be imported."""
    code = """
        import importlib.util, sys
        sys.modules["torch"] = None
        spec = importlib.util.spec_from_file_location("butcher", sys.argv[1])
        sys.modules["butcher"] = butcher = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(butcher)
        print([any(butcher.order_conditions(butcher.tableau("rk4"), order).values()) for order in (3, 4, 5)])
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code), butcher.__file__], capture_output=True, text=True)
    assert run.stdout.strip() == "[False, False, True]", run.stderr


# ---- the block


class Function(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def shared(name, f, step=1.0):
    method = tableau(name)
    return RungeKuttaBlock(method, [Function(f)] * method.stages, step)


def solve(name, f, start, time, steps):
    block, y = shared(name, f, time / steps), start
    for _ in range(steps):
        y = block(y)
    return y


def logistic(name, steps):
    y = solve(name, lambda y: y * (1 - y), torch.tensor(0.1, dtype=torch.float64), 4.0, steps)
    return abs(y.item() - 1 / (1 + 9 * math.exp(-4)))


def oscillator(name, steps):
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    y = solve(name, lambda y: turn @ y, torch.tensor([1.0, 0.0], dtype=torch.float64), math.pi, steps)
    return (y - torch.tensor([-1.0, 0.0], dtype=torch.float64)).norm().item()


@pytest.mark.parametrize(
    "problem, name, steps, slope",
    [
        (logistic, "euler", 32, 1.07),
        (logistic, "midpoint", 32, 1.98),
        (logistic, "rk4", 32, 3.99),
        (logistic, "rk8", 8, 7.94),
        (oscillator, "euler", 16, 1.09),
        (oscillator, "midpoint", 16, 1.99),
        (oscillator, "rk4", 16, 3.99),
        (oscillator, "rk8", 8, 8.02),
        (oscillator, "rk9", 6, 9.02),
    ],
)
def test_the_error_falls_with_the_order(problem, name, steps, slope):
    found = math.log2(problem(name, steps) / problem(name, 2 * steps))
    assert found == pytest.approx(slope, abs=0.15)


@pytest.mark.parametrize("name", ORDERS)
def test_constant_branches_move_by_the_constant(name):
    c, x = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    torch.testing.assert_close(shared(name, lambda z: c)(x), x + c)
    torch.testing.assert_close(shared(name, torch.zeros_like)(x), x, rtol=0, atol=0)


@pytest.mark.parametrize("name", ORDERS)
def test_linear_branches_give_the_exponential_up_to_the_order(name):
    rate = 0.3
    got = shared(name, lambda z: rate * z)(torch.ones((), dtype=torch.float64)).item()
    taylor = sum(rate**n / math.factorial(n) for n in range(ORDERS[name] + 1))
    assert abs(got - taylor) < (1e-15 if ORDERS[name] <= 4 else 1e-9)
    assert abs(got - math.exp(rate)) < 2 * rate ** (ORDERS[name] + 1)


def branches(count):
    torch.manual_seed(count)
    return [nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double() for _ in range(count)]


def by_formula(scheme, f, x):
    """One block by its formula, with a list of residual functions."""
    if scheme == "midpoint":
        return x + f[1](x + f[0](x) / 2)
    k1 = f[0](x)
    k2 = f[1](x + k1 / 2)
    k3 = f[2](x + k2 / 2)
    return x + (k1 + 2 * k2 + 2 * k3 + f[3](x + k3)) / 6


@pytest.mark.parametrize("scheme", ["midpoint", "rk4"])
def test_midpoint_and_rk4_by_their_formulas(scheme):
    x, f = torch.randn(5, 3, dtype=torch.float64), branches(tableau(scheme).stages)
    torch.testing.assert_close(RungeKuttaBlock(tableau(scheme), f)(x), by_formula(scheme, f, x))


def test_the_gradient_of_a_block_by_finite_differences():
    block = RungeKuttaBlock(tableau("rk4"), branches(4), learnable=True).double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x, change: torch.func.functional_call(block, {"change": change}, x), (x, block.change))


@pytest.mark.parametrize("name, coefficients", [("midpoint", 2), ("rk4", 7), ("rk8", 64)])
def test_learnable_coefficients_start_at_the_tableau_and_decay_toward_it(name, coefficients):
    x, functions = torch.randn(2, 3, dtype=torch.float64), branches(tableau(name).stages)
    block = RungeKuttaBlock(tableau(name), functions, learnable=True).double()
    assert block.change.numel() == coefficients
    torch.testing.assert_close(block(x), RungeKuttaBlock(tableau(name), functions)(x))
    for function in functions:
        nn.init.zeros_(function[0].weight), nn.init.zeros_(function[0].bias)  # no gradient: only the decay is left
    nn.init.ones_(block.change)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1, weight_decay=0.5)
    block(x).sum().backward()
    optimizer.step()
    torch.testing.assert_close(block.change.detach(), torch.full((coefficients,), 0.95, dtype=torch.float64))


def test_a_nested_block_is_an_outer_step_over_the_increments_of_the_inner_one():
    f, x = branches(4), torch.randn(2, 3, dtype=torch.float64)
    inner = [RungeKuttaBlock(tableau("midpoint"), f[:2]), RungeKuttaBlock(tableau("midpoint"), f[2:])]
    nested = RungeKuttaBlock(tableau("midpoint"), [Increment(block) for block in inner])
    middle = x + (inner[0](x) - x) / 2
    torch.testing.assert_close(nested(x), x + (inner[1](middle) - middle))
    euler = RungeKuttaBlock(tableau("euler"), [Increment(inner[0])])
    torch.testing.assert_close(euler(x), inner[0](x))


# ---- the nets


NETS = [
    ("cifar-midpoint32", {}),
    ("cifar-rk432", {}),
    ("cifar-midpoint32", {"nested": "midpoint"}),
    ("cifar-euler32", {"nested": "rk4"}),
]


def test_the_euler_net_is_the_preactivation_net():
    images = random_images(4, 32)
    assert torch.equal(seeded("cifar-euler32")(images), seeded("cifar-preact32")(images))


@pytest.mark.parametrize("name, overrides", NETS)
def test_every_scheme_has_the_weights_of_the_euler_net(name, overrides):
    euler, other = (list(net.parameters()) for net in (seeded("cifar-euler32"), seeded(name, **overrides)))
    assert len(euler) == len(other) and all(torch.equal(a, b) for a, b in zip(euler, other))
    assert describe(on_meta(name, **overrides), 32).multiply_adds == describe(on_meta("cifar-euler32"), 32).multiply_adds


@pytest.mark.parametrize("depth, stages", [(92, 14), (104, 16)])
def test_rk8_uses_every_layer_of_its_depth(depth, stages):
    model, euler = on_meta(f"cifar-rk8{depth}", stages=stages), on_meta(f"cifar-euler{depth}")
    assert [p.shape for p in model.parameters()] == [p.shape for p in euler.parameters()]
    assert describe(model, 32).layers == depth and [len(stage) for stage in (model.layer1, model.layer2, model.layer3)] == [
        2,
        2,
        2,
    ]
    assert model.layer1[1].rows[-1][-1][0] == {14: 13, 16: 15}[stages]  # the last stage enters the result


def by_hand(block_of, images):
    """The logits of cifar-preact32 (n = 5) with four of its units in each stage taken as one block."""
    model = seeded("cifar-preact32")
    x = model.stem(images)
    for stage in (model.layer1, model.layer2, model.layer3):
        first, *units = stage
        x = block_of([lambda z, u=u: u.residual(u.before(z)) for u in units], first(x))
    return model.fc(model.last(x).mean((2, 3)))


@pytest.mark.parametrize(
    "name, overrides, block_of",
    [
        ("cifar-rk432", {}, lambda f, x: by_formula("rk4", f, x)),
        ("cifar-midpoint32", {}, lambda f, x: by_formula("midpoint", f[2:], by_formula("midpoint", f[:2], x))),
        ("cifar-euler32", {"nested": "rk4"}, lambda f, x: by_formula("rk4", f, x)),
        ("cifar-midpoint32", {"nested": "euler"}, lambda f, x: by_formula("midpoint", f[2:], by_formula("midpoint", f[:2], x))),
        (
            "cifar-midpoint32",
            {"nested": "midpoint"},
            lambda f, x: by_formula(
                "midpoint", [lambda z: by_formula("midpoint", f[:2], z) - z, lambda z: by_formula("midpoint", f[2:], z) - z], x
            ),
        ),
    ],
)
def test_the_nets_compute_their_schemes(name, overrides, block_of):
    images = random_images(4, 32)
    torch.testing.assert_close(seeded(name, **overrides)(images), by_hand(block_of, images), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "overrides, numbers", [({}, 3 * 2 * 2), ({"nested": "midpoint"}, 3 * (2 + 2 * 2)), ({"nested": "euler"}, 3 * 2 * (2 + 2))]
)
def test_learnable_nets_have_a_number_for_every_coefficient(overrides, numbers):
    plain, learnable = (
        sum(p.numel() for p in on_meta("cifar-midpoint32", learnable=flag, **overrides).parameters()) for flag in (False, True)
    )
    assert learnable - plain == numbers


@pytest.mark.parametrize("name", ORDERS)
def test_sums_are_taken_in_32_bits(name):
    block = shared(name, lambda z: torch.full_like(z, 0.5, dtype=torch.bfloat16))
    inputs = []
    block.functions[0].register_forward_hook(lambda module, args, out: inputs.append(args[0].item()))  # it is shared
    block(torch.zeros((), dtype=torch.bfloat16))
    assert inputs == pytest.approx([float(c) / 2 for c in tableau(name).c], abs=1e-3)


@pytest.mark.parametrize("name", ["cifar-midpoint20", "cifar-rk432"])
def test_every_weight_is_trained(name):
    model = seeded(name, learnable=True)
    model(random_images(4, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_the_blocks_keep_the_sign_of_the_signal():
    """No ReLU follows: with branches that are zero, a net of any scheme passes negative numbers on."""
    block = seeded("cifar-rk432").eval().layer2[1]
    for function in block.functions:
        nn.init.zeros_(function[-1].weight)
    x = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name, overrides, words",
    [
        ("cifar-rk420", {}, "32, 56, 80"),
        ("cifar-rk832", {}, "92, 176"),
        ("cifar-euler8", {}, "14, 20, 26"),
        ("cifar-midpoint26", {}, "20, 32"),
        ("cifar-euler21", {}, "6n+2"),
        ("cifar-rk892", {"stages": 15}, "14, 16"),
        ("cifar-rk892", {"stages": 14.0}, "14, 16"),
        ("cifar-rk432", {"stages": 16}, "no option"),
        ("cifar-rk892", {"stages": 16}, "104"),
        ("cifar-rk432", {"nested": "rk5"}, "euler, midpoint, rk4, rk8"),
        ("cifar-rk5", {}, "allowed"),
        ("cifar-rk432", {"nested": "midpoint"}, "56"),
        ("cifar-rk432", {"learnable": 1}, "True or False"),
    ],
)
def test_bad_names_and_options_are_refused(name, overrides, words):
    assert words in refused(build, name, **overrides)


def test_a_block_wants_one_function_for_each_stage():
    with pytest.raises(InputError, match="4 stages, got 3"):
        RungeKuttaBlock(tableau("rk4"), branches(3))
    with pytest.raises(InputError, match="euler, midpoint, rk4, rk8, rk9"):
        tableau("rk5")


@pytest.mark.parametrize(
    "a, b, words",
    [
        (((0, 0), (1, 0)), (1,), "1 rows of 1"),
        (((0, 1), (0, 0)), (1, 0), "not explicit"),
        (((0, 0), (0.5, 0)), (0, 1), "exact"),
        ((), (), "rows"),
    ],
)
def test_a_tableau_that_is_none_is_refused(a, b, words):
    with pytest.raises(InputError, match=words):
        Tableau("mine", 1, a, b)


def test_conditions_want_an_order_and_numbers_of_their_field():
    for order in (0, -3, 2.5, True):
        with pytest.raises(InputError, match="positive integer"):
            order_conditions(tableau("rk4"), order)
    with pytest.raises(InputError, match="√6"):
        order_conditions(Tableau("mine", 1, ((0,),), (sqrt(2),)), 1)
    with pytest.raises(InputError, match="euler, midpoint"):
        tableau(["rk4"])


def test_numbers_are_exact():
    assert (
        tableau("rk8").a[7][5] == (16 - sqrt(6)) / 54
        and tableau("rk4").b[0] == Rational(1, 6)
        and tableau("euler").b == (Integer(1),)
    )
