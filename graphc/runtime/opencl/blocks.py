"""Products of matrices on devices of many threads: tiles in local memory, blocks in registers.

Enters: a `Product`'s places and the sizes of its tiles. Leaves: the lines of a kernel whose
work-group computes one tile of the result. For each stretch of the sums, all items together copy
the rows of A and the columns of B to local memory, neighbours from neighbouring places; each item
then adds up a block of its own in registers. There are two of these copies: while one is used, the
elements of the next one are on their way. Beyond the edges a tile is zero, so all items do the
same, and every barrier is reached by all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphc.contractions import Operand
from graphc.runtime.opencl.strided import Epilogue, Strided

VECTOR = 4  # elements that an item takes from local memory at once
PADDING = 4  # elements between the terms of a tile, against conflicts of banks; keeps alignment


@dataclass(frozen=True, slots=True)
class Blocks:
    """The sizes of a tile: `down` x `across` items, and the block of `rows` x `columns` of each."""

    down: int
    across: int
    rows: int  # multiples of `VECTOR`
    columns: int
    depth: int  # of a stretch of the sums

    @property
    def tile_rows(self) -> int:
        """Rows of a tile."""
        return self.down * self.rows

    @property
    def tile_columns(self) -> int:
        """Columns of a tile."""
        return self.across * self.columns

    @property
    def group(self) -> int:
        """Items of a work-group."""
        return self.down * self.across

    def local_memory(self, width: int) -> int:
        """Bytes, of elements of so many bytes."""
        padded = self.tile_rows + self.tile_columns + 2 * PADDING
        return 2 * self.depth * padded * width

    def is_even(self) -> bool:
        """Whether the items of a group copy the same number of elements each."""
        counts = (self.tile_rows * self.depth, self.tile_columns * self.depth)
        return all(count % self.group == 0 for count in counts)


class BlockText:
    """The lines of one kernel: the sums of a tile, and what is done with each of them."""

    def __init__(self, form: Strided, blocks: Blocks) -> None:
        self.form, self.blocks, self.real = form, blocks, form.real

    def lines(self, epilogue: Epilogue) -> Iterator[str]:
        """All lines."""
        b, real = self.blocks, self.real
        pitches = (b.tile_rows + PADDING, b.tile_columns + PADDING)
        for letter, pitch in zip("ab", pitches, strict=True):
            yield f"local {real} tile_{letter}[2][{b.depth}][{pitch}] __attribute__((aligned(32)));"
        yield f"const int lane = get_local_id(0), x = lane % {b.across}, y = lane / {b.across};"
        yield from self.form.tile_lines(str(b.tile_rows), str(b.tile_columns))
        yield f"{real} sums[{b.rows}][{b.columns}];"
        yield from self._each("sums[r][c] = 0;")
        operands = (self.form.product.a, self.form.product.b)
        for operand in operands:
            yield from self._places(operand)
        yield "int now = 0;"
        yield "long start = 0;"
        yield from self._fetch()
        yield from self._keep("0")
        yield "barrier(CLK_LOCAL_MEM_FENCE);"
        yield f"for (long next = {b.depth}; start < depth; next += {b.depth}) {{"
        yield "  start = next;"
        yield from ("  " + line for line in self._fetch())
        yield from ("  " + line for line in self._multiply())
        yield from ("  " + line for line in self._keep("now ^ 1"))
        yield "  barrier(CLK_LOCAL_MEM_FENCE);"
        yield "  now ^= 1;"
        yield "}"
        yield from self._store(epilogue)

    def _each(self, line: str) -> Iterator[str]:
        """A line for each element of an item's block."""
        yield "#pragma unroll"
        yield f"for (int r = 0; r < {self.blocks.rows}; r++) {{"
        yield "#pragma unroll"
        yield f"  for (int c = 0; c < {self.blocks.columns}; c++) {{ {line} }}"
        yield "}"

    # ------------------------------------------------------------------ copies

    def _counts(self, operand: Operand) -> tuple[str, int, int]:
        """An operand's letter, the length of its tile, and the elements that an item copies."""
        b, is_a = self.blocks, operand is self.form.product.a
        length = b.tile_rows if is_a else b.tile_columns
        return "a" if is_a else "b", length, length * b.depth // b.group

    def _places(self, operand: Operand) -> Iterator[str]:
        """Which elements an item copies: neighbouring items take neighbours in memory."""
        letter, length, count = self._counts(operand)
        first, limit = ("row", "row_count") if letter == "a" else ("column", "column_count")
        offset = self.form.row_offset if letter == "a" else self.form.column_offset
        yield f"int line_{letter}[{count}], term_{letter}[{count}];"
        yield f"long from_{letter}[{count}]; {self.real} new_{letter}[{count}];"
        yield f"bool in_{letter}[{count}];"
        yield "#pragma unroll"
        yield f"for (int e = 0; e < {count}; e++) {{"
        yield f"  const int element = lane + e * {self.blocks.group};"
        inner, outer = ("term", "line") if self.form.is_deep(operand) else ("line", "term")
        run = self.blocks.depth if inner == "term" else length
        yield f"  {inner}_{letter}[e] = element % {run}; {outer}_{letter}[e] = element / {run};"
        yield f"  const long line = first_{first} + line_{letter}[e];"
        yield f"  in_{letter}[e] = line < {limit};"
        yield f"  from_{letter}[e] = {offset('line')};"
        yield "}"

    def _fetch(self) -> Iterator[str]:
        """The elements of the stretch at `start`, into registers."""
        for operand in (self.form.product.a, self.form.product.b):
            letter, _, count = self._counts(operand)
            yield "#pragma unroll"
            yield f"for (int e = 0; e < {count}; e++) {{"
            yield f"  const long term = start + term_{letter}[e];"
            yield f"  new_{letter}[e] = 0;"
            yield f"  if (in_{letter}[e] && term < depth)"
            at = self.form.whole_term(operand, "term")
            yield f"    new_{letter}[e] = {letter}[from_{letter}[e] + {at}];"
            yield "}"

    def _keep(self, which: str) -> Iterator[str]:
        """Those elements to local memory."""
        for operand in (self.form.product.a, self.form.product.b):
            letter, _, count = self._counts(operand)
            yield "#pragma unroll"
            yield f"for (int e = 0; e < {count}; e++)"
            place = f"[{which}][term_{letter}[e]][line_{letter}[e]]"
            yield f"  tile_{letter}{place} = new_{letter}[e];"

    # ------------------------------------------------------------------ sums

    def _multiply(self) -> Iterator[str]:
        b, vector = self.blocks, f"{self.real}{VECTOR}"
        yield "#pragma unroll"
        yield f"for (int k = 0; k < {b.depth}; k++) {{"
        yield f"  {self.real} u[{b.rows}], v[{b.columns}];"
        for name, letter, count, lane, lanes in (
            ("u", "a", b.rows, "y", b.down),
            ("v", "b", b.columns, "x", b.across),
        ):
            for i in range(0, count, VECTOR):
                at = f"&tile_{letter}[now][k][{lane} * {VECTOR} + {i * lanes}]"
                yield f"  vstore{VECTOR}(*(local const {vector}*){at}, 0, {name} + {i});"
        fused = self.form.fused("u[r]", "v[c]", "sums[r][c]")
        yield from ("  " + line for line in self._each(f"sums[r][c] = {fused};"))
        yield "}"

    def _store(self, epilogue: Epilogue) -> Iterator[str]:
        b = self.blocks
        yield "#pragma unroll"
        yield f"for (int r = 0; r < {b.rows}; r++) {{"
        inside = f"r / {VECTOR} * {VECTOR * b.down} + y * {VECTOR} + r % {VECTOR}"
        yield f"  const long row = first_row + {inside};"
        yield "  if (row >= row_count) continue;"
        yield from ("  " + line for line in self.form.place_lines("row"))
        yield from epilogue.row
        yield "#pragma unroll"
        yield f"  for (int c = 0; c < {b.columns}; c++) {{"
        inside = f"c / {VECTOR} * {VECTOR * b.across} + x * {VECTOR} + c % {VECTOR}"
        yield f"    const long at_column = first_column + {inside};"
        yield "    if (at_column >= column_count) continue;"
        yield f"    const {self.real} total = sums[r][c];"
        yield from ("  " + line for line in epilogue.element)
        yield "  }"
        yield "}"
