"""From an optimised graph to kernels and a plan, by families, without knowing any op.

Enters: an optimised graph. Leaves: a `Plan` with a kernel for every node whose op has a formula of
one element, and a host call for the others. Composite ops are expanded first. Nothing is fused yet:
each kernel reads and writes whole buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.build import assuming
from graphc.graph import Graph, Node, Tensor
from graphc.kernel import Axis, Buffer, Index, Kernel, Source, Store, lift, read, typed
from graphc.ops.random import ENTROPY
from graphc.ops.source import VARIABLE
from graphc.plan import Call, Host, Plan, Step
from graphc.rewriting import rewrite
from graphc.scalar import Scalar
from graphc.show import Naming
from graphc.types import TensorType


def expanded(graph: Graph) -> Graph:
    """The graph without composites: each is the composition that it stands for."""

    def rule(node: Node) -> Any:
        if node.op.expand is None:
            return None
        return node.op.expand(*node.inputs, **node.attrs)

    with assuming(None):
        while any(node.op.expand is not None for node in graph.nodes):
            graph = rewrite(graph, rule)
    return graph


def formulas(node: Node, sources: Sequence[Source], index: Index) -> tuple[Scalar, ...]:
    """What each of a node's outputs holds at an index, of what its inputs hold."""
    assert node.op.element is not None
    if node.op.family == "pointwise":
        result = node.op.element(*(source(*index) for source in sources), **node.attrs)
    else:
        result = node.op.element(index, *sources, **node.attrs)
    return tuple(map(lift, result if isinstance(result, tuple) else (result,)))


def kernel_of(node: Node, sources: Sequence[Source], buffers: Sequence[Buffer]) -> Kernel:
    """The kernel that fills a node's buffers."""
    shape = node.types[0].shape
    assert shape is not None
    axes = tuple(map(Axis, shape))
    index = tuple(axis.position for axis in axes)
    values = formulas(node, sources, index)
    stores = tuple(
        Store(buffer, index, typed(value, buffer.type.dtype))
        for buffer, value in zip(buffers, values, strict=True)
    )
    return Kernel(node.op.name, axes, stores, (node.where,))


class _Lowering:
    """The buffers of one graph, one for each tensor."""

    def __init__(self) -> None:
        self._naming = Naming()
        self._buffers: dict[tuple[Node, int], Buffer] = {}

    def buffer(self, node: Node, index: int, type: TensorType) -> Buffer:
        """The buffer of an output."""
        key = (node, index)
        if key not in self._buffers:
            name = self._naming.node(node) + (f".{index}" if len(node.types) > 1 else "")
            self._buffers[key] = Buffer(type, name)
        return self._buffers[key]

    def of(self, tensor: Tensor) -> Buffer:
        """The buffer of a tensor."""
        return self.buffer(tensor.node, tensor.index, tensor.type)

    def step(self, node: Node) -> Step:
        """What fills a node's buffers."""
        outputs = [self.buffer(node, i, type) for i, type in enumerate(node.types)]
        inputs = [self.of(t) for t in node.inputs]
        if node.op.element is None:
            return Host(node, tuple(inputs), tuple(outputs))
        return Call(kernel_of(node, list(map(read, inputs)), outputs))


def lower(graph: Graph) -> Plan:
    """The plan of a graph."""
    graph = expanded(graph)
    lowering = _Lowering()
    fed = {t.node for t in graph.inputs}
    inputs = tuple(map(lowering.of, graph.inputs))
    nodes = [node for node in graph.nodes if node not in fed]
    variables = [(n, lowering.buffer(n, 0, n.types[0])) for n in nodes if n.op is VARIABLE]
    entropy = [lowering.buffer(n, 0, n.types[0]) for n in nodes if n.op is ENTROPY]
    steps = [lowering.step(n) for n in nodes if n.op is not VARIABLE and n.op is not ENTROPY]
    roots = tuple(map(lowering.of, graph.roots))
    return Plan(inputs, tuple(variables), tuple(entropy), tuple(steps), roots)
