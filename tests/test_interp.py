"""The kernels of every op, interpreted, against what the op means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.build import make
from graphc.dtypes import (
    BY_NUMPY,
    DType,
    as_dtype,
    bool_,
    float16,
    float32,
    float64,
    int32,
    uint8,
    uint64,
)
from graphc.errors import NumericsError, ShapeError
from graphc.graph import Graph, Op
from graphc.kernel import dtype_of, kinds_of
from graphc.ops import OPS
from graphc.ops.domain import Case
from graphc.passes.specialise import specialise
from graphc.plan import Call
from graphc.runtime.device import Environment
from graphc.runtime.interp import evaluate
from graphc.runtime.interp.device import InterpProgram
from tests.support import (
    ENTROPY_WORDS,
    SPELLINGS,
    Compiled,
    apply,
    assert_same,
    inputs_of,
    kinds,
    values,
)

RUNTIME, DATA, LAPACK = "the runtime supplies it", "its value is data", "LAPACK runs it"
SORT = "a permutation of a whole row is found at once: NumPy's sort is a good one"
NO_KERNEL = {
    "placeholder": RUNTIME, "variable": RUNTIME, "entropy": RUNTIME, "parameter": RUNTIME,
    "constant": DATA,
    "print": "it writes to the terminal",
    "sort": SORT, "argsort": SORT, "top_k": SORT,
    **dict.fromkeys(
        ("cholesky", "eigh", "svd", "qr", "inv", "solve", "solve_triangular", "pinv", "cofactor",
         "cofactor_derivative", "det", "slogdet"), LAPACK
    ),
}  # fmt: skip

TESTED_IN = (float32, float64, float16, int32, uint8, bool_)
ROUNDED = {
    "avg_pool2d_gradient",
    "max_pool2d_gradient",
    "max_pool2d_spread",
}  # opaque, but they add up
EXACT = ("source", "view", "opaque")
TABLE = [
    (op, dtype)
    for op in OPS.values()
    if op.element is not None or op.expand is not None or op.loop is not None
    for dtype in kinds(op)
    if dtype in ((uint64,) if op.name == "random_bits" else TESTED_IN) or not op.params
]


def _label(value: Any) -> str:
    return value.name if isinstance(value, (Op, DType)) else str(value)


def _hold(op: Op, got: Any, want: Any, what: str) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape), what
    if op.family in EXACT and op.name not in ROUNDED:
        np.testing.assert_array_equal(got, want, err_msg=what)
    else:
        assert_same(got, want, what, slack=4)


def _interpreted(graph: Graph, arrays: Any, sizes: Any) -> list[Any]:
    return InterpProgram(graph).run(arrays, Environment(sizes, {}, ENTROPY_WORDS))


def test_every_op_has_a_kernel_or_a_reason() -> None:
    without = {
        op.name
        for op in OPS.values()
        if op.element is None
        and op.expand is None
        and op.loop is None
        and op.family not in ("deferred", "gradient", "control")  # steps of their own, or gone
    }
    assert without == set(NO_KERNEL)


@pytest.mark.parametrize(("op", "dtype"), TABLE, ids=_label)
def test_kernel_is_the_oracle(op: Op, dtype: DType) -> None:
    for case in op.domain.cases:
        arrays = inputs_of(op, case, dtype)
        tensors = [SPELLINGS["static"](array) for array in arrays]
        graph = specialise(Graph(apply(op, tensors, case.attrs), (), tuple(tensors)))
        what = f"{op.name} of {[a.shape for a in arrays]} {case.attrs}"
        got = _interpreted(graph, arrays, {})
        for a, b in zip(got, values(graph, arrays, {}), strict=True):
            _hold(op, a, b, what)


@pytest.mark.parametrize("op", [op for op, dtype in TABLE if dtype is float32], ids=_label)
def test_kernel_of_symbolic_sizes(op: Op) -> None:
    for case in op.domain.cases:
        arrays = inputs_of(op, case, float32)
        tensors = [SPELLINGS["symbolic"](array) for array in arrays]
        outputs = apply(op, tensors, case.attrs)
        compiled = Compiled.of(outputs, tensors, [a.shape for a in arrays])
        what = f"{op.name} of {[a.shape for a in arrays]} {case.attrs}"
        got = _interpreted(compiled.graph, arrays, compiled.sizes)
        for a, b in zip(got, compiled(*arrays), strict=True):
            _hold(op, a, b, what)


def _typed(op: Op, case: Case, dtype: DType) -> None:
    arrays = inputs_of(op, case, dtype)
    tensors = [SPELLINGS["static"](array) for array in arrays]
    graph = specialise(Graph(apply(op, tensors, case.attrs), (), tuple(tensors)))
    program, environment = InterpProgram(graph), Environment({}, {}, ENTROPY_WORDS)
    buffers = program.buffers(arrays, environment)
    for step in program.plan.steps:
        if isinstance(step, Call):
            grid = evaluate.Grid(step.kernel, {})
            with np.errstate(all="ignore"):
                found = evaluate.values_of(step.kernel, grid, buffers)
            for formula, kind in kinds_of(*found).items():
                value = found[formula]
                real = BY_NUMPY[value.dtype] if hasattr(value, "dtype") else type(value)
                assert kind is real, f"{op.name}: {formula.primitive} is {real}, not {kind}"
            for store in step.kernel.stores:
                assert dtype_of(store.value) is store.buffer.type.dtype


@pytest.mark.parametrize(("op", "dtype"), TABLE, ids=_label)
def test_types_of_formulas_are_the_real_ones(op: Op, dtype: DType) -> None:
    _typed(op, op.domain.cases[-1], dtype)


# ---------------------------------------------------------------------------- whole graphs


def _devices_agree(fetches: Any, feeds: Any, variables: Any = (), runs: int = 1) -> None:
    """Both devices from one seed, run by run; then the variables that the runs have left."""
    results = []
    for device in ("interp", "reference"):
        with g.Session(device=device, seed=3) as session:
            listed = [session.run(fetches, feeds) for _ in range(runs)]
            results.append([*(a for run in listed for a in run if a is not None)])
            results[-1] += [session.run(v) for v in variables]
    assert len(results[0]) == len(results[1]) > 0
    for got, want in zip(*results, strict=True):
        assert_same(np.asarray(got), np.asarray(want), "interp, reference", slack=20)


def _drawn(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_training_a_network() -> None:
    x, labels = g.placeholder("float32", ["n", 6]), g.placeholder("int64", ["n"])
    w1, w2 = g.Variable(_drawn(6, 5)), g.Variable(_drawn(5, 3))
    b = g.Variable(np.zeros(5, np.float32))
    logits = g.nn.relu(x @ w1 + b) @ w2
    loss = g.mean(g.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    step = g.optim.Adam(0.1).minimize(loss)
    feeds = {x: _drawn(4, 6), labels: np.array([0, 2, 1, 2])}
    _devices_agree([loss, step], feeds, [w1, b, w2], runs=3)


def test_training_a_convolutional_network() -> None:
    x = g.placeholder("float32", ["n", 9, 8, 2])
    w1, w2 = g.Variable(_drawn(3, 3, 2, 4)), g.Variable(_drawn(2, 2, 2, 4))
    hidden = g.nn.relu(g.nn.conv2d(x, w1, padding="SAME", strides=2))
    pooled = g.nn.max_pool2d(hidden, 2, padding="SAME")
    mixed = g.nn.conv2d(pooled, w2, groups=2, padding=1, dilations=1)
    loss = g.mean(g.square(g.nn.avg_pool2d(mixed, 2, 1)))
    gradients = g.gradients(loss, [w1, w2, x])
    _devices_agree([loss, *gradients], {x: _drawn(3, 9, 8, 2)})


def test_layer_norm() -> None:
    x = g.placeholder("float32", [None, None])
    mean, variance = g.mean(x, -1, keepdims=True), g.var(x, -1, keepdims=True)
    y = (x - mean) * g.rsqrt(variance + 1e-5)
    y = g.nn.softmax(y, axis=-1) + g.nn.log_softmax(y, axis=0) * g.logsumexp(y) + g.std(y)
    _devices_agree([y, g.gradients(g.sum(y * y), x)], {x: _drawn(4, 7)})


def test_random_numbers_are_the_same() -> None:
    x = g.placeholder("float32", ["n", 5])
    dropped = g.nn.dropout(x, rate=0.5)
    noise, order = g.random.normal((3, 4)), g.random.uniform((7,), dtype="float64")
    _devices_agree([dropped, noise, order], {x: _drawn(6, 5)}, runs=2)


def test_sorting_between_kernels() -> None:
    x = g.placeholder("float32", [None])
    _devices_agree([g.sort(x * 2) + 1, g.cumsum(x)[::-1]], {x: _drawn(9)})


SPECIAL = np.array(
    [[-np.inf, np.nan, 1, -0.0], [np.inf, -np.inf, -np.inf, -np.inf], [0.0, -0.0, 3, np.nan]],
    np.float32,
)


def test_special_values() -> None:
    x = g.placeholder("float32", [None, None])
    image = g.reshape(x, (1, 3, 4, 1))
    pooled = g.nn.max_pool2d(image, 2, strides=1, padding="SAME")
    fetches = [
        g.max(x, 1), g.min(x, 0), g.argmax(x, 1), g.argmin(x), g.any(x, 1), g.all(x), g.sum(x, 0),
        g.prod(x, 1), g.cast(x, "int8"), g.cast(x, "bool"), g.max(x, initial=2.5), pooled,
        *g.gradients(g.sum(pooled), [x]), g.concatenate([x, x[::-1]], 1), g.nn.softmax(x),
    ]  # fmt: skip
    _devices_agree(fetches, {x: SPECIAL})


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
@pytest.mark.parametrize("seeded", [False, True])
def test_random_bits_of_large_words(dtype: str, seeded: bool) -> None:
    entropy = g.placeholder("uint64", [2])
    attrs = {"dtype": as_dtype(dtype), "key": 2**64 - 5, "seeded": seeded}
    bits = make(OPS["random_bits"], (entropy,), {"shape": (3, 3), **attrs})
    words = np.array([2**64 - 1, 2**40 + 7], np.uint64)
    graph = Graph((bits,), (), (entropy,))
    (got,), (want,) = _interpreted(graph, [words], {}), values(graph, [words], {})
    assert got.dtype == want.dtype and got.tolist() == want.tolist()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "int64"])
def test_indices_of_every_kind(dtype: str) -> None:
    x, i = g.placeholder("float32", [3, 4]), g.placeholder(dtype, [2, 1])
    fetches = [x[i, 1], g.take(x, i, axis=1), g.take_along_axis(x[:2], i, 1)]
    _devices_agree(fetches, {x: _drawn(3, 4), i: np.array([[2], [0]]).astype(dtype)})
    if not dtype.startswith("u"):
        _devices_agree(fetches, {x: _drawn(3, 4), i: np.array([[-1], [-2]]).astype(dtype)})


# ---------------------------------------------------------------------------- failures


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_raises(index: int) -> None:
    i = g.placeholder("int64", [2])
    y = g.take(g.Variable(np.zeros(3, np.float32)), i)
    with g.Session(device="interp") as session:
        rule = r"gather: .*out of range for axis 0 of size 3(.|\n)*test_interp"
        with pytest.raises(ShapeError, match=rule):
            session.run(y, {i: [0, index]})


def test_a_maximum_of_nothing_raises() -> None:
    x = g.placeholder("float32", ["n"])
    with g.Session(device="interp") as session, pytest.raises(ShapeError, match="max: "):
        session.run(g.max(x), {x: np.zeros(0, np.float32)})


def test_the_first_nan_is_found() -> None:
    x = g.placeholder("float32", [2])
    rule = r"log: made 1 NaN of 2 values(.|\n)*test_interp"  # in the kernel of the sum
    session = g.Session(device="interp", check="nan")
    with session, pytest.raises(NumericsError, match=rule):
        session.run(g.sum(g.log(x) * 2), {x: [-1, 1]})


def test_a_large_grid_is_walked_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "POINTS", 40)
    x = g.placeholder("float32", [7, 5])
    _devices_agree([x @ g.transpose(x), g.sum(x), g.exp(x)], {x: _drawn(7, 5)})
