"""The emission of formulas: the value of a `Scalar` at a point of a loop nest, as OpenCL C.

Enters: facts about the formulas, and a point: the names of variables that say where each axis
stands. Leaves: lines of C, and names of values. A kernel's loops are scopes, each made by `inner`
of the one around it; a formula is evaluated once in a scope, and what an outer scope has evaluated
is used inside. So loops are left free of what does not change in them by asking the outer scope
first, with `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from graphc.affine import is_inside
from graphc.dims import Dim, Dimension
from graphc.dtypes import DType, bool_, float16, float32, int64
from graphc.kernel import Axis, Buffer, Store
from graphc.runtime.faults import Fault
from graphc.runtime.formulas import Place, place_of
from graphc.runtime.opencl import primitives
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.elements import HALF_HELPER, cast, number, register
from graphc.runtime.opencl.facts import Facts
from graphc.runtime.opencl.functions import Functions
from graphc.runtime.opencl.routine import FAULT_HELPER, memory
from graphc.runtime.scopes import LEAVES, PointScope
from graphc.scalar import COMPARISONS, Scalar, operand_dtype

KEEP_HALF = frozenset((
    "negative", "absolute", "copysign", "minimum", "maximum", "floor", "ceil", "trunc", "rint",
    "select", *COMPARISONS,
))  # fmt: skip  # of values that float16 holds, these give such values
Reducer: TypeAlias = "Callable[[Scope, Scalar], str]"


class Code:
    """What the text of one routine takes: arguments, helpers, faults, names of variables."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.fused = capabilities.fused  # there is a quick `fma`
        self.functions = Functions.of(capabilities)
        self.buffers: dict[Buffer, str] = {}
        self.sizes: dict[Dim, str] = {}
        self.helpers: dict[str, None] = {}
        self.faults: dict[Fault, int] = {}
        self.written: frozenset[Buffer] = frozenset()  # what a kernel in order reads and writes
        self.count = 0

    def name(self, prefix: str = "v") -> str:
        """A variable that nobody else has."""
        self.count += 1
        return f"{prefix}{self.count}"

    def buffer(self, buffer: Buffer) -> str:
        """The pointer to a buffer's first element."""
        return self.buffers.setdefault(buffer, f"b{len(self.buffers)}")

    def size(self, dimension: Dimension) -> str:
        """The value of a size, as a long."""
        if not isinstance(dimension, Dim):
            return number(dimension, int64)
        return self.sizes.setdefault(dimension, f"n{len(self.sizes)}")

    def fault(self, fault: Fault) -> int:
        """The number of a fault."""
        self.helpers[FAULT_HELPER] = None
        return self.faults.setdefault(fault, len(self.faults))

    def arguments(self) -> str:
        """The list of arguments, as `routine` has it."""
        found = [f"global {memory(b.type.dtype)}* {n}, long {n}_" for b, n in self.buffers.items()]
        found += [f"long {name}" for name in self.sizes.values()]
        if self.faults:
            found.append("global int* cell, int launch")
        return ", ".join(found)

    def text(self, lines: Iterable[str]) -> str:
        """The arguments and the body."""
        starts = [f"  {name} += {name}_;" for name in self.buffers.values()]
        return "\n".join([f"({self.arguments()}) {{", *starts, *lines, "}\n"])


