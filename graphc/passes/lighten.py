"""What kernels compute with fewer operations, to within a rounding or the sign of a zero.

| before | after | difference |
|---|---|---|
| `masked_multiply(c, x)` | `c * x` | the sign of a zero; c is a finite number other than 0 |
| `x ** 3` | `x * x * x` | two roundings, at most 1.5 ulp |

These change values, if little, so they are no part of `PIPELINE`: the reference device computes
what is written.

Enters: an optimised graph. Leaves: what kernels are made from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from graphc.graph import Graph, Node, Tensor
from graphc.passes.sweep import Rule, sweep, uniform


def _number(tensor: Tensor) -> float | None:
    """The number that a tensor holds everywhere, also if it is a broadcast one."""
    while tensor.node.op.name in ("broadcast_to", "reshape"):
        tensor = tensor.node.inputs[0]
    value = uniform(tensor)
    return None if value is None else float(value)


def _masked_multiply(node: Node) -> Tensor | None:
    a, b = node.inputs
    for factor in (_number(a), _number(b)):
        if factor is not None and factor != 0 and math.isfinite(factor):
            return a * b
    return None


def _power(node: Node) -> Tensor | None:
    x, exponent = node.inputs
    return x * x * x if x.dtype.is_float and _number(exponent) == 3 else None


RULES: Mapping[str, Rule] = {"masked_multiply": _masked_multiply, "power": _power}


def lighten(graph: Graph) -> Graph:
    """Apply the table above."""
    return sweep(graph, RULES)
