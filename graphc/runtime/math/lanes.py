"""What formulas are written with: `x * y + 1`, where x stands for code of some device.

Enters: a device's `Lanes`, which write one operation each: LLVM's instructions, OpenCL C. Leaves:
operations in Python's operators, and short formulas that others are made of. No operation may be
rounded otherwise than it says: formulas say themselves where a rounding may differ (`muladd`) and
where none may (everything else).
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeVar


@dataclass(frozen=True)
class Format:
    """A binary floating format of IEEE 754, in the terms that its formulas need."""

    bits: int
    mantissa: int
    bias: int

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


FLOAT32 = Format(32, 23, 127)
FLOAT64 = Format(64, 52, 1023)
FORMATS = {32: FLOAT32, 64: FLOAT64}

Like: TypeAlias = "Lanes | int | float"


class Lanes(ABC):
    """A value in each lane, or one alone: floats, signed integers as wide, or truths.

    The last group of methods is what some devices do better than a formula (else they give None),
    or can only do by code of their own; they take and give what the device's own methods do.
    """

    value: Any  # what it is to the device

    @property
    @abstractmethod
    def format(self) -> Format:
        """The floating format of the lanes, or of floats as wide as these integers."""

    @property
    @abstractmethod
    def fused(self) -> bool:
        """Whether `muladd` rounds once, in one instruction; then there is `call("fma", y, z)`."""

    @abstractmethod
    def constant(self, number: int | float) -> Self:
        """A number in all lanes, of the same type."""

    def lift(self, other: Like) -> Any:
        """The value of another operand."""
        return other.value if isinstance(other, Lanes) else self.constant(other).value

    @abstractmethod
    def apply(self, sign: str, other: Like) -> Self:
        """One of `+ - * /` of numbers, `& | ^` of integers and truths, `<< >>` of integers.

        Shifts to the right keep the sign.
        """

    @abstractmethod
    def compare(self, sign: str, other: Like) -> Self:
        """One of `< <= > >= == !=`; NaN is in none of these relations but the last."""

    # ------------------------------------------------------------------ arithmetic

    def __add__(self, other: Like) -> Self:
        return self.apply("+", other)

    def __sub__(self, other: Like) -> Self:
        return self.apply("-", other)

    def __mul__(self, other: Like) -> Self:
        return self.apply("*", other)

    def __truediv__(self, other: Like) -> Self:
        return self.apply("/", other)

    def __radd__(self, other: int | float) -> Self:
        return self + other

    def __rsub__(self, other: int | float) -> Self:
        return self.constant(other) - self

    def __rmul__(self, other: int | float) -> Self:
        return self * other

    def __rtruediv__(self, other: int | float) -> Self:
        return self.constant(other) / self

    @abstractmethod
    def __neg__(self) -> Self: ...

    @abstractmethod
    def __abs__(self) -> Self: ...

    @abstractmethod
    def call(self, name: str, *others: Like) -> Self:
        """fma, fmuladd, sqrt, floor, trunc, copysign of floats, by LLVM's names."""

    # ------------------------------------------------------------------ bits

    def __and__(self, other: Like) -> Self:
        return self.apply("&", other)

    def __or__(self, other: Like) -> Self:
        return self.apply("|", other)

    def __xor__(self, other: Like) -> Self:
        return self.apply("^", other)

    def __lshift__(self, count: Like) -> Self:
        return self.apply("<<", count)

    def __rshift__(self, count: Like) -> Self:
        return self.apply(">>", count)

    @abstractmethod
    def __invert__(self) -> Self: ...

    @abstractmethod
    def as_bits(self) -> Self:
        """The bits of floats, as integers."""

    @abstractmethod
    def as_float(self) -> Self:
        """The floats of these bits."""

    # ------------------------------------------------------------------ comparisons

    def __lt__(self, other: Like) -> Self:
        return self.compare("<", other)

    def __le__(self, other: Like) -> Self:
        return self.compare("<=", other)

    def __gt__(self, other: Like) -> Self:
        return self.compare(">", other)

    def __ge__(self, other: Like) -> Self:
        return self.compare(">=", other)

    def equals(self, other: Like) -> Self:
        """Where the two are equal; NaN is to nothing."""
        return self.compare("==", other)

    def differs(self, other: Like) -> Self:
        """Where the two are not equal; NaN is from everything."""
        return self.compare("!=", other)

    @abstractmethod
    def where(self, x: Like, y: Like) -> Self:
        """Of truths: `x` in lanes that are true, else `y`; one of the two is a value."""

    # ------------------------------------------------------------------ conversions

    @abstractmethod
    def widened(self) -> Self:
        """float32 as float64."""

    @abstractmethod
    def narrowed(self) -> Self:
        """float64 as float32."""

    @abstractmethod
    def as_number(self) -> Self:
        """Integers as floats of their width."""

    # ------------------------------------------------------------------ a device's own

    def own_mantissa(self) -> Any:
        """m in [3/4, 3/2) and a float k with self = 2**k m, of positive finite numbers."""
        return None

    def own_scaled(self, count: Any) -> Any:
        """self * 2**count, rounded once; `count` is an integer in floats."""
        return None

    def own_ends(self, u: Any) -> Any:
        """This logarithm of u made right for 0, numbers below it, infinity and NaN."""
        return None

    def huge_angles(self, huge: Any, usual: Sequence[Any]) -> Any:
        """Of doubles: (r, lost, n mod 4) where `huge` holds, elsewhere the usual ones given.

        self = n pi/2 + r + lost, to 60 digits; `huge` holds from 2**16 on only.
        """
        raise NotImplementedError

    def long_remainder(self, y: Any, large: Any, usual: Any) -> Any:
        """C's fmod of self and y where `large` holds, elsewhere the usual one."""
        raise NotImplementedError


