"""Loops of the plan as one kernel in order: what a step makes, at each point of what it carries.

Enters: a loop whose steps are kernels without order, and branches between such. Leaves: a `Whole`,
whose kernel has the step as its order; None where a point of a state needs other points of it, or
of what a step makes, for then steps cannot be taken point by point. A loop over numbers is one over
no axes, whose only point is `()`.

Row `start + step * t` of a sequence is read where it lies. A state is read as a buffer of its own,
its `before`, at the very point that the kernel is at: a device keeps it in a register, and likewise
the number of the step, `index.row`. What a kernel stores for another one in the same step is
substituted in there, as fusion does it; of a branch, both sides, of which the condition picks one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.affine import is_inside
from graphc.collapse import collapse
from graphc.dims import Dimension, Shape, product
from graphc.kernel import Axis, Buffer, Index, Kernel, Store, lift, read, typed, where
from graphc.plan import Branch, Call, Loop, Rows, Step, all_steps
from graphc.runtime.memory import shape_of
from graphc.scalar import Kind, Scalar, walk

NAMED = 3  # kernels whose names an error gives
MOST = 200  # formulas of a step: more are better compiled apart, and shared
SHORT = 64  # terms of a reduction that one point takes alone


@dataclass(frozen=True, slots=True)
class Whole:
    """A loop as one kernel. `kernel` stores what a step makes, one store for each buffer of it."""

    loop: Loop
    kernel: Kernel
    step: Axis

    @property
    def rows(self) -> list[Rows]:
        """What a step writes outside."""
        return list(dict.fromkeys([*self.loop.writes, *(rows for _, rows in self.loop.histories)]))

    @property
    def registers(self) -> list[Buffer]:
        """What a step reads that has no memory: the states, and its number."""
        return [*(state.before for state in self.loop.states), self.loop.index.row]

    def point(self, buffer: Buffer) -> Index:
        """Where the kernel stands in a state, or in what a step makes."""
        if not buffer.type.shape:
            return ()
        return next(store.index for store in self.kernel.stores if store.index)

    def row(self, rows: Rows) -> Index:
        """Where it stands in the whole of which a step makes a row."""
        return row_of(rows, self.step), *self.point(rows.row)

    @property
    def single(self) -> list[Buffer]:
        """What it leaves that is one number, or a row of numbers, whatever the points are."""
        loop = self.loop
        found = [state.last for state in loop.states if state.last.type.shape == ()]
        found += [rows.of for rows in self.rows if rows.row.type.shape == ()]
        return found + ([] if loop.count is None else [loop.count])

    def reads(self) -> list[Buffer]:
        """The buffers outside that it reads."""
        inside = set(self.registers)
        initial = [state.initial for state in self.loop.states]
        return list(dict.fromkeys([*initial, *(b for b in self.kernel.reads() if b not in inside)]))


def whole(loop: Loop) -> Whole | None:
    """A loop as one kernel."""
    inside = list(all_steps(loop.steps))
    kernels = [step.kernel for step in inside if isinstance(step, Call)]
    branches = sum(isinstance(step, Branch) for step in inside)
    if len(kernels) + branches < len(inside) or any(kernel.order for kernel in kernels):
        return None
    shape = _shape_of(loop, kernels)
    if shape is None:
        return None
    maker = _Step(loop, shape)
    if not maker.take(loop.steps):
        return None
    stores = maker.stores()
    if not stores or not _is_small(stores):
        return None
    name, lines = called(loop, kernels)
    axes = maker.axes if any(store.index for store in stores) else ()
    kernel = collapse(Kernel(name, axes, stores, lines, (maker.step,)))
    found = Whole(loop, kernel, kernel.order[0])
    if set(loop.outer()[1]) & {*found.reads(), *(rows.of for rows in loop.reads)}:
        return None
    if found.single and any(not isinstance(axis.extent, int) or axis.extent < 1 for axis in axes):
        return None  # with no points, nobody would write them
    return found


def _shape_of(loop: Loop, kernels: Sequence[Kernel]) -> Shape | None:
    """The shape of all that is no number; None where there are several."""
    inside = [b for state in loop.states for b in (state.before, state.after)]
    inside += [rows.row for rows in (*loop.writes, *(rows for _, rows in loop.histories))]
    inside += [store.buffer for kernel in kernels for store in kernel.stores]
    found: Shape = ()
    for buffer in inside:
        shape = buffer.type.shape
        if shape is None or (shape and found and shape != found):
            return None
        found = found or shape
    return found


def _is_small(stores: Sequence[Store]) -> bool:
    parts = list(walk(*(formula for store in stores for formula in store.formulas)))
    if len(parts) > MOST:
        return False
    terms = [
        product(axis.extent for axis in part.value[1])
        for part in parts
        if part.primitive == "reduce"
    ]
    return all(isinstance(count, int) and 0 < count <= SHORT for count in terms)


def called(loop: Loop, kernels: Sequence[Kernel]) -> tuple[str, tuple[Any, ...]]:
    """What errors call it, and the user's lines."""
    names = dict.fromkeys(kernel.name for kernel in kernels)
    lines = dict.fromkeys(line for kernel in kernels for line in kernel.lines)
    name = "+".join(names) if 0 < len(names) <= NAMED else "loop"
    return name, tuple(lines) or (loop.node.where,)


