"""What of a program is the same for all sizes: its launches, the words of a context, its memory.

Enters: a plan whose kernels have become linked routines. Leaves: a `Recipe`: where in a context's
words each thing stands, which buffers share storage, and every dimension that a run must know.

The words of a context are one array of i64: what the walker begins with (`walker.py`), the buffer
table, the launches, and the routines' records. Memory of a context is one block: small feeds,
variables and results (copied in and out, which costs less than to find out an address), then the
arena of all intermediate buffers, then the workspace.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphc.dims import Symbol, product
from graphc.dtypes import Array
from graphc.graph import Node
from graphc.kernel import Buffer
from graphc.plan import Host, Plan
from graphc.runtime.cpu import walker
from graphc.runtime.cpu.binder import FORM, LAUNCH, WORD
from graphc.runtime.cpu.control_code import controls
from graphc.runtime.cpu.landing import landing, landings, record_words
from graphc.runtime.cpu.parts import Leave, Native, Part, touched, use
from graphc.runtime.cpu.routine import FAULT, TABLE, Space
from graphc.runtime.memory import shape_of, storages
from graphc.runtime.sizes import MOST, Dimensions

TABLE_AT = walker.HEADER + 2  # the buffer table; where it starts a line of 64 bytes


class Segment(NamedTuple):
    """Launches that one walk runs, or a host call; `last`: the host's results read no more."""

    begin: int
    end: int
    host: Host | None
    last: tuple[Buffer, ...] = ()


class Entry(NamedTuple):
    """Memory that is not the arena's: of what is given to a run, or of a result."""

    buffer: Buffer
    places: tuple[int, ...]  # its words, and those of its aliases, in the buffer table
    shape: tuple[int, ...]  # numbers of its dimensions
    bytes: int  # the number of the dimension that says how many
    fixed: bool  # no run decides its sizes
    dtype: Any  # NumPy's


class Result(NamedTuple):
    """One root: the entry of the result that is handed out itself; None where that is a copy.

    `made`: the host made the array, and it is nobody else's.
    """

    entry: int | None
    buffer: Buffer
    made: bool = False


