"""Determinants, inverses and linear systems: calls of LAPACK through NumPy, family "host".

Matrices are the last two axes; axes before them are batches. Floats only: public builders take
integers as float64, and float16 is computed in float32. A singular matrix is a NumericsError in the
run that meets it. Gradient formulas without another source: M. Giles, "Collected matrix derivative
results for forward and reverse mode algorithmic differentiation", 2008.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Shape
from graphc.dtypes import Array, float64
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import broadcast_to, cast, same_dtype
from graphc.ops.contraction import promoted_tensors, swap
from graphc.ops.creation import tril, triu
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.source import as_tensor, as_tensors
from graphc.types import TensorType

# ---------------------------------------------------------------------------- what all share


def inexact(value: Any) -> Tensor:
    """A floating tensor: integers and booleans as float64, as NumPy's linalg has it."""
    tensor = as_tensor(value)
    return tensor if tensor.dtype.is_float else cast(tensor, float64)


def precise(oracle: Callable[..., Any]) -> Callable[..., Any]:
    """An oracle that computes float16 in float32."""

    @functools.wraps(oracle)
    def run(*arrays: Array, **attrs: Any) -> Any:
        if arrays[0].dtype != np.float16:
            return oracle(*arrays, **attrs)
        result = oracle(*(x.astype(np.float32) for x in arrays), **attrs)
        if isinstance(result, tuple):
            return tuple(np.asarray(part).astype(np.float16) for part in result)
        return np.asarray(result).astype(np.float16)

    return run


def matrix_shape(check: Check, a: TensorType) -> Shape:
    """The shape of one or more matrices."""
    assert a.shape is not None
    if len(a.shape) < 2:
        check.fail("a must have at least two axes")
    return a.shape


def square_shape(check: Check, a: TensorType, *_: TensorType, **__: Any) -> Shape:
    """The shape of one or more square matrices."""
    shape = matrix_shape(check, a)
    check.equal(shape[-2], shape[-1], "a must be square")
    return shape


