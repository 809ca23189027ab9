"""A walk over the steps of a program: kernels are enqueued, loops and branches are the host's.

Enters: a context that is bound, with everything given in its place. Leaves: results in their
places, once the queue has finished. Nothing is waited for but the conditions of guarded loops and
branches, and what the host itself computes with.

A row of a sequence or of a stack is read and written where it lies: in each step, the kernels that
touch it are told another offset.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc import lazy
from graphc.costs import operations
from graphc.dims import evaluate, product
from graphc.dtypes import Array
from graphc.errors import GraphcError, ShapeError
from graphc.graph import Node
from graphc.kernel import Buffer
from graphc.plan import Host, Loop, unmet
from graphc.runtime.accounts import Accounts
from graphc.runtime.device import Environment, Note
from graphc.runtime.memory import shape_of
from graphc.runtime.numerics import check_host, check_kernel, has_nan
from graphc.runtime.opencl.context import Context, Ready
from graphc.runtime.opencl.memory import Place, fetch, move, write
from graphc.runtime.opencl.recipe import Action, Again, Either, Launch
from graphc.runtime.opencl.stepping import Steps
from graphc.runtime.reference.device import Tally, apply_oracle, in_step

opencl = lazy.Module("pyopencl")


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
        plain = self._is_plain
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
                self._together(action.loop.node, functools.partial(self._loop, action))

    @property
    def _is_plain(self) -> bool:
        """Whether kernels are enqueued, and that is all."""
        watched = self.environment.note is not None or self.check is not None
        return not watched and not self.context.refused

    def _branch(self, action: Either) -> None:
        """One side, if its sizes are what it needs."""
        holds = self._is_true(self.context.at(action.branch.condition))
        error = unmet(action.branch.demands[not holds], self.environment.sizes)
        if error is not None:
            raise error
        side = action.then if holds else action.otherwise
        self._together(action.branch.node, lambda: self.run(side))

    def _together(self, node: Node, work: Callable[[], int | None]) -> None:
        """Some work; in a profile, one row for all of it. Work gives the steps that it made."""
        outer, note = self.environment, self.environment.note
        if note is None:
            work()
            return
        tally = Tally()
        self.environment = outer._replace(note=tally)
        try:
            times = work()
        finally:
            self.environment = outer
        rows = tally.rows
        moved, done = sum(row.moved for row in rows), sum(row.work for row in rows)
        seconds = sum(row.seconds or 0.0 for row in rows)
        note(node, seconds, moved, done, 1 if times is None else times, rows)

    def _is_true(self, place: Place) -> bool:
        """The value of a condition, waited for."""
        found = np.empty(1, np.uint8)
        fetch(self.queue, place, found, wait=True)
        return bool(found[0])

    # ------------------------------------------------------------------ loops

    def _loop(self, action: Again) -> int:
        """All steps; gives how many there were."""
        loop, context = action.loop, self.context
        steps, step = Steps(context, loop, self.held), 0
        quick = self._is_plain and all(type(each) is Launch for each in action.inside)
        self._begin(loop)
        while step < steps.length and self._goes_on(steps, step):
            if quick and step:
                step = self._quickly(action, steps, step)
            else:
                steps.enter(step)
                self._inside(action, steps.number(step))
                step += 1
        for number, state in enumerate(loop.states):
            place = steps.before(number, step)
            move(self.queue, place, context.at(state.last), context.size(state.last))
        if loop.count is not None:
            count = np.asarray(step, np.int64)
            self.held.append(write(self.queue, context.at(loop.count), count))
        return step

    def _goes_on(self, steps: Steps, step: int) -> bool:
        """Whether the guard of a loop, if it has one, asks for one more step."""
        if steps.loop.count is None:
            return True
        if self.recipe.faulty:  # what is read in place of nothing may never end it
            self.context.read_cell()
        return self._is_true(steps.before(0, step)) and not self.context.cell[0]

    def _quickly(self, action: Again, steps: Steps, first: int) -> int:
        """Some steps of nothing but launches; gives the number of the next one."""
        queue, enqueue = self.queue, self.enqueue
        numbers = [each.number for each in action.inside if isinstance(each, Launch)]
        found = [self.context.ready[number] for number in numbers]
        launches = [(each.kernel, each.items, each.groups) for each in found if each.items]
        guarded, step = action.loop.count is not None, first
        try:
            for number in steps.many(first):
                step = number
                for kernel, items, groups in launches:
                    enqueue(queue, kernel, items, groups)
                if guarded and not self._goes_on(steps, step + 1):
                    break
        finally:
            steps.leave(step)
        return step + 1

    def _inside(self, action: Again, number: int) -> None:
        """One step."""
        try:
            self.run(action.inside)
        except GraphcError as error:
            raise in_step(error, number, action.loop.node) from error.__cause__

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
        if self.check is not None and not any(map(has_nan, inputs)):
            check_host(host, arrays)

    def _array(self, buffer: Buffer) -> Array:
        found = self._known.get(buffer)
        return self.context.array(buffer) if found is None else found

    # ------------------------------------------------------------------ profiles and checks

    def _stepwise(self, launch: Launch, ready: Ready) -> None:
        """One kernel, waited for; an error, where it must not run."""
        if (text := self.context.refused.get(launch.number)) is not None:
            raise ShapeError(text)
        clean = self.check is not None and not any(
            has_nan(self.context.array(b)) for b in launch.placed.reads if b.type.dtype.is_float
        )
        if ready.items is None:
            return
        event = self.enqueue(self.queue, ready.kernel, ready.items, ready.groups)
        event.wait()
        if self.environment.note is not None:
            self._note(
                self.environment.note, launch, 1e-9 * (event.profile.end - event.profile.start)
            )
        if clean:
            check_kernel(launch.placed.kernel, map(self.context.array, launch.placed.writes))

    def _note(self, note: Note, launch: Launch, seconds: float) -> None:
        sizes, context = self.environment.sizes, self.context
        if launch.loop is not None:
            row = Accounts(sizes, self._bytes, context.array).outer(launch.loop)
            note(row.what, seconds, row.moved, row.work, row.times, row.inside)
            return
        moved = sum(context.size(buffer) for buffer in launch.placed.buffers)
        kernel = launch.routine.kernel
        note(kernel, seconds, moved, evaluate(operations(kernel), sizes))

    def _bytes(self, buffer: Buffer) -> int:
        """Of a buffer that may have no memory."""
        size = product(shape_of(buffer)) * buffer.type.dtype.itemsize
        return evaluate(size, self.environment.sizes)
