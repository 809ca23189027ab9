"""What the emission of OpenCL C must know of formulas beforehand.

Enters: the formulas of a kernel. Leaves: `Facts`, which know that of a sum over nothing no code is
written.
"""

from __future__ import annotations

from graphc.runtime.formulas import FormulaFacts
from graphc.scalar import Scalar


def is_empty(part: Scalar) -> bool:
    """Whether a reduction is known to have no points."""
    return any(isinstance(axis.extent, int) and axis.extent == 0 for axis in part.value[1])


class Facts(FormulaFacts):
    """What is known of some formulas."""

    def summed(self, part: Scalar) -> tuple[Scalar, ...]:
        """What is evaluated inside of the loops of a reduction: nothing where it has no points."""
        return () if is_empty(part) else super().summed(part)
