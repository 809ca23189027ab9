"""Kernels that turn arrays round, take every so manieth element, or look at small windows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from graphc.dims import Dimension
from graphc.dtypes import DType, bool_, float16, float32, float64, int8, int64
from graphc.kernel import Axis, Kernel, Store, read, reduce
from graphc.runtime.cpu import nest, nest_tiles
from graphc.runtime.cpu.target import host
from graphc.scalar import apply
from tests.nest_support import Compiled, empty
from tests.test_cpu_nest_rows import WIDTHS, M, N, agree, buffer, drawn, sizes_of

SHAPES = [(16, 16), (17, 64), (70, 33), (1, 40), (40, 1), (3, 100), (130, 4200)]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan, 5e-45, -5e-45]


def turned(m: Dimension, n: Dimension, dtype: DType = float32) -> tuple[Kernel, Any, Any]:
    """x.T + y, which is also x.T itself where y is 0."""
    x, y, out = (buffer(name, m, n, dtype=dtype) for name in "xyz")
    x = buffer("x", n, m, dtype=dtype)
    i, j = Axis(m), Axis(n)
    value = apply("add", read(x)(j.position, i.position), read(y)(i.position, j.position))
    return Kernel("turned", (i, j), (Store(out, (i.position, j.position), value),)), x, y


@pytest.mark.parametrize("dtype", [float32, float64, float16, int8, int64, bool_], ids=str)
@pytest.mark.parametrize("bits", WIDTHS)
def test_squares(bits: int, dtype: DType) -> None:
    for m, n in SHAPES[:-1]:
        kernel, x, y = turned(m, n, dtype)
        agree(kernel, {x: drawn((n, m), dtype), y: drawn((m, n), dtype, 1)}, bits=bits)


def test_squares_of_symbolic_sizes() -> None:
    kernel, x, y = turned(M, N)
    for m, n in [*SHAPES, (0, 5), (5, 0)]:
        agree(kernel, {x: drawn((n, m)), y: drawn((m, n))}, sizes_of(m=m, n=n))


def test_transposes_are_squares_and_other_maps_are_not() -> None:
    kernel, *_ = turned(64, 64)
    (job,) = nest.jobs(kernel, host())
    facts = nest.Facts(job.formulas, host())
    assert nest_tiles.tile_axis(facts, job.stores, job.axes) is job.axes[0]
    x, out = buffer("x", 64, 64), buffer("z", 64, 64)
    i, j = Axis(64), Axis(64)
    value = read(x)(i.position, j.position) + 1.0
    plain = Kernel("plain", (i, j), (Store(out, (i.position, j.position), value),))
    facts = nest.Facts(tuple(plain.formulas()), host())
    assert nest_tiles.tile_axis(facts, plain.stores, plain.axes) is None


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_every_so_manieth(step: int, bits: int) -> None:
    for dtype, n in itertools.product((float32, float64, int8), (1, 16, 37, 64)):
        x, out = buffer("x", 3, n * step, dtype=dtype), buffer("z", 3, n, dtype=dtype)
        i, j = Axis(3), Axis(n)
        value = read(x)(i.position, j.position * step + (step - 1))
        kernel = Kernel("strided", (i, j), (Store(out, (i.position, j.position), value),))
        agree(kernel, {x: drawn((3, n * step), dtype)}, bits=bits)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("kind", ["max", "min", "sum", "prod", "argmax", "argmin"])
def test_windows(kind: str, bits: int) -> None:
    for n, width in itertools.product((5, 16, 35), (1, 2, 3, 9)):
        x, dtype = buffer("x", 4, n * width), int64 if kind.startswith("arg") else float32
        out = buffer("z", 4, n, dtype=dtype)
        i, j = Axis(4), Axis(n)

        def at(r: Any, j: Any = j, i: Any = i, x: Any = x, width: int = width) -> Any:
            return read(x)(i.position, j.position * width + r)

        value = reduce(kind, (width,), at)
        kernel = Kernel("windows", (i, j), (Store(out, (i.position, j.position), value),))
        agree(kernel, {x: drawn((4, n * width))}, bits=bits)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_extrema_of_special_numbers(kind: str, bits: int, dtype: DType) -> None:
    """NaN wins, and -0 is below 0: down columns, along rows, in windows."""
    for length, drop in itertools.product((1, 2, 9, 40), (0, 2, 4)):
        x = buffer("x", 40, length, dtype=dtype)
        down, along = buffer("d", length, dtype=dtype), buffer("a", 40, dtype=dtype)
        i, j = Axis(40), Axis(length)
        columns = reduce(kind, (40,), lambda r, x=x, j=j: read(x)(r, j.position))
        rows = reduce(kind, (length,), lambda r, x=x, i=i: read(x)(i.position, r))
        stores = [
            ((j,), Store(down, (j.position,), columns)),
            ((i,), Store(along, (i.position,), rows)),
        ]
        rng = np.random.default_rng(length + drop)
        kept = [s for s in SPECIAL if not (drop and np.isnan(s))][: 10 - drop]
        values = rng.choice(np.array(kept if drop < 4 else [0.0, -0.0]), (40, length))
        values = values.astype(dtype.numpy)
        for axes, store in stores:
            got = {store.buffer: empty(store.buffer, {})}
            kernel = Kernel("extrema", axes, (store,))
            Compiled(kernel, host().narrowed(bits)).run({x: values} | got, {}, (7,))
            axis = 0 if store.buffer is down else 1
            want = _extremum(values, kind, axis)
            np.testing.assert_array_equal(got[store.buffer], want)
            known = ~np.isnan(want)
            signs = np.signbit(got[store.buffer])[known]
            np.testing.assert_array_equal(signs, np.signbit(want)[known])


def _extremum(values: Any, kind: str, axis: int) -> Any:
    """By sorting on the value, then on the sign."""
    rows = np.moveaxis(values, axis, -1)
    found = []
    for row in rows:
        ordered = sorted(row, key=lambda v: (v, not np.signbit(v)))
        found.append(np.nan if np.isnan(row).any() else ordered[-1 if kind == "max" else 0])
    return np.array(found, values.dtype)
