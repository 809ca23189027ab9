"""broadcast_to and sum: each the other's adjoint. With cast, they are what builders insert.

A gradient rule never un-broadcasts: builders make broadcasting explicit, and the gradient of
`broadcast_to` is a `sum`, written here once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import kernel
from graphc.build import Check, make
from graphc.dims import Dim, Dimension, Shape
from graphc.dtypes import DType, as_dtype, float16, float32, floating, int64, uint64
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.kernel import Index, Source, along
from graphc.ops.domain import AWKWARD, Case, Domain, Draw, cases
from graphc.ops.follow import as_shape, is_open, located, with_length
from graphc.ops.source import as_tensor, full_of
from graphc.scalar import Scalar
from graphc.types import TensorType


def same_dtype(check: Check, x: TensorType, *_: TensorType, **__: Any) -> DType:
    """The first operand's dtype."""
    return x.dtype


# ---------------------------------------------------------------------------- cast


def cast_array(x: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    """NumPy's cast; a float out of an integer's range saturates, and NaN becomes 0."""
    if dtype.kind in "iu" and x.dtype.kind == "f":
        limits = np.iinfo(dtype.numpy)
        wide = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0, posinf=np.inf, neginf=-np.inf)
        inside = np.clip(wide, float(limits.min), float(limits.max))
        top, bottom = wide >= float(limits.max), wide <= float(limits.min)
        safe = np.where(top | bottom, 0.0, inside).astype(dtype.numpy)
        return np.where(top, limits.max, np.where(bottom, limits.min, safe)).astype(dtype.numpy)
    with np.errstate(all="ignore"):  # what a float's range does not hold is infinite
        return x.astype(dtype.numpy)


def _cast_vjp(g: Tensor, y: Tensor, x: Tensor, dtype: DType) -> Tensor | None:
    return cast(g, x.dtype) if x.dtype.is_float and dtype.is_float else None


def _cast_build(x: Tensor, dtype: DType, name: str | None = None) -> Tensor:
    if x.dtype is dtype:
        return x
    if x.node.op.name == "full" and x.node.attrs["dtype"].kind in "biuf":
        held = cast_array(np.asarray(x.node.attrs["value"]), x.dtype)
        value = cast_array(held, dtype)
        return full_of(value.item(), x.node.attrs["shape"], dtype, name)
    return make(CAST, (x,), {"dtype": dtype}, name)


CAST = Op(
    "cast", "pointwise", ("x",),
    dtype=lambda check, x, dtype: dtype,
    shape=lambda check, x, dtype: x.shape,
    oracle=cast_array,
    element=lambda x, dtype: kernel.cast(x, dtype),
    build=_cast_build,
    vjp=_cast_vjp,
    domain=Domain(
        tuple(
            Case((Draw(shape, -3.0, 3.0),), {"dtype": as_dtype(name)})
            for shape in ((), (0,), (2, 3))
            for name in ("float64", "float32", "int8", "uint16", "int64", "bool")
        ),
        "biuf",
    ),
)  # fmt: skip


@trimmed
def cast(x: Any, dtype: Any, *, name: str | None = None) -> Tensor:
    """`x` in another dtype. Floats to integers drop fractions, saturate, and turn NaN into 0.

    Shape: that of `x`. Gradient: between floating dtypes; a cast to or from integers cuts it.

    >>> cast([1.7, -1.7, 300.0], "int8").eval()
    array([  1,  -1, 127], dtype=int8)
    """
    return _cast_build(as_tensor(x), as_dtype(dtype), name)


def as_floats(value: Any, like: Tensor | None = None) -> Tensor:
    """A floating tensor: in the type in which NumPy computes exp of it, or of `like`."""
    tensor = as_tensor(value)
    return _cast_build(tensor, floating((tensor if like is None else like).dtype))


# ---------------------------------------------------------------------------- broadcast_to


def _broadcast_shape(check: Check, x: TensorType, shape: Shape) -> Shape:
    assert x.shape is not None
    if len(x.shape) > len(shape):
        check.fail(f"shape must have at least as many axes as x, shape={_text(shape)}")
    for size, target in zip(reversed(x.shape), reversed(shape), strict=False):
        if isinstance(size, int) and size == 1:
            continue
        if check.ask(size, target) is False and not (isinstance(size, Dim) and check.ask(size, 1)):
            check.fail(f"x must broadcast to shape={_text(shape)}")
    return shape


def _text(shape: Shape) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _broadcast_build(x: Tensor, shape: Shape, name: str | None = None) -> Tensor:
    if x.shape == shape:
        return x
    if x.node.op.name == "full":
        if x.shape != ():
            make(BROADCAST_TO, (x,), {"shape": shape}, name)  # for its check alone
        return full_of(x.node.attrs["value"], shape, x.dtype, name)
    return make(BROADCAST_TO, (x,), {"shape": shape}, name)


def _broadcast_vjp(g: Tensor, y: Tensor, x: Tensor, shape: Shape) -> Tensor:
    assert x.shape is not None
    check, extra = Check(BROADCAST_TO, (x,), {}), len(shape) - len(x.shape)
    summed = tuple(
        axis for axis in range(len(shape))
        if axis < extra or _stretches(check, x.shape[axis - extra], shape[axis])
    )  # fmt: skip
    total: Tensor = SUM.build(g, axis=summed, keepdims=False)  # type: ignore[misc]  # SUM has a build
    return _reshape_like(total, x)


def _stretches(check: Check, size: Dimension, target: Dimension) -> bool:
    """Whether an axis was 1 and is no longer; sizes that are equal may be spelled differently."""
    if size == target:
        return False
    return not isinstance(size, Dim) or check.ask(size, target) is not True


