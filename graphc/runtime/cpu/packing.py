"""Tables of offsets and packed copies: what brings operands into the order that a tile reads.

Enters: sizes and strides of any number of axes. Leaves: functions of the module that write

    offsets  the byte offsets of consecutive places of a multi-axis index
    pack_b   a block of B as strips, one after the other, each k by the width of a tile, zeros
             beyond the last column
    pack_a   the rows of one tile of A, next to each other, out of the way of cache conflicts
"""

from __future__ import annotations

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
    minimum,
    splat,
    transpose,
)
from graphc.runtime.cpu.tile import Tile


def emit_offsets(module: ir.Module, name: str, axes: int) -> Any:
    """A function of (table, start, count, padded, sizes..., strides...).

    It writes the offsets of the places start, start + 1, ... in row-major order, `count` of
    them, and repeats the last one up to `padded`. Strides are in bytes.
    """
    labels = ["start", "count", "padded"]
    labels += [f"{kind}{i}" for kind in ("size", "stride") for i in range(axes)]
    function, builder, arguments = declare(
        module, name, VOID, [("table", POINTER), *((label, INTEGER) for label in labels)], False
    )
    table, start, count, padded, *rest = arguments
    sizes, strides = rest[:axes], rest[axes:]
    with builder.if_then(builder.icmp_signed("<=", count, integer(0))):
        builder.ret_void()
    digits: list[Value] = []
    left = start
    for size in reversed(sizes[1:]):
        digits.insert(0, builder.urem(left, size))
        left = builder.udiv(left, size)
    digits.insert(0, left)
    entry, body, done = builder.block, *(builder.append_basic_block(b) for b in ("body", "done"))
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(INTEGER)
    index.add_incoming(integer(0), entry)
    running = [builder.phi(INTEGER) for _ in digits]
    offset = integer(0)
    for digit, stride in zip(running, strides, strict=True):
        offset = builder.add(offset, builder.mul(digit, stride))
    builder.store(offset, builder.gep(table, [index], source_etype=INTEGER), align=8)
    following = builder.add(index, integer(1))
    carry = builder.zext(builder.icmp_signed("<", following, count), INTEGER)
    for i in reversed(range(axes)):
        moved = builder.add(running[i], carry)
        if i:
            full = builder.icmp_signed("==", moved, sizes[i])
            moved = builder.select(full, integer(0), moved)
            carry = builder.zext(full, INTEGER)
        running[i].add_incoming(digits[i], entry)
        running[i].add_incoming(moved, body)
    index.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, padded), body, done)
    builder.position_at_end(done)
    builder.ret_void()
    return function


