"""How many element operations a kernel is: what it costs whatever a generator makes of it.

A formula is computed once at each point of the axes that it depends on. A primitive is one
operation, whatever it is (an exponential too); a reduction is one for each element that it takes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from graphc.dims import Dimension, product
from graphc.kernel import Axis, Kernel
from graphc.scalar import PRIMITIVES, Scalar


def operations(kernel: Kernel) -> Dimension:
    """The operations of all stores, index arithmetic left out.

    A matrix product of `[m, k]` and `[k, n]` is `2 * m * n * k`: as many products and sums.
    """
    free = _free_axes(kernel)
    total: Dimension = 0
    for formula in _values(store.value for store in kernel.stores):
        if formula.primitive in PRIMITIVES:
            total = total + _points(free[formula])
        elif formula.primitive == "reduce":
            total = total + _points(free[formula] | set(formula.value[1]))
    return total


def _points(axes: set[Axis]) -> Dimension:
    return product(axis.extent for axis in axes)


def _values(formulas: Iterable[Scalar]) -> list[Scalar]:
    """All formulas inside that are no part of an index, each once."""
    stack, found = list(formulas), dict[Scalar, None]()
    while stack:
        formula = stack.pop()
        if formula not in found:
            found[formula] = None
            if formula.primitive != "read":
                stack += formula.operands
    return list(found)


def _free_axes(kernel: Kernel) -> dict[Scalar, set[Axis]]:
    """The axes that each formula depends on."""
    free: dict[Scalar, set[Axis]] = defaultdict(set)
    for formula in kernel.formulas():
        found = set[Axis]().union(*(free[x] for x in formula.operands))
        if formula.primitive == "position":
            found = {formula.value}
        elif formula.primitive == "reduce":
            found -= set(formula.value[1])
        free[formula] = found
    return free
