"""Floor division and its remainder: of floats as Python and NumPy have it, of integers everywhere.

The remainder of floats is exact. While |x / y| is small enough it is x - q y with an integer q that
has few digits; larger quotients take C's fmod, one lane at a time, in a block that runs only when
there are such lanes. The builder then stands behind that block.
"""

from __future__ import annotations

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.math.double_length import exact_product
from graphc.runtime.cpu.math.lanes import Lanes, any_lane, copysign, where

EXACT = {32: 2.0**28, 64: 2.0**52}


def _truncated_remainder(x: Lanes, y: Lanes) -> Lanes:
    """C's fmod: the remainder of the quotient rounded towards 0, with the sign of x."""
    builder, before = x.builder, x.builder.block
    size, divisor = abs(x), abs(y)
    if x.format.bits == 32:
        wide, by = (v.convert("fpext", ir.DoubleType()) for v in (size, divisor))
        quotient = (wide / by).call("trunc")
        usual = (wide - quotient * by).convert("fptrunc", x.element)
        large = (wide / by) >= EXACT[32]
    else:
        ratio = size / divisor
        quotient = ratio.call("trunc")
        product, rest = exact_product(quotient, divisor)
        near = (size - product) - rest
        usual = where(near < 0.0, near + divisor, near)
        large = ratio >= EXACT[64]
    usual = copysign(where(size < divisor, size, usual), x)
    before = builder.block
    with builder.if_then(any_lane(large), likely=False):
        exact = x.wrap(builder.frem(x.value, y.value))
        merged = where(large, exact, usual)
        inside = builder.block
    phi = builder.phi(x.value.type)
    phi.add_incoming(usual.value, before)
    phi.add_incoming(merged.value, inside)
    return x.wrap(phi)


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


def _vectorised(x: Lanes, y: Lanes) -> bool:
    """Whether a quotient in float64 is better than LLVM's: it divides integers lane by lane."""
    return x.count is not None and x.element.width <= 32 and not isinstance(y.value, ir.Constant)


def _whole_quotient(x: Lanes, y: Lanes, signed: bool) -> Lanes:
    """x / y rounded towards 0, for y not 0. Exact in float64, which has 21 digits more."""
    prefix = "s" if signed else "u"
    if not _vectorised(x, y):
        return x.wrap(getattr(x.builder, f"{prefix}div")(x.value, y.value))
    width = x.element
    wide, by = (v.convert(f"{prefix}itofp", ir.DoubleType()) for v in (x, y))
    return (wide / by).convert(f"fpto{prefix}i", width)


def integer_divide(x: Lanes, y: Lanes, signed: bool) -> tuple[Lanes, Lanes]:
    """(quotient rounded down, remainder); both 0 by 0. The smallest integer over -1 is itself."""
    none = y.equals(0)
    bad = none
    if signed:
        lowest = x.equals(-(1 << (x.element.width - 1)))
        bad = none | (lowest & y.equals(-1))
    divisor = where(bad, 1, y)
    quotient = _whole_quotient(x, divisor, signed)
    rest = x - quotient * divisor
    if signed:
        opposed = rest.differs(0) & ((rest ^ divisor) < 0)
        quotient = where(opposed, quotient - 1, quotient)
        rest = where(opposed, rest + divisor, rest)
    return where(none, 0, quotient), rest
