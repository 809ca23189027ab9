"""Formulas of one element that are too long to stand beside their records: convolutions, gather."""

from __future__ import annotations

from typing import Any

from graphc.dims import Dimension, Shape
from graphc.kernel import Index, Source, lift, reduce, wide
from graphc.ops.window import Windows
from graphc.places import counted
from graphc.scalar import Scalar


def _product(a: Scalar, b: Scalar, x: Source) -> Scalar:
    """One term of a sum; float16 in float32."""
    return wide(a, x.dtype) * wide(b, x.dtype)


def _block(channel: Scalar, size: Dimension, groups: int) -> tuple[Scalar | int, Scalar]:
    """The group of a channel, and its place in it, where each group has `size`."""
    if groups == 1:
        return 0, channel
    if isinstance(size, int) and size == 1:
        return channel, lift(0)
    return channel // lift(size), channel % lift(size)


def _member(group: Scalar | int, size: Dimension, channel: Scalar) -> Scalar:
    """The channel at a place of a group; depthwise, where each has one, that of the group."""
    if isinstance(group, int):
        return channel
    if isinstance(size, int) and size == 1:
        return group
    return group * lift(size) + channel


def conv2d_element(index: Index, x: Source, filters: Source, groups: int, **attrs: Any) -> Scalar:
    """The sum over taps and channels of what a window sees times its filter."""
    *kernel, inner, outputs = filters.shape
    windows = Windows(x.shape[1:3], tuple(kernel), **attrs)
    group, _ = _block(index[3], outputs // groups, groups)

    def term(row: Scalar, column: Scalar, channel: Scalar) -> Scalar:
        window = (*index[:3], _member(group, inner, channel))
        seen = windows.seen(x, window, (row, column), 0)
        return _product(seen, filters(row, column, channel, index[3]), x)

    return reduce("sum", (*kernel, inner), term)


def input_gradient_element(
    index: Index, g: Source, filters: Source, size: Shape, groups: int, **attrs: Any
) -> Scalar:
    """The sum over the taps at which a window sees the cell, and over the window's outputs."""
    *kernel, inner, outputs = filters.shape
    windows = Windows(size, tuple(kernel), **attrs)
    group, channel = _block(index[3], inner, groups)

    def term(row: Scalar, column: Scalar, output: Scalar) -> Scalar:
        place = _member(group, outputs // groups, output)
        given = windows.given(g, index, (row, column), place)
        return _product(given, filters(row, column, channel, place), g)

    return reduce("sum", (*kernel, outputs // groups), term)


def filter_gradient_element(
    index: Index, x: Source, g: Source, size: Shape, groups: int, **attrs: Any
) -> Scalar:
    """The sum over all windows of what they see at the tap, times what they are given."""
    windows = Windows(x.shape[1:3], size, **attrs)
    tap, channel, output = index[:2], index[2], index[3]
    group, _ = _block(output, g.shape[3] // groups, groups)

    def term(batch: Scalar, row: Scalar, column: Scalar) -> Scalar:
        window = (batch, row, column, _member(group, x.shape[3] // groups, channel))
        return _product(windows.seen(x, window, tap, 0), g(batch, row, column, output), x)

    return reduce("sum", g.shape[:3], term)


def gather_element(
    index: Index, x: Source, *indices: Source, axes: tuple[int, ...], position: int
) -> Scalar:
    """The element at indices that are data; out of range, a device raises."""
    end = position + len(indices[0].shape)
    rest = iter((*index[:position], *index[end:]))
    places = {
        axis: counted(source(*index[position:end]), source.dtype, x.shape[axis])
        for source, axis in zip(indices, axes, strict=True)
    }
    return x(*(places[a] if a in places else next(rest) for a in range(len(x.shape))))
