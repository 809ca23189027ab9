"""Axes that are walked as one become one, and axes of one turn go: fewer, longer loops.

Enters: a kernel. Leaves: a kernel that stores the same. First, an axis that a reshape takes apart
(`p // 4`, `p % 4`) becomes two, where nothing puts these together again: then its places are affine
in both. Two neighbouring axes are one where every read and every store moves through both as
through one array (`step(i) == step(j) * extent(j)`), and nothing else asks where they stand. So an
elementwise kernel over [m, n] runs over m * n elements, and its vectors are not cut at the end of a
short row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from graphc.affine import Affine, affine, place
from graphc.dims import Dimension, exact_quotient, is_nonnegative
from graphc.dtypes import int64
from graphc.kernel import ARGUMENTS, Axis, Buffer, Index, Kernel, Store, cast, lift
from graphc.places import delinear
from graphc.scalar import Scalar, apply, walk

ARITHMETIC = frozenset((
    "number", "position", "extent", "add", "subtract", "multiply", "negative", "floor_divide",
    "remainder",
))  # fmt: skip


def collapse(kernel: Kernel) -> Kernel:
    """The kernel over as few axes as store the same."""
    return _merged(_divided(_without_ones(kernel)))


# ---------------------------------------------------------------------------- axes of one turn


def _is_one(axis: Axis) -> bool:
    return isinstance(axis.extent, int) and axis.extent == 1


def _reductions(kernel: Kernel) -> Iterator[tuple[Axis, ...]]:
    """The axes of each reduction."""
    return (f.value[1] for f in kernel.formulas() if f.primitive == "reduce")


def _without_ones(kernel: Kernel) -> Kernel:
    """The kernel without axes of extent 1; a reduction, or an order, keeps one axis at least."""
    gone = {axis for axis in kernel.axes if _is_one(axis)}
    for axes in (kernel.order, *_reductions(kernel)):
        ones = [axis for axis in axes if _is_one(axis)]
        gone |= set(ones[1:] if len(ones) == len(axes) else ones)
    if not gone:
        return kernel
    places = dict.fromkeys(gone, lift(0))
    return _Rewriting(places, lambda axes: tuple(a for a in axes if a not in gone)).kernel(kernel)


# ---------------------------------------------------------------------------- quotients

MOST_SPLITS = 8


def _divided(kernel: Kernel) -> Kernel:
    """The kernel with axes in two where its places ask for their quotients."""
    for _ in range(MOST_SPLITS):
        change = next(_splits(kernel), None)
        if change is None:
            break
        kernel = change
    return kernel


def _splits(kernel: Kernel) -> Iterator[Kernel]:
    """Kernels with one more axis, in which fewer places are not affine."""
    unresolved = list(_unresolved(kernel))
    if not unresolved:
        return
    whole = {f.value[1][0] for f in kernel.formulas() if _is_argument(f)}
    tried: set[tuple[Axis, Dimension]] = set()
    for quotient in unresolved:
        inner, by = map(affine, quotient.operands)
        if inner is None or by is None or by.steps:
            continue
        for axis, step in inner.steps.items():
            size = exact_quotient(by.constant, step)
            if size is None or axis in whole or (axis, size) in tried:
                continue
            tried.add((axis, size))
            changed = _split(kernel, axis, size)
            if changed is not None and len(list(_unresolved(changed))) < len(unresolved):
                yield changed


def _is_argument(formula: Scalar) -> bool:
    return formula.primitive == "reduce" and formula.value[0] in ARGUMENTS


def _split(kernel: Kernel, axis: Axis, size: Dimension) -> Kernel | None:
    """The kernel with an axis as two, the inner one of a size, if that divides its extent."""
    count = exact_quotient(axis.extent, size)
    if count is None or not is_nonnegative(count) or 1 in (count, size):
        return None
    outer, inner = Axis(count), Axis(size)
    place_of = outer.position * lift(size) + inner.position

    def axes(row: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(new for old in row for new in ((outer, inner) if old is axis else (old,)))

    return _Rewriting({axis: place_of}, axes).kernel(kernel)


def _unresolved(kernel: Kernel) -> Iterator[Scalar]:
    """Quotients and remainders of positions in accesses that are not affine, operands first."""
    accesses = [(f.operands, f.value) for f in kernel.formulas() if f.primitive == "read"]
    accesses += [(store.index, (store.buffer, None)) for store in kernel.stores]
    seen: set[Scalar] = set()
    for index, (buffer, outside) in accesses:
        known = [i for i in index if is_arithmetic(i)]
        if len(known) == len(index) and outside is None and place(index, buffer.type.shape):
            continue
        for part in walk(*known, known=seen):
            seen.add(part)
            if part.primitive in ("floor_divide", "remainder") and affine(part) is None:
                yield part


# ---------------------------------------------------------------------------- neighbours


def _merged(kernel: Kernel) -> Kernel:
    """The kernel with runs of axes as one."""
    rows = list(dict.fromkeys([kernel.axes, kernel.order, *_reductions(kernel)]))
    if all(len(axes) < 2 for axes in rows):
        return kernel
    movements = _Movements(kernel)
    places: dict[Axis, Scalar] = {}
    onto: dict[tuple[Axis, ...], tuple[Axis, ...]] = {}
    for axes in rows:
        runs = _runs(axes, movements)
        onto[axes] = tuple(_run_axis(run, places) for run in runs)
    if not places:
        return kernel
    return _Rewriting(places, lambda axes: onto[axes]).kernel(kernel)


def _runs(axes: Sequence[Axis], movements: _Movements) -> list[list[Axis]]:
    """The axes, cut where two neighbours are not walked as one."""
    runs: list[list[Axis]] = []
    for axis in axes:
        if runs and movements.are_one(runs[-1][-1], axis):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def _run_axis(run: Sequence[Axis], places: dict[Axis, Scalar]) -> Axis:
    """The axis of a run; where each of its own stands then goes to `places`."""
    if len(run) == 1:
        return run[0]
    extents = tuple(axis.extent for axis in run)
    total: Dimension = 1
    for extent in extents:
        total = total * extent
    merged = Axis(total)
    places.update(zip(run, delinear(merged.position, extents), strict=True))
    return merged


class _Movements:
    """How far each turn of each axis moves through the buffers of a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.places: list[Affine] = []
        self.fixed: set[Axis] = set()  # where they stand matters by itself
        self.stores = [_mentioned(store.index) for store in kernel.stores]
        self._seen: set[Scalar] = set()
        self._pending = [store.value for store in kernel.stores]
        for store in kernel.stores:
            self._move(store.index, store.buffer)
        while self._pending:
            self._see(self._pending.pop())

    def are_one(self, outer: Axis, inner: Axis) -> bool:
        """Whether two neighbours may become one."""
        if outer in self.fixed or inner in self.fixed:
            return False
        if any((outer in mentioned) != (inner in mentioned) for mentioned in self.stores):
            return False
        return all(p.step(outer) == p.step(inner) * inner.extent for p in self.places)

    def _see(self, formula: Scalar) -> None:
        if formula in self._seen:
            return
        self._seen.add(formula)
        if formula.primitive == "position":
            self.fixed.add(formula.value)
        elif formula.primitive == "read" and formula.value[1] is None:
            self._move(formula.operands, formula.value[0])
        else:
            self._pending += formula.operands

    def _move(self, index: Index, buffer: Buffer) -> None:
        """An access: what of its index is affine moves, and what is data is looked into."""
        assert buffer.type.shape is not None
        known = [is_arithmetic(i) for i in index]
        zero = lift(0)
        moving = [i if yes else zero for i, yes in zip(index, known, strict=True)]
        found = place(tuple(moving), buffer.type.shape)
        if found is None:
            self._pending += index
            return
        self.places.append(found)
        self._pending += [i for i, yes in zip(index, known, strict=True) if not yes]


