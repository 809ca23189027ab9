"""Logical and bitwise ops, and shifts. None has a gradient: their operands are no real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.graph import Tensor
from graphc.ops.domain import elementwise
from graphc.ops.pointwise import as_truth, counted, pointwise
from graphc.scalar import primitive

DISCRETE = "it takes no real numbers"

# ---------------------------------------------------------------------------- logical

TRUTHS = elementwise((0, 1), (0, 1), kinds="b")


@pointwise(
    np.logical_and, element=primitive("bit_and"), domain=TRUTHS, rule=as_truth, cuts=DISCRETE
)
def logical_and(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """Whether both are true, elementwise; what is not 0 is true (NaN too).

    >>> logical_and([0, 2], [1, 1]).eval()
    array([False,  True])
    """


@pointwise(np.logical_or, element=primitive("bit_or"), domain=TRUTHS, rule=as_truth, cuts=DISCRETE)
def logical_or(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """Whether one or both are true, elementwise; what is not 0 is true (NaN too).

    >>> logical_or([0, 2], [0, 1]).eval()
    array([False,  True])
    """


@pointwise(
    np.logical_xor, element=primitive("bit_xor"), domain=TRUTHS, rule=as_truth, cuts=DISCRETE
)
def logical_xor(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """Whether exactly one is true, elementwise; what is not 0 is true (NaN too).

    >>> logical_xor([0, 2], [1, 1]).eval()
    array([ True, False])
    """


@pointwise(
    np.logical_not,
    element=primitive("bit_not"),
    domain=elementwise((0, 1), kinds="b"),
    rule=as_truth,
    cuts=DISCRETE,
)
def logical_not(x: Any, *, name: str | None = None) -> Tensor:
    """Whether an element is not true; what is not 0 is true (NaN too).

    >>> logical_not([0, 2]).eval()
    array([ True, False])
    """


# ---------------------------------------------------------------------------- bitwise

BITS = elementwise((-100, 100), (-100, 100), kinds="biu")


@pointwise(np.bitwise_and, element=primitive("bit_and"), domain=BITS, takes="biu", cuts=DISCRETE)
def bitwise_and(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a & b`: the bits that are set in both. Takes integers or booleans.

    >>> bitwise_and([6, 5], 3).eval()
    array([2, 1])
    """


@pointwise(np.bitwise_or, element=primitive("bit_or"), domain=BITS, takes="biu", cuts=DISCRETE)
def bitwise_or(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a | b`: the bits that are set in one or both. Takes integers or booleans.

    >>> bitwise_or([6, 5], 3).eval()
    array([7, 7])
    """


@pointwise(np.bitwise_xor, element=primitive("bit_xor"), domain=BITS, takes="biu", cuts=DISCRETE)
def bitwise_xor(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a ^ b`: the bits that differ. Takes integers or booleans.

    >>> bitwise_xor([6, 5], 3).eval()
    array([5, 6])
    """


@pointwise(
    np.invert,
    element=primitive("bit_not"),
    domain=elementwise((-100, 100), kinds="biu"),
    takes="biu",
    cuts=DISCRETE,
)
def invert(x: Any, *, name: str | None = None) -> Tensor:
    """`~x`: every bit flipped; of booleans, the negation.

    >>> invert([0, 5]).eval()
    array([-1, -6])
    """


# ---------------------------------------------------------------------------- shifts

SHIFTS = elementwise((-100, 100), (-2, 70), kinds="iu")


@pointwise(
    np.left_shift,
    element=primitive("shift_left"),
    domain=SHIFTS,
    takes="biu",
    rule=counted,
    cuts=DISCRETE,
)
def left_shift(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a << b`. A shift by the width or more, or by a negative number, gives 0.

    >>> left_shift([1, 5], [3, 64]).eval()
    array([8, 0])
    """


@pointwise(
    np.right_shift,
    element=primitive("shift_right"),
    domain=SHIFTS,
    takes="biu",
    rule=counted,
    cuts=DISCRETE,
)
def right_shift(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a >> b`, which keeps the sign.

    A shift by the width or more, or by a negative number, gives 0, or -1 where `a` is negative.

    >>> right_shift([8, -8], [2, 64]).eval()
    array([ 2, -1])
    """


bitwise_invert = bitwise_not = invert
