"""`scan` against its unrolled graph: what it runs over, what it carries, what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as g
from graphc.graph import Tensor
from tests.control_support import DEVICES, LENGTHS, agree, raised, stacked

RNG = np.random.default_rng(4)
Step = Callable[..., Any]


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape)


def placeholders(*shapes: Sequence[int | None] | None) -> list[Tensor]:
    return [g.placeholder("float64", shape) for shape in shapes]


# ---------------------------------------------------------------------------- against unrolled


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_state(device: str, length: int) -> None:
    x, w, h0 = placeholders([None, 3], [3, 3], [3])

    def step(row: Tensor, h: Tensor) -> Tensor:
        return g.tanh(h @ w + row)

    h, steps = h0, []
    for t in range(length):
        h = step(x[t], h)
        steps.append(h)
    feeds = {x: floats(length, 3), w: floats(3, 3), h0: floats(3)}
    agree(device, [g.scan(step, x, h0)], [stacked(steps, (3,))], [x, w, h0], feeds)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("device", DEVICES)
def test_several_sequences_states_and_outputs(device: str, length: int) -> None:
    x, y, a0, b0, k = placeholders([None, 2], [None], [2], [], [2])

    def step(row: Tensor, number: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> list[Tensor]:
        return [g.sin(a * scale + row), b + number * g.sum(a), row * b]

    a, b, steps = a0, b0, []
    for t in range(length):
        steps.append(step(x[t], y[t], a, b, k))
        a, b = steps[-1][:2]
    looped = g.scan(step, [x, y], [a0, b0, None], k)
    shapes = ((2,), (), (2,))
    unrolled = [stacked([s[i] for s in steps], shapes[i]) for i in range(3)]
    feeds = {x: floats(length, 2), y: floats(length), a0: floats(2), b0: floats(), k: floats(2)}
    agree(device, looped, unrolled, [x, y, a0, b0, k], feeds)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("device", DEVICES)
def test_nested(device: str, length: int) -> None:
    x, w, h0 = placeholders([None, 2, 3], [3], [3])

    def inner(row: Tensor, h: Tensor) -> Tensor:
        return g.tanh(h * w + row)

    def outer(rows: Tensor, h: Tensor) -> Tensor:
        return g.scan(inner, rows, h)[-1] * 0.5 + h

    h, steps = h0, []
    for t in range(length):
        v = h
        for u in range(2):
            v = inner(x[t, u], v)
        h = v * 0.5 + h
        steps.append(h)
    feeds = {x: floats(length, 2, 3), w: floats(3), h0: floats(3)}
    agree(device, [g.scan(outer, x, h0)], [stacked(steps, (3,))], [x, w, h0], feeds)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("device", DEVICES)
def test_ifelse_inside(device: str, length: int) -> None:
    x, h0 = placeholders([None], [])

    def step(row: Tensor, h: Tensor) -> Tensor:
        return g.ifelse(row > 0.0, lambda: h * row, lambda: g.cos(h) - row)

    values = floats(length)
    h, steps = h0, []
    for t in range(length):
        h = h * x[t] if values[t] > 0 else g.cos(h) - x[t]
        steps.append(h)
    feeds = {x: values, h0: floats()}
    agree(device, [g.scan(step, x, h0)], [stacked(steps, ())], [x, h0], feeds)


@pytest.mark.parametrize("bound", [-1.0, 0.5, 3.0, 99.0])
@pytest.mark.parametrize("device", DEVICES)
def test_until(device: str, bound: float) -> None:
    """The step whose condition holds is the last; without one, there are n_steps."""
    x, h0 = placeholders([7], [])

    def step(row: Tensor, h: Tensor) -> Any:
        h = h + row * row
        return [h, g.sin(h)], g.until(h > bound)

    values, start = np.full(7, 0.6), np.float64(0.1)
    count = 1
    while start + count * 0.36 <= bound and count < 7:
        count += 1
    h, steps = h0, []
    for t in range(count):
        h = h + x[t] * x[t]
        steps.append([h, g.sin(h)])
    unrolled = [stacked([s[i] for s in steps], ()) for i in range(2)]
    agree(device, g.scan(step, x, [h0, None]), unrolled, [x, h0], {x: values, h0: start})


# ---------------------------------------------------------------------------- taps


def unrolled_taps(
    fn: Step, x: Tensor, taps: Sequence[int], initial: Tensor, back: Sequence[int], length: int,
    rows: int, backwards: bool,
) -> list[Tensor]:  # fmt: skip
    """Theano's rule: a step begins where the tap that is furthest back has its first row."""
    first = min(0, *taps)
    count = rows - (max(0, *taps) - first)
    depth = -min(back)
    history = [initial] if depth == 1 else [initial[i] for i in range(depth)]
    steps = []
    for t in range(length):
        place = count - 1 - t if backwards else t
        read = [x[place + tap - first] for tap in taps]
        history.append(fn(*read, *(history[tap] for tap in back)))
        steps.append(history[-1])
    return steps


