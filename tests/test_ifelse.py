"""ifelse: laziness, proved by counters; nesting; gradients through the side that is taken."""

from __future__ import annotations

import time

import numpy as np
import pytest

import graphc as g
from graphc.graph import Graph, nested
from graphc.ops.branch import BRANCH, ifelse
from graphc.ops.scan import scan
from graphc.ops.steps import until
from graphc.ops.while_loop import while_loop
from graphc.passes import deep, optimise
from graphc.passes.sink_branches import sink_branches
from tests.loop_support import Counter, agree, derivatives

# ---------------------------------------------------------------------------- values and forms


def test_values_and_forms(session):
    c, x = g.placeholder("bool", ()), g.placeholder("float32", [None])
    y = ifelse(c, {"a": x * 2.0, "b": [x, 1]}, lambda: {"a": x / 2.0, "b": [x + 1.0, 2]})
    X = np.array([1.0, 4.0], np.float32)
    taken, other = (session.run(y, {c: v, x: X}) for v in (True, False))
    np.testing.assert_array_equal(taken["a"], X * 2)
    np.testing.assert_array_equal(taken["b"][0], X)
    assert taken["b"][1] == 1
    np.testing.assert_array_equal(other["a"], X / 2)
    np.testing.assert_array_equal(other["b"][0], X + 1)
    assert other["b"][1] == 2


def test_dtypes_are_promoted_and_conditions_may_be_numbers(session):
    n = g.placeholder("int64", ())
    y = ifelse(n, n, 0.5)
    assert session.run(y, {n: 3}) == 3.0
    assert session.run(y, {n: 0}) == 0.5
    assert y.dtype is g.float32


@pytest.mark.parametrize(
    ("then", "otherwise", "text"),
    [
        (lambda: 1.0, lambda: [1.0], "one form"),
        (lambda: [1.0, 2.0], lambda: [1.0], "one form"),
        (lambda: {"a": 1.0}, lambda: {"b": 1.0}, "one form"),
        (lambda: g.zeros([2]), lambda: g.zeros([3]), "one shape"),
        (lambda: g.zeros([2]), lambda: g.zeros([2, 2]), "one shape"),
    ],
)
def test_sides_that_do_not_fit(then, otherwise, text):
    c = g.placeholder("bool", ())
    with pytest.raises(g.ShapeError, match=text):
        ifelse(c, then, otherwise)


def test_condition_must_be_a_scalar():
    with pytest.raises(g.ShapeError, match="must be a scalar"):
        ifelse(g.constant([True, False]), 1.0, 2.0)


def test_ranks_that_only_a_run_knows(session):
    c, x = g.placeholder("bool", ()), g.placeholder("float32", None)
    y = ifelse(c, x * 2.0, x - 1.0)
    for shape in ((), (3,), (2, 2)):
        X = np.full(shape, 3.0, np.float32)
        np.testing.assert_array_equal(session.run(y, {c: True, x: X}), X * 2)
        np.testing.assert_array_equal(session.run(y, {c: False, x: X}), X - 1)


# ---------------------------------------------------------------------------- laziness


def test_only_the_side_taken_runs(session):
    a, b, c = Counter(), Counter(), g.placeholder("bool", ())
    x = g.placeholder("float32", ())
    early = b(x * 3.0) + 1.0  # made before, and outside
    y = ifelse(c, lambda: a(x), early)
    assert session.run(y, {c: True, x: 2.0}) == 2.0
    assert (a.taken(), b.taken()) == (1, 0)
    assert session.run(y, {c: False, x: 2.0}) == 7.0
    assert (a.taken(), b.taken()) == (0, 1)


def test_what_both_sides_or_others_need_is_computed_once(session):
    shared, c = Counter(), g.placeholder("bool", ())
    x = g.placeholder("float32", ())
    s = shared(x)
    y = ifelse(c, s * 2.0, s * 3.0)
    assert session.run(y, {c: True, x: 2.0}) == 4.0
    assert shared.taken() == 1
    assert session.run([y, s], {c: False, x: 2.0}) == [6.0, 2.0]
    assert shared.taken() == 1
    only = ifelse(c, s * 2.0, 0.0)
    assert session.run([only, s], {c: False, x: 2.0}) == [0.0, 2.0]
    assert shared.taken() == 1
    assert session.run(only, {c: False, x: 2.0}) == 0.0
    assert shared.taken() == 0


def test_a_condition_that_reads_a_side_is_computed(session):
    counter, x = Counter(), g.placeholder("float32", ())
    s = counter(x)
    y = ifelse(s > 0.0, s, -1.0)
    assert session.run(y, {x: -3.0}) == -1.0
    assert counter.taken() == 1


