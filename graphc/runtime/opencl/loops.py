"""Whole loops as one launch: each work-item walks all steps for its points, states in registers.

Enters: a loop of the plan. Leaves: its routine; None where its steps are no maps over the same
points (`runtime/whole_loops.py` says which are), or where launches of their own are quicker. A loop
over numbers is one work-item. Numbers beside arrays are computed by every item and written by the
first, so a guard may end a loop over arrays too.

On devices with vectors, one item takes a strip of neighbours, and each step is a loop over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphc.control import ENDLESS
from graphc.dims import Dimension, floordiv, product
from graphc.dtypes import float16, int64
from graphc.kernel import Axis, Buffer, Index, lift, read
from graphc.plan import Loop, Rows
from graphc.runtime.formulas import place_of
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.elements import array_of, number, register
from graphc.runtime.opencl.facts import Facts
from graphc.runtime.opencl.folds import reduced
from graphc.runtime.opencl.formula import Code, Scope
from graphc.runtime.opencl.primitives import FUNCTIONS
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.small_loops import compile_small_loop
from graphc.runtime.opencl.source import argument_bytes, grid_rows, placed
from graphc.runtime.whole_loops import Whole, whole
from graphc.scalar import Scalar, walk

GROUP = {"cpu": 4, "gpu": 64}
USUAL_GROUP = 16
STRIP = 16  # points of an item, where there are vectors
MANY = 2048  # points from which on vectors of special functions are worth a launch a step


def compile_loop(loop: Loop, capabilities: Capabilities) -> Routine | None:
    """The routine of a loop."""
    found = whole(loop)
    if found is None:
        return compile_small_loop(loop, capabilities)
    if _is_better_walked(found, capabilities):
        return None
    routine = _Writer(found, capabilities).routine()
    return None if argument_bytes(routine) > capabilities.parameters else routine


def _is_better_walked(found: Whole, capabilities: Capabilities) -> bool:
    """Whether a step has many functions, of which there are vectors in kernels of maps alone."""
    points = product(axis.extent for axis in found.kernel.axes)
    if capabilities.type != "cpu" or not isinstance(points, int) or points < MANY:
        return False
    return any(part.primitive in FUNCTIONS for part in found.kernel.formulas())


class _Writer:
    """The text of one loop."""

    def __init__(self, found: Whole, capabilities: Capabilities) -> None:
        self.whole, self.loop, self.capabilities = found, found.loop, capabilities
        self.code = Code(capabilities)
        self.kernel, self.step = found.kernel, found.step
        self.stores = self.kernel.stores
        self.initial = {
            state.before: read(state.initial)(*found.point(state.before))
            for state in self.loop.states
        }
        formulas = [f for store in self.stores for f in store.formulas]
        indices = [i for rows in found.rows for i in found.row(rows)]
        self.facts = Facts(
            (*formulas, *indices, *self.initial.values()), found.registers, [self.step]
        )
        self.order = list(self.facts.inside(*formulas))
        self.registers: dict[Buffer, list[Scalar]] = {}
        for part in walk(*formulas):
            if part.primitive == "read" and part.value[0] in found.registers:
                self.registers.setdefault(part.value[0], []).append(part)
        self.axes = grid_rows(self.kernel.axes)
        self.lanes = self._lanes()

    def _lanes(self) -> int:
        """The points of an item."""
        if self.capabilities.type != "cpu" or not self.axes[0]:
            return 1
        size = product(axis.extent for axis in self.axes[0])
        return max(1, min(STRIP, size)) if isinstance(size, int) else STRIP

    # ------------------------------------------------------------------ all of it

    def routine(self) -> Routine:
        """The code and its work-items."""
        code, lanes = self.code, self.lanes
        size = product(axis.extent for axis in self.axes[0])
        first = size if lanes == 1 else floordiv(size + (lanes - 1), lanes)
        items = (first, *(product(axis.extent for axis in row) for row in self.axes[1:]))
        lines, point, conditions = list[str](), dict[Axis, str](), list[str]()
        for place, row in enumerate(self.axes):
            lines.append(f"  const long g{place} = get_global_id({place});")
            conditions.append(f"g{place} < {code.size(items[place])}")
            if place or lanes == 1:
                more, at = placed(code, f"g{place}", row)
                lines += [f"  {line}" for line in more]
                point |= at
        self.first = " && ".join(f"g{place} == 0" for place in range(len(items)))
        scope = Scope(code, self.facts, point, reduced)
        self._strips(scope, size)
        text = [*lines, f"  if ({' && '.join(conditions)}) {{", *scope.lines, "  }"]
        writes = frozenset(self.loop.outer()[1])
        return Routine(
            self.kernel, code.text(text), tuple(code.buffers), tuple(code.sizes), writes, items,
            self._group(items), tuple(code.helpers), tuple(code.faults),
        )  # fmt: skip

    def _group(self, items: Sequence[Dimension]) -> tuple[int, ...]:
        most = GROUP.get(self.capabilities.type, USUAL_GROUP)
        if isinstance(items[0], int):
            most = max(1, min(most, items[0]))
        return (most, *[1] * (len(items) - 1))

    def _strips(self, scope: Scope, size: Dimension) -> None:
        """The loop for a whole strip, and for what is left at the end."""
        if self.lanes == 1:
            self._whole(scope, "1")
            return
        scope.line(f"const long first = g0 * {self.lanes};")
        if isinstance(size, int) and size % self.lanes == 0:
            self._whole(scope, str(self.lanes))
            return
        end = self.code.size(size)
        scope.line(f"if (first + {self.lanes} <= {end}) {{")
        self._whole(scope, str(self.lanes))
        scope.line("} else {")
        scope.line(f"  const int left = (int)({end} - first);")
        self._whole(scope, "left")
        scope.line("}")

    def _whole(self, outer: Scope, count: str) -> None:
        """All steps of `count` points."""
        self.count = count
        self.names = {state.before: self.code.name("s") for state in self.loop.states}
        block = outer.inner({})
        self._begin(block)
        self._steps(block)
        self._finish(block)
        outer.line("{")
        outer.close(block)

    # ------------------------------------------------------------------ its parts

    def _begin(self, block: Scope) -> None:
        """The first values of states; zeros where a step may not come; first rows."""
        for state in self.loop.states:
            kind, name = register(state.before.type.dtype), self.names[state.before]
            array = self._is_array(state.before)
            block.line(array_of(kind, name, self.lanes) if array else f"{kind} {name};")
        for each, buffers in self._parts(block, [s.before for s in self.loop.states]):
            for buffer in buffers:
                each.line(f"{self._register(buffer)} = {each.value(self.initial[buffer])};")
        for rows in self.whole.rows if self.loop.count is not None else ():
            self._clear(block, rows)
        for place, rows in self.loop.histories:
            before = self.loop.states[place].before
            for each, _ in self._parts(block, [before]):
                index = (lift(0), *self.whole.point(before))
                self._put(each, rows.of, index, self._register(before))

    def _clear(self, block: Scope, rows: Rows) -> None:
        """Zeros in all rows."""
        assert rows.of.type.shape is not None
        every = Axis(rows.of.type.shape[0])
        turn = block.open(every)
        for each, _ in self._parts(turn, [rows.row]):
            index = (every.position, *self.whole.point(rows.row))
            self._put(each, rows.of, index, number(0, rows.of.type.dtype))
        block.close(turn)

    def _steps(self, block: Scope) -> None:
        """The loop itself: tested at the end, so that what does not change comes before it."""
        block.line("long t = 0;")
        block.line(f"if ({self._goes_on()}) {{")
        before = block.inner({})
        before.prepare(self.order)
        step = before.inner({self.step: "t"})
        self._step(step)
        step.line("t++;")
        before.line("do {")
        before.lines += step.lines
        before.line(f"}} while ({self._goes_on()});")
        block.close(before)

    def _goes_on(self) -> str:
        """Whether there is another step."""
        loop = self.loop
        found = [] if loop.length == ENDLESS else [f"t < {self.code.size(loop.length)}"]
        if loop.count is not None:
            found.append(self._register(loop.states[0].before))
            if self.code.faults:  # what it reads in place of nothing may never end it
                found.append("*(volatile global int*)cell == 0")
        return " && ".join(found)

    def _step(self, step: Scope) -> None:
        """One step: what it makes from the states as they were, then what they become."""
        self._know(step, False)
        step.prepare(self.order)
        values: dict[Buffer, str] = {}
        made = {store.buffer: store for store in self.stores}
        for each, buffers in self._parts(step, list(made)):
            if each is not step:
                self._know(each, True)
            values |= {b: each.stored(made[b]) for b in buffers}
            for rows in self.whole.rows:
                if rows.row in buffers:
                    self._put(each, rows.of, self.whole.row(rows), values[rows.row])
            if each is not step:
                self._advance(each, values, True)
        self._advance(step, values, False)

    def _advance(self, scope: Scope, values: dict[Buffer, str], arrays: bool) -> None:
        """Let states be what a step made."""
        for state in self.loop.states:
            if self._is_array(state.after) is arrays:
                scope.line(f"{self._register(state.before)} = {values[state.after]};")

    def _finish(self, block: Scope) -> None:
        """The last states; how many steps there were."""
        lasts = {state.before: state.last for state in self.loop.states}
        for each, buffers in self._parts(block, list(lasts)):
            for buffer in buffers:
                last = lasts[buffer]
                self._put(each, last, self.whole.point(last), self._register(buffer))
        if self.loop.count is not None:
            self._put(block, self.loop.count, (), "t")

    # ------------------------------------------------------------------ points and registers

    def _is_array(self, buffer: Buffer) -> bool:
        """Whether a register holds a strip."""
        return self.lanes > 1 and bool(buffer.type.shape)

    def _register(self, buffer: Buffer) -> str:
        """The variable of a state, at a point."""
        name = self.names[buffer]
        return f"{name}[l]" if self._is_array(buffer) else name

    def _parts(
        self, scope: Scope, buffers: Sequence[Buffer]
    ) -> Iterator[tuple[Scope, list[Buffer]]]:
        """Those that are arrays, in a loop over the points of an item; then those that are not."""
        arrays = [buffer for buffer in buffers if buffer.type.shape]
        numbers = [buffer for buffer in buffers if not buffer.type.shape]
        if arrays and self.lanes == 1:
            yield scope, arrays
        elif arrays:
            if self.count == str(self.lanes):
                scope.lines.append("#pragma clang loop vectorize(assume_safety)")
            scope.line(f"for (int l = 0; l < {self.count}; l++) {{")
            lines, point = placed(self.code, "at", self.axes[0])
            lane = scope.inner(point)
            for line in ("const long at = first + l;", *lines):
                lane.line(line)
            yield lane, arrays
            scope.close(lane)
        if numbers:
            yield scope, numbers

    def _know(self, scope: Scope, arrays: bool) -> None:
        """Let registers be what formulas read of them."""
        index = self.loop.index
        for buffer, parts in self.registers.items():
            if self._is_array(buffer) is not arrays:
                continue
            if buffer is index.row:
                start, by = self.code.size(index.start), self.code.size(index.step)
                name = scope.variable(int64, f"{start} + {by} * t")
            else:
                name = self._register(buffer)
            for part in parts:
                scope.know(part, name)

    def _put(self, scope: Scope, buffer: Buffer, index: Index, value: str) -> None:
        """Write an element; one that has no points is written by the first item."""
        shape, dtype = buffer.type.shape, buffer.type.dtype
        assert shape is not None
        offset, name = scope.offset(place_of(index, shape)), self.code.buffer(buffer)
        text = f"{name}[{offset}] = {value};"
        if dtype is float16:
            text = f"vstore_half({value}, {offset}, {name});"
        alone = self.kernel.axes and buffer in self.whole.single
        scope.line(f"if ({self.first}) {text}" if alone else text)