def row_of(rows: Rows, step: Axis) -> Scalar:
    """Which row it is in a step."""
    return lift(rows.start) + lift(rows.step) * step.position


class _Step:
    """What the buffers of a step hold at a point, as formulas of what lies outside."""

    def __init__(self, loop: Loop, shape: Shape) -> None:
        self.loop, self.axes, self.step = loop, tuple(map(Axis, shape)), Axis(loop.length)
        self.values: dict[Buffer, Scalar] = {}
        self.rows = {rows.row: rows for rows in loop.reads}
        self.kinds: dict[Scalar, Kind] = {}
        self.sides = 0  # of branches, around what is looked at
        for state in loop.states:
            self.values[state.before] = read(state.before)(*self.point(state.before))

    def point(self, buffer: Buffer) -> Index:
        """Where it stands in a buffer."""
        return tuple([axis.position for axis in self.axes]) if buffer.type.shape else ()

    def stores(self) -> tuple[Store, ...]:
        """What the loop needs of a step; nothing where some of it is not made there."""
        loop = self.loop
        needed = [state.after for state in loop.states]
        needed += [rows.row for rows in (*loop.writes, *(rows for _, rows in loop.histories))]
        if any(buffer not in self.values for buffer in needed):
            return ()
        return tuple([Store(b, self.point(b), self.values[b], True) for b in dict.fromkeys(needed)])

    def take(self, steps: Sequence[Step]) -> bool:
        """Let the values of some steps be known; False where they are not made point by point."""
        return all(
            self.add(step.kernel)
            if isinstance(step, Call)
            else isinstance(step, Branch) and self.choose(step)
            for step in steps
        )

    def choose(self, branch: Branch) -> bool:
        """Both sides, of which each point picks one: they are little, and nothing in them fails."""
        condition = self.element(read(branch.condition)(), ())
        if condition is None or any(branch.demands):
            return False
        outer, found = self.values, []
        self.sides += 1
        for side in (branch.then, branch.otherwise):
            self.values = dict(outer)
            if not self.take(side) or any(b not in self.values for b in branch.results):
                return False
            found.append(self.values)
        self.sides -= 1
        one, other = found
        self.values = outer | {b: where(condition, one[b], other[b]) for b in branch.results}
        return True

    def add(self, kernel: Kernel) -> bool:
        """Let the values of a kernel be known; False where they are not made point by point."""
        made = self.places(kernel)
        for store in kernel.stores:
            for formula in store.formulas:
                if not self.resolve(formula, made):
                    return False
            if not self.is_here([made[formula] for formula in store.index]):
                return False
            value = made[store.value]
            self.values[store.buffer] = typed(value, store.buffer.type.dtype, self.kinds)
        return True

    def places(self, kernel: Kernel) -> dict[Scalar, Scalar]:
        """The positions of a kernel's axes, as those of the loop's."""
        alike = {
            formula.value: axis
            for store in kernel.stores
            for axis, formula in zip(self.axes, store.index, strict=False)
            if formula.primitive == "position"
        }
        return {
            part: alike[part.value].position
            for part in kernel.formulas()
            if part.primitive == "position" and part.value in alike
        }

    def is_here(self, index: Sequence[Scalar]) -> bool:
        """Whether an index of what a step makes is the point, or that of a number."""
        return all(
            (formula.primitive == "position" and formula.value is axis)
            or (formula.primitive == "number" and _is_one(axis.extent))
            for axis, formula in zip(self.axes, index, strict=False)
        )

    def resolve(self, formula: Scalar, made: dict[Scalar, Scalar]) -> bool:
        """Put formulas of what lies outside of the step into `made`; False where there is none."""
        for part in walk(formula, known=made):
            operands = tuple([made[x] for x in part.operands])
            found: Scalar | None = part
            if part.primitive == "read":
                found = self.element(part, operands)
            elif any(a is not b for a, b in zip(operands, part.operands, strict=True)):
                found = Scalar(part.primitive, operands, part.value)
            if found is None:
                return False
            made[part] = found
        return True

    def element(self, part: Scalar, index: Index) -> Scalar | None:
        """What a read gives; None where it is another point of what a step makes."""
        buffer, outside = part.value
        if buffer in self.values:
            return self.values[buffer] if self.is_here(index) else None
        if self.sides and outside is None:
            sizes = zip(index, shape_of(buffer), strict=True)
            if not all(is_inside(formula, size) for formula, size in sizes):
                return None  # in the side not taken, it might lie outside
        if buffer in self.rows:
            rows = self.rows[buffer]
            return Scalar("read", (row_of(rows, self.step), *index), (rows.of, outside))
        return Scalar("read", index, part.value)


def _is_one(size: Dimension) -> bool:
    return isinstance(size, int) and size == 1
