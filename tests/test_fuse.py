"""What becomes one kernel, what is stored, and that fusion changes no value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.affine import Affine, affine, place
from graphc.clustering import Clustering
from graphc.dims import Dim
from graphc.facts import canonical
from graphc.fuse import Dissolving
from graphc.graph import Graph, Node
from graphc.kernel import Axis, Kernel, lift, read
from graphc.lower import expanded, lower
from graphc.passes import optimise
from graphc.places import delinear, linear, reshaped
from graphc.plan import Call, Plan
from graphc.runtime.device import Environment
from graphc.runtime.fetches import collect, flatten
from graphc.runtime.interp.device import InterpProgram
from tests.support import ENTROPY_WORDS


def _plan(fetches: Any, fused: bool = True) -> Plan:
    outputs, updates = collect(flatten(fetches)[0])
    graph = Graph(outputs, tuple((u.variable, u.value) for u in updates))
    return lower(optimise(graph), fused)


def _kernels(fetches: Any) -> list[Kernel]:
    return [step.kernel for step in _plan(fetches).steps if isinstance(step, Call)]


def _names(fetches: Any) -> list[str]:
    return [kernel.name for kernel in _kernels(fetches)]


def _x(*shape: Any, dtype: str = "float32") -> Any:
    return g.placeholder(dtype, list(shape), "x")


def _w(*shape: int, name: str | None = None) -> Any:
    return g.Variable(np.zeros(shape, np.float32), name=name)


# ---------------------------------------------------------------------------- clusters


def test_a_chain_of_maps_is_one_kernel() -> None:
    x = _x("n", 3)
    [kernel] = _kernels(g.tanh((x * 2 + 1) * x - x / 3) + g.exp(-x))
    assert len(kernel.stores) == 1 and len(kernel.reads()) == 1


class _Unwalked(set[Node]):
    """A set of which nobody may make another, or look at all members."""

    def __sub__(self, other: object) -> Any:
        raise AssertionError("a walk over all stored nodes")

    __iter__ = __and__ = __or__ = copy = __sub__  # type: ignore[assignment]


def test_a_group_costs_the_same_however_much_is_stored() -> None:
    x, w = _x(40, 3), _w(3)
    h, loss = g.zeros([3]), g.constant(0.0)
    for t in range(40):
        h = g.tanh(h * w + x[t])
        loss = loss + h.sum()
    fusion = Clustering(expanded(optimise(Graph((loss, *g.gradients(loss, [w])), (), (x,)))), True)
    dissolving = Dissolving(fusion)
    dissolving.run()
    before = {node for node in dissolving.uses if node in fusion.group_of}
    stored = _Unwalked(before)
    for group in fusion.groups:
        if not group.given_up and group.kind != "host":
            dissolving.slim(group, stored)
    assert 0 < len(stored) < len(before)


def test_views_between_maps_are_read_through() -> None:
    x = _x(4, 6)
    y = g.exp(x).transpose([1, 0])[1:5].reshape([2, 8]) + 1
    assert len(_kernels(y)) == 1


def test_bias_and_activation_are_the_epilogue_of_a_product() -> None:
    assert _names(g.nn.relu(_x("b", 8) @ _w(8, 3) + _w(3))) == ["matmul+add+relu"]


def test_what_a_product_reads_is_stored() -> None:
    assert _names(g.exp(_x(4, 8)) @ _w(8, 3)) == ["exp", "matmul"]
    assert _names(_x(8, 4).transpose([1, 0]) @ _w(8, 3)) == ["matmul"]  # a view is not


def test_softmax_is_one_kernel_over_rows() -> None:
    [kernel] = _kernels(g.nn.softmax(_x("n", 10)))
    assert len(kernel.axes) == 2


def test_softmax_along_the_first_axis_is_no_row() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    _agree(g.nn.softmax(g.constant(x), axis=0))


def test_cross_entropy_and_its_gradient_are_one_kernel() -> None:
    x, y = _x("n", 10), g.placeholder("float32", ["n", 10])
    loss = -(g.nn.log_softmax(x) * y).sum(1)
    kernels = _kernels([loss, g.gradients(loss.sum(), [x])])
    assert len(kernels) == 1
    assert {len(store.axes()) for store in kernels[0].stores} == {1, 2}


def test_layer_norm_is_one_kernel() -> None:
    x = _x("b", "t", 16)
    mean = x.mean(-1, keepdims=True)
    variance = g.square(x - mean).mean(-1, keepdims=True)
    y = (x - mean) / g.sqrt(variance + 1e-5) * _w(16) + _w(16)
    assert len(_kernels(y)) == 1


def test_layer_norm_with_its_gradient_is_one_kernel_over_rows() -> None:
    x, c = _x("n", 16), g.placeholder("float32", ["n", 16], "c")
    scale, offset = _w(16, name="scale"), _w(16, name="offset")
    total = g.sum(g.nn.layer_norm(x, scale, offset) * c)
    kernels = _kernels([total, *g.gradients(total, [x, scale, offset])])
    rows = [kernel for kernel in kernels if len(kernel.axes) == 2]
    assert len(rows) == 1 and len(kernels) == 4  # the others are sums down columns, and of rows


def test_a_total_of_rows_is_left_by_the_kernel_of_the_rows() -> None:
    x, c = _x("n", 16), g.placeholder("float32", ["n", 16], "c")
    total = g.sum(g.nn.softmax(x) * c)
    rows, last = _kernels([total, *g.gradients(total, [x])])
    assert [len(store.axes()) for store in rows.stores] == [1, 2]  # no second whole array
    assert len(last.reads()) == 1
    (mean,) = [k for k in _kernels(g.mean(g.nn.softmax(x) * c, keepdims=True)) if len(k.axes) == 1]
    assert len(mean.stores) == 1


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (0, 4), (3, 0), (1, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_totals_of_rows_agree(shape: tuple[int, ...], keepdims: bool) -> None:
    x = _x(*shape)
    rows = x - x.sum(-1, keepdims=True)
    found = [g.sum(rows, keepdims=keepdims), g.mean(rows * 2, keepdims=keepdims)]
    _agree(found, {x: np.random.default_rng(1).normal(size=shape).astype(np.float32)})


def test_what_reads_few_elements_of_rows_has_none_stored() -> None:
    x, y = _x("n", 16), g.placeholder("int32", ["n"], "y")
    loss = g.nn.sparse_softmax_cross_entropy_with_logits(y, x)
    stores = [store for kernel in _kernels(loss) for store in kernel.stores]
    assert max(len(store.axes()) for store in stores) == 1  # the rows' values only
    every = g.take_along_axis(g.log(g.nn.softmax(x)), g.argsort(x, -1), -1)
    stores = [store for kernel in _kernels(every) for store in kernel.stores]
    assert [len(store.axes()) for store in stores].count(2) == 2  # it reads them all


def test_groups_rise_above_others_with_those_that_read_them() -> None:
    x, c = _x("n", 8), g.placeholder("float32", ["n", 8], "c")
    rows = g.nn.softmax(x)
    columns = rows.sum(0)  # reads the rows already when c * c comes by
    other = g.exp(c) * c
    found = _kernels([columns, rows * other + rows.sum(-1, keepdims=True)])
    assert len(found) == 2


def test_an_update_is_the_epilogue_of_the_gradient() -> None:
    x, w = _x("b", 8), _w(8, 3, name="w")
    step = g.optim.Adam(0.1).minimize(g.square(x @ w).sum())
    last = [kernel for kernel in _kernels(step) if "matmul" in kernel.name][-1]
    assert len(last.stores) == 3  # the variable and both moments


def test_a_network_with_its_gradient_has_few_kernels() -> None:
    x, y = _x("b", 784), g.placeholder("float32", ["b", 10])
    h = g.nn.relu(x @ _w(784, 512) + _w(512))
    logits = h @ _w(512, 10) + _w(10)
    loss = -(g.nn.log_softmax(logits) * y).sum(1).mean()
    assert len(_kernels([loss, g.optim.SGD(0.1).minimize(loss)])) == 9


def test_values_that_are_made_of_one_array_are_made_again() -> None:
    x, w = _x("b", 8), _w(8, 3)
    u = x @ w
    y = 0.5 * u * (1 + g.tanh(0.8 * (u + 0.04 * u**3)))
    first = _kernels([y, g.gradients(y.sum(), [w])])[0]
    assert len(first.stores) == 2  # the sum and y, nothing in between


def test_groups_never_wait_for_each_other() -> None:
    x = _x(3, 4)
    a = g.exp(x)
    b = a.transpose([1, 0]) @ g.constant(np.ones((3, 4), np.float32))  # reads a, stored
    c = a + b.sum()  # joins neither: it reads what depends on a
    _agree([c, b], {x: np.ones((3, 4), np.float32)})


def test_a_long_chain_is_cut_into_kernels() -> None:
    y = _x(3)
    for _ in range(500):
        y = g.sin(y) + 1
    assert 10 < len(_kernels(y)) < 40


def test_a_host_call_stands_between_kernels() -> None:
    x = _x(3, 3)
    plan = _plan(g.exp(g.linalg.inv(x * 2)) + 1)
    assert [type(step).__name__ for step in plan.steps] == ["Call", "Host", "Call"]


def test_steps_run_late() -> None:
    """A step stands where its last node does, so that values do not wait long in memory."""
    x = _x(8, 8)
    left, right = g.exp(x) @ _w(8, 8), None
    for _ in range(3):
        left = g.exp(left) @ _w(8, 8)
    right = g.sin(x) @ _w(8, 8)
    names = _names(left + right)
    assert names.index("sin") > names.index("exp")


def test_without_fusion_every_node_is_stored() -> None:
    x = _x("n", 10)
    y = g.nn.softmax(x * 2)
    assert len(_plan(y, fused=False).steps) > 5
    assert len(_plan(y).steps) == 1


def test_skip_leaves_fusion_out(monkeypatch: pytest.MonkeyPatch) -> None:
    y = g.nn.softmax(_x("n", 10) * 2)
    monkeypatch.setenv("GRAPHC_SKIP", "fuse")
    assert len(_plan(y).steps) > 5


# ---------------------------------------------------------------------------- values


def _agree(fetches: Any, feeds: dict[Any, Any] | None = None) -> None:
    """Fused and unfused kernels compute the same."""
    feeds = feeds or {}
    outputs, _ = collect(flatten(fetches)[0])
    graph = optimise(Graph(outputs, (), tuple(feeds)))
    environment = Environment({}, {}, ENTROPY_WORDS)
    fused = InterpProgram(graph).run(list(feeds.values()), environment)
    apart = InterpProgram(graph, fused=False).run(list(feeds.values()), environment)
    for a, b in zip(fused, apart, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (2, 5), (4, 1)])
def test_rows_of_every_size(shape: tuple[int, int]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x = _x(*shape)
    y = g.nn.log_softmax(x) * 2
    _agree([y, y.sum(1), g.gradients(y.sum(), [x])], {x: array})


# ---------------------------------------------------------------------------- index formulas


def test_affine_formulas() -> None:
    n, m = Dim.symbol("n"), Dim.symbol("m")
    i, j = Axis(m), Axis(n)
    whole = linear((i.position, j.position), (m, n))
    assert affine(whole) == Affine(0, {i: n, j: 1})
    assert affine(whole // lift(n)) == Affine(0, {i: 1})
    assert affine(whole % lift(n)) == Affine(0, {j: 1})
    assert affine(i.position * j.position) is None
    assert affine(i.position // 2) is None
    assert affine(-i.position + 7) == Affine(7, {i: -1})


def test_places_of_reshaped_indices() -> None:
    n = Dim.symbol("n")
    k = Axis(12 * n)
    split = delinear(k.position, (n, 3, 4))
    assert place(split, (n, 3, 4)) == Affine(0, {k: 1})
    assert place(tuple(reversed(split)), (4, 3, n)) is None
    i, j = Axis(n), Axis(12)
    assert place(reshaped((i.position, j.position), (n, 12), (n, 3, 4)), (n, 3, 4)) == Affine(
        0, {i: 12, j: 1}
    )


def test_an_index_that_is_an_axis_is_its_position() -> None:
    i, j = Axis(5), Axis(4)
    whole = linear((i.position, j.position), (5, 4))
    assert [p.value for p in canonical((whole // 4, whole % 4, lift(3) + 0))] == [i, j, 3]


def test_sources_of_a_buffer_are_reads() -> None:
    kernel = _kernels(_x(3) + 1)[0]
    assert read(kernel.reads()[0])(lift(0)).primitive == "read"
