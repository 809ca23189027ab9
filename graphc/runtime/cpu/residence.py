"""A context that keeps variables from run to run: their new values never leave its block.

Enters: once, the values of all variables that a program reads; then runs with feeds alone. Leaves:
the outputs of each run; and the values of what it writes, when somebody asks. Copying every value
out and in again, as an array of its own, takes longer than the arithmetic of a small network.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.graph import Node
from graphc.runtime.cpu.binder import WORD
from graphc.runtime.cpu.context import Context
from graphc.runtime.cpu.routine import CHUNK
from graphc.runtime.cpu.steps import fault
from graphc.runtime.cpu.threads import pool
from graphc.runtime.cpu.walker import END

BRIEF = 64 * CHUNK  # element operations of a run that others wait for: a tenth of a millisecond


class Residence:
    """The context, and what its runs take and give. One run at a time."""

    def __init__(self, context: Context, leaving: Callable[[], None]) -> None:
        """`leaving` is called before the values lose their place."""
        recipe = context.recipe
        self.nodes: Sequence[Node] = recipe.nodes
        self._context, self._symbols = context, recipe.symbols
        first = len(recipe.plan.inputs)
        self._written = [read - first for _, read in recipe.landings]
        self._outputs = len(recipe.results) - len(recipe.landings)
        self.sizes: Mapping[Symbol, int] | None = None
        self._copies: Sequence[Callable[[], Array]] = ()
        self._held: list[Array] = []
        context.leaving, context.form[WORD["most"]] = leaving, BRIEF
        context.words[END] = len(recipe.natives) + 1

    def bind(self, sizes: Mapping[Symbol, int]) -> bool:
        """Make ready for runs of these sizes; False where they are not small ones."""
        context, self.sizes = self._context, None
        key = tuple([sizes[symbol] for symbol in self._symbols])
        if context.key != key and not context.bind(key):
            return False
        context.sizes = sizes
        if not context.quick:
            return False
        self.sizes, self._copies = sizes, context.copies[: self._outputs]
        return True

    def hold(self, arrays: Sequence[Array]) -> None:
        """Take over the values of `nodes`."""
        context, self._held = self._context, []
        for number, array in enumerate(arrays):
            if context.seen[number]() is not array:
                kept = context.place_variable(number, array)
                if kept is not array:
                    self._held.append(kept)

    def run(self, feeds: Sequence[Array], entropy: Array | None) -> list[Array]:
        """The outputs of one more run; updates have landed when it returns."""
        context = self._context
        for slot, array in zip(context.feeds, feeds):  # as many of each
            slot[...] = array  # type: ignore[index]  # none is None
        if entropy is not None:
            for own in context.entropy:
                own[...] = entropy
        if context.parallel:
            pool().start()
        number = context.walk(context.address)
        if number >= 0:
            raise fault(context, number)
        return [copy() for copy in self._copies]

    def values(self) -> list[Array]:
        """The values of what updates write, as arrays that are never written to."""
        context, found = self._context, []
        for number in self._written:
            view = context.variables[number]
            assert view is not None
            array = view.copy()
            array.setflags(write=False)
            context.seen[number] = weakref.ref(array)
            found.append(array)
        return found
