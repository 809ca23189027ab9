"""Quotients, remainders and powers of integers, defined for all operands.

Powers go through blocks of their own: the builder then stands behind them.
"""

from __future__ import annotations

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.math.lanes import Lanes, any_lane
from graphc.runtime.math.lanes import where


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


def integer_power(x: Lanes, y: Lanes, signed: bool) -> Lanes:
    """x**y by repeated squaring, as often as the largest exponent has digits.

    To a negative exponent, x is 1 or -1 and gives 1 or -1, or it gives 0.
    """
    builder, start = x.builder, x.builder.block
    remaining = where(y < 0, 0, y) if signed else y
    body, after = builder.append_basic_block("square"), builder.append_basic_block("raised")
    builder.branch(body)
    builder.position_at_end(body)
    base, left, result = (x.wrap(builder.phi(x.value.type)) for _ in range(3))
    for phi, value in ((base, x), (left, remaining), (result, x.constant(1))):
        phi.value.add_incoming(value.value, start)
    raised = where((left & 1).differs(0), result * base, result)
    squared, shifted = base * base, left.logical_right(1)
    for phi, value in ((base, squared), (left, shifted), (result, raised)):
        phi.value.add_incoming(value.value, body)
    builder.cbranch(any_lane(shifted.differs(0)), body, after)
    builder.position_at_end(after)
    if not signed:
        return raised
    unit = where((y & 1).equals(0), 1, x)
    inverse = where(x.equals(1) | x.equals(-1), unit, 0)
    return where(y < 0, inverse, raised)
