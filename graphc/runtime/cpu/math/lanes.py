"""The CPU device's `Lanes`: LLVM's instructions, for scalars and vectors alike.

Enters: a builder and a value of an integer or floating type, or a vector of them. Leaves:
instructions, without fast-math flags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.target import Target
from graphc.runtime.math import lanes as formulas
from graphc.runtime.math.lanes import FORMATS, Format, Like

INT32, INT64 = ir.IntType(32), ir.IntType(64)
WIDTHS = {ir.HalfType(): 16, ir.FloatType(): 32, ir.DoubleType(): 64}
LABELS = {16: "f16", 32: "f32", 64: "f64"}
FLOATS = {16: ir.HalfType(), 32: ir.FloatType(), 64: ir.DoubleType()}
OPERATIONS = {  # the builder's names for floats and for integers
    "+": ("fadd", "add"), "-": ("fsub", "sub"), "*": ("fmul", "mul"), "/": ("fdiv", "sdiv"),
    "&": ("", "and_"), "|": ("", "or_"), "^": ("", "xor"), "<<": ("", "shl"), ">>": ("", "ashr"),
}  # fmt: skip


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


@dataclass(frozen=True, eq=False)
class Lanes(formulas.Lanes):
    """A value in each lane, or one alone; `special.Special` has what functions need besides."""

    builder: ir.IRBuilder
    value: Any
    instructions: Instructions = PLAIN

    # ------------------------------------------------------------------ types and constants

    @property
    def fused(self) -> bool:
        """Whether there is an instruction for `x * y + z`."""
        return self.instructions.fma

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

    def wrap(self, value: Any) -> Self:
        """A value of the same builder."""
        return type(self)(self.builder, value, self.instructions)

    def constant(self, number: int | float) -> Self:
        """A number in all lanes, of the same type."""
        converted = float(number) if self.is_float else int(number)
        scalar = ir.Constant(self.element, converted)
        if self.count is None:
            return self.wrap(scalar)
        return self.wrap(splat_constant(scalar, self.count))

    # ------------------------------------------------------------------ arithmetic

    def apply(self, sign: str, other: Like) -> Self:
        """One of `OPERATIONS`, of floats or of integers."""
        floating, whole = OPERATIONS[sign]
        emit = getattr(self.builder, floating if self.is_float else whole)
        return self.wrap(emit(self.value, self.lift(other)))

    def __neg__(self) -> Self:
        return self.wrap(self.builder.fneg(self.value)) if self.is_float else 0 - self

    def __abs__(self) -> Self:
        return self.call("fabs") if self.is_float else (self < 0).where(-self, self)

    # ------------------------------------------------------------------ bits

    def __invert__(self) -> Self:
        return self ^ -1

    def logical_right(self, count: Like) -> Self:
        """Shifts zeros in."""
        return self.wrap(self.builder.lshr(self.value, self.lift(count)))

    def as_bits(self) -> Self:
        """The bits of floats, as integers."""
        integer = ir.IntType(self.format.bits)
        return self.wrap(self.builder.bitcast(self.value, self.shaped(integer)))

    def as_float(self) -> Self:
        """The floats of these bits."""
        return self.wrap(self.builder.bitcast(self.value, self.shaped(FLOATS[self.format.bits])))

    # ------------------------------------------------------------------ comparisons

    def compare(self, sign: str, other: Like) -> Self:
        """Ordered but for `!=`; integers have signs."""
        builder = self.builder
        floating = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        emit = floating if self.is_float else builder.icmp_signed
        return self.wrap(emit(sign, self.value, self.lift(other)))

    def where(self, x: Like, y: Like) -> Self:
        """`x` in lanes that are true, else `y`; one of the two is a value."""
        like = x if isinstance(x, type(self)) else y
        assert isinstance(like, type(self))
        return like.wrap(self.builder.select(self.value, like.lift(x), like.lift(y)))

    # ------------------------------------------------------------------ calls and conversions

    def call(self, name: str, *others: Like) -> Self:
        """An intrinsic of LLVM that takes and gives values of this type."""
        kind = self.value.type
        arguments = [self.value, *(self.lift(other) for other in others)]
        label = LABELS[WIDTHS[self.element]] if self.is_float else f"i{self.element.width}"
        lanes = "" if self.count is None else f"v{self.count}"
        function = intrinsic(
            self.builder.module, f"llvm.{name}.{lanes}{label}", kind, [kind] * len(arguments)
        )
        return self.wrap(self.builder.call(function, arguments))

    def convert(self, instruction: str, element: Any) -> Self:
        """A conversion to another element: `fpext`, `trunc`, `sitofp` ..."""
        return self.wrap(getattr(self.builder, instruction)(self.value, self.shaped(element)))

    def widened(self) -> Self:
        """float32 as float64."""
        return self.convert("fpext", FLOATS[64])

    def narrowed(self) -> Self:
        """float64 as float32."""
        return self.convert("fptrunc", FLOATS[32])

    def as_number(self) -> Self:
        """Integers as floats of their width."""
        return self.convert("sitofp", FLOATS[self.format.bits])


def intrinsic(module: ir.Module, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """The declaration of a function in a module, made once."""
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(result, arguments), name)


def splat_constant(scalar: Any, count: int) -> Any:
    """A constant in all lanes."""
    return ir.Constant.splat(scalar, count)


def any_lane(mask: Lanes) -> Any:
    """Whether the condition holds in any lane; an i1."""
    if mask.count is None:
        return mask.value
    bits = ir.IntType(mask.count)
    return mask.builder.icmp_unsigned(
        "!=", mask.builder.bitcast(mask.value, bits), ir.Constant(bits, 0)
    )
