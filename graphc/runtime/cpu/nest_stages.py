"""What a kernel's work is cut into before code is written: jobs, one routine each.

Enters: a kernel. Leaves: `Job`s. Stores that do not loop over nested axes are told apart; a
reduction that few points share is computed in parts, whose number depends on sizes only, into a
temporary buffer, and put together by who needs it; one that would be computed again and again
inside the loops is computed before, once for all points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphc.collapse import collapse
from graphc.dims import Dim, Dimension, derived, floordiv, product
from graphc.dtypes import DType, float16, float32
from graphc.kernel import ARGUMENTS, Axis, Buffer, Kernel, Store, cast, lift, read, reduce
from graphc.runtime.cpu.analysis import COSTS, Facts, Span
from graphc.runtime.cpu.target import Target
from graphc.scalar import Scalar, apply, select, walk
from graphc.types import TensorType

PART = 32_768  # elements of a reduction that are worth a part of their own
PARTS = 64
SHARED = 4_096  # elements of a reduction that each chunk may go through again
FEW = 16  # points of reductions along rows that do not keep the threads busy
NARROW = 2_048  # points of reductions down columns that are better read row after row
SCALAR = 8  # how much longer a formula takes point by point than in vectors


@dataclass(frozen=True, slots=True)
class Job:
    """Stores over nested axes; `short` are the axes of reductions that may be done twice."""

    axes: tuple[Axis, ...]
    stores: tuple[Store, ...]
    spans: Mapping[Axis, Span] = field(default_factory=dict)
    short: frozenset[Axis] = frozenset()

    @property
    def formulas(self) -> tuple[Scalar, ...]:
        """Everything that it stores, and where."""
        return tuple(formula for store in self.stores for formula in store.formulas)


def jobs(kernel: Kernel, target: Target) -> list[Job]:
    """The jobs of a kernel, in order."""
    nested = _nested(collapse(kernel))
    return [done for job in nested for done in _Stages(job, target).all()]


def mentioned(store: Store, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes, in order, that a store loops over; one of extent 1 is no loop."""
    found = {f.value for f in walk(*store.index) if f.primitive == "position"}
    return tuple(axis for axis in axes if axis in found and not is_one(axis.extent))


def is_one(size: Dimension) -> bool:
    """Whether a size is known to be 1."""
    return isinstance(size, int) and size == 1


def _is_empty(axis: Axis) -> bool:
    return isinstance(axis.extent, int) and axis.extent == 0


def _nested(kernel: Kernel) -> list[Job]:
    """Stores in groups whose axes are the first ones of each other's."""
    groups: dict[tuple[Axis, ...], list[Store]] = {}
    ordered = [(mentioned(store, kernel.axes), store) for store in kernel.stores]
    for axes, store in sorted(ordered, key=lambda pair: -len(pair[0])):
        if any(map(_is_empty, axes)):
            continue
        home = next((g for g in groups if axes and g[: len(axes)] == axes), axes)
        groups.setdefault(home, []).append(store)
    return [Job(axes, tuple(stores)) for axes, stores in groups.items()]


def replaced(formula: Scalar, values: Mapping[Scalar, Scalar]) -> Scalar:
    """The formula with some inside it replaced."""
    made: dict[Scalar, Scalar] = dict(values)
    for part in walk(formula):
        if part not in made:
            operands = tuple([made[x] for x in part.operands])
            same = all(a is b for a, b in zip(operands, part.operands, strict=True))
            made[part] = part if same else Scalar(part.primitive, operands, part.value)
    return made[formula]


def _replaced_stores(stores: Iterable[Store], old: Scalar, new: Scalar) -> tuple[Store, ...]:
    return tuple(
        Store(
            store.buffer,
            tuple(replaced(index, {old: new}) for index in store.index),
            replaced(store.value, {old: new}),
        )
        for store in stores
    )


