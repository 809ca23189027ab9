"""Variables that stay on the device from run to run: new values never leave it.

Enters: once, the values of all variables that a program reads; then runs with feeds alone. Leaves:
the outputs of each run; and the values of what it writes, when somebody asks. What an update has
written becomes the variable, and the old memory is where the next run writes: nothing is copied,
and after a fault the old values still stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.graph import Node
from graphc.runtime.device import Environment
from graphc.runtime.leases import Leases
from graphc.runtime.opencl.context import Context
from graphc.runtime.opencl.memory import Memory, fetch, write
from graphc.runtime.opencl.recipe import Recipe
from graphc.runtime.opencl.running import perform, reported
from graphc.runtime.opencl.walking import Walk

NO_ENTROPY = np.zeros(2, np.uint64)


class Residence:
    """The context, and what its runs take and give. One run at a time."""

    def __init__(
        self, recipe: Recipe, memory: Memory, leases: Leases, leaving: Callable[[], None]
    ) -> None:
        """`leaving` would be called before the values lose their place, which they never do."""
        self._leases = leases
        self.nodes: Sequence[Node] = recipe.nodes
        self.sizes: Mapping[Symbol, int] | None = None
        self._recipe, self._context = recipe, Context(recipe, memory)
        self._landings = recipe.landings
        self._landed = False  # since the values were handed over
        self._roots = recipe.plan.roots[: len(recipe.plan.roots) - len(recipe.landings)]
        self._held: list[Array | None] = [None] * len(self.nodes)
        self._read = [buffer for _, buffer in recipe.plan.variables]

    def bind(self, sizes: Mapping[Symbol, int]) -> bool:
        """Make ready for runs of these sizes."""
        self.sizes = None
        self._context.bind(sizes)
        self.sizes = sizes
        return True

    def hold(self, arrays: Sequence[Array]) -> None:
        """Take over the values of `nodes`."""
        with reported(self._context):
            self._hold(arrays)

    def _hold(self, arrays: Sequence[Array]) -> None:
        context, written = self._context, {home for _, _, home in self._landings}
        for number, (buffer, array) in enumerate(zip(self._read, arrays, strict=True)):
            slot = self._recipe.slots[buffer]
            if self._held[number] is not array or slot in written:
                write(context.queue, context.own(slot, array.nbytes), array, wait=True)
                self._held[number] = array if slot not in written else None
        for buffer, _, home in self._landings:
            context.own(home, context.size(buffer))
        self._landed = False

    def run(self, feeds: Sequence[Array], entropy: Array | None) -> list[Array]:
        """The outputs of one more run; updates have landed when it returns."""
        context, recipe = self._context, self._recipe
        environment = Environment(self.sizes or {}, {}, NO_ENTROPY if entropy is None else entropy)
        known = dict(zip(recipe.plan.inputs, feeds, strict=True)) | recipe.constants
        with reported(context):
            walk = Walk(context, environment, known)
            outputs = perform(walk, self._leases, feeds, known, self._roots)
        for _, made, home in self._landings:
            context.swap(made, home)
        self._landed = True
        return outputs

    def values(self) -> list[Array | None]:
        """The values of what updates write, never written to; None: what they were before."""
        context, found = self._context, []
        if not self._landed:
            return [None] * len(self._landings)
        for buffer, _, home in self._landings:
            array = np.empty(context.shape(buffer), buffer.type.dtype.numpy)
            fetch(context.queue, context.places[home], array)
            found.append(array)
        context.queue.finish()
        for each in found:
            each.setflags(write=False)
        return [*found]

    def close(self) -> None:
        """Let go of all memory."""
        self._held, self.sizes, self._landed = [None] * len(self.nodes), None, False
        self._context.close()
