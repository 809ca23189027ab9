"""The elements of A that a row tile reads: as they lie, or packed where that pays.

Enters: a frame, and the number of a row tile. Leaves: an address with the tables of offsets of its
rows and of k, whichever way it is. A transposed A is packed some tiles at once: they share lines
of memory, and k steps over whole pages, so that few of these lines are still near for the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphc.runtime.cpu.emission import INTEGER, POINTER, Value, advance, fetch, integer, loop
from graphc.runtime.cpu.geometry import BY_ROWS, ENTRY, TOGETHER, TURNED, Frame
from graphc.runtime.cpu.packing import dense
from graphc.runtime.cpu.tile import Tile


class Panels:
    """Writes code that packs A, for one place of the driver."""

    def __init__(
        self, frame: Frame, tile: Tile, functions: Mapping[str, Any], workspace: Value
    ) -> None:
        self.frame, self.shape, self.functions = frame, tile, functions
        self.builder, self.workspace = frame.builder, workspace

    def tables(self) -> None:
        """Fill the tables of offsets within a packed tile."""
        builder, tile, frame = self.builder, self.shape, self.frame
        by_rows = builder.icmp_signed("==", frame["pack"], integer(BY_ROWS))
        size = integer(tile.size)
        across = builder.select(by_rows, size, integer(tile.rows * tile.size))
        down = builder.select(by_rows, frame["pitch"], size)
        for name, count, stride in (
            ("dense", frame["depth"], across), ("rows_packed", integer(tile.rows), down),
        ):  # fmt: skip
            table = advance(builder, self.workspace, frame[name])
            with loop(builder, integer(0), count) as i:
                entry = builder.gep(table, [i], source_etype=INTEGER)
                builder.store(builder.mul(i, stride), entry, align=8)

    def tile(self, t: Value, count: Value) -> list[Value]:
        """Pack a row tile if that pays; its address, offsets of its rows, and of k."""
        builder, frame = self.builder, self.frame
        names = ("rows_a", "sums_a", "panel_a", "rows_packed", "dense")
        rows, sums, panel, *tables = (
            advance(builder, self.workspace, frame[name]) for name in names
        )
        rows = advance(builder, rows, builder.mul(t, integer(self.shape.rows * ENTRY)))
        a = builder.inttoptr(frame["a"], POINTER)
        by_rows = builder.icmp_signed("==", frame["pack"], integer(BY_ROWS))
        with builder.if_then(by_rows):
            arguments = [panel, a, rows, sums, count, frame["pitch"]]
            builder.call(self.functions["pack_a"], arguments)
        turned, panel = self._turned((panel, a, rows, sums, count), t)
        packed = builder.or_(by_rows, turned)
        return [
            builder.select(packed, *pair)
            for pair in zip([panel, *tables], [a, rows, sums], strict=True)
        ]

    def _turned(self, arguments: tuple[Value, ...], t: Value) -> tuple[Value, Value]:
        """Whether a row tile of a transposed A is packed, and where: alone or with neighbours.

        Neighbours are packed with the first of them. Rows that are not dense are left as they lie.
        """
        builder, frame, tile = self.builder, self.frame, self.shape
        panel, a, rows, sums, count = arguments
        wanted = builder.icmp_signed("==", frame["pack"], integer(TURNED))
        place = builder.and_(t, integer(TOGETHER - 1))
        pitch = builder.mul(frame["pitch"], integer(tile.rows))
        start = fetch(builder, rows, integer(0))

        def turn(tiles: int) -> None:
            from_ = advance(builder, a, start)
            arguments = [panel, from_, sums, count, integer(tiles), pitch]
            builder.call(self.functions["turn_a"], arguments)

        first = builder.and_(wanted, builder.icmp_signed("==", place, integer(0)))
        with builder.if_then(first):
            frame["together"] = integer(0)
            end = builder.add(t, integer(TOGETHER))
            with builder.if_then(builder.icmp_signed("<=", end, frame["here"])):
                frame["together"] = builder.zext(self._dense(rows), INTEGER)
            with builder.if_then(frame.truth("together")):
                turn(TOGETHER)
        together = builder.and_(wanted, frame.truth("together"))
        alone = builder.and_(wanted, builder.not_(together))
        alone = builder.and_(alone, dense(builder, rows, integer(0), tile.rows, tile.size))
        with builder.if_then(alone):
            turn(1)
        own = builder.select(together, builder.mul(place, pitch), integer(0))
        return builder.or_(together, alone), advance(builder, panel, own)

    def _dense(self, rows: Value) -> Value:
        """Whether the rows of neighbours lie next to each other."""
        builder, tile = self.builder, self.shape
        start = fetch(builder, rows, integer(0))
        same = dense(builder, rows, integer(0), tile.rows, tile.size)
        for i in range(1, TOGETHER):
            row = integer(i * tile.rows)
            step = builder.sub(fetch(builder, rows, row), start)
            near = builder.icmp_signed("==", step, integer(i * tile.rows * tile.size))
            even = dense(builder, rows, row, tile.rows, tile.size)
            same = builder.and_(same, builder.and_(near, even))
        return same
