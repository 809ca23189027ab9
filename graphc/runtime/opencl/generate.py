"""From a kernel to routines: who writes the code, and over which buffers it runs.

Enters: a kernel and what the device can do. Leaves: its routines, in the order in which they run,
each `Placed` over buffers. Kernels of one structure are generated once: a network repeats its
layers, and writing code costs a hundred times what comparing kernels does.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import NamedTuple

from graphc.collapse import collapse
from graphc.dtypes import DType, float64
from graphc.errors import DeviceError
from graphc.kernel import Buffer, Kernel, kinds_of
from graphc.plan import Call, Loop
from graphc.runtime.opencl import clusters, rows, strips, tiles
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.loops import compile_loop
from graphc.runtime.opencl.ordered import compile_ordered
from graphc.runtime.opencl.products import apart
from graphc.runtime.opencl.reductions import sections
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.source import needs, points
from graphc.runtime.opencl.stages import Stage, stages
from graphc.runtime.opencl.terms import stored_terms
from graphc.runtime.sharing import shareable
from graphc.runtime.structure import structure

MOST = 256  # structures that are remembered


class Placed(NamedTuple):
    """A routine over buffers, for a kernel whose name and lines errors give.

    `shares` are pairs (read, written) that may be one storage.
    """

    routine: Routine
    kernel: Kernel
    buffers: tuple[Buffer, ...]
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    shares: tuple[tuple[Buffer, Buffer], ...]

    def over(self, kernel: Kernel, others: Mapping[Buffer, Buffer]) -> Placed:
        """The same for another kernel of its structure, over other buffers."""
        buffers, reads, writes = (
            tuple([others[b] for b in some]) for some in (self.buffers, self.reads, self.writes)
        )
        shares = tuple([(others[a], others[b]) for a, b in self.shares])
        return Placed(self.routine, kernel, buffers, reads, writes, shares)


def compile_kernel(
    kernel: Kernel, capabilities: Capabilities, tuned: tiles.Choice = tiles.usual
) -> list[Routine]:
    """The routines of a kernel; a DeviceError where the device cannot compute it."""
    demand(kernel, capabilities)
    if kernel.ordered:
        before = compile_kernel(kernel.before, capabilities, tuned) if kernel.first else []
        return [*before, compile_ordered(collapse(kernel), capabilities)]
    whole = collapse(kernel)
    steps = apart(whole, capabilities)
    if len(steps) > 1:
        return [r for step in steps for r in compile_kernel(step, capabilities, tuned)]
    found = tiles.match(whole, capabilities, tuned)
    if found is not None:
        return [found]
    found = clusters.match(whole, capabilities)
    if found is not None:
        return [replace(found, needs=needs(whole))]
    parts = [
        part
        for stage in stages(whole, capabilities.type == "cpu")
        for each in stored_terms(stage, capabilities)
        for part in sections(each, capabilities)
    ]
    return [routine for part in parts for routine in _written(part, capabilities, tuned)]


def _written(stage: Stage, capabilities: Capabilities, tuned: tiles.Choice) -> list[Routine]:
    """The routines of a stage: of tiles or of rows where it is such, else one item a point."""
    found = tiles.match(stage.kernel, capabilities, tuned) or rows.match(stage.kernel, capabilities)
    found = found or strips.match(stage.kernel, capabilities, stage.wanted)
    if found is None:
        return points(stage.kernel, capabilities, stage.wanted)
    return [replace(found, wanted=stage.wanted, needs=needs(stage.kernel))]


def demand(kernel: Kernel, capabilities: Capabilities) -> None:
    """Raise where a kernel computes in a dtype that the device lacks."""
    if capabilities.fp64:
        return
    kinds = kinds_of(*(f for store in kernel.stores for f in store.formulas))
    dtypes = [kind for kind in kinds.values() if isinstance(kind, DType)]
    if any(dtype is float64 for dtype in (*dtypes, *(s.buffer.type.dtype for s in kernel.stores))):
        try:
            capabilities.demand(float64)
        except DeviceError as error:
            raise DeviceError(kernel.failure(str(error))) from None


class Generator:
    """`compile_kernel` with a memory."""

    def __init__(self, capabilities: Capabilities, tuned: tiles.Choice = tiles.usual) -> None:
        self._capabilities, self._tuned = capabilities, tuned
        self._known: dict[Hashable, tuple[tuple[Buffer, ...], list[Placed]]] = {}

    def __call__(self, kernel: Kernel) -> list[Placed]:
        """The routines of a kernel, over its buffers."""
        key, buffers = structure(kernel)
        found = self._known.get(key)
        if found is not None:
            others = dict(zip(found[0], buffers, strict=True))
            for placed in found[1]:
                for buffer in placed.buffers:  # those that the generator made up are made anew
                    others.setdefault(buffer, Buffer(buffer.type, buffer.name))
            return [placed.over(kernel, others) for placed in found[1]]
        made = [
            _placed(routine, kernel)
            for routine in compile_kernel(kernel, self._capabilities, self._tuned)
        ]
        while len(self._known) >= MOST:
            self._known.pop(next(iter(self._known)), None)
        self._known[key] = buffers, made
        return made

    def loop(self, loop: Loop) -> Placed | None:
        """The routine of a whole loop; None where the host walks it."""
        for step in loop.steps:
            if isinstance(step, Call):
                demand(step.kernel, self._capabilities)
        routine = compile_loop(loop, self._capabilities)
        if routine is None:
            return None
        writes = tuple([buffer for buffer in routine.buffers if buffer in routine.writes])
        return Placed(routine, routine.kernel, routine.buffers, routine.reads, writes, ())


def _placed(routine: Routine, kernel: Kernel) -> Placed:
    shares = tuple(shareable(routine.kernel)) if _is_whole(routine) else ()
    writes = tuple([buffer for buffer in routine.buffers if buffer in routine.writes])
    return Placed(routine, kernel, routine.buffers, routine.reads, writes, shares)


def _is_whole(routine: Routine) -> bool:
    """Whether a routine is all of its kernel: then its results may take over what it reads."""
    kernel = routine.kernel
    stored = {store.buffer for store in kernel.stores}
    touched = [*kernel.reads(), *stored]
    return routine.writes == stored and all(b in routine.buffers for b in touched)
