"""Tables of offsets and packed copies: what brings operands into the order that a tile reads.

Enters: sizes and strides of any number of axes. Leaves: functions of the module that write

    offsets   the byte offsets of consecutive places of a multi-axis index
    pack_b    a block of B as strips, one after the other, each k by the width of a tile, zeros
              beyond the last column
    pack_a    the rows of one tile of A, next to each other, out of the way of cache conflicts
    turn_a    the same from a transposed A: for each k, its elements of all rows; some tiles at once
"""

from __future__ import annotations

from typing import Any, NamedTuple

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.contraction import AXES
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    advance,
    declare,
    fetch,
    first_lanes,
    gather,
    integer,
    join,
    loop,
    masked_load,
    minimum,
    prefetch,
    product,
    splat,
    transpose,
)
from graphc.runtime.cpu.tile import Tile

AHEAD = 8  # rows of B that are fetched before they are copied
PACK_B = [("panel", POINTER), ("b", POINTER), ("sums", POINTER), ("count", INTEGER),
          ("stride", INTEGER), ("columns", INTEGER)]  # fmt: skip


def emit_offsets(module: ir.Module) -> Any:
    """A function of (table, start, count, padded, sizes, strides): the latter are arrays of i64.

    It writes the offsets of the places start, start + 1, ... in row-major order, `count` of
    them, and repeats the last one up to `padded`. Strides are in bytes.
    """
    labels = [("table", POINTER), *((label, INTEGER) for label in ("start", "count", "padded")),
              ("sizes", POINTER), ("strides", POINTER)]  # fmt: skip
    function, builder, arguments = declare(module, "offsets", VOID, labels, False)
    table, start, count, padded, *rest = arguments
    with builder.if_then(builder.icmp_signed("<=", count, integer(0))):
        builder.ret_void()
    sizes, strides = ([fetch(builder, part, integer(i)) for i in range(AXES)] for part in rest)
    line, several = builder.append_basic_block("line"), builder.append_basic_block("several")
    inner = builder.mul(sizes[1], sizes[2])
    builder.cbranch(builder.icmp_signed("==", inner, integer(1)), line, several)
    builder.position_at_end(line)
    _line(builder, table, (start, count, padded), strides[0])
    builder.position_at_end(several)
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
    for i in reversed(range(AXES)):
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


def _line(
    builder: ir.IRBuilder, table: Value, range_: tuple[Value, Value, Value], stride: Value
) -> None:
    """The offsets of one axis; ends the function."""
    start, count, padded = range_
    last = builder.sub(builder.add(start, count), integer(1))
    with loop(builder, integer(0), padded) as i:
        place = minimum(builder, builder.add(start, i), last)
        entry = builder.gep(table, [i], source_etype=INTEGER)
        builder.store(builder.mul(place, stride), entry, align=8)
    builder.ret_void()


class _Strip(NamedTuple):
    """Columns that lie `stride` apart, `held` of them, and the strip that they become."""

    target: Value
    source: Value
    sums: Value
    stride: Value
    held: Value


