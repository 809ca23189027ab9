"""The loops around the register tile: units, blocks of k, tiles, strips; packing and stores.

Enters: a target and a dtype. Leaves: the functions of `contraction.py`. The order of the loops is

    run of units            a batch, a block of columns, some row tiles; or a part of k
      block of k            B packed: columns by k in half of L2
        row tile            A packed if several strips share it: in L1
          strip of columns  one register tile

With one block of k a tile's sums are stored at once. With several they wait in the workspace, so
that each is stored once, whatever the store makes of it or reads from where it writes.
"""

from __future__ import annotations

from typing import Any

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.contraction import AXES
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    advance,
    call_pointer,
    ceil_divide,
    declare,
    fetch,
    integer,
    loop,
    maximum,
    minimum,
    seldom,
    stack_array,
)
from graphc.runtime.cpu.geometry import (
    AS_IT_LIES,
    ENTRY,
    WORDS,
    Frame,
    Geometry,
)
from graphc.runtime.cpu.packing import Packer, emit_offsets
from graphc.runtime.cpu.panels import Panels
from graphc.runtime.cpu.store import STORE, emit_store_plain
from graphc.runtime.cpu.target import Target

CHUNKS = 2  # for each thread: units next to each other share what they pack
FINER, ENOUGH = 2, 32  # how often chunks are halved, and how many units they keep
POINTERS = [(label, POINTER) for label in ("frame", "workspace", "store", "closure")]


