"""Tensors made of sizes: zeros, arange, eye ...; and one_hot, diag and tril, made of those.

Shapes and counts may be symbolic: sizes, integer scalars, or an integer tensor of sizes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.build import make
from graphc.dims import Dim, Dimension, derived, floordiv, is_nonnegative
from graphc.dtypes import DType, as_dtype, float32, int64
from graphc.errors import DTypeError, ShapeError, trimmed
from graphc.graph import Tensor
from graphc.ops.broadcast import broadcast_to, cast, same_dtype
from graphc.ops.compare import equal, greater_equal
from graphc.ops.composition import composition
from graphc.ops.follow import as_dimension, as_shape, is_open, located
from graphc.ops.select import where
from graphc.ops.shape import check_of, moveaxis
from graphc.ops.slicing import along, unslice_build
from graphc.ops.source import ARANGE, EYE, as_tensor, full_of, literal

# ---------------------------------------------------------------------------- filled


def _filled(shape: Any, value: Any, dtype: Any, name: str | None) -> Tensor:
    tensor = as_tensor(value, None if dtype is None else as_dtype(dtype))
    sizes = shape if is_open(shape) else as_shape(shape)
    return broadcast_to(tensor if dtype is None else cast(tensor, dtype), sizes, name=name)


@trimmed
@located
def full(shape: Any, fill_value: Any, dtype: Any = None, *, name: str | None = None) -> Tensor:
    """`fill_value` (a number or a tensor that broadcasts) in `shape`.

    >>> full((2,), 7).eval()
    array([7, 7])
    """
    return _filled(shape, fill_value, dtype, name)


@trimmed
@located
def fill(dims: Any, value: Any, *, name: str | None = None) -> Tensor:
    """TensorFlow's form of `full`.

    >>> fill((2,), 7).eval()
    array([7, 7])
    """
    return _filled(dims, value, None, name)


@trimmed
@located
def zeros(shape: Any, dtype: Any = "float32", *, name: str | None = None) -> Tensor:
    """0 everywhere in `shape`.

    >>> zeros((2,)).eval()
    array([0., 0.], dtype=float32)
    """
    return _filled(shape, 0, dtype, name)


@trimmed
@located
def ones(shape: Any, dtype: Any = "float32", *, name: str | None = None) -> Tensor:
    """1 everywhere in `shape`.

    >>> ones((2,)).eval()
    array([1., 1.], dtype=float32)
    """
    return _filled(shape, 1, dtype, name)


@composition("x", dtype=lambda check, x, value, dtype: dtype)
def _full_like(x: Any, value: Any, dtype: DType, *, name: str | None = None) -> Tensor:
    return full_of(value, x.shape, dtype, name)


def _like(x: Any, value: Any, dtype: Any, name: str | None) -> Tensor:
    tensor = as_tensor(x)
    kept = tensor.dtype if dtype is None else as_dtype(dtype)
    filled: Tensor = _full_like(
        tensor, np.asarray(value).astype(kept.numpy).item(), kept, name=name
    )
    return filled


@trimmed
def zeros_like(x: Any, dtype: Any = None, *, name: str | None = None) -> Tensor:
    """0 everywhere in the shape of `x`, in its dtype unless another is given.

    >>> zeros_like([1, 2]).eval()
    array([0, 0])
    """
    return _like(x, 0, dtype, name)


@trimmed
def ones_like(x: Any, dtype: Any = None, *, name: str | None = None) -> Tensor:
    """1 everywhere in the shape of `x`, in its dtype unless another is given.

    >>> ones_like([1, 2]).eval()
    array([1, 1])
    """
    return _like(x, 1, dtype, name)


@trimmed
def full_like(x: Any, fill_value: Any, dtype: Any = None, *, name: str | None = None) -> Tensor:
    """`fill_value` (a number) in the shape of `x`, in its dtype unless another is given.

    >>> full_like([1, 2], 7).eval()
    array([7, 7])
    """
    return _like(x, fill_value, dtype, name)


# ---------------------------------------------------------------------------- ranges


def _number(value: Any, what: str) -> Any:
    """A bound of a range: a number, or a size that may be symbolic."""
    if isinstance(value, (float, np.floating)):
        return float(value)
    return as_dimension(value, what)


def _count(start: Any, stop: Any, step: Any) -> Dimension:
    """How many numbers from `start` up to `stop`, which is left out."""
    if isinstance(step, Dim):
        raise ShapeError(f"arange: step must be a number that is known now, got {step}")
    if step == 0:
        raise ShapeError("arange: step must not be 0")
    if any(isinstance(v, float) for v in (start, stop, step)):
        if isinstance(start, Dim) or isinstance(stop, Dim):
            raise DTypeError("arange: bounds must be all integers, or all known now")
        steps: int = math.ceil((stop - start) / step)
        return max(0, steps)
    span: Any = stop - start if step > 0 else start - stop
    count = floordiv(span + (abs(step) - 1), abs(step))
    return count if is_nonnegative(count) else derived("max", count, 0)


@trimmed
@located
def arange(
    start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, *, name: str | None = None
) -> Tensor:
    """The numbers from `start` (0 if there is one bound alone) by `step`, before `stop`.

    Integer bounds make int64, floats float32. Bounds may be sizes and integer scalars; the step is
    known now.

    >>> arange(2, 8, 3).eval()
    array([2, 5])
    """
    if stop is None:
        start, stop = 0, start
    first_, last, by = _number(start, "start"), _number(stop, "stop"), _number(step, "step")
    is_float = any(isinstance(v, float) for v in (first_, last, by))
    kept = as_dtype(dtype) if dtype is not None else float32 if is_float else int64
    count = _count(first_, last, by)
    attrs = {"start": first_, "step": by, "count": count, "dtype": kept}
    return make(ARANGE, (), attrs, name)


@trimmed
@located
def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    dtype: Any = None,
    *,
    name: str | None = None,
) -> Tensor:
    """`num` numbers, evenly spaced from `start` to `stop`, which `endpoint` says is one of them.

    Bounds are numbers or scalar tensors (and then have gradients).

    >>> linspace(0.0, 1.0, 3).eval()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    count = as_dimension(num, "num")
    if isinstance(count, int) and count < 0:
        raise ShapeError(f"linspace: num must not be negative, got {count}")
    kept = None if dtype is None else as_dtype(dtype)
    if not isinstance(start, Tensor) and not isinstance(stop, Tensor) and isinstance(count, int):
        values = np.linspace(start, stop, count, endpoint)
        return literal(values.astype((kept or float32).numpy), name)
    low, high = as_tensor(start, kept), as_tensor(stop, kept)
    steps = derived("max", count - 1, 1) if endpoint else count
    exact = cast(arange(count), "float64") / cast(as_tensor(steps), "float64")
    wanted = kept or (low * high).dtype
    along_way = cast(exact, wanted if wanted.is_float else "float64")
    return cast(low * (1 - along_way) + high * along_way, wanted, name=name)


