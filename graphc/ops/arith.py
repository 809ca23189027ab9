"""Arithmetic of two operands and its kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.graph import Tensor
from graphc.ops.domain import elementwise
from graphc.ops.pointwise import pointwise
from graphc.scalar import primitive


@pointwise(
    np.add,
    vjp=lambda g, y, a, b: (g, g),
    element=primitive("add"),
    domain=elementwise((-2, 2), (-2, 2), kinds="biuf"),
)
def add(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a + b`, elementwise; of booleans, their disjunction.

    >>> add([1, 2], [3, 4]).eval()
    array([4, 6])
    """


@pointwise(
    np.subtract,
    vjp=lambda g, y, a, b: (g, -g),
    element=primitive("subtract"),
    domain=elementwise((-2, 2), (-2, 2), kinds="iuf"),
    takes="iuf",
)
def subtract(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a - b`, elementwise.

    >>> subtract([1, 2], 3).eval()
    array([-2, -1])
    """


@pointwise(
    np.multiply,
    vjp=lambda g, y, a, b: (g * b, g * a),
    element=primitive("multiply"),
    domain=elementwise((-2, 2), (-2, 2), kinds="biuf"),
)
def multiply(a: Any, b: Any, *, name: str | None = None) -> Tensor:
    """`a * b`, elementwise; of booleans, their conjunction.

    >>> multiply([1, 2], [3, 4]).eval()
    array([3, 8])
    """


@pointwise(
    np.negative,
    vjp=lambda g, y, x: -g,
    element=primitive("negative"),
    domain=elementwise((-2, 2), kinds="iuf"),
    takes="iuf",
)
def negative(x: Any, *, name: str | None = None) -> Tensor:
    """`-x`, elementwise.

    >>> negative([1, 2]).eval()
    array([-1, -2])
    """
