"""Lines and scopes: every node knows the user's line, and the scopes it was built in."""

from __future__ import annotations

import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from graphc.context import Scope, Where, caller, name_scope
from graphc.graph import Graph
from graphc.ops.arith import add
from graphc.ops.gradient import gradients
from graphc.ops.source import Variable, constant, placeholder
from graphc.passes import optimise
from graphc.passes.differentiate import differentiate

HERE = Path(__file__).name


def test_a_node_knows_the_users_line() -> None:
    line = caller().line
    x = placeholder("float32", (2,))
    y = x * 2 + 1
    v = Variable([1.0, 2.0])
    assert [t.node.where for t in (x, y, v)] == [
        Where(__file__, line + 1), Where(__file__, line + 2), Where(__file__, line + 3)
    ]  # fmt: skip
    assert str(x.node.where) == f"{HERE}:{line + 1}"


def test_what_a_builder_makes_inside_has_the_users_line_too() -> None:
    line = caller().line + 1
    total = add(placeholder("float32", (3, 1)), placeholder("int32", (4,)))
    assert {node.where.line for node in Graph((total,)).nodes} == {line}


def test_what_a_pass_makes_has_the_line_it_stands_for() -> None:
    x = placeholder("float32", (3,))
    line = caller().line + 1
    y = (x * x * x).sum()
    slope_line = caller().line + 1
    (slope,) = gradients(y, [x])
    graph = differentiate(Graph((slope,), (), (x,)))
    lines = {node.where.line for node in graph.nodes if node is not x.node}
    assert lines == {line, slope_line}
    assert {node.where.file for node in optimise(graph).nodes} == {__file__}


def test_scopes_nest_and_label() -> None:
    with name_scope("encoder") as outer:
        with name_scope("layer"):
            x = placeholder("float32", (), name="x")
        y = x * x
    z = x * x
    assert x.name == "encoder/layer/x"
    assert y.node.scope is outer
    assert y.name == "encoder/multiply"
    assert z.node.scope is None


def test_an_entry_is_a_scope_of_its_own() -> None:
    with name_scope("layer") as first:
        pass
    with name_scope("layer") as second:
        pass
    with name_scope(first) as again:
        x = constant(1.0)
    assert first is not second and again is first and x.node.scope is first


def test_scopes_end_with_an_error() -> None:
    try:
        with name_scope("layer"):
            raise KeyError("anything")
    except KeyError:
        pass
    assert constant(1.0).node.scope is None


def test_threads_have_scopes_of_their_own() -> None:
    seen = []
    with name_scope("main"):
        thread = threading.Thread(target=lambda: seen.append(constant(1.0).node.scope))
        thread.start()
        thread.join()
    assert seen == [None]


def test_gradients_stand_in_mirrored_scopes() -> None:
    x = placeholder("float32", (3,))
    with name_scope("layer"):
        y = x * x * x
    (slope,) = gradients(y, [x])
    graph = differentiate(Graph((slope,), (), (x,)))
    scopes = {node.scope for node in graph.nodes if node.scope is not None}
    marked = {scope.path for scope in scopes if scope.gradient}
    assert "gradients/layer" in marked


@given(st.lists(st.text(min_size=1, max_size=5), max_size=30))
def test_paths(names: list[str]) -> None:
    scope = None
    for name in names:
        scope = Scope(name, scope)
    if scope is not None:
        assert scope.path == "/".join(names)
        assert [s.name for s in scope.chain] == names
