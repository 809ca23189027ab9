"""Products of matrices on devices whose work-group is one thread: panels, and blocks in registers.

Enters: a `Product`, the sizes of its tiles, and who names buffers and sizes. Leaves: the lines of a
kernel whose work-group is one item. A group computes one tile of the result: it packs, for each
stretch of the sums, the rows of A and the columns of B side by side into local memory (zero beyond
the edges, so that all that follows is whole), and walks over blocks of rows x vectors whose sums
stay in registers. A tile's sums meet in local memory, from where the epilogue takes them.

So every access to global memory is inside its array: an edge is copied element by element.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from graphc.contractions import is_one
from graphc.runtime.opencl.strided import Epilogue, Strided

ALIGNMENT = 64  # of the panels
SKEW = 64  # bytes between rows of a panel, so that they do not fall into one set of a cache


@dataclass(frozen=True, slots=True)
class Panels:
    """The sizes of a tile: `rows` x `vectors` of `lanes` are a block in registers."""

    rows: int
    vectors: int
    lanes: int
    tile_rows: int  # a multiple of `rows`
    tile_columns: int  # a multiple of `columns`
    depth: int  # of a stretch of the sums: a multiple of `lanes`

    @property
    def columns(self) -> int:
        """The columns of a block."""
        return self.vectors * self.lanes

    def pitch(self, width: int) -> int:
        """Elements from one row of A's panel to the next, where it has rows."""
        return self.depth + SKEW // width

    def local_memory(self, width: int) -> int:
        """Bytes, of elements of so many bytes."""
        a = self.tile_rows * self.pitch(width)
        return (a + (self.depth + self.tile_rows) * self.tile_columns) * width + 2 * 8 * self.depth

    @property
    def group(self) -> int:
        """Items of a work-group."""
        return 1


