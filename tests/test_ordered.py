"""Loops in order: running sums, recurrences and writes at indices that are data, on all devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.build import make
from graphc.errors import ShapeError
from graphc.graph import Graph, Tensor
from graphc.kernel_text import show_kernel
from graphc.lower import lower
from graphc.ops import OPS
from graphc.ops.gather import scatter_build
from graphc.passes import optimise
from graphc.plan import Call
from graphc.runtime.cpu.device import CpuDevice
from graphc.stages import graph_at
from tests.devices import OPENCL

DEVICES = ("interp", "cpu", *OPENCL)
SIDES = ("left", "right")
ALL = ("float16", "float32", "float64", "int8", "int16", "int32", "int64",
       "uint8", "uint16", "uint32", "uint64")  # fmt: skip


def _run(fetches: Any, feeds: Any, device: str = "cpu", threads: int | None = None) -> Any:
    with g.Session(device=device, threads=threads) as session:
        return session.run(fetches, feeds)


def _random(*shape: int, dtype: str = "float32", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed + sum(shape))
    return (rng.normal(size=shape) * 3).astype(np.int64 if "int" in dtype else dtype).astype(dtype)


def _kernels(*fetches: Tensor) -> list[Any]:
    steps = lower(optimise(graph_at(list(fetches), "optimised"))).steps
    assert all(isinstance(step, Call) for step in steps), "a host call"
    return [step.kernel for step in steps]


# ---------------------------------------------------------------------------- running sums


def _running(build: Any, ufunc: Any, x: Any, axis: int | None, reverse: bool) -> Any:
    flat, along = (x.reshape(-1), 0) if axis is None else (x, axis)
    turned = np.flip(flat, along) if reverse else flat
    with np.errstate(all="ignore"):
        done = ufunc(turned, along)
    return np.flip(done, along) if reverse else done


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [*ALL, "bool"])
def test_running_sums_are_numpys_to_the_bit(device: str, dtype: str) -> None:
    x = g.placeholder(dtype, [3, 37, 5])
    array = _random(3, 37, 5, dtype=dtype)
    for build, ufunc in ((g.cumsum, np.cumsum), (g.cumprod, np.cumprod)):
        for axis, reverse in ((0, False), (1, True), (2, False), (None, True)):
            got = _run(build(x, axis, reverse=reverse), {x: array}, device)
            want = _running(build, ufunc, array, axis, reverse)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want, f"{build.__name__} {axis} {reverse}")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 700), (700, 1), (9, 130), (257, 33)])
def test_running_sums_of_any_size(shape: tuple[int, int]) -> None:
    x = g.placeholder("float32", ["n", "m"])
    array = _random(*shape)
    fetches = [g.cumsum(x, 0), g.cumsum(x, 1, reverse=True), g.cumsum(x)]
    for fed in (array, np.asfortranarray(array)):
        got = _run(fetches, {x: fed})
        want = [array.cumsum(0), array[:, ::-1].cumsum(1)[:, ::-1], array.cumsum()]
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_signed_zeros_infinities_and_nan() -> None:
    x = g.placeholder("float32", [4, 3])
    array = np.array([[-0.0, np.inf, np.nan], [-0.0, 1, 2], [0.0, -np.inf, 1], [-0.0, 3, 1]])
    got = _run(g.cumsum(x, 0), {x: array.astype(np.float32)})
    with np.errstate(all="ignore"):
        want = np.cumsum(array.astype(np.float32), 0)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[:, 0]), np.signbit(want[:, 0]))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_recurrences_and_exclusive_products(axis: int, reverse: bool) -> None:
    a, b = (g.placeholder("float64", [6, 7, 20]) for _ in range(2))
    arrays = {a: _random(6, 7, 20, dtype="float64"), b: _random(6, 7, 20, dtype="float64", seed=1)}
    attrs = {"axis": axis, "reverse": reverse}
    fetches = [
        make(OPS["linear_recurrence"], (a, b), attrs),
        make(OPS["exclusive_cumprod"], (a,), attrs),
    ]
    for got, want in zip(_run(fetches, arrays), _run(fetches, arrays, "reference"), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)


def test_gradients_of_running_products_at_zeros() -> None:
    x = g.placeholder("float64", [2, 9])
    array = _random(2, 9, dtype="float64")
    array[0, 3] = array[1, 0] = array[1, 8] = 0
    fetches = g.gradients(g.sum(g.cumprod(x, 1) * g.arange(9)), [x])
    got, want = (_run(fetches, {x: array}, device) for device in ("cpu", "reference"))
    np.testing.assert_allclose(got, want, rtol=1e-12)


# ---------------------------------------------------------------------------- scatter


def _scattered(mode: str, x: Tensor, u: Tensor, i: Tensor, axis: int) -> Tensor:
    return scatter_build(x, u, i, axes=(axis,), position=axis, mode=mode)


UFUNCS = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("axis", [0, 1])
def test_repeated_indices_in_order(device: str, dtype: str, axis: int) -> None:
    shape = (6, 21) if axis == 0 else (21, 6)
    x, i = g.placeholder(dtype, shape), g.placeholder("int64", ["k"])
    many = (13, 21) if axis == 0 else (21, 13)
    u = g.placeholder(dtype, [13, 21] if axis == 0 else [21, 13])
    index = np.array([5, 0, 5, -1, 2, 2, -6, 5, 0, 1, 2, 2, 5])
    base, updates = _random(*shape, dtype=dtype), _random(*many, dtype=dtype, seed=2)
    feeds = {x: base, u: updates, i: index}
    modes = ("set", *UFUNCS)
    got = _run([_scattered(mode, x, u, i, axis) for mode in modes], feeds, device)
    places = (index,) if axis == 0 else (slice(None), index)
    for mode, array in zip(modes, got, strict=True):
        want = base.copy()
        with np.errstate(all="ignore"):
            if mode == "set":
                for k in range(13):
                    want[(index[k],) if axis == 0 else (slice(None), index[k])] = (
                        updates[k] if axis == 0 else updates[:, k]
                    )
            else:
                UFUNCS[mode].at(want, places, updates)
        np.testing.assert_array_equal(array, want, mode)


@pytest.mark.parametrize("device", DEVICES)
def test_flags_are_set(device: str) -> None:
    x, i = g.placeholder("bool", [5]), g.placeholder("uint8", [3])
    u = g.placeholder("bool", [3])
    feeds = {
        x: np.zeros(5, bool),
        i: np.array([4, 1, 4], np.uint8),
        u: np.array([True, True, False]),
    }
    np.testing.assert_array_equal(
        _run(_scattered("set", x, u, i, 0), feeds, device), [False, True, False, False, False]
    )


@pytest.mark.parametrize("columns", [1, 3, 16, 64, 65, 128, 200])
def test_the_gradient_of_an_embedding(columns: int) -> None:
    table = g.placeholder("float32", ["rows", columns])
    i, u = g.placeholder("int32", ["n", "m"]), g.placeholder("float32", ["n", "m", columns])
    gradient = g.gradients(g.sum(g.take(table, i, axis=0) * u), [table])[0]
    index, weights = np.random.default_rng(0).integers(-40, 40, (32, 20)), _random(32, 20, columns)
    feeds = {table: np.ones((40, columns), np.float32), i: index.astype(np.int32), u: weights}
    want = np.zeros((40, columns), np.float32)
    np.add.at(want, index, weights)
    results = [_run(gradient, feeds, threads=threads) for threads in (1, 2, 16)]
    for got in results:
        np.testing.assert_array_equal(got, want)


def test_no_table_of_zeros_is_made_for_a_gradient() -> None:
    table, i = g.Variable(np.ones((40, 3), np.float32)), g.placeholder("int64", ["n"], name="at")
    u = g.placeholder("float32", ["n", 3], name="u")
    [kernel] = _kernels(g.gradients(g.sum(g.take(table, i, axis=0) * u), [table])[0])
    assert show_kernel(kernel).split("\n", 1)[1] == (
        "  read %at: i64[n]\n"
        "  read %u: f32[n,3]\n"
        "  for i0 < 40, i1 < 3, i2 < 3\n"
        "  in order i3 < n\n"
        "  t0 = %at[i3]\n"
        "  t1 = select(t0 < 0, t0 + 40, t0)\n"
        "  first %0[i0, i1]: f32[40,3] = f32(0.0)\n"
        "  %0[t1, i2]: f32[40,3] = %0[t1, i2] + %u[i3, i2]\n"
    )


@pytest.mark.parametrize("device", DEVICES)
def test_several_axes_and_no_axis(device: str) -> None:
    x, u = g.placeholder("float32", [4, 5, 3]), g.placeholder("float32", [6, 5])
    i, j = g.placeholder("int64", [6]), g.placeholder("int64", [6])
    one, k = g.placeholder("float32", [5, 3]), g.placeholder("int64", [])
    fetches = [
        scatter_build(x, u, i, j, axes=(0, 2), position=0, mode="add"),
        scatter_build(x, one, k, axes=(0,), position=0, mode="add"),
    ]
    rng = np.random.default_rng(0)
    feeds = {
        x: _random(4, 5, 3), u: _random(6, 5), i: rng.integers(-4, 4, 6), j: rng.integers(-3, 3, 6),
        one: _random(5, 3), k: np.array(-2),
    }  # fmt: skip
    for got, want in zip(
        _run(fetches, feeds, device), _run(fetches, feeds, "reference"), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rows", [0, 1, 5, 40])
def test_the_gradient_of_take_along_axis(axis: int, rows: int) -> None:
    x, i = g.placeholder("float32", ["n", "m"]), g.placeholder("int64", ["a", "b"])
    gradient = g.gradients(g.sum(g.square(g.take_along_axis(x, i, axis))), [x])[0]
    index = np.random.default_rng(0).integers(-5, 5, (rows, 7) if axis == 0 else (7, rows))
    feeds = {x: _random(5, 7) if axis == 0 else _random(7, 5), i: index}
    got, want = (_run(gradient, feeds, device) for device in ("cpu", "reference"))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(0, 4, 3), (5, 0, 3), (5, 4, 0)])
def test_nothing_to_do(shape: tuple[int, int, int]) -> None:
    rows, count, columns = shape
    x, u = g.placeholder("float32", ["n", "m"]), g.placeholder("float32", ["k", "m"])
    i = g.placeholder("int64", ["k"])
    base = _random(rows, columns)
    feeds = {x: base, u: _random(count, columns), i: np.zeros(count, np.int64)}
    y = g.scatter_add(x, i, u)
    if rows or not count:
        want = base.copy()
        np.add.at(want, feeds[i], feeds[u])
        np.testing.assert_array_equal(_run(y, feeds), want)
    else:
        with pytest.raises(ShapeError, match="index 0 is out of range for axis 0 of size"):
            _run(y, feeds)


@pytest.mark.parametrize("device", [*DEVICES, "reference"])
@pytest.mark.parametrize("mode", ["add", "set"])
@pytest.mark.parametrize("index", [6, -7, 2**40])
def test_an_index_out_of_range_names_the_line(device: str, mode: str, index: int) -> None:
    x, u = g.placeholder("float32", [2, 6]), g.placeholder("float32", [2, 3])
    i = g.placeholder("int64", [3])
    y = _scattered(mode, x, u, i, 1)
    feeds = {x: np.ones((2, 6)), u: np.ones((2, 3)), i: [0, -6, 5]}
    with g.Session(device=device) as session:
        kept = session.run(y, feeds)
        rule = r"scatter: index -?\d+ is out of range for axis 1 of size 6(.|\n)*test_ordered.py"
        with pytest.raises(ShapeError, match=rule) as caught:
            session.run(y, feeds | {i: [0, index, 5]})
        if device != "interp":
            assert f"index {index} " in str(caught.value)
        np.testing.assert_array_equal(session.run(y, feeds), kept)


@pytest.mark.parametrize("device", [*DEVICES, "reference"])
@pytest.mark.parametrize("index", [3, -4, [0, 7]])
def test_a_constant_index_out_of_range_of_an_open_size(device: str, index: Any) -> None:
    x = g.placeholder("float32", ["n"])
    for y in (g.take(x, index), g.scatter_add(x, index, 1.0)):
        rule = "index -?[0-9]+ is out of range for axis 0 of size"
        with g.Session(device=device) as session, pytest.raises(ShapeError, match=rule) as caught:
            session.run(y, {x: np.ones(3)})
        if device != "interp":
            assert f"index {np.min(index) or 7} " in str(caught.value)


def test_what_is_written_over_is_not_copied_and_others_keep_theirs() -> None:
    x, i = g.placeholder("float32", ["n", 4]), g.placeholder("int64", ["k"])
    base = g.exp(x)
    once = g.scatter_add(base, i, 1.0)
    twice = g.scatter_add(once * 2.0, i, 1.0)
    feeds = {x: _random(9, 4), i: np.array([3, 3, 8])}
    for fetches in ([twice], [twice, once], [twice, once, base], [twice, base]):
        got, want = (_run(fetches, feeds, device) for device in ("cpu", "reference"))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_order_matters_to_the_generators_memory() -> None:
    """Kernels that differ only in the direction, or in what comes first, are not one code."""
    x = g.placeholder("float32", [5, 5])
    fetches = [g.cumsum(x, 0), g.cumsum(x, 1), g.cumsum(x, 0, reverse=True), g.cumprod(x, 0)]
    array = _random(5, 5)
    want = [array.cumsum(0), array.cumsum(1), array[::-1].cumsum(0)[::-1], array.cumprod(0)]
    for got, expected in zip(_run(fetches, {x: array}), want, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_kernels_around_a_loop_in_order() -> None:
    x = g.placeholder("float32", ["n", 8])
    y = g.exp(g.cumsum(g.tanh(x), 0) * 0.1) + g.sum(g.cumsum(g.transpose(x), 1), 0)[:, None]
    feeds = {x: _random(30, 8)}
    got, want = (_run([y, g.gradients(g.sum(y), [x])[0]], feeds, d) for d in ("cpu", "reference"))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-4)


# ---------------------------------------------------------------------------- binary search


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("sizes", ["known", "open"])
def test_searches(device: str, dtype: str, sizes: str) -> None:
    for count in (0, 1, 2, 7, 8, 9, 100):
        listed = np.sort(_random(count, dtype=dtype))
        sought = np.concatenate([_random(37, dtype=dtype), listed[:3], listed[-3:]])
        if "float" in dtype:
            listed[-count // 4 :] = np.nan
            sought[::5] = [np.nan, np.inf, -np.inf, -0.0] * 2 + [0.0] * (len(sought[::5]) - 8)
        a = g.placeholder(dtype, [count if sizes == "known" else "n"])
        v = g.placeholder(dtype, [sought.size if sizes == "known" else "m"])
        got = _run([g.searchsorted(a, v, side) for side in SIDES], {a: listed, v: sought}, device)
        for side, found in zip(SIDES, got, strict=True):
            np.testing.assert_array_equal(found, np.searchsorted(listed, sought, side=side))


# ---------------------------------------------------------------------------- memory


def test_an_array_that_dies_is_updated_in_place() -> None:
    """Also where the code is that of a kernel met before."""
    x, i = g.placeholder("float32", [1000, 4]), g.placeholder("int64", ["k"])
    device = CpuDevice()
    for _ in range(2):
        y = g.scatter_add(g.scatter_add(g.exp(x), i, 1.0) * 2.0, i, 1.0)
        program = device.compile(optimise(Graph((y,), (), (x, i))))
        peak = program.memory(dict.fromkeys(program.recipe.symbols, 7))
        assert (peak.arena, peak.outputs) == (0, 16_000)
