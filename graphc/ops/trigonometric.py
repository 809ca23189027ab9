"""Circular and hyperbolic functions and their inverses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops.arith import multiply, quotient, scaled, square
from graphc.ops.domain import Domain, elementwise
from graphc.ops.pointwise import common_operands, in_floats, pointwise
from graphc.ops.powers import hypot, sqrt
from graphc.scalar import Scalar, apply, primitive, select

LN2 = math.log(2.0)

# ---------------------------------------------------------------------------- circular


@pointwise(
    np.sin,
    vjp=lambda g, y, x: scaled(g, cos(x)),
    element=primitive("sin"),
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def sin(x: Any, *, name: str | None = None) -> Tensor:
    """The sine of an angle in radians.

    >>> sin([0.0, 1.0]).eval().round(4)
    array([0.    , 0.8415], dtype=float32)
    """


@pointwise(
    np.cos,
    vjp=lambda g, y, x: -scaled(g, sin(x)),
    element=primitive("cos"),
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def cos(x: Any, *, name: str | None = None) -> Tensor:
    """The cosine of an angle in radians.

    >>> cos([0.0, 1.0]).eval().round(4)
    array([1.    , 0.5403], dtype=float32)
    """


@pointwise(
    np.tan,
    vjp=lambda g, y, x: scaled(g, square(y) + 1.0),
    element=primitive("tan"),
    domain=elementwise((-1, 1)),
    rule=in_floats,
)
def tan(x: Any, *, name: str | None = None) -> Tensor:
    """The tangent of an angle in radians.

    >>> tan([0.0, 1.0]).eval().round(4)
    array([0.    , 1.5574], dtype=float32)
    """


def _root(x: Tensor) -> Tensor:
    """`sqrt(1 - x * x)`, exact also near 1."""
    return sqrt((1.0 - x) * (1.0 + x))


@pointwise(
    np.arcsin,
    vjp=lambda g, y, x: quotient(g, _root(x)),
    element=primitive("arcsin"),
    domain=elementwise((-0.8, 0.8)),
    rule=in_floats,
)
def arcsin(x: Any, *, name: str | None = None) -> Tensor:
    """The angle in [-pi/2, pi/2] of which `x` is the sine; NaN outside [-1, 1].

    >>> arcsin([0.0, 1.0]).eval().round(4)
    array([0.    , 1.5708], dtype=float32)
    """


@pointwise(
    np.arccos,
    vjp=lambda g, y, x: -quotient(g, _root(x)),
    element=primitive("arccos"),
    domain=elementwise((-0.8, 0.8)),
    rule=in_floats,
)
def arccos(x: Any, *, name: str | None = None) -> Tensor:
    """The angle in [0, pi] of which `x` is the cosine; NaN outside [-1, 1].

    >>> arccos([1.0, 0.0]).eval().round(4)
    array([0.    , 1.5708], dtype=float32)
    """


@pointwise(
    np.arctan,
    vjp=lambda g, y, x: quotient(g, square(x) + 1.0),
    element=primitive("arctan"),
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def arctan(x: Any, *, name: str | None = None) -> Tensor:
    """The angle in [-pi/2, pi/2] of which `x` is the tangent.

    >>> arctan([0.0, 1.0]).eval().round(4)
    array([0.    , 0.7854], dtype=float32)
    """


def _arctan2_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(b, -a) / (a^2 + b^2), where no square may overflow; 0 at the origin, which has no angle."""
    radius = hypot(a, b)
    return (
        quotient(scaled(g, quotient(b, radius)), radius),
        -quotient(scaled(g, quotient(a, radius)), radius),
    )


