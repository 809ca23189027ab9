"""arcsin, arccos, arctan and arctan2.

arctan is an odd polynomial on [0, 1] and pi/2 - arctan(1/x) beyond; arcsin is one on [0, 1/2] and
pi/2 - 2 arcsin(sqrt((1 - x) / 2)) beyond (W. J. Cody, W. Waite, 1980). Where a multiple of pi/2 is
added, the digits that it has beyond the format are added too.
"""

from __future__ import annotations

from graphc.runtime.math import coefficients as table
from graphc.runtime.math.double_length import truncated
from graphc.runtime.math.lanes import Lanes, copysign, muladd, polynomial, where

ATAN = {32: table.ATAN_32, 64: table.ATAN_64}
ASIN = {32: table.ASIN_32, 64: table.ASIN_64}
HALF_PI = {32: (1.5707963705062866, -4.371138828673793e-08),
           64: (1.5707963267948966, 6.123233995736766e-17)}  # fmt: skip


def _turned(angle: Lanes, turned: Lanes, opposite: Lanes, quarters: Lanes) -> Lanes:
    """quarters * pi/2 -+ angle where `turned`, else the angle alone."""
    high, low = HALF_PI[angle.format.bits]
    signed = where(opposite, -angle, angle)
    return where(turned, muladd(quarters, high, muladd(quarters, low, signed)), angle)


def _arctan_curve(z: Lanes) -> Lanes:
    """arctan of z in [0, 1]."""
    square = z * z
    return muladd(polynomial(square, ATAN[z.format.bits]) * square, z, z)


def arctan(x: Lanes) -> Lanes:
    """arctan x in [-pi/2, pi/2]."""
    size = abs(x)
    far = size > 1.0
    angle = _arctan_curve(where(far, 1.0 / size, size))
    return copysign(_turned(angle, far, far, x.constant(1.0)), x)


def arctan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of the point (x, y) in [-pi, pi]; zeros and infinities as in C99, F.9.1.4."""
    across, up = abs(x), abs(y)
    steep = up > across
    large, small = where(steep, up, across), where(steep, across, up)
    diagonal = where(large.equals(0.0), large, 1.0)  # of two zeros and two infinities too
    angle = _arctan_curve(where(large.equals(small), diagonal, small / large))
    left = x.as_bits() < 0
    quarters = where(steep, x.constant(1.0), where(left, x.constant(2.0), 0.0))
    return copysign(_turned(angle, steep | left, steep ^ left, quarters), y)


def _arcsin_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """(far, w, low, low_far): arcsin is x + low, or that of sqrt((1-|x|)/2) is w + low where far.

    w is the root without its lower digits, so that what it lacks is known: (z - w**2) / (root + w).
    """
    size = abs(x)
    far = size > 0.5
    z = where(far, 0.5 - 0.5 * size, x * x)
    series = polynomial(z, ASIN[x.format.bits]) * z
    root = z.call("sqrt")
    w = truncated(root)
    lacking = where(z.equals(0.0), 0.0, (z - w * w) / (root + w))
    return far, w, x * series, muladd(root, series, lacking)


def arcsin(x: Lanes) -> Lanes:
    """arcsin x in [-pi/2, pi/2]; NaN outside of [-1, 1]."""
    high, low = HALF_PI[x.format.bits]
    far, w, tail, tail_far = _arcsin_parts(x)
    beyond = (high - (w + w)) + (low - (tail_far + tail_far))
    return where(far, copysign(beyond, x), x + tail)


def arccos(x: Lanes) -> Lanes:
    """arccos x in [0, pi]; NaN outside of [-1, 1]."""
    high, low = HALF_PI[x.format.bits]
    far, w, tail, tail_far = _arcsin_parts(x)
    right = w + tail_far
    left = high - (w + (tail_far - low))
    beyond = where(x < 0.0, left, right)
    return where(far, beyond + beyond, high - (x + (tail - low)))
