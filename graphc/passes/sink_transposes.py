"""Transposes move behind what computes element by element, where they meet and cancel.

Layers over "NCHW" images are transposes around layers over NHWC; what stands between two of them
(a bias, an activation, a normalisation) would else be computed, and stored, in the order that
neither reads.

| before | after |
|---|---|
| `f(transpose(x), transpose(y))`, also with numbers and broadcast values | `transpose(f(x, y))` |
| a reduction of a transpose | the reduction along the axes that these were |
| slice, padding, concatenate of a transpose | the transpose of theirs |
| transpose of transpose, of a broadcast value | one transpose, or none |
| a transpose that mixes batches and rows of a product, where nothing else reads it | a product |
| | that stores its result so |

Enters: a graph that is about to be lowered. Leaves: the same values (sums in another order).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from graphc.build import make
from graphc.context import caller, on_behalf
from graphc.facts import is_one
from graphc.graph import Graph, Node, Tensor
from graphc.ops.broadcast import broadcast_to
from graphc.ops.contraction import MATMUL
from graphc.ops.shape import TRANSPOSE, transpose
from graphc.ops.source import CONSTANT, FULL, full_of
from graphc.ops.turned import TURNED_MATMUL
from graphc.rewriting import Rewriter, rewrite

Axes: TypeAlias = tuple[int, ...]


def _inverse(axes: Axes) -> Axes:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def _turned(x: Tensor, axes: Axes) -> Tensor:
    """The transpose of a tensor that may be one itself."""
    if x.node.op is TRANSPOSE:
        inner = x.node.attrs["axes"]
        x, axes = x.node.inputs[0], tuple(inner[a] for a in axes)
    return transpose(x, axes)


def _behind(x: Tensor, axes: Axes) -> Tensor | None:
    """What `x` is the transpose of, if that is there, or costs nothing."""
    node, back = x.node, _inverse(axes)
    if node.op is TRANSPOSE:
        return node.inputs[0] if node.attrs["axes"] == axes else None
    if x.shape is None:
        return None
    shape = tuple(x.shape[a] for a in back)
    if node.op is FULL:
        return full_of(node.attrs["value"], shape, x.dtype)
    if node.op is CONSTANT:
        return transpose(x, back)
    if node.op.name == "broadcast_to":
        small = node.inputs[0]
        assert small.shape is not None
        sizes = (1,) * (len(axes) - len(small.shape)) + small.shape
        moved = [a for a in back if not is_one(sizes[a])]
        if moved == sorted(moved):
            return broadcast_to(small.reshape(tuple(sizes[a] for a in back)), shape)
        return broadcast_to(_turned(small.reshape(sizes), back), shape)
    return None


def _axes_of(node: Node) -> Axes | None:
    """The axes of the first operand that is a transpose."""
    found = (t.node.attrs["axes"] for t in node.inputs if t.node.op is TRANSPOSE)
    return next(found, None)


def _operands(node: Node, axes: Axes) -> list[Tensor] | None:
    """What all operands are the transposes of."""
    found = [_behind(t, axes) for t in node.inputs]
    known = [t for t in found if t is not None]
    return known if len(known) == len(found) else None


def _transpose(node: Node) -> Tensor | None:
    """One transpose, or none, of a transpose or of what costs nothing."""
    x, axes = node.inputs[0], node.attrs["axes"]
    return _turned(x, axes) if x.node.op is TRANSPOSE else _behind(x, _inverse(axes))


def _pointwise(node: Node, axes: Axes) -> Tensor | None:
    operands = _operands(node, axes)
    if operands is None:
        return None
    return transpose(make(node.op, operands, node.attrs, node.name), axes)


def _reduction(node: Node, axes: Axes) -> Tensor | None:
    attrs, reduced = node.attrs, node.attrs["axis"]
    if not isinstance(reduced, tuple):
        return None
    moved = tuple(sorted(axes[a] for a in reduced))
    x = node.inputs[0].node.inputs[0]
    y = make(node.op, (x,), {**attrs, "axis": moved}, node.name)
    if attrs["keepdims"]:
        return transpose(y, axes)
    rest = [a for i, a in enumerate(axes) if i not in reduced]
    return transpose(y, tuple(sorted(rest).index(a) for a in rest))


def _view(node: Node, axes: Axes) -> Tensor | None:
    """A view whose attributes have one entry an axis."""
    back = _inverse(axes)
    attrs = {
        name: tuple(value[a] for a in back) if isinstance(value, tuple) else value
        for name, value in node.attrs.items()
    }
    return transpose(make(node.op, (node.inputs[0].node.inputs[0],), attrs, node.name), axes)


def _concatenate(node: Node, axes: Axes) -> Tensor | None:
    operands = _operands(node, axes)
    if operands is None:
        return None
    attrs: dict[str, Any] = {"axis": axes[node.attrs["axis"]]}
    return transpose(make(node.op, operands, attrs, node.name), axes)


RULES: Mapping[str, Callable[[Node, Axes], Tensor | None]] = {
    "slice": _view, "unslice": _view, "concatenate": _concatenate,
    **dict.fromkeys(("sum", "mean", "prod", "max", "min", "any", "all"), _reduction),
}  # fmt: skip


# ---------------------------------------------------------------------------- products


def _mixed(axes: Axes) -> bool:
    """Whether a transpose moves batches of products, and ends with a row or a column."""
    batches = len(axes) - 2
    return axes[:batches] != tuple(range(batches)) and axes[-1] >= batches


def _only_turned(graph: Graph) -> Mapping[Node, Axes]:
    """The products of which one such transpose, and nothing else, is read."""
    found: dict[Node, set[Axes | None]] = {t.node: {None} for t in graph.roots}
    for node in graph.nodes:
        for tensor in node.inputs:
            if tensor.node.op is MATMUL:
                axes = node.attrs["axes"] if node.op is TRANSPOSE else None
                found.setdefault(tensor.node, set()).add(axes)
    only = {node: axes.pop() for node, axes in found.items() if len(axes) == 1}
    return {node: axes for node, axes in only.items() if axes is not None and _mixed(axes)}


def _store_turned(graph: Graph) -> Graph:
    """The last row of the table, when all other transposes are where they stay."""
    products, rewriter = _only_turned(graph), Rewriter()
    if not products:
        return graph
    with on_behalf(caller(), None) as source:
        for node in graph.nodes:
            current = rewriter.visit(node)
            axes = products.get(node.inputs[0].node) if node.op is TRANSPOSE else None
            if axes is not None:
                product = current.inputs[0].node
                source.where, source.scope = product.where, product.scope
                turned = make(TURNED_MATMUL, product.inputs, {"axes": axes}, product.name)
                rewriter.replace(node, turned)
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])


# ---------------------------------------------------------------------------- all of it


def sink_transposes(graph: Graph) -> Graph:
    """Apply the table above, each node once, operands first."""

    def rule(node: Node) -> Tensor | None:
        if node.op is TRANSPOSE:
            return _transpose(node)
        found = _pointwise if node.op.family == "pointwise" else RULES.get(node.op.name)
        if found is None or node.op.outputs is not None:
            return None
        axes = _axes_of(node)
        return None if axes is None else found(node, axes)

    if not any(node.op is TRANSPOSE for node in graph.nodes):
        return graph
    return _store_turned(rewrite(graph, rule))
