"""A sum with a scatter into zeros is a scatter into the other operand: no table of zeros is made.

| before | after |
|---|---|
| `x + scatter(zeros, u, i)` | `scatter(x, u, i)` |
| `x - scatter(zeros, u, i)` | `scatter(x, -u, i)` |
| the same with a factor, `x - c * scatter(zeros, u, i)` | the factor is taken of u |

where the scatter adds, c is one number, and nothing else reads what goes away. It is the step of an
optimiser on an embedding: only the rows that a batch has used are touched.

Enters: any graph. Leaves: the same values, in the tolerance of a sum.
"""

from __future__ import annotations

from graphc.build import make
from graphc.context import caller, on_behalf
from graphc.graph import Graph, Node, Tensor
from graphc.ops.broadcast import BROADCAST_TO, broadcast_to
from graphc.ops.gather import SCATTER, scatter_build
from graphc.ops.shape import reshape
from graphc.ops.source import full_of
from graphc.passes.loops import Key, key_of, readers_of
from graphc.passes.sweep import protected, uniform
from graphc.rewriting import Rewriter

PRODUCTS = frozenset({"multiply", "masked_multiply"})


class _Sparse:
    """Looks for scatters behind factors, as long as they have one reader."""

    def __init__(self, graph: Graph) -> None:
        self._readers: dict[Key, list[Node | None]] = readers_of(graph)
        self._apart = protected(graph)

    def chain(self, tensor: Tensor) -> list[Node] | None:
        """The nodes from a tensor down to a scatter into zeros; None where there is none."""
        found: list[Node] = []
        while True:
            node = tensor.node
            if len(self._readers.get(key_of(tensor), ())) != 1 or node in self._apart:
                return None
            found.append(node)
            if node.op is SCATTER:
                return found if node.attrs["mode"] == "add" and _is_empty(node) else None
            if node.op.name == "negative":
                tensor = node.inputs[0]
            elif node.op.name in PRODUCTS and (place := _place_of_number(node)) is not None:
                tensor = node.inputs[1 - place]
            else:
                return None


def _is_empty(node: Node) -> bool:
    return bool(uniform(node.inputs[0]) == 0)


def _place_of_number(node: Node) -> int | None:
    """Which operand of a product is one number."""
    return next((i for i in (0, 1) if _number(node.inputs[i], ()) is not None), None)


def _number(tensor: Tensor, shape: tuple[object, ...]) -> Tensor | None:
    """The one number that a tensor is, in another shape; None where it may be several."""
    value = uniform(tensor)
    if value is not None:
        return full_of(value, shape, tensor.dtype)  # type: ignore[arg-type]  # a shape
    source = tensor.node.inputs[0] if tensor.node.op is BROADCAST_TO else tensor
    if source.shape is None or any(not isinstance(d, int) or d != 1 for d in source.shape):
        return None
    return broadcast_to(reshape(source, ()), shape)


def _written(chain: list[Node], into: Tensor, rewriter: Rewriter, negated: bool) -> Tensor | None:
    """The scatter of a chain into another tensor."""
    scatter = chain[-1]
    _, updates, *indices = map(rewriter.resolve, scatter.inputs)
    for node in reversed(chain[:-1]):
        if node.op.name == "negative":
            updates = -updates
            continue
        place = _place_of_number(node)
        assert place is not None
        number = _number(rewriter.resolve(node.inputs[place]), updates.shape or ())
        if number is None:
            return None
        operands = (number, updates) if place == 0 else (updates, number)
        updates = make(node.op, operands, node.attrs)
    return scatter_build(into, -updates if negated else updates, *indices, **scatter.attrs)


def scatter_updates(graph: Graph) -> Graph:
    """Apply the table above."""
    if not any(node.op is SCATTER for node in graph.nodes):
        return graph
    sparse, rewriter, changed = _Sparse(graph), Rewriter(), False
    with on_behalf(caller(), None) as source:
        for node in graph.nodes:
            rewriter.visit(node)
            if node.op.name not in ("add", "subtract"):
                continue
            places = (1,) if node.op.name == "subtract" else (1, 0)
            for place in places:
                chain = sparse.chain(node.inputs[place])
                if chain is None or not node.inputs[place].dtype.is_float:
                    continue
                source.where, source.scope = node.where, node.scope
                into = rewriter.resolve(node.inputs[1 - place])
                new = _written(chain, into, rewriter, node.op.name == "subtract")
                if new is not None:
                    rewriter.replace(node, new)
                    changed = True
                    break
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots]) if changed else graph