class Packer:
    """Writes the packing functions of a tile."""

    def __init__(self, module: ir.Module, tile: Tile) -> None:
        self.module, self.tile = module, tile
        self.square = 128 // (8 * tile.size)  # elements that shuffles move without crossing lanes

    def _load(self, builder: ir.IRBuilder, pointer: Value) -> Value:
        return builder.load(pointer, typ=self.tile.vector, align=self.tile.size)

    def _store(self, builder: ir.IRBuilder, value: Value, pointer: Value) -> None:
        builder.store(value, pointer, align=self.tile.size)

    def pack_rows(self) -> Any:
        """A function of (panel, b, sums, count, stride, columns): columns next to each other.

        `b` is at the block's first column, and `sums` are the offsets of its rows. Whole strips
        are written. Row after row: the memory likes long runs.
        """
        function, builder, arguments = declare(self.module, "pack_rows", VOID, PACK_B, False)
        panel, b, sums, count, _, columns = arguments
        tile, width = self.tile, integer(self.tile.width)
        line = integer(tile.width * tile.size)
        whole = builder.mul(builder.udiv(columns, width), width)
        rest = builder.sub(columns, whole)
        masks = [
            first_lanes(builder, builder.sub(rest, integer(j * tile.lanes)), tile.lanes)
            for j in range(tile.vectors)
        ]
        with loop(builder, integer(0), count) as k:
            row = advance(builder, b, fetch(builder, sums, k))
            coming = advance(builder, b, fetch(builder, sums, builder.add(k, integer(AHEAD))))
            first = advance(builder, panel, builder.mul(k, line))
            with loop(builder, integer(0), columns, tile.width) as column:
                start = builder.mul(column, integer(tile.size))
                source, target = (
                    advance(builder, row, start),
                    self._strip(builder, first, count, column),
                )
                for byte in range(0, tile.width * tile.size, 64):
                    prefetch(
                        builder, advance(builder, advance(builder, coming, start), integer(byte))
                    )
                full = builder.icmp_signed("<", column, whole)
                with builder.if_else(full) as (yes, no):
                    for way, copied in ((yes, None), (no, masks)):
                        with way:
                            self._copy(builder, source, target, copied)
        builder.ret_void()
        return function

    def _strip(self, builder: ir.IRBuilder, panel: Value, count: Value, column: Value) -> Value:
        """Where the strip of a column starts."""
        return advance(builder, panel, product(builder, [column, count, integer(self.tile.size)]))

    def _copy(
        self, builder: ir.IRBuilder, source: Value, target: Value, masks: list[Value] | None
    ) -> None:
        """The vectors of a strip's line, whole or masked."""
        tile = self.tile
        for j in range(tile.vectors):
            step = integer(j * tile.lanes * tile.size)
            place = advance(builder, source, step)
            value = (
                masked_load(builder, place, masks[j], tile.vector)
                if masks
                else self._load(builder, place)
            )
            self._store(builder, value, advance(builder, target, step))

    def pack_columns(self) -> Any:
        """A function like `pack_rows` of columns that lie `stride` apart."""
        function, builder, arguments = declare(self.module, "pack_columns", VOID, PACK_B, False)
        panel, b, sums, count, stride, columns = arguments
        with loop(builder, integer(0), columns, self.tile.width) as column:
            target = self._strip(builder, panel, count, column)
            source = advance(builder, b, builder.mul(column, stride))
            left = builder.sub(columns, column)
            self._turn(builder, target, source, sums, count, stride, left)
        builder.ret_void()
        return function

    def _turn(
        self, builder: ir.IRBuilder, target: Value, source: Value, sums: Value, count: Value,
        stride: Value, left: Value,
    ) -> None:  # fmt: skip
        """A strip whose columns lie apart: transposed where k is dense, else by elements.

        A whole line of each column is read at once where that is possible: columns that lie a
        page apart push each other out of the first cache.
        """
        tile = self.tile
        held = minimum(builder, left, integer(tile.width))
        whole = builder.and_(held, integer(-tile.lanes))
        strip = _Strip(target, source, sums, stride, held)
        with loop(builder, integer(0), count, tile.lanes) as k:
            stop = minimum(builder, builder.add(k, integer(tile.lanes)), count)
            with builder.if_else(self._dense(builder, sums, k, stop, tile.lanes)) as (yes, no):
                with yes:
                    self._turn_part(builder, strip, k, stop, whole, tile.lanes)
                with no, loop(builder, k, stop, self.square) as part:
                    end = minimum(builder, builder.add(part, integer(self.square)), stop)
                    dense = self._dense(builder, sums, part, end, self.square)
                    turned = builder.select(dense, whole, integer(0))
                    self._turn_part(builder, strip, part, end, turned, self.square)

    def _turn_part(
        self, builder: ir.IRBuilder, strip: _Strip, k: Value, stop: Value, turned: Value, size: int
    ) -> None:
        """Some k of a strip: the columns before `turned` by blocks, the others by elements."""
        tile = self.tile
        with loop(builder, integer(0), turned, tile.lanes) as column:
            self._turn_block(builder, strip, k, column, size)
        with (
            builder.if_then(builder.icmp_signed("<", turned, integer(tile.width))),
            loop(builder, k, stop) as one,
        ):
            row = advance(builder, strip.source, fetch(builder, strip.sums, one))
            line = integer(tile.width * tile.size)
            place = advance(builder, strip.target, builder.mul(one, line))
            with loop(builder, turned, strip.held) as column:
                pointer = advance(builder, row, builder.mul(column, strip.stride))
                value = builder.load(pointer, typ=tile.element, align=tile.size)
                to = builder.gep(place, [column], source_etype=tile.element)
                builder.store(value, to, align=tile.size)
            with loop(builder, strip.held, integer(tile.width)) as column:
                to = builder.gep(place, [column], source_etype=tile.element)
                builder.store(ir.Constant(tile.element, 0.0), to, align=tile.size)

    def _turn_block(
        self, builder: ir.IRBuilder, strip: _Strip, k: Value, column: Value, size: int
    ) -> None:
        """As many columns as a vector has lanes, by `size` elements of k."""
        tile = self.tile
        line = advance(builder, strip.source, fetch(builder, strip.sums, k))
        line = advance(builder, line, builder.mul(column, strip.stride))
        kind, pieces = ir.VectorType(tile.element, size), []
        for _ in range(tile.lanes):
            pieces.append(builder.load(line, typ=kind, align=tile.size))
            line = advance(builder, line, strip.stride)
        place = advance(builder, strip.target, builder.mul(k, integer(tile.width * tile.size)))
        place = builder.gep(place, [column], source_etype=tile.element)
        for i, vector in enumerate(self._turned(builder, pieces, size)):
            step = integer(i * tile.width * tile.size)
            self._store(builder, vector, advance(builder, place, step))

    def _turned(self, builder: ir.IRBuilder, pieces: list[Value], size: int) -> list[Value]:
        """The columns of a matrix whose rows are pieces; squares within 128 bits come first."""
        square = self.square
        if size == square:
            return transpose(builder, [join(builder, pieces[i::size]) for i in range(size)])
        groups = [transpose(builder, pieces[i : i + square]) for i in range(0, len(pieces), square)]
        columns = [gather(builder, list(parts), square) for parts in zip(*groups, strict=True)]
        return [vector for parts in zip(*columns, strict=True) for vector in parts]

    def pack_a(self) -> Any:
        """A function of (panel, a, rows, sums, count, pitch): rows of A, each `pitch` apart.

        Runs of offsets that step by one element are copied as vectors.
        """
        labels = [("panel", POINTER), ("a", POINTER), ("rows", POINTER), ("sums", POINTER),
                  ("count", INTEGER), ("pitch", INTEGER)]  # fmt: skip
        function, builder, arguments = declare(self.module, "pack_a", VOID, labels, False)
        panel, a, rows, sums, count, pitch = arguments
        tile = self.tile
        with loop(builder, integer(0), count, tile.lanes) as k:
            stop = minimum(builder, builder.add(k, integer(tile.lanes)), count)
            with builder.if_else(self._dense(builder, sums, k, stop, tile.lanes)) as (yes, no):
                with yes:
                    source = advance(builder, a, fetch(builder, sums, k))
                    target = builder.gep(panel, [k], source_etype=tile.element)
                    with loop(builder, integer(0), integer(tile.rows)) as i:
                        value = self._load(
                            builder, advance(builder, source, fetch(builder, rows, i))
                        )
                        place = advance(builder, target, builder.mul(pitch, i))
                        self._store(builder, value, place)
                with no, loop(builder, k, stop) as one:
                    source = advance(builder, a, fetch(builder, sums, one))
                    target = builder.gep(panel, [one], source_etype=tile.element)
                    with loop(builder, integer(0), integer(tile.rows)) as i:
                        pointer = advance(builder, source, fetch(builder, rows, i))
                        value = builder.load(pointer, typ=tile.element, align=tile.size)
                        place = advance(builder, target, builder.mul(pitch, i))
                        builder.store(value, place, align=tile.size)
        builder.ret_void()
        return function

    def turn_a(self) -> Any:
        """A function of (panel, a, sums, count, tiles, pitch): dense rows of tiles, k by k.

        Panels of tiles are `pitch` apart. Whole vectors are written, so each k's last one is
        written over by the next.
        """
        labels = [("panel", POINTER), ("a", POINTER), ("sums", POINTER), ("count", INTEGER),
                  ("tiles", INTEGER), ("pitch", INTEGER)]  # fmt: skip
        function, builder, arguments = declare(self.module, "turn_a", VOID, labels, False)
        panel, a, sums, count, tiles, pitch = arguments
        tile = self.tile
        height = integer(tile.rows * tile.size)
        with loop(builder, integer(0), count) as k:
            source = advance(builder, a, fetch(builder, sums, k))
            target = advance(builder, panel, builder.mul(k, height))
            with loop(builder, integer(0), tiles) as number:
                read = advance(builder, source, builder.mul(number, height))
                write = advance(builder, target, builder.mul(number, pitch))
                for first in range(0, tile.rows, tile.lanes):
                    mask = ir.Constant(
                        ir.VectorType(ir.IntType(1), tile.lanes),
                        [int(first + i < tile.rows) for i in range(tile.lanes)],
                    )
                    step = integer(first * tile.size)
                    value = masked_load(builder, advance(builder, read, step), mask, tile.vector)
                    self._store(builder, value, advance(builder, write, step))
        builder.ret_void()
        return function

    def _dense(
        self, builder: ir.IRBuilder, table: Value, start: Value, stop: Value, count: int
    ) -> Value:
        """Whether there are `count` offsets, and they step by one element."""
        same = dense(builder, table, start, count, self.tile.size)
        full = builder.icmp_signed("==", builder.sub(stop, start), integer(count))
        return builder.and_(full, same)


def dense(builder: ir.IRBuilder, table: Value, start: Value, count: int, size: int) -> Value:
    """Whether the offsets from `start` on step by `size`; reads `count` entries of the table."""
    kind = ir.VectorType(INTEGER, count)
    pointer = builder.gep(table, [start], source_etype=INTEGER)
    first = splat(builder, builder.load(pointer, typ=INTEGER, align=8), count)
    steps = builder.sub(builder.load(pointer, typ=kind, align=8), first)
    wanted = ir.Constant(kind, [i * size for i in range(count)])
    bits = ir.IntType(count)
    equal = builder.bitcast(builder.icmp_signed("==", steps, wanted), bits)
    return builder.icmp_unsigned("==", equal, ir.Constant(bits, -1))
