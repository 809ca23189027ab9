"""Steps of a plan for the nodes that hold graphs: loops and branches.

Enters: a control node whose bodies have no composites any more. Leaves: a `Loop` or a `Branch`
whose steps stand in one space of buffers with those around it: a capture is read where it is, a
row of a sequence and a row of a stack in place. A result that no step would write (a parameter, a
constant, the same tensor twice) is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, Protocol, TypeAlias

from graphc.build import make
from graphc.context import on_behalf
from graphc.demands import counts, unconditional
from graphc.dtypes import int64
from graphc.graph import Body, Graph, Node, Tensor
from graphc.kernel import Buffer
from graphc.ops.bodies import PARAMETER
from graphc.ops.control import IDENTITY
from graphc.ops.loop import LOOP, Parts
from graphc.ops.source import CONSTANT
from graphc.plan import Branch, Loop, Rows, State, Step
from graphc.types import TensorType


class Buffers(Protocol):
    """The buffers of a graph, as `lower` keeps them."""

    def of(self, tensor: Tensor) -> Buffer:
        """The buffer of a tensor."""
        ...

    def buffer(self, node: Node, index: int, type: TensorType) -> Buffer:
        """The buffer of an output."""
        ...

    def fresh(self, type: TensorType, name: str) -> Buffer:
        """A buffer that no tensor has."""
        ...

    def inside(self, graph: Graph) -> Buffers:
        """Those of a body: of this run of names and constants, with tensors of their own."""
        ...

    def bind(self, tensor: Tensor, buffer: Buffer) -> None:
        """From here on, a tensor has this buffer."""
        ...


Steps: TypeAlias = Callable[[Graph, Any], Sequence[Step]]


def written(graph: Graph, shared: Container[int] = ()) -> Graph:
    """The graph with an operation of its own behind each result: a copy where none would be.

    Results at the places `shared` may be earlier ones.
    """
    seen: set[tuple[Node, int]] = set()
    results, copies = [], []
    for place, result in enumerate(graph.outputs):
        key = (result.node, result.index)
        given = result.node.op in (PARAMETER, CONSTANT)
        if given or (key in seen and place not in shared):
            with on_behalf(result.node.where, result.node.scope):
                result = make(IDENTITY, (result,))
            copies.append(result.node)
        else:
            seen.add(key)
        results.append(result)
    if not copies:
        return graph
    return Graph(tuple(results), (), graph.inputs, (*graph.nodes, *copies))


def control_step(node: Node, around: Buffers, steps: Steps) -> Step:
    """The step of a control node."""
    return _loop(node, around, steps) if node.op is LOOP else _branch(node, around, steps)


def _branch(node: Node, around: Buffers, steps: Steps) -> Branch:
    split = 1 + node.attrs["split"]
    condition, *_ = operands = [around.of(t) for t in node.inputs]
    results = tuple([around.buffer(node, i, type) for i, type in enumerate(node.types)])
    sides, demands = [], []
    noted = iter(node.attrs.get("demands", ((), ())))
    for name, given in (("then", operands[1:split]), ("otherwise", operands[split:])):
        graph = written(node.attrs[name].graph)
        inside = around.inside(graph)
        for parameter, buffer in zip(graph.inputs, given, strict=True):
            inside.bind(parameter, buffer)
        for tensor, buffer in zip(graph.outputs, results, strict=True):
            inside.bind(tensor, buffer)
        sides.append(tuple(steps(graph, inside)))
        demands.append((*next(noted), *counts(unconditional(graph))))
    return Branch(node, condition, sides[0], sides[1], results, (demands[0], demands[1]))


def _loop(node: Node, around: Buffers, steps: Steps) -> Loop:
    attrs = node.attrs
    count, kept = attrs["states"], attrs["histories"]
    graph = written(attrs["body"].graph, _shared(attrs["body"].graph, count, kept))
    inside = around.inside(graph)
    parts = Parts.of(Body(graph), attrs["reads"], count)
    given = [around.of(t) for t in node.inputs]
    outputs = [around.buffer(node, i, type) for i, type in enumerate(node.types)]
    sequences, initial = given[: len(parts.slices)], given[len(parts.slices) :][:count]
    for parameter, buffer in zip(parts.captured, given[len(parts.slices) + count :], strict=True):
        inside.bind(parameter, buffer)
    reads = tuple(
        Rows(inside.of(t), x, *walk)
        for t, x, walk in zip(parts.slices, sequences, attrs["reads"], strict=True)
    )
    histories = tuple(
        (k, Rows(inside.of(parts.following[k]), stack, 1, 1))
        for k, stack in zip(kept, outputs[count:], strict=False)
    )
    writes = tuple(
        Rows(inside.of(t), stack, *walk)
        for t, stack, walk in zip(
            parts.rows, outputs[count + len(kept) :], attrs["writes"], strict=False
        )
    )
    placed = {rows.row for rows in (*writes, *(rows for _, rows in histories))}
    states = tuple(
        _state(inside, *each, placed)
        for each in zip(parts.states, parts.following, initial, outputs, strict=False)
    )
    number = inside.fresh(TensorType(int64, (1,)), "step")
    index = Rows(inside.of(parts.index), number, *attrs["index"])
    end = outputs[-1] if attrs["guarded"] else None
    found = tuple(steps(graph, inside))
    return Loop(node, attrs["length"], index, reads, writes, histories, states, end, found)


def _shared(graph: Graph, states: int, histories: Sequence[int]) -> set[int]:
    """The stacked results that a state's next value may be itself: it has no other stack."""
    following = graph.outputs[:states]
    free = [t for k, t in enumerate(following) if k not in histories]
    found = set()
    for place, row in enumerate(graph.outputs[states:], states):
        if row in free:
            free.remove(row)
            found.add(place)
    return found


def _state(
    inside: Buffers, before: Tensor, after: Tensor, initial: Buffer, last: Buffer,
    placed: set[Buffer],
) -> State:  # fmt: skip
    written_to = inside.of(after)
    pair = None
    if written_to not in placed:
        assert after.shape is not None
        pair = inside.fresh(TensorType(after.dtype, (2, *after.shape)), f"{written_to.name}.pair")
    return State(inside.of(before), written_to, initial, last, pair)
