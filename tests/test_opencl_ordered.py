"""Scatter and running sums on OpenCL devices of both types: the bits of the CPU's device.

Code for a GPU is run on whatever is there, which reports to be one. Where no driver is, all of it
is skipped; CI installs PoCL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.collapse import collapse
from graphc.graph import Graph
from graphc.lower import lower
from graphc.ops.gather import scatter_build
from graphc.passes import optimise
from graphc.plan import Call
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.device import OpenclDevice, open_opencl
from graphc.runtime.opencl.ordered import compile_ordered
from graphc.runtime.opencl.platforms import look
from graphc.runtime.opencl.routine import Routine
from tests.support import generator

pytestmark = pytest.mark.skipif(not look().devices, reason="no OpenCL driver is installed")
COUNT = 999


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def device(request: pytest.FixtureRequest) -> OpenclDevice:
    found = open_opencl("opencl")
    reported = found.capabilities.without(type=request.param)
    return OpenclDevice(found.memory.context, found.context_device, reported, "opencl:other")


def both(device: OpenclDevice, fetches: Any, feeds: Any) -> tuple[Any, Any]:
    """Results of the device, and of the CPU's."""
    with g.Session(device=device) as one, g.Session("cpu") as other:
        return one.run(fetches, feeds), other.run(fetches, feeds)


def same(device: OpenclDevice, fetches: Any, feeds: Any) -> None:
    for got, want in zip(*both(device, fetches, feeds), strict=True):
        np.testing.assert_array_equal(got, want)


def scattered(mode: str, x: Any, u: Any, *indices: Any, axes: tuple[int, ...]) -> Any:
    return scatter_build(x, u, *indices, axes=axes, position=axes[0], mode=mode)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint32", "int64", "int8"])
@pytest.mark.parametrize("columns", [None, 1, 5, 16, 130])
def test_repeated_updates_of_rows(device: OpenclDevice, dtype: str, columns: int | None) -> None:
    rest = () if columns is None else (columns,)
    x, i = g.placeholder(dtype, (37, *rest), "x"), g.placeholder("int64", [None], "i")
    u = g.placeholder(dtype, [None, *rest], "u")
    modes = ("add", "set", "max", "multiply")
    fetches = [scattered(mode, x, u, i, axes=(0,)) for mode in modes]
    random = generator(columns or 0)
    for count in (COUNT, 1, 0):
        updates = random.normal(0, 9, (count, *rest)).astype(dtype)
        feeds = {
            x: random.normal(0, 9, (37, *rest)).astype(dtype),
            u: updates,
            i: random.integers(-37, 37, count),
        }
        with np.errstate(all="ignore"):
            same(device, fetches, feeds)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_several_indices_and_open_sizes(device: OpenclDevice, dtype: str) -> None:
    x = g.placeholder(dtype, [None, None, None], "x")
    i, j = g.placeholder("int64", [None], "i"), g.placeholder("int32", [None], "j")
    u, v = g.placeholder(dtype, [None, None], "u"), g.placeholder(dtype, [None, None, None], "v")
    fetches = [
        scattered("add", x, u, i, j, axes=(0, 1)),
        scattered("add", x, v, j, axes=(1,)),
        scattered("min", x, u, i, j, axes=(0, 1)),
    ]
    random = generator(3)
    feeds = {
        x: random.normal(0, 99, (4, 7, 33)).astype(dtype),
        i: random.integers(-4, 4, COUNT),
        j: random.integers(-7, 7, COUNT).astype(np.int32),
        u: random.normal(0, 99, (COUNT, 33)).astype(dtype),
        v: random.normal(0, 99, (4, COUNT, 33)).astype(dtype),
    }
    same(device, fetches, feeds)


def test_the_gradient_of_an_embedding_and_running_sums(device: OpenclDevice) -> None:
    table, i = g.placeholder("float32", [100, 64], "table"), g.placeholder("int64", [None], "i")
    u = g.placeholder("float32", [None, 64], "u")
    [gradient] = g.gradients([g.sum(g.gather(table, i) * u)], [table])
    random = generator(5)
    feeds = {
        table: np.zeros((100, 64), np.float32),
        i: random.integers(0, 100, COUNT),
        u: random.normal(size=(COUNT, 64)).astype(np.float32),
    }
    same(device, [gradient, g.cumsum(u, 0), g.cumsum(u, 1), g.cumprod(u, 0, reverse=True)], feeds)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("columns", [None, 64])
def test_an_index_out_of_range_is_an_error(
    device: OpenclDevice, dtype: str, columns: int | None
) -> None:
    rest = () if columns is None else (columns,)
    x, i = g.placeholder(dtype, (10, *rest), "x"), g.placeholder("int64", [None], "i")
    u = g.placeholder(dtype, [None, *rest], "u")
    y = g.scatter_add(x, i, u)
    feeds = {x: np.zeros((10, *rest), dtype), u: np.ones((COUNT, *rest), dtype)}
    with g.Session(device=device) as session:
        for wrong in (10, -11, 2**40):
            at = np.arange(COUNT) % 10
            at[700] = wrong
            with pytest.raises(g.ShapeError, match=f"index {wrong} is out of range for axis 0"):
                session.run(y, {**feeds, i: at})
        got = session.run(y, {**feeds, i: np.arange(COUNT) % 10})
    np.testing.assert_array_equal(got.sum(), COUNT * (columns or 1))


# ---------------------------------------------------------------------------- which way is taken


def routine(y: Any, capabilities: Capabilities) -> Routine:
    """The routine of the one kernel in order."""
    steps = lower(optimise(Graph((y,)))).steps
    [kernel] = [s.kernel for s in steps if isinstance(s, Call) and s.kernel.ordered]
    return compile_ordered(collapse(kernel), capabilities)


def test_each_device_has_its_way(device: OpenclDevice) -> None:
    i, n = g.placeholder("int64", ["n"], "i"), 50
    wide = device.capabilities.without(extensions=frozenset(("cl_khr_int64_base_atomics",)))
    less = device.capabilities.without(extensions=frozenset(), vector_width=8)
    rows = {
        dtype: g.scatter_add(
            g.placeholder(dtype, [n, 64]), i, g.placeholder(dtype, ["n", 64])
        ) for dtype in ("float32", "int32", "int64")
    }  # fmt: skip
    items = [routine(y, less).items[0] for y in rows.values()]
    if device.capabilities.type == "cpu":
        assert all("l < count" in routine(y, less).code for y in rows.values())
        assert all(isinstance(count, int) and count <= 64 // 8 for count in items)
        line = g.scatter_add(g.placeholder("int32", [n]), i, g.placeholder("int32", ["n"]))
        assert routine(line, less).items == (1,)
        return
    assert "atomic_add" in routine(rows["int32"], less).code
    assert "atom_add" in routine(rows["int64"], wide).code
    for dtype, reported in (("float32", wide), ("int64", less)):
        found = routine(rows[dtype], reported)
        assert "atom" not in found.code.replace("graphc_fault", "")
        total = found.items[0] if len(found.items) == 1 else found.items[0] * found.items[1]
        assert total == 64 * 256  # so many share the places of each column
