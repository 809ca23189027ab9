"""Kernels of reductions, written so that neighbouring elements are reduced side by side.

Enters: a kernel whose stores are all done at each point of its axes, and reduce something there.
Leaves: its `Routine`; None where one work-item a point does as well.

Where a work-group runs on one thread it is one item, whose inner loops are over `lanes` elements of
an array that holds as many partial results: compilers turn these into vectors, as they do not with
loops over work-items that have loops inside. The lanes are neighbours along the reduction
(`Along`: rows), or else along the last axis of the points (`_Across`: columns). On other devices
rows have a work-group each, whose items meet in a tree (`Tree`).

What is added to what is written in the code, so a result depends on sizes alone. Long sums of
floats are taken in blocks, and their error grows with the length of a block and their number only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.affine import place
from graphc.contractions import is_one
from graphc.dims import Dim, Dimension, floordiv, product
from graphc.dtypes import DType
from graphc.kernel import ARGUMENTS, Axis, Kernel
from graphc.runtime.opencl import primitives
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.elements import array_of, cast, number, register
from graphc.runtime.opencl.facts import Facts
from graphc.runtime.opencl.folds import COMBINED, fold_dtype, identity
from graphc.runtime.opencl.formula import Code, Scope
from graphc.runtime.opencl.routine import Routine
from graphc.scalar import Scalar, walk

BLOCK = 64  # turns of the lanes that are added up plainly
WORK = 1_024  # terms that are worth a work-group
COLUMNS = 64  # of a work-group
LEAST_ROW = 32  # terms of a row that are worth lanes
ITEMS = 128  # of a work-group for each row


def match(kernel: Kernel, capabilities: Capabilities) -> Routine | None:
    """The routine of a kernel of reductions; None where it is none, or another way is as quick."""
    if kernel.ordered:
        return None
    reductions = [f for f in kernel.formulas() if f.primitive == "reduce"]
    if not reductions or not all(map(_is_plain, reductions)):
        return None
    if any(set(kernel.axes) - store.axes() for store in kernel.stores):
        return None
    straight = not kernel.axes or all(map(is_straight, reductions))
    length = least(reductions)
    if straight and length is not None and length < LEAST_ROW:
        return None
    if capabilities.type == "cpu":
        return (Along if straight else _Across)(kernel, capabilities, reductions).routine()
    return Tree(kernel, capabilities, reductions).routine() if straight else None


def _is_plain(part: Scalar) -> bool:
    """Whether a reduction is over values alone, with points, and has none inside."""
    kind, axes, _ = part.value
    if (
        kind in ARGUMENTS
        or not axes
        or any(isinstance(a.extent, int) and a.extent == 0 for a in axes)
    ):
        return False
    return not any(f.primitive == "reduce" for f in walk(*part.operands))


def is_straight(part: Scalar) -> bool:
    """Whether most reads of a reduction take neighbours along its last axis."""
    axis, votes = part.value[1][-1], 0
    for read in walk(*part.operands):
        if read.primitive == "read":
            found = place(read.operands, read.value[0].type.shape)
            if found is not None and found.steps:
                step = found.step(axis)
                votes += 1 if is_one(step) else 0 if isinstance(step, int) and step == 0 else -1
    return votes >= 0


def least(reductions: Sequence[Scalar]) -> int | None:
    """The terms of the shortest reduction of known length."""
    lengths = [product(a.extent for a in part.value[1]) for part in reductions]
    return min((n for n in lengths if isinstance(n, int)), default=None)


class _Writer:
    """What all ways have in common: the fold of a reduction, and how its result is finished."""

    def __init__(
        self,
        kernel: Kernel,
        capabilities: Capabilities,
        reductions: Sequence[Scalar],
        rows: Sequence[Axis] | None = None,
    ) -> None:
        """`rows`: the axes at each point of which there is a value of each reduction."""
        self.kernel, self.reductions, self.capabilities = kernel, reductions, capabilities
        self.code = Code(capabilities)
        self.facts = Facts(formula for store in kernel.stores for formula in store.formulas)
        widest = max(_bits(self.facts.kinds[x]) for r in reductions for x in (r, *r.operands))
        self.lanes = max(4, capabilities.lanes(max(widest, 32)))
        self.items = min(ITEMS, capabilities.work_group)
        self.items = 1 << (self.items.bit_length() - 1)
        self.rows = kernel.axes if rows is None else rows
        self.points = product(axis.extent for axis in self.rows)

    def routine(self) -> Routine:
        """The routine."""
        lines, items, group = self.body()
        kernel, code = self.kernel, self.code
        text = code.text(lines)
        return Routine(
            kernel, text, tuple(code.buffers), tuple(code.sizes),
            frozenset(store.buffer for store in kernel.stores), (items,), (group,),
            tuple(code.helpers), tuple(code.faults),
        )  # fmt: skip

    def body(self) -> tuple[list[str], Dimension, int]:
        """The lines, the work-items, and how many of them are a group."""
        raise NotImplementedError

    def combined(self, part: Scalar, dtype: DType, x: str, y: str) -> str:
        """Two partial results as one."""
        kind = part.value[0]
        if kind in ("any", "all"):
            return f"({x} {'|' if kind == 'any' else '&'} {y})"
        return primitives.emit(COMBINED[kind], dtype, (x, y), self.code.helpers)

    def term(self, inner: Scope, part: Scalar, dtype: DType, total: str) -> None:
        """Take one more term into a partial result."""
        body = part.operands[0]
        fuses = self.code.fused and part.value[0] == "sum" and dtype.is_float
        if fuses and body.primitive == "multiply" and inner.facts.kinds[body] is dtype:
            x, y = (inner.typed(operand, dtype) for operand in body.operands)
            inner.line(f"{total} = fma({x}, {y}, {total});")
        else:
            value = inner.typed(body, dtype)
            inner.line(f"{total} = {self.combined(part, dtype, total, value)};")

    def finished(self, scope: Scope, part: Scalar, dtype: DType, total: str) -> str:
        """The result, of all terms together: with the initial value, in the dtype it has."""
        kind, axes, initial = part.value
        if initial is not None:
            start = number(initial, dtype)
            total = scope.variable(dtype, self.combined(part, dtype, start, total))
        elif kind == "sum" and dtype.is_float:  # of nothing it is 0, and not the -0 it began with
            for size in dict.fromkeys(a.extent for a in axes if isinstance(a.extent, Dim)):
                total = scope.variable(dtype, f"{self.code.size(size)} == 0 ? 0 : {total}")
        result = self.facts.kinds[part]
        assert isinstance(result, DType)
        if result is dtype:
            return total
        return scope.variable(result, cast(total, dtype, result, self.code.helpers))

    def turn(
        self, scope: Scope, part: Scalar, dtype: DType, total: str, at: Mapping[Axis, str],
        count: str, width: int | None = None,
    ) -> None:  # fmt: skip
        """One term for each lane; `width`: of vectors, 0 for none."""
        scope.lines += _pragma(self.lanes if width is None else width)
        scope.line(f"for (int l = 0; l < {count}; l++) {{")
        names = {axis: self.code.name("r") for axis in at}
        inner = scope.inner(names)
        for axis, name in names.items():
            inner.line(f"const long {name} = {at[axis]};")
        self.term(inner, part, dtype, total)
        scope.close(inner)

    def place_lines(self, lines: list[str], name: str, axes: Sequence[Axis]) -> dict[Axis, str]:
        """Where axes stand that are walked as one."""
        point: dict[Axis, str] = {}
        for axis in reversed(axes[1:]):
            at, rest, size = self.code.name("i"), self.code.name("q"), self.code.size(axis.extent)
            lines.append(f"  const long {rest} = {name} / {size}, {at} = {name} - {rest} * {size};")
            point[axis], name = at, rest
        if axes:
            point[axes[0]] = name
        return point

    def opened(self, scope: Scope, part: Scalar, axes: Sequence[Axis]) -> list[Scope]:
        """Scopes of loops over axes, each left free of what does not change in it."""
        order, scopes = list(self.facts.inside(part.operands[0])), [scope]
        for axis in axes:
            scopes[-1].prepare(order)
            scopes.append(scopes[-1].open(axis))
        scopes[-1].prepare(order)
        return scopes


def _bits(kind: object) -> int:
    return kind.bits if isinstance(kind, DType) else 0


def _close(scopes: list[Scope]) -> None:
    while len(scopes) > 1:
        inner = scopes.pop()
        scopes[-1].close(inner)


def _has_blocks(part: Scalar, dtype: DType) -> bool:
    return part.value[0] == "sum" and dtype.is_float


class Along(_Writer):
    """One work-item for some points, its lanes along the last axis of a reduction."""

    def body(self) -> tuple[list[str], Dimension, int]:
        """The lines, the work-items, and how many of them are a group."""
        length = least(self.reductions)
        share = max(1, WORK // max(1, length)) if length is not None else 1
        lines = [
            f"  const long first = get_global_id(0) * {share}L;",
            f"  const long last = min(first + {share}L, {self.code.size(self.points)});",
            "  for (long g = first; g < last; g++) {",
        ]
        found: list[str] = []
        point = self.place_lines(found, "g", self.rows)
        scope = Scope(self.code, self.facts, point, self.reduced)
        self.store(scope)
        lines += [f"  {line}" for line in (*found, *scope.lines)] + ["  }"]
        return lines, floordiv(self.points + (share - 1), share), 1

    def store(self, scope: Scope) -> None:
        """What is done where all reductions have their values."""
        for store, value in [(s, scope.stored(s)) for s in self.kernel.stores]:
            scope.write(store, value)

    def reduced(self, scope: Scope, part: Scalar) -> str:
        """The value of a reduction."""
        dtype, axis = fold_dtype(scope, part), part.value[1][-1]
        code, lanes, name = self.code, self.lanes, register(fold_dtype(scope, part))
        total, here, start = code.name("a"), code.name("p"), identity(part.value[0], dtype)
        blocks = _has_blocks(part, dtype)
        scope.line(array_of(name, total, lanes))
        scope.line(f"for (int l = 0; l < {lanes}; l++) {total}[l] = {start};")
        scopes = self.opened(scope, part, part.value[1][:-1])
        inner, at, end = scopes[-1], code.name("k"), code.size(axis.extent)
        inner.line(f"long {at} = 0;")
        if blocks:
            inner.line(f"while ({at} + {lanes} <= {end}) {{")
            inner.line(array_of(name, here, lanes))
            inner.line(f"for (int l = 0; l < {lanes}; l++) {here}[l] = {start};")
            stop = f"min({at} + {BLOCK * lanes}L, {end})"
            inner.line(
                f"for (const long stop = {stop}; {at} + {lanes} <= stop; {at} += {lanes}) {{"
            )
        else:
            here = total
            inner.line(f"for (; {at} + {lanes} <= {end}; {at} += {lanes}) {{")
        self.turn(inner, part, dtype, f"{here}[l]", {axis: f"{at} + l"}, str(lanes))
        inner.line("}")
        if blocks:
            text = self.combined(part, dtype, f"{total}[l]", f"{here}[l]")
            inner.line(f"for (int l = 0; l < {lanes}; l++) {total}[l] = {text};")
            inner.line("}")
        self.turn(inner, part, dtype, f"{total}[l]", {axis: f"{at} + l"}, f"{end} - {at}", 0)
        _close(scopes)
        for half in halves(lanes):
            text = self.combined(part, dtype, f"{total}[l]", f"{total}[l + {half}]")
            scope.line(f"for (int l = 0; l < {half}; l++) {total}[l] = {text};")
        return self.finished(scope, part, dtype, f"{total}[0]")


def halves(lanes: int) -> list[int]:
    """Half of the lanes, a quarter, and so on until one."""
    return [lanes >> i for i in range(1, lanes.bit_length())]


def _pragma(width: int) -> list[str]:
    return [f"#pragma clang loop vectorize_width({width})"] if width else []


class _Across(_Writer):
    """One work-item for some neighbours along the last axis of the points, which are its lanes."""

    def body(self) -> tuple[list[str], Dimension, int]:
        """The lines, the work-items, and how many of them are a group."""
        code, last = self.code, self.kernel.axes[-1]
        size = code.size(last.extent)
        lines = [
            f"  const long across = ({size} + {COLUMNS - 1}) / {COLUMNS};",
            "  const long g = get_global_id(0), outer = g / across;",
            f"  const long first = (g - outer * across) * {COLUMNS};",
            f"  const int count = (int)min({COLUMNS}L, {size} - first);",
        ]
        point = self.place_lines(lines, "outer", self.kernel.axes[:-1])
        scope = Scope(code, self.facts, point)
        totals = [self._totals(scope, part, last) for part in self.reductions]
        scope.lines += _pragma(self.lanes)
        scope.line("for (int l = 0; l < count; l++) {")
        inner = scope.inner({last: "column"})
        inner.line("const long column = first + l;")
        for part, total in zip(self.reductions, totals, strict=True):
            dtype = fold_dtype(scope, part)
            inner.know(part, self.finished(inner, part, dtype, f"{total}[l]"))
        for store, value in [(s, inner.stored(s)) for s in self.kernel.stores]:
            inner.write(store, value)
        scope.close(inner)
        outer = product(axis.extent for axis in self.kernel.axes[:-1])
        return [*lines, *scope.lines], outer * floordiv(last.extent + (COLUMNS - 1), COLUMNS), 1

    def _totals(self, scope: Scope, part: Scalar, last: Axis) -> str:
        """The loops of a reduction; the name of the array of its results."""
        dtype, axes, code = fold_dtype(scope, part), part.value[1], self.code
        name, start = register(dtype), identity(part.value[0], dtype)
        total, here, blocks = code.name("a"), code.name("p"), _has_blocks(part, dtype)
        scope.line(array_of(name, total, COLUMNS))
        scope.line(f"for (int l = 0; l < {COLUMNS}; l++) {total}[l] = {start};")
        scopes = self.opened(scope, part, axes[:-1])
        outer, end = scopes[-1], code.size(axes[-1].extent)
        begin, at = code.name("k"), code.name("r")
        if blocks:
            outer.line(f"for (long {begin} = 0; {begin} < {end}; {begin} += {BLOCK}) {{")
            outer.line(array_of(name, here, COLUMNS))
            outer.line(f"for (int l = 0; l < {COLUMNS}; l++) {here}[l] = {start};")
            stop = f"min({begin} + {BLOCK}L, {end})"
            outer.line(f"for (long {at} = {begin}, stop = {stop}; {at} < stop; {at}++) {{")
        else:
            here = total
            outer.line(f"for (long {at} = 0; {at} < {end}; {at}++) {{")
        inner = outer.inner({axes[-1]: at})
        inner.prepare(self.facts.inside(part.operands[0]))
        self.turn(inner, part, dtype, f"{here}[l]", {last: "first + l"}, "count")
        outer.close(inner)
        if blocks:
            text = self.combined(part, dtype, f"{total}[l]", f"{here}[l]")
            outer.line(f"for (int l = 0; l < {COLUMNS}; l++) {total}[l] = {text};")
            outer.line("}")
        _close(scopes)
        return total


class Tree(_Writer):
    """A work-group for each point, whose items take turns along the last axis of a reduction."""

    def body(self) -> tuple[list[str], Dimension, int]:
        """The lines, the work-items, and how many of them are a group."""
        scratch: dict[str, str] = {}
        for part in self.reductions:
            dtype = register(fold_dtype(Scope(self.code, self.facts, {}), part))
            scratch[dtype] = f"scratch_{dtype}"
        lines = [f"  local {t} {name}[{self.items}];" for t, name in scratch.items()]
        lines.append("  const int lane = get_local_id(0);")
        lines.append("  const long g = get_group_id(0);")
        point = self.place_lines(lines, "g", self.rows)
        scope = Scope(self.code, self.facts, point, self.reduced)
        self.store(scope)
        return [*lines, *scope.lines], self.points * self.items, self.items

    def store(self, scope: Scope) -> None:
        """What is done where all reductions have their values."""
        values = [(store, scope.stored(store)) for store in self.kernel.stores]
        scope.line("if (lane == 0) {")
        inner = scope.inner({})
        for store, value in values:
            inner.write(store, value)
        scope.close(inner)

    def reduced(self, scope: Scope, part: Scalar) -> str:
        """The value of a reduction, which all items get."""
        dtype, axes, code = fold_dtype(scope, part), part.value[1], self.code
        total, name = code.name("a"), register(dtype)
        scratch, end, at = f"scratch_{name}", code.size(axes[-1].extent), code.name("r")
        scope.line(f"{name} {total} = {identity(part.value[0], dtype)};")
        scopes = self.opened(scope, part, axes[:-1])
        scopes[-1].line(f"for (long {at} = lane; {at} < {end}; {at} += {self.items}) {{")
        inner = scopes[-1].inner({axes[-1]: at})
        self.term(inner, part, dtype, total)
        scopes[-1].close(inner)
        _close(scopes)
        scope.line(f"{scratch}[lane] = {total};")
        for half in halves(self.items):
            scope.line("barrier(CLK_LOCAL_MEM_FENCE);")
            text = self.combined(part, dtype, f"{scratch}[lane]", f"{scratch}[lane + {half}]")
            scope.line(f"if (lane < {half}) {scratch}[lane] = {text};")
        scope.line("barrier(CLK_LOCAL_MEM_FENCE);")
        scope.line(f"{total} = {scratch}[0];")
        scope.line("barrier(CLK_LOCAL_MEM_FENCE);")
        return self.finished(scope, part, dtype, total)
