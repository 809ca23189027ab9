"""Loops that turn arrays round: squares of elements, read along one axis and stored along another.

Enters: the facts of a job whose vectors run across a read, so that its neighbours lie apart, while
they lie side by side along another axis. Leaves: that axis, and loops over squares as wide as a
vector: so many vectors are read along the one axis, transposed in registers, and are then what the
formulas find for the read along the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphc.dims import Dim, Dimension, floordiv
from graphc.dtypes import DType
from graphc.kernel import Axis, Store
from graphc.runtime.cpu import ir, loads
from graphc.runtime.cpu.analysis import Facts
from graphc.runtime.cpu.elements import loaded, vector_of
from graphc.runtime.cpu.emission import Value, integer, minimum, transpose
from graphc.runtime.cpu.formula import Formulas, Lane
from graphc.runtime.cpu.loops import Loop, whole
from graphc.runtime.cpu.record import Surroundings
from graphc.scalar import Scalar

ROWS = 64  # of the other axis in a unit: lines of memory that are read whole
COLUMNS = 4_096  # of the vector's axis
MOST = 16  # lanes of a square


def crossed(facts: Facts, order: Iterable[Scalar], vector: Axis) -> list[Scalar]:
    """The reads whose lanes lie apart."""
    return [
        part
        for part in order
        if part.primitive == "read" and not _is_one(facts.step(part, vector), 0)
    ]


def tile_axis(facts: Facts, stores: Sequence[Store], axes: Sequence[Axis]) -> Axis | None:
    """The axis along which all such reads lie side by side, if the loops are simple otherwise."""
    order = list(facts.inside(*(formula for store in stores for formula in store.formulas)))
    found = crossed(facts, order, axes[-1])
    if not found or any(part.primitive == "reduce" for part in order):
        return None
    if any(part.value[1] is not None or facts.places[part].terms for part in found):
        return None
    if not all(_is_one(facts.step(facts.place_written(s), axes[-1])) for s in stores):
        return None
    for axis in reversed(axes[:-1]):
        large = isinstance(axis.extent, Dim) or axis.extent >= MOST
        if large and all(_is_one(facts.step(part, axis)) for part in found):
            return axis
    return None


def _is_one(step: Dimension | None, *others: int) -> bool:
    return isinstance(step, int) and step in (1, *others)


def count(across: Axis, vector: Axis) -> Dimension:
    """How many blocks of squares there are."""
    return _blocks(across.extent, ROWS) * _blocks(vector.extent, COLUMNS)


def _blocks(extent: Dimension, size: int) -> Dimension:
    return floordiv(extent + (size - 1), size)


def place(
    builder: ir.IRBuilder, record: Surroundings, unit: Value, across: Axis, vector: Axis
) -> tuple[tuple[Value, Value], Value]:
    """The numbers of a unit's block along both axes, and of the unit without them."""
    numbers = []
    for axis, size in ((vector, COLUMNS), (across, ROWS)):
        blocks = record.size(_blocks(axis.extent, size))
        numbers.append(builder.urem(unit, blocks))
        unit = builder.udiv(unit, blocks)
    return (numbers[1], numbers[0]), unit


class Squares:
    """The loops of one unit: a block of the axis `across`, and one of the vector's."""

    def __init__(
        self, scope: Formulas, across: Axis, vector: Axis, count: int, found: Sequence[Scalar]
    ) -> None:
        self.scope, self.across, self.vector = scope, across, vector
        self.count, self.found = count, found
        self.builder = scope.builder

    def emit(
        self,
        place: tuple[Value, Value],
        prepare: Callable[[Formulas], None],
        body: Callable[[Formulas, Lane, dict[Scalar, Value]], None],
        rest: Callable[[Formulas, Value, Value], None],
    ) -> None:
        """Whole squares by `body`, vectors of what is left by `rest`."""
        builder, size = self.builder, self.scope.record.size
        bounds = []
        for number, axis, step in zip(
            place, (self.across, self.vector), (ROWS, COLUMNS), strict=True
        ):
            start = builder.mul(number, integer(step))
            stop = minimum(builder, size(axis.extent), builder.add(start, integer(step)))
            bounds.append((start, whole(builder, start, stop, self.count), stop))
        (top, middle, bottom), (left, edge, right) = bounds
        columns = Loop(builder, left, edge, self.count, ())
        rows = Loop(builder, top, middle, self.count, ())
        self._square(rows.counter, columns.counter, prepare, body)
        rows.close()
        columns.close()
        row = Loop(builder, top, bottom, 1, ())
        inner = self.scope.inner({self.across: row.counter})
        prepare(inner)
        inside = builder.icmp_signed("<", row.counter, middle)
        rest(inner, builder.select(inside, edge, left), right)
        row.close()

    def _square(self, row: Value, column: Value, prepare: Any, body: Any) -> None:
        turned = {part: self._turned(part, row, column) for part in self.found}
        for k in range(self.count):
            inner = self.scope.inner({self.across: self.builder.add(row, integer(k))})
            prepare(inner)
            known = {part: lanes[k] for part, lanes in turned.items()}
            body(inner, Lane(column, self.count), known)

    def _turned(self, part: Scalar, row: Value, column: Value) -> list[Value]:
        """The vectors of a read in a square, each along the vector's axis."""
        dtype: DType = part.value[0].type.dtype
        corner = self.scope.inner({self.across: row, self.vector: column})
        start, step = loads.pointer(corner, part), corner.facts.step(part, self.vector)
        assert step is not None
        lines = []
        for k in range(self.count):
            line = loads.advanced(corner, start, loads.times(corner, integer(k), step), dtype)
            kind = vector_of(dtype, self.count)
            lines.append(self.builder.load(line, typ=kind, align=1))
        return [loaded(self.builder, x, dtype) for x in transpose(self.builder, lines)]
