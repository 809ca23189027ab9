"""Loops and branches, seen: listings, pictures, TensorBoard, checks, profiles, plans of memory."""

from __future__ import annotations

import html
import re
import textwrap
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.control import counted, output
from graphc.draw import picture
from graphc.draw.fold import Tree, tree_of
from graphc.draw.graphs import boxes_of
from graphc.draw.html import data_of
from graphc.draw.kernels import boxes_of_plan
from graphc.graph import bodies, nested
from graphc.lower import Lowered
from graphc.ops.bodies import PARAMETER
from graphc.plan import Call, Loop, all_steps
from graphc.plan_text import step_lines
from graphc.stages import STAGES, form_at, graph_at
from graphc.tensorboard import graph_definition
from tests.control_support import DEVICES
from tests.devices import OPENCL, WrongDevice
from tests.pictures import needs_dot, read

X = g.placeholder("float32", ["n", 3], name="xs")
H = g.placeholder("float32", [4], name="h0")
W = g.Variable(np.full((4, 4), 0.1, np.float32), name="w")
U = g.Variable(np.full((3, 4), 0.1, np.float32), name="u")
FEED = {X: np.linspace(-1, 1, 300).reshape(100, 3), H: np.zeros(4)}


def rnn(name: str | None = "rnn") -> Any:
    """A plain recurrent network, all its states."""
    return g.scan(lambda x_t, h: g.tanh(h @ W + x_t @ U), X, H, name=name)


def doubling() -> Any:
    """A loop whose length only data decides."""
    return g.while_loop(lambda i, r: r < 100.0, lambda i, r: (i + 1, r * 2.0), [0, 1.0])


def choice() -> tuple[Any, Any]:
    """A branch inside of a side of a branch."""
    a = g.placeholder("float32", (), name="a")
    inner = lambda: g.ifelse(a > 10.0, lambda: g.log(a), lambda: g.sqrt(a))  # noqa: E731
    return g.ifelse(a > 0.0, inner, lambda: g.exp(a)), a


def sums() -> Any:
    """A loop in a loop; running totals of each row."""
    inner = lambda row: g.scan(lambda v, s: g.tanh(s + v), row, g.constant(0.0))  # noqa: E731
    return g.scan(inner, X)


def training() -> Any:
    """The gradient of a loop."""
    return g.gradients(g.sum(rnn()[-1] ** 2), [W, U])


PROGRAMS: dict[str, Any] = {
    "rnn": rnn, "training": training, "doubling": lambda: list(doubling()),
    "choice": lambda: choice()[0], "sums": sums,
}  # fmt: skip


def listed(fetches: Any, stage: str) -> str:
    """A listing without lines of this file."""
    return re.sub(r" +# .*", "", g.show(fetches, stage))


# ---------------------------------------------------------------------------- listings


def test_a_scan_is_listed_as_one_step() -> None:
    assert listed(rnn(), "source") == textwrap.dedent("""\
        %xs: f32[n,3] = placeholder
        %h0: f32[4] = placeholder
        %w: f32[4,4] = variable
        %u: f32[3,4] = variable
        %rnn: (f32[4], f32[n,4]) = loop %xs %h0 %w %u
          step t < n:
            read %x_t: f32[3] = %xs[t]
            state %h: f32[4] = %h0
            take %w_1: f32[4,4] = %w
            take %u_1: f32[3,4] = %u
            %0: f32[1,4] = reshape %h shape=(1,4)
            %1: f32[1,4] = matmul %0 %w_1
            %2: f32[4] = reshape %1 shape=(4)
            %3: f32[1,3] = reshape %x_t shape=(1,3)
            %4: f32[1,4] = matmul %3 %u_1
            %5: f32[4] = reshape %4 shape=(4)
            %6: f32[4] = add %2 %5
            %7: f32[4] = tanh %6
            next %h = %7
            stack %rnn.1[t] = %7
        return %rnn.1
        """)


