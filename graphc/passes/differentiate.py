"""Expand `gradient` nodes by the reverse walk.

Enters: a specialised graph, where every rank is known. Leaves: the same outputs, with the adjoint
of each op on the way as ordinary nodes, in a scope "gradients" that mirrors the forward scopes.
Gradients of gradients come out from the inside, since nodes are visited inputs first. Rules of
nodes in a checkpoint, or beyond a memory budget, read copies of forward values (`recompute`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.context import Origin, Scope, on_behalf
from graphc.errors import CompileError, GradientError
from graphc.graph import Graph, Node, Tensor, topological
from graphc.ops.broadcast import broadcast_to
from graphc.ops.control import identity
from graphc.ops.gradient import GRADIENT, parts, reached_from, zeros_like_type
from graphc.passes.budget import Budget
from graphc.passes.recompute import Homes, Recomputation, checkpoints
from graphc.passes.sweep import protected, uniform
from graphc.rewriting import Rewriter


class _Mirror:
    """Forward scopes to gradient scopes, one for one."""

    def __init__(self, root: Scope) -> None:
        self._scopes: dict[Scope | None, Scope] = {None: root}

    def __getitem__(self, scope: Scope | None) -> Scope:
        missing = []
        while (found := self._scopes.get(scope)) is None:
            assert scope is not None
            missing.append(scope)
            scope = scope.parent
        for inner in reversed(missing):
            found = self._scopes[inner] = Scope(inner.name, found)
        return found


class _Cotangents:
    """What has flowed back to each output of each node so far."""

    def __init__(self) -> None:
        self._parts: dict[Node, dict[int, list[Tensor]]] = {}

    def add(self, tensor: Tensor, cotangent: Tensor) -> None:
        """One more contribution."""
        self._parts.setdefault(tensor.node, {}).setdefault(tensor.index, []).append(cotangent)

    def total(self, node: Node, index: int) -> Tensor | None:
        """The sum for one output; kept, so that it is built once."""
        outputs = self._parts.get(node)
        if outputs is None or index not in outputs:
            return None
        listed = outputs[index]
        while len(listed) > 1:  # pairwise, so that depth is the logarithm of the uses
            odd = listed[-1:] if len(listed) % 2 else []
            listed = [a + b for a, b in zip(listed[::2], listed[1::2], strict=False)] + odd
        outputs[index] = listed
        return listed[0]


def _plain(cotangent: Tensor) -> Tensor:
    """A cotangent without the factor 1 that each seed starts as."""
    if cotangent.node.op.name == "multiply":
        a, b = cotangent.node.inputs
        if a.type == b.type:
            return b if uniform(a) == 1 else a if uniform(b) == 1 else cotangent
    return cotangent


def _check(node: Node, x: Tensor, cotangent: Tensor) -> Tensor:
    """A rule must give each input a cotangent of the input's own type."""
    if cotangent.dtype is x.dtype:
        if cotangent.shape == x.shape:
            return cotangent
        try:
            return cotangent.reshape(x.shape)  # equal sizes, spelled otherwise
        except ValueError:
            pass
    raise CompileError(
        f"differentiate: the gradient rule of {node.op.name} gave {cotangent.type} "
        f"for an input of {x.type}"
    )


def _pull_back(
    node: Node,
    ys: dict[Node, dict[int, Tensor]],
    flowing: _Cotangents,
    again: Recomputation,
) -> list[Tensor | None]:
    """Send the cotangents of a node's outputs on to its inputs; gives what each has got."""
    outputs = ys.get(node, {})
    found = [flowing.total(node, i) for i in range(len(node.types))]
    if all(g is None for g in found):
        return []
    tensors = [outputs[i] if i in outputs else Tensor(node, i, t) for i, t in enumerate(node.types)]
    filled = [zeros_like_type(t) if g is None else g for t, g in zip(tensors, found, strict=True)]
    inputs: Sequence[Tensor] = node.inputs
    if (home := again.homes.get(node)) is not None:
        again.start(home, found)
        tensors = [again.value(t, home) for t in tensors]
        inputs = [again.value(t, home) for t in inputs]
    assert node.op.vjp is not None
    if node.op.outputs is None:
        result = node.op.vjp(filled[0], tensors[0], *inputs, **node.attrs)
    else:
        result = node.op.vjp(tuple(filled), tuple(tensors), *inputs, **node.attrs)
    listed: Sequence[Tensor | None] = result if isinstance(result, (tuple, list)) else (result,)
    sent: list[Tensor | None] = []
    for x, cotangent in zip(node.inputs, listed, strict=True):
        if cotangent is None or not x.dtype.is_float:
            sent.append(None)
            continue
        cotangent = _check(node, x, _plain(cotangent))
        sent.append(cotangent)
        flowing.add(x, cotangent)
    return sent


