"""The loops around the register tile: blocks of n and k, groups of rows, packing, stores.

Enters: a `Contraction` and a target. Leaves: its functions. The order of the loops is

    batch, block of columns, group of row tiles        the tiles of a call, in this order
      block of k                                       B packed: columns by k in half of L2
        row tile                                       A packed if several strips share it: L1
          strip of columns                             one register tile

With one block of k a tile's sums go to C at once. With several they wait in the workspace, so
that C is written once, whatever the epilogue makes of it or reads from it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir

from graphc.runtime.cpu.contraction import Contraction
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    advance,
    ceil_divide,
    declare,
    integer,
    loop,
    minimum,
)
from graphc.runtime.cpu.epilogue import Epilogue
from graphc.runtime.cpu.geometry import ENTRY, GROUP, Geometry, Space
from graphc.runtime.cpu.packing import Packer, emit_offsets
from graphc.runtime.cpu.target import Target


class Group(NamedTuple):
    """The tiles that one turn of the outer loop computes."""

    a: Value
    b: Value
    c: Value
    batch: Value
    first_row: Value
    rows: Value
    tiles: Value
    first_column: Value
    columns: Value


class Driver(Geometry):
    """Writes the functions of one contraction."""

    def __init__(self, module: ir.Module, target: Target, contraction: Contraction) -> None:
        super().__init__(target, contraction)
        self.module = module
        self.functions: dict[str, Any] = {}

    def emit(self) -> None:
        """All functions."""
        name, tile, what = self.contraction.name, self.tile, self.contraction
        for axes in {max(1, what.batch_axes), what.row_axes, what.sum_axes}:
            self.functions[f"offsets{axes}"] = emit_offsets(
                self.module, f"{name}_offsets{axes}", axes
            )
        for rows in (tile.rows, tile.few):
            for vectors in range(1, tile.vectors + 1):
                label = f"tile{rows}x{vectors}"
                self.functions[label] = tile.emit(self.module, f"{name}_{label}", rows, vectors)
        packer = Packer(self.module, tile)
        self.functions["pack_a"] = packer.pack_a(f"{name}_pack_a")
        if what.known.get("b_n", 1) == 1:
            self.functions["pack_rows"] = packer.pack_b(f"{name}_pack_rows", True)
        if what.known.get("b_n") != 1:
            self.functions["pack_columns"] = packer.pack_b(f"{name}_pack_columns", False)
        if what.known.get("c_n", 1) == 1:
            self._emit_epilogue("store_rows", True)
        if what.known.get("c_n") != 1:
            self._emit_epilogue("store_columns", False)
        self._queries()
        self._compute()

    def _emit_epilogue(self, label: str, unit: bool) -> None:
        what = self.contraction
        epilogue = Epilogue(self.module, self.tile, what.accumulate, what.epilogue, unit)
        self.functions[label] = epilogue.emit(f"{what.name}_{label}")

    def _queries(self) -> None:
        name = self.contraction.name
        for label, public in (("tiles", True), ("workspace", True)):
            _, builder, [sizes] = declare(
                self.module, f"{name}_{label}", INTEGER, [("sizes", POINTER)], public
            )
            self._read(builder, sizes)
            blocks = self._blocks(builder)
            if label == "tiles":
                builder.ret(blocks.total)
            else:
                builder.ret(self._space(builder, blocks, integer(0))[1])

    def _compute(self) -> None:
        _, builder, arguments = declare(
            self.module, self.contraction.name, VOID,
            [("sizes", POINTER), ("buffers", POINTER), ("workspace", POINTER),
             ("begin", INTEGER), ("end", INTEGER)], True,
        )  # fmt: skip
        sizes, self.buffers, workspace, begin, end = arguments
        with builder.if_then(builder.icmp_signed(">=", begin, end)):
            builder.ret_void()
        self._read(builder, sizes)
        self.blocks = self._blocks(builder)
        base = builder.ptrtoint(workspace, INTEGER)
        space, _ = self._space(builder, self.blocks, base)
        self.space = Space(*(builder.inttoptr(place, POINTER) for place in space))
        places = [builder.gep(self.buffers, [integer(i)], source_etype=POINTER) for i in range(3)]
        self.pointers = [builder.load(place, typ=POINTER, align=8) for place in places]
        self._prepare(builder)
        entry = builder.block
        head, done = builder.append_basic_block("group"), builder.append_basic_block("done")
        builder.branch(head)
        builder.position_at_end(head)
        unit, packed = builder.phi(INTEGER), builder.phi(INTEGER)
        unit.add_incoming(begin, entry)
        packed.add_incoming(integer(-1), entry)
        part = builder.udiv(unit, self.blocks.tiles)
        group = self._group(builder, unit, part, end)
        with loop(builder, integer(0), self.blocks.blocks) as block:
            self._block(builder, group, block, builder.icmp_signed("!=", packed, part))
        several = builder.icmp_signed(">", self.blocks.blocks, integer(1))
        following = builder.add(unit, group.tiles)
        unit.add_incoming(following, builder.block)
        packed.add_incoming(builder.select(several, integer(-1), part), builder.block)
        builder.cbranch(builder.icmp_signed("<", following, end), head, done)
        builder.position_at_end(done)
        builder.ret_void()

    def _prepare(self, builder: ir.IRBuilder) -> None:
        """What holds for all groups: the tables of packed tiles, how operands are read."""
        tile, values, what = self.tile, self.values, self.contraction
        call, size = builder.call, integer(tile.size)
        self.pitch = self._pitch(builder, self.blocks)
        depth = self.blocks.depth
        one = self.functions.get("offsets1")
        if one is None:
            one = self.functions["offsets1"] = emit_offsets(self.module, f"{what.name}_offsets1", 1)
        call(one, [self.space.dense, integer(0), depth, depth, integer(1), size])
        rows = integer(tile.rows)
        call(one, [self.space.rows_packed, integer(0), rows, rows, integer(1), self.pitch])
        inner = values[f"a_k{what.sum_axes - 1}"]
        self.pack_a = builder.and_(
            builder.icmp_signed("==", inner, size),
            builder.icmp_signed(">=", self.blocks.strips, integer(4)),
        )
        self.unit_c = builder.icmp_signed("==", values["c_n"], size)

    def _group(self, builder: ir.IRBuilder, unit: Value, part: Value, end: Value) -> Group:
        """The tiles from `unit` on that lie in one block of columns, with their rows' offsets."""
        tile, blocks, what, values = self.tile, self.blocks, self.contraction, self.values
        first = builder.urem(unit, blocks.tiles)
        tiles = minimum(
            builder, builder.sub(end, unit),
            minimum(builder, builder.sub(blocks.tiles, first), integer(GROUP)),
        )  # fmt: skip
        first_row = builder.mul(first, integer(tile.rows))
        padded = builder.mul(tiles, integer(tile.rows))
        rows = minimum(builder, padded, builder.sub(self.m, first_row))
        parts = ceil_divide(builder, self.n, integer(self.columns))
        batch = builder.udiv(part, parts)
        first_column = builder.mul(builder.urem(part, parts), integer(self.columns))
        columns = minimum(builder, integer(self.columns), builder.sub(self.n, first_column))
        for table, prefix in ((self.space.rows_a, "a_"), (self.space.rows_c, "c_")):
            builder.call(
                self.functions[f"offsets{what.row_axes}"],
                [table, first_row, rows, padded, *self._axes("m", what.row_axes),
                 *self._axes("m", what.row_axes, prefix)],
            )  # fmt: skip
        a, b, c = self._batch(builder, batch)
        b = advance(builder, b, builder.mul(first_column, values["b_n"]))
        c = advance(builder, c, builder.mul(first_column, values["c_n"]))
        return Group(a, b, c, batch, first_row, rows, tiles, first_column, columns)

    def _batch(self, builder: ir.IRBuilder, batch: Value) -> list[Value]:
        """The operands of a batch."""
        axes, found = self.contraction.batch_axes, []
        digits: list[Value] = []
        left = batch
        for size in reversed(self._axes("batch", axes)):
            digits.insert(0, builder.urem(left, size))
            left = builder.udiv(left, size)
        for pointer, prefix in zip(self.pointers, ("a_", "b_", "c_"), strict=True):
            for digit, stride in zip(digits, self._axes("batch", axes, prefix), strict=True):
                pointer = advance(builder, pointer, builder.mul(digit, stride))
            found.append(pointer)
        return found

    def _block(self, builder: ir.IRBuilder, group: Group, block: Value, fresh: Value) -> None:
        """One block of k: pack B, then all tiles of the group."""
        start = builder.mul(block, self.blocks.depth)
        count = minimum(builder, self.blocks.depth, builder.sub(self.k, start))
        with builder.if_then(fresh):
            self._pack_b(builder, group, start, count)
        with loop(builder, integer(0), group.tiles) as t:
            self._row_tile(builder, group, (block, start, count), t)

    def _pack_b(self, builder: ir.IRBuilder, group: Group, start: Value, count: Value) -> None:
        what, values, space, tile = self.contraction, self.values, self.space, self.tile
        axes = what.sum_axes
        for table, prefix in ((space.sums_a, "a_"), (space.sums_b, "b_")):
            builder.call(
                self.functions[f"offsets{axes}"],
                [
                    table,
                    start,
                    count,
                    count,
                    *self._axes("k", axes),
                    *self._axes("k", axes, prefix),
                ],
            )
        whole = builder.mul(builder.udiv(group.columns, integer(tile.width)), integer(tile.width))
        skipped = builder.select(self.direct, whole, integer(0))
        panel = advance(
            builder, space.panel_b, builder.mul(skipped, builder.mul(count, integer(tile.size)))
        )
        b = advance(builder, group.b, builder.mul(skipped, values["b_n"]))
        columns = builder.sub(group.columns, skipped)
        self._either(
            builder, self.unit_b, "pack_rows", "pack_columns",
            [panel, b, space.sums_b, count, values["b_n"], columns],
        )  # fmt: skip

    def _either(
        self, builder: ir.IRBuilder, unit: Value, yes: str, no: str, arguments: list[Value]
    ) -> None:
        """Call the one for a unit stride or the other, or the only one that there is."""
        names = [name for name in (yes, no) if name in self.functions]
        if len(names) == 1:
            builder.call(self.functions[names[0]], arguments)
            return
        with builder.if_else(unit) as (then, otherwise):
            with then:
                builder.call(self.functions[yes], arguments)
            with otherwise:
                builder.call(self.functions[no], arguments)

    def _row_tile(self, builder: ir.IRBuilder, group: Group, k: Any, t: Value) -> None:
        """All strips of one row tile, whose elements of A are packed if that pays."""
        _, _, count = k
        space, tile = self.space, self.tile
        offset = builder.mul(t, integer(tile.rows * ENTRY))
        rows = advance(builder, space.rows_a, offset)
        with builder.if_then(self.pack_a):
            builder.call(
                self.functions["pack_a"],
                [space.panel_a, group.a, rows, space.sums_a, count, self.pitch],
            )
        choose = builder.select
        a = choose(self.pack_a, space.panel_a, group.a)
        rows = choose(self.pack_a, space.rows_packed, rows)
        sums = choose(self.pack_a, space.dense, space.sums_a)
        strips = ceil_divide(builder, group.columns, integer(tile.width))
        with loop(builder, integer(0), strips) as s:
            self._register_tile(builder, group, k, (t, strips, s), [a, rows, sums, count])

    def _register_tile(
        self, builder: ir.IRBuilder, group: Group, k: Any, at: Any, left: list[Value]
    ) -> None:
        (block, start, count), (t, strips, s), tile = k, at, self.tile
        width, size = integer(tile.width), integer(tile.size)
        column = builder.mul(s, width)
        columns = builder.sub(group.columns, column)
        direct = builder.and_(self.direct, builder.icmp_signed(">=", columns, width))
        stride = self.values["b_k0"]
        inside = advance(builder, group.b, builder.mul(start, stride))
        inside = advance(builder, inside, builder.mul(column, size))
        packed = advance(builder, self.space.panel_b, builder.mul(builder.mul(column, count), size))
        b = builder.select(direct, inside, packed)
        step = builder.select(direct, stride, builder.mul(width, size))
        several = builder.icmp_signed(">", self.blocks.blocks, integer(1))
        index = builder.select(several, builder.add(builder.mul(t, strips), s), integer(0))
        partial = advance(
            builder, self.space.partial,
            builder.mul(index, integer(tile.rows * tile.width * tile.size)),
        )  # fmt: skip
        row = builder.mul(t, integer(tile.rows))
        rows = minimum(builder, integer(tile.rows), builder.sub(group.rows, row))
        resume = builder.icmp_signed(">", block, integer(0))
        self._sum(builder, rows, columns, [*left, b, step, partial, resume])
        last = builder.icmp_signed("==", block, builder.sub(self.blocks.blocks, integer(1)))
        with builder.if_then(last):
            table = advance(builder, self.space.rows_c, builder.mul(row, integer(ENTRY)))
            stride = self.values["c_n"]
            c = advance(builder, group.c, builder.mul(column, stride))
            self._either(
                builder, self.unit_c, "store_rows", "store_columns",
                [partial, rows, columns, c, table, stride, builder.add(group.first_row, row),
                 builder.add(group.first_column, column), group.batch, self.buffers],
            )  # fmt: skip

    def _sum(
        self, builder: ir.IRBuilder, rows: Value, columns: Value, arguments: list[Value]
    ) -> None:
        """The tile of the right shape; a few rows are computed by low tiles."""
        tile = self.tile
        narrow = builder.icmp_signed("<=", columns, integer(tile.lanes))
        a, table, sums, count, b, step, partial, resume = arguments

        def call(height: int, table: Value, partial: Value) -> None:
            values = [a, table, sums, count, b, step, partial, resume]
            with builder.if_else(narrow) as (yes, no):
                with yes:
                    builder.call(self.functions[f"tile{height}x1"], values)
                with no:
                    builder.call(self.functions[f"tile{height}x2"], values)

        with builder.if_else(builder.icmp_signed(">", rows, integer(2 * tile.few))) as (yes, no):
            with yes:
                call(tile.rows, table, partial)
            with no, loop(builder, integer(0), rows, tile.few) as i:
                lower = advance(builder, partial, builder.mul(i, integer(tile.width * tile.size)))
                call(tile.few, advance(builder, table, builder.mul(i, integer(ENTRY))), lower)


def emit(contraction: Contraction, module: ir.Module, target: Target) -> None:
    """Add the three functions of a contraction to a module."""
    Driver(module, target, contraction).emit()
