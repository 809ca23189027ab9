"""Loops that do the same steps are one loop, with the outputs of all.

Enters: any graph. A gradient asks for the states of a loop by a second loop over the same body, as
does whoever fetches a tensor of a body. Leaves: one node for each group of such loops. A loop that
only its guard ends joins one that has been told how many steps there are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from graphc.build import make_all
from graphc.context import on_behalf
from graphc.graph import Body, Graph, Node, Tensor
from graphc.ops.loop import ENDLESS, LOOP
from graphc.rewriting import Rewriter


def merge_key(node: Node, inputs: Iterable[tuple[Node, int]]) -> Hashable:
    """What loops of one group have in common."""
    attrs = node.attrs
    own = attrs["body"].graph.inputs, attrs["body"].graph.outputs[: attrs["states"]]
    return tuple(inputs), own, attrs["index"], attrs["reads"], attrs["states"], attrs["guarded"]


def _groups(graph: Graph) -> list[list[Node]]:
    """Loops that are one, in their order."""
    groups: dict[Hashable, list[Node]] = {}
    for node in graph.nodes:
        if node.op is LOOP:
            key = merge_key(node, [(t.node, t.index) for t in node.inputs])
            groups.setdefault(key, []).append(node)
    found = []
    for group in groups.values():
        lengths = {node.attrs["length"] for node in group} - {ENDLESS}
        if len(group) > 1 and len(lengths) <= 1:
            found.append(group)
    return found


class _Union:
    """One loop that has the outputs of several."""

    def __init__(self, group: Sequence[Node]) -> None:
        first = group[0].attrs
        self.states: int = first["states"]
        self.histories = tuple(sorted({k for node in group for k in node.attrs["histories"]}))
        self.rows: dict[tuple[Node, int, Any], Tensor] = {}
        for node in group:
            for row, walk in self.rows_of(node):
                self.rows.setdefault((row.node, row.index, walk), row)
        lengths = [node.attrs["length"] for node in group]
        bounded = [length for length in lengths if length != ENDLESS]
        results = (*first["body"].graph.outputs[: self.states], *self.rows.values())
        self.attrs = {
            **first,
            "body": Body(Graph(results, (), first["body"].graph.inputs)),
            "length": bounded[0] if bounded else ENDLESS,
            "histories": self.histories,
            "writes": tuple(walk for _, _, walk in self.rows),
        }

    def rows_of(self, node: Node) -> list[tuple[Tensor, Any]]:
        """What a loop stacks, and where."""
        rows = node.attrs["body"].graph.outputs[self.states :]
        return list(zip(rows, node.attrs["writes"], strict=True))

    def outputs(self, node: Node, out: Sequence[Tensor]) -> list[Tensor]:
        """Those of one of the loops."""
        past = out[self.states : self.states + len(self.histories)]
        stacks = out[self.states + len(self.histories) :]
        numbers = {key: i for i, key in enumerate(self.rows)}
        found = [*out[: self.states]]
        found += [past[self.histories.index(k)] for k in node.attrs["histories"]]
        found += [stacks[numbers[r.node, r.index, walk]] for r, walk in self.rows_of(node)]
        return found + ([out[-1]] if node.attrs["guarded"] else [])


def merge_loops(graph: Graph) -> Graph:
    """Let one loop stand for all that do the same."""
    while groups := _groups(graph):
        members = {node: i for i, group in enumerate(groups) for node in group}
        unions = [_Union(group) for group in groups]
        made: dict[int, Sequence[Tensor]] = {}
        rewriter = Rewriter()
        for node in graph.nodes:
            current = rewriter.visit(node)
            if (number := members.get(node)) is None:
                continue
            if number not in made:
                made[number] = _made(current, unions[number])
            rewriter.replace(node, unions[number].outputs(node, made[number]))
        graph = graph.with_roots([rewriter.resolve(t) for t in graph.roots])
    return graph


def _made(node: Node, union: _Union) -> tuple[Tensor, ...]:
    with on_behalf(node.where, node.scope):
        return make_all(LOOP, node.inputs, union.attrs, node.name)
