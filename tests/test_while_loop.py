"""`while_loop` against its unrolled graph: values and derivatives, forms of variables, errors."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as g
from graphc.graph import Tensor
from tests.control_support import DEVICES, LENGTHS, agree, raised

RNG = np.random.default_rng(5)
Pair = namedtuple("Pair", "first second")


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape)


# ---------------------------------------------------------------------------- against unrolled


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("device", DEVICES)
def test_counted(device: str, length: int) -> None:
    h0, w, k = g.placeholder("float64", [3]), g.placeholder("float64", [3, 3]), None
    k = g.placeholder("int64", [])

    def step(h: Tensor) -> Tensor:
        return g.tanh(h @ w) + 0.5 * h

    _, looped = g.while_loop(lambda i, h: i < k, lambda i, h: (i + 1, step(h)), [0, h0])
    h = h0
    for _ in range(length):
        h = step(h)
    agree(device, [looped], [h], [h0, w], {h0: floats(3), w: floats(3, 3), k: length})


@pytest.mark.parametrize("bound", [0.0, 3.0, 40.0])
@pytest.mark.parametrize("device", DEVICES)
def test_the_data_decide_how_long(device: str, bound: float) -> None:
    x, rate = g.placeholder("float64", [2]), g.placeholder("float64", [])
    looped = g.while_loop(lambda v: g.sum(v) < bound, lambda v: v * rate + g.sin(v), x)
    start, factor = np.array([0.5, 0.7]), np.float64(1.4)
    count, v = 0, start
    while v.sum() < bound:
        count, v = count + 1, v * factor + np.sin(v)
    unrolled = x
    for _ in range(count):
        unrolled = unrolled * rate + g.sin(unrolled)
    agree(device, [looped], [unrolled], [x, rate], {x: start, rate: factor})


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("device", DEVICES)
def test_inside_of_scan_with_the_most_steps(device: str, length: int) -> None:
    """Each step of the scan has another number of steps of the loop inside."""
    x = g.placeholder("float64", [None])

    def outer(row: Tensor, h: Tensor) -> Tensor:
        return g.while_loop(lambda v: v < 2.0, lambda v: v * 1.5 + 0.1, row, max_steps=9) + h

    values = np.abs(floats(length)) + 0.05
    h, steps = g.constant(np.float64(0.25)), []
    for t in range(length):
        v, value = x[t], values[t]
        while value < 2.0:
            v, value = v * 1.5 + 0.1, value * 1.5 + 0.1
        h = v + h
        steps.append(g.expand_dims(h, 0))
    unrolled = g.concatenate([g.zeros([0], "float64"), *steps])
    looped = g.scan(outer, x, g.constant(np.float64(0.25)))
    agree(device, [looped], [unrolled], [x], {x: values})


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=10, deadline=None)
@given(steps=st.integers(0, 6), most=st.integers(0, 6))
def test_the_most_steps(device: str, steps: int, most: int) -> None:
    x, k = g.placeholder("float64", []), g.placeholder("int64", [])
    _, fixed = g.while_loop(lambda i, v: i < steps, lambda i, v: (i + 1, g.sin(v)), (0, x), most)
    _, fed = g.while_loop(lambda i, v: i < steps, lambda i, v: (i + 1, g.sin(v)), (0, x), k)
    unrolled = x
    for _ in range(min(steps, most)):
        unrolled = g.sin(unrolled)
    agree(device, [fixed, fed], [unrolled, unrolled], [x], {x: 0.8, k: most})


@pytest.mark.parametrize("device", DEVICES)
def test_one_compile_for_all_numbers_of_steps(device: str) -> None:
    k, x = g.placeholder("int64", []), g.placeholder("float64", [])
    _, power = g.while_loop(lambda i, p: i < k, lambda i, p: (i + 1, p * x), [0, x])
    with g.Session(device=device) as session:
        for steps in range(20):
            assert session.run(power, {k: steps, x: 2.0}) == 2.0 ** (steps + 1)
        assert session.compile_report().count == 1


# ---------------------------------------------------------------------------- variables of the loop

Form = tuple[Callable[..., Any], Callable[..., Any], Any, Callable[[Any], float]]
FORMS: dict[str, Form] = {
    "bare": (lambda v: v < 9.0, lambda v: v * 2, g.constant(1.0), float),
    "bare, in a list": (lambda v: v < 9.0, lambda v: [v * 2], g.constant(1.0), float),
    "one in a list, bare": (lambda v: v < 9.0, lambda v: v * 2, [1.0], lambda r: float(r[0])),
    "list": (lambda i, v: i < 4, lambda i, v: [i + 1, v * 2], [0, 1.0], lambda r: float(r[1])),
    "tuple": (lambda i, v: i < 4, lambda i, v: (i + 1, v * 2), (0, 1.0), lambda r: float(r[1])),
    "dict": (
        lambda d: d["i"] < 4, lambda d: {"v": d["v"] * 2, "i": d["i"] + 1}, {"i": 0, "v": 1.0},
        lambda r: float(r["v"]),
    ),
    "named tuple": (
        lambda a, b: a < 4, lambda a, b: Pair(a + 1, b * 2), Pair(0, 1.0),
        lambda r: float(r.second),
    ),
    "nested": (
        lambda i, rest: i < 4,
        lambda i, rest: (i + 1, {"v": [rest["v"][0] * 2], "n": (rest["n"][0], rest["n"][1] + 1)}),
        (0, {"n": (True, 0), "v": [1.0]}),
        lambda r: float(r[1]["v"][0]) if r[1]["n"] == (True, 4) else 0.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_variables(session: Any, form: str) -> None:
    cond, body, variables, read = FORMS[form]
    got = session.run(g.while_loop(cond, body, variables))
    assert read(got) == 16.0
    assert type(got) is type(variables) or form.startswith("bare")


def test_numbers_take_the_dtype_of_the_body() -> None:
    x = g.placeholder("float32", [])
    assert g.while_loop(lambda v: v < 9, lambda v: v + x, 0).dtype == "float32"
    assert g.while_loop(lambda v: v < 9, lambda v: v + x, 0.0).dtype == "float32"
    d = g.placeholder("float64", [])
    assert g.while_loop(lambda v: v < 9, lambda v: v + d, 0.1).dtype == "float64"
    assert g.while_loop(lambda v: v < 9, lambda v: v + 1, 0).dtype == "int64"
    assert g.while_loop(lambda v: v < 9, lambda v: v + 1, 0.0).dtype == "float32"
    i, v = g.while_loop(lambda i, v: i < 9, lambda i, v: (i + 1, v + x * i), (g.constant(0), 0.0))
    assert (i.dtype, v.dtype) == ("int64", "float64")  # NumPy's: float32 beside int64


def test_number_keeps_its_digits(session: Any) -> None:
    d = g.placeholder("float64", [])
    y = g.while_loop(lambda v: v < 0.15, lambda v: v + d, 0.1)
    assert session.run(y, {d: 0.5}) == 0.6


def test_a_condition_false_at_first_runs_nothing(session: Any, capfd: Any) -> None:
    y = g.while_loop(lambda v: v < 0, lambda v: g.print(v + 1, "ran "), 5)
    assert session.run(y) == 5
    assert capfd.readouterr().out == ""
    z = g.while_loop(lambda v: v < 7, lambda v: g.print(v + 1, "ran "), 5)
    assert session.run(z) == 7
    assert capfd.readouterr().out == "ran 6\nran 7\n"


def test_unknown_ranks(session: Any) -> None:
    x = g.placeholder("float64")
    y = g.while_loop(lambda v: g.sum(v) < 10.0, lambda v: v * 2.0, x)
    for shape in ((), (2,), (2, 1, 3)):
        values = np.ones(shape)
        while values.sum() < 10.0:
            values = values * 2.0
        np.testing.assert_allclose(session.run(y, {x: np.ones(shape)}), values)


def test_random_numbers_are_fresh_each_step(session: Any) -> None:
    drawn = g.while_loop(
        lambda i, seen: i < 5,
        lambda i, seen: (i + 1, seen.at[i].set(g.random.uniform([]))),
        (0, g.zeros([5])),
    )
    assert len(set(session.run(drawn)[1])) == 5


# ---------------------------------------------------------------------------- errors


def test_size_one_is_not_special(session: Any) -> None:
    x, v = g.placeholder("float32", [None]), g.placeholder("float32", [None], name="v")
    y = g.while_loop(lambda v: g.sum(v) < 10.0, lambda v: v + x, v)
    assert session.run(y, {x: [4.0], v: [1.0]}).tolist() == [13.0]
    text = raised(g.ShapeError, lambda: session.run(y, {x: [1.0, 2.0], v: [1.0]}))
    assert '"v" goes in as f32[1] and comes out as f32[2]' in text
    assert "test_while_loop.py:" in text


def true(*_: Any) -> bool:
    return True


H = g.zeros([3], name="h")
W = g.zeros([3, 4])
WRONG: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (g.ShapeError, 'state 0 "h" goes in as f32[3] and comes out as f32[4]',
     lambda: g.while_loop(true, lambda h: h @ W, H)),
    (g.DTypeError, 'state 0 "h" goes in as f32[3] and comes out as f64[3]',
     lambda: g.while_loop(true, lambda h: h.astype("float64"), H)),
    (g.DTypeError, 'state 1 "n" goes in as f32[] and comes out as i64[]',
     lambda: g.while_loop(true, lambda h, n: (h, g.constant(1)), [H, 0.5])),
    (g.ShapeError, "the condition must be a scalar, got bool[3]",
     lambda: g.while_loop(lambda h: h < 0.0, lambda h: h, H)),
    (g.ShapeError, "which is a list of 1, got a tuple of 2",
     lambda: g.while_loop(true, lambda h: (h, h), [H])),
    (g.ShapeError, "which is a dict of 'a', got a dict of 'b'",
     lambda: g.while_loop(true, lambda d: {"b": d["a"]}, {"a": H})),
    (g.ShapeError, "which is a tuple of 2 at [1]['n'], got",
     lambda: g.while_loop(true, lambda h, d: (h, {"n": h}), [H, {"n": (H, H)}])),
    (g.ShapeError, "which is a tensor at [1], got a list of 2",
     lambda: g.while_loop(true, lambda h, d: (h, [d, d]), [H, H])),
    (g.ShapeError, "must hold a variable", lambda: g.while_loop(true, true, [])),
    (ValueError, "max_steps must not be negative, got -1",
     lambda: g.while_loop(true, lambda h: h, H, max_steps=-1)),
    (g.DTypeError, "max_steps must be an integer, got 1.5",
     lambda: g.while_loop(true, lambda h: h, H, max_steps=1.5)),
    (TypeError, "body is called with 1 arguments (f32[3])",
     lambda: g.while_loop(true, lambda h, k: h, H)),
    (TypeError, "cond is called with 1 arguments", lambda: g.while_loop(lambda: True, true, H)),
    (TypeError, "body must be a function, got 3", lambda: g.while_loop(true, 3, H)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "wanted", "program"), WRONG, ids=[text for _, text, _ in WRONG])
def test_errors(kind: type[Exception], wanted: str, program: Callable[[], Any]) -> None:
    text = raised(kind, program)
    assert text.startswith("while_loop: ") and wanted in text and "test_while_loop.py:" in text


def test_a_negative_fed_bound(session: Any) -> None:
    k = g.placeholder("int64", [])
    y = g.while_loop(lambda v: v < 9, lambda v: v + 1, 0, max_steps=k)
    assert session.run(y, {k: 4}) == 4
    text = raised(g.ShapeError, lambda: session.run(y, {k: -4}))
    assert "must not be negative" in text and "-4" in text


def test_an_endless_loop_inside_of_another_has_no_gradient() -> None:
    x = g.placeholder("float64", [3])
    y = g.scan(lambda row: g.while_loop(lambda v: v < 2.0, lambda v: v * 1.5, row), x)
    with g.Session(device="reference") as session:
        assert session.run(y, {x: [0.5, 1.0, 3.0]}).tolist() == [0.5 * 1.5**4, 2.25, 3.0]
        text = raised(
            g.GradientError, lambda: session.run(g.gradients(g.sum(y), [x]), {x: [1.0, 2.0, 3.0]})
        )
    assert "must have max_steps" in text and "test_while_loop.py:" in text
