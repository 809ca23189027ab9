"""A silent mistake of regression: predictions `(n, 1)` minus targets `(n,)` become `(n, n)`.

Every prediction is then held against every target, the loss is a scalar all the same, and training
learns the mean. A loss that is about to be minimised is searched for such a difference. Two sizes
that were both left open may be one, so they count; two that have names of their own do not.
One that is meant (all pairs) spells its new axis, `x[:, None] - x`, or sums with `keepdims`: that
is let pass.
"""

from __future__ import annotations

from graphc.build import failure
from graphc.dims import Dim, Dimension
from graphc.errors import ShapeError
from graphc.graph import Node, Tensor, topological
from graphc.ops.arith import subtract
from graphc.ops.broadcast import BROADCAST_TO

SUBTRACT = subtract.op  # type: ignore[attr-defined]  # pointwise builders carry their op
MEANT = ("view", "reduction")  # families whose (n, 1) was asked for


def _stretched(tensor: Tensor) -> Tensor:
    """What was broadcast to `tensor`, or `tensor` itself."""
    return tensor.node.inputs[0] if tensor.node.op is BROADCAST_TO else tensor


def _is_open(size: Dimension) -> bool:
    """Whether a feed brings it, and nobody gave it a name."""
    return isinstance(size, Dim) and any(s.name is None for s in size.symbols())


def _may_be_one(column: Dimension, row: Dimension) -> bool:
    """Whether the sizes of a column and of a row are, or were left open to be, the same."""
    if column == row:
        return row != 1
    return isinstance(row, Dim) and (_is_open(row) or _is_open(column))


def _is_crossed(node: Node) -> bool:
    for column, row in (node.inputs, node.inputs[::-1]):
        column, row = _stretched(column), _stretched(row)
        if column.shape is None or row.shape is None or len(row.shape) != 1:
            continue
        if len(column.shape) != 2 or column.shape[1] != 1:
            continue
        if _may_be_one(column.shape[0], row.shape[0]):
            return column.node.op.family not in MEANT
    return False


def refuse_crossed(loss: Tensor) -> None:
    """Raise a ShapeError where the loss subtracts `(n,)` from `(n, 1)`, or the other way."""
    for node in topological([loss]):
        if node.op is SUBTRACT and _is_crossed(node):
            sides = [_stretched(t) for t in node.inputs]
            shapes = " against ".join(str(list(t.shape or ())).replace("'", "") for t in sides)
            rule = f"both sides of a loss must have one shape ({shapes} would broadcast silently)"
            raise ShapeError(failure(node.op, rule, sides, node.where))
