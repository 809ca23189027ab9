"""AVX-512's instructions for floats' exponents.

They take whole registers; who uses them asks `fit` first, and has another way to the same
bits for other vectors, since rows end in narrower ones, and for other processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.math.lanes import INT32, WIDTHS, Lanes, intrinsic
from graphc.runtime.math.lanes import where

AS_ROUNDED_ELSEWHERE = 4
FROM_THREE_QUARTERS = 3  # which mantissas: those of [3/4, 3/2)
# What becomes of (NaN, signalling NaN, 0, 1, -infinity, infinity, below 0, above 0): NaN, an
# infinity, or the result as it is.
IS_NAN, IS_RESULT, IS_INDEFINITE, IS_LOW, IS_HIGH = 2, 0, 3, 4, 5
ENDS = (IS_NAN, IS_NAN, IS_LOW, IS_RESULT, IS_INDEFINITE, IS_HIGH, IS_INDEFINITE, IS_RESULT)


def fit(x: Lanes) -> bool:
    """Whether there are instructions for such vectors."""
    return x.instructions.exponents and WIDTHS[x.element] * (x.count or 1) == 512


def scaled(x: Lanes, count: Lanes) -> Lanes:
    """x * 2**count, rounded once."""
    return _emit(x, "scalef", [count.value, x.constant(0.0).value])


def mantissa_and_exponent(x: Lanes) -> tuple[Lanes, Lanes]:
    """m in [3/4, 3/2), and a float k, with |x| = 2**k m."""
    kind = ir.Constant(INT32, FROM_THREE_QUARTERS)
    m = _emit(x, "getmant", [kind, x.constant(0.0).value])
    k = _emit(x, "getexp", [x.constant(0.0).value])  # the integer below log2 |x|
    return m, where(m < 1.0, k + 1.0, k)


def ends(u: Lanes, result: Lanes) -> Lanes:
    """A logarithm of u, made right for 0, numbers below it, infinity and NaN."""
    table = sum(response << 4 * place for place, response in enumerate(ENDS))
    responses = u.as_bits().constant(table).value
    return _emit(result, "fixupimm", [u.value, responses, ir.Constant(INT32, 0)])


def _emit(x: Lanes, name: str, others: Sequence[Any]) -> Lanes:
    """An instruction for all lanes of a register."""
    assert x.count is not None
    every, rounding = ir.IntType(x.count), ir.Constant(INT32, AS_ROUNDED_ELSEWHERE)
    arguments = [x.value, *others, ir.Constant(every, -1), rounding]
    full = f"llvm.x86.avx512.mask.{name}.{'ps' if x.format.bits == 32 else 'pd'}.512"
    kinds = [argument.type for argument in arguments]
    return x.wrap(x.builder.call(intrinsic(x.builder.module, full, x.value.type, kinds), arguments))
