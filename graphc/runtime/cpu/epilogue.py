"""From sums to stores: what is added to the old value, what the epilogue makes of it, masks.

Enters: a finished tile of sums in the workspace. Leaves: rows of C. The only place where results
meet the edges of C, so tiles compute whole vectors and know nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    advance,
    declare,
    fetch,
    first_lanes,
    integer,
    loop,
    masked_load,
    masked_store,
    minimum,
    splat,
)
from graphc.runtime.cpu.tile import Tile


@dataclass(frozen=True)
class Point:
    """Where a vector of results stands: row, column of its first lane, batch; and loads there."""

    builder: ir.IRBuilder
    tile: Tile
    row: Value
    column: Value
    batch: Value
    mask: Value | None
    buffers: Value

    def buffer(self, index: int) -> Value:
        """The pointer of the epilogue's own buffer with this number."""
        place = self.builder.gep(self.buffers, [integer(3 + index)], source_etype=POINTER)
        return self.builder.load(place, typ=POINTER, align=8)

    def load(self, pointer: Value, offset: Value) -> Value:
        """As many elements as there are results, from an offset in elements on."""
        place = self.builder.gep(pointer, [offset], source_etype=self.tile.element)
        if self.mask is None:
            return self.builder.load(place, typ=self.tile.vector, align=self.tile.size)
        return masked_load(self.builder, place, self.mask, self.tile.vector)

    def splat(self, value: Value) -> Value:
        """One number in all lanes."""
        return splat(self.builder, value, self.tile.lanes)

    def constant(self, value: float) -> Value:
        """A number in all lanes."""
        return ir.Constant(self.tile.vector, [value] * self.tile.lanes)


@dataclass(frozen=True)
class Epilogue:
    """Writes the function that stores a tile."""

    module: ir.Module
    tile: Tile
    accumulate: bool
    change: Callable[..., Any] | None
    unit: bool

    def emit(self, name: str) -> Any:
        """A function of (sums, count, columns, c, rows, stride, row, column, batch, buffers).

        `c` is at the tile's first column and `rows` are the offsets of its rows; `row` and
        `column` are where the tile stands in C; the stride is one element if `unit`.
        """
        labels = [("partial", POINTER), ("count", INTEGER), ("columns", INTEGER), ("c", POINTER),
                  ("rows", POINTER), ("stride", INTEGER), ("row", INTEGER), ("column", INTEGER),
                  ("batch", INTEGER), ("buffers", POINTER)]  # fmt: skip
        function, builder, arguments = declare(self.module, name, VOID, labels, False)
        partial, count, columns, c, rows, stride, row, column, batch, buffers = arguments
        held = minimum(builder, columns, integer(self.tile.width))
        lanes = self.tile.lanes
        with loop(builder, integer(0), count) as i:
            line = advance(builder, c, fetch(builder, rows, i))
            sums = advance(
                builder, partial, builder.mul(i, integer(self.tile.width * self.tile.size))
            )
            with loop(builder, integer(0), held, lanes) as j:
                left = builder.sub(held, j)
                place = builder.gep(sums, [j], source_etype=self.tile.element)
                value = builder.load(place, typ=self.tile.vector, align=self.tile.size)
                at = builder.add(row, i), builder.add(column, j), batch
                target = advance(builder, line, builder.mul(j, stride))
                with builder.if_else(builder.icmp_signed(">=", left, integer(lanes))) as (yes, no):
                    with yes:
                        point = Point(builder, self.tile, *at, None, buffers)
                        self._store(point, value, target, stride, integer(lanes))
                    with no:
                        mask = first_lanes(builder, left, lanes)
                        point = Point(builder, self.tile, *at, mask, buffers)
                        self._store(point, value, target, stride, left)
        builder.ret_void()
        return function

    def _store(self, point: Point, value: Value, target: Value, stride: Value, left: Value) -> None:
        builder = point.builder
        if self.accumulate:
            value = builder.fadd(value, self._old(point, target, stride, left))
        if self.change is not None:
            value = self.change(builder, value, point)
        if not self.unit:
            with loop(builder, integer(0), left) as i:
                lane = builder.extract_element(value, builder.trunc(i, ir.IntType(32)))
                builder.store(
                    lane, advance(builder, target, builder.mul(i, stride)), align=self.tile.size
                )
        elif point.mask is None:
            builder.store(value, target, align=self.tile.size)
        else:
            masked_store(builder, value, target, point.mask)

    def _old(self, point: Point, target: Value, stride: Value, left: Value) -> Value:
        builder = point.builder
        if self.unit:
            return point.load(target, integer(0))
        result = ir.Constant(self.tile.vector, None)
        before = builder.block
        head, body = builder.append_basic_block("head"), builder.append_basic_block("body")
        after = builder.append_basic_block("after")
        builder.branch(head)
        builder.position_at_end(head)
        i, old = builder.phi(INTEGER), builder.phi(self.tile.vector)
        i.add_incoming(integer(0), before)
        old.add_incoming(result, before)
        builder.cbranch(builder.icmp_signed("<", i, left), body, after)
        builder.position_at_end(body)
        place = advance(builder, target, builder.mul(i, stride))
        one = builder.load(place, typ=self.tile.element, align=self.tile.size)
        old.add_incoming(builder.insert_element(old, one, builder.trunc(i, ir.IntType(32))), body)
        i.add_incoming(builder.add(i, integer(1)), body)
        builder.branch(head)
        builder.position_at_end(after)
        return old
