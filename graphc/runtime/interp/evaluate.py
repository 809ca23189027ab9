"""The value of a formula at all points of a loop nest at once.

Every axis of a kernel, those of its reductions too, has a dimension of its own in one grid; a
formula is an array over the grid whose size is 1 along the axes that it does not depend on. Slow,
and plain: this is what code generators are held against. A large grid is walked in slabs of the
first axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc.dims import Symbol, evaluate
from graphc.dtypes import Array
from graphc.kernel import ARGUMENTS, Axis, Buffer, Kernel, Store
from graphc.ops.broadcast import cast_array
from graphc.scalar import PRIMITIVES, Scalar, walk

REDUCERS: dict[str, Any] = {
    "sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all,
    "argmax": np.argmax, "argmin": np.argmin,
}  # fmt: skip
POINTS = 1 << 22  # of a grid that is evaluated at once
Values: TypeAlias = dict[Scalar, Any]  # of formulas: arrays over the grid, and weak numbers


class Grid:
    """The axes of one kernel, each with its dimension and its size in this run."""

    def __init__(self, kernel: Kernel, sizes: Mapping[Symbol, int]) -> None:
        self.sizes = sizes
        axes: dict[Axis, None] = dict.fromkeys((*kernel.axes, *kernel.order))
        for formula in kernel.formulas():
            if formula.primitive == "reduce":
                axes.update(dict.fromkeys(formula.value[1]))
        self.place = {axis: number for number, axis in enumerate(axes)}
        self.extents = {axis: evaluate(axis.extent, sizes) for axis in axes}
        self.ranges = {axis: range(extent) for axis, extent in self.extents.items()}
        self.outer, self.order = kernel.axes, kernel.order

    def slabs(self) -> Iterator[None]:
        """Set the range of the first axis, one slab after the other."""
        if not self.outer:
            yield
            return
        first = self.outer[0]
        each = math.prod(e for axis, e in self.extents.items() if axis is not first)
        step = max(1, POINTS // max(each, 1))
        for start in range(0, self.extents[first], step):
            self.ranges[first] = range(start, min(start + step, self.extents[first]))
            yield

    def in_order(self) -> Iterator[None]:
        """Set the ordered axes to one point after the other, and the others to all of theirs."""
        self.ranges = {axis: range(extent) for axis, extent in self.extents.items()}
        for point in itertools.product(*(range(self.extents[axis]) for axis in self.order)):
            self.ranges |= {a: range(p, p + 1) for a, p in zip(self.order, point, strict=True)}
            yield

    def shape(self, axes: Container[Axis]) -> list[int]:
        """The sizes of what is stored at every point of some axes."""
        return [len(r) if axis in axes else 1 for axis, r in self.ranges.items()]

    def positions(self, axis: Axis) -> Array:
        """Where the loop of an axis stands, along its dimension."""
        shape = [1] * len(self.place)
        shape[self.place[axis]] = -1
        span = self.ranges[axis]
        return np.arange(span.start, span.stop, dtype=np.int64).reshape(shape)


def _beyond(place: Any, axis: int, size: int) -> IndexError:
    return IndexError(f"index {place} is out of range for axis {axis} of size {size}")


def _inside(index: Sequence[Array], shape: Sequence[int]) -> None:
    """Raise where something would be written beyond a buffer."""
    for axis, (grid, size) in enumerate(zip(index, shape, strict=True)):
        outside = (grid < 0) | (grid >= size)
        if outside.any():
            raise _beyond(grid[outside].flat[0], axis, size)


def _read(buffer: Array, index: Sequence[Array], outside: Any) -> Array:
    """Elements at an index; `outside` (or an error, where there is none) beyond the buffer."""
    if not index:
        return np.asarray(buffer[()])
    grids = np.broadcast_arrays(*index)
    valid = np.ones(grids[0].shape, bool)
    for axis, (grid, size) in enumerate(zip(grids, buffer.shape, strict=True)):
        inside = (grid >= 0) & (grid < size)
        if outside is None and not inside.all():
            raise _beyond(grid[~inside].flat[0], axis, size)
        valid &= inside
    if valid.all():
        return np.asarray(buffer[tuple(grids)])
    result = np.full(valid.shape, outside, buffer.dtype)
    result[valid] = buffer[tuple(grid[valid] for grid in grids)]
    return result


def _reduced(formula: Scalar, body: Array, grid: Grid) -> Array:
    """A reduction along its axes' dimensions, which stay with size 1."""
    kind, axes, initial = formula.value
    places = tuple(grid.place[axis] for axis in axes)
    shape = list(body.shape) if body.ndim else [1] * len(grid.place)
    for axis, place in zip(axes, places, strict=True):
        shape[place] = grid.extents[axis]
    full = np.broadcast_to(body, shape)
    more: dict[str, Any] = {}
    if kind in ("sum", "prod"):
        more["dtype"] = full.dtype
    if initial is not None:
        more["initial"] = full.dtype.type(initial)
    axis = places[0] if kind in ARGUMENTS else places
    return np.asarray(REDUCERS[kind](full, axis=axis, keepdims=True, **more))


def value_of(
    formula: Scalar, operands: Sequence[Any], grid: Grid, buffers: Mapping[Buffer, Array]
) -> Any:
    """One formula, of the values of its operands."""
    match formula.primitive:
        case "number":
            return formula.value  # weak beside arrays
        case "position":
            return grid.positions(formula.value)
        case "extent":
            return np.int64(evaluate(formula.value, grid.sizes))
        case "read":
            buffer, outside = formula.value
            return _read(buffers[buffer], list(map(np.asarray, operands)), outside)
        case "cast":
            return cast_array(np.asarray(operands[0]), formula.value)
        case "reduce":
            return _reduced(formula, np.asarray(operands[0]), grid)
    return PRIMITIVES[formula.primitive](*operands)


def values_of(
    kernel: Kernel,
    grid: Grid,
    buffers: Mapping[Buffer, Array],
    stores: Sequence[Store] | None = None,
) -> Values:
    """Every formula of a kernel, or of some of its stores, over the grid."""
    values: Values = {}
    some = kernel.stores if stores is None else stores
    for formula in walk(*(formula for store in some for formula in store.formulas)):
        operands = [values[part] for part in formula.operands]
        values[formula] = value_of(formula, operands, grid, buffers)
    return values


def run_kernel(
    kernel: Kernel, buffers: Mapping[Buffer, Array], sizes: Mapping[Symbol, int]
) -> None:
    """Do all stores of a kernel."""
    grid = Grid(kernel, sizes)
    if kernel.first:
        for _ in grid.slabs():
            _store(kernel, kernel.first, grid, buffers)
    if kernel.ordered:
        for _ in grid.in_order():
            _store(kernel, kernel.ordered, grid, buffers)


def _store(
    kernel: Kernel, stores: Sequence[Store], grid: Grid, buffers: Mapping[Buffer, Array]
) -> None:
    """Do some stores at all points where the grid stands."""
    values = values_of(kernel, grid, buffers, stores)
    for store in stores:
        shape = grid.shape(store.axes())
        target, value = buffers[store.buffer], np.broadcast_to(values[store.value], shape)
        if store.index:
            places = tuple(np.broadcast_to(values[i], shape) for i in store.index)
            _inside(places, target.shape)
            target[places] = value
        else:
            target[()] = value.reshape(())
