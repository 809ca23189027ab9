"""What reductions share: axes as attributes, the cases that tests draw, counts as divisors."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from graphc.build import make
from graphc.dims import Dimension, product
from graphc.dtypes import Array, DType, float64, int64, summed
from graphc.graph import Op, Tensor
from graphc.ops.arith import divide
from graphc.ops.broadcast import canonical_axes
from graphc.ops.domain import AWKWARD, Case, Draw
from graphc.ops.source import as_tensor
from graphc.types import TensorType

Axes: TypeAlias = tuple[int, ...]


def reduction(
    op: Op, x: Tensor, axis: Any, keepdims: bool, name: str | None, **attrs: Any
) -> Tensor:
    """The node over axes counted from the front."""
    kept = {"axis": canonical_axes(op, x, axis), **attrs, "keepdims": bool(keepdims)}
    return make(op, (x,), kept, name)


def reduction_cases(
    shapes: tuple[tuple[int, ...], ...] = AWKWARD, nonempty: bool = False, **draw: Any
) -> tuple[Case, ...]:
    """Every shape over no, one, several and all axes; `nonempty`: only where elements meet."""
    return tuple(
        Case((Draw(shape, **draw),), {"axis": axis, "keepdims": keepdims})
        for shape in shapes
        for axis in _axes_of(len(shape))
        for keepdims in (False, True)
        if not nonempty or np.prod([shape[a] for a in listed_axes(axis, len(shape))]) != 0
    )


def _axes_of(rank: int) -> tuple[Any, ...]:
    return (None, (), *((0, -1) if rank else ()), *(((0, -1),) if rank > 1 else ()))


def listed_axes(axis: Any, rank: int) -> Axes:
    """The axes that an attribute names: None is all of them, and an int is one."""
    return tuple(range(rank)) if axis is None else axis if isinstance(axis, tuple) else (axis,)


def count_along(x: Tensor, axis: Axes) -> Dimension:
    """How many elements meet in each element of a reduction."""
    assert x.shape is not None
    return product(x.shape[a] for a in axis)


def index_dtype(check: Any, *_: TensorType, **__: Any) -> DType:
    """Places along an axis are counted in int64."""
    return int64


def mean_dtype(check: Any, x: TensorType, **_: Any) -> DType:
    """Floats keep their type; whole numbers and booleans average in float64."""
    return x.dtype if x.dtype.is_float else float64


def accumulator(x: Array) -> Any:
    """The type in which NumPy sums for a mean: never float16, never an integer."""
    if x.dtype.kind != "f":
        return np.float64
    return np.float32 if x.dtype == np.float16 else x.dtype


def over_count(t: Tensor, count: Dimension) -> Tensor:
    """`t / count`, through float32 for float16, which holds no count beyond 65504."""
    wide = t.astype(summed(t.dtype))
    return divide(wide, as_tensor(count, wide.dtype)).astype(t.dtype)
