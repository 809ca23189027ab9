"""One run: put what is given into place, walk, read the results, wait once.

Enters: a context that is bound, and what is given. Leaves: arrays that nobody else holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import lazy
from graphc.dtypes import Array
from graphc.errors import DeviceError
from graphc.kernel import Buffer
from graphc.runtime.device import Environment, Snapshot
from graphc.runtime.opencl.context import NOWHERE, Context
from graphc.runtime.opencl.memory import Place, fetch, write
from graphc.runtime.opencl.walking import Walk

opencl = lazy.Module("pyopencl")
LARGE = 2**16  # bytes of a feed that is not copied where it need not be


class Run:
    """One run of a program."""

    def __init__(
        self, context: Context, feeds: Sequence[Array], environment: Environment, check: str | None
    ) -> None:
        self.context, self.recipe = context, context.recipe
        self.feeds, self.environment, self.check = feeds, environment, check

    def __call__(self) -> list[Array]:
        """The results, in arrays that nobody else holds."""
        context = self.context
        try:
            held = place_feeds(context, self.feeds)
            self._place_variables()
            place_entropy(context, self.environment.entropy, held)
            walk = Walk(context, self.environment, self._known(), self.check)
            walk()
            results = self._results()
            finish(context)
            release(context, held)
        except MemoryError as error:
            raise context.exhausted(error) from None
        except opencl.Error as error:
            raise failed(context, error) from error
        return results

    def _known(self) -> dict[Buffer, Array]:
        """What the host has of what is on the device."""
        plan, variables = self.recipe.plan, self.environment.variables
        known = dict(zip(plan.inputs, self.feeds, strict=True)) | self.recipe.constants
        return known | {buffer: variables[node] for node, buffer in plan.variables}

    def _place_variables(self) -> None:
        context, variables = self.context, self.environment.variables
        if context.snapshot is variables:
            return
        for node, buffer in self.recipe.plan.variables:
            copy = context.memory.copy(context.queue, variables[node])
            context.place(self.recipe.slots[buffer], Place(copy, 0))
        context.snapshot = variables if type(variables) is Snapshot else None

    def _results(self) -> list[Array]:
        """Arrays for the roots, which the queue fills."""
        known = {id(buffer): array for buffer, array in self._known().items()}
        found = []
        for buffer in self.recipe.plan.roots:
            if id(buffer) in known:
                found.append(np.array(known[id(buffer)]).reshape(known[id(buffer)].shape))
            else:
                found.append(read(self.context, buffer))
        return found


def read(context: Context, buffer: Buffer) -> Array:
    """An array that the queue fills with a buffer."""
    array = np.empty(context.shape(buffer), buffer.type.dtype.numpy)
    fetch(context.queue, context.at(buffer), array)
    return array


def place_feeds(context: Context, feeds: Sequence[Array]) -> list[Any]:
    """Put what is fed where the device reads it; gives what must live until the run has finished.

    Where device and host share their memory, large arrays are read in place.
    """
    held: list[Any] = []
    unified = context.memory.capabilities.unified
    for buffer, array in zip(context.recipe.plan.inputs, feeds, strict=True):
        slot = context.recipe.slots[buffer]
        if unified and array.nbytes >= LARGE and array.flags.c_contiguous:
            place = Place(context.memory.around(array), 0)
            context.place(slot, place)
            held.append((slot, place))
        else:
            held.append(write(context.queue, context.own(slot, array.nbytes), array))
    return held


def release(context: Context, held: Sequence[Any]) -> None:
    """Let go of arrays that were read in place: an idle context keeps none alive."""
    for each in held:
        if isinstance(each, tuple):
            context.places[each[0]] = NOWHERE


def place_entropy(context: Context, entropy: Array | None, held: list[Any]) -> None:
    """The seed, where it is asked for."""
    if entropy is not None:
        for buffer in context.recipe.plan.entropy:
            place = context.own(context.recipe.slots[buffer], entropy.nbytes)
            held.append(write(context.queue, place, entropy))


def finish(context: Context) -> None:
    """Wait for everything; raise what a launch has found wrong."""
    if context.recipe.faulty:
        context.read_cell()
    context.queue.finish()
    if context.cell[0]:
        raise context.fault()


def failed(context: Context, error: Exception) -> DeviceError:
    """What a driver reports in the midst of a run."""
    if isinstance(error, opencl.MemoryError):
        return context.exhausted(MemoryError(str(error)))
    return DeviceError(f"run: {context.memory.capabilities.name} failed: {error}")
