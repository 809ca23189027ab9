"""Slices and their adjoint, unslice (which is also padding), and updates of a slice.

A `slice` record is strict: it reads `lengths` elements from `starts` in `steps`, all of which must
exist. NumPy's clamping of bounds is arithmetic on sizes (`slice_bounds`), done when the view is
built, so a symbolic axis gives a symbolic length and a run only evaluates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Dim, Dimension, Shape, derived, floordiv, is_nonnegative
from graphc.dtypes import Array, DType
from graphc.errors import DTypeError
from graphc.graph import Op, Tensor
from graphc.kernel import Index, Source, conjunction, is_within, quotient
from graphc.kernel import cast as cast_element
from graphc.kernel import where as choose
from graphc.ops.broadcast import cast, same_dtype
from graphc.ops.domain import cases
from graphc.ops.source import full_of
from graphc.places import affine
from graphc.scalar import Scalar
from graphc.types import TensorType

# ---------------------------------------------------------------------------- slice


def selection(
    shape: Sequence[int], starts: Sequence[int], lengths: Sequence[int], steps: Sequence[int]
) -> tuple[slice, ...]:
    """NumPy's slices that read exactly these elements; IndexError where one does not exist."""
    slices = []
    for axis, (size, start, length, step) in enumerate(
        zip(shape, starts, lengths, steps, strict=True)
    ):
        last = start + (length - 1) * step
        if length > 0:
            for index in (start, last):
                if not 0 <= index < size:
                    raise IndexError(
                        f"index {index} is out of range for axis {axis} of size {size}"
                    )
        stop = last + (1 if step > 0 else -1)
        slices.append(slice(start, None if stop < 0 else stop, step) if length > 0 else slice(0, 0))
    return tuple(slices)


def _slice_shape(check: Check, x: TensorType, starts: Shape, lengths: Shape, steps: Shape) -> Shape:
    assert x.shape is not None
    for axis, (size, start, length, step) in enumerate(
        zip(x.shape, starts, lengths, steps, strict=True)
    ):
        if isinstance(length, Dim) or length == 0 or isinstance(size, Dim):
            continue
        for index in (start, start + (length - 1) * step):
            if isinstance(index, int) and not 0 <= index < size:
                check.fail(f"index {index} is out of range for axis {axis} of size {size}")
    return lengths


def slice_build(
    x: Tensor, starts: Shape, lengths: Shape, steps: Shape, name: str | None = None
) -> Tensor:
    """A strict slice; `x` itself where it takes everything in order."""
    if x.shape is not None:
        if x.shape == lengths and all(s == 0 for s in starts) and all(s == 1 for s in steps):
            return x
        if x.node.op.name == "full":
            _slice_shape(Check(SLICE, (x,), {}), x.type, starts, lengths, steps)
            if not any(isinstance(d, Dim) for d in (*starts, *x.shape)):
                return full_of(x.node.attrs["value"], lengths, x.dtype, name)
    attrs = {"starts": starts, "lengths": lengths, "steps": steps}
    return make(SLICE, (x,), attrs, name)


def _slice_vjp(
    g: Tensor, y: Tensor, x: Tensor, starts: Shape, lengths: Shape, steps: Shape
) -> Tensor:
    assert x.shape is not None
    return unslice_build(g, starts, steps, x.shape)


def _slice_element(
    index: Index, x: Source, starts: Shape, lengths: Shape, steps: tuple[int, ...]
) -> Scalar:
    return x(*(affine(i, step, s) for i, s, step in zip(index, starts, steps, strict=True)))


SLICE = Op(
    "slice", "view", ("x",),
    dtype=same_dtype,
    shape=_slice_shape,
    oracle=lambda x, starts, lengths, steps: x[selection(x.shape, starts, lengths, steps)],
    element=_slice_element,
    build=slice_build,
    vjp=_slice_vjp,
    rankless=lambda starts, lengths, steps: lengths,
    domain=cases(
        ((5,), {"starts": (1,), "lengths": (3,), "steps": (1,)}),
        ((5,), {"starts": (4,), "lengths": (3,), "steps": (-2,)}),
        ((5,), {"starts": (5,), "lengths": (0,), "steps": (1,)}),
        ((1,), {"starts": (0,), "lengths": (1,), "steps": (-1,)}),
        ((0,), {"starts": (-1,), "lengths": (0,), "steps": (-1,)}),
        ((2, 4), {"starts": (1, 0), "lengths": (1, 2), "steps": (1, 3)}),
        ((2, 0, 3), {"starts": (1, 0, 2), "lengths": (2, 0, 3), "steps": (-1, 1, -1)}),
        kinds="biuf",
    ),
)  # fmt: skip


