"""Rounding to whole numbers. Constant almost everywhere, so no gradient passes.

To train through a rounding, let the gradient pass around it: `x + stop_gradient(round(x) - x)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ShapeError, trimmed
from graphc.graph import Tensor
from graphc.ops.broadcast import cast
from graphc.ops.control import identity
from graphc.ops.domain import elementwise
from graphc.ops.pointwise import in_floats, pointwise
from graphc.ops.source import as_tensor
from graphc.scalar import primitive

STEPS = "it is constant almost everywhere"
LINE = elementwise((-3, 3), kinds="f")


@pointwise(np.floor, element=primitive("floor"), domain=LINE, unchanged="biu", cuts=STEPS)
def floor(x: Any, *, name: str | None = None) -> Tensor:
    """The largest whole number not above `x`; integers are as they are.

    >>> floor([1.5, -1.5]).eval()
    array([ 1., -2.], dtype=float32)
    """


@pointwise(np.ceil, element=primitive("ceil"), domain=LINE, unchanged="biu", cuts=STEPS)
def ceil(x: Any, *, name: str | None = None) -> Tensor:
    """The smallest whole number not below `x`; integers are as they are.

    >>> ceil([1.5, -1.5]).eval()
    array([ 2., -1.], dtype=float32)
    """


@pointwise(np.trunc, element=primitive("trunc"), domain=LINE, unchanged="biu", cuts=STEPS)
def trunc(x: Any, *, name: str | None = None) -> Tensor:
    """`x` without its fraction; integers are as they are.

    >>> trunc([1.5, -1.5]).eval()
    array([ 1., -1.], dtype=float32)
    """


@pointwise(np.rint, element=primitive("rint"), domain=LINE, rule=in_floats, cuts=STEPS)
def rint(x: Any, *, name: str | None = None) -> Tensor:
    """The nearest whole number, as a float; halves go to the even one.

    >>> rint([0.5, 1.5]).eval()
    array([0., 2.], dtype=float32)
    """


fix = trunc


@trimmed
def round(x: Any, decimals: int = 0, *, name: str | None = None) -> Tensor:
    """The nearest multiple of `10**-decimals`; halves go to the even one. Integers stay integers.

    Computed as NumPy does: scaled, rounded and scaled back, each in the dtype of `x`.

    >>> round([0.125, 2.5], 2).eval()
    array([0.12, 2.5 ], dtype=float32)
    """
    if isinstance(decimals, bool) or not hasattr(decimals, "__index__"):
        raise ShapeError(f"round: decimals must be an int, got {decimals!r}")
    tensor = as_tensor(x)
    if tensor.dtype.kind in "iu":
        return _round_integers(tensor, decimals, name)
    if decimals == 0 or tensor.dtype.kind == "b":
        return rint(tensor, name=name)
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        scaled = rint(tensor * scale) / scale
    else:
        scaled = rint(tensor / scale) * scale
    return identity(scaled, name=name)


def _round_integers(x: Tensor, decimals: int, name: str | None) -> Tensor:
    """Whole multiples of a power of ten; an integer is already rounded to any decimals."""
    if decimals >= 0:
        return identity(x, name=name)
    scale = 10.0**-decimals
    return cast(rint(cast(x, "float64") / scale) * scale, x.dtype, name=name)