def _mentioned(index: Index) -> set[Axis]:
    return {f.value for f in walk(*index) if f.primitive == "position"}


def is_arithmetic(formula: Scalar) -> bool:
    """Whether a formula is made of positions, sizes and numbers alone."""
    return all(
        part.primitive in ARITHMETIC or (part.primitive == "cast" and part.value is int64)
        for part in walk(formula)
    )


# ---------------------------------------------------------------------------- rewriting


def substituted(formula: Scalar, places: Mapping[Axis, Scalar]) -> Scalar:
    """The formula with other formulas for the positions of some axes."""
    return _Rewriting(places, lambda axes: axes).formula(formula)


class _Rewriting:
    """Formulas with other formulas for positions, and other axes for reductions."""

    def __init__(
        self,
        places: Mapping[Axis, Scalar],
        axes: Callable[[tuple[Axis, ...]], tuple[Axis, ...]],
    ) -> None:
        self.places, self.axes = places, axes
        self._made: dict[Scalar, Scalar] = {}
        self._indices: dict[Scalar, Scalar] = {}

    def formula(self, formula: Scalar) -> Scalar:
        """A formula, rewritten."""
        for part in walk(formula):
            self._made[part] = self._formula(part)
        return self._made[formula]

    def kernel(self, kernel: Kernel) -> Kernel:
        """The kernel, rewritten."""
        for formula in kernel.formulas():
            self._made[formula] = self._formula(formula)
        stores = tuple(
            Store(s.buffer, tuple(map(self._index, s.index)), self._made[s.value], s.ordered)
            for s in kernel.stores
        )
        axes, order = self.axes(kernel.axes), self.axes(kernel.order)
        return Kernel(kernel.name, axes, stores, kernel.lines, order)

    def _formula(self, formula: Scalar) -> Scalar:
        """One formula, of its operands, which are made."""
        if formula.primitive == "position":
            found = self.places.get(formula.value)
            if found is None:
                return formula
            return cast(found, int64) if found.primitive == "number" else found
        value: Any = formula.value
        if formula.primitive == "read":
            operands = tuple(map(self._index, formula.operands))
        else:
            operands = tuple([self._made[part] for part in formula.operands])
        if formula.primitive == "reduce":
            kind, axes, initial = value
            if (kept := self.axes(axes)) != axes:
                value = (kind, kept, initial)
        same = all(a is b for a, b in zip(operands, formula.operands, strict=True))
        if same and value is formula.value:
            return formula
        return Scalar(formula.primitive, operands, value)

    def _index(self, formula: Scalar) -> Scalar:
        """One operand of an access: a number needs no dtype there, so that it folds."""
        if not is_arithmetic(formula):
            return self._made[formula]
        for part in walk(formula):
            if part not in self._indices:
                self._indices[part] = self._folded(part)
        return self._indices[formula]

    def _folded(self, part: Scalar) -> Scalar:
        if part.primitive == "position":
            return self.places.get(part.value, part)
        operands = tuple([self._indices[x] for x in part.operands])
        if all(a is b for a, b in zip(operands, part.operands, strict=True)):
            return part
        return operands[0] if part.primitive == "cast" else folded(part.primitive, operands)


def folded(primitive: str, operands: Sequence[Scalar]) -> Scalar:
    """Arithmetic of an index without what changes nothing."""
    if len(operands) == 2:
        a, b = operands
        zero_a, zero_b = _is_number(a, 0), _is_number(b, 0)
        match primitive:
            case "add" if zero_a or zero_b:
                return b if zero_a else a
            case "subtract" if zero_b:
                return a
            case "multiply" if zero_a or zero_b:
                return lift(0)
            case "multiply" if _is_number(a, 1) or _is_number(b, 1):
                return b if _is_number(a, 1) else a
            case "floor_divide" | "remainder" if zero_a:
                return a
            case "floor_divide" if _is_number(b, 1):
                return a
            case "remainder" if _is_number(b, 1):
                return lift(0)
    return apply(primitive, *operands)


def _is_number(formula: Scalar, value: int) -> bool:
    return formula.primitive == "number" and type(formula.value) is int and formula.value == value