# ---------------------------------------------------------------------------- unslice


def _unslice_oracle(
    x: Array, starts: Any, steps: Any, shape: tuple[int, ...], value: float
) -> Array:
    padded = np.full(shape, value, x.dtype)
    padded[selection(shape, starts, x.shape, steps)] = x
    return padded


def _unslice_shape(
    check: Check, x: TensorType, starts: Shape, steps: Shape, shape: Shape, value: Any
) -> Shape:
    assert x.shape is not None
    target = TensorType(x.dtype, shape)
    _slice_shape(check, target, starts, x.shape, steps)
    return shape


def unslice_build(
    x: Tensor, starts: Shape, steps: Shape, shape: Shape, value: Any = 0, name: str | None = None
) -> Tensor:
    """`value` everywhere in `shape`, but for `x` from `starts` in `steps`."""
    if x.shape == shape and all(s == 0 for s in starts) and all(s == 1 for s in steps):
        return x
    attrs = {"starts": starts, "steps": steps, "shape": shape, "value": value}
    return make(UNSLICE, (x,), attrs, name)


def _sources_of(index: Index, starts: Shape, steps: tuple[int, ...]) -> tuple[Index, list[Scalar]]:
    """Where in a slice an element lies, and on which conditions (beside its bounds) it does."""
    axes = zip(index, starts, steps, strict=True)
    places = [quotient(affine(i, 1, -start), step) for i, start, step in axes]
    return tuple(place for place, _ in places), [hit for _, hit in places if hit is not None]


def _unslice_element(
    index: Index, x: Source, starts: Shape, steps: tuple[int, ...], shape: Shape, value: Any
) -> Scalar:
    place, hits = _sources_of(index, starts, steps)
    return choose(conjunction(hits), x.within(place, value), cast_element(value, x.dtype))


UNSLICE = Op(
    "unslice", "view", ("x",),
    dtype=same_dtype,
    shape=_unslice_shape,
    oracle=_unslice_oracle,
    element=_unslice_element,
    build=unslice_build,
    vjp=lambda g, y, x, starts, steps, shape, value: slice_build(g, starts, x.shape, steps),
    rankless=lambda starts, steps, shape, value: shape,
    domain=cases(
        ((3,), {"starts": (1,), "steps": (1,), "shape": (5,), "value": 0}),
        ((3,), {"starts": (4,), "steps": (-2,), "shape": (5,), "value": 1}),
        ((0,), {"starts": (0,), "steps": (1,), "shape": (2,), "value": 1}),
        ((), {"starts": (), "steps": (), "shape": (), "value": 0}),
        ((2, 1), {"starts": (0, 1), "steps": (2, 1), "shape": (4, 3), "value": 0}),
        kinds="biuf",
    ),
)  # fmt: skip


# ---------------------------------------------------------------------------- slice_update


def _update_oracle(x: Array, updates: Array, starts: Any, steps: Any) -> Array:
    updated = np.array(x)
    updated[selection(x.shape, starts, updates.shape, steps)] = updates
    return updated


def _update_element(
    index: Index, x: Source, updates: Source, starts: Shape, steps: tuple[int, ...]
) -> Scalar:
    place, hits = _sources_of(index, starts, steps)
    inside = is_within(place, updates.shape)
    condition = conjunction([*hits, *([] if inside is None else [inside])])
    return choose(condition, updates.within(place, 0), x(*index))


def _update_shape(
    check: Check, x: TensorType, updates: TensorType, starts: Shape, steps: Shape
) -> Shape:
    assert x.shape is not None and updates.shape is not None
    _slice_shape(check, x, starts, updates.shape, steps)
    return x.shape


