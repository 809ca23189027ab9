"""Giving tensors inside a graph other values: Theano's `givens`, and feeds below a gradient.

Enters: a graph, and what stands for some of its tensors. Leaves: the graph over those. Its nodes
are built again where types change: the sizes of a tensor become those of what stands for it. A
gradient is what it would be had it been expanded first: one that flows through a tensor with a new
value goes on to whatever that tensor was made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from graphc.context import on_behalf
from graphc.dims import Dim, Dimension, Shape, Symbol
from graphc.graph import Graph, Tensor, topological
from graphc.ops.control import identity
from graphc.ops.follow import as_dimension, elements, moved
from graphc.ops.measure import shape as shape_of
from graphc.ops.source import PLACEHOLDER, placeholder
from graphc.passes.specialise import Specialiser
from graphc.passes.sweep import protected
from graphc.types import TensorType


def _sizes(old: Tensor, new: Tensor) -> dict[Symbol, Dimension]:
    """What the symbols in a tensor's shape are in that of what stands for it."""
    sizes: dict[Symbol, Dimension] = {}
    for axis, dimension in enumerate(old.shape or ()):
        symbol = dimension.as_symbol() if isinstance(dimension, Dim) else None
        if symbol is not None:
            shape = new.shape
            size = as_dimension(shape_of(new)[axis]) if shape is None else shape[axis]
            if size != dimension:
                sizes[symbol] = size
    return sizes


def _symbols(shape: Shape | None) -> Iterator[Symbol]:
    for dimension in shape or ():
        if isinstance(dimension, Dim):
            yield from dimension.symbols()


def _passed(graph: Graph, tensors: Iterable[Tensor]) -> list[Tensor]:
    """Those of `tensors` that are made of something that a gradient is taken for."""
    sources = protected(graph)
    return [t for t in tensors if sources and not sources.isdisjoint(topological(t.node.inputs))]


def given(graph: Graph, values: Mapping[Tensor, Tensor]) -> Graph:
    """The graph with `values` in the place of some of its tensors; dtypes and ranks must agree."""
    sizes = moved(elements(graph), lambda listed: given(Graph(tuple(listed)), values).outputs)
    for old, new in values.items():
        sizes = _sizes(old, new) | sizes
    for tensor in graph.tensors():
        if tensor.node.op is PLACEHOLDER and tensor not in values:
            for symbol in _symbols(tensor.shape):
                sizes.pop(symbol, None)  # fed beside it, and not to be made anew
    passed = _passed(graph, values)
    cut = {old: identity(new) for old, new in values.items() if old not in passed}
    inside = Graph(graph.outputs, graph.updates, (*graph.inputs, *cut))
    return Specialiser(inside, cut, sizes, {t: values[t] for t in passed}).walk(graph.inputs)


def fed_apart(graph: Graph) -> Graph:
    """Placeholders in the place of fed tensors that gradients may flow through."""
    whole = Graph(graph.outputs, graph.updates)
    passed = _passed(whole, graph.inputs)
    if not passed:
        return graph
    values = {}
    for tensor in passed:
        with on_behalf(tensor.node.where, tensor.node.scope):
            values[tensor] = placeholder(tensor.dtype, _declared(tensor.type), tensor.node.name)
    rest = tuple(t for t in graph.inputs if t not in values)
    result = given(Graph(graph.outputs, graph.updates, rest), values)
    return Graph(result.outputs, result.updates, tuple(values.get(t, t) for t in graph.inputs))


def _declared(type: TensorType) -> list[Dimension | None] | None:
    """A shape to feed: a size that is an expression of others comes as it is."""
    if type.shape is None:
        return None
    return [d if isinstance(d, int) or d.as_symbol() is not None else None for d in type.shape]
