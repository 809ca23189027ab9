"""What native code may find wrong in a run, as the generators of all devices say it.

Enters: rules, and the sizes that they speak of. Leaves: records that a program looks up when the
device reports a fault, or checks before it runs.
"""

from __future__ import annotations

from typing import NamedTuple

from graphc.dims import Dimension


class Fault(NamedTuple):
    """What a routine may find wrong: a rule with `{}` for the offending index, and for the size."""

    rule: str
    size: Dimension = 0


class Needed(NamedTuple):
    """Sizes whose product must not be zero: what an extremum without initial value reduces."""

    extents: tuple[Dimension, ...]
    rule: str