def test_errors_of_the_side_not_taken_never_surface(session):
    c, i = g.placeholder("bool", ()), g.placeholder("int64", ())
    x = g.constant([1.0, 2.0, 3.0])
    broken = Counter("it must not run")
    y = ifelse(c, x[i], lambda: broken(x)[0])
    assert session.run(y, {c: True, i: 2}) == 3.0
    with pytest.raises(g.GraphcError, match="must not run"):
        session.run(y, {c: False, i: 2})
    z = ifelse(c, x[i], 0.0)
    assert session.run(z, {c: False, i: 99}) == 0.0
    with pytest.raises(g.ShapeError, match="out of range"):
        session.run(z, {c: True, i: 99})


def test_a_side_whose_sizes_do_not_fit_is_an_error_where_it_is_taken(session):
    n, x = g.placeholder("int64", ()), g.placeholder("float32", [None])
    y = scan(lambda i: ifelse(i > 2, x[7], i * 1.0), g.arange(n))
    np.testing.assert_array_equal(session.run(y, {n: 3, x: [5.0]}), [0.0, 1.0, 2.0])
    with pytest.raises(g.ShapeError, match="index 7 is out of range for axis 0"):
        session.run(y, {n: 4, x: [5.0]})
    np.testing.assert_array_equal(session.run(y, {n: 4, x: np.arange(9.0)}), [0.0, 1.0, 2.0, 7.0])


def test_nested_branches_are_lazy(session):
    counters = [Counter() for _ in range(4)]
    a, b = g.placeholder("bool", ()), g.placeholder("bool", ())
    x = g.placeholder("float32", ())
    leaves = [counter(x) + float(k) for k, counter in enumerate(counters)]
    common = Counter()
    first = ifelse(b, leaves[0] + common(x), leaves[1] + common(x))
    y = ifelse(a, first, lambda: ifelse(b, leaves[2], leaves[3]))
    for k, (one, other) in enumerate([(1, 1), (1, 0), (0, 1), (0, 0)]):
        got = session.run(y, {a: bool(one), b: bool(other), x: 5.0})
        assert got == 5.0 + k + 5.0 * one
        assert [counter.taken() for counter in counters] == [int(j == k) for j in range(4)]
        assert common.taken() == one


def test_a_node_between_two_branches_of_one_side_stays_in_that_side(session):
    counter, a, b = Counter(), g.placeholder("bool", ()), g.placeholder("bool", ())
    x = g.placeholder("float32", ())
    s = counter(x)
    y = ifelse(a, ifelse(b, s, 1.0) + ifelse(b, 2.0, s * 2.0), 0.0)
    assert session.run(y, {a: False, b: True, x: 3.0}) == 0.0
    assert counter.taken() == 0
    assert session.run(y, {a: True, b: True, x: 3.0}) == 5.0
    assert counter.taken() == 1


def test_lazy_in_a_body_whatever_was_made_outside(session):
    inside, outside = Counter(), Counter()
    x, w = g.placeholder("float32", [None]), g.placeholder("float32", ())
    heavy = outside(g.sqrt(w))  # no step changes it
    y = scan(lambda t: ifelse(t > 0.0, lambda: inside(t) * heavy, 0.0), x)
    np.testing.assert_allclose(session.run(y, {x: [-1.0, -2.0], w: 4.0}), [0.0, 0.0])
    assert (inside.taken(), outside.taken()) == (0, 0)
    np.testing.assert_allclose(session.run(y, {x: [-1.0, 3.0, -2.0], w: 4.0}), [0.0, 6.0, 0.0])
    assert (inside.taken(), outside.taken()) == (1, 1)


def test_lazy_in_nested_bodies(session):
    counter = Counter()
    x, w = g.placeholder("float32", [None, 2]), g.placeholder("float32", ())
    heavy = counter(w)

    def cell(t):
        return ifelse(t > 0.0, lambda: heavy * t, 0.0)

    y = scan(lambda row: scan(cell, row), x)
    session.run(y, {x: np.full((3, 2), -1.0), w: 1.0})
    assert counter.taken() == 0
    X = np.full((3, 2), -1.0)
    X[2, 1] = 2.0
    expected = np.where(X > 0, 3 * X, 0)
    np.testing.assert_allclose(session.run(y, {x: X, w: 3.0}), expected)
    assert counter.taken() == 1


