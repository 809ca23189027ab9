"""var, std and logsumexp: composites with a stable gradient of their own.

Each is one record with its meaning and its adjoint; `expand` is its composition of simpler ops,
which devices lower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import derived
from graphc.dtypes import Array, DType, float64, floating, summed
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.arith import divide
from graphc.ops.axes import (
    Axes,
    accumulator,
    count_along,
    listed_axes,
    mean_dtype,
    over_count,
    reduction,
    reduction_cases,
)
from graphc.ops.broadcast import (
    as_floats,
    cast,
    expand_reduced,
    rankless_reduction,
    reduced_shape,
    same_dtype,
)
from graphc.ops.compare import equal
from graphc.ops.control import stop_gradient
from graphc.ops.domain import AWKWARD, Case, Domain
from graphc.ops.elementary import exp, log
from graphc.ops.pointwise import quiet
from graphc.ops.powers import sqrt
from graphc.ops.reduce import max, mean, mean_oracle
from graphc.ops.select import where
from graphc.ops.source import as_tensor
from graphc.types import TensorType

# ---------------------------------------------------------------------------- var and std


def _moment_build(
    op: Op, x: Tensor, axis: Any, ddof: int, keepdims: bool, name: str | None
) -> Tensor:
    return reduction(op, x, axis, keepdims, name, ddof=ddof)


def _over_freedom(t: Tensor, x: Tensor, axis: Axes, ddof: int) -> Tensor:
    """`t` over `max(count - ddof, 0)`."""
    return over_count(t, derived("max", count_along(x, axis) - ddof, 0))


def _widened(x: Tensor) -> Tensor:
    """`x` in the type in which it is summed."""
    return cast(x, summed(x.dtype) if x.dtype.is_float else float64)


def _centered(x: Tensor, axis: Axes) -> Tensor:
    return x - expand_reduced(mean(x, axis, True), x, axis, True)


@quiet
def _var_oracle(x: Array, axis: Any, ddof: int, keepdims: bool) -> Array:
    """Two passes: the mean, then the mean square of what is left."""
    wide = x.astype(accumulator(x), copy=False)
    square = np.square(wide - mean_oracle(wide, axis, True))
    listed = listed_axes(axis, x.ndim)
    count = int(np.prod([x.shape[a] for a in listed], dtype=np.int64)) - ddof
    total = np.asarray(np.sum(square, axis=axis, keepdims=keepdims))
    result = np.true_divide(total, total.dtype.type(count if count > 0 else 0))
    return np.asarray(result, x.dtype if x.dtype.kind == "f" else np.float64)


def _var_vjp(g: Tensor, y: Tensor, x: Tensor, axis: Axes, ddof: int, keepdims: bool) -> Tensor:
    share = _over_freedom(g * 2.0, x, axis, ddof)
    return expand_reduced(share, x, axis, keepdims) * _centered(x, axis)


def _var_expand(x: Tensor, axis: Axes, ddof: int, keepdims: bool) -> Tensor:
    centered = _centered(_widened(x), axis)
    total = (centered * centered).sum(axis, keepdims)
    return cast(_over_freedom(total, x, axis, ddof), mean_dtype(None, x.type))


def _moment_domain() -> Domain:
    """Enough elements for each divisor; `smooth` for std too, as no draw has zero variance."""
    rows = (((5,), None, 0), ((5,), 0, 1), ((2, 3), None, 1), ((2, 3), (0, -1), 2), ((2, 3), -1, 0),
            ((3, 1, 2), (0, 2), 0), ((3, 2, 3), 0, 1), ((2, 0, 3), -1, 1))  # fmt: skip
    return Domain(
        tuple(
            Case(reduction_cases((shape,), distinct=True)[0].draws,
                 {"axis": axis, "ddof": ddof, "keepdims": keepdims})
            for shape, axis, ddof in rows
            for keepdims in (False, True)
        ),
        "biuf",
    )  # fmt: skip


VAR: Op = Op(
    "var", "composite", ("x",), mean_dtype, reduced_shape,
    oracle=_var_oracle,
    build=lambda x, axis=None, ddof=0, keepdims=False, name=None: (
        _moment_build(VAR, x, axis, ddof, keepdims, name)
    ),
    vjp=_var_vjp,
    expand=_var_expand,
    rankless=rankless_reduction,
    domain=_moment_domain(),
)  # fmt: skip


def _std_vjp(g: Tensor, y: Tensor, x: Tensor, axis: Axes, ddof: int, keepdims: bool) -> Tensor:
    """Zero where the deviation is zero: the least of the subgradients there."""
    flat = equal(y, 0.0)
    scaled = where(flat, 0.0, divide(g, where(flat, 1.0, y)))
    share = _over_freedom(scaled, x, axis, ddof)
    return expand_reduced(share, x, axis, keepdims) * _centered(x, axis)


def _std_expand(x: Tensor, axis: Axes, ddof: int, keepdims: bool) -> Tensor:
    variance = _var_expand(_widened(x), axis, ddof, keepdims)
    return cast(sqrt(variance), mean_dtype(None, x.type))


STD: Op = Op(
    "std", "composite", ("x",), mean_dtype, reduced_shape,
    oracle=quiet(lambda x, axis, ddof, keepdims: np.asarray(
        np.sqrt(_var_oracle(x.astype(accumulator(x), copy=False), axis, ddof, keepdims)),
        x.dtype if x.dtype.kind == "f" else np.float64,
    )),
    build=lambda x, axis=None, ddof=0, keepdims=False, name=None: (
        _moment_build(STD, x, axis, ddof, keepdims, name)
    ),
    vjp=_std_vjp,
    expand=_std_expand,
    rankless=rankless_reduction,
    domain=_moment_domain(),
)  # fmt: skip


# ---------------------------------------------------------------------------- logsumexp


def _floating(check: Any, x: TensorType, **_: Any) -> DType:
    return floating(x.dtype)


@quiet
def _logsumexp_oracle(x: Array, axis: Any, keepdims: bool) -> Array:
    """log(sum(exp(x - m))) + m, where m is the maximum, or 0 where that is infinite."""
    wide = x.astype(accumulator(x), copy=False)
    top = np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isinf(top), 0, top)
    total = np.log(np.sum(np.exp(wide - shift), axis=axis, keepdims=True)) + shift
    result = total if keepdims else np.sum(total, axis=axis)
    return np.asarray(result, x.dtype)


def _logsumexp_vjp(g: Tensor, y: Tensor, x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    """The softmax; where the sum is infinite, its limit: equal shares of the infinite elements."""
    top = expand_reduced(y, x, axis, keepdims)
    infinite = equal(abs(top), np.inf)
    leading = equal(x, top) & infinite
    ties = expand_reduced(leading.sum(axis, keepdims), x, axis, keepdims)
    count = where(equal(ties, 0), 1, ties)
    limit = divide(leading.astype(x.dtype), count.astype(x.dtype))
    weights = where(infinite, limit, exp(where(infinite, 0.0, x - top)))
    return expand_reduced(g, x, axis, keepdims) * weights


def _logsumexp_expand(x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    wide = _widened(x)
    top = stop_gradient(max(wide, axis, True, initial=-np.inf))
    shift = where(equal(abs(top), np.inf), 0.0, top)
    terms = exp(wide - expand_reduced(shift, x, axis, True))
    total = cast(log(terms.sum(axis, True)) + shift, x.dtype)
    return total if keepdims else total.reshape(reduced_dims(x, axis))


def reduced_dims(x: Tensor, axis: Axes) -> Any:
    """The sizes that a reduction over `axis` leaves."""
    assert x.shape is not None
    return tuple(d for i, d in enumerate(x.shape) if i not in axis)


LOGSUMEXP: Op = Op(
    "logsumexp", "composite", ("x",), same_dtype, reduced_shape,
    oracle=_logsumexp_oracle,
    build=lambda x, axis=None, keepdims=False, name=None: (
        reduction(LOGSUMEXP, x, axis, keepdims, name)
    ),
    vjp=_logsumexp_vjp,
    expand=_logsumexp_expand,
    rankless=rankless_reduction,
    domain=Domain(reduction_cases(AWKWARD), "f"),
)  # fmt: skip


# ---------------------------------------------------------------------------- public builders


@trimmed
def var(
    x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False, *, name: str | None = None
) -> Tensor:
    """The mean square distance from the mean over `axis`, divided by `count - ddof`.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`. Integers give float64. Two
    passes, so nothing cancels.

    >>> var([[1, 5], [7, 7]], axis=1).eval()
    array([4., 0.])
    """
    return _moment_build(VAR, as_tensor(x), axis, ddof, keepdims, name)


@trimmed
def std(
    x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False, *, name: str | None = None
) -> Tensor:
    """The square root of `var`. Its gradient where the deviation is zero is zero.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`. Integers give float64.

    >>> std([[1, 5], [7, 7]], axis=1).eval()
    array([2., 0.])
    """
    return _moment_build(STD, as_tensor(x), axis, ddof, keepdims, name)


@trimmed
def logsumexp(
    x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None
) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow; over no elements, minus infinity.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`. Where the result is
    infinite, the elements that make it so share the gradient. P. Blanchard, D. J. Higham and
    N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer. Anal.
    41 (2021).

    >>> logsumexp([1000.0, 1000.0]).eval()
    array(1000.6932, dtype=float32)
    """
    return reduction(LOGSUMEXP, as_floats(x), axis, keepdims, name)
