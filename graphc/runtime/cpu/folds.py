"""What a reduction makes of two values: its state, where it starts, and how lanes become one.

Enters: the kind of a reduction, its dtype, and values of terms. Leaves: states, which are one
value, of the place of an extremum two, of an extremum of floats three; and the value of a state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dtypes import DType, bool_
from graphc.kernel import ARGUMENTS
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import Value, integer
from graphc.runtime.cpu.formula import Formulas, constant, numbers, splat
from graphc.runtime.cpu.math.lanes import Lanes
from graphc.runtime.cpu.vector_math import emit
from graphc.runtime.math.lanes import where

State = list[Value]
COMBINE = {
    "sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum",
    "any": "bit_or", "all": "bit_and",
}  # fmt: skip


class Fold:
    """One kind of reduction in one dtype: a state, and how two become one."""

    def __init__(self, scope: Formulas, kind: str, dtype: DType) -> None:
        self.builder = scope.builder
        self.instructions = scope.facts.instructions
        self.kind = kind
        self.dtype = dtype
        self.start: Value = integer(0)  # the first place of an extremum
        self.across = False  # whether the lanes are places of it
        self.is_float_extremum = kind in ("max", "min") and dtype.is_float

    def identity(self, count: int | None) -> State:
        """The state of nothing; the place of an extremum is then the first that a lane sees."""
        value = constant(_identity(self.kind, self.dtype), self.dtype)
        value = value if count is None else splat(self.builder, value, count)
        if self.kind in ARGUMENTS:
            return [value, self.start if count is None else self._places(count)]
        return self.state(value)

    def state(self, value: Value) -> State:
        """The state of one value.

        Of an extremum of floats, three extrema of their bits as integers: the largest signed, the
        smallest and the largest unsigned one. They tell the result, and cost an instruction each.
        """
        return [self._bits(value)] * 3 if self.is_float_extremum else [value]

    def _bits(self, value: Value) -> Value:
        return Lanes(self.builder, value).as_bits().value

    def final(self, state: State) -> Value:
        """The value of a state that is no place.

        Of floats, as integers, those without a sign come first, in order, then those with one, the
        other way round; NaN is beyond infinity on both sides.
        """
        if not self.is_float_extremum:
            return state[0]
        top, least, most = (Lanes(self.builder, x) for x in state)
        infinity = self._bits(constant(np.inf, self.dtype))
        lanes = top.count
        infinity = top.wrap(infinity if lanes is None else splat(self.builder, infinity, lanes))
        if self.kind == "max":
            extremum = where(top < 0, least, top)
            invalid = (most < 0) & (most > (infinity | top.format.sign))
        else:
            extremum = where(most < 0, most, least)
            invalid = top > infinity
        return where(invalid, np.nan, extremum.as_float()).value

    def _places(self, count: int) -> Value:
        first = splat(self.builder, self.start, count)
        return self.builder.add(first, numbers(count)) if self.across else first

    def add(self, a: State, b: State) -> State:
        """A state with a term more, whose place is behind all that it has seen."""
        return self._better(a, b, False) if self.kind in ARGUMENTS else self.combine(a, b)

    def combine(self, a: State, b: State) -> State:
        """Two states as one."""
        if self.kind in ARGUMENTS:
            return self._better(a, b, True)
        if self.is_float_extremum:
            return [
                Lanes(self.builder, x).call(name, Lanes(self.builder, y)).value
                for name, x, y in zip(("smax", "umin", "umax"), a, b, strict=True)
            ]
        primitive = COMBINE[self.kind]
        return [emit(self.builder, primitive, [a[0], b[0]], self.dtype, self.instructions)]

    def _better(self, a: State, b: State, in_any_order: bool) -> State:
        """The extremum of two, the first place of equals; NaN is beyond everything."""
        builder = self.builder
        (x, i), (y, j) = a, b
        sign = ">" if self.kind == "argmax" else "<"
        if self.dtype.is_float:
            known = builder.fcmp_ordered("ord", x, x)
            wins = builder.and_(builder.fcmp_unordered(sign, y, x), known)
        else:
            signed = builder.icmp_signed if self.dtype.kind == "i" else builder.icmp_unsigned
            wins = signed(sign, y, x)
        if in_any_order:
            earlier = builder.icmp_signed("<", j, i)
            wins = builder.or_(wins, builder.and_(self._equal(x, y), earlier))
        return [builder.select(wins, y, x), builder.select(wins, j, i)]

    def _equal(self, x: Value, y: Value) -> Value:
        """Whether two values are equal, or both NaN."""
        builder = self.builder
        if not self.dtype.is_float:
            return builder.icmp_signed("==", x, y)
        either = builder.or_(builder.fcmp_ordered("ord", x, x), builder.fcmp_ordered("ord", y, y))
        return builder.or_(builder.fcmp_ordered("==", x, y), builder.not_(either))

    def masked(self, mask: Value | None, state: State) -> State:
        """The state with nothing in the lanes that do not count."""
        if mask is None:
            return state
        nothing = self.identity(mask.type.count)
        return [self.builder.select(mask, v, n) for v, n in zip(state, nothing, strict=True)]

    def halved(self, state: State, count: int) -> State:
        """Lanes combined, the lower half with the upper, until so many are left."""
        while state[0].type.count > count:
            half = state[0].type.count // 2
            low, high = [self._part(v, 0, half) for v in state], [
                self._part(v, half, half) for v in state
            ]  # fmt: skip
            state = self.combine(low, high)
        return state

    def _part(self, value: Value, start: int, count: int) -> Value:
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), count), [*range(start, start + count)])
        return self.builder.shuffle_vector(value, value, lanes)

    def alone(self, state: State) -> State:
        """The lanes combined to one."""
        state = self.halved(state, 1)
        zero = ir.Constant(ir.IntType(32), 0)
        return [self.builder.extract_element(v, zero) for v in state]


def _identity(kind: str, dtype: DType) -> Any:
    match kind:
        case "sum" | "any":
            return -0.0 if dtype.is_float else 0
        case "prod" | "all":
            return 1
    least = kind in ("max", "argmax")
    if dtype.is_float:
        return -np.inf if least else np.inf
    if dtype is bool_:
        return not least
    limits = np.iinfo(dtype.numpy)
    return int(limits.min if least else limits.max)
