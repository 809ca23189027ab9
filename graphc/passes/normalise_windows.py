"""Convolutions as sums of products of plain, affine reads: what a contraction generator runs.

| before | after |
|---|---|
| a convolution or its filter gradient, with padding | without, of images inside zeros |
| the gradient of the images | convolutions at stride 1 of `g` inside zeros, see `phases.py` |
| groups of several channels | the group as an axis of its own, by views |
| the gradient of a maximum over windows | the places of the maxima, found once; |
| | then a sum over the few windows that see a cell |

So the images of a layer are put inside zeros once, for the convolution and its filter gradient.
Left as they are: sizes of filters that only a run decides, and images of size 0.

Enters: a graph that is about to be lowered. Leaves: the same values (sums in another order) from
more nodes; what a user sees of the optimised graph keeps the nodes that were written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from graphc.build import make
from graphc.dims import Dim, Dimension, Shape, derived, floordiv
from graphc.graph import Graph, Node, Op, Tensor
from graphc.ops.convolution import CONV2D, CONV2D_FILTER_GRADIENT, CONV2D_INPUT_GRADIENT
from graphc.ops.grouped import GROUPED_CONV2D, GROUPED_FILTER_GRADIENT
from graphc.ops.pooling import MAX_POOL2D_GRADIENT, MAX_POOL2D_PLACE, MAX_POOL2D_SPREAD
from graphc.ops.slicing import slice_build, unslice_build
from graphc.ops.window import NONE, Padding, Pair, extent, same_cells, same_count
from graphc.passes.phases import Axis, convolved, interleaved, phases_of
from graphc.rewriting import rewrite

Rule: TypeAlias = Callable[[Node], "Tensor | None"]


class Border(NamedTuple):
    """Along one axis: zeros before and after the image, and how much of all that is read."""

    before: Dimension
    after: Dimension
    read: Dimension


def borders(
    sizes: Shape, kernel: Shape, strides: Pair, padding: Padding, dilations: Pair
) -> list[Border] | None:
    """The border of each axis; None where there is no telling before a run."""
    found = []
    for axis, (size, taps, stride) in enumerate(zip(sizes, kernel, strides, strict=True)):
        if padding == "SAME":
            if not isinstance(taps, int) or (isinstance(size, int) and size == 0):
                return None
            found.append(_same_border(size, int(extent(taps, dilations[axis])), stride))
        else:
            before, after = padding[axis]
            found.append(Border(before, after, size + before + after))
    return found


def _same_border(size: Dimension, reach: int, stride: int) -> Border:
    """TensorFlow's SAME: exactly what its windows read, so that their number stays as spelled."""
    if not isinstance(size, Dim):
        low, high = same_cells(size, reach, stride)
        return Border(low, high, size + low + high)
    read = (same_count(size, stride) - 1) * stride + reach
    total = read - size if reach >= stride else derived("max", read - size, 0)
    before = floordiv(total, 2)
    return Border(before, total - before, read)


def inside_zeros(x: Tensor, both: list[Border]) -> Tensor:
    """Images inside their border, cut to what is read of them."""
    assert x.shape is not None
    batch, height, width, channels = x.shape
    whole = [b.before + size + b.after for b, size in zip(both, (height, width), strict=True)]
    zero = np.zeros((), x.dtype.numpy).item()
    starts = (0, *(b.before for b in both), 0)
    image = unslice_build(x, starts, (1,) * 4, (batch, *whole, channels), zero)
    return slice_build(image, (0,) * 4, (batch, *(b.read for b in both), channels), (1,) * 4)


# ---------------------------------------------------------------------------- groups


def _is_depthwise(channels: Dimension, groups: int, outputs: Dimension) -> bool:
    """One channel a group on both sides, which general loops read and write side by side."""
    return channels == groups == outputs


def _split(x: Tensor, groups: int) -> Tensor:
    """The last axis as groups of channels."""
    assert x.shape is not None
    return x.reshape((*x.shape[:-1], groups, floordiv(x.shape[-1], groups)))


def _by_groups(op: Op, a: Tensor, b: Tensor, groups: int, name: str | None, attrs: Any) -> Tensor:
    """A grouped op over views of its operands, and a view of its result."""
    y = make(op, (_split(a, groups), _split(b, groups)), attrs, name)
    assert y.shape is not None
    return y.reshape((*y.shape[:-2], y.shape[-2] * y.shape[-1]))


