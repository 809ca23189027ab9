"""The places of a product's operands in C: what tiles of any kind say of rows, columns and sums.

Enters: a `Product`, and the code whose arguments it takes. Leaves: lines and expressions. In the
code, `first_row` and `first_column` are a tile's place, of `row_count` rows and `column_count`
columns; `depth` is the number of terms of the sum, and `start` the first one of a stretch. The
elements of an operand are those at `row_offset(...)` or `column_offset(...)` plus a `term(...)`.

Several axes of rows are walked as one, and so are those of a sum. Where a sum has one axis, a term
is a product; else the terms of a stretch are written to a table first: one for each operand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from graphc.contractions import Operand, Product, is_one
from graphc.dims import Dimension, product
from graphc.dtypes import float64
from graphc.kernel import Axis
from graphc.runtime.opencl.formula import Code
from graphc.runtime.opencl.routine import memory


class Epilogue(NamedTuple):
    """What is done with the sums: lines for each row, and those inside for each element of it.

    They may use `at_batch0 ...`, `at_row0 ...`, where these axes stand; those of an element
    `at_column` and its sum, `total`, too.
    """

    row: tuple[str, ...]
    element: tuple[str, ...]


class Strided:
    """A product, and the expressions of where its elements lie."""

    def __init__(self, product: Product, code: Code) -> None:
        self.product, self.code = product, code
        self.real = memory(product.dtype)
        self.width = 8 if product.dtype is float64 else 4
        self.rows, self.sums = product.rows, product.sums
        self.places: dict[Axis, str] = {
            axis: f"at_batch{i}" for i, axis in enumerate(product.batch)
        }
        self.places |= {axis: f"at_row{i}" for i, axis in enumerate(product.rows)}
        self.places[product.column] = "at_column"

    def size(self, value: Dimension) -> str:
        """The expression of a size."""
        return self.code.size(value)

    def fused(self, x: str, y: str, sum: str) -> str:
        """One more product in a sum, rounded once where the device does that quickly."""
        return f"fma({x}, {y}, {sum})" if self.code.fused else f"{x} * {y} + {sum}"

    @property
    def column_step(self) -> Dimension:
        """How far apart B's columns lie."""
        return self.product.b.step(self.product.column)

    def rows_are_straight(self) -> bool:
        """Whether A's rows are neighbours in memory, term by term."""
        return len(self.rows) == 1 and is_one(self.product.a.step(self.rows[0]))

    def is_deep(self, operand: Operand) -> bool:
        """Whether the terms of a sum are neighbours in memory."""
        return len(self.sums) == 1 and is_one(operand.step(self.sums[0]))

    # ------------------------------------------------------------------ expressions

    def row_offset(self, row: str) -> str:
        """The offset of a row of A, without its terms."""
        return self._offset("base_a", self.product.a, self.rows, row)

    def column_offset(self, column: str) -> str:
        """The offset of a column of B, without its terms."""
        return self._offset("base_b", self.product.b, (self.product.column,), column)

    def term(self, operand: Operand, k: str) -> str:
        """What term `start + k` adds to an offset."""
        if len(self.sums) == 1:
            return self._times(f"(start + {k})", operand.step(self.sums[0]))
        return f"terms_{self._letter(operand)}[{k}]"

    def whole_term(self, operand: Operand, term: str) -> str:
        """The same without a table: what a term adds to an offset."""
        return self._offset("0", operand, self.sums, term)

    def _letter(self, operand: Operand) -> str:
        return "a" if operand is self.product.a else "b"

    def _offset(self, base: str, operand: Operand, axes: Sequence[Axis], value: str) -> str:
        moved = [
            self._times(where, operand.step(axis))
            for axis, where in zip(axes, self.positions(axes, value), strict=True)
            if axis in operand.place.steps
        ]
        return " + ".join([base, *moved])

    def _times(self, x: str, step: Dimension) -> str:
        if isinstance(step, int) and step == 0:
            return "0"
        return x if is_one(step) else f"{x} * {self.size(step)}"

    def positions(self, axes: Sequence[Axis], value: str) -> list[str]:
        """Where each of some axes stands when they are walked as one; the last is innermost."""
        found = []
        for i, axis in enumerate(axes):
            inner = product(a.extent for a in axes[i + 1 :])
            text = f"({value})" if is_one(inner) else f"(({value}) / {self.size(inner)})"
            found.append(text if i == 0 else f"({text} % {self.size(axis.extent)})")
        return found

    # ------------------------------------------------------------------ lines

    def tile_lines(self, rows: str, columns: str) -> Iterator[str]:
        """Which tile of so many rows and columns a work-group computes."""
        product_, count = self.product, self._count
        yield f"const long row_count = {count(self.rows)}, depth = {count(self.sums)};"
        yield f"const long column_count = {count((product_.column,))};"
        yield f"const long tile_rows = {rows}, tile_columns = {columns};"
        yield "const long across = (column_count + tile_columns - 1) / tile_columns;"
        yield "const long down = (row_count + tile_rows - 1) / tile_rows;"
        yield "const long tile = get_group_id(0), batch = tile / (across * down);"
        yield "const long first_column = tile % across * tile_columns;"
        yield "const long first_row = tile / across % down * tile_rows;"
        for axis, where in zip(
            product_.batch, self.positions(product_.batch, "batch"), strict=True
        ):
            yield f"const long {self.places[axis]} = {where};"
        for operand in (product_.a, product_.b):
            letter, constant = self._letter(operand), operand.place.constant
            moved = [
                self._times(self.places[axis], operand.step(axis))
                for axis in product_.batch
                if axis in operand.place.steps
            ]
            offset = " + ".join([self.size(constant), *moved])
            yield f"const global {self.real}* {letter} = {self.code.buffer(operand.buffer)};"
            yield f"const long base_{letter} = {offset};"

    def _count(self, axes: Sequence[Axis]) -> str:
        return self.size(product(axis.extent for axis in axes))

    def place_lines(self, row: str) -> Iterator[str]:
        """Where the axes of rows stand at a row."""
        for axis, where in zip(self.rows, self.positions(self.rows, row), strict=True):
            yield f"const long {self.places[axis]} = {where};"

    def table_lines(self, depth: int) -> Iterator[str]:
        """The declarations of the tables of terms, where there are any."""
        if len(self.sums) > 1:
            yield f"local long terms_a[{depth}], terms_b[{depth}];"

    def fill_lines(self, count: str) -> Iterator[str]:
        """The tables of a stretch of `count` terms."""
        if len(self.sums) > 1:
            yield f"for (int k = 0; k < {count}; k++) {{"
            for operand in (self.product.a, self.product.b):
                term = self.whole_term(operand, "start + k")
                yield f"  terms_{self._letter(operand)}[k] = {term};"
            yield "}"
