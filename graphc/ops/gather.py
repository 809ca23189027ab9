"""Gather and scatter: reads and writes at indices that a run computes; each the other's adjoint.

One record covers take, gather_nd and NumPy's indexing by arrays: `gather` reads `x` at index arrays
of one shape B, one for each of `axes`; the axes that are left keep their order, and B stands before
the `position`-th of them. `scatter` writes where gather reads. Of repeated indices, "set" keeps the
last. Negative indices count from the end; an index out of range is an error on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Dim, Shape, product
from graphc.dtypes import Array, bool_, int64
from graphc.errors import DTypeError, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import broadcast_operands, broadcast_to, cast, same_dtype
from graphc.ops.compare import equal
from graphc.ops.composition import composition
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.elements import gather_element
from graphc.ops.loops import scatter_loop
from graphc.ops.select import maximum, where
from graphc.ops.shape import check_of, ravel
from graphc.ops.slicing import along, converted
from graphc.ops.source import ARANGE, CONSTANT, as_tensor, full_of, literal
from graphc.types import TensorType

Axes = tuple[int, ...]

# ---------------------------------------------------------------------------- bounds


def checked(indices: Array, size: int, axis: int) -> Array:
    """Indices counted from the front; IndexError names the first that is out of range."""
    wide = indices.astype(np.int64) if indices.dtype.kind != "u" else indices
    outside = (wide < -size) | (wide >= size)
    if outside.any():
        index = wide[outside].astype(np.int64).flat[0]  # negative again, if cast from that
        raise IndexError(f"index {index} is out of range for axis {axis} of size {size}")
    wide = wide.astype(np.int64)
    return np.where(wide < 0, wide + size, wide)


def _check_indices(check: Check, indices: Sequence[TensorType]) -> None:
    for index in indices:
        if index.dtype is bool_:
            check.fail("indices must be integers; choose by a mask with g.where", DTypeError)
        if index.dtype.kind not in "iu":
            check.fail("indices must be integers", DTypeError)


def _gather_dtype(check: Check, x: TensorType, *indices: TensorType, **_: Any) -> Any:
    _check_indices(check, indices)
    return x.dtype


# ---------------------------------------------------------------------------- gather


def _gather_shape(
    check: Check, x: TensorType, *indices: TensorType, axes: Axes, position: int
) -> Shape:
    assert x.shape is not None
    shapes: list[Any] = [i.shape for i in indices]
    broadcast = check.broadcast(shapes, "index arrays must broadcast")
    rest = tuple(d for a, d in enumerate(x.shape) if a not in axes)
    return (*rest[:position], *broadcast, *rest[position:])


def _gather_oracle(x: Array, *indices: Array, axes: Axes, position: int) -> Array:
    places = [checked(i, x.shape[a], a) for i, a in zip(indices, axes, strict=True)]
    count = np.broadcast_shapes(*(p.shape for p in places))
    front = np.moveaxis(x, axes, range(len(axes)))
    read = front[tuple(places)]
    return np.moveaxis(read, range(len(count)), range(position, position + len(count)))


def _check_constants(x: Tensor, indices: Sequence[Tensor], axes: Axes) -> None:
    """Fail now where an index that is known now is out of range."""
    assert x.shape is not None
    for index, axis in zip(indices, axes, strict=True):
        size = x.shape[axis]
        if index.node.op is CONSTANT and not isinstance(size, Dim):
            try:
                checked(index.node.attrs["value"].array, size, axis)
            except IndexError as error:
                Check(GATHER, (x, *indices), {}).fail(str(error))


def gather_build(
    x: Tensor, *indices: Tensor, axes: Axes, position: int, name: str | None = None
) -> Tensor:
    """A gather over index tensors, broadcast to one shape."""
    if x.shape is not None and all(i.shape is not None for i in indices):
        _gather_shape(
            Check(GATHER, (x, *indices), {}), x.type, *(i.type for i in indices),
            axes=axes, position=position,
        )  # fmt: skip
        _check_constants(x, indices, axes)
        indices = tuple(broadcast_operands(GATHER, indices))
    attrs = {"axes": axes, "position": position}
    return make(GATHER, (x, *indices), attrs, name)


def _gather_vjp(
    g: Tensor, y: Tensor, x: Tensor, *indices: Tensor, axes: Axes, position: int
) -> Sequence[Tensor | None]:
    assert x.shape is not None
    zeros = full_of(0.0, x.shape, g.dtype)
    into = scatter_build(zeros, g, *indices, axes=axes, position=position, mode="add")
    return into, *[None] * len(indices)


def _indices(shape: tuple[int, ...], size: int, values: Sequence[int] | None = None) -> Draw:
    """Indices of an axis of `size`, negative ones and repeated ones too."""

    def draw(rng: Any, shape: tuple[int, ...]) -> Any:
        if values is not None:
            return np.array(values, np.int64).reshape(shape)
        return rng.integers(-size, size, shape) if size else np.zeros(shape, np.int64)

    return Draw(shape, -size, size, "int", make=draw)


GATHER_CASES: tuple[tuple[tuple[int, ...], tuple[Draw, ...], Axes, int], ...] = (
    ((5,), (_indices((3,), 5, (1, -1, 1)),), (0,), 0),
    ((5,), (_indices((), 5),), (0,), 0),
    ((5,), (_indices((0,), 5),), (0,), 0),
    ((1,), (_indices((1,), 1),), (0,), 0),
    ((2, 3), (_indices((2, 2), 3),), (1,), 1),
    ((2, 3), (_indices((4,), 3),), (1,), 0),
    ((2, 3, 4), (_indices((2,), 2), _indices((2,), 4)), (0, 2), 0),
    ((2, 3, 4), (_indices((3, 1), 3), _indices((3, 1), 4)), (1, 2), 1),
    ((0, 3), (_indices((2,), 3),), (1,), 1),
)
GATHER = Op(
    "gather", "opaque", ("x", "indices"), _gather_dtype, _gather_shape, _gather_oracle,
    element=gather_element,
    build=gather_build,
    vjp=_gather_vjp,
    domain=Domain(
        tuple(
            Case((Draw(shape), *indices), {"axes": axes, "position": position})
            for shape, indices, axes, position in GATHER_CASES
        ),
        "biuf",
    ),
)  # fmt: skip


# ---------------------------------------------------------------------------- scatter


def _scatter_dtype(
    check: Check, x: TensorType, updates: TensorType, *indices: TensorType, mode: str, **_: Any
) -> Any:
    _check_indices(check, indices)
    if x.dtype is not updates.dtype:
        check.fail("x and the updates must be of one dtype", DTypeError)
    return x.dtype


def _scatter_shape(
    check: Check, x: TensorType, updates: TensorType, *indices: TensorType,
    axes: Axes, position: int, mode: str,
) -> Shape:  # fmt: skip
    assert x.shape is not None and updates.shape is not None
    read = _gather_shape(check, x, *indices, axes=axes, position=position)
    if len(read) != len(updates.shape):
        check.fail("the updates must have the shape that is indexed")
    for a, b in zip(read, updates.shape, strict=True):
        check.equal(a, b, "the updates must have the shape that is indexed")
    return x.shape


UFUNCS: dict[str, Any] = {
    "add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum,
}  # fmt: skip


def write(x: Array, places: tuple[Array, ...], updates: Array, mode: str) -> None:
    """Combine the updates into `x`, in order; contiguous operands fix NumPy's order of writing."""
    places = tuple(map(np.ascontiguousarray, np.broadcast_arrays(*places)))
    if mode == "set":
        x[places] = np.ascontiguousarray(updates)
    else:
        UFUNCS[mode].at(x, places, np.ascontiguousarray(updates))


