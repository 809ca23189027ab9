"""Compute each thing once: nodes of one op over the same inputs, with the same attributes, are one.

Enters: any graph. Leaves: the same, where the first of equal nodes stands for all (constants are
equal by value, bit for bit; `a * b` and `b * a` are equal, and so are sums). Never merged:
variables, placeholders, random bits that no session has keyed, prints and the user's functions. A
name survives: the one node carries the first of them.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from graphc.dims import Dim
from graphc.dtypes import DType
from graphc.graph import Graph, Node, Op, Tensor, outputs_of
from graphc.ops import OPS
from graphc.ops.bodies import PARAMETER
from graphc.ops.control import PRINT
from graphc.ops.random import is_unkeyed
from graphc.ops.source import FULL, PLACEHOLDER, VARIABLE
from graphc.passes.sweep import protected
from graphc.rewriting import Rewriter

PLAIN = frozenset({int, str, bool, DType, Dim, type(None)})  # kinds of attributes that compare well
COMMUTATIVE = frozenset(OPS[name] for name in ("add", "multiply", "masked_multiply"))
APART = frozenset({PLACEHOLDER, VARIABLE, PARAMETER, PRINT})


def repeats(op: Op) -> bool:
    """Whether an op gives the same again; host calls outside the registry are the user's."""
    return op not in APART and (op.family != "host" or OPS.get(op.name) is op)


def exact(value: Any) -> Hashable:
    """An attribute as a key: 0.0 and -0.0 differ, NaN equals itself."""
    if type(value) is float:
        return value.hex()
    if type(value) is tuple:
        return tuple(map(exact, value))
    kept: Hashable = value
    return kept


def _full_key(node: Node) -> Hashable:
    """One number of a type, however it is spelled: 1, 1.0 and True are one."""
    type = node.types[0]
    value = node.attrs["value"]
    return (
        FULL,
        value if isinstance(value, Dim) else np.asarray(value).astype(type.dtype.numpy).tobytes(),
        type,
    )


def _place(operand: Node | tuple[Node, int]) -> tuple[int, int]:
    """Where an operand stands among all, to bring two into an order."""
    return (operand.serial, 0) if isinstance(operand, Node) else (operand[0].serial, operand[1])


def _key(node: Node, classes: dict[Node, Node]) -> Hashable:
    """What equal nodes have in common."""
    if node.op is FULL:
        return _full_key(node)
    inputs = [
        classes.get(t.node, t.node) if t.index == 0 else (classes.get(t.node, t.node), t.index)
        for t in node.inputs
    ]
    if node.op in COMMUTATIVE:  # a * b is b * a, to the bit
        inputs.sort(key=_place)
    attrs = [v if type(v) in PLAIN else exact(v) for v in node.attrs.values()]
    return (node.op, *inputs, None, *attrs)


def _classes(graph: Graph) -> tuple[dict[Node, Node], dict[Node, Node]]:
    """Each node that repeats an earlier one, with that; and for the nameless first, its label."""
    apart = protected(graph)
    first: dict[Hashable, Node] = {}
    classes: dict[Node, Node] = {}
    labels: dict[Node, Node] = {}
    for node in graph.nodes:
        if node in apart or is_unkeyed(node) or not repeats(node.op):
            continue
        found = first.setdefault(_key(node, classes), node)
        if found is not node:
            classes[node] = found
            if found.name is None and node.name is not None:
                labels.setdefault(found, node)
    return classes, labels


def _labelled(node: Node, label: Node) -> Node:
    return Node(
        node.op, node.inputs, node.attrs, node.types, label.name, label.scope, node.where,
        node.settled,
    )  # fmt: skip


def _tensors(graph: Graph, nodes: set[Node]) -> dict[tuple[Node, int], Tensor]:
    """The tensors that are read or fetched of some nodes: a tensor stays one object."""
    return {(t.node, t.index): t for t in graph.tensors() if t.node in nodes}


def merge_common(graph: Graph) -> Graph:
    """Let the first of equal nodes stand for all of them."""
    classes, labels = _classes(graph)
    if not classes:
        return graph
    tensors = _tensors(graph, set(classes.values()))
    rewriter = Rewriter()
    for node in graph.nodes:
        found = classes.get(node)
        if found is not None:
            fresh = outputs_of(found)
            original = [tensors.get((found, t.index), t) for t in fresh]
            rewriter.replace(node, [rewriter.resolve(t) for t in original])
            continue
        current = rewriter.visit(node)
        if (label := labels.get(node)) is not None:
            rewriter.replace(node, outputs_of(_labelled(current, label)))
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])
