"""Results that no later step reads are computed after a loop, for all steps at once.

`y_t = h_t @ v` is one product of the stack of h, where h is a state: a row that needs a
contraction, and that no state depends on, leaves the loop with all that only it is made of. What
these nodes read of the step is stacked in its place.

Never moved: what `hoist` does not move either.

Enters: any graph. Leaves: the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.graph import Graph, Node, Tensor, topological
from graphc.ops.bodies import parameter
from graphc.ops.loop import Walk
from graphc.passes.batching import Steps
from graphc.passes.hoist import GATHERS, is_anchor, is_safe
from graphc.passes.loops import (
    Key,
    Loop,
    Stack,
    each_loop,
    key_of,
    orientation,
    rows_read,
    whole,
)  # fmt: skip
from graphc.passes.recompute import bytes_of
from graphc.rewriting import Rewriter
from graphc.types import TensorType

ROOM = 4  # how many times the bytes of the products the stacks that they read may take


@dataclass(frozen=True, slots=True)
class _Plan:
    """One result: its stack in terms of stand-ins for stacks of what is in `read`."""

    value: Tensor
    read: Sequence[Tensor]


class _Sinking:
    """One loop, and which of its results are computed after it."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.order = orientation(s.walk for s in loop.stacks)
        self._needed = set(topological(s.following for s in loop.states))
        self._parameters = {part.parameter.node for part in loop.entering}
        self._parameters.add(loop.index.node)
        self._held = {key_of(r.parameter): r for r in loop.rows}
        self._stand_ins: dict[Key, Tensor] = {}
        self.plans: dict[int, _Plan] = {}

    def choose(self) -> None:
        """Look at each result."""
        fits = whole(self.loop.length, self.order)
        for n, stack in enumerate(self.loop.stacks):
            if stack.walk == fits and (plan := self._plan(stack.row)) is not None:
                self.plans[n] = plan

    def _plan(self, row: Tensor) -> _Plan | None:
        stops = self._needed | self._parameters
        own = [n for n in topological([row]) if n not in stops]
        if not any(is_anchor(n) for n in own):
            return None
        steps, members, read = Steps(self.loop.length), set(own), dict[Key, Tensor]()
        steps.same = {key_of(c.parameter): c.operand for c in self.loop.captures}
        for node in own:
            if not node.inputs and node.op.family != "source":
                return None
            if node.inputs and not (is_safe(node) or node.op.name in GATHERS):
                return None
            for t in node.inputs:
                if t.node not in members and key_of(t) not in steps.same:
                    read[key_of(t)] = t
                    steps.stacked[key_of(t)] = self._stand_in(t)
            if not steps.add(node):
                return None
        found = steps.stacked.get(key_of(row))
        if found is None or not any(is_anchor(n) and (n, 0) in steps.stacked for n in own):
            return None
        new = sum(bytes_of(t) for key, t in read.items() if key not in self._held)
        made = sum(bytes_of(Tensor(n, 0, n.types[0])) for n in own if is_anchor(n))
        return _Plan(found, list(read.values())) if new <= ROOM * made else None

    def _stand_in(self, tensor: Tensor) -> Tensor:
        """A parameter in the place of the stack of a value."""
        key = key_of(tensor)
        if key not in self._stand_ins:
            assert tensor.shape is not None
            type = TensorType(tensor.dtype, (self.loop.length, *tensor.shape))
            self._stand_ins[key] = parameter(type)
        return self._stand_ins[key]

    def apply(self) -> Sequence[Tensor] | None:
        """The outputs of the loop; None where nothing sinks."""
        self.choose()
        loop, plans = self.loop, self.plans
        if not plans:
            return None
        places = [loop.place(i) for i in range(len(loop.node.types))]
        kept = [n for n in range(len(loop.stacks)) if n not in plans]
        loop.stacks = [loop.stacks[n] for n in kept]
        lies: dict[Key, tuple[str, int, Walk]] = {}
        for tensor in {key_of(t): t for plan in plans.values() for t in plan.read}.values():
            if key_of(tensor) not in self._held:
                lies[key_of(tensor)] = self._stacked(tensor)
        made = loop.make()
        rewriter = Rewriter()
        for key, stand_in in self._stand_ins.items():
            if (rows := self._held.get(key)) is not None:
                source, walk = rows.operand, rows.walk
            elif key in lies:
                kind, n, walk = lies[key]
                source = made.past[n] if kind == "past" else made.stacks[n]
            else:
                continue
            rewriter.redirect(stand_in, rows_read(source, walk, loop.length, self.order))
        for node in topological(plan.value for plan in plans.values()):
            rewriter.visit(node)
        found: list[Tensor] = []
        for kind, n in places:
            if kind == "stacks":
                sunk = n in plans
                found.append(
                    rewriter.resolve(plans[n].value) if sunk else made.stacks[kept.index(n)]
                )
            else:
                found.append(made.last[n] if kind == "last" else made.past[n])
        return found

    def _stacked(self, tensor: Tensor) -> tuple[str, int, Walk]:
        """Where a value of each step lies; in a new stack where it lay nowhere."""
        loop, key = self.loop, key_of(tensor)
        for k, state in enumerate(loop.states):
            if key in (key_of(state.parameter), key_of(state.following)):
                if k not in loop.histories:
                    loop.histories.append(k)
                return "past", k, (0 if key == key_of(state.parameter) else 1, 1)
        for n, stack in enumerate(loop.stacks):
            if key_of(stack.row) == key:
                return "stacks", n, stack.walk
        walk = whole(loop.length, self.order)
        loop.stacks.append(Stack(tensor, walk))
        return "stacks", len(loop.stacks) - 1, walk


def sink_rows(graph: Graph) -> Graph:
    """Compute results after a loop that no step needs."""

    def change(old: Node, loop: Loop) -> Sequence[Tensor] | None:
        fixed = loop.guarded or loop.sparing or loop.truncated
        return None if fixed else _Sinking(loop).apply()

    return each_loop(graph, change)
