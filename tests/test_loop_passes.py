"""The passes that optimise loops: what is left of a loop, and that values stay what they were."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.build import assuming
from graphc.errors import ShapeError
from graphc.graph import Graph, Tensor, nested
from graphc.ops.loop import LOOP
from graphc.passes import PIPELINE, deep, optimise
from graphc.passes.loops import Loop
from tests.control_support import DEVICES
from tests.passes_support import assumptions_for

PASSES = (
    "prune_loops", "hoist", "sink_rows", "stash", "accumulate", "scatter_updates",
)  # fmt: skip
STEPS = {step.__name__: step for step in PIPELINE}
Model = Callable[[], tuple[Sequence[Tensor], Mapping[Tensor, Any]]]


def _array(*shape: int, scale: float = 1.0) -> Any:
    seed = int(np.prod(shape, dtype=int)) + 31 * len(shape)
    drawn = np.random.default_rng(seed).normal(size=shape)
    return (drawn * scale).astype(np.float32)


def _variable(*shape: int) -> Any:
    return g.Variable(_array(*shape, scale=0.5))


def _first_and_second(loss: Tensor, xs: Sequence[Tensor]) -> list[Tensor]:
    first = g.gradients(loss, list(xs))
    mixed = sum((g.sum(g.sin(d)) for d in first), g.constant(0.0))
    return [loss, *first, *g.gradients(mixed, list(xs), unconnected="zero")]


# ---------------------------------------------------------------------------- models


def _rnn() -> Any:
    x = g.placeholder("float32", [None, 2, 3], name="x")
    w, u, b = _variable(4, 4), _variable(3, 4), _variable(4)
    hs = g.scan(lambda xt, h: g.tanh(h @ w + xt @ u + b), x, g.zeros([2, 4]))
    return _first_and_second(g.sum(hs[-1] ** 2), [w, u, b, x]), {x: _array(5, 2, 3)}


def _stacked() -> Any:
    """All states are used, and read out through a matrix."""
    x = g.placeholder("float32", [None, 2, 3])
    w, v = _variable(3, 3), _variable(3, 2)

    def step(xt: Tensor, h: Tensor) -> list[Tensor]:
        h = g.tanh(h @ w + xt)
        return [h, g.nn.softmax(h @ v)]

    hs, ys = g.scan(step, x, [g.ones([2, 3]), None])
    loss = g.sum(ys**2) + g.sum(hs[1:] * hs[:-1])
    return [hs, ys, *_first_and_second(loss, [w, v, x])], {x: _array(4, 2, 3)}


def _lstm() -> Any:
    ids = g.placeholder("int64", [None, 2])
    table, w, u = _variable(7, 3), _variable(3, 16), _variable(4, 16)

    def step(i: Tensor, h: Tensor, c: Tensor) -> list[Tensor]:
        z = g.take(table, i, axis=0) @ w + h @ u
        forget, keep, out, new = (z[:, k * 4 : k * 4 + 4] for k in range(4))
        c = g.sigmoid(forget) * c + g.sigmoid(keep) * g.tanh(new)
        return [g.sigmoid(out) * g.tanh(c), c]

    zeros = g.zeros([2, 4])
    hs, cs = g.scan(step, ids, [zeros, zeros], go_backwards=True)
    loss = g.sum(hs[-1] ** 2) + g.sum(cs[-1])
    return _first_and_second(loss, [table, w, u]), {ids: np.array([[0, 3], [3, 6], [-1, 1]])}


def _nested() -> Any:
    x = g.placeholder("float32", [None, 3])
    w = _variable(3, 3)

    def outer(row: Tensor, h: Tensor) -> Tensor:
        inner = g.scan(lambda k: g.sin(k @ w + row), None, h, n_steps=3)
        return inner[-1] + h

    hs = g.scan(outer, x, g.ones([3]))
    return [hs, *_first_and_second(g.sum(hs**2), [w, x])], {x: _array(4, 3)}


def _until() -> Any:
    x = g.placeholder("float32", [None, 3])
    w = _variable(3, 3)

    def step(row: Tensor, h: Tensor) -> Any:
        h = g.exp(-((h @ w + row) ** 2))
        return h, g.until(g.sum(h) > 1.8)

    hs = g.scan(step, x, g.ones([3]))
    return [hs, *_first_and_second(g.sum(hs[-1] ** 2), [w, x])], {x: _array(6, 3)}


def _while() -> Any:
    w = _variable(3, 3)
    start = g.placeholder("float32", [3])
    i, h = g.while_loop(
        lambda i, h: g.sum(h * h) > 0.01, lambda i, h: (i + 1, g.tanh(h @ w) * 0.7), [0, start]
    )
    return [i, *_first_and_second(g.sum(h), [w, start])], {start: _array(3)}


def _taps() -> Any:
    x = g.placeholder("float32", [None])
    a = _variable()
    hs = g.scan(
        lambda early, late, two, one: g.tanh(two * a + one * early - late),
        {"input": x, "taps": [-1, 0]},
        {"initial": g.constant(np.float32([0.1, 0.2])), "taps": [-2, -1]},
    )
    return [hs, *_first_and_second(g.sum(hs * hs), [a, x])], {x: _array(6)}


def _random() -> Any:
    w = _variable(3, 3)

    def step(h: Tensor) -> Tensor:
        mask = g.random.uniform([3], name="mask") < 0.7
        return g.tanh(g.where(mask, h @ w, h))

    hs = g.scan(step, None, g.ones([3]), n_steps=5)
    return [hs, *_first_and_second(g.sum(hs[-1]), [w])], {}


def _map() -> Any:
    """No state at all, and an invariant."""
    x = g.placeholder("float32", [None, 2, 3])
    w, b = _variable(3, 4), _variable(4)

    def step(row: Tensor) -> list[Tensor]:
        y = g.nn.relu(row @ w) * g.exp(b)
        return [y - g.mean(y, axis=-1, keepdims=True), g.sum(y)]

    ys, totals = g.scan(step, x)
    return [ys, totals, *_first_and_second(g.sum(ys**2) + g.sum(totals), [w, b, x])], {
        x: _array(3, 2, 3)
    }


def _sparing() -> Any:
    """With checkpoints."""
    x = g.placeholder("float32", [None, 2, 3])
    w, u = _variable(3, 3), _variable(3, 3)
    hs = g.scan(lambda row, h: g.tanh(h @ w + row @ u), x, g.ones([2, 3]), checkpoint=2)
    return [*_first_and_second(g.sum(hs[-1]), [w, u, x])], {x: _array(5, 2, 3)}


def _truncated() -> Any:
    x = g.placeholder("float32", [None, 3])
    w, v = _variable(3, 3), _variable(3, 3)

    def step(row: Tensor, h: Tensor) -> list[Tensor]:
        h = g.tanh(h @ w + row @ v)
        return [h, h @ v, row @ w]

    outputs = g.scan(step, x, [g.ones([3]), None, None], truncate_gradient=2)
    loss = sum((g.sum(g.sin(t)) for t in outputs), g.constant(0.0))
    return [*outputs, *g.gradients(loss, [w, v, x])], {x: _array(5, 3)}


MODELS: tuple[Model, ...] = (
    _rnn, _stacked, _lstm, _nested, _until, _while, _taps, _random, _map, _sparing,
    _truncated,
)  # fmt: skip


def _values(model: Model, monkeypatch: pytest.MonkeyPatch, skip: str, device: str) -> list[Any]:
    monkeypatch.setenv("GRAPHC_SKIP", skip)
    fetches, feeds = model()
    return list(g.Session(device=device, seed=3).run(list(fetches), dict(feeds)))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__.strip("_"))
def test_no_pass_changes_values(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _values(model, monkeypatch, ",".join(PASSES), "reference")
    for skip in ("", *PASSES):
        found = _values(model, monkeypatch, skip, "reference")
        for a, b in zip(plain, found, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5, err_msg=f"without {skip}")


# ---------------------------------------------------------------------------- what is left


def _optimised(fetches: Sequence[Tensor], feeds: Mapping[Tensor, Any]) -> Graph:
    with assuming(assumptions_for(feeds)):
        return optimise(Graph(tuple(fetches), (), tuple(feeds)))


def _loops(graph: Graph) -> list[Loop]:
    return [Loop.of(node) for node in graph.nodes if node.op is LOOP]


def _names(loop: Loop) -> list[str]:
    return sorted(node.op.name for node in loop.nodes)


def test_a_recurrent_layer_keeps_one_product_a_step_each_way() -> None:
    fetches, feeds = _rnn()
    graph = _optimised(fetches[:4], feeds)
    forward, backward = _loops(graph)
    assert _names(forward).count("matmul") == 1 and _names(backward).count("matmul") == 1
    assert "tanh" not in _names(backward) and "transpose" not in _names(backward)
    assert (len(forward.states), len(forward.histories), len(forward.stacks)) == (1, 1, 0)
    assert (len(backward.states), len(backward.histories), len(backward.stacks)) == (1, 0, 1)
    outside = [node.op.name for node in graph.nodes]
    assert outside.count("matmul") == 3  # x @ u, and the gradients of w and u


def test_an_lstm_stacks_its_gates_and_scatters_once() -> None:
    fetches, feeds = _lstm()
    graph = _optimised(fetches[:4], feeds)
    forward, backward = _loops(graph)
    assert "gather" not in _names(forward) + _names(backward)
    assert len(forward.stacks) == 5 and len(forward.histories) == 2  # gates, and tanh(c)
    assert not {"sigmoid", "tanh", "scatter"} & set(_names(backward))
    assert _names(backward).count("matmul") == 1
    assert [node.op.name for node in graph.nodes].count("scatter") == 1


def test_what_is_read_out_of_states_is_computed_after_the_loop() -> None:
    fetches, feeds = _stacked()
    graph = _optimised(fetches[1:5], feeds)
    for loop in _loops(graph):
        assert _names(loop).count("matmul") == 1 and "softmax" not in _names(loop)
    assert [node.op.name for node in graph.nodes].count("softmax") == 1


def test_a_loop_without_states_is_none() -> None:
    fetches, feeds = _map()
    graph = _optimised(fetches, feeds)
    assert not _loops(graph)


def test_an_inner_loop_runs_once_a_step_and_its_weights_are_summed_outside() -> None:
    fetches, feeds = _nested()
    graph = _optimised(fetches[:4], feeds)
    forward, backward = _loops(graph)
    for loop in (forward, backward):
        (inner,) = [Loop.of(node) for node in loop.nodes if node.op is LOOP]
        assert _names(inner).count("matmul") == 1
        assert "matmul" not in _names(loop) and "transpose" not in _names(loop)
    assert [node.op.name for node in graph.nodes].count("matmul") == 1


def test_checkpoints_are_not_undone() -> None:
    """No stack in any loop has as many rows as there are steps."""
    x = g.placeholder("float32", [24, 2, 3])
    w = _variable(3, 3)
    hs = g.scan(lambda row, h: g.tanh(h @ w + row), x, g.ones([2, 3]), checkpoint=4)
    graph = _optimised(g.gradients(g.sum(hs[-1]), [w]), {x: _array(24, 2, 3)})
    for node in nested(graph):
        if node.op is LOOP:
            loop = Loop.of(node)
            for type in node.types[len(loop.states) :]:
                assert np.prod(type.shape) <= 7 * 2 * 3


def test_last_states_need_no_stack() -> None:
    x = g.placeholder("float32", [None, 3])
    hs, cs = g.scan(lambda row, h, c: [h * row, c * h], x, [g.zeros([3]), g.ones([3])])
    (loop,) = _loops(_optimised([hs[-1], cs[-1]], {x: _array(4, 3)}))
    assert not loop.stacks and not loop.histories and len(loop.states) == 2
    (loop,) = _loops(_optimised([hs[-1]], {x: _array(4, 3)}))
    assert not loop.stacks and len(loop.states) == 1


def test_the_last_state_of_a_loop_that_a_condition_ends_needs_no_stack() -> None:
    start = g.placeholder("float32", [3])

    def step(h: Tensor) -> Any:
        return h * 2, g.until(g.sum(h) > 50)

    hs = g.scan(step, None, start, n_steps=40)
    feeds = {start: np.ones(3, np.float32)}
    (loop,) = _loops(_optimised([hs[-1]], feeds))
    assert loop.guarded and not loop.stacks and not loop.histories
    (found,) = g.Session(device="reference").run([hs[-1]], feeds)
    assert found[0] == 64


def test_the_last_row_of_no_rows_is_still_an_error() -> None:
    x = g.placeholder("float32", [None, 3])
    hs = g.scan(lambda row, h: h + row, x, g.zeros([3]))
    with pytest.raises(ShapeError, match="out of range"):
        g.Session(device="reference").run(hs[-1], {x: np.zeros((0, 3), np.float32)})


def test_unused_parts_go() -> None:
    x, y = (g.placeholder("float32", [None, 3]) for _ in range(2))
    b = _variable(3)
    outputs = g.scan(
        lambda u, v, h, c: [h + u, c + v * b, u * v], [x, y], [g.zeros([3]), g.zeros([3]), None]
    )
    (loop,) = _loops(_optimised([outputs[0]], {x: _array(4, 3), y: _array(4, 3)}))
    assert (len(loop.rows), len(loop.states), len(loop.captures)) == (1, 1, 0)
    assert len(loop.stacks) == 1


def test_a_shifted_sequence_is_read_where_it_lies() -> None:
    x = g.placeholder("float32", [None, 3])
    hs = g.scan(lambda u, v, h: h + u * v, [x[1:], x[:-1]], g.zeros([3]))
    graph = _optimised([hs], {x: _array(4, 3)})
    (loop,) = _loops(graph)
    assert all(rows.operand.node.op.name == "placeholder" for rows in loop.rows)
    (found,) = g.Session(device="reference").run([hs], {x: _array(4, 3)})
    np.testing.assert_allclose(found, np.cumsum(_array(4, 3)[1:] * _array(4, 3)[:-1], 0), rtol=1e-5)


def test_errors_of_steps_that_never_run_do_not_surface() -> None:
    table, i = g.placeholder("float32", [None, 3]), g.placeholder("int64", [])
    n = g.placeholder("int64", [])

    def step(h: Tensor) -> Tensor:
        k = g.cast(g.sum(h) * 0, "int64") + i  # only known in a step
        return h + g.take(table, k, axis=0) + g.exp(g.take(table, i * 2, axis=0) * 0)

    last = g.scan(step, None, g.zeros([3]), n_steps=n)
    loose = g.scan(lambda h: h + g.take(table, i, axis=0), None, g.zeros([3]), n_steps=3)
    session = g.Session(device="reference")
    feeds = {table: _array(4, 3), i: 1}
    assert session.run(loose, feeds).shape == (3, 3)
    assert session.run(last, {**feeds, n: 2}).shape == (2, 3)


def test_an_embedding_step_touches_no_table_twice() -> None:
    ids = g.placeholder("int64", [None, 2])
    table, rate = _variable(7, 3), g.placeholder("float32", [])
    hs = g.scan(lambda i, h: g.tanh(g.take(table, i, axis=0) + h), ids, g.zeros([2, 3]))
    (slope,) = g.gradients(g.sum(hs[-1] ** 2), [table])
    feeds = {ids: np.array([[0, 3], [3, 6]]), rate: 0.1}
    for update in (table - rate * slope, table - 0.1 * slope, table + slope * -0.1):
        graph = _optimised([update], feeds)
        (scatter,) = [node for node in graph.nodes if node.op.name == "scatter"]
        assert scatter is graph.outputs[0].node and scatter.inputs[0].node.op.name == "variable"
        found, s, t = g.Session(device="reference").run([update, slope, table], feeds)
        np.testing.assert_allclose(found, t - 0.1 * s, rtol=1e-5, atol=1e-6)
    kept = _optimised([table - rate * slope, slope], feeds)
    (scatter,) = [node for node in kept.nodes if node.op.name == "scatter"]
    assert scatter.inputs[0].node.op.name == "full"


def _deeper(depth: int) -> Graph:
    """A scan in a scan in a scan, each with a branch, and the gradient of what comes out."""
    w, x = _variable(3, 3), _variable(3)

    def layer(h: Tensor, level: int) -> Tensor:
        if level == 0:
            return g.tanh(h @ (w + 1.0))

        def step(h: Tensor) -> Tensor:
            inner = layer(h, level - 1)
            return g.ifelse(g.sum(inner) > 0.0, lambda: g.sin(inner), lambda: g.cos(inner))

        return g.scan(step, None, h, n_steps=3)[-1]

    y = layer(x, depth)
    return Graph((y, *g.gradients(g.sum(y), [w])))


def _effort(depth: int) -> list[int]:
    """How many Python functions each pass calls."""
    graph, found = _deeper(depth), list[int]()

    def note(frame: Any, event: str, arg: Any) -> None:
        found[-1] += event == "call"

    before = sys.getprofile()
    for step in PIPELINE:
        found.append(0)
        sys.setprofile(note)
        try:
            graph = deep(step, graph)
        finally:
            sys.setprofile(before)
    return found


def test_no_pass_works_more_for_a_body_that_lies_deeper() -> None:
    """Each body is visited once: one that is seen by each level around would double the growth."""
    depths = [_effort(depth) for depth in (2, 4, 6, 8)]
    for step, first, second, third, fourth in zip(PIPELINE, *depths, strict=True):
        assert fourth - third < 1.7 * (second - first), step.__name__


def test_what_never_changes_leaves_all_loops_at_once() -> None:
    graph = _deeper(3)
    for step in (STEPS["specialise"], STEPS["hoist"]):
        graph = deep(step, graph)
    names = [node.op.name for node in graph.nodes]
    inner = [node for node in nested(graph) if node not in graph.nodes]
    assert names.count("add") == 1 and all(node.op.name != "add" for node in inner)


def test_graphs_without_loops_pass_through() -> None:
    x = g.placeholder("float32", [3])
    graph = Graph((g.exp(x) + 1.0,))
    for step in PASSES:
        assert STEPS[step](graph) is graph


@pytest.mark.parametrize("device", DEVICES[1:])
@pytest.mark.parametrize("model", (_rnn, _lstm, _stacked), ids=lambda model: model.__name__)
def test_devices_agree(model: Model, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _values(model, monkeypatch, ",".join(PASSES), "reference")
    for a, b in zip(plain, _values(model, monkeypatch, "", device), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_short_loops(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def model() -> Any:
        fetches, feeds = _stacked()
        (x,) = feeds
        return fetches, {x: _array(steps, 2, 3)}

    plain = _values(model, monkeypatch, ",".join(PASSES), "reference")
    for a, b in zip(plain, _values(model, monkeypatch, "", "reference"), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
