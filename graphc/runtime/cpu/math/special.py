"""What formulas leave to the device: AVX-512's exponents, and blocks for operands that few have.

Enters: `Lanes`. Leaves: `Lanes`; after `huge_angles` and `long_remainder` the builder stands behind
a block of its own, which runs only when there are such lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from graphc.runtime.cpu.math import exponents
from graphc.runtime.cpu.math.lanes import Lanes, any_lane
from graphc.runtime.cpu.math.quarter_turns import huge_angles
from graphc.runtime.math.lanes import where


class Special(Lanes):
    """Lanes that formulas of all functions take."""

    def own_mantissa(self) -> tuple[Lanes, Lanes] | None:
        """m in [3/4, 3/2) and k, where there is an instruction."""
        return exponents.mantissa_and_exponent(self) if exponents.fit(self) else None

    def own_scaled(self, count: Lanes) -> Lanes | None:
        """self * 2**count, where there is an instruction."""
        return exponents.scaled(self, count) if exponents.fit(self) else None

    def own_ends(self, u: Lanes) -> Lanes | None:
        """A logarithm's special values, where there is an instruction."""
        return exponents.ends(u, self) if exponents.fit(self) else None

    def huge_angles(self, huge: Lanes, usual: Sequence[Lanes]) -> list[Lanes]:
        """By a function that takes one lane at a time."""
        return huge_angles(self, huge, usual)

    def long_remainder(self, y: Lanes, large: Lanes, usual: Lanes) -> Self:
        """By LLVM's frem, one lane at a time."""
        builder, before = self.builder, self.builder.block
        with builder.if_then(any_lane(large), likely=False):
            exact = self.wrap(builder.frem(self.value, y.value))
            merged = where(large, exact, usual)
            inside = builder.block
        phi = builder.phi(self.value.type)
        phi.add_incoming(usual.value, before)
        phi.add_incoming(merged.value, inside)
        return self.wrap(phi)
