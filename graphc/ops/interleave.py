"""Images put together from those of their phases: pixel `i + stride * p` is pixel p of phase i.

What `normalise_windows` makes of the gradient of a strided convolution; no user makes such nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check
from graphc.dims import Shape
from graphc.dtypes import Array
from graphc.graph import Op
from graphc.kernel import Index, Source
from graphc.ops.broadcast import same_dtype
from graphc.ops.domain import cases
from graphc.ops.window import Pair
from graphc.places import affine
from graphc.scalar import Scalar, apply, select
from graphc.types import TensorType


def _shape(check: Check, *parts: TensorType, strides: Pair, starts: Shape, size: Shape) -> Shape:
    first: Any = parts[0].shape
    if len(parts) != strides[0] * strides[1] or any(len(part.shape or ()) != 4 for part in parts):
        check.fail(f"takes images of each of the phases of strides={strides}")
    for part in parts[1:]:
        for have, want in zip(part.shape or (), first, strict=True):
            check.equal(have, want, "all phases must have one shape")
    return (first[0], *size, first[3])


def _oracle(*parts: Array, strides: Pair, starts: Pair, size: Pair) -> Array:
    (rows, columns), (batch, height, width, channels) = strides, parts[0].shape
    whole = np.empty((batch, height * rows, width * columns, channels), parts[0].dtype)
    for number, part in enumerate(parts):
        row, column = divmod(number, columns)
        whole[:, row::rows, column::columns] = part
    (top, left), (high, wide) = starts, size
    return whole[:, top : top + high, left : left + wide]


def _chosen(phase: Scalar, listed: list[Scalar]) -> Scalar:
    """The formula of the phase."""
    result = listed[-1]
    for number, part in reversed(list(enumerate(listed[:-1]))):
        result = select(apply("equal", phase, number), part, result)
    return result


def _element(
    index: Index, *parts: Source, strides: Pair, starts: Shape, size: Shape
) -> Scalar:  # fmt: skip
    row, column = (affine(i, 1, start) for i, start in zip(index[1:3], starts, strict=True))
    place = (index[0], row // strides[0], column // strides[1], index[3])
    seen = [part(*place) for part in parts]
    lines = [seen[i : i + strides[1]] for i in range(0, len(seen), strides[1])]
    return _chosen(row % strides[0], [_chosen(column % strides[1], line) for line in lines])


INTERLEAVE = Op(
    "interleave", "view", ("parts",), same_dtype, _shape, _oracle,
    element=_element,
    cuts="devices make it when all gradients have been taken",
    domain=cases(
        ((2, 3, 2, 2), (2, 3, 2, 2), {"strides": (2, 1), "starts": (0, 0), "size": (6, 2)}),
        (*[(1, 2, 2, 1)] * 6, {"strides": (2, 3), "starts": (1, 0), "size": (3, 5)}),
        ((0, 2, 2, 1), (0, 2, 2, 1), {"strides": (1, 2), "starts": (0, 1), "size": (2, 3)}),
        kinds="biuf",
    ),
)  # fmt: skip
