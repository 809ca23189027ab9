"""How the sizes of a contraction are cut into tiles and blocks, and what workspace that needs.

Enters: a contraction, a target, and (in the generated code) the array of sizes. Leaves: values of
the generated code: sizes and strides by name, numbers of blocks, places in the workspace. The
query of the workspace's size and the computation share this, so they cannot disagree.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir

from graphc.runtime.cpu.contraction import Contraction
from graphc.runtime.cpu.emission import (
    INTEGER,
    Value,
    ceil_divide,
    integer,
    maximum,
    minimum,
    product,
)  # fmt: skip
from graphc.runtime.cpu.target import Target
from graphc.runtime.cpu.tile import Tile

GROUP = 40  # row tiles that share a packed block of B, at most
ENTRY = 8  # bytes of a table's entry


class Blocks(NamedTuple):
    """How the sizes are cut: numbers of tiles, strips and blocks."""

    tiles: Value
    columns: Value
    strips: Value
    blocks: Value
    depth: Value
    total: Value


class Space(NamedTuple):
    """Where things lie in the workspace."""

    rows_a: Value
    rows_c: Value
    sums_a: Value
    sums_b: Value
    dense: Value
    rows_packed: Value
    panel_a: Value
    panel_b: Value
    partial: Value


class Geometry:
    """The sizes of one contraction in generated code."""

    def __init__(self, target: Target, contraction: Contraction) -> None:
        self.contraction = contraction
        self.tile = Tile.of(target, contraction.dtype)
        size = self.tile.size
        self.depth = max(64, target.l1 * 3 // 4 // (self.tile.rows * size) & -16)
        strips = target.l2 // 2 // (self.depth * size * self.tile.width)
        self.columns = max(1, strips) * self.tile.width

    def _read(self, builder: ir.IRBuilder, sizes: Value) -> None:
        """Sizes as values, by name; strides in bytes."""
        self.values: dict[str, Value] = {}
        for i, name in enumerate(self.contraction.names):
            known = self.contraction.known.get(name)
            scale = self.tile.size if name[:2] in ("a_", "b_", "c_") else 1
            if known is not None:
                self.values[name] = integer(known * scale)
            else:
                place = builder.gep(sizes, [integer(i)], source_etype=INTEGER)
                value = builder.load(place, typ=INTEGER, align=8)
                self.values[name] = builder.mul(value, integer(scale)) if scale > 1 else value

    def _axes(self, kind: str, count: int, prefix: str = "") -> list[Value]:
        return [self.values[f"{prefix}{kind}{i}"] for i in range(count)]

    def _blocks(self, builder: ir.IRBuilder) -> Blocks:
        what, tile = self.contraction, self.tile
        self.m = product(builder, self._axes("m", what.row_axes))
        self.k = product(builder, self._axes("k", what.sum_axes))
        self.n = self.values["n"]
        tiles = ceil_divide(builder, self.m, integer(tile.rows))
        columns = minimum(
            builder, integer(self.columns),
            builder.mul(ceil_divide(builder, self.n, integer(tile.width)), integer(tile.width)),
        )  # fmt: skip
        parts = ceil_divide(builder, self.n, integer(self.columns))
        self.unit_b = builder.icmp_signed("==", self.values["b_n"], integer(tile.size))
        few = builder.icmp_signed("<=", tiles, integer(2))
        plain = ir.Constant(ir.IntType(1), int(what.sum_axes == 1))
        self.direct = builder.and_(builder.and_(few, plain), self.unit_b)
        blocks = maximum(builder, integer(1), ceil_divide(builder, self.k, integer(self.depth)))
        depth = ceil_divide(builder, self.k, blocks)
        batches = product(builder, self._axes("batch", what.batch_axes))
        total = product(builder, [batches, parts, tiles])
        strips = builder.udiv(columns, integer(tile.width))
        return Blocks(tiles, columns, strips, blocks, depth, total)

    def _space(self, builder: ir.IRBuilder, blocks: Blocks, base: Value) -> tuple[Space, Value]:
        """The parts of the workspace, as addresses from `base` on, and the first behind."""
        tile = self.tile
        rows = builder.mul(minimum(builder, blocks.tiles, integer(GROUP)), integer(tile.rows))
        table = builder.mul(blocks.depth, integer(ENTRY))
        waiting = builder.mul(
            builder.select(
                builder.icmp_signed(">", blocks.blocks, integer(1)), rows, integer(tile.rows)
            ),
            builder.select(
                builder.icmp_signed(">", blocks.blocks, integer(1)),
                blocks.columns,
                integer(tile.width),
            ),
        )
        lengths = [
            builder.mul(rows, integer(ENTRY)),
            builder.mul(rows, integer(ENTRY)),
            table,
            table,
            table,
            integer(tile.rows * ENTRY),
            builder.mul(self._pitch(builder, blocks), integer(tile.rows)),
            product(builder, [blocks.depth, blocks.columns, integer(tile.size)]),
            builder.mul(waiting, integer(tile.size)),
        ]
        places, place = [], base
        for length in lengths:
            places.append(place)
            rounded = builder.and_(builder.add(length, integer(63)), integer(-64))
            place = builder.add(place, rounded)
        return Space(*places), place

    def _pitch(self, builder: ir.IRBuilder, blocks: Blocks) -> Value:
        """Bytes from row to row of a packed tile of A: a multiple of 64, but not of 128."""
        length = builder.mul(blocks.depth, integer(self.tile.size))
        return builder.or_(
            builder.and_(builder.add(length, integer(127)), integer(-128)), integer(64)
        )
