"""How the sizes of a contraction are cut into units, tiles and blocks, and what workspace it takes.

Enters: a target, and (in the generated code) the array of sizes. Leaves: a function of the module
that fills a frame, an array of i64 on the caller's stack: sizes, strides in bytes, numbers of
blocks, places in the workspace. Whoever needs one of them reads it there, so that the size of the
workspace and what is written into it cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.contraction import AXES, NAMES
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    ceil_divide,
    collapse,
    declare,
    integer,
    maximum,
    minimum,
    product,
    seldom,
)
from graphc.runtime.cpu.target import Target
from graphc.runtime.cpu.tile import Tile

RUN = 96  # row tiles that share a packed block of B, at most: units that are computed together
WAITING = 192  # register tiles whose sums wait for the next block of k, at most
LEAST_TILES, LEAST_STRIPS = 8, 4  # of a part, where there are more: packing is shared by them
FEW_TILES = 6  # of a chunk at least
PACK_STRIPS = 4  # that must share a row tile of A before it is packed
PERIOD, NEAR = 4096, 256  # bytes after which first caches start over, and how near that is bad
UNIT_WORK = 4096  # steps of a register tile that are worth a unit: some twenty microseconds
MOST_PARTS, PART = 16, 1024  # of a deep k: how many, and how deep at least
SPLIT_TILES = 64  # register tiles of C, at most, where k is cut into parts
TOGETHER = 4  # row tiles of a transposed A that are packed at once: they share lines of memory
ENTRY = 8  # bytes of a table's entry
HEADER = 64  # bytes in front of a workspace: the count of parts that are done

PLACES = ("rows_a", "sums_a", "sums_b", "dense", "rows_packed", "panel_a", "panel_b", "partial")
DERIVED = (
    "m", "k", "tiles", "group", "groups", "run", "least", "strips", "parts", "split",
    "share", "blocks", "depth", "units", "unit_b", "direct", "step_b", "pack", "waits", "pitch",
    *PLACES, "bytes",
)  # fmt: skip
UNIT = (  # of the unit that is computed: its place, its operands, its part of k
    "batch", "row", "rows", "here", "column", "columns", "from", "to", "a", "b",
    "group_seen", "run_seen", "part_seen", "fresh_b", "together",
)  # fmt: skip
WORDS = {name: i for i, name in enumerate((*NAMES, *DERIVED, *UNIT))}
AS_IT_LIES, BY_ROWS, TURNED = range(3)  # the ways of packing A


@dataclass(frozen=True)
class Frame:
    """The frame, in the code that a builder writes."""

    builder: ir.IRBuilder
    pointer: Value

    def place(self, name: str) -> Value:
        """The address of a word."""
        return self.builder.gep(self.pointer, [integer(WORDS[name])], source_etype=INTEGER)

    def __getitem__(self, name: str) -> Value:
        return self.builder.load(self.place(name), typ=INTEGER, align=8)

    def __setitem__(self, name: str, value: Value) -> None:
        self.builder.store(value, self.place(name), align=8)

    def truth(self, name: str) -> Value:
        """Whether a word is not zero."""
        return self.builder.icmp_signed("!=", self[name], integer(0))


@dataclass(frozen=True)
class Geometry:
    """What the target decides: the tile, and the largest block of B, by k and by strips."""

    tile: Tile
    depth: int
    most_strips: int

    @staticmethod
    def of(target: Target, dtype: str) -> Geometry:
        """Half of the second cache for a block of B, most of the first for a tile of A."""
        tile = Tile.of(target, dtype)
        depth = max(64, target.l1 * 3 // 4 // (tile.rows * tile.size) & -16)
        strips = target.l2 // 2 // (depth * tile.size * tile.width)
        return Geometry(tile, depth, max(1, strips))

    def emit(self, module: ir.Module) -> Any:
        """A function of (sizes, frame)."""
        function, builder, [sizes, pointer] = declare(
            module, "measure", VOID, [("sizes", POINTER), ("frame", POINTER)], False
        )
        seldom(function)
        frame = Frame(builder, pointer)
        values = self._read(builder, sizes, frame)
        extents = {
            kind: product(builder, [values[f"{kind}{i}"] for i in range(AXES)])
            for kind in ("batch", "m", "k")
        }
        cut = _Cut(builder, self, extents, values["n"])
        values |= cut.blocks()
        values |= self._ways(builder, values, cut)
        values |= self._places(builder, values, cut)
        for name in DERIVED:
            frame[name] = values[name]
        builder.ret_void()
        return function

    def _read(self, builder: ir.IRBuilder, sizes: Value, frame: Frame) -> dict[str, Value]:
        """Sizes as values, by name, and in the frame; strides in bytes."""
        values = {}
        for i, name in enumerate(NAMES):
            place = builder.gep(sizes, [integer(i)], source_etype=INTEGER)
            value = builder.load(place, typ=INTEGER, align=8)
            stride = name[:2] in ("a_", "b_")
            values[name] = builder.mul(value, integer(self.tile.size)) if stride else value
            frame[name] = values[name]
        return values

    def _ways(self, builder: ir.IRBuilder, values: dict[str, Value], cut: _Cut) -> dict[str, Value]:
        """How operands are read: B in place or packed, A in place, packed by rows or turned."""
        tile, size = self.tile, integer(self.tile.size)

        def axes(name: str) -> list[Value]:
            return [values[f"{name}{i}"] for i in range(AXES)]

        even, step = collapse(builder, axes("k"), axes("b_k"))
        _, across = collapse(builder, axes("k"), axes("a_k"))
        _, down = collapse(builder, axes("m"), axes("a_m"))
        unit = builder.icmp_signed("==", values["b_n"], size)
        near = builder.icmp_unsigned("<=", step, integer(4 * tile.width * tile.size))
        few = builder.icmp_signed("<=", cut.tiles, integer(2))
        direct = builder.and_(builder.and_(unit, even), builder.or_(few, near))
        # Rows that fall into the same sets of the first cache push each other out.
        near = builder.and_(builder.add(down, integer(NEAR)), integer(PERIOD - 1))
        meet = builder.icmp_unsigned("<=", near, integer(2 * NEAR))
        rows = builder.and_(builder.icmp_signed("==", across, size), meet)
        turned = builder.icmp_signed("==", down, size)
        pack = builder.select(turned, integer(TURNED), integer(AS_IT_LIES))
        pack = builder.select(rows, integer(BY_ROWS), pack)
        shared = builder.icmp_signed(">=", values["strips"], integer(PACK_STRIPS))
        return {
            "unit_b": builder.zext(unit, INTEGER),
            "waits": builder.zext(cut.waits, INTEGER),
            "direct": builder.zext(direct, INTEGER),
            "step_b": step,
            "pack": builder.select(shared, pack, integer(AS_IT_LIES)),
        }

    def _places(
        self, builder: ir.IRBuilder, values: dict[str, Value], cut: _Cut
    ) -> dict[str, Value]:
        """Where things lie in the workspace, its bytes, and the pitch of packed rows of A."""
        tile, waits = self.tile, cut.waits
        rows = builder.mul(builder.mul(values["group"], values["run"]), integer(tile.rows))
        table = builder.mul(values["depth"], integer(ENTRY))
        # A multiple of 64, but not of 128: rows that meet in one cache set are fewer.
        length = builder.mul(values["depth"], integer(tile.size))
        pitch = builder.or_(
            builder.and_(builder.add(length, integer(127)), integer(-128)), integer(64)
        )
        panel = builder.mul(pitch, integer(tile.rows))
        columns = builder.mul(values["strips"], integer(tile.width))
        waiting = builder.select(waits, builder.mul(rows, columns), integer(tile.rows * tile.width))
        panels = builder.mul(panel, integer(TOGETHER))
        turned = builder.icmp_signed("==", values["pack"], integer(TURNED))
        nothing = builder.icmp_signed("==", values["pack"], integer(AS_IT_LIES))
        lengths = {
            "rows_a": builder.mul(rows, integer(ENTRY)),
            "sums_a": table,
            "sums_b": table,
            "dense": table,
            "rows_packed": integer(tile.rows * ENTRY),
            "panel_a": builder.select(nothing, integer(0), builder.select(turned, panels, panel)),
            "panel_b": builder.mul(length, columns),
            "partial": builder.mul(waiting, integer(tile.size)),
        }
        found, place = {"pitch": pitch}, integer(HEADER)
        for name in PLACES:
            found[name] = place
            rounded = builder.and_(builder.add(lengths[name], integer(63)), integer(-64))
            place = builder.add(place, rounded)
        return found | {"bytes": place}


class _Cut:
    """Numbers of tiles, strips, groups, parts, units."""

    def __init__(
        self, builder: ir.IRBuilder, geometry: Geometry, extents: dict[str, Value], n: Value
    ) -> None:
        self.builder, self.geometry = builder, geometry
        self.m, self.k, self.batches = extents["m"], extents["k"], extents["batch"]
        self.tiles = ceil_divide(builder, self.m, integer(geometry.tile.rows))
        self.strips = ceil_divide(builder, n, integer(geometry.tile.width))
        self.waits: Value = None

    def _ceil(self, a: Value, b: Value) -> Value:
        return ceil_divide(self.builder, a, maximum(self.builder, b, integer(1)))

    def _split(self) -> Value:
        """Into how many parts k is cut: a matter of sizes alone, as it decides the bits."""
        builder = self.builder
        registers = builder.mul(self.tiles, self.strips)
        small = [
            builder.icmp_signed("==", self.batches, integer(1)),
            builder.icmp_signed("<=", registers, integer(SPLIT_TILES)),
            builder.icmp_signed("<=", self.strips, integer(self.geometry.most_strips)),
            builder.icmp_signed("<=", self.tiles, integer(RUN)),
            builder.icmp_signed(">", registers, integer(0)),
            builder.icmp_signed(">=", self.k, integer(2 * PART)),
        ]
        yes = small[0]
        for condition in small[1:]:
            yes = builder.and_(yes, condition)
        parts = minimum(builder, integer(MOST_PARTS), builder.udiv(self.k, integer(PART)))
        return builder.select(yes, parts, integer(1))

    def blocks(self) -> dict[str, Value]:
        """Everything that is counted."""
        builder, one = self.builder, integer(1)
        split = self._split()
        whole = builder.icmp_signed(">", split, one)
        work = product(builder, [self.batches, self.tiles, self.strips, self.k])
        wanted = minimum(
            builder, integer(MOST_PARTS), ceil_divide(builder, work, integer(UNIT_WORK))
        )
        several = builder.icmp_signed(">", wanted, one)  # then an even number, for two threads
        wanted = builder.add(wanted, builder.and_(wanted, builder.zext(several, INTEGER)))
        wanted = self._ceil(wanted, self.batches)
        share = builder.udiv(builder.add(self.k, builder.sub(split, one)), split)
        blocks = maximum(builder, one, self._ceil(share, integer(self.geometry.depth)))
        depth = self._ceil(share, blocks)
        room = integer(self.geometry.depth * self.geometry.most_strips)
        room = builder.udiv(room, maximum(builder, depth, one))
        parts = self._ceil(self.strips, room)
        groups = minimum(
            builder, self._ceil(wanted, parts), builder.udiv(self.tiles, integer(LEAST_TILES))
        )
        parts = maximum(
            builder, parts,
            minimum(
                builder, self._ceil(wanted, groups),
                builder.udiv(self.strips, integer(LEAST_STRIPS)),
            ),
        )  # fmt: skip
        strips = builder.select(whole, self.strips, self._ceil(self.strips, parts))
        parts = self._ceil(self.strips, strips)
        group = builder.select(whole, self.tiles, one)
        groups = builder.select(whole, one, self.tiles)
        self.waits = builder.or_(whole, builder.icmp_signed(">", blocks, one))
        waiting = maximum(builder, one, self._ceil(integer(WAITING), strips))
        run = builder.select(self.waits, waiting, integer(RUN))
        run = minimum(builder, maximum(builder, one, groups), run)
        least = self._ceil(integer(UNIT_WORK), builder.mul(strips, self.k))
        least = minimum(builder, run, maximum(builder, least, integer(FEW_TILES)))
        return {
            "m": self.m, "k": self.k, "tiles": self.tiles, "group": group, "groups": groups,
            "run": run, "least": least,
            "strips": strips, "parts": parts, "split": split, "share": share, "blocks": blocks,
            "depth": depth,
            "units": builder.select(
                whole, split, product(builder, [self.batches, parts, groups])
            ),
        }  # fmt: skip
