"""gelu: a composite, with one factor as its derivative.

Differentiated step by step, either of its formulas gives a sum of masked products, with each part
of the derivative in several of them. The rule here multiplies the cotangent once.

The formula by tanh, `x (1 + tanh(u)) / 2`, is computed as `x sigmoid(2 u)`, which is the same and
keeps its digits where the tanh is near -1.
"""

from __future__ import annotations

import math

import numpy as np

from graphc.build import make
from graphc.dtypes import Array
from graphc.graph import Op, Tensor
from graphc.ops.arith import scaled
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.elementary import erfc, exp, sigmoid
from graphc.ops.pointwise import pointwise_shape, quiet, same_type
from graphc.ops.window import wide
from graphc.scalar import erfc as erfc_oracle

SLOPE = 2.0 * math.sqrt(2.0 / math.pi)  # of 2 u at 0
CUBIC = 0.044715 * SLOPE
ROOT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # of a standard normal number at 0


def _oracle(x: Array, approximate: bool) -> Array:
    held = x.astype(wide(x.dtype))
    if approximate:
        argument = held * (held * held * CUBIC + SLOPE)
        small = np.exp(-np.absolute(argument))
        below = np.where(argument < 0, small, np.ones_like(small)) / (small + 1)
    else:
        below = erfc_oracle(held * -ROOT_HALF) * 0.5
    result: Array = (held * below).astype(x.dtype)
    return result


def _below(x: Tensor, approximate: bool) -> Tensor:
    """The chance that a standard normal number is below `x`."""
    if approximate:
        return sigmoid(x * (x * x * CUBIC + SLOPE))
    return erfc(x * -ROOT_HALF) * 0.5


def _expand(x: Tensor, approximate: bool) -> Tensor:
    return x * _below(x, approximate)


def _vjp(g: Tensor, y: Tensor, x: Tensor, approximate: bool) -> Tensor:
    """g (P + x P'), where P is the chance; P' falls faster than any power of x grows."""
    below, squared = _below(x, approximate), x * x
    if approximate:
        tail, rise = below * (1.0 - below), x * (squared * (3.0 * CUBIC) + SLOPE)
    else:
        tail, rise = exp(squared * -0.5), x * DENSITY
    return scaled(g, below + scaled(rise, tail))


GELU: Op = Op(
    "gelu", "composite", ("x",), same_type, pointwise_shape, quiet(_oracle),
    build=lambda x, approximate, name=None: gelu_of(x, approximate, name),
    vjp=_vjp,
    expand=_expand,
    domain=Domain(
        tuple(
            Case((Draw(shape),), {"approximate": approximate})
            for shape in ((), (5,), (0, 3), (2, 3))
            for approximate in (False, True)
        ),
        "f",
    ),
)  # fmt: skip


def gelu_of(x: Tensor, approximate: bool, name: str | None = None) -> Tensor:
    """The node over a tensor of floats."""
    return make(GELU, (x,), {"approximate": bool(approximate)}, name)
