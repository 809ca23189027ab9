"""Kernels that go over rows several times, such as softmax: a row at a time, while it is near.

Enters: a kernel with reductions over rows, and of their results, and stores in the same rows.
Leaves: its `Routine`; None for others. In stages, each pass would bring all rows from memory.

Where a work-group is one thread, it takes strips of a row as vectors (`strips.py`): those of the
terms of a reduction are added lane by lane. On other devices a row has a work-group, whose items
take turns. What several passes need is computed again in each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from graphc.dtypes import DType
from graphc.kernel import ARGUMENTS, Axis, Kernel, Store
from graphc.runtime.opencl import vectors
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.elements import array_of, register
from graphc.runtime.opencl.facts import Facts, is_empty
from graphc.runtime.opencl.folds import COMBINED, fold_dtype, identity
from graphc.runtime.opencl.formula import Scope
from graphc.runtime.opencl.lanes import Body, Lanes
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.rows import BLOCK, LEAST_ROW, Along, Tree, halves, is_straight, least
from graphc.runtime.opencl.source import argument_bytes
from graphc.runtime.opencl.strips import Strip, Strips
from graphc.scalar import Scalar, walk

KEPT = 4_096  # terms of a row
GROUPS = 2  # rows for each compute unit are enough


def match(kernel: Kernel, capabilities: Capabilities) -> Routine | None:
    """The routine of a kernel that goes over each of its rows several times."""
    reductions = [f for f in kernel.formulas() if f.primitive == "reduce"]
    if kernel.ordered or not reductions or not all(map(_is_along, reductions)):
        return None
    facts = Facts(formula for store in kernel.stores for formula in store.formulas)
    rows = facts.free[reductions[0]]
    if not rows or any(facts.free[part] != rows for part in reductions):
        return None
    nested = any(x.primitive == "reduce" for part in reductions for x in walk(*part.operands))
    beside = [_beside(kernel, store, rows) for store in kernel.stores]
    if any(not rows <= store.axes() for store in kernel.stores) or any(len(b) > 1 for b in beside):
        return None
    axes = [axis for axis in kernel.axes if axis in rows]
    if (not nested and not any(beside)) or not _are_many(axes, reductions, capabilities):
        return None
    writer = _Vectors if capabilities.type == "cpu" else _Items
    found = writer(kernel, capabilities, reductions, axes).routine()
    return None if argument_bytes(found) > capabilities.parameters else found


def _is_along(part: Scalar) -> bool:
    kind, axes, _ = part.value
    return kind not in ARGUMENTS and axes != () and not is_empty(part) and is_straight(part)


def _beside(kernel: Kernel, store: Store, rows: frozenset[Axis] | Sequence[Axis]) -> list[Axis]:
    """The axes of a store that lie in the rows."""
    return [axis for axis in kernel.axes if axis in store.axes() and axis not in rows]


def _are_many(
    axes: Sequence[Axis], reductions: Sequence[Scalar], capabilities: Capabilities
) -> bool:
    """Whether there are rows for all compute units, and a row is worth it."""
    enough, points = GROUPS * capabilities.compute_units, 1
    for axis in axes:
        points *= axis.extent if isinstance(axis.extent, int) else enough
    length = least(reductions)
    return points >= enough and (length is None or length >= LEAST_ROW)


class _Vectors(Along):
    """One work-item for some rows, each in vectors."""

    kept: dict[Scalar, str]  # terms of reductions, in arrays

    def store(self, scope: Scope) -> None:
        """The stores of a row: those with one value, and those of each axis along it."""
        self.kept = {}
        scope.prepare(self.facts.inside(*(f for s in self.kernel.stores for f in s.formulas)))
        along: dict[Axis, list[Store]] = {}
        for store in self.kernel.stores:
            beside = _beside(self.kernel, store, self.rows)
            if beside:
                along.setdefault(beside[0], []).append(store)
            else:
                scope.store(store)
        for axis, stores in along.items():
            strips = self._strips([f for s in stores for f in s.formulas], axis)
            outer = scope.inner({})
            scope.line("{")
            for inner in _strips(outer, strips, "0", self.code.size(axis.extent), axis):
                strip = Strip(strips, inner)
                for part, text in self._found(strips, axis):
                    dtype = strips.dtype(part)
                    strip.known[part] = Lanes(strip.body, text, vectors.bits(dtype))
                strip.store(stores)
            scope.close(outer)

    def _found(self, strips: Strips, axis: Axis) -> Iterator[tuple[Scalar, str]]:
        """The formulas that are terms of a reduction, in another place, and their vectors."""
        keys = _Keys()
        kept = {
            keys.of(part.operands[0], part.value[1][-1]): array for part, array in self.kept.items()
        }
        for part in strips.functions:
            array = kept.get(keys.of(part, axis))
            if array is not None:
                yield part, f"vload{strips.lanes}(0, {array} + first)"

    def _is_kept(self, part: Scalar, strips: Strips, dtype: DType) -> bool:
        """Whether terms are worth an array: functions, in rows that are not long."""
        body, extent = part.operands[0], part.value[1][-1].extent
        short = isinstance(extent, int) and extent <= KEPT and len(part.value[1]) == 1
        read = any(_beside(self.kernel, store, self.rows) for store in self.kernel.stores)
        return short and read and body in strips.functions and strips.dtype(body) is dtype

    def _strips(self, formulas: Sequence[Scalar], axis: Axis) -> Strips:
        return Strips(self.code, self.facts, self.capabilities, formulas, (axis,))

    def reduced(self, scope: Scope, part: Scalar) -> str:
        """The value of a reduction: a result for each lane, of blocks, and these together."""
        dtype, (*outer, axis), code = fold_dtype(scope, part), part.value[1], self.code
        strips = self._strips(part.operands, axis)
        if not dtype.is_float:
            return super().reduced(scope, part)
        fold = _Fold(self, strips, part, dtype)
        total, here, name = code.name("a"), code.name("p"), fold.name
        begin, end, stop = code.name("k"), code.size(axis.extent), code.name("s")
        start, lanes, step = f"({name})({identity(part.value[0], dtype)})", fold.lanes, fold.step
        scope.line(f"{name} {total} = {start};")
        if self._is_kept(part, strips, dtype):
            self.kept[part] = fold.kept = code.name("t")
            size = -(-axis.extent // lanes) * lanes
            scope.line(array_of(register(dtype), fold.kept, size))
        scopes = self.opened(scope, part, outer)
        scopes[-1].line(f"for (long {begin} = 0; {begin} < {end}; {begin} += {step}) {{")
        block = scopes[-1].inner({})
        block.line(f"const long {stop} = min({begin} + {step}L, {end});")
        block.line(f"{name} {here} = {start};")
        for inner in _strips(block, strips, begin, stop, axis):
            fold.take(inner, here)
        fold.combine(block, total, here)
        scopes[-1].close(block)
        while len(scopes) > 1:
            last = scopes.pop()
            scopes[-1].close(last)
        array = code.name("a")
        scope.line(array_of(register(dtype), array, lanes))
        scope.line(f"vstore{lanes}({total}, 0, {array});")
        for half in halves(lanes):
            text = self.combined(part, dtype, f"{array}[l]", f"{array}[l + {half}]")
            scope.line(f"for (int l = 0; l < {half}; l++) {array}[l] = {text};")
        return self.finished(scope, part, dtype, f"{array}[0]")


def _strips(scope: Scope, strips: Strips, start: str, end: str, axis: Axis) -> Iterator[Scope]:
    """The scope inside of a loop over whole strips, then that of the one which is left, if any."""
    step = strips.lanes
    scope.line(f"long first = {start};")
    scope.line(f"for (; first + {step} <= {end}; first += {step}) {{")
    inner = scope.inner({})
    inner.line(f"const int left = {step};")
    yield inner
    scope.close(inner)
    if isinstance(axis.extent, int) and axis.extent % step == 0:
        return
    scope.line(f"if (first < {end}) {{")
    inner = scope.inner({})
    inner.line(f"const int left = (int)({end} - first);")
    yield inner
    scope.close(inner)


class _Keys:
    """Numbers of formulas, equal where these are alike along one axis each."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def of(self, formula: Scalar, axis: Axis) -> int:
        """The number of a formula along an axis."""
        found: dict[Scalar, int] = {}
        for part in walk(formula):
            along = part.primitive == "position" and part.value is axis
            value = repr(part.value) if part.primitive == "number" else part.value
            key = part.primitive, tuple([found[x] for x in part.operands]), None if along else value
            found[part] = self._numbers.setdefault(key, len(self._numbers))
        return found[formula]


