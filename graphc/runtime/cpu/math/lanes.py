"""Formulas in Python's operators over LLVM values: `x * y + 1`, for scalars and vectors alike.

Enters: a builder and a value of an integer or floating type, or a vector of them. Leaves:
instructions, without fast-math flags: the formulas of this folder say themselves where a rounding
may differ (`muladd`) and where none may (everything else).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.target import Target

INT32, INT64 = ir.IntType(32), ir.IntType(64)
WIDTHS = {ir.HalfType(): 16, ir.FloatType(): 32, ir.DoubleType(): 64}
LABELS = {16: "f16", 32: "f32", 64: "f64"}


@dataclass(frozen=True)
class Instructions:
    """What the processor does in one instruction, beyond what every one does."""

    fma: bool = False
    half: bool = False  # conversions between float16 and float32
    exponents: bool = False  # AVX-512's, which take floats apart and scale them, in full registers

    @staticmethod
    def of(target: Target) -> Instructions:
        """Those of a target."""
        features = set(target.features.split(","))
        arm = "+neon" in features
        wide = "+avx512f" in features and target.vector_bits == 512
        return Instructions(arm or "+fma" in features, arm or "+f16c" in features, wide)


PLAIN = Instructions()


@dataclass(frozen=True)
class Format:
    """A binary floating format of IEEE 754, in the terms that its formulas need."""

    bits: int
    mantissa: int
    bias: int
    dtype: Any
    integer: Any

    @property
    def shifter(self) -> float:
        """Adding it rounds to an integer, whose low bits are then those of the sum."""
        return 1.5 * 2.0**self.mantissa

    @property
    def shifter_bits(self) -> int:
        """The bits of `shifter` as an integer."""
        return ((self.mantissa + self.bias) << self.mantissa) | (1 << (self.mantissa - 1))

    @property
    def smallest_normal(self) -> float:
        """Numbers below have fewer digits."""
        return 2.0 ** (1 - self.bias)

    @property
    def sign(self) -> int:
        """The bit of the sign, as a signed integer."""
        return -(1 << (self.bits - 1))


FLOAT32 = Format(32, 23, 127, ir.FloatType(), INT32)
FLOAT64 = Format(64, 52, 1023, ir.DoubleType(), INT64)
FORMATS = {32: FLOAT32, 64: FLOAT64}

Like: TypeAlias = "Lanes | int | float"


@dataclass(frozen=True, eq=False)
class Lanes:
    """A value in each lane, or one alone."""

    builder: ir.IRBuilder
    value: Any
    instructions: Instructions = PLAIN

    # ------------------------------------------------------------------ types and constants

    @property
    def count(self) -> int | None:
        """How many lanes; None of a scalar."""
        return self.value.type.count if isinstance(self.value.type, ir.VectorType) else None

    @property
    def element(self) -> Any:
        """The type of one lane."""
        return self.value.type.element if self.count is not None else self.value.type

    @property
    def is_float(self) -> bool:
        """Whether the lanes are floating numbers."""
        return not isinstance(self.element, ir.IntType)

    @property
    def format(self) -> Format:
        """The floating format of the lanes, or of floats as wide as these integers."""
        return FORMATS[WIDTHS[self.element] if self.is_float else self.element.width]

    def shaped(self, element: Any) -> Any:
        """A type of so many lanes of another element."""
        return element if self.count is None else ir.VectorType(element, self.count)

    def wrap(self, value: Any) -> Lanes:
        """A value of the same builder."""
        return Lanes(self.builder, value, self.instructions)

    def constant(self, number: int | float) -> Lanes:
        """A number in all lanes, of the same type."""
        converted = float(number) if self.is_float else int(number)
        scalar = ir.Constant(self.element, converted)
        if self.count is None:
            return self.wrap(scalar)
        return self.wrap(splat_constant(scalar, self.count))

    def lift(self, other: Like) -> Any:
        """The other operand of an instruction."""
        return other.value if isinstance(other, Lanes) else self.constant(other).value

    # ------------------------------------------------------------------ arithmetic

    def _apply(self, floating: str, whole: str, other: Like) -> Lanes:
        emit = getattr(self.builder, floating if self.is_float else whole)
        return self.wrap(emit(self.value, self.lift(other)))

    def __add__(self, other: Like) -> Lanes:
        return self._apply("fadd", "add", other)

    def __sub__(self, other: Like) -> Lanes:
        return self._apply("fsub", "sub", other)

    def __mul__(self, other: Like) -> Lanes:
        return self._apply("fmul", "mul", other)

    def __truediv__(self, other: Like) -> Lanes:
        return self._apply("fdiv", "sdiv", other)

    def __rsub__(self, other: Like) -> Lanes:
        return self.wrap(self.lift(other)) - self

    def __rtruediv__(self, other: Like) -> Lanes:
        return self.wrap(self.lift(other)) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Lanes:
        return self.wrap(self.builder.fneg(self.value)) if self.is_float else 0 - self

    def __abs__(self) -> Lanes:
        return self.call("fabs") if self.is_float else where(self < 0, -self, self)

    # ------------------------------------------------------------------ bits

    def __and__(self, other: Like) -> Lanes:
        return self.wrap(self.builder.and_(self.value, self.lift(other)))

    def __or__(self, other: Like) -> Lanes:
        return self.wrap(self.builder.or_(self.value, self.lift(other)))

    def __xor__(self, other: Like) -> Lanes:
        return self.wrap(self.builder.xor(self.value, self.lift(other)))

    def __invert__(self) -> Lanes:
        return self ^ -1

    def __lshift__(self, count: Like) -> Lanes:
        return self.wrap(self.builder.shl(self.value, self.lift(count)))

    def __rshift__(self, count: Like) -> Lanes:
        """Keeps the sign."""
        return self.wrap(self.builder.ashr(self.value, self.lift(count)))

    def logical_right(self, count: Like) -> Lanes:
        """Shifts zeros in."""
        return self.wrap(self.builder.lshr(self.value, self.lift(count)))

    def as_bits(self) -> Lanes:
        """The bits of floats, as integers."""
        return self.wrap(self.builder.bitcast(self.value, self.shaped(self.format.integer)))

    def as_float(self) -> Lanes:
        """The floats of these bits."""
        return self.wrap(self.builder.bitcast(self.value, self.shaped(self.format.dtype)))

    # ------------------------------------------------------------------ comparisons

    def _compare(self, sign: str, other: Like) -> Lanes:
        emit = self.builder.fcmp_ordered if self.is_float else self.builder.icmp_signed
        return self.wrap(emit(sign, self.value, self.lift(other)))

    def __lt__(self, other: Like) -> Lanes:
        return self._compare("<", other)

    def __le__(self, other: Like) -> Lanes:
        return self._compare("<=", other)

    def __gt__(self, other: Like) -> Lanes:
        return self._compare(">", other)

    def __ge__(self, other: Like) -> Lanes:
        return self._compare(">=", other)

    def equals(self, other: Like) -> Lanes:
        """Where the two are equal; NaN is to nothing."""
        return self._compare("==", other)

    def differs(self, other: Like) -> Lanes:
        """Where the two are not equal; NaN is from everything."""
        emit = self.builder.fcmp_unordered if self.is_float else self.builder.icmp_signed
        return self.wrap(emit("!=", self.value, self.lift(other)))

    # ------------------------------------------------------------------ calls and conversions

    def call(self, name: str, *others: Like) -> Lanes:
        """An intrinsic of LLVM that takes and gives values of this type."""
        kind = self.value.type
        arguments = [self.value, *(self.lift(other) for other in others)]
        label = LABELS[WIDTHS[self.element]] if self.is_float else f"i{self.element.width}"
        lanes = "" if self.count is None else f"v{self.count}"
        function = intrinsic(
            self.builder.module, f"llvm.{name}.{lanes}{label}", kind, [kind] * len(arguments)
        )
        return self.wrap(self.builder.call(function, arguments))

    def convert(self, instruction: str, element: Any) -> Lanes:
        """A conversion to another element: `fpext`, `trunc`, `sitofp` ..."""
        return self.wrap(getattr(self.builder, instruction)(self.value, self.shaped(element)))


def intrinsic(module: ir.Module, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """The declaration of a function in a module, made once."""
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(result, arguments), name)


def splat_constant(scalar: Any, count: int) -> Any:
    """A constant in all lanes."""
    return ir.Constant.splat(scalar, count)


def where(condition: Lanes, x: Like, y: Like) -> Lanes:
    """`x` in lanes where the condition holds, else `y`; one of the two is a value."""
    like = x if isinstance(x, Lanes) else y
    assert isinstance(like, Lanes)
    return like.wrap(like.builder.select(condition.value, like.lift(x), like.lift(y)))


def any_lane(mask: Lanes) -> Any:
    """Whether the condition holds in any lane; an i1."""
    if mask.count is None:
        return mask.value
    bits = ir.IntType(mask.count)
    return mask.builder.icmp_unsigned(
        "!=", mask.builder.bitcast(mask.value, bits), ir.Constant(bits, 0)
    )


def muladd(x: Lanes, y: Like, z: Like) -> Lanes:
    """`x * y + z`, rounded once where the processor has an instruction for it, else twice."""
    return x.call("fmuladd", y, z)


def copysign(x: Lanes, sign: Lanes) -> Lanes:
    """`|x|` with the sign of another."""
    return x.call("copysign", sign)


def clamp(x: Lanes, low: float, high: float) -> Lanes:
    """`x` held in an interval; NaN stays NaN."""
    above = where(x < low, low, x)
    return where(above > high, high, above)


def polynomial(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The sum of c[i] x**i.

    Long ones as a Horner chain in x**2 of the pairs c[2i] + c[2i+1] x, which wait for nothing: half
    the latency, and terms of opposite signs meet before they are large beside their sum.
    """
    if len(coefficients) < 5:
        return _horner(x, [x.constant(c) for c in coefficients])
    pairs = itertools.zip_longest(coefficients[::2], coefficients[1::2])
    return _horner(
        x * x,
        [x.constant(a) if b is None else muladd(x.constant(b), x, a) for a, b in pairs],
    )


def _horner(x: Lanes, coefficients: Sequence[Lanes]) -> Lanes:
    return functools.reduce(lambda p, c: muladd(p, x, c), reversed(coefficients))


def rounded(x: Lanes, scale: float) -> tuple[Lanes, Lanes]:
    """The integer nearest to x * scale, as an integer and as a float.

    Right where that is below 2**21 (float32), 2**50 (float64); elsewhere any integer, NaN of NaN.
    """
    shifted = muladd(x, scale, x.format.shifter)
    return shifted.as_bits() - x.format.shifter_bits, shifted - x.format.shifter


def as_count(k: Lanes) -> Lanes:
    """A small integer as a float of its width."""
    return (k + k.format.shifter_bits).as_float() - k.format.shifter


def power_of_two(k: Lanes) -> Lanes:
    """2**k as a float, for k within the normal exponents; 0 one below them."""
    return ((k + k.format.bias) << k.format.mantissa).as_float()
