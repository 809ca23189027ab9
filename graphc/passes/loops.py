"""Loops as passes take them apart: operands with their parameters, results with what they become.

Enters: a `loop` node. Leaves: a `Loop`, whose lists a pass changes, and which makes the node of
what they hold then. Tensors are compared by node and index: one output may be several objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphc.build import make_all
from graphc.context import caller, on_behalf
from graphc.dims import Dimension
from graphc.graph import Body, Graph, Node, Tensor, topological
from graphc.ops.gradient import GRADIENT
from graphc.ops.loop import LOOP, Walk
from graphc.ops.slicing import along
from graphc.rewriting import Rewriter

Key: TypeAlias = tuple[Node, int]


def key_of(tensor: Tensor) -> Key:
    """What equal tensors have in common."""
    return tensor.node, tensor.index


@dataclass(frozen=True, slots=True)
class Rows:
    """A sequence: what it is, what a step gets of it, and which row that is."""

    operand: Tensor
    parameter: Tensor
    walk: Walk


@dataclass(frozen=True, slots=True)
class State:
    """A state: its initial value, its value before a step, and behind it."""

    operand: Tensor
    parameter: Tensor
    following: Tensor


@dataclass(frozen=True, slots=True)
class Capture:
    """What never changes."""

    operand: Tensor
    parameter: Tensor


@dataclass(frozen=True, slots=True)
class Stack:
    """A result that is kept of each step, and where."""

    row: Tensor
    walk: Walk


@dataclass(frozen=True, slots=True)
class Made:
    """The outputs of a loop, by what they are."""

    last: Sequence[Tensor]
    past: Mapping[int, Tensor]
    stacks: Sequence[Tensor]
    count: Tensor | None


@dataclass(slots=True)
class Loop:
    """A loop, taken apart."""

    node: Node
    index: Tensor
    rows: list[Rows]
    states: list[State]
    captures: list[Capture]
    stacks: list[Stack]
    histories: list[int]

    @staticmethod
    def of(node: Node) -> Loop:
        """The parts of a node."""
        attrs, graph = node.attrs, node.attrs["body"].graph
        index, *parameters = graph.inputs
        first, second = len(attrs["reads"]), len(attrs["reads"]) + attrs["states"]
        pairs = list(zip(node.inputs, parameters, strict=True))
        results = graph.outputs
        return Loop(
            node,
            index,
            [Rows(*pair, walk) for pair, walk in zip(pairs, attrs["reads"], strict=False)],
            [State(*pair, y) for pair, y in zip(pairs[first:second], results, strict=False)],
            [Capture(*pair) for pair in pairs[second:]],
            [Stack(*s) for s in zip(results[attrs["states"] :], attrs["writes"], strict=True)],
            list(attrs["histories"]),
        )

    @property
    def entering(self) -> list[Rows | State | Capture]:
        """What goes in, in the order of the operands."""
        return [*self.rows, *self.states, *self.captures]

    @property
    def length(self) -> Dimension:
        """How many steps there are at most."""
        length: Dimension = self.node.attrs["length"]
        return length

    @property
    def guarded(self) -> bool:
        """Whether a state may end it."""
        return bool(self.node.attrs["guarded"])

    @property
    def truncated(self) -> bool:
        """Whether gradients go through the last steps only, of all that the loop itself does."""
        return self.node.attrs["truncate"] is not None

    @property
    def sparing(self) -> bool:
        """Whether its user asked for little memory: it makes no stacks of its own accord."""
        return self.node.attrs["checkpoint"] is not None

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes of its body, inputs first."""
        graph: Graph = self.node.attrs["body"].graph
        return graph.nodes

    @property
    def results(self) -> list[Tensor]:
        """What its body makes."""
        return [*(s.following for s in self.states), *(s.row for s in self.stacks)]

    def split(self, outputs: Sequence[Tensor]) -> Made:
        """The outputs of a node of these parts."""
        states, past = len(self.states), len(self.states) + len(self.histories)
        count = outputs[-1] if self.guarded else None
        stacks = outputs[past : past + len(self.stacks)]
        kept = dict(zip(self.histories, outputs[states:past], strict=True))
        return Made(outputs[:states], kept, stacks, count)

    def place(self, index: int) -> tuple[str, int]:
        """Which output that is: of `last`, `past` (by state), `stacks` or `count`."""
        for kind, numbers in (
            ("last", range(len(self.states))),
            ("past", self.histories),
            ("stacks", range(len(self.stacks))),
        ):
            if index < len(numbers):
                return kind, numbers[index]
            index -= len(numbers)
        return "count", 0

    def make(self) -> Made:
        """The node of these parts."""
        inputs = [p.operand for p in self.entering]
        parameters = [p.parameter for p in self.entering]
        body = Body(Graph(tuple(self.results), (), (self.index, *parameters)))
        attrs = {
            **self.node.attrs,
            "body": body,
            "reads": tuple(r.walk for r in self.rows),
            "writes": tuple(s.walk for s in self.stacks),
            "states": len(self.states),
            "histories": tuple(self.histories),
        }
        with on_behalf(self.node.where, self.node.scope):
            return self.split(make_all(LOOP, inputs, attrs, self.node.name))

    def rewritten(self, rewriter: Rewriter) -> None:
        """Let its results be what has become of them in a rewrite of the body."""
        resolve = rewriter.resolve
        self.states = [State(s.operand, s.parameter, resolve(s.following)) for s in self.states]
        self.stacks = [Stack(resolve(s.row), s.walk) for s in self.stacks]


