"""Graphs: what outputs reach; any depth; rewriting shares what does not change."""

from __future__ import annotations

import gc
import sys
import weakref

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.build import make
from graphc.errors import CompileError, ShapeError
from graphc.graph import Graph, Node, Tensor, topological
from graphc.ops.arith import add, multiply
from graphc.ops.broadcast import SUM
from graphc.ops.control import identity
from graphc.ops.gradient import gradients
from graphc.ops.source import as_tensor, constant, placeholder
from graphc.passes import optimise
from graphc.rewriting import rewrite
from graphc.show import show_graph
from graphc.types import TensorType
from graphc.verify import verify
from tests.support import Compiled, run

DEEP = 200_000


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=40))
def test_topological_order(pairs: list[tuple[int, int]]) -> None:
    tensors: list[Tensor] = [placeholder("float32", ())]
    for a, b in pairs:
        tensors.append(add(tensors[a % len(tensors)], tensors[b % len(tensors)]))
    order = topological([tensors[-1]])
    place = {node: i for i, node in enumerate(order)}
    assert len(place) == len(order)
    assert order[-1] is tensors[-1].node
    for node in order:
        assert all(place[t.node] < place[node] for t in node.inputs)


def test_a_graph_stops_at_what_is_fed() -> None:
    x = placeholder("float32", (2,))
    inner = x * 2
    outer = inner + 1
    assert x.node not in Graph((outer,), (), (inner,)).nodes
    (got,) = run([outer], {inner: np.array([5, 6], np.float32)})
    assert got.tolist() == [6, 7]


@pytest.fixture(scope="module")
def deep() -> tuple[Tensor, Tensor]:
    x = placeholder("float64", ())
    y = x
    for _ in range(DEEP):
        y = identity(y)
    return x, y


def test_deep_chains_need_no_recursion(deep: tuple[Tensor, Tensor]) -> None:
    x, y = deep
    assert sys.getrecursionlimit() <= 1_100
    graph = Graph((y,), (), (x,))
    assert len(graph.nodes) == DEEP
    assert show_graph(graph).count("\n") == DEEP + 2
    doubled = rewrite(graph, lambda node: node.inputs[0] + 1.0 if node is y.node else None)
    assert doubled.outputs[0].node.op.name == "add"
    verify(doubled)


def test_deep_chains_run(deep: tuple[Tensor, Tensor]) -> None:
    x, y = deep
    graph = Graph((y,), (), (x,))
    assert len(graph.to_networkx()) == DEEP
    (got,) = Compiled.of([y], [x], [()])(np.array(3.0))
    assert got == 3.0


def test_deep_chains_differentiate() -> None:
    x = placeholder("float64", ())
    y = x
    for _ in range(20_000):
        y = y + x
    assert run(gradients(y, [x]), {x: np.array(1.0)}) == [20_001.0]


def test_networkx_has_an_edge_for_each_operand() -> None:
    x, y = placeholder("float32", (3,)), placeholder("float32", (3,))
    product = x * x
    total = product + y
    found = Graph((total,), (), (x, y)).to_networkx()
    assert list(found) == [product.node, total.node]  # what is fed is no part of the graph
    [(tail, head, edge)] = found.edges(data=True)
    assert (tail, head) == (product.node, total.node)
    assert edge == {"tensor": product, "operand": 0}
    whole = Graph((total,)).to_networkx()
    assert networkx.is_directed_acyclic_graph(whole)
    twice = whole.get_edge_data(x.node, product.node)
    assert sorted(edge["operand"] for edge in twice.values()) == [0, 1]
    assert all(edge["tensor"] is x for edge in twice.values())


def test_nodes_compare_by_identity_and_are_frozen() -> None:
    x = constant([1.0])
    a, b = x + 1, x + 1
    assert a is not b and a.node != b.node and len({a, b, a}) == 2
    with pytest.raises(AttributeError):
        a.node.name = "other"  # type: ignore[misc]


def test_nothing_keeps_a_dropped_graph_alive() -> None:
    x = placeholder("float32", (2,))
    y = multiply(x, 3)
    run([y], {x: np.ones(2, np.float32)})
    dead = weakref.ref(y.node)
    del y
    gc.collect()
    assert dead() is None


def test_rewrite_shares_what_does_not_change() -> None:
    x = placeholder("float32", ())
    left, right = x * 2, x * 3
    total = left + right
    graph = Graph((total,), (), (x,))
    assert rewrite(graph, lambda node: None).outputs[0] is total
    changed = rewrite(graph, lambda node: x * 5 if node is right.node else None)
    new = changed.outputs[0].node
    assert new.inputs[0] is left and new.inputs[1] is not right
    assert new.where == total.node.where
    (got,) = Compiled.of(changed.outputs, [x], [()])(np.array(1, np.float32))
    assert got == 7


def test_rewrite_gives_the_line_of_what_it_replaces() -> None:
    x = placeholder("float32", ())
    y = x * 2
    changed = rewrite(Graph((y,), (), (x,)), lambda node: x + x if node is y.node else None)
    assert changed.outputs[0].node.where == y.node.where


def test_the_text_form() -> None:
    x = placeholder("float32", ("batch", None), name="x")
    graph = Graph(((x * x).sum(axis=1),), (), (x,))
    lines = [line.split("   #")[0] for line in show_graph(graph).splitlines()]
    assert lines == [
        "feed %x: f32[batch,?0] = placeholder",
        "%0: f32[batch,?0] = multiply %x %x",
        "%1: f32[batch] = sum %0 axis=(1) keepdims=False",
        "return %1",
    ]


@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), min_size=1, max_size=8))
def test_names_in_the_text_form_are_unique(names: list[str | None]) -> None:
    x = as_tensor(1.0)
    tensors = [identity(x, name=name) for name in names]
    text = show_graph(Graph(tuple(tensors)))
    assert text == show_graph(Graph(tuple(tensors)))
    defined = [line.split(":")[0] for line in text.split("\n") if line.startswith("%")]
    assert len(defined) == len(names) + 1


def test_the_verifier_finds_a_wrong_type() -> None:
    x = placeholder("float32", (2, 3))
    honest = x.sum(axis=1).node
    lie = Node(
        SUM, honest.inputs, honest.attrs, (TensorType(x.dtype, (3,)),), None, None, honest.where,
        True,
    )  # fmt: skip
    with pytest.raises(CompileError, match=r"has type f32\[3\], its rule says f32\[2\]"):
        verify(Graph((Tensor(lie, 0, lie.types[0]),), (), (x,)))


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    x = placeholder("float32", (2, 3))

    def wrong(graph: Graph) -> Graph:
        node = Node(
            SUM, (x,), {"axis": (0,), "keepdims": False}, (x.type,), None, None, x.node.where, True
        )
        return graph.with_roots([Tensor(node, 0, x.type)])

    with pytest.raises(CompileError, match="the pass wrong broke the graph") as caught:
        optimise(Graph((x * 2,), (), (x,)), pipeline=(wrong,))
    assert "before:" in str(caught.value) and "after:" in str(caught.value)


def test_make_names_operands_and_lines() -> None:
    x = placeholder("float32", (2,), name="x")
    with pytest.raises(ShapeError) as caught:
        make(SUM, (x,), {"axis": 3, "keepdims": False})
    assert str(caught.value).startswith("sum: axis 3 is out of range for rank 1, got x: f32[2]")
    assert 'x is placeholder "x"' in str(caught.value)
