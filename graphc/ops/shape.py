"""Views that keep every element: reshape and transpose, each its own adjoint's kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.dims import Dim, Dimension, Shape, floordiv, product
from graphc.errors import trimmed
from graphc.graph import Check, Op, Tensor, make
from graphc.ops.broadcast import as_shape, same_dtype
from graphc.ops.domain import cases
from graphc.ops.source import as_tensor, full_of
from graphc.types import TensorType

# ---------------------------------------------------------------------------- reshape


def _reshape_shape(check: Check, x: TensorType, shape: Shape) -> Shape:
    """The target, its -1 worked out; both sides must hold equally many elements."""
    assert x.shape is not None
    unknown = [i for i, d in enumerate(shape) if isinstance(d, int) and d == -1]
    if len(unknown) > 1:
        check.fail(f"only one size may be -1, shape={list(shape)}")
    if any(isinstance(d, int) and d < -1 for d in shape):
        check.fail(f"sizes must not be negative, shape={list(shape)}")
    total = product(x.shape)
    rule = f"the number of elements must stay {total}, shape={list(shape)}"
    if not unknown:
        if check.ask(total, product(shape)) is False:
            check.fail(rule)
        return shape
    known = product(d for i, d in enumerate(shape) if i != unknown[0])
    if isinstance(known, int) and known == 0:
        check.fail(f"-1 is undecidable beside a size of 0, shape={list(shape)}")
    size: Dimension = floordiv(total, known)
    if check.ask(total, size * known) is False:
        check.fail(rule)
    return tuple(size if i == unknown[0] else d for i, d in enumerate(shape))


def _reshape_build(x: Tensor, shape: Shape, name: str | None = None) -> Tensor:
    if x.shape is not None:
        shape = _reshape_shape(Check(RESHAPE, (x,), {}), x.type, shape)
        if x.shape == shape:
            return x
        if x.node.op.name == "full":
            make(RESHAPE, (x,), {"shape": shape}, name)  # for its check alone
            return full_of(x.node.attrs["value"], shape, x.dtype, name)
        if x.node.op is RESHAPE and x.node.name is None and name is None:
            return _reshape_build(x.node.inputs[0], shape)
    tensor: Tensor = make(RESHAPE, (x,), {"shape": shape}, name)
    return tensor


RESHAPE = Op(
    "reshape", "view", ("x",),
    dtype=same_dtype,
    shape=_reshape_shape,
    oracle=lambda x, shape: np.reshape(x, shape),
    build=_reshape_build,
    vjp=lambda g, y, x, shape: _reshape_build(g, x.shape),
    rankless=lambda shape: None if -1 in shape else shape,
    domain=cases(
        ((2, 3), {"shape": (3, 2)}), ((2, 3), {"shape": (6,)}), ((), {"shape": (1, 1)}),
        ((0, 2), {"shape": (4, 0)}), ((4,), {"shape": (2, -1)}), ((1, 3), {"shape": (3,)}),
        kinds="biuf",
    ),
)  # fmt: skip


@trimmed
def reshape(x: Any, shape: Any, *, name: str | None = None) -> Tensor:
    """The elements of `x`, in order, in another shape; one size may be -1, for what is left.

    >>> reshape([1, 2, 3, 4], (2, -1)).eval()
    array([[1, 2],
           [3, 4]])
    """
    return _reshape_build(as_tensor(x), as_shape(shape), name)


# ---------------------------------------------------------------------------- transpose


def _transpose_shape(check: Check, x: TensorType, axes: tuple[int, ...] | None) -> Shape:
    assert x.shape is not None
    if axes is None:
        return tuple(reversed(x.shape))
    counted = tuple(check.axis(a, len(x.shape)) for a in axes)
    if sorted(counted) != list(range(len(x.shape))):
        check.fail(f"axes must name each axis of x once, got axes={list(axes)}")
    return tuple(x.shape[a] for a in counted)


def _transpose_build(
    x: Tensor, axes: Sequence[int] | None = None, name: str | None = None
) -> Tensor:
    if x.shape is not None:
        rank = len(x.shape)
        check = Check(TRANSPOSE, (x,), {})
        axes = tuple(range(rank))[::-1] if axes is None else tuple(axes)
        _transpose_shape(check, x.type, axes)
        axes = tuple(check.axis(a, rank) for a in axes)
        if axes == tuple(range(rank)):
            return x
    attrs = {"axes": None if axes is None else tuple(axes)}
    tensor: Tensor = make(TRANSPOSE, (x,), attrs, name)
    return tensor


def _transpose_vjp(g: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return _transpose_build(g, tuple(sorted(range(len(axes)), key=lambda i: axes[i])))


TRANSPOSE = Op(
    "transpose", "view", ("x",),
    dtype=same_dtype,
    shape=_transpose_shape,
    oracle=lambda x, axes: np.transpose(x, axes),
    build=_transpose_build,
    vjp=_transpose_vjp,
    domain=cases(
        ((2, 3), {"axes": (1, 0)}), ((2, 1, 3), {"axes": (2, 0, 1)}), ((0, 3), {"axes": None}),
        ((), {"axes": ()}), ((2, 3), {"axes": (-1, 0)}), kinds="biuf",
    ),
)  # fmt: skip


@trimmed
def transpose(x: Any, axes: Any = None, *, name: str | None = None) -> Tensor:
    """`x` with its axes in another order; None reverses them.

    >>> transpose([[1, 2, 3]]).type
    TensorType(dtype=graphc.int64, shape=(3, 1))
    """
    return _transpose_build(as_tensor(x), axes, name)


def size_tuple(dims: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Sizes as attributes hold them."""
    return tuple(d if isinstance(d, Dim) else int(d) for d in dims)
