"""Contractions against float64 NumPy: sizes around tiles and blocks, strides, edges, targets."""

from __future__ import annotations

import ctypes
import functools
import itertools
from typing import Any

import numpy as np
import pytest

from graphc.runtime.cpu.contraction import matmul_sizes, size_array
from graphc.runtime.cpu.convolution import Convolution
from graphc.runtime.cpu.driver_library import cut
from graphc.runtime.cpu.geometry import PART, RUN, Geometry
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.cpu.threads import BODY, pool
from graphc.runtime.cpu.tile import Tile
from tests.contraction_support import STORE, Compiled, matmul, matmul_bound, strides

WIDTHS = sorted({bits for bits in (128, 256, 512) if bits <= host().vector_bits})
TARGETS = {f"{bits}bit": host().narrowed(bits) for bits in WIDTHS}
DTYPES = ("float32", "float64")


@functools.cache
def compiled(dtype: str, target: str) -> Compiled:
    return Compiled(dtype, TARGETS[target])


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
    geometry = Geometry.of(TARGETS[target], dtype)
    function, rows = compiled(dtype, target), geometry.tile.rows
    depth, columns = geometry.depth, geometry.most_strips * geometry.tile.width
    for m, k, n in [
        (rows + 1, depth, columns), (rows * 3, depth + 1, columns + 1),
        (rows * 2 - 1, 2 * depth + 3, columns - 1), (RUN * rows + 1, depth + 5, 5),
        (1, 2 * depth, columns + 3), (7, depth - 1, 2 * columns + 1), (9, 2 * PART - 1, 3),
    ]:  # fmt: skip
        for turned in itertools.product((False, True), repeat=2):
            a, b = laid_out((m, k), dtype, turned[0], 1), laid_out((k, n), dtype, turned[1], 2)
            c = np.full((m, n), np.nan, dtype)
            matmul(function, a, b, c)
            close(c, a, b, dtype)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 2 * PART, 1), (33, 3 * PART + 1, 40), (10, 17 * PART, 10)])
def test_deep_sums_are_parts(dtype: str, target: str, shape: tuple[int, int, int]) -> None:
    """The parts may be summed in any order, by any threads: the bits are the same."""
    (m, k, n), results = shape, []
    for turned in itertools.product((False, True), repeat=2):
        a, b = laid_out((m, k), dtype, turned[0], 1), laid_out((k, n), dtype, turned[1], 2)
        c = np.empty((m, n), dtype)
        bound = matmul_bound(compiled(dtype, target), a, b, c)
        assert bound.parts == bound.tiles == min(16, k // PART)
        for threads, order in [(1, 1), (1, -1), (2, 1), (7, -1)]:
            c[:] = np.nan
            bound.run(threads, order)
            results.append(c.tobytes())
        close(c, a, b, dtype)
    assert len({results[i] for i in range(4)}) == 1


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
    function = compiled("float32", target)
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
    function = compiled(dtype, WIDEST)
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(29, 6, 37), (5, 1500, 70), (9, 3000, 33), (500, 3, 41)])
def test_stores_see_every_element_once(dtype: str, shape: tuple[int, int, int]) -> None:
    """Each element of C is given to the store once, with the place that it has."""
    m, k, n = shape
    a, b = draw((3, m, k), dtype), draw((k, n), dtype, 1)
    c, tile = np.full((3, m, n), np.nan, dtype), Tile.of(host(), dtype)

    def store(_: int, partial: int, *at: int) -> None:
        rows, columns, row, column, batch = at
        assert 0 < rows <= tile.rows and 0 < columns <= tile.width and partial % 64 == 0
        kind = ctypes.c_float if dtype == "float32" else ctypes.c_double
        sums = np.ctypeslib.as_array((kind * (rows * tile.width)).from_address(partial))
        part = c[batch, row : row + rows, column : column + columns]
        assert np.isnan(part).all()
        part[:] = sums.reshape(rows, tile.width)[:, :columns]

    sizes = matmul_sizes(m, k, n, (k, 1), (n, 1)) | {"batch0": 3, "a_batch0": m * k}
    bound = compiled(dtype, WIDEST).bind(sizes, [a.ctypes.data, b.ctypes.data, 0])
    function = STORE(store)
    bound.store = ctypes.cast(function, ctypes.c_void_p).value
    bound.run(2)
    for i in range(3):
        close(c[i], a[i], b, dtype)


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
    function = compiled(dtype, target)
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


@pytest.mark.parametrize(
    ("shape", "least"),
    [
        ((2048, 2048, 2048), 8), ((12, 4096, 4096), 8), ((1, 1000, 2000), 2), ((256, 256, 256), 2),
        ((288, 86528, 32), 8), ((10, 50000, 10), 8), ((1000, 100, 10), 2), ((5, 100, 10), 1),
    ],
)  # fmt: skip
def test_launches_have_work_for_threads(shape: tuple[int, int, int], least: int) -> None:
    m, k, n = shape
    sizes = size_array(matmul_sizes(m, k, n, (k, 1), (n, 1))).tolist()
    for threads in (1, 2, 16):
        launch = cut([*sizes, 7, 7], threads, "float32")
        chunks = -(-launch.count // launch.grain)
        assert launch.count >= least and chunks >= min(least, threads)
        assert launch.workspace % 64 == 0
    assert cut([0, *sizes[1:]], 2, "float32").count == 0


def test_a_launch_by_the_pool() -> None:
    """As a program runs it: chunks of a launch, each with its own part of the workspace."""
    for m, k, n in [(150, 700, 600), (20, 9000, 30)]:
        a, b, c = draw((m, k), "float32"), draw((k, n), "float32", 1), np.empty((m, n), "float32")
        bound = matmul_bound(compiled("float32", WIDEST), a, b, c)
        launch = cut(bound.sizes.tolist(), 2, "float32")
        space = bound.space(-(-launch.count // launch.grain))

        def body(
            _: int, begin: int, end: int, bound: Any = bound, launch: Any = launch, at: Any = space
        ) -> None:
            own = at.ctypes.data + begin // launch.grain * launch.workspace
            bound.part(own, begin, end)

        pool().parallel_for(BODY(body), None, launch.count, launch.grain)
        close(c, a, b, "float32")


def test_tiles_fit_the_registers() -> None:
    for target in TARGETS.values():
        for dtype in DTYPES:
            tile = Tile.of(target, dtype)
            assert tile.rows * tile.vectors + tile.vectors + 1 <= target.registers


def test_small_caches_make_small_blocks() -> None:
    """A target with tiny caches: many blocks of k and columns at small sizes."""
    small = Target(**{**vars(host()), "l1": 4096, "l2": 32768})
    function = Compiled("float32", small)
    a, b = draw((70, 333), "float32"), draw((333, 215), "float32", 1)
    for turned in (False, True):
        right = np.asfortranarray(b) if turned else b
        c = np.empty((70, 215), "float32")
        matmul(function, a, right, c, threads=3)
        close(c, a, b, "float32")