def _convolution(
    x: Tensor, filters: Tensor, strides: Pair, dilations: Pair, groups: int, name: str | None = None
) -> Tensor:
    """A convolution without padding."""
    assert x.shape is not None and filters.shape is not None
    attrs: dict[str, Any] = {"strides": strides, "dilations": dilations}
    if groups == 1 or _is_depthwise(x.shape[3], groups, filters.shape[3]):
        attrs = {"strides": strides, "padding": NONE, "dilations": dilations, "groups": groups}
        return make(CONV2D, (x, filters), attrs, name)
    return _by_groups(GROUPED_CONV2D, x, filters, groups, name, attrs)


# ---------------------------------------------------------------------------- rules


def _conv2d(node: Node) -> Tensor | None:
    x, filters = node.inputs
    strides, padding, dilations, groups = _geometry(node)
    assert x.shape is not None and filters.shape is not None
    both = borders(x.shape[1:3], filters.shape[:2], strides, padding, dilations)
    if both is None:
        return None
    return _convolution(inside_zeros(x, both), filters, strides, dilations, groups, node.name)


def _filter_gradient(node: Node) -> Tensor | None:
    (x, g), size = node.inputs, node.attrs["size"]
    strides, padding, dilations, groups = _geometry(node)
    assert x.shape is not None and g.shape is not None
    both = borders(x.shape[1:3], size, strides, padding, dilations)
    if both is None:
        return None
    image = inside_zeros(x, both)
    attrs: dict[str, Any] = {"size": size, "strides": strides, "dilations": dilations}
    if groups == 1 or _is_depthwise(x.shape[3], groups, g.shape[3]):
        attrs = {"size": size, "strides": strides, "padding": NONE, "dilations": dilations}
        attrs["groups"] = groups
        return make(CONV2D_FILTER_GRADIENT, (image, g), attrs, node.name)
    return _by_groups(GROUPED_FILTER_GRADIENT, image, g, groups, node.name, attrs)


def _phases(
    border: Border, pixels: Dimension, taps: int, stride: int, dilation: int, windows: Dimension
) -> tuple[Axis, Dimension]:
    """The phases of an axis, and which pixel is the first of the images."""
    before = border.before
    if isinstance(before, int):
        return phases_of(taps, stride, dilation, before, pixels, windows), 0
    whole = before + pixels + border.after  # which taps reach a pixel is not known: its border too
    return phases_of(taps, stride, dilation, 0, whole, windows), before


def _input_gradient(node: Node) -> Tensor | None:
    (g, filters), size = node.inputs, node.attrs["size"]
    strides, padding, dilations, groups = _geometry(node)
    assert g.shape is not None and filters.shape is not None
    kernel = [taps for taps in filters.shape[:2] if isinstance(taps, int) and taps > 0]
    both = borders(size, filters.shape[:2], strides, padding, dilations)
    if both is None or len(kernel) < 2:
        return None
    parts = zip(both, size, kernel, strides, dilations, g.shape[1:3], strict=True)
    axes, starts = zip(*(_phases(*part) for part in parts), strict=True)

    def convolve(image: Tensor, taps: Tensor, moves: Pair, name: str | None) -> Tensor:
        return _convolution(image, taps, (1, 1), moves, groups, name)

    found = convolved(g, filters, axes, groups, convolve, node.name)
    return interleaved(found, axes, starts, size)


def _max_gradient(node: Node) -> Tensor | None:
    (g, x), attrs = node.inputs, node.attrs
    assert x.shape is not None
    place = make(MAX_POOL2D_PLACE, (x,), attrs)
    return make(MAX_POOL2D_SPREAD, (g, place), {"image": x.shape[1:3], **attrs}, node.name)


def _geometry(node: Node) -> tuple[Pair, Padding, Pair, int]:
    attrs = node.attrs
    return attrs["strides"], attrs["padding"], attrs["dilations"], attrs["groups"]


RULES: Mapping[Op, Rule] = {
    CONV2D: _conv2d,
    CONV2D_FILTER_GRADIENT: _filter_gradient,
    CONV2D_INPUT_GRADIENT: _input_gradient,
    MAX_POOL2D_GRADIENT: _max_gradient,
}


def normalise_windows(graph: Graph) -> Graph:
    """Apply the table above to every convolution."""

    def rule(node: Node) -> Tensor | None:
        found = RULES.get(node.op)
        if found is None or any(t.shape is None for t in node.inputs):
            return None
        return found(node)

    return rewrite(graph, rule) if any(node.op in RULES for node in graph.nodes) else graph