def test_a_loop_in_a_side(session):
    counter, c = Counter(), g.placeholder("bool", ())
    x = g.placeholder("float32", [None])
    total = scan(lambda t, s: counter(s + t), x, g.constant(0.0))
    y = ifelse(c, total[-1], lambda: while_loop(lambda v: v < 50.0, lambda v: v * 2.0, x[0]))
    assert session.run(y, {c: False, x: [3.0, 4.0]}) == 96.0
    assert counter.taken() == 0
    assert session.run(y, {c: True, x: [3.0, 4.0]}) == 7.0
    assert counter.taken() == 2


def test_a_loop_whose_length_is_data_in_a_side(session):
    c, x = g.placeholder("bool", ()), g.placeholder("float32", ())
    powers = scan(lambda v: (v * 2.0, until(v > 10.0)), None, x, n_steps=50)
    y = ifelse(c, g.sum(powers), 0.0)
    assert session.run(y, {c: True, x: 3.0}) == 6 + 12 + 24
    assert session.run(y, {c: False, x: 3.0}) == 0.0


def test_variables_and_random_numbers_in_sides(session):
    c, v = g.placeholder("bool", ()), g.Variable(np.float32(3.0))
    noise = g.random.normal([4], name="noise")
    y = ifelse(c, v * 2.0 + noise, g.zeros([4]))
    np.testing.assert_array_equal(session.run(y, {c: False}), np.zeros(4))
    first, second = session.run(y, {c: True}), session.run(y, {c: True})
    assert np.abs(first - second).max() > 0
    step = g.assign(v, ifelse(c, v + 1.0, v))
    session.run(step, {c: False})
    assert session.get(v) == 3.0
    session.run(step, {c: True})
    assert session.get(v) == 4.0


def test_the_same_numbers_inside_and_outside(session):
    noise = g.random.normal([4], name="noise")
    c = g.placeholder("bool", ())
    y = ifelse(c, noise, g.zeros([4]))
    alone = g.Session(device=session.device, seed=3).run(noise)
    np.testing.assert_array_equal(g.Session(device=session.device, seed=3).run(y, {c: True}), alone)


def test_fetching_what_is_in_a_side(session):
    c, x = g.placeholder("bool", ()), g.placeholder("float32", ())
    side = x * 2.0
    y = ifelse(c, side + 1.0, 0.0)
    assert session.run([y, side], {c: False, x: 2.0}) == [0.0, 4.0]


# ---------------------------------------------------------------------------- gradients


def test_gradients_flow_through_the_side_taken(session):
    c, x, w = (g.placeholder(dtype, ()) for dtype in ("bool", "float32", "float32"))
    y = ifelse(c, x * x * w, g.sin(x))
    grads = g.gradients(y, [x, w])
    assert session.run(grads, {c: True, x: 3.0, w: 2.0}) == [12.0, 9.0]
    got = session.run(grads, {c: False, x: 3.0, w: 2.0})
    np.testing.assert_allclose(got, [np.cos(3.0), 0.0], rtol=1e-6)


def test_the_backward_pass_of_the_side_not_taken_does_not_run(session):
    counter, c, x = Counter(), g.placeholder("bool", ()), g.placeholder("float32", ())
    heavy = counter(x * x)
    y = ifelse(c, heavy * heavy, x)
    grad = g.gradients(y, [x])[0]
    assert session.run(grad, {c: False, x: 3.0}) == 1.0
    assert counter.taken() == 0
    assert session.run(grad, {c: True, x: 3.0}) == 4 * 27.0


@pytest.mark.parametrize("taken", [True, False])
def test_gradients_of_gradients(session, taken):
    c, x = g.placeholder("bool", ()), g.placeholder("float32", [3])
    one, other = g.sum(g.tanh(x) ** 3), g.sum(g.exp(x) * x[::-1])
    y = ifelse(c, one * x[0], other)
    plain = one * x[0] if taken else other
    feeds = {c: taken, x: np.array([0.3, -0.5, 0.9], np.float32)}
    agree(session, derivatives(y, [x]), derivatives(plain, [x]), feeds)


@pytest.mark.parametrize("taken", [(a, b) for a in (True, False) for b in (True, False)])
def test_gradients_through_nested_branches(session, taken):
    a, b = g.placeholder("bool", ()), g.placeholder("bool", ())
    x = g.placeholder("float32", [2])
    s = g.tanh(x)

    def choose(pick):
        inner = pick(b, lambda: g.sum(s * s), lambda: g.sum(s) * x[0])
        return pick(a, lambda: inner * g.sum(x), lambda: g.prod(s) + inner)

    values = {a: taken[0], b: taken[1]}
    plain = choose(lambda c, then, otherwise: then() if values[c] else otherwise())
    feeds = {**values, x: np.array([0.4, -0.7], np.float32)}
    agree(session, derivatives(choose(ifelse), [x]), derivatives(plain, [x]), feeds)


