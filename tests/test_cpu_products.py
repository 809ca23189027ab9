"""Which kernels are found to be products of matrices, and what of them is read where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.collapse import collapse
from graphc.contractions import Operand, Product, match
from graphc.dims import Dim, evaluate
from graphc.dtypes import DType, float16, float32, float64
from graphc.kernel import Axis, Buffer, Kernel, Store, cast, read, reduce, wide
from graphc.ops.elements import filter_gradient_element
from graphc.ops.window import NONE
from graphc.runtime.cpu.products import pays
from graphc.runtime.interp.evaluate import run_kernel
from graphc.scalar import Scalar
from tests.products_support import (
    NO_SIZES,
    Sizes,
    buffer_of,
    convolution_kernel,
    filled,
    flipped_kernel,
    graph_kernels,
    matched,
    matmul_kernel,
    product_of_graph,
)

# ---------------------------------------------------------------------------- matching


def _strided(operand: Operand, axes: Sequence[Axis], arrays: Any, sizes: Sizes) -> Any:
    """What an operand reads, an axis for each of `axes`, checked to lie inside."""
    flat = arrays[operand.buffer].reshape(-1)
    place = np.full([evaluate(axis.extent, sizes) for axis in axes], 0)
    place += evaluate(operand.place.constant, sizes)
    for i, axis in enumerate(axes):
        steps = np.arange(place.shape[i]) * evaluate(operand.step(axis), sizes)
        place += steps.reshape([-1 if i == j else 1 for j in range(len(axes))])
    assert set(operand.place.steps) <= set(axes)
    return flat[place]


def _hold_match(product: Product, sizes: Sizes = NO_SIZES) -> None:
    """The strided operands, multiplied, are what the kernel's total is."""
    kernel = product.kernel
    axes = (*product.batch, *product.rows, product.column)
    assert set(axes) == set(kernel.axes) and len(axes) == len(kernel.axes)
    arrays = filled(kernel, sizes)
    a = _strided(product.a, (*product.batch, *product.rows, *product.sums), arrays, sizes)
    b = _strided(product.b, (*product.batch, *product.sums, product.column), arrays, sizes)
    letters = iter("abcdefghijklmnop")
    named = {axis: next(letters) for axis in (*axes, *product.sums)}

    def text(*groups: Sequence[Axis]) -> str:
        return "".join(named[axis] for group in groups for axis in group)

    left, right = (*product.batch, *product.rows, *product.sums), (*product.batch, *product.sums)
    spelled = f"{text(left)},{text(right)}{named[product.column]}->{text(kernel.axes)}"
    got = np.einsum(spelled, a, b)
    target = buffer_of(*(axis.extent for axis in kernel.axes), dtype=product.dtype)
    index = tuple(axis.position for axis in kernel.axes)
    for total in product.totals:
        arrays[target] = np.zeros(got.shape, product.dtype.numpy)
        run_kernel(Kernel("", kernel.axes, (Store(target, index, total),)), arrays, sizes)
        np.testing.assert_array_equal(got, arrays[target])


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("a_turned", [False, True])
@pytest.mark.parametrize("b_turned", [False, True])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_matmul_is_a_product(
    dtype: DType, a_turned: bool, b_turned: bool, batch: tuple[int, ...]
) -> None:
    product = matched(matmul_kernel(3, 5, 4, dtype, a_turned, b_turned, batch=batch))
    _hold_match(product)
    assert product.is_plain and product.dtype is dtype
    assert product.a.buffer.name == "a" and len(product.batch) == min(len(batch), 1)


def test_symbolic_sizes() -> None:
    m, k, n = Dim.symbol("m"), Dim.symbol("k"), Dim.symbol("n")
    product = matched(matmul_kernel(m, k, n, batch=(m, n)))
    _hold_match(product, {m.as_symbol(): 2, k.as_symbol(): 3, n.as_symbol(): 4})
    assert product.batch[0].extent == m * n
    assert pays(product)


