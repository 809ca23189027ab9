"""A compiled graph: place what is given, walk the launches, hand out the results.

Enters: a plan, and what turns a kernel into routines. Leaves: a `CpuProgram`, which any number of
threads may run at once. A run of a small graph is mostly this file, so `run` does little: the
sizes find the context's binding, small feeds are copied, one native call computes, small results
are copied out. What needs more (host calls, large arrays, profiles, checks) is in `_Run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.graph import Node
from graphc.plan import Branch, Call, Host, Loop, Plan, all_steps
from graphc.runtime.cpu.binding import Arenas
from graphc.runtime.cpu.context import Context, peak
from graphc.runtime.cpu.parts import parts_of
from graphc.runtime.cpu.recipe import Recipe
from graphc.runtime.cpu.residence import Residence
from graphc.runtime.cpu.reuse import Generate
from graphc.runtime.cpu.steps import Run, fault
from graphc.runtime.cpu.target import Target
from graphc.runtime.cpu.threads import pool
from graphc.runtime.device import Environment
from graphc.runtime.leases import Leases
from graphc.runtime.memory import Peak

MOST_IDLE = 16  # light contexts of an idle program; of heavy ones it keeps one


class CpuProgram:
    """A plan as native code."""

    fresh = True  # what `run` returns is memory that nobody else holds

    def __init__(
        self,
        plan: Plan,
        generate: Generate,
        target: Target,
        threads: int | None = None,
        check: str | None = None,
        targets: Sequence[Node] = (),
    ) -> None:
        """`targets`: the variables that the last roots are values for."""
        parts, moving = parts_of(plan.steps, generate, target)
        self.plan = plan
        self.recipe = Recipe(plan, parts, moving, threads or 0, target.cores, targets)
        self.leases = Leases()
        self._arenas = Arenas(self.recipe)
        self._symbols = self.recipe.symbols
        self._nodes = self.recipe.nodes
        self._idle: list[Context] = []
        self._check = check
        self._serial = threads == 1
        self._plain = check is None and all(s.host is None for s in self.recipe.segments)

    def run(self, feeds: Sequence[Array], environment: Environment) -> list[Array]:
        """The values of the roots, in arrays that nobody else holds."""
        idle = self._idle
        try:
            context = idle.pop()
        except IndexError:
            context = Context(self.recipe, self._arenas)
        sizes = environment.sizes
        if context.sizes is not sizes:
            key = tuple([sizes[symbol] for symbol in self._symbols])
            if context.key != key:
                context.bind(key)
            context.sizes = sizes
            if context.callbacks is not None:
                context.callbacks.sizes = sizes
        if context.parallel and not self._serial:
            pool().start()
        if context.quick and self._plain and environment.note is None:
            held = context.place_small(feeds, environment)
            number = context.walk(context.address)
            if number >= 0:
                raise fault(context, number)
            del held
            results = [copy() for copy in context.copies]
        else:
            results = Run(context, self.leases, feeds, environment, self._check)()
            self.leases.keep(context.outputs)
        if context.spare:
            context.settle_down()
        if not idle or (context.light and len(idle) < MOST_IDLE):
            idle.append(context)
        return results

    def residence(self, leaving: Callable[[], None]) -> Residence | None:
        """What keeps variables from run to run; None where they are large, or runs are not plain.

        `leaving` is called before the values lose their place.
        """
        recipe = self.recipe
        if not self._plain or recipe.calls_back or not recipe.landings or recipe.open_variables:
            return None
        return Residence(Context(self.recipe, self._arenas), leaving)

    @property
    def summary(self) -> dict[str, int]:
        """For the compile report."""
        natives, steps = self.recipe.natives, list(all_steps(self.plan.steps))
        counts = {"kernels": Call, "host calls": Host, "loops": Loop, "branches": Branch}
        found = {name: sum(isinstance(s, kind) for s in steps) for name, kind in counts.items()}
        for name in ("loops", "branches"):
            if not found[name]:
                del found[name]
        return {**found, "codes": len({id(native.linked) for native in natives})}

    def memory(self, sizes: Mapping[Symbol, int]) -> Peak:
        """The memory that a run of these sizes needs beside its feeds and variables."""
        return peak(self.recipe, tuple([sizes[symbol] for symbol in self._symbols]))
