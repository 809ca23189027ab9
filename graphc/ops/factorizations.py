"""Cholesky, eigenvectors of symmetric matrices, singular values and QR, each with its gradient.

Signs and order are LAPACK's, as NumPy has them. Repeated eigenvalues or singular values have no
derivative of their vectors; there the quotient 1 / (w_j - w_i) counts as zero, so that functions
that do not depend on the choice of vectors (traces, norms, reconstructions) stay finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check, make, make_all
from graphc.dims import Shape, derived
from graphc.dtypes import Array
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import same_dtype
from graphc.ops.compare import equal
from graphc.ops.contraction import swap
from graphc.ops.creation import tril, triu
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.joining import concatenate
from graphc.ops.linalg import (
    SQUARE,
    inexact,
    matrices,
    matrix_shape,
    one_matrix,
    precise,
    solve_lower,
    square_shape,
)
from graphc.ops.select import where
from graphc.ops.slicing import along
from graphc.types import TensorType

# ---------------------------------------------------------------------------- what they share


def _symmetric(a: Array) -> Array:
    """The mean of `a` and its transpose; `a` itself, to the bit, where that is symmetric."""
    return (a + np.swapaxes(a, -1, -2)) / 2


def _symmetric_part(a: Tensor) -> Tensor:
    return (a + swap(a)) * 0.5


def _halved_lower(x: Tensor) -> Tensor:
    """The lower triangle, its diagonal halved."""
    return (tril(x) + tril(x, -1)) * 0.5


def _rows(t: Tensor) -> Tensor:
    """A vector as one row: to scale columns."""
    assert t.shape is not None
    return t.reshape((*t.shape[:-1], 1, t.shape[-1]))


def _columns(t: Tensor) -> Tensor:
    assert t.shape is not None
    return t.reshape((*t.shape, 1))


def _reciprocal(x: Tensor) -> Tensor:
    """1 / x; 0 where x is 0."""
    zero = equal(x, 0.0)
    return where(zero, 0.0, 1.0 / where(zero, 1.0, x))


def _is_zero(t: Tensor) -> bool:
    """Whether a cotangent is known to be zero, so that its terms need not be built."""
    return t.node.op.name == "full" and t.node.attrs["value"] == 0


def _positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Symmetric matrices with well separated eigenvalues above 1."""
    q = np.linalg.qr(rng.normal(size=shape))[0]
    values = 1.0 + np.arange(shape[-1]) + rng.uniform(0.2, 0.5)
    return np.asarray((q * values) @ np.swapaxes(q, -1, -2))


# ---------------------------------------------------------------------------- cholesky


def _cholesky_vjp(g: Tensor, y: Tensor, a: Tensor) -> Tensor:
    """I. Murray, "Differentiation of the Cholesky decomposition", arXiv:1602.07527, equation 9."""
    upper = swap(y)
    half = solve_lower(upper, _halved_lower(upper @ tril(g)), lower=False)
    return _symmetric_part(solve_lower(upper, swap(half), lower=False))


CHOLESKY = Op(
    "cholesky", "host", ("a",), same_dtype, square_shape,
    oracle=precise(lambda a: np.linalg.cholesky(_symmetric(a))),
    vjp=_cholesky_vjp,
    domain=one_matrix(*matrices(make=_positive)),
)  # fmt: skip


@trimmed
def cholesky(a: Any, *, name: str | None = None) -> Tensor:
    """The lower triangular L with `L @ L.T = a`, of positive definite `a: [..., n, n]`.

    What counts is the symmetric part, `(a + a.T) / 2`, so the gradient is symmetric too. Where it
    is not positive definite: a NumericsError.

    >>> cholesky([[4.0, 0.0], [0.0, 9.0]]).eval()
    array([[2., 0.],
           [0., 3.]], dtype=float32)
    """
    return make(CHOLESKY, (inexact(a),), {}, name)


# ---------------------------------------------------------------------------- eigh


def _eigh_vjp(g: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], a: Tensor) -> Tensor:
    """Giles 2008, section 3.1: F_ij = 1 / (w_j - w_i)."""
    (gw, gv), (w, v) = g, y
    core = v * _rows(gw)
    if not _is_zero(gv):
        core = core + v @ (_reciprocal(_rows(w) - _columns(w)) * (swap(v) @ gv))
    return _symmetric_part(core @ swap(v))


EIGH = Op(
    "eigh", "host", ("a",), same_dtype,
    shape=lambda check, a: (square_shape(check, a)[:-1], a.shape),
    oracle=precise(lambda a: tuple(np.linalg.eigh(_symmetric(a)))),
    vjp=_eigh_vjp,
    outputs=2,
    domain=one_matrix(*matrices(make=_positive)),
)  # fmt: skip


@trimmed
def eigh(a: Any, *, name: str | None = None) -> tuple[Tensor, Tensor]:
    """The eigenvalues, ascending, and the eigenvectors (columns) of symmetric `a: [..., n, n]`.

    Shapes: `[..., n]` and `[..., n, n]`. What counts is the symmetric part, `(a + a.T) / 2`,
    so the gradient is symmetric too. Vectors of equal eigenvalues get no gradient from one another.

    >>> eigh([[2.0, 0.0], [0.0, 1.0]])[0].eval()
    array([1., 2.], dtype=float32)
    """
    values, vectors = make_all(EIGH, (inexact(a),), {}, name)
    return values, vectors


@trimmed
def eigvalsh(a: Any, *, name: str | None = None) -> Tensor:
    """The eigenvalues, ascending, of symmetric `a: [..., n, n]`: shape `[..., n]`.

    >>> eigvalsh([[2.0, 0.0], [0.0, 1.0]]).eval()
    array([1., 2.], dtype=float32)
    """
    return eigh(a, name=name)[0]


