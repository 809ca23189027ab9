"""Kernels of one structure are generated once.

Enters: a kernel. Leaves: its routines; where a kernel that differs only in its buffers, its name
and its lines has been generated before, these are that one's over other buffers. A network repeats
its layers, and writing code costs a hundred times what comparing kernels does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from graphc.kernel import Buffer, Kernel
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.cpu.target import Target
from graphc.runtime.structure import structure

Generate: TypeAlias = Callable[[Kernel, Target], Iterable[Routine]]
MOST = 256  # structures that are remembered


class Reuse:
    """A generator with a memory."""

    def __init__(self, generate: Generate) -> None:
        self._generate = generate
        self._known: dict[Hashable, tuple[tuple[Buffer, ...], list[Routine]]] = {}

    def __call__(self, kernel: Kernel, target: Target) -> list[Routine]:
        """The routines of a kernel."""
        key, buffers = structure(kernel)
        found = self._known.get((key, target))
        if found is not None:
            return _moved(found[1], kernel, dict(zip(found[0], buffers, strict=True)))
        routines = list(self._generate(kernel, target))
        while len(self._known) >= MOST:
            self._known.pop(next(iter(self._known)), None)
        self._known[key, target] = buffers, routines
        return routines


def _moved(
    routines: Sequence[Routine], kernel: Kernel, buffers: dict[Buffer, Buffer]
) -> list[Routine]:
    """Routines over other buffers; those that the generator made up are made anew."""
    moved = []
    for routine in routines:
        for buffer in routine.buffers:
            if buffer not in buffers:
                buffers[buffer] = Buffer(buffer.type, buffer.name)
        moved.append(
            replace(
                routine,
                kernel=kernel if routine.kernel.ordered or not kernel.ordered else kernel.before,
                buffers=tuple([buffers[b] for b in routine.buffers]),
                writes=frozenset([buffers[b] for b in routine.writes]),
            )
        )
    return moved