taps_of_sequences = st.lists(st.integers(-2, 2), min_size=1, max_size=3)
taps_of_outputs = st.lists(st.integers(-3, -1), min_size=1, max_size=3)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=12, deadline=None)
@given(
    taps=taps_of_sequences, back=taps_of_outputs, rows=st.integers(0, 7), fewer=st.integers(0, 2),
    backwards=st.booleans(),
)  # fmt: skip
def test_taps(
    device: str, taps: list[int], back: list[int], rows: int, fewer: int, backwards: bool
) -> None:
    depth = -min(back)
    span = max(0, *taps) - min(0, *taps)
    length = max(0, max(0, rows - span) - fewer)
    x, h0 = placeholders([None], [depth] if depth > 1 else [])
    n = g.placeholder("int64", []) if fewer else None

    def step(*values: Tensor) -> Tensor:
        total = values[0] * 0.9
        for place, value in enumerate(values[1:]):
            total = total + g.sin(value * (0.4 + 0.1 * place))
        return total

    looped = g.scan(
        step, {"input": x, "taps": taps}, {"initial": h0, "taps": back},
        n_steps=n, go_backwards=backwards,
    )  # fmt: skip
    steps = unrolled_taps(step, x, taps, h0, back, length, rows, backwards)
    feeds: dict[Any, Any] = {x: floats(rows), h0: floats(*h0.shape)}
    if n is not None:
        feeds[n] = length
    agree(device, [looped], [stacked(steps, ())], [x, h0], feeds)


def test_the_shortest_sequence_ends_it(session: Any) -> None:
    x, y = placeholders([None], [None])
    total = g.scan(lambda a, b: a * 10.0 + b, [x, y])
    assert session.run(total, {x: [1, 2, 3], y: [5, 6]}).tolist() == [15, 26]
    assert session.run(total, {x: [1], y: [5, 6]}).tolist() == [15]


def test_backwards_begins_at_the_end_of_each_sequence(session: Any) -> None:
    x, y = placeholders([None], [None])
    total = g.scan(lambda a, b: a * 10.0 + b, [x, y], n_steps=2, go_backwards=True)
    assert session.run(total, {x: [1, 2, 3], y: [5, 6]}).tolist() == [36, 25]


# ---------------------------------------------------------------------------- lengths


@pytest.mark.parametrize("device", DEVICES)
def test_one_compile_for_all_lengths(device: str) -> None:
    x, h0 = placeholders([None, 2], [2])
    h = g.scan(lambda row, h: h * 0.5 + row, x, h0)
    fetches = [h, *g.gradients(g.sum(h * h), [x, h0])]
    with g.Session(device=device) as session:
        for length in range(1, 21):
            values, _, _ = session.run(fetches, {x: np.ones((length, 2)), h0: np.zeros(2)})
            np.testing.assert_allclose(values[-1], 2 - 0.5 ** (length - 1))
        assert session.compile_report().count == 1


@pytest.mark.parametrize("device", DEVICES)
def test_one_compile_for_all_fed_numbers_of_steps(device: str) -> None:
    k = g.placeholder("int64", [])
    powers = g.scan(lambda p: p * 2, None, 1, n_steps=k - 1)
    with g.Session(device=device) as session:
        for steps in range(20):
            wanted = [2 ** (i + 1) for i in range(steps)]
            assert session.run(powers, {k: steps + 1}).tolist() == wanted
        assert session.compile_report().count == 1


