"""The emission of formulas: the value of a `Scalar` at a point of a loop nest, as LLVM IR.

Enters: a builder, facts about the formulas, and a point: where each axis stands, as an i64, or as
the `Lane` of a vector. Leaves: values: scalars of what does not depend on the vector axis, vectors
of what does. A kernel's loops are scopes, each made by `inner` of the one around it; a formula is
evaluated once in a scope, and what an outer scope has evaluated already is used inside. So loops
are left free of what does not change in them by asking the outer scope first, with `prepare`.

An epilogue of something else emits formulas like so, with the sum that it has as a known value:

    facts = Facts((store.value, *store.index), target)
    point = {row: i, column: Lane(j, lanes, mask)}         # i64s; the mask may be None
    scope = Formulas(builder, facts, surroundings, point, known={sum_formula: accumulator})
    scope.store(store)                                     # or scope.value(...), scope.vector(...)

`surroundings` gives addresses of buffers and values of sizes (`record.Surroundings`). `known` may
hold any formula of the kernel; its operands are then not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphc.dtypes import DType, bool_, float16, float32
from graphc.kernel import Axis, Store
from graphc.ops.broadcast import cast_array
from graphc.runtime.cpu import bounds, ir, loads
from graphc.runtime.cpu.analysis import Facts
from graphc.runtime.cpu.elements import as_array
from graphc.runtime.cpu.emission import INTEGER, Value, integer
from graphc.runtime.cpu.emission import splat as splat_of
from graphc.runtime.cpu.math.lanes import splat_constant
from graphc.runtime.cpu.record import Surroundings
from graphc.runtime.cpu.vector_math import cast, element_of, emit
from graphc.runtime.scopes import LEAVES, PointScope
from graphc.scalar import COMPARISONS, Scalar, operand_dtype


@dataclass(frozen=True, slots=True)
class Lane:
    """An axis as the lanes of a vector: lane l stands at base + l; a mask says which count."""

    base: Value
    count: int
    mask: Value | None = None


Where: TypeAlias = Value | Lane
Reducer: TypeAlias = "Callable[[Formulas, Scalar], Value]"


class Formulas(PointScope[Value, Where]):
    """Values of formulas at one point; see the module."""

    facts: Facts

    def __init__(
        self,
        builder: ir.IRBuilder,
        facts: Facts,
        record: Surroundings,
        point: Mapping[Axis, Where],
        known: Mapping[Scalar, Value] | None = None,
        reducer: Reducer | None = None,
        parent: Formulas | None = None,
    ) -> None:
        super().__init__(facts, point, known, parent)
        self.builder = builder
        self.record = record
        self.reducer = reducer
        self.pointers: dict[Scalar, Value] = {}
        self.checked: set[tuple[Scalar, int]] = set()
        self.vector_axis: Axis | None = parent.vector_axis if parent else None
        self.lane: Lane | None = parent.lane if parent else None
        for axis, where in point.items():
            if isinstance(where, Lane):
                self.vector_axis, self.lane = axis, where

    def inner(self, point: Mapping[Axis, Where], known: Any = None) -> Formulas:
        """The scope inside a loop that binds more axes."""
        return Formulas(
            self.builder, self.facts, self.record, point, known, self.reducer, parent=self
        )

    # ------------------------------------------------------------------ values

    def is_checked(self, index: tuple[Scalar, int]) -> bool:
        """Whether this scope or one around it has looked at an index of a read."""
        scope: Formulas | None = self
        while scope is not None and index not in scope.checked:
            scope = scope.parent
        return scope is not None

    def vector(self, formula: Scalar, dtype: DType) -> Value:
        """The value in all lanes, where this scope has lanes; else as it is."""
        value = self.typed(formula, dtype)
        return value if self.lane is None else self.spread(value, self.lane.count)

    def prepare(self, formulas: Iterable[Scalar]) -> None:
        """Evaluate what these formulas need and this scope can give, before a loop inside it.

        `formulas` are in the order of `Facts.inside`. Of reads, addresses are prepared too.
        """
        for part in formulas:
            if part.primitive in LEAVES:
                continue
            if self.facts.free[part] <= self.axes:
                self.value(part)
            elif part.primitive == "read" and self.found(part) is None:
                if part.value[1] is None:
                    bounds.check(self, part)
                loads.pointer(self, part)

    def cast(self, value: Value, source: DType, target: DType) -> Value:
        """A value of one dtype as another."""
        return cast(self.builder, value, source, target, self.facts.instructions)

    def constant(self, value: Any, dtype: DType) -> Value:
        """A number as a scalar of a dtype."""
        return constant(value, dtype)

    def spread(self, value: Value, count: int) -> Value:
        """A scalar in all lanes; a vector as it is."""
        if isinstance(value.type, ir.VectorType):
            return value
        return splat(self.builder, value, count)

    # ------------------------------------------------------------------ emission

    def _emit(self, part: Scalar) -> Value:
        match part.primitive:
            case "number":
                kind = self.facts.kinds[part]
                assert isinstance(kind, DType), "a number takes the dtype of what stands beside it"
                return self.constant(part.value, kind)
            case "position":
                return self._position(part.value)
            case "extent":
                return self.record.size(part.value)
            case "read":
                return loads.read(self, part)
            case "cast":
                return self.typed(part.operands[0], part.value)
            case "reduce":
                if self.reducer is None:
                    raise NotImplementedError("a reduction inside an epilogue")
                return self.reducer(self, part)
        return self._primitive(part)

    def _position(self, axis: Axis) -> Value:
        where = self.where(axis)
        if not isinstance(where, Lane):
            return where
        base = splat(self.builder, where.base, where.count)
        return self.builder.add(base, numbers(where.count))

    def _primitive(self, part: Scalar) -> Value:
        kinds = [self.facts.kinds[x] for x in part.operands]
        dtype = operand_dtype(part.primitive, kinds)
        picks = part.primitive == "select"
        half = dtype is float16 and not picks
        computed = float32 if half else dtype
        values = [self.typed(x, computed) for x in part.operands[picks:]]
        if picks:
            values.insert(0, self.typed(part.operands[0], bool_))
        counts = [v.type.count for v in values if isinstance(v.type, ir.VectorType)]
        if counts:
            values = [self.spread(v, counts[0]) for v in values]
        result = emit(self.builder, part.primitive, values, computed, self.facts.instructions)
        if half and part.primitive not in COMPARISONS:
            return self.cast(result, float32, float16)
        return result

    # ------------------------------------------------------------------ stores

    def store(self, store: Store) -> None:
        """Write the value of a store at this point, in the lanes that count."""
        loads.store(self, store, self.stored(store))

    def stored(self, store: Store) -> Value:
        """What a store writes here, in the dtype of its buffer."""
        dtype = store.buffer.type.dtype
        depends = any(self.vector_axis in self.facts.free[f] for f in store.formulas)
        return self.vector(store.value, dtype) if depends else self.typed(store.value, dtype)


def splat(builder: ir.IRBuilder, value: Value, count: int) -> Value:
    """A scalar in all lanes; of a constant a constant."""
    if isinstance(value, ir.Constant) and not isinstance(value.type, ir.HalfType):
        return splat_constant(value, count)
    return splat_of(builder, value, count)


def numbers(count: int) -> Value:
    """0, 1, 2 ..., one a lane."""
    return ir.Constant(ir.VectorType(INTEGER, count), [integer(i) for i in range(count)])


def constant(number: Any, dtype: DType) -> Value:
    """A number as an LLVM constant of a dtype."""
    value = cast_array(as_array(number), dtype)
    if dtype is float16:
        bits = int(value.view("uint16"))
        return ir.Constant(ir.IntType(16), bits).bitcast(ir.HalfType())
    if dtype.kind == "u":  # written as LLVM reads it: signed
        value = value.view(f"int{dtype.bits}")
    return ir.Constant(element_of(dtype), value.item() if dtype.is_float else int(value))
