"""One walk over a graph that applies rules by the name of the op: what most passes are made of.

Enters: a graph, and a table from op names to rules. Leaves: the graph with each match replaced; the
same object where nothing matched. A rule sees a node over already rewritten inputs and gives what
stands for its output, or None; what it builds inherits the node's line and scope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from graphc.context import caller, on_behalf
from graphc.dims import Dim
from graphc.graph import Graph, Node, Tensor
from graphc.ops.control import identity
from graphc.ops.gradient import GRADIENT, parts
from graphc.ops.source import CONSTANT, FULL
from graphc.rewriting import Rewriter

Rule: TypeAlias = Callable[[Node], "Tensor | None"]
REPEATS = 8  # how often the rules look again at what a rule has made of one node


def protected(graph: Graph) -> frozenset[Node]:
    """The nodes whose outputs a `gradient` still takes gradients for: each stays a tensor apart."""
    return frozenset(x.node for node in graph.nodes if node.op is GRADIENT for x in parts(node)[2])


def uniform(tensor: Tensor) -> Any:
    """The number that every element of a constant is, or None."""
    node = tensor.node
    if node.op is FULL:
        value = node.attrs["value"]
        return None if isinstance(value, Dim) else value
    if node.op is CONSTANT and node.attrs["value"].array.size == 1:
        return node.attrs["value"].array.item()
    return None


def symbolic(value: Any) -> bool:
    """Whether an attribute holds a size that only a run decides."""
    if type(value) is tuple:
        return any(map(symbolic, value))
    return isinstance(value, Dim)


def sweep(graph: Graph, rules: Mapping[str, Rule], apart: set[Node] | None = None) -> Graph:
    """Apply `rules` once over the graph.

    Nodes with open questions are left alone. Those `apart` are only ever replaced by new nodes,
    which join the set, so that rules which share it can look out for them.
    """
    kept = set[Node]() if apart is None else apart
    rewriter = Rewriter()
    changed = False
    with on_behalf(caller(), None) as source:
        for node in graph.nodes:
            current = rewriter.visit(node)
            if current is not node and node in kept:
                kept.add(current)
            rule = rules.get(node.op.name)
            if rule is None or not node.settled:
                continue
            source.where, source.scope = node.where, node.scope
            new = _settle(current, rule, rules)
            if new is not None:
                if node in kept:
                    new = identity(new) if new.node.serial < current.serial else new
                    kept.add(new.node)
                rewriter.replace(node, new)
                changed = True
    if not changed:
        return graph
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])


def _settle(node: Node, rule: Rule, rules: Mapping[str, Rule]) -> Tensor | None:
    """What a rule, and then the rules for what it made, turn a node into; types never change."""
    type = node.types[0]
    new = rule(node)
    if new is None or (new.type is not type and new.type != type):
        return None
    for _ in range(REPEATS):
        following = rules.get(new.node.op.name)
        if following is None or new.node.serial < node.serial:
            return new  # nothing more to say, or visited before
        again = following(new.node)
        if again is None or (again.type is not type and again.type != type):
            return new
        new = again
    return new
