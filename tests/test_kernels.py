"""The kernel language: its formulas, their types and their text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphc as g
from graphc.dims import Dim
from graphc.dtypes import bool_, float16, float32, float64, int8, int32, int64
from graphc.facts import element
from graphc.graph import Graph
from graphc.kernel import (
    Axis,
    Buffer,
    Kernel,
    Scalar,
    Store,
    cast,
    dtype_of,
    inlined,
    lift,
    read,
    reduce,
    typed,
)
from graphc.kernel_text import show_kernel
from graphc.lower import expanded, lower
from graphc.passes.specialise import specialise
from graphc.places import delinear, linear, reshaped
from graphc.plan import Call
from graphc.runtime.interp.evaluate import run_kernel
from graphc.scalar import apply, select, walk
from graphc.types import TensorType


def _buffer(dtype: Any, *shape: Any, name: str = "x") -> Buffer:
    return Buffer(TensorType(dtype, shape), name)


def _element(dtype: Any) -> Scalar:
    return read(_buffer(dtype, 1))(0)


def _kernel(out: Buffer, formula: Any) -> Kernel:
    """The kernel that stores `formula(*index)` in all of `out`."""
    assert out.type.shape is not None
    axes = tuple(map(Axis, out.type.shape))
    index = tuple(axis.position for axis in axes)
    return Kernel("test", axes, (Store(out, index, typed(formula(*index), out.type.dtype)),))


def _run(out: Buffer, formula: Any, given: dict[Buffer, Any] | None = None) -> Any:
    shape = out.type.shape
    buffers = {**(given or {}), out: np.empty(shape, out.type.dtype.numpy)}  # type: ignore[arg-type]
    run_kernel(_kernel(out, formula), buffers, {})
    return buffers[out]


# ---------------------------------------------------------------------------- the language


def test_the_language_is_closed() -> None:
    with pytest.raises(KeyError, match="gamma is no scalar primitive"):
        apply("gamma", 1)
    with pytest.raises(KeyError, match="median is no reduction"):
        reduce("median", (3,), lambda i: i)
    with pytest.raises(ValueError, match="argmax reduces one axis, got 2"):
        reduce("argmax", (3, 3), lambda i, j: i + j)


def test_numbers_alone_make_a_number() -> None:
    total = apply("add", apply("multiply", 3, 4), 1)
    assert (total.primitive, total.value) == ("number", 13)
    assert apply("less", 1, 2).value is True
    assert apply("divide", 1.0, 0).value == math.inf
    assert linear((2, 1), (4, 5)).value == 11


def test_walk_gives_each_formula_once_operands_first() -> None:
    x = _element(float32)
    square = x * x
    found = list(walk(square + square, square))
    assert found.index(x) < found.index(square) < len(found) - 1
    assert len(found) == len(set(found)) == 4  # the index, the read, the product, the sum


def test_walk_is_not_bound_by_depth() -> None:
    formula = lift(_element(float32))
    for _ in range(20_000):
        formula = formula + 1
    assert sum(1 for _ in walk(formula)) == 2 * 20_000 + 2
    assert dtype_of(formula) is float32


def test_a_kernel_lists_what_it_reads_once() -> None:
    a, b = _buffer(float32, 3, name="a"), _buffer(float32, 3, name="b")
    kernel = _kernel(_buffer(float32, 3), lambda i: read(b)(i) * read(a)(i) + read(b)(i))
    assert kernel.reads() == [b, a]


SHAPES = st.lists(st.integers(1, 4), max_size=4).map(tuple)


@given(SHAPES)
def test_linear_and_delinear_are_inverse(shape: tuple[int, ...]) -> None:
    for place, index in enumerate(np.ndindex(shape)):
        assert linear(index, shape).value == place
        assert tuple(i.value for i in delinear(place, shape)) == index


@given(SHAPES, st.randoms(use_true_random=False))
def test_reshaped_is_the_element_of_the_same_place(shape: Any, random: Any) -> None:
    factors = [d for d in (*shape, 1, 1) for d in ((2, 2) if d == 4 else (d,))]
    random.shuffle(factors)
    cut = random.randint(0, len(factors))
    onto = (*factors[:cut], math.prod(factors[cut:]))
    for place, index in enumerate(np.ndindex(shape)):
        found = tuple(i.value for i in reshaped(tuple(map(lift, index)), shape, onto))
        assert linear(found, onto).value == place


def test_reshaping_divides_only_where_axes_are_split() -> None:
    n = Dim.symbol("n")
    rows, columns = Axis(n).position, Axis(6).position
    for onto in ((n, 1, 6), (6 * n,), (1, n, 6)):
        index = reshaped((rows, columns), (n, 6), onto)
        used = {part.primitive for part in walk(*index)}
        assert not used & {"floor_divide", "remainder"}
    split = reshaped((rows, columns), (n, 6), (n, 2, 3))
    assert split[0] is rows and [i.primitive for i in split[1:]] == ["floor_divide", "remainder"]


def test_an_inlined_source_reads_nothing_outside() -> None:
    x = _buffer(float32, 3)
    double = inlined(TensorType(float32, (3,)), lambda i: read(x)(*i) * 2)
    array = np.array([1, 2, 3], np.float32)
    got = _run(_buffer(float32, 5), lambda i: double.within((i - 1,), -1), {x: array})
    assert got.tolist() == [-1, 2, 4, 6, -1]
    with pytest.raises(IndexError, match="index -1 is out of range for axis 0 of size 3"):
        _run(_buffer(float32, 5), lambda i: double(i - 1), {x: array})


def test_inlining_is_the_same_as_storing() -> None:
    x, h = _buffer(float16, 4, name="x"), _buffer(float16, 4, name="h")
    array = np.array([0.1, 0.2, 0.3, 0.4], np.float16)
    formula = lambda i: cast(read(x)(i), float32) * 3.3  # noqa: E731  # used twice
    stored = _run(h, formula, {x: array})
    out = _buffer(float32, 4, name="out")
    fused = _run(out, lambda i: inlined(h.type, lambda at: formula(*at))(i), {x: array})
    assert fused.tolist() == stored.astype(np.float32).tolist()


def test_a_reduction_over_nothing() -> None:
    scalar = _buffer(float32)
    assert _run(scalar, lambda: reduce("sum", (0,), lambda i: cast(i, float32))) == 0
    lowest = reduce("max", (0,), lambda i: cast(i, float32), -math.inf)
    assert _run(scalar, lambda: lowest) == -math.inf
    with pytest.raises(ValueError, match="no identity"):
        _run(scalar, lambda: reduce("max", (0,), lambda i: cast(i, float32)))


def _fused(y: Any, x: Any, buffer: Buffer) -> Any:
    """What `y` holds at an index, all between it and `x` inlined."""
    sources = {x.node: read(buffer)}

    def source(node: Any) -> Any:
        inputs = [sources[t.node] for t in node.inputs]
        return inlined(node.types[0], lambda index: element(node, inputs, index)[0])

    for node in expanded(specialise(Graph((y,), (), (x,)))).nodes:
        if node not in sources:
            sources[node] = source(node)
    return sources[node]


def test_softmax_is_one_formula_of_two_reductions() -> None:
    x, buffer = g.placeholder("float32", [2, 3]), _buffer(float32, 2, 3)
    out, source = _buffer(float32, 2, 3, name="y"), _fused(g.nn.softmax(x), x, buffer)
    array = np.array([[1, 2, 3], [1000, 1001, -np.inf]], np.float32)
    np.testing.assert_allclose(
        _run(out, source, {buffer: array}), g.nn.softmax(array).eval(), rtol=1e-6
    )
    assert (
        show_kernel(_kernel(out, source))
        == """\
