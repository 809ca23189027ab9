"""The stage "fused" as users see it: its listing, its picture, dumps and what debugging prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as g
from graphc.cli import main
from graphc.draw import picture
from graphc.draw.boxes import Boxes
from graphc.draw.dot import dot_of
from graphc.draw.fold import tree_of
from graphc.draw.html import data_of
from graphc.draw.kernels import boxes_of_plan
from graphc.draw.segments import MOST
from graphc.errors import FetchError
from graphc.lower import Lowered
from graphc.plan import Call
from graphc.plan_text import counted_steps, listing
from graphc.stages import form_at, graph_at, show
from tests.pictures import Picture, chain, network, read, tokens
from tests.test_draw import NAMES, fuzzed

PROGRAM = """
import numpy as np
import graphc as g

x = g.placeholder("float32", ["batch", 8], name="x")
w = g.Variable(np.ones((8, 4), np.float32), name="w")
b = g.Variable(np.zeros(4, np.float32), name="b")
with g.name_scope("hidden"):
    h = g.tanh(x @ w + b)
train = [h, g.assign_sub(b, 0.5 * g.sum(h, axis=0))]
hosted = g.linalg.cholesky(g.transpose(x) @ x) * 2.0
"""
TRAIN = """\
plan: 2 kernels
  feed %x: f32[batch,8]
  variable %w: f32[8,4]
  variable %b: f32[4]

kernel matmul+add+tanh   # model.py:9
  read %x: f32[batch,8]
  read %w: f32[8,4]
  read %b: f32[4]
  for i0 < batch, i1 < 4
  %0[i0, i1]: f32[batch,4] = tanh(sum(r0 < 8: %x[i0, r0] * %w[r0, i1]) + %b[i1])

kernel sum+multiply+subtract   # model.py:10
  read %b: f32[4]
  read %0: f32[batch,4]
  for i0 < 4
  %1[i0]: f32[4] = %b[i0] - f32(0.5) * sum(r0 < batch: %0[r0, i0])

return %0
update %b = %1
"""
HOSTED = """\
plan: 2 kernels, 1 host call
  feed %x: f32[batch,8]

kernel matmul   # model.py:11
  read %x: f32[batch,8]
  for i0 < 8, i1 < 8
  %0[i0, i1]: f32[8,8] = sum(r0 < batch: %x[r0, i0] * %x[r0, i1])

host cholesky   # model.py:11
  read %0: f32[8,8]
  %1: f32[8,8]

kernel multiply   # model.py:11
  read %1: f32[8,8]
  for i0 < 8, i1 < 8
  %2[i0, i1]: f32[8,8] = %1[i0, i1] * f32(2.0)

return %2
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(PROGRAM)
    return path


def form(fetches: Any) -> Lowered:
    found = form_at(fetches, "fused")
    assert isinstance(found, Lowered)
    return found


def drawn(fetches: Any, depth: int | None = None) -> Picture:
    return read(picture(form(fetches), "dot", depth).decode())


def shown(vertex: dict[str, str]) -> str:
    """The text of a label."""
    return " ".join(re.sub(r"<[^>]*>", " ", vertex["label"]).split()).strip("<> ")


# ---------------------------------------------------------------------------- the listing


def test_golden_listing(program: Path, capsys: Any) -> None:
    assert main(["show", f"{program}:hosted", "--stage", "fused"]) == 0
    assert capsys.readouterr().out == HOSTED


def test_golden_training_step(program: Path, capsys: Any) -> None:
    assert main(["show", f"{program}:train", "--stage", "fused"]) == 0
    assert capsys.readouterr().out == TRAIN


def test_the_same_program_gives_the_same_listing() -> None:
    assert show(network(), "fused") == show(network(), "fused")


def test_every_kernel_names_a_line() -> None:
    heads = [t for t in show(network(), "fused").splitlines() if t.startswith("kernel ")]
    assert len(heads) >= 3 and all(re.search(r"   # pictures\.py:\d+", t) for t in heads)


