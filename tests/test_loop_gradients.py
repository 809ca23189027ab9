"""Gradients through loops against the unrolled graph: of first and second order, truncated, and
with checkpoints.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as g
from graphc.dims import Dim, evaluate
from graphc.graph import Graph, nested
from graphc.ops.branch import ifelse
from graphc.ops.loop import LOOP
from graphc.ops.scan import scan
from graphc.ops.steps import until
from graphc.ops.while_loop import while_loop
from graphc.passes import optimise
from graphc.passes.segment_loops import segment_length, segment_loops
from tests.control_support import DEVICES
from tests.loop_support import agree, derivatives

LENGTHS = (0, 1, 2, 7)


class Model:
    """A recurrent step with two states, one of them two steps deep, and two sequences with taps."""

    def __init__(self, length):
        self.x = g.placeholder("float32", [length, 3], name="x")
        self.u = g.placeholder("float32", [None, 3], name="u")
        self.w = g.placeholder("float32", [3, 3], name="w")
        self.h = g.placeholder("float32", [3], name="h")
        self.k = g.placeholder("float32", [2], name="k")
        self.of = [self.x, self.u, self.w, self.h, self.k]

    def step(self, x, before, u, h, k1, k2):
        """The next two states."""
        after = g.tanh(h @ self.w + x + 0.3 * before * k2)
        return after * 0.9, g.sin(k1 + g.sum(u * after)) * 0.5 + k2 * 0.2

    def looped(self, steps, **kwargs):
        """A scalar of all outputs and of the last ones."""
        hs, ks = self._scan(steps, **kwargs)
        return self.score(hs, ks)

    def _scan(self, steps, **kwargs):
        def step(x, before, u, h, k1, k2):
            return list(self.step(x, before, u, h, k1, k2))

        return scan(
            step,
            [self.x, {"input": self.u, "taps": [-1, 0]}],
            [self.h, {"initial": self.k, "taps": [-1, -2]}],
            n_steps=steps, **kwargs,
        )  # fmt: skip

    def score(self, hs, ks):
        """Every output counts, each step's by a weight of its own."""
        weights = g.arange(g.shape(ks)[0]).astype("float32") * 0.1 + 1.0
        return g.sum(g.sum(hs * hs, axis=1) * weights) + g.sum(g.cos(ks) * weights)

    def unrolled(self, steps, kept=None):
        """The same by hand; gradients flow through the last `kept` steps."""
        h, k1, k2 = self.h, self.k[1], self.k[0]
        total = g.constant(0.0)
        for t in range(steps):
            h, k1, k2 = *self.step(self.x[t], self.u[t], self.u[t + 1], h, k1, k2), k1
            weight = np.float32(0.1) * np.float32(t) + np.float32(1.0)
            part = (g.sum(h * h) + g.cos(k1)) * weight
            if kept is not None and t < steps - kept:
                h, k1, k2, part = map(g.stop_gradient, (h, k1, k2, part))
            total = total + part
        return total

    def feeds(self, steps, seed=0):
        """Some values."""
        draw = np.random.default_rng(seed).normal
        shapes = (steps, 3), (steps + 1, 3), (3, 3), (3,), (2,)
        return {
            t: draw(size=s).astype(np.float32) * 0.5 for t, s in zip(self.of, shapes, strict=True)
        }


# ---------------------------------------------------------------------------- scan


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("fed", [True, False])
def test_scan(session, steps, fed):
    model = Model(None if fed else steps)
    looped, plain = model.looped(None), model.unrolled(steps)
    pairs = [[y, *derivatives(y, model.of)] for y in (looped, plain)]
    agree(session, *pairs, model.feeds(steps))


def test_third_derivatives(session):
    x = g.placeholder("float32", ())
    ys = (
        scan(lambda h: g.sin(h) * x, None, x, n_steps=4)[-1],
        _power(lambda h: g.sin(h) * x, x, 4),
    )
    pairs = []
    for y in ys:
        listed = [y]
        for _ in range(3):
            listed.append(g.grad(listed[-1], x))
        pairs.append(listed)
    agree(session, *pairs, {x: 0.7})


def _power(step, x, times):
    for _ in range(times):
        x = step(x)
    return x


