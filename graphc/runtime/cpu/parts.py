"""The parts of a program: the launches and host calls that the steps of a plan come to, in one row.

Enters: a plan's steps. Leaves: parts in the order of their launches. A loop or a branch is a launch
that runs those behind it, up to its `after`; a `Leave` stands where a loop ends, since until there
everything that it reads and writes outside lives. Host calls inside are launches that call back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphc.dims import Dimension
from graphc.kernel import Buffer, Kernel
from graphc.plan import Branch, Call, Host, Loop, Step
from graphc.runtime.cpu.control import Control, Held, branch_control, host_control, loop_control
from graphc.runtime.cpu.linking import Linked, linker
from graphc.runtime.cpu.reuse import Generate
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.cpu.scalar_loops import LONG, compile_scalar_loop
from graphc.runtime.cpu.target import Target
from graphc.runtime.memory import Use
from graphc.runtime.sharing import shareable


@dataclass(frozen=True, slots=True, eq=False)
class Native:
    """One launch: a routine and its code. `after`: the number of the launch that follows."""

    routine: Routine
    linked: Linked | None  # None: native code that is not of this program
    after: int
    control: Control | None = None
    step: Loop | Branch | None = None  # that it is, as a whole


@dataclass(frozen=True, slots=True, eq=False)
class Leave:
    """The end of a loop."""

    held: Held


Part: TypeAlias = Native | Host | Leave


class _Parts:
    """The row, as it grows."""

    def __init__(self, generate: Generate, target: Target) -> None:
        self.generate, self.target = generate, target
        self.parts: list[Part] = []
        self.count = 0  # of launches
        self.moving: list[Buffer] = []

    def add(self, steps: Sequence[Step], top: bool) -> Dimension:
        """Append the parts of some steps; gives their element operations, about."""
        work: Dimension = 0
        for step in steps:
            if isinstance(step, Call):
                for routine in self.generate(step.kernel, self.target):
                    linked = linker().link(routine, self.target)
                    self.append(routine, linked)
                    work = work + routine.count * routine.work
            elif isinstance(step, Loop):
                work = work + self.loop(step)
            elif isinstance(step, Branch):
                work = work + self.branch(step)
            elif top:
                self.parts.append(step)
            else:
                self.append_control(host_control(step), self.count + 1)
                self.count += 1
        return work

    def append(self, routine: Routine, linked: Linked) -> None:
        """One more launch."""
        self.count += 1
        self.parts.append(Native(routine, linked, self.count))

    def append_control(
        self, control: Control, after: int, step: Loop | Branch | None = None
    ) -> None:
        """A launch of a loop, a branch, or a host call inside of them."""
        self.parts.append(Native(control.routine, None, after, control, step))

    def opened(self, steps: Sequence[Step]) -> tuple[int, list[Part], Dimension]:
        """The parts inside of a step, which itself comes first: the number of the next launch."""
        outer, self.parts = self.parts, []
        work = self.add(steps, False)
        found, self.parts = self.parts, outer
        return self.count, found, work

    def loop(self, step: Loop) -> Dimension:
        """A loop, what is inside, and its end."""
        self.count += 1
        begin = self.count
        if (routine := compile_scalar_loop(step, self.target)) is not None:
            linked = linker().link(routine, self.target)
            self.parts.append(Native(routine, linked, self.count, None, step))
            self.moving += step.moving()
            return routine.work
        end, inside, once = self.opened(step.steps)
        held = Held.of(step, [touched(part) for part in inside])
        work = _times(step.length, once + 1)
        self.append_control(loop_control(step, begin, end, held, work), end, step)
        self.parts += [*inside, Leave(held)]
        self.moving += step.moving()
        return work

    def branch(self, step: Branch) -> Dimension:
        """A branch and both its sides."""
        self.count += 1
        begin = self.count
        middle, first, one = self.opened(step.then)
        end, second, other = self.opened(step.otherwise)
        work = one + other + 1
        self.append_control(branch_control(step, begin, middle, end, work), end, step)
        self.parts += [*first, *second]
        return work


def _times(length: Dimension, work: Dimension) -> Dimension:
    """The work of all steps; a loop without a length is long."""
    return (min(length, LONG) if isinstance(length, int) else length) * work


def parts_of(
    steps: Sequence[Step], generate: Generate, target: Target
) -> tuple[list[Part], list[Buffer]]:
    """The parts of a plan's steps, and the buffers that loops move: they have no memory."""
    found = _Parts(generate, target)
    found.add(steps, True)
    return found.parts, found.moving


def touched(part: Part) -> tuple[tuple[Buffer, ...], tuple[Buffer, ...]]:
    """What a part reads, and what it writes."""
    if isinstance(part, Host):
        return part.inputs, part.outputs
    if isinstance(part, Leave):
        return (*part.held.reads, *part.held.writes), ()
    if part.control is not None:
        return tuple(part.control.held.reads), tuple(part.control.held.writes)
    routine = part.routine
    writes = tuple([b for b in routine.buffers if b in routine.writes])
    read = set(routine.kernel.reads())
    reads = [b for b in routine.buffers if b not in routine.writes or b in read]
    return tuple(reads), writes


def use(part: Part) -> Use:
    """What a part does to buffers, for the planner of memory."""
    reads, writes = touched(part)
    plain = isinstance(part, Native) and part.control is None
    return Use(reads, writes, shares(part.routine) if plain and isinstance(part, Native) else ())


def shares(routine: Routine) -> list[tuple[Buffer, Buffer]]:
    """Pairs that may be one storage; only a routine that is all of its kernel has some."""
    stored = {store.buffer for store in routine.kernel.stores}
    if routine.writes != stored or any(b not in routine.buffers for b in _all(routine.kernel)):
        return []
    return shareable(routine.kernel)


def _all(kernel: Kernel) -> list[Buffer]:
    return [*kernel.reads(), *(store.buffer for store in kernel.stores)]
