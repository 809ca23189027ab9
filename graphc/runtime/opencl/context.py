"""What one run at a time owns: kernels with their arguments, and the memory of everything.

Enters: a recipe, and the sizes of a run. Leaves: kernels that are ready to be enqueued. A context
stays bound: a run of the same sizes only puts its feeds into place. Concurrent runs of one program
have different contexts, each with a queue of its own.

Results have buffers of their own, since they may become what variables are (`residence`); all else
lies in one arena, or, where that is more than the device gives in one piece, each in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc import lazy
from graphc.dims import Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import DeviceError, ShapeError
from graphc.kernel import Buffer
from graphc.runtime.memory import layout
from graphc.runtime.opencl.memory import Live, Memory, Place, exhausted, fetch, write
from graphc.runtime.opencl.recipe import Recipe
from graphc.runtime.opencl.routine import CELL
from graphc.runtime.sizes import MOST

opencl = lazy.Module("pyopencl")
SLACK = 1.25  # of an arena that has grown before
NOWHERE = Place(None, 0)


class Ready:
    """A launch whose arguments are set."""

    __slots__ = ("groups", "items", "kernel", "set")

    def __init__(self, kernel: Any, group: tuple[int, ...]) -> None:
        self.kernel, self.groups = kernel, group
        self.items: tuple[int, ...] | None = None  # None: nothing to do at these sizes
        self.set: Callable[[int, Any], None] = getattr(kernel, "_set_arg_buf", kernel.set_arg)


class Context:
    """The kernels and the memory of a run."""

    def __init__(self, recipe: Recipe, memory: Memory, profiles: bool = False) -> None:
        self.recipe, self.memory = recipe, memory
        kind = opencl.command_queue_properties.PROFILING_ENABLE if profiles else 0
        self.queue = opencl.CommandQueue(memory.context, properties=kind)
        self.ready = [
            Ready(function.kernel(), each.routine.group)
            for function, each in zip(recipe.functions, recipe.launches, strict=True)
        ]
        self.places: list[Place] = [NOWHERE] * recipe.count
        self.readers: list[list[tuple[Ready, int, int]]] = [[] for _ in range(recipe.count)]
        for ready, each in zip(self.ready, recipe.launches, strict=True):
            for number, buffer in enumerate(each.placed.buffers):
                at = (ready, 2 * number, buffer.type.dtype.itemsize)
                self.readers[recipe.slots[buffer]].append(at)
        self.values: Sequence[int] = ()
        self.key: tuple[int, ...] | None = None
        self.sizes: Mapping[Symbol, int] | None = None
        self.snapshot: Any = None  # the variables of the last run
        self._arena: tuple[Any, int] = (None, 0)
        self._own: dict[int, tuple[Any, int]] = {}  # memory of single slots, and its bytes
        self.cell = np.zeros(CELL, np.int32)
        self._cell = Place(memory.allocate(self.cell.nbytes), 0)
        write(self.queue, self._cell, self.cell, wait=True)
        for buffer, array in recipe.constants.items():
            self.place(recipe.slots[buffer], Place(memory.copy(self.queue, array), 0))

    # ------------------------------------------------------------------ places

    def place(self, slot: int, place: Place) -> None:
        """Let what has a slot lie at a place."""
        before, self.places[slot] = self.places[slot], place
        if before == place:
            return
        for ready, argument, width in self.readers[slot]:
            if before.memory is not place.memory:
                ready.kernel.set_arg(argument, place.memory)
            ready.set(argument + 1, np.int64(place.offset // width))

    def at(self, buffer: Buffer) -> Place:
        """Where a buffer lies."""
        return self.places[self.recipe.slots[buffer]]

    def own(self, slot: int, size: int) -> Place:
        """Memory of a slot's own, of at least so many bytes; it is kept from run to run."""
        memory, have = self._own.get(slot, (None, -1))
        if have < size:
            self._own.pop(slot, None)
            memory = self.memory.allocate(size)
            self._own[slot] = memory, size
        place = Place(memory, 0)
        self.place(slot, place)
        return place

    def swap(self, one: int, other: int) -> None:
        """Let two slots have each other's memory."""
        self._own[one], self._own[other] = self._own[other], self._own[one]
        first, second = self.places[one], self.places[other]
        self.place(one, second)
        self.place(other, first)

    def shape(self, buffer: Buffer) -> tuple[int, ...]:
        """The sizes of a buffer."""
        return tuple([self.values[number] for number in self.recipe.shapes[buffer]])

    def size(self, buffer: Buffer) -> int:
        """The bytes of a buffer."""
        return self.values[self.recipe.bytes[buffer]]

    # ------------------------------------------------------------------ binding

    def bind(self, sizes: Mapping[Symbol, int]) -> None:
        """Make everything ready for a run of these sizes."""
        recipe = self.recipe
        key = tuple([sizes[symbol] for symbol in recipe.dimensions.symbols])
        if self.key != key:
            self.key = self.sizes = None
            self.values = recipe.dimensions.exact(key).tolist()
            self._check()
            try:
                self._place_storages()
            except MemoryError as error:
                raise self.exhausted(error) from None
            for number in range(len(self.ready)):
                self._bind_launch(number)
            self.key = key
        self.sizes = sizes

    def exhausted(self, error: MemoryError) -> DeviceError:
        """The error of a binding without memory; the next one begins anew."""
        values, recipe = self.values, self.recipe
        live = [
            Live(
                buffers[0].name, values[recipe.bytes[buffers[0]]], recipe.lines.get(buffers[0], ())
            )
            for buffers in [*(s.buffers for s in recipe.storages), *([b] for b in recipe.given)]
        ]
        count = len(recipe.storages)  # variables that stay here stay
        self._own = {slot: own for slot, own in self._own.items() if slot >= count}
        self.places = [NOWHERE] * count + self.places[count:]
        self._arena, self.key, self.sizes = (None, 0), None, None
        return exhausted(error, self.memory.capabilities.name, live)

    def _check(self) -> None:
        values, recipe = self.values, self.recipe
        for left, right, demand in recipe.demands:
            error = demand.refused(values[left], values[right])
            if error is not None:
                raise error
        for number, extents, rule in recipe.needs:
            if self._is_run(number) and any(values[n] == 0 for n in extents):
                raise ShapeError(recipe.launches[number].placed.kernel.failure(rule))
        total = sum(self.size(s.buffers[0]) for s in recipe.storages if s.kept)
        if total > MOST:
            raise DeviceError("run: out of memory: more than 2**62 bytes were asked for")

    def _is_run(self, number: int) -> bool:
        """Whether a launch has anything to do."""
        values, recipe = self.values, self.recipe
        numbers = (*recipe.items[number], recipe.wanted[number])
        return all(values[n] > 0 for n in numbers)

    def _place_storages(self) -> None:
        recipe, inner = self.recipe, []
        for slot, storage in enumerate(recipe.storages):
            if storage.kept:
                self.own(slot, self.size(storage.buffers[0]))
            else:
                inner.append(slot)
        sizes = [self.size(recipe.storages[slot].buffers[0]) for slot in inner]
        firsts = [recipe.storages[slot].first for slot in inner]
        lasts = [recipe.storages[slot].last for slot in inner]
        found = layout(firsts, lasts, sizes)
        self._demand(found.total)
        if found.total > self.memory.capabilities.allocation_limit:
            self._arena = None, 0
            for slot, size in zip(inner, sizes, strict=True):
                self.own(slot, size)
            return
        arena = self._grown(found.total)
        for slot, offset in zip(inner, found.offsets.tolist(), strict=True):
            self.place(slot, Place(arena, offset))

    def _demand(self, total: int) -> None:
        """A MemoryError where a run needs more than the whole device has."""
        have = self.memory.capabilities.global_memory
        if have and total > have:
            raise MemoryError(f"{total:,} bytes were asked for, and it has {have:,} in all")

    def _grown(self, total: int) -> Any:
        memory, have = self._arena
        if memory is None or have < total:
            self._arena = None, 0
            limit = self.memory.capabilities.allocation_limit
            wanted = min(int(total * SLACK), limit) if have else total
            self._arena = self.memory.allocate(wanted), wanted
        return self._arena[0]

    def _bind_launch(self, number: int) -> None:
        """Sizes and work-items of a launch."""
        ready, values, routine = (
            self.ready[number],
            self.values,
            self.recipe.launches[number].routine,
        )
        ready.items = None
        if self._is_run(number):
            counts = [values[n] for n in self.recipe.items[number]]
            ready.items = tuple(
                [-(-n // each) * each for n, each in zip(counts, ready.groups, strict=True)]
            )
        argument = 2 * len(routine.buffers)
        for size in self.recipe.sizes[number]:
            ready.set(argument, np.int64(values[size]))
            argument += 1
        if routine.faults:
            ready.kernel.set_arg(argument, self._cell.memory)
            ready.set(argument + 1, np.int32(number))

    # ------------------------------------------------------------------ faults

    def read_cell(self) -> None:
        """Ask for what launches have found wrong; it is there when the queue is finished."""
        fetch(self.queue, self._cell, self.cell)

    def fault(self) -> ShapeError:
        """The error that the cell tells of; the context can be used again."""
        _, launch, number, low, high = self.cell.tolist()
        index = (high << 32) | (low & 0xFFFFFFFF)
        self.cell[:] = 0
        write(self.queue, self._cell, self.cell, wait=True)
        placed = self.recipe.launches[launch].placed
        found = placed.routine.faults[number]
        size = evaluate(found.size, self.sizes or {})
        return ShapeError(placed.kernel.failure(found.rule.format(index, size)))

    def array(self, buffer: Buffer) -> Array:
        """What a buffer holds now."""
        found = np.empty(self.shape(buffer), buffer.type.dtype.numpy)
        fetch(self.queue, self.at(buffer), found, wait=True)
        return found
