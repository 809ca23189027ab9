"""What of a program is the same for all sizes: its launches, and which buffers share storage.

Enters: a plan, and what turns a kernel into routines. Leaves: a `Recipe`: a tree of steps as the
host walks it, a number for every buffer and every dimension, and the storages of what the steps
write. Inside of a loop, some buffers are elsewhere in each step (`Loop.moving`): they have no
storage, but places that the walk sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from graphc.dims import Dimension, product
from graphc.graph import Node
from graphc.kernel import Buffer, Kernel
from graphc.plan import Branch, Call, Host, Loop, Plan, Step
from graphc.runtime.memory import Storage, Use, shape_of, storages
from graphc.runtime.opencl.building import Function
from graphc.runtime.opencl.generate import Placed
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.sizes import Dimensions


class Generate(Protocol):
    """What writes code."""

    def __call__(self, kernel: Kernel) -> Sequence[Placed]:
        """The routines of a kernel."""
        ...

    def loop(self, loop: Loop) -> Placed | None:
        """The routine of a whole loop; None where the host walks it."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """One kernel to enqueue; `number` is its place among all launches."""

    number: int
    placed: Placed
    loop: Loop | None = None  # that it is, as a whole

    @property
    def routine(self) -> Routine:
        """Its code."""
        return self.placed.routine


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """A loop over actions."""

    loop: Loop
    inside: tuple[Action, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """A branch between actions."""

    branch: Branch
    then: tuple[Action, ...]
    otherwise: tuple[Action, ...]


Action: TypeAlias = Launch | Host | Again | Either


class Recipe:
    """The actions of a program and the places of everything they need."""

    def __init__(
        self,
        plan: Plan,
        generate: Generate,
        build: Callable[[Sequence[Routine]], list[Function]],
        targets: Sequence[Node] = (),
    ) -> None:
        """`targets`: the variables that the last roots are values for."""
        self.plan, self._generate = plan, generate
        self.launches: list[Launch] = []
        self.inner: set[int] = set()  # numbers of launches inside of loops and branches
        self.uses: list[Use] = []
        self.moving: dict[Buffer, None] = {}
        self.lines: dict[Buffer, tuple[object, ...]] = {}
        self.actions = tuple(self._actions(plan.steps))
        self.functions = build([launch.routine for launch in self.launches])
        self.nodes = [node for node, _ in plan.variables]
        self.constants = {b: np.ascontiguousarray(a).reshape(a.shape) for b, a in plan.constants}
        self.given = [*plan.inputs, *(b for _, b in plan.variables), *plan.entropy]
        self.faulty = any(launch.routine.faults for launch in self.launches)
        self._aliases = dict(plan.aliases)
        outside = [*self.given, *self.constants, *self.moving]
        self.storages = storages(self.uses, plan.roots, outside, plan.aliases)
        self._number_buffers()
        self.asked = {self.slots[buffer] for use in self.uses for buffer in use.reads}
        self._number_sizes()
        self._set_results(targets)

    # ------------------------------------------------------------------ actions

    def _actions(self, steps: Sequence[Step]) -> Iterator[Action]:
        for step in steps:
            if isinstance(step, Call):
                yield from map(self._launch, self._generate(step.kernel))
            elif isinstance(step, Host):
                self._use(step.inputs, step.outputs, (step.node.where,))
                yield step
            elif isinstance(step, Branch):
                self._use([step.condition], step.results, (step.node.where,))
                yield Either(step, self._inside(step.then), self._inside(step.otherwise))
            else:
                yield self._loop(step)

    def _inside(self, steps: Sequence[Step]) -> tuple[Action, ...]:
        """The actions of a body, which a run may come to or not."""
        first = len(self.launches)
        found = tuple(self._actions(steps))
        self.inner.update(range(first, len(self.launches)))
        return found

    def _launch(self, placed: Placed, loop: Loop | None = None) -> Launch:
        self._use(placed.reads, placed.writes, placed.kernel.lines, placed.shares)
        self.launches.append(Launch(len(self.launches), placed, loop))
        return self.launches[-1]

    def _loop(self, loop: Loop) -> Again | Launch:
        """A loop; what it reads outside lives until its end, and what it writes as long."""
        if (placed := self._generate.loop(loop)) is not None:
            return self._launch(placed, loop)
        self.moving.update(dict.fromkeys(loop.moving()))
        place = len(self.uses)
        inside = self._inside(loop.steps)
        reads, writes = loop.outer()
        needed, made = dict.fromkeys(reads), set[Buffer]()
        for use in self.uses[place:]:
            needed.update(dict.fromkeys(b for b in use.reads if b not in made))
            made.update(use.writes)
        kept = [b for b in needed if b not in self.moving]
        written = [*writes, *loop.own()]
        self.uses.insert(place, Use(kept, written))
        self._use([*kept, *written], ())
        self.lines.update(dict.fromkeys(written, (loop.node.where,)))
        return Again(loop, inside)

    def _use(
        self,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        lines: Sequence[object] = (),
        shares: Sequence[tuple[Buffer, Buffer]] = (),
    ) -> None:
        self.uses.append(Use(tuple(reads), tuple(writes), shares))
        for buffer in writes:
            self.lines.setdefault(buffer, tuple(lines))

    # ------------------------------------------------------------------ numbers

    def _number_buffers(self) -> None:
        """A slot for each piece of memory; buffers of one storage have one."""
        self.slots: dict[Buffer, int] = {}
        for number, storage in enumerate(self.storages):
            self.slots.update(dict.fromkeys(storage.buffers, number))
        self.count = len(self.storages)
        for buffer in (*self.given, *self.constants, *self.moving):
            self._add(buffer)
        for use in self.uses:
            for buffer in (*use.reads, *use.writes):
                self._add(buffer)
        for buffer in self.plan.roots:
            self._add(buffer)

    def _add(self, buffer: Buffer) -> None:
        owner = buffer
        while owner in self._aliases:
            owner = self._aliases[owner]
        for one in (owner, buffer):
            if one not in self.slots:
                self.slots[one] = self.slots.get(owner, self.count)
                self.count += self.slots[one] == self.count

    def _number_sizes(self) -> None:
        self.dimensions = Dimensions()
        number = self.dimensions.number
        self.shapes = {b: tuple(map(number, shape_of(b))) for b in self.slots}
        self.bytes = {b: number(_bytes(b)) for b in self.slots}
        self.items = [tuple(map(number, each.routine.items)) for each in self.launches]
        self.wanted = [number(each.routine.wanted) for each in self.launches]
        self.sizes = [tuple(map(number, each.routine.sizes)) for each in self.launches]
        self.needs = [
            (i, tuple(map(number, need.extents)), need.rule)
            for i, each in enumerate(self.launches)
            for need in each.routine.needs
        ]
        self.demands = [(number(d.left), number(d.right), d) for d in self.plan.demands]
        for each in self.launches:
            for fault in each.routine.faults:
                number(fault.size)
        self.dimensions.ready()

    @staticmethod
    def storage_buffer(storage: Storage) -> Buffer:
        """The buffer that says how large a storage is."""
        return storage.buffers[0]

    def _set_results(self, targets: Sequence[Node]) -> None:
        """Of each update, the buffer and the slots of what it writes and of its variable.

        A variable that is not read has a slot for its value alone. None of them where one's sizes
        are open, or what it writes is also something else.
        """
        roots = self.plan.roots
        made = roots[len(roots) - len(targets) :]
        read = dict(self.plan.variables)
        own = {id(b) for s in self.storages if s.kept for b in s.buffers}
        self.landings: list[tuple[Buffer, int, int]] = []
        for buffer, node in zip(made, targets, strict=True):
            variable = read.get(node)
            if id(buffer) not in own or not _alike(buffer, variable or buffer):
                self.landings = []
                return
            home = self.count if variable is None else self.slots[variable]
            self.count += variable is None
            self.landings.append((buffer, self.slots[buffer], home))
        if len({slot for _, slot, _ in self.landings}) < len(made):
            self.landings = []

    def apart(self) -> dict[int, Buffer]:
        """Results that are all that their slot is for, by slot: not what a variable becomes."""
        slots, roots = self.slots, self.plan.roots
        kept = {number for number, storage in enumerate(self.storages) if storage.kept}
        lands = {slot for _, *pair in self.landings for slot in pair}
        count = Counter(slots[buffer] for buffer in roots)
        alone = (b for b in roots if slots[b] in kept and count[slots[b]] == 1)
        return {slots[b]: b for b in alone if slots[b] not in lands}


def _bytes(buffer: Buffer) -> Dimension:
    return product(shape_of(buffer)) * buffer.type.dtype.itemsize


def _alike(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers always have the same bytes."""
    return a.type.is_static and a.type == b.type
