"""One run: put what is given into place, walk, read the results, wait once.

Enters: a context that is bound, and what is given. Leaves: arrays that nobody else holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from graphc import lazy
from graphc.dtypes import Array
from graphc.errors import DeviceError
from graphc.kernel import Buffer
from graphc.runtime.device import Environment, Snapshot
from graphc.runtime.leases import Leases
from graphc.runtime.opencl.context import Context
from graphc.runtime.opencl.memory import NOWHERE, Place, write
from graphc.runtime.opencl.results import Results
from graphc.runtime.opencl.walking import Walk

opencl = lazy.Module("pyopencl")
LARGE = 2**16  # bytes of a feed that is not copied where it need not be


class Run:
    """One run of a program."""

    def __init__(
        self,
        context: Context,
        leases: Leases,
        feeds: Sequence[Array],
        environment: Environment,
        check: str | None,
    ) -> None:
        self.context, self.recipe, self.leases = context, context.recipe, leases
        self.feeds, self.environment, self.check = feeds, environment, check

    def __call__(self) -> list[Array]:
        """The results, in arrays that nobody else holds."""
        context, known = self.context, self._known()
        with reported(context):
            self._place_variables()
            walk = Walk(context, self.environment, known, self.check)
            return perform(walk, self.leases, self.feeds, known, self.recipe.plan.roots)

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


def perform(
    walk: Walk,
    leases: Leases,
    feeds: Sequence[Array],
    known: Mapping[Buffer, Array],
    roots: Sequence[Buffer],
) -> list[Array]:
    """Put feeds into place, walk, read the roots and wait once; `known` are on the host."""
    context = walk.context
    held = place_feeds(context, feeds)
    place_entropy(context, walk.environment.entropy, held)
    results = Results(context, leases)
    walk()
    arrays = results.read(roots, known)
    finish(context)
    release(context, held)
    results.settle()
    return arrays


@contextmanager
def reported(context: Context) -> Iterator[None]:
    """What goes wrong on the device, as an error that says what the user can do."""
    try:
        yield
    except MemoryError as error:
        raise context.exhausted(error) from None
    except opencl.Error as error:
        raise failed(context, error) from error


def place_feeds(context: Context, feeds: Sequence[Array]) -> list[Any]:
    """Put what is fed where the device reads it; gives what must live until the run has finished.

    Where device and host share their memory, large arrays are read in place; elsewhere they pass
    through memory that the device copies from by itself.
    """
    held: list[Any] = []
    for buffer, array in zip(context.recipe.plan.inputs, feeds, strict=True):
        slot = context.recipe.slots[buffer]
        if array.nbytes >= LARGE and context.memory.shares(array):
            place = Place(context.memory.around(array), 0)
            context.place(slot, place)
            held.append((slot, place))
        else:
            staged = context.staged(slot, array)
            if staged is not None:
                staged[...] = array
                array = staged
            held.append(write(context.queue, context.own(slot, array.nbytes), array))
    return held


def release(context: Context, held: Sequence[Any]) -> None:
    """Let go of arrays that were read in place: an idle context keeps none alive."""
    for each in held:
        if isinstance(each, tuple):
            context.places[each[0]] = NOWHERE


def place_entropy(context: Context, entropy: Array, held: list[Any]) -> None:
    """The seed, where it is asked for."""
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
