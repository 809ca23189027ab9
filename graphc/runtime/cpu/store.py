"""What is done with finished sums: the interface of stores, and the one that writes them to C.

Enters: a tile of sums and its place. Leaves: rows of C at any strides. The only place where
results meet the edges of C, so tiles compute whole vectors and know nothing of them.
"""

from __future__ import annotations

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.contraction import AXES, EXTENTS, PLAIN
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    advance,
    collapse,
    declare,
    fetch,
    first_lanes,
    integer,
    loop,
    masked_store,
    prefetch,
)
from graphc.runtime.cpu.tile import Tile

PLACES = ("rows", "columns", "row", "column", "batch")
LABELS = [("closure", POINTER), ("partial", POINTER), *((label, INTEGER) for label in PLACES)]
STORE = ir.FunctionType(VOID, [kind for _, kind in LABELS])


def emit_store_plain(module: ir.Module, tile: Tile) -> None:
    """The function `store_plain`; its closure is that of `contraction.plain_closure`."""
    _, builder, arguments = declare(module, "store_plain", VOID, LABELS, True)
    closure, partial, rows, columns, row, column, batch = arguments
    words = [fetch(builder, closure, integer(i)) for i in range(len(PLAIN) + 2)]
    steps = {
        name: builder.mul(word, integer(tile.size))
        for name, word in zip(PLAIN, words, strict=False)
    }
    sizes = builder.inttoptr(words[-1], POINTER)
    c = builder.add(words[-2], builder.mul(column, steps["c_n"]))
    c = builder.add(c, Axes(builder, "batch", sizes, steps).offset(batch))
    axes = Axes(builder, "m", sizes, steps)
    unit = builder.icmp_signed("==", steps["c_n"], integer(tile.size))
    simple = builder.and_(unit, builder.icmp_signed("==", columns, integer(tile.width)))
    # The next tile's lines are asked for: writes wait for memory one after the other.
    more = builder.icmp_signed(
        "<", builder.add(column, columns), fetch(builder, sizes, integer(EXTENTS.index("n")))
    )
    down = builder.mul(axes.step, integer(tile.rows))
    coming = builder.select(more, integer(tile.width * tile.size), down)
    with loop(builder, integer(0), rows) as i:
        place = axes.offset(builder.add(row, i))
        line = builder.inttoptr(builder.add(c, place), POINTER)
        sums = advance(builder, partial, builder.mul(i, integer(tile.width * tile.size)))
        with builder.if_else(simple) as (yes, no):
            with yes:
                for byte in range(0, tile.width * tile.size, 64):
                    ahead = advance(builder, line, builder.add(coming, integer(byte)))
                    prefetch(builder, ahead, write=True)
                for j in range(tile.vectors):
                    step = integer(j * tile.lanes * tile.size)
                    value = builder.load(
                        advance(builder, sums, step), typ=tile.vector, align=tile.size
                    )
                    builder.store(value, advance(builder, line, step), align=1)
            with no, builder.if_else(unit) as (dense, apart):
                with dense:
                    _vectors(builder, tile, sums, line, columns)
                with apart, loop(builder, integer(0), columns) as j:
                    one = builder.gep(sums, [j], source_etype=tile.element)
                    value = builder.load(one, typ=tile.element, align=tile.size)
                    to = advance(builder, line, builder.mul(j, steps["c_n"]))
                    builder.store(value, to, align=1)
    builder.ret_void()


class Axes:
    """The axes of one kind of C: from places in row-major order to bytes."""

    def __init__(
        self, builder: ir.IRBuilder, kind: str, sizes: Value, steps: dict[str, Value]
    ) -> None:
        self.builder = builder
        names = [f"{kind}{i}" for i in range(AXES)]
        self.extents = [fetch(builder, sizes, integer(EXTENTS.index(name))) for name in names]
        self.strides = [steps[f"c_{name}"] for name in names]
        self.even, self.step = collapse(builder, self.extents, self.strides)

    def offset(self, place: Value) -> Value:
        """Of a place; it is divided only where the axes are not as one."""
        builder, before = self.builder, self.builder.block
        several, done = builder.append_basic_block("several"), builder.append_basic_block("offset")
        line = builder.mul(place, self.step)
        builder.cbranch(self.even, done, several)
        builder.position_at_end(several)
        total, left = integer(0), place
        for extent, stride in zip(self.extents[:0:-1], self.strides[:0:-1], strict=True):
            total = builder.add(total, builder.mul(builder.urem(left, extent), stride))
            left = builder.udiv(left, extent)
        total = builder.add(total, builder.mul(left, self.strides[0]))
        builder.branch(done)
        builder.position_at_end(done)
        found = builder.phi(INTEGER)
        found.add_incoming(line, before)
        found.add_incoming(total, several)
        return found


def _vectors(builder: ir.IRBuilder, tile: Tile, sums: Value, line: Value, columns: Value) -> None:
    """A row whose columns lie next to each other."""
    with loop(builder, integer(0), columns, tile.lanes) as j:
        one = builder.gep(sums, [j], source_etype=tile.element)
        value = builder.load(one, typ=tile.vector, align=tile.size)
        to = builder.gep(line, [j], source_etype=tile.element)
        left = builder.sub(columns, j)
        with builder.if_else(builder.icmp_signed(">=", left, integer(tile.lanes))) as (yes, no):
            with yes:
                builder.store(value, to, align=1)
            with no:
                masked_store(builder, value, to, first_lanes(builder, left, tile.lanes))
