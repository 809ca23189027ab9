"""What one run at a time owns: kernels with their arguments, and the memory of everything.

Enters: a recipe, and the sizes of a run. Leaves: kernels that are ready to be enqueued. A context
stays bound: a run of the same sizes only puts its feeds into place. Concurrent runs of one program
have different contexts, each with a queue of its own.

Results have buffers of their own, since they may become what variables are (`residence`); all else
lies in one arena, or, where that is more than the device gives in one piece, each in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc import lazy
from graphc.dims import Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import DeviceError, ShapeError
from graphc.kernel import Buffer
from graphc.runtime.memory import layout
from graphc.runtime.opencl.live import live
from graphc.runtime.opencl.memory import (
    NOWHERE,
    Live,
    Memory,
    Place,
    Staging,
    exhausted,
    fetch,
    write,
)
from graphc.runtime.opencl.recipe import Recipe
from graphc.runtime.opencl.routine import CELL
from graphc.runtime.sizes import MOST

opencl = lazy.Module("pyopencl")
MOST_STAGED = 2**26  # bytes of an array that passes at once: what is locked cannot be swapped
LARGE = 2**18  # bytes of a result that is worth memory of its own
SLACK = 1.25  # of an arena that has grown before


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
        self._staged: dict[Hashable, Staging] = {}
        self.refused: dict[int, str] = {}  # launches that no run may come to, with the reasons
        self.cell = np.zeros(CELL, np.int32)
        self.results = recipe.apart()
        self.direct: Sequence[int] = ()  # slots of results that are computed where they leave
        self.outputs = 0  # bytes of all results
        try:
            self._cell = Place(memory.allocate(self.cell.nbytes), 0)
            write(self.queue, self._cell, self.cell, wait=True)
            for buffer, array in recipe.constants.items():
                self.place(recipe.slots[buffer], Place(memory.copy(self.queue, array), 0))
        except MemoryError as error:
            given = [Live(b.name, a.nbytes, "a constant") for b, a in recipe.constants.items()]
            raise exhausted(error, memory.capabilities.name, given) from None

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
        found, count = live(self.recipe, self.values), len(self.recipe.storages)
        # Variables that stay here stay.
        self._own = {slot: own for slot, own in self._own.items() if slot >= count}
        self.places = [NOWHERE] * count + self.places[count:]
        self._arena, self.key, self.sizes = (None, 0), None, None
        return exhausted(error, self.memory.capabilities.name, found)

    def _check(self) -> None:
        values, recipe = self.values, self.recipe
        for left, right, demand in recipe.demands:
            error = demand.refused(values[left], values[right])
            if error is not None:
                raise error
        self.refused = {}
        for number, extents, rule in recipe.needs:
            if self._is_run(number) and any(values[n] == 0 for n in extents):
                text = recipe.launches[number].placed.kernel.failure(rule)
                if number not in recipe.inner:
                    raise ShapeError(text)
                self.refused[number] = text
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
        self._demand()
        self.direct = self._set_apart()
        for slot, storage in enumerate(recipe.storages):
            if slot in self.direct:
                self._own.pop(slot, None)
                self.places[slot] = NOWHERE
            elif storage.kept:
                self.own(slot, self.size(storage.buffers[0]))
            else:
                inner.append(slot)
        sizes = [self.size(recipe.storages[slot].buffers[0]) for slot in inner]
        firsts = [recipe.storages[slot].first for slot in inner]
        lasts = [recipe.storages[slot].last for slot in inner]
        found = layout(firsts, lasts, sizes)
        if found.total > self.memory.capabilities.allocation_limit:
            self._arena = None, 0
            for slot, size in zip(inner, sizes, strict=True):
                self.own(slot, size)
            return
        arena = self._grown(found.total)
        for slot, offset in zip(inner, found.offsets.tolist(), strict=True):
            self._own.pop(slot, None)
            self.place(slot, Place(arena, offset))

    def _set_apart(self) -> list[int]:
        """The slots of results that are computed where they leave."""
        self.outputs = 5 * sum(self.size(b) for b in self.recipe.plan.roots) // 4
        if not self.memory.capabilities.unified:
            return []
        return [slot for slot, buffer in self.results.items() if self.size(buffer) >= LARGE]

    def _demand(self) -> None:
        """A MemoryError where a run needs more at once than the whole device has."""
        have = self.memory.capabilities.global_memory
        total = sum(each.bytes for each in live(self.recipe, self.values)) if have else 0
        if total > have:
            raise MemoryError(f"{total:,} bytes are needed at once, and it has {have:,} in all")

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

    def staged(self, key: Hashable, array: Array) -> Array | None:
        """Memory through which a feed or a result passes; None where that would be no quicker."""
        size = array.nbytes
        if self.memory.capabilities.unified or not LARGE <= size <= MOST_STAGED:
            return None
        staging = self._staged.get(key)
        if staging is None or not staging.holds(size):
            self._staged.pop(key, None)
            try:
                staging = self._staged[key] = Staging(self.memory, self.queue, size)
            except opencl.Error:
                return None
        return staging.like(array)

    def close(self) -> None:
        """Let go of all memory. No run follows."""
        self.places = [NOWHERE] * self.recipe.count
        self._own.clear()
        self._staged.clear()
        self._cell = NOWHERE
        self._arena, self.key, self.sizes, self.snapshot = (None, 0), None, None, None

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
