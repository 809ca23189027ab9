"""softmax and log_softmax along one axis: composites, stable by subtracting the maximum.

P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax
functions", IMA J. Numer. Anal. 41 (2021). `expand` is what devices lower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Shape
from graphc.dtypes import Array
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.arith import scaled
from graphc.ops.broadcast import as_floats, expand_reduced, same_dtype
from graphc.ops.control import stop_gradient
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.elementary import exp, log
from graphc.ops.reduce import max
from graphc.types import TensorType


def _rowwise_shape(check: Check, x: TensorType, axis: int) -> Shape:
    assert x.shape is not None
    if not x.shape:
        check.fail("takes at least one axis")
    check.axis(axis, len(x.shape))
    return x.shape


def _shifted(x: Array, axis: int) -> Array:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    with np.errstate(all="ignore"):
        shifted: Array = wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
    return shifted


def _softmax_oracle(x: Array, axis: int) -> Array:
    with np.errstate(all="ignore"):
        terms = np.exp(_shifted(x, axis))
        return np.asarray(terms / np.sum(terms, axis=axis, keepdims=True), x.dtype)


def _log_softmax_oracle(x: Array, axis: int) -> Array:
    shifted = _shifted(x, axis)
    with np.errstate(all="ignore"):
        total = np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
        return np.asarray(shifted - total, x.dtype)


def _total(x: Tensor, axis: int) -> Tensor:
    """The sum along the axis, at every place of it."""
    return expand_reduced(x.sum(axis, True), x, (axis,), True)


def _shift(x: Tensor, axis: int) -> Tensor:
    top = stop_gradient(max(x, axis, True, initial=-np.inf))
    return x - expand_reduced(top, x, (axis,), True)


def _softmax_vjp(g: Tensor, y: Tensor, x: Tensor, axis: int) -> Tensor:
    weighted = scaled(g, y)
    return weighted - scaled(_total(weighted, axis), y)


def _softmax_expand(x: Tensor, axis: int) -> Tensor:
    terms = exp(_shift(x, axis))
    return terms / _total(terms, axis)


def _log_softmax_expand(x: Tensor, axis: int) -> Tensor:
    shifted = _shift(x, axis)
    return shifted - log(_total(exp(shifted), axis))


def _build(op: Op, x: Tensor, axis: Any, name: str | None) -> Tensor:
    if x.shape is not None:
        check = Check(op, (x,), {})
        _rowwise_shape(check, x.type, axis)
        axis = check.axis(axis, len(x.shape))
    return make(op, (x,), {"axis": axis}, name)


DOMAIN = Domain(
    tuple(
        Case((Draw(shape),), {"axis": axis})
        for shape in ((1,), (5,), (2, 3), (0, 3), (3, 0), (2, 1, 3))
        for axis in (0, -1)
    ),
    "f",
)
SOFTMAX: Op = Op(
    "softmax", "composite", ("x",), same_dtype, _rowwise_shape, _softmax_oracle,
    build=lambda x, axis=-1, name=None: _build(SOFTMAX, x, axis, name),
    vjp=_softmax_vjp,
    expand=_softmax_expand,
    domain=DOMAIN,
)  # fmt: skip
LOG_SOFTMAX: Op = Op(
    "log_softmax", "composite", ("x",), same_dtype, _rowwise_shape, _log_softmax_oracle,
    build=lambda x, axis=-1, name=None: _build(LOG_SOFTMAX, x, axis, name),
    vjp=lambda g, y, x, axis: g - scaled(_total(g, axis), exp(y)),
    expand=_log_softmax_expand,
    domain=DOMAIN,
)  # fmt: skip


@trimmed
def softmax(x: Any, axis: int = -1, *, name: str | None = None) -> Tensor:
    """`exp(x) / sum(exp(x))` along `axis`: positive, of sum 1, without overflow.

    Shape: that of `x`, which has at least one axis. Integers give floats.

    >>> softmax([1000.0, 1000.0]).eval()
    array([0.5, 0.5], dtype=float32)
    """
    return _build(SOFTMAX, as_floats(x), axis, name)


@trimmed
def log_softmax(x: Any, axis: int = -1, *, name: str | None = None) -> Tensor:
    """`x - logsumexp(x)` along `axis`: the logarithm of softmax, precise where that is tiny.

    Shape: that of `x`, which has at least one axis. Integers give floats.

    >>> log_softmax([0.0, 1000.0]).eval()
    array([-1000.,     0.], dtype=float32)
    """
    return _build(LOG_SOFTMAX, as_floats(x), axis, name)