def body_rewritten(loop: Loop, replaced: Mapping[Key, Tensor]) -> None:
    """Let other tensors stand for some in the body of a loop."""
    by_node: dict[Node, dict[int, Tensor]] = {}
    for (node, index), tensor in replaced.items():
        by_node.setdefault(node, {})[index] = tensor
    rewriter = Rewriter()
    for node in topological(loop.results):
        current = rewriter.visit(node)
        if (new := by_node.get(node)) is not None:
            outputs = [
                new[i] if i in new else Tensor(current, i, type)
                for i, type in enumerate(current.types)
            ]
            rewriter.replace(node, outputs)
    loop.rewritten(rewriter)


def _is_open(node: Node) -> bool:
    """Whether a loop must be left as it is: a gradient inside of it is still to be taken."""
    graph: Graph = node.attrs["body"].graph
    if not node.settled or any(t.shape is None for t in node.types):
        return True
    return any(inner.op is GRADIENT for inner in graph.nodes)


def loops_of(graph: Graph) -> list[Node]:
    """The loops of this level that passes may change."""
    return [node for node in graph.nodes if node.op is LOOP and not _is_open(node)]


def each_loop(graph: Graph, change: Callable[[Node, Loop], Sequence[Tensor] | None]) -> Graph:
    """Replace loops that passes may change by what `change` makes of them, inputs first.

    It gets the node as it was, and the parts of it over inputs that are already replaced; None
    keeps the loop. The same graph, where all are kept.
    """
    loops = set(loops_of(graph))
    if not loops:
        return graph
    rewriter, changed = Rewriter(), False
    with on_behalf(caller(), None) as source:
        for node in graph.nodes:
            current = rewriter.visit(node)
            if node not in loops:
                continue
            source.where, source.scope = node.where, node.scope
            new = change(node, Loop.of(current))
            if new is not None:
                rewriter.replace(node, new)
                changed = True
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots]) if changed else graph


def readers_of(graph: Graph) -> dict[Key, list[Node | None]]:
    """Who reads each tensor; None stands for the roots."""
    found: dict[Key, list[Node | None]] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            found.setdefault(key_of(tensor), []).append(node)
    for root in graph.roots:
        found.setdefault(key_of(root), []).append(None)
    return found


# ---------------------------------------------------------------------------- rows


def orientation(walks: Iterable[Walk]) -> int:
    """In which order rows of all steps at once are best taken: as most of them lie."""
    return -1 if sum(1 if step > 0 else -1 for _, step in walks) < 0 else 1


def whole(length: Dimension, order: int) -> Walk:
    """The walk over all rows of a stack, from its first or from its last."""
    return (0, 1) if order > 0 else (length - 1, -1)


def rows_read(source: Tensor, walk: Walk, length: Dimension, order: int) -> Tensor:
    """The rows that the steps read, as one tensor in an order that `whole` walks over."""
    start, step = walk
    if order < 0:
        start, step = start + step * (length - 1), -step
    return along(source, 0, start, length, step)


def after(walk: Walk, first: Dimension, step: int) -> Walk:
    """The walk whose step t reads what `walk` reads at its step `first + step * t`."""
    start, stride = walk
    return start + stride * first, stride * step
