"""The scalar primitives in OpenCL C: `scalar.PRIMITIVES` says what each means.

Enters: a primitive, names or literals of its operands, and the dtype in which it is computed (never
float16: that is computed in float32). Leaves: an expression, and the functions that it calls.

Signed integers wrap, which C leaves open, so they are computed unsigned. OpenCL's own functions are
used where the specification bounds their error and C99 says what they do at infinities, NaN and
zeros; what it leaves to the driver (division by 0, shifts by the width, NaN in fmin) stands here.
On CPUs, `functions.py` has what takes their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from graphc.dtypes import DType, bool_
from graphc.runtime.opencl.elements import arithmetic, register, unsigned, wrapped

Helpers: TypeAlias = "dict[str, None]"
Emitter: TypeAlias = Callable[[DType, Sequence[str], Helpers], str]

FLOAT_HELPERS = {
    "maximum": """\
inline T NAME(T x, T y) {
  return x > y ? x : x < y ? y : x == y ? AS_T(AS_U(x) & AS_U(y)) : x + y;
}
""",
    "minimum": """\
inline T NAME(T x, T y) {
  return x < y ? x : x > y ? y : x == y ? AS_T(AS_U(x) | AS_U(y)) : x + y;
}
""",
}
# What becomes of a function's own result `raw`, where that is not all.
FINISHING = {
    "remainder": """\
inline T NAME(T x, T y, T raw) {
  T moved = raw != 0 && (raw < 0) != (y < 0) ? raw + y : raw;
  return raw == 0 ? copysign(raw, y) : moved;
}
""",
    "floor_divide": """\
inline T NAME(T x, T y, T raw) {
  T ratio = x / y, exact = (x - raw) / y;
  exact = raw != 0 && (raw < 0) != (y < 0) ? exact - 1 : exact;
  T whole = floor(exact);
  whole = exact - whole > (T)0.5f ? whole + 1 : whole;
  whole = exact == 0 ? copysign((T)0, ratio) : whole;
  return y == 0 ? ratio : whole;
}
""",
    "power": "inline T NAME(T x, T y, T raw) { return y == 0 || x == 1 ? (T)1 : raw; }\n",
    # Drivers lose the sign of a zero, and denormals.
    "log1p": "inline T NAME(T x, T raw) { return fabs(x) < (T)0x1p-60f ? x : raw; }\n",
}
FUNCTIONS = {
    "remainder": "fmod", "floor_divide": "fmod", "power": "pow", "exp": "exp", "expm1": "expm1",
    "log": "log", "log1p": "log1p", "sin": "sin", "cos": "cos", "tan": "tan", "arcsin": "asin",
    "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "tanh": "tanh", "erf": "erf",
}  # fmt: skip  # of floats: OpenCL's
SIGNED_HELPERS = {
    "floor_divide": """\
inline T NAME(T x, T y) {
  T by = y == 0 || y == -1 ? (T)1 : y, q = x / by, rest = x - q * by;
  q = rest != 0 && (rest < 0) != (by < 0) ? q - 1 : q;
  return y == 0 ? (T)0 : y == -1 ? (T)(U)((W)0 - (W)x) : q;
}
""",
    "remainder": """\
inline T NAME(T x, T y) {
  T by = y == 0 || y == -1 ? (T)1 : y, rest = x % by;
  return rest != 0 && (rest < 0) != (by < 0) ? rest + by : rest;
}
""",
    "power": """\
inline T NAME(T x, T y) {
  W result = 1, base = (W)x, left = y < 0 ? 0 : (W)y;
  while (left != 0) {
    result = left & 1 ? result * base : result;
    base *= base; left >>= 1;
  }
  T one = y & 1 ? x : (T)1;
  return y < 0 ? (x == 1 || x == -1 ? one : (T)0) : (T)(U)result;
}
""",
}
UNSIGNED_HELPERS = {
    "floor_divide": "inline T NAME(T x, T y) { return y == 0 ? (T)0 : x / (y == 0 ? (T)1 : y); }\n",
    "remainder": "inline T NAME(T x, T y) { return y == 0 ? (T)0 : x % (y == 0 ? (T)1 : y); }\n",
    "power": """\
inline T NAME(T x, T y) {
  W result = 1, base = x, left = y;
  while (left != 0) {
    result = left & 1 ? result * base : result;
    base *= base; left >>= 1;
  }
  return (T)result;
}
""",
}


def _helper(name: str) -> Emitter:
    """A call of one of the functions above."""

    def emit(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
        if dtype.is_float:
            if name in FINISHING:
                called = f"{FUNCTIONS[name]}({', '.join(operands)})"
                return _called(name, FINISHING[name], dtype, [*operands, called], helpers)
            text, bits = FLOAT_HELPERS[name], "uint" if dtype.bits == 32 else "ulong"
            text = text.replace("AS_U", f"as_{bits}").replace("AS_T", f"as_{register(dtype)}")
        else:
            text = (SIGNED_HELPERS if dtype.kind == "i" else UNSIGNED_HELPERS)[name]
        return _called(name, text, dtype, operands, helpers)

    return emit


def _called(name: str, text: str, dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
    """A call of a helper, whose text is made for a dtype."""
    called = f"graphc_{name}_{dtype.name}"
    for short, long in (
        ("NAME", called), ("T", register(dtype)), ("U", unsigned_name(dtype)),
        ("W", arithmetic(dtype)),
    ):  # fmt: skip
        text = re.sub(rf"\b{short}\b", long, text)
    helpers[text] = None
    return f"{called}({', '.join(operands)})"


def unsigned_name(dtype: DType) -> str:
    """The unsigned type of an integer's width; of a float nothing asks for it."""
    return "uint" if dtype.is_float else unsigned(dtype)


