"""take_along_axis, and add_along_axis, its adjoint: one index for each element, along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Shape
from graphc.dtypes import Array, bool_
from graphc.errors import DTypeError, trimmed
from graphc.graph import Op, Tensor
from graphc.kernel import Index, Source
from graphc.ops.broadcast import broadcast_to
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.gather import as_indices, checked, write
from graphc.ops.loops import add_along_axis_loop
from graphc.ops.shape import ravel
from graphc.ops.source import as_tensor, full_of
from graphc.places import counted
from graphc.scalar import Scalar
from graphc.types import TensorType

RULE = "x and the indices must have the same sizes except along axis={}"


def _dtype(check: Check, x: TensorType, *others: TensorType, **_: Any) -> Any:
    indices = others[-1]
    if indices.dtype is bool_ or indices.dtype.kind not in "iu":
        check.fail("indices must be integers", DTypeError)
    return x.dtype


def _same_but(check: Check, x: TensorType, indices: TensorType, axis: int) -> None:
    assert x.shape is not None and indices.shape is not None
    if len(x.shape) != len(indices.shape):
        check.fail("x and the indices must have the same rank")
    for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)):
        if i != axis:
            check.equal(a, b, RULE.format(axis))


def _take_shape(check: Check, x: TensorType, indices: TensorType, axis: int) -> Any:
    _same_but(check, x, indices, axis)
    return indices.shape


def _take_oracle(x: Array, indices: Array, axis: int) -> Array:
    return np.take_along_axis(x, checked(indices, x.shape[axis], axis), axis)


def _take_element(index: Index, x: Source, indices: Source, axis: int) -> Scalar:
    place = counted(indices(*index), indices.dtype, x.shape[axis])
    return x(*index[:axis], place, *index[axis + 1 :])


def _take_along_vjp(g: Tensor, y: Tensor, x: Tensor, indices: Tensor, axis: int) -> Any:
    assert x.shape is not None
    zeros = full_of(0.0, x.shape, g.dtype)
    return make(ADD_ALONG_AXIS, (zeros, g, indices), {"axis": axis}), None


def _drawn(rng: Any, shape: tuple[int, ...]) -> Any:
    return rng.integers(-2, 2, shape)


CASES = (
    ((3,), (4,), 0), ((2, 3), (2, 2), 1), ((3, 2), (4, 2), 0), ((2, 3), (2, 0), 1),
    ((0, 3), (0, 1), 1),
)  # fmt: skip


def _broadcast_but(check: Check, x: Tensor, indices: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Both with the sizes of their other axes broadcast; as they are where sizes leave it open."""
    assert x.shape is not None and indices.shape is not None
    if len(x.shape) != len(indices.shape):
        check.fail("x and the indices must have the same rank")
    shapes = [(*s[:axis], 1, *s[axis + 1 :]) for s in (x.shape, indices.shape)]
    target = check.broadcast(shapes, RULE.format(axis))
    if not check.settled:
        return x, indices
    sizes = [(*target[:axis], t.shape[axis], *target[axis + 1 :]) for t in (x, indices)]  # type: ignore[index]  # known
    return broadcast_to(x, sizes[0]), broadcast_to(indices, sizes[1])


def _take_along_build(
    x: Tensor, indices: Tensor, axis: int | None, name: str | None = None
) -> Tensor:
    if axis is None:
        x, indices, axis = ravel(x), ravel(indices), 0
    if x.shape is not None and indices.shape is not None:
        check = Check(TAKE_ALONG_AXIS, (x, indices), {})
        axis = check.axis(axis, len(x.shape))
        x, indices = _broadcast_but(check, x, indices, axis)
    return make(TAKE_ALONG_AXIS, (x, indices), {"axis": axis}, name)


TAKE_ALONG_AXIS = Op(
    "take_along_axis", "opaque", ("x", "indices"),
    dtype=_dtype,
    shape=_take_shape,
    oracle=_take_oracle,
    element=_take_element,
    build=_take_along_build,
    vjp=_take_along_vjp,
    domain=Domain(
        tuple(
            Case((Draw(x), Draw(i, kind="int", make=_drawn)), {"axis": axis})
            for x, i, axis in CASES
        ),
        "biuf",
    ),
)  # fmt: skip


def _add_shape(
    check: Check, x: TensorType, updates: TensorType, indices: TensorType, axis: int
) -> Shape:
    _same_but(check, x, indices, axis)
    assert x.shape is not None and updates.shape is not None and indices.shape is not None
    if len(updates.shape) != len(indices.shape):
        check.fail("the values must have the shape of the indices")
    for a, b in zip(updates.shape, indices.shape, strict=True):
        check.equal(a, b, "the values must have the shape of the indices")
    return x.shape


def _add_oracle(x: Array, updates: Array, indices: Array, axis: int) -> Array:
    places = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    places[axis] = checked(indices, x.shape[axis], axis)
    written = np.array(x)
    write(written, tuple(places), updates, "add")
    return written


def _add_vjp(g: Tensor, y: Tensor, x: Tensor, updates: Tensor, indices: Tensor, axis: int) -> Any:
    return g, make(TAKE_ALONG_AXIS, (g, indices), {"axis": axis}), None


ADD_ALONG_AXIS = Op(
    "add_along_axis", "opaque", ("x", "updates", "indices"),
    dtype=_dtype,
    shape=_add_shape,
    oracle=_add_oracle,
    vjp=_add_vjp,
    loop=add_along_axis_loop,
    domain=Domain(
        tuple(
            Case(
                (Draw(x), Draw(i), Draw(i, kind="int", make=_drawn)),
                {"axis": axis},
            )
            for x, i, axis in CASES
        ),
        "iuf",
    ),
)  # fmt: skip


@trimmed
def take_along_axis(
    x: Any, indices: Any, axis: int | None = -1, *, name: str | None = None
) -> Tensor:
    """For each element of `indices`, the element of `x` there along `axis`; None flattens both.

    Shapes: equal ranks, and equal (or broadcast) sizes but along `axis`; the result has the shape
    of the indices. `take_along_axis(x, argsort(x), -1)` is `sort(x)`.

    >>> take_along_axis([[10, 20], [30, 40]], [[1], [0]], 1).eval()
    array([[20],
           [30]])
    """
    return _take_along_build(as_tensor(x), as_indices(indices), axis, name)
