"""Recurrent layers against NumPy, step by step: values, gradients, padding, decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as g

LENGTHS = [0, 1, 2, 7]
FEATURES, UNITS, BATCH = 3, 4, 5
Array = np.ndarray[Any, Any]
Step = Callable[..., tuple[Array, ...]]


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def rnn_step(x: Array, h: Array, *, kernel: Array, recurrent: Array, bias: Array) -> tuple[Array]:
    return (np.tanh(x @ kernel + h @ recurrent + bias),)


def lstm_step(
    x: Array, h: Array, c: Array, *, kernel: Array, recurrent: Array, bias: Array,
    peepholes: Any = None, forget_bias: float = 0.0,
) -> tuple[Array, Array]:  # fmt: skip
    p = np.zeros((3, UNITS)) if peepholes is None else peepholes
    gates = x @ kernel + h @ recurrent + bias
    i, f, new, o = (gates[:, k * UNITS : (k + 1) * UNITS] for k in range(4))
    after = sigmoid(f + p[1] * c + forget_bias) * c + sigmoid(i + p[0] * c) * np.tanh(new)
    return sigmoid(o + p[2] * after) * np.tanh(after), after


def gru_step(
    x: Array, h: Array, *, kernel: Array, recurrent: Array, bias: Array,
    recurrent_bias: Any = None, reset_after: bool = True,
) -> tuple[Array]:  # fmt: skip
    b = np.zeros(3 * UNITS) if recurrent_bias is None else recurrent_bias
    wz, wr, wn = (
        (x @ kernel + bias)[:, k * UNITS : (k + 1) * UNITS] for k in range(3)
    )  # fmt: skip
    uz, ur, un = (recurrent[:, k * UNITS : (k + 1) * UNITS] for k in range(3))
    bz, br, bn = (b[k * UNITS : (k + 1) * UNITS] for k in range(3))
    z, r = sigmoid(wz + h @ uz + bz), sigmoid(wr + h @ ur + br)
    n = np.tanh(wn + r * (h @ un + bn)) if reset_after else np.tanh(wn + (r * h) @ un)
    return (z * h + (1 - z) * n,)


def unrolled(
    step: Step, x: Array, states: tuple[Array, ...], lengths: Any = None, backwards: bool = False,
    **weights: Any,
) -> tuple[Array, tuple[Array, ...]]:  # fmt: skip
    """Outputs `[batch, time, units]` and last states, one step at a time."""
    batch, steps, _ = x.shape
    counts = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    outputs = np.zeros((batch, steps, UNITS), x.dtype)
    for t in reversed(range(steps)) if backwards else range(steps):
        real = (t < counts)[:, None]
        after = step(x[:, t], *states, **weights)
        states = tuple(np.where(real, a, b) for a, b in zip(after, states, strict=True))
        outputs[:, t] = np.where(real, states[0], 0)
    return outputs, states


def drawn(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype) * 0.7


# A layer, its step in NumPy, how many gates and states it has, and what else it takes.
CASES: dict[str, tuple[Any, Step, int, int, dict[str, Any]]] = {
    "rnn": (g.nn.rnn, rnn_step, 1, 1, {}),
    "lstm": (g.nn.lstm, lstm_step, 4, 2, {}),
    "lstm_forget_bias": (g.nn.lstm, lstm_step, 4, 2, {"forget_bias": 1.0}),
    "lstm_peepholes": (g.nn.lstm, lstm_step, 4, 2, {"peepholes": drawn(3, UNITS)}),
    "gru": (g.nn.gru, gru_step, 3, 1, {}),
    "gru_bias": (g.nn.gru, gru_step, 3, 1, {"recurrent_bias": drawn(3 * UNITS, seed=5)}),
    "gru_reset_before": (g.nn.gru, gru_step, 3, 1, {"reset_after": False}),
}


class Layer:
    """A case with its weights, here and in the graph."""

    def __init__(self, name: str, dtype: Any = np.float64) -> None:
        self.layer, self.step, gates, self.states, extra = CASES[name]
        self.weights = {
            "kernel": drawn(FEATURES, gates * UNITS, dtype=dtype),
            "recurrent": drawn(UNITS, gates * UNITS, dtype=dtype),
            "bias": drawn(gates * UNITS, dtype=dtype),
        }
        self.extra = {
            k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in extra.items()
        }
        self.variables = {k: g.Variable(v, name=k) for k, v in self.weights.items()}
        self.dtype = dtype

    def numpy(self, x: Array, states: Any = None, **options: Any) -> Any:
        begin = (np.zeros((len(x), UNITS), self.dtype),) * self.states
        return unrolled(self.step, x, states or begin, **options, **self.weights, **self.extra)

    def graph(self, x: Any, **options: Any) -> tuple[Any, tuple[Any, ...]]:
        outputs, last = self.layer(x, **self.variables, **self.extra, **options)
        return outputs, last if isinstance(last, tuple) else (last,)


def close(have: Any, want: Any, dtype: Any = np.float64) -> None:
    tolerance = 1e-11 if dtype == np.float64 else 3e-6
    assert have.dtype == dtype
    assert have.shape == want.shape
    np.testing.assert_allclose(have, want, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_layers_are_their_steps_for_any_length_and_batch(
    name: str, dtype: Any, session: Any
) -> None:
    """One compilation for all sizes above one."""
    layer = Layer(name, dtype)
    x = g.placeholder(dtype, ["batch", "time", FEATURES], name="x")
    outputs, last = layer.graph(x)
    for steps, batch in [(7, 5), (2, 5), (7, 2), (2, 3), (3, 6), (0, 5), (1, 5), (7, 1)]:
        data = drawn(batch, steps, FEATURES, dtype=dtype)
        have, states = session.run([outputs, last], {x: data})
        want, kept = layer.numpy(data)
        close(have, want, dtype)
        for a, b in zip(states, kept, strict=True):
            close(a, b, dtype)


def test_one_compilation_serves_sizes_that_change(session: Any) -> None:
    layer = Layer("lstm")
    x = g.placeholder("float64", ["batch", "time", FEATURES], name="x")
    lengths = g.placeholder("int64", ["batch"], name="lengths")
    outputs, last = layer.graph(x, lengths=lengths)
    loss = g.sum(outputs**2) + g.sum(last[1])
    fetches = [loss, *g.gradients(loss, list(layer.variables.values()))]
    for steps, batch in [(9, 6), (4, 7), (8, 3), (5, 11)]:
        data = drawn(batch, steps, FEATURES)
        counts = np.arange(batch) % (steps + 1)
        value, *_ = session.run(fetches, {x: data, lengths: counts})
        want, (_, cell) = layer.numpy(data, lengths=counts)
        assert value == pytest.approx((want**2).sum() + cell.sum(), rel=1e-10)
    assert str(session.compile_report()).startswith("1 compilation")


@pytest.mark.parametrize("name", CASES)
def test_ranks_that_only_a_run_knows(name: str, session: Any) -> None:
    layer, data = Layer(name), drawn(BATCH, 6, FEATURES)
    x, lengths = g.placeholder("float64"), g.placeholder("int64")
    outputs, last = layer.graph(x, lengths=lengths)
    loss = g.sum(outputs**2)
    counts = np.array([6, 0, 3, 1, 2])
    known, _ = layer.graph(data, lengths=counts)
    same = session.run(g.gradients(g.sum(known**2), [layer.variables["kernel"]]))
    fetches = [outputs, last, *g.gradients(loss, [layer.variables["kernel"]])]
    have, states, gradient = session.run(fetches, {x: data, lengths: counts})
    want, kept = layer.numpy(data, lengths=counts)
    close(have, want)
    close(states[0], kept[0])
    close(gradient, same[0])


@pytest.mark.parametrize("name", ["rnn", "lstm_peepholes", "gru_bias"])
def test_second_gradients(name: str, session: Any) -> None:
    layer = Layer(name)
    x = g.placeholder("float64", [2, None, FEATURES], name="x")
    outputs, _ = layer.graph(x, lengths=[3, 2])
    w = layer.variables["recurrent"]
    [first] = g.gradients(g.sum(outputs**2), [w])
    g.check_gradient(g.sum(first * g.sin(first)), [x, w], {x: drawn(2, 3, FEATURES)}, session)


@pytest.mark.parametrize("name", CASES)
def test_time_major_is_the_same_turned(name: str, session: Any) -> None:
    layer, data = Layer(name), drawn(BATCH, 6, FEATURES)
    mask = np.arange(6) < np.array([6, 3, 0, 1, 5])[:, None]
    plain, last = layer.graph(data, mask=mask)
    turned, other = layer.graph(data.swapaxes(0, 1), mask=mask.T, time_major=True)
    a, b, c, d = session.run([plain, turned, last, other])
    close(b.swapaxes(0, 1), a)
    for one, two in zip(c, d, strict=True):
        close(one, two)


@pytest.mark.parametrize("name", ["rnn", "lstm_peepholes", "gru_reset_before"])
@pytest.mark.parametrize("steps", LENGTHS)
def test_initial_states(name: str, steps: int, session: Any) -> None:
    layer, data = Layer(name), drawn(BATCH, steps, FEATURES)
    begin = tuple(drawn(BATCH, UNITS, seed=k) for k in range(layer.states))
    same = tuple(drawn(UNITS, seed=k) for k in range(layer.states))
    for given in (begin, same):
        whole = tuple(np.broadcast_to(part, (BATCH, UNITS)) for part in given)
        outputs, last = layer.graph(data, initial_state=given if len(given) > 1 else given[0])
        have, states = session.run([outputs, last])
        want, kept = layer.numpy(data, whole)
        close(have, want)
        for a, b in zip(states, kept, strict=True):
            close(a, b)


@pytest.mark.parametrize("name", CASES)
def test_state_of_another_dtype_widens(name: str, session: Any) -> None:
    layer = Layer(name, np.float32)
    begin = [np.zeros(UNITS)] * layer.states
    outputs, last = layer.graph(
        drawn(2, 3, FEATURES, dtype=np.float32),
        initial_state=begin if len(begin) > 1 else begin[0],
    )
    assert outputs.dtype is g.float64
    assert session.run(last)[0].dtype == np.float64


def test_an_activation_of_ones_own(session: Any) -> None:
    x, w, u = drawn(2, 3, FEATURES), drawn(FEATURES, UNITS), drawn(UNITS, UNITS)
    outputs, _ = g.nn.rnn(x, w, u, activation=g.nn.relu)
    h = np.zeros((2, UNITS))
    for t in range(3):
        h = np.maximum(x[:, t] @ w + h @ u, 0)
        close(session.run(outputs[:, t]), h)


# ---------------------------------------------------------------------------- padding


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_padding_keeps_the_state_and_gives_zeros(name: str, backwards: bool, session: Any) -> None:
    layer, data = Layer(name), drawn(BATCH, 7, FEATURES)
    counts = np.array([7, 0, 1, 2, 5])
    padded = data.copy()
    padded[np.arange(7) >= counts[:, None]] = np.nan
    outputs, last = layer.graph(padded, lengths=counts, go_backwards=backwards)
    have, states = session.run([outputs, last])
    want, kept = layer.numpy(data, lengths=counts, backwards=backwards)
    close(have, want)
    assert not have[1].any()
    for a, b in zip(states, kept, strict=True):
        close(a, b)
    for row, count in enumerate(counts):  # each row alone, without padding
        alone, _ = layer.numpy(data[row : row + 1, :count], backwards=backwards)
        close(have[row, :count], alone[0])


@pytest.mark.parametrize("name", CASES)
def test_no_gradient_comes_out_of_padding(name: str, session: Any) -> None:
    """Not even where padding is NaN: gradients are those of the rows, each alone."""
    layer, data = Layer(name), drawn(BATCH, 7, FEATURES)
    counts = np.array([7, 0, 1, 2, 5])
    variables = list(layer.variables.values())
    total = [np.zeros(v.shape) for v in variables]
    for row, count in enumerate(counts):
        outputs, last = layer.graph(data[row : row + 1, :count])
        loss = g.sum(outputs**2) + g.sum(last[-1] * 3.0)
        for whole, part in zip(total, session.run(g.gradients(loss, variables)), strict=True):
            whole += part
    padded = data.copy()
    padded[np.arange(7) >= counts[:, None]] = np.nan
    x = g.placeholder("float64", [None, None, FEATURES])
    outputs, last = layer.graph(x, lengths=counts)
    loss = g.sum(outputs**2) + g.sum(last[-1] * 3.0)
    found = session.run(g.gradients(loss, [x, *variables]), {x: padded})
    assert not found[0][np.arange(7) >= counts[:, None]].any()
    assert np.isfinite(found[0]).all()
    for have, want in zip(found[1:], total, strict=True):
        close(have, want)


def test_a_mask_may_have_holes(session: Any) -> None:
    layer, data = Layer("gru"), drawn(2, 5, FEATURES)
    mask = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1]], bool)
    outputs, last = layer.graph(data, mask=mask)
    have, [state] = session.run([outputs, last])
    for row in range(2):
        want, [kept] = layer.numpy(data[row : row + 1, mask[row]])
        close(have[row, mask[row]], want[0])
        close(state[row], kept[0])
    assert not have[~mask].any()


# ---------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str, steps: int, session: Any) -> None:
    layer = Layer(name)
    x = g.placeholder("float64", ["batch", "time", FEATURES], name="x")
    outputs, last = layer.graph(x, lengths=[steps, max(steps - 1, 0)])
    loss = g.sum(outputs * outputs) + sum(g.sum(g.sin(part)) for part in last)
    g.check_gradient(
        loss, [x, *layer.variables.values()], {x: drawn(2, steps, FEATURES)}, session
    )  # fmt: skip


def test_gradients_of_peepholes_and_initial_states(session: Any) -> None:
    w, u = drawn(FEATURES, 4 * UNITS), drawn(UNITS, 4 * UNITS)
    peepholes, begin = g.Variable(drawn(3, UNITS)), [g.Variable(drawn(UNITS)) for _ in "hc"]
    bias = g.Variable(0.5, dtype="float64")
    outputs, _ = g.nn.lstm(
        drawn(2, 4, FEATURES), w, u, initial_state=begin, peepholes=peepholes, forget_bias=bias
    )
    g.check_gradient(g.sum(outputs**2), [peepholes, *begin, bias], {}, session)


def test_truncation_cuts_what_is_further_back(session: Any) -> None:
    """One step of memory: the gradient with respect to the inputs is that of the last step."""
    layer = Layer("rnn")
    x = g.placeholder("float64", [2, 6, FEATURES])
    data = drawn(2, 6, FEATURES)
    _, [last] = layer.graph(x, truncate_gradient=2)
    [found] = session.run(g.gradients(g.sum(last), [x]), {x: data})
    _, [whole] = layer.graph(x)
    [full] = session.run(g.gradients(g.sum(whole), [x]), {x: data})
    assert not found[:, :4].any() and full[:, :4].any()
    close(found[:, 4:], full[:, 4:])


# ---------------------------------------------------------------------------- both directions

MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "concatenate": lambda a, b: np.concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "multiply": lambda a, b: a * b,
}


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("merge", MERGES)
def test_both_directions(name: str, merge: str, session: Any) -> None:
    layer, data = Layer(name), drawn(BATCH, 7, FEATURES)
    counts = [7, 0, 1, 2, 5]
    weights = list(layer.weights.values())
    turned = [w[::-1].copy() for w in weights]
    outputs, (last, first) = g.nn.bidirectional(
        layer.layer, data, weights, turned, merge=merge, lengths=counts
    )
    there, ahead = layer.numpy(data, lengths=counts)
    layer.weights = dict(zip(layer.weights, turned, strict=True))
    back, behind = layer.numpy(data, lengths=counts, backwards=True)
    have, one, other = session.run([outputs, last, first])
    close(have, MERGES[merge](there, back))
    close(np.asarray(one).reshape(np.shape(ahead)), np.asarray(ahead))
    close(np.asarray(other).reshape(np.shape(behind)), np.asarray(behind))


def test_directions_apart_and_their_states(session: Any) -> None:
    weights = [np.eye(1), np.eye(1)]
    (one, other), _ = g.nn.bidirectional(
        g.nn.rnn, np.ones((1, 3, 1)), weights, weights, ([1.0], [5.0]), merge=None,
        activation=g.identity,
    )  # fmt: skip
    assert session.run(one).ravel().tolist() == [2, 3, 4]
    assert session.run(other).ravel().tolist() == [8, 7, 6]
    with pytest.raises(ValueError, match="merge"):
        g.nn.bidirectional(g.nn.rnn, np.ones((1, 3, 1)), weights, weights, merge="add")


# ---------------------------------------------------------------------------- cells, decoding


@pytest.mark.parametrize("name", CASES)
def test_cells_are_one_step(name: str, session: Any) -> None:
    layer = Layer(name)
    cell = {g.nn.rnn: g.nn.rnn_cell, g.nn.lstm: g.nn.lstm_cell, g.nn.gru: g.nn.gru_cell}
    x, states = drawn(2, FEATURES), tuple(drawn(2, UNITS, seed=k) for k in range(layer.states))
    given = states if layer.states > 1 else states[0]
    made = cell[layer.layer](x, given, **layer.variables, **layer.extra)
    have = session.run(made)
    want = layer.step(x, *states, **layer.weights, **layer.extra)
    for a, b in zip(have if layer.states > 1 else [have], want, strict=True):
        close(a, b)


W, U, OUT = drawn(2, 4 * UNITS), drawn(UNITS, 4 * UNITS), drawn(UNITS, 2)


def decoder(row: Any, state: Any) -> tuple[Any, Any]:
    hidden, cell = g.nn.lstm_cell(row, state, W, U)
    return hidden @ OUT, (hidden, cell)


def decoded(first: Array, targets: Any, forced: Array, steps: int) -> tuple[Array, Array]:
    """Batch-major outputs and the last cell; `forced` is `[batch, time]`."""
    h = c = np.zeros((len(first), UNITS))
    row, outputs = first, np.zeros((len(first), steps, 2))
    for t in range(steps):
        h, c = lstm_step(row, h, c, kernel=W, recurrent=U, bias=np.zeros(4 * UNITS))
        outputs[:, t] = h @ OUT
        row = outputs[:, t]
        if targets is not None:
            row = np.where(forced[:, t, None], targets[:, t], row)
    return outputs, c


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("how", ["all", "none", "fed", "steps", "rows"])
def test_teacher_forcing(how: str, steps: int, session: Any) -> None:
    first, targets = drawn(3, 2), drawn(3, steps, 2)
    rows = np.random.default_rng(3).random((3, steps)) < 0.5
    start = (g.zeros((3, UNITS), "float64"),) * 2
    fed = g.placeholder("bool", [])
    forcing, forced = {
        "all": (True, np.ones_like(rows)), "none": (False, np.zeros_like(rows)),
        "fed": (fed, np.ones_like(rows)), "rows": (rows, rows),
        "steps": (rows[0], np.broadcast_to(rows[0], rows.shape)),
    }[how]  # fmt: skip
    goal = g.placeholder("float64", [3, None, 2])
    outputs, (_, cell) = g.nn.decode(decoder, first, start, goal, forcing=forcing)
    for truth in [True, False] if how == "fed" else [True]:
        feeds = {goal: targets} | ({fed: truth} if how == "fed" else {})
        have, kept = session.run([outputs, cell], feeds)
        want, state = decoded(first, targets, forced & truth, steps)
        close(have, want)
        close(kept, state)


def test_decoding_without_targets_and_time_major(session: Any) -> None:
    first, start = drawn(3, 2), (g.zeros((3, UNITS), "float64"),) * 2
    steps = g.placeholder("int64", [])
    outputs, _ = g.nn.decode(decoder, first, start, n_steps=steps)
    turned, _ = g.nn.decode(decoder, first, start, n_steps=steps, time_major=True)
    for count in (4, 9):
        want, _ = decoded(first, None, np.ones(0), count)
        have, other = session.run([outputs, turned], {steps: count})
        close(have, want)
        close(other.swapaxes(0, 1), want)


def test_decoding_symbols(session: Any) -> None:
    """The likeliest symbol goes back in: a table that leads from 0 to 2 to 1 to 0."""
    table = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32)
    outputs, _ = g.nn.decode(
        lambda ids, state: (g.take(table, ids, axis=0), state), np.array([0, 1]), (),
        n_steps=4, feedback=lambda scores: g.argmax(scores, -1),
    )  # fmt: skip
    assert session.run(g.argmax(outputs, -1)).tolist() == [[2, 1, 0, 2], [0, 2, 1, 0]]


def test_gradients_of_decoding(session: Any) -> None:
    first, start = g.Variable(drawn(3, 2)), (g.Variable(drawn(3, UNITS)),) * 2
    goal = g.placeholder("float64", [3, None, 2])
    rows = np.random.default_rng(3).random((3, 4)) < 0.5
    for forcing in (True, False, rows):
        outputs, _ = g.nn.decode(decoder, first, start, goal, forcing=forcing)
        xs = [first, start[0], *([] if forcing is False else [goal])]
        g.check_gradient(g.sum(outputs**2), xs, {goal: drawn(3, 4, 2)}, session)


# ---------------------------------------------------------------------------- errors

X = np.zeros((2, 3, FEATURES))
K, R = np.zeros((FEATURES, 4 * UNITS)), np.zeros((UNITS, 4 * UNITS))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [(lambda: g.nn.lstm(X[0], K, R), g.ShapeError, r"\[batch, time, features\]"),
     (lambda: g.nn.rnn(X, K[:, :UNITS], R), g.ShapeError, r"rnn: recurrent must be \[units, un"),
     (lambda: g.nn.lstm(X, K, R[:, 1:]), g.ShapeError, r"4 \* units\], got recurrent: f64\[4,15"),
     (lambda: g.nn.lstm(X, K[1:], R), g.ShapeError, "matmul"),
     (lambda: g.nn.lstm(X, K[:, 1:], R), g.ShapeError, r"kernel must be \[features, 4 \* units"),
     (lambda: g.nn.rnn_cell(X[0], 0.0, R, R[:, :4]), g.ShapeError, r"rnn_cell: kernel must be"),
     (lambda: g.nn.lstm(X, K, R, lengths=[1.0, 2.0]), g.DTypeError, "lengths must be"),
     (lambda: g.nn.lstm(X, K, R, lengths=[[1], [2]]), g.ShapeError, "lengths must be"),
     (lambda: g.nn.lstm(X, K, R, mask=[True, False]), g.ShapeError, "mask must be"),
     (lambda: g.nn.lstm(X, K, R, lengths=[1, 2], mask=X), ValueError, "None"),
     (lambda: g.nn.lstm(X, K, R, initial_state=np.zeros((1, 2, UNITS))), ValueError, "2 parts"),
     (lambda: g.nn.lstm(X, K, R, peepholes=np.zeros(UNITS)), g.ShapeError, r"\[3, units\]"),
     (lambda: g.nn.gru(X, K, R, recurrent_bias=X, reset_after=False), ValueError, "reset_after"),
     (lambda: g.nn.decode(decoder, X[0], (), forcing=True, n_steps=2), ValueError, "targets"),
     (lambda: g.nn.decode(decoder, X[0], ()), ValueError, "n_steps"),
     (lambda: g.nn.decode(decoder, X[0], (), X, forcing=0.5), g.DTypeError, "bools"),
     (lambda: g.nn.decode(decoder, X[0], (), X[0, 0]), g.ShapeError, r"\[batch, time, \.\.\.\]")],
)  # fmt: skip
def test_errors_state_the_rule(call: Callable[[], Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert "test_recurrent.py" in str(caught.value)