def update_build(
    x: Tensor, updates: Tensor, starts: Shape, steps: Shape, name: str | None = None
) -> Tensor:
    """`x` with `updates` written from `starts` in `steps`."""
    attrs = {"starts": starts, "steps": steps}
    return make(SLICE_UPDATE, (x, updates), attrs, name)


def _update_vjp(
    g: Tensor, y: Tensor, x: Tensor, updates: Tensor, starts: Shape, steps: Shape
) -> tuple[Tensor, Tensor]:
    assert updates.shape is not None
    zeros = full_of(0.0, updates.shape, g.dtype)
    return update_build(g, zeros, starts, steps), slice_build(g, starts, updates.shape, steps)


SLICE_UPDATE = Op(
    "slice_update", "view", ("x", "updates"),
    dtype=same_dtype,
    shape=_update_shape,
    oracle=_update_oracle,
    element=_update_element,
    build=update_build,
    vjp=_update_vjp,
    domain=cases(
        ((5,), (3,), {"starts": (1,), "steps": (1,)}),
        ((5,), (3,), {"starts": (4,), "steps": (-2,)}),
        ((5,), (0,), {"starts": (0,), "steps": (1,)}),
        ((), (), {"starts": (), "steps": ()}),
        ((4, 3), (2, 1), {"starts": (0, 1), "steps": (2, 1)}),
        ((0, 3), (0, 1), {"starts": (0, 2), "steps": (1, 1)}),
        kinds="biuf",
    ),
)  # fmt: skip


# ---------------------------------------------------------------------------- bounds


def from_front(bound: Dimension, size: Dimension) -> Dimension:
    """An index counted from the front: negative ones count from the end."""
    if is_nonnegative(bound):
        return bound
    if isinstance(bound, int):
        return bound + size
    is_negative = -derived("max", derived("min", bound, 0), -1)
    return bound + size * is_negative


def _before(stop: Dimension | None, size: Dimension) -> Dimension:
    """Where a slice by positive steps ends: at most at `size`, maybe below 0."""
    return size if stop is None else derived("min", from_front(stop, size), size)


def _forward(
    size: Dimension, start: Dimension | None, stop: Dimension | None
) -> tuple[Dimension, Dimension]:
    end, first = _before(stop, size), 0 if start is None else from_front(start, size)
    if is_nonnegative(first):
        return first, end - first
    return derived("max", first, 0), derived("min", end - first, end)  # end - max(first, 0)


def _backward(
    size: Dimension, start: Dimension | None, stop: Dimension | None
) -> tuple[Dimension, Dimension]:
    first = size - 1
    if start is not None:
        first = derived("min", from_front(start, size), first)
    if stop is None:
        return first, first + 1
    end = from_front(stop, size)
    if is_nonnegative(end):
        return first, first - end
    return first, derived("min", first - end, first + 1)  # first - max(end, -1)


def slice_bounds(
    size: Dimension, start: Dimension | None, stop: Dimension | None, step: int
) -> tuple[Dimension, Dimension]:
    """Start and length of `start:stop:step` on an axis of `size`, by Python's rules for slices.

    Where the length comes out as 0, the start may be anything.
    """
    first, span = (_forward if step > 0 else _backward)(size, start, stop)
    if not is_nonnegative(span):
        span = derived("max", span, 0)
    return first, floordiv(span + (abs(step) - 1), abs(step))


# ---------------------------------------------------------------------------- helpers for views


def along(x: Tensor, axis: int, start: Dimension, length: Dimension, step: int = 1) -> Tensor:
    """A strict slice of one axis (counted from the front) of a tensor of known rank."""
    assert x.shape is not None
    starts: list[Dimension] = [0] * len(x.shape)
    lengths, steps = list(x.shape), [1] * len(x.shape)
    starts[axis], lengths[axis], steps[axis] = start, length, step
    return slice_build(x, tuple(starts), tuple(lengths), tuple(steps))


def converted(check: Check, value: Tensor, dtype: DType) -> Tensor:
    """`value` as the values of a tensor of `dtype`, where no kind of number is lost."""
    if not np.can_cast(value.dtype.numpy, dtype.numpy, "same_kind"):
        check.fail(f"the values must be of a kind that {dtype} holds; cast them", DTypeError)
    return cast(value, dtype)