@pytest.mark.parametrize("steps", LENGTHS)
def test_backwards(session, steps):
    x, w = g.placeholder("float32", [None]), g.placeholder("float32", ())
    looped = g.sum(scan(lambda t, h: g.tanh(h * w + t), x, g.constant(0.5), go_backwards=True))
    h, total = g.constant(0.5), g.constant(0.0)
    for t in reversed(range(steps)):
        h = g.tanh(h * w + x[t])
        total = total + h
    feeds = {x: np.linspace(-1, 1, steps), w: 0.8}
    agree(session, derivatives(looped, [x, w]), derivatives(total, [x, w]), feeds)


def test_a_state_that_no_step_reads_still_gets_its_gradient_without_steps(session):
    h0, n = g.placeholder("float32", ()), g.placeholder("int64", ())
    last = while_loop(lambda i, h: i < n, lambda i, h: (i + 1, g.constant(3.0)), [0, h0])[1]
    slope = g.gradients(last, [h0])[0]
    assert session.run([last, slope], {h0: 2.0, n: 0}) == [2.0, 1.0]
    assert session.run([last, slope], {h0: 2.0, n: 2}) == [3.0, 0.0]


@pytest.mark.parametrize("steps", LENGTHS)
def test_nested_scans(session, steps):
    x, w = g.placeholder("float32", [None, 3]), g.placeholder("float32", [3])

    def row(r, total):
        inner = scan(lambda c, v, s: g.tanh(s * v + c), [r, w], total)
        return inner[-1] + g.sum(inner) * 0.1

    def plain(r, total):
        parts = []
        for j in range(3):
            total = g.tanh(total * w[j] + r[j])
            parts.append(total)
        return parts[-1] + g.sum(g.stack(parts)) * 0.1

    looped = g.sum(scan(row, x, g.constant(0.2)))
    total, unrolled = g.constant(0.2), g.constant(0.0)
    for t in range(steps):
        total = plain(x[t], total)
        unrolled = unrolled + total
    draw = np.random.default_rng(0).normal
    feeds = {x: draw(size=(steps, 3)), w: draw(size=3)}
    agree(session, derivatives(looped, [x, w]), derivatives(unrolled, [x, w]), feeds)


# ---------------------------------------------------------------------------- until and while


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_until(session, steps):
    x, limit = g.placeholder("float32", ()), g.placeholder("float32", ())

    def step(h):
        after = h * g.exp(x)
        return after, until(after > limit)

    looped = g.sum(scan(step, None, x, n_steps=20) ** 2)
    h, total = x, g.constant(0.0)
    for _ in range(steps):
        h = h * g.exp(x)
        total = total + h**2
    feeds = {x: 0.5, limit: 0.5 * np.exp(0.5 * (steps - 0.5))}
    agree(session, [looped, *derivatives(looped, [x])], [total, *derivatives(total, [x])], feeds)


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("most", [None, 9])
def test_while(session, steps, most):
    x, w, n = g.placeholder("float32", ()), g.placeholder("float32", ()), g.placeholder("int64", ())
    looped = while_loop(
        lambda i, h: i < n, lambda i, h: (i + 1, g.sin(h * w) + x), [0, x], max_steps=most
    )[1]
    plain = _power(lambda h: g.sin(h * w) + x, x, steps)
    feeds = {x: 0.4, w: 1.3, n: steps}
    agree(session, derivatives(looped, [x, w]), derivatives(plain, [x, w]), feeds)


def _newton(t, w, most):
    """The root of v * v = t, and how it depends on the first guess and on t."""
    return while_loop(
        lambda v: g.abs(v * v - t) > 0.05, lambda v: (v + t / v) * w, g.sqrt(t) * 0.1 + 1.0,
        max_steps=most,
    )  # fmt: skip


