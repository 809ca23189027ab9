"""sort, argsort, top_k and searchsorted. NumPy's order: NaN is greater than every number.

Gradients go where the elements came from: `sort` takes the inverse permutation of its cotangent,
`top_k` adds it back at the indices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check, make, make_all
from graphc.dims import Dimension, Shape, derived
from graphc.dtypes import Array, int64
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.along_axis import ADD_ALONG_AXIS, TAKE_ALONG_AXIS
from graphc.ops.arrange import flip
from graphc.ops.axes import index_dtype
from graphc.ops.broadcast import same_dtype
from graphc.ops.composition import composition
from graphc.ops.contraction import promoted_tensors
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.follow import as_dimension
from graphc.ops.loops import searchsorted_loop
from graphc.ops.source import as_tensor, as_tensors, full_of
from graphc.types import TensorType

# ---------------------------------------------------------------------------- sort and argsort


def _axis_shape(check: Check, x: TensorType, axis: Any) -> Any:
    assert x.shape is not None
    check.axis(axis, len(x.shape))
    return x.shape


def _build(op: Op, x: Tensor, axis: Any, name: str | None) -> Tensor:
    """The node along one axis counted from the front; None sorts the flattened operand."""
    if x.shape is not None:
        if axis is None:
            return _build(op, x.reshape((-1,)), 0, name)
        axis = Check(op, (x,), {}).axis(axis, len(x.shape))
    return make(op, (x,), {"axis": axis}, name)


def _sort_vjp(g: Tensor, y: Tensor, x: Tensor, axis: int) -> Tensor:
    order = _build(ARGSORT, x, axis, None)
    inverse = _build(ARGSORT, order, axis, None)
    return make(TAKE_ALONG_AXIS, (g, inverse), {"axis": axis})


_DOMAIN = Domain(
    tuple(
        Case((Draw(shape, distinct=True),), {"axis": axis})
        for shape, axis in (
            ((1,), 0), ((5,), -1), ((0,), 0), ((2, 3), 0), ((2, 3), -1), ((2, 0, 3), 1),
            ((3, 1, 2), 0),
        )
    ),
    "biuf",
)  # fmt: skip
SORT: Op = Op(
    "sort", "opaque", ("x",), same_dtype, _axis_shape,
    oracle=lambda x, axis: np.sort(x, axis=axis),
    build=lambda x, axis=-1, name=None: _build(SORT, x, axis, name),
    vjp=_sort_vjp,
    domain=_DOMAIN,
)  # fmt: skip
ARGSORT: Op = Op(
    "argsort", "opaque", ("x",), index_dtype, _axis_shape,
    oracle=lambda x, axis: np.argsort(x, axis=axis, kind="stable").astype(np.int64),
    build=lambda x, axis=-1, name=None: _build(ARGSORT, x, axis, name),
    domain=Domain(_DOMAIN.cases, "iuf"),
    cuts="an index has no gradient",
)  # fmt: skip


@trimmed
def sort(
    x: Any, axis: int | None = -1, *, descending: bool = False, name: str | None = None
) -> Tensor:
    """The elements of `x` in ascending order along `axis`, NaN last; `descending`: the reverse.

    Shape: that of `x`; axis None sorts `x` flattened. The gradient goes where each element was.

    >>> sort([3, 1, 2]).eval()
    array([1, 2, 3])
    """
    if not descending:
        return _build(SORT, as_tensor(x), axis, name)
    ordered = _build(SORT, as_tensor(x), axis, None)
    return flip(ordered, 0 if axis is None else axis, name=name)


@composition("x", dtype=index_dtype)
def _descending_argsort(x: Any, axis: int | None, *, name: str | None = None) -> Tensor:
    """Ascending over the reversed operand, then reversed, so that ties keep their order."""
    if axis is None:
        x, axis = x.reshape((-1,)), 0
    axis = Check(ARGSORT, (x,), {}).axis(axis, len(x.shape))
    last = as_tensor(x.shape[axis] - 1, int64)
    return last - flip(_build(ARGSORT, flip(x, axis), axis, None), axis)


@trimmed
def argsort(
    x: Any, axis: int | None = -1, *, descending: bool = False, name: str | None = None
) -> Tensor:
    """The indices that sort `x` along `axis`, as int64; equal elements keep their order.

    Shape: that of `x`; axis None sorts `x` flattened. NaN counts as the greatest number: last, or
    first if `descending`.

    >>> argsort([30, 10, 20]).eval()
    array([1, 2, 0])
    """
    if descending:
        return _descending_argsort(as_tensor(x), axis, name=name)
    return _build(ARGSORT, as_tensor(x), axis, name)


# ---------------------------------------------------------------------------- top_k


def _top_k_shape(check: Check, x: TensorType, k: Dimension) -> tuple[Shape, Shape]:
    assert x.shape is not None
    if not x.shape:
        check.fail("x must have at least one axis")
    last = x.shape[-1]
    if (isinstance(k, int) and k < 0) or check.ask(derived("min", k, last), k) is False:
        check.fail(f"k must be between 0 and the last size, {last}, k={k}")
    return ((*x.shape[:-1], k),) * 2


def _top_k_oracle(x: Array, k: int) -> tuple[Array, Array]:
    """The last k of a stable ascending sort of the reversed rows, reversed."""
    size = x.shape[-1]
    if not 0 <= k <= size:
        raise ValueError(f"k must be between 0 and the last size, {size}, k={k}")
    order = np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    indices = (size - 1 - order[..., :k]).astype(np.int64)
    return np.take_along_axis(x, indices, -1), indices


def _top_k_vjp(g: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], x: Tensor, k: Any) -> Tensor:
    assert x.shape is not None
    zeros = full_of(0.0, x.shape, x.dtype)
    return make(ADD_ALONG_AXIS, (zeros, g[0], y[1]), {"axis": len(x.shape) - 1})


TOP_K: Op = Op(
    "top_k", "opaque", ("x",),
    dtype=lambda check, x, k: (x.dtype, int64),
    shape=_top_k_shape,
    oracle=_top_k_oracle,
    vjp=_top_k_vjp,
    outputs=2,
    domain=Domain(
        tuple(
            Case((Draw(shape, distinct=True),), {"k": k})
            for shape, k in (((5,), 2), ((5,), 5), ((5,), 0), ((1,), 1), ((2, 3), 1),
                             ((3, 1, 4), 3), ((0, 3), 2), ((2, 0), 0))
        ),
        "iuf",
    ),
)  # fmt: skip


@trimmed
def top_k(x: Any, k: Any, *, name: str | None = None) -> tuple[Tensor, Tensor]:
    """The k largest elements along the last axis, descending, and their indices (int64).

    Two tensors of shape `[..., k]`. Of equal elements the first comes first; NaN counts as the
    greatest number. A k beyond the size of the axis is a ShapeError.

    >>> top_k([1, 5, 3], 2)[1].eval()
    array([1, 2])
    """
    tensor = as_tensor(x)
    values, indices = make_all(TOP_K, (tensor,), {"k": as_dimension(k, "k")}, name)
    return values, indices


# ---------------------------------------------------------------------------- searchsorted


def _search_shape(check: Check, ordered: TensorType, values: TensorType, side: str) -> Any:
    assert ordered.shape is not None
    if len(ordered.shape) != 1:
        check.fail("ordered must have one axis")
    if side not in ("left", "right"):
        check.fail(f'side must be "left" or "right", side={side!r}')
    return values.shape


def _sorted_values(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.sort(np.round(rng.uniform(0, 9, shape)))


SEARCHSORTED: Op = Op(
    "searchsorted", "opaque", ("ordered", "values"), index_dtype, _search_shape,
    oracle=lambda ordered, values, side: np.asarray(
        np.searchsorted(ordered, values, side=side), np.int64
    ),
    domain=Domain(
        tuple(
            Case((Draw((size,), make=_sorted_values), Draw(shape, 0, 9)), {"side": side})
            for size, shape in ((5, (4,)), (5, ()), (0, (2,)), (3, (2, 3)), (1, (0,)))
            for side in ("left", "right")
        ),
        "iuf",
    ),
    cuts="an index has no gradient",
    loop=searchsorted_loop,
)  # fmt: skip


@trimmed
def searchsorted(
    ordered: Any, values: Any, side: str = "left", *, name: str | None = None
) -> Tensor:
    """Where each value would go into the ascending vector `ordered`, as int64.

    `side` "left": before elements equal to it; "right": after them. Shape: that of `values`.

    >>> searchsorted([10, 20, 30], [20, 25]).eval()
    array([1, 2])
    """
    tensors = promoted_tensors(as_tensors((ordered, values)))
    return make(SEARCHSORTED, tensors, {"side": side}, name)
