"""Products of matrices on OpenCL devices: which kernels are, with which tiles, as which code.

Enters: a kernel, collapsed, and what the device can do. Leaves: a `Routine` whose work-groups
compute a tile of the result each; None where the kernel is no product, or one that loops compute
as quickly. Devices whose work-group is one thread get panels (`panels.py`), the others blocks
(`blocks.py`). Sizes and steps are arguments, known ones too: one text serves every size. An
epilogue (a bias, a mask, an optimiser's update) is computed where the sums of a tile are complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

from graphc.contractions import Product, turns
from graphc.contractions import match as match_product
from graphc.dims import Dimension, derived, floordiv, product
from graphc.dtypes import DType
from graphc.kernel import Kernel
from graphc.runtime.opencl.blocks import Blocks, BlockText
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.facts import Facts
from graphc.runtime.opencl.formula import Code, Scope
from graphc.runtime.opencl.panels import Panels, PanelText
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.strided import Epilogue, Strided
from graphc.scalar import walk

Tile: TypeAlias = Panels | Blocks
Choice: TypeAlias = Callable[[Product], Tile | None]
LEAST_WORK = 4_096  # multiply-adds of a product that is worth tiles
LEAST_DEPTH = 8  # terms of a sum that are
LEAST_EXTENT = 4  # rows and columns: fewer would leave most of a block empty
GROUPS = 4  # tiles for each compute unit, so that none waits long for the last one
LEAST_ROWS = 32  # of a tile of panels: packing B must pay


class SizedCode(Code):
    """The text of a routine in which known sizes are arguments too, 0 and 1 excepted."""

    def size(self, dimension: Dimension) -> str:
        """The value of a size, as a long."""
        if isinstance(dimension, int) and dimension in (0, 1):
            return f"{dimension}L"
        sizes = cast("dict[Dimension, str]", self.sizes)
        return sizes.setdefault(dimension, f"n{len(sizes)}")


def usual(found: Product) -> Tile | None:
    """None: the tile that suits the device's type."""
    return None


def match(kernel: Kernel, capabilities: Capabilities, tuned: Choice = usual) -> Routine | None:
    """The routine of a kernel that is a product; None where it is none, or tiles do not pay.

    `tuned`: a `Tuning`, which knows the quickest tiles of a device.
    """
    if kernel.ordered:
        return None
    found = match_product(kernel)
    if found is None or not pays(found):
        return None
    capabilities.demand(found.dtype)
    chosen = suited(found, capabilities, tuned(found))
    return None if chosen is None else compile_product(found, chosen, capabilities)


def pays(found: Product) -> bool:
    """Whether tiles are quicker than plain loops; unknown sizes are thought large."""
    m, n, k = (turns(axes) for axes in (found.rows, (found.column,), found.sums))
    if any(size is not None and size < LEAST_EXTENT for size in (m, n)):
        return False
    if k is not None and k < LEAST_DEPTH:
        return False
    return m is None or n is None or k is None or m * n * k >= LEAST_WORK


# ---------------------------------------------------------------------------- tiles


def suited(found: Product, capabilities: Capabilities, tile: Tile | None = None) -> Tile | None:
    """The tile for a product: a given one, or the first candidate, made to fit its columns."""
    tiles = candidates(capabilities, found.dtype)
    chosen = tile or next(iter(tiles), None)
    if isinstance(chosen, Panels):
        return _narrowed(chosen, turns((found.column,)))
    m, n = turns(found.rows), turns((found.column,))
    if chosen is None or m is None or n is None:
        return chosen
    wanted = 2 * capabilities.compute_units
    enough = [t for t in (chosen, *tiles) if isinstance(t, Blocks) and _count(found, t) >= wanted]
    smallest = min(tiles, key=lambda t: t.tile_rows * t.tile_columns)
    return next(iter(enough), smallest)


