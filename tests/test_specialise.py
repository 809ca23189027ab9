"""What a run's sizes decide: ranks, which sizes are 1 and which equal; nothing more is asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.build import assuming
from graphc.dims import Dim
from graphc.dtypes import float32
from graphc.errors import ShapeError
from graphc.graph import Graph, Tensor
from graphc.ops.arith import absolute
from graphc.ops.broadcast import broadcast_to
from graphc.ops.broadcast import sum as total
from graphc.ops.contraction import matmul
from graphc.ops.elementary import exp
from graphc.ops.gradient import gradients
from graphc.ops.shape import reshape, transpose
from graphc.ops.softmax import log_softmax
from graphc.ops.source import Variable, placeholder
from graphc.ops.trigonometric import tanh
from graphc.passes import optimise
from graphc.passes.specialise import specialise
from graphc.runtime.session import Session
from graphc.types import Assumptions, TensorType
from tests.passes_support import assumptions_for, listing, run


def specialised(output: Tensor, feeds: dict[Tensor, object]) -> tuple[str, Assumptions]:
    assumptions = assumptions_for(feeds)
    with assuming(assumptions):
        graph = specialise(Graph((output,), (), tuple(feeds)))
    return listing(graph), assumptions


def test_sizes_stay_symbolic_and_nothing_is_asked_of_a_network() -> None:
    x = placeholder("float32", ["batch", 4], name="x")
    y = placeholder("float32", ["batch", 3], name="y")
    w, b = Variable(np.ones((4, 3), np.float32)), Variable(np.ones(3, np.float32))
    loss = -total(y * log_softmax(tanh(x @ w + b), axis=-1)) * 0.5
    assumptions = assumptions_for({x: np.ones((5, 4)), y: np.ones((5, 3))})
    with assuming(assumptions):
        graph = optimise(Graph((loss, *gradients(loss, [w, b])), (), (x, y)))
    assert assumptions.asked == {}
    assert "f32[batch,3]" in listing(graph)


def test_a_graph_without_questions_is_returned_itself() -> None:
    x = placeholder("float32", ["batch", 4], name="x")
    graph = Graph((exp(x) * 2.0,), (), (x,))
    with assuming(assumptions_for({x: np.ones((2, 4))})):
        assert specialise(graph) is graph


def test_ranks_come_from_the_feeds() -> None:
    x = placeholder("float32", None, name="x")
    text, _ = specialised(transpose(exp(x)), {x: np.ones((2, 3))})
    assert text == (
        "feed %x: f32[?0,?1] = placeholder\n"
        "%0: f32[?0,?1] = exp %x\n"
        "%1: f32[?1,?0] = transpose %0 axes=(1,0)\n"
        "return %1\n"
    )


def test_sizes_that_are_equal_become_one() -> None:
    a = placeholder("float32", [None], name="a")
    b = placeholder("float32", [None], name="b")
    text, assumptions = specialised(a + b, {a: np.ones(3), b: np.ones(3)})
    assert "%0: f32[?0] = add %a %b" in text
    assert list(assumptions.asked.values()) == [True]


def test_a_size_that_is_one_is_stretched() -> None:
    a = placeholder("float32", [None], name="a")
    b = placeholder("float32", [None], name="b")
    text, _ = specialised(a + b, {a: np.ones(1), b: np.ones(3)})
    assert text == (
        "feed %a: f32[1] = placeholder\n"
        "feed %b: f32[?0] = placeholder\n"
        "%0: f32[?0] = broadcast_to %a shape=(?0)\n"
        "%1: f32[?0] = add %0 %b\n"
        "return %1\n"
    )


def test_sizes_that_do_not_fit_name_the_line() -> None:
    a = placeholder("float32", [None], name="a")
    b = placeholder("float32", [None], name="b")
    with pytest.raises(ShapeError, match=r"(?s)add: shapes must broadcast.*test_specialise.py:\d+"):
        specialised(a + b, {a: np.ones(2), b: np.ones(3)})


def test_a_known_size_is_demanded() -> None:
    x = placeholder("float32", [None, None], name="x")
    text, assumptions = specialised(matmul(x, np.ones((4, 3), np.float32)), {x: np.ones((2, 4))})
    assert "feed %x: f32[?0,4]" in text
    assert len(assumptions.asked) == 1


def test_a_fed_inner_tensor_becomes_a_placeholder() -> None:
    x = placeholder("float32", (2,), name="x")
    h = exp(x)
    text, _ = specialised(h * 2.0, {h: np.ones(2)})
    assert text.startswith("feed %exp: f32[2] = placeholder\n")
    assert "%x" not in text


def test_variables_are_never_built_again() -> None:
    n = Dim.symbol("n")
    x = placeholder("float32", [n], name="x")
    v = Variable(exp(x) * 0.0, name="v")
    y = placeholder("float32", [4], name="y")
    assumptions = assumptions_for({x: np.ones(4), y: np.ones(4)})
    with assuming(assumptions):
        graph = specialise(Graph((v + y + x,), (), (x, y)))
    assert v.node in graph.nodes


def test_named_sizes_outlive_nameless_ones() -> None:
    named, nameless, other = Dim.symbol("batch"), Dim.symbol(), Dim.symbol()
    for pair in ((named, nameless), (nameless, named)):
        assumptions = Assumptions({}, {pair: True})
        assert assumptions.solved() == {nameless.as_symbol(): named}
    assumptions = Assumptions({}, {(other, nameless): True, (nameless, named): True})
    solved = assumptions.solved()
    assert named.as_symbol() not in solved
    assert set(solved.values()) == {named}


def test_a_size_is_preferred_to_a_symbol_and_negative_answers_solve_nothing() -> None:
    n, m = Dim.symbol("n"), Dim.symbol("m")
    assert Assumptions({}, {(n, 4): True, (m, 1): False}).solved() == {n.as_symbol(): 4}


def test_answers_hold_both_ways_round() -> None:
    n, m = Dim.symbol("n"), Dim.symbol("m")
    assumptions = Assumptions({n.as_symbol(): 3, m.as_symbol(): 3})
    assert assumptions.equal(n, m) is True and assumptions.equal(m, n) is True
    assert len(assumptions.asked) == 1


def test_verification_asks_nothing() -> None:
    x = placeholder("float32", ["n"], name="x")
    y = reshape(x, (2, -1))
    assumptions = assumptions_for({x: np.ones(6)})
    with assuming(assumptions):
        graph = specialise(Graph((y,), (), (x,)))
        asked = dict(assumptions.asked)
        optimise(graph)
    assert assumptions.asked == asked


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3]), max_size=3), st.data())
def test_broadcasting_of_unknown_ranks_matches_numpy(shape: list[int], data: st.DataObject) -> None:
    other = [data.draw(st.sampled_from([1, d])) for d in shape]
    other = other[data.draw(st.integers(0, len(other))) :]
    a, b = placeholder("float64", None, name="a"), placeholder("float64", None, name="b")
    x, y = np.ones(shape) * 2, np.arange(np.prod(other, dtype=int), dtype=float).reshape(other)
    found = run([a * b + a, *gradients(total(a * b), [a, b])], {a: x, b: y})
    np.testing.assert_array_equal(found[0], x * y + x)
    assert found[1].shape == x.shape and found[2].shape == y.shape
    np.testing.assert_allclose(found[1].sum(), np.broadcast_to(y, (x * y).shape).sum())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4))
def test_one_answer_set_serves_all_sizes_of_its_pattern(rows: int, columns: int) -> None:
    """A graph specialised for one batch is right for every batch with the same answers."""
    x = placeholder("float32", [None, None], name="x")
    y = x + total(x, axis=0)
    assumptions = assumptions_for({x: np.ones((2, 3))})
    types = {x: TensorType(float32, x.shape)}
    with assuming(Assumptions(assumptions.sizes, types=types)) as _:
        text = listing(specialise(Graph((y,), (), (x,))))
    at = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    np.testing.assert_array_equal(run([y], {x: at})[0], at + at.sum(axis=0))
    assert "f32[?0,?1]" in text


def _reshaped(x: Tensor, sizes: Tensor, b: Tensor) -> list[Tensor]:
    y = tanh(reshape(x, sizes) + b)
    return [y, *gradients(total(y * y), [x, b])]


@pytest.mark.parametrize("through", ["fed", "computed", "variable"])
def test_gradients_through_sizes_that_are_elements_of_tensors(through: str) -> None:
    """Sizes known only once a shape tensor is computed still answer what gradients ask."""
    x, b = placeholder("float64", [None], name="x"), placeholder("float64", name="b")
    sizes: Tensor = placeholder("int64", [None] if through == "fed" else [2], name="sizes")
    fed = {"fed": sizes, "computed": sizes, "variable": None}[through]
    if through == "computed":
        sizes = absolute(sizes)
    elif through == "variable":
        sizes = Variable([2, 3], dtype="int64")
    at = np.arange(6.0) / 6
    with Session() as s:
        for rows, columns, other in [(2, 3, 3), (3, 2, 2), (6, 1, 1), (2, 3, 1), (1, 6, 6)]:
            bias, wanted = np.arange(float(other)), [rows, columns]
            feeds = {x: at, b: bias}
            if fed is None:
                s.set(sizes, wanted)  # type: ignore[arg-type]  # the variable
            else:
                feeds[fed] = np.array(wanted)
            y, dx, db = s.run(_reshaped(x, sizes, b), feeds)
            expected = np.tanh(at.reshape(wanted) + bias)
            slope = 2 * expected * (1 - expected**2)
            np.testing.assert_allclose(y, expected)
            np.testing.assert_allclose(dx, slope.ravel())
            np.testing.assert_allclose(db, slope.sum(0) if other > 1 else [slope.sum()])


def test_programs_of_computed_sizes_are_found_again() -> None:
    x, b = placeholder("float64", [None], name="x"), placeholder("float64", [None], name="b")
    sizes = placeholder("int64", [None], name="sizes")
    fetches = _reshaped(x, absolute(sizes), b)
    with Session() as s:
        for rows, columns in [(2, 3), (5, 4), (3, 2), (2, 2)]:
            count = rows * columns
            shape = s.run(fetches, {x: np.ones(count), b: np.ones(columns), sizes: [rows, columns]})
            assert shape[0].shape == (rows, columns)
        assert s.compile_report().count == 1
        s.run(fetches, {x: np.ones(6), b: np.ones(1), sizes: [2, 3]})
        s.run(fetches, {x: np.ones(8), b: np.ones(1), sizes: [4, 2]})
        s.run(fetches, {x: np.ones(6), b: np.ones(3), sizes: [1, 2, 3]})
        assert s.compile_report().count == 3


def test_second_derivatives_through_computed_sizes() -> None:
    x, b = placeholder("float64", [None], name="x"), placeholder("float64", [None], name="b")
    sizes = placeholder("int64", [None], name="sizes")
    [slope] = gradients(total((reshape(x, sizes) + b) ** 3), [x])
    [second] = gradients(total(slope), [b])
    at = {x: np.arange(6.0), sizes: [2, 3], b: np.ones(3)}
    np.testing.assert_allclose(Session().run(second, at), 6 * np.array([5.0, 7, 9]))


def test_a_size_must_be_one_number() -> None:
    n = placeholder("int64", name="n")
    with pytest.raises(ShapeError, match=r'a size must be a scalar.*placeholder "n"'):
        Session().run(total(broadcast_to(1.0, (n, 2))), {n: [2, 3]})
