"""What only a run can tell of sizes: what they must be like, for the nodes of a graph to mean much.

Enters: the nodes of an optimised graph. Leaves: a `Demand` for each rule that a node's type could
not decide: devices hold them against the sizes of a run before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphc.build import failure
from graphc.dims import Dim, Dimension, Shape, derived, product
from graphc.graph import Graph, Node, Tensor, bodies
from graphc.ops.branch import BRANCH
from graphc.ops.loop import LOOP, rows_of
from graphc.ops.shape import RESHAPE
from graphc.ops.slicing import SLICE, SLICE_UPDATE, UNSLICE
from graphc.passes.inside import inside, with_attrs
from graphc.plan import Demand
from graphc.rewriting import rewrite

WINDOWED = {"conv2d", "max_pool2d", "avg_pool2d", "max_pool2d_place"}  # over images, x


def unconditional(graph: Graph) -> Iterator[Node]:
    """All nodes, and those inside of loops, but not those of the sides of branches."""
    for node in graph.nodes:
        yield node
        if node.op is not BRANCH:
            for body in bodies(node).values():
                yield from unconditional(body.graph)


def with_demands(graph: Graph) -> Graph:
    """The graph with what each side of a branch demands noted in its node: it may not be taken."""
    graph = inside(graph, with_demands)
    if not any(node.op is BRANCH for node in graph.nodes):
        return graph

    def rule(node: Node) -> tuple[Tensor, ...] | None:
        if node.op is not BRANCH:
            return None
        sides = (node.attrs["then"].graph, node.attrs["otherwise"].graph)
        return with_attrs(node, {"demands": tuple(tuple(reaches(unconditional(s))) for s in sides)})

    return rewrite(graph, rule)


def counts(nodes: Iterable[Node]) -> Iterator[Demand]:
    """Reshapes must keep the number of elements."""
    for node in nodes:
        if node.op is RESHAPE:
            before, after = (product(t.shape or ()) for t in (node.inputs[0], node.types[0]))
            yield from _demand(node, before, after, "the number of elements must stay the same")


def reaches(nodes: Iterable[Node]) -> Iterator[Demand]:
    """Slices and windows must lie in their arrays. A pass may reach further where it need not."""
    for node in nodes:
        if node.op is SLICE:
            yield from _ends(node, node.attrs["lengths"], node.inputs[0].shape or ())
        elif node.op is UNSLICE or node.op is SLICE_UPDATE:
            yield from _ends(node, node.inputs[-1].shape or (), node.types[0].shape or ())
        elif node.op.name in WINDOWED and node.attrs["padding"] != "SAME":
            for count in (node.types[0].shape or ())[1:3]:
                yield from _at_least(node, count, 1, "the window must fit into the padded image")
        elif node.op is LOOP:
            yield from _steps(node)


def _steps(node: Node) -> Iterator[Demand]:
    """Each sequence must have rows for all steps of a loop."""
    length = node.attrs["length"]
    if isinstance(length, Dim) and not _is_size(length):
        yield from _at_least(node, length, 0, "the number of steps must not be negative")
    for tensor, walk in zip(node.inputs, node.attrs["reads"], strict=False):
        shape = tensor.shape or ()
        needed = rows_of(walk, length, shape)
        if needed != shape[0]:
            needed = needed * derived("min", 1, length)  # no step needs no row
            rule = f"the sequence {tensor.node.label} must have a row for each step"
            yield from _at_least(node, shape[0], needed, rule)


def _is_size(length: Dim) -> bool:
    """Whether it is the size of something, or the least of some: never negative."""
    term = length.as_derived()
    if term is not None and term.function == "min":
        return all(isinstance(a, int) or _is_size(a) for a in term.args)
    symbol = length.as_symbol()
    return symbol is not None and symbol.source is None


def _demand(node: Node, left: Dimension, right: Dimension, rule: str) -> Iterator[Demand]:
    if left != right:
        yield Demand(left, right, failure(node.op, rule, node.inputs, node.where))


def _at_least(node: Node, size: Dimension, least: Dimension, rule: str) -> Iterator[Demand]:
    if isinstance(size, Dim) or isinstance(least, Dim):
        yield from _demand(node, derived("max", size, least), size, rule)


def _ends(node: Node, lengths: Shape, shape: Shape) -> Iterator[Demand]:
    """What is not empty must begin and end inside."""
    rows = zip(shape, node.attrs["starts"], lengths, node.attrs["steps"], strict=True)
    for axis, (size, start, length, step) in enumerate(rows):
        if length == 0 or isinstance(step, Dim):  # as in a diagonal, which is where it says
            continue
        last = start + (length - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        if not isinstance(length, Dim):
            yield from _at_least(node, low, 0, f"index {low} is out of range for axis {axis}")
            wanted = f"axis {axis}, which must have {high + 1} elements"
            yield from _at_least(node, size, high + 1, f"index {high} is out of range for {wanted}")
        elif size != high + 1 or low != 0:
            some = derived("min", 1, length)
            rule = f"axis {axis} must have as many elements as are read"
            yield from _at_least(node, low * some, 0, rule)
            yield from _at_least(node, size, (high + 1) * some, rule)
