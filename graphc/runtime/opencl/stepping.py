"""What moves from step to step of a loop that the host walks, and how kernels are told.

Enters: a loop in a context that is bound. Leaves: in each step, every row and every state at its
place. After the first step only offsets change, and those of many steps are known beforehand. So a
step that is nothing but launches costs these, and an argument for each buffer that moves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc.dims import evaluate, product
from graphc.dtypes import Array
from graphc.plan import Loop, Rows, State
from graphc.runtime.memory import shape_of
from graphc.runtime.opencl.context import Context
from graphc.runtime.opencl.memory import Place, write

INDICES = 1024  # of the steps of a loop that are written at once
Offset: TypeAlias = "Callable[[Any], Any]"  # bytes, of the number of a step or of many


class Steps:
    """The steps of one loop in one run; `held` keeps arrays that the queue may still read."""

    def __init__(self, context: Context, loop: Loop, held: list[Any]) -> None:
        self.context, self.loop, self._held = context, loop, held
        self._slots, sizes = context.recipe.slots, context.sizes or {}
        self.length = evaluate(loop.length, sizes)
        self._start = evaluate(loop.index.start, sizes)
        self.initial = [context.at(state.initial) for state in loop.states]
        self._moving: dict[int, tuple[Any, Offset]] = {}  # by slot: its memory, and where in it
        for rows in (*loop.reads, *loop.writes, *(rows for _, rows in loop.histories)):
            self._moving[self._slots[rows.row]] = self._row(rows)
        self._after = [self._state(state) for state in loop.states]
        for state, after in zip(loop.states, self._after, strict=True):
            self._moving[self._slots[state.after]] = after
        self._index = self._slots[loop.index.row]
        self._counts = self._index in context.recipe.asked

    def _row(self, rows: Rows) -> tuple[Any, Offset]:
        """Where a row lies."""
        context, sizes = self.context, self.context.sizes or {}
        size = evaluate(product(shape_of(rows.of)[1:]), sizes) * rows.of.type.dtype.itemsize
        whole = context.at(rows.of)
        first, by = whole.offset + evaluate(rows.start, sizes) * size, rows.step * size
        return whole.memory, lambda step: first + by * step

    def _state(self, state: State) -> tuple[Any, Offset]:
        """Where a state is written: where its row is, or one of a pair."""
        if state.pair is None:
            return self._moving[self._slots[state.after]]
        pair, size = self.context.at(state.pair), self.context.size(state.after)
        return pair.memory, lambda step: pair.offset + step % 2 * size

    # ------------------------------------------------------------------ one step

    def number(self, step: int) -> int:
        """What the loop calls a step."""
        return self._start + self.loop.index.step * step

    def before(self, state: int, step: int) -> Place:
        """Where a state lies when a step begins."""
        if step == 0:
            return self.initial[state]
        memory, offset = self._after[state]
        return Place(memory, offset(step - 1))

    def enter(self, step: int) -> None:
        """Put everything where it lies in a step."""
        context, slots = self.context, self._slots
        self._count(step)
        for slot, (memory, offset) in self._moving.items():
            context.place(slot, Place(memory, offset(step)))
        for place, state in enumerate(self.loop.states):
            context.place(slots[state.before], self.before(place, step))

    def _count(self, step: int) -> None:
        """Put the number of a step where it is read: many are written at once."""
        if not self._counts:
            return
        context, at = self.context, step % INDICES
        if at == 0:
            numbers = self.number(step) + self.loop.index.step * np.arange(
                min(INDICES, self.length - step), dtype=np.int64
            )
            place = context.own(self._index, 8 * min(INDICES, max(self.length, 1)))
            self._held.append(write(context.queue, place, numbers))
        memory = context.places[self._index].memory
        context.place(self._index, Place(memory, 8 * at))

    # ------------------------------------------------------------------ many steps

    def many(self, step: int) -> Iterator[int]:
        """Go through steps, from one on that is not the first: `enter` for each, but for places.

        Kernels are told by their arguments alone; `leave` must follow.
        """
        self.enter(step)
        end = min(self.length, (step // INDICES + 1) * INDICES)
        arguments, columns = self._arguments(np.arange(step, end))
        rows: Iterator[Sequence[Any]] = zip(*columns, strict=True)
        for number, values in zip(range(step, end), rows if columns else itertools.repeat(())):
            for (put, argument), value in zip(arguments, values, strict=True):
                put(argument, value)
            yield number

    def _arguments(
        self, steps: Array
    ) -> tuple[list[tuple[Callable[[int, Any], None], int]], list[Array]]:
        """The arguments that move, and the values of each in some steps."""
        moving = dict(self._moving)
        for state, (memory, after) in zip(self.loop.states, self._after, strict=True):
            moving[self._slots[state.before]] = memory, _later(after)
        if self._counts:
            moving[self._index] = None, lambda s: 8 * (s % INDICES)
        arguments, columns = [], []
        for slot, (_, offset) in moving.items():
            for ready, argument, width in self.context.readers[slot]:
                arguments.append((ready.set, argument + 1))
                columns.append(offset(steps) // width)
        return arguments, columns

    def leave(self, step: int) -> None:
        """Note where everything lies in a step whose arguments have been told."""
        places = self.context.places
        for slot, (memory, offset) in self._moving.items():
            places[slot] = Place(memory, offset(step))
        for number, state in enumerate(self.loop.states):
            places[self._slots[state.before]] = self.before(number, step)
        if self._counts:
            places[self._index] = Place(places[self._index].memory, 8 * (step % INDICES))


def _later(offset: Offset) -> Offset:
    """Where something lies that lay there a step before."""
    return lambda step: offset(step - 1)
