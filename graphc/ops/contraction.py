"""matmul: the contraction that everything else is written in."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Shape
from graphc.errors import trimmed
from graphc.graph import Check, Op, Tensor, make
from graphc.ops.broadcast import broadcast_to, cast, same_dtype
from graphc.ops.domain import cases
from graphc.ops.shape import transpose
from graphc.ops.source import as_tensors
from graphc.types import TensorType


def _matmul_shape(check: Check, a: TensorType, b: TensorType) -> Shape:
    """`[..., m, k] @ [..., k, n]`: batch axes are equal by the time a node is canonical."""
    assert a.shape is not None and b.shape is not None
    if len(a.shape) < 2 or len(b.shape) < 2:
        check.fail("operands must have at least one axis")
    check.equal(a.shape[-1], b.shape[-2], "inner dimensions must match")
    batch = check.broadcast((a.shape[:-2], b.shape[:-2]), "batch dimensions must broadcast")
    return (*batch, a.shape[-2], b.shape[-1])


def swap(x: Tensor) -> Tensor:
    """`x` with its last two axes exchanged."""
    assert x.shape is not None
    rank = len(x.shape)
    return transpose(x, (*range(rank - 2), rank - 1, rank - 2))


def _matmul_build(a: Tensor, b: Tensor, name: str | None = None) -> Tensor:
    if a.shape is None or b.shape is None:
        tensor: Tensor = make(MATMUL, (a, b), {}, name)
        return tensor
    check = Check(MATMUL, (a, b), {})
    if not a.shape or not b.shape:
        check.fail("operands must have at least one axis")
    inner = check.equal(a.shape[-1], b.shape[-min(2, len(b.shape))], "inner dimensions must match")
    left = a.reshape((1, inner)) if len(a.shape) == 1 else a
    right = b.reshape((inner, 1)) if len(b.shape) == 1 else b
    batch = check.broadcast((left.shape[:-2], right.shape[:-2]), "batch dimensions must broadcast")
    if check.settled:
        left = broadcast_to(left, (*batch, *left.shape[-2:]))
        right = broadcast_to(right, (*batch, *right.shape[-2:]))
    vectors = len(a.shape) == 1, len(b.shape) == 1
    result: Tensor = make(MATMUL, (left, right), {}, None if any(vectors) else name)
    if not any(vectors):
        return result
    assert result.shape is not None
    rows, columns = (() if gone else (d,) for gone, d in zip(vectors, result.shape[-2:], strict=True))
    return result.reshape((*batch, *rows, *columns))


def _matmul_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return _matmul_build(g, swap(b)), _matmul_build(swap(a), g)


MATMUL = Op(
    "matmul", "contraction", ("a", "b"),
    dtype=same_dtype,
    shape=_matmul_shape,
    oracle=np.matmul,
    build=_matmul_build,
    vjp=_matmul_vjp,
    domain=cases(
        ((2, 3), (3, 4), {}), ((3,), (3,), {}), ((3,), (3, 2), {}), ((2, 3), (3,), {}),
        ((1, 1), (1, 1), {}), ((0, 3), (3, 2), {}), ((2, 0), (0, 3), {}),
        ((5, 2, 3), (3, 4), {}), ((2, 1, 2, 3), (4, 3, 1), {}),
        kinds="iuf",
    ),
)  # fmt: skip


@trimmed
def matmul(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The matrix product, with NumPy's rules: vectors are rows or columns, batch axes broadcast.

    Shapes: `[..., m, k]` and `[..., k, n]` give `[..., m, n]`.

    >>> matmul([[1, 2]], [[3], [4]]).eval()
    array([[11]])
    """
    a, b = as_tensors((a, b))
    if a.dtype is not b.dtype:
        a, b = promoted((a, b))
    return _matmul_build(a, b, name)


def promoted(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """All in the dtype that holds them all."""
    dtype = np.result_type(*(t.dtype.numpy for t in tensors))
    return [cast(t, dtype) for t in tensors]
