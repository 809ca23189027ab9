"""sin, cos and tan.

x = n pi/2 + r with |r| <= pi/4 and a little more: n mod 4 says which of the two polynomials to
take and its sign. pi/2 is the sum of numbers of few digits, whose products with n are exact, and a
rest (W. J. Cody, W. Waite, 1980); angles for which n has too many digits take another way
(`Lanes.huge_angles`). float32 reduces in float64, where its angles have all their digits to spare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphc.runtime.math import coefficients as table
from graphc.runtime.math.double_length import exact_sum, quick_sum
from graphc.runtime.math.exponential import TINY
from graphc.runtime.math.lanes import Lanes, muladd, polynomial, rounded, where

HALF_PI_32 = (1.5707963267923333, 2.563344151594519e-12)
HALF_PI_64 = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
LIMIT = {32: 2.0**17, 64: 2.0**20}
SIN = {32: table.SIN_32, 64: table.SIN_64}
COS = {32: table.COS_32, 64: table.COS_64}


@dataclass(frozen=True)
class Angle:
    """n quarter turns and r + lost, for results of so many bits."""

    r: Lanes
    lost: Lanes | None
    n: Lanes
    bits: int

    def sine_tail(self) -> Lanes:
        """sin(r + lost) - r."""
        square = self.r * self.r
        tail = polynomial(square, SIN[self.bits]) * (square * self.r)
        if self.lost is not None:
            return muladd(self.lost, muladd(square, -0.5, 1.0), tail)
        return tail

    def cosine_tail(self) -> Lanes:
        """cos(r + lost) - 1."""
        square = self.r * self.r
        tail = polynomial(square, COS[self.bits]) * (square * square)
        if self.lost is not None:
            tail = muladd(self.lost, -self.r, tail)
        return muladd(square, -0.5, tail)


def reduced(x: Lanes) -> Angle:
    """The angle in doubles."""
    n, count = rounded(x, 2 / math.pi)
    size = abs(x)
    huge = (size > LIMIT[x.format.bits]) & (size < math.inf)
    if x.format.bits == 64:
        r, lost, n = x.huge_angles(huge, (*_long_reduction(x, count), n))
        return Angle(r, lost, n, bits=64)
    wide, turns = x.widened(), count.widened()
    high, low = HALF_PI_32
    r = muladd(turns, -low, muladd(turns, -high, wide))
    r, _, n = wide.huge_angles(huge, (r, wide.constant(0.0), n))
    return Angle(r, None, n, bits=32)


def _long_reduction(x: Lanes, count: Lanes) -> tuple[Lanes, Lanes]:
    high, middle, low = HALF_PI_64
    near = muladd(count, -high, x)  # both this product and the next are exact
    r, dropped = exact_sum(near, count * -middle)
    return exact_sum(r, muladd(count, -low, dropped))


def _narrowed(x: Lanes, angle: Angle) -> Angle:
    """The angle in the digits that the polynomials need."""
    if x.format.bits == 64:
        return angle
    return Angle(angle.r.narrowed(), None, angle.n, bits=32)


def _wave(x: Lanes, angle: Angle, n: Lanes) -> Lanes:
    """sin r turned by n quarters."""
    sine, cosine = angle.r + angle.sine_tail(), 1.0 + angle.cosine_tail()
    value = where((n & 1).equals(0), sine, cosine)
    sign = (n & 2) << (x.format.bits - 2)
    return (value.as_bits() ^ sign).as_float()


def sin(x: Lanes) -> Lanes:
    """sin x; NaN of infinities."""
    angle = _narrowed(x, reduced(x))
    return where(abs(x) < TINY[x.format.bits], x, _wave(x, angle, angle.n))


def cos(x: Lanes) -> Lanes:
    """cos x; NaN of infinities."""
    angle = _narrowed(x, reduced(x))
    return _wave(x, angle, angle.n + 1)


def tan(x: Lanes) -> Lanes:
    """sin x / cos x; float32 divides in float64, float64 carries what the two round off."""
    angle = reduced(x)
    even = (angle.n & 1).equals(0)
    result = _tangent_32(x, angle, even) if x.format.bits == 32 else _tangent_64(angle, even)
    return where(abs(x) < TINY[x.format.bits], x, result)


def _tangent_32(x: Lanes, angle: Angle, even: Lanes) -> Lanes:
    sine, cosine = angle.r + angle.sine_tail(), 1.0 + angle.cosine_tail()
    quotient = where(even, sine, -cosine) / where(even, cosine, sine)
    return quotient.narrowed()


def _tangent_64(angle: Angle, even: Lanes) -> Lanes:
    sine = quick_sum(angle.r, angle.sine_tail())
    cosine = quick_sum(angle.r.constant(1.0), angle.cosine_tail())
    over, over_low = (where(even, s, -c) for s, c in zip(sine, cosine, strict=True))
    under, under_low = (where(even, c, s) for s, c in zip(sine, cosine, strict=True))
    inverse = 1.0 / under
    quotient = over * inverse
    rest = muladd(-quotient, under, over) + (over_low - quotient * under_low)
    return muladd(rest, inverse, quotient)
