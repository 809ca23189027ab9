"""Callables: Theano's function, jit, eval, and the numeric helpers."""

import threading

import numpy as np
import pytest

import graphc as g


def test_function_with_updates_and_givens():
    x, y = g.placeholder("float64", [], name="x"), g.placeholder("float64", [], name="y")
    state = g.Variable(0.0, dtype="float64")
    with g.Session() as s:
        step = g.function([x], state * 1.0, updates={state: state + x}, session=s)
        assert [float(step(n)) for n in (1, 2, 3)] == [0, 1, 3]
        assert s.get(state) == 6
        replaced = g.function([y], x * x, givens=[(x, y + 1.0)], session=s)
        assert replaced(2.0) == 9
        both = g.function([x], [x + 1.0, {"twice": x * 2.0}], session=s)
        assert both(3.0) == [4, {"twice": 6}]
        assert g.function([x], updates=[(state, x)], session=s)(4.0) is None
        assert s.get(state) == 4


def test_function_refuses_what_it_cannot_read():
    x = g.placeholder("float32", [])
    with pytest.raises(g.FetchError, match="pairs"):
        g.function([x], x, updates=[g.Variable(1.0)])
    with pytest.raises(g.FetchError, match="tensors"):
        g.function([x], g.assign(g.Variable(0.0), x))
    with pytest.raises(g.FeedError, match="placeholder"):
        g.function([], x)


def test_jit_traces_once_for_each_rank_and_dtype():
    traces = []

    @g.jit
    def f(a, scale=2.0, *, more=()):
        traces.append(a.ndim)
        return {"sum": g.sum(a * scale), "more": [m + 1 for m in more]}

    for n in (1, 2, 5):
        assert f(np.ones(n))["sum"] == 2 * n
    assert traces == [1]
    assert f(np.ones((2, 2)))["sum"] == 8
    assert f(np.ones(3, np.float32))["sum"].dtype == np.float32
    assert len(traces) == 3
    got = f(np.ones(2), more=(np.arange(2), np.arange(3)))
    assert got["more"][1].tolist() == [1, 2, 3]


def test_eval_uses_a_session_or_the_default_one():
    v = g.Variable(3.0)
    x = g.placeholder("float32", [])
    assert (v * x).eval({x: 2}) == 6
    with g.Session() as s:
        s.set(v, 5)
        assert (v * x).eval({x: 2}, session=s) == 10


def test_jvp_is_the_directional_derivative():
    x = g.placeholder("float64", [3])
    w = g.Variable(np.arange(9.0).reshape(3, 3))
    y = g.tanh(x @ w * 0.1) * x
    moved = g.jvp(y, [x, w], [[1.0, -2.0, 0.5], np.eye(3)])
    point, h = np.array([0.3, -0.2, 0.7]), 1e-6
    with g.Session() as s:
        got = s.run(moved, {x: point})
        base = s.get(w)
        ends = []
        for sign in (1, -1):
            s.set(w, base + sign * h * np.eye(3))
            ends.append(s.run(y, {x: point + sign * h * np.array([1.0, -2.0, 0.5])}))
    assert np.allclose(got, (ends[0] - ends[1]) / (2 * h), rtol=1e-7)


def test_check_gradient_passes_and_fails():
    x = g.placeholder("float32", [2, 3], name="x")
    w = g.Variable(np.ones((3, 2), np.float32), name="w")
    noise = g.random.normal([2, 2])
    y = g.sum(g.tanh(x @ w + noise))
    feeds = {x: np.linspace(-1, 1, 6).reshape(2, 3)}
    report = g.check_gradient(y, [x, w], feeds)
    assert report.ok and [row.checked for row in report.rows] == [6, 6]
    assert "ok  x" in str(report)
    wrong = g.sum(x * g.stop_gradient(x))
    with pytest.raises(g.GradientError, match="BAD x"):
        g.check_gradient(wrong, x, feeds)


def test_eval_function_and_jit_use_the_session_of_the_with_block():
    state = g.Variable(1.0, name="state")
    double = g.jit(lambda x: x * state)
    before = double(2.0)
    with g.Session() as outer:
        outer.set(state, 10.0)
        assert state.eval() == 10
        with g.Session() as inner:
            inner.set(state, 20.0)
            assert (state * 2.0).eval() == 40
            assert g.function([], state + 1.0)() == 21
            assert double(2.0) == 40
            assert state.eval(session=outer) == 10
        assert state.eval() == 10
        assert double(2.0) == 20
    assert double(2.0) == before
    assert state.eval() == 1


def test_a_closed_session_is_no_default_and_threads_do_not_share_one():
    state = g.Variable(1.0)
    seen = []
    with g.Session() as s:
        s.set(state, 5.0)
        thread = threading.Thread(target=lambda: seen.append(state.eval()))
        thread.start()
        thread.join()
        s.close()
        assert state.eval() == 1
    assert seen == [1]
