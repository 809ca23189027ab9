"""The OpenCL device's `Lanes`: OpenCL C, one constant an operation, for elements and vectors alike.

Enters: names of values. Leaves: lines that declare others. The same text serves `float` and
`float16`: comparisons and `?:` are OpenCL's own, which work lane by lane, and integers wrap since
they are computed unsigned. Nothing is fused but where a formula says so, and only on devices that
do it in one instruction; the source around must forbid it (`FP_CONTRACT OFF`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from graphc.runtime.math import lanes as formulas
from graphc.runtime.math.lanes import FORMATS, Format, Like
from graphc.runtime.math.two_over_pi import TWO_OVER_PI

FLOATS = {32: "float", 64: "double"}
INTEGERS = {32: "int", 64: "long"}
SIGNED = ("/", "&", "|", "^", ">>")  # what C computes of signed integers as it must be


QUARTER_TURNS = """\
constant ulong graphc_two_over_pi[] = {TABLE};
void graphc_quarter_turns(double x, double* r, double* lost, long* n) {
  const ulong bits = as_ulong(x), sign = 1UL << 63, size = bits & ~sign;
  const ulong exponent = max(size >> 52, 1039UL), place = exponent - 1013, shift = place & 63;
  const ulong m = (size & ((1UL << 52) - 1)) | 1UL << 52;
  ulong part[3];
  for (int i = 0; i < 3; i++) {
    const ulong high = graphc_two_over_pi[(place >> 6) + i];
    const ulong low = graphc_two_over_pi[(place >> 6) + i + 1];
    part[i] = shift == 0 ? high : high << shift | low >> (64 - shift);
  }
  const ulong carry = mul_hi(m, part[2]), centre = m * part[1] + carry;
  const ulong top = m * part[0] + mul_hi(m, part[1]) + (centre < carry);
  const long turns = (top + (1UL << 61)) >> 62;
  ulong high = top << 2 | centre >> 62, low = centre << 2;
  const ulong negative = high & sign;
  high = negative ? ~high + (low == 0) : high;
  low = negative ? 0 - low : low;
  const ulong zeros = high != 0 ? clz(high) : low != 0 ? 64 + clz(low) : 0;
  const ulong first = zeros >= 64 ? low << (zeros - 64)
    : zeros == 0 ? high : high << zeros | low >> (64 - zeros);
  const ulong digits = mul_hi(first, 0xc90fdaa22168c235UL);  // pi/2
  const double unit = as_double((960 - zeros) << 52 | ((bits ^ negative) & sign));
  *r = (double)(digits & ~0x7ffUL) * unit;
  *lost = (double)(digits & 0x7ffUL) * unit;
  *n = ((bits & sign) != 0 ? -turns : turns) & 3;
}
""".replace("TABLE", ", ".join(f"{word:#x}UL" for word in TWO_OVER_PI))
# 11 digits at a time, so that what is divided fits 64 bits.
REMAINDER = """\
double graphc_long_remainder(double x, double y) {
  const ulong infinite = 0x7ffUL << 52, top = 1UL << 52;
  const ulong a = as_ulong(fabs(x)), b = as_ulong(fabs(y));
  if (b == 0 || b > infinite || a >= infinite) return NAN;
  if (a < b) return x;
  const int unit = max((int)(b >> 52), 1);
  const ulong by = b < top ? b : (b & (top - 1)) | top;
  ulong rest = (a < top ? a : (a & (top - 1)) | top) % by;
  for (int left = max((int)(a >> 52), 1) - unit; left > 0; left -= 11)
    rest = (rest << min(left, 11)) % by;
  const ulong scale = unit > 52 ? (ulong)(unit - 52) << 52 : 1UL << (unit - 1);
  return copysign((double)rest * as_double(scale), x);
}
"""


class Body:
    """Lines; `count` lanes, 1 of elements. `name` makes names of variables that nobody else has."""

    def __init__(self, count: int, fused: bool, name: Callable[[], str] | None = None) -> None:
        numbers = itertools.count(1)
        self.count, self.fused = count, fused
        self.name = name or (lambda: f"v{next(numbers)}")
        self.lines: list[str] = []
        self.helpers: dict[str, None] = {}  # functions that the lines call

    def shaped(self, element: str) -> str:
        """A type of so many lanes."""
        return element if self.count == 1 else f"{element}{self.count}"


@dataclass(frozen=True, eq=False)
class Lanes(formulas.Lanes):
    """A value in each lane; `kind` is "float", "integer" or "truth"."""

    body: Body
    value: str
    bits: int
    kind: str = "float"

    @property
    def format(self) -> Format:
        """The floating format of the lanes, or of floats as wide as these integers."""
        return FORMATS[self.bits]

    @property
    def fused(self) -> bool:
        """Whether `fma` is one instruction."""
        return self.body.fused

    def element(self, kind: str, bits: int) -> str:
        """The C type of one lane."""
        if kind == "truth" and self.body.count == 1:
            return "bool"
        return (FLOATS if kind == "float" else INTEGERS)[bits]

    def made(self, text: str, kind: str = "", bits: int = 0) -> Self:
        """A new constant."""
        kind, bits = kind or self.kind, bits or self.bits
        name = self.body.name()
        shape = self.body.shaped(self.element(kind, bits))
        self.body.lines.append(f"const {shape} {name} = {text};")
        return type(self)(self.body, name, bits, kind)

    def constant(self, number: int | float) -> Self:
        """A number in all lanes."""
        text = literal(number, self.bits) if self.kind == "float" else whole(number, self.bits)
        shape = self.body.shaped(self.element(self.kind, self.bits))
        return type(self)(self.body, f"({shape})({text})", self.bits, self.kind)

    # ------------------------------------------------------------------ arithmetic

    def _unsigned(self, text: str) -> str:
        return f"as_{self.body.shaped('u' + INTEGERS[self.bits])}({text})"

    def _signed(self, text: str) -> str:
        return f"as_{self.body.shaped(INTEGERS[self.bits])}({text})"

    def apply(self, sign: str, other: Like) -> Self:
        """C's operator; integers wrap, and truths of other widths are converted."""
        if isinstance(other, Lanes) and self.kind == "truth":
            other = other.as_wide(self.bits)
        x, y = self.value, self.lift(other)
        if self.kind != "integer" or sign in SIGNED:
            return self.made(f"{x} {sign} {y}")
        count = y if sign == "<<" else self._unsigned(y)
        return self.made(self._signed(f"{self._unsigned(x)} {sign} {count}"))

    def __neg__(self) -> Self:
        return self.made(f"-{self.value}") if self.kind == "float" else 0 - self

    def __abs__(self) -> Self:
        return self.made(f"fabs({self.value})")

    def call(self, name: str, *others: Like) -> Self:
        """One of OpenCL's functions that are exact."""
        values = [self.value, *(self.lift(other) for other in others)]
        if name == "fmuladd" and not self.fused:
            return self.made(f"{values[0]} * {values[1]} + {values[2]}")
        return self.made(f"{'fma' if name == 'fmuladd' else name}({', '.join(values)})")

    # ------------------------------------------------------------------ bits

    def __invert__(self) -> Self:
        return self.made(f"{'!' if self.kind == 'truth' else '~'}{self.value}")

    def as_bits(self) -> Self:
        """The bits of floats, as integers."""
        return self.made(self._signed(self.value), "integer")

    def as_float(self) -> Self:
        """The floats of these bits."""
        return self.made(f"as_{self.body.shaped(FLOATS[self.bits])}({self.value})", "float")

    # ------------------------------------------------------------------ comparisons

    def compare(self, sign: str, other: Like) -> Self:
        """C's operator."""
        return self.made(f"{self.value} {sign} {self.lift(other)}", "truth")

    def where(self, x: Like, y: Like) -> Self:
        """`x` in lanes that are true, else `y`."""
        like = x if isinstance(x, type(self)) else y
        assert isinstance(like, type(self))
        truth = self.as_wide(like.bits).value
        return like.made(f"{truth} ? {like.lift(x)} : {like.lift(y)}")

    def as_wide(self, bits: int) -> Lanes:
        """These truths for values of so many bits: of vectors, they are integers as wide."""
        if self.body.count == 1 or self.bits == bits:
            return self
        return self._converted("truth", bits)

    # ------------------------------------------------------------------ conversions

    def _converted(self, kind: str, bits: int) -> Self:
        shape = self.body.shaped(self.element(kind, bits))
        return self.made(f"convert_{shape}({self.value})", kind, bits)

    def widened(self) -> Self:
        """float32 as float64."""
        return self._converted("float", 64)

    def narrowed(self) -> Self:
        """float64 as float32."""
        return self._converted("float", 32)

    def as_number(self) -> Self:
        """Integers as floats of their width."""
        return self._converted("float", self.bits)

    # ------------------------------------------------------------------ rare operands

    def huge_angles(self, huge: Lanes, usual: Sequence[Lanes]) -> list[Lanes]:
        """By a function that takes one angle."""
        self.body.helpers[QUARTER_TURNS] = None
        results = self._alone(huge, [self], usual, "graphc_quarter_turns({0}, &r, &lost, &n)",
                              ("double r, lost; long n;", ("r", "lost", "n")))  # fmt: skip
        return results

    def long_remainder(self, y: Lanes, large: Lanes, usual: Lanes) -> Lanes:
        """By integers, a pair at a time."""
        self.body.helpers[REMAINDER] = None
        call = "rest = graphc_long_remainder({0}, {1})"
        return self._alone(large, [self, y], [usual], call, ("double rest;", ("rest",)))[0]

    def _alone(
        self,
        rare: Lanes,
        operands: Sequence[Lanes],
        usual: Sequence[Lanes],
        call: str,
        found: tuple[str, Sequence[str]],
    ) -> list[Lanes]:
        """The usual values, replaced in rare lanes by what a call finds, one lane at a time."""
        body, count = self.body, self.body.count
        results = [part.variable() for part in usual]
        declared, names = found
        if count == 1:
            text = call.format(*(x.value for x in operands))
            body.lines += [f"if ({rare.value}) {{", f"  {declared} {text};"]
            body.lines += [f"  {r.value} = {n};" for r, n in zip(results, names, strict=True)]
        else:
            arrays = [(part, f"a{i}") for i, part in enumerate((rare, *operands, *results))]
            body.lines.append(f"if (any({rare.value})) {{")
            for part, array in arrays:
                element = part.element(part.kind, part.bits)
                body.lines.append(f"  {element} {array}[{count}];")
                body.lines.append(f"  vstore{count}({part.value}, 0, {array});")
            text = call.format(*(f"a{1 + i}[i]" for i in range(len(operands))))
            body.lines += [
                f"  for (int i = 0; i < {count}; i++) {{",
                "    if (a0[i] == 0) continue;",
            ]
            body.lines.append(f"    {declared} {text};")
            left = arrays[1 + len(operands) :]
            body.lines += [f"    {a}[i] = {n};" for (_, a), n in zip(left, names, strict=True)]
            body.lines.append("  }")
            body.lines += [f"  {part.value} = vload{count}(0, {a});" for part, a in left]
        body.lines.append("}")
        return results

    def variable(self) -> Lanes:
        """A variable that begins with this value."""
        made = self.made(self.value)
        self.body.lines[-1] = self.body.lines[-1].removeprefix("const ")
        return made


def literal(number: int | float, bits: int) -> str:
    """A number as C has it."""
    value, name = float(number), FLOATS[bits]
    if math.isnan(value):
        quiet = (1 << (bits - 1)) - (1 << (FORMATS[bits].mantissa - 1))
        return f"as_{name}({whole(quiet - (int(math.copysign(1, value) < 0) << (bits - 1)), bits)})"
    if math.isinf(value):
        return f"{'-' * (value < 0)}({name})INFINITY"
    return value.hex() + ("f" if bits == 32 else "")


def whole(number: int | float, bits: int) -> str:
    """An integer as C has it."""
    value = int(number)
    if value == -(1 << (bits - 1)):
        return f"({INTEGERS[bits]}){'0x8000000000000000UL' if bits == 64 else '0x80000000u'}"
    return f"{value}L" if bits == 64 else str(value)
