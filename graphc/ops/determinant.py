"""det and slogdet, with derivatives of the determinant that are right for singular matrices too.

The gradient of det is the cofactor matrix, an op of its own, made of singular values; so is its
derivative. Only the third derivative of det takes an inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.build import make, make_all
from graphc.dtypes import Array
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import same_dtype
from graphc.ops.contraction import swap
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.linalg import (
    INV,
    inexact,
    inv,
    matrices,
    one_matrix,
    over_matrix,
    precise,
    square_shape,
)

# ---------------------------------------------------------------------------- det


def _singular_basis(a: Array) -> tuple[Array, Array, Array, Array]:
    """U, s, Vh, and the determinant of U times that of Vh: 1 or -1."""
    u, s, vh = np.linalg.svd(a)
    return u, s, vh, np.rint(np.linalg.det(u) * np.linalg.det(vh)).astype(a.dtype)


def _exclusive_products(s: Array) -> Array:
    """The product of all other elements of each row; divides by nothing."""
    before, after = np.ones_like(s), np.ones_like(s)
    before[..., 1:] = np.cumprod(s[..., :-1], axis=-1)
    after[..., :-1] = np.cumprod(s[..., :0:-1], axis=-1)[..., ::-1]
    return before * after


def _finite_only(oracle: Callable[..., Array]) -> Callable[..., Array]:
    """NaN for a matrix that holds an infinity or a NaN, on which LAPACK's iteration would fail."""

    def run(a: Array, *others: Array) -> Array:
        finite = np.isfinite(a).all(axis=(-2, -1), keepdims=True)
        safe = np.where(finite, a, np.eye(a.shape[-1], dtype=a.dtype))
        return np.where(finite, oracle(safe, *others), a.dtype.type(np.nan))

    return run


@precise
@_finite_only
def _cofactor_oracle(a: Array) -> Array:
    u, s, vh, sign = _singular_basis(a)
    scaled = u * _exclusive_products(s)[..., None, :]
    return np.asarray(sign[..., None, None] * (scaled @ vh))


@precise
@_finite_only
def _cofactor_derivative_oracle(a: Array, h: Array) -> Array:
    """In the singular basis: d cof(S)_ii = sum_j F_jj p_ij and d cof(S)_ij = -F_ji p_ij, where
    p_ij is the product of the singular values other than i and j.
    """
    u, s, vh, sign = _singular_basis(a)
    eye = np.eye(s.shape[-1], dtype=bool)
    pairs = _exclusive_products(np.where(eye, 1, s[..., None, :]))
    pairs = np.where(eye, 0, pairs).astype(a.dtype)
    basis = np.swapaxes(u, -1, -2) @ h @ np.swapaxes(vh, -1, -2)
    diagonal = np.einsum("...ij,...jj->...i", pairs, basis)
    core = np.where(eye, diagonal[..., None, :], -np.swapaxes(basis, -1, -2) * pairs)
    return np.asarray(sign[..., None, None] * (u @ core @ vh))


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return over_matrix((a * b).sum((-2, -1)))


def _third_derivative(a: Tensor, g: Tensor, h: Tensor) -> Tensor:
    """The gradient of <g, D(a)[h]>, D the second derivative of det: signed sums over the
    permutations of three, in terms of B = inv(a).T.
    """
    b = swap(inv(a))
    bg, bh = b @ swap(g), b @ swap(h)
    single = _inner(h, b) * _inner(g, b) * b - _inner(h, b) * (bg @ b) - _inner(g, b) * (bh @ b)
    pairs = bh @ (bg @ b) + bg @ (bh @ b) - _inner(h, bg @ b) * b
    return over_matrix(det(a)) * (single + pairs)


def _cofactor_derivative_vjp(g: Tensor, y: Tensor, a: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    return _third_derivative(a, g, h), make(COFACTOR_DERIVATIVE, (a, g))


COFACTOR_DERIVATIVE: Op = Op(
    "cofactor_derivative", "host", ("a", "h"), same_dtype, square_shape,
    oracle=_cofactor_derivative_oracle,
    vjp=_cofactor_derivative_vjp,
    domain=Domain(tuple(Case((draw, Draw(draw.shape))) for draw in matrices()), "f"),
)  # fmt: skip
COFACTOR: Op = Op(
    "cofactor", "host", ("a",), same_dtype, square_shape,
    oracle=_cofactor_oracle,
    vjp=lambda g, y, a: make(COFACTOR_DERIVATIVE, (a, g)),
    domain=one_matrix(*matrices()),
)  # fmt: skip
DET: Op = Op(
    "det", "host", ("a",), same_dtype,
    shape=lambda check, a: square_shape(check, a)[:-2],
    oracle=precise(np.linalg.det),
    vjp=lambda g, y, a: over_matrix(g) * make(COFACTOR, (a,)),
    domain=one_matrix(*matrices()),
)  # fmt: skip


@trimmed
def det(a: Any, *, name: str | None = None) -> Tensor:
    """The determinant of square matrices `[..., n, n]`: shape `[...]`.

    The gradient is the cofactor matrix, computed from singular values, hence right for singular
    matrices too, and so is the second derivative; a third one takes an invertible matrix.

    >>> det([[2.0, 0.0], [0.0, 3.0]]).eval()
    array(6., dtype=float32)
    """
    return make(DET, (inexact(a),), {}, name)


# ---------------------------------------------------------------------------- slogdet

SLOGDET: Op = Op(
    "slogdet", "host", ("a",), same_dtype,
    shape=lambda check, a: (square_shape(check, a)[:-2],) * 2,
    oracle=precise(lambda a: tuple(np.linalg.slogdet(a))),
    vjp=lambda g, y, a: over_matrix(g[1]) * swap(make(INV, (a,))),
    outputs=2,
    domain=one_matrix(*matrices()),
)  # fmt: skip


@trimmed
def slogdet(a: Any, *, name: str | None = None) -> tuple[Tensor, Tensor]:
    """The sign of the determinant of `[..., n, n]`, and the logarithm of its absolute value.

    Two tensors of shape `[...]`; of a singular matrix 0 and minus infinity. The gradient takes an
    invertible matrix.

    >>> slogdet([[1.0, 0.0], [0.0, -1.0]])[0].eval()
    array(-1., dtype=float32)
    """
    sign, logarithm = make_all(SLOGDET, (inexact(a),), {}, name)
    return sign, logarithm
