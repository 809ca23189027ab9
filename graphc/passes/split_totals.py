"""Totals of what is computed row by row become sums of rows, and then their sum.

`sum(softmax(x) * c)` reads rows whose own sums are needed first. A total is one point, whose loop
cannot be that of the rows, so the whole array would be stored for it. A sum over the same last
axes belongs to the kernel of the rows (`fuse`), which leaves one value a row.

| before | after | where |
|---|---|---|
| `sum(x)` over all axes | `sum(sum(x, last))` | `x` reads a reduction over these last axes |
| `mean(x)` over all axes | `mean(mean(x, last))` | likewise |

The order of the sum changes, and thereby its rounding, so this is no part of `PIPELINE`. float16
stays as it is: its sums of rows would be rounded.

Enters: an optimised graph. Leaves: what kernels are made from.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.graph import Graph, Node, Tensor
from graphc.passes.sweep import Rule, sweep

FARTHEST = 24  # nodes that are looked at behind a total
BETWEEN = ("pointwise", "view")


def _last_axes(node: Node, rank: int) -> tuple[int, ...] | None:
    """The axes of a reduction, where they are the last ones but not all."""
    axes = node.attrs.get("axis")
    if not isinstance(axes, tuple) or not 0 < len(axes) < rank:
        return None
    return axes if sorted(axes) == list(range(rank - len(axes), rank)) else None


def _rows(total: Tensor) -> tuple[int, ...] | None:
    """The last axes of a reduction that a tensor is made of, element by element."""
    shape = total.shape
    assert shape is not None
    stack, seen = [total.node], {total.node}
    while stack and len(seen) <= FARTHEST:
        node = stack.pop()
        if node.op.family == "reduction" and node.inputs[0].shape == shape:
            axes = _last_axes(node, len(shape))
            if axes is not None:
                return axes
        elif node.op.family in BETWEEN:
            new = [t.node for t in node.inputs if t.node not in seen]
            seen.update(new)
            stack += new
    return None


def _split(node: Node) -> Tensor | None:
    (x,) = node.inputs
    if x.shape is None or not x.dtype.is_float or x.dtype.bits < 32:
        return None
    if sorted(node.attrs["axis"]) != list(range(len(x.shape))):
        return None
    axes = _rows(x)
    if axes is None:
        return None
    build = node.op.build
    assert build is not None
    rows = build(x, axes, keepdims=True)  # as gradients have it, which often need the same sums
    total: Tensor = build(rows, None, keepdims=node.attrs["keepdims"])
    return total


RULES: Mapping[str, Rule] = {"sum": _split, "mean": _split}


def split_totals(graph: Graph) -> Graph:
    """Apply the table above."""
    return sweep(graph, RULES)
