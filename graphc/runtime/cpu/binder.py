"""The native function that makes the words of a context ready for the sizes of a run.

Enters: the address of a form, an array of i64 that says where everything is (`FORM`). Leaves: the
words of all launches: sizes, numbers of units, grains, workspaces, and the addresses of what lies
in the context's block; and a status. Sizes may differ in every run, and Python would take a hundred
microseconds for what takes some microseconds here.

    FITS       everything is in place
    OVERFLOW   a dimension is beyond 2**62, or an intermediate of one is
    REFUSED    a check failed: sizes that must be equal are not, or an extremum of nothing is asked
    GROWS      a buffer is larger than its place in the arena
    MOVES      the block is too small; `total` says what is needed
    HEAVY      the run would be more work than `most`
"""

from __future__ import annotations

import ctypes
import pkgutil
from collections.abc import Callable

from graphc.runtime.cpu import ir, walker
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    Value,
    call_pointer,
    ceil_divide,
    declare,
    fetch,
    integer,
    loop,
    maximum,
)
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.routine import CHUNK, GRAIN, SHARE, WORKSPACE
from graphc.runtime.cpu.target import host
from graphc.runtime.memory import ALIGN
from graphc.runtime.once import once
from graphc.runtime.sizes import MOST, OPERATIONS

FITS, OVERFLOW, REFUSED, GROWS, MOVES, HEAVY = range(6)
# Tables are addresses, each followed by the number of its rows.
FORM = (
    "values", "words",
    "tape", "tapes",  # operation, result, two operands
    "moves", "moved",  # a word, the number of the dimension that it gets
    "launches", "launched",  # `LAUNCH`
    "checks", "checked",  # a launch (-1: none), two numbers
    "entries", "entered",  # the number of bytes, 1 for a result
    "entry_places", "entry_placed",  # a word, its entry
    "storages", "stored",  # the number of bytes
    "storage_places", "storage_placed",  # a word, its storage
    "capacities", "offsets", "arena",  # of storages; bytes of them all
    "base", "length",  # of the block
    "threads", "most",  # element operations of a run, about
    "starts",  # of entries within the block; -1: it has memory of its own
    "total", "workspace", "results", "parallel", "light", "used",  # what is found
)  # fmt: skip
WORD = {name: i for i, name in enumerate(FORM)}
# Its words, its record, numbers of count, work and bytes of workspace, chunks at most (0: any
# number), the address of a function that decides instead (or 0), where its sizes start
LAUNCH = ("at", "record", "count", "work", "share", "chunks", "cut", "sizes")
SMALL = 16_384  # bytes that are copied sooner than their address is found out
LIGHT = 4 * CHUNK  # element operations of a run that keeps the interpreter's lock
WORDS = (walker.COUNT, walker.GRAIN, GRAIN, SHARE, WORKSPACE)
SOURCES = ("binder.py", "emission.py")  # what decides the text of the function
CUT = ir.FunctionType(VOID, [POINTER, POINTER])


