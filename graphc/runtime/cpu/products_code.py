"""The code of products: a call of the contraction driver, and what is made of its sums.

Enters: a `Product`. Leaves: its `Routine`. The driver is compiled once for each dtype; the code
here reads sizes, strides and addresses from the record and hands them over. A product that is only
stored needs nothing else, so all of a dtype have one text. Any other brings a function of its own,
which the driver calls for every finished tile: it walks over the tile's rows and vectors, and
stores what the kernel's formulas make of them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from graphc.contractions import Product
from graphc.dims import Dimension
from graphc.dims import product as product_of
from graphc.dtypes import DType
from graphc.kernel import Axis, Buffer
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.contraction import AXES, NAMES, PLAIN
from graphc.runtime.cpu.driver_library import contraction_library, tile_shape
from graphc.runtime.cpu.emission import INTEGER, POINTER, VOID, Value, advance, declare, integer
from graphc.runtime.cpu.products_store import TileStore
from graphc.runtime.cpu.routine import FIRST, GRAIN, NAME, SHARE, TABLE, WORKSPACE, Routine
from graphc.runtime.cpu.target import Target
from graphc.runtime.faults import Fault

STARTS = ("a_first", "b_first")


def sizes_of(product: Product) -> dict[str, Dimension]:
    """What the driver takes, by name in its order; then where A and B start."""
    values: dict[str, Dimension] = dict.fromkeys(NAMES, 0)
    column = (product.column,)
    for kind, axes in (("batch", product.batch), ("m", product.rows), ("k", product.sums)):
        for i in range(AXES):
            values[f"{kind}{i}"] = axes[i].extent if i < len(axes) else 1
    values["n"] = product.column.extent
    for prefix, operand, kinds in (
        ("a_", product.a, (("batch", product.batch), ("m", product.rows), ("k", product.sums))),
        ("b_", product.b, (("batch", product.batch), ("k", product.sums), ("n", column))),
    ):
        values |= _steps(prefix, operand.place.steps, kinds)
    return values | {"a_first": product.a.place.constant, "b_first": product.b.place.constant}


def plain_sizes(product: Product) -> dict[str, Dimension]:
    """How the sums of a plain product are stored: strides, and where C starts."""
    kinds = (("batch", product.batch), ("m", product.rows), ("n", (product.column,)))
    values: dict[str, Dimension] = dict.fromkeys(PLAIN, 0)
    return values | _steps("c_", product.c.steps, kinds) | {"c_first": product.c.constant}


def _steps(
    prefix: str, steps: Mapping[Axis, Dimension], kinds: Sequence[tuple[str, Sequence[Axis]]]
) -> dict[str, Dimension]:
    """Strides by name."""
    return {
        f"{prefix}{kind}{i if kind != 'n' else ''}": steps.get(axis, 0)
        for kind, axes in kinds
        for i, axis in enumerate(axes)
    }


# ---------------------------------------------------------------------------- the routine


def word(builder: ir.IRBuilder, record: Value, number: int) -> Value:
    """A word of the record."""
    place = builder.gep(record, [integer(number)], source_etype=INTEGER)
    return builder.load(place, typ=INTEGER, align=8)


def address(builder: ir.IRBuilder, record: Value, number: int) -> Value:
    """Where one of the routine's buffers lies."""
    table = builder.inttoptr(word(builder, record, TABLE), POINTER)
    place = builder.gep(table, [word(builder, record, FIRST + number)], source_etype=POINTER)
    return builder.load(place, typ=POINTER, align=8)


def scratch(builder: ir.IRBuilder, count: int) -> Value:
    """Words on the stack."""
    place = builder.alloca(ir.ArrayType(INTEGER, count))
    place.align, place.type = 8, POINTER
    return place


class Driver(NamedTuple):
    """The compiled contraction driver of one dtype."""

    symbols: Mapping[str, int]
    shape: tuple[int, int]  # columns and rows of a tile
    cut: int  # the address of what decides a launch, of the driver's sizes
    keeps: tuple[Any, ...] = ()


