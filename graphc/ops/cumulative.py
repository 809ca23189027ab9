"""Running sums and products along one axis, and the recurrence that is their adjoint.

`linear_recurrence` is closed under differentiation: its adjoint is itself, run the other way. So
running products, and the products of all other elements (`prod`'s gradient), stay free of
divisions, hence right at zeros, to any order, at any symbolic size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import product
from graphc.dtypes import Array
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.arith import scaled
from graphc.ops.broadcast import same_dtype, sum_dtype
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.loops import (
    cumprod_loop,
    cumsum_loop,
    exclusive_cumprod_loop,
    linear_recurrence_loop,
)
from graphc.ops.source import as_tensor
from graphc.types import TensorType


def _same_shape(check: Check, x: TensorType, *others: TensorType, axis: Any, reverse: bool) -> Any:
    assert x.shape is not None
    if axis is None:
        return (product(x.shape),)
    check.axis(axis, len(x.shape))
    for other in others:
        assert other.shape is not None
        for a, b in zip(x.shape, other.shape, strict=True):
            check.equal(a, b, "operands must have equal shapes")
    return x.shape


def _build(
    op: Op, tensors: tuple[Tensor, ...], axis: Any, reverse: bool, name: str | None
) -> Tensor:
    """The node along one axis counted from the front; None runs through the flattened operand."""
    x = tensors[0]
    if x.shape is not None:
        if axis is None:
            return _build(op, tuple(t.reshape((-1,)) for t in tensors), 0, reverse, name)
        axis = Check(op, tensors, {}).axis(axis, len(x.shape))
    return make(op, tensors, {"axis": axis, "reverse": bool(reverse)}, name)


def _directed(oracle: Callable[..., Array]) -> Callable[..., Array]:
    """An oracle over axis 0, front to back, as one over any axis in either direction."""

    def run(*arrays: Array, axis: int, reverse: bool = False) -> Array:
        step = -1 if reverse else 1
        moved = [np.moveaxis(x, axis, 0)[::step] for x in arrays]
        return np.moveaxis(oracle(*moved)[::step], 0, axis)

    return run


def _exclusive_product(x: Array) -> Array:
    result = np.ones_like(x)
    result[1:] = np.cumprod(x[:-1], axis=0)
    return result


def _recurrence(a: Array, b: Array) -> Array:
    result = np.zeros_like(a)
    for k in range(1, len(a)):
        before = result[k - 1]
        result[k] = np.where(before == 0, 0, a[k - 1] * before) + b[k - 1]
    return result


def _domain(operands: int, kinds: str, directions: tuple[bool, ...] = (False,)) -> Domain:
    shapes = (((1,), 0), ((5,), 0), ((0,), 0), ((2, 3), -1), ((2, 0, 3), 1), ((3, 1, 2), 0))
    return Domain(
        tuple(
            Case((Draw(shape),) * operands, {"axis": axis} | ({"reverse": True} if reverse else {}))
            for shape, axis in shapes
            for reverse in directions
        ),
        kinds,
    )


def _recurrence_vjp(
    g: Tensor, y: Tensor, a: Tensor, b: Tensor, axis: int, reverse: bool
) -> tuple[Tensor, Tensor]:
    w = recurrence(a, g, axis, not reverse)
    return scaled(w, y), w


LINEAR_RECURRENCE: Op = Op(
    "linear_recurrence", "opaque", ("a", "b"), same_dtype, _same_shape,
    oracle=_directed(_recurrence),
    build=lambda a, b, axis, reverse=False, name=None: (
        _build(LINEAR_RECURRENCE, (a, b), axis, reverse, name)
    ),
    vjp=_recurrence_vjp,
    loop=linear_recurrence_loop,
    domain=_domain(2, "f", (False, True)),
)  # fmt: skip


def recurrence(a: Tensor, b: Tensor, axis: int, reverse: bool) -> Tensor:
    """`y[0] = 0, y[k+1] = a[k] * y[k] + b[k]` along an axis (from its end, if `reverse`).

    Where `y[k]` is 0, so is the product, even beside an infinity or NaN: it is a cotangent.
    """
    return _build(LINEAR_RECURRENCE, (a, b), axis, reverse, None)


EXCLUSIVE_CUMPROD: Op = Op(
    "exclusive_cumprod", "opaque", ("x",), same_dtype, _same_shape,
    oracle=_directed(_exclusive_product),
    build=lambda x, axis, reverse=False, name=None: (
        _build(EXCLUSIVE_CUMPROD, (x,), axis, reverse, name)
    ),
    vjp=lambda g, y, x, axis, reverse: scaled(recurrence(x, g, axis, not reverse), y),
    loop=exclusive_cumprod_loop,
    domain=_domain(1, "iuf", (False, True)),
)  # fmt: skip


def exclusive_cumprod(x: Tensor, axis: int, reverse: bool) -> Tensor:
    """The product of all elements before (after, if `reverse`) each; of none, 1."""
    return _build(EXCLUSIVE_CUMPROD, (x,), axis, reverse, None)


def _cumprod_vjp(g: Tensor, y: Tensor, x: Tensor, axis: int, reverse: bool) -> Tensor:
    before = exclusive_cumprod(x, axis, reverse)
    return scaled(g + recurrence(x, scaled(g, x), axis, not reverse), before)


CUMSUM: Op = Op(
    "cumsum", "opaque", ("x",), sum_dtype, _same_shape,
    oracle=_directed(lambda x: np.cumsum(x, axis=0)),
    build=lambda x, axis=None, reverse=False, name=None: _build(CUMSUM, (x,), axis, reverse, name),
    vjp=lambda g, y, x, axis, reverse: _build(CUMSUM, (g,), axis, not reverse, None),
    loop=cumsum_loop,
    domain=_domain(1, "biuf"),
)  # fmt: skip
CUMPROD: Op = Op(
    "cumprod", "opaque", ("x",), sum_dtype, _same_shape,
    oracle=_directed(lambda x: np.cumprod(x, axis=0)),
    build=lambda x, axis=None, reverse=False, name=None: _build(CUMPROD, (x,), axis, reverse, name),
    vjp=_cumprod_vjp,
    loop=cumprod_loop,
    domain=_domain(1, "biuf"),
)  # fmt: skip


@trimmed
def cumsum(x: Any, axis: Any = None, *, reverse: bool = False, name: str | None = None) -> Tensor:
    """The running sum along `axis`, each element included; None runs through `x` flattened.

    Shape: that of `x` (one axis, if flattened). Integers sum in 64 bits. `reverse` runs from the
    end.

    >>> cumsum([1, 2, 3]).eval()
    array([1, 3, 6])
    """
    return _build(CUMSUM, (as_tensor(x),), axis, reverse, name)


@trimmed
def cumprod(x: Any, axis: Any = None, *, reverse: bool = False, name: str | None = None) -> Tensor:
    """The running product along `axis`, each element included; None runs through `x` flattened.

    Shape: that of `x` (one axis, if flattened). Integers multiply in 64 bits. The gradient divides
    by nothing, so it is right where elements are zero.

    >>> cumprod([1, 2, 3]).eval()
    array([1, 2, 6])
    """
    return _build(CUMPROD, (as_tensor(x),), axis, reverse, name)