class _Stages:
    """Takes reductions out of one job until what is left is as it should be."""

    def __init__(self, job: Job, target: Target) -> None:
        self.job, self.target = job, target
        self.before: list[Job] = []
        self.facts = Facts(job.formulas, target)

    def all(self) -> list[Job]:
        """The jobs that must come before, and what is left."""
        while (step := self._next()) is not None:
            formula, change = step
            new = change(formula)
            stores = _replaced_stores(self.job.stores, formula, new)
            self.job = replace(self.job, stores=stores)
            self.facts = Facts(self.job.formulas, self.target)
        return [*self.before, self.job]

    def _next(self) -> tuple[Scalar, Callable[[Scalar], Scalar]] | None:
        outer = frozenset(self.job.axes)
        for part in self.facts.inside(*self.job.formulas):
            if (
                part.primitive != "reduce"
                or self._is_short(part)
                or any(map(_is_empty, part.value[1]))
            ):
                continue
            free = [a for a in self.facts.free[part] if not is_one(a.extent)]
            if not outer.issuperset(free):
                continue
            axes = tuple(axis for axis in self.job.axes if axis in free)
            if self._is_again(part, axes) or self._is_apart(part, axes):
                return part, self._stored
            if self._is_split(part, axes):
                return part, self._split
        return None

    def _is_short(self, part: Scalar) -> bool:
        return bool(self.job.short.issuperset(part.value[1]))

    def _size(self, part: Scalar) -> Dimension:
        return product(axis.extent for axis in part.value[1])

    def _is_again(self, part: Scalar, axes: tuple[Axis, ...]) -> bool:
        """Whether the loops would come to a reduction more often than there are values of it."""
        size = self._size(part)
        if self.job.axes[: len(axes)] == axes or (isinstance(size, int) and size <= 8):
            return False
        last = max(self.job.axes.index(axis) for axis in axes)
        more = [a for a in self.job.axes[: last + 1] if a not in axes]
        return any(isinstance(a.extent, Dim) or a.extent > 1 for a in more)

    def _is_apart(self, part: Scalar, axes: tuple[Axis, ...]) -> bool:
        """Whether vectors run along a short reduction, and what is made of it takes longer."""
        size = self._size(part)
        if axes != self.job.axes or not axes or not isinstance(size, int):
            return False
        facts, last, body = self.facts, axes[-1], part.operands[0]
        inside = list(facts.inside(*self.job.formulas))
        if sum(each.primitive == "reduce" for each in inside) > 1:
            return False
        if facts.strided(last, part) <= min(facts.strided(a, body) for a in part.value[1]):
            return False
        within = set(facts.inside(part))
        rest = sum(
            COSTS.get(each.primitive, 0)
            for each in inside
            if each not in within and last in facts.free[each]
        )
        return SCALAR * rest > size

    def _is_split(self, part: Scalar, axes: tuple[Axis, ...]) -> bool:
        """Whether a reduction is worth parts: large, and of few points."""
        size, points = self._size(part), product(axis.extent for axis in axes)
        if not axes:
            if len(self.job.axes) == 0 and isinstance(size, int):
                return size >= 2 * PART
            return isinstance(size, Dim) or size > SHARED
        column = self.facts.strided(axes[-1], part) == 0
        if not isinstance(points, int):  # few of them are many parts only where the size is large
            return column and (not isinstance(size, int) or size * NARROW >= 2 * PART)
        if points >= (NARROW if column else FEW):
            return False
        return not isinstance(size, int) or size * points >= 2 * PART

    # ------------------------------------------------------------------ stages

    def _stored(self, part: Scalar) -> Scalar:
        """The reduction as a read of a buffer that an earlier job fills."""
        axes = tuple(a for a in self.job.axes if a in self.facts.free[part])
        kind = self.facts.kinds[part]
        assert isinstance(kind, DType)
        index = tuple(axis.position for axis in axes)
        buffer = Buffer(TensorType(kind, tuple(a.extent for a in axes)), "reduced")
        job = Job(axes, (Store(buffer, index, part),))
        self.before += _Stages(job, self.target).all()
        return read(buffer).at(index)

    def _split(self, part: Scalar) -> Scalar:
        """The reduction as one over parts that an earlier job fills."""
        kind, own, initial = part.value
        axes = tuple(a for a in self.job.axes if a in self.facts.free[part])
        cut = max(own, key=_longest)
        points = product(axis.extent for axis in axes)
        count = _part_count(self._size(part), points, cut.extent)
        length = floordiv(cut.extent + count - 1, count)
        share = Axis(count)
        start = share.position * lift(length)
        spans = {cut: (start, apply("minimum", start + lift(length), lift(cut.extent)))}
        body = part.operands[0]
        wide = self.facts.kinds[part]
        if self.facts.kinds[body] is float16:
            body = cast(body, float32)
            wide = wide if kind in ARGUMENTS else float32
        assert isinstance(wide, DType)
        partial = self._partial(share, axes, wide)
        index = (share.position, *(axis.position for axis in axes))
        stores = [Store(partial, index, Scalar("reduce", (body,), (kind, own, None)))]
        seen = read(partial)
        rest = index[1:]
        if kind in ARGUMENTS:
            best = kind[3:]
            of = self.facts.kinds[part.operands[0]]
            values = self._partial(share, axes, float32 if of is float16 else of)
            stores.append(Store(values, index, Scalar("reduce", (body,), (best, own, None))))
            result = self._chosen(kind, count, read(values), seen, rest)
        else:
            result = reduce(kind, (count,), lambda p: seen(p, *rest), initial)
            self._mark(result)
            result = _finished(result, part, self.facts.kinds[part], own)
        self.before.append(Job((share, *axes), tuple(stores), spans, self.job.short))
        return result

    def _partial(self, share: Axis, axes: tuple[Axis, ...], dtype: Any) -> Buffer:
        shape = (share.extent, *(axis.extent for axis in axes))
        return Buffer(TensorType(dtype, shape), "partial")

    def _chosen(self, kind: str, count: Dimension, values: Any, places: Any, rest: Any) -> Scalar:
        """The place in the first of the parts that hold the extremum."""
        best = reduce(kind, (count,), lambda p: values(p, *rest))
        self._mark(best)
        held = apply("minimum", apply("maximum", best, 0), lift(count) - 1)
        result: Scalar = places.within((held, *rest), 0)
        return result

    def _mark(self, part: Scalar) -> None:
        self.job = replace(self.job, short=self.job.short | set(part.value[1]))


def _longest(axis: Axis) -> tuple[bool, int]:
    return isinstance(axis.extent, Dim), axis.extent if isinstance(axis.extent, int) else 0


def _part_count(size: Dimension, points: Dimension, most: Dimension) -> Dimension:
    """How many parts: each worth a chunk, not more than the axis has points."""
    limits = [floordiv(size * points, PART), most, PARTS]
    if isinstance(points, Dim):
        limits.append(floordiv(PART, points))
    return derived("max", 1, derived("min", *limits))


def _finished(result: Scalar, part: Scalar, dtype: Any, own: tuple[Axis, ...]) -> Scalar:
    """The sum of parts in the dtype of the whole; that of nothing is 0, not -0."""
    if dtype is float16:
        result = cast(result, float16)
    if part.value[0] != "sum" or not dtype.is_float or part.value[2] is not None:
        return result
    for size in dict.fromkeys(a.extent for a in own if isinstance(a.extent, Dim)):
        result = select(apply("equal", lift(size), 0), cast(0, dtype), result)
    return result
