"""Every rule of the table: text in, text out; accuracy over the whole range; finite gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from graphc.build import make
from graphc.graph import Graph, Tensor
from graphc.ops import OPS
from graphc.ops.broadcast import broadcast_to, cast
from graphc.ops.broadcast import sum as total
from graphc.ops.control import identity, stop_gradient
from graphc.ops.elementary import exp, expm1, log, log1p, sigmoid, softplus
from graphc.ops.gradient import gradients
from graphc.ops.moments import logsumexp
from graphc.ops.powers import sqrt
from graphc.ops.reduce import max as largest
from graphc.ops.shape import reshape, transpose
from graphc.ops.softmax import log_softmax, softmax
from graphc.ops.source import constant, placeholder
from graphc.passes import PIPELINE, optimise
from graphc.passes.stabilise import CONSEQUENCES, RULES, stabilise, stabilised
from tests.passes_support import apply, run

PAGE = Path(__file__).parent.parent / "docs" / "stabilise.md"
Formula = Callable[[Tensor], Tensor]


def by_hand(x: Tensor, shift: bool = True) -> Tensor:
    if shift:
        x = x - largest(x, axis=1, keepdims=True)
    e = exp(x)
    return e / total(e, axis=1, keepdims=True)


# rule, formula, what the listing must hold, what it must not hold
FORMS: list[tuple[str, Formula, str, str]] = [
    ("log_softmax", lambda x: log(softmax(x)), "log_softmax %x axis=1", "= log "),
    ("log_softmax", lambda x: log(by_hand(x, False)), "log_softmax %x axis=1", "= log "),
    ("logsumexp", lambda x: log(total(exp(x), axis=0)), "logsumexp %x axis=(0)", "= log "),
    ("log_exp", lambda x: log(exp(x)), "return %x", "log"),
    ("log_sigmoid", lambda x: log(sigmoid(x)), "softplus", "= log "),
    ("softplus", lambda x: log(1.0 + exp(x)), "softplus %x", "= log "),
    ("softplus", lambda x: log(exp(x) + 1.0), "softplus %x", "= log "),
    ("log1p", lambda x: log(1.0 + x), "log1p %x", "= log "),
    ("log1p", lambda x: log(1.0 - x), "log1p", "= log "),
    ("softplus_log1p", lambda x: log1p(exp(x)), "softplus %x", "log1p"),
    ("log1p_sigmoid", lambda x: log1p(-sigmoid(x)), "softplus %x", "log1p"),
    ("exp_log_softmax", lambda x: exp(log_softmax(x)), "softmax %x axis=1", "= exp "),
    ("softmax", lambda x: by_hand(x, False), "softmax %x axis=1", "= exp "),
    ("softmax", lambda x: by_hand(x, True), "softmax %x axis=1", "= exp "),
    ("softmax", lambda x: exp(x) / total(exp(x), axis=0), "softmax %x axis=0", "= exp "),
    (
        "softmax",
        lambda x: exp(x) / reshape(total(exp(x), axis=1), (2, 1)),
        "softmax %x axis=1",
        "= exp ",
    ),
    (
        "softmax",
        lambda x: (lambda e: e / total(e, axis=1, keepdims=True))(
            exp(x - stop_gradient(largest(x, axis=1, keepdims=True)))
        ),
        "softmax %x axis=1",
        "= exp ",
    ),
    ("sigmoid", lambda x: 1.0 / (1.0 + exp(-x)), "sigmoid %x", "= exp "),
    ("sigmoid", lambda x: 1.0 / (exp(x) + 1.0), "sigmoid", "= exp "),
    ("sigmoid", lambda x: exp(x) / (1.0 + exp(x)), "sigmoid %x", "= exp "),
    ("tanh", lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)), "tanh %x", "= exp "),
    ("tanh", lambda x: (exp(x) - 1.0) / (exp(x) + 1.0), "tanh", "= exp "),
    ("exp_quotient", lambda x: exp(x) / exp(x), "subtract %x %x", "divide"),
    ("one_minus_sigmoid", lambda x: 1.0 - sigmoid(x), "sigmoid", "subtract"),
    ("expm1", lambda x: exp(x) - 1.0, "expm1 %x", "= exp "),
    ("expm1", lambda x: exp(x) + -1.0, "expm1 %x", "= exp "),
    ("minus_softplus", lambda x: x - softplus(x), "softplus", "subtract"),
    (
        "minus_logsumexp",
        lambda x: x - logsumexp(x, axis=1, keepdims=True),
        "log_softmax %x axis=1",
        "logsumexp",
    ),
    ("absolute", lambda x: sqrt(x * x), "absolute %x", "sqrt"),
    ("absolute", lambda x: sqrt(x**2), "absolute %x", "sqrt"),
    ("absolute", lambda x: sqrt(make(OPS["square"], (x,))), "absolute %x", "sqrt"),
]
IDS = [f"{rule}-{k}" for k, (rule, *_) in enumerate(FORMS)]


def x32() -> Tensor:
    return placeholder("float32", (2, 3), name="x")


@pytest.mark.parametrize(("rule", "formula", "holds", "lacks"), FORMS, ids=IDS)
def test_rule_fires(rule: str, formula: Formula, holds: str, lacks: str) -> None:
    y = formula(x32())
    _, fired = stabilised(Graph((y,)))
    assert rule in [f.rule for f in fired]
    assert all(f.where.file == __file__ for f in fired)
    text = apply(stabilise, y)
    assert holds in text and lacks not in text, text


def test_every_rule_has_a_form() -> None:
    assert {rule for rule, *_ in FORMS} == {row.name for row in RULES}


@pytest.mark.parametrize(("rule", "formula"), [(r, f) for r, f, *_ in FORMS], ids=IDS)
def test_same_function_where_both_are_fine(rule: str, formula: Formula) -> None:
    x = placeholder("float64", (2, 3), name="x")
    y = formula(x)
    first, second = gradients(y, [x]), gradients(gradients(y, [x]), [x])
    at = np.array([[0.5, 0.125, 0.75], [0.25, 0.625, 0.3]])
    plain = tuple(p for p in PIPELINE if p is not stabilise)
    for a, b in zip(
        run([y, *first, *second], {x: at}, pipeline=plain),
        run([y, *first, *second], {x: at}),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------------------- in between


BETWEEN: dict[str, Formula] = {
    "nothing": lambda p: p,
    "reshape": lambda p: reshape(p, (3, 2)),
    "transpose": transpose,
    "slice": lambda p: p[:, 1:],
    "row": lambda p: p[0],
    "new axis": lambda p: p[:, None],
    "gather": lambda p: p[np.array([0, 1]), np.array([2, 0])],
    "broadcast": lambda p: broadcast_to(p, (4, 2, 3)),
    "identity": identity,
    "wider": lambda p: cast(p, "float64"),
    "several": lambda p: transpose(reshape(p, (3, 2))[1:])[::-1],
}
INNER: dict[str, Formula] = {
    "softmax": softmax,
    "softmax by hand": by_hand,
    "sigmoid": sigmoid,
    "one minus sigmoid": lambda x: 1.0 - sigmoid(x),
    "sum of exponentials": lambda x: broadcast_to(total(exp(x), axis=1, keepdims=True), (2, 3)),
    "one plus exponential": lambda x: 1.0 + exp(x),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("inner", INNER)
def test_logarithms_and_gradients_are_finite(inner: str, between: str) -> None:
    x = x32()
    y = log(BETWEEN[between](INNER[inner](x)))
    at = np.array([[1e4, -1e4, 0.0], [-1e4, -9e3, 50.0]], np.float32)
    found = run([y, *gradients(y, [x]), *gradients(y * y, [x])], {x: at})
    assert all(np.isfinite(v).all() for v in found), found
    exact = placeholder("float64", (2, 3), name="x")
    (wide,) = run([log(BETWEEN[between](INNER[inner](exact)))], {exact: at})
    np.testing.assert_allclose(found[0], wide, rtol=1e-6, atol=1e-30)


def test_narrowing_between_rounds_once() -> None:
    x = placeholder("float64", (2, 3), name="x")
    y = log(cast(softmax(x), "float32"))
    (value,) = run([y], {x: [[0.0, -500.0, 1.0], [0.0, 0.0, 0.0]]})
    assert value.dtype == np.float32
    np.testing.assert_allclose(value[0, 1], -501.3132616875182, rtol=1e-7)


def test_symbolic_and_unknown_shapes() -> None:
    for shape in (["batch", 3], None):
        x = placeholder("float32", shape, name="x")
        p = softmax(x, axis=1)
        y = log(reshape(p, (-1,)))
        value, slope = run([y, *gradients(y, [x])], {x: [[0.0, 1e4, -1e4]]})
        assert value.tolist() == [-1e4, 0.0, -2e4]
        assert np.isfinite(slope).all()


# ---------------------------------------------------------------------------- where it must not


def test_not_through_a_tensor_that_gradients_are_taken_for() -> None:
    x = placeholder("float64", (2, 3), name="x")
    for inner, derivative in (
        (softmax, lambda p: 1 / p),
        (sigmoid, lambda p: 1 / p),
        (exp, lambda p: 1 / p),
        (lambda t: total(exp(t), axis=1), lambda p: 1 / p),
    ):
        h = inner(x)
        y = log(h)
        at = np.array([[0.1, 0.2, 0.3], [0.5, 0.4, 0.3]])
        value, found = run([h, *gradients(y, [h])], {x: at})
        np.testing.assert_allclose(found, derivative(value))


def test_a_gradient_for_the_result_itself() -> None:
    x = placeholder("float64", (2, 3), name="x")
    for outer in (lambda t: log(softmax(t)), lambda t: log(exp(t))):
        y = outer(x)
        found = gradients(total(y * y + x), [y])
        at = np.zeros((2, 3)) + 0.5
        value, slope = run([y, *found], {x: at})
        np.testing.assert_allclose(slope, 2 * value)


def test_stop_gradient_stops() -> None:
    x = x32()
    y = log(stop_gradient(softmax(x))) + x
    (slope,) = run(gradients(y, [x]), {x: np.ones((2, 3))})
    assert slope.tolist() == [[1.0] * 3] * 2


def test_fetched_inner_tensors_are_what_they_were() -> None:
    x = x32()
    p = softmax(x)
    at = np.array([[0.0, 200.0, 1.0], [1.0, 2.0, 3.0]], np.float32)
    probability, logarithm = run([p, log(p)], {x: at})
    assert probability[0, 0] == 0.0 and logarithm[0, 0] == -200.0


LEFT_ALONE: dict[str, Formula] = {
    "sum of other exponentials": lambda x: exp(x) / total(exp(x * 2.0), axis=1, keepdims=True),
    "sum over all": lambda x: exp(x) / total(exp(x)),
    "two plus": lambda x: log(2.0 + x),
    "an offset": lambda x: log(softmax(x) + 1e-7),
    "padding is no view": lambda x: log(OPS["concatenate"].build(softmax(x), softmax(x), axis=0)),
    "different roots": lambda x: sqrt(x * (x + 1.0)),
    "expm1 of another": lambda x: expm1(x) / (exp(x * 2.0) + 1.0),
    "quotient": lambda x: x / x,
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_only_looks_alike_is_left_alone(name: str) -> None:
    graph = Graph((LEFT_ALONE[name](x32()),))
    assert stabilise(graph) is graph


# ---------------------------------------------------------------------------- cross entropies


def test_binary_crossentropy_from_probabilities() -> None:
    x, t = placeholder("float32", (6,), name="x"), placeholder("float32", (6,), name="t")
    p = sigmoid(x)
    loss = -(t * log(p) + (1.0 - t) * log(1.0 - p))
    at = np.array([1e4, -1e4, 1e4, -1e4, 20.0, -3.0], np.float32)
    target = np.array([1, 0, 0, 1, 0.25, 0.5], np.float32)
    value, slope = run([loss, *gradients(loss, [x])], {x: at, t: target})
    wide, soft = at.astype(np.float64), np.logaddexp(0, at.astype(np.float64))
    np.testing.assert_allclose(value, soft - target * wide, rtol=1e-6)
    np.testing.assert_allclose(slope, (1 + np.tanh(wide / 2)) / 2 - target, rtol=1e-6, atol=1e-7)


def test_categorical_crossentropy_from_probabilities() -> None:
    x, t = x32(), placeholder("float32", (2, 3), name="t")
    loss = -total(t * log(softmax(x)), axis=-1)
    at = np.array([[1e4, -1e4, 0.0], [1.0, 2.0, 3.0]], np.float32)
    target = np.array([[0, 1, 0], [0.5, 0.5, 0]], np.float32)
    value, slope = run([loss, *gradients(loss, [x])], {x: at, t: target})
    assert value[0] == 2e4
    np.testing.assert_allclose(value[1], 1.9076059644443806, rtol=1e-6)
    np.testing.assert_allclose(slope[0], [1.0, -1.0, 0.0], rtol=1e-6)


# ---------------------------------------------------------------------------- accuracy


def ulps(got: Any, exact: list[Any]) -> float:
    """The largest error, in units of the last place of the exact value."""
    worst = 0.0
    for g, e in zip(np.asarray(got).ravel(), exact, strict=True):
        nearest = np.float32(float(e))
        if not np.isfinite(nearest):
            assert g == nearest
            continue
        unit = max(float(np.spacing(np.abs(nearest))), float(np.finfo(np.float32).tiny) * 2.0**-23)
        worst = max(worst, float(abs(mpmath.mpf(float(g)) - e)) / unit)
    return worst


def wide_range(low: float, high: float) -> Any:
    """Magnitudes of all scales, both signs, inside an interval."""
    scales = np.concatenate([10.0 ** np.linspace(-30, 4, 120), np.linspace(0.01, 120, 150)])
    both = np.concatenate([-scales, [0.0], scales]).astype(np.float32)
    return both[(both >= low) & (both <= high)]


def _sigmoid(v: Any) -> Any:
    return 1 / (1 + mpmath.exp(-v))


ELEMENTWISE: list[tuple[Formula, Callable[[Any], Any], float, float]] = [
    (lambda x: log(1.0 + x), mpmath.log1p, -0.99, 1e4),
    (lambda x: log(1.0 - x), lambda v: mpmath.log1p(-v), -1e4, 0.99),
    (lambda x: log(1.0 + exp(x)), lambda v: mpmath.log1p(mpmath.exp(v)), -100, 1e4),
    (lambda x: log1p(exp(x)), lambda v: mpmath.log1p(mpmath.exp(v)), -100, 1e4),
    (lambda x: log(sigmoid(x)), lambda v: -mpmath.log1p(mpmath.exp(-v)), -1e4, 80),
    (lambda x: log(1.0 - sigmoid(x)), lambda v: -mpmath.log1p(mpmath.exp(v)), -80, 1e4),
    (lambda x: log1p(-sigmoid(x)), lambda v: -mpmath.log1p(mpmath.exp(v)), -80, 1e4),
    (lambda x: 1.0 / (1.0 + exp(-x)), _sigmoid, -80, 1e4),
    (lambda x: exp(x) / (1.0 + exp(x)), _sigmoid, -80, 1e4),
    (lambda x: 1.0 - sigmoid(x), lambda v: _sigmoid(-v), -1e4, 80),
    (lambda x: exp(x) - 1.0, mpmath.expm1, -1e4, 80),
    (lambda x: x - softplus(x), lambda v: -mpmath.log1p(mpmath.exp(-v)), -1e4, 80),
    (lambda x: sqrt(x * x), abs, -1e4, 1e4),
    (lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)), mpmath.tanh, -1e4, 1e4),
    (lambda x: (exp(x) - 1.0) / (exp(x) + 1.0), lambda v: mpmath.tanh(v / 2), -1e4, 1e4),
    (lambda x: log(exp(x)), lambda v: v, -1e4, 1e4),
]


@pytest.mark.parametrize("row", range(len(ELEMENTWISE)))
def test_elementwise_rules_within_four_ulps(row: int) -> None:
    formula, exact, low, high = ELEMENTWISE[row]
    at = wide_range(low, high)
    x = placeholder("float32", at.shape, name="x")
    with mpmath.workdps(60):
        expected = [exact(mpmath.mpf(float(v))) for v in at]
        assert ulps(run([formula(x)], {x: at})[0], expected) <= 4


@pytest.mark.parametrize("row", range(len(ELEMENTWISE)))
def test_elementwise_gradients_are_finite(row: int) -> None:
    formula, _, low, high = ELEMENTWISE[row]
    at = wide_range(low, high)
    x = placeholder("float32", at.shape, name="x")
    y = formula(x)
    (first,) = gradients(y, [x])
    found = run([first, *gradients(first, [x])], {x: at})
    assert all(np.isfinite(v).all() for v in found)


def test_quotient_of_exponentials() -> None:
    pairs = np.array(list(itertools.product(np.linspace(-60, 140, 21), repeat=2)), np.float32)
    pairs = pairs[np.abs(pairs[:, 0] - pairs[:, 1]) < 80]
    x, y = (placeholder("float32", (len(pairs),), name=n) for n in "xy")
    (value,) = run([exp(x) / exp(y)], {x: pairs[:, 0], y: pairs[:, 1]})
    gap = pairs[:, 0].astype(np.float64) - pairs[:, 1].astype(np.float64)
    error = np.abs(value - np.exp(gap)) / np.spacing(np.exp(gap).astype(np.float32))
    assert np.all(error <= 2 + np.abs(gap) / 2)


ROWWISE: list[tuple[Formula, Callable[[Any], Any]]] = [
    (lambda x: log(softmax(x)), lambda v: v - np.logaddexp.reduce(v, axis=1, keepdims=True)),
    (lambda x: log(by_hand(x)), lambda v: v - np.logaddexp.reduce(v, axis=1, keepdims=True)),
    (
        lambda x: x - logsumexp(x, axis=1, keepdims=True),
        lambda v: v - np.logaddexp.reduce(v, axis=1, keepdims=True),
    ),
    (lambda x: log(total(exp(x), axis=1)), lambda v: np.logaddexp.reduce(v, axis=1)),
]


@pytest.mark.parametrize("row", range(len(ROWWISE)))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e3, 1e4])
def test_rowwise_rules_within_a_millionth(row: int, scale: float) -> None:
    formula, exact = ROWWISE[row]
    at = (np.random.default_rng(row).uniform(-1, 1, (50, 7)) * scale).astype(np.float32)
    x = placeholder("float32", (50, 7), name="x")
    y = formula(x)
    value, slope = run([y, *gradients(y, [x])], {x: at})
    wide = exact(at.astype(np.longdouble))
    np.testing.assert_allclose(value, wide.astype(np.float64), rtol=1e-6, atol=1.2e-7)
    assert np.isfinite(slope).all()


# ---------------------------------------------------------------------------- the page


def page() -> str:
    """`docs/stabilise.md`, as the table says it."""
    lines = [
        "# What `stabilise` rewrites",
        "",
        "The pass replaces formulas that overflow or cancel by forms that do neither, before",
        "gradients are taken. It looks through views, indexing and casts below a logarithm, and",
        "never through a tensor that gradients are taken for. Errors are against the exact value",
        "of the formula, in float32, and are measured by `tests/test_stabilise.py`, which also",
        "holds this page against the code. `GRAPHC_SKIP=stabilise` switches the pass off.",
        "",
        "| rule | written | computed as | accuracy |",
        "|---|---|---|---|",
    ]
    lines += [f"| {r.name} | `{r.before}` | `{r.after}` | {r.accuracy} |" for r in RULES]
    lines += ["", "What follows from these:", "", "| written | computed as |", "|---|---|"]
    lines += [f"| `{before}` | `{after}` |" for before, after in CONSEQUENCES]
    return "\n".join(lines) + "\n"


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_constants_do_not_stand_in_the_way() -> None:
    y = log(softmax(constant([[0.0, 1e4]])))
    assert run([y])[0].tolist() == [[-1e4, 0.0]]


@pytest.mark.parametrize("formula", [by_hand, lambda x: exp(log_softmax(x))])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
def test_softmax_within_its_bound(formula: Formula, scale: float) -> None:
    at = (np.random.default_rng(1).uniform(-1, 1, (50, 7)) * scale).astype(np.float32)
    x = placeholder("float32", (50, 7), name="x")
    (value,) = run([formula(x)], {x: at})
    below = at.astype(np.float64) - at.max(axis=1, keepdims=True)
    exact = np.exp(below) / np.exp(below).sum(axis=1, keepdims=True)
    error = np.abs(value - exact) / np.spacing(exact.astype(np.float32))
    assert np.all(error <= 4 - below)


def test_many_slices_of_one_softmax_are_differentiated_once() -> None:
    x = placeholder("float32", (20, 3), name="x")
    p = softmax(x)
    loss = sum((total(log(p[k])) for k in range(1, 20)), start=log(p[0, 0]))
    graph = optimise(Graph(tuple(gradients(loss, [x]))))
    assert sum(node.op.name == "softmax" for node in graph.nodes) <= 1
    assert sum(node.op.name in ("exp", "log_softmax") for node in graph.nodes) <= 2
