"""Clipping of tensors, of gradients above all: by norm, by the norm of many, by value.

R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML
2013; names and results as in TensorFlow 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

from graphc.build import describe
from graphc.dtypes import promote, summed
from graphc.errors import DTypeError, require, trimmed
from graphc.graph import Tensor
from graphc.ops.control import named
from graphc.ops.powers import sqrt
from graphc.ops.select import maximum, minimum, where
from graphc.ops.source import as_tensor


def _squares(tensor: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """The sum of squares, in float32 for float16, whose squares overflow above 255."""
    wide = tensor.astype(summed(tensor.dtype))
    return (wide * wide).sum(axis=axis, keepdims=keepdims)


def _root(total: Tensor) -> Tensor:
    """The square root, with a gradient of 0 (not of NaN) at 0."""
    positive = total > 0.0
    return where(positive, sqrt(where(positive, total, 1.0)), 0.0)


def _float(value: Any) -> Tensor:
    tensor = as_tensor(value)
    if not tensor.dtype.is_float:
        raise DTypeError(
            f"clip: only floats can be clipped by norm, got {tensor.type}\n"
            f"  it is {describe(tensor)}"
        )
    return tensor


def _scaled(tensor: Tensor, limit: Any, norm: Tensor) -> Tensor:
    """`tensor * limit / max(norm, limit)`: as it is where the norm is within the limit."""
    bound = as_tensor(limit, norm.dtype).astype(norm.dtype)
    within = norm <= bound
    scale = where(within, 1.0, bound / where(within, 1.0, norm))
    return (tensor.astype(norm.dtype) * scale).astype(tensor.dtype)


@trimmed
def clip_by_norm(t: Any, norm: Any, axis: Any = None, *, name: str | None = None) -> Tensor:
    """`t`, scaled down so that its Euclidean norm (over `axis`) is at most `norm`.

    Shape and dtype: those of `t`. A zero tensor stays zero, with a finite gradient.

    >>> clip_by_norm([3.0, 4.0], 1.0).eval()
    array([0.6, 0.8], dtype=float32)
    """
    tensor = _float(t)
    size = _root(_squares(tensor, axis, keepdims=axis is not None))
    return named(_scaled(tensor, norm, size), name)


@trimmed
def global_norm(tensors: Sequence[Any], *, name: str | None = None) -> Tensor:
    """The Euclidean norm of all elements of several tensors: a scalar.

    >>> global_norm([[3.0], [4.0]]).eval()
    array(5., dtype=float32)
    """
    require(len(tensors) > 0, "global_norm", "tensors must not be empty", tensors)
    parts = [_squares(_float(t), None, keepdims=False) for t in tensors]
    dtype = reduce(promote, (part.dtype for part in parts))
    total = reduce(lambda a, b: a + b, (part.astype(dtype) for part in parts))
    return named(_root(total), name)


@trimmed
def clip_by_global_norm(
    tensors: Sequence[Any], norm: Any, use_norm: Any = None, *, name: str | None = None
) -> tuple[list[Tensor], Tensor]:
    """All tensors scaled by one factor, so that their common norm is at most `norm`.

    Returns the list and the norm before clipping (`use_norm`, if it is known already). Where that
    norm is infinite or NaN, the result is NaN: a broken step shows, as it does in TensorFlow.

    >>> clipped, size = clip_by_global_norm([[3.0], [4.0]], 1.0)
    >>> clipped[0].eval(), size.eval()
    (array([0.6], dtype=float32), array(5., dtype=float32))
    """
    listed = [_float(t) for t in tensors]
    size = global_norm(listed) if use_norm is None else as_tensor(use_norm)
    signal = where(size < math.inf, size, math.nan)
    return [named(_scaled(t, norm, signal), name) for t in listed], size


@trimmed
def clip_by_value(t: Any, low: Any, high: Any, *, name: str | None = None) -> Tensor:
    """`t` with each element held between `low` and `high`; NaN stays NaN.

    >>> clip_by_value([-3.0, 0.5, 3.0], -1.0, 1.0).eval()
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    return minimum(maximum(t, low), high, name=name)
