"""Bind what the feeds decide: ranks, and which sizes are 1 or equal. Other sizes stay symbolic.

Enters: a graph as the user built it, whose `inputs` a run feeds, and the assumptions in force (the
feeds' types and sizes). Leaves: the same graph, where every node that had an open question has been
built again with refined types. Each question that a builder asked about sizes is noted in the
assumptions: a compiled graph holds for all sizes that give the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphc.context import on_behalf
from graphc.dims import Dim, Dimension, Symbol, substitute
from graphc.graph import ASSUMPTIONS, Graph, Node, Rewriter, Tensor, make
from graphc.ops.control import identity
from graphc.ops.gradient import GRADIENT, parts
from graphc.ops.source import PLACEHOLDER
from graphc.types import TensorType


def substitute_attrs(attrs: dict[str, Any], values: Mapping[Symbol, Dimension]) -> dict[str, Any]:
    """Attributes with symbols replaced; the same object where none occurs."""
    changed = {k: _substituted(v, values) for k, v in attrs.items()}
    return changed if any(changed[k] is not attrs[k] for k in attrs) else attrs


def _substituted(value: Any, values: Mapping[Symbol, Dimension]) -> Any:
    if isinstance(value, Dim):
        new = substitute(value, values)
        return value if new == value else new
    if isinstance(value, tuple) and any(isinstance(v, (Dim, tuple)) for v in value):
        listed = tuple(_substituted(v, values) for v in value)
        return value if all(a is b for a, b in zip(listed, value, strict=True)) else listed
    return value


def _inputs(
    graph: Graph, types: Mapping[Tensor, TensorType], values: Mapping[Symbol, Dimension]
) -> dict[Tensor, Tensor]:
    """For each fed tensor, the placeholder of its refined type; itself where that says nothing new."""
    replaced = {}
    for tensor in graph.inputs:
        refined = types.get(tensor, tensor.type).substitute(values)
        if tensor.node.op is PLACEHOLDER and refined == tensor.type:
            replaced[tensor] = tensor
            continue
        name = tensor.node.name or tensor.node.op.name
        with on_behalf(tensor.node.where, tensor.node.scope):
            attrs = {"dtype": refined.dtype, "shape": refined.shape}
            replaced[tensor] = make(PLACEHOLDER, (), attrs, name)
    return replaced


def _differentiated(graph: Graph) -> frozenset[Tensor]:
    """Inner tensors that gradients are taken for: they must stay tensors of their own."""
    return frozenset(
        x for node in graph.nodes if node.op is GRADIENT for x in parts(node)[2] if x.node.inputs
    )


def _replay(node: Node, current: Node, attrs: dict[str, Any], kept: bool) -> Any:
    """The outputs of a node built again; never an older tensor where it must be kept apart."""
    new = current.op.replay(current.inputs, attrs, node.name)
    outputs = [new] if isinstance(new, Tensor) else list(new)
    if kept:
        outputs = [identity(t) if t in current.inputs or _older(t, node) else t for t in outputs]
    return outputs


def _older(tensor: Tensor, node: Node) -> bool:
    return tensor.node.serial < node.serial


def _once(graph: Graph, values: Mapping[Symbol, Dimension]) -> Graph:
    assumptions = ASSUMPTIONS.get()
    replaced = _inputs(graph, assumptions.types if assumptions else {}, values)
    kept = _differentiated(graph)
    kept_nodes = {t.node for t in kept}
    rewriter = Rewriter({old: new for old, new in replaced.items() if old is not new})
    first = graph.nodes[0].where if graph.nodes else None
    if first is None:
        return graph.with_roots(
            [rewriter.resolve(t) for t in graph.roots], [replaced[t] for t in graph.inputs]
        )
    with on_behalf(first, None) as source:
        for node in graph.nodes:
            attrs = substitute_attrs(node.attrs, values) if values else node.attrs
            inputs = tuple(map(rewriter.resolve, node.inputs))
            retyped = any(
                a.type is not b.type and a.type != b.type
                for a, b in zip(inputs, node.inputs, strict=True)
            )
            if node.settled and attrs is node.attrs and not retyped:
                rewriter.visit(node)
                continue
            if not node.inputs and attrs is node.attrs:
                continue
            source.where, source.scope = node.where, node.scope
            current = Node(
                node.op, inputs, attrs, node.types, node.name, node.scope, node.where, False
            )
            rewriter.replace(node, _replay(node, current, attrs, node in kept_nodes))
    return graph.with_roots(
        [rewriter.resolve(t) for t in graph.roots], [replaced[t] for t in graph.inputs]
    )


def specialise(graph: Graph) -> Graph:
    """Build again what was open, under the assumptions in force, until no answer changes a type."""
    assumptions = ASSUMPTIONS.get()
    values: Mapping[Symbol, Dimension] = assumptions.solved() if assumptions else {}
    while True:
        result = _once(graph, values)
        solved = assumptions.solved() if assumptions else {}
        if solved == values:
            return result
        values = solved
