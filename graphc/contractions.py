"""Which kernels are products of matrices: one sum of products of two reads, and what is made of it.

Enters: a kernel, collapsed. Leaves: a `Product`: the two reads as strided operands A and B, and
each axis of the nest as a batch (in both), a row (in A) or a column (in B), so that

    total[batch, row, column] = sum of A(batch, row, sums) * B(batch, sums, column)

Nothing here knows of matmul or convolution: whatever is affine in the axes is read in place. What
the stores make of the total (a bias, a mask, an optimiser's update) is the product's epilogue. It
knows no device either: whether tiles pay is the device's to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from graphc.affine import Affine, place
from graphc.dims import Dimension
from graphc.dtypes import DType, float32, float64
from graphc.kernel import Axis, Buffer, Kernel, Store, cast, read
from graphc.scalar import Scalar, walk
from graphc.types import TensorType

MOST = 3  # axes of each kind


class Operand(NamedTuple):
    """A strided array: a buffer, and where its elements lie."""

    buffer: Buffer
    place: Affine

    def step(self, axis: Axis) -> Dimension:
        """How far one turn of an axis moves, in elements."""
        return self.place.step(axis)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A kernel as a product of matrices. `totals` are the formulas of its sum, all equal."""

    kernel: Kernel
    dtype: DType
    totals: tuple[Scalar, ...]
    a: Operand
    b: Operand
    c: Affine  # where the first store writes
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    column: Axis
    sums: tuple[Axis, ...]

    @property
    def is_plain(self) -> bool:
        """Whether the total is stored as it is, and nothing else is."""
        stores = self.kernel.stores
        return len(stores) == 1 and stores[0].value in self.totals


def match(kernel: Kernel) -> Product | None:
    """The kernel as a product; None where it is none."""
    totals = tuple(f for f in kernel.formulas() if f.primitive == "reduce")
    terms = [_term(total) for total in totals]
    if not terms or terms[0] is None or any(term != terms[0] for term in terms):
        return None
    written = {store.buffer for store in kernel.stores}
    a, b = terms[0].a, terms[0].b
    if a.buffer in written or b.buffer in written or not _stores_everywhere(kernel):
        return None
    targets = [_target(store.index, store.buffer) for store in kernel.stores]
    if targets[0] is None or any(target is None for target in targets):
        return None
    matrices = _Matrices(kernel, totals[0].value[1], targets[0])
    found = [order for order in (matrices.order(a, b), matrices.order(b, a)) if order is not None]
    if not found:
        return None
    order = min(found, key=lambda each: each.cost)
    return Product(
        kernel, order.a.buffer.type.dtype, totals, order.a, order.b, targets[0],
        order.batch, order.rows, order.column, order.sums,
    )  # fmt: skip


def turns(axes: Sequence[Axis]) -> int | None:
    """How many turns axes make together, where that is known."""
    extents = [axis.extent for axis in axes]
    known = [extent for extent in extents if isinstance(extent, int)]
    return math.prod(known) if len(known) == len(extents) else None


# ---------------------------------------------------------------------------- the sum


@dataclass(frozen=True, slots=True)
class _Term:
    """What is summed, comparable between reductions over different axes."""

    a: Operand = field(compare=False)
    b: Operand = field(compare=False)
    form: frozenset[tuple[Buffer, Dimension, frozenset[tuple[Axis | int, Dimension]]]]
    extents: tuple[Dimension, ...]


def _term(total: Scalar) -> _Term | None:
    """The two reads whose product is summed."""
    kind, axes, initial = total.value
    (body,) = total.operands
    if kind != "sum" or initial is not None or body.primitive != "multiply":
        return None
    a, b = map(_operand, body.operands)
    if a is None or b is None or a.buffer.type.dtype is not b.buffer.type.dtype:
        return None
    if a.buffer.type.dtype not in (float32, float64):
        return None
    number = {axis: i for i, axis in enumerate(axes)}
    form = frozenset(
        (
            x.buffer,
            x.place.constant,
            frozenset((number.get(axis, axis), step) for axis, step in x.place.steps.items()),
        )
        for x in (a, b)
    )
    return _Term(a, b, form, tuple(axis.extent for axis in axes))


def _operand(formula: Scalar) -> Operand | None:
    """A plain read of an affine place."""
    if formula.primitive != "read" or formula.value[1] is not None:
        return None
    buffer = formula.value[0]
    found = _target(formula.operands, buffer)
    return None if found is None else Operand(buffer, found)


def _target(index: Sequence[Scalar], buffer: Buffer) -> Affine | None:
    assert buffer.type.shape is not None
    return place(tuple(index), buffer.type.shape)