@pytest.mark.parametrize("steps", [3, np.int32(3), g.constant(3), g.constant(5) - 2])
def test_forms_of_n_steps(session: Any, steps: Any) -> None:
    assert session.run(g.scan(lambda p: p * 2.0, None, 1.0, n_steps=steps)).tolist() == [2, 4, 8]


def test_unknown_ranks(session: Any) -> None:
    x = g.placeholder("float64")
    h = g.scan(lambda row, h: row * 2.0 + h, x, g.zeros(g.shape(x)[1:], "float64"))
    for shape in ((3, 2), (2, 1, 2), (4,)):
        values = floats(*shape)
        np.testing.assert_allclose(session.run(h, {x: values}), 2 * np.cumsum(values, 0))
    short = g.scan(lambda row: (row, g.until(g.sum(row) > 1.0)), x)
    assert session.run(short, {x: np.array([[0.0, 1], [2, 3], [4, 5]])}).shape == (2, 2)
    text = raised(g.ShapeError, lambda: session.run(g.scan(lambda row: row, x), {x: 1.0}))
    assert "must have an axis to run over" in text and "test_scan.py:" in text


def test_sizes_inside_of_unknown_ranks(session: Any) -> None:
    x, k = g.placeholder("float64"), g.placeholder("float64")
    flat = g.scan(lambda row: g.reshape(row * k, [-1]) + g.reshape(k + row, [-1]), x)
    values = floats(2, 3, 2)
    wanted = (values * 3.0 + values).reshape(2, 6) + 3.0
    np.testing.assert_allclose(session.run(flat, {x: values, k: 3.0}), wanted)
    ones = g.scan(lambda row: row + g.ones(g.shape(row), "float64"), x)
    np.testing.assert_allclose(session.run(ones, {x: values}), values + 1.0)


def test_zeros_of_a_size_of_unknown_rank(session: Any) -> None:
    """The size that is asked for is itself a size of what only an unknown rank tells."""
    x = g.placeholder("float64")
    y = g.zeros(g.shape(x)[1:], "float64") * 2.0 + x[0]
    for shape in ((2,), (2, 3), (1, 2, 3)):
        values = floats(*shape)
        np.testing.assert_allclose(session.run(y, {x: values}), values[0])


def test_sizes_must_not_change_from_step_to_step() -> None:
    programs: list[Callable[[], Any]] = [
        lambda: g.scan(lambda n: g.zeros([n + 1]), g.arange(3)),
        lambda: g.scan(lambda n: g.scan(lambda h: h + 1, None, 0, n_steps=n)[0], g.arange(3)),
        lambda: g.scan(lambda r: g.scan(lambda a: (a, g.until(a > 1)), r)[0], g.ones([3, 3])),
    ]
    for program in programs:
        text = raised(g.ShapeError, program)
        assert text.startswith("a size inside of a loop must not depend on what the loop computes")
        assert "test_scan.py:" in text


@pytest.mark.parametrize("backwards", [False, True])
def test_too_many_steps_for_a_fed_sequence(session: Any, backwards: bool) -> None:
    x, k = g.placeholder("float64", [None], name="rows"), g.placeholder("int64", [])
    y = g.scan(lambda row: row, x, n_steps=k, go_backwards=backwards)
    assert session.run(y, {x: [], k: 0}).shape == (0,)
    text = raised(g.ShapeError, lambda: session.run(y, {x: [1.0, 2.0, 3.0], k: 5}))
    assert "5" in text and "3" in text and '"rows"' in text and "test_scan.py:" in text


def test_too_many_steps_for_taps(session: Any) -> None:
    x, k = g.placeholder("float64", [None]), g.placeholder("int64", [])
    y = g.scan(lambda a, b: a + b, {"input": x, "taps": [-1, 1]}, n_steps=k)
    assert session.run(y, {x: [1.0, 2.0, 3.0], k: 1}).tolist() == [4.0]
    assert session.run(y, {x: [1.0], k: 0}).tolist() == []
    text = raised(g.ShapeError, lambda: session.run(y, {x: [1.0, 2.0, 3.0], k: 2}))
    assert "4" in text and "3" in text


