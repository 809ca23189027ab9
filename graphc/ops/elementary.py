"""Exponentials, logarithms, the error function, and the logistic family."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.graph import Tensor
from graphc.ops.arith import quotient, scaled, square
from graphc.ops.compare import equal
from graphc.ops.domain import elementwise
from graphc.ops.pointwise import in_floats, pointwise
from graphc.ops.select import where
from graphc.scalar import Scalar, apply, primitive, select
from graphc.scalar import erf as erf_oracle
from graphc.scalar import erfc as erfc_oracle

LN2 = math.log(2.0)
LN10 = math.log(10.0)
TWO_BY_ROOT_PI = 2.0 / math.sqrt(math.pi)

# ---------------------------------------------------------------------------- exponentials


@pointwise(
    np.exp,
    vjp=lambda g, y, x: scaled(g, y),
    element=primitive("exp"),
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def exp(x: Any, *, name: str | None = None) -> Tensor:
    """e to the power `x`.

    >>> exp([0.0, 1.0]).eval().round(4)
    array([1.    , 2.7183], dtype=float32)
    """


@pointwise(
    np.exp2,
    vjp=lambda g, y, x: scaled(g * LN2, y),
    element=lambda x: apply("power", 2.0, x),
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def exp2(x: Any, *, name: str | None = None) -> Tensor:
    """2 to the power `x`.

    >>> exp2([0.0, 3.0]).eval().round(4)
    array([1., 8.], dtype=float32)
    """


@pointwise(
    np.expm1,
    vjp=lambda g, y, x: scaled(g, exp(x)),
    element=primitive("expm1"),
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def expm1(x: Any, *, name: str | None = None) -> Tensor:
    """`exp(x) - 1`, exact also where `x` is small.

    >>> expm1([0.0, 1.0]).eval().round(4)
    array([0.    , 1.7183], dtype=float32)
    """


# ---------------------------------------------------------------------------- logarithms


@pointwise(
    np.log,
    vjp=lambda g, y, x: quotient(g, x),
    element=primitive("log"),
    domain=elementwise((0.3, 4)),
    rule=in_floats,
)
def log(x: Any, *, name: str | None = None) -> Tensor:
    """The natural logarithm: -inf at 0, NaN below.

    >>> log([1.0, 2.0]).eval().round(4)
    array([0.    , 0.6931], dtype=float32)
    """


@pointwise(
    np.log2,
    vjp=lambda g, y, x: quotient(g * (1.0 / LN2), x),
    element=lambda x: apply("log", x) * (1.0 / LN2),
    domain=elementwise((0.3, 4)),
    rule=in_floats,
)
def log2(x: Any, *, name: str | None = None) -> Tensor:
    """The logarithm to base 2.

    >>> log2([1.0, 8.0]).eval().round(4)
    array([0., 3.], dtype=float32)
    """


@pointwise(
    np.log10,
    vjp=lambda g, y, x: quotient(g * (1.0 / LN10), x),
    element=lambda x: apply("log", x) * (1.0 / LN10),
    domain=elementwise((0.3, 4)),
    rule=in_floats,
)
def log10(x: Any, *, name: str | None = None) -> Tensor:
    """The logarithm to base 10.

    >>> log10([1.0, 100.0]).eval().round(4)
    array([0., 2.], dtype=float32)
    """


@pointwise(
    np.log1p,
    vjp=lambda g, y, x: quotient(g, x + 1.0),
    element=primitive("log1p"),
    domain=elementwise((-0.7, 3)),
    rule=in_floats,
)
def log1p(x: Any, *, name: str | None = None) -> Tensor:
    """`log(1 + x)`, exact also where `x` is small.

    >>> log1p([0.0, 1.0]).eval().round(4)
    array([0.    , 0.6931], dtype=float32)
    """


def _logaddexp_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The shares exp(a - y), exp(b - y); 0 where both operands are the logarithm of 0."""
    total = where(equal(y, -np.inf), 0.0, y)
    return scaled(g, exp(a - total)), scaled(g, exp(b - total))


def _logaddexp_element(a: Scalar, b: Scalar) -> Scalar:
    gap = apply("absolute", a - b)
    total = apply("maximum", a, b) + apply("log1p", apply("exp", -gap))
    return select(apply("equal", a, b), a + LN2, total)  # equal infinities have no gap


