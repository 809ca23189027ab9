"""Fetching what is inside of loops: stacked over the steps."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as g
from graphc.graph import Graph
from graphc.ops.branch import ifelse
from graphc.ops.inner import lifted
from graphc.ops.loop import LOOP
from graphc.ops.scan import scan
from graphc.ops.steps import until
from graphc.ops.while_loop import while_loop
from graphc.passes import optimise
from tests.control_support import DEVICES
from tests.loop_support import Counter


class Seen(dict):
    """What a step has let out, by name."""

    def __call__(self, **tensors):
        self.update(tensors)


X = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]], np.float32)


def _running(seen, x, **kwargs):
    def step(row, total):
        after = total + row
        seen(row=row, before=total, after=after, twice=row * 2.0, size=g.sum(row))
        return after

    return scan(step, x, g.zeros([2]), **kwargs)


# ---------------------------------------------------------------------------- one loop


def test_everything_in_a_scan(session):
    seen, x = Seen(), g.placeholder("float32", [None, 2])
    totals = _running(seen, x)
    got = session.run({"totals": totals, **seen}, {x: X})
    sums = np.cumsum(X, axis=0)
    np.testing.assert_allclose(got["totals"], sums)
    np.testing.assert_allclose(got["after"], sums)
    np.testing.assert_allclose(got["before"], np.concatenate([np.zeros((1, 2)), sums[:-1]]))
    np.testing.assert_allclose(got["row"], X)
    np.testing.assert_allclose(got["twice"], X * 2)
    np.testing.assert_allclose(got["size"], X.sum(axis=1))


def test_alone_in_reverse_and_without_steps(session):
    seen, x = Seen(), g.placeholder("float32", [None, 2])
    _running(seen, x, go_backwards=True)
    np.testing.assert_allclose(session.run(seen["after"], {x: X}), np.cumsum(X[::-1], axis=0))
    assert session.run(seen["after"], {x: np.zeros((0, 2))}).shape == (0, 2)


def test_what_is_built_of_inner_tensors_afterwards(session):
    seen, x = Seen(), g.placeholder("float32", [None, 2])
    totals = _running(seen, x)
    outside = g.sum(x)
    ratio = seen["after"] / outside + 1.0
    np.testing.assert_allclose(
        session.run(ratio, {x: X}), np.cumsum(X, axis=0) / X.sum() + 1, rtol=1e-6
    )
    apart = session.run(seen["after"] - totals[-1], {x: X})  # beside the loop's own result
    np.testing.assert_allclose(apart, np.cumsum(X, axis=0) - X.sum(axis=0), atol=1e-6)


def test_every_way_to_run(session):
    seen, x = Seen(), g.placeholder("float32", [None, 2])
    totals = _running(seen, x)
    expected = (X * 2, np.cumsum(X, axis=0))
    prepared = session.prepare([seen["twice"], totals], [x])
    function = g.function([x], [seen["twice"], totals], session=session)
    scaled = g.function([], [seen["twice"], totals], givens=[(x, X)], session=session)
    for got in (prepared(X), function(X), scaled()):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b)
    np.testing.assert_allclose(seen["twice"].eval({x: X}, session), X * 2)
    jitted = g.jit(lambda y: _jitted(y))
    with session:
        np.testing.assert_allclose(jitted(X), X * 2)


def _jitted(y):
    seen = Seen()
    _running(seen, y.reshape([-1, 2]))
    return seen["twice"]


def test_the_loop_runs_once_with_the_outputs_of_all(session):
    counter, seen, x = Counter(), Seen(), g.placeholder("float32", [None])

    def step(t, s):
        heavy = counter(t * 2.0)
        seen(heavy=heavy)
        return s + heavy

    totals = scan(step, x, g.constant(0.0))
    loss = g.sum(totals**2)
    session.run([loss, seen["heavy"]], {x: np.ones(4)})
    assert counter.taken() == 4
    graph = optimise(lifted(Graph((loss, seen["heavy"]), (), (x,))))
    assert sum(node.op is LOOP for node in graph.nodes) == 1


def test_beside_gradients(session):
    seen, x = Seen(), g.placeholder("float32", [None, 2])
    totals = _running(seen, x)
    slope = g.gradients(g.sum(totals**2), [x])[0]
    alone = session.run(slope, {x: X})
    both = session.run([slope, seen["size"]], {x: X})
    np.testing.assert_allclose(both[0], alone)
    np.testing.assert_allclose(both[1], X.sum(axis=1))


def test_random_numbers_are_those_of_the_loop():
    seen = Seen()

    def step(s):
        noise = g.random.normal([2], name="noise")
        seen(noise=noise)
        return s + noise

    walk = scan(step, None, g.zeros([2]), n_steps=5)
    for device in DEVICES:
        alone = g.Session(device=device, seed=1).run(walk)
        got, noise = g.Session(device=device, seed=1).run([walk, seen["noise"]])
        # On OpenCL, a function of a vector may round otherwise than that of an element.
        np.testing.assert_allclose(got, alone, rtol=1e-6 if device == "opencl" else 0)
        np.testing.assert_allclose(np.cumsum(noise, axis=0), got, rtol=1e-5)


def test_feeds_between(session):
    """A fed tensor keeps its place, on both sides of the loop."""
    seen, x = Seen(), g.placeholder("float32", [None, 2])
    doubled = x * 2.0
    totals = _running(seen, doubled)
    later = g.sum(totals) + 1.0
    result = later * 2.0
    got = session.run([seen["row"], result], {doubled: X, later: 5.0})
    np.testing.assert_allclose(got[0], X)
    assert got[1] == 10.0
    fed = session.run([seen["row"], g.sum(totals)], {x: X, totals: np.ones((3, 2))})
    np.testing.assert_allclose(fed[0], X * 2)
    assert fed[1] == 6.0


# ---------------------------------------------------------------------------- other loops


def test_until_has_as_many_rows_as_steps(session):
    seen, limit = Seen(), g.placeholder("float32", ())

    def step(v):
        seen(squared=v * v)
        return v * 2.0, until(v > limit)

    powers = scan(step, None, g.constant(1.0), n_steps=20)
    got, squared = session.run([powers, seen["squared"]], {limit: 7.0})
    np.testing.assert_allclose(got, [2.0, 4.0, 8.0, 16.0])
    np.testing.assert_allclose(squared, [1.0, 4.0, 16.0, 64.0])


@pytest.mark.parametrize("most", [None, 3, 50])
def test_while(session, most):
    seen, x = Seen(), g.placeholder("float32", ())

    def body(v):
        seen(before=v, half=v / 2.0)
        return v * v

    last = while_loop(lambda v: v < 100.0, body, x, max_steps=most)
    values = [2.0, 4.0, 16.0][:most]
    got = session.run([seen["before"], seen["half"], last], {x: 2.0})
    np.testing.assert_allclose(got[0], values)
    np.testing.assert_allclose(got[1], np.array(values) / 2)
    assert got[2] == 256.0
    assert session.run(seen["before"], {x: 1000.0}).shape == (0,)


def test_nested_loops_are_stacked_over_both(session):
    seen, x = Seen(), g.placeholder("float32", [None, None])

    def row(r, total):
        def cell(c, s):
            seen(cell=c * 2.0, sum=s + c, scaled=c * total, outer=total)
            return s + c

        inner = scan(cell, r, total)
        seen(inner=inner)
        return inner[-1]

    totals = scan(row, x, g.constant(0.0))
    sums = np.cumsum(X.reshape(-1)).reshape(3, 2)
    before = np.concatenate([[0.0], sums[:-1, -1]])
    got = session.run({"totals": totals, **seen}, {x: X})
    np.testing.assert_allclose(got["totals"], sums[:, -1])
    np.testing.assert_allclose(got["sum"], sums)
    np.testing.assert_allclose(got["inner"], sums)
    np.testing.assert_allclose(got["cell"], X * 2)
    np.testing.assert_allclose(got["scaled"], X * before[:, None])
    np.testing.assert_allclose(got["outer"], before)


def test_a_while_in_a_scan_has_rows_up_to_its_bound(session):
    seen, x = Seen(), g.placeholder("float32", [None])

    def step(t):
        def body(v):
            seen(value=v)
            return v * 2.0

        return while_loop(lambda v: v < 10.0, body, t, max_steps=4)

    last = scan(step, x)
    got, values = session.run([last, seen["value"]], {x: [3.0, 6.0, 20.0]})
    np.testing.assert_allclose(got, [12.0, 12.0, 20.0])
    np.testing.assert_allclose(values, [[3, 6, 0, 0], [6, 0, 0, 0], [0, 0, 0, 0]])


def test_in_a_side_of_a_branch(session):
    """A fetch needs it in each step, whichever side is taken."""
    seen, x = Seen(), g.placeholder("float32", [None])

    def step(t):
        side = t * 3.0
        seen(side=side)
        return ifelse(t > 0.0, side, 0.0)

    got, side = session.run([scan(step, x), seen["side"]], {x: [1.0, -1.0]})
    np.testing.assert_allclose(got, [3.0, 0.0])
    np.testing.assert_allclose(side, [3.0, -3.0])


def test_two_loops_one_behind_the_other(session):
    first, second, x = Seen(), Seen(), g.placeholder("float32", [None, 2])
    middle = _running(first, x)
    last = _running(second, middle)
    got = session.run([first["size"], second["size"], last], {x: X})
    sums = np.cumsum(X, axis=0)
    np.testing.assert_allclose(got[0], X.sum(axis=1))
    np.testing.assert_allclose(got[1], sums.sum(axis=1))
    np.testing.assert_allclose(got[2], np.cumsum(sums, axis=0))


# ---------------------------------------------------------------------------- errors


def test_a_loop_that_was_never_completed(session):
    seen = Seen()

    def step(t):
        seen(t=t)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        scan(step, g.placeholder("float32", [3]))
    with pytest.raises(g.FetchError, match="was not completed"):
        session.run(seen["t"])


def test_what_is_in_two_loops(session):
    one, two, x = Seen(), Seen(), g.placeholder("float32", [None, 2])
    _running(one, x)
    _running(two, x)
    with pytest.raises(g.FetchError, match="neither of which is inside of the other"):
        session.run(one["row"] + two["row"], {x: X})


def test_updates_outside_of_the_loop_that_read_the_inside(session):
    seen, x, v = Seen(), g.placeholder("float32", [None, 2]), g.Variable(np.zeros(2, np.float32))
    _running(seen, x)
    with pytest.raises(g.FetchError, match="an update must not read"):
        session.run(g.assign(v, seen["after"]), {x: X})


def test_a_while_in_a_loop_without_a_bound(session):
    seen, x = Seen(), g.placeholder("float32", [None])

    def step(t):
        def body(v):
            seen(v=v)
            return v * 2.0

        return while_loop(lambda v: v < 10.0, body, t)

    scan(step, x)
    with pytest.raises(g.FetchError, match="must have max_steps"):
        session.run(seen["v"], {x: [1.0]})


def test_what_an_earlier_call_of_the_function_made(session):
    made = []

    def step(s):
        made.append(s)
        return s * 0.5

    halves = scan(step, None, 1, n_steps=3)
    np.testing.assert_allclose(session.run(halves), [0.5, 0.25, 0.125])
    np.testing.assert_allclose(session.run(made[-1]), [1.0, 0.5, 0.25])
    with pytest.raises(g.FetchError, match="called its function again"):
        session.run(made[0])
