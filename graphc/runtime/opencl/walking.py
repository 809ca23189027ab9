"""A walk over the steps of a program: kernels are enqueued, loops and branches are the host's.

Enters: a context that is bound, with everything given in its place. Leaves: results in their
places, once the queue has finished. Nothing is waited for but the conditions of guarded loops and
branches, and what the host itself computes with.

A row of a sequence or of a stack is read and written where it lies: in each step, the kernels that
touch it are told another offset.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc import lazy
from graphc.costs import operations
from graphc.dims import evaluate, product
from graphc.dtypes import Array
from graphc.errors import GraphcError, NumericsError
from graphc.kernel import Buffer
from graphc.plan import Host, Loop, Rows, State, unmet
from graphc.runtime.device import Environment, Note
from graphc.runtime.memory import shape_of
from graphc.runtime.opencl.context import Context, Ready
from graphc.runtime.opencl.memory import Place, fetch, move, write
from graphc.runtime.opencl.recipe import Action, Again, Either, Launch
from graphc.runtime.reference.device import apply_oracle, in_step

opencl = lazy.Module("pyopencl")
INDICES = 1024  # of the steps of a loop that are written at once


class Walk:
    """One run; `held` are arrays that the queue may still read."""

    def __init__(
        self,
        context: Context,
        environment: Environment,
        known: Mapping[Buffer, Array],
        check: str | None = None,
    ) -> None:
        """`known`: what the host has already of what it may ask for."""
        self.context, self.environment, self.check = context, environment, check
        self.queue, self.recipe = context.queue, context.recipe
        self.enqueue: Any = opencl.enqueue_nd_range_kernel
        self.held: list[Any] = []
        self._known = known
        self._values: list[tuple[Host, list[Array]]] = []

    def __call__(self) -> None:
        """Enqueue everything."""
        self.run(self.recipe.actions)

    def run(self, actions: Sequence[Action]) -> None:
        """Some actions, one after the other."""
        plain = self.environment.note is None and self.check is None
        queue, enqueue, ready = self.queue, self.enqueue, self.context.ready
        for action in actions:
            if type(action) is Launch:
                if plain:
                    each = ready[action.number]
                    if each.items is not None:
                        enqueue(queue, each.kernel, each.items, each.groups)
                else:
                    self._stepwise(action, ready[action.number])
            elif isinstance(action, Host):
                self._host(action)
            elif isinstance(action, Either):
                self._branch(action)
            elif isinstance(action, Again):
                self._loop(action)

    def _branch(self, action: Either) -> None:
        """One side, if its sizes are what it needs."""
        holds = self._is_true(self.context.at(action.branch.condition))
        error = unmet(action.branch.demands[not holds], self.environment.sizes)
        if error is not None:
            raise error
        self.run(action.then if holds else action.otherwise)

    def _is_true(self, place: Place) -> bool:
        """The value of a condition, waited for."""
        found = np.empty(1, np.uint8)
        fetch(self.queue, place, found, wait=True)
        return bool(found[0])

    # ------------------------------------------------------------------ loops

    def _row(self, rows: Rows, step: int) -> Place:
        """Where a row lies in a step."""
        context = self.context
        size = evaluate(product(shape_of(rows.of)[1:]), context.sizes or {})
        size *= rows.of.type.dtype.itemsize
        start = evaluate(rows.start, context.sizes or {})
        whole = context.at(rows.of)
        return Place(whole.memory, whole.offset + (start + rows.step * step) * size)

    def _loop(self, action: Again) -> None:
        loop, context, slots = action.loop, self.context, self.recipe.slots
        walks = _Walks(self, loop)
        self._begin(loop)
        current = [context.at(state.initial) for state in loop.states]
        length, step = evaluate(loop.length, context.sizes or {}), 0
        while step < length and (loop.count is None or self._is_true(current[0])):
            walks.index(step)
            for rows, stride in walks.rows:
                context.place(slots[rows.row], stride.at(step))
            after = [self._after(state, step) for state in loop.states]
            for state, before in zip(loop.states, current, strict=True):
                context.place(slots[state.before], before)
            for state, place in zip(loop.states, after, strict=True):
                context.place(slots[state.after], place)
            self._inside(action, walks.number(step))
            current, step = after, step + 1
        for state, place in zip(loop.states, current, strict=True):
            move(self.queue, place, context.at(state.last), context.size(state.last))
        if loop.count is not None:
            count = np.asarray(step, np.int64)
            self.held.append(write(self.queue, context.at(loop.count), count))

    def _inside(self, action: Again, number: int) -> None:
        """One step."""
        try:
            self.run(action.inside)
        except GraphcError as error:
            raise in_step(error, number, action.loop.node) from error.__cause__

    def _after(self, state: State, step: int) -> Place:
        """Where a state is written in a step: where its row is, or one of a pair."""
        if state.pair is None:
            return self.context.at(state.after)
        pair = self.context.at(state.pair)
        return Place(pair.memory, pair.offset + step % 2 * self.context.size(state.after))

    def _begin(self, loop: Loop) -> None:
        """Zeros where a step may not come, and first rows."""
        context = self.context
        stacks = [*loop.writes, *(rows for _, rows in loop.histories)]
        for rows in stacks if loop.count is not None else ():
            place, size = context.at(rows.of), context.size(rows.of)
            if size:
                zero = np.zeros(1, np.uint8)
                opencl.enqueue_fill_buffer(self.queue, place.memory, zero, place.offset, size)
        for number, rows in loop.histories:
            initial = loop.states[number].initial
            move(self.queue, context.at(initial), context.at(rows.of), context.size(initial))

    # ------------------------------------------------------------------ the host

    def _host(self, host: Host) -> None:
        """One op by its oracle, on copies of what it reads."""
        context, note = self.context, self.environment.note
        inputs = [self._array(buffer) for buffer in host.inputs]
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            results: Any = apply_oracle(host.node, inputs, self.environment.sizes)
        arrays = []
        for buffer, result in zip(host.outputs, results, strict=True):
            array = np.array(result, buffer.type.dtype.numpy, order="C")
            self.held.append(write(self.queue, context.at(buffer), array))
            arrays.append(array)
        if note is not None:
            moved = sum(array.nbytes for array in (*inputs, *arrays))
            note(host.node, time.perf_counter() - start, moved)
        if self.check is not None and not any(map(_has_nan, inputs)):
            for array in filter(_has_nan, arrays):
                name, count = host.node.op.name, int(np.isnan(array).sum())
                rule = f"made {count} NaN of {array.size} values"
                raise NumericsError(f"{name}: {rule}\n  {name} was called at {host.node.where}")

    def _array(self, buffer: Buffer) -> Array:
        found = self._known.get(buffer)
        return self.context.array(buffer) if found is None else found

    # ------------------------------------------------------------------ profiles and checks

    def _stepwise(self, launch: Launch, ready: Ready) -> None:
        """One kernel, waited for."""
        kernel = launch.placed.kernel
        clean = self.check is not None and not any(
            _has_nan(self.context.array(b)) for b in launch.placed.reads if b.type.dtype.is_float
        )
        if ready.items is None:
            return
        event = self.enqueue(self.queue, ready.kernel, ready.items, ready.groups)
        event.wait()
        if self.environment.note is not None:
            self._note(
                self.environment.note, launch, 1e-9 * (event.profile.end - event.profile.start)
            )
        for buffer in launch.placed.writes if clean else ():
            array = self.context.array(buffer)
            if _has_nan(array):
                rule = f"made {int(np.isnan(array).sum())} NaN of {array.size} values"
                raise NumericsError(kernel.failure(rule))

    def _note(self, note: Note, launch: Launch, seconds: float) -> None:
        routine = launch.routine
        moved = sum(self.context.size(buffer) for buffer in launch.placed.buffers)
        note(
            routine.kernel,
            seconds,
            moved,
            evaluate(operations(routine.kernel), self.environment.sizes),
        )


class _Stride:
    """Where a row lies in each step."""

    __slots__ = ("_by", "_first", "_memory")

    def __init__(self, first: Place, second: Place) -> None:
        self._memory, self._first = first
        self._by = second.offset - first.offset

    def at(self, step: int) -> Place:
        """In one step."""
        return Place(self._memory, self._first + self._by * step)


class _Walks:
    """What moves in each step of a loop, and the numbers of its steps."""

    def __init__(self, walk: Walk, loop: Loop) -> None:
        self._walk, self._rows = walk, loop.index
        moving = [*loop.reads, *loop.writes, *(rows for _, rows in loop.histories)]
        self.rows = [(rows, _Stride(walk._row(rows, 0), walk._row(rows, 1))) for rows in moving]
        sizes = walk.context.sizes or {}
        self._start = evaluate(loop.index.start, sizes)
        self._length = evaluate(loop.length, sizes)
        self._slot = walk.recipe.slots[loop.index.row]
        self._used = any(
            self._slot == walk.recipe.slots[b] for use in walk.recipe.uses for b in use.reads
        )

    def number(self, step: int) -> int:
        """What the loop calls a step."""
        return self._start + self._rows.step * step

    def index(self, step: int) -> None:
        """Put the number of a step where it is read: many are written at once."""
        if not self._used:
            return
        context, at = self._walk.context, step % INDICES
        if at == 0:
            count = min(INDICES, self._length - step)
            numbers = self.number(step) + self._rows.step * np.arange(count, dtype=np.int64)
            place = context.own(self._slot, 8 * min(INDICES, max(self._length, 1)))
            self._walk.held.append(write(context.queue, place, numbers))
            self._place = place
        context.place(self._slot, Place(self._place.memory, 8 * at))


def _has_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())
