"""The memory planner: which buffers share storage, and where each lies in one arena.

Enters: the steps of a program with the buffers that each reads and writes. Leaves: `Storage`s, the
pieces of memory with their lifetimes; and for the bytes of one run, a `Layout`: an offset for each,
so that no two that live at once overlap. Knows no device and no op.

A buffer lives from the step that writes it first to the step that reads it last. A result takes
over the storage of an operand that dies in its step where the kernel allows that (`sharing.py`).

Up to three placements are tried, and the lowest is taken: by time, into the tightest gap, as an
allocator would do it, in O(n log n); then, unless one is all but perfect, by size and by size times
life, the largest first, each in the tightest gap between those that live with it. Which of these
wins depends on the graph.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from graphc.dims import Shape
from graphc.dtypes import Array
from graphc.kernel import Buffer

ALIGN = 64
GOOD = 1.01  # of the lower bound: not worth looking for better
MANY = 20_000  # storages from which on only the quick placement is made


class Use(NamedTuple):
    """What one step does to buffers; `shares` are pairs (read, written) that may be one storage."""

    reads: Sequence[Buffer]
    writes: Sequence[Buffer]
    shares: Sequence[tuple[Buffer, Buffer]] = ()


@dataclass(slots=True, eq=False)
class Storage:
    """Memory of several buffers; all have the size of the first. Lives from `first` to `last`."""

    buffers: list[Buffer]
    first: int
    last: int
    kept: bool = False  # one of its buffers is a result of the program


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each storage starts, and the bytes of the whole."""

    offsets: Array
    total: int


@dataclass(slots=True)
class _Lives:
    """The storages of one program, as they are found."""

    owner: dict[Buffer, Buffer]  # aliases to what they share with
    of: dict[Buffer, Storage] = field(default_factory=dict)

    def root(self, buffer: Buffer) -> Buffer:
        """What an alias stands for."""
        while buffer in self.owner:
            buffer = self.owner[buffer]
        return buffer


def storages(
    uses: Sequence[Use],
    results: Iterable[Buffer],
    outside: Iterable[Buffer],
    aliases: Iterable[tuple[Buffer, Buffer]] = (),
) -> list[Storage]:
    """The storages of what the steps write; `outside` are buffers that have memory already."""
    lives = _Lives(dict(aliases))
    foreign = {lives.root(buffer) for buffer in outside}
    for number, use in enumerate(uses):
        for buffer in (*use.writes, *use.reads):
            owner = lives.root(buffer)
            if owner in foreign:
                continue
            if owner not in lives.of:
                lives.of[owner] = Storage([owner], number, number)
            lives.of[owner].last = number
    for buffer in results:
        if (owner := lives.root(buffer)) not in foreign:
            # One that no step writes is empty.
            storage = lives.of.setdefault(owner, Storage([owner], len(uses), len(uses)))
            storage.kept, storage.last = True, len(uses)
    for number, use in enumerate(uses):
        _share(lives, number, use)
    found = list(dict.fromkeys(lives.of.values()))
    places = {id(storage): storage for storage in found}
    for alias in lives.owner:
        if (owner := lives.root(alias)) in lives.of:
            places[id(lives.of[owner])].buffers.append(alias)
    return found


def _share(lives: _Lives, number: int, use: Use) -> None:
    """Let the results of one step take over operands that die in it."""
    taken: set[int] = set()
    for read, written in use.shares:
        old, new = lives.of.get(lives.root(read)), lives.of.get(lives.root(written))
        if old is None or new is None or old is new or id(new) in taken:
            continue
        fits = not old.kept and old.last == number and new.first == number
        others = sum(lives.of.get(lives.root(b)) is old for b in dict.fromkeys(use.reads))
        if not fits or others > 1 or old.first == number:
            continue
        taken.add(id(new))
        old.buffers += new.buffers
        old.last, old.kept = new.last, new.kept
        for buffer in new.buffers:
            lives.of[buffer] = old


# ---------------------------------------------------------------------------- placement


def lower_bound(firsts: Sequence[int], lasts: Sequence[int], sizes: Sequence[int] | Array) -> int:
    """The bytes of all that live at once, at the worst step: no layout takes less."""
    if not len(sizes):
        return 0
    change = np.zeros(int(max(lasts)) + 2, np.int64)
    np.add.at(change, np.asarray(firsts), sizes)
    np.subtract.at(change, np.asarray(lasts) + 1, sizes)
    return int(change.cumsum().max())


def aligned(sizes: Array) -> Array:
    """Bytes rounded up to whole cache lines."""
    return (sizes + (ALIGN - 1)) & -ALIGN


def layout(firsts: Sequence[int], lasts: Sequence[int], sizes: Sequence[int] | Array) -> Layout:
    """Offsets such that storages whose lives overlap (ends included) do not."""
    rounded = aligned(np.asarray(sizes, np.int64))
    bound = lower_bound(firsts, lasts, rounded)
    best = _layout(by_time, firsts, lasts, rounded)
    for place in (by_size, by_area):
        if best.total <= GOOD * bound or len(rounded) > MANY:
            break
        other = _layout(place, firsts, lasts, rounded)
        best = min(best, other, key=lambda found: found.total)
    return best


