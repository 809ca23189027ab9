"""Loops of little work as one launch: a single work-item takes all steps, over small arrays.

Enters: a loop of the plan whose steps are kernels, of sizes that are known. Leaves: its routine;
None where a step is more work than launching its kernels costs. Unlike in whole loops (`loops.py`),
a point of a state may need all others: a cell of a recurrent network is such. States, and what one
kernel makes for another, are arrays of the work-item; kernels are loops over their axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.collapse import collapse
from graphc.control import ENDLESS
from graphc.costs import operations
from graphc.dims import Dimension, product
from graphc.dtypes import float16
from graphc.kernel import Axis, Buffer, Kernel, Store
from graphc.plan import Call, Loop, Rows
from graphc.runtime.memory import shape_of
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.elements import array_of
from graphc.runtime.opencl.facts import Facts
from graphc.runtime.opencl.folds import reduced
from graphc.runtime.opencl.formula import Code, Scope
from graphc.runtime.opencl.primitives import FUNCTIONS
from graphc.runtime.opencl.routine import Routine, memory
from graphc.runtime.opencl.source import argument_bytes
from graphc.runtime.whole_loops import called, row_of
from graphc.scalar import Scalar

WORK = {"cpu": 8192, "gpu": 256}  # operations of a step, about as long as a launch
USUAL_WORK = 256
FUNCTION = 16  # operations that a special function is
ELEMENTS = 1024  # of all arrays


def compile_small_loop(loop: Loop, capabilities: Capabilities) -> Routine | None:
    """The routine of a loop."""
    kernels = [step.kernel for step in loop.steps if isinstance(step, Call)]
    if len(kernels) < len(loop.steps) or any(kernel.order for kernel in kernels):
        return None
    if not kernels or not _is_little(loop, kernels, WORK.get(capabilities.type, USUAL_WORK)):
        return None
    routine = _Writer(loop, kernels, capabilities).routine()
    if argument_bytes(routine) > capabilities.parameters or routine.writes & {*routine.reads}:
        return None
    return routine


def _inner(loop: Loop, kernels: Sequence[Kernel]) -> list[Buffer]:
    """What a step has of its own: its number, states, and what kernels make."""
    states = [b for state in loop.states for b in (state.before, state.after)]
    made = [store.buffer for kernel in kernels for store in kernel.stores]
    return list(dict.fromkeys([loop.index.row, *states, *made]))


def _is_little(loop: Loop, kernels: Sequence[Kernel], most: int) -> bool:
    """Whether all sizes are known, and small."""
    inner = _inner(loop, kernels)
    made = {store.buffer for kernel in kernels for store in kernel.stores}
    if any(state.after not in made for state in loop.states):
        return False
    if any(rows.row not in made for rows in _stacks(loop)):
        return False
    if any(buffer.type.dtype is float16 for buffer in inner):
        return False  # not every device has arrays of them
    sizes = [_elements(buffer) for buffer in inner]
    work = [_work(kernel) for kernel in kernels]
    return _sum(sizes) <= ELEMENTS and _sum(work) <= most


def _sum(sizes: Sequence[Dimension]) -> float:
    """Of sizes that are known; infinite where one is not."""
    return sum(size if isinstance(size, int) else float("inf") for size in sizes)


def _work(kernel: Kernel) -> Dimension:
    """The operations of a kernel; unknown where a reduction may have no terms."""
    functions = sum(part.primitive in FUNCTIONS for part in kernel.formulas())
    for part in kernel.formulas():
        if part.primitive == "reduce":
            terms = product(axis.extent for axis in part.value[1])
            if not isinstance(terms, int) or terms == 0:
                return terms + (1 << 62)
    return operations(kernel) + FUNCTION * functions * product(axis.extent for axis in kernel.axes)


def _stacks(loop: Loop) -> list[Rows]:
    return list(dict.fromkeys([*loop.writes, *(rows for _, rows in loop.histories)]))


def _elements(buffer: Buffer) -> Dimension:
    return product(shape_of(buffer))


class _Code(Code):
    """The text of a routine that has arrays of its own."""

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities)
        self.arrays: dict[Buffer, str] = {}

    def buffer(self, buffer: Buffer) -> str:
        """The pointer to a buffer's first element, or an array."""
        return self.arrays.get(buffer) or super().buffer(buffer)


