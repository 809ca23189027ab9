"""Gradients: of compositions, of themselves, for inner tensors, and of unknown ranks."""

from __future__ import annotations

import re

import numpy as np
import pytest

from graphc.errors import DTypeError, GradientError
from graphc.graph import Graph
from graphc.ops.broadcast import broadcast_to
from graphc.ops.broadcast import sum as total
from graphc.ops.contraction import matmul
from graphc.ops.control import identity, stop_gradient
from graphc.ops.elementary import exp, log, sigmoid
from graphc.ops.gradient import grad, gradients
from graphc.ops.shape import reshape, transpose
from graphc.ops.source import Variable, constant, placeholder
from graphc.ops.trigonometric import tanh
from graphc.passes import optimise
from tests.passes_support import difference, run

RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 1.7, (2, 3))
W = RNG.uniform(-1.0, 1.0, (3, 3))

COMPOSITIONS = {
    "polynomial": lambda x: x * x * x - x * 2.0,
    "quotient": lambda x: 1.0 / (1.0 + x * x),
    "matmul chain": lambda x: tanh(matmul(tanh(matmul(x, W)), W)),
    "reused": lambda x: exp(x) * x + exp(x),
    "reduced": lambda x: log(total(exp(x), axis=1)),
    "views": lambda x: reshape(transpose(x), (2, 3)) * x,
    "broadcast": lambda x: broadcast_to(total(x, axis=0), (4, 3)) * 0.5 + total(x),
    "power": lambda x: x**3 + x**-1.5,
    "sigmoid": lambda x: sigmoid(x * 3.0 - 2.0),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_first_and_second_derivatives_match_differences(name: str) -> None:
    formula = COMPOSITIONS[name]
    x = placeholder("float64", (2, 3), name="x")
    (first,) = gradients(formula(x), [x])
    (second,) = gradients(first, [x])

    def value(at):
        return run([formula(x)], {x: at})[0]

    def slope(at):
        return run([first], {x: at})[0]

    np.testing.assert_allclose(slope(X), difference(value, X), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(run([second], {x: X})[0], difference(slope, X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("formula", "third"),
    [
        (lambda x: x**3, lambda v: 6.0 + 0 * v),
        (
            tanh,
            lambda v: (4 * np.tanh(v) ** 2 - 2 * (1 - np.tanh(v) ** 2)) * (1 - np.tanh(v) ** 2),
        ),
        (
            sigmoid,
            lambda v: (lambda s: s * (1 - s) * (1 - 6 * s + 6 * s * s))(1 / (1 + np.exp(-v))),
        ),
        (lambda x: exp(x * 2.0), lambda v: 8 * np.exp(2 * v)),
        (lambda x: 1.0 / x, lambda v: -6 / v**4),
    ],
    ids=["cube", "tanh", "sigmoid", "exp", "reciprocal"],
)
def test_third_derivatives(formula, third) -> None:
    x = placeholder("float64", (5,), name="x")
    found = formula(x)
    for _ in range(3):
        (found,) = gradients(found, [x])
    at = np.linspace(0.4, 1.6, 5)
    np.testing.assert_allclose(run([found], {x: at})[0], third(at), rtol=1e-9)


def test_two_seeds_weight_the_outputs() -> None:
    x = placeholder("float64", (3,), name="x")
    found = gradients([x * x, x * 3.0], [x], grad_ys=[np.array([1.0, 2.0, 3.0]), 10.0])
    assert run(found, {x: [1.0, 1.0, 1.0]})[0].tolist() == [32.0, 34.0, 36.0]


def test_several_ys_are_summed_and_repeated_xs_each_get_theirs() -> None:
    x = placeholder("float64", (), name="x")
    found = gradients([x * x, x], [x, x])
    assert [float(v) for v in run(found, {x: 3.0})] == [7.0, 7.0]


def test_a_y_that_is_an_x_has_gradient_one() -> None:
    x = placeholder("float64", (2,), name="x")
    y = x * 2.0
    found = gradients([y, y * y], [y])
    assert run(found, {x: [1.0, 2.0]})[0].tolist() == [1 + 4.0, 1 + 8.0]


@pytest.mark.parametrize(
    "inner",
    [
        lambda x: x * 1.0,
        identity,
        lambda x: reshape(x, (6,)),
        lambda x: transpose(x),
        lambda x: -x,
        lambda x: exp(x),
    ],
    ids=["times one", "identity", "reshape", "transpose", "negative", "exp"],
)
def test_an_inner_tensor_is_an_x_of_its_own(inner) -> None:
    """y also depends on x beside h; the gradient for h must leave that path out."""
    x = placeholder("float64", (2, 3), name="x")
    h = inner(x)
    y = reshape(h, (2, 3)) * 5.0 if h.shape != (3, 2) else transpose(h) * 5.0
    found = gradients(total(y + x * 2.0), [h, x])
    for_h, for_x = run(found, {x: X})
    assert np.all(for_h == 5.0)
    assert for_h.shape == h.shape
    assert not np.array_equal(for_x.ravel(), for_h.ravel())


@pytest.mark.parametrize(
    "inner",
    [lambda x: reshape(x, (2, 3)), lambda x: broadcast_to(x, (2, 3))],
    ids=["reshape", "broadcast"],
)
def test_an_inner_tensor_that_turns_out_to_be_its_input(inner) -> None:
    x = placeholder("float64", None, name="x")
    h = inner(x)
    assert h is not x
    y = total(h * 3.0 + x * x)
    found = gradients(y, [h, x])
    for_h, for_x = run(found, {x: X})
    assert np.all(for_h == 3.0)
    np.testing.assert_allclose(for_x, 3.0 + 2 * X)


def test_reshape_of_an_unknown_reshape_keeps_the_inner_one() -> None:
    x = placeholder("float64", None, name="x")
    h = reshape(x, (-1,))
    y = total(reshape(h, (2, 3)) * 2.0)
    assert run(gradients(y, [h]), {x: X})[0].tolist() == [2.0] * 6


def test_gradients_that_are_themselves_xs_stay_apart() -> None:
    """The gradient of a + b is one tensor for a and for b, until each is differentiated for."""
    a, b = (placeholder("float64", (2,), name=n) for n in "ab")
    for_a, for_b = gradients(total((a + b) * (a + b)), [a, b])
    found = gradients(total(for_a * 3.0 + for_b * 5.0), [for_a, for_b])
    values = run(found, {a: [1.0, 2.0], b: [0.0, 1.0]})
    assert [v.tolist() for v in values] == [[3.0, 3.0], [5.0, 5.0]]


def test_simplification_does_not_bypass_an_inner_x() -> None:
    x = placeholder("float64", (2,), name="x")
    h = -x
    y = total(-(x * 3.0) * h)
    (for_x,) = gradients(y, [x])
    (second,) = gradients(total(for_x * h), [h])
    at = np.array([1.0, 2.0])
    # for_x = -3 h + 3 x, as y = -3 x h with h = -x; d(for_x * h)/dh = -3 h + for_x
    np.testing.assert_allclose(run([second], {x: at})[0], 3 * at + 6 * at)


def test_unknown_rank_differentiates_at_each_rank() -> None:
    x = placeholder("float64", None, name="x")
    w = placeholder("float64", None, name="w")
    loss = total(tanh(matmul(x, w)))
    found = gradients(loss, [x, w])
    for left, right in [(X, W), (X[0], W), (X, W[:, 0]), (X[None], np.stack([W, W]))]:
        for_x, for_w = run(found, {x: left, w: right})

        def value_x(v, right=right):
            return np.tanh(v @ right)

        def value_w(v, left=left):
            return np.tanh(left @ v)

        np.testing.assert_allclose(for_x, difference(value_x, left), atol=1e-8)
        np.testing.assert_allclose(for_w, difference(value_w, right), atol=1e-8)


def test_symbolic_batch() -> None:
    x = placeholder("float64", ["batch", 3], name="x")
    w = Variable(W, name="w")
    (found,) = gradients(total(exp(x @ w)), [x])
    graph = optimise(Graph((found,)))
    assert str(graph.outputs[0].type) == "f64[batch,3]"


def test_gradient_nodes_stand_in_a_mirrored_scope() -> None:
    x = placeholder("float64", (2,), name="x")
    (found,) = gradients(total(exp(x) * 2.0), [x])
    graph = optimise(Graph((found,)))
    made = [node for node in graph.nodes if node.scope is not None]
    assert made
    assert all(node.scope.gradient and node.scope.path == "gradients" for node in made)
    assert all(node.where.file == __file__ for node in graph.nodes)


def test_many_uses_of_one_tensor_are_summed_pairwise() -> None:
    x = placeholder("float64", (), name="x")
    y = [x * float(k) for k in range(5000)]
    (found,) = gradients(y, [x])
    assert float(run([found], {x: 1.0})[0]) == sum(range(5000))


# ---------------------------------------------------------------------------- errors


def test_unconnected_says_that_nothing_depends() -> None:
    x, z = placeholder("float32", (2,), name="x"), placeholder("float32", (2,), name="z")
    with pytest.raises(GradientError, match=r'placeholder "z" .*does not depend on it'):
        gradients(x * 2.0, [x, z])


def test_unconnected_names_the_op_that_cuts() -> None:
    x = placeholder("float32", (2,), name="x")
    with pytest.raises(GradientError, match=r"cut by stop_gradient \(test_differentiate.py:\d+\)"):
        gradients(stop_gradient(x) * 2.0, [x])


def test_unconnected_zero() -> None:
    x, z = placeholder("float32", (2,), name="x"), placeholder("float32", (3,), name="z")
    found = gradients(x * 2.0, [x, z], unconnected="zero")
    assert [v.tolist() for v in run(found, {x: [1, 2], z: [1, 2, 3]})] == [[2.0, 2.0], [0.0] * 3]


def test_only_floats_have_gradients() -> None:
    k = placeholder("int32", (2,), name="k")
    with pytest.raises(DTypeError, match="only floats have gradients"):
        gradients(k * 2, [k])


def test_grad_wants_a_scalar() -> None:
    x = placeholder("float32", (2,), name="x")
    with pytest.raises(GradientError, match=re.escape("the cost must be a scalar, got f32[2]")):
        grad(x * 2.0, x)
    assert float(run([grad(total(x * x), x)], {x: [1.0, 2.0]})[0][1]) == 4.0


def test_gradient_of_a_constant() -> None:
    c = constant([1.0, 2.0])
    assert run(gradients(total(c * c), [c]))[0].tolist() == [2.0, 4.0]
