"""The graphs inside of control nodes: a pass over them, and the node over what became of them.

Enters: a graph, and a pass. Leaves: the graph with the pass applied to every body in it; the same
object where no body changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphc.graph import Body, Graph, Node, Tensor, bodies, outputs_of
from graphc.rewriting import Rewriter


def with_attrs(node: Node, changed: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The outputs of the node with some attributes changed: bodies of the same types, or notes."""
    return outputs_of(
        Node(
            node.op, node.inputs, {**node.attrs, **changed}, node.types, node.name, node.scope,
            node.where, node.settled,
        )
    )  # fmt: skip


def inlined(body: Body, operands: Sequence[Tensor]) -> list[Tensor]:
    """The results of a body over some operands, in the graph around it."""
    rewriter = Rewriter(dict(zip(body.graph.inputs, operands, strict=True)))
    for node in body.graph.nodes:
        rewriter.visit(node)
    return [rewriter.resolve(t) for t in body.graph.outputs]


def inside(graph: Graph, step: Callable[[Graph], Graph]) -> Graph:
    """Apply a pass to the bodies of a graph."""
    if not any(node.op.family == "control" for node in graph.nodes):
        return graph
    rewriter, changed = Rewriter(), False
    for node in graph.nodes:
        current = rewriter.visit(node)
        found = {}
        for name, body in bodies(node).items():
            result = step(body.graph)
            if result is not body.graph:
                found[name] = Body(result)
        if found:
            rewriter.replace(node, with_attrs(current, found))
            changed = True
    if not changed:
        return graph
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])
