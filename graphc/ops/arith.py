"""Arithmetic of two operands and its kin, and the two products that gradient rules are made of.

A cotangent of 0 means that an element does not matter, whatever its derivative is: infinite at a
pole, NaN outside a function's domain. So rules multiply by derivatives with `masked_multiply` and
divide with `masked_divide`, in which a factor of 0 always gives 0. It does so for either factor:
in a second derivative the derivative comes as the cotangent, and the cotangent as the factor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check
from graphc.errors import DTypeError, trimmed
from graphc.graph import Tensor
from graphc.ops.compare import equal, signbit
from graphc.ops.control import identity
from graphc.ops.domain import Domain, elementwise
from graphc.ops.pointwise import as_quotient, constant_of, counted, in_floats, pointwise
from graphc.ops.select import where
from graphc.ops.source import as_tensor
from graphc.scalar import Scalar, apply, primitive, select

STEPS = "it is constant almost everywhere"

# ---------------------------------------------------------------------------- masked by a cotangent


def _masked_product(a: Any, b: Any) -> Any:
    masked = np.logical_or(np.equal(a, 0), np.equal(b, 0))
    return np.where(masked, np.zeros_like(a), np.multiply(a, b))


def _masked_quotient(a: Any, b: Any) -> Any:
    return np.where(np.equal(a, 0), np.zeros_like(a), np.true_divide(a, b))


def _masked_product_element(a: Scalar, b: Scalar) -> Scalar:
    masked = apply("bit_or", apply("equal", a, 0.0), apply("equal", b, 0.0))
    return select(masked, 0.0, a * b)


@pointwise(
    _masked_product,
    vjp=lambda g, y, a, b: (scaled(g, b), scaled(g, a)),
    element=_masked_product_element,
    domain=elementwise((0.5, 2), (-2, -0.5)),
    takes="f",
)
def masked_multiply(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a * b`, and 0 wherever either is 0, even beside an infinity or NaN.

    >>> masked_multiply([0.0, 2.0], [np.inf, 3.0]).eval()
    array([0., 6.], dtype=float32)
    """


