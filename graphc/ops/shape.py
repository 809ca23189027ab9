"""Views that keep every element: reshape and transpose, each its own adjoint's kind.

What only renames or reorders axes (expand_dims, squeeze, moveaxis ...) is one of the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Dim, Dimension, Shape, floordiv, product
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import same_dtype
from graphc.ops.composition import composition, replaced
from graphc.ops.domain import Domain, cases
from graphc.ops.follow import as_shape, is_open, located, with_length
from graphc.ops.source import as_tensor, full_of
from graphc.places import reshaped
from graphc.types import TensorType

# ---------------------------------------------------------------------------- reshape


def _is_data(size: Dimension) -> bool:
    return isinstance(size, Dim) and any(s.source is not None for s in size.symbols())


def _differ(check: Check, total: Dimension, target: Dimension) -> bool:
    """Whether the counts surely differ. Where sizes come from data, the run checks, and no program
    is tied to their values.
    """
    if _is_data(total) or _is_data(target):
        difference = total - target
        return isinstance(difference, int) and difference != 0
    return check.ask(total, target) is False


def _without_ones(shape: Shape) -> list[Dimension]:
    return [d for d in shape if isinstance(d, Dim) or d != 1]


def _reshape_shape(check: Check, x: TensorType, shape: Shape) -> Shape:
    """The target, its -1 worked out; both sides must hold equally many elements."""
    assert x.shape is not None
    unknown = [i for i, d in enumerate(shape) if isinstance(d, int) and d == -1]
    if len(unknown) > 1:
        check.fail(f"only one size may be -1, shape={list(shape)}")
    if any(isinstance(d, int) and d < -1 for d in shape):
        check.fail(f"sizes must not be negative, shape={list(shape)}")
    if not unknown and _without_ones(x.shape) == _without_ones(shape):
        return shape  # the common case, told without arithmetic
    total = product(x.shape)
    rule = f"the number of elements must stay {total}, shape={list(shape)}"
    if not unknown:
        if _differ(check, total, product(shape)):
            check.fail(rule)
        return shape
    known = product(d for i, d in enumerate(shape) if i != unknown[0])
    if isinstance(known, int) and known == 0:
        check.fail(f"-1 is undecidable beside a size of 0, shape={list(shape)}")
    size: Dimension = floordiv(total, known)
    if _differ(check, total, size * known):
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
    return make(RESHAPE, (x,), {"shape": shape}, name)


def _reshape_oracle(x: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """By the time of a run every size has been worked out, so -1 is no longer one."""
    if any(size < 0 for size in shape):
        raise ValueError(f"a computed size must not be negative, shape={list(shape)}")
    if x.size != math.prod(shape):
        raise ValueError(f"the number of elements must stay {x.size}, shape={list(shape)}")
    return np.reshape(x, shape)


RESHAPE = Op(
    "reshape", "view", ("x",),
    dtype=same_dtype,
    shape=_reshape_shape,
    oracle=_reshape_oracle,
    element=lambda index, x, shape: x(*reshaped(index, shape, x.shape)),
    build=_reshape_build,
    vjp=lambda g, y, x, shape: _reshape_build(g, x.shape),
    rankless=lambda shape: tuple(Dim.symbol() if d == -1 else d for d in shape),
    domain=cases(
        ((2, 3), {"shape": (3, 2)}), ((2, 3), {"shape": (6,)}), ((), {"shape": (1, 1)}),
        ((0, 2), {"shape": (4, 0)}), ((4,), {"shape": (2, -1)}), ((1, 3), {"shape": (3,)}),
        ((1,), {"shape": ()}),
        kinds="biuf",
    ),
)  # fmt: skip


@trimmed
@located
def reshape(x: Any, shape: Any, *, name: str | None = None) -> Tensor:
    """The elements of `x`, in order, in another shape; one size may be -1, for what is left.

    Sizes are ints, symbolic sizes or integer scalars; `shape` may be an integer tensor of them.

    >>> reshape([1, 2, 3, 4], (2, -1)).eval()
    array([[1, 2],
           [3, 4]])
    """
    tensor = as_tensor(x)
    if is_open(shape):
        return _reshape_open(tensor, shape, name=name)
    return _reshape_build(tensor, as_shape(shape), name)


_reshape_open = with_length("reshape_to_sizes", ("x", "shape"), same_dtype, _reshape_build)


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
        if axes is None:
            axes = range(rank)[::-1]
        axes = tuple([a + rank if isinstance(a, int) and -rank <= a < 0 else a for a in axes])
        if axes == tuple(range(rank)):
            return x
    attrs = {"axes": None if axes is None else tuple(axes)}
    return make(TRANSPOSE, (x,), attrs, name)


def _transpose_vjp(g: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return _transpose_build(g, tuple(sorted(range(len(axes)), key=lambda i: axes[i])))


TRANSPOSE = Op(
    "transpose", "view", ("x",),
    dtype=same_dtype,
    shape=_transpose_shape,
    oracle=lambda x, axes: np.transpose(x, axes),
    element=lambda index, x, axes: x(*(index[axes.index(k)] for k in range(len(axes)))),
    build=_transpose_build,
    vjp=_transpose_vjp,
    rankless=lambda axes: None if axes is None else tuple(Dim.symbol() for _ in axes),
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
    return _transpose_build(as_tensor(x), None if axes is None else tuple(axes), name)


@composition("x", dtype=same_dtype)
def swapaxes(x: Any, axis1: int, axis2: int, *, name: str | None = None) -> Tensor:
    """`x` with two axes exchanged.

    >>> swapaxes([[1, 2, 3]], 0, -1).eval()
    array([[1],
           [2],
           [3]])
    """
    check, rank = check_of(swapaxes, x), len(x.shape)
    a, b = check.axis(axis1, rank), check.axis(axis2, rank)
    order = list(range(rank))
    order[a], order[b] = b, a
    return _transpose_build(x, order, name)


@composition("x", dtype=same_dtype)
def moveaxis(x: Any, source: Any, destination: Any, *, name: str | None = None) -> Tensor:
    """`x` with the axes `source` (one or several) moved to `destination`, the others in order.

    >>> moveaxis(np.ones((2, 3, 4)), 0, -1).type
    TensorType(dtype=graphc.float64, shape=(3, 4, 2))
    """
    check, rank = check_of(moveaxis, x), len(x.shape)
    origins, targets = (
        [check.axis(a, rank) for a in (axes if isinstance(axes, tuple) else (axes,))]
        for axes in (source, destination)
    )
    if (
        len(origins) != len(targets)
        or len({*origins}) < len(origins)
        or len({*targets}) < len(targets)
    ):
        check.fail(
            "source and destination must name equally many axes, each once, "
            f"source={source} destination={destination}"
        )
    order = [axis for axis in range(rank) if axis not in origins]
    for target, axis in sorted(zip(targets, origins, strict=True)):
        order.insert(target, axis)
    return _transpose_build(x, order, name)


# ---------------------------------------------------------------------------- axes of size one


@composition("x", dtype=same_dtype)
def expand_dims(x: Any, axis: Any, *, name: str | None = None) -> Tensor:
    """`x` with axes of size 1 inserted, which stand at `axis` (one or several) of the result.

    >>> expand_dims([1, 2], 0).eval()
    array([[1, 2]])
    """
    count = len(axis) if isinstance(axis, tuple) else 1
    rank = len(x.shape) + count
    added = check_of(expand_dims, x).axes(axis, rank)
    sizes = iter(x.shape)
    return _reshape_build(x, tuple(1 if i in added else next(sizes) for i in range(rank)), name)


def _squeezed(check: Check, x: Any, axis: Any) -> Shape | None:
    """The shape that is left; None where a symbolic size may be 1."""
    shape = x.shape
    if axis is None:
        ones = [check.ask(d, 1) for d in shape]
        if None in ones:
            return None
        return tuple(d for d, one in zip(shape, ones, strict=True) if not one)
    axes = check.axes(axis, len(shape))
    for a in axes:
        check.equal(shape[a], 1, f"only an axis of size 1 can be squeezed, axis={a}")
    return tuple(d for a, d in enumerate(shape) if a not in axes)


def _squeeze_build(x: Tensor, axis: Any = None, name: str | None = None) -> Tensor:
    if x.shape is not None:
        check = Check(SQUEEZE, (x,), {"axis": axis})
        shape = _squeezed(check, x, axis)
        if check.settled and shape is not None:
            return _reshape_build(x, shape, name)
    return make(SQUEEZE, (x,), {"axis": axis}, name)


SQUEEZE = Op(
    "squeeze", "deferred", ("x",), same_dtype, _squeezed, replaced,
    build=_squeeze_build, vjp=replaced, domain=Domain(()),
)  # fmt: skip


@trimmed
def squeeze(x: Any, axis: Any = None, *, name: str | None = None) -> Tensor:
    """`x` without the axes `axis` (one or several), whose sizes must be 1; None: all such axes.

    >>> squeeze([[1, 2]], 0).eval()
    array([1, 2])
    """
    axes = tuple(axis) if isinstance(axis, list) else axis
    return _squeeze_build(as_tensor(x), axes, name)


@trimmed
def ravel(x: Any, *, name: str | None = None) -> Tensor:
    """The elements of `x`, in order, along one axis.

    >>> ravel([[1, 2], [3, 4]]).eval()
    array([1, 2, 3, 4])
    """
    return _reshape_build(as_tensor(x), (-1,), name)


def check_of(builder: Any, *tensors: Tensor) -> Check:
    """The check of one application of a builder that a decorator made."""
    return Check(builder.op, tensors, {})
