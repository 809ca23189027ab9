"""log and log1p.

x = 2**k m with m in [sqrt 1/2, sqrt 2), so that k is 0 around 1: log x = k ln 2 + log(1 + f) with
f = m - 1, which is exact. float32 takes log(1 + f) from a polynomial in f; float64 from one in the
square of s = f / (2 + f), since log(1 + f) = 2 artanh s (J.-M. Muller, Elementary Functions, 2016).
"""

from __future__ import annotations

import math

from graphc.runtime.cpu.math import coefficients as table
from graphc.runtime.cpu.math.double_length import exact_sum
from graphc.runtime.cpu.math.exponential import LN2, TINY
from graphc.runtime.cpu.math.lanes import Lanes, as_count, muladd, polynomial, power_of_two, where

SQRT_HALF_BITS = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}


def mantissa_and_exponent(x: Lanes) -> tuple[Lanes, Lanes]:
    """m in [sqrt 1/2, sqrt 2) and the integer k with x = 2**k m, for positive finite x."""
    form = x.format
    small = x < form.smallest_normal
    shifted = where(small, x * 2.0**form.mantissa, x).as_bits() - SQRT_HALF_BITS[form.bits]
    digits = (shifted & ((1 << form.mantissa) - 1)) + SQRT_HALF_BITS[form.bits]
    k = shifted >> form.mantissa
    return digits.as_float(), where(small, k - form.mantissa, k)


def _curve(f: Lanes) -> Lanes:
    """log(1 + f) - f."""
    half_square = f * f * 0.5
    if f.format.bits == 32:
        return muladd(polynomial(f, table.LOG_32) * f, f * f, -half_square)
    s = f / (f + 2.0)
    square = s * s
    series = polynomial(square, table.LOG_64) * square
    return s * (half_square + series) - half_square


def _sum(k: Lanes, f: Lanes, lost: Lanes | None = None) -> Lanes:
    """k ln 2 + log(1 + f) + lost; the sum of the two large terms keeps what it rounds off."""
    high, low = LN2[f.format.bits]
    count = as_count(k)
    base = count * high
    total = base + f
    dropped = (base - total) + f
    rest = muladd(count, low, dropped)
    return total + ((rest if lost is None else rest + lost) + _curve(f))


def _at_the_ends(x: Lanes, pole: float, result: Lanes) -> Lanes:
    """-infinity at the pole, NaN below it, x itself where that is infinity or NaN."""
    outside = where(x < pole, x.constant(math.nan), -math.inf)
    return where(x < math.inf, where(x > pole, result, outside), x)


def logarithm(x: Lanes) -> Lanes:
    """log x."""
    m, k = mantissa_and_exponent(x)
    return _at_the_ends(x, 0.0, _sum(k, m - 1.0))


def log1p(x: Lanes) -> Lanes:
    """log(1 + x): what 1 + x rounds off is added as it would be to f; for k = 0, f is x.

    Half and twice: 2**-k itself is no normal number for the largest k.
    """
    u, dropped = exact_sum(x, 1.0)
    m, k = mantissa_and_exponent(u)
    near = k.equals(0)
    f = where(near, x, m - 1.0)
    lost = dropped * 0.5 * power_of_two(1 - k) * (1.0 - f)
    result = _sum(k, f, where(near, 0.0, lost))
    return _at_the_ends(x, -1.0, where(abs(x) < TINY[x.format.bits], x, result))
