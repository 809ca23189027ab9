"""Pictures as DOT: what they show, how they fold, and that no name breaks them."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.context import name_scope
from graphc.draw import SUFFIXES
from graphc.draw.boxes import LEGEND
from graphc.draw.dot import STYLES, dot_of
from graphc.draw.fold import level_pairs
from graphc.draw.segments import MOST
from graphc.draw.text import clean, counted
from graphc.draw.view import edges_of, opened_to, view_of
from graphc.errors import DeviceError, FetchError
from graphc.ops.gradient import gradients
from graphc.ops.source import Variable, constant, placeholder
from graphc.passes import optimise
from graphc.pictures import draw
from graphc.runtime.fetches import graph_of
from graphc.stages import graph_at, show
from tests.pictures import chain, needs_dot, network, picture, read, tangle, tokens, tree

NAMES = st.one_of(
    st.text(max_size=40),
    st.text(alphabet='"\\<>&{}|[];=->\n\r\t\0/ #%', max_size=20),
    st.sampled_from(
        ["", " ", "\\", "\\N", "\\G", "</TABLE>", "&amp;", "x" * 10_000, "\ud800", "名"]
    ),
    st.characters(max_codepoint=0x10FFFF),
)


def label(attributes: dict[str, str]) -> str:
    return attributes["label"]


# ---------------------------------------------------------------------------- what is shown


def test_a_small_graph_is_shown_whole() -> None:
    graph = graph_of(network())
    shown = picture(graph)
    assert len(shown.vertices) == len(graph.nodes) + len(graph.updates)


def test_every_use_is_an_edge_with_dtype_and_shape() -> None:
    graph = graph_of(network())
    shown = picture(graph)
    solid = [a for *_, a in shown.edges if a.get("style") != "dotted"]
    assert len(solid) == sum(len(n.inputs) for n in graph.nodes) + len(graph.updates)
    assert all("f32[" in label(a) for *_, a in shown.edges)
    assert any("f32[batch,4]" in label(a) for a in solid)


def test_parallel_edges_are_kept() -> None:
    x = placeholder("float32", [3], name="x")
    shown = picture(x * x)
    assert [label(a) for *_, a in shown.edges] == ['"f32[3]"', '"f32[3]"']


def test_nameless_sizes_are_called_as_in_the_listing() -> None:
    x, y = placeholder("float32", [None]), placeholder("float32", [None, None])
    shown = picture([x + 1.0, y + 1.0])
    labels = {label(a) for *_, a in shown.edges}
    assert {'"f32[?0]"', '"f32[?1,?2]"'} <= labels
    assert "f32[?1,?2]" in show([x + 1.0, y + 1.0])


def test_unknown_ranks_are_drawn() -> None:
    assert '"f32[...]"' in {label(a) for *_, a in picture(placeholder("float32") * 2.0).edges}


def test_boxes_show_name_operation_and_line() -> None:
    x = placeholder("float32", [3], name="x")
    shown = picture((x + x).sum())
    text = label(shown.vertices[shown.find("sum")])
    assert "test_draw.py:" in text and "axis=" in text and "%1" in text
    assert "placeholder" in label(shown.vertices[shown.find("x")])


def test_several_outputs_are_told_apart() -> None:
    x = placeholder("float32", [3], name="x")
    w = Variable(np.ones(3, np.float32), name="w")
    first, second = gradients((x * w).sum(), [x, w])
    labels = {label(a) for *_, a in picture([first + 1.0, second + 1.0]).edges}
    assert {'"output 0: f32[3]"', '"output 1: f32[3]"'} <= labels


def test_kinds_differ_in_shape_and_colour() -> None:
    assert set(STYLES) == set(LEGEND)
    assert len({(shape, fill) for shape, fill, _ in STYLES.values()}) == len(STYLES)
    shapes = {
        kind: STYLES[kind][0] for kind in ("placeholder", "variable", "constant", "op", "update")
    }
    assert len(set(shapes.values())) == 5


def test_kinds_and_the_legend() -> None:
    text = dot_of(tree([*network(), constant([1.0])]))
    shown = read(text)
    for title, kind in (("x", "placeholder"), ("target", "placeholder"), ("matmul", None)):
        if kind:
            assert shown.vertices[shown.find(title)]["shape"] == STYLES[kind][0]
    kinds = {a["shape"] for a in shown.vertices.values()}
    assert kinds >= {STYLES[k][0] for k in ("placeholder", "variable", "constant", "op", "update")}
    for kind in ("placeholder", "variable", "constant", "op", "update"):
        assert f"legend_{kind} " in text
    assert "legend_segment" not in text


def test_fetched_boxes_have_a_thick_border() -> None:
    x = placeholder("float32", [3], name="x")
    shown = picture([x + 1.0])
    assert shown.vertices[shown.find("add")]["penwidth"] == "3"
    assert "penwidth" not in shown.vertices[shown.find("x")]


def test_updates_point_at_their_variables() -> None:
    shown = picture(network())
    dotted = [(b, a) for _, b, a in shown.edges if a.get("style") == "dotted"]
    assert len(dotted) == 2
    assert {shown.vertices[b]["shape"] for b, _ in dotted} == {"cylinder"}
    assert all("writes f32[" in label(a) for _, a in dotted)


def test_the_gradient_part_is_told_apart() -> None:
    graph = optimise(graph_of(network()))
    text = dot_of(tree(graph))
    assert any("gradients" in title for title in read(text).clusters)
    fills = [a["fillcolor"] for a in read(text).vertices.values()]
    assert f'"{STYLES["gradient"][1]}"' in fills
    assert '"rounded,dashed,filled"' in text


# ---------------------------------------------------------------------------- folding


def test_scopes_of_one_name_are_two_clusters() -> None:
    shown = picture(network())
    assert shown.clusters == ["<<B>layer</B>>", "<<B>layer_1</B>>", "<<B>loss</B>>"]


def test_a_scope_entered_again_is_one_cluster() -> None:
    x = placeholder("float32", [3], name="x")
    with name_scope("a") as scope:
        y = x + 1.0
    z = y * 2.0
    with name_scope(scope):
        z = z + y
    assert picture(z).clusters == ["<<B>a</B>>"]


def test_depth_1_folds_top_scopes() -> None:
    shown = picture(network(), depth=1)
    assert shown.clusters == []
    folded = shown.vertices[shown.find("layer_1")]
    assert folded["shape"] == "folder" and "3 nodes: matmul, multiply, variable" in label(folded)


def test_depth_2_opens_the_first_level_only() -> None:
    x = placeholder("float32", [3], name="x")
    with name_scope("outer"):
        y = x + 1.0
        with name_scope("inner"):
            y = y * 2.0
    assert picture(y, depth=2).clusters == ["<<B>outer</B>>"]
    assert picture(y, depth=3).clusters == ["<<B>outer</B>>", "<<B>inner</B>>"]
    assert "inner" in label(picture(y, depth=2).vertices["b3"]) or picture(y, depth=2).find("inner")


def test_edges_of_folded_boxes_merge_by_tensor_only() -> None:
    x = placeholder("float32", [3], name="x")
    y = placeholder("float32", [3], name="y")
    with name_scope("inside"):
        z = (x * x) + (x * y)
    labels = sorted(label(a) for *_, a in picture(z, depth=1).edges)
    assert labels == ['"f32[3] ×3"', '"f32[3]"']


def test_many_tensors_between_folded_boxes_are_one_edge_that_says_so() -> None:
    x = placeholder("float32", [3], name="x")
    with name_scope("a"):
        many = [x * float(i) for i in range(9)]
    with name_scope("b"):
        total = many[0]
        for tensor in many[1:]:
            total = total + tensor
    labels = [label(a) for *_, a in picture(total, depth=1).edges]
    assert '"9 tensors: f32[3] ×9"' in labels


@pytest.mark.parametrize("count", [MOST - 2, MOST - 1, 500])
def test_folding_starts_beyond_60_boxes(count: int) -> None:
    shown = picture(chain(count).sum())
    assert len(shown.vertices) <= MOST
    assert (len(shown.vertices) == count + 3) == (count + 3 <= MOST)


BIG = {
    "no scopes": lambda: optimise(graph_of(chain(10_000))),
    "thousands of scopes": lambda: graph_of(chain(10_000, scope=3)),
    "scopes of 500": lambda: graph_of(chain(10_000, scope=500)),
    "no order to fold by": lambda: graph_of(tangle(5_000)),
}


@pytest.mark.parametrize("name", BIG)
def test_10_000_nodes_give_60_boxes(name: str) -> None:
    graph = BIG[name]()
    assert len(graph.nodes) >= 10_000
    start = time.perf_counter()
    text = dot_of(tree(graph))
    taken = time.perf_counter() - start
    assert 5 <= len(read(text).vertices) <= MOST
    assert taken < 20, f"{taken:.1f} s; 2 s are meant"
    assert len(text) < 1_500_000


def test_gradients_of_a_deep_graph_fold() -> None:
    top = chain(2_000, scope=20).sum()
    w = next(t for t in graph_of(top).tensors() if isinstance(t, Variable))
    graph = optimise(graph_of(gradients(top, [w])))
    assert len(picture(graph).vertices) <= MOST


@pytest.mark.parametrize(
    "make", [lambda: chain(3_000), lambda: chain(3_000, 3), lambda: tangle(500)]
)
def test_folding_keeps_the_picture_acyclic(make: Any) -> None:
    folded = tree(make())
    edges = edges_of(folded, view_of(folded, opened_to(folded, None)))
    shown = networkx.DiGraph([(id(e.tail), id(e.head)) for e in edges])
    assert networkx.is_directed_acyclic_graph(shown)


def test_every_group_is_small_and_counts_its_boxes() -> None:
    folded = tree(chain(3_000, 3))
    groups = list(folded.groups())
    assert len(groups) > 1_000
    assert all(len(group.members) <= MOST for group in groups)
    assert folded.root.count == 3_002
    pairs = level_pairs(folded.wires)
    assert sum(sum(found.values()) for found in pairs.values()) == len(folded.wires)


def test_scopes_that_all_feed_each_other_fold_further() -> None:
    tensors = [placeholder("float32", [3], name="x")]
    for _ in range(50):
        with name_scope("part"):
            total = tensors[0] + 1.0
            for tensor in tensors[1:]:
                total = total + tensor
            tensors.append(total)
    shown = picture(tensors[-1])
    assert len(shown.vertices) <= MOST and len(shown.edges) <= 300
    assert len(picture(tensors[-1], depth=1).edges) > 1_000


def test_segments_say_what_is_inside() -> None:
    text = dot_of(tree(chain(3_000).sum()))
    assert "nodes: add ×" in text and "legend_segment" in text


def test_scopes_that_feed_each_other_are_drawn() -> None:
    x = placeholder("float32", [3], name="x")
    with name_scope("a") as a:
        y = x + 1.0
    with name_scope("b"):
        z = y + 1.0
    with name_scope(a):
        z = z * y
    assert len(picture(z, depth=1).vertices) == 3


def test_the_same_program_gives_the_same_picture() -> None:
    first, second = (dot_of(tree(network())) for _ in range(2))
    assert first == second
    first, second = (dot_of(tree(chain(1_000, 3))) for _ in range(2))
    assert first == second


def test_deeply_nested_scopes() -> None:
    x = placeholder("float32", [3], name="x")
    y, scopes = x, []
    for i in range(500):
        scopes.append(name_scope(f"s{i}"))
        scopes[-1].__enter__()
        y = y + 1.0
    for scope in reversed(scopes):
        scope.__exit__(None, None, None)
    assert len(picture(y).vertices) <= MOST
    assert len(picture(y, depth=1).vertices) == 2


# ---------------------------------------------------------------------------- names


def fuzzed(names: list[str]) -> Any:
    x = placeholder("float32", ["batch"], name=names[0])
    with name_scope(names[1]):
        y = constant([1.0], name=names[2]) + x
        with name_scope(names[3]):
            v = Variable(np.ones(1, np.float32), name=names[4])
            return y * v


@settings(max_examples=150, deadline=None)
@given(st.lists(NAMES, min_size=5, max_size=5))
def test_no_name_breaks_the_text(names: list[str]) -> None:
    text = dot_of(tree(fuzzed(names)))
    text.encode("utf-8")
    assert len(tokens(text)) > 50
    shown = read(text)
    assert len(shown.clusters) == 2 and len(shown.vertices) >= 5
    assert len(read(dot_of(tree(fuzzed(names), segments=False), 1)).clusters) == 0


@needs_dot
@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(NAMES, min_size=5, max_size=5), min_size=6, max_size=6))
def test_no_name_breaks_dot(many: list[list[str]]) -> None:
    text = "".join(dot_of(tree(fuzzed(names))) for names in many)  # dot reads several graphs
    result = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=False)
    assert result.returncode == 0 and b"error" not in result.stderr.lower(), result.stderr
    assert result.stdout.count(b"<svg") == len(many)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "(no name)"), ("  \n", "  \\x0a"), ("a\0b", "a\\x00b"), ("\ud800", "\\ud800"),
        ("x" * 99, "x" * 47 + "…"), ("größe", "größe"),
    ],
)  # fmt: skip
def test_clean(name: str, shown: str) -> None:
    assert clean(name) == shown


def test_counted() -> None:
    assert counted(["b", "a", "b", "c"], 2) == "b ×2, a, 1 more"


# ---------------------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", ["dot", "html"])
def test_files_that_need_no_program(suffix: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "")
    path = draw(network(), tmp_path / f"graph.{suffix}")
    assert path == tmp_path / f"graph.{suffix}"
    assert path.read_text()[:9] in ("digraph g", "<!doctype")


@needs_dot
@pytest.mark.parametrize(
    ("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_files_by_dot(suffix: str, magic: bytes, tmp_path: Any) -> None:
    path = draw(network(), tmp_path / f"graph.{suffix}", stage="optimised", depth=1)
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_a_missing_dot_says_what_works(suffix: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"apt install graphviz\); \.dot and \.html"):
        draw(network(), tmp_path / f"graph.{suffix}")
    assert not (tmp_path / f"graph.{suffix}").exists()


def test_requests_that_cannot_be_drawn(tmp_path: Any) -> None:
    x = placeholder("float32", [3], name="x")
    with pytest.raises(FetchError, match=r"ends in \.svg, \.png, \.pdf, \.dot, \.html, got"):
        draw(x, tmp_path / "graph.bmp")
    for depth in (0, -1, True, "2"):
        with pytest.raises(FetchError, match="depth must be a number of scope levels, at least 1"):
            draw(x, tmp_path / "graph.dot", depth=depth)  # type: ignore[arg-type]
    with pytest.raises(FetchError, match="a fetch must be a tensor"):
        draw("x", tmp_path / "graph.dot")
    assert not list(tmp_path.iterdir()) and set(SUFFIXES) == {"svg", "png", "pdf", "dot", "html"}


def test_stages() -> None:
    fetches = network()
    assert any(node.op.family == "gradient" for node in graph_at(fetches).nodes)
    optimised = graph_at(fetches, "optimised")
    assert not any(node.op.family == "gradient" for node in optimised.nodes)
    assert "gradient" in show(fetches) and "gradient %" not in show(fetches, "optimised")
    with pytest.raises(FetchError, match='no stage \'typo\'; there are "source", "spec'):
        show(fetches, "typo")


def test_feeds_bind_ranks() -> None:
    x = placeholder("float32", name="x")
    y = (x * x).sum(axis=0)
    assert "f32[...]" in show(y, "specialised")
    shown = show(y, "specialised", {x: np.ones((2, 3), np.float32)})
    assert "f32[...]" not in shown and "f32[?0,?1]" in shown
    [found] = gradients(y, [x])
    assert "gradient" in show(found, "optimised")
    assert " gradient " not in show(found, "optimised", {x: np.ones((2, 3), np.float32)})
