"""log and log1p.

x = 2**k m with m around 1, so that k is 0 there: log x = k ln 2 + log(1 + f) with f = m - 1, which
is exact. float32 takes m in [3/4, 3/2) and log(1 + f) from a polynomial in f; float64 takes m in
[sqrt 1/2, sqrt 2) and one in the square of s = f / (2 + f), since log(1 + f) = 2 artanh s
(J.-M. Muller, Elementary Functions, 2016).
"""

from __future__ import annotations

import math

from graphc.runtime.math import coefficients as table
from graphc.runtime.math.exponential import LN2
from graphc.runtime.math.lanes import Lanes, as_count, copysign, muladd, polynomial, where

LOWEST = {32: 0x3F400000, 64: 0x3FE6A09E667F3BCD}  # the bits of the smallest m
INVALID = math.copysign(math.nan, -1.0)  # what processors make of invalid operations
NEAREST_LN2 = 0.6931471824645996  # float32's: near enough for 150 of them, if products are exact


def mantissa_and_exponent(x: Lanes) -> tuple[Lanes, Lanes]:
    """m and k, as floats, with x = 2**k m, for positive finite x."""
    form = x.format
    own: tuple[Lanes, Lanes] | None = x.own_mantissa() if form.bits == 32 else None
    if own is not None:
        return own
    small = x < form.smallest_normal
    shifted = where(small, x * 2.0**form.mantissa, x).as_bits() - LOWEST[form.bits]
    digits = (shifted & ((1 << form.mantissa) - 1)) + LOWEST[form.bits]
    k = shifted >> form.mantissa
    return digits.as_float(), as_count(where(small, k - form.mantissa, k))


def _log(count: Lanes, f: Lanes, unit: float = 1.0) -> Lanes:
    """k ln 2 + log(1 + f) for count * unit = k; `unit` is a power of two."""
    high, low = (part * unit for part in LN2[f.format.bits])
    square = f * f
    if f.format.bits == 32:
        near = muladd(square, polynomial(f, (-0.5, *table.LOG_32)), f)
        if f.fused:
            return muladd(count, NEAREST_LN2 * unit, near)
        return muladd(count, high, muladd(count, low, near))
    s, half = f / (f + 2.0), square * 0.5
    ratio = s * s
    series = polynomial(ratio, table.LOG_64) * ratio
    curve = s * (half + series) - half
    return muladd(count, high, f + muladd(count, low, curve))


def _at_the_ends(x: Lanes, pole: float, u: Lanes, result: Lanes) -> Lanes:
    """-infinity at the pole, NaN below it, x itself where that is infinity or NaN; u = x - pole."""
    own: Lanes | None = result.own_ends(u)
    if own is not None:
        return own
    outside = where(x < pole, x.constant(INVALID), -math.inf)
    return where(x < math.inf, where(x > pole, result, outside), x)


def logarithm(x: Lanes) -> Lanes:
    """log x."""
    m, k = mantissa_and_exponent(x)
    return _at_the_ends(x, 0.0, x, _log(k, m - 1.0))


def log1p(x: Lanes) -> Lanes:
    """log(1 + x): f = (1 + x) / 2**k - 1, which loses nothing of x, with the k of 1 + x rounded.

    x / 2**k is a difference of exponents; for k = 0 it is x. 2**-k may be 0: no digit of x is lost.
    """
    form = x.format
    u = x + 1.0
    exponent = (u.as_bits() - LOWEST[form.bits]) & -(1 << form.mantissa)  # k, in its place
    power = ((form.bias << form.mantissa) - exponent).as_float()  # 2**-k, or below 0 or 0 if huge
    f = (x.as_bits() - exponent).as_float() + (where(power > 0.0, power, 0.0) - 1.0)
    if form.bits == 32:
        result = _log(exponent.as_number(), f, 2.0**-form.mantissa)
    else:
        result = _log(as_count(exponent >> form.mantissa), f)
    return _at_the_ends(x, -1.0, u, copysign(result, x))
