"""The register tile: the sum over k of a few rows of A times a few vectors of B.

Enters: the target. Leaves: functions of the module, one a tile height and width, that keep all
accumulators in registers over a run of k. Everything else about a contraction is around them.

A tile reads row i of A at `a + rows[i] + sums[k]`, both tables of byte offsets: whatever is
affine in the row and in the reduction index separately (a transposed matrix, the windows of a
convolution) is read in place. B is read at `b + k * step`, whole vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    advance,
    declare,
    fetch,
    integer,
    keep_order,
    multiply_add,
    splat,
)
from graphc.runtime.cpu.target import Target

ELEMENTS = {"float32": (ir.FloatType(), 4), "float64": (ir.DoubleType(), 8)}


@dataclass(frozen=True)
class Tile:
    """Its shape: `rows` by `vectors` of `lanes` elements; `few` rows for what is left over."""

    element: Any
    size: int
    lanes: int
    rows: int
    vectors: int
    few: int

    @staticmethod
    def of(target: Target, dtype: str) -> Tile:
        """The largest whose accumulators and operands fit the registers.

        With 32 registers 24 accumulate, with 16 of them 12: enough independent sums to hide the
        latency of a multiply-add, and few enough loads a multiply-add.
        """
        element, size = ELEMENTS[dtype]
        rows, few = (12, 4) if target.registers >= 32 else (6, 2)
        return Tile(element, size, target.lanes(8 * size), rows, 2, few)

    @property
    def width(self) -> int:
        """Columns."""
        return self.vectors * self.lanes

    @property
    def vector(self) -> Any:
        """The type of a register."""
        return ir.VectorType(self.element, self.lanes)

    def emit(self, module: ir.Module, name: str, rows: int, vectors: int) -> Any:
        """A function of (a, rows, sums, count, b, step, sums so far, continue).

        The sums lie row by row, `width` elements apart, and are read first if `continue`.
        """
        function, builder, arguments = declare(
            module, name, VOID,
            [("a", POINTER), ("rows", POINTER), ("sums", POINTER), ("count", INTEGER),
             ("b", POINTER), ("step", INTEGER), ("partial", POINTER), ("resume", ir.IntType(1))],
            public=False,
        )  # fmt: skip
        a, table, sums, count, b, step, partial, resume = arguments
        starts = [advance(builder, a, fetch(builder, table, integer(i))) for i in range(rows)]
        numbers = [i * self.width + j * self.lanes for i in range(rows) for j in range(vectors)]
        places = [
            builder.gep(partial, [integer(number)], source_etype=self.element) for number in numbers
        ]
        entry = builder.block
        old, head = builder.append_basic_block("old"), builder.append_basic_block("head")
        body, done = builder.append_basic_block("body"), builder.append_basic_block("done")
        builder.cbranch(resume, old, head)
        builder.position_at_end(old)
        before = [self._load(builder, place) for place in places]
        builder.branch(head)

        builder.position_at_end(head)
        first = [builder.phi(self.vector) for _ in places]
        for phi, value in zip(first, before, strict=True):
            phi.add_incoming(ir.Constant(self.vector, None), entry)
            phi.add_incoming(value, old)
        builder.cbranch(builder.icmp_signed(">", count, integer(0)), body, done)

        builder.position_at_end(body)
        index, right = builder.phi(INTEGER), builder.phi(POINTER)
        index.add_incoming(integer(0), head)
        right.add_incoming(b, head)
        running = [builder.phi(self.vector) for _ in places]
        after = self._step(builder, starts, fetch(builder, sums, index), right, running, vectors)
        following = builder.add(index, integer(1))
        index.add_incoming(following, body)
        right.add_incoming(advance(builder, right, step), body)
        for phi, start, value in zip(running, first, after, strict=True):
            phi.add_incoming(start, head)
            phi.add_incoming(value, body)
        builder.cbranch(builder.icmp_signed("<", following, count), body, done)

        builder.position_at_end(done)
        last = [builder.phi(self.vector) for _ in places]
        for phi, start, value, place in zip(last, first, after, places, strict=True):
            phi.add_incoming(start, head)
            phi.add_incoming(value, body)
            builder.store(phi, place, align=self.size)
        builder.ret_void()
        return function

    def _load(self, builder: ir.IRBuilder, pointer: Value) -> Value:
        return builder.load(pointer, typ=self.vector, align=self.size)

    def _step(
        self, builder: ir.IRBuilder, starts: list[Value], offset: Value, b: Value,
        running: list[Value], vectors: int,
    ) -> list[Value]:  # fmt: skip
        """One k: each row's element times the vectors of B, added to the sums."""
        right = [
            self._load(builder, advance(builder, b, integer(j * self.lanes * self.size)))
            for j in range(vectors)
        ]
        result = []
        for i, start in enumerate(starts):
            one = builder.load(advance(builder, start, offset), typ=self.element, align=self.size)
            left = splat(builder, one, self.lanes)
            for j in range(vectors):
                result.append(multiply_add(builder, left, right[j], running[i * vectors + j]))
            keep_order(builder, result[-1])
        return result
