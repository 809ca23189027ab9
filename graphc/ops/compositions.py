"""Short compositions that NumPy has a name for: meshgrid, allclose, diff, put_along_axis.

They stand above all other ops, so they may use any of them, and no op uses them.
"""

from __future__ import annotations

from typing import Any

from graphc.build import describe
from graphc.errors import DTypeError, ShapeError, trimmed
from graphc.graph import Tensor
from graphc.ops.broadcast import broadcast_to, same_dtype
from graphc.ops.compare import isclose, not_equal
from graphc.ops.composition import composition
from graphc.ops.control import named
from graphc.ops.creation import arange
from graphc.ops.gather import as_indices
from graphc.ops.operators import METHODS
from graphc.ops.reduce import all as all_of
from graphc.ops.shape import check_of, ravel
from graphc.ops.source import as_tensor

_at: Any = METHODS["at"].fget


@trimmed
def allclose(
    a: Any,
    b: Any,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
    *,
    name: str | None = None,
) -> Tensor:
    """Whether `|a - b| <= atol + rtol * |b|` holds for all elements: a boolean scalar.

    >>> allclose([1.0, 2.0], [1.000001, 2.0]).eval()
    array(True)
    """
    return all_of(isclose(a, b, rtol, atol, equal_nan), name=name)


@trimmed
def meshgrid(*vectors: Any, indexing: str = "xy", name: str | None = None) -> list[Tensor]:
    """One grid for each vector, in which it runs along its own axis and repeats along the others.

    `indexing` "xy" (NumPy's default) lets the first vector run along axis 1 and the second along
    axis 0; "ij" gives each vector the axis of its place.

    >>> [grid.eval().tolist() for grid in meshgrid([1, 2, 3], [4, 5])]
    [[[1, 2, 3], [1, 2, 3]], [[4, 4, 4], [5, 5, 5]]]
    """
    if indexing not in ("xy", "ij"):
        raise ShapeError(f'meshgrid: indexing must be "xy" or "ij", got {indexing!r}')
    tensors = [as_tensor(vector) for vector in vectors]
    for tensor in tensors:
        if tensor.ndim is not None and tensor.ndim > 1:
            raise ShapeError(
                f"meshgrid: takes vectors, got {tensor.type}\n  it is {describe(tensor)}"
            )
    places = list(range(len(tensors)))
    if indexing == "xy" and len(places) > 1:
        places[:2] = 1, 0
    rows = [ravel(tensor) for tensor in tensors]
    sizes: list[Any] = [1] * len(rows)
    for row, place in zip(rows, places, strict=True):
        assert row.shape is not None
        sizes[place] = row.shape[0]
    grids = []
    for row, place in zip(rows, places, strict=True):
        line: list[Any] = [1] * len(rows)
        line[place] = sizes[place]
        grids.append(broadcast_to(row.reshape(line), sizes, name=name))
    return grids


@composition("x", dtype=same_dtype)
def diff(x: Any, n: int = 1, axis: int = -1, *, name: str | None = None) -> Tensor:
    """Differences of neighbours along `axis`, `n` times over; of booleans, where they differ.

    >>> diff([1, 4, 9, 16]).eval(), diff([1, 4, 9, 16], n=2).eval()
    (array([3, 5, 7]), array([2, 2]))
    """
    check = check_of(diff, x)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        check.fail(f"n must be an int from 0 on, got {n!r}", DTypeError)
    axis = check.axis(axis, len(x.shape))
    before = (slice(None),) * axis
    for _ in range(n):
        later, earlier = x[(*before, slice(1, None))], x[(*before, slice(None, -1))]
        x = not_equal(later, earlier) if x.dtype.kind == "b" else later - earlier
    return named(x, name)


@composition("x", "indices", "values", dtype=same_dtype)
def _put_along_axis(
    x: Any, indices: Any, values: Any, axis: int, *, name: str | None = None
) -> Tensor:
    check = check_of(_put_along_axis, x, indices, values)
    if len(x.shape) != len(indices.shape):
        check.fail("x and the indices must have the same rank")
    axis = check.axis(axis, len(x.shape))
    places: list[Any] = []
    for i, size in enumerate(x.shape):
        line: list[Any] = [1] * len(x.shape)
        line[i] = size
        places.append(indices if i == axis else arange(size).reshape(line))
    written: Tensor = _at(x)[tuple(places)].set(values)
    return named(written, name)


@trimmed
def put_along_axis(
    x: Any, indices: Any, values: Any, axis: int = -1, *, name: str | None = None
) -> Tensor:
    """`x` with `values` in the places that `take_along_axis` reads; NumPy writes into `x` itself.

    Shapes: `indices` has the rank of `x`, and its sizes but along `axis`; `values` broadcasts to
    it. The last of repeated indices wins.

    >>> put_along_axis([[1, 2], [3, 4]], [[1], [0]], 9, 1).eval()
    array([[1, 9],
           [9, 4]])
    """
    tensor = as_tensor(x)
    return _put_along_axis(
        tensor, as_indices(indices), as_tensor(values, like=tensor.dtype), axis, name=name
    )