def test_lines_of_a_kernel_stand_in_order_and_once() -> None:
    x = g.placeholder("float32", [3], name="x")
    y = g.exp(x) + 1.0
    z = g.tanh(y) * y
    [head] = [t for t in show([z], "fused").splitlines() if t.startswith("kernel ")]
    numbers = [int(n) for n in re.findall(r"test_stages\.py:(\d+)", head)]
    assert numbers == sorted(set(numbers)) and len(numbers) == 2


def test_a_nameless_size_has_one_name_in_the_whole_listing() -> None:
    x, y = g.placeholder("float32", [None], name="x"), g.placeholder("float32", [None], name="y")
    text = show([g.exp(x), g.linalg.cholesky(g.outer(y, y)), g.sum(g.tanh(y))], "fused")
    assert "feed %x: f32[?0]" in text and "feed %y: f32[?1]" in text
    assert "read %x: f32[?0]" in text and "read %y: f32[?0]" not in text


def test_long_formulas_are_cut_into_lines() -> None:
    x = g.placeholder("float32", [3], name="x")
    text = show(g.nn.gelu(x), "fused")
    assert max(map(len, text.splitlines())) < 250
    assert "t1 = " in text


def test_ranks_that_are_not_known_say_how_to_bind_them() -> None:
    x = g.placeholder("float32", name="x")
    y = x * 2.0
    with pytest.raises(FetchError, match=r'needs ranks that are known.*"x".*declare its shape, or'):
        show(y, "fused")
    assert "for i0 < ?0, i1 < ?1" in show(y, "fused", {x: np.ones((2, 3), np.float32)})
    with pytest.raises(FetchError, match="needs ranks that are known"):
        g.draw(y, "never.dot", stage="fused")


def test_open_gradients_are_refused() -> None:
    x = g.placeholder("float32", name="x")
    [found] = g.gradients(g.sum(x * x), [x])
    with pytest.raises(FetchError, match='"fused" needs'):
        show(found, "fused")
    assert "kernel" in show(found, "fused", {x: np.ones(3, np.float32)})


def test_the_graph_of_the_stage_has_no_composites() -> None:
    x = g.placeholder("float32", ["n", 3], name="x")
    graph = graph_at(g.nn.softmax(x), "fused")
    assert not any(node.op.expand is not None for node in graph.nodes)


# ---------------------------------------------------------------------------- the picture


def test_every_kernel_is_a_cluster_around_its_nodes() -> None:
    x = g.placeholder("float32", ["n", 8], name="x")
    w = g.Variable(np.ones((8, 4), np.float32), name="w")
    y = g.sum(g.tanh(x @ w), axis=0)
    found = drawn(y)
    [matmul, total] = found.clusters
    assert "matmul+tanh" in matmul and "for n, 4" in matmul and "test_stages.py:" in matmul
    assert "<B>sum</B>" in total and "for 4" in total
    labels = {a["label"] for *_, a in found.edges}
    assert labels == {'"f32[n,8]"', '"f32[8,4]"', '"f32[n,4]"'}


def test_host_calls_stand_alone() -> None:
    x = g.placeholder("float32", [4, 4], name="x")
    found = drawn(g.linalg.cholesky(x + 1.0) * 2.0)
    host = found.vertices[found.find("cholesky")]
    assert host["shape"] == "component" and len(found.clusters) == 2


def test_numbers_are_words_on_what_reads_them() -> None:
    x = g.placeholder("float32", ["n", 3], name="x")
    found = drawn(g.exp(x * 0.5))
    assert len(found.vertices) == 3
    assert "b=0.5" in shown(found.vertices[found.find("multiply")])


def test_what_several_kernels_compute_is_drawn_in_each() -> None:
    x = g.placeholder("float32", ["n", 8], name="x")
    turned = g.transpose(x)
    found = drawn([turned @ x, turned @ g.exp(x)])
    views = [a for a in found.vertices.values() if "<B>transpose</B>" in a["label"]]
    assert len(views) == 2 and {a["fillcolor"] for a in views} == {'"#ffffff"'}


def test_updates_and_variables() -> None:
    found = drawn(network())
    dotted = [b for _, b, a in found.edges if a.get("style") == "dotted"]
    assert len(dotted) == 2
    assert sorted(shown(found.vertices[b]).split()[0] for b in dotted) == ["layer/w", "layer/w_1"]


