"""NumPy's indexing: `x[1:, None, idx]`, and `x.at[...]`, the updates of what an index reads.

Enters: whatever stands between the brackets. `Index` holds it in the form that attributes take, its
arrays apart as operands. `plan` then says, for a known rank, which strict slice to take, at which
arrays to gather, and which axes to insert. What an index reads, `at` writes by the same plan.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphc.build import Check, failure, make
from graphc.dims import Dim, Dimension, Shape
from graphc.dtypes import bool_
from graphc.errors import DTypeError, GraphcError, ShapeError, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import broadcast_to, same_dtype
from graphc.ops.composition import replaced
from graphc.ops.domain import Domain
from graphc.ops.follow import as_dimension
from graphc.ops.gather import as_indices, gather_build, scatter_build
from graphc.ops.select import maximum, minimum
from graphc.ops.slicing import converted, from_front, slice_bounds, slice_build, update_build
from graphc.ops.source import as_tensor

NEW, REST = "new", "..."
WHOLE = ("slice", None, None, 1)
Entry: TypeAlias = Any  # a size, NEW, REST, ("slice", start, stop, step) or ("array", operand)

# ---------------------------------------------------------------------------- reading an index


def _bound(value: Any) -> Dimension | None:
    return None if value is None else as_dimension(value, "the bound of a slice")


def _step(value: Any) -> int:
    if value is None:
        return 1
    step = as_dimension(value, "the step of a slice")
    if isinstance(step, Dim) or step == 0:
        raise ShapeError(f"the step of a slice must be an int other than 0, got {value!r}")
    return step


def _array(value: Any) -> Tensor:
    tensor = as_indices(value)
    if tensor.dtype is bool_:
        raise DTypeError(
            "an index must not be a boolean mask, for the shape would depend on data; use "
            f"g.where(mask, x, other) instead of {tensor.type}"
        )
    if tensor.dtype.kind not in "iu":
        raise DTypeError(f"an index must hold integers, not {tensor.type}")
    return tensor


def encoded(index: Any) -> tuple[tuple[Entry, ...], list[Tensor]]:
    """What stands between the brackets, as an attribute, and its arrays as operands."""
    entries: list[Entry] = []
    arrays: list[Tensor] = []
    for item in index if isinstance(index, tuple) else (index,):
        if item is None:
            entries.append(NEW)
        elif item is Ellipsis:
            if REST in [e for e in entries if isinstance(e, str)]:
                raise ShapeError("an index must hold at most one ellipsis (...)")
            entries.append(REST)
        elif isinstance(item, builtins.slice):
            start, stop = _bound(item.start), _bound(item.stop)
            entries.append(("slice", start, stop, _step(item.step)))
        elif isinstance(item, Dim) or _is_int(item):
            entries.append(item if isinstance(item, Dim) else int(item))
        else:
            entries.append(("array", len(arrays)))
            arrays.append(_array(item))
    return tuple(entries), arrays


def _is_int(item: Any) -> bool:
    if isinstance(item, (bool, np.bool_, Tensor)):
        return False
    if isinstance(item, np.ndarray):
        return item.ndim == 0 and item.dtype.kind in "iu"
    if not hasattr(item, "__index__") and not isinstance(item, (list, tuple)):
        raise DTypeError(
            f"an index must be an integer, a slice, None, ... or an array, got {item!r}"
        )
    return hasattr(item, "__index__")


# ---------------------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class Plan:
    """How one index reads a tensor: a strict slice, then a gather, then a reshape."""

    starts: Shape
    lengths: Shape
    steps: tuple[int, ...]
    kept: Shape  # the slice's shape without the axes that an int drops
    axes: tuple[int, ...]  # of `kept`, indexed by arrays
    position: int  # of the arrays' axes among the others
    new: tuple[int, ...]  # axes inserted, counted in the result


def _expanded(check: Check, entries: Sequence[Entry], rank: int) -> list[Entry]:
    """The entries with the ellipsis spelled out: one for each axis, and the new axes."""
    used = sum(1 for e in entries if e is not None and not (isinstance(e, str)))
    if used > rank:
        check.fail(f"too many indices: x has {rank} axes, the index uses {used}")
    whole: list[Entry] = [WHOLE] * (rank - used)
    if REST not in [e for e in entries if isinstance(e, str)]:
        return [*entries, *whole]
    place = next(i for i, e in enumerate(entries) if isinstance(e, str) and e == REST)
    return [*entries[:place], *whole, *entries[place + 1 :]]


def _is_array(entry: Entry) -> bool:
    return isinstance(entry, tuple) and entry[0] == "array"


def _is_whole(entry: Entry) -> bool:
    return isinstance(entry, str) or (isinstance(entry, tuple) and entry[0] == "slice")


def _leading(entries: Sequence[Entry]) -> int:
    """How many results' axes stand before those of the arrays: NumPy puts these in front where
    anything separates the arrays (an int counts as one).
    """
    pointed = [i for i, e in enumerate(entries) if not _is_whole(e)]
    separated = pointed[-1] - pointed[0] >= len(pointed)
    return 0 if separated else pointed[0]


def _start_of(check: Check, index: Dimension, size: Dimension, axis: int) -> Dimension:
    """Where a slice for one index starts."""
    if isinstance(index, int) and isinstance(size, int) and not -size <= index < size:
        check.fail(f"index {index} is out of range for axis {axis} of size {size}")
    return from_front(index, size)


def plan(check: Check, shape: Shape, entries: Sequence[Entry], broadcast: int) -> Plan:
    """How to read a tensor of `shape`; `broadcast` is the rank of the arrays' common shape."""
    listed = _expanded(check, entries, len(shape))
    starts: list[Dimension] = []
    lengths: list[Dimension] = []
    kept: list[Dimension] = []
    steps: list[int] = []
    axes: list[int] = []
    for entry in (e for e in listed if not isinstance(e, str)):
        axis, size = len(starts), shape[len(starts)]
        start: Dimension = 0
        length, step = size, 1
        if _is_array(entry):
            axes.append(len(kept))
        elif isinstance(entry, tuple) and entry != WHOLE:
            start, length = slice_bounds(size, *entry[1:])
            step = entry[3]
        elif not isinstance(entry, tuple):
            start, length = _start_of(check, entry, size, axis), 1
        starts.append(start)
        lengths.append(length)
        steps.append(step)
        if isinstance(entry, tuple):
            kept.append(length)
    whole = [e for e in listed if _is_whole(e)]
    leading = _leading(listed) if axes else len(whole)
    position = sum(1 for e in whole[:leading] if not isinstance(e, str))
    new = [i + (broadcast if i >= leading else 0) for i, e in enumerate(whole) if e == NEW]
    return Plan(
        tuple(starts), tuple(lengths), tuple(steps), tuple(kept), tuple(axes), position, tuple(new)
    )


