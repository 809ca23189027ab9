"""Floor division of floats and its remainder, as Python and NumPy have it.

The remainder is exact. While |x / y| is small enough it is x - q y with an integer q that has few
digits; what larger quotients take, the device says (`Lanes.long_remainder`).
"""

from __future__ import annotations

from graphc.runtime.math.double_length import exact_product
from graphc.runtime.math.lanes import Lanes, copysign, where

EXACT = {32: 2.0**28, 64: 2.0**52}


def _truncated_remainder(x: Lanes, y: Lanes) -> Lanes:
    """C's fmod: the remainder of the quotient rounded towards 0, with the sign of x."""
    size, divisor = abs(x), abs(y)
    if x.format.bits == 32:
        wide, by = size.widened(), divisor.widened()
        quotient = (wide / by).call("trunc")
        usual = (wide - quotient * by).narrowed()
        large = (wide / by) >= EXACT[32]
    else:
        ratio = size / divisor
        quotient = ratio.call("trunc")
        product, rest = exact_product(quotient, divisor)
        near = (size - product) - rest
        usual = where(near < 0.0, near + divisor, near)
        large = ratio >= EXACT[64]
    usual = copysign(where(size < divisor, size, usual), x)
    result: Lanes = x.long_remainder(y, large, usual)
    return result


def _opposed(rest: Lanes, y: Lanes) -> Lanes:
    """Where the remainder is not 0 and has not the sign of y."""
    return rest.differs(0) & ((rest < 0) ^ (y < 0))


def remainder(x: Lanes, y: Lanes) -> Lanes:
    """x - floor(x / y) y, with the sign of y; NaN by 0."""
    rest = _truncated_remainder(x, y)
    moved = where(_opposed(rest, y), rest + y, rest)
    return where(rest.equals(0.0), copysign(rest, y), moved)


def floor_divide(x: Lanes, y: Lanes) -> Lanes:
    """The largest integer up to x / y, as CPython finds it: from the exact remainder."""
    rest = _truncated_remainder(x, y)
    ratio = x / y
    exact = (x - rest) / y
    exact = where(_opposed(rest, y), exact - 1.0, exact)
    whole = exact.call("floor")
    whole = where(exact - whole > 0.5, whole + 1.0, whole)
    signed_zero = copysign(x.constant(0.0), ratio)
    result = where(exact.equals(0.0), signed_zero, whole)
    return where(y.equals(0.0), ratio, result)