@pointwise(
    np.arctan2,
    vjp=_arctan2_vjp,
    element=primitive("arctan2"),
    domain=Domain(elementwise((0.3, 2), (-2, 2)).cases + elementwise((-2, 2), (0.3, 2)).cases, "f"),
    rule=in_floats,
)
def arctan2(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The angle in [-pi, pi] of the point (b, a). The gradient at the origin is 0.

    >>> arctan2([1.0, 0.0], [1.0, -1.0]).eval().round(4)
    array([0.7854, 3.1416], dtype=float32)
    """


# ---------------------------------------------------------------------------- hyperbolic


def _sinh_element(x: Scalar) -> Scalar:
    """By expm1 below 1; beyond, by the square of exp(x / 2), which overflows no sooner."""
    size = apply("absolute", x)
    less_one = apply("expm1", size)
    small = (less_one + less_one / (less_one + 1.0)) * 0.5
    half = apply("exp", size * 0.5)
    large = half * 0.5 * half - 0.5 / half / half
    return apply("copysign", select(apply("less", size, 1.0), small, large), x)


def _cosh_element(x: Scalar) -> Scalar:
    half = apply("exp", apply("absolute", x) * 0.5)
    return half * 0.5 * half + 0.5 / half / half


@pointwise(
    np.sinh,
    vjp=lambda g, y, x: scaled(g, cosh(x)),
    element=_sinh_element,
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def sinh(x: Any, *, name: str | None = None) -> Tensor:
    """The hyperbolic sine, `(exp(x) - exp(-x)) / 2`.

    >>> sinh([0.0, 1.0]).eval().round(4)
    array([0.    , 1.1752], dtype=float32)
    """


@pointwise(
    np.cosh,
    vjp=lambda g, y, x: scaled(g, sinh(x)),
    element=_cosh_element,
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def cosh(x: Any, *, name: str | None = None) -> Tensor:
    """The hyperbolic cosine, `(exp(x) + exp(-x)) / 2`.

    >>> cosh([0.0, 1.0]).eval().round(4)
    array([1.    , 1.5431], dtype=float32)
    """


@pointwise(
    np.tanh,
    vjp=lambda g, y, x: scaled(g, 1.0 - square(y)),
    element=primitive("tanh"),
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def tanh(x: Any, *, name: str | None = None) -> Tensor:
    """The hyperbolic tangent, `sinh(x) / cosh(x)`.

    >>> tanh([0.0, 1.0]).eval().round(4)
    array([0.    , 0.7616], dtype=float32)
    """


def _arcsinh_element(x: Scalar) -> Scalar:
    """log1p keeps small arguments; beyond 1e8 the square under the root is all of it."""
    size = apply("absolute", x)
    square_ = size * size
    near = apply("log1p", size + square_ / (apply("sqrt", square_ + 1.0) + 1.0))
    far = apply("log", size) + LN2
    return apply("copysign", select(apply("less", size, 1e8), near, far), x)


def _arccosh_element(x: Scalar) -> Scalar:
    above = x - 1.0
    near = apply("log1p", above + apply("sqrt", above) * apply("sqrt", above + 2.0))
    return select(apply("less", x, 1e8), near, apply("log", x) + LN2)


def _arctanh_element(x: Scalar) -> Scalar:
    size = apply("absolute", x)
    return apply("copysign", apply("log1p", 2.0 * size / (1.0 - size)) * 0.5, x)


@pointwise(
    np.arcsinh,
    vjp=lambda g, y, x: quotient(g, hypot(x, 1.0)),
    element=_arcsinh_element,
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def arcsinh(x: Any, *, name: str | None = None) -> Tensor:
    """The number of which `x` is the hyperbolic sine.

    >>> arcsinh([0.0, 1.0]).eval().round(4)
    array([0.    , 0.8814], dtype=float32)
    """


@pointwise(
    np.arccosh,
    vjp=lambda g, y, x: quotient(g, sqrt(x - 1.0) * sqrt(x + 1.0)),
    element=_arccosh_element,
    domain=elementwise((1.3, 4)),
    rule=in_floats,
)
def arccosh(x: Any, *, name: str | None = None) -> Tensor:
    """The number, 0 or above, of which `x` is the hyperbolic cosine; NaN below 1.

    >>> arccosh([1.0, 2.0]).eval().round(4)
    array([0.   , 1.317], dtype=float32)
    """


@pointwise(
    np.arctanh,
    vjp=lambda g, y, x: quotient(g, (1.0 - x) * (1.0 + x)),
    element=_arctanh_element,
    domain=elementwise((-0.8, 0.8)),
    rule=in_floats,
)
def arctanh(x: Any, *, name: str | None = None) -> Tensor:
    """The number of which `x` is the hyperbolic tangent; NaN outside [-1, 1].

    >>> arctanh([0.0, 0.5]).eval().round(4)
    array([0.    , 0.5493], dtype=float32)
    """


# ---------------------------------------------------------------------------- degrees


def _scaled_angle(x: Any, factor: float, name: str | None) -> Tensor:
    (angle,) = common_operands(sin.op, (x,), in_floats, "biuf")  # type: ignore[attr-defined]  # pointwise builders carry their op
    return multiply(angle, factor, name=name)


@trimmed
def deg2rad(x: Any, *, name: str | None = None) -> Tensor:
    """Degrees as radians.

    >>> deg2rad(180.0).eval().round(4)
    np.float32(3.1416)
    """
    return _scaled_angle(x, math.pi / 180.0, name)


@trimmed
def rad2deg(x: Any, *, name: str | None = None) -> Tensor:
    """Radians as degrees.

    >>> rad2deg(np.pi).eval()
    array(180., dtype=float32)
    """
    return _scaled_angle(x, 180.0 / math.pi, name)


acos, acosh, asin, asinh = arccos, arccosh, arcsin, arcsinh
atan, atan2, atanh = arctan, arctan2, arctanh
degrees, radians = rad2deg, deg2rad
