"""exp, expm1 and tanh.

x = n ln 2 + r with |r| <= ln 2 / 2 and an integer n (W. J. Cody, W. Waite, Software Manual for the
Elementary Functions, 1980): e**x = 2**n e**r, and e**r is a polynomial. ln 2 is the sum of a number
of few digits, whose product with n is exact, and the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphc.runtime.cpu.math import coefficients as table
from graphc.runtime.cpu.math.double_length import quick_sum
from graphc.runtime.cpu.math.lanes import (
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
    """x = n ln 2 + r + lost; `rise` is e**r - 1."""

    n: Lanes
    r: Lanes
    lost: Lanes
    tail: Lanes  # e**r - 1 - r

    @property
    def rise(self) -> Lanes:
        """e**r - 1."""
        return self.r + self.tail


def reduced(x: Lanes) -> Reduced:
    """The reduction of an argument below 1000 in size."""
    high, low = LN2[x.format.bits]
    n, count = rounded(x, 1 / math.log(2))
    near = muladd(count, -high, x)
    r = muladd(count, -low, near)
    lost = muladd(count, -low, near - r)
    return Reduced(n, r, lost, polynomial(r, EXP[x.format.bits]) * (r * r))


def exponential(x: Lanes) -> Lanes:
    """e**x."""
    bits = x.format.bits
    parts = reduced(clamp(x, UNDERFLOW[bits], OVERFLOW[bits]))
    return scaled(1.0 + parts.rise, parts.n)


def exponential_sum(high: Lanes, low: Lanes) -> Lanes:
    """e**(high + low), where high is clamped already and low is small beside 1."""
    parts = reduced(high)
    rise = parts.rise
    return scaled(1.0 + muladd(parts.lost + low, 1.0 + rise, rise), parts.n)


def bounded_exponential(x: Lanes) -> Lanes:
    """e**x, where neither x nor n leave the normal numbers: by one scaling instead of two."""
    parts = reduced(x)
    return (1.0 + parts.rise) * power_of_two(parts.n)


def expm1(x: Lanes) -> Lanes:
    """e**x - 1: 2**n (e**r - 1) + (2**n - 1), halved inside since 2**n may overflow."""
    bits = x.format.bits
    parts = reduced(clamp(x, MINUS_ONE[bits], OVERFLOW[bits]))
    scale = power_of_two(parts.n - 1)
    whole = scale - 0.5
    linear = scale * parts.r
    larger = abs(whole) >= abs(linear)
    first, second = where(larger, whole, linear), where(larger, linear, whole)
    total, dropped = quick_sum(first, second)
    result = (total + muladd(scale, parts.tail + parts.lost, dropped)) * 2.0
    return where(abs(x) < TINY[bits], x, result)


def tanh(x: Lanes) -> Lanes:
    """A polynomial near 0, and 1 - 2 / (e**2x + 1) beyond."""
    bits = x.format.bits
    size = abs(x)
    held = where(size > ONE[bits], ONE[bits], size)
    far = 1.0 - 2.0 / (bounded_exponential(held + held) + 1.0)
    square = x * x
    near = muladd(polynomial(square, TANH[bits]) * square, size, size)
    return copysign(where(size < 0.62, near, far), x)
