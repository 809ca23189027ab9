"""Convolutions in groups with the group as an axis of its own: what devices run of `conv2d`.

`conv2d(groups=)` splits its channels, so that the group of a channel is a quotient. Here images are
[batch, height, width, group, channel] and filters [H, W, channel, group, output], both views of
what `conv2d` has: every index is affine in the loops, and the group is a batch of a contraction.
There is no padding. `normalise_windows` makes these nodes; no user does.
"""

from __future__ import annotations

from typing import Any

from graphc.build import Check
from graphc.dims import Shape
from graphc.dtypes import Array
from graphc.graph import Op
from graphc.kernel import Index, Source, reduce, wide
from graphc.ops.broadcast import same_dtype
from graphc.ops.convolution import CONV2D, CONV2D_FILTER_GRADIENT
from graphc.ops.domain import cases
from graphc.ops.window import NONE, Pair, Windows, window_counts
from graphc.scalar import Scalar
from graphc.types import TensorType

CUTS = "devices make it when all gradients have been taken"


def _check_ranks(check: Check, *shapes: Shape) -> None:
    if any(len(shape) != 5 for shape in shapes):
        check.fail("takes images [batch, height, width, group, channel] and filters of five axes")


def _conv_shape(
    check: Check, x: TensorType, filters: TensorType, strides: Pair, dilations: Pair
) -> Shape:
    assert x.shape is not None and filters.shape is not None
    _check_ranks(check, x.shape, filters.shape)
    for have, want in zip(x.shape[3:], (filters.shape[3], filters.shape[2]), strict=True):
        check.equal(have, want, "groups and channels of x must be those of the filters")
    counts = window_counts(check, x.shape[1:3], filters.shape[:2], strides, NONE, dilations)
    return (x.shape[0], *counts, *filters.shape[3:])


def _gradient_shape(
    check: Check, x: TensorType, g: TensorType, size: Shape, strides: Pair, dilations: Pair
) -> Shape:
    assert x.shape is not None and g.shape is not None
    _check_ranks(check, x.shape, g.shape)
    counts = window_counts(check, x.shape[1:3], size, strides, NONE, dilations)
    pairs = zip((x.shape[0], *counts, x.shape[3]), g.shape[:4], strict=True)
    for have, want in pairs:
        check.equal(have, want, "x and g must have one batch, their windows, and their groups")
    return (*size, x.shape[4], *g.shape[3:])


def _merged(x: Array) -> Array:
    """The last two axes as one."""
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _conv_oracle(x: Array, filters: Array, strides: Pair, dilations: Pair) -> Array:
    groups = x.shape[3]
    plain: Array = CONV2D.oracle(_merged(x), _merged(filters), strides, NONE, dilations, groups)
    return plain.reshape(*plain.shape[:3], *filters.shape[3:])


def _gradient_oracle(x: Array, g: Array, size: Pair, strides: Pair, dilations: Pair) -> Array:
    oracle, groups = CONV2D_FILTER_GRADIENT.oracle, x.shape[3]
    plain: Array = oracle(_merged(x), _merged(g), size, strides, NONE, dilations, groups)
    return plain.reshape(*plain.shape[:3], *g.shape[3:])


def _conv_element(index: Index, x: Source, filters: Source, **attrs: Any) -> Scalar:
    batch, row, column, group, output = index
    *kernel, channels, _, _ = filters.shape
    windows = Windows(x.shape[1:3], tuple(kernel), padding=NONE, **attrs)

    def term(*place: Scalar) -> Scalar:
        *tap, channel = place
        cell = windows.cells((row, column), tuple(tap))
        seen = wide(x(batch, *cell, group, channel), x.dtype)
        return seen * wide(filters(*tap, channel, group, output), x.dtype)

    return reduce("sum", (*kernel, channels), term)


def _gradient_element(index: Index, x: Source, g: Source, size: Shape, **attrs: Any) -> Scalar:
    tap, (channel, group, output) = index[:2], index[2:]
    windows = Windows(x.shape[1:3], size, padding=NONE, **attrs)

    def term(batch: Scalar, *window: Scalar) -> Scalar:
        seen = wide(x(batch, *windows.cells(window, tap), group, channel), x.dtype)
        return seen * wide(g(batch, *window, group, output), x.dtype)

    return reduce("sum", g.shape[:3], term)


def _attrs(**more: Any) -> dict[str, Any]:
    return {"strides": (1, 1), "dilations": (1, 1), **more}


GROUPED_CONV2D = Op(
    "grouped_conv2d", "contraction", ("x", "filters"), same_dtype, _conv_shape, _conv_oracle,
    element=_conv_element,
    cuts=CUTS,
    domain=cases(
        ((2, 3, 4, 2, 3), (2, 2, 3, 2, 2), _attrs()),
        ((1, 5, 4, 3, 1), (2, 1, 1, 3, 2), _attrs(strides=(2, 1), dilations=(1, 2))),
        ((0, 3, 3, 2, 1), (2, 2, 1, 2, 1), _attrs()),
        kinds="iuf",
    ),
)  # fmt: skip
GROUPED_FILTER_GRADIENT = Op(
    "grouped_filter_gradient", "contraction", ("x", "g"), same_dtype, _gradient_shape,
    _gradient_oracle,
    element=_gradient_element,
    cuts=CUTS,
    domain=cases(
        ((2, 3, 4, 2, 3), (2, 2, 3, 2, 2), _attrs(size=(2, 2))),
        ((1, 5, 4, 3, 1), (1, 2, 4, 3, 2), _attrs(size=(2, 1), strides=(2, 1), dilations=(1, 2))),
        ((0, 3, 3, 2, 1), (0, 2, 2, 2, 1), _attrs(size=(2, 2))),
    ),
)  # fmt: skip