class Packer:
    """Writes the packing functions of a tile."""

    def __init__(self, module: ir.Module, tile: Tile) -> None:
        self.module, self.tile = module, tile
        self._slow: Any = None

    def _load(self, builder: ir.IRBuilder, pointer: Value) -> Value:
        return builder.load(pointer, typ=self.tile.vector, align=self.tile.size)

    def _store(self, builder: ir.IRBuilder, value: Value, pointer: Value) -> None:
        builder.store(value, pointer, align=self.tile.size)

    def pack_b(self, name: str, unit: bool) -> Any:
        """A function of (panel, b, sums, count, stride, columns).

        `b` is at the block's first column; `sums` are the offsets of its rows and `stride` is
        from column to column, which is one element if `unit`. Whole strips are written.
        """
        labels = [("panel", POINTER), ("b", POINTER), ("sums", POINTER), ("count", INTEGER),
                  ("stride", INTEGER), ("columns", INTEGER)]  # fmt: skip
        self._slow = None if unit else self._turn_elements(f"{name}_elements")
        function, builder, arguments = declare(self.module, name, VOID, labels, False)
        panel, b, sums, count, stride, columns = arguments
        tile = self.tile
        strip = builder.mul(count, integer(tile.width * tile.size))
        with loop(builder, integer(0), columns, tile.width) as column:
            target = advance(
                builder, panel, builder.mul(strip, builder.udiv(column, integer(tile.width)))
            )
            source = advance(builder, b, builder.mul(column, stride))
            left = builder.sub(columns, column)
            if unit:
                self._copy_rows(builder, target, source, sums, count, left)
            else:
                self._turn(builder, target, source, sums, count, stride, left)
        builder.ret_void()
        return function

    def _copy_rows(
        self, builder: ir.IRBuilder, target: Value, source: Value, sums: Value, count: Value,
        left: Value,
    ) -> None:  # fmt: skip
        """A strip whose columns lie next to each other: whole vectors, or masked ones."""
        tile = self.tile
        masks = [
            first_lanes(builder, builder.sub(left, integer(j * tile.lanes)), tile.lanes)
            for j in range(tile.vectors)
        ]

        def copy(whole: bool) -> None:
            with loop(builder, integer(0), count) as k:
                row = advance(builder, source, fetch(builder, sums, k))
                place = advance(builder, target, builder.mul(k, integer(tile.width * tile.size)))
                for j in range(tile.vectors):
                    step = integer(j * tile.lanes * tile.size)
                    pointer = advance(builder, row, step)
                    value = (
                        self._load(builder, pointer)
                        if whole
                        else masked_load(builder, pointer, masks[j], tile.vector)
                    )
                    self._store(builder, value, advance(builder, place, step))

        with builder.if_else(builder.icmp_signed(">=", left, integer(tile.width))) as (yes, no):
            with yes:
                copy(True)
            with no:
                copy(False)

    def _turn(
        self, builder: ir.IRBuilder, target: Value, source: Value, sums: Value, count: Value,
        stride: Value, left: Value,
    ) -> None:  # fmt: skip
        """A strip whose columns lie apart: transposed where k is dense, else by elements."""
        tile = self.tile
        held = minimum(builder, left, integer(tile.width))
        full = builder.icmp_signed("==", held, integer(tile.width))
        blocks = builder.select(full, builder.and_(count, integer(-tile.lanes)), integer(0))
        where = target, source, sums, stride, held
        with loop(builder, integer(0), blocks, tile.lanes) as k:
            dense = self._dense(builder, sums, k)
            with builder.if_else(dense) as (yes, no):
                with yes:
                    self._turn_block(builder, target, source, sums, stride, k)
                with no:
                    builder.call(self._slow, [*where, k, builder.add(k, integer(tile.lanes))])
        builder.call(self._slow, [*where, blocks, count])

    def _turn_elements(self, name: str) -> Any:
        """A function of (strip, b, sums, stride, columns, start, stop): one by one."""
        labels = [("target", POINTER), ("source", POINTER), ("sums", POINTER),
                  *((label, INTEGER) for label in ("stride", "held", "start", "stop"))]  # fmt: skip
        function, builder, arguments = declare(self.module, name, VOID, labels, False)
        target, source, sums, stride, held, start, stop = arguments
        tile = self.tile
        with loop(builder, start, stop) as k:
            row = advance(builder, source, fetch(builder, sums, k))
            place = advance(builder, target, builder.mul(k, integer(tile.width * tile.size)))
            with loop(builder, integer(0), held) as column:
                pointer = advance(builder, row, builder.mul(column, stride))
                value = builder.load(pointer, typ=tile.element, align=tile.size)
                to = builder.gep(place, [column], source_etype=tile.element)
                builder.store(value, to, align=tile.size)
            with loop(builder, held, integer(tile.width)) as column:
                to = builder.gep(place, [column], source_etype=tile.element)
                builder.store(ir.Constant(tile.element, 0.0), to, align=tile.size)
        builder.ret_void()
        return function

    def _turn_block(
        self, builder: ir.IRBuilder, target: Value, source: Value, sums: Value, stride: Value,
        k: Value,
    ) -> None:  # fmt: skip
        tile = self.tile
        row = advance(builder, source, fetch(builder, sums, k))
        place = advance(builder, target, builder.mul(k, integer(tile.width * tile.size)))
        with loop(builder, integer(0), integer(tile.width), tile.lanes) as column:
            line, lines = advance(builder, row, builder.mul(column, stride)), []
            for _ in range(tile.lanes):
                lines.append(self._load(builder, line))
                line = advance(builder, line, stride)
            start = builder.gep(place, [column], source_etype=tile.element)
            for i, vector in enumerate(transpose(builder, lines)):
                self._store(
                    builder, vector, advance(builder, start, integer(i * tile.width * tile.size))
                )

    def pack_a(self, name: str) -> Any:
        """A function of (panel, a, rows, sums, count, pitch): rows of A, each `pitch` apart.

        Runs of offsets that step by one element are copied as vectors.
        """
        labels = [("panel", POINTER), ("a", POINTER), ("rows", POINTER), ("sums", POINTER),
                  ("count", INTEGER), ("pitch", INTEGER)]  # fmt: skip
        function, builder, arguments = declare(self.module, name, VOID, labels, False)
        panel, a, rows, sums, count, pitch = arguments
        tile = self.tile
        whole = builder.and_(count, integer(-tile.lanes))
        with loop(builder, integer(0), whole, tile.lanes) as k:
            first = fetch(builder, sums, k)
            with builder.if_else(self._dense(builder, sums, k)) as (yes, no):
                with yes:
                    for i in range(tile.rows):
                        line = advance(builder, a, fetch(builder, rows, integer(i)))
                        value = self._load(builder, advance(builder, line, first))
                        place = advance(builder, panel, builder.mul(pitch, integer(i)))
                        self._store(
                            builder, value, builder.gep(place, [k], source_etype=tile.element)
                        )
                with no:
                    self._elements(builder, arguments, k, builder.add(k, integer(tile.lanes)))
        self._elements(builder, arguments, whole, count)
        builder.ret_void()
        return function

    def _dense(self, builder: ir.IRBuilder, sums: Value, k: Value) -> Value:
        """Whether the offsets of a vector from k on step by one element."""
        kind = ir.VectorType(INTEGER, self.tile.lanes)
        pointer = builder.gep(sums, [k], source_etype=INTEGER)
        first = splat(builder, builder.load(pointer, typ=INTEGER, align=8), self.tile.lanes)
        steps = builder.sub(builder.load(pointer, typ=kind, align=8), first)
        wanted = ir.Constant(kind, [i * self.tile.size for i in range(self.tile.lanes)])
        bits = ir.IntType(self.tile.lanes)
        equal = builder.bitcast(builder.icmp_signed("==", steps, wanted), bits)
        return builder.icmp_unsigned("==", equal, ir.Constant(bits, -1))

    def _elements(
        self, builder: ir.IRBuilder, arguments: list[Value], start: Value, stop: Value
    ) -> None:
        panel, a, rows, sums, _, pitch = arguments
        tile = self.tile
        with loop(builder, start, stop) as k:
            column = advance(builder, a, fetch(builder, sums, k))
            place = builder.gep(panel, [k], source_etype=tile.element)
            for i in range(tile.rows):
                pointer = advance(builder, column, fetch(builder, rows, integer(i)))
                value = builder.load(pointer, typ=tile.element, align=tile.size)
                builder.store(
                    value, advance(builder, place, builder.mul(pitch, integer(i))), align=tile.size
                )
