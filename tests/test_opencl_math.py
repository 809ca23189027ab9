"""Functions in OpenCL C: the CPU device's bits, two ulp, special values, and strips around them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.dtypes import BY_NUMPY
from graphc.runtime.cpu.target import host
from graphc.runtime.math.functions import FUNCTIONS, QUOTIENTS
from graphc.runtime.opencl.building import options, preamble
from graphc.runtime.opencl.drivers import hush
from graphc.runtime.opencl.functions import PAIRS, Functions
from graphc.scalar import PRIMITIVES
from tests.math_support import run
from tests.opencl_support import cl, context, device, here, queue
from tests.test_cpu_math import FLOATS, PRECISE, ULPS, edges, error_in_ulps, patterns

Array = Any
LANES = 8
HUGE = [2.0**17 + 1, 1e22, 3.4e38, -1e9, 2.0**100, 6381956970095103.0, 2.0**27 * np.pi]


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


@functools.cache
def built(dtype: Any, lanes: int) -> Any:
    """A program of all functions: `name(x, y, to)`, for as many lanes an item."""
    known, kind = Functions(True, here().fused, here().fp64), BY_NUMPY[np.dtype(dtype)]
    element, helpers, kernels = "double" if kind.bits == 64 else "float", dict[str, None](), []
    for name in FUNCTIONS:
        operands = [f"vload{lanes}(i, {x})" if lanes > 1 else f"{x}[i]" for x in "xy"]
        call = known.call(name, kind, operands[: 1 + (name in PAIRS)], helpers, lanes)
        store = f"vstore{lanes}({call}, i, to)" if lanes > 1 else f"to[i] = {call}"
        arguments = ", ".join(f"global {element}* {x}" for x in ("x", "y", "to"))
        kernels.append(
            f"kernel void run_{name}({arguments}) {{ const long i = get_global_id(0); {store}; }}"
        )
    text = preamble(here()) + "".join(helpers) + "\n".join(kernels)
    hush()
    return cl.Program(context(), text).build(list(options(here())))


def on_device(name: str, lanes: int, *operands: Array) -> Array:
    """What the device's function gives."""
    x = operands[0]
    padded = [np.resize(a, -(-a.size // LANES) * LANES) for a in (x, operands[-1])]
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    to = np.empty_like(padded[0])
    arrays = [cl.Buffer(context(), flags, hostbuf=a) for a in (*padded, to)]
    kernel = cl.Kernel(built(x.dtype.type, lanes), f"run_{name}")
    kernel(queue(), (to.size // lanes,), None, *arrays)
    cl.enqueue_copy(queue(), to, arrays[-1])
    return to[: x.size]


def operands_of(name: str, dtype: Any) -> tuple[Array, ...]:
    """Numbers of all sizes, special ones, and huge ones among usual ones."""
    x = np.concatenate([patterns(dtype, 4000), edges(dtype), np.asarray(HUGE).astype(dtype)])
    if name not in PAIRS:
        return (x,)
    grid = np.meshgrid(edges(dtype), edges(dtype))
    pairs = zip(grid, (x, x[::-1]), strict=True)
    first, second = (np.concatenate([special.ravel(), other]) for special, other in pairs)
    return first, second


def assert_bits(got: Array, want: Array) -> None:
    np.testing.assert_array_equal(got, want)  # every NaN is one
    right = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got)[right], np.signbit(want)[right])


def skip_without(dtype: Any) -> None:
    device()
    if dtype is np.float64 and not here().fp64:
        pytest.skip(f"{here().name} has no float64")


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("dtype", FLOATS)
def test_vectors_and_elements_have_the_bits_of_the_cpu(name: str, dtype: Any) -> None:
    skip_without(dtype)
    operands = operands_of(name, dtype)
    target = host() if here().fused else host().narrowed(128)  # nor has such a processor fma
    want = run(name, *operands, target=target)
    for lanes in (LANES, 1):
        assert_bits(on_device(name, lanes, *operands), want)


@pytest.mark.parametrize("name", sorted(PRECISE & set(FUNCTIONS)))
def test_float32_is_within_two_ulp(name: str) -> None:
    skip_without(np.float32)
    (x,) = operands_of(name, np.float32)
    want = np.asarray(PRIMITIVES[name](x.astype(np.float64)))
    assert error_in_ulps(on_device(name, LANES, x), want) <= ULPS


@pytest.mark.parametrize("name", sorted(QUOTIENTS))
def test_remainders_are_exact(name: str) -> None:
    skip_without(np.float64)
    x, y = operands_of(name, np.float64)
    small = np.float64(5e-324) * np.arange(1, 200)  # denormal divisors of all sizes
    x, y = np.concatenate([x, 2.0 ** np.arange(-1000, 1000, 10.0)]), np.concatenate([y, small, [7]])
    assert_bits(on_device(name, LANES, x, y), np.asarray(PRIMITIVES[name](x, y)))


# ---------------------------------------------------------------------------- strips


def both(formula: Any, *arrays: Array) -> tuple[Array, Array]:
    """A formula on OpenCL and on the CPU; the first size is open."""
    skip_without(np.float64)
    found = []
    for name in ("opencl", "cpu"):
        with g.Session(name) as session:
            given = [g.placeholder(a.dtype, ["n", *a.shape[1:]]) for a in arrays]
            found.append(session.run(formula(*given), dict(zip(given, arrays, strict=True))))
    return found[0], found[1]


def _mixed(x: Any, k: Any) -> Any:
    """Integers and booleans between functions: lanes and vectors take turns."""
    there = g.exp(-(x * x)) > 0.5
    turned = g.where(there & (k > 3), g.sin(x * k.astype("float32")), g.tanh(x))
    return g.log1p(g.abs(turned)) + (turned * 8).astype("int32").astype("float32") * g.erf(x)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000])
def test_strips_end_anywhere(size: int) -> None:
    x = np.linspace(-3, 3, size).astype(np.float32)
    got, want = both(_mixed, x, np.arange(size, dtype=np.int32) % 11)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_strips_of_rows(dtype: str) -> None:
    """Rows that one strip does not hold, a column beside each, reads that turn and reverse."""
    generator = np.random.default_rng(0)
    x, c = generator.normal(size=(7, 67)).astype(dtype), generator.normal(size=(7, 1)).astype(dtype)

    def formula(x: Any, c: Any) -> Any:
        return (
            g.maximum(g.exp(x * c), g.floor(c)) + g.tanh(x[:, ::-1]) - g.minimum(g.sqrt(c * c), x)
        )

    got, want = both(formula, x, c)
    tolerance = 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_float16_is_rounded_after_each_operation() -> None:
    x = np.arange(65536, dtype=np.uint16).view(np.float16)
    assert_bits(*both(lambda x: g.exp(x) * g.cast(3, "float16") + g.tanh(x), x))


def test_an_angle_that_is_huge_does_not_change_its_neighbours() -> None:
    x = np.resize(np.asarray([0.5, 1e30, -2.0, np.inf, 1e6], np.float32), 101)
    assert_bits(*both(lambda x: g.sin(x) + g.cos(x), x))


def test_results_that_take_the_place_of_operands() -> None:
    x = np.linspace(-2, 2, 1003).astype(np.float32)
    with g.Session("opencl") as session:
        held = g.Variable(x)
        session.run(g.assign(held, g.exp(held) - g.tanh(held)))
        got = session.run(held)
    np.testing.assert_allclose(got, np.exp(x) - np.tanh(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_else_has_vectors(dtype: Any) -> None:
    """Exact operations beside a function, at all numbers: rounding, extrema, choices, casts."""

    def formula(x: Any, y: Any) -> Any:
        other = "float32" if x.dtype is g.float64 else "float64"
        whole = [g.rint(x), g.floor(x), g.ceil(x), g.trunc(y), g.sqrt(g.abs(y)), -x]
        chosen = [g.maximum(x, y), g.minimum(x, y), g.where((x < y) ^ ~(x <= 1), x, y)]
        cast = [
            g.cast(g.cast(x, other), x.dtype),
            g.cast(x == y, x.dtype),
            g.cast(x, bool) & (y < 0),
        ]
        return [
            g.exp(x) * 0 + g.where(g.isnan(g.exp(x) * 0), 0, v) for v in (*whole, *chosen, *cast)
        ]

    x = np.concatenate([edges(dtype), patterns(dtype, 300), np.arange(-9, 9, 0.5).astype(dtype)])
    for got, want in zip(*both(formula, x, x[::-1].copy()), strict=True):
        assert_bits(got, want)


# ---------------------------------------------------------------------------- which devices


def test_other_devices_than_cpus_keep_the_functions_of_their_drivers() -> None:
    device()
    cpu = here().without(type="cpu", fp64=True)
    assert all(
        Functions.of(cpu).has(name, kind) for name in FUNCTIONS for kind in (g.float32, g.float64)
    )
    assert not any(Functions.of(cpu.without(type="gpu")).has(name, g.float32) for name in FUNCTIONS)
    assert not Functions.of(cpu).has("power", g.int32)


def test_without_float64_some_functions_are_left_to_the_driver() -> None:
    device()
    known = Functions.of(here().without(type="cpu", fp64=False))
    left = {name for name in FUNCTIONS if not known.has(name, g.float32)}
    assert left == {"sin", "cos", "tan", "power", "remainder", "floor_divide"}