def test_a_negative_number_of_steps(session: Any) -> None:
    k = g.placeholder("int64", [])
    y = g.scan(lambda p: p * 2, None, 1, n_steps=k)
    text = raised(g.ShapeError, lambda: session.run(y, {k: -3}))
    assert "must not be negative" in text and "-3" in text and "test_scan.py:" in text


def test_a_sequence_shorter_than_its_taps_makes_no_step(session: Any) -> None:
    x = g.placeholder("float64", [None])
    y = g.scan(lambda a, b: a + b, {"input": x, "taps": [-3, 0]})
    for rows in range(4):
        assert session.run(y, {x: np.ones(rows)}).shape == (0,)
    assert session.run(y, {x: np.ones(4)}).tolist() == [2.0]


# ---------------------------------------------------------------------------- what is carried


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_take_the_dtype_of_the_step(session: Any, dtype: str) -> None:
    x = g.placeholder(dtype, [None])
    for start in (0, 0.0, 0.1):
        total = g.scan(lambda row, h: h + row, x, start)
        assert total.dtype == dtype
        got = session.run(total, {x: [1, 2]})
        assert got.tolist() == (np.array([1, 3], dtype) + np.array(start, dtype)).tolist()
    fibonacci = g.scan(lambda row, a, b: a + b * row, x, {"initial": [0, 1], "taps": [-1, -2]})
    assert fibonacci.dtype == dtype
    assert session.run(fibonacci, {x: [1, 1, 1]}).tolist() == [1, 2, 3]


def test_numbers_alone_are_int64_and_float32() -> None:
    assert g.scan(lambda n: n + 1, None, 0, n_steps=2).dtype == "int64"
    assert g.scan(lambda n: n + 1, None, 0.0, n_steps=2).dtype == "float32"
    assert g.scan(lambda n: n / 2, None, 1, n_steps=2).dtype == "float32"
    assert g.scan(lambda b: g.logical_not(b), None, True, n_steps=2).dtype == "bool"


def test_size_one_is_not_special(session: Any) -> None:
    text = raised(
        g.ShapeError,
        lambda: g.scan(lambda row, h: h + row, g.zeros([4, 3]), g.zeros([1])),
    )
    assert "goes in as f32[1] and comes out as f32[3]" in text
    x, h = g.placeholder("float32", [None]), g.placeholder("float32", [None], name="h")
    y = g.scan(lambda row, h: h + x, x, h)
    assert session.run(y, {x: [1.0], h: [1.0]}).tolist() == [[2.0]]
    text = raised(g.ShapeError, lambda: session.run(y, {x: [1.0, 2.0], h: [1.0]}))
    assert 'state 0 "h" goes in as f32[1] and comes out as f32[2]' in text
    assert "test_scan.py:" in text


@pytest.mark.parametrize("device", DEVICES)
def test_random_numbers_are_fresh_each_step_and_each_run(device: str) -> None:
    noise = g.scan(lambda h: g.random.normal([3]), None, g.zeros([3]), n_steps=4)
    with g.Session(device=device, seed=5) as session:
        first, second = session.run(noise), session.run(noise)
    assert len({*first.ravel(), *second.ravel()}) == 24
    with g.Session(device="reference", seed=5) as session:
        np.testing.assert_allclose(session.run(noise), first, rtol=1e-5)


def test_random_numbers_of_nested_loops_are_all_different(session: Any) -> None:
    def row(_: Tensor) -> Tensor:
        return g.scan(lambda: g.random.uniform([]), n_steps=3)

    noise = session.run(g.scan(row, g.arange(4)))
    assert len(set(noise.ravel())) == 12


def test_print_inside(session: Any, capfd: pytest.CaptureFixture[str]) -> None:
    y = g.scan(lambda n: g.print(n + 1, "n = "), None, 0, n_steps=3)
    assert session.run(y).tolist() == [1, 2, 3]
    assert capfd.readouterr().out == "n = 1\nn = 2\nn = 3\n"


# ---------------------------------------------------------------------------- what comes back