def test_a_gradient_taken_for_a_tensor_that_one_side_needs(session):
    c, x = g.placeholder("bool", ()), g.placeholder("float32", ())
    m = x * x
    y = ifelse(c, m * m, 1.0)
    assert session.run(g.gradients(y, [m, x]), {c: True, x: 2.0}) == [8.0, 32.0]
    assert session.run(g.gradients(y, [m, x]), {c: False, x: 2.0}) == [0.0, 0.0]


def test_a_gradient_in_a_side(session):
    counter, c, x = Counter(), g.placeholder("bool", ()), g.placeholder("float32", ())
    slope = g.gradients(counter(x * x * x), [x])[0]
    y = ifelse(c, slope, x)
    assert session.run(y, {c: True, x: 2.0}) == 12.0
    assert session.run(g.gradients(y, [x]), {c: True, x: 2.0}) == [12.0]
    counter.taken()
    assert session.run(g.gradients(y, [x]), {c: False, x: 2.0}) == [1.0]
    assert counter.taken() == 0


@pytest.mark.parametrize("where_made", ["outside", "inside"])
def test_gradients_through_branches_in_a_loop(session, where_made):
    x, w = g.placeholder("float32", [None]), g.placeholder("float32", ())
    root = g.sqrt(w)

    def step(t, h):
        factor = root if where_made == "outside" else g.sqrt(w)
        return ifelse(t > 0.0, lambda: h * factor + t, lambda: h - t * t)

    X = np.array([1.0, -2.0, 3.0, -1.0], np.float32)
    h = g.constant(0.5)
    for k, value in enumerate(X):
        h = h * g.sqrt(w) + x[k] if value > 0 else h - x[k] * x[k]
    looped = scan(step, x, g.constant(0.5))[-1]
    agree(session, derivatives(looped, [x, w]), derivatives(h, [x, w]), {x: X, w: 2.0})
    never = session.run(g.gradients(looped, [w])[0], {x: -np.abs(X), w: 0.0})
    assert never == 0.0  # not NaN, though sqrt has no slope there


# ---------------------------------------------------------------------------- the pass


def test_a_constant_condition_is_decided_before_a_run():
    x = g.placeholder("float32", ())
    y = ifelse(g.constant(3.0) > 2.0, lambda: ifelse(g.constant(False), x, x * 2.0), x / 0.0)
    graph = optimise(Graph((y,), (), (x,)))
    assert [node.op.name for node in graph.nodes if node.op.family != "source"] == ["multiply"]


def test_one_side_of_many(session):
    """A chain of branches, each over the one before it."""
    c, x = g.placeholder("int64", ()), g.placeholder("float32", ())
    counters = [Counter() for _ in range(8)]
    y = g.constant(-1.0)
    for k, counter in enumerate(counters):
        y = ifelse(g.equal(c, k), lambda k=k, counter=counter: counter(x) + float(k), y)
    assert session.run(y, {c: 5, x: 10.0}) == 15.0
    assert [counter.taken() for counter in counters] == [int(k == 5) for k in range(8)]


def _seconds(branches: int, between: int) -> float:
    c, x = g.placeholder("bool", ()), g.placeholder("float32", [4])
    y = x
    for _ in range(branches):
        one, other = y, y
        for _ in range(between):
            one, other = g.sin(one), g.cos(other)
        y = ifelse(c, one, other)
    graph = Graph((y,), (), (c, x))
    start = time.perf_counter()
    sunk = sink_branches(graph)
    assert sum(node.op is BRANCH for node in nested(sunk)) == branches
    assert len(sunk.nodes) <= 2 * branches + 2
    return time.perf_counter() - start


def test_ten_thousand_nodes_and_two_hundred_branches_take_no_time():
    assert min(_seconds(200, 25) for _ in range(2)) < 1.5


def test_deep_nesting_takes_no_time():
    c, x = g.placeholder("bool", ()), g.placeholder("float32", ())
    y = x
    for _ in range(60):
        y = ifelse(c, g.sin(y), x)
    start = time.perf_counter()
    graph = sink_branches(Graph((y,), (), (c, x)))
    assert time.perf_counter() - start < 1.0
    assert [node.op for node in graph.nodes] == [BRANCH]
    assert sum(node.op is BRANCH for node in nested(deep(sink_branches, graph))) == 60
