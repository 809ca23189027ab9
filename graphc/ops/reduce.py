"""Reductions of one operand: max, min, prod, mean, any, all, count_nonzero, argmax, argmin.

`sum` is in `broadcast.py`, beside its adjoint; `var`, `std` and `logsumexp` are in `moments.py`.
Axes are None (all), an int, or several; negative ones count from the end, and `()` reduces nothing.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Shape, product
from graphc.dtypes import Array, DType, as_dtype, bool_
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.kernel import Index, Source, cast, lift, typed
from graphc.kernel import along as reduced_along
from graphc.ops.arith import scaled
from graphc.ops.axes import (
    Axes,
    accumulator,
    count_along,
    index_dtype,
    listed_axes,
    mean_dtype,
    over_count,
    reduction,
    reduction_cases,
)
from graphc.ops.broadcast import (
    expand_reduced,
    folded,
    rankless_reduction,
    reduced_shape,
    same_dtype,
    sum_dtype,
)
from graphc.ops.compare import equal, not_equal
from graphc.ops.cumulative import exclusive_cumprod
from graphc.ops.domain import Domain
from graphc.ops.pointwise import quiet
from graphc.ops.select import where
from graphc.ops.source import as_tensor
from graphc.scalar import Scalar
from graphc.types import TensorType

# ---------------------------------------------------------------------------- max and min


def _require_elements(check: Check, x: TensorType, axis: Any) -> None:
    assert x.shape is not None
    listed = check.axes(axis, len(x.shape))
    if product(x.shape[a] for a in listed) == 0:
        check.fail(f"zero-size x has no identity for {check.op.name}, axis={axis}")


def _extremum_shape(check: Check, x: TensorType, axis: Any, initial: Any, keepdims: bool) -> Shape:
    if initial is None:
        _require_elements(check, x, axis)
    return reduced_shape(check, x, axis, keepdims)


def _extremum_vjp(
    g: Tensor, y: Tensor, x: Tensor, axis: Axes, initial: Any, keepdims: bool
) -> Tensor:
    """An equal share for each element that is the extremum (a NaN is, wherever there is one)."""
    chosen = equal(x, expand_reduced(y, x, axis, keepdims)) | not_equal(x, x)
    ties = expand_reduced(chosen.sum(axis, keepdims), x, axis, keepdims)
    shared = where(equal(ties, 0), 1, ties).astype(x.dtype)
    return where(chosen, expand_reduced(g, x, axis, keepdims) / shared, 0)


def _extremum_oracle(reduce: Any) -> Any:
    def oracle(x: Array, axis: Any, initial: Any = None, keepdims: bool = False) -> Array:
        given = {} if initial is None else {"initial": x.dtype.type(initial)}
        result: Array = reduce(x, axis=axis, keepdims=keepdims, **given)
        return result

    return oracle


def _extremum_element(
    kind: str, index: Index, x: Source, axis: Axes, initial: Any, keepdims: bool
) -> Scalar:
    return reduced_along(kind, index, x, axis, keepdims, initial=initial)


def _extremum_build(op: Op, x: Tensor, axis: Any, keepdims: bool, *given: Any) -> Tensor:
    initial, name = given
    return reduction(op, x, axis, keepdims, name, initial=initial)


MAX: Op = Op(
    "max", "reduction", ("x",), same_dtype, _extremum_shape,
    oracle=_extremum_oracle(np.max),
    element=functools.partial(_extremum_element, "max"),
    build=lambda x, axis=None, keepdims=False, initial=None, name=None: (
        _extremum_build(MAX, x, axis, keepdims, initial, name)
    ),
    vjp=_extremum_vjp,
    rankless=rankless_reduction,
    domain=Domain(reduction_cases(nonempty=True, distinct=True), "biuf"),
)  # fmt: skip
MIN: Op = Op(
    "min", "reduction", ("x",), same_dtype, _extremum_shape,
    oracle=_extremum_oracle(np.min),
    element=functools.partial(_extremum_element, "min"),
    build=lambda x, axis=None, keepdims=False, initial=None, name=None: (
        _extremum_build(MIN, x, axis, keepdims, initial, name)
    ),
    vjp=_extremum_vjp,
    rankless=rankless_reduction,
    domain=Domain(reduction_cases(nonempty=True, distinct=True), "biuf"),
)  # fmt: skip


# ---------------------------------------------------------------------------- prod and mean


def _prod_vjp(g: Tensor, y: Tensor, x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    """The product of all other elements: of those before each, and of those after it."""
    assert x.shape is not None
    spread = expand_reduced(g, x, axis, keepdims)
    order = tuple(a for a in range(len(x.shape)) if a not in axis) + axis
    moved = x.transpose(order)
    assert moved.shape is not None
    last = len(order) - len(axis)
    rows = moved.reshape((*moved.shape[:last], count_along(x, axis)))
    others = exclusive_cumprod(rows, last, False) * exclusive_cumprod(rows, last, True)
    inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
    return scaled(spread, others.reshape(moved.shape).transpose(inverse))


PROD: Op = Op(
    "prod", "reduction", ("x",), sum_dtype, reduced_shape,
    oracle=lambda x, axis, keepdims: np.prod(x, axis=axis, keepdims=keepdims),
    element=functools.partial(folded, "prod"),
    build=lambda x, axis=None, keepdims=False, name=None: reduction(PROD, x, axis, keepdims, name),
    vjp=_prod_vjp,
    rankless=rankless_reduction,
    domain=Domain(reduction_cases(), "biuf"),
)  # fmt: skip


@quiet
def mean_oracle(x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum over the count; of no elements, NaN."""
    total = np.sum(x, axis=axis, keepdims=keepdims, dtype=accumulator(x))
    count = np.prod([x.shape[a] for a in listed_axes(axis, x.ndim)], dtype=np.int64)
    result = np.true_divide(total, total.dtype.type(count))
    return np.asarray(result, x.dtype if x.dtype.kind == "f" else np.float64)