def test_a_while_loop_is_listed_with_what_is_asked() -> None:
    assert listed(doubling()[1], "source") == textwrap.dedent("""\
        %0: f32[] = full value=1.0
        %1: f32[] = full value=100.0
        %2: bool[] = less %0 %1
        %3: i64[] = full value=0
        %4: (bool[], i64[], f32[], i64[]) = loop %2 %3 %0
          step t, while %5:
            state %5: bool[] = %2
            state %i: i64[] = %3
            state %r: f32[] = %0
            %6: f32[] = full value=2.0
            %7: f32[] = multiply %r %6
            %8: f32[] = full value=100.0
            %9: bool[] = less %7 %8
            %10: i64[] = full value=1
            %11: i64[] = add %i %10
            next %5 = %9
            next %i = %11
            next %r = %7
            count %4.3 = t + 1
        return %4.2
        """)


def test_a_branch_is_listed_with_both_sides() -> None:
    assert listed(choice()[0], "optimised") == textwrap.dedent("""\
        %a: f32[] = placeholder
        %0: f32[] = full value=0.0
        %1: bool[] = greater %a %0
        %2: (f32[]) = branch %1 %a %a
          then:
            take %a_1: f32[] = %a
            %3: f32[] = full value=10.0
            %4: bool[] = greater %a_1 %3
            %5: (f32[]) = branch %4 %a_1 %a_1
              then:
                take %a_2: f32[] = %a_1
                %6: f32[] = log %a_2
                return %6
              otherwise:
                take %a_3: f32[] = %a_1
                %7: f32[] = sqrt %a_3
                return %7
            return %5.0
          otherwise:
            take %a_4: f32[] = %a
            %8: f32[] = exp %a_4
            return %8
        return %2.0
        """)


def test_walks_histories_options_and_numbers_of_steps_are_listed() -> None:
    y = g.placeholder("float32", [9], name="y")
    taps = {"input": y, "taps": [-1, 0]}
    out = g.scan(lambda a, b, s: a * b + s, taps, g.constant(0.0), go_backwards=True,
                 truncate_gradient=3)  # fmt: skip
    text = listed(out, "source")
    assert "step t < 8:" in text and " truncate=3\n" in text and "checkpoint" not in text
    assert "read %a: f32[] = %y[7 - t]" in text and "read %b: f32[] = %y[8 - t]" in text
    assert "step %step" not in text  # nothing reads it
    kept = listed(training(), "optimised")
    assert re.search(r"state %h: f32\[4\] = %h0, kept in %\w+\.1\[t\]", kept)
    assert re.search(r"read %\w+: f32\[4\] = %\w+\.1\[n - t\]", kept)
    counted = g.while_loop(lambda i: i < 5, lambda i: i + 1, 0, max_steps=7)
    assert "step t < 7, while %" in listed(counted, "source")


def test_parameters_are_called_as_in_the_function_else_as_the_tensor() -> None:
    text = listed(
        g.scan(lambda *given: given[0] + given[1], X, g.zeros([3], name="start")), "source"
    )
    assert "read %xs_1: f32[3] = %xs[t]" in text
    assert "state %start_1: f32[3] = %start" in text


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_every_name_in_a_listing_is_defined_once(make: Any) -> None:
    for stage in ("source", "optimised"):
        text = g.show(make(), stage)
        made = re.findall(r"(?m)^ *(?:read |state |take |step |feed )?%(\S+): ", text)
        assert Counter(made).most_common(1)[0][1] == 1
        assert {name.partition(".")[0] for name in re.findall(r"%([\w/]+)", text)} <= set(made)


def test_the_short_listing_of_a_plan_has_what_is_inside() -> None:
    lowered = form_at(choice()[0], "fused")
    assert isinstance(lowered, Lowered)
    assert re.sub(r" +# .*", "", step_lines(lowered.plan)).splitlines() == [
        "  0: kernel greater",
        "  1: branch",
        "    then",
        "      0: kernel greater",
        "      1: branch",
        "        then",
        "          0: kernel log",
        "        else",
        "          0: kernel sqrt",
        "    else",
        "      0: kernel exp",
    ]


# ---------------------------------------------------------------------------- pictures