class _Writer:
    """The text of one loop."""

    def __init__(self, loop: Loop, kernels: Sequence[Kernel], capabilities: Capabilities) -> None:
        self.loop, self.step, self.code = loop, Axis(loop.length), _Code(capabilities)
        self.called, self.inner = called(loop, kernels), _inner(loop, kernels)
        self.rows = {rows.row: rows for rows in loop.reads}
        self.kernels = [collapse(self.located(kernel)) for kernel in kernels]
        formulas = [f for kernel in self.kernels for store in kernel.stores for f in store.formulas]
        self.facts = Facts(formulas, self.inner, [self.step])

    def located(self, kernel: Kernel) -> Kernel:
        """The kernel with rows of sequences read where they lie."""
        made: dict[Scalar, Scalar] = {}
        for part in kernel.formulas():
            operands, value = tuple([made[x] for x in part.operands]), part.value
            if part.primitive == "read" and value[0] in self.rows:
                rows = self.rows[value[0]]
                operands = (row_of(rows, self.step), *operands)
                made[part] = Scalar("read", operands, (rows.of, value[1]))
            elif any(a is not b for a, b in zip(operands, part.operands, strict=True)):
                made[part] = Scalar(part.primitive, operands, value)
            else:
                made[part] = part
        stores = [
            Store(store.buffer, tuple([made[i] for i in store.index]), made[store.value])
            for store in kernel.stores
        ]
        return Kernel(kernel.name, kernel.axes, tuple(stores), kernel.lines)

    # ------------------------------------------------------------------ all of it

    def routine(self) -> Routine:
        """The code, for a single work-item."""
        code, loop = self.code, self.loop
        scope = Scope(code, self.facts, {}, reduced)
        for buffer in self.inner:
            code.arrays[buffer] = code.name("a")
            size = max(1, int(_sum([_elements(buffer)])))
            scope.line(array_of(memory(buffer.type.dtype), code.arrays[buffer], size))
        self._begin(scope)
        step = scope.inner({self.step: "t"})
        self._step(step)
        scope.line("long t = 0;")
        scope.line(f"while ({self._goes_on()}) {{")
        step.line("t++;")
        scope.close(step)
        for state in loop.states:
            self._copy(scope, state.last, state.before, state.before)
        if loop.count is not None:
            scope.line(f"{code.buffer(loop.count)}[0] = t;")
        name, lines = self.called
        text = ["  if (get_global_id(0) == 0) {", *scope.lines, "  }"]
        return Routine(
            Kernel(name, (), (), lines), code.text(text), tuple(code.buffers), tuple(code.sizes),
            frozenset(loop.outer()[1]), (1,), (1,), tuple(code.helpers), tuple(code.faults),
        )  # fmt: skip

    def _goes_on(self) -> str:
        """Whether there is another step."""
        loop = self.loop
        found = [] if loop.length == ENDLESS else [f"t < {self.code.size(loop.length)}"]
        if loop.count is not None:
            found.append(f"{self.code.buffer(loop.states[0].before)}[0]")
            if self.code.faults:  # what it reads in place of nothing may never end it
                found.append("*(volatile global int*)cell == 0")
        return " && ".join(found)

    def _begin(self, scope: Scope) -> None:
        """The first values of states; zeros where a step may not come; first rows."""
        loop, code = self.loop, self.code
        for state in loop.states:
            self._copy(scope, state.before, state.initial, state.before)
        for rows in _stacks(loop) if loop.count is not None else ():
            end = code.size(_elements(rows.of))
            scope.line(f"for (long i = 0; i < {end}; i++) {code.buffer(rows.of)}[i] = 0;")
        for number, rows in loop.histories:
            before = loop.states[number].before
            self._copy(scope, rows.of, before, before)

    def _step(self, step: Scope) -> None:
        """One step: its kernels, then rows and states."""
        loop, code = self.loop, self.code
        start, by = code.size(loop.index.start), code.size(loop.index.step)
        step.line(f"{code.buffer(loop.index.row)}[0] = {start} + {by} * t;")
        for kernel in self.kernels:
            groups: dict[tuple[Axis, ...], list[Store]] = {}
            for store in kernel.stores:
                mentioned = store.axes()
                axes = tuple([axis for axis in kernel.axes if axis in mentioned])
                groups.setdefault(axes, []).append(store)
            for axes, stores in groups.items():
                self._nest(step, axes, stores)
        for rows in _stacks(loop):
            size = code.size(_elements(rows.row))
            place = f"({code.size(rows.start)} + {code.size(rows.step)} * t) * {size}"
            self._copy(step, rows.of, rows.row, rows.row, place)
        for state in loop.states:
            self._copy(step, state.before, state.after, state.before)

    def _nest(self, step: Scope, axes: Sequence[Axis], stores: Sequence[Store]) -> None:
        """Stores at all points of axes."""
        order = list(self.facts.inside(*(f for store in stores for f in store.formulas)))
        step.line("{")
        scopes = [step.inner({})]
        for axis in axes:
            scopes[-1].prepare(order)
            scopes.append(scopes[-1].open(axis))
        values = [scopes[-1].stored(store) for store in stores]
        for store, value in zip(stores, values, strict=True):
            scopes[-1].write(store, value)
        for inner in reversed(scopes):
            scope = scopes[scopes.index(inner) - 1] if inner is not scopes[0] else step
            scope.close(inner)

    def _copy(
        self, scope: Scope, target: Buffer, source: Buffer, shape: Buffer, place: str = "0"
    ) -> None:
        """Copy as many elements as a buffer has."""
        code, end = self.code, self.code.size(_elements(shape))
        offset = "i" if place == "0" else f"{place} + i"
        text = f"{code.buffer(target)}[{offset}] = {code.buffer(source)}[i];"
        scope.line(f"for (long i = 0; i < {end}; i++) {text}")