@pointwise(
    np.logaddexp,
    vjp=_logaddexp_vjp,
    element=_logaddexp_element,
    domain=elementwise((-3, 3), (-3, 3)),
    rule=in_floats,
)
def logaddexp(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`log(exp(a) + exp(b))` without overflow on the way.

    >>> logaddexp([0.0, 2000.0], [0.0, 0.0]).eval().round(2)
    array([6.9e-01, 2.0e+03], dtype=float32)
    """


# ---------------------------------------------------------------------------- the error function

# erfc(x) exp(x^2) / t over x >= 0.5, where t = 2.5 / (2.5 + x): coefficients of a polynomial in
# u = 2.4 t - 1, which is in [-1, 1]; a Chebyshev fit in 60 digits, right to 5e-16.
_ERFC_SERIES = (
    0.3727047734613463, 0.2223547473374898, 0.10370763969659132, 0.03482985494767036,
    0.0064265303424007126, -0.0005629687839663883, -0.0006404574665753672, -5.476291134086401e-05,
    5.975797916547711e-05, 1.0675193382759774e-05, -7.012471299267215e-06, -1.3848640102554952e-06,
    1.0423116897696748e-06, 1.3157377903318982e-07, -1.764171843642726e-07, 9.90311128024044e-10,
    2.9569923811337326e-08, -4.870554223319267e-09, -4.119183805161859e-09, 1.3554316559192698e-09,
    3.3843221290040285e-10, -1.6198874030759037e-10,
)  # fmt: skip


def _erfc_element(x: Scalar) -> Scalar:
    """1 - erf(x) up to 0.5, and beyond it exp(-x^2) times a series."""
    t = 2.5 / (2.5 + x)
    u = t * 2.4 - 1.0
    series: Scalar = u * _ERFC_SERIES[-1] + _ERFC_SERIES[-2]
    for coefficient in reversed(_ERFC_SERIES[:-2]):
        series = series * u + coefficient
    near = apply("rint", x * 16.0) * 0.0625  # its square is exact, so that of x keeps its digits
    bell = apply("exp", -(near * near)) * apply("exp", -((x - near) * (x + near)))
    tail = select(apply("less", x, 28.0), bell * t * series, 0.0)  # too small for any float
    whole = select(apply("less_equal", 0.5, x), tail, 1.0 - apply("erf", x))
    return whole


@pointwise(
    erf_oracle,
    vjp=lambda g, y, x: scaled(g * TWO_BY_ROOT_PI, exp(-square(x))),
    element=primitive("erf"),
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def erf(x: Any, *, name: str | None = None) -> Tensor:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to `x`.

    >>> erf([0.0, 1.0]).eval().round(4)
    array([0.    , 0.8427], dtype=float32)
    """


@pointwise(
    erfc_oracle,
    vjp=lambda g, y, x: scaled(g * -TWO_BY_ROOT_PI, exp(-square(x))),
    element=_erfc_element,
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def erfc(x: Any, *, name: str | None = None) -> Tensor:
    """`1 - erf(x)`, exact also where it is tiny.

    >>> erfc([0.0, 1.0]).eval().round(4)
    array([1.    , 0.1573], dtype=float32)
    """


# ---------------------------------------------------------------------------- the logistic family


def _sigmoid_oracle(x: Any) -> Any:
    small = np.exp(-np.absolute(x))
    return np.where(np.less(x, 0), small, np.ones_like(x)) / (small + x.dtype.type(1))


def _sigmoid_element(x: Scalar) -> Scalar:
    small = apply("exp", -apply("absolute", x))  # at most 1, so that nothing overflows
    return select(apply("less", x, 0.0), small, 1.0) / (small + 1.0)


def _softplus_element(x: Scalar) -> Scalar:
    return apply("maximum", x, 0.0) + apply("log1p", apply("exp", -apply("absolute", x)))


@pointwise(
    _sigmoid_oracle,
    vjp=lambda g, y, x: scaled(g, y * (1.0 - y)),
    element=_sigmoid_element,
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def sigmoid(x: Any, *, name: str | None = None) -> Tensor:
    """The logistic function, `1 / (1 + exp(-x))`, without overflow.

    >>> sigmoid([0.0, -1e4]).eval()
    array([0.5, 0. ], dtype=float32)
    """


@pointwise(
    lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.absolute(x))),
    vjp=lambda g, y, x: scaled(g, sigmoid(x)),
    element=_softplus_element,
    domain=elementwise((-3, 3)),
    rule=in_floats,
)
def softplus(x: Any, *, name: str | None = None) -> Tensor:
    """`log(1 + exp(x))`, without overflow.

    >>> softplus([0.0, 1e4]).eval().round(4)
    array([6.931e-01, 1.000e+04], dtype=float32)
    """
