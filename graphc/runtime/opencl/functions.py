"""Elementary functions in OpenCL C, as the CPU device computes them, for elements and vectors.

Enters: the name of a primitive and names of its operands. Leaves: a call, and the text of what is
called. On CPUs these take the place of the driver's functions: those are slow there, each driver
has other ones, and what they give differs from driver to driver. A GPU has quick ones of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.dtypes import DType, float32
from graphc.runtime.math.functions import FUNCTIONS, IN_DOUBLES
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.lanes import Body, Lanes

PAIRS = frozenset(("arctan2", "power", "remainder", "floor_divide"))


@dataclass(frozen=True, slots=True)
class Functions:
    """Those of one device."""

    own: bool  # ours take the place of the driver's
    fused: bool  # there is a quick `fma`
    doubles: bool

    @staticmethod
    def of(capabilities: Capabilities) -> Functions:
        """Those that suit a device."""
        return Functions(capabilities.type == "cpu", capabilities.fused, capabilities.fp64)

    def has(self, name: str, dtype: DType) -> bool:
        """Whether a primitive of a dtype is computed by ours."""
        if not self.own or name not in FUNCTIONS or not dtype.is_float:
            return False
        return self.doubles or (dtype is float32 and name not in IN_DOUBLES)

    def call(
        self, name: str, dtype: DType, operands: Sequence[str], helpers: dict[str, None],
        lanes: int = 1,
    ) -> str:  # fmt: skip
        """A call of a function of float32 or float64, of vectors if there are several lanes."""
        body = Body(lanes, self.fused)
        names = ("x", "y")[: 2 if name in PAIRS else 1]
        result = FUNCTIONS[name](*(Lanes(body, x, dtype.bits) for x in names))
        kind = body.shaped("float" if dtype is float32 else "double")
        called = f"graphc_{name}_{kind}"
        head = f"{kind} {called}({', '.join(f'{kind} {x}' for x in names)})"
        lines = "".join(f"  {line}\n" for line in body.lines)
        helpers.update(body.helpers)
        helpers[f"inline {head} {{\n{lines}  return {result.value};\n}}\n"] = None
        return f"{called}({', '.join(operands)})"