def test_forms_of_results(session: Any) -> None:
    x = g.constant([1.0, 2.0, 3.0])
    end = g.until(g.constant(False))
    one, two = x * 1.0, x * 2.0
    forms: list[tuple[Step, Any]] = [
        (lambda a: a, "tensor"),
        (lambda a: [a], "list of 1"),
        (lambda a: (a, a * 2.0), "list of 2"),
        (lambda a: [a, a * 2.0], "list of 2"),
        (lambda a: (a, end), "tensor"),
        (lambda a: ([a], end), "list of 1"),
        (lambda a: (a, a * 2.0, end), "list of 2"),
        (lambda a: ([a, a * 2.0], end), "list of 2"),
    ]
    for fn, form in forms:
        got = g.scan(fn, x)
        listed = got if isinstance(got, list) else [got]
        assert form == ("tensor" if got is not listed else f"list of {len(listed)}")
        for ours, theirs in zip(session.run(listed), session.run([one, two]), strict=False):
            assert ours.tolist() == theirs.tolist()


def test_variables_are_read_and_written(session: Any) -> None:
    v = g.Variable(np.array([1.0, 2.0]), name="v")
    before = v * 10.0  # is built outside: of the value that the run begins with

    def step(number: Tensor) -> list[Any]:
        return [v + number, g.assign(v, v * 2.0), before]

    seen, last, old = g.scan(step, g.constant(np.arange(3.0)))
    got = session.run([seen, last, old])
    assert got[0].tolist() == [[1, 2], [3, 5], [6, 10]]
    assert got[1] is None
    assert got[2].tolist() == [[10, 20]] * 3
    assert session.run(v).tolist() == [8, 16]
    session.run(seen)  # without the update, nothing is written
    assert session.run(v).tolist() == [8, 16]


def test_a_dictionary_of_updates(session: Any) -> None:
    v, w = g.Variable(1.0), g.Variable(0, dtype="int64")
    results = g.scan(lambda: (v * 1.0, {v: v * 3.0, w: w + 1}), n_steps=4)
    outputs, updates = results
    assert session.run(outputs).tolist() == [1, 3, 9, 27]
    run = g.function([], outputs, updates=updates, session=session)
    assert np.asarray(run()).tolist() == [1, 3, 9, 27]
    assert session.run([v, w]) == [81, 4]
    alone = g.scan(lambda: {w: w * 2}, n_steps=3)
    session.run(alone)
    assert session.run(w) == 32
    pairs = g.scan(lambda: [(w, w + 1)], n_steps=0)
    session.run(pairs)
    assert session.run(w) == 32


def test_variables_until_the_end(session: Any) -> None:
    v = g.Variable(1.0)
    seen, last = g.scan(lambda: ([v * 1.0, g.assign(v, v * 2)], g.until(v > 5.0)), n_steps=99)
    assert session.run([seen, last])[0].tolist() == [1, 2, 4, 8]
    assert session.run(v) == 16


def test_variables_in_nested_loops(session: Any) -> None:
    v = g.Variable(0.0)

    def outer(x: Tensor) -> list[Any]:
        inner, last = g.scan(lambda y: [v + y, g.assign_add(v, x)], g.constant([0.25, 0.5]))
        return [inner, last]

    seen, last = g.scan(outer, g.constant([1.0, 10.0]))
    got = session.run([seen, last])[0]
    assert got.tolist() == [[0.25, 1.5], [2.25, 12.5]]
    assert session.run(v) == 22


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_to_a_variable_that_is_written(device: str) -> None:
    v, x = g.Variable(np.float64(0.7)), g.placeholder("float64", [3])
    seen, _ = g.scan(lambda row: [v * row, g.assign(v, g.sin(v) + row)], x)
    value: Tensor = v
    steps = []
    for t in range(3):
        steps.append(value * x[t])
        value = g.sin(value) + x[t]
    agree(device, [seen], [stacked(steps, ())], [x, v], {x: floats(3)})


@pytest.mark.parametrize("device", DEVICES)
def test_training_inside(device: str) -> None:
    """An optimiser's step is a group of updates like any other."""
    w = g.Variable(np.zeros(2, np.float64))
    rows = g.constant(np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]))

    def step(row: Tensor) -> list[Any]:
        loss = g.square(g.sum(w * row) - 1.0)
        return [loss, g.optim.SGD(0.1).minimize(loss, [w])]

    losses, train = g.scan(step, rows)
    with g.Session(device=device) as session:
        got, _ = session.run([losses, train])
        trained = session.run(w)
    weights, wanted = np.zeros(2), []
    for row in session_rows():
        error = weights @ row - 1.0
        wanted.append(error**2)
        weights = weights - 0.1 * 2 * error * row
    np.testing.assert_allclose(got, wanted)
    np.testing.assert_allclose(trained, weights)


