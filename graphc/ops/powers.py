"""Powers and roots."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check
from graphc.dtypes import float64
from graphc.errors import DTypeError, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.arith import quotient, scaled, square
from graphc.ops.broadcast import cast
from graphc.ops.compare import greater
from graphc.ops.domain import Domain, elementwise
from graphc.ops.elementary import log
from graphc.ops.pointwise import (
    as_quotient,
    build_pointwise,
    common_operands,
    constant_of,
    counted,
    in_floats,
    pointwise,
    pointwise_shape,
    quiet,
    same_type,
)
from graphc.ops.select import where
from graphc.ops.source import full_of
from graphc.scalar import Scalar, apply, primitive, select
from graphc.scalar import power as power_oracle

# ---------------------------------------------------------------------------- power


def _one_less(a: Tensor, b: Tensor) -> Tensor:
    """`a ** (b - 1)`; of an exponent that is a plain number, in its simplest form."""
    value = constant_of(b)
    if value is None or b.shape is None:
        return _power_build(a, b - 1.0)
    if value == 2.0:
        return a
    return square(a) if value == 3.0 else _power_build(a, full_of(value - 1.0, b.shape, b.dtype))


def _power_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """d/da = b a^(b-1), 0 where b is 0; d/db = y log a, 0 where a is 0 or below (no log there)."""
    logarithm = log(where(greater(a, 0.0), a, 1.0))
    return scaled(g, scaled(b, _one_less(a, b))), scaled(g, scaled(logarithm, y))


def _power_build(a: Tensor, b: Tensor, name: str | None = None) -> Tensor:
    return build_pointwise(POWER, (a, b), name)


POWER = Op(
    "power", "pointwise", ("a", "b"),
    dtype=same_type,
    shape=pointwise_shape,
    oracle=quiet(power_oracle),
    build=_power_build,
    vjp=_power_vjp,
    element=primitive("power"),
    domain=elementwise((0.3, 2), (0, 3), kinds="iuf"),
)  # fmt: skip


@trimmed
def power(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a ** b`, elementwise. The power 2 is a `square`; 0 ** 0 is 1.

    Integers stay integers: a negative constant exponent is an error, and one that a run brings
    gives the quotient without its fraction (1, -1 or 0). The gradient for `b` is 0 where `a` is 0
    or below.

    >>> power([1.0, 2.0, 3.0], 2).eval()
    array([1., 4., 9.], dtype=float32)
    """
    x, y = common_operands(POWER, (a, b), counted, "biuf")
    if isinstance(b, (int, float)) and b == 2:
        return square(x, name=name)
    if x.dtype.kind == "i" and (constant_of(y) or 0) < 0:
        Check(POWER, (x, y), {}).fail(
            f"integers take no negative exponent, got {b}; use a float", DTypeError
        )
    return _power_build(x, y, name)


@trimmed
def float_power(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a ** b` in float64, whatever the operands are.

    >>> float_power([1, 2], -1).eval()
    array([1. , 0.5])
    """
    x, y = (cast(t, float64) for t in common_operands(POWER, (a, b), counted, "biuf"))
    return _power_build(x, y, name)


# ---------------------------------------------------------------------------- roots


@pointwise(
    np.sqrt,
    vjp=lambda g, y, x: quotient(g * 0.5, y),
    element=primitive("sqrt"),
    domain=elementwise((0.3, 4)),
    rule=in_floats,
)
def sqrt(x: Any, *, name: str | None = None) -> Tensor:
    """The square root; NaN below 0.

    >>> sqrt([1.0, 4.0]).eval()
    array([1., 2.], dtype=float32)
    """


@pointwise(
    lambda x: np.true_divide(np.ones_like(x), np.sqrt(x)),
    vjp=lambda g, y, x: quotient(scaled(g * -0.5, y), x),
    element=lambda x: 1.0 / apply("sqrt", x),
    domain=elementwise((0.3, 4)),
    rule=in_floats,
)
def rsqrt(x: Any, *, name: str | None = None) -> Tensor:
    """`1 / sqrt(x)`.

    >>> rsqrt([1.0, 4.0]).eval()
    array([1. , 0.5], dtype=float32)
    """


@pointwise(
    lambda x: np.true_divide(np.ones_like(x), x),
    vjp=lambda g, y, x: -quotient(scaled(g, y), x),
    element=lambda x: 1.0 / x,
    domain=elementwise((0.3, 4)),
    rule=as_quotient,
)
def reciprocal(x: Any, *, name: str | None = None) -> Tensor:
    """`1 / x`; unlike NumPy's, of integers it is the float64 quotient.

    >>> reciprocal([1.0, 4.0]).eval()
    array([1.  , 0.25], dtype=float32)
    """


def _cbrt_element(x: Scalar) -> Scalar:
    """A power, corrected by one step of Newton's, with the sign of `x`."""
    size = apply("absolute", x)
    root = apply("power", size, 1.0 / 3.0)
    better = root - (root - size / (root * root)) / 3.0
    exact = select(apply("less", 0.0, size), select(apply("less", size, np.inf), better, x), x)
    return apply("copysign", exact, x)


@pointwise(
    np.cbrt,
    vjp=lambda g, y, x: quotient(g, square(y) * 3.0),
    element=_cbrt_element,
    domain=Domain(elementwise((0.3, 4)).cases + elementwise((-4, -0.3)).cases, "f"),
    rule=in_floats,
)
def cbrt(x: Any, *, name: str | None = None) -> Tensor:
    """The cube root, of negative numbers too.

    >>> cbrt([8.0, -27.0]).eval().round(4)
    array([ 2., -3.], dtype=float32)
    """


def _hypot_element(a: Scalar, b: Scalar) -> Scalar:
    """Scaled by the larger side, so that no square overflows."""
    one, other = apply("absolute", a), apply("absolute", b)
    large, small = apply("maximum", one, other), apply("minimum", one, other)
    ratio = small / large
    root = large * apply("sqrt", 1.0 + ratio * ratio)
    finite = select(apply("equal", large, 0.0), large, root)
    infinite = apply("bit_or", apply("equal", one, np.inf), apply("equal", other, np.inf))
    return select(infinite, np.inf, finite)


@pointwise(
    np.hypot,
    vjp=lambda g, y, a, b: (scaled(g, quotient(a, y)), scaled(g, quotient(b, y))),
    element=_hypot_element,
    domain=elementwise((0.3, 2), (-2, -0.3)),
    rule=in_floats,
)
def hypot(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`sqrt(a * a + b * b)` without overflow on the way. The gradient at the origin is 0.

    >>> hypot([3.0], [4.0]).eval().round(4)
    array([5.], dtype=float32)
    """


pow = power