class PanelText:
    """The lines of one kernel: the sums of a tile, and what is done with each of them."""

    def __init__(self, form: Strided, panels: Panels) -> None:
        self.form, self.panels = form, panels
        self.real, self.wide = form.real, f"{form.real}{panels.lanes}"
        self.by_rows = not form.rows_are_straight()

    def lines(self, epilogue: Epilogue, rows: str, columns: str) -> Iterator[str]:
        """All lines, of tiles of so many rows and columns, which are not more than the panels'."""
        p = self.panels
        pitch = p.pitch(self.form.width) if self.by_rows else p.depth
        yield from self._local("panel_a", p.tile_rows * pitch)
        yield from self._local("panel_b", p.depth * p.tile_columns)
        yield from self._local("sums", p.tile_rows * p.tile_columns)
        yield from self.form.table_lines(p.depth)
        yield from self.form.tile_lines(rows, columns)
        yield "const int rows = (int)min(tile_rows, row_count - first_row);"
        yield "const int columns = (int)min(tile_columns, column_count - first_column);"
        yield f"for (long start = 0; start == 0 || start < depth; start += {p.depth}) {{"
        yield f"  const int length = (int)min((long){p.depth}, depth - start);"
        inner = (self.form.fill_lines("length"), self._pack_a(), self._pack_b(), self._blocks())
        yield from ("  " + line for lines in inner for line in lines)
        yield "}"
        yield from self._store(epilogue)

    def _local(self, name: str, count: int) -> Iterator[str]:
        yield f"local {self.real} {name}[{count}] __attribute__((aligned({ALIGNMENT})));"

    # ------------------------------------------------------------------ packing

    def _pack_a(self) -> Iterator[str]:
        return self._pack_rows() if self.by_rows else self._pack_terms()

    def _pack_rows(self) -> Iterator[str]:
        """Rows of A as they lie, one behind the other."""
        form, p = self.form, self.panels
        yield f"for (int i = 0; i < (rows + {p.rows - 1}) / {p.rows} * {p.rows}; i++) {{"
        yield f"  local {self.real}* to = panel_a + i * {p.pitch(form.width)};"
        yield f"  const long from = {form.row_offset('first_row + min(i, rows - 1)')};"
        yield "  int k = 0;"
        if form.is_deep(form.product.a):
            yield f"  for (; k + {p.lanes} <= length; k += {p.lanes})"
            yield f"    vstore{p.lanes}(vload{p.lanes}(0, a + from + start + k), 0, to + k);"
        yield f"  for (; k < length; k++) to[k] = a[from + {form.term(form.product.a, 'k')}];"
        yield "}"

    def _pack_terms(self) -> Iterator[str]:
        """Where A is transposed: blocks of rows, in each its rows for each term."""
        form, p = self.form, self.panels
        yield f"for (int i = 0; i < rows; i += {p.rows}) {{"
        yield f"  const int left = min({p.rows}, rows - i);"
        yield f"  const long row = {form.row_offset('first_row + i')};"
        yield "  for (int k = 0; k < length; k++) {"
        yield f"    local {self.real}* to = panel_a + i * {p.depth} + k * {p.rows};"
        yield f"    const long from = row + {form.term(form.product.a, 'k')};"
        yield f"    if (left == {p.rows})"
        yield f"      for (int r = 0; r < {p.rows}; r++) to[r] = a[from + r];"
        yield f"    else for (int r = 0; r < {p.rows}; r++) to[r] = a[from + min(r, left - 1)];"
        yield "  }"
        yield "}"

    def _pack_b(self) -> Iterator[str]:
        """Blocks of columns, one behind the other; in each, its columns for each term."""
        form, p = self.form, self.panels
        b, n = form.product.b, p.columns
        yield f"for (int j = 0; j < columns; j += {n}) {{"
        yield f"  const int left = min({n}, columns - j);"
        yield f"  local {self.real}* block = panel_b + j * {p.depth};"
        yield f"  const long column = {form.column_offset('first_column + j')};"
        if form.is_deep(b) and not is_one(form.column_step):
            yield from ("  " + line for line in self._pack_transposed())
            yield "}"
            return
        step = form.size(form.column_step)
        yield "  for (int k = 0; k < length; k++) {"
        yield f"    local {self.real}* to = block + k * {n};"
        yield f"    const long from = column + {form.term(b, 'k')};"
        if is_one(form.column_step):
            yield f"    if (left == {n}) {{"
            for v in range(p.vectors):
                yield f"      vstore{p.lanes}(vload{p.lanes}({v}, b + from), {v}, to);"
            yield "      continue;"
            yield "    }"
        yield f"    for (int c = 0; c < {n}; c++) to[c] = b[from + min(c, left - 1) * {step}];"
        yield "  }"
        yield "}"

    def _pack_transposed(self) -> Iterator[str]:
        """A block of B whose terms are neighbours: squares of vectors, turned over in registers."""
        p, step = self.panels, self.form.size(self.form.column_step)
        yield f"for (int k = 0; k < length; k += {p.lanes})"
        yield f"for (int c = 0; c < {p.columns}; c += {p.lanes}) {{"
        yield f"  local {self.real}* to = block + k * {p.columns} + c;"
        yield f"  if (k + {p.lanes} <= length && c + {p.lanes} <= left) {{"
        yield f"    const global {self.real}* from = b + column + c * {step} + start + k;"
        names = [f"q0_{i}" for i in range(p.lanes)]
        for i, name in enumerate(names):
            yield f"    const {self.wide} {name} = vload{p.lanes}(0, from + {i} * {step});"
        for turn in range(p.lanes.bit_length() - 1):
            names = yield from self._interleaved(names, turn + 1)
        for i, name in enumerate(names):
            yield f"    vstore{p.lanes}({name}, 0, to + {i * p.columns});"
        yield "    continue;"
        yield "  }"
        yield f"  for (int i = 0; i < {p.lanes}; i++) {{"
        yield f"    const long from = column + min(c + i, left - 1) * {step} + start + k;"
        yield f"    for (int j = 0; j < min({p.lanes}, length - k); j++)"
        yield f"      to[j * {p.columns} + i] = b[from + j];"
        yield "  }"
        yield "}"

    def _interleaved(self, names: list[str], turn: int) -> Generator[str, None, list[str]]:
        """One of the turns after which a square is transposed: its halves, in pairs of lines."""
        lanes, result = self.panels.lanes, list[str]()
        for i in range(lanes // 2):
            for half in ("lo", "hi"):
                result.append(f"q{turn}_{len(result)}")
                even = f"{result[-1]}.even = {names[i]}.{half};"
                odd = f"{result[-1]}.odd = {names[i + lanes // 2]}.{half};"
                yield f"    {self.wide} {result[-1]}; {even} {odd}"
        return result

    # ------------------------------------------------------------------ blocks

    def _blocks(self) -> Iterator[str]:
        p = self.panels
        yield f"for (int i = 0; i < rows; i += {p.rows})"
        yield f"for (int j = 0; j < columns; j += {p.columns}) {{"
        pitch = p.pitch(self.form.width) if self.by_rows else p.depth
        yield f"  local const {self.real}* x = panel_a + i * {pitch};"
        yield f"  local const {self.real}* y = panel_b + j * {p.depth};"
        yield f"  local {self.real}* z = sums + i * {p.tile_columns} + j;"
        cells = [(r, v) for r in range(p.rows) for v in range(p.vectors)]
        places = {
            (r, v): f"(local {self.wide}*)(z + {r * p.tile_columns + v * p.lanes})"
            for r, v in cells
        }
        for (r, v), place in places.items():
            yield f"  {self.wide} z{r}_{v} = start == 0 ? ({self.wide})(0) : *{place};"
        yield "  for (int k = 0; k < length; k++) {"
        for v in range(p.vectors):
            load = f"*(local const {self.wide}*)(y + k * {p.columns} + {v * p.lanes})"
            yield f"    const {self.wide} y{v} = {load};"
        for r in range(p.rows):
            element = f"x[{r * pitch} + k]" if self.by_rows else f"x[k * {p.rows} + {r}]"
            yield f"    const {self.wide} x{r} = {element};"
            for v in range(p.vectors):
                yield f"    z{r}_{v} = {self.form.fused(f'x{r}', f'y{v}', f'z{r}_{v}')};"
        yield "  }"
        for (r, v), place in places.items():
            yield f"  *{place} = z{r}_{v};"
        yield "}"

    def _store(self, epilogue: Epilogue) -> Iterator[str]:
        yield "for (int i = 0; i < rows; i++) {"
        yield from ("  " + line for line in self.form.place_lines("first_row + i"))
        yield from epilogue.row
        yield f"#pragma clang loop vectorize(enable) vectorize_width({self.panels.lanes})"
        yield "  for (int j = 0; j < columns; j++) {"
        yield "    const long at_column = first_column + j;"
        yield f"    const {self.real} total = sums[i * {self.panels.tile_columns} + j];"
        yield from ("  " + line for line in epilogue.element)
        yield "  }"
        yield "}"