def _wrapping(sign: str, of_bool: str | None = None) -> Emitter:
    def emit(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
        x, y = operands
        if dtype.is_float:
            return f"({x} {sign} {y})"
        if dtype is bool_:
            return f"({x} {of_bool or sign} {y})"
        kind = arithmetic(dtype)
        return wrapped(dtype, f"({kind}){x} {sign} ({kind}){y}")

    return emit


def _negative(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
    if dtype.is_float:
        return f"(-{operands[0]})"
    return wrapped(dtype, f"({arithmetic(dtype)})0 - ({arithmetic(dtype)}){operands[0]}")


def _absolute(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
    if dtype.is_float:
        return f"fabs({operands[0]})"
    if dtype.kind != "i":
        return operands[0]
    return f"({operands[0]} < 0 ? {_negative(dtype, operands, helpers)} : {operands[0]})"


def _extreme(name: str, sign: str) -> Emitter:
    function = _helper(name)

    def emit(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
        if dtype.is_float:
            return function(dtype, operands, helpers)
        x, y = operands
        return f"({x} {sign} {y} ? {x} : {y})"

    return emit


def _infix(sign: str) -> Emitter:
    return lambda dtype, operands, helpers: f"({operands[0]} {sign} {operands[1]})"


def _bits(sign: str) -> Emitter:
    def emit(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
        return f"({register(dtype)})({operands[0]} {sign} {operands[1]})"

    return emit


def _bit_not(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
    return f"(!{operands[0]})" if dtype is bool_ else f"({register(dtype)})(~{operands[0]})"


def _shift_left(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
    x, y = operands
    kind, fits = arithmetic(dtype), _fits(dtype, y)
    return f"({fits} ? {wrapped(dtype, f'({kind}){x} << ({kind}){y}')} : ({register(dtype)})0)"


def _shift_right(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
    x, y = operands
    name, fits = register(dtype), _fits(dtype, y)
    if dtype.kind == "i":
        return f"({name})({x} >> ({fits} ? {y} : ({name}){dtype.bits - 1}))"
    return f"({fits} ? ({name})({x} >> {y}) : ({name})0)"


def _fits(dtype: DType, y: str) -> str:
    return f"(({unsigned(dtype)}){y} < {dtype.bits})"


def _call(name: str) -> Emitter:
    return lambda dtype, operands, helpers: f"{name}({', '.join(operands)})"


def _rounding(name: str) -> Emitter:
    def emit(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
        return f"{name}({operands[0]})" if dtype.is_float else operands[0]

    return emit


def _select(dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
    condition, x, y = operands
    return f"({condition} ? {x} : {y})"


EMITTERS: dict[str, Emitter] = {
    "add": _wrapping("+", "|"),
    "subtract": _wrapping("-", "^"),
    "multiply": _wrapping("*", "&"),
    "divide": _infix("/"),
    "floor_divide": _helper("floor_divide"),
    "remainder": _helper("remainder"),
    "power": _helper("power"),
    "negative": _negative,
    "absolute": _absolute,
    "minimum": _extreme("minimum", "<"),
    "maximum": _extreme("maximum", ">"),
    "copysign": _call("copysign"),
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "rint": _rounding("rint"),
    "sqrt": _call("sqrt"),
    "exp": _call("exp"),
    "expm1": _call("expm1"),
    "log": _call("log"),
    "log1p": _helper("log1p"),
    "sin": _call("sin"),
    "cos": _call("cos"),
    "tan": _call("tan"),
    "arcsin": _call("asin"),
    "arccos": _call("acos"),
    "arctan": _call("atan"),
    "arctan2": _call("atan2"),
    "tanh": _call("tanh"),
    "erf": _call("erf"),
    "less": _infix("<"),
    "less_equal": _infix("<="),
    "equal": _infix("=="),
    "select": _select,
    "bit_and": _bits("&"),
    "bit_or": _bits("|"),
    "bit_xor": _bits("^"),
    "bit_not": _bit_not,
    "shift_left": _shift_left,
    "shift_right": _shift_right,
}


def emit(primitive: str, dtype: DType, operands: Sequence[str], helpers: Helpers) -> str:
    """The expression of a primitive over names or literals of one dtype."""
    return EMITTERS[primitive](dtype, operands, helpers)