def tree_at(fetches: Any, stage: str) -> Tree:
    """The tree of groups of a picture."""
    form = form_at(fetches, stage)
    return tree_of(boxes_of_plan(form) if isinstance(form, Lowered) else boxes_of(form))


def titles(fetches: Any, stage: str) -> list[str]:
    """The titles of all loops, branches and sides, outer ones first."""
    groups = tree_at(fetches, stage).groups()
    return [group.title for group in groups if group.kind in ("loop", "branch", "side")]


@pytest.mark.parametrize("stage", STAGES)
def test_loops_and_branches_are_boxes_with_titles(stage: str) -> None:
    assert titles(rnn(), stage) == ["rnn"]
    assert titles(rnn(None), stage) == ["scan, n steps"]
    assert titles(doubling()[1], stage) == ["while"]
    assert titles(sums(), stage) == ["scan, n steps", "scan, 3 steps"]
    assert sorted(titles(choice()[0], stage)) == sorted(["if", "then", "else"] * 2)
    if stage in ("optimised", "fused"):
        assert titles(training(), stage) == ["scan, n steps"] * 2


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_pictures_hold_every_node_of_every_body(make: Any, stage: str) -> None:
    fetches = make()
    form = form_at(fetches, stage)
    text = picture(form, "dot", depth=99).decode()
    shown = read(text)
    if isinstance(form, Lowered):
        calls = [s for s in all_steps(form.plan.steps) if isinstance(s, Call)]
        kernels = [c for c in shown.clusters if any(f"<B>{s.kernel.name}</B>" in c for s in calls)]
        assert len(kernels) == len(calls)
        return
    plain = [n for n in nested(form) if not bodies(n) and n.op is not PARAMETER]
    found = [a["label"] for a in shown.vertices.values()]
    counts = Counter(n.op.name for n in plain)
    for name in ("tanh", "matmul", "log", "exp", "multiply"):
        assert sum(f"<B>{name}</B>" in label for label in found) == counts[name]
    labels = [a["label"] for _, _, a in shown.edges if a.get("style") != "dotted"]
    assert all(re.fullmatch(r'".*(f32|bool|i64)\[.*\]( ×\d+)?"', label) for label in labels)


@pytest.mark.parametrize("stage", ["source", "optimised", "fused"])
def test_parameters_at_the_edge_say_what_they_are(stage: str) -> None:
    shown = read(picture(form_at(rnn(), stage), "dot").decode())
    words = [html.unescape(a["label"]) for a in shown.vertices.values()]
    row = "state  at first %h0"
    assert any("<B>h</B>" in w and row in w for w in words)
    assert any(re.search(r"%\w+\[t\]", w) for w in words if "stack" not in w)
    assert any("<B>stack</B>" in w and "row  [t]" in w for w in words)
    assert any("captured" in w for w in words) == (stage != "fused")
    [(tail, head, _)] = [e for e in shown.edges if "next step" in e[2]["label"]]
    assert "next" in shown.vertices[tail]["label"] and row in shown.vertices[head]["label"]
    into = [a["label"] for _, b, a in shown.edges if b == head and a.get("style") != "dotted"]
    assert into == ['"f32[4]"']


def test_what_crosses_the_edge_of_a_loop_has_its_own_shape_on_each_side() -> None:
    shown = read(picture(form_at(rnn(), "source"), "dot").decode())
    row = shown.find("x_t")
    assert [a["label"] for _, b, a in shown.edges if b == row] == ['"f32[n,3]"']
    assert [a["label"] for b, _, a in shown.edges if b == row] == ['"f32[3]"']


def test_results_of_loops_that_are_fetched_have_a_thick_border() -> None:
    shown = read(picture(form_at(rnn(), "source"), "dot").decode())
    assert shown.vertices[shown.find("stack")]["penwidth"] == "3"


