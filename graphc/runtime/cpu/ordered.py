"""The code of kernels that walk axes in order: running sums, scatter.

Enters: a kernel with ordered stores, and a target. Leaves: the routine of these. Its units are
points of the axes that the stores mention, which touch nothing in common; each unit goes through
the whole order, so bits do not depend on threads. The axis along which results lie next to each
other is cut into vectors. Several vectors (or rows, where there is no such axis) go through the
order together: their chains of additions hide each other's latency, an index is looked up once for
all. What a point takes from the one before it is carried in registers.

Sums into a one-dimensional array are one unit: threads that each took a range of the result would
all walk the whole list of indices, and on two cores this saves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.affine import affine
from graphc.dims import Dimension, derived, floordiv, product
from graphc.dtypes import DType, int64
from graphc.kernel import Axis, Buffer, Kernel, Store
from graphc.runtime.cpu import loads
from graphc.runtime.cpu.analysis import Facts
from graphc.runtime.cpu.bounds import as_given
from graphc.runtime.cpu.elements import count_of, kept
from graphc.runtime.cpu.emission import Value, integer, minimum
from graphc.runtime.cpu.formula import Formulas, Lane, Where
from graphc.runtime.cpu.loops import Loop, first, whole
from graphc.runtime.cpu.record import Record
from graphc.runtime.cpu.reductions import masks, reduced
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.cpu.target import Target
from graphc.runtime.faults import Fault
from graphc.runtime.formulas import NONE, place_of
from graphc.scalar import Scalar

CHAINS = 8  # that go through the order together, where each point needs the one before it
WRITES = 4  # and where none does


def compile_ordered(kernel: Kernel, target: Target) -> list[Routine]:
    """The routine of a kernel's ordered stores; none where they have no points."""
    mentioned = {axis for store in kernel.ordered for axis in store.axes()}
    loops = [*kernel.order, *(axis for axis in kernel.axes if axis in mentioned)]
    if any(isinstance(axis.extent, int) and axis.extent == 0 for axis in loops):
        return []
    return [_Ordered(kernel, target).routine()]


