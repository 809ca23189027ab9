"""How much is alive at a time when a graph's nodes are run in their order: no device needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.build import assuming
from graphc.dims import evaluate
from graphc.graph import Graph, Node, Tensor
from graphc.kernel import Buffer
from graphc.lower import lower
from graphc.passes import PIPELINE, optimise
from graphc.passes.recompute import bytes_of
from graphc.plan import Call
from tests.passes_support import assumptions_for

ALIASES = ("view", "barrier")  # families whose values stand in their operand's memory


def _base(tensor: Tensor) -> tuple[Node, int]:
    while tensor.node.op.family in ALIASES and not (
        tensor.node.op.family == "view" and len(tensor.node.inputs) > 1
    ):
        tensor = tensor.node.inputs[0]
    return tensor.node, tensor.index


def peak(graph: Graph) -> int:
    """The most bytes that are alive at once, what a run brings and constants not counted."""
    last: dict[tuple[Node, int], int] = {}
    for place, node in enumerate(graph.nodes):
        for tensor in node.inputs:
            last[_base(tensor)] = place
    last |= {_base(tensor): len(graph.nodes) for tensor in graph.roots}
    ends: dict[int, int] = {}
    alive = most = 0
    for place, node in enumerate(graph.nodes):
        for index, type in enumerate(node.types):
            tensor = Tensor(node, index, type)
            if node.op.family != "source" and _base(tensor) == (node, index):
                alive += bytes_of(tensor)
                end = max(place, last.get((node, index), place))
                ends[end] = ends.get(end, 0) + bytes_of(tensor)
        most = max(most, alive)
        alive -= ends.get(place, 0)
    return most


def optimised(
    outputs: Sequence[Tensor], feeds: Mapping[Tensor, Any], scheduled: bool = True
) -> Graph:
    """The graph that a device gets for these fetches and feeds."""
    pipeline = PIPELINE if scheduled else PIPELINE[:-1]
    with assuming(assumptions_for(feeds)):
        return optimise(Graph(tuple(outputs), (), tuple(feeds)), pipeline=pipeline)


def peak_of(outputs: Sequence[Tensor], feeds: Mapping[Tensor, Any], scheduled: bool = True) -> int:
    """The peak of some fetches at the sizes of these feeds."""
    graph = optimised(outputs, feeds, scheduled)
    with assuming(assumptions_for(feeds)):
        return peak(graph)


def plan_peak(outputs: Sequence[Tensor], feeds: Mapping[Tensor, Any], fused: bool) -> int:
    """The most bytes of buffers that are alive at once, between what writes and what reads last."""
    graph = optimised(outputs, feeds)
    assumptions = assumptions_for(feeds)
    with assuming(assumptions):
        plan = lower(graph, fused)
    steps: list[tuple[Sequence[Buffer], Sequence[Buffer]]] = []
    for step in plan.steps:
        if isinstance(step, Call):
            steps.append((step.kernel.reads(), [store.buffer for store in step.kernel.stores]))
        else:
            steps.append((step.inputs, step.outputs))
    last = {b: place for place, (reads, writes) in enumerate(steps) for b in (*reads, *writes)}
    last |= dict.fromkeys(plan.roots, len(steps))
    alive: dict[Buffer, int] = {}
    most = 0
    for place, (_, writes) in enumerate(steps):
        for buffer in writes:
            sizes = [evaluate(d, assumptions.sizes) for d in buffer.type.shape or ()]
            alive[buffer] = math.prod(sizes) * buffer.type.dtype.itemsize
        most = max(most, sum(alive.values()))
        alive = {b: size for b, size in alive.items() if last[b] > place}
    return most


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal, bit for bit."""
    x, y = np.asarray(a), np.asarray(b)
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
