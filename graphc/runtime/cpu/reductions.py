"""Reductions as loops: accumulators in registers, vectors wherever the axes allow.

Enters: a `reduce` formula and the scope of `Formulas` that wants its value. Leaves: loops, and the
value behind them. Where the value differs from lane to lane of the scope, the accumulators are
vectors of those lanes, and all loops are scalar. Else one of the reduction's own axes is cut into
vectors: wide ones, whose parts are accumulators that do not wait for each other, then one register
at a time with a mask (or, where the target has none, one element). The parts meet pairwise at the
end, so a sum's order depends on sizes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from graphc.dims import Dim, product
from graphc.dtypes import DType, bool_, float16, float32, int64
from graphc.kernel import ARGUMENTS, Axis
from graphc.runtime.cpu.analysis import Facts
from graphc.runtime.cpu.emission import Value, integer
from graphc.runtime.cpu.folds import Fold, State
from graphc.runtime.cpu.formula import Formulas, Lane, constant
from graphc.runtime.cpu.loads import advanced
from graphc.runtime.cpu.loops import Loop, first, whole
from graphc.scalar import Scalar, met

CHEAP, MIDDLE = 4, 8  # operations of a body that is worth four and two accumulators
UNROLLED, OPERATIONS = 9, 100  # points of a window, and operations in all, that are no loop


Kept: TypeAlias = Mapping[Scalar, tuple[Scalar, DType, Value]]


def reduced(scope: Formulas, part: Scalar, kept: Kept | None = None) -> Value:
    """The value of a reduction, of the dtype that `kinds_of` gives it.

    `kept`: of a reduction, a formula inside whose values along its axis go to an address.
    """
    return Reduction(scope, part, (kept or {}).get(part)).value()


class Reduction:
    """The loops of one reduction in one scope."""

    def __init__(
        self, scope: Formulas, part: Scalar, kept: tuple[Scalar, DType, Value] | None = None
    ) -> None:
        self.scope, self.part, self._kept = scope, part, kept
        self.kind, axes, self.initial = part.value
        self.body = part.operands[0]
        self.order = list(scope.facts.inside(self.body))
        dtype = bool_ if self.kind in ("any", "all") else met([scope.facts.kinds[self.body]])
        self.result = scope.facts.kinds[part]
        self.fold = Fold(scope, self.kind, float32 if dtype is float16 else dtype)
        lanes = scope.lane is not None and scope.vector_axis in scope.facts.free[part]
        self.count = scope.lane.count if lanes and scope.lane is not None else None
        self.window = is_window(scope.facts, part)  # also at a point alone: its order is the same
        self.axis = None if lanes or self.window else vector_axis(scope, part)
        self.axes = [axis for axis in axes if axis is not self.axis]
        self.fold.across = self.axis is not None
        if self.kind in ARGUMENTS:
            self.fold.start = span(scope, axes[0])[0]
        self.empty = any(isinstance(a.extent, int) and a.extent == 0 for a in axes)

    def value(self) -> Value:
        """Emit the loops; the value behind them."""
        state = self.fold.identity(self.count) if self.empty else self._loops()
        if self.initial is not None:
            start = self.scope.constant(self.initial, self.fold.dtype)
            if self.count is not None:
                start = self.scope.spread(start, self.count)
            state = self.fold.combine(self.fold.state(start), state)
        elif self.kind == "sum" and self.fold.dtype.is_float:
            state = self._of_nothing(state)
        if self.kind in ARGUMENTS:
            return state[1]
        assert isinstance(self.result, DType)
        return self.scope.cast(self.fold.final(state), self.fold.dtype, self.result)

    def _of_nothing(self, state: State) -> State:
        """A sum starts from -0, which changes nothing; but the sum of nothing is 0."""
        builder, sizes = self.scope.builder, [axis.extent for axis in self.part.value[1]]
        if any(axis in self.scope.facts.spans for axis in self.part.value[1]):
            return state
        zero: Value = constant(0, self.fold.dtype)
        if self.count is not None:
            zero = self.scope.spread(zero, self.count)
        if self.empty:
            return [zero]
        for size in dict.fromkeys(n for n in sizes if isinstance(n, Dim)):
            none = builder.icmp_signed("==", self.scope.record.size(size), integer(0))
            state = [builder.select(none, zero, state[0])]
        return state

    def _loops(self) -> State:
        """The nest: scalar loops outside, that of the vector inside."""
        if self.window:
            return self._unrolled()
        widths = self._widths()
        states = [v for width in widths for v in self.fold.identity(width)]
        scope, loops = self.scope, []
        for axis in self.axes:
            scope.prepare(self.order)
            loops.append(Loop(scope.builder, *span(scope, axis), 1, states))
            states = loops[-1].carried
            scope = scope.inner({axis: loops[-1].counter})
        size = len(self.fold.identity(None))
        parts = [states[i : i + size] for i in range(0, len(states), size)]
        if self.axis is None:
            parts = [self.fold.add(parts[0], self._term(scope, None))]
        else:
            scope.prepare(self.order)
            parts = self._vectors(scope, self.axis, widths, parts)
        states = [v for part in parts for v in part]
        for loop in reversed(loops):
            states = loop.close(states)
        parts = [states[i : i + size] for i in range(0, len(states), size)]
        return parts[0] if self.axis is None else self._joined(widths, parts)

    def _unrolled(self) -> State:
        """The terms one after the other, without a loop."""
        scopes = [self.scope]
        for axis in self.axes:
            assert isinstance(axis.extent, int)
            for scope in scopes:
                scope.prepare(self.order)
            places = [integer(k) for k in range(axis.extent)]
            scopes = [scope.inner({axis: place}) for scope in scopes for place in places]
        state = self._term(scopes[0], None)
        for scope in scopes[1:]:
            state = self.fold.add(state, self._term(scope, None))
        return state

    def _widths(self) -> list[int | None]:
        """The lanes of the accumulators: those of the scope, or a wide and a narrow vector."""
        if self.axis is None:
            return [self.count]
        facts = self.scope.facts
        lanes = min(
            facts.lanes(self.body, axis=self.axis), facts.target.lanes(self.fold.dtype.bits)
        )
        cost = facts.work(self.body, bound=self.scope.axes | {self.axis}, only=self.axis)
        wide = lanes
        if isinstance(cost, int):
            wide *= 4 if cost <= CHEAP else 2 if cost <= MIDDLE else 1
        extent = None if self.axis in facts.spans else self.axis.extent
        narrow = lanes if self._masks() else None
        if not isinstance(extent, int):
            return [wide, narrow]
        while wide > max(extent, lanes):
            wide //= 2
        if extent < lanes:
            return [narrow]
        return [wide] if extent % wide == 0 else [wide, narrow]

    def _masks(self) -> bool:
        return masks(self.scope.facts, self.order)

    def _vectors(
        self, scope: Formulas, axis: Axis, widths: Sequence[int | None], parts: list[State]
    ) -> list[State]:
        """The innermost loops, over one axis in vectors."""
        builder, (start, stop) = scope.builder, span(scope, axis)
        result: list[State] = []
        for width, state in zip(widths, parts, strict=True):
            last = len(result) == len(widths) - 1
            end = stop
            exact = (width is not None and not last) or (len(widths) == 1 and self._even(width))
            if exact and width is not None:
                end = whole(builder, start, stop, width)
            loop = Loop(builder, start, end, width or 1, state)
            where: Any = loop.counter
            if width is not None:
                left = builder.sub(stop, loop.counter)
                mask = None if exact else first(builder, left, width)
                where = Lane(loop.counter, width, mask)
            inner = scope.inner({axis: where})
            result.append(loop.close(self.fold.add(loop.carried, self._term(inner, width))))
            start = end
        return result

    def _even(self, width: int | None) -> bool:
        extent = self.axis.extent if self.axis is not None else 0
        return width is not None and isinstance(extent, int) and extent % width == 0

    def _term(self, scope: Formulas, width: int | None) -> State:
        """The state of the body at one point, or in one vector."""
        count = width if self.axis is not None else self.count
        value = scope.typed(self.body, self.fold.dtype)
        self._keep(scope)
        if count is not None:
            value = scope.spread(value, count)
        state = self.fold.state(value)
        if self.kind in ARGUMENTS:
            place = scope.value(_position(self.part))
            state.append(place if count is None else scope.spread(place, count))
        if count is None:
            return state
        mask = scope.lane.mask if scope.lane is not None and self.axis is not None else None
        return self.fold.masked(mask, state)

    def _keep(self, scope: Formulas) -> None:
        """Write the formula that somebody else needs too; a row has room for whole vectors."""
        if self._kept is not None:
            formula, dtype, row = self._kept
            where = scope.where(self.part.value[1][0])
            base = where.base if isinstance(where, Lane) else where
            value = scope.typed(formula, dtype)
            scope.builder.store(value, advanced(scope, row, base, dtype), align=1)

    def _joined(self, widths: Sequence[int | None], parts: list[State]) -> State:
        """The accumulators as one scalar state."""
        if widths[0] is None:
            return parts[0]
        if len(parts) == 2 and widths[1] is not None:
            wide = self.fold.halved(parts[0], widths[1])
            return self.fold.alone(self.fold.combine(wide, parts[1]))
        state = self.fold.alone(parts[0])
        return self.fold.combine(state, parts[1]) if len(parts) == 2 else state


def _position(part: Scalar) -> Scalar:
    axis: Axis = part.value[1][0]
    return axis.position


def span(scope: Formulas, axis: Axis) -> tuple[Value, Value]:
    """From where and up to where an axis runs."""
    if axis not in scope.facts.spans:
        return integer(0), scope.record.size(axis.extent)
    start, stop = scope.facts.spans[axis]
    return scope.typed(start, int64), scope.typed(stop, int64)


def masks(facts: Facts, order: Sequence[Scalar]) -> bool:
    """Whether every read among formulas may be masked at no great cost."""
    reads = [part for part in order if part.primitive == "read"]
    return all(facts.has_masks(part.value[0].type.dtype.bits) for part in reads)


def is_window(facts: Facts, part: Scalar) -> bool:
    """Whether a reduction is so short that its terms are better written out than a loop."""
    axes, body = part.value[1], part.operands[0]
    points = product(axis.extent for axis in axes)
    if (
        not isinstance(points, int)
        or not 0 < points <= UNROLLED
        or any(a in facts.spans for a in axes)
    ):
        return False
    bound = facts.free[body] | frozenset(axes)
    work = sum(facts.work(body, bound=bound, only=axis) for axis in axes)
    return isinstance(work, int) and points * work <= OPERATIONS


def vector_axis(scope: Formulas, part: Scalar) -> Axis | None:
    """The axis of a reduction that is cut into vectors; None if none is long enough."""
    axes: list[Axis] = [a for a in part.value[1] if isinstance(a.extent, Dim) or a.extent > 2]
    if not axes:
        return None
    facts = scope.facts
    strided = {axis: facts.strided(axis, part.operands[0]) for axis in reversed(axes)}
    return min(strided, key=strided.__getitem__)