class _Ordered:
    """The loops of the ordered stores of one kernel."""

    def __init__(self, kernel: Kernel, target: Target) -> None:
        self.kernel, self.stores = kernel, kernel.ordered
        formulas = [f for store in self.stores for f in store.formulas]
        own = [store.buffer for store in self.stores]
        self.facts = Facts(formulas, target, own=own, order=kernel.order)
        mentioned = {axis for store in self.stores for axis in store.axes()}
        self.axes = [axis for axis in kernel.axes if axis in mentioned]
        self.parts = list(self.facts.inside(*formulas))
        self.own = [part for part in self.parts if self.facts.is_own(part)]
        self.written = {store: self._written(store) for store in self.stores}
        self.carried = self._carried()
        self.vector = self._vector_axis()
        self.inner = self.vector or (self.axes[-1] if self.axes else None)
        self.units = [axis for axis in self.axes if axis is not self.inner]
        self.width = self._lanes() if self.vector else 1
        self.ways = self._ways()
        self.record = Record(self._buffers())
        self.builder = self.record.builder

    def _written(self, store: Store) -> Scalar:
        """What a store writes, as if it were read: its address is computed alike."""
        written = Scalar("read", store.index, (store.buffer, None))
        self.facts.places[written] = place_of(store.index, store.buffer.type.shape or ())
        self.facts.free[written] = NONE.union(*(self.facts.free[index] for index in store.index))
        return written

    def _buffers(self) -> list[Buffer]:
        reads = [part.value[0] for part in self.parts if part.primitive == "read"]
        return list(dict.fromkeys([*reads, *(store.buffer for store in self.stores)]))

    # ------------------------------------------------------------------ choices

    def _vector_axis(self) -> Axis | None:
        """The axis along which what is written, and read of it, lies next to each other."""
        accesses = [*self.written.values(), *self.own]
        for axis in self.axes:
            if all(self.facts.step(part, axis) == 1 for part in accesses):
                return axis
        return None

    def _lanes(self) -> int:
        """Elements of a vector: as many as a register has of the widest dtype in vectors."""
        bits = 8
        for part in [*self.parts, *(store.value for store in self.stores)]:
            kind = self.facts.kinds[part]
            if isinstance(kind, DType) and self.vector in self.facts.free[part]:
                bits = max(bits, kind.bits, 32 if kind.is_float else 8)
        return max(2, self.facts.target.lanes(bits))

    def _ways(self) -> int:
        """How many vectors, or rows, go through the order together."""
        if self.inner is None:
            return 1
        ways, extent = CHAINS if self.carried else WRITES, self.inner.extent
        most = extent if self.vector is not None else floordiv(extent, 2)
        while isinstance(most, int) and ways > 1 and self.width * ways > most:
            ways //= 2
        return ways

    def _carried(self) -> dict[Scalar, Store]:
        """The reads of what the point before has stored: they need no memory."""
        if len(self.kernel.order) != 1:
            return {}
        buffers = [store.buffer for store in self.stores]
        return {
            part: store
            for part in self.own
            for store in self.stores
            if part.value[0] is store.buffer
            and buffers.count(store.buffer) == 1
            and part.value[1] is not None
            and _is_before(part, store, self.kernel.order[0])
        }

    # ------------------------------------------------------------------ emission

    def routine(self) -> Routine:
        """Emit the code."""
        builder, record = self.builder, self.record
        scope = Formulas(builder, self.facts, record, {}, reducer=reduced)
        scope.prepare(self.parts)
        loop = Loop(builder, record.begin, record.end, 1, ())
        rest, block = loop.counter, integer(0)
        if self.inner is not None:
            blocks = record.size(self._blocks())
            block, rest = builder.urem(rest, blocks), builder.udiv(rest, blocks)
        unit = scope.inner(self._positions(rest))
        unit.prepare(self.parts)
        if self.inner is None:
            self._through(unit, [None])
        else:
            size = self.width * self.ways
            start = builder.mul(block, integer(size))
            end = builder.add(start, integer(size))
            self._block(unit, start, minimum(builder, record.size(self.inner.extent), end))
        loop.close()
        code, count, work = record.finish(), self._count(), self._work()
        return Routine(
            self.kernel, code, record.buffers, tuple(record.sizes),
            frozenset(store.buffer for store in self.stores), count, work, tuple(record.faults),
        )  # fmt: skip

    def _positions(self, unit: Value) -> dict[Axis, Where]:
        """Where the axes of a unit stand."""
        found: dict[Axis, Where] = {}
        for axis in reversed(self.units):
            size = self.record.size(axis.extent)
            found[axis] = self.builder.urem(unit, size)
            unit = self.builder.udiv(unit, size)
        return found

    def _block(self, scope: Formulas, start: Value, stop: Value) -> None:
        """All the vectors or rows of a block together; of one that is cut off, one by one."""
        builder, width = self.builder, self.width
        end = whole(builder, start, stop, width * self.ways)
        loop = Loop(builder, start, end, width * self.ways, ())
        steps = [builder.add(loop.counter, integer(width * way)) for way in range(self.ways)]
        self._through(scope, [self._where(step, width) for step in steps])
        loop.close()
        if self.ways > 1 and width > 1:
            start, end = end, whole(builder, end, stop, width)
            loop = Loop(builder, start, end, width, ())
            self._through(scope, [self._where(loop.counter, width)])
            loop.close()
        if width * self.ways > 1:
            masked = self.vector is not None and self._has_masks()
            loop = Loop(builder, end, stop, width if masked else 1, ())
            mask = first(builder, builder.sub(stop, loop.counter), width) if masked else None
            where = Lane(loop.counter, width, mask) if masked else loop.counter
            self._through(scope, [where])
            loop.close()

    def _where(self, start: Value, width: int) -> Where:
        return start if self.vector is None else Lane(start, width)

    def _has_masks(self) -> bool:
        parts = [part for part in self.parts if self.vector in self.facts.free[part]]
        return masks(self.facts, parts) and all(
            self.facts.has_masks(store.buffer.type.dtype.bits) for store in self.stores
        )

    def _through(self, scope: Formulas, wheres: Sequence[Where | None]) -> None:
        """The loops over the order, with everything at each of its points."""
        loops: list[Loop] = []
        order = self.kernel.order
        for axis in order:
            carried = self._before(scope, wheres) if axis is order[-1] else []
            extent = self.record.size(axis.extent)
            loops.append(Loop(self.builder, integer(0), extent, 1, carried))
            known = self._known(loops[-1].carried, 0) if wheres == [None] else {}
            scope = scope.inner({axis: loops[-1].counter}, known)
            self._prepare(scope)
        carried = loops[-1].carried if loops else []
        points = [self._point(scope, where, carried, way) for way, where in enumerate(wheres)]
        values = [{store: point.stored(store) for store in self.stores} for point in points]
        for point, found in zip(points, values, strict=True):
            for store, value in found.items():
                self._write(point, store, value)
        handed = [found[store] for found in values for store in self.carried.values()]
        for loop in reversed(loops):
            loop.close(handed if loop is loops[-1] else ())

    def _prepare(self, scope: Formulas) -> None:
        """What is known at a point of the order, for all that goes through it together."""
        for store in self.stores:
            self._check(scope, store)
        scope.prepare(self.parts)
        for written in self.written.values():
            loads.pointer(scope, written)

    def _point(
        self, scope: Formulas, where: Where | None, carried: Sequence[Value], way: int
    ) -> Formulas:
        """The scope of one vector or row."""
        if where is None or self.inner is None:
            if not self.kernel.order:
                self._prepare(scope)
            return scope
        point = scope.inner({self.inner: where}, self._known(carried, way))
        for store in self.stores:
            self._check(point, store)
        return point

    def _before(self, scope: Formulas, wheres: Iterable[Where | None]) -> list[Value]:
        """What is carried into the first point: what lies around the result."""
        found = []
        for where in wheres:
            for part in self.carried:
                value = scope.constant(part.value[1], part.value[0].type.dtype)
                found.append(scope.spread(value, where.count) if isinstance(where, Lane) else value)
        return found

    def _known(self, carried: Sequence[Value], way: int) -> dict[Scalar, Value]:
        """The carried values of one way."""
        count = len(self.carried)
        return dict(zip(self.carried, carried[way * count : (way + 1) * count], strict=True))

    # ------------------------------------------------------------------ stores

    def _write(self, scope: Formulas, store: Store, value: Value) -> None:
        if count_of(value) is not None and scope.lane is not None and scope.lane.mask is not None:
            loads.store(scope, store, value)
            return
        place = loads.pointer(scope, self.written[store])
        self.builder.store(kept(self.builder, value, store.buffer.type.dtype), place, align=1)

    def _check(self, scope: Formulas, store: Store) -> None:
        """Leave the routine where an index that is known in this scope is out of range."""
        builder, written, shape = self.builder, self.written[store], store.buffer.type.shape
        assert shape is not None
        for axis, (index, size) in enumerate(zip(store.index, shape, strict=True)):
            if not self.facts.is_doubtful(index, size) or scope.is_checked((written, axis)):
                continue
            if not self.facts.free[index] <= scope.axes:
                continue
            same = [part for part in self.own if part.operands[axis] is index]
            scope.checked.update((part, axis) for part in (written, *same))
            value, limit = scope.typed(index, int64), self.record.size(size)
            bad = builder.icmp_unsigned(">=", value, limit)
            with builder.if_then(bad, likely=False):
                fault = Fault(f"index {{}} is out of range for axis {axis} of size {{}}", size)
                self.record.fail(builder, fault, as_given(builder, index, value, limit))

    # ------------------------------------------------------------------ sizes

    def _blocks(self) -> Dimension:
        assert self.inner is not None
        size = self.width * self.ways
        return floordiv(self.inner.extent + (size - 1), size)

    def _count(self) -> Dimension:
        count = product(axis.extent for axis in self.units)
        return count if self.inner is None else count * self._blocks()

    def _work(self) -> Dimension:
        formulas = [f for store in self.stores for f in store.formulas]
        bound = frozenset(self.axes)
        work = self.facts.work(*formulas, bound=bound)
        work = work + product(axis.extent for axis in self.kernel.order) * len(self.stores)
        if self.inner is None:
            return work
        return work * derived("min", self.inner.extent, self.width * self.ways)


def _is_before(part: Scalar, store: Store, axis: Axis) -> bool:
    """Whether a read is at the place that a store writes one step before, outside for the first."""
    shape = store.buffer.type.shape
    assert shape is not None
    outside = False
    for index, other, size in zip(store.index, part.operands, shape, strict=True):
        here, before = affine(index), affine(other)
        if here is None or before is None:
            return False
        if dict(before.steps) != dict(here.steps):
            return False
        step = here.step(axis)
        if before.constant != here.constant - step:
            return False
        if isinstance(step, int) and len(here.steps) == 1:
            outside |= (step == 1 and here.constant == 0) or (
                step == -1 and here.constant == size - 1
            )
    return outside
