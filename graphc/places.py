"""Where elements lie: indices as formulas, in row-major order, counted from the end, reshaped."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.dims import Dim, Dimension, Shape, product
from graphc.dtypes import DType, int64
from graphc.kernel import Index, lift, typed
from graphc.scalar import Like, Scalar, select


def counted(place: Scalar, dtype: DType, size: Dimension) -> Scalar:
    """An index that is data of a dtype, negative ones counted from the end."""
    signed = typed(place, int64)
    return signed if dtype.kind == "u" else select(signed < 0, signed + lift(size), signed)


def affine(place: Scalar, step: Dimension = 1, start: Dimension = 0) -> Scalar:
    """`place * step + start`, without what changes nothing."""
    scaled = place if step == 1 else place * lift(step)
    if isinstance(start, Dim):
        negative = all(coefficient < 0 for _, coefficient in start.terms)
        return scaled - lift(-start) if negative else scaled + lift(start)
    return scaled if start == 0 else scaled + start if start > 0 else scaled - -start


def linear(index: Sequence[Like], shape: Shape) -> Scalar:
    """The place of an element among all, in row-major order."""
    place: Scalar = lift(0)
    for k, (i, size) in enumerate(zip(index, shape, strict=True)):
        place = place * lift(size) + lift(i) if k else lift(i)
    return place


def delinear(place: Like, shape: Shape) -> Index:
    """The index of the element at a place."""
    rest, index = lift(place), []
    for size in reversed(shape[1:]):
        index.append(rest % lift(size))
        rest = rest // lift(size)
    return (*((rest,) if shape else ()), *reversed(index))


def reshaped(index: Index, shape: Shape, onto: Shape) -> Index:
    """Where the element at an index of `shape` lies in `onto`, another shape of as many elements.

    Runs of axes with equal products are taken apart, so that what only gains or loses an axis, or
    merges two, needs no division elsewhere.
    """
    found: list[Scalar] = []
    i = j = 0
    while j < len(onto):
        if i < len(shape) and _is_one(shape[i]):
            i += 1
        elif _is_one(onto[j]):
            found.append(lift(0))
            j += 1
        else:
            after, end = _group(shape, i, onto, j)
            found += delinear(linear(index[i:after], shape[i:after]), onto[j:end])
            i, j = after, end
    return tuple(found)


def _is_one(size: Dimension) -> bool:
    return isinstance(size, int) and size == 1


def _group(shape: Shape, i: int, onto: Shape, j: int) -> tuple[int, int]:
    """Where the shortest run of axes from `i` ends that holds as much as some from `j`."""
    for after in range(i + 1, len(shape) + 1):
        for end in range(j + 1, len(onto) + 1):
            if product(shape[i:after]) == product(onto[j:end]):
                return after, end
    return len(shape), len(onto)
