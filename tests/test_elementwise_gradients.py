"""Gradients of pointwise ops: by differences, at special points, in branches not taken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphc.graph import Op, Tensor
from graphc.ops import activation, arith, compare, elementary, powers, select
from graphc.ops import trigonometric as trig
from graphc.ops.gradient import gradients
from graphc.ops.source import as_tensor
from tests.support import run
from tests.test_elementwise import Array, formulas, value

# ---------------------------------------------------------------------------- gradients

SMOOTH = [op for op in formulas() if op.vjp is not None and op.domain.smooth]


def _derivatives(op: Op, arrays: list[Array]) -> list[Array]:
    """Value, gradient, and the rows of the Hessian of one op, elementwise."""
    xs = [as_tensor(a) for a in arrays]
    assert op.build is not None
    y = op.build(*xs)
    first = gradients(y, xs, unconnected="zero")
    second = [h for g in first for h in gradients(g, xs, unconnected="zero")]
    return run([y, *first, *second])


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_first_and_second_derivatives(op: Op) -> None:
    rng = np.random.default_rng(3)
    cases = {tuple((d.low, d.high) for d in case.draws) for case in op.domain.cases}
    for intervals in sorted(cases):
        arrays = [rng.uniform(low, high, 40) for low, high in intervals]
        count = len(arrays)
        _, *found = _derivatives(op, arrays)
        step = 1e-5
        for i in range(count):
            up, down = (
                _derivatives(op, [a + s * (j == i) for j, a in enumerate(arrays)])
                for s in (step, -step)
            )
            slopes = [(u - d) / (2 * step) for u, d in zip(up, down, strict=True)]
            if op.name == "copysign" and i == 1:
                assert not found[1].any()
                continue
            np.testing.assert_allclose(found[i], slopes[0], rtol=2e-7, atol=2e-7, err_msg=op.name)
            for k in range(count):
                got = found[count + k * count + i]
                np.testing.assert_allclose(got, slopes[1 + k], rtol=2e-6, atol=2e-6)


def test_third_derivative() -> None:
    x = as_tensor(np.array([0.3, 0.7]))
    g: Tensor = trig.sin(x) * x
    for _ in range(3):
        [g] = gradients(g, [x])
    data = np.array([0.3, 0.7])
    np.testing.assert_allclose(value(g), -3 * np.sin(data) - data * np.cos(data), rtol=1e-12)


def test_second_derivatives_at_stationary_points() -> None:
    """A first derivative of 0 is masked in products, and must not be in what they are made of."""
    x = as_tensor(np.array([0.0]))
    cases = {
        "square": (x * x, 2.0),
        "power": (x**2.0, 2.0),
        "quotient": ((x * x) / 4.0, 0.5),
        "quotient by a tensor": ((x * x) / trig.cosh(x), 2.0),
        "cos": (trig.cos(x), -1.0),
        "nested": (trig.sin(x) ** 2 * elementary.exp(x), 2.0),
        "sqrt of 1 + x^2": (powers.sqrt(x * x + 1.0), 1.0),
        "x^4": (x**4, 0.0),
    }
    for name, (y, want) in cases.items():
        [g] = gradients(y, [x])
        [h] = gradients(g, [x])
        assert value(h)[0] == pytest.approx(want, abs=1e-12), name


def test_powers_at_zero_and_below() -> None:
    cases = [(0.0, 0.0), (0.0, 1.0), (0.0, 2.0), (0.0, 3.0), (-2.0, 3.0), (-2.0, 2.0), (-1.5, 0.0)]
    a, b = (as_tensor(np.array(side)) for side in zip(*cases, strict=True))
    y = a**b
    da, db = gradients(y, [a, b])
    [daa] = gradients(da, [a])
    got = run([y, da, db, daa])
    np.testing.assert_array_equal(got[0], [1, 0, 0, 0, -8, 4, 1])
    np.testing.assert_array_equal(got[1], [0, 1, 0, 0, 12, -4, 0])
    np.testing.assert_array_equal(got[2], 0)
    np.testing.assert_array_equal(got[3], [0, 0, 2, 0, -12, 2, 0])


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, -1, 0.5])
def test_constant_exponents(exponent: float) -> None:
    data = np.array([0.5, 1.0, 2.0])
    x = as_tensor(data)
    y = x**exponent
    [g] = gradients(y, [x])
    [h] = gradients(g, [x], unconnected="zero")
    got = run([y, g, h])
    np.testing.assert_allclose(got[0], data**exponent)
    np.testing.assert_allclose(got[1], exponent * data ** (exponent - 1.0))
    np.testing.assert_allclose(got[2], exponent * (exponent - 1) * data ** (exponent - 2.0))


# ---------------------------------------------------------------------------- branches not taken

POLES: dict[str, tuple[Callable[[Tensor], Tensor], list[float]]] = {
    "sqrt": (powers.sqrt, [0.0, -1.0]),
    "rsqrt": (powers.rsqrt, [0.0, -1.0]),
    "reciprocal": (powers.reciprocal, [0.0]),
    "cbrt": (powers.cbrt, [0.0]),
    "log": (elementary.log, [0.0, -1.0]),
    "log2": (elementary.log2, [0.0, -1.0]),
    "log10": (elementary.log10, [0.0, -1.0]),
    "log1p": (elementary.log1p, [-1.0, -2.0]),
    "x / 0": (lambda x: 1.0 / x, [0.0]),
    "0 / 0": (lambda x: x / x, [0.0]),
    "x / tensor": (lambda x: elementary.exp(x) / (x * x), [0.0]),
    "x ** 0.5": (lambda x: x**0.5, [0.0, -1.0]),
    "x ** -1": (lambda x: x**-1.0, [0.0]),
    "x ** x": (lambda x: x**x, [0.0, -0.5]),
    "0.5 ** x": (lambda x: 0.5**x, [-1e4]),
    "exp": (elementary.exp, [1e4]),
    "exp2": (elementary.exp2, [1e4]),
    "expm1": (elementary.expm1, [1e4]),
    "x * exp": (lambda x: x * elementary.exp(x), [1e4]),
    "exp * 1/x": (lambda x: elementary.exp(x) * (1.0 / x), [0.0, 1e4]),
    "sinh": (trig.sinh, [1e4]),
    "cosh": (trig.cosh, [1e4]),
    "arcsin": (trig.arcsin, [1.0, -1.0, 2.0]),
    "arccos": (trig.arccos, [1.0, -1.0, 2.0]),
    "arccosh": (trig.arccosh, [1.0, 0.0]),
    "arctanh": (trig.arctanh, [1.0, -1.0, 3.0]),
    "arctan2": (lambda x: trig.arctan2(x, x), [0.0]),
    "hypot": (lambda x: powers.hypot(x, 0.0), [0.0]),
    "norm": (lambda x: powers.sqrt(x * x + 0.0), [0.0]),
    "logaddexp": (lambda x: elementary.logaddexp(elementary.log(x), -np.inf), [0.0]),
    "sin of infinity": (lambda x: trig.sin(1.0 / x), [0.0]),
    "cos of infinity": (lambda x: trig.cos(1.0 / x), [0.0]),
    "tanh of nan": (lambda x: trig.tanh(x / x), [0.0]),
    "sigmoid of nan": (lambda x: elementary.sigmoid(x / x), [0.0]),
    "softplus of nan": (lambda x: elementary.softplus(x / x), [0.0]),
    "erf of nan": (lambda x: elementary.erf(x / x), [0.0]),
    "abs of nan": (lambda x: abs(x / x), [0.0]),
    "remainder": (lambda x: 1.0 % x, [0.0]),
    "fmod": (lambda x: arith.fmod(1.0, x), [0.0]),
    "relu of infinity": (lambda x: activation.relu(1.0 / x), [0.0]),
    "maximum of nan": (lambda x: select.maximum(x / x, 0.0), [0.0]),
    "clip of infinity": (lambda x: select.clip(1.0 / x, -1.0, 1.0), [0.0]),
    "elu": (activation.elu, [1e4]),
    "log sigmoid": (lambda x: elementary.log(elementary.sigmoid(x)), [-1e4]),
    "log softplus": (lambda x: elementary.log(elementary.softplus(x)), [-1e4]),
}


@pytest.mark.parametrize("name", POLES)
@pytest.mark.parametrize("side", ["x", "y"])
def test_no_nan_from_branches_not_taken(name: str, side: str) -> None:
    """Value, gradient and second derivative are those of the branch that was taken: x squared."""
    function, points = POLES[name]
    data = np.array(points)
    x, taken = as_tensor(data), as_tensor(np.full(data.shape, side == "y"))
    unsafe, safe = function(x), x * x
    y = select.where(taken, safe, unsafe) if side == "y" else select.where(taken, unsafe, safe)
    [g] = gradients(y, [x])
    [h] = gradients(g, [x])
    values, slopes, curvatures = run([y, g, h])
    np.testing.assert_array_equal(values, data * data)
    np.testing.assert_array_equal(slopes, 2 * data)
    np.testing.assert_array_equal(curvatures, 2.0)


def test_masked_missing_data() -> None:
    """The classic: NaN in the data, masked after it met a weight."""
    data = np.float32([1.0, np.nan, 3.0])
    x, w = as_tensor(data), as_tensor(np.float32(2.0))
    loss = select.where(compare.isnan(x), 0.0, x * w).sum()
    assert run(gradients(loss, [w]))[0] == 4.0


def test_gradients_where_a_function_has_none() -> None:
    zero = as_tensor(np.array([0.0]))
    for y in (abs(zero), activation.relu(zero), powers.hypot(zero, 0.0), trig.arctan2(zero, zero)):
        np.testing.assert_array_equal(run(gradients(y, [zero]))[0], 0.0)


def test_the_norm_of_zeros_has_gradient_zero() -> None:
    """An infinite derivative meets a factor of 0: in masked products 0 wins, from either side."""
    x = as_tensor(np.zeros(3))
    for total in ((x * x).sum(), (x**2).sum(), powers.square(x).sum()):
        np.testing.assert_array_equal(run(gradients(powers.sqrt(total), [x]))[0], 0.0)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_masked_products(bad: float) -> None:
    a, b = np.array([0.0, bad, 2.0, bad, -0.0]), np.array([bad, 0.0, 3.0, 1.0, 1.0])
    np.testing.assert_array_equal(value(arith.masked_multiply(a, b)), [0, 0, 6, bad, 0])
    np.testing.assert_array_equal(
        value(arith.masked_divide([0.0, 0.0, 6.0], [0.0, bad, 3.0])), [0, 0, 2]
    )


def test_an_infinite_derivative_that_matters_stays() -> None:
    zero = as_tensor(np.array([0.0]))
    assert run(gradients(powers.sqrt(zero), [zero]))[0] == np.inf
    assert run(gradients(elementary.log(zero), [zero]))[0] == np.inf


def test_logaddexp_of_zeros() -> None:
    a = as_tensor(np.array([-np.inf, 0.0]))
    b = as_tensor(np.array([-np.inf, -np.inf]))
    for g, want in zip(run(gradients(elementary.logaddexp(a, b), [a, b])), ([0, 1], [0, 0])):
        np.testing.assert_array_equal(g, want)
