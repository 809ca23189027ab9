"""matmul, and the products that are written in it: dot, inner, outer, vdot, tensordot, kron.

`contract` joins two labelled operands with at most one batched matmul; `einsum.py` stands on it
too. So `matmul` is the only contraction that a device has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

import numpy as np

from graphc.build import Check, make
from graphc.dims import Shape, product
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.kernel import Index, Source, reduce, wide
from graphc.ops.arith import multiply
from graphc.ops.broadcast import broadcast_to, cast, same_dtype
from graphc.ops.composition import composition, promoted_dtype, replaced
from graphc.ops.control import named
from graphc.ops.domain import Domain, cases
from graphc.ops.shape import reshape, transpose
from graphc.ops.source import as_tensors
from graphc.scalar import Scalar
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
        return make(MATMUL, (a, b), {}, name)
    if len(a.shape) >= 2 and len(b.shape) >= 2 and a.shape[:-2] == b.shape[:-2]:
        return make(MATMUL, (a, b), {}, name)
    check = Check(MATMUL, (a, b), {})
    if not a.shape or not b.shape:
        check.fail("operands must have at least one axis")
    inner = check.equal(a.shape[-1], b.shape[-min(2, len(b.shape))], "inner dimensions must match")
    left = a.reshape((1, inner)) if len(a.shape) == 1 else a
    right = b.reshape((inner, 1)) if len(b.shape) == 1 else b
    assert left.shape is not None and right.shape is not None
    batch = check.broadcast((left.shape[:-2], right.shape[:-2]), "batch dimensions must broadcast")
    if check.settled and len(a.shape) > 2 and len(b.shape) == 2:
        return _matmul_of_rows(left, right, name)
    if check.settled:
        left = broadcast_to(left, (*batch, *left.shape[-2:]))
        right = broadcast_to(right, (*batch, *right.shape[-2:]))
    vectors = len(a.shape) == 1, len(b.shape) == 1
    result = make(MATMUL, (left, right), {}, None if any(vectors) else name)
    if not any(vectors):
        return result
    assert result.shape is not None
    kept = (d for gone, d in zip(vectors, result.shape[-2:], strict=True) if not gone)
    return result.reshape((*batch, *kept))


def _matmul_of_rows(left: Tensor, right: Tensor, name: str | None) -> Tensor:
    """A batch of matrices times one: all rows as one matrix, so that gradients are one product."""
    assert left.shape is not None and right.shape is not None
    rows = left.reshape((product(left.shape[:-1]), left.shape[-1]))
    result = make(MATMUL, (rows, right), {}, None)
    return named(result.reshape((*left.shape[:-1], right.shape[-1])), name)


def _matmul_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return _matmul_build(g, swap(b)), _matmul_build(swap(a), g)


def _matmul_element(index: Index, a: Source, b: Source) -> Scalar:
    """The sum over k of `a[..., m, k] * b[..., k, n]`; float16 in float32."""
    *batch, m, n = index

    def term(k: Scalar) -> Scalar:
        left, right = a(*batch, m, k), b(*batch, k, n)
        return wide(left, a.dtype) * wide(right, b.dtype)

    return reduce("sum", (a.shape[-1],), term)


MATMUL = Op(
    "matmul", "contraction", ("a", "b"),
    dtype=same_dtype,
    shape=_matmul_shape,
    oracle=np.matmul,
    element=_matmul_element,
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
        a, b = promoted_tensors((a, b))
    return _matmul_build(a, b, name)


def promoted_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """All in the dtype that holds them all."""
    dtype = np.result_type(*(t.dtype.numpy for t in tensors))
    return [cast(t, dtype) for t in tensors]


# ---------------------------------------------------------------------------- labelled products

Labels: TypeAlias = tuple[Any, ...]


def keep_labels(x: Tensor, labels: Labels, kept: AbstractSet[Any]) -> tuple[Tensor, Labels]:
    """`x` summed over the axes whose label is not kept, in its own dtype."""
    gone = tuple(k for k, label in enumerate(labels) if label not in kept)
    if not gone:
        return x, labels
    return x.sum(gone).astype(x.dtype), tuple(label for label in labels if label in kept)


def contract(
    a: Tensor, a_labels: Labels, b: Tensor, b_labels: Labels, kept: AbstractSet[Any]
) -> tuple[Tensor, Labels]:
    """The product of two operands of one dtype, summed over every label that is not kept.

    Labels are distinct within an operand; axes of one label have equal sizes. The result's axes:
    shared ones that are kept, those of `a`, those of `b`.
    """
    a, a_labels = keep_labels(a, a_labels, kept | set(b_labels))
    b, b_labels = keep_labels(b, b_labels, kept | set(a_labels))
    batch = tuple(label for label in a_labels if label in b_labels and label in kept)
    inner = tuple(label for label in a_labels if label in b_labels and label not in kept)
    left = tuple(label for label in a_labels if label not in b_labels)
    right = tuple(label for label in b_labels if label not in a_labels)
    rows, columns = _sizes(a, a_labels, left), _sizes(b, b_labels, right)
    if not inner:
        spread = _ordered(a, a_labels, (batch, left), (*rows, *(1 for _ in right)))
        other = _ordered(b, b_labels, (batch, right), (*(1 for _ in left), *columns))
        return spread * other, batch + left + right
    if batch and not left and not right:  # a sum along rows: nothing is read twice
        spread = _ordered(a, a_labels, (batch, inner), _sizes(a, a_labels, inner))
        other = _ordered(b, b_labels, (batch, inner), _sizes(b, b_labels, inner))
        return keep_labels(spread * other, batch + inner, kept)
    depth = product(_sizes(a, a_labels, inner))
    matrix = _ordered(a, a_labels, (batch, left, inner), (product(rows), depth))
    other = _ordered(b, b_labels, (batch, inner, right), (depth, product(columns)))
    result = _matmul_build(matrix, other)
    assert result.shape is not None
    return result.reshape((*result.shape[:-2], *rows, *columns)), batch + left + right


def _sizes(x: Tensor, labels: Labels, wanted: Labels) -> Shape:
    assert x.shape is not None
    return tuple(x.shape[labels.index(label)] for label in wanted)


def _ordered(x: Tensor, labels: Labels, groups: tuple[Labels, ...], tail: Shape) -> Tensor:
    """`x` with its axes in the order of the groups, those behind the first reshaped to `tail`."""
    batch, *rest = groups
    order = batch + tuple(label for group in rest for label in group)
    moved = x.transpose([labels.index(label) for label in order])
    return moved.reshape((*_sizes(x, labels, batch), *tail))


# ---------------------------------------------------------------------------- tensordot and its kin


def _paired_axes(check: Check, axes: Any, ranks: tuple[int, int]) -> tuple[Labels, Labels]:
    """The axes of each operand that are summed, pairwise, counted from the front."""
    if isinstance(axes, int):
        if axes < 0 or axes > min(ranks):
            check.fail(f"axes must be between 0 and the operands' ranks, axes={axes}")
        return tuple(range(ranks[0] - axes, ranks[0])), tuple(range(axes))
    listed = tuple(a if isinstance(a, (tuple, list)) else (a,) for a in axes)
    if len(listed) != 2 or len(listed[0]) != len(listed[1]):
        check.fail(f"axes must be an int, or two sequences of equal length, axes={axes}")
    of_a, of_b = (
        tuple(check.axis(axis, rank) for axis in side)
        for side, rank in zip(listed, ranks, strict=True)
    )
    if len(set(of_a)) != len(of_a) or len(set(of_b)) != len(of_b):
        check.fail(f"an axis must not be repeated, axes={axes}")
    return of_a, of_b


def _tensordot_shape(check: Check, a: TensorType, b: TensorType, axes: Any) -> Shape:
    assert a.shape is not None and b.shape is not None
    of_a, of_b = _paired_axes(check, axes, (len(a.shape), len(b.shape)))
    for i, j in zip(of_a, of_b, strict=True):
        check.equal(a.shape[i], b.shape[j], f"summed axes must have equal sizes, axes={axes}")
    left = tuple(d for i, d in enumerate(a.shape) if i not in of_a)
    return left + tuple(d for j, d in enumerate(b.shape) if j not in of_b)


def _tensordot_build(a: Tensor, b: Tensor, axes: Any, name: str | None = None) -> Tensor:
    """The composition where all sizes are settled, else one node that waits for them."""
    check = Check(TENSORDOT, (a, b), {})
    if a.shape is not None and b.shape is not None:
        _tensordot_shape(check, a.type, b.type, axes)
        if check.settled:
            return named(_tensordot_compose(a, b, axes, check), name)
    return make(TENSORDOT, (a, b), {"axes": axes}, name)


def _tensordot_compose(a: Tensor, b: Tensor, axes: Any, check: Check) -> Tensor:
    assert a.shape is not None and b.shape is not None
    of_a, of_b = _paired_axes(check, axes, (len(a.shape), len(b.shape)))
    a_labels = tuple(("a", i) for i in range(len(a.shape)))
    partner = dict(zip(of_b, of_a, strict=True))
    b_labels = tuple(("a", partner[j]) if j in partner else ("b", j) for j in range(len(b.shape)))
    kept = set(a_labels) ^ set(b_labels)
    a, b = promoted_tensors((a, b))
    return contract(a, a_labels, b, b_labels, kept)[0]


TENSORDOT = Op(
    "tensordot", "deferred", ("a", "b"), promoted_dtype, _tensordot_shape, replaced,
    build=_tensordot_build, vjp=replaced, domain=Domain(()),
)  # fmt: skip


@trimmed
def tensordot(a: Any, b: Any, axes: Any = 2, *, name: str | None = None) -> Tensor:
    """The sum of products over pairs of axes.

    `axes` is two equally long sequences (of `a`, of `b`), or an int: the last axes of `a` against
    the first of `b`. Shape: the other axes of `a`, then those of `b`.

    >>> tensordot([[1, 2]], [[3, 4]], axes=[[1], [1]]).eval()
    array([[11]])
    """
    hashable = axes if isinstance(axes, int) else tuple(map(_listed, axes))
    left, right = as_tensors((a, b))
    return _tensordot_build(left, right, hashable, name)


def _listed(axes: Any) -> Any:
    return tuple(axes) if isinstance(axes, (tuple, list)) else axes


@composition("a", "b")
def dot(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """NumPy's dot: the sum over the last axis of `a` and the last but one of `b` (its only one).

    Of two vectors their inner product, of matrices their product; with a scalar, multiplication.

    >>> dot([1, 2], [3, 4]).eval()
    array(11)
    """
    if not a.shape or not b.shape:
        left, right = promoted_tensors((a, b))
        return multiply(left, right, name=name)
    return _tensordot_build(a, b, ((-1,), (-min(2, len(b.shape)),)), name)


@composition("a", "b")
def inner(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The sum of products over the last axes of both; with a scalar, multiplication.

    >>> inner([[1, 2], [3, 4]], [5, 6]).eval()
    array([17, 39])
    """
    if not a.shape or not b.shape:
        left, right = promoted_tensors((a, b))
        return multiply(left, right, name=name)
    return _tensordot_build(a, b, ((-1,), (-1,)), name)