def _mean_element(index: Index, x: Source, axis: Axes, keepdims: bool) -> Scalar:
    """The sum in the oracle's accumulator, over the count."""
    wide = as_dtype(accumulator(np.empty(0, x.dtype.numpy)))
    total = reduced_along("sum", index, x, axis, keepdims, lambda e: typed(e, wide))
    return total / cast(lift(product(x.shape[a] for a in axis)), wide)


MEAN: Op = Op(
    "mean", "reduction", ("x",), mean_dtype, reduced_shape,
    oracle=mean_oracle,
    element=_mean_element,
    build=lambda x, axis=None, keepdims=False, name=None: reduction(MEAN, x, axis, keepdims, name),
    vjp=lambda g, y, x, axis, keepdims: (
        expand_reduced(over_count(g, count_along(x, axis)), x, axis, keepdims)
    ),
    rankless=rankless_reduction,
    domain=Domain(reduction_cases(nonempty=True), "biuf"),
)  # fmt: skip


# ---------------------------------------------------------------------------- any and all


def _boolean(check: Check, x: TensorType, **_: Any) -> DType:
    return bool_


def _truth_element(kind: str, index: Index, x: Source, axis: Axes, keepdims: bool) -> Scalar:
    return reduced_along(kind, index, x, axis, keepdims, lambda e: typed(e, bool_))


ANY: Op = Op(
    "any", "reduction", ("x",), _boolean, reduced_shape,
    oracle=lambda x, axis, keepdims: np.any(x, axis=axis, keepdims=keepdims),
    element=functools.partial(_truth_element, "any"),
    build=lambda x, axis=None, keepdims=False, name=None: reduction(ANY, x, axis, keepdims, name),
    rankless=rankless_reduction,
    domain=Domain(reduction_cases(), "biuf"),
    cuts="booleans have no gradient",
)  # fmt: skip
ALL: Op = Op(
    "all", "reduction", ("x",), _boolean, reduced_shape,
    oracle=lambda x, axis, keepdims: np.all(x, axis=axis, keepdims=keepdims),
    element=functools.partial(_truth_element, "all"),
    build=lambda x, axis=None, keepdims=False, name=None: reduction(ALL, x, axis, keepdims, name),
    rankless=rankless_reduction,
    domain=Domain(reduction_cases(), "biuf"),
    cuts="booleans have no gradient",
)  # fmt: skip


# ---------------------------------------------------------------------------- argmax and argmin


def _arg_shape(check: Check, x: TensorType, axis: Any, keepdims: bool) -> Shape:
    _require_elements(check, x, axis)
    return reduced_shape(check, x, axis, keepdims)


def _arg_build(op: Op, x: Tensor, axis: Any, keepdims: bool, name: str | None) -> Tensor:
    """Along one axis; None searches the flattened operand."""
    if x.shape is not None and axis is None:
        flat = x.reshape((count_along(x, tuple(range(len(x.shape)))),))
        found = _arg_build(op, flat, 0, False, None if keepdims else name)
        return found.reshape((1,) * len(x.shape)) if keepdims else found
    if x.shape is not None:
        axis = Check(op, (x,), {}).axis(axis, len(x.shape))
    return make(op, (x,), {"axis": axis, "keepdims": bool(keepdims)}, name)


def _arg_element(kind: str, index: Index, x: Source, axis: int, keepdims: bool) -> Scalar:
    return reduced_along(kind, index, x, (axis,), keepdims)


