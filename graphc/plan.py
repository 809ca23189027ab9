"""The plan: what a run does, in order, over buffers. Devices see this and kernels, never a graph.

A step calls a kernel, or the host (an op's NumPy meaning, between native segments), or it is a loop
or a branch over steps of its own. Sizes in it are symbolic; a run binds them. Inside and outside of
a loop are one space of buffers: what never changes is read where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphc.dims import Dimension, Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import ShapeError
from graphc.graph import Node
from graphc.kernel import Buffer, Kernel


@dataclass(frozen=True, slots=True)
class Call:
    """Run a kernel."""

    kernel: Kernel


@dataclass(frozen=True, slots=True)
class Host:
    """Run an op's oracle on whole arrays."""

    node: Node
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]


@dataclass(frozen=True, slots=True)
class Demand:
    """Two sizes that must be equal in a run: else a ShapeError of this text, and both values."""

    left: Dimension
    right: Dimension
    text: str

    def refused(self, left: int, right: int) -> ShapeError | None:
        """The error of a run in which the two have these values, if they differ."""
        if left == right:
            return None
        return ShapeError(f"{self.text}\n  in this run: {left} and {right}")


def unmet(demands: Iterable[Demand], sizes: Mapping[Symbol, int]) -> ShapeError | None:
    """The error of the first demand that does not hold for the sizes of a run, if any."""
    for demand in demands:
        error = demand.refused(evaluate(demand.left, sizes), evaluate(demand.right, sizes))
        if error is not None:
            return error
    return None


@dataclass(frozen=True, slots=True)
class Rows:
    """A buffer that is a row of another one: in step t, row `start + step * t`."""

    row: Buffer
    of: Buffer
    start: Dimension
    step: int


@dataclass(frozen=True, slots=True)
class State:
    """What a loop carries: `after`, which a step writes, is `before` in the next one.

    It begins as `initial` and ends in `last`. `after` is among the loop's rows, or else alternates
    between the two rows of `pair`.
    """

    before: Buffer
    after: Buffer
    initial: Buffer
    last: Buffer
    pair: Buffer | None


@dataclass(frozen=True, slots=True)
class Loop:
    """Run steps again and again, `length` times at most.

    `index` holds `first + by * t` in step t. A guarded loop (`count` is not None) goes on while its
    first state is true; `count` gets the number of steps, and rows that no step wrote are zero.
    `histories` are rows after a first one, which is the initial value of a state: its number.
    """

    node: Node
    length: Dimension
    index: Rows
    reads: tuple[Rows, ...]
    writes: tuple[Rows, ...]
    histories: tuple[tuple[int, Rows], ...]
    states: tuple[State, ...]
    count: Buffer | None
    steps: tuple[Step, ...]

    def outer(self) -> tuple[list[Buffer], list[Buffer]]:
        """The buffers outside that it reads and writes by itself, not in its steps."""
        reads = [rows.of for rows in self.reads] + [state.initial for state in self.states]
        stacks = [rows.of for rows in self.writes] + [rows.of for _, rows in self.histories]
        last = [state.last for state in self.states]
        return reads, [*stacks, *last, *([] if self.count is None else [self.count])]

    def own(self) -> list[Buffer]:
        """The memory that it has beside that of its steps: of its index and its states."""
        return [self.index.of, *(s.pair for s in self.states if s.pair is not None)]

    def moving(self) -> list[Buffer]:
        """The buffers of its steps that are elsewhere in each step."""
        rows = [self.index, *self.reads, *self.writes, *(rows for _, rows in self.histories)]
        found = [r.row for r in rows] + [b for s in self.states for b in (s.before, s.after)]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Branch:
    """Run one of two lists of steps; both write `results`.

    `demands` are those of the first and of the second side: they hold where that side is taken.
    """

    node: Node
    condition: Buffer
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]
    results: tuple[Buffer, ...]
    demands: tuple[tuple[Demand, ...], tuple[Demand, ...]] = ((), ())


Step: TypeAlias = Call | Host | Loop | Branch


def inner(step: Step) -> tuple[Step, ...]:
    """The steps inside of a step."""
    if isinstance(step, Loop):
        return step.steps
    return (*step.then, *step.otherwise) if isinstance(step, Branch) else ()


def all_steps(steps: Sequence[Step]) -> Iterator[Step]:
    """Steps, and those inside of them."""
    for step in steps:
        yield step
        yield from all_steps(inner(step))


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps over buffers: what is fed, what variables hold, what comes out."""

    inputs: tuple[Buffer, ...]
    variables: tuple[tuple[Node, Buffer], ...]
    entropy: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    roots: tuple[Buffer, ...]
    aliases: tuple[tuple[Buffer, Buffer], ...] = ()  # (one, the one whose storage it shares)
    constants: tuple[tuple[Buffer, Array], ...] = ()
    demands: tuple[Demand, ...] = ()
