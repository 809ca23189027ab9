"""Each pass: text in, text out; and what the pipeline promises as a whole."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import graphc.ops
from graphc.build import frozen_array, make
from graphc.context import name_scope
from graphc.dims import Dim
from graphc.dtypes import DTYPES, float32
from graphc.errors import CompileError
from graphc.graph import Graph, Node, Tensor
from graphc.ops import OPS
from graphc.ops.arith import absolute, masked_divide, negative
from graphc.ops.broadcast import broadcast_to, cast
from graphc.ops.broadcast import sum as total
from graphc.ops.contraction import matmul
from graphc.ops.control import identity, stop_gradient
from graphc.ops.control import print as show_value
from graphc.ops.elementary import exp, log
from graphc.ops.gradient import gradients
from graphc.ops.logic import logical_not
from graphc.ops.random import random_bits
from graphc.ops.reduce import max as largest
from graphc.ops.select import maximum, minimum, where
from graphc.ops.shape import reshape, transpose
from graphc.ops.source import Variable, constant, full_of, placeholder
from graphc.passes import PIPELINE, optimise
from graphc.passes.differentiate import differentiate
from graphc.passes.fold_constants import fold_constants
from graphc.passes.merge_common import merge_common
from graphc.passes.remove_dead import remove_dead
from graphc.passes.simplify_algebra import simplify_algebra
from graphc.passes.stabilise import stabilise
from graphc.rewriting import Rewriter, rewrite
from graphc.runtime.dump import dumper, requested_dump
from tests.passes_support import apply, run

assert graphc.ops  # installs the operators


@pytest.fixture
def x() -> Tensor:
    return placeholder("float32", (2, 3), name="x")


@pytest.fixture
def k() -> Tensor:
    return placeholder("int32", (2, 3), name="k")


X = "%x: f32[2,3] = placeholder\n"
K = "%k: i32[2,3] = placeholder\n"


# ---------------------------------------------------------------------------- fold_constants


def test_fold_runs_oracles(x: Tensor) -> None:
    y = x * exp(constant([[0.0]])) + constant([1.0, 2.0, 3.0]) * constant([2.0, 2.0, 2.0])
    assert apply(fold_constants, y) == (
        X + "%0: f32[2,3] = full value=1.0\n"
        "%1: f32[2,3] = multiply %x %0\n"
        "%2: f32[2,3] = constant value=[[2.0, 4.0, 6.0], [2.0, 4.0, 6.0]]\n"
        "%3: f32[2,3] = add %1 %2\n"
        "return %3\n"
    )


def test_fold_keeps_full_of_a_symbolic_shape() -> None:
    n = Dim.symbol("n")
    y = exp(full_of(0.0, (n, 3), float32)) + full_of(2, (n, 3), float32)
    assert apply(fold_constants, transpose(y)) == "%0: f32[3,n] = full value=3.0\nreturn %0\n"


def test_fold_of_no_elements_and_of_sizes() -> None:
    empty = total(constant(np.zeros((0, 2), np.float32)))
    assert apply(fold_constants, empty) == "%0: f32[] = full value=0.0\nreturn %0\n"


def test_fold_is_bounded_by_size() -> None:
    row, column = constant(np.ones((1, 400), np.float32)), constant(np.ones((400, 1), np.float32))
    graph = fold_constants(Graph((matmul(column, row),)))
    assert [node.op.name for node in graph.nodes] == ["constant", "constant", "matmul"]
    large = constant(np.arange(100_000.0))
    assert [n.op.name for n in fold_constants(Graph((-large,))).nodes] == ["constant"]


def test_fold_leaves_what_acts_or_is_random_or_raises() -> None:
    printed = show_value(constant(1.0), "never: ")
    bits = random_bits((2,), OPS["random_bits"].domain.cases[0].attrs["dtype"])
    assert fold_constants(Graph((printed, bits))).outputs == (printed, bits)


def test_fold_leaves_an_oracle_that_raises_for_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*_: object, **__: object) -> None:
        raise IndexError("index 7 is out of range")

    base = OPS["negative"]
    broken = type(base)("broken", "opaque", ("x",), base.dtype, base.shape, fails)
    y = make(broken, (constant([1.0]),))
    assert fold_constants(Graph((y,))).outputs == (y,)


def test_fold_is_silent_and_ieee() -> None:
    y = log(constant([-1.0, 0.0])) / constant([0.0, 0.0])
    (value,) = run([y])
    assert np.isnan(value[0]) and value[1] == -np.inf


# ---------------------------------------------------------------------------- simplify_algebra


def power(x: Tensor, exponent: float) -> Tensor:
    full = full_of(exponent, x.shape or (), x.dtype)
    return make(OPS["power"], (x, full))


UNCHANGED = {
    "x * 1": lambda x: x * 1.0,
    "1 * x": lambda x: 1.0 * x,
    "x / 1": lambda x: x / 1.0,
    "x ** 1": lambda x: power(x, 1),
    "x - 0": lambda x: x - 0.0,
    "x + -0": lambda x: x + -0.0,
    "-0 + x": lambda x: -0.0 + x,
    "x * constant": lambda x: x * broadcast_to(full_of(1, (), float32), (2, 3)),
    "-(-x)": lambda x: negative(-x),
    "min": lambda x: minimum(x, x),
    "max": lambda x: maximum(x, x),
    "where same": lambda x: where(x, x, x),
    "where true": lambda x: where(constant(np.ones((2, 3), bool)), x, x * 2.0),
    "where false": lambda x: where(constant(np.zeros((2, 3), bool)), x * 2.0, x),
    "transpose": lambda x: transpose(transpose(x)),
    "reshape": lambda x: reshape(reshape(x, (6,)), (2, 3)),
    "cast": lambda x: cast(cast(x, "float64"), "float32"),
    "identity": identity,
    "stop_gradient": stop_gradient,
    "max of one": lambda x: largest(reshape(x, (2, 1, 3)), axis=1),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_simplify_to_its_operand(name: str, x: Tensor) -> None:
    text = apply(simplify_algebra, UNCHANGED[name](x))
    assert text.splitlines()[-1] == "return %x"


REWRITTEN = [
    (lambda x: power(x, 2), "multiply %x %x"),
    (lambda x: x * -1.0, "negative %x"),
    (lambda x: x + -(x * x), "%0: f32[2,3] = multiply %x %x\n%1: f32[2,3] = subtract %x %0"),
    (lambda x: -x + x, "subtract %x %x"),
    (lambda x: x - -x, "add %x %x"),
    (lambda x: -x * -x, "multiply %x %x"),
    (lambda x: absolute(-x), "absolute %x"),
    (lambda x: reshape(reshape(x, (6,)), (3, 2)), "f32[3,2] = reshape %x shape=(3,2)"),
    (lambda x: cast(cast(x, "float64"), "float16"), "f16[2,3] = cast %x dtype=f16"),
    (
        lambda x: broadcast_to(broadcast_to(x, (4, 2, 3)), (5, 4, 2, 3)),
        "broadcast_to %x shape=(5,4,2,3)",
    ),
    (
        lambda x: transpose(transpose(reshape(x, (1, 2, 3)), (1, 2, 0)), (1, 2, 0)),
        "transpose %0 axes=(2,0,1)",
    ),
    (
        lambda x: masked_divide(full_of(2.0, (2, 3), float32), x),
        "%1: f32[2,3] = divide %0 %x",
    ),
    (
        lambda x: total(reshape(x, (6, 1, 1)), axis=(1, 2)),
        "%1: f32[6] = reshape %0 shape=(6)\n%2: f32[6] = full value=0.0\n%3: f32[6] = add %1 %2",
    ),
]


@pytest.mark.parametrize(("formula", "expected"), REWRITTEN, ids=[e for _, e in REWRITTEN])
def test_simplify_to_less(formula, expected: str, x: Tensor) -> None:
    text = apply(simplify_algebra, formula(x))
    assert expected in text, text


KEPT = {
    "x + 0.0 turns -0.0 into 0.0": lambda x: x + 0.0,
    "x - -0.0 does too": lambda x: x - -0.0,
    "0 * nan is nan": lambda x: x * 0.0,
    "float64 to float32 rounds": lambda x: cast(cast(x, "float16"), "float32"),
    "integers saturate from floats": lambda x: cast(cast(cast(x, "int32"), "float64"), "int8"),
    "int64 does not fit float64": lambda x: cast(cast(cast(x, "int64"), "float64"), "int64"),
    "0 - x is 0.0 at 0": lambda x: 0.0 - x,
}


@pytest.mark.parametrize("name", KEPT)
def test_simplify_leaves_what_would_change(name: str, x: Tensor) -> None:
    graph = Graph((KEPT[name](x),))
    assert simplify_algebra(graph) is graph


def test_simplify_integers(k: Tensor) -> None:
    assert apply(simplify_algebra, k * 0) == "%0: i32[2,3] = full value=0\nreturn %0\n"
    assert apply(simplify_algebra, k + 0) == K + "return %k\n"
    assert apply(simplify_algebra, 0 - k) == K + "%0: i32[2,3] = negative %k\nreturn %0\n"
    assert apply(simplify_algebra, power(k, 0)) == "%0: i32[2,3] = full value=1\nreturn %0\n"
    assert apply(simplify_algebra, logical_not(logical_not(k > 0))).endswith("return %1\n")
    assert apply(simplify_algebra, cast(cast(k, "int64"), "int16")).count("cast") == 1


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -2.0, 3e38, 1e-45], np.float32)


@pytest.mark.parametrize("name", UNCHANGED | {str(i): f for i, (f, _) in enumerate(REWRITTEN)})
def test_simplify_changes_no_bit(name: str) -> None:
    formula = (UNCHANGED | {str(i): f for i, (f, _) in enumerate(REWRITTEN)})[name]
    x = placeholder("float32", (2, 3), name="x")
    outputs = [formula(x)]
    for at in (SPECIAL[:6], SPECIAL[3:]):
        plain = run(outputs, {x: at.reshape(2, 3)}, pipeline=())
        simple = run(outputs, {x: at.reshape(2, 3)}, pipeline=(simplify_algebra,))
        for a, b in zip(plain, simple, strict=True):
            nan = np.isnan(a)
            assert a.dtype == b.dtype and np.array_equal(nan, np.isnan(b))
            assert np.where(nan, 0, a).tobytes() == np.where(nan, 0, b).tobytes()


@pytest.mark.parametrize("middle", DTYPES, ids=str)
@pytest.mark.parametrize("first", DTYPES, ids=str)
def test_merged_casts_are_exact(first, middle) -> None:
    values = np.array([0, 1, 2, 100, 127, -1, -128, 255, 30000, 65504, 2**24 + 1, 2**53 + 1, -5])
    with np.errstate(all="ignore"):
        at = values.astype(first.numpy)
        if first.is_float:
            at = np.concatenate([at, [0.5, -1.5, 1e4, 6e4]]).astype(first.numpy)
    x = placeholder(first, at.shape, name="x")
    outputs = [cast(cast(x, middle), last) for last in DTYPES]
    plain = run(outputs, {x: at}, pipeline=())
    simple = run(outputs, {x: at}, pipeline=(simplify_algebra,))
    for last, a, b in zip(DTYPES, plain, simple, strict=True):
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (first, middle, last)


def test_simplify_waits_for_open_gradients() -> None:
    x = placeholder("float32", None, name="x")
    h = identity(x)
    graph = Graph(tuple(gradients(h * 1.0, [h])))
    assert simplify_algebra(graph) is graph


# ---------------------------------------------------------------------------- merge_common


def test_merge_by_op_inputs_and_attributes(x: Tensor) -> None:
    a, b = exp(x) * 2.0, exp(x) * 2.0
    assert apply(merge_common, a + b, total(x, 0) + total(x, 0), total(x, 1)) == (
        X + "%0: f32[2,3] = exp %x\n"
        "%1: f32[2,3] = full value=2.0\n"
        "%2: f32[2,3] = multiply %0 %1\n"
        "%3: f32[2,3] = add %2 %2\n"
        "%4: f32[3] = sum %x axis=(0) keepdims=False\n"
        "%5: f32[3] = add %4 %4\n"
        "%6: f32[2] = sum %x axis=(1) keepdims=False\n"
        "return %3, %5, %6\n"
    )


def test_merge_products_and_sums_of_either_order(x: Tensor) -> None:
    y = exp(x)
    found = merge_common(Graph((x * y + y * x, (x + y) * (y + x), x - y, y - x)))
    names = [node.op.name for node in found.nodes]
    assert (names.count("multiply"), names.count("add"), names.count("subtract")) == (2, 2, 2)


def test_merge_constants_bit_for_bit() -> None:
    pairs = [
        ([1.0, 2.0], [1.0, 2.0], 1),
        ([0.0, 1.0], [-0.0, 1.0], 2),
        ([np.nan], [np.nan], 1),
        (0.0, -0.0, 2),
        (float("nan"), float("nan"), 1),
        (1, 1.0, 1),
    ]
    for a, b, count in pairs:
        if isinstance(a, list):
            left, right = constant(a), constant(b)
        else:
            left, right = full_of(a, (), float32), full_of(b, (), float32)
        graph = merge_common(Graph((left, right)))
        assert len(graph.nodes) == count, (a, b)


def test_merge_keeps_names(x: Tensor) -> None:
    with name_scope("layer"):
        named = make(OPS["exp"], (x,), {}, "activation")
    text = apply(merge_common, exp(x) + named)
    assert text == (
        X + "%layer/activation: f32[2,3] = exp %x\n"
        "%0: f32[2,3] = add %layer/activation %layer/activation\n"
        "return %0\n"
    )


def test_merge_leaves_what_acts_or_differs_each_time(x: Tensor) -> None:
    uint32 = OPS["random_bits"].domain.cases[0].attrs["dtype"]
    apart = (
        show_value(x, "a"), show_value(x, "a"),
        random_bits((2,), uint32), random_bits((2,), uint32),
        placeholder("float32", (2,)), placeholder("float32", (2,)),
        Variable([1.0]), Variable([1.0]),
    )  # fmt: skip
    assert len({id(t.node) for t in merge_common(Graph(apart)).outputs}) == len(apart)
    keyed = (random_bits((2,), uint32, seed=1), random_bits((2,), uint32, seed=1))
    assert len({t.node for t in merge_common(Graph(keyed)).outputs}) == 1


def test_merge_keeps_tensors_of_open_gradients_apart() -> None:
    x = placeholder("float32", None, name="x")
    h, other = exp(x), exp(x)
    graph = merge_common(Graph((*gradients(total(h * other), [h]), h, other)))
    assert sum(node.op.name == "exp" for node in graph.nodes) == 2


def test_merge_keeps_a_tensor_one_object(x: Tensor) -> None:
    first, second = exp(x), exp(x)
    graph = merge_common(Graph((first, second)))
    assert graph.outputs == (first, first)


# ---------------------------------------------------------------------------- remove_dead


def test_remove_updates_that_change_nothing(x: Tensor) -> None:
    v, w = Variable([1.0], name="v"), Variable([2.0], name="w")
    graph = remove_dead(Graph((), ((v, v), (w, v)), (x,)))
    assert graph.updates == ((w, v),)
    assert graph.inputs == (x,)
    assert remove_dead(graph) is graph


# ---------------------------------------------------------------------------- the pipeline


def test_passes_that_find_nothing_return_the_graph_itself(x: Tensor) -> None:
    graph = Graph((matmul(x, transpose(x)),))
    for step in PIPELINE:
        assert step(graph) is graph, step.__name__


def test_passes_do_not_touch_the_graph_they_are_given(x: Tensor) -> None:
    (found,) = gradients(total(log(exp(x) * 1.0 + 1.0)), [x])
    graph = Graph((found,))
    nodes, first = graph.nodes, graph.outputs
    optimise(graph)
    assert graph.nodes is nodes and graph.outputs is first and found.node in nodes


def test_skipped_passes(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setenv("GRAPHC_SKIP", "stabilise, merge_common")
    optimise(Graph((log(exp(x)),)), lambda name, graph, seconds: seen.append(name))
    left = [step.__name__ for step in PIPELINE if step not in (stabilise, merge_common)]
    assert seen == ["build", *left] and {"specialise", "schedule"} <= set(left)


def test_a_pass_that_breaks_the_graph_is_caught(x: Tensor) -> None:
    def breaks(graph: Graph) -> Graph:
        def widened(node: Node) -> Tensor | None:
            if node.op.name != "exp":
                return None
            type = placeholder("float32", (7,)).type
            wrong = Node(node.op, node.inputs, {}, (type,), None, None, node.where, True)
            return Tensor(wrong, 0, type)

        return rewrite(graph, widened)

    message = r"(?s)the pass breaks broke .*before:.*after:.*f32\[7\]"
    with pytest.raises(CompileError, match=message):
        optimise(Graph((exp(x),)), pipeline=(breaks,))


def test_a_pass_that_swaps_an_input_is_caught(x: Tensor) -> None:
    def swaps(graph: Graph) -> Graph:
        rewriter = Rewriter({x: placeholder("float64", (2, 3))})
        for node in graph.nodes:
            rewriter.visit(node)
        return graph.with_roots([rewriter.resolve(t) for t in graph.roots])

    y = exp(x) + 1.0
    with pytest.raises(CompileError, match="swaps"):
        optimise(Graph((y,)), pipeline=(stabilise, swaps))


def test_rewritten_nodes_keep_line_and_scope(x: Tensor) -> None:
    with name_scope("outer"):
        y = log(exp(x) + 1.0)
    graph = optimise(Graph((y,)))
    (made,) = [node for node in graph.nodes if node.op.name == "softplus"]
    assert made.where == y.node.where and made.scope is y.node.scope


# ---------------------------------------------------------------------------- dumps


def test_dump_writes_each_stage(x: Tensor, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    for _ in range(3):
        observe = dumper(folder, {".txt": lambda g: f"{len(g.nodes)}", ".dot": lambda g: "digraph"})
        optimise(Graph((exp(x) * 1.0,)), observe)
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    assert names[:4] == ["00-build.dot", "00-build.txt", "01-specialise.dot", "01-specialise.txt"]
    assert len(names) == 2 * (1 + len(PIPELINE))
    assert (folder / "00-build.txt").read_text() == "4"
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["1", "2"]
    assert len(list((folder / "2").iterdir())) == len(names)


def test_dump_by_environment(x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHC_DUMP", raising=False)
    assert requested_dump() is None
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path))
    optimise(Graph((exp(x),)), requested_dump())
    assert "= exp %x" in (tmp_path / "00-build.txt").read_text()


def test_dump_that_cannot_be_written_warns(x: Tensor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="GRAPHC_DUMP: 00-build was not written"):
        optimise(Graph((exp(x),)), dumper(tmp_path / "file"), pipeline=())


# ---------------------------------------------------------------------------- size


def network(count: int) -> Graph:
    x = placeholder("float32", ["batch", 8], name="x")
    w, b = Variable(np.ones((8, 8), np.float32)), Variable(np.ones(8, np.float32))
    h, built = x, 0
    while built < count:
        h = h @ w + b
        h = h * (h * 0.5)
        built += 6
    return Graph(tuple(gradients(total(h * h), [w, b])))


def seconds(count: int) -> float:
    start = time.process_time()
    optimise(network(count))
    return time.process_time() - start


def test_cost_grows_linearly() -> None:
    seconds(500)
    ratio = min(seconds(8000) for _ in range(2)) / min(seconds(4000) for _ in range(2))
    assert ratio < 3.5  # quadratic work would give 4


def test_a_deep_chain_needs_no_deep_stack() -> None:
    x = placeholder("float32", (), name="x")
    y = x
    for k in range(20_000):
        y = y * 1.5 if k % 2 else y + 0.5
    graph = optimise(Graph((y, *gradients(y, [x]))))
    assert len(graph.nodes) > 20_000
    assert differentiate(graph) is graph


def test_literals_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        frozen_array([1.0])[0] = 2.0


def test_negative_is_an_op() -> None:
    assert negative(constant([1.0])).node.op is OPS["negative"]