_ARG_DOMAIN = Domain(
    tuple(
        case for case in reduction_cases(nonempty=True) if not isinstance(case.attrs["axis"], tuple)
    ),
    "biuf",
)
ARGMAX: Op = Op(
    "argmax", "reduction", ("x",), index_dtype, _arg_shape,
    oracle=lambda x, axis, keepdims: np.argmax(x, axis=axis, keepdims=keepdims),
    element=functools.partial(_arg_element, "argmax"),
    build=lambda x, axis=None, keepdims=False, name=None: (
        _arg_build(ARGMAX, x, axis, keepdims, name)
    ),
    rankless=rankless_reduction,
    domain=_ARG_DOMAIN,
    cuts="an index has no gradient",
)  # fmt: skip
ARGMIN: Op = Op(
    "argmin", "reduction", ("x",), index_dtype, _arg_shape,
    oracle=lambda x, axis, keepdims: np.argmin(x, axis=axis, keepdims=keepdims),
    element=functools.partial(_arg_element, "argmin"),
    build=lambda x, axis=None, keepdims=False, name=None: (
        _arg_build(ARGMIN, x, axis, keepdims, name)
    ),
    rankless=rankless_reduction,
    domain=_ARG_DOMAIN,
    cuts="an index has no gradient",
)  # fmt: skip


# ---------------------------------------------------------------------------- public builders


@trimmed
def max(
    x: Any, axis: Any = None, keepdims: bool = False, *, initial: Any = None,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """The largest element over `axis`, at least `initial` where that is given; a NaN wins.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`; dtype: that of `x`. Over
    no elements and without `initial`: a ShapeError. Elements that tie share the gradient equally.

    >>> max([[1, 5], [7, 2]], axis=1).eval()
    array([5, 7])
    """
    return _extremum_build(MAX, as_tensor(x), axis, keepdims, initial, name)


@trimmed
def min(
    x: Any, axis: Any = None, keepdims: bool = False, *, initial: Any = None,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """The smallest element over `axis`, at most `initial` where that is given; a NaN wins.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`; dtype: that of `x`. Over
    no elements and without `initial`: a ShapeError. Elements that tie share the gradient equally.

    >>> min([[1, 5], [7, 2]], axis=1).eval()
    array([1, 2])
    """
    return _extremum_build(MIN, as_tensor(x), axis, keepdims, initial, name)


@trimmed
def prod(x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None) -> Tensor:
    """The product over `axis` (an int, several, or None for all); over no elements, 1.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`. Integers multiply in 64
    bits. The gradient divides by nothing, so it is right where elements are zero.

    >>> prod([[1, 5], [7, 2]], axis=1).eval()
    array([ 5, 14])
    """
    return reduction(PROD, as_tensor(x), axis, keepdims, name)


@trimmed
def mean(x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None) -> Tensor:
    """The arithmetic mean over `axis` (an int, several, or None for all); over no elements, NaN.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`. Integers give float64.

    >>> mean([[1, 5], [7, 2]], axis=1).eval()
    array([3. , 4.5])
    """
    return reduction(MEAN, as_tensor(x), axis, keepdims, name)


@trimmed
def any(x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None) -> Tensor:
    """Whether some element over `axis` is not zero; over no elements, False.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`; dtype: bool.

    >>> any([[0, 5], [0, 0]], axis=1).eval()
    array([ True, False])
    """
    return reduction(ANY, as_tensor(x), axis, keepdims, name)


@trimmed
def all(x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None) -> Tensor:
    """Whether no element over `axis` is zero; over no elements, True.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`; dtype: bool.

    >>> all([[1, 5], [0, 2]], axis=1).eval()
    array([ True, False])
    """
    return reduction(ALL, as_tensor(x), axis, keepdims, name)


@trimmed
def count_nonzero(
    x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None
) -> Tensor:
    """How many elements over `axis` are not zero, as int64.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`.

    >>> count_nonzero([[0, 5], [7, 2]], axis=1).eval()
    array([1, 2])
    """
    tensor = as_tensor(x)
    flags = tensor if tensor.dtype is bool_ else not_equal(tensor, 0)
    return flags.sum(axis, keepdims, name=name)


@trimmed
def argmax(x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None) -> Tensor:
    """The index of the largest element along `axis`: the first of equals, the first NaN if any.

    Shape: that of `x` without `axis`, or with a one there if `keepdims`; dtype: int64. None
    searches `x` flattened. Along no elements: a ShapeError.

    >>> argmax([[1, 5], [7, 7]], axis=1).eval()
    array([1, 0])
    """
    return _arg_build(ARGMAX, as_tensor(x), axis, keepdims, name)


@trimmed
def argmin(x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None) -> Tensor:
    """The index of the smallest element along `axis`: the first of equals, the first NaN if any.

    Shape: that of `x` without `axis`, or with a one there if `keepdims`; dtype: int64. None
    searches `x` flattened. Along no elements: a ShapeError.

    >>> argmin([[1, 5], [7, 7]], axis=1).eval()
    array([0, 0])
    """
    return _arg_build(ARGMIN, as_tensor(x), axis, keepdims, name)