def test_depth_1_folds_kernels() -> None:
    found = drawn(network(), 1)
    folded = [a for a in found.vertices.values() if a["shape"] == "tab"]
    assert len(folded) == sum(isinstance(s, Call) for s in form(network()).plan.steps)
    assert not found.clusters and all("for " in shown(a) or "one" in shown(a) for a in folded)
    assert any(a.get("penwidth") == "3" for a in folded), "what is fetched is inside"


@pytest.mark.parametrize("make", [lambda: chain(400), lambda: chain(2_000, 20)])
def test_more_than_60_boxes_fold(make: Any) -> None:
    assert len(drawn(make()).vertices) <= MOST


def crossings(boxes: Boxes) -> list[Any]:
    return [w for w in boxes.wires if w.tail.scope is not w.head.scope]


@pytest.mark.parametrize("make", [network, lambda: chain(50)])
def test_what_kernels_read_is_stored_and_in_the_listing(make: Any) -> None:
    lowered = form(make())
    text = listing(lowered)
    boxes = boxes_of_plan(lowered)
    assert len(boxes.about) == counted_kernels(lowered)
    for wire in crossings(boxes):
        name = wire.tail.subtitle.split()[0]
        given = wire.tail.kind in ("placeholder", "variable", "constant")
        assert given or f"  {name}[" in text
        assert given or wire.type in text


def counted_kernels(lowered: Lowered) -> int:
    return int(counted_steps(lowered.plan.steps).split()[0])


def test_pages_open_and_close_kernels() -> None:
    data = data_of(tree_of(boxes_of_plan(form(network()))), None)
    kernels = [group for group in data["groups"] if group["kind"] == "kernel"]
    assert kernels and all(k["loops"] and k["where"] for k in kernels)
    assert all(k["detail"].startswith("kernel ") for k in kernels)
    json.dumps(data)


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, min_size=5, max_size=5))
def test_no_name_breaks_the_picture(names: list[str]) -> None:
    boxes = boxes_of_plan(form(fuzzed(names)))
    text = dot_of(tree_of(boxes))
    text.encode("utf-8")
    assert len(tokens(text)) > 50 and len(read(text).clusters) == 1


def test_the_same_program_gives_the_same_picture() -> None:
    first, second = (picture(form(network()), "dot") for _ in range(2))
    assert first == second


def test_draw_says_how_many_kernels(program: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "a.dot"
    assert main(["draw", f"{program}:hosted", "--stage", "fused", "-o", str(path)]) == 0
    assert "2 kernels, 1 host call, " in capsys.readouterr().out
    assert "cluster_1" in path.read_text()


# ---------------------------------------------------------------------------- dumps, debugging


def run(device: str) -> None:
    x = g.placeholder("float32", ["n", 3], name="x")
    with g.Session(device=device) as session:
        session.run(g.tanh(x * 2.0), {x: np.ones((2, 3), np.float32)})


def test_dumps_end_with_the_kernels(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path))
    run("interp")
    [text] = tmp_path.glob("*-fused.txt")
    assert text.read_text().startswith(
        "plan on interp: 1 kernel\n  feed %x: f32[n,3]\n\nkernel multiply+tanh"
    )
    assert text.with_suffix(".dot").read_text().startswith("digraph")
    last = max(path.name for path in tmp_path.glob("*.txt"))
    assert last == text.name
    run("reference")
    assert not list((tmp_path / "1").glob("*-fused.*")), "it makes no kernels"


@pytest.mark.parametrize("level", ["", "1", "2", "3"])
def test_debug_levels_say_more_and_more(level: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("GRAPHC_DEBUG", level)
    run("interp")
    said, out = capsys.readouterr().err, int(level or 0)
    assert ("into 1 kernel in " in said) is (out >= 1)
    assert ("kernel multiply+tanh   # test_stages.py:" in said) is (out >= 1)
    assert ("graphc: build" in said and "%x: f32[n,3] = placeholder" in said) is (out >= 2)
    assert ("for i0 < n, i1 < 3" in said) is (out >= 3)
