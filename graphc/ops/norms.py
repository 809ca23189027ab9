"""Norms, traces and powers of matrices: compositions of other ops."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.build import Check, make, make_all
from graphc.errors import DTypeError, trimmed
from graphc.graph import Tensor
from graphc.ops.broadcast import broadcast_to, same_dtype, sum, sum_dtype
from graphc.ops.compare import equal, not_equal
from graphc.ops.composition import composition
from graphc.ops.control import named
from graphc.ops.creation import diagonal, eye
from graphc.ops.einsum import EINSUM, LETTERS, einsum
from graphc.ops.factorizations import SVD
from graphc.ops.linalg import INV, inexact, square_shape
from graphc.ops.powers import power, sqrt
from graphc.ops.reduce import max, min
from graphc.ops.select import where
from graphc.ops.shape import check_of
from graphc.ops.source import as_tensors

# ---------------------------------------------------------------------------- norm


def _axes(check: Check, x: Tensor, ord: Any, axis: Any) -> tuple[int, ...]:
    """One axis for a norm of vectors, two (rows, columns) for one of matrices."""
    assert x.shape is not None
    rank = len(x.shape)
    if axis is None:
        if ord is not None and rank not in (1, 2):
            check.fail(f"takes a vector or a matrix unless axis names its axes, ord={ord!r}")
        return tuple(range(rank))
    listed = axis if isinstance(axis, tuple) else (axis,)
    counted = tuple(check.axis(a, rank) for a in listed)
    if len(set(counted)) != len(counted) or not 1 <= len(counted) <= 2:
        check.fail(f"axis must be None, an int, or two different ints, axis={axis!r}")
    return counted


def _root_of_squares(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The Euclidean norm, whose gradient at zero is zero."""
    total = (x * x).sum(axes, True)
    zero = equal(total, 0.0)
    return where(zero, 0.0, sqrt(where(zero, 1.0, total)))


def _vector_norm(check: Check, x: Tensor, ord: Any, axis: tuple[int, ...]) -> Tensor:
    if ord is None or ord == 2:
        return _root_of_squares(x, axis)
    size = abs(x)
    if ord == np.inf:
        return max(size, axis, True)
    if ord == -np.inf:
        return min(size, axis, True)
    if ord == 0:
        return not_equal(x, 0.0).astype(x.dtype).sum(axis, True)
    if ord == 1:
        return size.sum(axis, True)
    if not isinstance(ord, (int, float)):
        check.fail(f"ord of a vector must be a number, ord={ord!r}")
    total = power(size, float(ord)).sum(axis, True)
    zero = equal(total, 0.0)
    return where(zero, 0.0, power(where(zero, 1.0, total), 1.0 / ord))


def _matrix_norm(check: Check, x: Tensor, ord: Any, axes: tuple[int, ...]) -> Tensor:
    rows, columns = axes
    if ord is None or ord == "fro":
        return _root_of_squares(x, axes)
    if ord in (1, -1):
        return (max if ord == 1 else min)(abs(x).sum(rows, True), columns, True)
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(abs(x).sum(columns, True), rows, True)
    if ord not in (2, -2, "nuc"):
        check.fail(f"ord of a matrix must be None, 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, {ord=}")
    assert x.shape is not None
    rest = tuple(a for a in range(len(x.shape)) if a not in axes)
    _, values, _ = make_all(SVD, (x.transpose((*rest, rows, columns)),))
    if ord == "nuc":
        found: Tensor = values.sum(-1)
    else:
        found = (max if ord == 2 else min)(values, -1)
    return found.reshape(tuple(1 if a in axes else d for a, d in enumerate(x.shape)))


@composition("x", dtype=same_dtype)
def _norm(x: Any, ord: Any, axis: Any, keepdims: bool, *, name: str | None = None) -> Tensor:
    check = check_of(_norm, x)
    axes = _axes(check, x, ord, axis)
    if ord is None:
        found = _root_of_squares(x, axes)
    elif len(axes) == 1:
        found = _vector_norm(check, x, ord, axes)
    else:
        found = _matrix_norm(check, x, ord, axes)
    if not keepdims:
        found = found.reshape(tuple(d for a, d in enumerate(x.shape) if a not in axes))
    return named(found, name)


