"""Maps with special functions, on devices that have vectors: one work-item takes a strip of them.

Enters: a kernel whose stores are all done at each point of its axes, without reductions. Leaves:
its `Routine`; None where one work-item a point does as well. A driver has `exp` and its like for
whole vectors; of such a call on a single element, in a loop over work-items, it rarely makes one.
So an item keeps a strip of neighbours in arrays: loops over its lanes compute the operands of the
functions, each function is called on vectors of these, and further loops go on with the results.
What stands between is computed again in each loop: it is cheap beside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.dims import Dimension, floordiv, product
from graphc.dtypes import DType, float16, float32, float64
from graphc.kernel import Axis, Kernel
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.elements import HALF_HELPER, register
from graphc.runtime.opencl.facts import Facts, operand_dtype
from graphc.runtime.opencl.formula import Code, Scope
from graphc.runtime.opencl.primitives import FUNCTIONS, finished
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.source import argument_bytes, grid_rows, placed, whole_routine
from graphc.scalar import Scalar

GROUP = 16
VECTORS = (2, 4, 8, 16)  # lanes of OpenCL's types
# What drivers (PoCL 3.1) get wrong for vectors: remainders of large quotients, powers of float64,
# and angles next to a lane whose angle is huge, which is computed alone here.
ALONE = frozenset(("remainder", "floor_divide"))
ANGLES = frozenset(("sin", "cos", "tan"))
HUGE = "1e4f"


def match(kernel: Kernel, capabilities: Capabilities, wanted: Dimension) -> Routine | None:
    """The routine of a map with special functions."""
    lanes = max((n for n in VECTORS if n <= capabilities.vector_width), default=1)
    if capabilities.type != "cpu" or lanes == 1 or not kernel.axes:
        return None
    if any(part.primitive == "reduce" for part in kernel.formulas()):
        return None
    strips = _Strips(kernel, capabilities, lanes)
    if not strips.levels:
        return None
    found = strips.routine(wanted)
    return None if argument_bytes(found) > capabilities.parameters else found


class _Strips:
    """The text of one kernel."""

    def __init__(self, kernel: Kernel, capabilities: Capabilities, lanes: int) -> None:
        self.kernel, self.lanes, self.capabilities = kernel, lanes, capabilities
        self.code = Code(capabilities.fused)
        formulas = [f for store in kernel.stores for f in store.formulas]
        self.facts = Facts(formulas)
        self.order = list(self.facts.inside(*formulas))
        self.rows = grid_rows(kernel.axes)
        self.levels = self._levels()

    def _levels(self) -> list[list[Scalar]]:
        """The functions, each after those that it needs the results of."""
        level: dict[Scalar, int] = {}
        found: dict[int, list[Scalar]] = {}
        row = set(self.rows[0])
        for part in self.order:
            level[part] = max((level[x] for x in self.facts.needs(part) if x in level), default=0)
            if self._is_function(part) and self.facts.free[part] & row:
                found.setdefault(level[part], []).append(part)
                level[part] += 1
        return [found[key] for key in sorted(found)]

    def _dtype(self, part: Scalar) -> DType:
        """The dtype in which a function is computed; float16 among them."""
        return operand_dtype(part.primitive, [self.facts.kinds[x] for x in part.operands])

    def _is_function(self, part: Scalar) -> bool:
        if part.primitive not in FUNCTIONS or part.primitive in ALONE:
            return False
        dtype = self._dtype(part)
        return dtype.is_float and not (part.primitive == "power" and dtype is float64)

    # ------------------------------------------------------------------ text

    def routine(self, wanted: Dimension) -> Routine:
        """The code and its work-items."""
        code, lanes = self.code, self.lanes
        size = product(axis.extent for axis in self.rows[0])
        strips = floordiv(size + (lanes - 1), lanes)
        items = (strips, *(product(axis.extent for axis in row) for row in self.rows[1:]))
        lines, point, conditions = [], dict[Axis, str](), list[str]()
        for number, row in enumerate(self.rows):
            lines.append(f"  const long g{number} = get_global_id({number});")
            conditions.append(f"g{number} < {code.size(items[number])}")
            if number:
                more, at = placed(code, f"g{number}", row)
                lines += [f"  {line}" for line in more]
                point |= at
        scope = Scope(code, self.facts, point)
        scope.line(f"const long first = g0 * {lanes};")
        scope.prepare(self.order)
        end = code.size(size)
        scope.line(f"if (first + {lanes} <= {end}) {{")
        self._strip(scope, str(lanes))
        scope.line("} else {")
        scope.line(f"  const int left = (int)({end} - first);")
        self._strip(scope, "left")
        scope.line("}")
        text = [*lines, f"  if ({' && '.join(conditions)}) {{", *scope.lines, "  }"]
        return whole_routine(code, self.kernel, text, items, (GROUP, 1, 1)[: len(items)], wanted)

    def _strip(self, outer: Scope, count: str) -> None:
        """One strip: the functions level by level, then the stores."""
        block = outer.inner({})
        known: dict[Scalar, str] = {}
        for level in self.levels:
            arguments = {part: self._declared(block, part) for part in level}
            lane = self._lane(block, count, known)
            for part, (names, _) in arguments.items():
                for name, operand in zip(names, part.operands, strict=True):
                    lane.line(f"{name}[l] = {lane.typed(operand, self._dtype(part))};")
            block.close(lane)
            for part, (names, result) in arguments.items():
                self._call(block, part, names, result)
                known[part] = self._result(part, names, result)
        lane = self._lane(block, count, known)
        for store in self.kernel.stores:
            lane.store(store)
        block.close(lane)
        outer.lines += block.lines

    def _declared(self, block: Scope, part: Scalar) -> tuple[list[str], str]:
        """Arrays for the operands of a function, and for its results."""
        names = [self.code.name("a") for _ in part.operands]
        result = self.code.name("s")
        arrays = ", ".join(f"{name}[{self.lanes}]" for name in (*names, result))
        block.line(f"{register(self._dtype(part))} {arrays};")
        return names, result

    def _lane(self, block: Scope, count: str, known: dict[Scalar, str]) -> Scope:
        """A loop over the lanes."""
        if count == str(self.lanes):  # unrolled, its stores would be waited for one by one
            hint = f"vectorize(enable) vectorize_width({self.lanes})"
            block.lines.append(f"#pragma clang loop {hint}")
        block.line(f"for (int l = 0; l < {count}; l++) {{")
        lines, point = placed(self.code, "at", self.rows[0])
        lane = block.inner(point)
        lane.line("const long at = first + l;")
        for line in lines:
            lane.line(line)
        for part, text in known.items():
            lane.know(part, text)
        return lane

    def _call(self, block: Scope, part: Scalar, names: Sequence[str], result: str) -> None:
        """The function on whole vectors; lanes that are left over compute what nobody reads."""
        dtype = self._dtype(part)
        width = min(self.lanes, self.capabilities.lanes(max(32, dtype.bits)))
        for number in range(self.lanes // width):
            loads = [f"vload{width}({number}, {name})" for name in names]
            if part.primitive in ANGLES:
                zero, most = (f"({register(dtype)}{width})({n})" for n in ("0", HUGE))
                loads = [f"select({zero}, {loads[0]}, fabs({loads[0]}) <= {most})"]
            operands = ", ".join(loads)
            call = f"{FUNCTIONS[part.primitive]}({operands})"
            block.line(f"vstore{width}({call}, {number}, {result});")

    def _result(self, part: Scalar, names: Sequence[str], result: str) -> str:
        """The value of a function in lane l."""
        dtype = self._dtype(part)
        computed = float32 if dtype is float16 else dtype
        operands = [f"{name}[l]" for name in names]
        raw = f"{result}[l]"
        if part.primitive in ANGLES:
            alone = f"{FUNCTIONS[part.primitive]}({operands[0]})"
            raw = f"(fabs({operands[0]}) <= {HUGE} ? {raw} : {alone})"
        text = finished(part.primitive, computed, operands, raw, self.code.helpers)
        if dtype is not float16:
            return text
        self.code.helpers[HALF_HELPER] = None
        return f"graphc_half({text})"
