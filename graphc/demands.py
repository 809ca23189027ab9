"""What only a run can tell of sizes: what they must be like, for the nodes of a graph to mean much.

Enters: the nodes of an optimised graph. Leaves: a `Demand` for each rule that a node's type could
not decide: devices hold them against the sizes of a run before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphc.build import failure
from graphc.dims import Dim, Dimension, Shape, derived, product
from graphc.graph import Node
from graphc.ops.shape import RESHAPE
from graphc.ops.slicing import SLICE, SLICE_UPDATE, UNSLICE
from graphc.plan import Demand

WINDOWED = {"conv2d", "max_pool2d", "avg_pool2d", "max_pool2d_place"}  # over images, x


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


def _demand(node: Node, left: Dimension, right: Dimension, rule: str) -> Iterator[Demand]:
    if left != right:
        yield Demand(left, right, failure(node.op, rule, node.inputs, node.where))


def _at_least(node: Node, size: Dimension, least: Dimension, rule: str) -> Iterator[Demand]:
    if isinstance(size, Dim) or isinstance(least, Dim):
        yield from _demand(node, derived("max", size, least), size, rule)


def _ends(node: Node, lengths: Shape, shape: Shape) -> Iterator[Demand]:
    """Of lengths that are numbers, as in x[3]: those that are not have been clamped."""
    rows = zip(shape, node.attrs["starts"], lengths, node.attrs["steps"], strict=True)
    for axis, (size, start, length, step) in enumerate(rows):
        if isinstance(length, Dim) or length == 0:
            continue
        last = start + (length - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        rule = f"index {high} is out of range for axis {axis}, which must have {high + 1} elements"
        yield from _at_least(node, low, 0, f"index {low} is out of range for axis {axis}")
        yield from _at_least(node, size, high + 1, rule)
