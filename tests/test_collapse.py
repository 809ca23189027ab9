"""Kernels over fewer axes store what the kernels did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as g
from graphc.affine import place
from graphc.collapse import collapse
from graphc.dims import Dim, Symbol, evaluate
from graphc.dtypes import DType, float32, int8, int64, uint64
from graphc.graph import Graph, Op
from graphc.kernel import Axis, Buffer, Kernel, Store, cast, lift, read, reduce
from graphc.lower import lower
from graphc.ops import OPS
from graphc.passes.specialise import specialise
from graphc.plan import Call
from graphc.runtime.device import Environment
from graphc.runtime.interp.device import InterpProgram
from graphc.runtime.interp.evaluate import run_kernel
from graphc.types import TensorType
from tests.support import ENTROPY_WORDS, SPELLINGS, Compiled, apply, inputs_of, kinds

KERNELS = [op for op in OPS.values() if op.element or op.loop or op.expand]


def _kernels(graph: Graph, arrays: Any, sizes: Any) -> Iterator[tuple[Kernel, dict[Buffer, Any]]]:
    program = InterpProgram(graph)
    buffers = program.buffers(arrays, Environment(sizes, {}, ENTROPY_WORDS))
    for step in program.plan.steps:
        if isinstance(step, Call):
            yield step.kernel, buffers


def _results(
    kernel: Kernel, buffers: Mapping[Buffer, Any], sizes: Mapping[Symbol, int]
) -> list[Any]:
    written = {s.buffer: np.zeros_like(buffers[s.buffer]) for s in kernel.stores}
    with np.errstate(all="ignore"):
        run_kernel(kernel, {**buffers, **written}, sizes)
    return list(written.values())


def _hold(kernel: Kernel, buffers: Mapping[Buffer, Any], sizes: Mapping[Symbol, int]) -> Kernel:
    """Both store the same, up to the order of a sum."""
    smaller = collapse(kernel)
    assert smaller.lines == kernel.lines
    for got, want in zip(
        _results(smaller, buffers, sizes), _results(kernel, buffers, sizes), strict=True
    ):
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
        else:
            np.testing.assert_array_equal(got, want)
    return smaller


def _dtype(op: Op) -> DType:
    if op.name == "random_bits":
        return uint64
    return float32 if float32 in kinds(op) else kinds(op)[-1]


@pytest.mark.parametrize("spelling", ["static", "symbolic"])
@pytest.mark.parametrize("op", KERNELS, ids=lambda op: op.name)
def test_every_kernel_stores_the_same(op: Op, spelling: str) -> None:
    for case in op.domain.cases:
        arrays = inputs_of(op, case, _dtype(op))
        tensors = [SPELLINGS[spelling](array) for array in arrays]
        outputs = apply(op, tensors, case.attrs)
        if spelling == "static":
            graph, sizes = specialise(Graph(outputs, (), tuple(tensors))), {}
        else:
            compiled = Compiled.of(outputs, tensors, [a.shape for a in arrays])
            graph, sizes = compiled.graph, compiled.sizes
        for kernel, buffers in _kernels(graph, arrays, sizes):
            _hold(kernel, buffers, sizes)


# ---------------------------------------------------------------------------- what is merged


def _graph_kernels(fetch: Any, *inputs: Any) -> list[Kernel]:
    plan = lower(specialise(Graph((fetch,), (), inputs)))
    return [collapse(step.kernel) for step in plan.steps if isinstance(step, Call)]


def _extents(kernel: Kernel) -> list[Any]:
    return [axis.extent for axis in kernel.axes]


def test_a_map_is_one_loop() -> None:
    x = g.placeholder("float32", [3, 4, 5])
    (kernel,) = _graph_kernels(g.exp(x), x)
    assert _extents(kernel) == [60]


def test_a_map_of_symbolic_sizes_is_one_loop() -> None:
    m, n, k = Dim.symbol("m"), Dim.symbol("n"), Dim.symbol("k")
    x = g.placeholder("float32", [m, n, k])
    (kernel,) = _graph_kernels(g.exp(x), x)
    assert _extents(kernel) == [m * n * k]
    (store,) = kernel.stores
    where = place(store.index, store.buffer.type.shape or ())
    assert where is not None and dict(where.steps) == {kernel.axes[0]: 1}


def _kernel(axes: Sequence[Axis], *stores: Store) -> Kernel:
    return Kernel("test", tuple(axes), stores)


def _buffer(*shape: Any, dtype: DType = float32, name: str = "x") -> Buffer:
    return Buffer(TensorType(dtype, shape), name)


def _filled(*buffers: Buffer, sizes: Mapping[Symbol, int] | None = None) -> dict[Buffer, Any]:
    rng = np.random.default_rng(3)
    found: dict[Buffer, Any] = {}
    for buffer in buffers:
        shape = [evaluate(d, sizes or {}) for d in buffer.type.shape or ()]
        found[buffer] = (rng.normal(size=shape) * 9).astype(buffer.type.dtype.numpy)
    return found


def test_a_broadcast_row_keeps_its_axis() -> None:
    x, b, y = _buffer(2, 3, 4, 5), _buffer(4, 5), _buffer(2, 3, 4, 5)
    axes = [Axis(n) for n in (2, 3, 4, 5)]
    i, j, k, m = (a.position for a in axes)
    kernel = _kernel(axes, Store(y, (i, j, k, m), read(x)(i, j, k, m) + read(b)(k, m)))
    assert _extents(_hold(kernel, _filled(x, b, y), {})) == [6, 20]


def test_a_transposed_read_keeps_both() -> None:
    x, y = _buffer(4, 3), _buffer(3, 4)
    axes = [Axis(3), Axis(4)]
    i, j = (a.position for a in axes)
    kernel = _kernel(axes, Store(y, (i, j), read(x)(j, i)))
    assert _hold(kernel, _filled(x, y), {}) is kernel


def test_a_position_in_a_value_keeps_its_axis() -> None:
    y = _buffer(2, 3, 4, dtype=int64)
    axes = [Axis(2), Axis(3), Axis(4)]
    i, j, k = (a.position for a in axes)
    kernel = _kernel(axes, Store(y, (i, j, k), k * 2))
    assert _extents(_hold(kernel, _filled(y), {})) == [6, 4]


def test_an_outside_keeps_its_axes() -> None:
    x, y = _buffer(3, 4), _buffer(3, 4)
    axes = [Axis(3), Axis(4)]
    i, j = (a.position for a in axes)
    kernel = _kernel(axes, Store(y, (i, j), read(x).within((i, j - 1), 0)))
    assert _hold(kernel, _filled(x, y), {}) is kernel


def test_a_store_of_one_axis_keeps_both() -> None:
    x, y, z = _buffer(3, 4), _buffer(3, 4), _buffer(3)
    axes = [Axis(3), Axis(4)]
    i, j = (a.position for a in axes)
    total = reduce("sum", (4,), lambda k: read(x)(i, k))
    kernel = _kernel(axes, Store(y, (i, j), read(x)(i, j) - total), Store(z, (i,), total))
    assert _extents(_hold(kernel, _filled(x, y, z), {})) == [3, 4]


def test_axes_of_one_turn_go() -> None:
    x, y, place_of = _buffer(1, 3, 1, 4), _buffer(3, 1, 4, 1), _buffer(1, 3, 1, 4, dtype=int8)
    axes = [Axis(n) for n in (1, 3, 1, 4)]
    i, j, k, m = (a.position for a in axes)
    value = read(x)(i, j, k, m) + cast(read(place_of)(i, j, k, m) + k, float32)
    kernel = _kernel(axes, Store(y, (j, i, m, k), value))
    smaller = _hold(kernel, _filled(x, y, place_of), {})
    assert _extents(smaller) == [12]


def test_all_axes_may_go() -> None:
    x, y = _buffer(1, 1), _buffer(1, 1)
    axes = [Axis(1), Axis(1)]
    i, j = (a.position for a in axes)
    kernel = _kernel(axes, Store(y, (i, j), read(x)(i, j) * 2.0))
    assert _extents(_hold(kernel, _filled(x, y), {})) == []


@pytest.mark.parametrize("kind", ["sum", "max", "argmax", "all"])
def test_reductions_keep_an_axis(kind: str) -> None:
    x, y = _buffer(3, 1), _buffer(3, dtype={"argmax": int64}.get(kind, float32))
    axis = Axis(3)
    formula = reduce(kind, (1,), lambda k: read(x)(axis.position, k))
    value = cast(formula, float32) if kind == "all" else formula
    kernel = _kernel([axis], Store(y, (axis.position,), value))
    smaller = _hold(kernel, _filled(x, y), {})
    (found,) = (f for f in smaller.formulas() if f.primitive == "reduce")
    assert [a.extent for a in found.value[1]] == [1]


def test_axes_of_a_sum_are_one() -> None:
    x, y = _buffer(2, 3, 1, 4), _buffer(2)
    axis = Axis(2)
    total = reduce("sum", (3, 1, 4), lambda *k: read(x)(axis.position, *k))
    kernel = _kernel([axis], Store(y, (axis.position,), total))
    smaller = _hold(kernel, _filled(x, y), {})
    (found,) = (f for f in smaller.formulas() if f.primitive == "reduce")
    assert [a.extent for a in found.value[1]] == [12]


def test_a_gather_walks_its_rows_as_one() -> None:
    n = Dim.symbol("n")
    table, rows, y = _buffer(5, 3, n), _buffer(2, 4, dtype=int64), _buffer(2, 4, 3, n)
    axes = [Axis(d) for d in (2, 4, 3, n)]
    i, j, k, m = (a.position for a in axes)
    kernel = _kernel(axes, Store(y, (i, j, k, m), read(table)(read(rows)(i, j), k, m)))
    sizes = {n.as_symbol(): 3}
    buffers = _filled(table, y, sizes=sizes)
    buffers[rows] = np.arange(8).reshape(2, 4) % 5
    assert _extents(_hold(kernel, buffers, sizes)) == [8, 3 * n]


def test_a_reshape_that_does_not_cancel_takes_an_axis_apart() -> None:
    """A transposed array as a matrix: its columns are two axes of it."""
    n = Dim.symbol("n")
    x, y = _buffer(n, 4, 3), _buffer(3, 4 * n)
    axes = [Axis(3), Axis(4 * n)]
    i, p = (a.position for a in axes)
    kernel = _kernel(axes, Store(y, (i, p), read(x)(p % lift(n), p // lift(n), i)))
    sizes = {n.as_symbol(): 5}
    smaller = _hold(kernel, _filled(x, y, sizes=sizes), sizes)
    assert _extents(smaller) == [3, 4, n]
    assert all(
        place(f.operands, x.type.shape or ()) for f in smaller.formulas() if f.primitive == "read"
    )


def test_an_axis_may_be_three() -> None:
    x, y = _buffer(2, 4, 3), _buffer(24)
    axis = Axis(24)
    p = axis.position
    kernel = _kernel([axis], Store(y, (p,), read(x)(p // 3 % 2, p // 6, p % 3)))
    assert _extents(_hold(kernel, _filled(x, y), {})) == [4, 2, 3]


def test_an_argument_of_an_extremum_stays_one_axis() -> None:
    x, y = _buffer(3, 4), _buffer(dtype=int64)
    value = reduce("argmax", (12,), lambda p: read(x)(p % 3, p // 3))
    kernel = _kernel([], Store(y, (), value))
    assert _hold(kernel, _filled(x, y), {}) is kernel


@given(
    shape=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    flags=st.lists(st.sampled_from(["plain", "swap", "stride", "drop"]), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_any_strides(shape: list[int], flags: list[str]) -> None:
    axes = [Axis(n) for n in shape]
    index = [a.position for a in axes]
    sides, place_of = [], []
    for axis, flag in zip(axes, flags, strict=False):
        factor = 2 if flag == "stride" else 1
        if flag != "drop":
            sides.append(axis.extent * factor)
            place_of.append(axis.position * factor)
    if "swap" in flags:
        sides, place_of = sides[::-1], place_of[::-1]
    x, y = _buffer(*sides), _buffer(*shape)
    total = reduce("sum", (2, 3), lambda a, b: read(x)(*place_of) * cast(lift(a * 3 + b), float32))
    kernel = _kernel(axes, Store(y, tuple(index), total + read(y)(*index)))
    _hold(kernel, _filled(x, y), {})
