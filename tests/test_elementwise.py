"""Pointwise ops against NumPy, mpmath and differences, where the registry's tables do not go.

The tables draw inputs from domains where functions are smooth. Here are the edges: infinities, NaN,
signed zeros, denormals, extreme integers, every pair of dtypes, Python numbers, and gradients at
points where a derivative is infinite but does not matter.
"""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.dtypes import DTYPES, DType
from graphc.errors import DTypeError, GradientError, ShapeError
from graphc.graph import Graph, Op, Tensor
from graphc.ops import activation, arith, compare, elementary, logic, powers, rounding, select
from graphc.ops import trigonometric as trig
from graphc.ops.gradient import gradients
from graphc.ops.source import as_tensor, placeholder
from graphc.passes import optimise
from graphc.scalar import evaluate, operand
from tests.support import run

Array = np.ndarray[Any, Any]
MODULES = (activation, arith, compare, elementary, logic, powers, rounding, select, trig)


def value(tensor: Tensor) -> Array:
    [result] = run([tensor])
    return result


def quietly(function: Callable[..., Any], *args: Any) -> Any:
    with np.errstate(all="ignore"):
        return function(*args)


def _twins() -> dict[str, tuple[Callable[..., Tensor], Callable[..., Any]]]:
    """Every builder of these modules whose name NumPy has too (but for those that differ)."""
    different = {
        "reciprocal",
        "power",
        "pow",
        "float_power",
        "deg2rad",
        "rad2deg",
        "degrees",
        "radians",
    }
    found = {}
    for module in MODULES:
        for name, function in vars(module).items():
            twin = getattr(np, name, None)
            if isinstance(twin, np.ufunc) and callable(function) and name not in different:
                found[name] = (function, twin)
    return found


TWINS = _twins()
UNARY = sorted(name for name, (_, twin) in TWINS.items() if twin.nin == 1 and twin.nout == 1)
BINARY = sorted(name for name, (_, twin) in TWINS.items() if twin.nin == 2 and twin.nout == 1)
ROUNDED = {"exp2": 2, "sigmoid": 2}  # ulps that two implementations may be apart


def test_twins_are_found() -> None:
    assert len(UNARY) >= 38 and len(BINARY) >= 26
    assert {"exp", "erf", "atan2"} - set(TWINS) == {"erf"}


# ---------------------------------------------------------------------------- special values


def specials(dtype: Any) -> Array:
    if np.dtype(dtype).kind == "b":
        return np.array([False, True])
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        listed = [0, 1, 2, 3, 7, 31, 64, limits.max, limits.max - 1, limits.min]
        if limits.min < 0:
            listed += [-1, -2, -3, limits.min + 1]
        return np.array([n for n in listed if n <= limits.max], dtype)
    limits = np.finfo(dtype)
    listed = [0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 10.25, 80.0, 1000.0, limits.max, limits.tiny]
    listed += [limits.smallest_subnormal, np.inf, limits.eps]
    both = np.array([*listed, *(-v for v in listed), np.nan], np.float64)
    return quietly(both.astype, dtype)


