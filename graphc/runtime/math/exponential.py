"""exp, expm1 and tanh.

x = n ln 2 + r with |r| <= ln 2 / 2 and an integer n (W. J. Cody, W. Waite, Software Manual for the
Elementary Functions, 1980): e**x = 2**n e**r, and e**r is a polynomial. ln 2 is the sum of a number
of few digits, whose product with n is exact, and the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphc.runtime.math import coefficients as table
from graphc.runtime.math.lanes import (
    Lanes,
    clamp,
    copysign,
    muladd,
    polynomial,
    power_of_two,
    rounded,
    scaled,
    where,
)

LN2 = {32: (0.693145751953125, 1.4286068203094173e-06),
       64: (0.6931471805592082, 7.371002565167799e-13)}  # fmt: skip
EXP = {32: table.EXP_32, 64: table.EXP_64}
TANH = {32: table.TANH_32, 64: table.TANH_64}
# Arguments from which on the result is 0 or infinity; expm1 is -1; tanh is 1.
UNDERFLOW, OVERFLOW = {32: -104.0, 64: -746.0}, {32: 89.0, 64: 710.0}
MINUS_ONE = {32: -18.0, 64: -38.0}
ONE = {32: 9.25, 64: 19.25}
TINY = {32: 2.0**-26, 64: 2.0**-55}  # below, odd functions with slope 1 at 0 are their argument


@dataclass(frozen=True)
class Reduced:
    """x = n ln 2 + r + lost, with the integer n as a float too."""

    n: Lanes
    count: Lanes
    r: Lanes
    lost: Lanes

    def series(self) -> Lanes:
        """(e**r - 1 - r) / r**2."""
        return polynomial(self.r, EXP[self.r.format.bits])

    def tail(self) -> Lanes:
        """e**r - 1 - r."""
        return self.series() * (self.r * self.r)

    def power(self) -> Lanes:
        """e**r."""
        return muladd(muladd(self.series(), self.r, 1.0), self.r, 1.0)


def reduced(x: Lanes) -> Reduced:
    """The reduction of an argument below 1000 in size."""
    high, low = LN2[x.format.bits]
    n, count = rounded(x, 1 / math.log(2))
    near = muladd(count, -high, x)
    r = muladd(count, -low, near)
    return Reduced(n, count, r, muladd(count, -low, near - r))


def exponential(x: Lanes) -> Lanes:
    """e**x."""
    bits = x.format.bits
    parts = reduced(clamp(x, UNDERFLOW[bits], OVERFLOW[bits]))
    return scaled(parts.power(), parts.n, parts.count)


def exponential_sum(high: Lanes, low: Lanes) -> Lanes:
    """e**(high + low), where high is clamped already and low is small beside 1."""
    parts = reduced(high)
    rise = parts.r + parts.tail()
    power = 1.0 + muladd(parts.lost + low, 1.0 + rise, rise)
    return scaled(power, parts.n, parts.count)


def bounded_exponential(x: Lanes) -> Lanes:
    """e**x, where neither x nor n leave the normal numbers: by one scaling instead of two."""
    parts = reduced(x)
    return parts.power() * power_of_two(parts.n)


def expm1(x: Lanes) -> Lanes:
    """e**x - 1: 2**n (e**r - 1) + (2**n - 1), halved inside since 2**n may overflow."""
    bits = x.format.bits
    parts = reduced(clamp(x, MINUS_ONE[bits], OVERFLOW[bits]))
    scale = power_of_two(parts.n - 1)
    linear = muladd(scale, parts.r, scale - 0.5)
    result = muladd(scale, parts.tail() + parts.lost, linear) * 2.0
    return where(abs(x) < TINY[bits], x, result)


def tanh(x: Lanes) -> Lanes:
    """tanh (a + s) = (tanh a + tanh s) / (1 + tanh a tanh s) with a = n ln 2 / 2.

    tanh a is (q - 1) / (q + 1), where q = 2**n, and s is so small that a short polynomial serves.
    From n = 1 on, c = 1 - 1.5 / q is near the result, and the quotient gives what is left of it, so
    that its roundings are small ones; all other numbers but the polynomial's are exact.
    """
    form = x.format
    size, one = abs(x), ONE[form.bits]
    n, count = rounded(held := where(size > one, one, size), 2 / math.log(2))
    s = held
    for part in _halves(x):
        s = muladd(count, -part, s)
    square = s * s
    small = muladd(polynomial(square, TANH[form.bits]), square * s, s)
    q, above = power_of_two(n), 1 << (form.mantissa - 1)
    w = (power_of_two(-n).as_bits() | above).as_float()  # 1.5 / q
    near, start, less = 1.0 - w, w - 0.5, q - 1.0
    over = muladd(3.5 - w, small, where(less < start, less, start))
    return copysign(where(near < 0.0, 0.0, near) + over / muladd(less, small, q + 1.0), x)


def _halves(x: Lanes) -> tuple[float, ...]:
    """ln 2 / 2, in one number where that is near enough and products are exact."""
    bits = x.format.bits
    if bits == 32 and x.fused:
        return (0.34657359,)
    return tuple(part / 2 for part in LN2[bits])
