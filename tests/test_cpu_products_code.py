"""The code of products: what routines store, held against what their kernels mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as g
from graphc.collapse import collapse
from graphc.contractions import Product, match
from graphc.dims import Dim, evaluate
from graphc.dtypes import DType, bool_, float32, float64, int64
from graphc.kernel import Axis, Buffer, Kernel, Store, cast, lift, read, reduce
from graphc.runtime.cpu.device import CpuDevice
from graphc.runtime.cpu.generate import compile_kernel
from graphc.runtime.cpu.products_code import compile_product
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.cpu.tile import Tile
from graphc.runtime.device import Environment
from graphc.runtime.interp.evaluate import run_kernel
from graphc.scalar import Scalar, apply, select
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
    run,
)
from tests.support import ENTROPY_WORDS, Compiled, generator

HOST = host()


def hold_code(product: Product, sizes: Sizes = NO_SIZES, target: Target = HOST) -> Routine:
    """The routine stores what the kernel means; elements that it has no business with stay."""
    routine = compile_product(product, target)
    for backwards in (False, True):
        arrays = filled(product.kernel, sizes)
        wanted = {buffer: array.copy() for buffer, array in arrays.items()}
        with np.errstate(all="ignore"):
            run_kernel(product.kernel, wanted, sizes)
        run(routine, target, arrays, sizes, backwards)
        for buffer, array in arrays.items():
            np.testing.assert_allclose(array, wanted[buffer], rtol=2e-6, atol=1e-6)
    assert set(routine.writes) == {store.buffer for store in product.kernel.stores}
    return routine


def test_plain_product() -> None:
    hold_code(matched(matmul_kernel(7, 3, 37)))


def bias_and_relu(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
    bias = buffer_of(c.type.shape[-1], dtype=c.type.dtype, name="bias")
    return (Store(c, index, apply("maximum", source(*index) + read(bias)(index[-1]), 0.0)),)


def update(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
    """Momentum in place, two stores."""
    w, v = (buffer_of(*c.type.shape, dtype=c.type.dtype, name=n) for n in "wv")
    velocity = read(v)(*index) * 0.5 + source(*index)
    return Store(v, index, velocity), Store(w, index, read(w)(*index) - velocity * 0.25)


def gelu(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
    """Costly functions are written once, with masks, where the target has them."""
    x = source(*index)
    return (Store(c, index, x * 0.5 * (apply("erf", x * 0.7071) + 1.0) + apply("exp", x * 0.01)),)


@pytest.mark.parametrize("epilogue", [bias_and_relu, update, gelu])
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_epilogues(epilogue: Any, dtype: DType, bits: int) -> None:
    kernel = matmul_kernel(7, 3, 37, dtype, epilogue=epilogue, batch=(2,))
    hold_code(matched(kernel), target=HOST.narrowed(bits))


# ---------------------------------------------------------------------------- the real driver

FORMS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("turned", FORMS)
@pytest.mark.parametrize("bits", [128, 512])
@pytest.mark.parametrize("epilogue", [None, bias_and_relu])
def test_matmul_on_the_driver(dtype: DType, turned: Any, bits: int, epilogue: Any) -> None:
    target = HOST.narrowed(bits)
    for m, k, n in ((37, 40, 35), (5, 300, 33), (13, 7, 70)):
        kernel = matmul_kernel(m, k, n, dtype, *turned, epilogue=epilogue)
        hold_code(matched(kernel), target=target)


def _edges() -> list[int]:
    tile = Tile.of(HOST, "float32")
    return sorted({0, 1, tile.rows - 1, tile.rows, tile.rows + 1})


@pytest.mark.parametrize("epilogue", [None, bias_and_relu], ids=["plain", "epilogue"])
def test_sizes_at_the_edges_of_tiles(epilogue: Any) -> None:
    """One text for all of them: the sizes are symbols."""
    m, k, n = symbols = [Dim.symbol(name) for name in "mkn"]
    product = matched(matmul_kernel(m, k, n, epilogue=epilogue))
    width = Tile.of(HOST, "float32").width
    codes = set()
    for rows in _edges():
        for columns in (0, 1, width // 2, width - 1, width, width + 1):
            for depth in (0, 1, 3):
                values = zip(symbols, (rows, depth, columns), strict=True)
                sizes = {symbol.as_symbol(): value for symbol, value in values}
                codes.add(hold_code(product, sizes).code)
    assert len(codes) == 1


def test_plain_products_are_one_code() -> None:
    n = Dim.symbol("n")
    kernels = [
        matmul_kernel(40, 50, 60), matmul_kernel(n, 8, n), matmul_kernel(9, 8, 7, a_turned=True),
        matmul_kernel(9, 8, 7, batch=(2, n)), convolution_kernel((2, 9, 8, 3), (3, 2, 3, 4)),
    ]  # fmt: skip
    codes = {compile_product(matched(kernel), HOST).code for kernel in kernels}
    assert len(codes) == 1
    other = compile_product(matched(matmul_kernel(40, 50, 60, float64)), HOST)
    assert other.code not in codes and other.symbols != {}


def _with_epilogue(kernel: Kernel) -> Kernel:
    """A bias by the last axis of C, a residual, and a mask that is stored too."""
    (store,) = kernel.stores
    shape, dtype = store.buffer.type.shape or (), store.buffer.type.dtype
    bias, residual = (
        buffer_of(shape[-1], dtype=dtype),
        buffer_of(*shape, dtype=dtype, name="residual"),
    )
    mask = buffer_of(*shape, dtype=bool_, name="mask")
    value = store.value + read(bias)(store.index[-1])
    value = value + read(residual)(*store.index)
    positive = apply("less", 0, value)
    stores = (
        Store(store.buffer, store.index, select(positive, value, 0.0)),
        Store(mask, store.index, positive),
    )
    return Kernel(kernel.name, kernel.axes, stores)


CONVOLUTIONS = [
    convolution_kernel((2, 9, 8, 3), (3, 2, 3, 5)),
    convolution_kernel((1, 9, 12, 2), (2, 2, 2, 35), (2, 3), (1, 2)),
    convolution_kernel((2, 9, 8, 3), (3, 2, 3, 5), (2, 1), turned=True),
    flipped_kernel(6, 5, 4, 5, 3),
]


@pytest.mark.parametrize("kernel", CONVOLUTIONS, ids=lambda k: k.name)
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_convolutions_on_the_driver(kernel: Kernel, bits: int) -> None:
    target = HOST.narrowed(bits)
    hold_code(matched(kernel), target=target)
    hold_code(matched(_with_epilogue(kernel)), target=target)


def test_gradient_of_filters_on_the_driver() -> None:
    for fetch, inputs in _gradients_of_convolution():
        for kernel in graph_kernels(fetch, *inputs):
            product = match(kernel)
            if product is not None:
                hold_code(product, _three(inputs))


def _gradients_of_convolution() -> Any:
    x = g.placeholder("float32", [2, 9, 8, 5])
    filters = g.placeholder("float32", [3, 3, 5, 6])
    for padding, strides in (("SAME", 1), ("VALID", 2)):
        y = g.nn.conv2d(x, filters, padding=padding, strides=strides)
        for gradient in g.gradients(g.sum(y * y), [x, filters]):
            yield gradient, (x, filters)


def _three(inputs: Any) -> Sizes:
    return {d.as_symbol(): 3 for x in inputs for d in x.shape if isinstance(d, Dim)}


@pytest.mark.parametrize("spelled", ["bqhd,bkhd->bhqk", "ij,kj->ki", "abc,cbd->ad", "bij,jk->bik"])
def test_einsum_on_the_driver(spelled: str) -> None:
    left, right = spelled.split("->")[0].split(",")
    sizes = {c: Dim.symbol(c) if c in "ijq" else 4 + i for i, c in enumerate("abcdehijkq")}
    x, y = (g.placeholder("float32", [sizes[c] for c in part]) for part in (left, right))
    product = product_of_graph(g.einsum(spelled, x, y), x, y)
    hold_code(product, _three((x, y)))


def test_strided_and_reversed_operands() -> None:
    """A from every second row, backwards; B broadcast over its batch; C transposed."""
    a, b, c = buffer_of(3, 20, 6, name="a"), buffer_of(6, 8, name="b"), buffer_of(8, 3, 9, name="c")
    axes = tuple(map(Axis, (3, 9, 8)))
    n, i, j = (axis.position for axis in axes)

    def term(k: Scalar) -> Scalar:
        return read(a)(n, lift(18) - i * 2, k) * read(b)(lift(5) - k, j)

    kernel = Kernel("", axes, (Store(c, (j, n, i), reduce("sum", (6,), term)),))
    product = matched(collapse(kernel))
    hold_code(product)


def test_one_matrix_twice() -> None:
    x, y = buffer_of(30, 20), buffer_of(30, 30, name="y")
    i, j = axes = Axis(30), Axis(30)
    value = reduce("sum", (20,), lambda k: read(x)(i.position, k) * read(x)(j.position, k))
    for formula in (value, value * 2.0):
        kernel = Kernel("", axes, (Store(y, (i.position, j.position), formula),))
        hold_code(matched(kernel))


def test_deep_sums_of_few_elements() -> None:
    kernel = matmul_kernel(12, 20_000, 16, a_turned=True)
    hold_code(matched(kernel))
    hold_code(matched(matmul_kernel(12, 20_000, 16, epilogue=update)))


def test_an_epilogue_that_gathers() -> None:
    """Data as an index, and an axis of the batch in a value."""

    def gathered(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
        table, rows = buffer_of(9, 37, name="table"), buffer_of(7, dtype=int64, name="rows")
        picked = read(table)(select(read(rows)(index[1]) < 0, 0, 4), index[2])
        value = source(*index) + picked + cast(index[0] * 3 + index[2], float32)
        return (Store(c, index, value),)

    kernel = matmul_kernel(7, 3, 37, epilogue=gathered, batch=(2,))
    hold_code(matched(kernel))


def test_an_index_out_of_range_is_a_fault() -> None:
    def gathered(c: Buffer, index: Any, source: Any) -> tuple[Store, ...]:
        table, rows = buffer_of(9, name="table"), buffer_of(7, dtype=int64, name="rows")
        return (Store(c, index, source(*index) + read(table)(read(rows)(index[0]))),)

    kernel = matmul_kernel(7, 3, 37, epilogue=gathered)
    arrays = filled(kernel, NO_SIZES)
    rows = next(array for array in arrays.values() if array.dtype == np.int64)
    routine = compile_product(matched(kernel), HOST)
    for index in (9, -1):
        rows[:] = [0, 8, 3, index, 2, 1, 0]
        with pytest.raises(AssertionError, match=f"index {index} is out of range .*size 9"):
            run(routine, HOST, arrays, NO_SIZES)
    rows[3] = 4
    run(routine, HOST, arrays, NO_SIZES)


def test_generate_chooses() -> None:
    (routine,) = compile_kernel(matmul_kernel(40, 50, 60), HOST)
    assert "contract" in routine.symbols
    routines = compile_kernel(matmul_kernel(1, 50, 60), HOST)
    assert routines and all("contract" not in r.symbols for r in routines)


def test_half_precision_is_copied_first() -> None:
    """The sum is in float32, and only what is stored is rounded."""
    x, w, b = (g.placeholder("float16", s) for s in (["n", 40], [40, 33], [33]))
    (kernel,) = graph_kernels(g.nn.relu(x @ w + b), x, w, b)
    routines = compile_kernel(kernel, HOST)
    assert ["contract" in routine.symbols for routine in routines] == [False, False, True]
    sizes = {d.as_symbol(): 21 for d in x.shape[:1]}
    arrays = filled(kernel, sizes)
    wanted = {buffer: array.copy() for buffer, array in arrays.items()}
    run_kernel(kernel, wanted, sizes)
    for routine in routines:
        for buffer in routine.writes - set(arrays):
            shape = [evaluate(d, sizes) for d in buffer.type.shape or ()]
            arrays[buffer] = np.empty(shape, buffer.type.dtype.numpy)
        run(routine, HOST, arrays, sizes)
    for buffer, array in wanted.items():
        np.testing.assert_array_equal(arrays[buffer], array)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_product(data: st.DataObject) -> None:
    """Any axes in any order, some backwards, some in steps of two; stored as they are or not."""
    draw = data.draw
    kinds = draw(st.lists(st.sampled_from("brcs"), min_size=3, max_size=6))
    kinds += [kind for kind in "rcs" if kind not in kinds]
    axes = [Axis(draw(st.integers(1, 7))) for _ in kinds]
    steps = [draw(st.sampled_from((1, 1, -1, 2))) for _ in kinds]

    def operand(wanted: str, name: str, stored: bool = False) -> tuple[Buffer, Any]:
        numbers = draw(st.permutations([i for i, kind in enumerate(kinds) if kind in wanted]))
        factor = [1 if stored else abs(steps[i]) for i in numbers]
        sizes = [axes[i].extent * f for i, f in zip(numbers, factor, strict=True)]

        def index(position: Any) -> Any:
            for i, f in zip(numbers, factor, strict=True):
                back = not stored and steps[i] < 0
                yield axes[i].extent - 1 - position[i] if back else position[i] * f

        return buffer_of(*sizes, name=name), index

    (a, a_index), (b, b_index) = operand("brs", "a"), operand("bcs", "b")
    c, c_index = operand("brc", "c", stored=True)
    outer = [axis for axis, kind in zip(axes, kinds, strict=True) if kind != "s"]

    def term(*sums: Scalar) -> Scalar:
        inner = iter(sums)
        at = [
            next(inner) if kind == "s" else axis.position
            for axis, kind in zip(axes, kinds, strict=True)
        ]
        return read(a)(*a_index(at)) * read(b)(*b_index(at))

    extents = [axis.extent for axis, kind in zip(axes, kinds, strict=True) if kind == "s"]
    value = reduce("sum", extents, term)
    index = tuple(c_index([axis.position for axis in axes]))
    if draw(st.booleans()):
        value = value * 0.5 + read(c)(*index)
    kernel = collapse(Kernel("", tuple(outer), (Store(c, index, value),)))
    product = match(kernel)
    if product is None:
        few = {k: sum(kind == k for kind in kinds) for k in "brcs"}
        ones = any(axis.extent == 1 for axis in axes)
        assert ones or few["s"] > 3 or few["b"] + few["c"] + few["r"] > 4
        return
    hold_code(product)


# ---------------------------------------------------------------------------- whole programs


def _hold_program(fetches: Any, inputs: Any, shapes: Any, rtol: float = 1e-4) -> None:
    """The CPU device against the reference, twice, so that nothing is left over from a run."""
    rng = generator("programs", shapes)
    arrays = [
        rng.normal(size=shape).astype(x.dtype.numpy)
        for x, shape in zip(inputs, shapes, strict=True)
    ]
    compiled = Compiled.of(fetches, inputs, shapes)
    program = CpuDevice().compile(compiled.graph)
    for _ in range(2):
        found = program.run(arrays, Environment(compiled.sizes, {}, ENTROPY_WORDS))
        for got, want in zip(found, compiled(*arrays), strict=True):
            scale = max(1.0, float(np.abs(want).max(initial=0)))
            np.testing.assert_allclose(got / scale, want / scale, rtol=rtol, atol=rtol)


def test_a_program_of_deep_sums() -> None:
    """Threads share such a sum, and count in the workspace what is done."""
    x, y = g.placeholder("float32", ["k", 12]), g.placeholder("float32", ["k", 16])
    fetches = [g.transpose(x) @ y + 1.0, g.exp(x), g.transpose(y) @ x]
    _hold_program(fetches, [x, y], [(20_000, 12), (20_000, 16)])


def test_a_program_of_convolutions() -> None:
    x, w = g.placeholder("float32", ["n", 12, 11, 8]), g.placeholder("float32", [3, 3, 4, 16])
    y = g.nn.relu(g.nn.conv2d(x, w, padding="SAME", groups=2)) + 1.0
    fetches = [y, *g.gradients(g.sum(y * y), [x, w])]
    _hold_program(fetches, [x, w], [(3, 12, 11, 8), (3, 3, 4, 16)])


def test_a_program_in_half_precision() -> None:
    x, w = g.placeholder("float16", ["n", 40]), g.placeholder("float16", [40, 33])
    _hold_program([g.tanh(x @ w), x @ g.transpose(x)], [x, w], [(21, 40), (40, 33)], 4e-3)