def _plan_of(check: Check, x: Tensor, arrays: Sequence[Tensor], entries: Sequence[Entry]) -> Plan:
    assert x.shape is not None
    ranks = [len(t.shape) for t in arrays if t.shape is not None]
    return plan(check, x.shape, entries, max(ranks, default=0))


def _with_new(shape: Shape, new: Sequence[int]) -> Shape:
    """A shape with axes of size 1 inserted."""
    sizes = iter(shape)
    return tuple(1 if i in new else next(sizes) for i in range(len(shape) + len(new)))


def _is_open(tensors: Sequence[Tensor]) -> bool:
    return any(t.shape is None for t in tensors)


# ---------------------------------------------------------------------------- x[index]


def _region(x: Tensor, steps: Plan) -> Tensor:
    return slice_build(x, steps.starts, steps.lengths, steps.steps)


def _index_build(
    x: Tensor, *arrays: Tensor, entries: tuple[Entry, ...], name: str | None = None
) -> Tensor:
    if _is_open((x, *arrays)):
        return make(INDEX, (x, *arrays), {"entries": entries}, name)
    how = _plan_of(Check(INDEX, (x, *arrays), {}), x, arrays, entries)
    found = _region(x, how).reshape(how.kept)
    if arrays:
        found = gather_build(found, *arrays, axes=how.axes, position=how.position)
    assert found.shape is not None
    return found.reshape(_with_new(found.shape, how.new)) if how.new else found


INDEX = Op(
    "index", "deferred", ("x", "indices"), same_dtype, replaced, replaced,
    build=_index_build, vjp=replaced, domain=Domain(()),
)  # fmt: skip


def _read_index(x: Tensor, index: Any) -> tuple[tuple[Entry, ...], list[Tensor]]:
    try:
        return encoded(index)
    except GraphcError as error:
        raise type(error)(failure(INDEX, str(error), (x,))) from None


@trimmed
def getitem(x: Tensor, index: Any) -> Tensor:
    """`x[index]` by NumPy's rules: ints, slices, None, `...`, integer arrays and tensors.

    Bounds of slices may be sizes or integer scalars. A boolean mask is refused: see `where`.

    >>> as_tensor([[1, 2, 3], [4, 5, 6]])[:, ::-1].eval()
    array([[3, 2, 1],
           [6, 5, 4]])
    """
    entries, arrays = _read_index(x, index)
    return _index_build(x, *arrays, entries=entries)


