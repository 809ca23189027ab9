"""A matrix product whose result is stored with its axes in another order.

What follows a product of batches is often a transpose that joins axes of batches and rows (heads
of attention become one row again). Where only the transpose is wanted, the product may as well
store it: what reads it then finds rows that lie together.
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
from graphc.ops.contraction import MATMUL
from graphc.ops.domain import cases
from graphc.scalar import Scalar
from graphc.types import TensorType


def _shape(check: Check, a: TensorType, b: TensorType, axes: tuple[int, ...]) -> Shape:
    shape = MATMUL.shape(check, a, b)
    return tuple(shape[axis] for axis in axes)


def _oracle(a: Array, b: Array, axes: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(np.matmul(a, b).transpose(axes))


def _element(index: Index, a: Source, b: Source, axes: tuple[int, ...]) -> Scalar:
    place = tuple(index[axes.index(axis)] for axis in range(len(axes)))
    assert MATMUL.element is not None
    element: Scalar = MATMUL.element(place, a, b)
    return element


def _attrs(*axes: int) -> dict[str, Any]:
    return {"axes": axes}


TURNED_MATMUL: Op = Op(
    "turned_matmul", "contraction", ("a", "b"), same_dtype, _shape, _oracle,
    element=_element,
    cuts="devices make it when all gradients have been taken",
    domain=cases(
        ((2, 3, 4), (2, 4, 5), _attrs(1, 0, 2)),
        ((2, 3, 4, 2), (2, 3, 2, 5), _attrs(0, 2, 1, 3)),
        ((2, 3, 4, 2), (2, 3, 2, 5), _attrs(3, 0, 1, 2)),
        ((2, 0, 4), (2, 4, 5), _attrs(1, 0, 2)), ((2, 3, 0), (2, 0, 5), _attrs(1, 0, 2)),
        kinds="iuf",
    ),
)  # fmt: skip