kernel test
  read %x: f32[2,3]
  for i0 < 2, i1 < 3
  t0 = max(r0 < 3: %x[i0, r0]; -inf)
  %y[i0, i1]: f32[2,3] = exp(%x[i0, i1] - t0) / sum(r1 < 3: exp(%x[i0, r1] - t0))
"""
    )


def test_a_convolution_of_what_is_inlined_reads_nothing_outside() -> None:
    x, buffer = g.placeholder("float32", [1, 3, 3, 1]), _buffer(float32, 1, 3, 3, 1)
    y = g.nn.max_pool2d(g.exp(x), 3, strides=1, padding=1)
    array = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1) / 9
    got = _run(_buffer(float32, 1, 3, 3, 1), _fused(y, x, buffer), {buffer: array})
    with g.Session() as session:
        np.testing.assert_allclose(got, session.run(y, {x: array}), rtol=1e-6)


# ---------------------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("formula", "dtype"),
    [
        (lift(3), None), (Axis(2).position, int64), (lift(Dim.symbol()), int64),
        (_element(int8) + 1, int8), (_element(int8) + 0.5, float64), (_element(bool_) + 1, int64),
        (_element(float16) * 2.5, float16), (_element(float16) + _element(int32), float64),
        (_element(float32) < 1, bool_), (cast(1, float16), float16),
        (_element(int32) / _element(int32), float64), (apply("exp", _element(int8)), float16),
        (select(_element(bool_), _element(float32), 0.0), float32),
        (select(_element(bool_), 1, 0), int64),
        (reduce("sum", (3,), lambda i: _element(int8)), int8),
        (reduce("any", (3,), lambda i: _element(int8)), bool_),
        (reduce("argmax", (3,), lambda i: _element(int8)), int64),
    ],
    ids=lambda value: getattr(value, "primitive", str(value)),
)  # fmt: skip
def test_dtype_of(formula: Scalar, dtype: Any) -> None:
    assert dtype_of(formula) is dtype
    assert typed(formula, float32).primitive == (formula.primitive if dtype is float32 else "cast")


# ---------------------------------------------------------------------------- the text


def _listing(y: Any, *inputs: Any) -> str:
    """The kernels of a graph, without the lines where it was built."""
    plan = lower(specialise(Graph((y,), (), inputs)))
    texts = [show_kernel(step.kernel) for step in plan.steps if isinstance(step, Call)]
    assert texts == [show_kernel(s.kernel) for s in plan.steps if isinstance(s, Call)]
    lines = [line for text in texts for line in text.splitlines()]
    assert sum("# test_kernels.py:" in line for line in lines) == len(texts)
    return "\n".join(line.partition("   # ")[0] for line in lines)


def test_text_of_exp() -> None:
    x = g.placeholder("float32", ["n", 3], name="x")
    assert (
        _listing(g.exp(x), x)
        == """\
