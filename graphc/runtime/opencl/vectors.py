"""Values of formulas as OpenCL's vectors: what a strip of neighbours computes at once.

Enters: a formula, the vectors of its operands. Leaves: its vector. That is for floats, and for
booleans, which are integers as wide as what they were compared of. Integers and reads that jump
stay with the lanes (`strips.py`), in loops that compilers make vectors of, or do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from graphc.dtypes import DType, bool_, float16, float32, float64
from graphc.runtime.math.lanes import copysign, where
from graphc.runtime.opencl.formula import KEEP_HALF, Code
from graphc.runtime.opencl.lanes import Body, Lanes
from graphc.scalar import COMPARISONS, Scalar


def _called(name: str) -> Callable[..., Lanes]:
    return lambda x, *others: x.call(name, *others)


def _maximum(x: Lanes, y: Lanes) -> Lanes:
    equal = where(x.equals(y), (x.as_bits() & y.as_bits()).as_float(), x + y)
    return where(x > y, x, where(x < y, y, equal))


def _minimum(x: Lanes, y: Lanes) -> Lanes:
    equal = where(x.equals(y), (x.as_bits() | y.as_bits()).as_float(), x + y)
    return where(x < y, x, where(x > y, y, equal))


def _nearest(x: Lanes) -> Lanes:
    """`rint`, of which PoCL makes a call for each lane."""
    unit = 2.0**x.format.mantissa  # from here on all numbers are whole
    size = abs(x)
    near = where(size < unit, (size + unit) - unit, size)
    return copysign(near, x)


TRUTHS: Mapping[str, Callable[..., Lanes]] = MappingProxyType(
    {
        "bit_and": lambda x, y: x & y,
        "bit_or": lambda x, y: x | y,
        "bit_xor": lambda x, y: x ^ y,
        "bit_not": lambda x: ~x,
    }
)
OPERATIONS: Mapping[str, Callable[..., Lanes]] = MappingProxyType(
    {
        "add": lambda x, y: x + y,
        "subtract": lambda x, y: x - y,
        "multiply": lambda x, y: x * y,
        "divide": lambda x, y: x / y,
        "negative": lambda x: -x,
        "absolute": abs,
        "minimum": _minimum,
        "maximum": _maximum,
        "less": lambda x, y: x < y,
        "less_equal": lambda x, y: x <= y,
        "equal": lambda x, y: x.equals(y),
        "select": where,
        "rint": _nearest,
        **{name: _called(name) for name in ("copysign", "floor", "ceil", "trunc", "sqrt")},
    }
)


def bits(dtype: DType) -> int:
    """The bits of a lane: float16 is computed in float32."""
    return 64 if dtype is float64 else 32


def converts(source: DType, target: DType) -> bool:
    """Whether `converted` takes these."""
    if (source, target) == (float64, float16):
        return False
    return all(dtype.is_float or dtype is bool_ for dtype in (source, target))


def converted(x: Lanes, source: DType, target: DType) -> Lanes:
    """Lanes of one dtype as another."""
    if source is target:
        return x
    if target is bool_:
        return x.differs(0.0)
    if source is bool_:
        return x.where(Lanes(x.body, "", bits(target)).constant(1.0), 0.0)
    if bits(source) != bits(target):
        return x.widened() if target is float64 else x.narrowed()
    return half(x) if target is float16 else x


def half(x: Lanes) -> Lanes:
    """float32 rounded to the digits of float16; `elements.HALF_HELPER` of vectors."""
    size = abs(x)
    scale = size.as_bits() & 0x7F800000
    lowest = where(scale < 0x38800000, 0x38800000, scale)
    held = where(lowest > 0x47800000, 0x47800000, lowest)
    unit = (held + (13 << 23)).as_float()
    number = (size + unit) - unit
    number = where(number >= 65536.0, math.inf, number)
    return (number.as_bits() | (x.as_bits() & x.format.sign)).as_float()


def uniform(body: Body, text: str, dtype: DType) -> Lanes:
    """A value that all lanes share."""
    if dtype is bool_:
        return Lanes(body, f"({body.shaped('int')})(-({text}))", 32, "truth")
    shape = body.shaped("double" if dtype is float64 else "float")
    return Lanes(body, f"({shape})({text})", bits(dtype))


def knows(code: Code, part: Scalar, dtype: DType) -> bool:
    """Whether a primitive that computes in a dtype has a vector."""
    if dtype is bool_:
        return part.primitive in TRUTHS
    computed = float32 if dtype is float16 else dtype
    return dtype.is_float and (
        part.primitive in OPERATIONS or code.functions.has(part.primitive, computed)
    )


def computed(code: Code, part: Scalar, dtype: DType, operands: Sequence[Lanes]) -> Lanes:
    """The vector of a primitive that computes in a dtype."""
    name, body = part.primitive, operands[-1].body
    if dtype is bool_:
        return TRUTHS[name](*operands)
    wide = float32 if dtype is float16 else dtype
    if code.functions.has(name, wide):
        values = [x.value for x in operands]
        result = operands[0].made(code.functions.call(name, wide, values, code.helpers, body.count))
    else:
        result = OPERATIONS[name](*operands)
    rounds = dtype is float16 and name not in KEEP_HALF and name not in COMPARISONS
    return half(result) if rounds else result
