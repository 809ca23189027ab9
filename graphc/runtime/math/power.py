"""Powers of floats, as IEEE 754-2019, 9.2 has them.

x**y = e**(y log x). The relative error of the result is the absolute error of the exponent, which
may be 745 times the last digit of the logarithm: float32 computes in float64, float64 takes a
logarithm of twice its digits, 2 artanh s = 2s + s**3 (2/3 + ...) with s = (m - 1) / (m + 1).
"""

from __future__ import annotations

import math

from graphc.runtime.math import coefficients as table
from graphc.runtime.math.double_length import Pair, exact_product, quick_sum
from graphc.runtime.math.exponential import LN2, OVERFLOW, UNDERFLOW, exponential_sum
from graphc.runtime.math.lanes import (
    Lanes,
    clamp,
    muladd,
    polynomial,
    power_of_two,
    rounded,
    where,
)
from graphc.runtime.math.logarithmic import mantissa_and_exponent

HUGE = {32: 2.0**100, 64: 2.0**1000}  # such a power of any other number than 1 is 0 or infinite
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)


def power(x: Lanes, y: Lanes) -> Lanes:
    """x**y: the power of |x|, with the sign of an odd power, or NaN of no integer power."""
    size = abs(x)
    exponent = clamp(y, -HUGE[x.format.bits], HUGE[x.format.bits])  # 0 times it is no NaN
    positive = (_power_32 if x.format.bits == 32 else _power_64)(size, exponent)
    half = y * 0.5
    whole = y.call("floor").equals(y)
    odd = whole & half.call("floor").differs(half)
    sign = where(odd, x.as_bits() & x.format.sign, 0)
    undefined = (x < 0.0) & (x > -math.inf) & ~whole
    result = where(undefined, math.nan, (positive.as_bits() ^ sign).as_float())
    return where(y.equals(0.0) | x.equals(1.0), 1.0, result)


def _with_poles(logarithm: Lanes, x: Lanes) -> Lanes:
    """A logarithm, or a part of one, made right for 0, infinity and NaN."""
    return where(x.equals(0.0), -math.inf, where(x < math.inf, logarithm, x))


def _power_32(x: Lanes, y: Lanes) -> Lanes:
    """2**(y log2 x) in float64, for x >= 0; a step of Newton's gives the reciprocal 46 bits."""
    m, k = mantissa_and_exponent(x)
    parts = (m, y, _with_poles(k, x), 1.0 / (m + 1.0))
    wide, exponent, count, near = (v.widened() for v in parts)
    inverse = muladd(near, muladd(-near, wide + 1.0, 1.0), near)
    s = (wide - 1.0) * inverse
    logarithm = muladd(polynomial(s * s, table.POWER_LOG2), s, count)
    held = clamp(logarithm * exponent, -200.0, 200.0)
    n, nearest = rounded(held, 1.0)
    result = polynomial(held - nearest, table.POWER_EXP2) * power_of_two(n)
    return result.narrowed()


def _power_64(x: Lanes, y: Lanes) -> Lanes:
    """e**(y log x) for x >= 0, with both factors in twice the digits."""
    high, low = _long_logarithm(x)
    product, rest = exact_product(y, _with_poles(high, x))
    held = clamp(product, UNDERFLOW[64], OVERFLOW[64])
    return exponential_sum(held, where(held.equals(product), muladd(y, low, rest), 0.0))


def _long_logarithm(x: Lanes) -> Pair:
    """log x to some 65 digits."""
    m, k = mantissa_and_exponent(x)
    s, s_low = _long_quotient(m)
    square, square_low = exact_product(s, s)
    square_low = muladd(s + s, s_low, square_low)
    tail = square * polynomial(square, table.POWER_LOG)
    c, c_low = quick_sum(x.constant(TWO_THIRDS[0]), tail)
    u, u_low = exact_product(square, c)
    u_low = u_low + muladd(square_low, c, square * (c_low + TWO_THIRDS[1]))
    v, v_low = exact_product(s, u)
    v_low = v_low + muladd(s_low, u, s * u_low)
    total, dropped = quick_sum(s + s, v)
    result, lost = quick_sum(k * LN2[64][0], total)
    rest = muladd(k, LN2[64][1], lost + (dropped + (s_low + s_low + v_low)))
    return quick_sum(result, rest)


def _long_quotient(m: Lanes) -> Pair:
    """(m - 1) / (m + 1), with the part that is rounded off."""
    f, divisor = m - 1.0, m + 1.0
    divisor_low = m - (divisor - 1.0)
    inverse = 1.0 / divisor
    s = f * inverse
    product, product_low = exact_product(s, divisor)
    rest = ((f - product) - product_low) - s * divisor_low
    return s, rest * inverse