def test_a_while_in_a_scan(session):
    x, w = g.placeholder("float32", [None]), g.placeholder("float32", ())
    looped = g.sum(scan(lambda t: _newton(t, w, 12) ** 2, x))
    X = np.array([1.0, 2.0, 9.0, 30.0], np.float32)
    plain = g.constant(0.0)
    for k, value in enumerate(X):
        count, v = 0, np.sqrt(value) * 0.1 + 1
        while abs(v * v - value) > 0.05:
            v, count = (v + value / v) * 0.5, count + 1
        t = x[k]
        plain = plain + _power(lambda v, t=t: (v + t / v) * w, g.sqrt(t) * 0.1 + 1.0, count) ** 2
    agree(session, derivatives(looped, [x, w]), derivatives(plain, [x, w]), {x: X, w: 0.5})


def test_steps_that_were_not_made_give_no_nan(session):
    """The body divides by what is 0 behind the last step."""
    x = g.placeholder("float32", [None])

    def inner(t):
        return while_loop(lambda v: v > 1.0, lambda v: 1.0 / g.sqrt(v), t, max_steps=5)

    looped = g.sum(scan(inner, x))
    got = session.run(derivatives(looped, [x]), {x: [0.5, 1.5, 4.0]})
    assert all(np.isfinite(a).all() for a in got)
    assert got[0][0] == 1.0
    np.testing.assert_allclose(got[0][1:], -0.5 * np.array([1.5, 4.0]) ** -1.5, rtol=1e-5)


def test_an_until_in_a_scan(session):
    x, w = g.placeholder("float32", [None]), g.placeholder("float32", ())

    def row(t):
        def step(h):
            after = h * w
            return after, until(after > 10.0)

        return while_loop(lambda h: h < 10.0, lambda h: h * w, t, max_steps=6)

    looped = g.sum(scan(row, x) ** 2)
    X = np.array([1.0, 4.0, 20.0], np.float32)
    plain = sum(((x[k] * w**c) ** 2 for k, c in enumerate((4, 2, 0))), g.constant(0.0))
    agree(session, derivatives(looped, [x, w]), derivatives(plain, [x, w]), {x: X, w: 2.0})


@pytest.mark.parametrize("outer", ["scan", "ifelse"])
def test_a_while_inside_needs_a_bound(outer):
    x = g.placeholder("float32", [3])
    if outer == "scan":
        y = g.sum(scan(lambda t: _newton(t, 0.5, None), x))
    else:
        y = ifelse(x[1] > 0.0, lambda: _newton(x[0], 0.5, None), 0.0)
    with pytest.raises(g.GradientError, match=r"must have max_steps\n.*test_loop_gradients.py"):
        g.Session("reference").run(g.gradients(y, [x]), {x: np.ones(3)})


# ---------------------------------------------------------------------------- truncation


@settings(max_examples=25, deadline=None)
@given(steps=st.integers(0, 7), kept=st.integers(1, 9), device=st.sampled_from(DEVICES[::2]))
def test_truncation_is_that_of_the_unrolled_graph(steps, kept, device):
    model = Model(None)
    looped = model.looped(None, truncate_gradient=kept)
    plain = model.unrolled(steps, kept)
    agree(
        g.Session(device), derivatives(looped, model.of), derivatives(plain, model.of),
        model.feeds(steps, seed=kept),
    )  # fmt: skip


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_truncation_of_a_loop_that_ends_by_itself(session, kept):
    x, w = g.placeholder("float32", ()), g.placeholder("float32", ())

    def chain(step_of, steps):
        h, total = x, g.constant(0.0)
        for t in range(steps):
            h = step_of(h)
            total = total + h
            if t < steps - kept:
                h, total = g.stop_gradient(h), g.stop_gradient(total)
        return total

    def step(h):
        return h * w, until(h * w > 7.0)

    looped = g.sum(scan(step, None, x, n_steps=9, truncate_gradient=kept))
    feeds = {x: 1.0, w: 2.0}
    plain = chain(lambda h: h * w, 3)
    agree(session, derivatives(looped, [x, w]), derivatives(plain, [x, w]), feeds)


# ---------------------------------------------------------------------------- checkpoints


def kept_states(graph, sizes=None):
    """The states that loops of a graph stack, in all, those of loops inside counted once."""
    total = 0
    for node in nested(graph):
        if node.op is LOOP:
            total += len(node.attrs["histories"]) * (
                evaluate(node.attrs["length"], sizes or {}) + 1
            )
    return total


