"""The scalar primitives of graphc as LLVM IR, for one value or a vector of any width.

Enters: a builder, the name of a primitive (graphc.scalar.PRIMITIVES says what it means), operands
of one LLVM type and their dtype. Leaves: a value of that type, or of i1 for comparisons.

- Booleans are i1 (in memory they are bytes); `select` takes an i1 condition before its two values.
- float16 is a storage type: cast to float32, compute, cast back. Only `select` takes it as it is.
- Special functions are right to 2 ulp, and at infinities, NaN, signed zeros and denormals. They
  carry no fast-math flags and must be given none: some compute what a sum rounds off.
- sin, cos, tan, remainder and floor_divide of floats put huge operands, and integer powers all of
  them, through blocks of their own: `builder.block` may be another one afterwards.
- A function of more lanes than a register has is cut up by LLVM; nothing here counts registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from graphc.dtypes import DType
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.math import integers
from graphc.runtime.cpu.math.casts import cast, element_of
from graphc.runtime.cpu.math.lanes import PLAIN, Instructions, Lanes
from graphc.runtime.cpu.math.special import Special
from graphc.runtime.math.functions import ELEMENTARY, FUNCTIONS
from graphc.runtime.math.lanes import copysign, where

__all__ = ["EMITTERS", "PLAIN", "Instructions", "cast", "element_of", "emit"]

Emitter: TypeAlias = Callable[..., Any]


def _special(function: Callable[..., Any]) -> Emitter:
    """A function of float32 and float64."""

    def emitter(dtype: DType, *operands: Lanes) -> Any:
        if not dtype.is_float:
            raise TypeError(
                f"{function.__name__} is computed in float32 and float64, not in {dtype}"
            )
        return function(*operands)

    return emitter


def _rounding(name: str) -> Emitter:
    """An intrinsic for floats; integers and booleans are whole already."""
    return lambda dtype, x: x.call(name) if dtype.is_float else x


def _square_root(x: Lanes) -> Lanes:
    return x.call("sqrt")


def _quotient(x: Lanes, y: Lanes) -> Lanes:
    return x / y


def _add(dtype: DType, x: Lanes, y: Lanes) -> Lanes:
    return x | y if dtype.kind == "b" else x + y


def _subtract(dtype: DType, x: Lanes, y: Lanes) -> Lanes:
    return x - y


def _multiply(dtype: DType, x: Lanes, y: Lanes) -> Lanes:
    return x & y if dtype.kind == "b" else x * y


def _negative(dtype: DType, x: Lanes) -> Lanes:
    return -x


def _absolute(dtype: DType, x: Lanes) -> Lanes:
    return x if dtype.kind in "bu" else abs(x)


def _floor_divide(dtype: DType, x: Lanes, y: Lanes) -> Any:
    if dtype.is_float:
        return _special(FUNCTIONS["floor_divide"])(dtype, x, y)
    return integers.integer_divide(x, y, dtype.kind == "i")[0]


def _remainder(dtype: DType, x: Lanes, y: Lanes) -> Any:
    if dtype.is_float:
        return _special(FUNCTIONS["remainder"])(dtype, x, y)
    return integers.integer_divide(x, y, dtype.kind == "i")[1]


def _power(dtype: DType, x: Lanes, y: Lanes) -> Any:
    if dtype.is_float:
        return _special(FUNCTIONS["power"])(dtype, x, y)
    return integers.integer_power(x, y, dtype.kind == "i")


def _compare(sign: str) -> Callable[[DType, Lanes, Lanes], Lanes]:
    def emitter(dtype: DType, x: Lanes, y: Lanes) -> Lanes:
        builder = x.builder
        compare = {"f": builder.fcmp_ordered, "i": builder.icmp_signed}.get(
            dtype.kind, builder.icmp_unsigned
        )
        return x.wrap(compare(sign, x.value, y.value))

    return emitter


def _extreme(intrinsic: str, sign: str) -> Emitter:
    """The larger or smaller; NaN wins, and -0 is below 0, as IEEE 754-2019, 9.6 has it."""

    def emitter(dtype: DType, x: Lanes, y: Lanes) -> Lanes:
        return x.call(intrinsic, y) if dtype.is_float else where(_compare(sign)(dtype, x, y), x, y)

    return emitter


def _select(dtype: DType, condition: Lanes, x: Lanes, y: Lanes) -> Lanes:
    return where(condition, x, y)


def _shift_left(dtype: DType, x: Lanes, y: Lanes) -> Lanes:
    fits = x.wrap(x.builder.icmp_unsigned("<", y.value, y.lift(dtype.bits)))
    return where(fits, x << y, 0)


def _shift_right(dtype: DType, x: Lanes, y: Lanes) -> Lanes:
    fits = x.wrap(x.builder.icmp_unsigned("<", y.value, y.lift(dtype.bits)))
    if dtype.kind == "i":
        return x >> where(fits, y, dtype.bits - 1)
    return where(fits, x.logical_right(y), 0)


EMITTERS: dict[str, Emitter] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _special(_quotient),
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "power": _power,
    "negative": _negative,
    "absolute": _absolute,
    "minimum": _extreme("minimum", "<"),
    "maximum": _extreme("maximum", ">"),
    "copysign": lambda dtype, x, y: copysign(x, y),
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "rint": _rounding("roundeven"),
    "sqrt": _special(_square_root),
    **{name: _special(FUNCTIONS[name]) for name in ELEMENTARY},
    "less": _compare("<"),
    "less_equal": _compare("<="),
    "equal": _compare("=="),
    "select": _select,
    "bit_and": lambda dtype, x, y: x & y,
    "bit_or": lambda dtype, x, y: x | y,
    "bit_xor": lambda dtype, x, y: x ^ y,
    "bit_not": lambda dtype, x: ~x,
    "shift_left": _shift_left,
    "shift_right": _shift_right,
}


def emit(
    builder: ir.IRBuilder,
    primitive: str,
    operands: Sequence[Any],
    dtype: DType,
    instructions: Instructions = PLAIN,
) -> Any:
    """The value of a primitive; `dtype` is that of the operands (of `select`, of what it picks).

    What `instructions` tells makes some functions shorter; results are right without it.
    """
    if dtype.is_float and dtype.bits == 16 and primitive != "select":
        raise TypeError(f"{primitive} of float16 is computed in float32: cast its operands")
    lanes = [Special(builder, operand, instructions) for operand in operands]
    return EMITTERS[primitive](dtype, *lanes).value