class _Walk:
    """The reverse walk of one gradient: over all that its outputs are made of, from the end."""

    def __init__(self, gradient: Node, source: Origin) -> None:
        self._gradient, self._source = gradient, source
        self._ys, self._seeds, self._xs = parts(gradient)
        self.nodes = topological(self._ys)
        self.sources, self.reached = reached_from(self._xs, self.nodes)
        self._used: dict[Node, dict[int, Tensor]] = {}
        for tensor in (*self._ys, *(t for node in self.nodes for t in node.inputs)):
            self._used.setdefault(tensor.node, {})[tensor.index] = tensor
        self.homes: Homes = checkpoints(self.nodes)

    def run(
        self, observe: Callable[[Node, list[Tensor | None]], None] | None = None
    ) -> _Cotangents:
        """All cotangents; `observe` gets each node, with what its inputs have got."""
        gradient, source = self._gradient, self._source
        mirror = _Mirror(Scope("gradients", gradient.scope, gradient=True))
        source.where, source.scope = gradient.where, mirror[None]
        again = Recomputation(self.homes, self._ys, mirror.__getitem__)
        flowing = _Cotangents()
        for y, seed in zip(self._ys, self._seeds, strict=True):
            flowing.add(y, broadcast_to(seed, y.shape))
        for node in reversed(self.nodes):
            if node in self.reached:
                source.where, source.scope = node.where, mirror[node.scope]
                sent = _pull_back(node, self._used, flowing, again)
                if observe is not None:
                    observe(node, sent)
        source.where, source.scope = gradient.where, mirror[None]
        return flowing

    def keep_within(self, budget: float) -> None:
        """Choose what to compute again: by a walk that looks at what the rules read."""
        forward, seen = set(self.nodes), set[Node]()
        reads: dict[Node, list[Tensor]] = {}

        def observe(node: Node, sent: list[Tensor | None]) -> None:
            stack = []
            for x, cotangent in zip(node.inputs, sent, strict=False):  # none where none came
                if cotangent is not None and (x in self.sources or x.node in self.reached):
                    stack.append(cotangent)
            found = reads.setdefault(node, [])
            while stack:
                tensor = stack.pop()
                if tensor.node in forward:
                    found.append(tensor)
                elif tensor.node not in seen:
                    seen.add(tensor.node)
                    stack += tensor.node.inputs

        self.run(observe)
        self.homes = Budget(self.nodes, reads, self.homes).homes(budget)


def _expand(gradient: Node, source: Origin) -> list[Tensor]:
    """The cotangents that one gradient node stands for."""
    walk = _Walk(gradient, source)
    budget = gradient.attrs.get("budget")
    if budget is not None:
        try:
            walk.keep_within(budget)
        except GradientError as error:
            raise GradientError(f"{error}\n  gradients was called at {gradient.where}") from None
    flowing = walk.run()
    xs = parts(gradient)[2]
    found = [flowing.total(x.node, x.index) for x in xs]
    return [zeros_like_type(x) if g is None else g for x, g in zip(xs, found, strict=True)]


def _open(graph: Graph) -> set[Node]:
    """The nodes at or behind which some type is not known yet: no gradient goes through them."""
    found: set[Node] = set()
    for node in graph.nodes:
        settled = node.settled and all(t.shape is not None for t in node.types)
        if not settled or not found.isdisjoint([t.node for t in node.inputs]):
            found.add(node)
    return found


def differentiate(graph: Graph) -> Graph:
    """Replace each gradient whose types are all known by what it stands for."""
    if not any(node.op is GRADIENT for node in graph.nodes):
        return graph
    waiting, kept = _open(graph), protected(graph)
    rewriter = Rewriter()
    with on_behalf(graph.nodes[0].where, None) as source:
        for node in graph.nodes:
            current = rewriter.visit(node)
            if node.op is GRADIENT and node not in waiting:
                source.where, source.scope = node.where, node.scope
                found = _expand(current, source)
                # a cotangent may be an older tensor; one that is itself an x must stand apart
                rewriter.replace(node, list(map(identity, found)) if node in kept else found)
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])