def _layout(
    place: Callable[..., Sequence[int]], firsts: Sequence[int], lasts: Sequence[int], sizes: Array
) -> Layout:
    offsets = np.array(place(firsts, lasts, sizes.tolist()), np.int64)
    return Layout(offsets, int((offsets + sizes).max(initial=0)))


def by_time(firsts: Sequence[int], lasts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """As an allocator that sees one step after the other: into the tightest gap that is free."""
    order = sorted(range(len(sizes)), key=lambda i: (firsts[i], -sizes[i]))
    ends = sorted(range(len(sizes)), key=lambda i: lasts[i])
    offsets = [0] * len(sizes)
    free, done = _Free(), 0
    for i in order:
        while lasts[ends[done]] < firsts[i]:
            free.give(offsets[ends[done]], sizes[ends[done]])
            done += 1
        offsets[i] = free.take(sizes[i])
    return offsets


class _Free:
    """The gaps of an arena without end, by place and by size."""

    def __init__(self) -> None:
        self._top = 0
        self._by_size: list[tuple[int, int]] = []  # (size, start)
        self._starts: dict[int, int] = {}  # the size of the gap that starts here
        self._ends: dict[int, int] = {}  # the start of the gap that ends here

    def take(self, size: int) -> int:
        """The start of so many bytes."""
        if size == 0:
            return 0
        at = bisect_left(self._by_size, (size, 0))
        if at < len(self._by_size):
            length, start = self._by_size[at]
            self._remove(start, length)
            if length > size:
                self._add(start + size, length - size)
            return start
        start = self._ends.get(self._top, self._top)  # the last gap, if it reaches the end, grows
        if start < self._top:
            self._remove(start, self._top - start)
        self._top = start + size
        return start

    def give(self, start: int, size: int) -> None:
        """Free bytes again; neighbouring gaps become one."""
        if size == 0:
            return
        end = start + size
        if start in self._ends:
            before = self._ends[start]
            self._remove(before, start - before)
            start = before
        if end in self._starts:
            length = self._starts[end]
            self._remove(end, length)
            end += length
        self._add(start, end - start)

    def _add(self, start: int, size: int) -> None:
        insort(self._by_size, (size, start))
        self._starts[start], self._ends[start + size] = size, start

    def _remove(self, start: int, size: int) -> None:
        self._by_size.pop(bisect_left(self._by_size, (size, start)))
        del self._starts[start], self._ends[start + size]


def by_size(firsts: Sequence[int], lasts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """The largest first, each as low as it fits tightly among those that live with it."""
    return _greedy(firsts, lasts, sizes, lambda i: (-sizes[i], firsts[i]))


def by_area(firsts: Sequence[int], lasts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """What takes the most bytes for the most steps first."""
    return _greedy(
        firsts, lasts, sizes, lambda i: (-sizes[i] * (lasts[i] - firsts[i] + 1), firsts[i])
    )


def _greedy(
    firsts: Sequence[int],
    lasts: Sequence[int],
    sizes: Sequence[int],
    key: Callable[[int], tuple[int, int]],
) -> list[int]:
    """Place storages in an order; those placed are rows of one array, sorted by their offset."""
    offsets = [0] * len(sizes)
    placed = np.zeros((4, len(sizes)), np.int64)  # first, last, start, end
    order = sorted((i for i in range(len(sizes)) if sizes[i]), key=key)
    for count, i in enumerate(order):
        rows = placed[:, :count]
        met = rows[2:, (rows[0] <= lasts[i]) & (rows[1] >= firsts[i])]
        start = offsets[i] = _tightest(met[0], met[1], sizes[i])
        at = int(np.searchsorted(rows[2], start))
        placed[:, at + 1 : count + 1] = placed[:, at:count].copy()
        placed[:, at] = firsts[i], lasts[i], start, start + sizes[i]
    return offsets


def _tightest(starts: Array, ends: Array, size: int) -> int:
    """The start of the smallest gap of at least `size` bytes; behind all, where there is none."""
    if not len(starts):
        return 0
    reached = np.empty(len(ends) + 1, np.int64)
    reached[0] = 0
    np.maximum.accumulate(ends, out=reached[1:])
    gaps = starts - reached[:-1]
    fitting = np.flatnonzero(gaps >= size)
    if not len(fitting):
        return int(reached[-1])
    return int(reached[fitting[gaps[fitting].argmin()]])


# ---------------------------------------------------------------------------- what it comes to


@dataclass(frozen=True, slots=True)
class Peak:
    """The bytes that a program needs at the sizes of one run, beside its feeds and variables."""

    arena: int
    workspace: int
    outputs: int
    host: int = 0  # what host calls make, at the worst step

    @property
    def total(self) -> int:
        """All of them together."""
        return self.arena + self.workspace + self.outputs + self.host


def byte_count(buffer: Buffer, shape: Sequence[int]) -> int:
    """The bytes of a buffer in a run."""
    total = buffer.type.dtype.itemsize
    for size in shape:
        total *= size
    return total


def shape_of(buffer: Buffer) -> Shape:
    """The sizes of a buffer; a plan's are all known as expressions."""
    assert buffer.type.shape is not None
    return buffer.type.shape