class _Fold:
    """The partial results of a reduction, as vectors."""

    def __init__(self, rows: Along, strips: Strips, part: Scalar, dtype: DType) -> None:
        self.strips, self.part, self.dtype, self.code = strips, part, dtype, rows.code
        self.lanes, self.step = strips.lanes, BLOCK * strips.lanes
        self.name = f"{register(dtype)}{self.lanes}"
        self.operation = vectors.OPERATIONS[COMBINED[part.value[0]]]
        self.kept = ""  # the array that terms are kept in, if any

    def take(self, scope: Scope, here: str) -> None:
        """One more term for each lane that has one."""
        strip, (body,) = Strip(self.strips, scope), self.part.operands
        held, lanes = Lanes(strip.body, here, vectors.bits(self.dtype)), self.lanes
        fuses = self.code.fused and self.part.value[0] == "sum"
        if fuses and body.primitive == "multiply" and scope.facts.kinds[body] is self.dtype:
            x, y = strip.values([(operand, self.dtype) for operand in body.operands])
            new = x.call("fmuladd", y, held)
        else:
            [value] = strip.values([(body, self.dtype)])
            new = self.operation(held, value)
            if self.kept:
                scope.line(f"vstore{lanes}({value.value}, 0, {self.kept} + first);")
        strip.values(())  # the lines of this
        scope.line(f"if (left == {lanes}) {here} = {new.value};")
        scope.line(f"else {{ {register(self.dtype)} t[{lanes}], h[{lanes}];")
        scope.line(f"  vstore{lanes}({new.value}, 0, t); vstore{lanes}({here}, 0, h);")
        scope.line("  for (int l = 0; l < left; l++) h[l] = t[l];")
        scope.line(f"  {here} = vload{lanes}(0, h); }}")

    def combine(self, scope: Scope, total: str, here: str) -> None:
        """A block with those before it."""
        body, bits = Body(self.lanes, self.code.fused, self.code.name), vectors.bits(self.dtype)
        result = self.operation(Lanes(body, total, bits), Lanes(body, here, bits))
        for line in body.lines:
            scope.line(line)
        scope.line(f"{total} = {result.value};")


class _Items(Tree):
    """A work-group for each row, whose items take turns in all passes."""

    def store(self, scope: Scope) -> None:
        """The stores of a row."""
        scope.prepare(self.facts.inside(*(f for s in self.kernel.stores for f in s.formulas)))
        for store in self.kernel.stores:
            beside, at = _beside(self.kernel, store, self.rows), self.code.name("r")
            if beside:
                end = self.code.size(beside[0].extent)
                scope.line(f"for (long {at} = lane; {at} < {end}; {at} += {self.items}) {{")
                inner = scope.inner({beside[0]: at})
            else:
                scope.line("if (lane == 0) {")
                inner = scope.inner({})
            inner.store(store)
            scope.close(inner)
