"""Move into a side of a branch what only that side needs, wherever it was created.

Enters: any graph. Leaves: the same, where a node whose every reader is in one side of one branch is
in that side's body: it runs only if that side is taken. What feeds the node from outside becomes an
operand of the branch. What a loop reads from outside goes into its body where only a side of a
branch in there needs it; the walk over that body then moves it on.

Readers come before what they read, so one walk finds where each node belongs: in the innermost side
that all of its readers are in. A `gradient` stays where it is until it is expanded, and so does
what it reads: the way from its outputs to its inputs must stay whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphc.context import on_behalf
from graphc.graph import Body, Graph, Node, Tensor, bodies, outputs_of
from graphc.ops.bodies import PARAMETER, enclose
from graphc.ops.branch import BRANCH
from graphc.ops.gradient import GRADIENT
from graphc.ops.loop import LOOP
from graphc.ops.random import ENTROPY
from graphc.ops.source import PLACEHOLDER, VARIABLE
from graphc.passes.inside import inside
from graphc.rewriting import Rewriter

# What a run brings, and what another pass must still see whole.
STAYS = frozenset({PARAMETER, PLACEHOLDER, VARIABLE, ENTROPY, GRADIENT})


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """A body that nodes may move into; `around` is the one that its branch itself moves into."""

    depth: int
    around: _Side | None
    members: list[Node] = field(default_factory=list)  # inputs first, as they are now


def _common(a: _Side | None, b: _Side | None) -> _Side | None:
    """The innermost side that is around both."""
    while a is not b:
        if a is None or b is None:
            return None
        if a.depth >= b.depth:
            a = a.around
        else:
            b = b.around
    return a


class _Homes:
    """Where the nodes of a graph belong: the side that each moves into, None to stay."""

    def __init__(self, graph: Graph, lazy: _Lazy) -> None:
        self._found: dict[Node, _Side | None] = {}
        self._lazy = lazy
        self._stays = {tensor.node for tensor in graph.inputs}
        self.sides: dict[Node, dict[str, _Side]] = {}
        for root in graph.roots:
            self._found[root.node] = None
        for node in reversed(graph.nodes):
            home = self[node]
            self._read(node, home)

    def __getitem__(self, node: Node) -> _Side | None:
        return None if node.op in STAYS or node in self._stays else self._found[node]

    def reader(self, node: Node) -> _Side | None:
        """Where all that reads a node is, whether it moves there or not."""
        return self._found.get(node)

    def _read(self, node: Node, home: _Side | None) -> None:
        inner = self._into(node)
        depth = 1 if home is None else home.depth + 1
        sides = self.sides[node] = {name: _Side(depth, home) for name in set(inner.values())}
        if not sides:
            del self.sides[node]
        for operand, tensor in enumerate(node.inputs):
            place = sides[inner[operand]] if operand in inner else home
            read, found = tensor.node, self._found
            found[read] = _common(found[read], place) if read in found else place

    def _into(self, node: Node) -> dict[int, str]:
        """The operands that a body of a node alone needs, and its name: of loops, what may not."""
        if node.op is BRANCH:
            split, count = node.attrs["split"], len(node.inputs)
            return {k: "then" if k <= split else "otherwise" for k in range(1, count)}
        if node.op is LOOP:
            first = len(node.attrs["reads"]) + node.attrs["states"]
            body: Graph = node.attrs["body"].graph
            if captured := body.inputs[1 + first :]:
                lazy = self._lazy[body]
                return {first + k: "body" for k, t in enumerate(captured) if t in lazy}
        return {}


class _Lazy:
    """For the body of each loop, those of its inputs that it reads in a side of a branch only."""

    def __init__(self) -> None:
        self._found: dict[Graph, set[Tensor]] = {}

    def __getitem__(self, graph: Graph) -> set[Tensor]:
        if graph not in self._found:
            self._found[graph] = set(self._look(graph))
        return self._found[graph]

    def _look(self, graph: Graph) -> Iterable[Tensor]:
        if any(bodies(node) for node in graph.nodes):
            homes = _Homes(graph, self)
            yield from (t for t in graph.inputs if homes.reader(t.node) is not None)


def _grown(
    body: Body, operands: Sequence[Tensor], moved: Sequence[Node], kept: int = 0
) -> tuple[Body, list[Tensor]]:
    """The body with the moved nodes in front of it, and what it captures now.

    The first `kept` inputs stay as they are; `operands` are given for the others.
    """
    graph = body.graph
    parameters = {t.node for t in graph.inputs}
    rewriter = Rewriter(dict(zip(graph.inputs[kept:], operands, strict=True)))
    own = [rewriter.visit(node) for node in graph.nodes if node not in parameters]
    results = [rewriter.resolve(t) for t in graph.outputs]
    return enclose(results, _needed(results, [*moved, *own]), graph.inputs[:kept])


def _needed(results: Sequence[Tensor], nodes: Sequence[Node]) -> list[Node]:
    """Those of some nodes, inputs first, that the results are made of."""
    read = {t.node for t in results}
    kept = []
    for node in reversed(nodes):
        if node in read:
            kept.append(node)
            read.update(t.node for t in node.inputs)
    return kept[::-1]


def _branch(node: Node, sides: dict[str, _Side]) -> tuple[Tensor, ...]:
    """A branch over bodies that compute what only they need."""
    split = 1 + node.attrs["split"]
    condition, *operands = node.inputs
    given = {"then": operands[: split - 1], "otherwise": operands[split - 1 :]}
    grown = {}
    for name in given:
        moved = sides[name].members if name in sides else []
        grown[name] = _grown(node.attrs[name], given[name], moved)
    (then, first), (otherwise, second) = grown["then"], grown["otherwise"]
    attrs = {"then": then, "otherwise": otherwise, "split": len(first)}
    return _rebuilt(node, (condition, *first, *second), attrs)


def _loop(node: Node, sides: dict[str, _Side]) -> tuple[Tensor, ...]:
    """A loop over a body that computes what only a side of a branch in it needs."""
    first = len(node.attrs["reads"]) + node.attrs["states"]
    own, captured = node.inputs[:first], node.inputs[first:]
    body, given = _grown(node.attrs["body"], captured, sides["body"].members, 1 + first)
    return _rebuilt(node, (*own, *given), {**node.attrs, "body": body})


def _rebuilt(
    node: Node, inputs: tuple[Tensor, ...], attrs: dict[str, object]
) -> tuple[Tensor, ...]:
    return outputs_of(
        Node(node.op, inputs, attrs, node.types, node.name, node.scope, node.where, node.settled)
    )


def sink_branches(graph: Graph) -> Graph:
    """Move nodes into the branches that alone need them, then on into those inside."""
    return _sunk(graph, _Lazy())


def _sunk(graph: Graph, lazy: _Lazy) -> Graph:
    return inside(_sunk_here(graph, lazy), lambda body: _sunk(body, lazy))


def _sunk_here(graph: Graph, lazy: _Lazy) -> Graph:
    """The same for the nodes of one level."""
    if not any(node.op is BRANCH or node.op is LOOP for node in graph.nodes):
        return graph
    homes = _Homes(graph, lazy)
    if all(homes[node] is None for node in graph.nodes):
        return graph
    rewriter = Rewriter()
    with on_behalf(graph.nodes[0].where, None):
        for node in graph.nodes:
            current = rewriter.visit(node)
            sides = homes.sides.get(node, {})
            if any(side.members for side in sides.values()):
                grow = _branch if node.op is BRANCH else _loop
                outputs = grow(current, sides)
                rewriter.replace(node, outputs)
                current = outputs[0].node
            home = homes[node]
            if home is not None:
                home.members.append(current)
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])
