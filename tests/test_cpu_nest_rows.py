"""Kernels written by hand: rows, parts of reductions, sizes of all kinds, faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphc.dims import Dim, Dimension
from graphc.dtypes import DType, bool_, float16, float32, float64, int8, int32, int64, uint8
from graphc.kernel import (
    ARGUMENTS,
    Axis,
    Buffer,
    Kernel,
    Store,
    cast,
    inlined,
    lift,
    read,
    reduce,
    typed,
)
from graphc.runtime.cpu.target import host
from graphc.runtime.interp.evaluate import run_kernel
from graphc.scalar import Scalar, apply, select
from graphc.types import TensorType
from tests.nest_support import Compiled, empty
from tests.test_cpu_nest import hold

M, N = Dim.symbol("m"), Dim.symbol("n")
WIDTHS = [128, 256, 512]
LENGTHS = [0, 1, 2, 15, 16, 17, 31, 63, 64, 65, 100, 1000]


def buffer(name: str, *shape: Dimension, dtype: DType = float32) -> Buffer:
    return Buffer(TensorType(dtype, shape), name)


def sizes_of(**values: int) -> Any:
    dims = {"m": M, "n": N}
    return {dims[name].as_symbol(): value for name, value in values.items()}


def drawn(shape: Any, dtype: DType = float32, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype.numpy)
    return rng.integers(0, 2 if dtype is bool_ else 100, shape).astype(dtype.numpy)


def agree(kernel: Kernel, arrays: dict[Buffer, Any], sizes: Any = None, bits: int = 512,
          ulp: int = 4) -> dict[Buffer, Any]:  # fmt: skip
    """Generated code and the interpreter make the same, and so does any other chunking."""
    sizes = sizes or {}
    compiled = Compiled(kernel, host().narrowed(bits))
    wanted = {store.buffer: empty(store.buffer, sizes) for store in kernel.stores}
    with np.errstate(all="ignore"):
        run_kernel(kernel, arrays | wanted, sizes)
    runs = []
    for grains in ([10**9], [3, 64, 1]):
        got = {store.buffer: empty(store.buffer, sizes) for store in kernel.stores}
        assert compiled.run(arrays | got, sizes, grains) is None
        sums = any(part.primitive == "reduce" for part in kernel.formulas())
        for held, array in got.items():
            hold(array, wanted[held], f"{kernel.name} {sizes} {grains}", sums, ulp)
        runs.append(got)
    for held in runs[0]:
        assert runs[0][held].tobytes() == runs[1][held].tobytes(), "chunks change the bits"
    return runs[0]


# ---------------------------------------------------------------------------- rows


def softmax(rows: Dimension, columns: Dimension) -> tuple[Kernel, Buffer]:
    x, y = buffer("x", rows, columns), buffer("y", rows, columns)
    i, j = Axis(rows), Axis(columns)
    at = read(x)
    most = reduce("max", (columns,), lambda k: at(i.position, k), initial=-np.inf)
    total = reduce("sum", (columns,), lambda k: apply("exp", at(i.position, k) - most))
    value = apply("exp", at(i.position, j.position) - most) / total
    return Kernel("softmax", (i, j), (Store(y, (i.position, j.position), value),)), x


def layer_norm(rows: Dimension, columns: Dimension) -> tuple[Kernel, Buffer]:
    x, y = buffer("x", rows, columns), buffer("y", rows, columns)
    means, scales = buffer("mean", rows), buffer("scale", rows)
    i, j = Axis(rows), Axis(columns)
    at, count = read(x), cast(lift(columns), float32)
    mean = reduce("sum", (columns,), lambda k: at(i.position, k)) / count

    def square(k: Scalar) -> Scalar:
        return (at(i.position, k) - mean) * (at(i.position, k) - mean)

    scale = 1.0 / apply("sqrt", reduce("sum", (columns,), square) / count + 1e-5)
    value = (at(i.position, j.position) - mean) * scale
    stores = (
        Store(y, (i.position, j.position), value),
        Store(means, (i.position,), mean),
        Store(scales, (i.position,), scale),
    )
    return Kernel("layer_norm", (i, j), stores), x


def cross_entropy(rows: Dimension, columns: Dimension) -> tuple[Kernel, Buffer, Buffer]:
    x, labels = buffer("x", rows, columns), buffer("labels", rows, dtype=int64)
    loss, gradient = buffer("loss", rows), buffer("gradient", rows, columns)
    i, j = Axis(rows), Axis(columns)
    at, label = read(x), read(labels)(i.position)
    most = reduce("max", (columns,), lambda k: at(i.position, k), initial=-np.inf)
    total = reduce("sum", (columns,), lambda k: apply("exp", at(i.position, k) - most))
    value = apply("log", total) + most - at(i.position, label)
    hot = select(apply("equal", j.position, label), lift(1.0), lift(0.0))
    slope = apply("exp", at(i.position, j.position) - most) / total - cast(hot, float32)
    stores = (
        Store(loss, (i.position,), value),
        Store(gradient, (i.position, j.position), slope),
    )
    return Kernel("cross_entropy", (i, j), stores), x, labels


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("columns", [*LENGTHS, 5000])
def test_softmax_and_layer_norm(columns: int, bits: int) -> None:
    for make in (softmax, layer_norm):
        kernel, x = make(M, N)
        agree(kernel, {x: drawn((5, columns))}, sizes_of(m=5, n=columns), bits)
        if columns:
            kernel, x = make(5, columns)
            agree(kernel, {x: drawn((5, columns))}, None, bits)


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (1, 1), (5, 1), (7, 10), (3, 100)])
def test_cross_entropy(rows: int, columns: int) -> None:
    for shape, sizes in (((rows, columns), {}), ((M, N), sizes_of(m=rows, n=columns))):
        kernel, x, labels = cross_entropy(*shape)
        places = np.arange(rows) % columns
        agree(kernel, {x: drawn((rows, columns)), labels: places}, sizes)


def test_a_softmax_of_one_long_row() -> None:
    for size, sizes in ((20_000, {}), (N, sizes_of(n=20_000)), (N, sizes_of(n=0))):
        count = 0 if sizes.get(N.as_symbol()) == 0 else 20_000
        x, y, i = buffer("x", size), buffer("y", size), Axis(size)
        at = read(x)
        most = reduce("max", (size,), at, initial=-np.inf)
        total = reduce("sum", (size,), lambda k: apply("exp", at(k) - most))
        value = apply("exp", at(i.position) - most) / total
        agree(Kernel("softmax", (i,), (Store(y, (i.position,), value),)), {x: drawn(count)}, sizes)


# ---------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", [float32, float64, float16, int8, uint8, bool_, int32, int64])
@pytest.mark.parametrize("length", LENGTHS)
def test_maps_of_all_lengths(dtype: DType, length: int, bits: int) -> None:
    for size, sizes in ((length, {}), (N, sizes_of(n=length))):
        x, y, z = (buffer(name, size, dtype=dtype) for name in "xyz")
        i = Axis(size)
        at = read(x)(i.position)
        back = read(x)(lift(size) - 1 - i.position)
        stores = (
            Store(y, (i.position,), typed(at * at + back, dtype)),
            Store(z, (i.position,), select(at < back, at, back)),
        )
        agree(Kernel("map", (i,), stores), {x: drawn(length, dtype)}, sizes, bits)


KINDS = ["sum", "prod", "max", "min", "any", "all", *ARGUMENTS]


def reduction(kind: str, dtype: DType, outer: Any, size: Dimension, columns: bool) -> Any:
    shape = (size, *outer) if columns else (*outer, size)
    x = buffer("x", *shape, dtype=dtype)
    axes = tuple(map(Axis, outer))
    places = tuple(axis.position for axis in axes)

    def element(k: Scalar) -> Scalar:
        return read(x)(*((k, *places) if columns else (*places, k)))

    initial = 0 if kind in ("max", "min") else None
    value = reduce(kind, (size,), element, initial=initial)
    given = dtype if kind not in ("any", "all", *ARGUMENTS) else None
    result = given or (int64 if kind in ARGUMENTS else bool_)
    y = buffer("y", *outer, dtype=result)
    return Kernel(kind, axes, (Store(y, places, value),)), x


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [float32, float64, float16, int32, uint8, bool_])
@pytest.mark.parametrize("kind", KINDS)
def test_reductions_of_all_kinds(kind: str, dtype: DType, columns: bool) -> None:
    for length in (0, 1, 5, 16, 67, 300):
        if kind in ARGUMENTS and not length:
            continue
        for outer in ((), (3,), (33,)):
            shape = (length, *outer) if columns else (*outer, length)
            values = drawn(shape, dtype) if kind != "prod" else drawn(shape, dtype) * 0 + 1
            values = values.astype(dtype.numpy)
            for size, sizes in ((length, {}), (N, sizes_of(n=length))):
                if kind in ("sum", "prod") and dtype is float16:
                    continue  # what NumPy rounds between is not fixed
                kernel, x = reduction(kind, dtype, outer, size, columns)
                agree(kernel, {x: values}, sizes, ulp=16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outer", [(), (3,), (40,)])
@pytest.mark.parametrize("columns", [False, True])
def test_large_reductions_are_computed_in_parts(kind: str, outer: Any, columns: bool) -> None:
    length = 100_003
    shape = (length, *outer) if columns else (*outer, length)
    values = drawn(shape)
    if kind == "prod":
        values = np.exp(values / 300).astype(np.float32)
    if kind in ARGUMENTS:
        values = np.round(values * 4)  # many are equal: the first counts
    for size, sizes in ((length, {}), (N, sizes_of(n=length))):
        kernel, x = reduction(kind, float32, outer, size, columns)
        got = agree(kernel, {x: values}, sizes, ulp=400)
        assert len(got) == 1


def test_parts_of_nothing() -> None:
    for kind in ("sum", "any", "all", "max"):
        kernel, x = reduction(kind, float32, (), N, False)
        (got,) = agree(kernel, {x: drawn(0)}, sizes_of(n=0)).values()
        assert not np.signbit(got)


def test_an_extremum_of_nothing_needs_a_value() -> None:
    x, y = buffer("x", N), buffer("y")
    kernel = Kernel("max", (), (Store(y, (), reduce("max", (N,), read(x))),))
    arrays = {x: drawn(0), y: np.empty((), np.float32)}
    assert "max of no elements" in str(Compiled(kernel).run(arrays, sizes_of(n=0), [1]))
    assert Compiled(kernel).run(arrays | {x: drawn(3)}, sizes_of(n=3), [1]) is None


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0]


@pytest.mark.parametrize("kind", ["max", "min", *ARGUMENTS, "sum"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_special_values_in_reductions(kind: str, bits: int) -> None:
    rng = np.random.default_rng(1)
    rows = [np.full(35, value) for value in SPECIAL]
    rows += [rng.choice(SPECIAL, 35) for _ in range(20)] + [rng.choice(SPECIAL[1:], 35)] * 3
    values = np.array(rows, np.float32)
    for columns in (False, True):
        kernel, x = reduction(kind, float32, (len(values),), 35, columns)
        held = np.ascontiguousarray(values.T) if columns else values
        agree(kernel, {x: held}, None, bits)


# ---------------------------------------------------------------------------- indices


def test_an_index_that_is_data_is_checked() -> None:
    x, places, y = buffer("x", N, 20), buffer("i", M, dtype=int64), buffer("y", M, 20)
    i, j = Axis(M), Axis(20)
    value = read(x)(read(places)(i.position), j.position)
    kernel = Kernel("take", (i, j), (Store(y, (i.position, j.position), value),))
    table = drawn((9, 20))
    agree(kernel, {x: table, places: np.array([8, 0, 3, 3])}, sizes_of(m=4, n=9))
    for bad in (9, -1, 1 << 40):
        fault = Compiled(kernel).run(
            {x: table, places: np.array([1, bad, 2]), y: np.empty((3, 20), np.float32)},
            sizes_of(m=3, n=9), [100],
        )  # fmt: skip
        assert fault == f"index {bad} is out of range for axis 0 of size n"
    empty_table = drawn((0, 20))
    got = {y: np.empty((0, 20), np.float32)}
    none = {x: empty_table, places: np.zeros(0, np.int64)} | got
    assert Compiled(kernel).run(none, sizes_of(m=0, n=0), [100]) is None


@pytest.mark.parametrize("bits", WIDTHS)
def test_indices_of_single_elements(bits: int) -> None:
    x, places, y = buffer("x", N), buffer("i", M, dtype=int64), buffer("y", M)
    i = Axis(M)
    value = read(x)(read(places)(i.position)) * 2
    kernel = Kernel("take", (i,), (Store(y, (i.position,), value),))
    chosen = np.arange(100) * 7 % 50
    agree(kernel, {x: drawn(50), places: chosen}, sizes_of(m=100, n=50), bits)
    chosen[77] = 50
    fault = Compiled(kernel, host().narrowed(bits)).run(
        {x: drawn(50), places: chosen, y: np.empty(100, np.float32)},
        sizes_of(m=100, n=50), [40],
    )  # fmt: skip
    assert fault == "index 50 is out of range for axis 0 of size n"


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", [float32, float16, uint8, float64])
def test_reads_beyond_a_buffer(dtype: DType, bits: int) -> None:
    x, y, i, j = buffer("x", 6, N, dtype=dtype), buffer("y", 9, N, dtype=dtype), Axis(9), Axis(N)
    places = (i.position - 2, j.position * 2 - 5)
    value = read(x).within(places, 3)
    kernel = Kernel("pad", (i, j), (Store(y, (i.position, j.position), value),))
    for n in (0, 1, 7, 40):
        agree(kernel, {x: drawn((6, n), dtype)}, sizes_of(n=n), bits)


def test_repeats_and_transposes() -> None:
    x, y, z = buffer("x", 30, N), buffer("y", 60, N), buffer("z", N, 30)
    i, j = Axis(60), Axis(N)
    value = read(x)(i.position // 2, j.position)
    agree(Kernel("repeat", (i, j), (Store(y, (i.position, j.position), value),)),
          {x: drawn((30, 21))}, sizes_of(n=21))  # fmt: skip
    k = Axis(30)
    value = read(x)(k.position, j.position)
    agree(Kernel("transpose", (j, k), (Store(z, (j.position, k.position), value),)),
          {x: drawn((30, 21))}, sizes_of(n=21))  # fmt: skip


# ---------------------------------------------------------------------------- whole clusters


def test_statistics_of_inner_axes() -> None:
    """The mean and the variance of each channel, which the loops would come to in every row."""
    x, y = buffer("x", 8, 5, 6), buffer("y", 8, 5, 6)
    axes = tuple(map(Axis, (8, 5, 6)))
    b, s, c = (axis.position for axis in axes)
    at = read(x)
    mean = reduce("sum", (8, 5), lambda i, j: at(i, j, c)) / 40.0
    spread = reduce("sum", (8, 5), lambda i, j: (at(i, j, c) - mean) * (at(i, j, c) - mean))
    value = (at(b, s, c) - mean) / apply("sqrt", spread / 40.0)
    kernel = Kernel("batch_norm", axes, (Store(y, (b, s, c), value),))
    agree(kernel, {x: drawn((8, 5, 6))}, ulp=16)
    assert len(Compiled(kernel).routines) == 3


def test_stores_of_different_axes() -> None:
    x = buffer("x", M, N)
    i, j = Axis(M), Axis(N)
    rows, columns, total = buffer("r", M), buffer("c", N), buffer("t")
    y, at = buffer("y", M, N), read(x)
    doubled = inlined(x.type, lambda index: at(*index) * 2)
    stores = (
        Store(rows, (i.position,), reduce("sum", (N,), lambda k: doubled(i.position, k))),
        Store(columns, (j.position,), reduce("max", (M,), lambda k: doubled(k, j.position), -9.0)),
        Store(total, (), reduce("sum", (M, N), doubled)),
        Store(y, (i.position, j.position), doubled(i.position, j.position)),
    )
    kernel = Kernel("all", (i, j), stores)
    for m, n in ((1, 1), (13, 40)):
        agree(kernel, {x: drawn((m, n))}, sizes_of(m=m, n=n), ulp=16)
    for m, n in ((0, 4), (4, 0), (0, 0)):
        outputs = {store.buffer: empty(store.buffer, sizes_of(m=m, n=n)) for store in stores}
        Compiled(kernel).run({x: drawn((m, n))} | outputs, sizes_of(m=m, n=n), [100])
        assert [outputs[b].tolist() for b in (rows, columns, total)] == [[0.0] * m, [-9.0] * n, 0.0]


def nested(size: Dimension) -> tuple[Kernel, Buffer]:
    x, y, i = buffer("x", 6, size, 7), buffer("y", 6), Axis(6)
    at = read(x)

    def inner(k: Scalar) -> Scalar:
        return apply("sqrt", reduce("sum", (7,), lambda c: at(i.position, k, c) * 2 + 1) + 99)

    value = reduce("max", (size,), inner, initial=0.0)
    return Kernel("nested", (i,), (Store(y, (i.position,), value),)), x


@pytest.mark.parametrize("length", [0, 1, 20])
@pytest.mark.parametrize("make", [nested])
def test_reductions_of_reductions(make: Callable[[Any], Any], length: int) -> None:
    for size, sizes in ((length, {}), (N, sizes_of(n=length))):
        kernel, x = make(size)
        agree(kernel, {x: drawn((6, length, 7))}, sizes)


def test_a_hoisted_read_of_an_empty_buffer() -> None:
    """The last element of each row, which there is none of, read outside of the loop over it."""
    x, y, i, j = buffer("x", M, N), buffer("y", M, N), Axis(M), Axis(N)
    last = read(x)(i.position, lift(N) - 1)
    value = last + reduce("sum", (N,), lambda k: read(x)(i.position, lift(N) - 1 - k))
    kernel = Kernel("edge", (i, j), (Store(y, (i.position, j.position), value),))
    for n in (1, 50):
        agree(kernel, {x: drawn((3, n))}, sizes_of(m=3, n=n), ulp=16)
    arrays = {x: np.zeros((3, 0), np.float32), y: np.zeros((3, 0), np.float32)}
    assert Compiled(kernel).run(arrays, sizes_of(m=3, n=0), [100]) is None
