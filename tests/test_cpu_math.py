"""The CPU device's scalar primitives against NumPy and mpmath: ulps and special values."""

from __future__ import annotations

import functools
import re
from typing import Any

import mpmath as mp
import numpy as np
import pytest

from graphc.dtypes import BY_NUMPY, DTYPES, float16, float32, int32
from graphc.ops.broadcast import cast_array
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.cpu.vector_math import EMITTERS, Instructions, emit
from graphc.runtime.math import coefficients
from graphc.scalar import PRIMITIVES
from tests.math_support import looped, run

Array = Any
TARGETS = {bits: host().narrowed(bits) for bits in (128, 256, 512)}
PRECISE = {"exp", "expm1", "log", "log1p", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
           "tanh", "erf", "sqrt"}  # fmt: skip
MPMATH = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
ULPS = 2.0
FLOATS = (np.float32, np.float64)
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 2.5, -7.0, 1e30, -1e30, 1e-30,
         2.0**24 + 1, 2.0**53, -(2.0**53 - 1), 0.99999, 1.00001, 88.73, -103.9, 709.79, -745.2,
         1e-45, -1e-45, 5e-324, 1e-310, 1.1754942e-38, 3.4028235e38, 1.7976931348623157e308,
         np.pi, np.pi / 2, 1e22, np.inf, -np.inf, np.nan]  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(params=sorted(TARGETS), ids=lambda bits: f"{bits}bits")
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


def edges(dtype: Any) -> Array:
    return np.asarray(EDGES).astype(dtype)


