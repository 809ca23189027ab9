"""Contractions against float64 NumPy: sizes around tiles and blocks, strides, edges, targets."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
from llvmlite import ir

from graphc.runtime.cpu.contraction import Contraction, matmul_sizes
from graphc.runtime.cpu.convolution import Convolution
from graphc.runtime.cpu.driver import emit
from graphc.runtime.cpu.geometry import Geometry
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.cpu.tile import Tile
from tests.contraction_support import Compiled, matmul, strides

WIDTHS = sorted({bits for bits in (128, 256, 512) if bits <= host().vector_bits})
TARGETS = {f"{bits}bit": host().narrowed(bits) for bits in WIDTHS}
DTYPES = ("float32", "float64")


@functools.cache
def compiled(dtype: str, target: str, **options: Any) -> Compiled:
    return Compiled(Contraction("product", dtype, **options), TARGETS[target])


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def laid_out(shape: tuple[int, int], dtype: str, turned: bool, seed: int) -> Any:
    """A matrix, contiguous along its rows or its columns, with a NaN behind its last element."""
    count = shape[0] * shape[1]
    raw = np.append(draw((count,), dtype, seed), np.nan).astype(dtype)
    return raw[:count].reshape(shape[::-1]).T if turned else raw[:count].reshape(shape)


def close(got: Any, a: Any, b: Any, dtype: str) -> None:
    """Within the bound of a sum of k products, element by element."""
    wide = a.astype("f8"), b.astype("f8")
    bound = (a.shape[1] + 4) * np.finfo(dtype).eps * (np.abs(wide[0]) @ np.abs(wide[1]))
    assert (np.abs(got - wide[0] @ wide[1]) <= bound + np.finfo(dtype).tiny).all()


def around(size: int) -> list[int]:
    return sorted({0, 1, size - 1, size, size + 1})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [*itertools.product((False, True), repeat=3)])
def test_sizes_around_a_tile(dtype: str, target: str, turned: tuple[bool, ...]) -> None:
    """Every transposition of A, B and C; nothing outside of C is written."""
    function, tile = compiled(dtype, target), Tile.of(TARGETS[target], dtype)
    for m, k, n in itertools.product(around(tile.rows), around(tile.lanes), around(tile.width)):
        a = laid_out((m, k), dtype, turned[0], 1)
        b = laid_out((k, n), dtype, turned[1], 2)
        whole = np.full((m + 2, n + 2), 7, dtype, order="F" if turned[2] else "C")
        matmul(function, a, b, whole[1:-1, 1:-1])
        close(whole[1:-1, 1:-1], a, b, dtype)
        whole[1:-1, 1:-1] = 7
        assert (whole == 7).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_around_the_blocks(dtype: str, target: str) -> None:
    """Several blocks of k and columns, several groups of rows, and their remainders."""
    geometry = Geometry(TARGETS[target], Contraction("product", dtype))
    function, rows = compiled(dtype, target), geometry.tile.rows
    depth, columns = geometry.depth, geometry.columns
    for m, k, n in [
        (rows + 1, depth, columns), (rows * 3, depth + 1, columns + 1),
        (rows * 2 - 1, 2 * depth + 3, columns - 1), (40 * rows + 1, depth + 5, 5),
        (1, 2 * depth, columns + 3), (7, depth - 1, 2 * columns + 1),
    ]:  # fmt: skip
        for turned in itertools.product((False, True), repeat=2):
            a, b = laid_out((m, k), dtype, turned[0], 1), laid_out((k, n), dtype, turned[1], 2)
            c = np.full((m, n), np.nan, dtype)
            matmul(function, a, b, c)
            close(c, a, b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_and_broadcast_operands(dtype: str) -> None:
    function = compiled(dtype, WIDEST)
    a = draw((70, 90), dtype)[::2, ::3]
    b = draw((60, 80), dtype)[::-2, ::2]
    c = np.full((70, 120), 7.0, dtype)
    matmul(function, a, b, c[::2, ::3])
    close(c[::2, ::3], a, b, dtype)
    c[::2, ::3] = 7
    assert (c == 7).all()
    ones = np.broadcast_to(draw((1, 1), dtype), (35, 30))
    out = np.empty((35, 40), dtype)
    matmul(function, ones, b, out)
    close(out, ones, b, dtype)


WIDEST = [*TARGETS][-1]


@pytest.mark.parametrize("target", TARGETS)
def test_interleaved_sums_are_not_taken_for_dense(target: str) -> None:
    """Offsets 0 2 4 .. 1 3 5 ..: first and last are as far apart as in a dense run."""
    lanes = TARGETS[target].lanes(32)
    half, n = lanes // 2, 4 * Tile.of(TARGETS[target], "float32").width
    function = compiled("float32", target, sum_axes=2)
    a, b = draw((20, lanes), "float32"), draw((n, lanes), "float32", 1)
    c = np.empty((20, n), "float32")
    sizes = {
        "m0": 20, "k0": 2, "k1": half, "n": n, "a_m0": lanes, "a_k0": 1, "a_k1": 2,
        "b_k0": 1, "b_k1": 2, "b_n": lanes, "c_m0": n, "c_n": 1,
    }  # fmt: skip
    function.bind(sizes, [x.ctypes.data for x in (a, b, c)]).run()
    close(c, a, b.T, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches(dtype: str) -> None:
    """Two batch axes, one of them broadcast in B."""
    function = compiled(dtype, WIDEST, batch_axes=2)
    a, b = draw((3, 2, 14, 9), dtype), draw((3, 9, 33), dtype)
    c = np.full((3, 2, 14, 33), np.nan, dtype)
    (a0, a1, *a_), (b0, *b_), (c0, c1, *c_) = strides(a), strides(b), strides(c)
    sizes = matmul_sizes(14, 9, 33, a_, b_, c_) | {
        "batch0": 3, "batch1": 2, "a_batch0": a0, "a_batch1": a1,
        "b_batch0": b0, "b_batch1": 0, "c_batch0": c0, "c_batch1": c1,
    }  # fmt: skip
    for threads in (1, 5):
        c[:] = np.nan
        function.bind(sizes, [x.ctypes.data for x in (a, b, c)]).run(threads)
        for i, j in itertools.product(range(3), range(2)):
            close(c[i, j], a[i, j], b[i], dtype)
    for name in ("batch0", "batch1"):
        function.bind(sizes | {name: 0}, [0, 0, 0]).run()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", (False, True))
def test_accumulate(dtype: str, target: str, turned: bool) -> None:
    function = compiled(dtype, target, accumulate=True)
    for m, k, n in [(13, 5, 35), (25, 1100, 7), (3, 0, 4)]:
        a, b = draw((m, k), dtype), draw((k, n), dtype, 1)
        c = draw((n, m), dtype, 2).T if turned else draw((m, n), dtype, 2)
        old = c.copy()
        matmul(function, a, b, c)
        close(c, np.hstack([a, old]), np.vstack([b, np.eye(n, dtype=dtype)]), dtype)


def bias_relu(builder: ir.IRBuilder, value: Any, point: Any) -> Any:
    """max(value + bias[column], 0)."""
    moved = builder.fadd(value, point.load(point.buffer(0), point.column))
    positive = builder.fcmp_ordered(">", moved, point.constant(0.0))
    return builder.select(positive, moved, point.constant(0.0))


def sgd(builder: ir.IRBuilder, value: Any, point: Any) -> Any:
    """w - 0.5 value, where w is what C holds: rows of 37."""
    place = builder.add(builder.mul(point.row, ir.Constant(ir.IntType(64), 37)), point.column)
    old = point.load(point.buffer(0), place)
    return builder.fsub(old, builder.fmul(value, point.constant(0.5)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", (6, 1500))
def test_epilogues(dtype: str, target: str, k: int) -> None:
    """A bias and an activation; an update in place, also with several blocks of k."""
    a, b, bias = draw((29, k), dtype), draw((k, 37), dtype, 1), draw((37,), dtype, 2)
    c = np.full((29, 37), np.nan, dtype)
    matmul(compiled(dtype, target, epilogue=bias_relu), a, b, c, bias)
    tolerance = {"rtol": 0, "atol": k * 8 * np.finfo(dtype).eps}
    wide = a.astype("f8") @ b.astype("f8")
    np.testing.assert_allclose(c, np.maximum(wide + bias, 0), **tolerance)
    weights = draw((29, 37), dtype, 3)
    old = weights.copy()
    matmul(compiled(dtype, target, epilogue=sgd), a, b, weights, weights)
    np.testing.assert_allclose(weights, old - 0.5 * wide, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_split(dtype: str) -> None:
    function = compiled(dtype, WIDEST)
    for m, k, n in [(150, 1300, 300), (1, 700, 900)]:
        a, b = draw((m, k), dtype), draw((k, n), dtype, 1)
        results = []
        for threads in (1, 2, 3, 16):
            c = np.full((m, n), np.nan, dtype)
            matmul(function, a, b, c, threads=threads)
            results.append(c.tobytes())
        assert len(set(results)) == 1


def test_nan_and_infinity_stay_in_their_row_and_column() -> None:
    """Packing pads with zeros, and 0 times infinity must not reach a result."""
    function = compiled("float32", WIDEST)
    a, b = draw((14, 6), "float32"), draw((6, 35), "float32", 1)
    a[13, 2], b[3, 34] = np.nan, np.inf
    c = np.zeros((14, 35), "float32")
    matmul(function, a, b, c)
    assert np.isnan(c[13]).all() and not np.isfinite(c[:, 34]).any()
    assert np.isfinite(c[:13, :34]).all()


@pytest.mark.parametrize("target", TARGETS)
def test_known_sizes_are_constants(target: str) -> None:
    """The code of fixed strides computes the same, and has no path for other ones."""
    known = {"b_n": 1, "c_n": 1, "k0": 40}
    module = ir.Module()
    contraction = Contraction("product", known=known)
    emit(contraction, module, TARGETS[target])
    assert "pack_columns" not in str(module) and "store_columns" not in str(module)
    a, b = draw((30, 40), "float32"), draw((40, 50), "float32", 1)
    c = np.empty((30, 50), "float32")
    matmul(Compiled(contraction, TARGETS[target]), a, b, c)
    close(c, a, b, "float32")


def reference(geometry: Convolution, x: Any, w: Any, dy: Any) -> tuple[Any, Any, Any]:
    """Output and both gradients, tap by tap, in float64."""
    y, dw, dx = np.zeros(geometry.output), np.zeros(w.shape), np.zeros(x.shape)
    _, high, wide, _ = geometry.output
    (sh, sw), (dh, dl) = geometry.strides, geometry.dilations
    for i, j in itertools.product(range(geometry.filter_height), range(geometry.filter_width)):
        rows = slice(i * dh, i * dh + (high - 1) * sh + 1, sh)
        columns = slice(j * dl, j * dl + (wide - 1) * sw + 1, sw)
        seen = x[:, rows, columns].astype("f8")
        y += seen @ w[i, j]
        dw[i, j] = np.tensordot(seen, dy.astype("f8"), ((0, 1, 2), (0, 1, 2)))
        dx[:, rows, columns] += dy @ w[i, j].T.astype("f8")
    return y, dw, dx


GEOMETRIES = [
    Convolution(2, 9, 8, 5, 3, 2, 7),
    Convolution(3, 7, 9, 16, 3, 3, 33),
    Convolution(2, 9, 8, 5, 3, 3, 37, (2, 2)),
    Convolution(2, 11, 12, 5, 3, 2, 7, (1, 1), (2, 3)),
    Convolution(2, 13, 12, 5, 3, 3, 7, (2, 3), (2, 1)),
    Convolution(2, 13, 12, 5, 2, 1, 7, (3, 2), (3, 2)),
    Convolution(1, 4, 5, 3, 1, 1, 2, (3, 3)),
    Convolution(1, 3, 3, 1, 3, 3, 1),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolution_and_its_gradients(geometry: Convolution, dtype: str, target: str) -> None:
    function = compiled(dtype, target, row_axes=3, sum_axes=3)
    shape = geometry.batch, geometry.height, geometry.width, geometry.channels
    taps = geometry.filter_height, geometry.filter_width, geometry.channels, geometry.out
    x, w, dy = draw(shape, dtype), draw(taps, dtype, 1), draw(geometry.output, dtype, 2)
    high, wide = geometry.border()
    bordered = np.pad(dy, ((0, 0), (high, high), (wide, wide), (0, 0)))
    y, dw, dx = (np.full(array.shape, np.nan, dtype) for array in (dy, w, x))
    calls = [(geometry.forward(), (x, w, y)), (geometry.filter_gradient(), (x, dy, dw))]
    calls += [(one, (bordered, w, dx)) for one in geometry.image_gradients()]
    for instance, arrays in calls:
        places = (instance.a, instance.b, instance.c)
        pointers = [
            array.ctypes.data + place * array.itemsize
            for array, place in zip(arrays, places, strict=True)
        ]
        function.bind(instance.sizes, pointers).run(2)
    for got, wanted in zip((y, dw, dx), reference(geometry, x, w, dy), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2000 * np.finfo(dtype).eps)


def test_tiles_fit_the_registers() -> None:
    for target in TARGETS.values():
        for dtype in DTYPES:
            tile = Tile.of(target, dtype)
            assert tile.rows * tile.vectors + tile.vectors + 1 <= target.registers


def test_small_caches_make_small_blocks() -> None:
    """A target with tiny caches: many blocks of k and columns at small sizes."""
    small = Target(**{**vars(host()), "l1": 4096, "l2": 32768})
    function = Compiled(Contraction("product"), small)
    a, b = draw((70, 333), "float32"), draw((333, 215), "float32", 1)
    for turned in (False, True):
        right = np.asfortranarray(b) if turned else b
        c = np.empty((70, 215), "float32")
        matmul(function, a, right, c, threads=3)
        close(c, a, b, "float32")
