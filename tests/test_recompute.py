"""Checkpoints, memory budgets, and the order of nodes that makes them pay."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.graph import Graph, Tensor
from graphc.ops.recompute import RECOMPUTE, barrier
from graphc.passes import optimise
from graphc.passes.merge_common import merge_common
from graphc.passes.recompute import NOMINAL, bytes_of
from graphc.passes.schedule import depth_first, schedule
from tests.liveness import optimised, peak, peak_of, plan_peak, same

WIDTH, BATCH = 16, 128
X = np.random.default_rng(7).normal(size=(BATCH, WIDTH)).astype(np.float32)
Net = tuple[Tensor, list[g.Variable], Tensor]  # what is fed, the weights, the loss
Layer = Callable[..., Tensor]


def _weights(count: int) -> list[g.Variable]:
    rngs = map(np.random.default_rng, range(count))
    return [
        g.Variable((rng.normal(size=(WIDTH, WIDTH)) * 0.25).astype(np.float32), name=f"w{i}")
        for i, rng in enumerate(rngs)
    ]


def _dense(h: Tensor, w: Tensor) -> Tensor:
    return g.tanh(h @ w)


def _dropout(h: Tensor, w: Tensor) -> Tensor:
    return g.nn.dropout(g.tanh(h @ w), 0.3)


def _block(h: Tensor, w: Tensor) -> Tensor:
    one, zero = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    return h + g.nn.gelu(g.nn.layer_norm(h, one, zero) @ w)


def _net(layer: Layer, depth: int, each: int = 0) -> Net:
    """A deep network, in checkpoints of so many layers."""
    x = g.placeholder("float32", ["batch", WIDTH], name="x")
    ws = _weights(depth)

    def several(h: Tensor, some: Sequence[Tensor]) -> Tensor:
        for w in some:
            h = layer(h, w)
        return h

    h = x
    if each:
        for start in range(0, depth, each):
            h = g.checkpoint(several)(h, ws[start : start + each])
    else:
        h = several(h, ws)
    return x, ws, (h * h).mean()


def _fetches(net: Net, **options: Any) -> list[Tensor]:
    _, ws, loss = net
    return [loss, *g.gradients(loss, ws, **options)]


def _run(fetches: Sequence[Tensor], x: Tensor, device: str = "reference") -> list[Any]:
    with g.Session(device, seed=3) as session:
        return list(session.run(list(fetches), {x: X}))


def _names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


# ---------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(
    ("layer", "depth", "each"), [(_dense, 64, 8), (_block, 32, 4), (_dropout, 64, 8)]
)
def test_checkpoints_halve_the_peak_and_change_no_bit(layer: Layer, depth: int, each: int) -> None:
    plain, marked = _net(layer, depth), _net(layer, depth, each)
    a, b = _fetches(plain), _fetches(marked)
    assert peak_of(b, {marked[0]: X}) < peak_of(a, {plain[0]: X}) / 2
    assert all(map(same, _run(a, plain[0]), _run(b, marked[0])))


def test_interpreted_kernels_agree() -> None:
    plain, marked = _net(_dropout, 6), _net(_dropout, 6, 2)
    a, b = _fetches(plain), _fetches(marked)
    assert all(map(same, _run(a, plain[0], "interp"), _run(b, marked[0], "interp")))


def test_a_run_needs_less_memory() -> None:
    def needed(net: Net) -> int:
        x, fetches = net[0], _fetches(net)
        data = np.ones((2048, WIDTH), np.float32)
        with g.Session("reference") as session:
            session.run(fetches, {x: data})
            gc.collect()
            tracemalloc.start()
            try:
                session.run(fetches, {x: data})
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert needed(_net(_dense, 36, 6)) < needed(_net(_dense, 36)) / 2


@pytest.mark.parametrize("fused", [False, True])
def test_kernels_are_planned_late(fused: bool) -> None:
    peaks = []
    for each in (0, 4):
        net = _net(_block, 32, each)
        peaks.append(plan_peak(_fetches(net), {net[0]: X}, fused))
    assert peaks[1] < peaks[0] / 2


def test_copies_are_second_nodes_that_run_after_the_loss() -> None:
    net = _net(_dense, 6, 2)
    fetches = _fetches(net)
    graph = optimised(fetches, {net[0]: X})
    names = _names(graph)
    assert names.count("tanh") == 12 and names.count("recompute") == 3
    assert names.index("mean") < names.index("recompute")
    assert merge_common(graph) is graph
    readers: set[Any] = set()
    for node in graph.nodes:
        if node.op is RECOMPUTE or any(t.node in readers for t in node.inputs):
            readers.add(node)
    copies = [n for n in readers if n.op.name == "tanh"]
    assert len(copies) == 6 and all(n.scope.gradient for n in copies)


def test_each_copy_runs_shortly_before_it_is_read() -> None:
    net = _net(_dense, 16, 4)
    graph = optimised(_fetches(net), {net[0]: X})
    place = {node: number for number, node in enumerate(graph.nodes)}
    barriers = [place[n] for n in graph.nodes if n.op is RECOMPUTE]
    products = [place[n] for n in graph.nodes if n.op.name == "matmul" and n.types[0].is_static]
    assert len(barriers) == 4 and len(products) == 16  # the weights' gradients
    for first, second in itertools.pairwise(barriers):
        assert sum(first < p < second for p in products) == 4


def test_without_gradients_nothing_is_computed_twice() -> None:
    x, _, loss = _net(_dense, 4, 2)
    names = _names(optimised([loss], {x: X}))
    assert "recompute" not in names and names.count("tanh") == 4


def test_names_and_random_numbers_stay() -> None:
    @g.checkpoint
    def noisy(x: Tensor) -> Tensor:
        with g.name_scope("noise"):
            w = g.Variable([1.0], name="w")
            made.append(w)
            return x * w + g.random.normal((3,), name="n")

    made: list[Tensor] = []
    x = g.constant([1.0, 2.0, 3.0])
    y = noisy(x)
    assert [w.name for w in made] == ["noise/w"]
    with g.name_scope("noise"):
        other = x * g.Variable([1.0], name="w") + g.random.normal((3,), name="n")
    values = [g.Session("reference", seed=1).run(t) for t in (y, other)]
    assert same(*values)


def test_random_numbers_are_the_same_in_both_passes() -> None:
    x = g.Variable(np.ones(1000, np.float32))
    y = g.checkpoint(lambda x: g.nn.dropout(g.exp(x), 0.5))(x)
    value, slope = g.Session("reference", seed=5).run([y, g.gradients(y, [x])[0]])
    assert same(value, slope) and 300 < np.count_nonzero(value) < 700


def test_what_a_checkpoint_captures_gets_its_gradient() -> None:
    scale, x = g.Variable(3.0), g.Variable([1.0, 2.0])
    double = x * 2.0

    @g.checkpoint
    def function(first: Tensor, *, power: int) -> dict[str, Any]:
        """Several."""
        inner = g.exp(first * scale) + double
        return {"a": g.sin(inner) ** power, "b": (inner, 7)}

    found = function(x, power=2)
    assert found["b"][1] == 7 and function.__doc__ == "Several."
    inner = g.exp(x * scale) + double
    plain = [g.sin(inner) ** 2, inner]
    ours = g.gradients([found["a"], found["b"][0]], [x, scale, double])
    theirs = g.gradients(plain, [x, scale, double])
    session = g.Session("reference")
    for a, b in zip(session.run(ours), session.run(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_checkpoints_nest() -> None:
    x = g.placeholder("float32", ["batch", WIDTH], name="x")
    ws = _weights(64)

    def build(outer: Callable[..., Any], inner: Callable[..., Any]) -> list[Tensor]:
        def few(h: Tensor, some: Sequence[Tensor]) -> Tensor:
            for w in some:
                h = _dense(h, w)
            return h

        def many(h: Tensor, some: Sequence[Tensor]) -> Tensor:
            for start in range(0, 16, 4):
                h = inner(few)(h, some[start : start + 4])
            return h

        h = x
        for start in range(0, 64, 16):
            h = outer(many)(h, ws[start : start + 16])
        loss = (h * h).mean()
        return [loss, *g.gradients(loss, ws)]

    def plain(function: Any) -> Any:
        return function

    forms = {
        "none": build(plain, plain), "outer": build(g.checkpoint, plain),
        "inner": build(plain, g.checkpoint), "both": build(g.checkpoint, g.checkpoint),
    }  # fmt: skip
    peaks = {name: peak_of(fetches, {x: X}) for name, fetches in forms.items()}
    assert peaks["both"] < min(peaks["outer"], peaks["inner"]) < peaks["none"] / 2
    expected = _run(forms["none"], x)
    for fetches in forms.values():
        assert all(map(same, expected, _run(fetches, x)))


def test_a_scope_that_is_entered_again_joins_the_checkpoint() -> None:
    with g.name_scope("layer") as layer:
        pass

    def function(x: Tensor) -> Tensor:
        with g.name_scope(layer):
            return g.tanh(g.exp(x), name="y")

    x = g.Variable([1.0])
    inside, outside = g.checkpoint(function)(x), function(x)
    assert inside.name == outside.name == "layer/y"
    scope = inside.node.scope
    assert scope is not None and scope.region is not None
    assert outside.node.scope is layer and layer.region is None
    with g.name_scope(scope) as left:
        assert g.exp(x, name="z").name == "layer/z" and left.region is None


def test_a_print_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    x = g.Variable([1.0, 2.0])
    y = g.checkpoint(lambda x: g.sin(g.print(g.exp(x), "seen ")))(x)
    g.Session("reference").run([y, g.gradients(y, [x])[0]])
    assert capsys.readouterr().out.count("seen") == 1


def test_what_holds_constants_alone_is_not_copied() -> None:
    x = g.Variable(np.ones((4, 4), np.float32))
    y = g.checkpoint(lambda x: g.sin(x * g.tril(g.ones((4, 4)))) * g.eye(4))(x)
    names = _names(optimise(Graph((g.gradients(y, [x])[0],))))
    assert names.count("recompute") <= 1


@pytest.mark.parametrize(("each", "options"), [(3, {}), (0, {"memory_budget": 0.8})])
def test_second_derivatives(each: int, options: dict[str, Any]) -> None:
    plain, net = _net(_dense, 18), _net(_dense, 18, each)
    found = []
    for (x, ws, loss), given in ((plain, {}), (net, options)):
        first = g.gradients(loss, ws, **given)
        total = sum((f * f).sum() for f in first)
        found.append(_run(g.gradients(total, ws, **given), x))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("wrap", "options"), [(g.checkpoint, {}), (lambda f: f, {"memory_budget": 0.6})]
)
def test_unknown_ranks(wrap: Any, options: dict[str, Any]) -> None:
    x, w = g.placeholder("float32", None), g.Variable(np.full((4, 4), 0.1, np.float32))

    def build(form: Any, **given: Any) -> list[Tensor]:
        h = x
        for _ in range(16):
            h = form(lambda h: g.tanh(h @ w))(h)
        return g.gradients(g.sum(h), [w, x], **given)

    data = np.ones((3, 4), np.float32)
    session = g.Session("reference")
    plain = session.run(build(lambda f: f), {x: data})
    marked = session.run(build(wrap, **options), {x: data})
    assert all(map(same, plain, marked))


def test_deep_checkpoints_do_not_recurse() -> None:
    x = g.placeholder("float32", (2,))

    def function(h: Tensor) -> Tensor:
        for _ in range(20_000):
            h = g.tanh(h) + x
        return h

    graph = optimise(Graph((g.gradients(g.checkpoint(function)(x), [x])[0],), (), (x,)))
    assert _names(graph).count("tanh") == 40_000


def test_a_checkpoint_takes_a_function() -> None:
    with pytest.raises(g.GradientError, match=r"checkpoint\(function\)\(x\), got 3"):
        g.checkpoint(3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------- the barrier


def test_nothing_merges_or_folds_through_a_barrier() -> None:
    x, after = g.placeholder("float32", (3,)), g.placeholder("float32", ())
    plain, behind = g.exp(x), g.exp(barrier(x, [after]))
    again = g.exp(barrier(g.constant([1.0]), [g.constant(2.0)]))
    names = _names(optimise(Graph((plain, behind, again), (), (x, after))))
    assert names.count("exp") == 3 and names.count("recompute") == 2


# ---------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("layer", [_dense, _block, _dropout])
@pytest.mark.parametrize("budget", [0.7, 0.35])
def test_a_budget_is_kept_and_changes_no_bit(layer: Layer, budget: float) -> None:
    net = _net(layer, 48)
    plain, within = _fetches(net), _fetches(net, memory_budget=budget)
    before, after = peak_of(plain, {net[0]: X}), peak_of(within, {net[0]: X})
    assert after < 1.15 * budget * before
    assert all(map(same, _run(plain, net[0]), _run(within, net[0])))


def test_a_budget_in_bytes() -> None:
    net = _net(_dense, 64)
    one = BATCH * WIDTH * 4
    fetches = _fetches(net, memory_budget=24 * one)
    assert peak_of(fetches, {net[0]: X}) < 30 * one < peak_of(_fetches(net), {net[0]: X})


def test_a_budget_that_holds_all_computes_nothing_again() -> None:
    net = _net(_dense, 8)
    for budget in (1.0, 10**9):
        graph = optimised(_fetches(net, memory_budget=budget), {net[0]: X})
        assert "recompute" not in _names(graph)


def test_cheap_values_come_first() -> None:
    net = _net(_block, 24)
    products = _names(optimised(_fetches(net), {net[0]: X})).count("matmul")
    within = _names(optimised(_fetches(net, memory_budget=0.8), {net[0]: X}))
    assert "recompute" in within and within.count("matmul") == products


def test_a_smaller_budget_computes_more_again() -> None:
    net = _net(_dense, 64)
    counts = [
        _names(optimised(_fetches(net, memory_budget=b), {net[0]: X})).count("matmul")
        for b in (1.0, 0.8, 0.5, 0.35)
    ]
    assert counts == sorted(set(counts))


def test_an_impossible_budget_says_so_with_figures() -> None:
    net = _net(_dense, 16)
    kept = f"{16 * BATCH * WIDTH * 4:,}"
    with pytest.raises(g.GradientError, match=r"memory_budget=100 .*budget is 100 bytes") as error:
        _run(_fetches(net, memory_budget=100), net[0])
    assert f"would keep {kept} bytes" in str(error.value)
    assert "gradients was called at test_recompute.py:" in str(error.value)


@pytest.mark.parametrize("budget", [0, -1, 0.0, 1.5, True, "1GB", float("nan")])
def test_budgets_that_are_none(budget: Any) -> None:
    x = g.Variable(1.0)
    with pytest.raises(g.GradientError, match="memory_budget must be bytes"):
        g.gradients(x * x, [x], memory_budget=budget)


def test_unknown_sizes_count_as_a_nominal_one() -> None:
    x = g.placeholder("float32", ["batch", 3])
    assert bytes_of(x) == NOMINAL * 3 * 4
    net = _net(_dense, 16)
    graph = optimise(Graph(tuple(_fetches(net, memory_budget=0.7)), (), (net[0],)))
    assert "recompute" in _names(graph)


def test_checkpoints_stay_within_a_budget() -> None:
    x, ws = g.placeholder("float32", ["batch", WIDTH]), _weights(64)
    h = x
    for number, w in enumerate(ws):
        h = _dense(h, w) if number % 32 < 24 else g.checkpoint(_dense)(h, w)
    net = x, ws, (h * h).mean()
    fetches, within = _fetches(net), _fetches(net, memory_budget=0.7)
    assert peak_of(within, {x: X}) < 0.8 * peak_of(fetches, {x: X})
    assert all(map(same, _run(fetches, x), _run(within, x)))


# ---------------------------------------------------------------------------- the order


def _clipped(net: Net) -> list[Tensor]:
    _, ws, loss = net
    clipped, norm = g.optim.clip_by_global_norm(g.gradients(loss, ws), 1.0)
    return [loss, norm, *clipped]


def _adam(net: Net) -> list[Tensor]:
    _, ws, loss = net
    return [loss, *(u.value for u in g.optim.Adam(1e-3).minimize(loss, ws).updates)]


@pytest.mark.parametrize("fetches", [_fetches, _clipped, _adam])
@pytest.mark.parametrize("layer", [_dense, _block, _dropout])
def test_the_order_is_an_order(layer: Layer, fetches: Callable[[Net], list[Tensor]]) -> None:
    net = _net(layer, 8, 2)
    graph = optimised(fetches(net), {net[0]: X}, scheduled=False)
    for order in (schedule(graph).nodes, depth_first(graph)):
        assert set(order) == set(graph.nodes) and len(order) == len(graph.nodes)
        seen: set[Any] = {t.node for t in graph.inputs}
        for node in order:
            assert all(t.node in seen for t in node.inputs)
            seen.add(node)


@pytest.mark.parametrize("fetches", [_fetches, _clipped, _adam])
def test_the_order_lets_checkpoints_pay(fetches: Callable[[Net], list[Tensor]]) -> None:
    net = _net(_dense, 36, 6)
    values = fetches(net)
    assert peak_of(values, {net[0]: X}) < peak_of(values, {net[0]: X}, scheduled=False) / 3


def test_branches_run_one_after_the_other() -> None:
    x = g.placeholder("float32", (100,))
    one = 400
    total = g.constant(0.0)
    for number in range(16):
        y = g.broadcast_to(x, (50, 100)) * float(number + 2)
        total = total + g.sum(g.exp(y) + y)
    graph = optimised([total], {x: np.ones(100, np.float32)})
    assert peak(graph) < 4 * 50 * one


def test_a_mask_is_made_when_it_is_read() -> None:
    x, _, loss = _net(_dropout, 16)
    graph = optimised([loss], {x: X})
    assert peak(graph) < 12 * BATCH * WIDTH * 4


def test_views_and_what_is_fetched_keep_their_place() -> None:
    x = g.placeholder("float32", (4, 5))
    y = g.transpose(x)
    graph = optimised([y, g.exp(y), g.reshape(y, (20,)), y], {x: np.ones((4, 5))})
    assert len(graph.roots) == 4 and graph.roots[0] is graph.roots[3]
    assert {"transpose", "exp", "reshape"} <= set(_names(graph))
    assert schedule(graph) is graph


def test_an_order_is_forgotten_with_the_roots() -> None:
    x = g.placeholder("float32", ())
    graph = schedule(replace(Graph((g.exp(x), g.sin(x))), order=()))
    assert graph.with_roots(graph.roots).order == ()
