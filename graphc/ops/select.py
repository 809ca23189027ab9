"""Choosing between values, element by element: where, maximum and minimum, clip, nan_to_num.

`where` gives each branch the cotangents of the elements that were taken from it and zeros
elsewhere. Rules that multiply by a derivative use `arith.scaled`, which keeps such a zero even
where the derivative is infinite: so no NaN comes from a branch that was not taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check
from graphc.dtypes import bool_
from graphc.errors import DTypeError, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import cast
from graphc.ops.compare import greater_equal, isnan
from graphc.ops.control import identity
from graphc.ops.domain import elementwise
from graphc.ops.pointwise import (
    build_pointwise,
    common_operands,
    pointwise,
    pointwise_shape,
    promoted,
)
from graphc.ops.source import as_tensor
from graphc.scalar import Scalar, apply, primitive, select
from graphc.types import TensorType


def _where_dtype(check: Check, condition: TensorType, x: TensorType, y: TensorType) -> Any:
    if condition.dtype is not bool_ or x.dtype is not y.dtype:
        check.fail("takes a boolean condition and two operands of one dtype", DTypeError)
    return x.dtype


def _where_build(condition: Tensor, x: Tensor, y: Tensor, name: str | None = None) -> Tensor:
    return build_pointwise(WHERE, (condition, x, y), name)


def _where_vjp(g: Tensor, result: Tensor, condition: Tensor, *_: Tensor) -> tuple[Any, ...]:
    return (None, where(condition, g, 0), where(condition, 0, g))


WHERE = Op(
    "where", "pointwise", ("condition", "x", "y"),
    dtype=_where_dtype,
    shape=pointwise_shape,
    oracle=np.where,
    build=_where_build,
    vjp=_where_vjp,
    element=select,
    domain=elementwise((0, 1), (-2, 2), (-2, 2), kinds="biuf", draws=("bool", "same", "same")),
)  # fmt: skip


@trimmed
def where(condition: Any, x: Any, y: Any, *, name: str | None = None) -> Tensor:
    """`x` where the condition holds (is not 0), else `y`; all broadcast to one shape.

    Both branches are computed, but the gradient of the one that is not taken is 0, even where it
    would be infinite or NaN there. To compute one branch alone, for a scalar: `ifelse`.

    >>> where([True, False], [1, 2], 0).eval()
    array([1, 0])
    """
    chosen = cast(as_tensor(condition), bool_)
    one, other = common_operands(WHERE, (x, y), promoted, "biuf")
    return _where_build(chosen, one, other, name)


# ---------------------------------------------------------------------------- extrema


def _divided(g: Tensor, to_first: Tensor) -> tuple[Tensor, Tensor]:
    """The cotangent, to the operand that was taken."""
    return where(to_first, g, 0), where(to_first, 0, g)


def _present(choice: str) -> Any:
    """The formula of fmax and fmin: the operand that is no NaN, where the other is one."""

    def element(a: Scalar, b: Scalar) -> Scalar:
        both = select(apply("equal", b, b), apply(choice, a, b), a)
        return select(apply("equal", a, a), both, b)

    return element


@pointwise(
    np.maximum,
    vjp=lambda g, y, a, b: _divided(g, greater_equal(a, b)),
    element=primitive("maximum"),
    domain=elementwise((-2, 0.4), (0.6, 2), kinds="biuf"),
)
def maximum(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The larger of each two elements; NaN where either is. Where they tie, the gradient is `a`'s.

    >>> maximum([1, 5], 3).eval()
    array([3, 5])
    """


@pointwise(
    np.minimum,
    vjp=lambda g, y, a, b: _divided(g, greater_equal(b, a)),
    element=primitive("minimum"),
    domain=elementwise((-2, 0.4), (0.6, 2), kinds="biuf"),
)
def minimum(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The smaller of each two elements; NaN where either is. Where they tie, the gradient is `a`'s.

    >>> minimum([1, 5], 3).eval()
    array([1, 3])
    """


@pointwise(
    np.fmax,
    vjp=lambda g, y, a, b: _divided(g, greater_equal(a, b) | isnan(b)),
    element=_present("maximum"),
    domain=elementwise((0.6, 2), (-2, 0.4), kinds="biuf"),
)
def fmax(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The larger of each two elements, or the one that is no NaN. Ties: the gradient is `a`'s.

    >>> fmax([1.0, np.nan], 3.0).eval()
    array([3., 3.], dtype=float32)
    """


@pointwise(
    np.fmin,
    vjp=lambda g, y, a, b: _divided(g, greater_equal(b, a) | isnan(b)),
    element=_present("minimum"),
    domain=elementwise((0.6, 2), (-2, 0.4), kinds="biuf"),
)
def fmin(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The smaller of each two elements, or the one that is no NaN. Ties: the gradient is `a`'s.

    >>> fmin([1.0, np.nan], 3.0).eval()
    array([1., 3.], dtype=float32)
    """


@trimmed
def clip(x: Any, low: Any = None, high: Any = None, *, name: str | None = None) -> Tensor:
    """`x`, at least `low` and at most `high` (numbers or tensors; None: no bound).

    The gradient is that of `x` inside and at the bounds, and that of the bound outside. Where
    `low` is above `high` the result is `high`, as NumPy's.

    >>> clip([-1.0, 0.5, 2.0], 0.0, 1.0).eval()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    if low is None and high is None:
        return identity(x, name=name)
    if low is None:
        return minimum(x, high, name=name)
    return maximum(x, low, name=name) if high is None else minimum(maximum(x, low), high, name=name)


@trimmed
def nan_to_num(
    x: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None, *, name: str | None = None
) -> Tensor:
    """`x` with NaN and infinities replaced, these by the largest finite values where None is given.

    The gradient is 1 where `x` was kept, else 0. Integers are as they are.

    >>> nan_to_num([1.0, np.nan], nan=-1.0).eval()
    array([ 1., -1.], dtype=float32)
    """
    tensor = as_tensor(x)
    if not tensor.dtype.is_float:
        return identity(tensor, name=name)
    limits = np.finfo(tensor.dtype.numpy)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    bounded = where(tensor > float(limits.max), high, tensor)
    bounded = where(tensor < float(limits.min), low, bounded)
    return where(isnan(tensor), nan, bounded, name=name)