@pytest.mark.parametrize("checkpoint", ["sqrt", 1, 3])
@pytest.mark.parametrize("steps", [0, 1, 2, 7, 16, 100])
def test_checkpoints_change_no_gradient(session, steps, checkpoint):
    for length in (None, steps):
        model = Model(length)
        pairs, twice = [], length is None and steps < 16
        for kind in (checkpoint, None):
            y = model.looped(None, checkpoint=kind)
            pairs.append([y, *(derivatives(y, model.of) if twice else g.gradients(y, model.of))])
        agree(session, *pairs, model.feeds(steps))


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 100])
def test_checkpoints_in_reverse_with_steps_and_random_numbers(session, steps):
    x, n = g.placeholder("float32", [None]), g.placeholder("int64", ())

    def build(kind):
        def step(t, h):
            return h * 0.5 + t * g.random.uniform((), name="u", seed=4)

        return scan(step, x, g.constant(1.0), go_backwards=True, n_steps=n, checkpoint=kind)

    pairs = [[y, *g.gradients(g.sum(y * y), [x])] for y in (build("sqrt"), build(None))]
    got = session.run([*pairs[0], *pairs[1]], {x: np.linspace(0, 1, steps + 2), n: steps})
    np.testing.assert_array_equal(got[0], got[2])
    np.testing.assert_allclose(got[1], got[3], rtol=1e-6)


@pytest.mark.parametrize("limit", [3.0, 1000.0])
def test_checkpoints_of_a_loop_that_may_end_early(session, limit):
    x = g.placeholder("float32", ())

    def build(kind):
        def step(h):
            return h * 1.1 + x, until(h > limit)

        return scan(step, None, x, n_steps=11, checkpoint=kind)

    pairs = [[y, *derivatives(g.sum(y * y), [x])] for y in (build("sqrt"), build(None))]
    agree(session, *pairs, {x: 0.5})


def test_nested_checkpoints(session):
    x, w = g.placeholder("float32", [None, 5]), g.placeholder("float32", ())

    def build(kind):
        def row(r, total):
            return scan(lambda c, s: g.tanh(s * w + c), r, total, checkpoint=kind)[-1]

        return g.sum(scan(row, x, g.constant(0.2), checkpoint=kind))

    X = np.random.default_rng(0).normal(size=(7, 5))
    pairs = [derivatives(build(kind), [x, w]) for kind in (2, None)]
    agree(session, *pairs, {x: X, w: 0.7})


@pytest.mark.parametrize("steps", [16, 100, 1000])
@pytest.mark.parametrize("fed", [True, False])
def test_a_checkpointed_loop_keeps_few_states(steps, fed):
    x = g.placeholder("float32", ["t" if fed else steps, 3])
    w = g.Variable(np.eye(3, dtype=np.float32))
    sizes = {s: steps for d in x.shape if isinstance(d, Dim) for s in d.symbols()}
    kept = {}
    for kind in ("sqrt", None):
        last = scan(lambda t, h: g.tanh(h @ w + t), x, g.zeros([3]), checkpoint=kind)[-1]
        graph = Graph(tuple(g.gradients(g.sum(last), [w])), (), (x,))
        kept[kind] = kept_states(optimise(graph), sizes)
    assert kept[None] >= steps
    assert kept["sqrt"] <= 3 * np.sqrt(steps) + 3


def test_lengths_of_segments():
    n = Dim.symbol("n")
    for steps in (0, 1, 2, 3, 4, 8, 9, 100, 1000, 4096, 10**6):
        (symbol,) = n.symbols()
        for each in (
            segment_length("sqrt", steps),
            evaluate(segment_length("sqrt", n), {symbol: steps}),
        ):
            assert 1 <= each <= max(1, steps)
            assert steps // each + each <= 2.2 * np.sqrt(steps) + 1
    assert segment_length(7, n) == 7


def test_loops_without_gradients_stay_whole():
    x = g.placeholder("float32", [9])
    total = scan(lambda t, h: h + t, x, g.constant(0.0), checkpoint="sqrt")
    graph = Graph((total,), (), (x,))
    assert segment_loops(graph) is graph
    assert sum(node.op is LOOP for node in nested(optimise(graph))) <= 1