# ---------------------------------------------------------------------------- x.at[index]


COMBINE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "set": lambda old, new: new,
    "add": lambda old, new: old + new,
    "multiply": lambda old, new: old * new,
    "min": lambda old, new: minimum(old, new),
    "max": lambda old, new: maximum(old, new),
}


def _update_build(
    x: Tensor,
    values: Tensor,
    *arrays: Tensor,
    entries: tuple[Entry, ...],
    mode: str,
    name: str | None = None,
) -> Tensor:
    operands = (x, values, *arrays)
    if _is_open(operands):
        return make(AT, operands, {"entries": entries, "mode": mode}, name)
    how = _plan_of(Check(AT, operands, {}), x, arrays, entries)
    region = _region(x, how)
    old = region.reshape(how.kept)
    read = gather_build(old, *arrays, axes=how.axes, position=how.position) if arrays else old
    assert read.shape is not None
    new = broadcast_to(values, _with_new(read.shape, how.new)).reshape(read.shape)
    if arrays:
        place = {"axes": how.axes, "position": how.position}
        written = scatter_build(old, new, *arrays, **place, mode=mode)  # type: ignore[arg-type]  # attributes by name
    else:
        written = COMBINE[mode](old, new)
    if region is x:
        return written.reshape(x.shape)
    return update_build(x, written.reshape(how.lengths), how.starts, how.steps, name)


AT = Op(
    "at", "deferred", ("x", "values", "indices"), same_dtype, replaced, replaced,
    build=_update_build, vjp=replaced, domain=Domain(()),
)  # fmt: skip


class Updates:
    """`x.at[index]`: what can be done to the elements that an index reads."""

    __slots__ = ("_arrays", "_entries", "_tensor")

    def __init__(self, tensor: Tensor, index: Any) -> None:
        self._tensor = tensor
        self._entries, self._arrays = _read_index(tensor, index)

    def _update(self, values: Any, mode: str, name: str | None) -> Tensor:
        x = self._tensor
        given = as_tensor(values, like=x.dtype)
        cast_to_x = converted(Check(AT, (x, given), {}), given, x.dtype)
        return _update_build(
            x, cast_to_x, *self._arrays, entries=self._entries, mode=mode, name=name
        )

    @trimmed
    def get(self) -> Tensor:
        """The elements themselves, `x[index]`."""
        return _index_build(self._tensor, *self._arrays, entries=self._entries)

    @trimmed
    def set(self, values: Any, *, name: str | None = None) -> Tensor:
        """`x` with these elements replaced; of repeated indices the last counts.

        >>> as_tensor([1, 2, 3]).at[0].set(9).eval()
        array([9, 2, 3])
        """
        return self._update(values, "set", name)

    @trimmed
    def add(self, values: Any, *, name: str | None = None) -> Tensor:
        """`x` with `values` added to these elements; repeated indices add up.

        >>> as_tensor([1, 2, 3]).at[[0, 0]].add(1).eval()
        array([3, 2, 3])
        """
        return self._update(values, "add", name)

    @trimmed
    def subtract(self, values: Any, *, name: str | None = None) -> Tensor:
        """`x` with `values` subtracted from these elements.

        >>> as_tensor([1, 2, 3]).at[1:].subtract(1).eval()
        array([1, 1, 2])
        """
        return self._update(-as_tensor(values, like=self._tensor.dtype), "add", name)

    @trimmed
    def multiply(self, values: Any, *, name: str | None = None) -> Tensor:
        """`x` with these elements multiplied by `values`.

        >>> as_tensor([1, 2, 3]).at[1:].multiply(2).eval()
        array([1, 4, 6])
        """
        return self._update(values, "multiply", name)

    @trimmed
    def min(self, values: Any, *, name: str | None = None) -> Tensor:
        """`x` with the smaller of each of these elements and `values`.

        >>> as_tensor([1, 2, 3]).at[1:].min(2).eval()
        array([1, 2, 2])
        """
        return self._update(values, "min", name)

    @trimmed
    def max(self, values: Any, *, name: str | None = None) -> Tensor:
        """`x` with the larger of each of these elements and `values`.

        >>> as_tensor([1, 2, 3]).at[:2].max(2).eval()
        array([2, 2, 3])
        """
        return self._update(values, "max", name)


class At:
    """`x.at`, waiting for an index."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __getitem__(self, index: Any) -> Updates:
        return Updates(self._tensor, index)
