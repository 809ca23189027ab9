"""Joining and cutting: concatenate, whose adjoint is slices, and what is made of the two."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Dim, Dimension, Shape, floordiv
from graphc.dtypes import promote
from graphc.errors import ShapeError, trimmed
from graphc.graph import Op, Tensor
from graphc.kernel import Index, Source, lift
from graphc.ops.broadcast import cast, same_dtype
from graphc.ops.composition import composition, promoted_dtype, replaced
from graphc.ops.domain import Domain, cases
from graphc.ops.follow import as_shape, located
from graphc.ops.shape import check_of, ravel
from graphc.ops.slicing import along
from graphc.ops.source import as_tensor, as_tensors
from graphc.places import affine
from graphc.scalar import Scalar, select
from graphc.types import TensorType

# ---------------------------------------------------------------------------- concatenate


def _concatenate_shape(check: Check, *types: TensorType, axis: int) -> Shape:
    shapes: list[Any] = [t.shape for t in types]
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        check.fail("all tensors must have the same rank")
    rank = ranks.pop()
    if rank == 0:
        check.fail("scalars cannot be concatenated; g.stack joins them")
    axis = check.axis(axis, rank)
    sizes = list(shapes[0])
    for shape in shapes[1:]:
        for i in range(rank):
            rule = f"sizes must match except along axis={axis}"
            sizes[i] = sizes[i] + shape[i] if i == axis else check.equal(sizes[i], shape[i], rule)
    return tuple(sizes)


def concatenate_build(*tensors: Tensor, axis: int = 0, name: str | None = None) -> Tensor:
    """The tensors, of one dtype, joined along an axis."""
    if len(tensors) == 1 and tensors[0].shape:
        Check(CONCATENATE, tensors, {}).axis(axis, len(tensors[0].shape))
        return tensors[0]
    if all(t.shape is not None for t in tensors):
        check = Check(CONCATENATE, tensors, {})
        _concatenate_shape(check, *(t.type for t in tensors), axis=axis)
        axis = check.axis(axis, len(tensors[0].shape))  # type: ignore[arg-type]  # known
    return make(CONCATENATE, tensors, {"axis": axis}, name)


def _concatenate_vjp(g: Tensor, y: Tensor, *xs: Tensor, axis: int) -> list[Tensor]:
    start: Dimension = 0
    parts = []
    for x in xs:
        assert x.shape is not None
        parts.append(along(g, axis, start, x.shape[axis]))
        start = start + x.shape[axis]
    return parts


def _concatenate_element(index: Index, *xs: Source, axis: int) -> Scalar:
    """The first tensor that reaches so far; the last one where none before it does."""
    start: Dimension = 0
    parts: list[tuple[Scalar, Scalar]] = []
    for x in xs:
        place = (*index[:axis], affine(index[axis], 1, -start), *index[axis + 1 :])
        start = start + x.shape[axis]
        parts.append((index[axis] < lift(start), x.within(place, 0)))
    element = parts[-1][1]
    for reaches, part in reversed(parts[:-1]):
        element = select(reaches, part, element)
    return element


CONCATENATE = Op(
    "concatenate", "view", ("tensors",),
    dtype=promoted_dtype,
    shape=_concatenate_shape,
    oracle=lambda *arrays, axis: np.concatenate(arrays, axis),
    element=_concatenate_element,
    build=concatenate_build,
    vjp=_concatenate_vjp,
    domain=cases(
        ((2,), (3,), {"axis": 0}), ((2, 1), (2, 3), {"axis": -1}), ((0,), (0,), {"axis": 0}),
        ((1, 2), (3, 2), (0, 2), {"axis": 0}), ((1,), (1,), (1,), {"axis": 0}),
        kinds="biuf",
    ),
)  # fmt: skip


def _listed(tensors: Any, op: str) -> list[Tensor]:
    """The tensors of a sequence, in one dtype; a tensor stands for its rows."""
    values = list(tensors)
    if not values:
        raise ShapeError(f"{op}: tensors must not be empty, got none")
    listed = as_tensors(values)
    dtype = functools.reduce(promote, (t.dtype for t in listed))
    return [cast(t, dtype) for t in listed]


@trimmed
@located
def concatenate(tensors: Any, axis: Any = 0, *, name: str | None = None) -> Tensor:
    """The tensors joined along an axis that exists; None flattens them first.

    Shapes agree but along `axis`; dtypes are promoted.

    >>> concatenate([[1, 2], [3]]).eval()
    array([1, 2, 3])
    """
    listed = _listed(tensors, "concatenate")
    if axis is None:
        listed, axis = [ravel(t) for t in listed], 0
    return concatenate_build(*listed, axis=axis, name=name)


# ---------------------------------------------------------------------------- stack


def _stack_build(*tensors: Tensor, axis: int = 0, name: str | None = None) -> Tensor:
    if any(t.shape is None for t in tensors):
        return make(STACK, tensors, {"axis": axis}, name)
    check = Check(STACK, tensors, {"axis": axis})
    shapes: list[Any] = [t.shape for t in tensors]
    if len({len(shape) for shape in shapes}) > 1:
        check.fail("all tensors must have the same shape")
    for shape in shapes[1:]:
        for a, b in zip(shapes[0], shape, strict=True):
            check.equal(a, b, "all tensors must have the same shape")
    place = check.axis(axis, len(shapes[0]) + 1)
    rows = [t.reshape((*s[:place], 1, *s[place:])) for t, s in zip(tensors, shapes, strict=True)]
    if len(rows) == 1:
        return rows[0]
    return concatenate_build(*rows, axis=place, name=name)


STACK = Op(
    "stack", "deferred", ("tensors",), promoted_dtype, replaced, replaced,
    build=_stack_build, vjp=replaced, domain=Domain(()),
)  # fmt: skip


@trimmed
@located
def stack(tensors: Any, axis: int = 0, *, name: str | None = None) -> Tensor:
    """The tensors, all of one shape, joined along a new axis.

    >>> stack([1, 2, 3]).eval()
    array([1, 2, 3])
    """
    return _stack_build(*_listed(tensors, "stack"), axis=axis, name=name)


# ---------------------------------------------------------------------------- split, unstack


def _count(indices_or_sections: Any, axis: int) -> int:
    if isinstance(indices_or_sections, tuple):
        return len(indices_or_sections) + 1
    return int(indices_or_sections)


@composition("x", dtype=same_dtype, outputs=_count)
def _split(x: Any, indices_or_sections: Any, axis: int, *, name: str | None = None) -> list[Tensor]:
    check = check_of(_split, x)
    if not x.shape:
        check.fail("a scalar cannot be split")
    axis = check.axis(axis, len(x.shape))
    size = x.shape[axis]
    if isinstance(indices_or_sections, tuple):
        return _split_at(x, indices_or_sections, axis)
    sections = indices_or_sections
    if isinstance(size, int) and size % sections:
        check.fail(f"{sections} sections must divide the size {size} of axis {axis}")
    length = floordiv(size, sections)
    if not isinstance(size, int) and length * sections != size:
        rows = x.reshape((*x.shape[:axis], sections, length, *x.shape[axis + 1 :]))  # asks
        return [
            along(rows, axis, i, 1).reshape((*x.shape[:axis], length, *x.shape[axis + 1 :]))
            for i in range(sections)
        ]
    return [along(x, axis, length * i, length) for i in range(sections)]


def _split_at(x: Tensor, indices: Sequence[Dimension], axis: int) -> list[Tensor]:
    parts = []
    for start, stop in zip((0, *indices), (*indices, None), strict=True):
        parts.append(x[(*(slice(None),) * axis, slice(start, stop))])
    return parts


@trimmed
@located
def split(
    x: Any, indices_or_sections: Any, axis: int = 0, *, name: str | None = None
) -> list[Tensor]:
    """`x` cut along `axis`: into equal sections (an int), or before each of some indices.

    >>> [part.eval() for part in split([1, 2, 3, 4], 2)]
    [array([1, 2]), array([3, 4])]
    """
    if isinstance(indices_or_sections, int):
        if indices_or_sections <= 0:
            raise ShapeError(f"split: sections must be positive, got {indices_or_sections}")
    else:
        indices_or_sections = as_shape(indices_or_sections)
    parts: Any = _split(x, indices_or_sections, axis, name=name)
    return list(parts)


@composition("x", dtype=same_dtype, outputs=lambda num, axis: num)
def _unstack(x: Any, num: int, axis: int, *, name: str | None = None) -> list[Tensor]:
    check = check_of(_unstack, x)
    axis = check.axis(axis, len(x.shape))
    check.equal(x.shape[axis], num, f"axis {axis} must have the size num={num}")
    if isinstance(x.shape[axis], Dim):  # the reshape asks again, once a run knows
        x = x.reshape((*x.shape[:axis], num, *x.shape[axis + 1 :]))
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    return [along(x, axis, i, 1).reshape(rest) for i in range(num)]


@trimmed
def unstack(
    x: Any, num: int | None = None, axis: int = 0, *, name: str | None = None
) -> list[Tensor]:
    """The slices of `x` along `axis`, without it. `num` says how many where the type does not.

    >>> [row.eval() for row in unstack([[1, 2], [3, 4]])]
    [array([1, 2]), array([3, 4])]
    """
    x = as_tensor(x)
    if num is None:
        check = Check(_unstack.op, (x,), {})  # type: ignore[attr-defined]  # composition sets it
        if x.shape is None:
            check.fail("num= must be given where the rank is unknown")
        size = x.shape[check.axis(axis, len(x.shape))]
        if isinstance(size, Dim):
            check.fail(f"num= must be given where the size {size} is not known before a run")
        num = size
    parts: Any = _unstack(x, num, axis, name=name)
    return list(parts)
