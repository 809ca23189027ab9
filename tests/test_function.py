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


def test_jit_traces_each_value_of_what_is_no_array():
    traces = []

    @g.jit
    def f(a, training=False, axis=None, mode="sum"):
        traces.append((training, axis, mode))
        return getattr(a, mode)(axis) * (2 if training else 1)

    at = np.arange(6.0).reshape(2, 3)
    assert f(at) == 15 and f(at, training=True) == 30 and f(at, mode="max") == 5
    assert f(at + 1.0, training=True) == 42
    assert traces == [(False, None, "sum"), (True, None, "sum"), (False, None, "max")]


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


def test_function_takes_updates_in_any_mixture():
    x, v, w = g.placeholder("float64", [2]), g.Variable(np.zeros(2)), g.Variable(np.ones(2))
    with g.Session() as s:
        mixed = [g.assign_add(v, x), (w, x), g.group(g.assign(g.Variable(0.0), 1.0))]
        g.function([x], updates=mixed, session=s)([1, 2])
        assert s.get(v).tolist() == [1, 2] and s.get(w).tolist() == [1, 2]
        g.function([], updates=[(v, w * 5.0), (w, v * 0.0)], session=s)()
        assert s.get(v).tolist() == [5, 10] and s.get(w).tolist() == [0, 0]


def test_inputs_are_a_list_of_tensors_each_once():
    x = g.placeholder("float32", [None], name="x")
    with pytest.raises(g.FeedError, match=r"must be a list, got <placeholder"):
        g.function(x, x + 1)
    with pytest.raises(g.FeedError, match=r"fed once, got placeholder \"x\" \(.*\) twice"):
        g.function([x, x], x + 1)
    unused = g.placeholder("float32")
    assert g.function([x, unused], x + 1)([1], [[3]]).tolist() == [2]


def test_givens_bring_their_own_sizes():
    """Sizes of what is replaced, and all that was computed of them, become those of the new."""
    x, y = g.placeholder("float64", [None], name="x"), g.placeholder("float64", ["n"], name="y")
    any_rank = g.placeholder("float64")
    mean = g.sum(x) / g.shape(x)[0] + g.zeros(g.shape(x)[0] * 2)
    data, i = g.Variable(np.arange(6.0)), g.placeholder("int64", [])
    with g.Session() as s:
        given = {
            "array": g.function([], mean, givens={x: [1.0, 2.0]}, session=s)(),
            "tensor": g.function([y], mean, givens={x: y + 1.0}, session=s)([0, 1]),
            "rank": g.function([any_rank], mean, givens={x: any_rank}, session=s)([1, 2]),
            "slice": g.function([i], mean, givens={x: data[i : i + 2]}, session=s)(1),
            "cast": g.function([y], mean, givens={x: y.astype("int32")}, session=s)([1, 2]),
        }
        for how, value in given.items():
            np.testing.assert_array_equal(value, [1.5] * 4, err_msg=how)
        both = g.function([x, y], x - 2.0 * y, givens={x: y, y: x}, session=s)
        assert both([1, 2], [10, 20]).tolist() == [8, 16]


def test_givens_must_fit():
    x, v = g.placeholder("float32", [None], name="x"), g.Variable(np.zeros(3), name="v")
    for old, new, error, text in [
        (x, np.ones((2, 2)), g.ShapeError, r"keep shapes, got f32\[2,2\] for f32\[\?\]: pl.*x"),
        (v, np.ones(4), g.ShapeError, r"keep shapes, got f64\[4\] for f64\[3\]: variable \"v\""),
        (g.argmax(x), g.constant(1.5), g.DTypeError, r"keep dtypes, got f32\[\]"),
        (3, x, g.FetchError, "must replace tensors, got int"),
    ]:
        with pytest.raises(error, match=text):
            g.function([x], x * 3.0, givens={old: new})


def test_gradients_of_givens_are_those_of_a_gradient_expanded_first():
    x, y = g.placeholder("float64", [None], name="x"), g.placeholder("float64", [None], name="y")
    z = y + 1.0
    [slope] = g.gradients(g.sum(x * z), [x])
    assert g.function([y], slope, givens={x: z})([1, 2]).tolist() == [2, 3]
    inner = x * 2.0
    middle = inner + 0.0
    [slope] = g.gradients(g.sum(middle**3), [inner])
    through = g.function([y], slope, givens={x: y, middle: y * 10.0})
    assert through([1, 2]).tolist() == [300, 1200]


@pytest.mark.parametrize("shape", [[2], [None], None])
def test_a_gradient_flows_through_a_tensor_that_is_fed(shape):
    """TensorFlow's rule: the feed is the tensor's value, and the chain rule goes on above it."""
    x, w = g.placeholder("float64", shape, name="x"), g.Variable([2.0, 3.0], dtype="float64")
    h = x * w
    fetches = g.gradients(g.sum(h**3), [x, w])
    with g.Session() as s:
        dx, dw = s.run(fetches, {x: [1, 1], h: [10, 20]})
        assert dx.tolist() == [600, 3600] and dw.tolist() == [300, 1200]
        assert s.run(g.gradients(g.sum(h**3), [h]), {h: [10, 20]})[0].tolist() == [300, 1200]
        with pytest.raises(g.GraphcError, match=r"its shape|must be 2"):
            s.run(fetches, {x: [1, 1], h: [1, 2, 3]})


def test_sizes_read_from_a_tensor_of_unknown_rank_follow_what_stands_for_it():
    x, y = g.placeholder("float64", name="x"), g.placeholder("float64", name="y")
    rows = g.reshape(x * x, (g.shape(x)[0], -1))
    with g.Session() as s:
        assert g.function([y], rows, givens={x: y}, session=s)(np.ones((2, 3, 2))).shape == (2, 6)
        known = g.function([], rows, givens={x: np.ones((3, 2, 2))}, session=s)
        assert known().shape == (3, 4)
        assert g.check_gradient(rows, x, {x: np.arange(12.0).reshape(2, 3, 2)}, s).ok


def test_a_tensor_takes_no_format():
    with pytest.raises(TypeError, match=r"no value to format as '.3f' before a run"):
        f"{g.constant(1.0):.3f}"
    assert f"{g.constant(1.0)}".startswith("<constant")
