"""Conversions between all element types, defined for every value.

Floats to integers drop fractions, saturate, and turn NaN into 0; integers wrap; anything but 0 is
true. Booleans are i1 here. float16 is converted through float32, by integer arithmetic where the
processor has no instruction for it.
"""

from __future__ import annotations

from typing import Any

from graphc.dtypes import DType
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.math.lanes import (
    INT32,
    LABELS,
    PLAIN,
    WIDTHS,
    Instructions,
    Lanes,
    intrinsic,
)
from graphc.runtime.math.lanes import where

HALF, SINGLE, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
FLOATS = {16: HALF, 32: SINGLE, 64: DOUBLE}
INT16 = ir.IntType(16)


def element_of(dtype: DType) -> Any:
    """The LLVM type of one value of a dtype in a register."""
    if dtype.kind == "f":
        return FLOATS[dtype.bits]
    return ir.IntType(1 if dtype.kind == "b" else dtype.bits)


def cast(
    builder: ir.IRBuilder, value: Any, source: DType, target: DType,
    instructions: Instructions = PLAIN,
) -> Any:  # fmt: skip
    """A scalar or vector of one dtype as another."""
    x = Lanes(builder, value, instructions)
    if source is target:
        return value
    if source.is_float and source.bits == 16:
        x = half_to_single(x)
    if target.kind == "b":
        return x.differs(0).value
    if not target.is_float:
        return (_saturated(x, target) if source.is_float else _wrapped(x, source, target)).value
    if not source.is_float:
        to = FLOATS[max(32, target.bits)]
        x = x.convert("sitofp" if source.kind == "i" else "uitofp", to)
    return _resized(x, target.bits).value


def _resized(x: Lanes, bits: int) -> Lanes:
    """A float32 or float64 as a float of so many bits."""
    have = WIDTHS[x.element]
    if bits == 16:
        return single_to_half(x if have == 32 else _rounded_to_odd(x))
    if bits == have:
        return x
    return x.convert("fpext" if bits > have else "fptrunc", FLOATS[bits])


def _saturated(x: Lanes, target: DType) -> Lanes:
    """A float as an integer."""
    result = x.shaped(ir.IntType(target.bits))
    lanes = "" if x.count is None else f"v{x.count}"
    sign = "u" if target.kind == "u" else "s"
    name = f"llvm.fpto{sign}i.sat.{lanes}i{target.bits}.{lanes}{LABELS[WIDTHS[x.element]]}"
    function = intrinsic(x.builder.module, name, result, [x.value.type])
    return x.wrap(x.builder.call(function, [x.value]))


def _wrapped(x: Lanes, source: DType, target: DType) -> Lanes:
    """An integer or boolean as an integer."""
    have = x.element.width
    if have == target.bits:
        return x
    shrink = "trunc" if have > target.bits else "sext" if source.kind == "i" else "zext"
    return x.convert(shrink, ir.IntType(target.bits))


def _rounded_to_odd(x: Lanes) -> Lanes:
    """A double as a float32 whose last bit says that digits were lost: rounds again rightly.

    S. Boldo, G. Melquiond, Emulation of FMA and correctly rounded sums (2008).
    """
    near = x.convert("fptrunc", SINGLE)
    back = near.convert("fpext", DOUBLE)
    bits = near.as_bits()
    towards_zero = bits - (abs(back) > abs(x)).convert("zext", INT32)
    return (towards_zero | back.differs(x).convert("zext", INT32)).as_float()


def half_to_single(x: Lanes) -> Lanes:
    """float16 as float32: its digits at their place, times the difference of the biases."""
    if x.instructions.half:
        return x.convert("fpext", SINGLE)
    bits = x.wrap(x.builder.bitcast(x.value, x.shaped(INT16))).convert("zext", INT32)
    size = (bits & 0x7FFF) << 13
    number = (size.as_float() * 2.0**112).as_bits()
    special = where(size >= 0x7C00 << 13, size | 0x7F800000, number)
    return (special | (bits & 0x8000) << 16).as_float()


def single_to_half(x: Lanes) -> Lanes:
    """float32 as float16, to nearest and even.

    Adding a power of two whose last digit is the last that float16 keeps makes float32's own
    rounding do it; taking it away again leaves a number with float16's digits.
    """
    if x.instructions.half:
        return x.convert("fptrunc", HALF)
    size = abs(x)
    scale = size.as_bits() & 0x7F800000
    lowest = where(scale < 0x38800000, 0x38800000, scale)  # 2**-14: float16's smallest normal
    held = where(lowest > 0x47800000, 0x47800000, lowest)
    unit = (held + (13 << 23)).as_float()
    number = (size + unit) - unit
    digits = (number * 2.0**-112).as_bits().logical_right(13)
    digits = where(number >= 65536.0, 0x7C00, digits)
    digits = where(x.differs(x), 0x7E00, digits)
    bits = (digits | (x.as_bits().logical_right(16) & 0x8000)).convert("trunc", INT16)
    return x.wrap(x.builder.bitcast(bits.value, x.shaped(HALF)))
