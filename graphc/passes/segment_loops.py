"""Loops with a checkpoint, as loops over segments of steps: gradients then keep fewer states.

Enters: a graph before its gradients are expanded. Leaves: the same, where a loop of T steps with
`checkpoint` c is a loop over T // c segments, whose body is a loop over c steps, and a loop over
the steps that are left. What the gradient of the outer loop keeps are the states between segments;
it runs each segment again, by the inner loop, when it gets there. That is T // c + c states in
place of T, and each step is computed once more: A. Griewank, "Achieving logarithmic growth of
temporal and spatial complexity in reverse automatic differentiation", 1992; T. Chen et al.,
"Training deep nets with sublinear memory cost", 2016. Without gradients, loops stay as they are; so
do those that are cut short for gradients, and those that only a condition ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.dims import Dim, Dimension, derived, floordiv
from graphc.dtypes import int64
from graphc.graph import Body, Graph, Node, Tensor, nested
from graphc.ops.bodies import alike, parameter
from graphc.ops.gradient import GRADIENT
from graphc.ops.joining import concatenate
from graphc.ops.loop import ENDLESS, LOOP, Parts, Walk, loop
from graphc.ops.slicing import along
from graphc.ops.source import as_tensor
from graphc.passes.inside import inside
from graphc.rewriting import Rewriter, rewrite
from graphc.types import TensorType

IN_SEGMENTS = 0  # the checkpoint of a loop over segments: its states are kept, and no more
DOUBLINGS = 20  # a length that is not known is taken to be below 4 ** 20


def segment_length(checkpoint: int | str, length: Dimension) -> Dimension:
    """How many steps a segment has: for "sqrt" about the root of the length.

    Where the length is not known, a power of two or the number of such parts: between the root of
    half the length and the root.
    """
    if isinstance(checkpoint, int):
        return checkpoint
    if isinstance(length, int):
        return max(1, math.isqrt(length))
    powers = [2**k for k in range(1, DOUBLINGS)]
    return derived("max", 1, *(derived("min", p, floordiv(length, p)) for p in powers))


def _can_segment(node: Node) -> bool:
    attrs = node.attrs
    return (
        attrs["checkpoint"] not in (None, IN_SEGMENTS)
        and attrs["truncate"] is None
        and attrs["length"] != ENDLESS
        and not attrs["histories"]
        and all(walk == (0, 1) for walk in attrs["writes"])
        and all(step in (1, -1) for _, step in attrs["reads"])
        and node.settled
        and all(type.shape is not None for type in node.types)
    )


@dataclass(frozen=True)
class _Sizes:
    """The steps of a segment, how many segments there are, and the steps in all of them."""

    each: Dimension
    count: Dimension
    within: Dimension
    rest: Dimension

    @staticmethod
    def of(node: Node) -> _Sizes:
        """Those of a loop."""
        length = node.attrs["length"]
        each = segment_length(node.attrs["checkpoint"], length)
        count = floordiv(length, each)
        return _Sizes(each, count, count * each, length - count * each)


def _is_int(dimension: Dimension, *values: int) -> bool:
    return not isinstance(dimension, Dim) and dimension in values


def _comes_apart(node: Node) -> bool:
    """Whether a node is a loop of more than one segment, or of one and a rest."""
    if node.op is not LOOP or not _can_segment(node):
        return False
    sizes = _Sizes.of(node)
    one = _is_int(sizes.count, 1) and _is_int(sizes.rest, 0)
    return not (one or _is_int(sizes.count, 0))


class _Segmented:
    """The loops that one loop becomes."""

    def __init__(self, node: Node) -> None:
        self.node, self.attrs, self.sizes = node, node.attrs, _Sizes.of(node)
        self.parts = Parts.of(self.attrs["body"], self.attrs["reads"], self.attrs["states"])
        first, second = len(self.attrs["reads"]), len(self.parts.slices) + len(self.parts.states)
        self.sequences = node.inputs[:first]
        self.initial, self.captured = node.inputs[first:second], node.inputs[second:]
        self.guarded: bool = self.attrs["guarded"]

    def outputs(self) -> Sequence[Tensor]:
        """What stands for the outputs of the loop."""
        states, rows = len(self.parts.states), len(self.parts.rows)
        whole = self._whole()
        stacks = [self._flat(stack) for stack in whole[len(whole) - rows :]] if rows else []
        if _is_int(self.sizes.rest, 0):
            return [*whole[:states], *stacks, *whole[states : states + self.guarded]]
        rest = self._rest(whole[:states])
        pairs = zip(stacks, rest[states : states + rows], strict=True)
        joined = [concatenate([a, b]) for a, b in pairs]
        counts = [whole[states] + rest[-1]] if self.guarded else []
        return [*rest[:states], *joined, *counts]

    def _flat(self, stack: Tensor) -> Tensor:
        assert stack.shape is not None
        return stack.reshape((self.sizes.within, *stack.shape[2:]))

    def _whole(self) -> Sequence[Tensor]:
        """The loop over the segments: last states, how many steps if it is guarded, stacks."""
        sizes, last = self.sizes, self.sizes.count - 1
        blocks = list(map(self._blocks, self.sequences, self.attrs["reads"]))
        initial = [*self.initial, *([as_tensor(0, int64)] if self.guarded else [])]
        out = loop(
            [*blocks, *initial, *self.captured],
            self.node.name,
            body=self._body(blocks, initial),
            length=sizes.count,
            reads=tuple((0, 1) if step > 0 else (last, -1) for _, step in self.attrs["reads"]),
            writes=self.attrs["writes"],
            states=len(initial),
            guarded=self.guarded,
            checkpoint=IN_SEGMENTS,
        )
        return out[:-1] if self.guarded else out

    def _blocks(self, sequence: Tensor, walk: Walk) -> Tensor:
        """The rows that the segments read: `[segments, steps of one, ...]`."""
        (start, step), sizes = walk, self.sizes
        assert sequence.shape is not None
        first = start if step > 0 else start - sizes.within + 1
        rows = along(sequence, 0, first, sizes.within)
        return rows.reshape((sizes.count, sizes.each, *sequence.shape[1:]))

    def _body(self, blocks: Sequence[Tensor], initial: Sequence[Tensor]) -> Body:
        """One segment."""
        sizes, states = self.sizes, len(self.parts.states)
        number = parameter(TensorType(int64, ()))
        rows = [_row(block) for block in blocks]
        entering, captured = list(map(alike, initial)), list(map(alike, self.captured))
        start, step = self.attrs["index"]
        base = as_tensor(start, int64) + number * as_tensor(sizes.each, int64) * step
        out = loop(
            [*rows, *entering[:states], *captured, base],
            self.node.name,
            body=self._step(),
            length=sizes.each,
            reads=tuple(
                (0, 1) if step > 0 else (sizes.each - 1, -1) for _, step in self.attrs["reads"]
            ),
            writes=self.attrs["writes"],
            states=states,
            guarded=self.guarded,
        )
        results = list(out)
        if self.guarded:
            results.insert(states, results.pop() + entering[states])
        return Body(Graph(tuple(results), (), (number, *rows, *entering, *captured)))

    def _step(self) -> Body:
        """The body, where the number of the step counts from that of the segment's first."""
        graph, (_, step) = self.attrs["body"].graph, self.attrs["index"]
        number, base = (parameter(TensorType(int64, ())) for _ in range(2))
        rewriter = Rewriter({self.parts.index: base + number * step})
        for node in graph.nodes:
            rewriter.visit(node)
        results = tuple(rewriter.resolve(t) for t in graph.outputs)
        return Body(Graph(results, (), (number, *graph.inputs[1:], base)))

    def _rest(self, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """The steps behind the last whole segment."""
        done, (start, step) = self.sizes.within, self.attrs["index"]
        return loop(
            [*self.sequences, *states, *self.captured],
            self.node.name,
            body=self.attrs["body"],
            length=self.sizes.rest,
            index=(start + step * done, step),
            reads=tuple((first + by * done, by) for first, by in self.attrs["reads"]),
            writes=self.attrs["writes"],
            states=len(states),
            guarded=self.guarded,
        )


def _row(block: Tensor) -> Tensor:
    """A parameter for what one segment reads of a sequence."""
    assert block.shape is not None
    return parameter(TensorType(block.dtype, block.shape[1:]), block.node.name)


def _segmented(graph: Graph) -> Graph:
    """The graph with all its loops taken apart, innermost first."""
    graph = inside(graph, _segmented)
    if not any(map(_comes_apart, graph.nodes)):
        return graph
    return rewrite(graph, lambda node: _Segmented(node).outputs() if _comes_apart(node) else None)


def segment_loops(graph: Graph) -> Graph:
    """Take loops with a checkpoint apart, where a gradient is taken."""
    if not any(node.op is GRADIENT for node in nested(graph)):
        return graph
    return _segmented(graph)