def _stores_everywhere(kernel: Kernel) -> bool:
    """Whether every store has an element of its own at each point."""
    return all(set(kernel.axes) <= set(_positions(store.index)) for store in kernel.stores)


def _positions(formulas: Sequence[Scalar]) -> Iterator[Axis]:
    return (f.value for f in walk(*formulas) if f.primitive == "position")


# ---------------------------------------------------------------------------- the axes


class _Order(NamedTuple):
    """One of the two ways to call the reads A and B."""

    a: Operand
    b: Operand
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    column: Axis
    sums: tuple[Axis, ...]
    cost: tuple[bool, ...]


class _Matrices:
    """The axes of a kernel, as batches, rows and columns."""

    def __init__(self, kernel: Kernel, sums: tuple[Axis, ...], target: Affine) -> None:
        self.axes, self.sums, self.target = kernel.axes, sums, target

    def order(self, a: Operand, b: Operand) -> _Order | None:
        """With these reads as A and B; None where they are not of that form."""
        batch: list[Axis] = []
        rows: list[Axis] = []
        columns: list[Axis] = []
        for axis in self.axes:
            in_a, in_b = axis in a.place.steps, axis in b.place.steps
            if not in_a and not in_b:
                return None
            (batch if in_a and in_b else rows if in_a else columns).append(axis)
        if not rows or not columns:
            return None
        column = self._column(columns, b)
        others = [axis for axis in columns if axis is not column]
        surplus = max(0, len(rows) - MOST)
        outer = {*batch, *others, *rows[:surplus]}
        batch = [axis for axis in self.axes if axis in outer]
        if len(batch) > MOST or len(self.sums) > MOST:
            return None
        cost = (
            bool(others),
            not is_one(self.target.step(column)),
            not is_one(b.step(column)),
            surplus > 0,
        )
        sums = sorted(self.sums, key=lambda axis: is_one(a.step(axis)))
        return _Order(a, b, tuple(batch), tuple(rows[surplus:]), column, tuple(sums), cost)

    def _column(self, columns: Sequence[Axis], b: Operand) -> Axis:
        """The axis that vectors run along: with neighbours in C, or in B, else the last."""
        return min(
            reversed(columns),
            key=lambda axis: (not is_one(self.target.step(axis)), not is_one(b.step(axis))),
        )


def is_one(step: Dimension) -> bool:
    """Whether neighbours along an axis lie side by side."""
    return isinstance(step, int) and step == 1


# ---------------------------------------------------------------------------- half precision


def with_copies(kernel: Kernel) -> tuple[list[Kernel], Kernel]:
    """The kernels that copy, and the kernel that reads the copies; no copies where none help.

    Operands that are stored in half precision are copied in the precision of the sum: an element is
    read once for each column or row of the result, so a copy costs little beside the sum.
    """
    copies: dict[Buffer, Buffer] = {}
    made: dict[Scalar, Scalar] = {}
    for formula in kernel.formulas():
        if formula.primitive == "reduce":
            for factor in formula.operands[0].operands:
                if _is_cast_read(factor):
                    (element,) = factor.operands
                    copy = _copy(copies, element.value[0], factor)
                    made[factor] = read(copy)(*element.operands)
    if not made:
        return [], kernel
    for formula in kernel.formulas():
        if formula not in made:
            operands = tuple([made[part] for part in formula.operands])
            same = all(a is b for a, b in zip(operands, formula.operands, strict=True))
            made[formula] = formula if same else Scalar(formula.primitive, operands, formula.value)
    stores = tuple(
        Store(s.buffer, tuple(made[i] for i in s.index), made[s.value]) for s in kernel.stores
    )
    changed = Kernel(kernel.name, kernel.axes, stores, kernel.lines)
    return [_copying(kernel, *pair) for pair in copies.items()], changed


def _is_cast_read(formula: Scalar) -> bool:
    if formula.primitive != "cast":
        return False
    (element,) = formula.operands
    return element.primitive == "read" and element.value[1] is None


def _copy(copies: dict[Buffer, Buffer], buffer: Buffer, factor: Scalar) -> Buffer:
    """The copy of a buffer in the dtype of a cast."""
    if buffer not in copies:
        type_ = TensorType(factor.value, buffer.type.shape)
        copies[buffer] = Buffer(type_, f"{buffer.name}.{factor.value.short}")
    return copies[buffer]


def _copying(kernel: Kernel, source: Buffer, copy: Buffer) -> Kernel:
    """The kernel that fills a copy."""
    axes = tuple(map(Axis, source.type.shape or ()))
    index = tuple(axis.position for axis in axes)
    value = cast(read(source)(*index), copy.type.dtype)
    return Kernel(kernel.name, axes, (Store(copy, index, value),), kernel.lines)