def _scatter_oracle(
    x: Array, updates: Array, *indices: Array, axes: Axes, position: int, mode: str
) -> Array:
    places = tuple(checked(i, x.shape[a], a) for i, a in zip(indices, axes, strict=True))
    rank = len(np.broadcast_shapes(*(p.shape for p in places)))
    written = np.array(x)
    front = np.moveaxis(written, axes, range(len(axes)))
    ordered = np.moveaxis(updates, range(position, position + rank), range(rank))
    if places[0].ndim == 0:  # NumPy's 0-d writes take no contiguous 0-d index arrays
        places, ordered = tuple(p[None] for p in places), ordered[None]
    write(front, places, ordered, mode)
    return written


def scatter_build(
    x: Tensor, updates: Tensor, *indices: Tensor,
    axes: Axes, position: int, mode: str, name: str | None = None,
) -> Tensor:  # fmt: skip
    """A scatter over index tensors, broadcast to one shape."""
    if all(i.shape is not None for i in indices):
        indices = tuple(broadcast_operands(SCATTER, indices))
    attrs = {"axes": axes, "position": position, "mode": mode}
    return make(SCATTER, (x, updates, *indices), attrs, name)


def _scatter_vjp(
    g: Tensor, y: Tensor, x: Tensor, updates: Tensor, *indices: Tensor,
    axes: Axes, position: int, mode: str,
) -> Sequence[Tensor | None]:  # fmt: skip
    def read(t: Tensor) -> Tensor:
        return gather_build(t, *indices, axes=axes, position=position)

    def written(t: Tensor, u: Tensor, how: str) -> Tensor:
        return scatter_build(t, u, *indices, axes=axes, position=position, mode=how)

    return *RULES[mode](g, y, x, updates, read, written), *[None] * len(indices)