def session_rows() -> list[Any]:
    return [np.array([1.0, 2.0]), np.array([0.5, -1.0]), np.array([2.0, 0.0])]


# ---------------------------------------------------------------------------- errors

X = g.placeholder("float32", [None, 3], name="x")
H = g.zeros([3], name="h")
V = g.Variable(1.0, name="v")
WRONG: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (g.ShapeError, 'state 0 "h" goes in as f32[3] and comes out as f32[2]',
     lambda: g.scan(lambda row, h: h[:2], X, H)),
    (g.ShapeError, "g.zeros([3]) begins a state of that shape",
     lambda: g.scan(lambda row, h: h + row, X, 0.0)),
    (g.DTypeError, 'state 0 "h" goes in as f32[3] and comes out as f64[3]',
     lambda: g.scan(lambda row, h: h.astype("float64"), X, H)),
    (g.DTypeError, 'state 1 "n" goes in as f32[] and comes out as i64[]',
     lambda: g.scan(lambda row, h, n: [h, g.constant(1)], X, [H, 0.5])),
    (g.ShapeError, "got 1 entries and 2 outputs", lambda: g.scan(lambda r: [r, r], X, [None])),
    (g.ShapeError, "must have an axis to run over, got f32[]", lambda: g.scan(lambda r: r, V)),
    (ValueError, "n_steps must not be negative, got -1",
     lambda: g.scan(lambda: 1.0, n_steps=-1)),
    (g.DTypeError, "n_steps must be an integer, got 2.5", lambda: g.scan(lambda: 1.0, n_steps=2.5)),
    (g.ShapeError, "n_steps must be given", lambda: g.scan(lambda: 1.0)),
    (g.ShapeError, "got n_steps=4 and f32[3]", lambda: g.scan(lambda r: r, H, n_steps=4)),
    (g.ShapeError, "got n_steps=3 and f32[3] with taps=[0, 1]",
     lambda: g.scan(lambda a, b: a, {"input": H, "taps": [0, 1]}, n_steps=3)),
    (g.ShapeError, "got {'a': ", lambda: g.scan(lambda r: {"a": r}, X)),
    (g.ShapeError, "got None", lambda: g.scan(lambda r: None, X)),
    (g.ShapeError, "got 'input', 'tap'", lambda: g.scan(lambda r: r, {"input": X, "tap": 1})),
    (g.ShapeError, "taps of a sequence are ints",
     lambda: g.scan(lambda r: r, {"input": X, "taps": [0.5]})),
    (g.ShapeError, "taps of an output are ints below 0",
     lambda: g.scan(lambda r, h: h, X, {"initial": H, "taps": [0]})),
    (g.ShapeError, "must have 4 rows, one for each step before the first, got f32[3]",
     lambda: g.scan(lambda r, h: h, X, {"initial": H, "taps": [-4]})),
    (g.ShapeError, "the condition of until must be a scalar, got bool[3]",
     lambda: g.scan(lambda r: (r, g.until(r > 0.0)), X)),
    (g.FetchError, 'written once in a step, got two updates of "v"',
     lambda: g.scan(lambda r: [g.assign(V, 1.0), g.assign(V, 2.0)], X)),
    (ValueError, "truncate_gradient must be a number of steps above 0, got 0",
     lambda: g.scan(lambda r: r, X, truncate_gradient=0)),
    (ValueError, "checkpoint must be a number of steps above 0 or 'sqrt', got 'all'",
     lambda: g.scan(lambda r: r, X, checkpoint="all")),
    (TypeError, "fn is called with 2 arguments (f32[3], f32[3])",
     lambda: g.scan(lambda r: r, X, H)),
    (TypeError, "fn must be a function, got 'f'", lambda: g.scan("f", X)),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("kind", "wanted", "program"), WRONG, ids=[text for _, text, _ in WRONG])
def test_errors(kind: type[Exception], wanted: str, program: Callable[[], Any]) -> None:
    text = raised(kind, program)
    assert text.startswith("scan: ") and wanted in text and "test_scan.py:" in text