def test_columns_are_neighbours_in_what_is_stored() -> None:
    def transposed(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
        turned = buffer_of(*(c.type.shape or ())[::-1], name="turned")
        return (Store(turned, index[::-1], source(*index)),)

    product = matched(matmul_kernel(3, 5, 4, epilogue=transposed))
    _hold_match(product)
    assert product.a.buffer.name == "b"
    assert product.c.step(product.column) == 1


@pytest.mark.parametrize("spelled", [
    "ij,jk->ik", "ij,kj->ki", "bij,bjk->bik", "bhqd,bhkd->bhqk", "bqhd,bkhd->bhqk", "ij,jkl->ikl",
    "abc,cbd->ad", "iab,bja->ij", "bij,jk->bik",
])  # fmt: skip
def test_einsum_is_a_product(spelled: str) -> None:
    sizes = dict(zip("abcdefghijklmnopq", range(2, 20), strict=False))
    left, right = spelled.split("->")[0].split(",")
    x, y = (g.placeholder("float32", [sizes[c] for c in part]) for part in (left, right))
    _hold_match(product_of_graph(g.einsum(spelled, x, y), x, y))


def test_tensordot_is_a_product() -> None:
    x, y = g.placeholder("float64", [2, 3, 4]), g.placeholder("float64", [4, 3, 5])
    _hold_match(product_of_graph(g.tensordot(x, y, [[1, 2], [1, 0]]), x, y))


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("dilations", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("turned", [False, True])
def test_convolution_is_a_product(strides: Any, dilations: Any, turned: bool) -> None:
    product = matched(
        convolution_kernel((2, 9, 8, 3), (3, 2, 3, 4), strides, dilations, turned=turned)
    )
    _hold_match(product)
    assert product.b.buffer.name == "f" and not product.batch
    assert len(product.rows) == 3
    assert len(product.sums) == (2 if dilations[1] == 1 and not turned else 3)


def test_convolution_of_symbolic_images() -> None:
    n, h, w = Dim.symbol("n"), Dim.symbol("h"), Dim.symbol("w")
    product = matched(convolution_kernel((n, h, w, 3), (3, 2, 3, 4)))
    _hold_match(product, {n.as_symbol(): 2, h.as_symbol(): 6, w.as_symbol(): 5})


def test_pointwise_convolution_is_a_plain_product() -> None:
    product = matched(convolution_kernel((2, 5, 4, 3), (1, 1, 3, 6)))
    _hold_match(product)
    assert (len(product.rows), len(product.sums)) == (1, 1)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_gradient_of_filters_is_a_product(strides: Any) -> None:
    counts = [(size - 3) // s + 1 for size, s in zip((9, 8), strides, strict=True)]
    x, cotangent = buffer_of(2, 9, 8, 5), buffer_of(2, *counts, 4, name="g")
    y = buffer_of(3, 3, 5, 4, name="y")
    axes = tuple(map(Axis, y.type.shape or ()))
    index = tuple(a.position for a in axes)
    attrs = {"strides": strides, "padding": NONE, "dilations": (1, 1)}
    value = filter_gradient_element(index, read(x), read(cotangent), (3, 3), 1, **attrs)
    product = matched(collapse(Kernel("filter gradient", axes, (Store(y, index, value),))))
    _hold_match(product)
    assert product.a.buffer is x and len(product.sums) == 3
    assert len(product.rows) == 2


def test_negative_steps() -> None:
    _hold_match(matched(flipped_kernel(6, 5, 4, 5, 3)))


# ---------------------------------------------------------------------------- what is none


def test_other_sums_are_none() -> None:
    x, y = buffer_of(4, 5), buffer_of(4)
    axis = Axis(4)
    value = reduce("sum", (5,), lambda k: read(x)(axis.position, k))
    assert match(Kernel("sum", (axis,), (Store(y, (axis.position,), value),))) is None


def test_a_sum_of_squares_has_no_columns() -> None:
    x, y = buffer_of(4, 5), buffer_of(4)
    axis = Axis(4)
    element = lambda k: read(x)(axis.position, k) * read(x)(axis.position, k)  # noqa: E731
    kernel = Kernel("", (axis,), (Store(y, (axis.position,), reduce("sum", (5,), element)),))
    assert match(kernel) is None


def test_half_precision_is_none() -> None:
    a, b, c = (buffer_of(4, 4, dtype=float16) for _ in range(3))
    i, j = axes = Axis(4), Axis(4)

    def term(k: Scalar) -> Scalar:
        left, right = read(a)(i.position, k), read(b)(k, j.position)
        return wide(left, float16) * wide(right, float16)

    value = cast(reduce("sum", (4,), term), float16)
    kernel = Kernel("", axes, (Store(c, (i.position, j.position), value),))
    assert match(kernel) is None


def test_what_is_overwritten_is_none() -> None:
    def into_a(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
        total = source(*index)
        (body,) = next(f for f in (total,) if f.primitive == "reduce").operands
        return (Store(body.operands[0].value[0], index, total),)

    assert match(matmul_kernel(4, 4, 4, epilogue=into_a)) is None


def test_a_second_reduction_is_none() -> None:
    def normalised(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
        i, j = index
        most = reduce("max", (4,), lambda k: source(i, k))
        return (Store(c, index, source(i, j) - most),)

    assert match(matmul_kernel(4, 4, 4, epilogue=normalised)) is None


def test_a_store_of_rows_is_none() -> None:
    def of_rows(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
        return Store(c, index, source(*index)), Store(
            buffer_of(4), index[:1], read(buffer_of(4))(index[0])
        )

    assert match(matmul_kernel(4, 4, 4, epilogue=of_rows)) is None


def test_padding_is_none() -> None:
    x = g.placeholder("float32", [2, 6, 6, 3])
    filters = g.placeholder("float32", [3, 3, 3, 4])
    y = g.nn.conv2d(x, filters, padding="SAME")
    (kernel,) = (k for k in graph_kernels(y, x, filters) if k.name == "conv2d")
    outside = any(f.primitive == "read" and f.value[1] is not None for f in kernel.formulas())
    assert (match(kernel) is None) == outside


def test_equal_sums_are_one() -> None:
    def twice(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
        i, j = index
        first, second = source(i, j), source(i + 0, j)
        assert first is not second
        return (Store(c, index, first * second),)

    product = matched(matmul_kernel(4, 5, 6, epilogue=twice))
    _hold_match(product)
    assert len(product.totals) == 2 and not product.is_plain


@pytest.mark.parametrize(
    ("sizes", "yes"),
    [
        ((1, 64, 64), False),
        ((64, 64, 1), False),
        ((64, 64, 64), True),
        ((4, 16, 4), False),
        ((512, 2, 512), False),
        ((512, 512, 2), True),
    ],
)
def test_what_pays(sizes: tuple[int, int, int], yes: bool) -> None:
    product = match(matmul_kernel(*sizes))
    assert (product is not None and pays(product)) is yes


@pytest.mark.parametrize(
    ("sizes", "yes"),
    [
        ((32, 10, 32), True),
        ((100, 10, 4), True),
        ((8, 8, 8), False),
        ((16, 4, 16), False),
        ((10, 128, 10), False),
    ],
)
def test_what_pays_where_columns_lie_apart(sizes: tuple[int, int, int], yes: bool) -> None:
    m, k, n = sizes
    a, b = g.placeholder("float32", [m, k]), g.placeholder("float32", [n, k])
    (kernel,) = graph_kernels(g.nn.relu(a @ b.T), a, b)
    product = match(kernel)
    assert product is not None and pays(product) is yes