def _add_rule(g: Tensor, y: Tensor, x: Tensor, u: Tensor, read: Any, written: Any) -> Any:
    return g, read(g)


def _set_rule(g: Tensor, y: Tensor, x: Tensor, u: Tensor, read: Any, written: Any) -> Any:
    """An update that a later one replaced gets nothing."""
    assert x.shape is not None and u.shape is not None
    attrs = {"start": 0, "step": 1, "count": product(u.shape), "dtype": int64}
    order = make(ARANGE, (), attrs).reshape(u.shape)
    kept = equal(read(written(full_of(-1, x.shape, int64), order, "set")), order)
    return written(g, full_of(0.0, u.shape, g.dtype), "set"), where(kept, read(g), 0)


def _multiply_rule(g: Tensor, y: Tensor, x: Tensor, u: Tensor, read: Any, written: Any) -> Any:
    """The product of the other factors: by division, and by counting where a factor is 0.

    At two zeros that meet in one element, mixed second derivatives come out as 0.
    """
    assert x.shape is not None
    zero = equal(u, 0)
    others = written(x, where(zero, 1, u), "multiply")  # of factors that are not 0
    counts = written(full_of(0, x.shape, int64), cast(zero, int64), "add")
    left = read(counts) - cast(zero, int64)
    quotient = read(others) * where(zero, 1, 1 / where(zero, 1, u))
    return written(g, u, "multiply"), read(g) * where(equal(left, 0), quotient, 0)


def _extremum_rule(g: Tensor, y: Tensor, x: Tensor, u: Tensor, read: Any, written: Any) -> Any:
    """Ties share the cotangent evenly."""
    from_x, from_u = equal(x, y), equal(u, read(y))
    ties = written(cast(from_x, g.dtype), cast(from_u, g.dtype), "add")
    share = g / maximum(ties, 1)  # none ties where x is NaN
    return where(from_x, share, 0), where(from_u, read(share), 0)


RULES: dict[str, Any] = {
    "add": _add_rule, "set": _set_rule, "multiply": _multiply_rule,
    "min": _extremum_rule, "max": _extremum_rule,
}  # fmt: skip


def _scatter_cases() -> tuple[Case, ...]:
    return tuple(
        Case(
            (Draw(shape, 0.5, 2.0), Draw(_read_shape(shape, indices, axes, position)), *indices),
            {"axes": axes, "position": position, "mode": mode},
        )
        for shape, indices, axes, position in GATHER_CASES
        for mode in RULES
    )


def _read_shape(
    shape: tuple[int, ...], indices: tuple[Draw, ...], axes: Axes, position: int
) -> tuple[int, ...]:
    rest = tuple(d for a, d in enumerate(shape) if a not in axes)
    return (*rest[:position], *indices[0].shape, *rest[position:])


SCATTER = Op(
    "scatter", "opaque", ("x", "updates", "indices"),
    dtype=_scatter_dtype,
    shape=_scatter_shape,
    oracle=_scatter_oracle,
    build=scatter_build,
    vjp=_scatter_vjp, loop=scatter_loop,
    domain=Domain(_scatter_cases(), "iuf"),
)  # fmt: skip