@pointwise(
    _masked_quotient,
    vjp=lambda g, y, a, b: (quotient(g, b), -quotient(scaled(g, y), b)),
    element=lambda a, b: select(apply("equal", a, 0.0), 0.0, a / b),
    domain=elementwise((0.5, 2), (0.5, 2)),
    takes="f",
)
def masked_divide(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a / b`, and 0 wherever `a` is 0, even beside a divisor of 0 or NaN.

    >>> masked_divide([0.0, 6.0], [0.0, 3.0]).eval()
    array([0., 2.], dtype=float32)
    """


def scaled(g: Tensor, factor: Tensor) -> Tensor:
    """A cotangent times a derivative; no mask is needed where either is a plain number."""
    if constant_of(factor) is not None or constant_of(g):
        return multiply(g, factor)
    return masked_multiply(g, factor)


def quotient(g: Tensor, divisor: Tensor) -> Tensor:
    """A cotangent over an inverse derivative; no mask is needed where either is a plain number."""
    if constant_of(divisor) or constant_of(g):
        return divide(g, divisor)
    return masked_divide(g, divisor)


# ---------------------------------------------------------------------------- the four, and signs


@pointwise(
    np.add,
    vjp=lambda g, y, a, b: (g, g),
    element=primitive("add"),
    domain=elementwise((-2, 2), (-2, 2), kinds="biuf"),
)
def add(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a + b`, elementwise; of booleans, their disjunction.

    >>> add([1, 2], [3, 4]).eval()
    array([4, 6])
    """


@pointwise(
    np.subtract,
    vjp=lambda g, y, a, b: (g, -g),
    element=primitive("subtract"),
    domain=elementwise((-2, 2), (-2, 2), kinds="iuf"),
    takes="iuf",
)
def subtract(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a - b`, elementwise.

    >>> subtract([1, 2], 3).eval()
    array([-2, -1])
    """


@pointwise(
    np.multiply,
    vjp=lambda g, y, a, b: (scaled(g, b), scaled(g, a)),
    element=primitive("multiply"),
    domain=elementwise((-2, 2), (-2, 2), kinds="biuf"),
)
def multiply(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a * b`, elementwise; of booleans, their conjunction.

    >>> multiply([1, 2], [3, 4]).eval()
    array([3, 8])
    """


@pointwise(
    np.true_divide,
    vjp=lambda g, y, a, b: (quotient(g, b), -quotient(scaled(g, y), b)),
    element=primitive("divide"),
    domain=elementwise((-2, 2), (0.5, 2)),
    rule=as_quotient,
)
def divide(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a / b`, elementwise. Integers and booleans give float64; beside a Python float, float32.

    >>> divide([1.0, 2.0], 4.0).eval()
    array([0.25, 0.5 ], dtype=float32)
    """


@pointwise(
    np.negative,
    vjp=lambda g, y, x: -g,
    element=primitive("negative"),
    domain=elementwise((-2, 2), kinds="iuf"),
    takes="iuf",
)
def negative(x: Any, *, name: str | None = None) -> Tensor:
    """`-x`, elementwise.

    >>> negative([1, 2]).eval()
    array([-1, -2])
    """


@trimmed
def positive(x: Any, *, name: str | None = None) -> Tensor:
    """`+x`: `x` itself. Takes numbers, no booleans.

    >>> positive([1, -2]).eval()
    array([ 1, -2])
    """
    tensor = as_tensor(x)
    if tensor.dtype.kind == "b":
        Check(negative.op, (tensor,), {}).fail(  # type: ignore[attr-defined]  # pointwise builders carry their op
            "a sign needs a number", DTypeError
        )
    return identity(tensor, name=name)


@pointwise(
    np.absolute,
    vjp=lambda g, y, x: scaled(g, sign(x)),
    element=primitive("absolute"),
    domain=Domain(
        elementwise((0.1, 2)).cases + elementwise((-2, -0.1)).cases,
        "if",
    ),
    unchanged="bu",
)
def absolute(x: Any, *, name: str | None = None) -> Tensor:
    """`|x|`, elementwise. The gradient at 0 is 0. The smallest integer of a type is its own.

    >>> absolute([1, -2]).eval()
    array([1, 2])
    """


@pointwise(
    np.sign,
    element=lambda x: select(
        apply("less", x, 0), -1, select(apply("less", 0, x), 1, select(apply("equal", x, 0), 0, x))
    ),
    domain=elementwise((-2, 2), kinds="iuf"),
    takes="iuf",
    cuts=STEPS,
)
def sign(x: Any, *, name: str | None = None) -> Tensor:
    """-1, 0 or 1, as `x` is below, at or above 0; NaN of NaN.

    >>> sign([-3.0, 0.0, 2.0]).eval()
    array([-1.,  0.,  1.], dtype=float32)
    """


def _same_sign(a: Tensor, b: Tensor) -> Tensor:
    return equal(signbit(a), signbit(b))


@pointwise(
    np.copysign,
    vjp=lambda g, y, a, b: (where(_same_sign(a, b), g, -g), None),
    element=primitive("copysign"),
    domain=elementwise((0.1, 2), (-2, -0.1)),
    rule=in_floats,
)
def copysign(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`|a|` with the sign of `b`, the sign of -0.0 too. No gradient flows to `b`.

    >>> copysign([1.0, -2.0], -1.0).eval()
    array([-1., -2.], dtype=float32)
    """


@pointwise(
    np.square,
    vjp=lambda g, y, x: scaled(g * 2.0, x),
    element=lambda x: x * x,
    domain=elementwise((-2, 2), kinds="iuf"),
    rule=counted,
)
def square(x: Any, *, name: str | None = None) -> Tensor:
    """`x * x`, elementwise.

    >>> square([2, -3]).eval()
    array([4, 9])
    """


# ---------------------------------------------------------------------------- whole quotients


@pointwise(
    np.floor_divide,
    element=primitive("floor_divide"),
    domain=elementwise((-20, 20), (-4, 4), kinds="iuf"),
    rule=counted,
    cuts=STEPS,
)
def floor_divide(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a // b`, rounded down. Of integers, `a // 0` is 0.

    >>> floor_divide([7, -7, 1], [2, 2, 0]).eval()
    array([ 3, -4,  0])
    """


@pointwise(
    np.remainder,
    vjp=lambda g, y, a, b: (g, -scaled(g, floor_divide(a, b))),
    element=primitive("remainder"),
    domain=elementwise((7.1, 7.9), (2.85, 3.15), kinds="iuf"),
    rule=counted,
)
def remainder(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a % b = a - (a // b) * b`, with the sign of `b`. Of integers, `a % 0` is 0.

    >>> remainder([7, -7, 1], [2, 2, 0]).eval()
    array([1, 1, 0])
    """


def _fmod_element(a: Scalar, b: Scalar) -> Scalar:
    """The remainder by a divisor of the sign of `a`; the smallest integer has no opposite."""
    opposite = apply("bit_xor", apply("less", a, 0), apply("less", b, 0))
    divisor = select(opposite, -b, b)
    nonzero = apply("bit_not", apply("equal", b, 0))
    alone = apply("bit_and", apply("bit_and", opposite, nonzero), apply("equal", divisor, b))
    rest = apply("remainder", a, divisor)
    signed = select(apply("equal", rest, 0), a * 0, rest)  # fmod(-0.0, 1.0) is -0.0
    return select(alone, a, signed)


def _truncated(a: Tensor, b: Tensor) -> Tensor:
    return (a - fmod(a, b)) / b


@pointwise(
    np.fmod,
    vjp=lambda g, y, a, b: (g, -scaled(g, _truncated(a, b))),
    element=_fmod_element,
    domain=elementwise((-7.9, -7.1), (2.85, 3.15), kinds="if"),
    rule=counted,
)
def fmod(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The remainder of a quotient rounded towards 0, with the sign of `a`. Of integers, by 0: 0.

    >>> fmod([7, -7, 1], [2, 2, 0]).eval()
    array([ 1, -1,  0])
    """


@trimmed
def divmod(a: Any, b: Any, *, name: str | None = None) -> tuple[Tensor, Tensor]:
    """The pair `a // b`, `a % b`.

    >>> quotient_, rest = divmod([7, -7], 2)
    >>> rest.eval()
    array([1, 1])
    """
    return floor_divide(a, b, name=name), remainder(a, b)


true_divide = divide
mod = remainder
abs = absolute
