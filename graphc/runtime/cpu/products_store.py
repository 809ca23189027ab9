"""The function that stores a tile of sums: rows, vectors of columns, and the kernel's formulas.

Enters: a product whose totals are not simply stored, and the module of its routine. Leaves: a
function that the contraction driver calls with each finished tile. The numbers of the row and of
the batch are split into the positions of the kernel's axes; the column is the axis of vectors, the
last of which may be cut by a mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from graphc.affine import Affine
from graphc.contractions import Product
from graphc.dims import Dim
from graphc.kernel import Axis
from graphc.runtime.cpu import ir, loads
from graphc.runtime.cpu.analysis import COSTS, Facts
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    declare,
    first_lanes,
    integer,
    loop,
    prefetch,
)
from graphc.runtime.cpu.formula import Formulas, Lane
from graphc.runtime.cpu.record import Frame
from graphc.runtime.cpu.target import Target
from graphc.scalar import Scalar

COSTLY = 8  # of a primitive that is worth being written once
NAMES = ("rows", "columns", "row", "column", "batch")


def split(builder: ir.IRBuilder, number: Value, extents: Sequence[Value]) -> list[Value]:
    """The positions of axes in row-major order, of a number that counts all their points."""
    found: list[Value] = []
    for extent in reversed(extents[1:]):
        found.append(builder.urem(number, extent))
        number = builder.udiv(number, extent)
    return [*([number] if extents else []), *reversed(found)]


@contextmanager
def counted(
    builder: ir.IRBuilder, count: Value, first: Sequence[Value], extents: Sequence[Value]
) -> Iterator[tuple[Value, list[Value]]]:
    """`for i in range(count)`, and positions that go on from `first` in row-major order."""
    before = builder.block
    head, body = builder.append_basic_block("head"), builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    counter = builder.phi(INTEGER)
    counter.add_incoming(integer(0), before)
    digits = [builder.phi(INTEGER) for _ in first]
    for digit, value in zip(digits, first, strict=True):
        digit.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", counter, count), body, after)
    builder.position_at_end(body)
    yield counter, digits
    carry = integer(1)
    following: list[Value] = []
    for place in reversed(range(len(digits))):
        moved = builder.add(digits[place], carry)
        if place == 0:
            following.insert(0, moved)
            break
        full = builder.icmp_signed("==", moved, extents[place])
        following.insert(0, builder.select(full, integer(0), moved))
        carry = builder.zext(full, INTEGER)
    for digit, value in zip(digits, following, strict=True):
        digit.add_incoming(value, builder.block)
    counter.add_incoming(builder.add(counter, integer(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)


class TileStore:
    """Writes the function for one product."""

    def __init__(
        self, module: ir.Module, product: Product, target: Target, shape: tuple[int, int],
        buffers: Sequence[Any], sizes: Sequence[Any],
    ) -> None:  # fmt: skip
        self.product, self.width, self.height = product, *shape
        self.lanes = target.lanes(product.dtype.bits)
        labels = [("closure", POINTER), ("partial", POINTER), *((n, INTEGER) for n in NAMES)]
        self.function, entry, arguments = declare(module, "store", VOID, labels, False)
        closure, self.partial, *numbers = arguments
        self.numbers = dict(zip(NAMES, numbers, strict=True))
        self.frame = Frame(module, self.function, entry, closure, buffers, sizes)
        self.element = {32: ir.FloatType(), 64: ir.DoubleType()}[product.dtype.bits]
        self.stores = product.kernel.stores
        formulas = [formula for store in self.stores for formula in store.formulas]
        extents = (axis.extent for axis in (*product.kernel.axes, *product.sums))
        assured = frozenset(extent for extent in extents if isinstance(extent, Dim))
        self.facts = Facts(formulas, target, assured=assured)
        self.needed = list(self._needed(formulas))
        costly = any(COSTS.get(part.primitive, 1) >= COSTLY for part in self.needed)
        self.always_masks = costly and self.facts.has_masks(8)
        self.coming = [(part, self._coming(part), writes) for part, writes in self._walked()]

    def _needed(self, formulas: Sequence[Scalar]) -> Iterator[Scalar]:
        """What is evaluated of formulas, operands first; of the totals nothing."""
        seen: set[Scalar] = set(self.product.totals)
        stack = [(formula, False) for formula in formulas]
        while stack:
            current, ready = stack.pop()
            if ready:
                yield current
            elif current not in seen:
                seen.add(current)
                stack.append((current, True))
                stack += [(part, False) for part in self.facts.needs(current)]

    def _walked(self) -> list[tuple[Scalar, bool]]:
        """What is read once for each sum, or (true) written: each place once."""
        parts = [(self.facts.place_written(store), True) for store in self.stores]
        parts += [(part, False) for part in self.needed if part.primitive == "read"]
        found: dict[Any, tuple[Scalar, bool]] = {}
        for part, writes in parts:
            place, (buffer, outside) = self.facts.places[part], part.value
            steady = not place.terms and outside is None and self.product.rows
            if steady and _is_dense(place.offset, self.product):
                key = buffer, place.offset.constant, frozenset(place.offset.steps.items())
                found.setdefault(key, (part, writes))
        return list(found.values())

    def _coming(self, part: Scalar) -> Value:
        """How many elements further the next tile is: to the right, else below, at the left."""
        builder, column = self.frame.builder, self.numbers["column"]
        end = builder.add(column, self.numbers["columns"])
        more = builder.icmp_signed("<", end, self.frame.size(self.product.column.extent))
        step = self.frame.size(self.facts.places[part].offset.step(self.product.rows[-1]))
        below = builder.sub(builder.mul(step, integer(self.height)), column)
        return builder.select(more, integer(self.width), below)

    def emit(self) -> Any:
        """The function."""
        builder, product = self.frame.builder, self.product
        batch = split(builder, self.numbers["batch"], self._extents(product.batch))
        tile = Formulas(
            builder, self.facts, self.frame, dict(zip(product.batch, batch, strict=True))
        )
        tile.prepare(self.needed)
        extents = self._extents(product.rows)
        first = split(builder, self.numbers["row"], extents)
        with counted(builder, self.numbers["rows"], first, extents) as (i, positions):
            row = tile.inner(dict(zip(product.rows, positions, strict=True)))
            row.prepare(self.needed)
            offset = builder.mul(i, integer(self.width))
            sums = builder.gep(self.partial, [offset], source_etype=self.element)
            self._columns(row, sums)
        self.frame.end_function()
        return self.function

    def _extents(self, axes: Sequence[Axis]) -> list[Value]:
        return [self.frame.size(axis.extent) for axis in axes]

    def _columns(self, row: Formulas, sums: Value) -> None:
        """The vectors of a row, then what is left of one.

        Where masks cost little beside the formulas all vectors have one, so that the formulas are
        written (and compiled) only once.
        """
        builder, columns = self.frame.builder, self.numbers["columns"]
        if self.always_masks:
            with loop(builder, integer(0), columns, self.lanes) as j:
                mask = first_lanes(builder, builder.sub(columns, j), self.lanes)
                self._vector(row, sums, j, mask)
            return
        whole = builder.and_(columns, integer(-self.lanes))
        with loop(builder, integer(0), whole, self.lanes) as j:
            self._vector(row, sums, j, None)
        with builder.if_then(builder.icmp_signed("<", whole, columns)):
            mask = first_lanes(builder, builder.sub(columns, whole), self.lanes)
            self._vector(row, sums, whole, mask)

    def _vector(self, row: Formulas, sums: Value, offset: Value, mask: Value | None) -> None:
        builder = self.frame.builder
        place = builder.gep(sums, [offset], source_etype=self.element)
        kind = ir.VectorType(self.element, self.lanes)
        total = builder.load(place, typ=kind, align=self.product.dtype.itemsize)
        base = builder.add(self.numbers["column"], offset)
        lane = Lane(base, self.lanes, mask)
        point = row.inner({self.product.column: lane}, dict.fromkeys(self.product.totals, total))
        values = [point.stored(store) for store in self.stores]  # all, before one is overwritten
        for store, value in zip(self.stores, values, strict=True):
            loads.store(point, store, value)
        for part, ahead, writes in self.coming:  # else each row waits for memory in its turn
            line = loads.advanced(
                point, loads.pointer(point, part), ahead, part.value[0].type.dtype
            )
            prefetch(builder, line, writes)


def _is_dense(offset: Affine, product: Product) -> bool:
    """Whether columns lie next to each other, and rows apart."""
    return offset.step(product.column) == 1 and offset.step(product.rows[-1]) != 0