# ---------------------------------------------------------------------------- public builders


def as_indices(value: Any) -> Tensor:
    """An index array as a tensor; an empty list is one of integers."""
    if isinstance(value, (list, tuple)) and np.size(value) == 0:
        return literal(np.zeros(np.shape(value), np.int64))
    return as_tensor(value)


@composition("x", "indices", dtype=_gather_dtype)
def _take(x: Any, indices: Any, axis: int | None, *, name: str | None = None) -> Tensor:
    if axis is None:
        x, axis = ravel(x), 0
    axis = check_of(_take, x, indices).axis(axis, len(x.shape))
    return gather_build(x, indices, axes=(axis,), position=axis, name=name)


@trimmed
def take(x: Any, indices: Any, axis: int | None = None, *, name: str | None = None) -> Tensor:
    """The slices of `x` at `indices` (any shape) along `axis`; None: of its flattened elements.

    Shape: that of `x`, with the shape of `indices` in the place of `axis`.

    >>> take([10, 20, 30], [2, 0, -1]).eval()
    array([30, 10, 30])
    """
    tensor: Tensor = _take(as_tensor(x), as_indices(indices), axis, name=name)
    return tensor


@trimmed
def gather(x: Any, indices: Any, axis: int = 0, *, name: str | None = None) -> Tensor:
    """TensorFlow's form of `take`: the slices of `x` at `indices` along `axis`.

    >>> gather([[1, 2], [3, 4]], [1, 1]).eval()
    array([[3, 4],
           [3, 4]])
    """
    tensor: Tensor = _take(as_tensor(x), as_indices(indices), axis, name=name)
    return tensor


@composition("x", "indices", dtype=_gather_dtype)
def _gather_nd(x: Any, indices: Any, *, name: str | None = None) -> Any:
    check = check_of(_gather_nd, x, indices)
    if not indices.shape:
        check.fail("the indices must have at least one axis")
    last, counts = len(indices.shape) - 1, range(1, len(x.shape) + 1)
    answers = [check.ask(indices.shape[last], count) for count in counts]
    if True not in answers:
        if None in answers:
            return None
        check.fail("the last axis of the indices must be 1 to the rank of x long")
    count = 1 + answers.index(True)
    columns = [along(indices, last, k, 1).reshape(indices.shape[:-1]) for k in range(count)]
    return gather_build(x, *columns, axes=tuple(range(count)), position=0, name=name)


@trimmed
def gather_nd(x: Any, indices: Any, *, name: str | None = None) -> Tensor:
    """`x` at the points that the last axis of `indices` holds.

    Shapes: `[..., k]` indices into the first k axes of `x` give `[..., *x.shape[k:]]`.

    >>> gather_nd([[1, 2], [3, 4]], [[0, 1], [1, 0]]).eval()
    array([2, 3])
    """
    tensor: Tensor = _gather_nd(as_tensor(x), as_indices(indices), name=name)
    return tensor


@composition("x", "indices", "updates", dtype=same_dtype)
def _scatter_add(
    x: Any, indices: Any, updates: Any, axis: int, *, name: str | None = None
) -> Tensor:
    check = check_of(_scatter_add, x, indices, updates)
    axis = check.axis(axis, len(x.shape))
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    spread = broadcast_to(converted(check, updates, x.dtype), shape)
    return scatter_build(x, spread, indices, axes=(axis,), position=axis, mode="add", name=name)


@trimmed
def scatter_add(
    x: Any, indices: Any, updates: Any, axis: int = 0, *, name: str | None = None
) -> Tensor:
    """`x` with `updates` added to its slices at `indices` along `axis`; repeated indices add up.

    The updates broadcast to the shape of `take(x, indices, axis)`.

    >>> scatter_add([0, 0, 0], [2, 2, 0], [1, 1, 5]).eval()
    array([5, 0, 2])
    """
    tensor = as_tensor(x)
    values = as_tensor(updates, like=tensor.dtype)
    added: Tensor = _scatter_add(tensor, as_indices(indices), values, axis, name=name)
    return added
