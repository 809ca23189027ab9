"""The general code of kernels: loop nests around formulas.

Enters: a kernel and a target. Leaves: routines. The last axis of what is stored is cut into
vectors, unless the reductions inside read better along an axis of their own; the axes before it
are the units that threads share. Each formula stands at the outermost level that knows its axes.
"""

from __future__ import annotations

import functools
from typing import Any

from graphc.dims import Dim, Dimension, derived, floordiv, product
from graphc.dtypes import DType
from graphc.kernel import ARGUMENTS, Axis, Buffer, Kernel
from graphc.runtime.cpu import loads, nest_tiles
from graphc.runtime.cpu.analysis import Facts
from graphc.runtime.cpu.elements import memory, vector_of
from graphc.runtime.cpu.emission import Value, integer, minimum
from graphc.runtime.cpu.formula import Formulas, Lane
from graphc.runtime.cpu.loops import Loop, first, whole
from graphc.runtime.cpu.nest_scratch import CHUNKS, ROW, shared
from graphc.runtime.cpu.nest_stages import Job, is_one, jobs, mentioned
from graphc.runtime.cpu.record import Record
from graphc.runtime.cpu.reductions import is_window, masks, reduced
from graphc.runtime.cpu.routine import Routine, Space
from graphc.runtime.cpu.target import Target
from graphc.runtime.faults import Needed
from graphc.runtime.formulas import NONE
from graphc.scalar import Scalar

BLOCK = 4_096  # elements of a long row that are a unit; a power of two
COLUMNS = 16  # registers of accumulators of sums down columns: so much of each row is read at once
PADDING = 256  # elements behind a scratch row: the widest vector, which may overhang
EXTREMA = ("max", "min", *ARGUMENTS)


def compile_kernel(kernel: Kernel, target: Target) -> list[Routine]:
    """The routines that do a kernel, in order; none where nothing is stored."""
    routines = [_Nest(job, target).routine(kernel) for job in jobs(kernel, target)]
    if routines:
        needs = tuple(dict.fromkeys(_needs(kernel)))
        routines[0] = _with_needs(routines[0], needs)
    return routines


def _with_needs(routine: Routine, needs: tuple[Needed, ...]) -> Routine:
    return Routine(
        routine.kernel, routine.code, routine.buffers, routine.sizes, routine.writes,
        routine.count, routine.work, routine.faults, needs, space=routine.space,
    )  # fmt: skip


def _needs(kernel: Kernel) -> list[Needed]:
    """The extents that an extremum without initial value reduces."""
    return [
        Needed(
            tuple(axis.extent for axis in part.value[1]),
            f"{part.value[0]} of no elements has no value: give it one, or an initial value",
        )
        for part in kernel.formulas()
        if part.primitive == "reduce" and part.value[0] in EXTREMA and part.value[2] is None
    ]


