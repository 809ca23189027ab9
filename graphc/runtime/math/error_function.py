"""erf: an odd polynomial up to 1; beyond, 1 - e**-g(x), with a polynomial g = -log(1 - erf).

The form in which the tail is smooth enough for one polynomial is that of N. Shibata, F. Petrogalli,
SLEEF: A portable vectorized library of C standard mathematical functions (2020).
"""

from __future__ import annotations

from graphc.runtime.math import coefficients as table
from graphc.runtime.math.exponential import bounded_exponential
from graphc.runtime.math.lanes import Lanes, copysign, muladd, polynomial, where

NEAR = {32: table.ERF_32, 64: table.ERF_64}
TAIL = {32: table.ERF_TAIL_32, 64: table.ERF_TAIL_64}
ONE = {32: 4.0, 64: 6.0}  # from here on the result rounds to 1


def erf(x: Lanes) -> Lanes:
    """The error function."""
    bits = x.format.bits
    size = abs(x)
    held = where(size > ONE[bits], ONE[bits], size)
    near = muladd(polynomial(x * x, NEAR[bits]), size, size)
    beyond = where(size < 1.0, 1.0, held) - 1.0  # the polynomial may be anything below 1
    far = 1.0 - bounded_exponential(-polynomial(beyond, TAIL[bits]))
    return copysign(where(size < 1.0, near, far), x)