def well_conditioned(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Matrices with singular values between about 1 and 3."""
    u, _, vh = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    values = 1.0 + 2.0 * (np.arange(u.shape[-1]) + rng.uniform(0.2, 0.8)) / max(u.shape[-1], 1)
    return np.asarray((u * values) @ vh)


def well_triangular(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Full matrices whose triangles are well conditioned."""
    return rng.uniform(-0.4, 0.4, shape) + 2.0 * np.eye(shape[-1])


SQUARE = ((1, 1), (3, 3), (2, 2, 2), (0, 2, 2), (1, 4, 4), (0, 0))


def matrices(shapes: Any = SQUARE, make: Any = well_conditioned) -> tuple[Draw, ...]:
    """One draw a shape."""
    return tuple(Draw(shape, make=make) for shape in shapes)


def one_matrix(*draws: Draw) -> Domain:
    """A case for each draw, without attributes."""
    return Domain(tuple(Case((draw,)) for draw in draws), "f")


def over_matrix(t: Tensor) -> Tensor:
    """One number a matrix, with two axes of size 1 to broadcast over it."""
    assert t.shape is not None
    return t.reshape((*t.shape, 1, 1))


# ---------------------------------------------------------------------------- inv


def _inv_vjp(g: Tensor, y: Tensor, a: Tensor) -> Tensor:
    transposed = swap(y)
    return -(transposed @ g @ transposed)


INV: Op = Op(
    "inv", "host", ("a",), same_dtype, square_shape,
    oracle=precise(np.linalg.inv),
    vjp=_inv_vjp,
    domain=one_matrix(*matrices()),
)  # fmt: skip


@trimmed
def inv(a: Any, *, name: str | None = None) -> Tensor:
    """The inverse of square matrices `[..., n, n]`; of a singular one, a NumericsError.

    >>> inv([[2.0, 0.0], [0.0, 4.0]]).eval()
    array([[0.5 , 0.  ],
           [0.  , 0.25]], dtype=float32)
    """
    return make(INV, (inexact(a),), {}, name)


# ---------------------------------------------------------------------------- solve


def _solve_shape(check: Check, a: TensorType, b: TensorType, **_: Any) -> Shape:
    """By the time a node is canonical, b is a matrix."""
    shape = square_shape(check, a)
    assert b.shape is not None
    if len(b.shape) < 2:
        check.fail("b must be a vector or a matrix")
    check.equal(shape[-1], b.shape[-2], "a and b must have equally many rows")
    batch = check.broadcast((shape[:-2], b.shape[:-2]), "batch dimensions must broadcast")
    return (*batch, *b.shape[-2:])


def _solve_build(op: Op, a: Tensor, b: Tensor, name: str | None, **attrs: Any) -> Tensor:
    if a.shape is None or b.shape is None:
        return make(op, (a, b), attrs, name)
    check = Check(op, (a, b), attrs)
    square_shape(check, a.type)
    if not b.shape:
        check.fail("b must be a vector or a matrix")
    vector = len(b.shape) == 1
    right = b.reshape((*b.shape, 1)) if vector else b
    assert right.shape is not None
    batch = check.broadcast((a.shape[:-2], right.shape[:-2]), "batch dimensions must broadcast")
    if check.settled:
        a = broadcast_to(a, (*batch, *a.shape[-2:]))
        right = broadcast_to(right, (*batch, *right.shape[-2:]))
    result = make(op, (a, right), attrs, None if vector else name)
    return result.reshape((*batch, *b.shape)) if vector else result


def _solve_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    of_b = make(SOLVE, (swap(a), g))
    return -(of_b @ swap(y)), of_b


_SYSTEMS = (
    ((3, 3), (3,)), ((3, 3), (3, 2)), ((1, 1), (1, 1)), ((2, 2, 2), (2, 3)), ((2, 2), (3, 2, 1)),
    ((2, 3, 3), (3,)), ((0, 2, 2), (2, 2)), ((2, 2), (2, 0)),
)  # fmt: skip
SOLVE: Op = Op(
    "solve", "host", ("a", "b"), same_dtype, _solve_shape,
    oracle=precise(np.linalg.solve),
    build=lambda a, b, name=None: _solve_build(SOLVE, a, b, name),
    vjp=_solve_vjp,
    domain=Domain(
        tuple(Case((Draw(a, make=well_conditioned), Draw(b))) for a, b in _SYSTEMS), "f"
    ),
)  # fmt: skip


@precise
def _triangular_oracle(a: Array, b: Array, lower: bool) -> Array:
    triangle = np.tril(a) if lower else np.triu(a)
    if (np.diagonal(a, axis1=-2, axis2=-1) == 0).any():
        raise np.linalg.LinAlgError("Singular matrix: a zero on the diagonal")
    return np.asarray(np.linalg.solve(triangle, b))


def solve_lower(a: Tensor, b: Tensor, lower: bool = True) -> Tensor:
    """The solution of a triangular system of matrices that need no conversion."""
    return make(SOLVE_TRIANGULAR, (a, b), {"lower": lower})


def _triangular_vjp(
    g: Tensor, y: Tensor, a: Tensor, b: Tensor, lower: bool
) -> tuple[Tensor, Tensor]:
    of_b = solve_lower(swap(a), g, not lower)
    of_a = -(of_b @ swap(y))
    return (tril if lower else triu)(of_a), of_b


SOLVE_TRIANGULAR: Op = Op(
    "solve_triangular", "host", ("a", "b"), same_dtype, _solve_shape,
    oracle=_triangular_oracle,
    build=lambda a, b, lower=False, name=None: (
        _solve_build(SOLVE_TRIANGULAR, a, b, name, lower=bool(lower))
    ),
    vjp=_triangular_vjp,
    domain=Domain(
        tuple(
            Case((Draw(a, make=well_triangular), Draw(b)), {"lower": lower})
            for a, b in _SYSTEMS
            for lower in (False, True)
        ),
        "f",
    ),
)  # fmt: skip


def _system(a: Any, b: Any) -> list[Tensor]:
    return promoted_tensors([inexact(t) for t in as_tensors((a, b))])


@trimmed
def solve(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """x with `a @ x = b`, for square `a: [..., n, n]`; of a singular one, a NumericsError.

    `b` is one vector `[n]`, or matrices `[..., n, k]`; batch axes broadcast. Shape: as `b`, with
    the batch axes of both.

    >>> solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0]).eval()
    array([1. , 0.5], dtype=float32)
    """
    left, right = _system(a, b)
    return _solve_build(SOLVE, left, right, name)


@trimmed
def solve_triangular(a: Any, b: Any, lower: bool = False, *, name: str | None = None) -> Tensor:
    """x with `triu(a) @ x = b`, or with `tril(a)` if `lower`: the other triangle is not read.

    Shapes as for `solve`. A zero on the diagonal is a NumericsError. SciPy's, by name.

    >>> solve_triangular([[2.0, 0.0], [9.0, 4.0]], [2.0, 2.0]).eval()
    array([1. , 0.5], dtype=float32)
    """
    left, right = _system(a, b)
    return _solve_build(SOLVE_TRIANGULAR, left, right, name, lower=bool(lower))


# ---------------------------------------------------------------------------- pinv


def _pinv_vjp(g: Tensor, y: Tensor, a: Tensor, rcond: float) -> Tensor:
    """G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least
    squares problems whose variables separate", SIAM J. Numer. Anal. 10 (1973), transposed.
    """
    p, pt, gt = y, swap(y), swap(g)
    right = gt @ p @ pt
    left = pt @ p @ gt
    return right - a @ (p @ right) + left - (left @ p) @ a - pt @ g @ pt


PINV: Op = Op(
    "pinv", "host", ("a",), same_dtype,
    shape=lambda check, a, rcond: (*matrix_shape(check, a)[:-2], *matrix_shape(check, a)[:-3:-1]),
    oracle=precise(lambda a, rcond: np.linalg.pinv(a, rcond)),
    build=lambda a, rcond=1e-15, name=None: make(PINV, (a,), {"rcond": float(rcond)}, name),
    vjp=_pinv_vjp,
    domain=one_matrix(*matrices(((3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 1)))),
)  # fmt: skip


@trimmed
def pinv(a: Any, rcond: float = 1e-15, *, name: str | None = None) -> Tensor:
    """Moore and Penrose's inverse of `[..., m, n]`: shape `[..., n, m]`.

    Singular values below `rcond` times the largest count as zero. `pinv(a) @ b` is the solution of
    least squares, and of least norm. The gradient holds where the rank does not change.

    >>> pinv([[2.0], [0.0]]).eval()
    array([[0.5, 0. ]], dtype=float32)
    """
    return make(PINV, (inexact(a),), {"rcond": float(rcond)}, name)
