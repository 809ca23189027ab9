"""Mapping a graph to a new one, node by node, sharing every node that did not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from graphc.context import caller, on_behalf
from graphc.graph import Graph, Node, Tensor

Rule: TypeAlias = Callable[[Node], "Tensor | Sequence[Tensor] | None"]


class Rewriter:
    """The state of one rewrite: which outputs replace those of a node that changed."""

    def __init__(self, replaced: Mapping[Tensor, Tensor] | None = None) -> None:
        self._tensors = dict(replaced or {})
        self._nodes: dict[Node, Sequence[Tensor]] = {}

    def resolve(self, tensor: Tensor) -> Tensor:
        """What stands for `tensor` now."""
        outputs = self._nodes.get(tensor.node)
        current = tensor if outputs is None else outputs[tensor.index]
        return self._tensors.get(tensor, current) if self._tensors else current

    def visit(self, node: Node) -> Node:
        """The node over its inputs' replacements; itself where none changed."""
        nodes, tensors = self._nodes, self._tensors
        for tensor in node.inputs:
            if tensor.node in nodes or tensor in tensors:
                outputs = node.with_inputs(tuple(map(self.resolve, node.inputs)))
                nodes[node] = outputs
                return outputs[0].node if outputs else node
        return node

    def redirect(self, tensor: Tensor, by: Tensor) -> None:
        """From here on, `by` stands for one tensor."""
        self._tensors[tensor] = by

    def replace(self, node: Node, by: Tensor | Sequence[Tensor]) -> None:
        """From here on, `by` stands for the outputs of `node`."""
        self._nodes[node] = (by,) if isinstance(by, Tensor) else by


def rewrite(graph: Graph, rule: Rule, replaced: Mapping[Tensor, Tensor] | None = None) -> Graph:
    """Map a graph node by node, inputs first.

    `rule` sees a node over already rewritten inputs and returns what replaces its outputs, or None
    to keep it. What it builds takes the line and the scope of the node that it replaces.
    """
    rewriter = Rewriter(replaced)
    with on_behalf(caller(), None) as source:
        for node in graph.nodes:
            current = rewriter.visit(node)
            source.where, source.scope = node.where, node.scope
            new = rule(current)
            if new is not None:
                rewriter.replace(node, new)
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])