L = TypeVar("L", bound=Lanes)


def where(condition: L, x: L | float, y: L | float) -> L:
    """`x` in lanes where the condition holds, else `y`; one of the two is a value."""
    return condition.where(x, y)


def muladd(x: L, y: L | float, z: L | float) -> L:
    """`x * y + z`, rounded once where the device has an instruction for it, else twice."""
    return x.call("fmuladd", y, z)


def copysign(x: L, sign: L) -> L:
    """`|x|` with the sign of another."""
    return x.call("copysign", sign)


def clamp(x: L, low: float, high: float) -> L:
    """`x` held in an interval; NaN stays NaN."""
    above = where(x < low, low, x)
    return where(above > high, high, above)


def polynomial(x: L, coefficients: Sequence[float]) -> L:
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


def _horner(x: L, coefficients: Sequence[L]) -> L:
    return functools.reduce(lambda p, c: muladd(p, x, c), reversed(coefficients))


def rounded(x: L, scale: float) -> tuple[L, L]:
    """The integer nearest to x * scale, as an integer and as a float.

    Right where that is below 2**21 (float32), 2**50 (float64); elsewhere any integer, NaN of NaN.
    """
    shifted = muladd(x, scale, x.format.shifter)
    return shifted.as_bits() - x.format.shifter_bits, shifted - x.format.shifter


def as_count(k: L) -> L:
    """A small integer as a float of its width."""
    return (k + k.format.shifter_bits).as_float() - k.format.shifter


def power_of_two(k: L) -> L:
    """2**k as a float, for k within the normal exponents; 0 one below them."""
    return ((k + k.format.bias) << k.format.mantissa).as_float()


def scaled(x: L, k: L, count: L) -> L:
    """x * 2**k, rounded once also where the result is denormal; |k| up to twice the exponents.

    `count` is k as a float. Of the two products the first is exact.
    """
    own: L | None = x.own_scaled(count)
    if own is not None:
        return own
    half = k >> 1
    return x * power_of_two(half) * power_of_two(k - half)