@trimmed
def norm(
    x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False, *, name: str | None = None
) -> Tensor:
    """The norm of vectors along an axis, or of matrices over two: NumPy's `linalg.norm`.

    `ord` of vectors: None or 2 (Euclidean), 1, inf, -inf, 0 (how many are not zero), or any p; of
    matrices: None or "fro", "nuc", 1, -1, 2, -2, inf, -inf. With `axis` None all of `x` counts, a
    vector or a matrix, or of any rank if `ord` is None too. The Euclidean norm's gradient at zero
    is zero.

    >>> norm([3.0, 4.0]).eval()
    array(5., dtype=float32)
    """
    found: Tensor = _norm(inexact(x), ord, axis, bool(keepdims), name=name)
    return found


# ---------------------------------------------------------------------------- trace


@composition("x", dtype=sum_dtype)
def trace(
    x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, *, name: str | None = None
) -> Tensor:
    """The sum along a diagonal over two axes, `offset` above the main one: shape without them.

    Integers sum in 64 bits.

    >>> trace([[1, 2], [3, 4]]).eval()
    array(5)
    """
    return sum(diagonal(x, offset, axis1, axis2), -1, name=name)


@trimmed
def matrix_trace(x: Any, offset: int = 0, *, name: str | None = None) -> Tensor:
    """The sum along a diagonal of each matrix `[..., m, n]`: shape `[...]`.

    >>> matrix_trace([[1, 2], [3, 4]]).eval()
    array(5)
    """
    return trace(x, offset, -2, -1, name=name)


# ---------------------------------------------------------------------------- powers and chains


@composition("a", dtype=same_dtype)
def matrix_power(a: Any, n: int, *, name: str | None = None) -> Tensor:
    """`a @ a @ ... @ a`, n times, for square `a: [..., k, k]`; n < 0: of the inverse.

    >>> matrix_power([[1, 1], [0, 1]], 5).eval()
    array([[1, 5],
           [0, 1]])
    """
    check = check_of(matrix_power, a)
    shape = square_shape(check, a.type)
    if isinstance(n, bool) or not isinstance(n, int):
        check.fail(f"n must be an int, n={n!r}", DTypeError)
    if n < 0:
        if not a.dtype.is_float:
            check.fail(f"a negative power takes floats, n={n}", DTypeError)
        a, n = make(INV, (a,)), -n
    if n == 0:
        identity: Tensor = broadcast_to(eye(shape[-1], dtype=a.dtype), shape, name=name)
        return identity
    result: Tensor | None = None
    while n > 1:
        if n & 1:
            result = a if result is None else result @ a
        a, n = a @ a, n >> 1
    return named(a if result is None else result @ a, name)


@trimmed
def multi_dot(arrays: Sequence[Any], *, name: str | None = None) -> Tensor:
    """The product of two or more matrices, in the order that takes the least work.

    The first and the last may be vectors: a row, and a column. Symbolic sizes count as a usual one.

    >>> multi_dot([[[1, 2]], [[3], [4]], [[5]]]).eval()
    array([[55]])
    """
    tensors = as_tensors(arrays)
    if any(t.shape is None for t in tensors):
        return named(functools.reduce(lambda a, b: a @ b, tensors), name)
    if len(tensors) < 2 or len(tensors) >= len(LETTERS):
        Check(EINSUM, tensors, {}).fail(f"takes 2 to {len(LETTERS) - 1} arrays")
    terms = [LETTERS[k : k + 2] for k in range(len(tensors))]
    if tensors[0].ndim == 1:
        terms[0] = terms[0][1]
    if tensors[-1].ndim == 1:
        terms[-1] = terms[-1][0]
    output = "".join(t for t in (terms[0][:-1], terms[-1][1:]))
    return einsum(",".join(terms) + "->" + output, *tensors, name=name)