class Recipe:
    """The parts of a program and the places of everything they need."""

    def __init__(
        self,
        plan: Plan,
        parts: Sequence[Part],
        moving: Sequence[Buffer],
        limit: int,
        cores: int,
        targets: Sequence[Node] = (),
    ) -> None:
        """`moving`: buffers that are elsewhere in each step of a loop. `limit`: the most threads
        that a run uses (0: all). `targets`: what the last roots are values for."""
        self.plan, self.parts, self.moving = plan, tuple(parts), tuple(moving)
        self.natives = [part for part in parts if isinstance(part, Native)]
        inside = [native.control for native in self.natives if native.control is not None]
        self.calls_back = any(control.host is not None for control in inside)
        self.dimensions = Dimensions()
        self.aliases = dict(plan.aliases)
        self.slots: dict[Buffer, int] = {}
        self._number_buffers()
        self.segments = list(_segments(parts, self._last_uses()))
        self._set_givens()
        self._set_storages()
        first, made = len(plan.inputs), [r.entry for r in self.results]
        read = {node: first + i for i, node in enumerate(self.nodes)}
        self.landings = landings(self.entries, made[len(made) - len(targets) :], targets, read)
        self._set_words(limit)
        self.dimensions.ready()
        self._set_tables(min(limit or cores, cores))

    @property
    def symbols(self) -> list[Symbol]:
        """The sizes that decide a binding."""
        return self.dimensions.symbols

    # ------------------------------------------------------------------ buffers

    def _number_buffers(self) -> None:
        plan = self.plan
        named: list[Buffer] = [*plan.inputs, *(b for _, b in plan.variables), *plan.entropy]
        named += [b for b, _ in plan.constants]
        named += [b for pair in plan.aliases for b in pair]
        for part in self.parts:
            named += [b for buffers in touched(part) for b in buffers]
        named += [*self.moving, *plan.roots]
        self.slots = {buffer: i for i, buffer in enumerate(dict.fromkeys(named))}
        self.shapes = {b: tuple(map(self.dimensions.number, shape_of(b))) for b in self.slots}
        self.members: dict[Buffer, list[Buffer]] = {}
        for buffer in self.slots:
            self.members.setdefault(self.owner(buffer), []).append(buffer)

    def _last_uses(self) -> dict[int, list[Buffer]]:
        """For host calls: the host's results that nothing reads after them, as far as that is so.

        Memory that a launch reads is dropped at the next host call.
        """
        uses: dict[Buffer, int] = {}
        made = {
            b: i
            for i, part in enumerate(self.parts)
            if isinstance(part, Host)
            for b in part.outputs
        }
        hosts = [i for i, part in enumerate(self.parts) if isinstance(part, Host)]
        for number, part in enumerate(self.parts):
            for buffers in touched(part):
                uses.update({self.owner(b): number for b in buffers})
        found: dict[int, list[Buffer]] = {}
        roots = {self.owner(root) for root in self.plan.roots}
        self.made_lives: list[tuple[int, int, int]] = []  # first, last, number of the bytes
        for buffer, first in made.items():
            at = len(hosts) if buffer in roots else bisect_left(hosts, uses[buffer])
            if at < len(hosts):
                found.setdefault(hosts[at], []).append(buffer)
            last = hosts[at] if at < len(hosts) else len(self.parts)
            self.made_lives.append((first, last, self._bytes(buffer)))
        return found

    def owner(self, buffer: Buffer) -> Buffer:
        """The buffer whose storage this one has."""
        while buffer in self.aliases:
            buffer = self.aliases[buffer]
        return buffer

    def entry(self, buffer: Buffer, members: Sequence[Buffer]) -> Entry:
        """The memory of some buffers that are one."""
        places = tuple([TABLE_AT + self.slots[b] for b in members])
        fixed = buffer.type.is_static
        dtype = buffer.type.dtype.numpy
        return Entry(buffer, places, self.shapes[buffer], self._bytes(buffer), fixed, dtype)

    def _bytes(self, buffer: Buffer) -> int:
        return self.dimensions.number(product(shape_of(buffer)) * buffer.type.dtype.itemsize)

    def _set_givens(self) -> None:
        """What comes with a run: feeds, variables, then entropy; constants are in the words."""
        plan = self.plan
        self.nodes: list[Node] = [node for node, _ in plan.variables]
        self.given = [*plan.inputs, *(b for _, b in plan.variables), *plan.entropy]
        self.held = [b for part in self.parts if isinstance(part, Host) for b in part.outputs]
        self.constants = {b: np.ascontiguousarray(array) for b, array in plan.constants}
        self.entries = [self.entry(b, self.members[b]) for b in self.given]
        self.places = {b: self.entry(b, self.members[self.owner(b)]).places for b in self.held}

    def _set_storages(self) -> None:
        """Memory of what the routines write: of results, or within the arena."""
        plan = self.plan
        outside = [*self.given, *self.constants, *self.held, *self.moving]
        uses = [use(part) for part in self.parts]
        found = storages(uses, plan.roots, outside, plan.aliases)
        self.storages = [s for s in found if not s.kept]
        kept = [s for s in found if s.kept]
        self.results: list[Result] = []
        entries: dict[int, int] = {}
        of = {id(b): storage for storage in kept for b in storage.buffers}
        for buffer in plan.roots:
            storage = of.get(id(buffer))
            if storage is None or id(storage) in entries:
                first = all(self.owner(r.buffer) is not buffer for r in self.results)
                self.results.append(Result(None, buffer, buffer in self.places and first))
                continue
            entries[id(storage)] = len(self.entries)
            self.results.append(Result(len(self.entries), buffer))
            self.entries.append(self.entry(buffer, storage.buffers))
        self.storage_bytes = table([self._bytes(s.buffers[0]) for s in self.storages])
        self.firsts = [s.first for s in self.storages]
        self.lasts = [s.last for s in self.storages]
        copied = [r.buffer for r in self.results if r.entry is None and not r.made]
        self.copied = [self._bytes(buffer) for buffer in copied]
        # In the block, those of fixed sizes come first, so that they do not move.
        self.order = sorted(range(len(self.entries)), key=lambda i: not self.entries[i].fixed)
        self.ordered = [
            (row, i, _shape_getter(self.entries[i].shape), np.dtype(self.entries[i].dtype))
            for row, i in enumerate(self.order)
        ]
        self.open = [each for each in self.ordered if not self.entries[each[1]].fixed]
        self.result_of = {r.entry: i for i, r in enumerate(self.results) if r.entry is not None}
        variables = range(len(plan.inputs), len(plan.inputs) + len(self.nodes))
        self.open_variables = any(i in variables for _, i, _, _ in self.open)

    # ------------------------------------------------------------------ words

    def _set_words(self, limit: int) -> None:
        """The words that no size decides; those of `own` are offsets in bytes from their start."""
        launches = -(-(TABLE_AT + len(self.slots)) // 8) * 8
        records = launches + walker.LAUNCH * (len(self.natives) + 1)  # the last is the landing
        words: list[int] = [0] * records
        own, places = [walker.LAUNCHES], []
        words[walker.LAUNCHES], words[walker.END] = 8 * launches, len(self.natives)
        self.launched: list[tuple[int, int, int]] = []  # its words, its record, its sizes
        for number, native in enumerate(self.natives):
            at, record = launches + walker.LAUNCH * number, len(words)
            words[at + walker.CODE] = _address(native)
            words[at + walker.RECORD] = 8 * record
            words[at + walker.NEXT] = native.after
            words[at + walker.LIMIT] = limit
            routine = native.routine
            words += [8 * TABLE_AT, 8 * walker.FAULT, 0, 0, 0]
            if native.control is None:
                words += [self.slots[buffer] for buffer in routine.buffers]
            own += [at + walker.RECORD, record + TABLE, record + FAULT]
            entries = routine.sizes if native.control is None else native.control.words(self.slots)
            sizes = tuple(map(self.dimensions.number, entries))
            first = len(words)
            places += [(first + i, size) for i, size in enumerate(sizes)]
            words += [0] * len(sizes)
            words += [0] * (-len(words) % 8)
            self.launched.append((at, record, first))
        if self.landings:
            at, record, count = records - walker.LAUNCH, len(words), len(self.landings)
            words[at:records] = [landing(), 8 * record, count, count, 1, len(self.natives) + 1]
            words += [8 * TABLE_AT, *record_words(self.entries, self.landings, TABLE_AT)]
            own += [at + walker.RECORD, record]
        for buffer, array in self.constants.items():
            for member in self.members[buffer]:
                words[TABLE_AT + self.slots[member]] = array.ctypes.data
        self.words = np.array(words, np.int64)
        self.own = np.array(own, np.intp)
        self.moves = table(places, 2)
        self._set_launches()

    def _set_launches(self) -> None:
        """What decides each launch, and what sizes must be like."""
        number = self.dimensions.number
        routines = [native.routine for native in self.natives]
        self.counts = [number(r.count) for r in routines]
        self.works = [number(r.work) for r in routines]
        rows, none = [], Space(0, 0)
        for routine, (at, record, sizes) in zip(routines, self.launched, strict=True):
            space = routine.space or none
            numbers = [number(n) for n in (routine.count, routine.work, space.bytes)]
            rows.append((at, record, *numbers, space.chunks, routine.cut or 0, sizes))
        self.launches = table(rows, len(LAUNCH))
        self.demands = [(number(d.left), number(d.right), d) for d in self.plan.demands]
        self.needs = [
            (i, tuple(map(number, need.extents)), need.rule)
            for i, r in enumerate(routines)
            for need in r.needs
        ]
        checks = [(-1, left, right) for left, right, _ in self.demands]
        checks += [(i, n, n) for i, extents, _ in self.needs for n in extents]
        self.checks = table(checks, 3)

    def _set_tables(self, threads: int) -> None:
        """The form of a context, as far as it is the same for all; the arrays are kept here."""
        row = {entry: i for i, entry in enumerate(self.order)}
        given = len(self.given)
        self.tables = {
            "tape": self.dimensions.rows,
            "moves": self.moves,
            "launches": self.launches,
            "checks": self.checks,
            "entries": table([(self.entries[i].bytes, int(i >= given)) for i in self.order], 2),
            "entry_places": table(
                [(place, row[i]) for i, e in enumerate(self.entries) for place in e.places], 2
            ),
            "storages": self.storage_bytes,
            "storage_places": table(
                [
                    (TABLE_AT + self.slots[b], i)
                    for i, storage in enumerate(self.storages)
                    for b in storage.buffers
                ],
                2,
            ),
        }
        self.form = np.zeros(len(FORM), np.int64)
        for name, array in self.tables.items():
            self.form[WORD[name]], self.form[WORD[name] + 1] = array.ctypes.data, len(array)
        self.form[WORD["threads"]], self.form[WORD["most"]] = threads, MOST
        self.empty = np.zeros(len(self.storages), np.int64)  # the layout of nothing
        for name in ("capacities", "offsets"):
            self.form[WORD[name]] = self.empty.ctypes.data

    def lines(self, buffer: Buffer) -> tuple[Any, ...]:
        """The user's lines of what fills a buffer."""
        for part in self.parts:
            if buffer in touched(part)[1]:
                if isinstance(part, Host):
                    return (part.node.where,)
                return () if isinstance(part, Leave) else part.routine.kernel.lines
        return ()


def _segments(parts: Sequence[Part], last: Mapping[int, Sequence[Buffer]]) -> Iterator[Segment]:
    begin = end = 0
    for number, part in enumerate(parts):
        if not isinstance(part, Host):
            end += isinstance(part, Native)
            continue
        if end > begin:
            yield Segment(begin, end, None)
        begin = end
        yield Segment(begin, end, part, tuple(last.get(number, ())))
    if end > begin:
        yield Segment(begin, end, None)


def _address(native: Native) -> int:
    """The code of a launch; of a host call inside of a loop, each context has its own."""
    if native.linked is not None:
        return native.linked.address
    assert native.control is not None
    if native.control.host is not None:
        return 0
    found = controls()
    return found.loop if native.routine.kernel.name == "loop" else found.branch


def table(rows: Sequence[Any], width: int = 1) -> Array:
    """Rows of integers, as native code reads them."""
    return np.array(rows, np.int64).reshape((len(rows), width) if width > 1 else -1)


def _shape_getter(numbers: Sequence[int]) -> Callable[[Any], Any]:
    """Takes a shape, for NumPy, out of the values of all dimensions: one number is a shape too."""
    return operator.itemgetter(*numbers) if numbers else lambda _: ()


def dimension_values(numbers: Sequence[int], values: Sequence[int]) -> tuple[int, ...]:
    """The shape that some numbered dimensions are."""
    return tuple([values[number] for number in numbers])