class Scope(PointScope[str, str]):
    """Values of formulas at one point; see the module."""

    facts: Facts

    def __init__(
        self,
        code: Code,
        facts: Facts,
        point: Mapping[Axis, str],
        reducer: Reducer | None = None,
        parent: Scope | None = None,
    ) -> None:
        super().__init__(facts, point, parent=parent)
        self.code, self.reducer = code, reducer
        self.lines: list[str] = []
        self._indent: int = parent._indent + 1 if parent else 1

    def inner(self, point: Mapping[Axis, str]) -> Scope:
        """The scope inside a loop that binds more axes; `close` puts its lines here."""
        return Scope(self.code, self.facts, point, self.reducer, self)

    def line(self, text: str) -> None:
        """One more line."""
        self.lines.append("  " * self._indent + text)

    def open(self, axis: Axis, start: str = "0") -> Scope:
        """A loop over an axis."""
        at = self.code.name("r")
        end = self.code.size(axis.extent)
        self.line(f"for (long {at} = {start}; {at} < {end}; {at}++) {{")
        return self.inner({axis: at})

    def close(self, inner: Scope) -> None:
        """The end of what `open` or a line with a brace began."""
        self.lines += inner.lines
        self.line("}")

    def variable(self, dtype: DType, text: str) -> str:
        """A new constant of a value."""
        name = self.code.name()
        self.line(f"const {register(dtype)} {name} = {text};")
        return name

    # ------------------------------------------------------------------ values

    def constant(self, value: Any, dtype: DType) -> str:
        """A number as a literal of a dtype."""
        return number(value, dtype)

    def cast(self, value: str, source: DType, target: DType) -> str:
        """A value of one dtype as another."""
        return cast(value, source, target, self.code.helpers)

    def prepare(self, formulas: Iterable[Scalar]) -> None:
        """Evaluate what these formulas need and this scope can give, before a loop inside it."""
        for part in formulas:
            if part.primitive not in LEAVES and self.facts.free[part] <= self.axes:
                self.value(part)

    # ------------------------------------------------------------------ emission

    def _emit(self, part: Scalar) -> str:
        match part.primitive:
            case "position":
                return self.where(part.value)
            case "extent":
                return self.code.size(part.value)
            case "reduce":
                assert self.reducer is not None
                return self.reducer(self, part)
        kind = self.facts.kinds[part]
        assert isinstance(kind, DType), "a number takes the dtype of what stands beside it"
        if part.primitive == "read":
            return self.variable(kind, self._read(part))
        if part.primitive == "cast":
            return self.variable(kind, self.typed(part.operands[0], part.value))
        return self.variable(kind, self._primitive(part))

    def _primitive(self, part: Scalar) -> str:
        kinds = [self.facts.kinds[x] for x in part.operands]
        dtype = operand_dtype(part.primitive, kinds)
        picks = part.primitive == "select"
        computed = float32 if dtype is float16 else dtype
        values = [self.typed(x, dtype) for x in part.operands[picks:]]
        if picks:
            values.insert(0, self.typed(part.operands[0], bool_))
        code = self.code
        if code.functions.has(part.primitive, computed):
            text = code.functions.call(part.primitive, computed, values, code.helpers)
        else:
            text = primitives.emit(part.primitive, computed, values, code.helpers)
        if dtype is float16 and part.primitive not in KEEP_HALF:
            self.code.helpers[HALF_HELPER] = None
            return f"graphc_half({text})"
        return text

    # ------------------------------------------------------------------ memory

    def offset(self, place: Place) -> str:
        """How many elements a place lies behind the first."""
        terms = [] if _is_zero(place.offset.constant) else [self.code.size(place.offset.constant)]
        for axis, step in place.offset.steps.items():
            terms.append(self._times(self.where(axis), step))
        for formula, step in place.terms:
            terms.append(self._times(self.typed(formula, int64), step))
        return " + ".join(terms) or "0"

    def _times(self, position: str, step: Dimension) -> str:
        if isinstance(step, int) and step == 1:
            return position
        return f"{position} * {self.code.size(step)}"

    def _read(self, part: Scalar) -> str:
        buffer, outside = part.value
        dtype = buffer.type.dtype
        place = self.facts.places[part]
        text = load(self.code.buffer(buffer), self.offset(place), dtype)
        conditions = self.needed(part)
        if outside is None:
            conditions += self._checks(part, place, conditions)
        else:
            conditions += self._inside(part)
        if not conditions:
            return text
        return f"({' && '.join(conditions)}) ? {text} : {number(outside or 0, dtype)}"

    def _inside(self, part: Scalar) -> list[str]:
        """Conditions under which an index lies inside of a buffer."""
        found = []
        for index, size in zip(part.operands, part.value[0].type.shape, strict=True):
            if not is_inside(index, size):
                found.append(f"(ulong){self.typed(index, int64)} < (ulong){self.code.size(size)}")
        return found

    def _checks(self, part: Scalar, place: Place, conditions: list[str]) -> list[str]:
        """Conditions of indices that are data, with the fault where one does not hold."""
        facts, found = self.facts, []
        shape = part.value[0].type.shape
        for axis, (index, size) in enumerate(zip(part.operands, shape, strict=True)):
            doubtful = index in facts.data or not facts.free[index]
            given = doubtful and any(index is term for term, _ in place.terms)
            written = part.value[0] in self.code.written
            if given or (written and facts.is_doubtful(index, size)):
                found.append(self.check(index, axis, size, conditions))
        return found

    def check(self, index: Scalar, axis: int, size: Dimension, conditions: list[str]) -> str:
        """The name of whether an index is in range; where it is not, a fault is noted."""
        value, limit = self.typed(index, int64), self.code.size(size)
        holds = self.variable(bool_, f"(ulong){value} < (ulong){limit}")
        fault = Fault(f"index {{}} is out of range for axis {axis} of size {{}}", size)
        given = value
        if index.primitive == "select":  # one that is negative still was counted from the end
            given = f"({value} < 0 ? {value} - {limit} : {value})"
        called = f"graphc_fault(cell, launch, {self.code.fault(fault)}, {given})"
        self.line(f"if ({' && '.join([*conditions, f'!{holds}'])}) {called};")
        return holds

    def needed(self, part: Scalar) -> list[str]:
        """Conditions under which a read happens at all: an inner loop may have no points."""
        bound = {axis.extent for axis in self.axes if isinstance(axis.extent, Dim)}
        missing = self.facts.guards.get(part, frozenset()) - bound
        return [f"{self.code.size(size)} > 0" for size in sorted(missing, key=repr)]

    def store(self, store: Store) -> None:
        """Write the value of a store at this point."""
        self.write(store, self.stored(store))

    def stored(self, store: Store) -> str:
        """What a store writes here, in the dtype of its buffer."""
        dtype = store.buffer.type.dtype
        return self.variable(dtype, self.typed(store.value, dtype))

    def write(self, store: Store, value: str) -> None:
        """Write a value where a store says."""
        shape, dtype = store.buffer.type.shape, store.buffer.type.dtype
        assert shape is not None
        place, conditions = place_of(store.index, shape), []
        for axis, (index, size) in enumerate(zip(store.index, shape, strict=True)):
            if self.facts.is_doubtful(index, size):
                conditions.append(self.check(index, axis, size, []))
        name, offset = self.code.buffer(store.buffer), self.offset(place)
        text = f"{name}[{offset}] = {value};"
        if dtype is float16:
            text = f"vstore_half({value}, {offset}, {name});"
        self.line(f"if ({' && '.join(conditions)}) {text}" if conditions else text)


def load(name: str, offset: str, dtype: DType) -> str:
    """An element of memory as a value in a register."""
    if dtype is float16:
        return f"vload_half({offset}, {name})"
    return f"({name}[{offset}] != 0)" if dtype is bool_ else f"{name}[{offset}]"


def _is_zero(size: Dimension) -> bool:
    return isinstance(size, int) and size == 0