class _Nest:
    """The loops of one job."""

    def __init__(self, job: Job, target: Target) -> None:
        self.job, self.target = job, target
        self.facts = facts = Facts(job.formulas, target, job.spans)
        self.axes = tuple(axis for axis in job.axes if not is_one(axis.extent))
        self.depths = {s: len(mentioned(s, job.axes)) for s in job.stores}
        self.vector = self._vector_axis(facts)
        self.units = self._units(facts)
        self.sums = self._column_sums(facts)
        self.by_element = len(self.axes) == 1 and self.vector is not None and not self.sums
        self.across = self._across()
        if self.across is not None:
            self.units = tuple(a for a in self.axes[:-1] if a is not self.across)
        facts.assured = frozenset(axis.extent for axis in self._bound_units())
        self.order = list(self.facts.inside(*job.formulas))
        self.narrow = facts.lanes(*(store.value for store in job.stores), axis=self.vector)
        if self.across is not None:
            self.narrow = min(self.narrow, nest_tiles.MOST)
        self.wide = self._wide()
        self.block = max(self.wide, self.narrow) if self.sums else BLOCK
        self.blocked = self._is_blocked()
        self.kept: dict[Scalar, tuple[DType, Value]] = {}
        self.in_workspace = 0  # the size of an element of the row that is there
        self.record = Record(self._buffers())
        self.builder = self.record.builder

    def _buffers(self) -> list[Buffer]:
        reads = [f.value[0] for f in self.order if f.primitive == "read"]
        return list(dict.fromkeys([*reads, *(store.buffer for store in self.job.stores)]))

    # ------------------------------------------------------------------ choices

    def _vector_axis(self, facts: Facts) -> Axis | None:
        """The axis of the stores that is cut into vectors, if any."""
        if not self.axes:
            return None
        last = self.axes[-1]
        if any(last in facts.free[bound] for span in self.job.spans.values() for bound in span):
            return None
        parts = [
            part
            for part in facts.inside(*self.job.formulas)
            if part.primitive == "reduce"
            and last in facts.free[part]
            and not is_window(facts, part)
            and not self.job.short.issuperset(part.value[1])
        ]
        own = sum(
            min((facts.strided(axis, part.operands[0]) for axis in part.value[1]), default=0)
            for part in parts
        )
        return None if facts.strided(last, *parts) > own else last

    def _across(self) -> Axis | None:
        """The axis along which reads lie side by side that lie apart along the vector's."""
        if self.vector is None or len(self.axes) < 2 or self.sums or self.job.spans:
            return None
        if min(self.depths.values()) < len(self.axes):
            return None
        return nest_tiles.tile_axis(self.facts, self.job.stores, self.axes)

    def _units(self, facts: Facts) -> tuple[Axis, ...]:
        """The axes whose points are units: those that all stores and reductions stand inside of."""
        depth = min(self.depths.values())
        outer = self.axes if self.vector is None else self.axes[:-1]
        for part in facts.inside(*self.job.formulas):
            if part.primitive == "reduce" and not self.job.short.issuperset(part.value[1]):
                free = facts.free[part]
                known = [k for k, axis in enumerate(self.axes) if axis in free]
                if known and self.vector not in free:
                    depth = min(depth, known[-1] + 1)
        return outer[:depth]

    def _is_blocked(self) -> bool:
        """Whether blocks of the vector axis are units: long rows that need nothing of their own."""
        if self.vector is None or self.by_element or len(self.units) + 1 < len(self.axes):
            return False  # squares have fewer units too
        if min(self.depths.values()) < len(self.axes):
            return False
        own = [
            part
            for part in self.order
            if part.primitive == "reduce"
            and self.vector not in self.facts.free[part]
            and not self.job.short.issuperset(part.value[1])
            and self.facts.free[part]
        ]
        extent = self.vector.extent
        return not own and (isinstance(extent, Dim) or extent > 2 * self.block)

    # ------------------------------------------------------------------ emission

    def routine(self, kernel: Kernel) -> Routine:
        """Emit the code."""
        ones = {a: integer(0) for a in self.job.axes if is_one(a.extent)}
        reducer = functools.partial(reduced, kept=self._rows_kept())
        scope = Formulas(self.builder, self.facts, self.record, ones, reducer=reducer)
        self._prepare(scope)
        if not self.axes:
            self._store(scope, 0)
        elif self.by_element:
            self._vectors(scope, self.record.begin, self.record.end, False)
        elif self.across is not None:
            self._squares(scope, self.across)
        else:
            self._rows(scope)
        record, count, work = self.record, self._count(), self._work()
        return Routine(
            kernel, record.finish(), record.buffers, tuple(record.sizes),
            frozenset(store.buffer for store in self.job.stores), count, work,
            tuple(record.faults), space=self._space(),
        )  # fmt: skip

    def _work(self) -> Dimension:
        work = self.facts.work(*self.job.formulas, bound=self._bound())
        if self.across is not None and self.vector is not None:
            work = work * derived("min", self.across.extent, nest_tiles.ROWS)
            work = work * derived("min", self.vector.extent, nest_tiles.COLUMNS)
        if self.blocked and self.vector is not None:
            work = work * derived("min", self.vector.extent, self.block)
        return work + len(self.job.stores)

    # ------------------------------------------------------------------ scratch rows

    def _rows_kept(self) -> dict[Scalar, tuple[Scalar, DType, Value]]:
        """The formulas that reductions leave for the stores, with the addresses of their rows."""
        if self.vector is None:
            return {}
        found = shared(
            self.facts, self.order, (store.value for store in self.job.stores), self.vector
        )
        kept = {}
        for part, (inside, outside, dtype) in found.items():
            extent = self.vector.extent
            if isinstance(extent, int) and extent * dtype.itemsize <= ROW:
                row = self.record.scratch((extent + PADDING) * dtype.itemsize)
            elif not self.in_workspace:
                row, self.in_workspace = self.record.workspace(), dtype.itemsize
            else:
                continue
            kept[part] = inside, dtype, row
            self.kept[outside] = dtype, row
        return kept

    def _space(self) -> Space | None:
        """A row for each chunk, where the rows are not of a size that is known and small."""
        if not self.in_workspace or self.vector is None:
            return None
        return Space((self.vector.extent + PADDING) * self.in_workspace, CHUNKS)

    def _read_back(self, scope: Formulas, where: Any) -> dict[Scalar, Value]:
        """What the reductions have left for a vector of the stores."""
        base, count = (where.base, where.count) if isinstance(where, Lane) else (where, None)
        known = {}
        for formula, (dtype, row) in self.kept.items():
            kind = memory(dtype) if count is None else vector_of(dtype, count)
            place = loads.advanced(scope, row, base, dtype)
            known[formula] = self.builder.load(place, typ=kind, align=1)
        return known

    def _bound_units(self) -> tuple[Axis, ...]:
        """The axes that have points wherever the routine is called."""
        return self.axes if self.by_element or self.across is not None else self.units

    def _bound(self) -> frozenset[Axis]:
        if self.across is not None:
            return frozenset(self.axes)
        units = frozenset(self.units)
        if (self.by_element or self.blocked) and self.vector is not None:
            units |= {self.vector}
        return units

    def _count(self) -> Dimension:
        if self.by_element and self.vector is not None:
            return self.vector.extent
        count = product(axis.extent for axis in self.units)
        if self.across is not None and self.vector is not None:
            return count * nest_tiles.count(self.across, self.vector)
        return count * self._blocks() if self.blocked else count

    def _blocks(self) -> Dimension:
        assert self.vector is not None
        return floordiv(self.vector.extent + (self.block - 1), self.block)

    def _rows(self, scope: Formulas) -> None:
        """The loop over units, and in each what it holds."""
        builder, record = self.builder, self.record
        loop = Loop(builder, record.begin, record.end, 1, ())
        rest, block = loop.counter, None
        if self.blocked and self.units:
            blocks = record.size(self._blocks())
            block, rest = builder.urem(rest, blocks), builder.udiv(rest, blocks)
        elif self.blocked:
            block = rest
        row = scope.inner(self._positions(rest))
        self._prepare(row)
        if self.vector is not None and block is not None:
            start = builder.mul(block, integer(self.block))
            extent = record.size(self.vector.extent)
            stop = minimum(builder, extent, builder.add(start, integer(self.block)))
            self._vectors(row, start, stop, self._divides(self.block))
        else:
            self._levels(row)
        loop.close()

    def _squares(self, scope: Formulas, across: Axis) -> None:
        """The loop over units that are blocks of squares."""
        assert self.vector is not None
        unit = Loop(self.builder, self.record.begin, self.record.end, 1, ())
        place, rest = nest_tiles.place(self.builder, self.record, unit.counter, across, self.vector)
        row = scope.inner(self._positions(rest))
        self._prepare(row)
        found = nest_tiles.crossed(self.facts, self.order, self.vector)
        squares = nest_tiles.Squares(row, across, self.vector, self.narrow, found)
        squares.emit(
            place,
            self._prepare,
            self._body,
            lambda inner, start, stop: self._vectors(inner, start, stop, False),
        )
        unit.close()

    def _divides(self, size: int) -> bool:
        extent = self.vector.extent if self.vector is not None else 1
        return isinstance(extent, int) and extent % size == 0

    def _positions(self, unit: Value) -> dict[Axis, Value]:
        """Where the axes of a unit stand."""
        found: dict[Axis, Any] = {}
        for axis in reversed(self.units[1:]):
            size = self.record.size(axis.extent)
            found[axis] = self.builder.urem(unit, size)
            unit = self.builder.udiv(unit, size)
        if self.units:
            found[self.units[0]] = unit
        return found

    def _levels(self, scope: Formulas) -> None:
        """The loops inside a unit, with the stores at each level."""
        loops = []
        outer = self.axes if self.vector is None else self.axes[:-1]
        for depth in range(len(self.units), len(outer) + 1):
            self._store(scope, depth)
            if depth < len(outer):
                axis = outer[depth]
                loops.append(Loop(self.builder, integer(0), self.record.size(axis.extent), 1, ()))
                scope = scope.inner({axis: loops[-1].counter})
                self._prepare(scope)
        if self.vector is not None:
            stop = self.record.size(self.vector.extent)
            self._vectors(scope, integer(0), stop, self._divides(self.wide))
        for loop in reversed(loops):
            loop.close()

    def _prepare(self, scope: Formulas) -> None:
        """Evaluate what can be before a loop inside of a scope, addresses too."""
        scope.prepare(self.order)
        for store in self.job.stores:
            loads.pointer(scope, self.facts.place_written(store))

    def _store(self, scope: Formulas, depth: int) -> None:
        """The stores that loop over so many axes."""
        stores = [store for store in self.job.stores if self.depths[store] == depth]
        values = [scope.stored(store) for store in stores]
        for store, value in zip(stores, values, strict=True):
            loads.store(scope, store, value)

    # ------------------------------------------------------------------ vectors

    def _column_sums(self, facts: Facts) -> list[Scalar]:
        """The reductions whose accumulators are the lanes of the vector axis."""
        return [
            part
            for part in facts.inside(*self.job.formulas)
            if part.primitive == "reduce"
            and self.vector in facts.free[part]
            and not is_window(facts, part)
        ]

    def _wide(self) -> int:
        """Lanes of the main loop: several registers where they are accumulators."""
        if self.vector is None or not self.sums:
            return self.narrow
        extent, wide = self.vector.extent, self.narrow * self._accumulators()
        while isinstance(extent, int) and wide > max(extent, self.narrow):
            wide //= 2
        return wide

    def _accumulators(self) -> int:
        """How many registers of sums are made at once: fewer where each needs more beside."""
        bodies = [part.operands[0] for part in self.sums]
        axes = NONE.union(*(frozenset(part.value[1]) for part in self.sums))
        work = self.facts.work(*bodies, bound=axes | frozenset(self.axes))
        if not isinstance(work, int) or work > 16:
            return 1
        return COLUMNS if work <= 2 and len(self.sums) == 1 else 4

    def _vectors(self, scope: Formulas, start: Value, stop: Value, exact: bool) -> None:
        """The loops over the vector axis: whole vectors, then what is left."""
        builder, wide, narrow = self.builder, self.wide, self.narrow
        assert self.vector is not None
        extent = self.vector.extent
        if not isinstance(extent, int) or extent >= wide or self.by_element:
            end = stop if exact else whole(builder, start, stop, wide)
            loop = Loop(builder, start, end, wide, ())
            self._body(scope, Lane(loop.counter, wide))
            loop.close()
            start = end
        if not exact:
            masked = self._has_masks()
            loop = Loop(builder, start, stop, narrow if masked else 1, ())
            left = builder.sub(stop, loop.counter)
            mask = first(builder, left, narrow) if masked else None
            self._body(scope, Lane(loop.counter, narrow, mask) if masked else loop.counter)
            loop.close()

    def _has_masks(self) -> bool:
        written = [store.buffer.type.dtype for store in self.job.stores]
        return masks(self.facts, self.order) and all(
            self.facts.has_masks(dtype.bits) for dtype in written
        )

    def _body(self, scope: Formulas, where: Any, known: Any = None) -> None:
        assert self.vector is not None
        known = known or self._read_back(scope, where)
        self._store(scope.inner({self.vector: where}, known), len(self.axes))