@trimmed
def vdot(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The inner product of both operands flattened: a scalar.

    >>> vdot([[1, 2]], [[3], [4]]).eval()
    array(11)
    """
    left, right = as_tensors((a, b))
    return _tensordot_build(left.reshape((-1,)), right.reshape((-1,)), 1, name)


@trimmed
def outer(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """The products of each element of `a` with each of `b`, both flattened: a matrix.

    >>> outer([1, 2], [3, 4]).eval()
    array([[3, 4],
           [6, 8]])
    """
    left, right = promoted_tensors(as_tensors((a, b)))
    return multiply(left.reshape((-1, 1)), right.reshape((1, -1)), name=name)


@composition("a", "b")
def kron(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """Kronecker's product: each element of `a` times the whole of `b`, as blocks.

    >>> kron([1, 2], [3, 4]).eval()
    array([3, 4, 6, 8])
    """
    a, b = promoted_tensors((a, b))
    rank = max(len(a.shape), len(b.shape))
    first, second = ((1,) * (rank - len(t.shape)) + t.shape for t in (a, b))
    spread = a.reshape(tuple(d for size in first for d in (size, 1)))
    blocks = b.reshape(tuple(d for size in second for d in (1, size)))
    sizes = tuple(m * n for m, n in zip(first, second, strict=True))
    return reshape(spread * blocks, sizes, name=name)