class Driver:
    """Writes the functions."""

    def __init__(self, module: ir.Module, target: Target, dtype: str) -> None:
        self.module = module
        self.geometry = Geometry.of(target, dtype)
        self.tile = self.geometry.tile
        self.functions: dict[str, Any] = {}

    def emit(self) -> None:
        """All functions."""
        module, tile, functions = self.module, self.tile, self.functions
        functions["offsets"] = emit_offsets(module)
        for rows in (tile.rows, tile.few):
            for vectors in range(1, tile.vectors + 1):
                label = f"tile{rows}x{vectors}"
                functions[label] = tile.emit(module, label, rows, vectors)
        packer = Packer(module, tile)
        functions["pack_rows"] = packer.pack_rows()
        functions["pack_columns"] = packer.pack_columns()
        functions["pack_a"], functions["turn_a"] = packer.pack_a(), packer.turn_a()
        functions["measure"] = self.geometry.emit(module)
        functions["sum"] = self._sum()
        functions["block"] = self._block()
        functions["finish"] = self._finish()
        functions["unit"] = self._unit()
        self._contract()
        for label, word in (("tiles", "units"), ("workspace", "bytes"), ("parts", "split")):
            self._query(label, word)
        self._cut()
        emit_store_plain(module, tile)

    def _frame(self, builder: ir.IRBuilder, sizes: Value) -> Frame:
        """A frame on the stack, filled."""
        pointer = stack_array(builder, INTEGER, len(WORDS))
        builder.call(self.functions["measure"], [sizes, pointer])
        return Frame(builder, pointer)

    def _query(self, label: str, word: str) -> None:
        labels = [("sizes", POINTER)]
        function, builder, [sizes] = declare(self.module, label, INTEGER, labels, True)
        seldom(function)
        builder.ret(self._frame(builder, sizes)[word])

    def _cut(self) -> None:
        """A function of (sizes, launch) that writes a launch for the threads in its second word."""
        labels = [("sizes", POINTER), ("launch", POINTER)]
        function, builder, [sizes, launch] = declare(self.module, "cut", VOID, labels, True)
        seldom(function)
        frame = self._frame(builder, sizes)
        units = frame["units"]
        threads = fetch(builder, launch, integer(1))
        chunks = maximum(builder, integer(1), builder.mul(threads, integer(CHUNKS)))
        for _ in range(FINER):
            finer = builder.mul(chunks, integer(2))
            many = builder.icmp_signed(">=", units, builder.mul(finer, integer(ENOUGH)))
            chunks = builder.select(many, finer, chunks)
        grain = maximum(builder, frame["least"], ceil_divide(builder, units, chunks))
        whole = builder.icmp_signed(">", frame["split"], integer(1))
        for i, value in enumerate(
            (units, builder.select(whole, integer(1), grain), frame["bytes"])
        ):
            place = builder.gep(launch, [integer(i)], source_etype=INTEGER)
            builder.store(value, place, align=8)
        builder.ret_void()

    def _contract(self) -> None:
        labels = [("sizes", POINTER), ("operands", POINTER), ("workspace", POINTER),
                  ("begin", INTEGER), ("end", INTEGER), ("store", POINTER),
                  ("closure", POINTER)]  # fmt: skip
        function, builder, arguments = declare(self.module, "contract", VOID, labels, True)
        seldom(function)
        sizes, operands, workspace, begin, end, store, closure = arguments
        frame = self._frame(builder, sizes)
        for name in ("group_seen", "run_seen", "part_seen"):
            frame[name] = integer(-1)
        packs = builder.icmp_signed("!=", frame["pack"], integer(AS_IT_LIES))
        with builder.if_then(packs):
            Panels(frame, self.tile, self.functions, workspace).tables()
        before, head = builder.block, builder.append_basic_block("units")
        body, after = builder.append_basic_block("run"), builder.append_basic_block("done")
        builder.branch(head)
        builder.position_at_end(head)
        unit = builder.phi(INTEGER)
        unit.add_incoming(begin, before)
        builder.cbranch(builder.icmp_signed("<", unit, end), body, after)
        builder.position_at_end(body)
        group = builder.urem(unit, frame["groups"])
        run = minimum(builder, builder.sub(end, unit), builder.sub(frame["groups"], group))
        run = minimum(builder, run, frame["run"])
        rest = [workspace, store, closure, operands, unit, run]
        builder.call(self.functions["unit"], [frame.pointer, *rest])
        unit.add_incoming(builder.add(unit, run), builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        builder.ret_void()

    def _unit(self) -> Any:
        """A function of (frame, workspace, store, closure, operands, unit, run).

        It computes some units of the same columns at once.
        """
        labels = [*POINTERS, ("operands", POINTER), ("unit", INTEGER), ("run", INTEGER)]
        function, builder, arguments = declare(self.module, "unit", VOID, labels, False)
        seldom(function)
        pointer, workspace, store, closure, operands, unit, run = arguments
        frame, width = Frame(builder, pointer), integer(self.tile.width)
        whole = builder.icmp_signed(">", frame["split"], integer(1))
        start = builder.select(whole, builder.mul(unit, frame["share"]), integer(0))
        frame["from"] = start
        frame["to"] = minimum(builder, frame["k"], builder.add(start, frame["share"]))
        unit_of_c = builder.select(whole, integer(0), unit)
        part = builder.udiv(unit_of_c, frame["groups"])
        group = builder.urem(unit_of_c, frame["groups"])
        batch = builder.udiv(part, frame["parts"])
        frame["batch"] = batch
        column = builder.mul(
            builder.urem(part, frame["parts"]), builder.mul(frame["strips"], width)
        )
        frame["column"] = column
        frame["columns"] = minimum(
            builder, builder.mul(frame["strips"], width), builder.sub(frame["n"], column)
        )
        other = builder.or_(
            builder.icmp_signed("!=", group, frame["group_seen"]),
            builder.icmp_signed("!=", run, frame["run_seen"]),
        )
        with builder.if_then(other):
            self._rows(frame, workspace, group, run)
        self._operands(frame, operands, batch)
        single = builder.icmp_signed("==", frame["blocks"], integer(1))
        seen = builder.icmp_signed("==", part, frame["part_seen"])
        fresh = builder.xor(builder.and_(single, seen), ir.Constant(ir.IntType(1), 1))
        frame["fresh_b"] = builder.zext(fresh, INTEGER)
        with loop(builder, integer(0), frame["blocks"]) as block:
            arguments = [pointer, workspace, store, closure, block]
            builder.call(self.functions["block"], arguments)
        frame["group_seen"], frame["run_seen"], frame["part_seen"] = group, run, part
        with builder.if_then(whole):
            rest = [pointer, workspace, store, closure, unit]
            builder.call(self.functions["finish"], rest)
        builder.ret_void()
        return function

    def _rows(self, frame: Frame, workspace: Value, group: Value, run: Value) -> None:
        """The rows of a run of groups and their offsets."""
        builder, height = frame.builder, integer(self.tile.rows)
        high = builder.mul(frame["group"], height)
        row = builder.mul(group, high)
        rows = minimum(builder, builder.mul(run, high), builder.sub(frame["m"], row))
        here = ceil_divide(builder, rows, height)
        frame["row"], frame["rows"], frame["here"] = row, rows, here
        builder.call(
            self.functions["offsets"],
            [advance(builder, workspace, frame["rows_a"]), row, rows, builder.mul(here, height),
             frame.place("m0"), frame.place("a_m0")],
        )  # fmt: skip

    def _operands(self, frame: Frame, operands: Value, batch: Value) -> None:
        """Where A and B start, for a batch and a column."""
        builder, left = frame.builder, batch
        digits: list[Value] = []
        for i in reversed(range(1, AXES)):
            digits.insert(0, builder.urem(left, frame[f"batch{i}"]))
            left = builder.udiv(left, frame[f"batch{i}"])
        digits.insert(0, left)
        for number, name in enumerate("ab"):
            place = fetch(builder, operands, integer(number))
            for i, digit in enumerate(digits):
                place = builder.add(place, builder.mul(digit, frame[f"{name}_batch{i}"]))
            if name == "b":
                place = builder.add(place, builder.mul(frame["column"], frame["b_n"]))
            frame[name] = place

    def _block(self) -> Any:
        """A function of (frame, workspace, store, closure, block): a block of k."""
        labels = [*POINTERS, ("block", INTEGER)]
        function, builder, arguments = declare(self.module, "block", VOID, labels, False)
        pointer, workspace, store, closure, block = arguments
        frame = Frame(builder, pointer)
        start = builder.add(frame["from"], builder.mul(block, frame["depth"]))
        count = minimum(builder, frame["depth"], builder.sub(frame["to"], start))
        count = maximum(builder, integer(0), count)
        with builder.if_then(frame.truth("fresh_b")):
            self._bring(frame, workspace, start, count)
        last = builder.icmp_signed("==", block, builder.sub(frame["blocks"], integer(1)))
        complete = builder.and_(last, builder.icmp_signed("==", frame["split"], integer(1)))
        at = (start, count, builder.icmp_signed(">", block, integer(0)), complete)
        with loop(builder, integer(0), frame["here"]) as t:
            self._row_tile(frame, (workspace, store, closure), at, t)
        builder.ret_void()
        return function

    def _bring(self, frame: Frame, workspace: Value, start: Value, count: Value) -> None:
        """The offsets of a block of k, and its B as strips, as far as it is not read in place."""
        builder, tile = frame.builder, self.tile
        offsets = [start, count, count, frame.place("k0")]
        table = advance(builder, workspace, frame["sums_a"])
        builder.call(self.functions["offsets"], [table, *offsets, frame.place("a_k0")])
        columns = frame["columns"]
        whole = builder.mul(builder.udiv(columns, integer(tile.width)), integer(tile.width))
        skipped = builder.select(frame.truth("direct"), whole, integer(0))
        rest = builder.sub(columns, skipped)
        with builder.if_then(builder.icmp_signed(">", rest, integer(0))):
            sums = advance(builder, workspace, frame["sums_b"])
            builder.call(self.functions["offsets"], [sums, *offsets, frame.place("b_k0")])
            panel = advance(builder, workspace, frame["panel_b"])
            before = builder.mul(skipped, builder.mul(count, integer(tile.size)))
            b = builder.add(frame["b"], builder.mul(skipped, frame["b_n"]))
            arguments = [advance(builder, panel, before), builder.inttoptr(b, POINTER), sums,
                         count, frame["b_n"], rest]  # fmt: skip
            with builder.if_else(frame.truth("unit_b")) as (yes, no):
                with yes:
                    builder.call(self.functions["pack_rows"], arguments)
                with no:
                    builder.call(self.functions["pack_columns"], arguments)

    def _row_tile(self, frame: Frame, call: Any, at: Any, t: Value) -> None:
        """All strips of one row tile, whose elements of A are packed if that pays."""
        workspace, count = call[0], at[1]
        panels = Panels(frame, self.tile, self.functions, workspace)
        self._strips(frame, call, at, t, panels.tile(t, count))

    def _strips(self, frame: Frame, call: Any, at: Any, t: Value, left: list[Value]) -> None:
        """The register tiles of a row tile; what they share is read before the loop."""
        builder, tile, (start, count, resume, complete) = frame.builder, self.tile, at
        workspace, store, closure = call
        width, size = integer(tile.width), integer(tile.size)
        row = builder.mul(t, integer(tile.rows))
        rows = minimum(builder, integer(tile.rows), builder.sub(frame["rows"], row))
        row, resume = builder.add(row, frame["row"]), builder.zext(resume, INTEGER)
        last, before, batch = frame["columns"], frame["column"], frame["batch"]
        direct, near = frame.truth("direct"), frame["step_b"]
        inside = builder.add(frame["b"], builder.mul(start, near))
        panel = advance(builder, workspace, frame["panel_b"])
        line, partials = builder.mul(count, size), self._partials(frame, workspace, t)
        with loop(builder, integer(0), last, tile.width) as column:
            columns = minimum(builder, builder.sub(last, column), width)
            here = builder.and_(direct, builder.icmp_signed("==", columns, width))
            place = builder.inttoptr(builder.add(inside, builder.mul(column, size)), POINTER)
            packed = advance(builder, panel, builder.mul(column, line))
            b = builder.select(here, place, packed)
            step = builder.select(here, near, integer(tile.width * tile.size))
            partial = self._partial(builder, partials, column)
            builder.call(
                self.functions["sum"], [*left, count, b, step, partial, resume, rows, columns]
            )
            with builder.if_then(complete):
                places = [row, builder.add(column, before), batch]
                call_pointer(builder, store, STORE, [closure, partial, rows, columns, *places])

    def _partials(self, frame: Frame, workspace: Value, t: Value) -> tuple[Value, Value]:
        """Where the sums of a row tile wait, and the bytes from column to column."""
        builder, tile = frame.builder, self.tile
        pitch = builder.select(
            frame.truth("waits"), integer(tile.rows * tile.size), integer(0)
        )  # a lone tile, if none waits
        line = builder.mul(frame["strips"], integer(tile.width))
        offset = builder.mul(builder.mul(t, line), pitch)
        return advance(builder, workspace, builder.add(frame["partial"], offset)), pitch

    def _partial(
        self, builder: ir.IRBuilder, partials: tuple[Value, Value], column: Value
    ) -> Value:
        """Where the sums of a register tile wait."""
        return advance(builder, partials[0], builder.mul(column, partials[1]))

    def _sum(self) -> Any:
        """A function of a tile's arguments, rows, columns: the tile of the right shape.

        A few rows are computed by low tiles.
        """
        tile = self.tile
        labels = [("a", POINTER), ("table", POINTER), ("sums", POINTER), ("count", INTEGER),
                  ("b", POINTER), ("step", INTEGER), ("partial", POINTER), ("resume", INTEGER),
                  ("rows", INTEGER), ("columns", INTEGER)]  # fmt: skip
        function, builder, arguments = declare(self.module, "sum", VOID, labels, False)
        a, table, sums, count, b, step, partial, resume, rows, columns = arguments
        resume = builder.icmp_signed("!=", resume, integer(0))
        narrow = builder.icmp_signed("<=", columns, integer(tile.lanes))

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
        builder.ret_void()
        return function

    def _finish(self) -> Any:
        """A function of (frame, workspace, store, closure, unit): one part of k is summed.

        The last one adds all parts in their order, to the first, and stores.
        """
        labels = [*POINTERS, ("unit", INTEGER)]
        function, builder, arguments = declare(self.module, "finish", VOID, labels, False)
        seldom(function)
        pointer, workspace, store, closure, unit = arguments
        frame, tile = Frame(builder, pointer), self.tile
        back = builder.neg(builder.mul(unit, frame["bytes"]))
        base = advance(builder, workspace, back)
        before = builder.atomic_rmw("add", base, integer(1), "acq_rel")
        waiting = builder.icmp_signed("<", builder.add(before, integer(1)), frame["split"])
        with builder.if_then(waiting):
            builder.ret_void()
        builder.store(integer(0), base, align=8)
        with loop(builder, integer(0), frame["here"]) as t:
            row = builder.mul(t, integer(tile.rows))
            rows = minimum(builder, integer(tile.rows), builder.sub(frame["rows"], row))
            with loop(builder, integer(0), frame["columns"], tile.width) as column:
                columns = builder.sub(frame["columns"], column)
                columns = minimum(builder, columns, integer(tile.width))
                partial = self._partial(builder, self._partials(frame, base, t), column)
                self._add_parts(frame, partial, rows)
                places = [row, column, integer(0)]
                call_pointer(builder, store, STORE, [closure, partial, rows, columns, *places])
        builder.ret_void()
        return function

    def _add_parts(self, frame: Frame, partial: Value, rows: Value) -> None:
        """Add to a tile's sums those of the other parts."""
        builder, tile = frame.builder, self.tile
        elements = builder.mul(rows, integer(tile.width))
        with loop(builder, integer(1), frame["split"]) as part:
            other = advance(builder, partial, builder.mul(part, frame["bytes"]))
            with loop(builder, integer(0), elements, tile.lanes) as i:
                places = [
                    builder.gep(base, [i], source_etype=tile.element) for base in (partial, other)
                ]
                old, new = (
                    builder.load(place, typ=tile.vector, align=tile.size) for place in places
                )
                builder.store(builder.fadd(old, new), places[0], align=tile.size)