class Caller:
    """Writes the function that calls the driver."""

    def __init__(
        self, module: ir.Module, driver: Driver, size: int, names: Sequence[str], buffers: int
    ) -> None:
        self.module, self.driver, self.size = module, driver, size
        self.first = FIRST + buffers  # where the sizes start
        self.places = {name: self.first + i for i, name in enumerate(names)}

    def emit(self, store: Any) -> None:
        """The routine; `store` is a function of this module, or None: the driver's plain one."""
        is_plain = store is None
        if is_plain:
            kinds = [POINTER, POINTER, *[INTEGER] * 5]
            store = ir.Function(self.module, ir.FunctionType(VOID, kinds), "store_plain")
        labels = [("record", POINTER), ("begin", INTEGER), ("end", INTEGER)]
        _, builder, (record, begin, end) = declare(self.module, NAME, VOID, labels, True)
        sizes = builder.gep(record, [integer(self.first)], source_etype=INTEGER)
        operands = scratch(builder, 2)
        for i, name in enumerate(STARTS):
            start = self._start(builder, record, i, name)
            builder.store(start, builder.gep(operands, [integer(i)], source_etype=POINTER), align=8)
        closure = self._plain(builder, record, sizes) if is_plain else record
        contract = ir.Function(
            self.module,
            ir.FunctionType(VOID, [POINTER, POINTER, POINTER, INTEGER, INTEGER, POINTER, POINTER]),
            "contract",
        )
        space = self._workspace(builder, record, begin)
        builder.call(contract, [sizes, operands, space, begin, end, store, closure])
        builder.ret_void()

    def _start(self, builder: ir.IRBuilder, record: Value, buffer: int, name: str) -> Value:
        """Where an operand's first element lies."""
        first = builder.mul(word(builder, record, self.places[name]), integer(self.size))
        return advance(builder, address(builder, record, buffer), first)

    def _workspace(self, builder: ir.IRBuilder, record: Value, begin: Value) -> Value:
        """The workspace of the chunk that starts at `begin`."""
        chunk = builder.udiv(begin, word(builder, record, GRAIN))
        offset = builder.mul(chunk, word(builder, record, SHARE))
        return builder.inttoptr(builder.add(word(builder, record, WORKSPACE), offset), POINTER)

    def _plain(self, builder: ir.IRBuilder, record: Value, sizes: Value) -> Value:
        """The closure of a plain product: strides, the address of C, that of the sizes."""
        closure = scratch(builder, len(PLAIN) + 2)
        words = [word(builder, record, self.places[name]) for name in PLAIN]
        target = self._start(builder, record, 2, "c_first")
        words += [builder.ptrtoint(target, INTEGER), builder.ptrtoint(sizes, INTEGER)]
        for i, value in enumerate(words):
            place = builder.gep(closure, [integer(i)], source_etype=INTEGER)
            builder.store(value, place, align=8)
        return closure


# ---------------------------------------------------------------------------- all of it


@functools.cache
def driver_of(dtype: DType, target: Target) -> Driver:
    """The driver of a dtype, compiled once."""
    library = contraction_library(dtype.name, target)
    symbols = {name: library.address(name) for name in ("contract", "store_plain")}
    return Driver(symbols, tile_shape(dtype.name, target), library.address("cut"), (library,))


def compile_product(product: Product, target: Target) -> Routine:
    """The routine of a product."""
    driver = driver_of(product.dtype, target)
    named = sizes_of(product)
    if product.is_plain:
        named |= plain_sizes(product)
    buffers, sizes = _buffers(product), tuple(named.values())
    module = ir.Module("product")
    store = None
    faults: Sequence[Fault] = ()
    if not product.is_plain:
        tile = TileStore(module, product, target, driver.shape, buffers, sizes)
        store = tile.emit()
        sizes, faults = tuple(tile.frame.sizes), tile.frame.faults
    Caller(module, driver, product.dtype.itemsize, list(named), len(buffers)).emit(store)
    used = ("contract", "store_plain") if store is None else ("contract",)
    return Routine(
        product.kernel, str(module), buffers, sizes,
        writes=frozenset(each.buffer for each in product.kernel.stores),
        count=product_of(axis.extent for axis in product.kernel.axes),
        work=product_of(axis.extent for axis in product.sums),
        faults=tuple(faults),
        symbols={name: driver.symbols[name] for name in used},
        keeps=driver.keeps,
        cut=driver.cut,
    )  # fmt: skip


def _buffers(product: Product) -> tuple[Buffer, ...]:
    """A and B, then C of a plain product, or all that the formulas read and the stores write."""
    kernel = product.kernel
    read = () if product.is_plain else kernel.reads()
    others = dict.fromkeys((*read, *(store.buffer for store in kernel.stores)))
    operands = product.a.buffer, product.b.buffer
    return (*operands, *(buffer for buffer in others if buffer not in operands))
