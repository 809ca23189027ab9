"""Loops over numbers as one function: states stay in registers, a step is its arithmetic.

Enters: a loop of the plan whose states, rows and values are all single elements. Leaves: its
routine; None where something in it is an array, or a call of the host. Other loops run launches
(`control_code.py`); for some numbers that would cost more than what a step computes.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.control import ENDLESS
from graphc.dims import product
from graphc.kernel import Buffer, Kernel
from graphc.plan import Loop, Rows
from graphc.runtime.cpu.analysis import Facts
from graphc.runtime.cpu.elements import kept, loaded, memory
from graphc.runtime.cpu.emission import INTEGER, Value, clear, integer
from graphc.runtime.cpu.formula import Formulas
from graphc.runtime.cpu.record import Record
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.cpu.target import Target
from graphc.runtime.memory import shape_of
from graphc.runtime.whole_loops import Whole, whole
from graphc.scalar import walk

LONG = 2**32  # steps: how many a loop without a length is taken for
UNROLLED = 8  # steps as one, where LLVM can tell how many there will be


def compile_scalar_loop(loop: Loop, target: Target) -> Routine | None:
    """The routine of a loop."""
    found = whole(loop)
    if found is None or found.kernel.axes:
        return None
    if any(part.primitive == "reduce" for part in found.kernel.formulas()):
        return None
    named = Kernel("loop", (), (), found.kernel.lines)
    return _ScalarLoop(found, target).routine(named)


class _ScalarLoop:
    """The emission of one loop."""

    def __init__(self, found: Whole, target: Target) -> None:
        self.whole, self.loop, self.target = found, found.loop, target
        self.stores, self.rows, loop = found.kernel.stores, found.rows, found.loop
        formulas = [f for store in self.stores for f in store.formulas]
        self.facts = Facts(formulas, target, own=found.registers, order=[found.step])
        self.reads = [part for part in walk(*formulas) if part.primitive == "read"]
        self.captured = found.reads()
        reads, writes = loop.outer()
        self.record = Record(list(dict.fromkeys([*reads, *self.captured, *writes])))
        self.writes = frozenset(writes)
        self.builder = self.record.builder

    def routine(self, kernel: Kernel) -> Routine:
        """Emit the code."""
        builder, loop = self.builder, self.loop
        states = [self.element(state.initial) for state in loop.states]
        read = {part.value[0] for part in self.reads}
        numbers = [b for b in self.captured if b.type.shape == () and b in read]
        self.known = {buffer: self.element(buffer) for buffer in numbers}
        if loop.count is not None:
            self.clear()
        for number, rows in loop.histories:
            self.write(rows, integer(0), states[number], first=True)
        before = builder.block
        body, done = builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.cbranch(self.goes_on(integer(0), states), body, done)
        builder.position_at_end(body)
        count, carried = builder.phi(INTEGER), [builder.phi(value.type) for value in states]
        for phi, value in zip((count, *carried), (integer(0), *states), strict=True):
            phi.add_incoming(value, before)
        after = self.step(count, carried)
        following = builder.add(count, integer(1))
        block = builder.block
        for phi, value in zip((count, *carried), (following, *after), strict=True):
            phi.add_incoming(value, block)
        unrolled = builder.module.unroll(UNROLLED)
        builder.cbranch(self.goes_on(following, after), body, done, unrolled)
        builder.position_at_end(done)
        found = [builder.phi(value.type) for value in (following, *after)]
        for phi, *values in zip(found, (integer(0), *states), (following, *after), strict=True):
            phi.add_incoming(values[0], before)
            phi.add_incoming(values[1], block)
        self.finish(found[0], found[1:])
        code, length = self.record.finish(), loop.length
        steps = min(length, LONG) if isinstance(length, int) else length
        work = steps * (1 + len(list(walk(*(f for s in self.stores for f in s.formulas)))))
        return Routine(
            kernel, code, self.record.buffers, tuple(self.record.sizes), self.writes, 1, work,
            tuple(self.record.faults), effort="full",
        )  # fmt: skip

    def goes_on(self, count: Value, states: Sequence[Value]) -> Value:
        """Whether there is another step: tested at the end of each, as LLVM has loops best."""
        loop, builder = self.loop, self.builder
        if loop.count is None:
            return builder.icmp_signed("<", count, self.record.size(loop.length))
        if loop.length == ENDLESS:
            return states[0]
        short = builder.icmp_signed("<", count, self.record.size(loop.length))
        return builder.and_(short, states[0])

    def step(self, count: Value, carried: Sequence[Value]) -> list[Value]:
        """One step; gives the next states."""
        builder, loop = self.builder, self.loop
        index = self.place(loop.index, count)
        known: dict[Buffer, Value] = {**self.known, loop.index.row: index}
        known |= {s.before: value for s, value in zip(loop.states, carried, strict=True)}
        values = {part: known[part.value[0]] for part in self.reads if part.value[0] in known}
        point = {self.whole.step: count}
        scope = Formulas(builder, self.facts, self.record, point, values)
        made = {store.buffer: scope.stored(store) for store in self.stores}
        for rows in self.rows:
            self.write(rows, count, made[rows.row])
        return [made[state.after] for state in loop.states]

    def place(self, rows: Rows, count: Value) -> Value:
        """The row of a step; of the index, its number."""
        moved = self.builder.mul(count, integer(rows.step))
        return self.builder.add(self.record.size(rows.start), moved)

    def element(self, buffer: Buffer, place: Value | None = None) -> Value:
        """An element of a buffer, its first one if no place is given."""
        builder, dtype = self.builder, buffer.type.dtype
        at = self.record.pointer(buffer)
        if place is not None:
            at = builder.gep(at, [place], source_etype=memory(dtype))
        return loaded(builder, builder.load(at, typ=memory(dtype), align=1), dtype)

    def write(self, rows: Rows, count: Value, value: Value, first: bool = False) -> None:
        """The row of a step; or the first of a history."""
        builder, dtype = self.builder, rows.of.type.dtype
        place = integer(0) if first else self.place(rows, count)
        at = builder.gep(self.record.pointer(rows.of), [place], source_etype=memory(dtype))
        builder.store(kept(builder, value, dtype), at, align=1)

    def finish(self, count: Value, carried: Sequence[Value]) -> None:
        """The last states; how many steps there were."""
        builder, loop = self.builder, self.loop
        for state, value in zip(loop.states, carried, strict=True):
            dtype = state.last.type.dtype
            place = self.record.pointer(state.last)
            builder.store(kept(builder, value, dtype), place, align=1)
        if loop.count is not None:
            builder.store(count, self.record.pointer(loop.count), align=1)

    def clear(self) -> None:
        """Make all rows zero: steps may not come to write them."""
        for rows in self.rows:
            size = self.record.size(product(shape_of(rows.of)) * rows.of.type.dtype.itemsize)
            clear(self.builder, self.record.pointer(rows.of), size)