@trimmed
@located
def eye(
    rows: Any, columns: Any = None, k: int = 0, dtype: Any = "float32", *, name: str | None = None
) -> Tensor:
    """A matrix of ones on the `k`-th diagonal and zeros elsewhere.

    >>> eye(2).eval()
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    count = as_dimension(rows, "rows")
    width = count if columns is None else as_dimension(columns, "columns")
    if any(isinstance(size, int) and size < 0 for size in (count, width)):
        raise ShapeError(f"eye: sizes must not be negative, got {rows} and {columns}")
    attrs = {"rows": count, "columns": width, "offset": int(k), "dtype": as_dtype(dtype)}
    return make(EYE, (), attrs, name)


# ---------------------------------------------------------------------------- one_hot


@composition("indices", dtype=lambda check, indices, depth, dtype, axis: dtype)
def _one_hot(
    indices: Any, depth: Dimension, dtype: DType, axis: int, *, name: str | None = None
) -> Tensor:
    check = check_of(_one_hot, indices)
    if indices.dtype.kind not in "iu":
        check.fail("indices must be integers", DTypeError)
    rank = len(indices.shape) + 1
    axis = check.axis(axis, rank)
    places = indices.reshape((*indices.shape[:axis], 1, *indices.shape[axis:]))
    classes = arange(depth).reshape(tuple(depth if i == axis else 1 for i in range(rank)))
    return cast(equal(places, classes), dtype, name=name)


@trimmed
@located
def one_hot(
    indices: Any, depth: Any, dtype: Any = "float32", axis: int = -1, *, name: str | None = None
) -> Tensor:
    """1 at each index along a new `axis` of size `depth`, else 0; all 0 for an index out of range.

    >>> one_hot([1, 0], 2).eval()
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """
    size = as_dimension(depth, "depth")
    hot: Tensor = _one_hot(as_tensor(indices), size, as_dtype(dtype), axis, name=name)
    return hot


# ---------------------------------------------------------------------------- diagonals


@composition("x", dtype=same_dtype)
def diagonal(
    x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, *, name: str | None = None
) -> Tensor:
    """The diagonals of the matrices in `axis1` and `axis2`, along a new last axis.

    >>> diagonal([[1, 2], [3, 4]]).eval()
    array([1, 4])
    """
    check = check_of(diagonal, x)
    if len(x.shape) < 2:
        check.fail("x must have at least two axes")
    first_axis, second = check.axis(axis1, len(x.shape)), check.axis(axis2, len(x.shape))
    if first_axis == second:
        check.fail(f"axis1 and axis2 must differ, got {axis1} and {axis2}")
    moved: Any = moveaxis(x, (first_axis, second), (-2, -1))
    *batch, rows, columns = moved.shape
    length = derived("min", rows, columns - offset) if offset >= 0 else derived(
        "min", rows + offset, columns
    )  # fmt: skip
    start = offset if offset >= 0 else columns * -offset
    flat = moved.reshape((*batch, rows * columns))
    return along(flat, len(batch), start, derived("max", length, 0), columns + 1)


@composition("x", dtype=same_dtype)
def diag(x: Any, k: int = 0, *, name: str | None = None) -> Tensor:
    """A vector's matrix, with the vector on the `k`-th diagonal; a matrix's `k`-th diagonal.

    >>> diag([1, 2]).eval()
    array([[1, 0],
           [0, 2]])
    """
    check = check_of(diag, x)
    if len(x.shape) == 2:
        return diagonal(x, k, name=name)
    if len(x.shape) != 1:
        check.fail("x must be a vector or a matrix")
    side = x.shape[0] + abs(k)
    start = k if k >= 0 else side * -k
    flat = unslice_build(x, (start,), (side + 1,), (side * side,))
    return flat.reshape((side, side))


def _triangle(builder: Any, x: Any, k: int, lower: bool, name: str | None) -> Tensor:
    check = check_of(builder, x)
    if len(x.shape) < 2:
        check.fail("x must have at least two axes")
    rows = arange(x.shape[-2]).reshape((x.shape[-2], 1)) + k
    columns = arange(x.shape[-1]).reshape((1, x.shape[-1]))
    inside = greater_equal(rows, columns) if lower else greater_equal(columns, rows)
    return where(inside, x, 0, name=name)


@composition("x", dtype=same_dtype)
def tril(x: Any, k: int = 0, *, name: str | None = None) -> Tensor:
    """The matrices in the last two axes, with zeros above the `k`-th diagonal.

    >>> tril([[1, 2], [3, 4]]).eval()
    array([[1, 0],
           [3, 4]])
    """
    return _triangle(tril, x, k, True, name)


@composition("x", dtype=same_dtype)
def triu(x: Any, k: int = 0, *, name: str | None = None) -> Tensor:
    """The matrices in the last two axes, with zeros below the `k`-th diagonal.

    >>> triu([[1, 2], [3, 4]]).eval()
    array([[1, 2],
           [0, 4]])
    """
    return _triangle(triu, x, k, False, name)
