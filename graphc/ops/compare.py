"""Comparisons, and tests of what kind of number an element is. All give booleans, and no gradient.

`==` between tensors is identity (so that they are safe dictionary keys): `equal` compares elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops.domain import elementwise
from graphc.ops.logic import bitwise_or
from graphc.ops.pointwise import common_operands, in_floats, pointwise
from graphc.scalar import Scalar, apply, primitive

BOOLEAN = "its values are booleans"
PAIRS = elementwise((-2, 2), (-2, 2), kinds="biuf")
SINGLES = elementwise((-2, 2), kinds="f")


def _not(x: Scalar) -> Scalar:
    return apply("bit_not", x)


# ---------------------------------------------------------------------------- comparisons


@pointwise(np.equal, element=primitive("equal"), domain=PAIRS, result="bool", cuts=BOOLEAN)
def equal(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a == b`, elementwise; NaN equals nothing.

    >>> equal([1, 2], [1, 3]).eval()
    array([ True, False])
    """


@pointwise(
    np.not_equal,
    element=lambda a, b: _not(apply("equal", a, b)),
    domain=PAIRS,
    result="bool",
    cuts=BOOLEAN,
)
def not_equal(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a != b`, elementwise; NaN differs from everything.

    >>> not_equal([1, 2], [1, 3]).eval()
    array([False,  True])
    """


@pointwise(np.less, element=primitive("less"), domain=PAIRS, result="bool", cuts=BOOLEAN)
def less(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a < b`, elementwise.

    >>> less([1, 2], 2).eval()
    array([ True, False])
    """


@pointwise(
    np.less_equal, element=primitive("less_equal"), domain=PAIRS, result="bool", cuts=BOOLEAN
)
def less_equal(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a <= b`, elementwise.

    >>> less_equal([1, 3], 2).eval()
    array([ True, False])
    """


@pointwise(
    np.greater, element=lambda a, b: apply("less", b, a), domain=PAIRS, result="bool", cuts=BOOLEAN
)
def greater(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a > b`, elementwise.

    >>> greater([1, 3], 2).eval()
    array([False,  True])
    """


@pointwise(
    np.greater_equal,
    element=lambda a, b: apply("less_equal", b, a),
    domain=PAIRS,
    result="bool",
    cuts=BOOLEAN,
)
def greater_equal(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a >= b`, elementwise.

    >>> greater_equal([1, 2], 2).eval()
    array([False,  True])
    """


@trimmed
def isclose(
    a: Any,
    b: Any,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
    *,
    name: str | None = None,
) -> Tensor:
    """Whether `|a - b| <= atol + rtol * |b|`, elementwise; infinities are close if they are equal.

    >>> isclose([1.0, 2.0], [1.000001, 2.1]).eval()
    array([ True, False])
    """
    x, y = common_operands(equal.op, (a, b), in_floats, "biuf")  # type: ignore[attr-defined]  # pointwise builders carry their op
    near = less_equal(abs(x - y), abs(y) * rtol + atol) & isfinite(y)
    if equal_nan:
        near = near | (isnan(x) & isnan(y))
    return bitwise_or(near, equal(x, y), name=name)


# ---------------------------------------------------------------------------- kinds of numbers


@pointwise(
    np.isnan,
    element=lambda x: _not(apply("equal", x, x)),
    domain=SINGLES,
    rule=in_floats,
    result="bool",
    cuts=BOOLEAN,
)
def isnan(x: Any, *, name: str | None = None) -> Tensor:
    """Whether each element is NaN; of integers, nowhere.

    >>> isnan([1.0, np.nan]).eval()
    array([False,  True])
    """


@pointwise(
    np.isinf,
    element=lambda x: apply("equal", apply("absolute", x), np.inf),
    domain=SINGLES,
    rule=in_floats,
    result="bool",
    cuts=BOOLEAN,
)
def isinf(x: Any, *, name: str | None = None) -> Tensor:
    """Whether each element is an infinity of either sign.

    >>> isinf([1.0, -np.inf]).eval()
    array([False,  True])
    """


@pointwise(
    np.isfinite,
    element=lambda x: apply("less", apply("absolute", x), np.inf),
    domain=SINGLES,
    rule=in_floats,
    result="bool",
    cuts=BOOLEAN,
)
def isfinite(x: Any, *, name: str | None = None) -> Tensor:
    """Whether each element is neither NaN nor an infinity.

    >>> isfinite([1.0, np.inf, np.nan]).eval()
    array([ True, False, False])
    """


@pointwise(
    np.signbit,
    element=lambda x: apply("less", apply("copysign", 1.0, x), 0.0),
    domain=SINGLES,
    rule=in_floats,
    result="bool",
    cuts=BOOLEAN,
)
def signbit(x: Any, *, name: str | None = None) -> Tensor:
    """Whether the sign bit is set: below zero, and for -0.0.

    >>> signbit([1.0, -0.0]).eval()
    array([False,  True])
    """
