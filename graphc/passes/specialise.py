"""Bind what the feeds decide: ranks, and which sizes are 1 or equal. Other sizes stay symbolic.

Enters: a graph as the user built it, whose `inputs` a run feeds, and the assumptions in force (the
feeds' types and sizes). Leaves: the same graph, where every node that had an open question has been
built again with refined types. Each question that a builder asked about sizes is noted in the
assumptions: a compiled graph holds for all sizes that give the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc.build import ASSUMPTIONS, make, replay
from graphc.context import caller, on_behalf
from graphc.dims import Dim, Dimension, Symbol, substitute
from graphc.graph import Body, Graph, Node, Tensor, bodies
from graphc.ops.branch import BRANCH, branch_entering
from graphc.ops.control import identity, stand_in
from graphc.ops.loop import LOOP, loop_entering
from graphc.ops.source import PLACEHOLDER, VARIABLE
from graphc.passes.sweep import protected
from graphc.rewriting import Rewriter
from graphc.types import TensorType

ENTERING = {LOOP: loop_entering, BRANCH: branch_entering}  # types of bodies' parameters


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
    """For each fed tensor, the placeholder of its refined type; itself where that is no news."""
    replaced = {}
    for tensor in graph.inputs:
        refined = types.get(tensor, tensor.type).substitute(values)
        if tensor.node.op is PLACEHOLDER and refined == tensor.type:
            replaced[tensor] = tensor
            continue
        name = tensor.node.name
        if tensor.node.op is not PLACEHOLDER:
            name = name or tensor.node.op.name
        with on_behalf(tensor.node.where, tensor.node.scope):
            attrs = {"dtype": refined.dtype, "shape": refined.shape}
            new = replaced[tensor] = make(PLACEHOLDER, (), attrs, name)
        if assumptions := ASSUMPTIONS.get():
            assumptions.fed[new] = assumptions.fed.get(tensor, tensor)
    return replaced


def _replay(current: Node, kept: bool) -> list[Tensor]:
    """The outputs of a node built again; never an older tensor where it must be kept apart."""
    new = replay(current.op, current.inputs, current.attrs, current.name)
    outputs = [new] if isinstance(new, Tensor) else list(new)
    if kept:
        return [identity(t) if t.node.serial < current.serial else t for t in outputs]
    return outputs


def _learn(
    old: Sequence[TensorType], new: Sequence[Tensor], learned: dict[Symbol, Dimension]
) -> None:
    """Note what sizes turned out to be that only an unknown rank left open, as -1 in a reshape."""
    assumptions = ASSUMPTIONS.get()
    fed = assumptions.sizes if assumptions else {}
    for type, tensor in zip(old, new, strict=True):
        if type.shape is None or tensor.shape is None or len(type.shape) != len(tensor.shape):
            continue
        for before, after in zip(type.shape, tensor.shape, strict=True):
            symbol = before.as_symbol() if isinstance(before, Dim) else None
            if symbol is None or symbol in fed or symbol.name is not None or before == after:
                continue
            known = after.symbols() if isinstance(after, Dim) else ()
            if symbol.source is None and all(s in fed or s.name is not None for s in known):
                learned[symbol] = after


class Specialiser:
    """One walk: which nodes must be built again, and what has become of them.

    `replaced` tensors are others from the start; `standing` ones are first built, then stood for.
    """

    def __init__(
        self,
        graph: Graph,
        replaced: Mapping[Tensor, Tensor],
        values: Mapping[Symbol, Dimension],
        standing: Mapping[Tensor, Tensor] | None = None,
    ) -> None:
        self._graph = graph
        self._values = values
        self._standing: dict[Node, list[tuple[Tensor, Tensor]]] = {}
        for old, new in (standing or {}).items():
            self._standing.setdefault(old.node, []).append((old, new))
        self.learned: dict[Symbol, Dimension] = {}
        self._kept = protected(graph)
        self._rewriter = Rewriter({old: new for old, new in replaced.items() if old is not new})
        self.resolve = self._rewriter.resolve

    def walk(self, inputs: Sequence[Tensor]) -> Graph:
        """The graph after a walk over all its nodes, inputs first; the same if none changed."""
        graph = self._graph
        with on_behalf(caller(), None) as source:
            for node in graph.nodes:
                source.where, source.scope = node.where, node.scope
                self._visit(node)
                for old, new in self._standing.get(node, ()):
                    self._rewriter.redirect(old, stand_in(self.resolve(old), new))
        roots = [self.resolve(t) for t in graph.roots]
        pairs = zip((*roots, *inputs), (*graph.roots, *graph.inputs), strict=True)
        if all(new is old for new, old in pairs):
            return graph
        return graph.with_roots(roots, inputs)

    def _visit(self, node: Node) -> None:
        """Build one node again, where there is a reason to."""
        current, values = self._rewriter.visit(node), self._values
        attrs = substitute_attrs(node.attrs, values) if values and node.attrs else node.attrs
        if node.op.family == "control":
            attrs = self._inside(current, attrs)
        if node.op is VARIABLE:
            return  # a variable is itself, and what a session stores by
        if node.settled and attrs is node.attrs and not _retyped(current, node):
            return
        if not node.inputs and attrs is node.attrs:
            return
        fresh = Node(
            node.op, current.inputs, attrs, node.types, node.name, node.scope, node.where, False
        )
        outputs = _replay(fresh, node in self._kept)
        _learn(node.types, outputs, self.learned)
        self._rewriter.replace(node, outputs)

    def _inside(self, node: Node, attrs: dict[str, Any]) -> dict[str, Any]:
        """The attributes with bodies over parameters of what is known of the operands."""
        entering = ENTERING[node.op]([t.type for t in node.inputs], attrs)
        found = {}
        for name, body in bodies(node).items():
            replaced = {
                old: old if old.type == type else _refined(old, type)
                for old, type in zip(body.graph.inputs, entering[name], strict=True)
            }
            walk = Specialiser(body.graph, replaced, self._values)
            result = walk.walk([replaced[t] for t in body.graph.inputs])
            self.learned |= walk.learned
            if result is not body.graph:
                found[name] = Body(result)
        return {**attrs, **found} if found else attrs


def _refined(parameter: Tensor, type: TensorType) -> Tensor:
    """A parameter of another type."""
    attrs = {**parameter.node.attrs, "dtype": type.dtype, "shape": type.shape}
    return make(parameter.node.op, (), attrs, parameter.node.name)


def _retyped(current: Node, node: Node) -> bool:
    """Whether more is known of an input than when the node was built."""
    return current is not node and any(
        new.type is not old.type and new.type != old.type
        for new, old in zip(current.inputs, node.inputs, strict=True)
    )


def _once(
    graph: Graph, values: Mapping[Symbol, Dimension]
) -> tuple[Graph, dict[Symbol, Dimension]]:
    assumptions = ASSUMPTIONS.get()
    replaced = _inputs(graph, assumptions.types if assumptions else {}, values)
    specialiser = Specialiser(graph, replaced, values)
    return specialiser.walk([replaced[t] for t in graph.inputs]), specialiser.learned


def specialise(graph: Graph) -> Graph:
    """Build again what was open, under the assumptions in force, until no answer changes a type."""
    assumptions = ASSUMPTIONS.get()
    values: Mapping[Symbol, Dimension] = assumptions.solved() if assumptions else {}
    while True:
        graph, learned = _once(graph, values)
        solved = {**values, **learned, **(assumptions.solved() if assumptions else {})}
        if solved == values:
            return graph
        values = solved
