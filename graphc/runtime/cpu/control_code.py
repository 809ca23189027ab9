"""The native functions that run loops and branches: launches that run other launches.

Enters: a record whose words say which launches are inside and how addresses move (`LOOP`, `BRANCH`
and the tables behind them, which `control.py` writes). Buffers are places in the context's table of
addresses, so a step of a loop costs a few additions there, and no copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from graphc.runtime.cpu import ir, walker
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    clear,
    copy,
    declare,
    fetch,
    integer,
    loop,
)
from graphc.runtime.cpu.jit import Library, compile_module
from graphc.runtime.cpu.routine import FAULT, FIRST, TABLE
from graphc.runtime.cpu.target import host
from graphc.runtime.once import once

# The words of a loop behind those of every record: launches inside, steps at most; the places of
# the index and of its number, with the first number and what each step adds; the place of the count
# of steps (-1: not guarded); rows of the tables behind.
LOOP = ("begin", "end", "length", "index", "number", "first", "by", "count",
        "moves", "histories", "states", "zeros")  # fmt: skip
MOVE = 4  # row, the whole, bytes to the first row, bytes a step
HISTORY = 3  # initial, the whole, bytes
STATE = 6  # before, after, initial, last, pair (-1: none), bytes
ZERO = 2  # the whole, bytes
# Of a branch: launches of the first side, then the end of the second; the place of the condition.
# Behind it for each side what is zero if its sizes are as they must be.
BRANCH = ("begin", "middle", "end", "condition", "first", "second")
BYTE = ir.IntType(8)


class Controls(NamedTuple):
    """The addresses of the functions, and what keeps their code loaded."""

    loop: int
    branch: int
    library: Library


class _Writer:
    """What both functions are written with."""

    def __init__(self, module: ir.Module, name: str) -> None:
        arguments = [("record", POINTER), ("begin", INTEGER), ("end", INTEGER)]
        _, self.builder, (self.record, _, _) = declare(module, name, VOID, arguments, True)
        kind = ir.FunctionType(INTEGER, [POINTER, INTEGER, INTEGER])
        found = module.globals.get("graphc_steps")
        self.steps = found or ir.Function(module, kind, "graphc_steps")
        self.module = module
        self.table = self.pointer(self.record, integer(TABLE))
        self.cell = self.pointer(self.record, integer(FAULT))

    def pointer(self, table: Value, index: Value) -> Value:
        """An entry of a table of addresses."""
        return self.builder.inttoptr(fetch(self.builder, table, index), POINTER)

    def word(self, index: int | Value) -> Value:
        """A word of the record behind those that every record has."""
        place = integer(FIRST + index) if isinstance(index, int) else index
        return fetch(self.builder, self.record, place)

    def put(self, table: Value, index: Value, value: Value) -> None:
        """Write an entry of a table."""
        place = self.builder.gep(table, [index], source_etype=INTEGER)
        self.builder.store(value, place, align=8)

    def run(self, begin: Value, end: Value) -> None:
        """Run launches; where one finds a fault, note which, and return."""
        builder = self.builder
        number = builder.call(self.steps, [self.cell, begin, end])
        with builder.if_then(builder.icmp_signed(">=", number, integer(0))):
            before = fetch(builder, self.cell, integer(walker.FOUND))
            with builder.if_then(builder.icmp_signed("==", before, integer(0))):
                self.put(self.cell, integer(walker.FOUND), builder.add(number, integer(1)))
            builder.ret_void()


class _Loop(_Writer):
    """Writes `graphc_loop`."""

    def __init__(self, module: ir.Module) -> None:
        super().__init__(module, "graphc_loop")
        self.head = {name: self.word(i) for i, name in enumerate(LOOP)}
        at = integer(FIRST + len(LOOP))
        self.starts: dict[str, Value] = {}
        widths = {"moves": MOVE, "histories": HISTORY, "states": STATE, "zeros": ZERO}
        for name, width in widths.items():
            self.starts[name] = at
            at = self.builder.add(at, self.builder.mul(self.head[name], integer(width)))
        self.widths = widths

    @contextmanager
    def each(self, name: str) -> Iterator[list[Value]]:
        """The words of each row of a table."""
        builder, width = self.builder, self.widths[name]
        with loop(builder, integer(0), self.head[name]) as i:
            first = builder.add(self.starts[name], builder.mul(i, integer(width)))
            yield [self.word(builder.add(first, integer(k))) for k in range(width)]

    def get(self, place: Value) -> Value:
        """An address, as a number."""
        return fetch(self.builder, self.table, place)

    def emit(self) -> None:
        """All of it."""
        builder, head = self.builder, self.head
        self.begin()
        number = self.pointer(self.table, head["number"])
        self.put(self.table, head["index"], self.get(head["number"]))
        before = builder.block
        test, body = builder.append_basic_block("test"), builder.append_basic_block("step")
        done = builder.append_basic_block("done")
        builder.branch(test)
        builder.position_at_end(test)
        count, index = builder.phi(INTEGER), builder.phi(INTEGER)
        count.add_incoming(integer(0), before)
        index.add_incoming(head["first"], before)
        guard = builder.append_basic_block("guard")
        builder.cbranch(builder.icmp_signed("<", count, head["length"]), guard, done)
        builder.position_at_end(guard)
        self.go_on(body, done)
        builder.position_at_end(body)
        builder.store(index, number, align=8)
        self.run(head["begin"], head["end"])
        self.advance()
        count.add_incoming(builder.add(count, integer(1)), builder.block)
        index.add_incoming(builder.add(index, head["by"]), builder.block)
        builder.branch(test)
        builder.position_at_end(done)
        self.finish(count)

    def begin(self) -> None:
        """The first addresses; zeros and initial rows in the stacks."""
        builder = self.builder
        with self.each("zeros") as (whole, count):
            clear(builder, self.pointer(self.table, whole), count)
        with self.each("histories") as (initial, whole, count):
            target, source = self.pointer(self.table, whole), self.pointer(self.table, initial)
            copy(builder, target, source, count)
        with self.each("moves") as (row, whole, start, _):
            self.put(self.table, row, builder.add(self.get(whole), start))
        with self.each("states") as (before, after, initial, _, pair, _):
            self.put(self.table, before, self.get(initial))
            with builder.if_then(builder.icmp_signed(">=", pair, integer(0))):
                self.put(self.table, after, self.get(pair))

    def go_on(self, body: Value, done: Value) -> None:
        """Leave where the first state of a guarded loop is false."""
        builder = self.builder
        asked = builder.append_basic_block("asked")
        guarded = builder.icmp_signed(">=", self.head["count"], integer(0))
        builder.cbranch(guarded, asked, body)
        builder.position_at_end(asked)
        go = builder.load(
            self.pointer(self.table, self.word(self.starts["states"])), typ=BYTE, align=1
        )
        builder.cbranch(builder.icmp_signed("!=", go, ir.Constant(BYTE, 0)), body, done)

    def advance(self) -> None:
        """What was written becomes what is read; rows move on."""
        builder = self.builder
        with self.each("states") as (before, after, _, _, pair, count):
            now = self.get(after)
            self.put(self.table, before, now)
            with builder.if_then(builder.icmp_signed(">=", pair, integer(0))):
                base = self.get(pair)
                both = builder.add(builder.add(base, base), count)
                self.put(self.table, after, builder.sub(both, now))
        with self.each("moves") as (row, _, _, step):
            self.put(self.table, row, builder.add(self.get(row), step))

    def finish(self, count: Value) -> None:
        """The last states, and how many steps there were."""
        builder = self.builder
        with self.each("states") as (before, _, _, last, _, size):
            target, source = self.pointer(self.table, last), self.pointer(self.table, before)
            copy(builder, target, source, size)
        guarded = builder.icmp_signed(">=", self.head["count"], integer(0))
        with builder.if_then(guarded):
            builder.store(count, self.pointer(self.table, self.head["count"]), align=8)
        builder.ret_void()


def _emit_branch(module: ir.Module) -> None:
    writer = _Writer(module, "graphc_branch")
    builder = writer.builder
    begin, middle, end, condition, *wrong = (writer.word(i) for i in range(len(BRANCH)))
    taken = builder.load(writer.pointer(writer.table, condition), typ=BYTE, align=1)
    first = builder.icmp_signed("!=", taken, ir.Constant(BYTE, 0))
    refused = builder.icmp_signed("!=", builder.select(first, *wrong), integer(0))
    with builder.if_then(refused):
        writer.put(writer.cell, integer(walker.FAULT), integer(1))
        writer.put(writer.cell, integer(walker.INDEX), builder.zext(builder.not_(first), INTEGER))
        builder.ret_void()
    start = builder.select(first, begin, middle)
    stop = builder.select(first, middle, end)
    writer.run(start, stop)
    builder.ret_void()


def emit() -> str:
    """The text of both functions."""
    module = ir.Module("control")
    _Loop(module).emit()
    _emit_branch(module)
    return str(module)


@once
def controls() -> Controls:
    """Those of this process."""
    symbols = {"graphc_steps": walker.walker().steps}
    library = compile_module(emit(), host(), "lean", symbols=symbols)
    return Controls(library.address("graphc_loop"), library.address("graphc_branch"), library)
