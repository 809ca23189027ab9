"""The functions by the names of their primitives (graphc.scalar says what each means).

Enters: `Lanes` of float32 or float64. Leaves: `Lanes` of the same, right to 2 ulp, and at
infinities, NaN, signed zeros and denormals. Of float32, those of `IN_DOUBLES` need float64 inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from graphc.runtime.math import (
    error_function,
    exponential,
    inverse_trigonometric,
    logarithmic,
    power,
    quotients,
    trigonometric,
)
from graphc.runtime.math.lanes import Lanes

FUNCTIONS: Mapping[str, Callable[..., Lanes]] = MappingProxyType(
    {
        "exp": exponential.exponential,
        "expm1": exponential.expm1,
        "tanh": exponential.tanh,
        "log": logarithmic.logarithm,
        "log1p": logarithmic.log1p,
        "erf": error_function.erf,
        "sin": trigonometric.sin,
        "cos": trigonometric.cos,
        "tan": trigonometric.tan,
        "arcsin": inverse_trigonometric.arcsin,
        "arccos": inverse_trigonometric.arccos,
        "arctan": inverse_trigonometric.arctan,
        "arctan2": inverse_trigonometric.arctan2,
        "power": power.power,
        "remainder": quotients.remainder,
        "floor_divide": quotients.floor_divide,
    }
)
ELEMENTARY = tuple(name for name in FUNCTIONS if name not in ("power", "remainder", "floor_divide"))
ANGLES = frozenset(("sin", "cos", "tan"))
QUOTIENTS = frozenset(("remainder", "floor_divide"))
IN_DOUBLES = ANGLES | QUOTIENTS | {"power"}
RARE = ANGLES | QUOTIENTS  # their formulas leave some operands to the device
