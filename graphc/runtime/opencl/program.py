"""A compiled graph: put what is given into place, walk the steps, read the results once.

Enters: a plan, and what makes routines and functions. Leaves: an `OpenclProgram`, which any number
of threads may run at once. A run waits for the device once, at its end.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.graph import Node
from graphc.plan import Call, Host, Plan, all_steps
from graphc.runtime.device import Environment
from graphc.runtime.leases import Leases
from graphc.runtime.memory import Peak, layout
from graphc.runtime.opencl.building import Builder
from graphc.runtime.opencl.context import Context
from graphc.runtime.opencl.memory import Memory
from graphc.runtime.opencl.recipe import Generate, Recipe
from graphc.runtime.opencl.residence import Residence
from graphc.runtime.opencl.running import Run

MOST_IDLE = 4  # contexts of an idle program


class OpenclProgram:
    """A plan on a device."""

    fresh = True  # what `run` returns is memory that nobody else holds

    def __init__(
        self,
        plan: Plan,
        generate: Generate,
        builder: Builder,
        memory: Memory,
        check: str | None = None,
        targets: Sequence[Node] = (),
    ) -> None:
        """`targets`: the variables that the last roots are values for."""
        self.plan, self.memory_of = plan, memory
        self.recipe = Recipe(plan, generate, builder.functions, targets)
        self.leases = Leases()
        self._check = check
        self._idle: list[Context] = []
        self._residences: weakref.WeakSet[Residence] = weakref.WeakSet()
        self._closed = False
        memory.holders.add(self)

    def run(self, feeds: Sequence[Array], environment: Environment) -> list[Array]:
        """The values of the roots, in arrays that nobody else holds."""
        noted = environment.note is not None
        try:
            context = Context(self.recipe, self.memory_of, True) if noted else self._idle.pop()
        except IndexError:
            context = Context(self.recipe, self.memory_of)
        if context.sizes is not environment.sizes:
            context.bind(environment.sizes)
        results = Run(context, self.leases, feeds, environment, self._check)()
        if not noted and not self._closed and len(self._idle) < MOST_IDLE:
            self._idle.append(context)
        return results

    def spare(self) -> None:
        """Let go of what is kept for later runs alone."""
        self._idle.clear()
        self.leases.keep(0)

    def close(self) -> None:
        """Free all memory on the device; runs in other threads free theirs at their end."""
        self._closed = True
        self.spare()
        for residence in list(self._residences):
            residence.close()

    def residence(self, leaving: Callable[[], None]) -> Residence | None:
        """What keeps variables on the device from run to run; None where sizes decide them."""
        if self._check is not None or not self.recipe.landings:
            return None
        if any(not buffer.type.is_static for _, buffer in self.plan.variables):
            return None
        made = Residence(self.recipe, self.memory_of, self.leases, leaving)
        self._residences.add(made)
        return made

    @property
    def summary(self) -> dict[str, int]:
        """For the compile report."""
        steps = list(all_steps(self.plan.steps))
        return {
            "kernels": sum(isinstance(step, Call) for step in steps),
            "host calls": sum(isinstance(step, Host) for step in steps),
            "codes": len({id(function) for function in self.recipe.functions}),
        }

    def memory(self, sizes: Mapping[Symbol, int]) -> Peak:
        """The memory that a run of these sizes needs beside its feeds and variables."""
        recipe = self.recipe
        values = recipe.dimensions.exact([sizes[s] for s in recipe.dimensions.symbols]).tolist()
        count = {id(s): values[recipe.bytes[s.buffers[0]]] for s in recipe.storages}
        inner = [s for s in recipe.storages if not s.kept]
        found = layout(
            [s.first for s in inner], [s.last for s in inner], [count[id(s)] for s in inner]
        )
        return Peak(found.total, 0, sum(count[id(s)] for s in recipe.storages if s.kept))