class _Binder:
    """Writes the function."""

    def __init__(self) -> None:
        self.module = ir.Module("binder")
        function, builder, [form] = declare(
            self.module, "graphc_bind", INTEGER, [("form", POINTER)], True
        )
        self.function, self.builder, self.form = function, builder, form
        names = ("cell", "shares", "parallel", "work", "cut0", "cut1", "cut2")
        slots = builder.alloca(ir.ArrayType(INTEGER, len(names)))
        slots.type = POINTER
        self.slots = {
            name: builder.gep(slots, [integer(i)], source_etype=INTEGER)
            for i, name in enumerate(names)
        }
        self.answer = self.slots["cut0"]

    def word(self, name: str) -> Value:
        """A word of the form."""
        return fetch(self.builder, self.form, integer(WORD[name]))

    def table(self, name: str) -> Value:
        """A word of the form as an address."""
        return self.builder.inttoptr(self.word(name), POINTER)

    def note(self, name: str, value: Value) -> None:
        """Write a word of the form."""
        self.put(self.form, integer(WORD[name]), value)

    def put(self, table: Value, index: Value, value: Value) -> None:
        """Write an entry of a table."""
        place = self.builder.gep(table, [index], source_etype=INTEGER)
        self.builder.store(value, place, align=8)

    def get(self, name: str) -> Value:
        """A variable of the function."""
        return self.builder.load(self.slots[name], typ=INTEGER, align=8)

    def set(self, name: str, value: Value) -> None:
        """Change it."""
        self.builder.store(value, self.slots[name], align=8)

    def row(self, table: Value, number: Value, width: int) -> list[Value]:
        """The columns of a row."""
        first = self.builder.mul(number, integer(width))
        return [
            fetch(self.builder, table, self.builder.add(first, integer(i))) for i in range(width)
        ]

    def leave(self, condition: Value, status: int) -> None:
        """Return where something is so."""
        with self.builder.if_then(condition):
            self.builder.ret(integer(status))

    def emit(self) -> str:
        """All of it."""
        self.values, self.words = self.table("values"), self.table("words")
        self.tape()
        self.checks()
        self.moves()
        self.launches()
        self.entries()
        self.storages()
        self.places()
        self.builder.ret(integer(FITS))
        return str(self.module)

    def tape(self) -> None:
        """The value of every dimension."""
        builder, tape = self.builder, self.table("tape")
        with loop(builder, integer(0), self.word("tapes")) as i:
            operation, target, left, right = self.row(tape, i, 4)
            a, b = fetch(builder, self.values, left), fetch(builder, self.values, right)
            after = builder.append_basic_block("computed")
            switch = builder.switch(operation, after)
            for number, name in enumerate(OPERATIONS):
                block = builder.append_basic_block(name)
                switch.add_case(ir.Constant(INTEGER, number), block)
                builder.position_at_end(block)
                self.put(self.values, target, self.computed(name, a, b))
                builder.branch(after)
            builder.position_at_end(after)

    def computed(self, name: str, a: Value, b: Value) -> Value:
        """The result of an operation; leaves where it is too large."""
        builder = self.builder
        match name:
            case "add" | "multiply":
                method = builder.sadd_with_overflow if name == "add" else builder.smul_with_overflow
                pair = method(a, b)
                value = builder.extract_value(pair, 0)
                beyond = builder.icmp_unsigned(
                    ">", builder.add(value, integer(MOST)), integer(2 * MOST)
                )
                self.leave(builder.or_(builder.extract_value(pair, 1), beyond), OVERFLOW)
                return value
            case "floordiv" | "mod":
                return self.divided(name, a, b)
            case "max":
                return maximum(builder, a, b)
            case "min":
                return builder.select(builder.icmp_signed("<", a, b), a, b)
        return builder.select(builder.icmp_signed("==", a, integer(1)), b, a)

    def divided(self, name: str, a: Value, b: Value) -> Value:
        """Quotient or remainder as Python has them, and 0 for a division by 0."""
        builder, zero, one = self.builder, integer(0), integer(1)
        none = builder.icmp_signed("==", b, zero)
        turned = builder.icmp_signed("==", b, integer(-1))  # the machine traps on -2**63 / -1
        by = builder.select(builder.or_(none, turned), one, b)
        rest = builder.srem(a, by)
        unlike = builder.icmp_signed("<", builder.xor(rest, by), zero)
        down = builder.and_(builder.icmp_signed("!=", rest, zero), unlike)
        if name == "mod":
            found = builder.select(down, builder.add(rest, by), rest)
        else:
            found = builder.sub(builder.sdiv(a, by), builder.zext(down, INTEGER))
            found = builder.select(turned, builder.neg(a), found)
        return builder.select(none, zero, found)

    def checks(self) -> None:
        """What sizes must be like."""
        builder, checks = self.builder, self.table("checks")
        launches = self.table("launches")
        with loop(builder, integer(0), self.word("checked")) as i:
            launch, left, right = self.row(checks, i, 3)
            a, b = fetch(builder, self.values, left), fetch(builder, self.values, right)
            demand = builder.icmp_signed("<", launch, integer(0))
            unequal = builder.and_(demand, builder.icmp_signed("!=", a, b))
            self.leave(unequal, REFUSED)
            row = builder.mul(maximum(builder, launch, integer(0)), integer(len(LAUNCH)))
            some = builder.icmp_signed("==", a, integer(0))
            with builder.if_then(builder.and_(some, builder.not_(demand))):
                place = builder.add(row, integer(LAUNCH.index("count")))
                count = fetch(builder, self.values, fetch(builder, launches, place))
                self.leave(builder.icmp_signed(">", count, integer(0)), REFUSED)

    def moves(self) -> None:
        """The sizes in all records."""
        builder, moves = self.builder, self.table("moves")
        with loop(builder, integer(0), self.word("moved")) as i:
            place, number = self.row(moves, i, 2)
            self.put(self.words, place, fetch(builder, self.values, number))

    def launches(self) -> None:
        """Numbers of units, grains, and the workspace that each wants."""
        builder, table = self.builder, self.table("launches")
        for name in ("shares", "parallel", "work"):
            self.set(name, integer(0))
        with loop(builder, integer(0), self.word("launched")) as i:
            at, record, *numbers, chunks, cut, sizes = self.row(table, i, len(LAUNCH))
            count, work, share = (fetch(builder, self.values, n) for n in numbers)
            each = maximum(builder, work, integer(1))
            grain = ceil_divide(builder, integer(CHUNK), each)
            most = maximum(builder, chunks, integer(1))
            least = builder.select(
                builder.icmp_signed(">", chunks, integer(0)),
                ceil_divide(builder, count, most), integer(0),
            )  # fmt: skip
            self.set("cut0", count)
            self.set("cut1", maximum(builder, maximum(builder, grain, least), integer(1)))
            self.set("cut2", share)
            with builder.if_then(builder.icmp_signed("!=", cut, integer(0))):
                self.set("cut1", self.word("threads"))
                first = builder.gep(self.words, [sizes], source_etype=INTEGER)
                call_pointer(builder, builder.inttoptr(cut, POINTER), CUT, [first, self.answer])
            self.launch(at, record)
            whole = builder.smul_with_overflow(count, each)
            product = builder.select(
                builder.extract_value(whole, 1), integer(MOST), builder.extract_value(whole, 0)
            )
            sum_ = builder.add(self.get("work"), product)
            self.set("work", builder.select(
                builder.icmp_unsigned(">", sum_, integer(MOST)), integer(MOST), sum_
            ))  # fmt: skip
        self.leave(builder.icmp_signed(">", self.get("work"), self.word("most")), HEAVY)

    def launch(self, at: Value, record: Value) -> None:
        """The words of a launch, as it has been cut."""
        builder = self.builder
        count, grain = self.get("cut0"), maximum(builder, self.get("cut1"), integer(1))
        share = self.rounded(self.get("cut2"))
        self.put(self.words, builder.add(at, integer(walker.COUNT)), count)
        for place in (builder.add(at, integer(walker.GRAIN)), builder.add(record, integer(GRAIN))):
            self.put(self.words, place, grain)
        self.put(self.words, builder.add(record, integer(SHARE)), share)
        chunks = ceil_divide(builder, maximum(builder, count, integer(0)), grain)
        space = builder.mul(share, chunks)
        self.set("shares", maximum(builder, self.get("shares"), space))
        several = builder.icmp_signed(">", count, grain)
        self.set("parallel", builder.or_(self.get("parallel"), builder.zext(several, INTEGER)))

    def rounded(self, value: Value) -> Value:
        """Bytes as whole lines."""
        up = self.builder.add(value, integer(ALIGN - 1))
        return self.builder.and_(up, integer(-ALIGN))

    def entries(self) -> None:
        """Where small feeds and results lie, at the start of the block."""
        builder, entries, starts = self.builder, self.table("entries"), self.table("starts")
        self.set("cell", integer(0))
        self.note("results", integer(0))
        with loop(builder, integer(0), self.word("entered")) as i:
            number, result = self.row(entries, i, 2)
            size = self.rounded(fetch(builder, self.values, number))
            small = builder.icmp_signed("<=", size, integer(SMALL))
            start = self.get("cell")
            self.put(starts, i, builder.select(small, start, integer(-1)))
            self.set("cell", builder.add(start, builder.select(small, size, integer(0))))
            known = builder.add(self.word("results"), builder.mul(size, result))
            self.note("results", known)

    def storages(self) -> None:
        """Whether the arena holds everything, and all is in the block."""
        builder, storages = self.builder, self.table("storages")
        capacities = self.table("capacities")
        self.note("used", integer(0))
        with loop(builder, integer(0), self.word("stored")) as i:
            size = self.rounded(fetch(builder, self.values, fetch(builder, storages, i)))
            self.leave(builder.icmp_signed(">", size, fetch(builder, capacities, i)), GROWS)
            self.note("used", builder.add(self.word("used"), size))
        total = builder.add(builder.add(self.get("cell"), self.word("arena")), self.get("shares"))
        self.note("total", total)
        self.note("workspace", self.get("shares"))
        self.note("parallel", self.get("parallel"))
        little = builder.icmp_signed("<=", self.get("work"), integer(LIGHT))
        single = builder.icmp_signed("==", self.get("parallel"), integer(0))
        self.note("light", builder.zext(builder.and_(little, single), INTEGER))
        self.leave(builder.icmp_signed(">", total, self.word("length")), MOVES)

    def places(self) -> None:
        """Addresses of entries, storages and the workspace."""
        builder, base = self.builder, self.word("base")
        table, starts = self.table("entry_places"), self.table("starts")
        with loop(builder, integer(0), self.word("entry_placed")) as i:
            place, entry = self.row(table, i, 2)
            start = fetch(builder, starts, entry)
            with builder.if_then(builder.icmp_signed(">=", start, integer(0))):
                self.put(self.words, place, builder.add(base, start))
        arena = builder.add(base, self.get("cell"))
        table, offsets = self.table("storage_places"), self.table("offsets")
        with loop(builder, integer(0), self.word("storage_placed")) as i:
            place, storage = self.row(table, i, 2)
            self.put(self.words, place, builder.add(arena, fetch(builder, offsets, storage)))
        workspace = builder.add(arena, self.word("arena"))
        table = self.table("launches")
        with loop(builder, integer(0), self.word("launched")) as i:
            record = self.row(table, i, len(LAUNCH))[LAUNCH.index("record")]
            share = fetch(builder, self.words, builder.add(record, integer(SHARE)))
            some = builder.icmp_signed(">", share, integer(0))
            where = builder.select(some, workspace, integer(0))
            self.put(self.words, builder.add(record, integer(WORKSPACE)), where)


def emit() -> str:
    """The text of the function."""
    return _Binder().emit()


@once
def binder() -> Callable[[int], int]:
    """`graphc_bind` of this process: takes the address of a form, gives the status."""
    texts = [(pkgutil.get_data(__package__, name) or b"").decode() for name in SOURCES]
    source = "\n".join([*texts, repr((ALIGN, CHUNK, MOST, OPERATIONS, WORDS))])
    library = compile_module(emit, host(), "lean", source=source)
    found = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(library.address("graphc_bind"))
    found.library = library  # type: ignore[attr-defined]  # it keeps the code loaded
    return found
