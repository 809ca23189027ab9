"""Sums and products with the part that rounding drops: numbers of twice a format's digits.

After T. J. Dekker, A floating-point technique for extending the available precision (1971), and
D. E. Knuth, TAOCP vol. 2, 4.2.2. A pair (high, low) stands for high + low.
"""

from __future__ import annotations

from typing import TypeAlias

from graphc.runtime.math.lanes import Lanes, Like

Pair: TypeAlias = tuple[Lanes, Lanes]


def quick_sum(a: Lanes, b: Lanes) -> Pair:
    """a + b exactly, where |a| >= |b| or a is 0."""
    total = a + b
    return total, (a - total) + b


def exact_sum(a: Lanes, b: Like) -> Pair:
    """a + b exactly."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def truncated(x: Lanes) -> Lanes:
    """x without the lower half of its digits, so that its square is exact."""
    kept = -(1 << (x.format.mantissa // 2 + 1))
    return (x.as_bits() & kept).as_float()


def exact_product(a: Lanes, b: Lanes) -> Pair:
    """a * b exactly, unless its last digits underflow."""
    product = a * b
    if a.fused:
        return product, a.call("fma", b, -product)
    a_high, b_high = truncated(a), truncated(b)
    a_low, b_low = a - a_high, b - b_high
    rest = (a_high * b_high - product) + a_high * b_low + a_low * b_high
    return product, rest + a_low * b_low
