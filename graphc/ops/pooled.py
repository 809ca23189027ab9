"""Formulas of pooling: of one window's value, and of one cell's share of the cotangents.

A cell sums over the windows that see it, which are few (one, where windows do not overlap), not
over all taps. Channels are the last axis and every read follows it, so that they are read side by
side; what depends on the place of a window alone is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.dims import Shape
from graphc.dtypes import DType, int32, int64, summed
from graphc.kernel import Index, Number, Source, cast, conjunction, lift, reduce, where, wide
from graphc.ops.window import NONE, Pair, Windows
from graphc.places import delinear, linear
from graphc.scalar import Scalar, apply

# ---------------------------------------------------------------------------- max


def lowest(dtype: Any) -> Number:
    """What never wins a maximum."""
    return -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


def max_element(index: Index, x: Source, size: Pair, **attrs: Any) -> Scalar:
    """The largest of what a window sees."""
    windows, least = Windows(x.shape[1:3], size, **attrs), lowest(x.dtype.numpy)
    return reduce("max", size, lambda *tap: windows.seen(x, index, tap, least))


class _Largest:
    """Which taps of a window are the largest: they equal the maximum, or are NaN."""

    def __init__(self, windows: Windows, window: Index, x: Source) -> None:
        self._windows, self._window, self._x = windows, window, x
        self._least = lowest(x.dtype.numpy)
        self._top = reduce("max", windows.kernel, self._seen)

    def _seen(self, *tap: Scalar) -> Scalar:
        return self._windows.seen(self._x, self._window, tap, self._least)

    def is_top(self, value: Scalar) -> Scalar:
        """Whether a value is the largest; of a maximum that is NaN, the NaNs are."""
        equal = apply("equal", value, self._top)
        if not self._x.dtype.is_float:
            return equal
        return equal | apply("bit_not", apply("equal", value, value))

    def at(self, *tap: Scalar) -> Scalar:
        """Whether the cell at a tap is; padding never is."""
        real = self._windows.is_real(self._window[1:3], tap)
        top = self.is_top(self._seen(*tap))
        return top if real is None else real & top


def place_element(index: Index, x: Source, size: Pair, **attrs: Any) -> Scalar:
    """The place in its window of the first largest cell, or of the first NaN."""
    return _place(Windows(x.shape[1:3], size, **attrs), index, x)


def _place(windows: Windows, window: Index, x: Source) -> Scalar:
    largest, beyond = _Largest(windows, window, x), windows.kernel[0] * windows.kernel[1]

    def place(*tap: Scalar) -> Scalar:
        return where(
            largest.at(*tap), cast(linear(tap, windows.kernel), int32), cast(beyond, int32)
        )

    return reduce("min", windows.kernel, place)


def select_element(index: Index, h: Source, x: Source, size: Pair, **attrs: Any) -> Scalar:
    """What `h` has where a window takes its maximum from."""
    windows = Windows(x.shape[1:3], size, **attrs)
    place = cast(_place(windows, index, x), int64)
    return windows.seen(h, index, delinear(place, size), 0)


def max_gradient_element(index: Index, g: Source, x: Source, size: Pair, **attrs: Any) -> Scalar:
    """The sum over the windows that see the cell, of those whose first largest cell it is."""
    windows = Windows(x.shape[1:3], size, **attrs)
    fits = windows.cover_all(g.shape[1:3])
    inside = Windows(x.shape[1:3], size, **attrs, all_exist=fits)

    def wins(window: Index, tap: Index) -> Scalar:
        largest = _Largest(inside, (index[0], *window, index[3]), x)
        own = linear(tap, size)

        def is_earlier(*other: Scalar) -> Scalar:
            return (linear(other, size) < own) & largest.at(*other)

        return largest.is_top(x(*index)) & apply("bit_not", reduce("any", size, is_earlier))

    return _spread(index, g, windows, wins)


def spread_element(
    index: Index, g: Source, place: Source, image: Shape, size: Pair, **attrs: Any
) -> Scalar:
    """`max_gradient_element`, of the places that `place_element` gives."""
    windows = Windows(image, size, **attrs)

    def wins(window: Index, tap: Index) -> Scalar:
        found = (index[0], *window, index[3])
        held = place(*found) if windows.cover_all(g.shape[1:3]) else place.within(found, -1)
        return apply("equal", held, cast(linear(tap, size), int32))

    return _spread(index, g, windows, wins)


def _spread(
    index: Index,
    g: Source,
    windows: Windows,
    wins: Callable[[Index, Index], Scalar | None],
    share: Callable[[Index], Scalar | None] = lambda window: None,
) -> Scalar:
    """The sum of what the windows that see a cell hold in `g`, of those that give it to the cell.

    0 is added also to a single one, as in any sum: so none of them is -0.0.
    """
    fits = windows.cover_all(g.shape[1:3])

    def term(*back: Scalar) -> Scalar:
        window, tap, reaches = windows.covering(index[1:3], back)
        found = (index[0], *window, index[3])
        held = g(*found) if fits else g.within(found, 0)
        condition = wins(window, tap)
        conditions = [c for c in (reaches, condition) if c is not None]
        given = wide(where(conjunction(conditions), held, cast(0, g.dtype)), g.dtype)
        part = share(window)
        return given if part is None else given * part

    if windows.overlap == (1, 1):
        return term(lift(0), lift(0)) + 0
    return reduce("sum", windows.overlap, term)


# ---------------------------------------------------------------------------- mean


def _share(windows: Windows, window: Index, dtype: DType) -> Scalar:
    """One divided by the number of a window's cells inside the image."""
    if windows.padding == NONE:
        height, width = windows.kernel
        assert isinstance(height, int) and isinstance(width, int), "a pool's window is known"
        return cast(1.0 / (height * width), dtype)
    firsts = windows.cells(window, (lift(0), lift(0)))
    count: Scalar = lift(1)
    for first, size, reach in zip(firsts, windows.sizes, windows.kernel, strict=True):
        end = apply("minimum", first + lift(reach), lift(size))
        count = count * (end - apply("maximum", first, 0))
    return 1.0 / cast(apply("maximum", count, 1), dtype)  # 1: there may be no such window


def mean_element(index: Index, x: Source, size: Pair, **attrs: Any) -> Scalar:
    """The mean of what a window sees of the image."""
    windows = Windows(x.shape[1:3], size, **attrs)

    def term(*tap: Scalar) -> Scalar:
        return wide(windows.seen(x, index, tap, 0), x.dtype)

    return reduce("sum", size, term) * _share(windows, index[1:3], summed(x.dtype))


def mean_gradient_element(
    index: Index, g: Source, image: Shape, size: Pair, **attrs: Any
) -> Scalar:
    """The sum over the windows that see the cell, of its share of each."""
    windows = Windows(image, size, **attrs)
    dtype = summed(g.dtype)
    return _spread(
        index, g, windows, lambda window, tap: None, lambda window: _share(windows, window, dtype)
    )
