"""einsum: any sum of products, composed of diagonals, sums, transposes and batched matmuls.

Operands are contracted two at a time, in the order that `np.einsum_path` finds for their sizes
(symbolic ones stand in with a usual size). Each pair is one `matmul`, or a product where no label
is summed, so that matmul is the only contraction that a device has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Dim, Dimension, Shape
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.composition import promoted_dtype, replaced
from graphc.ops.contraction import contract, keep_labels, promoted_tensors
from graphc.ops.control import named
from graphc.ops.creation import diagonal
from graphc.ops.domain import Domain
from graphc.ops.source import as_tensors
from graphc.types import TensorType

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
STAND_IN = 64  # what a symbolic size counts as where an order is chosen

Labels = tuple[str, ...]


def parse(check: Check, subscripts: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """One label for each axis of each operand, and of the output; `...` becomes labels too.

    The axes under an ellipsis are labelled "0", "1", ... from the right, as broadcasting aligns.
    """
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        check.fail(f"subscripts must hold one term for each operand, subscripts={subscripts!r}")
    for term in (*terms, right):
        if any(c not in LETTERS for c in term.replace("...", "", 1)):
            check.fail(f"terms must be letters and at most one '...', subscripts={subscripts!r}")
    counts = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)]
    for k, (term, count) in enumerate(zip(terms, counts, strict=True)):
        if count < 0 or (count > 0 and "..." not in term):
            check.fail(
                f"term {term!r} must label each axis of operand {k}, subscripts={subscripts!r}"
            )
    widest = max((c for t, c in zip(terms, counts, strict=True) if "..." in t), default=0)
    labels = [_labels(t, c) for t, c in zip(terms, counts, strict=True)]
    if not arrow:
        flat = [label for listed in labels for label in listed if label in LETTERS]
        once = sorted(label for label in set(flat) if flat.count(label) == 1)
        return labels, (*_labels("...", widest), *once)
    known = {label for listed in labels for label in listed}
    output = _labels(right, widest if "..." in right else 0)
    if len(set(output)) != len(output) or not set(output) <= known:
        check.fail(f"output labels must be distinct labels of the terms, subscripts={subscripts!r}")
    if widest and "..." not in right:
        check.fail(f"the output must keep the '...', subscripts={subscripts!r}")
    return labels, output


def _labels(term: str, ellipsis: int) -> Labels:
    before, dots, after = term.partition("...")
    if not dots:
        return tuple(before)
    return (*before, *(str(k) for k in reversed(range(ellipsis))), *after)


def _sizes(
    check: Check, shapes: Sequence[Shape], labels: Sequence[Labels], subscripts: str
) -> dict[str, Dimension]:
    """The one size of each label; sizes of 1 stretch."""
    sizes: dict[str, Dimension] = {}
    for shape, listed in zip(shapes, labels, strict=True):
        for size, label in zip(shape, listed, strict=True):
            rule = f"sizes of label {label!r} must match, subscripts={subscripts!r}"
            if label not in LETTERS:
                rule = f"the axes under '...' must broadcast, subscripts={subscripts!r}"
            (sizes[label],) = check.broadcast(((sizes.get(label, 1),), (size,)), rule)
    return sizes


def _shape(check: Check, *types: TensorType, subscripts: str) -> Shape:
    shapes = [t.shape for t in types if t.shape is not None]
    labels, output = parse(check, subscripts, [len(shape) for shape in shapes])
    sizes = _sizes(check, shapes, labels, subscripts)
    return tuple(sizes[label] for label in output)


def _build(*tensors: Tensor, subscripts: str, name: str | None = None) -> Tensor:
    """The composition where all sizes are settled, else one node that waits for them."""
    check = Check(EINSUM, tensors, {})
    shapes = [t.shape for t in tensors]
    known = [shape for shape in shapes if shape is not None]
    if len(known) == len(shapes):
        labels, output = parse(check, subscripts, [len(shape) for shape in known])
        sizes = _sizes(check, known, labels, subscripts)
        if check.settled:
            return named(_compose(check, promoted_tensors(tensors), labels, output, sizes), name)
    return make(EINSUM, tensors, {"subscripts": subscripts}, name)


def _compose(
    check: Check,
    tensors: Sequence[Tensor],
    labels: Sequence[Labels],
    output: Labels,
    sizes: dict[str, Dimension],
) -> Tensor:
    terms = [_canonical(check, t, listed, sizes) for t, listed in zip(tensors, labels, strict=True)]
    for group in _path(terms, output, sizes):
        chosen = [terms[k] for k in group]
        terms = [term for k, term in enumerate(terms) if k not in group]
        current = chosen[0]
        for n, other in enumerate(chosen[1:], 2):
            rest = {label for _, listed in (*terms, *chosen[n:]) for label in listed}
            current = contract(*current, *other, rest | set(output))
        terms.append(current)
    ((result, listed),) = terms
    result, listed = keep_labels(result, listed, set(output))
    present = result.transpose([listed.index(label) for label in output if label in listed])
    return _stretched(present, listed, output, sizes)


def _stretched(x: Tensor, listed: Labels, output: Labels, sizes: dict[str, Dimension]) -> Tensor:
    """With an axis of size 1 for each output label whose every axis was of size 1."""
    missing = any(label not in listed for label in output)
    return x.reshape(tuple(sizes[label] for label in output)) if missing else x


def _canonical(
    check: Check, x: Tensor, labels: Labels, sizes: dict[str, Dimension]
) -> tuple[Tensor, Labels]:
    """The operand with one axis a label, and without the axes of size 1."""
    assert x.shape is not None
    kept = [
        k for k, (d, label) in enumerate(zip(x.shape, labels, strict=True))
        if not (isinstance(d, int) and d == 1) and check.ask(d, sizes[label]) is not False
    ]  # fmt: skip
    if len(kept) < len(labels):
        x = x.reshape(tuple(x.shape[k] for k in kept))
    labels = tuple(labels[k] for k in kept)
    while len(set(labels)) < len(labels):
        label = next(label for label in labels if labels.count(label) > 1)
        first = labels.index(label)
        second = labels.index(label, first + 1)
        x = diagonal(x, 0, first, second)  # along a new last axis
        labels = (*labels[:first], *labels[first + 1 : second], *labels[second + 1 :], label)
    return x, labels


def _usual(size: Dimension) -> int:
    return STAND_IN if isinstance(size, Dim) else size


def _path(
    terms: Sequence[tuple[Tensor, Labels]], output: Labels, sizes: dict[str, Dimension]
) -> list[tuple[int, ...]]:
    """Which terms to contract, step by step; a step's result goes to the end."""
    if len(terms) == 1:
        return []
    if len(terms) == 2:
        return [(0, 1)]
    names = dict(zip(sizes, LETTERS, strict=False))
    shapes = [tuple(_usual(sizes[label]) for label in listed) for _, listed in terms]
    text = ",".join("".join(names[label] for label in listed) for _, listed in terms)
    present = {label for _, listed in terms for label in listed}
    text += "->" + "".join(names[label] for label in output if label in present)
    dummies = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
    path, _ = np.einsum_path(text, *dummies, optimize="greedy")
    return [tuple(step) for step in path[1:]]


EINSUM = Op(
    "einsum", "deferred", ("operands",), promoted_dtype, _shape, replaced,
    build=_build, vjp=replaced, domain=Domain(()),
)  # fmt: skip


@trimmed
def einsum(subscripts: str, *operands: Any, name: str | None = None) -> Tensor:
    """Einstein's sum over products of the operands' elements, in NumPy's notation.

    A label that the output does not name is summed; one repeated in a term takes the diagonal;
    `...` stands for axes that broadcast. Without `->`, the output has the labels that occur once,
    in alphabetical order. dtype: the one that holds all operands.

    >>> einsum("ij,jk->ik", [[1, 2]], [[3], [4]]).eval()
    array([[11]])
    """
    return _build(*as_tensors(operands), subscripts=subscripts, name=name)