def test_an_unused_stack_is_not_drawn_and_a_read_count_is() -> None:
    last = rnn()[-1]
    shown = read(picture(form_at(last, "optimised"), "dot").decode())
    assert not any("<B>stack</B>" in a["label"] for a in shown.vertices.values())
    seen = g.scan(lambda x_t: (g.sum(x_t), g.until(g.sum(x_t) > 1.0)), X)
    assert "goes on" in picture(form_at(seen, "source"), "dot").decode()
    [loop] = [node for node in graph_at(seen).nodes if bodies(node)]
    count = counted(loop)
    assert count is not None
    shown = read(picture(form_at(output(loop, count), "source"), "dot").decode())
    assert shown.vertices[shown.find("steps")]["penwidth"] == "3"


def test_scopes_inside_of_a_body_stay_groups_in_it() -> None:
    def step(x_t: Any) -> Any:
        with g.name_scope("cell"):
            return g.tanh(x_t)

    with g.name_scope("layer"):
        out = g.scan(step, X)
    groups = {group.title: group for group in tree_at(out, "source").groups()}
    loop = groups["scan, n steps"]
    assert groups["cell"].parent is loop and loop.parent is groups["layer"]


def test_loops_fold() -> None:
    shown = read(picture(form_at(sums(), "source"), "dot", depth=1).decode())
    [folded] = [a for a in shown.vertices.values() if "scan, n steps" in a["label"]]
    assert folded["shape"] == "tab" and "tanh" in folded["tooltip"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_pages_have_rows_for_the_insides_of_loops(make: Any, stage: str) -> None:
    tree = tree_at(make(), stage)
    data = data_of(tree, 99)
    kinds = {group["kind"] for group in data["groups"]}
    assert kinds & {"loop", "branch"}
    assert all(group["rows"] for group in data["groups"] if group["members"])
    assert all(data["boxes"])


@needs_dot
@pytest.mark.parametrize("stage", ["source", "fused"])
def test_graphviz_takes_them(tmp_path: Path, stage: str) -> None:
    for name, make in PROGRAMS.items():
        path = g.draw(make(), tmp_path / f"{name}.svg", stage)
        assert path.read_bytes().startswith(b"<?xml")


def test_dumps_hold_the_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path))
    with g.Session() as s:
        s.run(rnn(), FEED)
    texts = [path.read_text() for path in tmp_path.rglob("*.txt")]
    assert any("next %h = " in text for text in texts)
    assert any("loop n times" in text for text in texts)
    assert any("scan, n steps" in path.read_text() for path in tmp_path.rglob("*.dot"))


# ---------------------------------------------------------------------------- TensorBoard


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_tensorboard_gets_the_bodies(make: Any) -> None:
    for stage in ("source", "optimised"):
        graph = graph_at(make(), stage)
        entries = {node.name: node for node in graph_definition(graph).node}
        assert Counter(n.op for n in entries.values()) == Counter(
            [n.op.name for n in nested(graph)]
            + [
                "parameter"
                for n in nested(graph)
                for b in bodies(n).values()
                for _ in b.graph.inputs
            ]
        )
        for entry in entries.values():
            assert all(name.partition(":")[0] in entries for name in entry.input)


def test_tensorboard_wires_go_through_a_body() -> None:
    entries = {n.name: n for n in graph_definition(graph_at(rnn())).node}
    assert list(entries["rnn/body/x_t"].input) == ["xs"]
    [tanh] = [n.name for n in entries.values() if n.op == "tanh"]
    assert tanh.startswith("rnn/body/") and tanh in entries["rnn"].input


# ---------------------------------------------------------------------------- checks

VALUES = np.ones(60, np.float32)
VALUES[37] = -1.0


def roots(y: Any, kind: str) -> Any:
    """A loop that takes a square root in each step."""
    if kind == "numbers":
        return g.scan(lambda y_t, s: g.sqrt(y_t) + s * 0.5, y, g.constant(0.0))
    if kind == "arrays":
        return g.scan(lambda y_t, s: g.sqrt(y_t) + s * 0.5, y, g.zeros([3]))[-1]
    if kind == "in a branch":
        safe = lambda y_t: g.ifelse(g.abs(y_t) > 2.0, lambda: y_t, lambda: g.sqrt(y_t))  # noqa: E731
        return g.scan(safe, y)
    if kind == "while":
        go = g.while_loop(lambda i, s: i < 60, lambda i, s: (i + 1, s + g.sqrt(y[i])), [0, 0.0])
        return go[1]
    return g.gradients(g.sum(g.scan(lambda y_t, s: g.sqrt(y_t) * s, y, g.constant(1.0))), y)