# ---------------------------------------------------------------------------- svd


def _svd_shapes(check: Check, a: TensorType) -> tuple[Shape, Shape, Shape]:
    *batch, m, n = matrix_shape(check, a)
    k = derived("min", m, n)
    return (*batch, m, k), (*batch, k), (*batch, k, n)


def _svd_vjp(g: tuple[Tensor, ...], y: tuple[Tensor, ...], a: Tensor) -> Tensor:
    """J. Townsend, "Differentiating the singular value decomposition", 2016: F_ij =
    1 / (s_j^2 - s_i^2), and outside the span of U or V, the projections.
    """
    (gu, gs, gvh), (u, s, vh) = g, y
    assert a.shape is not None and s.shape is not None
    row, column = _rows(s), _columns(s)
    total = u * _rows(gs)
    f = _reciprocal((row - column) * (row + column))
    if not _is_zero(gu):
        turn = swap(u) @ gu
        total = total + u @ (f * (turn - swap(turn)) * row)
    if not _is_zero(gvh):
        turn = vh @ swap(gvh)
        total = total + u @ (column * (f * (turn - swap(turn))))
    total = total @ vh
    if a.shape[-2] != s.shape[-1] and not _is_zero(gu):
        off = gu * _reciprocal(row)
        total = total + (off - u @ (swap(u) @ off)) @ vh
    if a.shape[-1] != s.shape[-1] and not _is_zero(gvh):
        off = _reciprocal(column) * gvh
        total = total + u @ (off - (off @ swap(vh)) @ vh)
    return total


def _separated(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Matrices of full rank with well separated singular values."""
    u, _, vh = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return np.asarray((u * (1.0 + np.arange(u.shape[-1]) + rng.uniform(0.2, 0.5))) @ vh)


SVD = Op(
    "svd", "host", ("a",), same_dtype, _svd_shapes,
    oracle=precise(lambda a: tuple(np.linalg.svd(a, full_matrices=False))),
    vjp=_svd_vjp,
    outputs=3,
    domain=one_matrix(*matrices((*SQUARE, (4, 2), (2, 4), (2, 3, 2), (1, 3), (3, 1)), _separated)),
)  # fmt: skip


@trimmed
def svd(a: Any, *, name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """U, s and Vh with `a = (U * s) @ Vh`, of `a: [..., m, n]`; with k the smaller of m and n:

    shapes `[..., m, k]`, `[..., k]` (descending) and `[..., k, n]`: NumPy's `full_matrices=False`.
    Vectors of equal singular values get no gradient from one another.

    >>> svd([[2.0, 0.0], [0.0, 3.0]])[1].eval()
    array([3., 2.], dtype=float32)
    """
    u, s, vh = make_all(SVD, (inexact(a),), {}, name)
    return u, s, vh


# ---------------------------------------------------------------------------- qr


def _qr_shapes(check: Check, a: TensorType) -> tuple[Shape, Shape]:
    *batch, m, n = matrix_shape(check, a)
    k = derived("min", m, n)
    return (*batch, m, k), (*batch, k, n)


def _tall_cotangent(gq: Tensor, gr: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """Of `a` with at least as many rows as columns: (gQ + Q copyltu(M)) R^-T, where
    M = R gR^T - gQ^T Q and copyltu mirrors the lower triangle.
    """
    m = r @ swap(gr) - swap(gq) @ q
    mirrored = tril(m) + swap(tril(m, -1))
    return swap(solve_lower(r, swap(gq + q @ mirrored), lower=False))


def _qr_vjp(g: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], a: Tensor) -> Tensor:
    """S. F. Walter and L. Lehmann, "Algorithmic differentiation of linear algebra functions", 2018;
    wide matrices as D. A. O. Roberts and L. R. Roberts, arXiv:2009.10071: of the square block X,
    with a = [X | Y] and R = [U | V].
    """
    (gq, gr), (q, r) = g, y
    assert a.shape is not None and q.shape is not None
    gr = triu(gr)
    m, n, k = a.shape[-2], a.shape[-1], q.shape[-1]
    if isinstance(m, int) and isinstance(n, int) and m >= n:
        return _tall_cotangent(gq, gr, q, r)
    axis = len(a.shape) - 1
    gv, beyond = along(gr, axis, k, n - k), along(a, axis, k, n - k)
    of_q, of_r = gq + beyond @ swap(gv), along(gr, axis, 0, k)
    square = _tall_cotangent(of_q, of_r, q, along(r, axis, 0, k))
    return concatenate([square, q @ gv], axis)


QR = Op(
    "qr", "host", ("a",), same_dtype, _qr_shapes,
    oracle=precise(lambda a: tuple(np.linalg.qr(a))),
    vjp=_qr_vjp,
    outputs=2,
    domain=Domain(
        tuple(
            Case((Draw(shape, make=_separated),))
            for shape in (*SQUARE, (4, 2), (2, 4), (2, 3, 2), (1, 3), (3, 1))
        ),
        "f",
    ),
)  # fmt: skip


@trimmed
def qr(a: Any, *, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Q with orthonormal columns and upper triangular R with `a = Q @ R`, of `a: [..., m, n]`.

    With k the smaller of m and n: shapes `[..., m, k]` and `[..., k, n]`. The gradient takes a
    matrix whose first k columns are independent.

    >>> qr([[0.0, 2.0], [1.0, 0.0]])[1].eval()
    array([[-1.,  0.],
           [ 0., -2.]], dtype=float32)
    """
    q, r = make_all(QR, (inexact(a),), {}, name)
    return q, r
