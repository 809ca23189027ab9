"""The record of a routine as its code reads it: buffers, sizes, where faults go.

Enters: the buffers that a routine touches. Leaves: a function with an entry block of loads that
dominate everything, so that whoever emits code may ask for a size or a buffer at any point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from graphc.dims import Dim, Dimension
from graphc.kernel import Buffer
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import INTEGER, POINTER, VOID, Value, declare, fetch, integer
from graphc.runtime.cpu.routine import FAULT, FIRST, GRAIN, NAME, SHARE, TABLE, WORKSPACE
from graphc.runtime.faults import Fault

NOWHERE = 2048  # bytes that may be read in place of what is not there: the widest vector


class Surroundings(Protocol):
    """What emitted formulas ask for: whoever emits them elsewhere than in a routine brings it."""

    def pointer(self, buffer: Buffer) -> Value:
        """The address of a buffer's first element, valid everywhere in the function."""

    def size(self, dimension: Dimension) -> Value:
        """The value of a size as an i64, valid everywhere in the function."""

    def nowhere(self) -> Value:
        """The address of `NOWHERE` zero bytes, which may be read instead of a missing element."""

    def fail(self, builder: ir.IRBuilder, fault: Fault, index: Value) -> None:
        """Note a fault at the builder, which stands in a block of its own, and leave."""


class Frame:
    """A function that has the record, its builder, and what is loaded at its start."""

    def __init__(
        self, module: ir.Module, function: Any, entry: ir.IRBuilder, record: Value,
        buffers: Sequence[Buffer], sizes: Sequence[Dimension] = (),
    ) -> None:  # fmt: skip
        self.module, self.function = module, function
        self._loads, self._record = entry, record
        self._start = function.append_basic_block("start")
        self.builder = ir.IRBuilder(self._start)
        self.buffers = tuple(buffers)
        self.sizes: list[Dimension] = list(sizes)
        self.faults: list[Fault] = []
        self._pointers: dict[Buffer, Value] = {}
        self._sizes: dict[Dim, Value] = {}
        self._nowhere: Value | None = None
        self._table: Value | None = None

    @property
    def _entry(self) -> ir.IRBuilder:
        """The end of the entry block, where others may have put things since."""
        self._loads.position_at_end(self._loads.block)
        return self._loads

    def _word(self, number: int) -> Value:
        return fetch(self._entry, self._record, integer(number))

    def _address(self, number: int) -> Value:
        place = self._entry.gep(self._record, [integer(number)], source_etype=INTEGER)
        return self._entry.load(place, typ=POINTER, align=8)

    def pointer(self, buffer: Buffer) -> Value:
        """The address of a buffer."""
        if buffer not in self._pointers:
            if self._table is None:
                self._table = self._address(TABLE)
            slot = self._word(FIRST + self.buffers.index(buffer))
            place = self._entry.gep(self._table, [slot], source_etype=POINTER)
            self._pointers[buffer] = self._entry.load(place, typ=POINTER, align=8)
        return self._pointers[buffer]

    def size(self, dimension: Dimension) -> Value:
        """The value of a size: a constant, or a word of the record."""
        if not isinstance(dimension, Dim):
            return integer(dimension)
        if dimension not in self._sizes:
            if dimension not in self.sizes:
                self.sizes.append(dimension)
            word = FIRST + len(self.buffers) + self.sizes.index(dimension)
            self._sizes[dimension] = self._word(word)
        return self._sizes[dimension]

    def nowhere(self) -> Value:
        """Zeros to read instead of what is not there."""
        if self._nowhere is None:
            kind = ir.ArrayType(ir.IntType(8), NOWHERE)
            zeros = ir.GlobalVariable(self.module, kind, "nowhere")
            zeros.initializer = ir.Constant(kind, None)
            zeros.global_constant, zeros.linkage = True, "internal"
            self._nowhere = zeros
        return self._nowhere

    def scratch(self, bytes_: int) -> Value:
        """Memory of the function's own, of a fixed size."""
        place = self._entry.alloca(ir.ArrayType(ir.IntType(8), bytes_))
        place.align = 64
        start = self._entry.gep(place, [integer(0)], source_etype=ir.IntType(8))
        start.type = POINTER  # llvmlite would have it of what it points to
        return start

    def fail(self, builder: ir.IRBuilder, fault: Fault, index: Value) -> None:
        """Write the first fault to its cell, and return from the routine."""
        if fault not in self.faults:
            self.faults.append(fault)
        cell = self._fault_cell()
        clean = builder.icmp_signed("==", fetch(builder, cell, integer(0)), integer(0))
        with builder.if_then(clean):
            number = integer(self.faults.index(fault) + 1)
            builder.store(number, cell, align=8)
            place = builder.gep(cell, [integer(1)], source_etype=INTEGER)
            builder.store(index, place, align=8)
        builder.ret_void()

    def _fault_cell(self) -> Value:
        return self._address(FAULT)

    def end_function(self) -> None:
        """Return, and let the entry go on to the start."""
        self.builder.ret_void()
        self._entry.branch(self._start)


class Record(Frame):
    """The function of a routine."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        module = ir.Module("routine")
        function, entry, arguments = declare(
            module, NAME, VOID, [("record", POINTER), ("begin", INTEGER), ("end", INTEGER)], True
        )
        record, self.begin, self.end = arguments
        super().__init__(module, function, entry, record, buffers)

    def workspace(self) -> Value:
        """The part of the workspace that the chunk of `begin` owns."""
        entry = self._entry
        chunk = entry.udiv(self.begin, self._word(GRAIN))
        offset = entry.mul(chunk, self._word(SHARE))
        return entry.gep(self._address(WORKSPACE), [offset], source_etype=ir.IntType(8))

    def finish(self) -> str:
        """End the function; gives the text of the module."""
        self.end_function()
        return str(self.module)