def same(got: Array, want: Array, ulps: int, what: str) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape, (what, got.dtype, want.dtype)
    if got.dtype.kind != "f" or ulps == 0:
        np.testing.assert_array_equal(got, want, err_msg=what)
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[want == 0]), what)
        return
    np.testing.assert_array_max_ulp(got, want, ulps, got.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_unary_special_values(name: str, dtype: DType) -> None:
    function, twin = TWINS[name]
    x = specials(dtype.numpy)
    try:
        want = quietly(twin, x)
    except TypeError:
        with pytest.raises(DTypeError):
            function(x)
        return
    same(value(function(x)), want, 0, name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_binary_special_values(name: str, dtype: DType) -> None:
    function, twin = TWINS[name]
    x = specials(dtype.numpy)
    a, b = np.repeat(x, x.size), np.tile(x, x.size)
    try:
        want = quietly(twin, a, b)
    except TypeError:
        with pytest.raises(DTypeError):
            function(a, b)
        return
    same(value(function(a, b)), want, 0, name)


@pytest.mark.parametrize("name", BINARY)
def test_binary_dtypes_are_numpys(name: str) -> None:
    function, twin = TWINS[name]
    for one, other in itertools.product(DTYPES, DTYPES):
        a, b = np.ones(1, one.numpy), np.ones(1, other.numpy)
        try:
            want = quietly(twin, a, b)
        except TypeError:
            with pytest.raises(DTypeError, match=r"takes .* operands"):
                function(a, b)
            continue
        tensor = function(a, b)
        assert tensor.dtype == want.dtype, (name, one, other)
        np.testing.assert_array_equal(value(tensor), want, err_msg=f"{name} {one} {other}")


def test_no_warnings_from_oracles() -> None:
    x = specials(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for op in formulas():
            if "f" in op.domain.kinds:
                op.oracle(*[x] * len(op.params))
        n = specials(np.int32)
        for function in (arith.floor_divide, arith.remainder, arith.fmod, logic.left_shift):
            function.op.oracle(n, np.zeros_like(n))  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------- formulas


def formulas() -> list[Op]:
    found = {}
    for module in MODULES:
        for thing in vars(module).values():
            op = thing if isinstance(thing, Op) else getattr(thing, "op", None)
            if isinstance(op, Op) and op.name != "where":
                found[op.name] = op
    assert all(op.element is not None for op in found.values())
    return [found[name] for name in sorted(found)]


def _close(got: Array, want: Array, what: str, ulps: float, size: Array) -> None:
    assert got.shape == want.shape
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=what)
    a, b = got[finite].astype(np.float64), want[finite].astype(np.float64)
    limits = np.finfo(want.dtype)
    bound = ulps * (
        float(limits.eps) * np.abs(size[finite].astype(np.float64))
        + float(limits.smallest_subnormal)
    )
    wrong = ~(np.abs(a - b) <= bound)
    assert not wrong.any(), (what, a[wrong][:5], b[wrong][:5])


CANCELLING = {"logaddexp"}  # right to ulps of its operands, where the sum itself may be near 0
ULPS = {"erfc": 40.0, "log2": 4.0, "log10": 4.0, "cbrt": 4.0, "hypot": 4.0}


def _wide(dtype: Any, rng: np.random.Generator) -> Array:
    """Values of every magnitude, and the specials."""
    if np.dtype(dtype).kind == "b":
        return np.array([False, True])
    if np.dtype(dtype).kind in "iu":
        return np.concatenate([specials(dtype), rng.integers(0, 100, 50).astype(dtype)])
    limits = np.finfo(dtype)
    exponents = rng.uniform(np.log10(float(limits.tiny)), np.log10(float(limits.max)) - 1, 300)
    listed = [10.0**exponents, rng.uniform(0, 2, 300), rng.uniform(0, 30, 300)]
    size = np.concatenate(listed)
    return np.concatenate([specials(dtype), (size * rng.choice([-1, 1], size.size)).astype(dtype)])


@pytest.mark.parametrize("op", formulas(), ids=lambda op: op.name)
def test_formula_is_the_oracle_everywhere(op: Op) -> None:
    rng = np.random.default_rng(7)
    for dtype in DTYPES:
        if dtype.kind not in op.domain.kinds or dtype.name == "float16":
            continue  # devices compute half floats in single precision, formulas do not
        x = _wide(dtype.numpy, rng)
        operands = [x] if len(op.params) == 1 else [x, rng.permutation(x)]
        if len(op.params) == 2 and x.size < 100:
            operands = [np.repeat(x, x.size), np.tile(x, x.size)]
        want = np.asarray(op.oracle(*operands))
        assert op.element is not None
        formula = op.element(*map(operand, range(len(operands))))
        got = np.asarray(evaluate(formula, dict(enumerate(operands)))).astype(want.dtype)
        size = np.abs([*operands, np.ones_like(want)]).max(0) if op.name in CANCELLING else want
        _close(got, want, f"{op.name} {dtype}: {formula}", ULPS.get(op.name, 3.0), size)


# ---------------------------------------------------------------------------- accuracy

POINTS = [0.0, 1e-20, 1e-3, 0.3, 0.49, 0.5, 0.9, 1.0, 2.4, 2.6, 5.0, 9.0, 20.0, 26.0, 40.0, 700.0]
EXACT: dict[str, tuple[Callable[..., Tensor], Callable[[Any], Any]]] = {
    "erf": (elementary.erf, mpmath.erf),
    "erfc": (elementary.erfc, mpmath.erfc),
    "sigmoid": (elementary.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "softplus": (elementary.softplus, lambda x: mpmath.log1p(mpmath.exp(x))),
    "log_sigmoid": (activation.log_sigmoid, lambda x: -mpmath.log1p(mpmath.exp(-x))),
    "gelu": (activation.gelu, lambda x: x * mpmath.ncdf(x)),
    "swish": (activation.swish, lambda x: x / (1 + mpmath.exp(-x))),
    "tanh": (trig.tanh, mpmath.tanh),
    "softsign": (activation.softsign, lambda x: x / (1 + abs(x))),
    "elu": (activation.elu, lambda x: x if x > 0 else mpmath.expm1(x)),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16], ids=lambda d: d.__name__)
def test_accuracy(name: str, dtype: Any) -> None:
    function, exact = EXACT[name]
    x = np.array(POINTS + [-p for p in POINTS], dtype)
    got = value(function(x)).astype(np.float64)
    assert value(function(x)).dtype == dtype
    with mpmath.workdps(60):
        want = np.array([float(exact(mpmath.mpf(float(v)))) for v in x])
    limits = np.finfo(dtype)
    slack = (
        1400 if name == "gelu" else 4
    )  # its argument is rounded, in a tail as steep as exp(-x^2)
    bound = slack * (float(limits.eps) * np.abs(want) + float(limits.smallest_subnormal))
    wrong = ~(np.abs(got - want) <= bound)
    assert not wrong.any(), (x[wrong], got[wrong], want[wrong])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_activations_are_finite_at_any_size(dtype: Any) -> None:
    data = np.array([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4], dtype)
    names = "relu relu6 leaky_relu elu selu gelu hard_sigmoid hard_tanh log_sigmoid softsign swish"
    functions = [getattr(activation, name) for name in (*names.split(), "mish", "sigmoid")]
    functions += [elementary.softplus, trig.tanh, lambda x: activation.gelu(x, approximate=True)]
    for function in functions:
        x = as_tensor(data)
        y = function(x)
        [g] = gradients(y, [x])
        [second] = gradients(g, [x], unconnected="zero")
        for result in run([y, g, second]):
            assert np.isfinite(result).all() and result.dtype == dtype, function


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    x = np.linspace(-8, 8, 33)
    np.testing.assert_allclose(
        value(getattr(activation, name)(x)), ACTIVATIONS[name](x), rtol=1e-14
    )


def _gelu_by_tanh(x: Any) -> Any:
    inner = mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)
    return x * (1 + mpmath.tanh(inner)) / 2


GELUS = {True: _gelu_by_tanh, False: lambda x: x * mpmath.ncdf(x)}


@pytest.mark.parametrize("approximate", GELUS)
def test_gelu_and_its_derivatives(approximate: bool) -> None:
    points = np.linspace(-4, 4, 17)
    x = as_tensor(points)
    y = activation.gelu(x, approximate=approximate)
    (first,) = gradients(y, [x])
    (second,) = gradients(first, [x])
    with mpmath.workdps(60):
        for n, got in enumerate(run([y, first, second])):
            exact = [float(mpmath.diff(GELUS[approximate], mpmath.mpf(p), n)) for p in points]
            np.testing.assert_allclose(got, exact, rtol=1e-13, atol=1e-14 * n)


@pytest.mark.parametrize("approximate", GELUS)
def test_a_cotangent_is_multiplied_once_by_the_derivative_of_gelu(approximate: bool) -> None:
    """0 beside what is no number is 0, as in all gradients; and no sum of such products."""
    x, g = placeholder("float64", (3,)), placeholder("float64", (3,))
    (dx,) = gradients(activation.gelu(x, approximate=approximate), [x], [g])
    graph = optimise(Graph((dx,), (), (x, g)))
    names = [node.op.name for node in graph.nodes]
    assert names.count("masked_multiply") == 2 and graph.roots[0].node.op.name == "masked_multiply"
    y = as_tensor(np.array([1.0, np.nan, np.inf]))
    (nothing,) = gradients(activation.gelu(y, approximate), [y], [np.zeros(3)])
    np.testing.assert_array_equal(value(nothing), 0.0)


# ---------------------------------------------------------------------------- Python numbers


def test_python_numbers_are_weak() -> None:
    for dtype in DTYPES:
        x = as_tensor(np.ones(2, dtype.numpy))
        whole = (x + 1).dtype
        assert whole is dtype or (dtype.kind == "b" and whole == np.int64)
        assert (x + 1.5).dtype is (dtype if dtype.is_float else as_tensor(1.0).dtype)
        assert (x / 2.0).dtype is (dtype if dtype.is_float else as_tensor(1.0).dtype)
        assert (x / 2).dtype == (dtype.numpy if dtype.is_float else np.float64)
        assert (2 / x).dtype is (x / 2).dtype
        assert select.where(x > 0, x, 0).dtype == (np.int64 if dtype.kind == "b" else dtype.numpy)
        assert select.maximum(1.5, x).dtype is (x + 1.5).dtype


def test_numbers_alone_stay_small() -> None:
    for tensor in (elementary.exp(2), powers.sqrt(2.0), arith.divide(1, 2), trig.arctan2(1, 2)):
        assert tensor.dtype == np.float32
    assert arith.add(1, 2).dtype == np.int64 and arith.add(1, 2.5).dtype == np.float32
    np.testing.assert_array_equal(value(as_tensor(np.int64([3, 4])) * 0.5), np.float32([1.5, 2]))


def test_a_number_must_fit() -> None:
    with pytest.raises(DTypeError, match="uint8 holds 0 to 255, got 300"):
        as_tensor(np.uint8([1])) + 300


# ---------------------------------------------------------------------------- operators

OPERATORS = (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow, operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift,
    operator.lt, operator.le, operator.gt, operator.ge,
)  # fmt: skip


@pytest.mark.parametrize("function", OPERATORS, ids=lambda f: f.__name__)
def test_operators(function: Any) -> None:
    a, b = np.array([7, 8, 9], np.int32), np.array([1, 2, 3], np.int32)
    for one, other in ((as_tensor(a), as_tensor(b)), (as_tensor(a), b), (a, as_tensor(b))):
        same(value(function(one, other)), function(a, b), 0, function.__name__)
    same(value(function(as_tensor(a), 3)), function(a, 3), 0, function.__name__)
    same(value(function(3, as_tensor(b))), function(3, b), 0, function.__name__)


def test_unary_operators() -> None:
    a = np.array([7, -8, 0], np.int32)
    x = as_tensor(a)
    for function in (operator.neg, operator.pos, operator.invert, abs):
        same(value(function(x)), function(a), 0, str(function))
    for got, want in zip(divmod(x, 3), divmod(a, 3), strict=True):
        same(value(got), want, 0, "divmod")
    for got, want in zip(divmod(20, as_tensor(a[:2])), divmod(20, a[:2]), strict=True):
        same(value(got), want, 0, "divmod")


def test_double_equals_is_identity() -> None:
    x, y = as_tensor([1.0]), as_tensor([1.0])
    assert (x == x) is True and (x == y) is False and {x: 1}[x] == 1


# ---------------------------------------------------------------------------- integers

whole = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(st.tuples(whole, whole), min_size=1, max_size=20))
def test_integer_division_law(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    x, y = as_tensor(a), as_tensor(b)
    quotient, rest, cut = run([x // y, x % y, arith.fmod(x, y)])
    for n, d, q, r, c in zip(a.tolist(), b.tolist(), quotient, rest, cut, strict=True):
        assert (q, r) == ((n // d, n % d) if d else (0, 0))
        assert c == (n - d * int(mpmath.mpf(n) / d) if d else 0)


@given(st.integers(-128, 127), st.integers(-20, 20))
def test_shift_law(n: int, by: int) -> None:
    x, shift = as_tensor(np.int8([n])), as_tensor(np.int8([by]))
    left, right = (int(v[0]) for v in run([x << shift, x >> shift]))
    inside = 0 <= by < 8
    assert left == (int(np.int64(n << by).astype(np.int8)) if inside else 0)
    assert right == (n >> by if inside else -1 if n < 0 else 0)


@given(st.integers(-5, 5), st.integers(-6, 6))
def test_integer_power_law(n: int, k: int) -> None:
    got = int(value(as_tensor(np.int32([n])) ** as_tensor(np.int32([k])))[0])
    want = n**k if k >= 0 else int(1 / n**-k) if n else 0
    assert got == want


def test_power_of_unsigned_and_small() -> None:
    assert value(as_tensor(np.uint8([3])) ** 5) == np.uint8([243])
    for dtype in (np.int8, np.uint16, np.float32):
        x = as_tensor(np.array([3], dtype))
        assert (x**2).dtype == dtype and (x**2).node.op.name == "square"
        assert value(x**0) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
def test_power_of_floats_is_numpys(dtype: Any) -> None:
    x = specials(dtype)
    a, b = np.repeat(x, x.size), np.tile(x, x.size)
    same(value(powers.power(a, b)), quietly(np.power, a, b), 0, "power")


def test_power_dtypes_are_numpys() -> None:
    for one, other in itertools.product(DTYPES, DTYPES):
        a, b = np.ones(1, one.numpy), np.ones(1, other.numpy)
        assert powers.power(a, b).dtype == np.power(a, b).dtype, (one, other)


def test_negative_powers_of_integers_are_refused() -> None:
    with pytest.raises(DTypeError, match="integers take no negative exponent, got -1"):
        as_tensor(np.int32([2])) ** -1
    np.testing.assert_array_equal(value(powers.float_power([2, 4], -1)), [0.5, 0.25])


# ---------------------------------------------------------------------------- rounding, choosing


@pytest.mark.parametrize("decimals", [-2, -1, 0, 1, 3])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float32, np.float64], ids=str)
def test_round(decimals: int, dtype: Any) -> None:
    x = np.array([0, 5, 15, 25, 35, 149, 150, 250], dtype)
    if np.dtype(dtype).kind == "f":
        x = np.concatenate([x, x / 7, -x / 3, [np.nan, np.inf]]).astype(dtype)
    same(value(rounding.round(x, decimals)), np.round(x, decimals), 1, f"round {decimals}")


def test_round_of_booleans_and_wrong_decimals() -> None:
    same(value(rounding.round([True, False])), np.round(np.array([True, False])), 0, "bool")
    with pytest.raises(ShapeError, match="decimals must be an int"):
        rounding.round([1.0], 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("low", [None, -1.0, 0.5])
@pytest.mark.parametrize("high", [None, 1.0, 0.25])
def test_clip(low: float | None, high: float | None) -> None:
    data = specials(np.float64)
    want = np.clip(data, low, high)
    np.testing.assert_array_equal(value(select.clip(data, low, high)), want)
    np.testing.assert_array_equal(value(as_tensor(data).clip(low, high)), want)


def test_clip_gradients() -> None:
    x, low, high = (as_tensor(np.array(v)) for v in ([-2.0, -1.0, 0.0, 1.0, 3.0], -1.0, 1.0))
    found = run(gradients(select.clip(x, low, high), [x, low, high]))
    np.testing.assert_array_equal(found[0], [0, 1, 1, 1, 0])
    assert (float(found[1]), float(found[2])) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin"])
def test_ties_go_to_the_first(name: str) -> None:
    a, b = as_tensor([1.0, 1.0, 2.0]), as_tensor([1.0, 2.0, 1.0])
    da, db = run(gradients(getattr(select, name)(a, b), [a, b]))
    takes_first = [1, 0, 1] if "max" in name else [1, 1, 0]
    np.testing.assert_array_equal(da, takes_first)
    np.testing.assert_array_equal(da + db, 1)


@pytest.mark.parametrize("name", ["fmax", "fmin"])
def test_gradient_goes_to_the_operand_that_is_no_nan(name: str) -> None:
    a, b = as_tensor([np.nan, 1.0]), as_tensor([1.0, np.nan])
    da, db = run(gradients(getattr(select, name)(a, b), [a, b]))
    np.testing.assert_array_equal(da, [0, 1])
    np.testing.assert_array_equal(db, [1, 0])


def test_where() -> None:
    condition, x = np.array([[0.0], [2.0]]), np.arange(3, dtype=np.int16)
    tensor = select.where(condition, x, -1)
    same(value(tensor), np.where(condition, x, np.int16(-1)), 0, "where")
    for one, other in itertools.product(DTYPES, DTYPES):
        a, b = np.ones(1, one.numpy), np.zeros(1, other.numpy)
        same(value(select.where(True, a, b)), np.where([True], a, b), 0, f"{one} {other}")


def test_nan_to_num() -> None:
    for dtype in (np.float16, np.float32, np.float64, np.int8):
        data = specials(dtype)
        same(value(select.nan_to_num(data)), np.nan_to_num(data), 0, str(dtype))
    data = specials(np.float32)
    want = np.nan_to_num(data, nan=1.0, posinf=2.0, neginf=3.0)
    same(value(select.nan_to_num(data, 1.0, 2.0, 3.0)), want, 0, "given")
    x = as_tensor(np.float32([1, np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(run(gradients(select.nan_to_num(x), [x]))[0], [1, 0, 0, 0])


@pytest.mark.parametrize("equal_nan", [False, True])
def test_isclose(equal_nan: bool) -> None:
    x = np.concatenate([specials(np.float64), [1.0 + 1e-6, 1.0 + 1e-4, 1e-9]])
    a, b = np.repeat(x, x.size), np.tile(x, x.size)
    want = quietly(lambda: np.isclose(a, b, equal_nan=equal_nan))
    np.testing.assert_array_equal(value(compare.isclose(a, b, equal_nan=equal_nan)), want)


def test_degrees() -> None:
    x = np.linspace(-400, 400, 11)
    np.testing.assert_allclose(value(trig.deg2rad(x)), np.deg2rad(x), rtol=1e-15)
    np.testing.assert_allclose(value(trig.rad2deg(x)), np.rad2deg(x), rtol=1e-15)
    assert trig.deg2rad(np.int8([1])).dtype == np.deg2rad(np.int8([1])).dtype


# ---------------------------------------------------------------------------- types and errors


def test_unknown_ranks_meet_numbers_and_tensors() -> None:
    x = placeholder(np.float32, None)
    data = np.float32([[-1.0, 2.0, 3.0]])
    y = select.where(x > 0, elementary.log(x) ** 2 / 2, 0)
    [g] = gradients(y, [x])
    got, slope = run([y, g], {x: data})
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(got, np.where(data > 0, np.log(data) ** 2 / 2, 0), rtol=1e-6)
        np.testing.assert_allclose(slope, np.where(data > 0, np.log(data) / data, 0), rtol=1e-6)


def test_names_and_keywords() -> None:
    assert arith.add(a=1.0, b=2.0, name="total").name == "total"
    assert rounding.floor([1], name="kept").name == "kept"
    assert select.where(True, 1.0, 2.0, name="chosen").name == "chosen"
    assert activation.gelu([1.0], name="bent").name == "bent"
    assert trig.deg2rad([1.0], name="angle").name == "angle"
    with pytest.raises(TypeError, match=r"add\(\) takes \(a, b\), got 1 positional"):
        arith.add(1.0)


def test_kinds_that_an_op_does_not_take() -> None:
    truth, real = as_tensor([True]), as_tensor([1.0])
    for build in (lambda: truth - truth, lambda: -truth, lambda: arith.sign(truth), lambda: +truth):
        with pytest.raises(DTypeError):
            build()
    for build in (lambda: real & real, lambda: ~real, lambda: real << 1):
        with pytest.raises(DTypeError, match="takes bool or integer or unsigned integer operands"):
            build()


def test_what_cuts_a_gradient_is_named() -> None:
    x = as_tensor([1.5])
    for y in (rounding.floor(x), rounding.round(x), arith.sign(x), x // 2.0):
        with pytest.raises(GradientError, match="constant almost everywhere"):
            gradients(y, [x])
    with pytest.raises(GradientError, match="its values are booleans"):
        gradients((x > 0).astype("float32"), [x])


@pytest.mark.parametrize("number", [1e6, -1e300, np.inf])
def test_a_number_that_float16_does_not_hold_is_infinite_without_a_warning(number: float) -> None:
    x = placeholder("float64", [2])
    fed = np.array([number, 1.0])
    got = run([x.astype("float16"), as_tensor(number).astype("float16") * 2], {x: fed})
    want = np.copysign(np.inf, number)
    np.testing.assert_array_equal(got[0], [want, 1.0])
    np.testing.assert_array_equal(got[1], want)
