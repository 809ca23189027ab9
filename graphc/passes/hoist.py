"""Out of a loop with what does not depend on its states.

| in a body | outside |
|---|---|
| what is made of captures alone, beyond views | computed once |
| the transpose of a capture that a contraction reads, a view of one that a loop reads | made once |
| contractions and gathers of rows of sequences: `x_t @ W`, `table[ids_t]` | for all steps at once |
| what leads to them, and what follows from them alone | likewise; its rows are a sequence |
| a stacked result that is made of rows alone | likewise |

Never moved: random bits, prints, the user's functions, and what might raise an error in a loop of
no steps; nothing for all steps at once where a guard may end the loop early, or where checkpoints
spare memory.

Enters: any graph. Leaves: the same values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.graph import Graph, Node, Tensor
from graphc.ops.bodies import PARAMETER, alike
from graphc.passes.batching import Steps
from graphc.passes.loops import (
    Capture,
    Key,
    Loop,
    Rows,
    body_rewritten,
    each_loop,
    key_of,
    orientation,
    rows_read,
    whole,
)  # fmt: skip
from graphc.passes.sweep import symbolic

MOVABLE = frozenset({"pointwise", "view", "reduction", "contraction", "composite"})
EXTREMA = frozenset({"max", "min", "argmax", "argmin"})  # which an empty axis has none of
MAY_MISS = frozenset({"slice", "unslice", "slice_update"})  # where a size decides what exists
ANCHORS = frozenset({"contraction"})
GATHERS = frozenset({"gather", "take_along_axis"})  # no rows, no errors


def is_safe(node: Node) -> bool:
    """Whether a node has no error to raise, whatever the sizes of a run."""
    if node.op.family not in MOVABLE:
        return False
    if node.op.name in MAY_MISS:
        return not any(symbolic(value) for value in node.attrs.get("starts", ()))
    if node.op.name in EXTREMA:
        return not symbolic(node.inputs[0].shape)
    return True


def is_anchor(node: Node) -> bool:
    """Whether a node is worth being computed for all steps at once."""
    return node.op.family in ANCHORS or node.op.name in GATHERS


class _Hoisting:
    """One loop: what of it is computed outside."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.order = orientation(r.walk for r in loop.rows)
        self.steps = Steps(loop.length)
        self.steps.same = {key_of(c.parameter): c.operand for c in loop.captures}
        self.sure = isinstance(loop.length, int) and loop.length > 0 and not loop.guarded

    def compute(self) -> None:
        """All that can be computed outside; nothing is replaced yet."""
        steps, loop = self.steps, self.loop
        if not loop.guarded and not loop.sparing and self._pays():
            for r in loop.rows:
                steps.stacked[key_of(r.parameter)] = rows_read(
                    r.operand, r.walk, loop.length, self.order
                )
        for node in loop.nodes:
            if node.op is PARAMETER:
                continue
            if not node.inputs:
                if node.op.family == "source":
                    steps.add(node)
                continue
            gathers = node.op.name in GATHERS and (
                self.sure or any(key_of(t) in steps.stacked for t in node.inputs)
            )
            if is_safe(node) or gathers:
                steps.add(node)

    def _pays(self) -> bool:
        """Whether there is a contraction or a gather, or a result, of rows alone."""
        given = {r.parameter.node for r in self.loop.rows}
        apart = {self.loop.index.node, *(s.parameter.node for s in self.loop.states)}
        rowwise = set(given)
        for node in self.loop.nodes:
            inputs = [t.node for t in node.inputs]
            if not apart.isdisjoint(inputs):
                apart.add(node)
            elif not rowwise.isdisjoint(inputs):
                rowwise.add(node)
                if is_anchor(node):
                    return True
        return any(s.row.node in rowwise and s.row.node not in given for s in self.loop.stacks)

    # ------------------------------------------------------------------ what is worth it

    def moved(self) -> set[Node]:
        """The nodes that leave the body: those once computed, and those around contractions."""
        steps, found = self.steps, set[Node]()
        wanted = {
            s.row.node for s in self.loop.stacks
            if s.walk == whole(self.loop.length, self.order)
        } if not self.loop.guarded else set()  # fmt: skip
        for node in self.loop.nodes:
            if (node, 0) in steps.same and node.inputs and node.op.family != "view":
                found.add(node)
            elif (node, 0) in steps.stacked and node.op is not PARAMETER:
                follows = node.op.family == "pointwise" and any(
                    t.node in found and key_of(t) in steps.stacked for t in node.inputs
                )
                if is_anchor(node) or node in wanted or follows or self._is_view_of(node, found):
                    found.add(node)
        return found

    def _is_view_of(self, node: Node, found: set[Node]) -> bool:
        """Whether a node shows what has moved in another shape of the same size."""
        return node.op.name in ("reshape", "transpose") and node.inputs[0].node in found

    def frontier(self, moved: set[Node]) -> list[Tensor]:
        """What the rest of the body reads of what has moved, and transposes that are made once."""
        found: dict[Key, Tensor] = {}
        stacks = {key_of(s.row) for s in self.loop.stacks if self.is_stack(s.row, s.walk)}
        needed = self._needed(moved, stacks)
        for node in needed:
            for t in node.inputs:
                turned = node.op.family == "control" or (
                    t.node.op.name == "transpose" and node.op.family == "contraction"
                )
                turned = turned and bool(t.node.inputs) and t.node.op.family == "view"
                if t.node in moved or (turned and key_of(t) in self.steps.same):
                    found.setdefault(key_of(t), t)
        rest = [s.row for s in self.loop.stacks if key_of(s.row) not in stacks]
        for t in (*(s.following for s in self.loop.states), *rest):
            if t.node in moved:
                found.setdefault(key_of(t), t)
        return list(found.values())

    def is_stack(self, row: Tensor, walk: object) -> bool:
        """Whether a result is made outside as a whole."""
        here = key_of(row) in self.steps.stacked or key_of(row) in self.steps.same
        made = row.node.op is not PARAMETER and bool(row.node.inputs)
        fits = walk == whole(self.loop.length, self.order)
        return here and made and fits and not (self.loop.guarded or self.loop.truncated)

    def _needed(self, moved: set[Node], stacks: set[Key]) -> list[Node]:
        """The nodes that stay in the body and are read there."""
        roots = [s.following for s in self.loop.states]
        roots += [s.row for s in self.loop.stacks if key_of(s.row) not in stacks]
        stack = [t.node for t in roots if t.node not in moved]
        seen = set(stack)
        while stack:
            for t in stack.pop().inputs:
                if t.node not in seen and t.node not in moved:
                    seen.add(t.node)
                    stack.append(t.node)
        return [node for node in self.loop.nodes if node in seen]

    # ------------------------------------------------------------------ the loop that is left

    def apply(self) -> Sequence[Tensor] | None:
        """The outputs of the loop; None where nothing moves."""
        self.compute()
        loop, moved = self.loop, self.moved()
        frontier = self.frontier(moved)
        whole_stacks = {n for n, s in enumerate(loop.stacks) if self.is_stack(s.row, s.walk)}
        if not frontier and not whole_stacks:
            return None
        places = [loop.place(i) for i in range(len(loop.node.types))]
        values = {n: self.steps.value(loop.stacks[n].row) for n in whole_stacks}
        replaced = {key_of(t): self._parameter(t) for t in frontier}
        kept = [n for n in range(len(loop.stacks)) if n not in whole_stacks]
        loop.stacks = [loop.stacks[n] for n in kept]
        body_rewritten(loop, replaced)
        made = loop.make() if loop.states or loop.stacks else None
        return list(self._outputs(places, made, values, kept))

    def _parameter(self, tensor: Tensor) -> Tensor:
        """What stands for a value in the body now."""
        key, parameter = key_of(tensor), alike(tensor)
        if key in self.steps.same:
            self.loop.captures.append(Capture(self.steps.same[key], parameter))
        else:
            walk = whole(self.loop.length, self.order)
            self.loop.rows.append(Rows(self.steps.stacked[key], parameter, walk))
        return parameter

    def _outputs(self, places, made, values, kept) -> Iterable[Tensor]:  # type: ignore[no-untyped-def]  # private
        for kind, n in places:
            if kind == "stacks":
                yield values[n] if n in values else made.stacks[kept.index(n)]
            elif kind == "count":
                yield made.count
            else:
                yield getattr(made, kind)[n]


def hoist(graph: Graph) -> Graph:
    """Move out of loops what does not depend on their states."""
    return each_loop(graph, lambda old, loop: _Hoisting(loop).apply())