def _reshape_like(total: Tensor, x: Tensor) -> Tensor:
    return total if total.shape == x.shape else total.reshape(x.shape)


def _broadcast_element(index: Index, x: Source, shape: Shape) -> Scalar:
    """The element at the same place, or the only one of an axis that is stretched."""
    inner = index[len(shape) - len(x.shape) :]
    return x(*(0 if size == 1 else i for i, size in zip(inner, x.shape, strict=True)))


BROADCAST_TO = Op(
    "broadcast_to", "view", ("x",),
    dtype=same_dtype,
    shape=_broadcast_shape,
    oracle=lambda x, shape: np.broadcast_to(x, shape),
    element=_broadcast_element,
    build=_broadcast_build,
    vjp=_broadcast_vjp,
    rankless=lambda shape: shape,
    domain=cases(
        ((), {"shape": (2, 3)}), ((3,), {"shape": (2, 3)}), ((2, 1), {"shape": (2, 3)}),
        ((1,), {"shape": (0,)}), ((1, 3), {"shape": (4, 1, 3)}), ((0,), {"shape": (2, 0)}),
        kinds="biuf",
    ),
)  # fmt: skip


def broadcast_operands(op: Op, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Operands of one shape, broadcasts inserted; as they are where sizes leave it open."""
    shapes = [t.type.shape for t in tensors]
    if shapes.count(shapes[0]) == len(shapes) or None in shapes:
        return tensors
    check = Check(op, tensors, {})
    target = check.broadcast(shapes)  # type: ignore[arg-type]  # no None is left
    if not check.settled:
        return tensors
    return [_broadcast_build(t, target) for t in tensors]


# ---------------------------------------------------------------------------- sum


def summed(dtype: DType) -> DType:
    """The dtype of a sum, as NumPy's."""
    if dtype.kind in "bi":
        return int64
    return uint64 if dtype.kind == "u" else dtype


def folded(kind: str, index: Index, x: Source, axis: tuple[int, ...], keepdims: bool) -> Scalar:
    """A sum or product in NumPy's dtype of sums; float16 in float32, rounded once."""
    wide = float32 if x.dtype is float16 else summed(x.dtype)
    return along(kind, index, x, axis, keepdims, lambda e: kernel.typed(e, wide))


def sum_dtype(check: Check, x: TensorType, **_: Any) -> DType:
    """NumPy's accumulator: integers sum in 64 bits, floats in their own type."""
    return summed(x.dtype)


def reduced_shape(check: Check, x: TensorType, axis: Any, keepdims: bool, **_: Any) -> Shape:
    """The shape without `axis`, or with ones there."""
    assert x.shape is not None
    axes = check.axes(axis, len(x.shape))
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in axes)


def rankless_reduction(axis: Any, keepdims: bool, **_: Any) -> Shape | None:
    """A reduction over everything gives a scalar, whatever the rank."""
    return () if axis is None and not keepdims else None


def canonical_axes(op: Op, x: Tensor, axis: Any) -> Any:
    """Axes counted from the front where the rank is known, else hashable as they are."""
    if x.shape is None:
        return tuple(axis) if isinstance(axis, list) else axis
    return Check(op, (x,), {}).axes(axis, len(x.shape))


def expand_reduced(t: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """A reduced tensor broadcast back over what it was reduced from."""
    assert x.shape is not None
    if not keepdims:
        t = t.reshape(tuple(1 if i in axis else d for i, d in enumerate(x.shape)))
    return _broadcast_build(t, x.shape)


def _sum_build(
    x: Tensor, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    axes = canonical_axes(SUM, x, axis)
    if axes == () and x.shape is not None and x.dtype.bits == 64:
        return x
    if axes == () and x.dtype.is_float:
        return x
    return make(SUM, (x,), {"axis": axes, "keepdims": bool(keepdims)}, name)


SUM = Op(
    "sum", "reduction", ("x",),
    dtype=sum_dtype,
    shape=reduced_shape,
    oracle=lambda x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims),
    element=functools.partial(folded, "sum"),
    build=_sum_build,
    vjp=lambda g, y, x, axis, keepdims: expand_reduced(g, x, axis, keepdims),
    rankless=rankless_reduction,
    domain=Domain(
        tuple(
            Case((Draw(shape),), {"axis": axis, "keepdims": keepdims})
            for shape in AWKWARD
            for axis in ((None,) if not shape else (None, 0, -1))
            for keepdims in (False, True)
        ),
        "biuf",
    ),
)  # fmt: skip


@trimmed
def sum(x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None) -> Tensor:
    """The sum over `axis` (an int, several, or None for all); over no elements, 0.

    Shape: that of `x` without `axis`, or with ones there if `keepdims`. Integers sum in 64 bits.

    >>> sum(np.ones((2, 3), np.float32), axis=1).type
    TensorType(dtype=graphc.float32, shape=(2,))
    """
    return _sum_build(as_tensor(x), axis, keepdims, name)


@trimmed
@located
def broadcast_to(x: Any, shape: Any, *, name: str | None = None) -> Tensor:
    """`x` repeated to `shape` by NumPy's rule: axes are added in front, sizes of 1 are stretched.

    Sizes are ints, symbolic sizes or integer scalars; `shape` may be an integer tensor of them.

    >>> broadcast_to([1.0, 2.0], (3, 2)).type
    TensorType(dtype=graphc.float32, shape=(3, 2))
    """
    tensor = as_tensor(x)
    if is_open(shape):
        return _broadcast_open(tensor, shape, name=name)
    return _broadcast_build(tensor, as_shape(shape), name)


_broadcast_open = with_length("broadcast_to_sizes", ("x", "shape"), same_dtype, _broadcast_build)
