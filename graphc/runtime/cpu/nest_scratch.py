"""Costly formulas that a row's reduction and its stores share: computed once, kept for the row.

Enters: the facts of a row kernel. Leaves: pairs of a formula inside of a reduction and the same one
at the points of the stores, over another axis of the same extent: softmax's `exp(x - max)`. The
reduction writes it to a scratch row, which stays in the cache, and the stores read it there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from graphc.dtypes import DType, float32, float64
from graphc.kernel import Axis
from graphc.runtime.cpu.analysis import COSTS, Facts
from graphc.scalar import Scalar

WORTH = 8  # operations that cost more than a store and a load
ROW = 65_536  # bytes of a row that the function has a place for of its own
CHUNKS = 64  # that may have a row in the workspace at one time


class Shared(NamedTuple):
    """A formula inside of a reduction, the same one in the stores, and their dtype."""

    inside: Scalar
    outside: Scalar
    dtype: DType


def shared(
    facts: Facts, order: Sequence[Scalar], stored: Iterable[Scalar], vector: Axis
) -> dict[Scalar, Shared]:
    """Of reductions, the formula that is worth a scratch row."""
    at_stores = {
        _key(part, vector, facts): part
        for part in facts.inside(*stored)
        if vector in facts.free[part] and part.primitive != "reduce"
    }
    found: dict[Scalar, Shared] = {}
    taken: set[Scalar] = set()
    for part in order:
        if part.primitive != "reduce" or not _is_row(part, vector, facts):
            continue
        (axis,) = part.value[1]
        for inner in reversed(list(facts.inside(part.operands[0]))):
            same = at_stores.get(_key(inner, axis, facts)) if axis in facts.free[inner] else None
            dtype = facts.kinds[inner]
            if same is None or same in taken or dtype not in (float32, float64):
                continue
            if _cost(inner, axis, facts) >= WORTH:
                assert isinstance(dtype, DType)
                found[part] = Shared(inner, same, dtype)
                taken.add(same)
                break
    return found


def _is_row(part: Scalar, vector: Axis, facts: Facts) -> bool:
    """Whether a reduction runs over as many points as the stores have in a row."""
    axes: Sequence[Axis] = part.value[1]
    if len(axes) != 1 or axes[0] in facts.spans or vector in facts.free[part]:
        return False
    return bool(axes[0].extent == vector.extent)


def _cost(part: Scalar, axis: Axis, facts: Facts) -> int:
    """Operations along an axis that cost more than a read does."""
    return sum(
        COSTS.get(inner.primitive, 0) for inner in facts.inside(part) if axis in facts.free[inner]
    )


def _key(formula: Scalar, axis: Axis, facts: Facts) -> Hashable:
    """What is equal for formulas that differ in nothing but this axis."""
    keys: dict[Scalar, int] = {}
    names: dict[Hashable, int] = {}
    rows: list[Hashable] = []
    stack = [(formula, False)]
    while stack:
        part, ready = stack.pop()
        if part in keys:
            continue
        if not ready and axis in facts.free[part] and part.primitive != "reduce":
            stack.append((part, True))
            stack += [(x, False) for x in reversed(part.operands)]
            continue
        row = _row(part, axis, [keys[x] for x in part.operands] if ready else None)
        if row not in names:
            names[row] = len(rows)
            rows.append(row)
        keys[part] = names[row]
    return tuple(rows)


def _row(part: Scalar, axis: Axis, operands: list[int] | None) -> Hashable:
    if part.primitive == "number":
        return ("number", type(part.value).__name__, part.value)
    if part.primitive == "position":
        return ("position", None if part.value is axis else part.value)
    if part.primitive == "extent":
        return ("extent", part.value)
    return part if operands is None else (part.primitive, part.value, tuple(operands))
