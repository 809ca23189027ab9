"""What the launch of a loop or a branch is told, and what it holds on to.

Enters: a step of the plan, and the numbers of the launches inside. Leaves: a `Control`: the words
of its record, as `control_code.py` reads them, and the buffers outside that it reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphc.dims import Dimension, derived, product
from graphc.kernel import Buffer, Kernel
from graphc.plan import Branch, Demand, Host, Loop, Rows
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.memory import shape_of

Touched: TypeAlias = "tuple[Sequence[Buffer], Sequence[Buffer]]"
Words: TypeAlias = Callable[[Mapping[Buffer, int]], list[Dimension]]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Buffers that live as long as a loop: what it reads of outside, and what it writes."""

    reads: list[Buffer]
    writes: list[Buffer]

    @staticmethod
    def of(loop: Loop, inside: Iterable[Touched]) -> Held:
        """Those of a loop whose parts touch these."""
        moving = set(loop.moving())
        reads, writes = loop.outer()
        read: dict[Buffer, None] = dict.fromkeys(reads)
        made: set[Buffer] = set()
        for reading, writing in inside:
            read.update(dict.fromkeys(b for b in reading if b not in made))
            made.update(writing)
        kept = [b for b in read if b not in moving]
        return Held(kept, [*writes, *loop.own()])


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """A launch that runs others, or the host."""

    routine: Routine
    held: Held
    words: Words  # of the record, for the places of the buffers
    host: Host | None = None
    demands: tuple[Sequence[Demand], Sequence[Demand]] = ((), ())  # of the sides of a branch


def _routine(name: str, node: Any, work: Dimension) -> Routine:
    """One unit, without a kernel's formulas: its name and its lines are for errors."""
    kernel = Kernel(name, (), (), (node.where,))
    return Routine(kernel, "", (), (), frozenset(), 1, work)


def host_control(step: Host) -> Control:
    """A call of the host inside of a loop or a branch."""
    held = Held(list(step.inputs), list(step.outputs))
    return Control(_routine(step.node.op.name, step.node, 1), held, lambda slots: [], step)


def branch_control(step: Branch, begin: int, middle: int, end: int, work: Dimension) -> Control:
    """A branch between launches."""
    held = Held([step.condition], list(step.results))

    def words(slots: Mapping[Buffer, int]) -> list[Dimension]:
        return [begin, middle, end, slots[step.condition], *map(_violation, step.demands)]

    return Control(_routine("branch", step.node, work), held, words, None, step.demands)


def _violation(demands: Sequence[Demand]) -> Dimension:
    """What is zero if and only if all of them hold."""
    found: Dimension = 0
    for demand in demands:
        apart = demand.left - demand.right
        found = found + derived("max", apart, -1 * apart)
    return found


def loop_control(step: Loop, begin: int, end: int, held: Held, work: Dimension) -> Control:
    """A loop over launches."""

    def words(slots: Mapping[Buffer, int]) -> list[Dimension]:
        return _loop_words(step, begin, end, slots)

    return Control(_routine("loop", step.node, work), held, words)


def _bytes(buffer: Buffer) -> Dimension:
    return product(shape_of(buffer)) * buffer.type.dtype.itemsize


def _loop_words(step: Loop, begin: int, end: int, slots: Mapping[Buffer, int]) -> list[Dimension]:
    stacks = [*step.writes, *(rows for _, rows in step.histories)]
    moves = list(dict.fromkeys([*step.reads, *stacks]))
    zeros = [] if step.count is None else stacks
    index = step.index
    count = -1 if step.count is None else slots[step.count]
    words: list[Dimension] = [
        begin, end, step.length, slots[index.row], slots[index.of], index.start, index.step, count,
        len(moves), len(step.histories), len(step.states), len(zeros),
    ]  # fmt: skip
    for rows in moves:
        words += [slots[rows.row], slots[rows.of], *_walk(rows)]
    for number, rows in step.histories:
        initial = step.states[number].initial
        words += [slots[initial], slots[rows.of], _bytes(initial)]
    for state in step.states:
        pair = -1 if state.pair is None else slots[state.pair]
        places = [slots[b] for b in (state.before, state.after, state.initial, state.last)]
        words += [*places, pair, _bytes(state.initial)]
    for rows in zeros:
        words += [slots[rows.of], _bytes(rows.of)]
    return words


def _walk(rows: Rows) -> tuple[Dimension, Dimension]:
    """The bytes before the first row, and from row to row."""
    row = product(shape_of(rows.of)[1:]) * rows.of.type.dtype.itemsize
    return rows.start * row, rows.step * row