def patterns(dtype: Any, count: int, seed: int = 0) -> Array:
    """Finite numbers of all exponents, and some around the places where formulas change."""
    generator = np.random.default_rng(seed)
    whole = np.dtype(f"uint{8 * np.dtype(dtype).itemsize}")
    bits = generator.integers(0, np.iinfo(whole).max, count, whole, endpoint=True).view(dtype)
    usual = [generator.uniform(-size, size, count // 4) for size in (1, 5, 30, 800)]
    places = np.asarray([0.34658, 0.5, 0.62, 0.7071068, 1.0, 1.4142136, 4.0, 6.0, 9.25])
    close = np.repeat(places, 256) * (1 + np.tile(np.arange(-128, 128), 9) * np.finfo(dtype).eps)
    found = np.concatenate([bits, *usual, close, -close, np.pi / 4 * np.arange(512)]).astype(dtype)
    return found[np.isfinite(found)]


def error_in_ulps(got: Array, high: Array, low: Array | float = 0.0) -> float:
    """The largest, where the right result, high + low, is finite; all else must be the same."""
    right = high.astype(got.dtype)
    finite = np.isfinite(right)
    np.testing.assert_array_equal(got[~finite], right[~finite])
    np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(right[finite]))
    unit = np.spacing(np.abs(right)).astype(np.float64)
    # A result just below a power of two has the smaller unit of those below.
    below = np.abs(high) < np.abs(right)
    unit = np.where(below & (np.abs(np.frexp(right)[0]) == 0.5), unit / 2, unit)
    unit = np.maximum(unit, float(np.finfo(got.dtype).smallest_subnormal))
    error = np.abs((got.astype(np.float64) - high) - low) / unit
    return float(np.max(error, where=finite, initial=0.0))


@functools.cache
def exact(name: str, count: int) -> tuple[Array, Array, Array]:
    """Arguments, and the function's values there as sums of two float64."""
    x = patterns(np.float64, count)
    x = np.random.default_rng(1).choice(x, count, replace=False)
    if name in ("arcsin", "arccos"):
        x = x[np.abs(x) <= 1]
    if name in ("log", "log1p", "sqrt"):
        x = x[x > (-1 if name == "log1p" else 0)]
    if name in ("exp", "expm1", "erf"):
        x = np.clip(x, -800, 800)
    function, low, high = getattr(mp, MPMATH.get(name, name)), [], []
    with mp.workprec(160):
        for value in x.tolist():
            result = function(mp.mpf(value))
            high.append(float(result))
            low.append(float(result - high[-1]) if np.isfinite(high[-1]) else 0.0)
    return x, np.asarray(high), np.asarray(low)


# ---------------------------------------------------------------------------- the table


def test_every_primitive_has_an_emitter() -> None:
    assert set(EMITTERS) == set(PRIMITIVES)


def test_float16_and_integers_are_refused_by_functions_that_need_floats() -> None:
    for dtype in (float16, int32):
        with pytest.raises(TypeError, match="float32"):
            looped(lambda b, x, d=dtype: emit(b, "exp", [x], d), (dtype,), dtype, 4)


@pytest.mark.parametrize("name", sorted(PRECISE))
@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_call_nothing_but_instructions(name: str, dtype: Any) -> None:
    kind = BY_NUMPY[np.dtype(dtype)]
    text = str(looped(lambda b, x: emit(b, name, [x], kind), (kind,), kind, 8))
    called = set(re.findall(r'call .*?@"?([\w.]+)', text))
    assert all(re.match(r"llvm\.|graphc\.quarter_turns", function) for function in called), called
    assert "fast" not in text and "nnan" not in text and "reassoc" not in text


def test_coefficients_are_rounded_as_their_format_says() -> None:
    for name, row in vars(coefficients).items():
        if name.endswith("_32"):
            assert all(float(np.float32(c)) == c for c in row), name


# ---------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize("name", sorted(PRECISE))
def test_float32_is_within_two_ulp(name: str, target: Target) -> None:
    x = np.concatenate([patterns(np.float32, 100_000), edges(np.float32)])
    want = np.asarray(PRIMITIVES[name](x.astype(np.float64)))
    assert error_in_ulps(run(name, x, target=target), want) <= ULPS


@pytest.mark.parametrize("name", sorted(PRECISE))
def test_float64_is_within_two_ulp(name: str, target: Target) -> None:
    x, high, low = exact(name, 2500)
    assert error_in_ulps(run(name, x, target=target), high, low) <= ULPS


@pytest.mark.parametrize("name", sorted(PRECISE))
def test_float64_is_near_numpy_everywhere(name: str, target: Target) -> None:
    x = np.concatenate([patterns(np.float64, 50_000), edges(np.float64)])
    if name == "erf":
        x = x[::20]
    assert error_in_ulps(run(name, x, target=target), np.asarray(PRIMITIVES[name](x))) <= 4


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_angles_are_exact_angles(name: str, target: Target) -> None:
    worst = 6381956970095103 * 2.0**797  # Muller: the double nearest to a multiple of pi/2
    x = np.concatenate([[worst, -worst, 1e22, np.finfo(float).max, 2.0**20, 2.0**20 + 0.5],
                        2.0 ** np.arange(15, 1024), 3 * 2.0 ** np.arange(15, 1020)])  # fmt: skip
    with mp.workprec(1300):
        right = [getattr(mp, name)(mp.mpf(v)) for v in x.tolist()]
        high = np.asarray([float(r) for r in right])
        low = np.asarray([float(r - h) for r, h in zip(right, high.tolist(), strict=True)])
    assert error_in_ulps(run(name, x, target=target), high, low) <= ULPS


@pytest.mark.parametrize("name", ["power", "arctan2"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_two_operands(name: str, dtype: Any, target: Target) -> None:
    generator = np.random.default_rng(2)
    special = [a.ravel() for a in np.meshgrid(edges(dtype), edges(dtype))]
    x = [special[0], patterns(dtype, 20_000, 3)[:30_000],
         np.exp(generator.uniform(-60, 60, 20_000)),
         generator.integers(-9, 10, 9_000), generator.uniform(0.9, 1.1, 20_000)]  # fmt: skip
    first = np.concatenate([part.astype(dtype) for part in x])
    y = [special[1], patterns(dtype, 20_000, 4)[-30_000:], generator.uniform(-12, 12, 20_000),
         generator.integers(-99, 99, 9_000), generator.uniform(-900, 900, 20_000)]  # fmt: skip
    second = np.concatenate([part.astype(dtype) for part in y])
    wide = (a.astype(np.float64) for a in (first, second))
    limit = ULPS if dtype is np.float32 else 3  # NumPy's own float64 is off by one
    got = run(name, first, second, target=target)
    assert error_in_ulps(got, np.asarray(PRIMITIVES[name](*wide))) <= limit


def test_float64_powers_are_within_two_ulp(target: Target) -> None:
    generator = np.random.default_rng(5)
    x = np.exp(generator.uniform(-30, 30, 3000))
    y = generator.uniform(-700, 700, 3000) / np.log(x)
    with mp.workprec(160):
        right = [mp.mpf(a) ** mp.mpf(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        high = np.asarray([float(r) for r in right])
        low = np.asarray([float(r - h) for r, h in zip(right, high.tolist(), strict=True)])
    assert error_in_ulps(run("power", x, y, target=target), high, low) <= ULPS


@pytest.mark.parametrize("name", ["power", "remainder", "floor_divide"])
def test_a_fused_product_changes_no_result_that_must_be_exact(name: str) -> None:
    x, y = patterns(np.float64, 5000), patterns(np.float64, 5000, 1)
    x, y = x[-9000:], y[-9000:][::-1].copy()
    plain, fused = (run(name, x, y, instructions=Instructions(fma=fma)) for fma in (False, True))
    if name == "power":
        assert error_in_ulps(plain, fused) <= 1
    else:
        np.testing.assert_array_equal(plain, fused)


@pytest.mark.parametrize("lanes", [None, 1, 2, 3, 4, 8, 32, 64])
@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "sin", "tanh", "erf", "power",
                                  "remainder"])  # fmt: skip
@pytest.mark.parametrize("dtype", FLOATS)
def test_all_widths_give_the_same_bits(name: str, lanes: int | None, dtype: Any) -> None:
    x = np.resize(np.concatenate([edges(dtype), patterns(dtype, 3000)]), 64 * 3 * 20)
    operands = (x, x[::-1].copy())[: 2 if name in ("power", "remainder") else 1]
    full = host().lanes(8 * x.itemsize)  # a register, which has instructions of its own
    bits = f"uint{8 * x.itemsize}"
    np.testing.assert_array_equal(
        run(name, *operands, lanes=lanes).view(bits), run(name, *operands, lanes=full).view(bits)
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_tanh_reaches_one_and_never_leaves_it(dtype: Any, target: Target) -> None:
    x = np.linspace(0.0, 25.0, 200_000).astype(dtype)
    got = run("tanh", np.concatenate([x, -x, [np.inf, -np.inf]]).astype(dtype), target=target)
    assert (np.abs(got) <= 1).all() and (got[: x.size][x >= 20] == 1).all()
    assert (got[-2:] == [1, -1]).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_log1p_of_all_sizes(dtype: Any, target: Target) -> None:
    """2**-k, by which it divides, is 0 for the largest, and not for those next to -1."""
    limit = np.finfo(dtype)
    powers = np.ldexp(np.asarray([1.0, 1.3, 1.499, 1.5, 1.999], dtype)[:, None],
                      np.arange(limit.minexp - 3, limit.maxexp)).ravel()  # fmt: skip
    near = -1 + limit.epsneg * np.arange(1, 4000).astype(dtype)
    x = np.concatenate([powers, -powers[powers < 1], near, [limit.max, -1, -1.5]]).astype(dtype)
    want = np.log1p(x.astype(np.longdouble))
    low = (want - want.astype(np.float64)).astype(np.float64)
    got = run("log1p", x, target=target)
    assert error_in_ulps(got, want.astype(np.float64), np.nan_to_num(low)) <= ULPS


# ---------------------------------------------------------------------------- exact primitives

ROUNDING = ("floor", "ceil", "trunc", "rint", "negative", "absolute")
PAIRS = ("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "copysign",
         "minimum", "maximum", "less", "less_equal", "equal")  # fmt: skip


@pytest.mark.parametrize("name", ROUNDING)
@pytest.mark.parametrize("dtype", FLOATS)
def test_exact_functions_of_floats(name: str, dtype: Any, target: Target) -> None:
    x = np.concatenate([edges(dtype), patterns(dtype, 5000), np.arange(-9, 9, 0.5).astype(dtype)])
    want, got = PRIMITIVES[name](x), run(name, x, target=target)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_exact_functions_of_two_floats(name: str, dtype: Any, target: Target) -> None:
    quarters = np.random.default_rng(6).integers(-60, 60, (2, 3000)) * 0.25
    grid = np.meshgrid(edges(dtype), edges(dtype))
    many = patterns(dtype, 9000), patterns(dtype, 9000, 1)[::-1]
    size = min(map(len, many))
    x, y = (
        np.concatenate([g.ravel(), m[:size], q.astype(dtype)]).astype(dtype)
        for g, m, q in zip(grid, many, quarters, strict=True)
    )
    want, got = PRIMITIVES[name](x, y), run(name, x, y, target=target)
    np.testing.assert_array_equal(got, want)
    signed = ~np.isnan(want)
    if name in ("minimum", "maximum"):  # of two zeros NumPy takes either
        signed &= (x != 0) | (y != 0)
    if name not in ("less", "less_equal", "equal"):
        np.testing.assert_array_equal(np.signbit(got)[signed], np.signbit(want)[signed])


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_are_ordered_by_sign(dtype: Any, target: Target) -> None:
    x, y = np.asarray([0.0, -0.0], dtype), np.asarray([-0.0, 0.0], dtype)
    assert np.signbit(run("minimum", x, y, target=target)).all()
    assert not np.signbit(run("maximum", x, y, target=target)).any()


INTEGERS = [d for d in DTYPES if d.kind in "iu"]
WHOLE = ("add", "subtract", "multiply", "floor_divide", "remainder", "power", "minimum", "maximum",
         "less", "less_equal", "equal", "bit_and", "bit_or", "bit_xor", "shift_left",
         "shift_right")  # fmt: skip


def integers(dtype: Any, second: bool) -> Array:
    """All pairs of bytes; of wider types, edges against edges and small against all sizes."""
    limits = np.iinfo(dtype.numpy)
    if dtype.bits == 8:
        whole = np.arange(limits.min, limits.max + 1).astype(dtype.numpy)
        return (np.tile if second else np.repeat)(whole, 256)
    ends = [limits.min, limits.min + 1, limits.max, limits.max - 1]
    few = np.asarray([v for v in (*ends, *range(-9, 70)) if v >= limits.min], dtype.numpy)
    generator = np.random.default_rng(7 + second)
    wild = generator.integers(limits.min, limits.max, 4096, dtype.numpy, endpoint=True)
    wild >>= generator.integers(0, dtype.bits, 4096).astype(dtype.numpy)
    return np.concatenate([(np.tile if second else np.repeat)(few, few.size), wild])


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("lanes", [None, 16])
def test_integers(name: str, dtype: Any, lanes: int | None) -> None:
    x, y = integers(dtype, False), integers(dtype, True)
    want = PRIMITIVES[name](x, y)
    np.testing.assert_array_equal(run(name, x, y, lanes=lanes), want)


@pytest.mark.parametrize("name", ["negative", "absolute", "floor", "rint", "bit_not"])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_alone(name: str, dtype: Any) -> None:
    x = integers(dtype, False)
    np.testing.assert_array_equal(run(name, x), PRIMITIVES[name](x))


@pytest.mark.parametrize("name", ["add", "multiply", "minimum", "maximum", "less", "less_equal",
                                  "equal", "bit_and", "bit_or", "bit_xor"])  # fmt: skip
def test_booleans(name: str) -> None:
    x, y = np.asarray([False, False, True, True]), np.asarray([False, True, False, True])
    np.testing.assert_array_equal(run(name, x, y), PRIMITIVES[name](x, y))
    np.testing.assert_array_equal(run("bit_not", x), ~x)
    np.testing.assert_array_equal(run("absolute", x), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_select(dtype: Any) -> None:
    generator = np.random.default_rng(8)
    condition = generator.integers(0, 2, 500).astype(bool)
    x, y = generator.integers(0, 2, (2, 500)).astype(dtype.numpy)
    np.testing.assert_array_equal(run("select", condition, x, y), np.where(condition, x, y))


# ---------------------------------------------------------------------------- casts


def samples(dtype: Any) -> Array:
    if dtype.kind == "b":
        return np.asarray([False, True])
    if dtype.kind in "iu":
        return np.unique(np.concatenate([integers(dtype, s)[:9000] for s in (False, True)]))
    if dtype.bits == 16:
        return np.arange(65536).astype(np.uint16).view(np.float16)
    generator = np.random.default_rng(9)
    powers = np.ldexp(1.0, np.arange(-30, 66))
    near = np.concatenate([powers, powers - 0.5, powers * (1 - 2.0**-24), powers * (1 + 2.0**-11)])
    halves = np.ldexp(generator.integers(-4096, 4096, 9000) + 0.5, generator.integers(-36, 6, 9000))
    wild = [
        edges(dtype.numpy),
        patterns(dtype.numpy, 9000),
        near,
        -near,
        halves,
        generator.normal(0, 99, 9000),
    ]
    return np.concatenate([part.astype(dtype.numpy) for part in wild])


@pytest.mark.parametrize("source", DTYPES, ids=str)
@pytest.mark.parametrize("into", DTYPES, ids=str)
def test_casts(source: Any, into: Any, target: Target) -> None:
    x = samples(source)
    want = cast_array(x, into)
    for lanes in (None, 8):
        got = run("cast", x, result=into.numpy, lanes=lanes, target=target)
        np.testing.assert_array_equal(got, want)
        if into.is_float:
            right = ~np.isnan(want)
            np.testing.assert_array_equal(np.signbit(got)[right], np.signbit(want)[right])


def test_operands_stay_scalars_where_they_are() -> None:
    module = looped(lambda b, x: emit(b, "exp", [x], float32), (float32,), float32, None)
    assert " x float>" not in str(module)