@pytest.mark.parametrize("kind", ["numbers", "arrays", "in a branch", "while", "gradient"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_nan_in_a_loop_is_named_with_its_step(device: str, kind: str) -> None:
    y = g.placeholder("float32", [60], name="y")
    out = roots(y, kind)
    with g.Session(device=device, check="nan") as s:
        with pytest.raises(
            g.NumericsError, match=r"^sqrt: made 1 NaN of 1 values \(x: -1"
        ) as error:
            s.run(out, {y: VALUES})
        text = str(error.value)
        assert "sqrt was called at test_control_seen.py:" in text
        assert re.search(r"\n  in step 37 of the loop at test_control_seen.py:\d+$", text)
        assert np.isfinite(s.run(out, {y: abs(VALUES)})).all()


@pytest.mark.parametrize("device", DEVICES)
def test_a_nan_in_an_inner_loop_is_named_with_both_steps(device: str) -> None:
    def total(row: Any, s: Any) -> Any:
        return s + g.scan(lambda v, t: t * 0.5 + g.log(v), row, g.constant(0.0))

    values = np.ones((9, 3))
    values[5, 2] = -1.0
    with g.Session(device=device, check="nan") as s, pytest.raises(g.NumericsError) as error:
        s.run(g.scan(total, X, g.zeros([3])), {X: values})
    assert re.search(r"in step 2 of the loop at .*\n  in step 5 of the loop at", str(error.value))


@pytest.mark.parametrize("device", DEVICES)
def test_a_loop_without_nan_passes_the_check(device: str) -> None:
    with g.Session(device=device, check="nan") as s:
        s.run([rnn(), *training(), *doubling()], FEED)
        assert s.run(rnn(), {X: np.zeros((0, 3)), H: np.zeros(4)}).shape == (0, 4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_control_flow_agrees_with_the_reference(make: Any, device: str) -> None:
    fetches = make()
    wanted = [t for t in (X, H) if t in set(graph_at(fetches).tensors())]
    feed: dict[Any, Any] = {t: FEED[t] for t in wanted}
    feed |= {t: 3.0 for t in graph_at(fetches).tensors() if t.node.name == "a"}
    with g.Session(device=device, check="reference") as s:
        s.run(fetches, feed)


def test_a_loop_that_differs_from_the_reference_is_named() -> None:
    device = WrongDevice("loop", lambda a: a * np.asarray(1.001, a.dtype))
    out = g.exp(rnn())
    rule = "^loop: the device 'wrong' must agree"
    with g.Session(device, check="reference") as s, pytest.raises(g.NumericsError, match=rule):
        s.run(out, FEED)


# ---------------------------------------------------------------------------- profiles


@pytest.mark.parametrize("device", ["reference", "cpu", *OPENCL])
def test_a_loop_has_its_steps_and_what_is_inside(device: str) -> None:
    with g.Session(device=device) as s:
        profile = s.profile(rnn(), FEED)
    [row] = [row for row in profile.rows if row.op == "loop"]
    assert row.times == 100 and row.seconds > 0
    assert "loop %rnn, 100 steps" in str(profile)
    assert {inner.times for inner in row.inside} == {100}
    text = str(profile)
    assert all(f"{inner.op} %{inner.name}, 100 ×" in text for inner in row.inside)


def test_a_loop_on_cpu_sums_what_its_kernels_do() -> None:
    with g.Session() as s:
        profile = s.profile(rnn(), FEED)
    [row] = [row for row in profile.rows if row.op == "loop"]
    [kernel] = row.inside
    assert kernel.op == "matmul+add+tanh" and kernel.bytes == row.bytes
    assert row.bytes == 100 * 4 * (4 + 4 + 16 + 4)  # state, row, weights, result
    assert row.work == 100 * (2 * 16 + 4 + 4)
    assert "%" in row.share(profile.limits or pytest.fail("no limits"))


@pytest.mark.parametrize("device", ["cpu", *OPENCL])
def test_steps_that_data_decide_are_counted(device: str) -> None:
    with g.Session(device=device) as s:
        [row] = [r for r in s.profile(doubling()[1]).rows if r.op == "loop"]
        assert row.times == 7 and row.work == 7 * 2
        chosen, a = choice()
        [row] = [r for r in s.profile(chosen, {a: 3.0}).rows if r.op == "branch"]
        assert row.inside and row.bytes > 0


def test_inner_loops_are_counted_in_all_outer_steps() -> None:
    for device in ("reference", "cpu", *OPENCL):
        with g.Session(device=device) as s:
            [row] = [r for r in s.profile(sums(), {X: FEED[X]}).rows if r.op == "loop"]
            [inner] = [r for r in row.inside if r.op == "loop"]
            assert (row.times, inner.times) == (100, 300)


def test_inside_times_add_up_on_the_reference() -> None:
    with g.Session("reference") as s:
        [row] = [r for r in s.profile(rnn(), FEED).rows if r.op == "loop"]
    assert 0 < sum(inner.seconds for inner in row.inside) <= row.seconds


# ---------------------------------------------------------------------------- reports and memory


def test_reports_count_what_is_inside() -> None:
    with g.Session() as s:
        s.run(sums(), {X: FEED[X]})
        assert "kernels: " in (text := str(s.compile_report()))
        assert "loops: 2" in text and "branches" not in text
        chosen, a = choice()
        s.run(chosen, {a: 3.0})
        assert "branches: 2" in str(s.compile_report())


def deep(width: int) -> Any:
    """A recurrent network that takes some memory, its loss, and x: [n, batch, width]."""
    x = g.placeholder("float32", ["n", 16, width])
    w = g.Variable(np.full((width, width), 0.01, np.float32))
    states = g.scan(lambda x_t, h: g.tanh(h @ w + x_t), x, g.zeros([16, width]))
    return g.sum(states[-1] ** 2), w, states, x


def with_peak(fetch: Any, x: Any, steps: int) -> tuple[int, int]:
    """What the plan says, and what a first run allocates."""
    feed = np.ones((steps, *(int(d) for d in x.shape[1:])), np.float32)
    with g.Session() as s:
        plan = s.memory_plan(fetch, {"n": steps})
        call = s.prepare(fetch, [x])
        for fetch_set, _ in list(s._sets.values()):
            s.run([g.sum(v) for v in fetch_set.variables])
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        call(feed)
        most = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    return plan.total, most


@pytest.mark.parametrize("what", ["states", "last", "training", "nested"])
def test_the_plan_of_memory_holds_for_loops(what: str) -> None:
    loss, w, states, x = deep(256)
    inner = lambda m: g.scan(lambda r, s: s * 0.5 + r, m, g.zeros([256]))  # noqa: E731
    fetch = {
        "states": lambda: states,
        "last": lambda: g.exp(g.concatenate([states[-1]] * 100)),
        "training": lambda: g.assign(w, w - 0.1 * g.gradients(loss, [w])[0]),
        "nested": lambda: g.scan(inner, x),
    }[what]()
    planned, measured = with_peak(fetch, x, 200)
    assert planned > 1e6
    assert measured == pytest.approx(planned, rel=0.05)


def test_a_stack_that_nobody_reads_takes_no_memory() -> None:
    states = deep(64)[2]
    with g.Session() as s:
        totals = [s.memory_plan(states[-1], {"n": n}).total for n in (100, 10_000)]
        assert totals[1] < 1.5 * totals[0]


def test_loops_are_found_in_the_plan() -> None:
    lowered = form_at(sums(), "fused")
    assert isinstance(lowered, Lowered)
    found = [step for step in all_steps(lowered.plan.steps) if isinstance(step, Loop)]
    assert len(found) == 2 and len(lowered.parts[0].inside) == 1