kernel exp
  read %x: f32[n,3]
  for i0 < n, i1 < 3
  %0[i0, i1]: f32[n,3] = exp(%x[i0, i1])"""
    )


def test_text_of_matmul() -> None:
    a = g.placeholder("float16", ["m", "k"], name="a")
    b = g.placeholder("float16", ["k", "n"], name="b")
    assert (
        _listing(a @ b, a, b)
        == """\
kernel matmul
  read %a: f16[m,k]
  read %b: f16[k,n]
  for i0 < m, i1 < n
  %0[i0, i1]: f16[m,n] = f16(sum(r0 < k: f32(%a[i0, r0]) * f32(%b[r0, i1])))"""
    )


def test_text_of_conv2d() -> None:
    x = g.placeholder("float32", [None, 5, 5, 4], name="x")
    w = g.placeholder("float32", [3, 3, 4, 6], name="w")
    y = g.nn.conv2d(x, w, padding="SAME", strides=2)
    assert (
        _listing(y, x, w)
        == """\
kernel unslice
  read %x: f32[?0,5,5,4]
  for i0 < ?0, i1 < 7, i2 < 7, i3 < 4
  %0[i0, i1, i2, i3]: f32[?0,7,7,4] = %x[i0, i1 - 1, i2 - 1, i3; 0.0]
kernel conv2d
  read %0: f32[?0,7,7,4]
  read %w: f32[3,3,4,6]
  for i0 < ?0, i1 < 3, i2 < 3, i3 < 6
  %1[i0, i1, i2, i3]: f32[?0,3,3,6] = sum(r0 < 3, r1 < 3, r2 < 4: \
%0[i0, i1 * 2 + r0, i2 * 2 + r1, r2] * %w[r0, r1, r2, i3])"""
    )


def test_text_of_windows_of_sizes_that_a_run_decides() -> None:
    x = g.placeholder("float32", ["n", "h", "w", 1], name="x")
    assert (
        _listing(g.nn.max_pool2d(x, 2, padding="SAME"), x)
        == """\
kernel max_pool2d
  read %x: f32[n,h,w,1]
  for i0 < n, i1 < ((h+1)//2), i2 < ((w+1)//2)
  %0[i0, i1, i2, 0]: f32[n,((h+1)//2),((w+1)//2),1] = max(r0 < 2, r1 < 2: \
%x[i0, i1 * 2 + r0 - (max(0,-h+2*((h+1)//2))//2), i2 * 2 + r1 - \
(max(0,-w+2*((w+1)//2))//2), 0; -inf])"""
    )


def test_text_of_what_softmax_expands_to() -> None:
    x = g.placeholder("float32", ["n", 3], name="x")
    listing = _listing(g.nn.softmax(x), x)
    stores = [line.strip() for line in listing.splitlines() if line.startswith("  %")]
    assert stores == [
        "%0[i0, i1]: f32[n,3] = exp(%x[i0, i1] - t0) / sum(r1 < 3: exp(%x[i0, r1] - t0))",
    ]


def test_text_without_fusion_has_a_kernel_for_each_node() -> None:
    x = g.placeholder("float32", ["n", 3], name="x")
    plan = lower(specialise(Graph((g.nn.softmax(x),), (), (x,))), fused=False)
    listing = "".join(show_kernel(step.kernel) for step in plan.steps if isinstance(step, Call))
    assert [line.strip() for line in listing.splitlines() if line.startswith("  %")] == [
        "%0[i0, 0]: f32[n,1] = max(r0 < 3: %x[i0, r0]; -inf)",
        "%1[i0, 0]: f32[n,1] = %0[i0, 0]",
        "%2[i0, i1]: f32[n,3] = %1[i0, 0]",
        "%3[i0, i1]: f32[n,3] = %x[i0, i1] - %2[i0, i1]",
        "%4[i0, i1]: f32[n,3] = exp(%3[i0, i1])",
        "%5[i0, 0]: f32[n,1] = sum(r0 < 3: %4[i0, r0])",
        "%6[i0, i1]: f32[n,3] = %5[i0, 0]",
        "%7[i0, i1]: f32[n,3] = %4[i0, i1] / %6[i0, i1]",
    ]