def _count(found: Product, tile: Tile) -> int:
    batch, m, n = turns(found.batch), turns(found.rows), turns((found.column,))
    return (batch or 1) * -(-(m or 1) // tile.tile_rows) * -(-(n or 1) // tile.tile_columns)


def _narrowed(tile: Panels, columns: int | None) -> Panels:
    """Panels whose blocks are not wider than needed."""
    if columns is None or columns > tile.columns:
        return tile
    vectors = -(-columns // tile.lanes)
    width = tile.tile_columns // (vectors * tile.lanes) * vectors * tile.lanes
    return Panels(tile.rows, vectors, tile.lanes, tile.tile_rows, width, tile.depth)


def candidates(capabilities: Capabilities, dtype: DType) -> list[Tile]:
    """The tiles that a device has room for; the first is what suits its type."""
    width = dtype.bits // 8
    tiles = _panels(capabilities, dtype) if is_one_thread(capabilities) else _blocks(dtype)
    limits = (capabilities.work_group, capabilities.work_items[0])
    return [
        tile
        for tile in tiles
        if tile.local_memory(width) <= capabilities.local_memory and tile.group <= min(limits)
    ]


def is_one_thread(capabilities: Capabilities) -> bool:
    """Whether a work-group runs on one thread, so that more items in it are more loops."""
    return capabilities.type == "cpu"


def _panels(capabilities: Capabilities, dtype: DType) -> list[Tile]:
    lanes = min(16, max(2, capabilities.lanes(dtype.bits)))
    by_registers = {16: ((8, 3), (6, 4), (12, 2)), 8: ((4, 3), (6, 2))}
    blocks = by_registers.get(lanes * dtype.bits // 32, ((4, 2), (2, 4)))
    shapes = ((128, 8, 128), (128, 4, 256), (64, 4, 128), (48, 2, 64), (16, 1, 32))
    return [
        Panels(rows, vectors, lanes, _up(tile_rows, rows), vectors * lanes * wide, depth)
        for tile_rows, wide, depth in shapes
        for rows, vectors in blocks
    ]


def _up(size: int, to: int) -> int:
    return -(-size // to) * to


def _blocks(dtype: DType) -> list[Tile]:
    large = [Blocks(16, 16, 8, 4, 16), Blocks(16, 16, 8, 8, 8), Blocks(16, 16, 8, 8, 16)]
    small: list[Tile] = [Blocks(16, 16, 4, 4, 16), Blocks(8, 8, 8, 4, 8), Blocks(8, 8, 4, 4, 8)]
    return [*large, *small] if dtype.bits == 32 else [*small, *large]


# ---------------------------------------------------------------------------- code


def compile_product(found: Product, tile: Tile, capabilities: Capabilities) -> Routine:
    """The routine of a product, with a tile."""
    code = SizedCode(capabilities)
    form = Strided(found, code)
    epilogue = _epilogue(found, form, code)
    if isinstance(tile, Panels):
        rows, columns = _panel_sizes(found, tile, capabilities.compute_units)
        lines = PanelText(form, tile).lines(epilogue, code.size(rows), code.size(columns))
    else:
        rows, columns = tile.tile_rows, tile.tile_columns
        lines = BlockText(form, tile).lines(epilogue)
    text = code.text([f"  {line}" for line in lines])
    assert not code.faults, "what is affine needs no check"
    kernel = found.kernel
    return Routine(
        kernel, text, tuple(code.buffers), tuple(code.sizes),
        frozenset(store.buffer for store in kernel.stores),
        (_tiles(found, rows, columns) * tile.group,), (tile.group,), tuple(code.helpers),
    )  # fmt: skip


def _epilogue(found: Product, form: Strided, code: Code) -> Epilogue:
    """What is done with a sum, as lines of a row and lines of an element."""
    stores, totals = found.kernel.stores, set(found.totals)
    roots = tuple(formula for store in stores for formula in store.formulas)
    row = Scope(
        code, Facts(roots), {axis: form.places[axis] for axis in (*found.batch, *found.rows)}
    )
    row.prepare(part for part in walk(*roots, known=totals) if part.primitive != "number")
    element = row.inner({found.column: form.places[found.column]})
    for total in found.totals:
        element.know(total, "total")
    for store, value in [(store, element.stored(store)) for store in stores]:
        element.write(store, value)
    return Epilogue(tuple(row.lines), tuple(element.lines))


def _panel_sizes(found: Product, tile: Panels, units: int) -> tuple[Dimension, Dimension]:
    """Rows and columns of the tiles of a run: even ones, and enough for all compute units."""
    n, m = found.column.extent, product(axis.extent for axis in found.rows)
    across = derived("max", 1, _ceiling(n, tile.tile_columns))
    columns = _ceiling(_ceiling(n, across), tile.columns) * tile.columns
    batch = product(axis.extent for axis in found.batch)
    down = derived("max", 1, _ceiling(GROUPS * units, derived("max", 1, across * batch)))
    rows = _ceiling(_ceiling(m, down), tile.rows) * tile.rows
    least = min(tile.tile_rows, _up(LEAST_ROWS, tile.rows))
    return derived("min", tile.tile_rows, derived("max", least, rows)), columns


def _ceiling(size: Dimension, by: Dimension) -> Dimension:
    return floordiv(size + (by - 1), by)


def _tiles(found: Product, rows: Dimension, columns: Dimension) -> Dimension:
    """How many tiles there are."""
    m, batch = (product(axis.extent for axis in axes) for axes in (found.rows, found.batch))
    return batch * _ceiling(m, rows) * _ceiling(found.column.extent, columns)
