"""Elements in OpenCL C: the types that hold them, literals, and conversions between all of them.

Enters: dtypes, numbers, names of variables. Leaves: text. In registers a bool is an int that is 0
or 1, and a float16 is a float whose value float16 holds; so arithmetic of float16 is that of float,
rounded after each operation, on devices without cl_khr_fp16 too.

Every conversion is defined: floats to integers drop fractions, saturate, and turn NaN into 0;
integers wrap; anything but 0 is true.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.dtypes import DType, bool_, float16, float32, float64
from graphc.ops.broadcast import cast_array
from graphc.runtime.opencl.routine import MEMORY

HALF_HELPER = """\
inline float graphc_half(float x) {
  float size = fabs(x);
  uint scale = as_uint(size) & 0x7f800000u;
  scale = scale < 0x38800000u ? 0x38800000u : scale;
  scale = scale > 0x47800000u ? 0x47800000u : scale;
  float unit = as_float(scale + (13u << 23));
  float number = (size + unit) - unit;
  number = number >= 65536.0f ? INFINITY : number;
  return as_float(as_uint(number) | (as_uint(x) & 0x80000000u));
}
"""
ODD_HELPER = """\
inline float graphc_odd(double x) {
  float near = (float)x;
  uint bits = as_uint(near) - (uint)(fabs((double)near) > fabs(x));
  return as_float(bits | (uint)((double)near != x));
}
"""


def register(dtype: DType) -> str:
    """The C type of a value in a variable."""
    if dtype is bool_:
        return "int"
    return "float" if dtype is float16 else MEMORY[dtype.name]


def array_of(kind: str, name: str, size: int) -> str:
    """The declaration of an array; aligned, or PoCL 3.1 loses bytes that are written one by one."""
    return f"{kind} {name}[{size}] __attribute__((aligned(64)));"


def unsigned(dtype: DType) -> str:
    """The unsigned C type of as many bits as an integer dtype."""
    return "uint" if dtype is bool_ else MEMORY[f"uint{dtype.bits}"]


def arithmetic(dtype: DType) -> str:
    """The unsigned C type in which an integer dtype wraps: narrow ones become int in C."""
    return "ulong" if dtype.bits == 64 else "uint"


def wrapped(dtype: DType, text: str) -> str:
    """An expression of unsigned arithmetic as a value of an integer dtype."""
    return f"({register(dtype)})({unsigned(dtype)})({text})"


def number(value: Any, dtype: DType) -> str:
    """A number as a literal of a dtype."""
    with np.errstate(all="ignore"):  # what a dtype does not hold is infinite
        found = cast_array(_array(value), dtype).item()
    if dtype is bool_:
        return "1" if found else "0"
    if dtype.is_float:
        return _float(float(found), dtype)
    if dtype.kind == "u":
        return f"{found}UL" if dtype.bits == 64 else f"({register(dtype)}){found}u"
    if found == -(1 << 63):
        return "(-9223372036854775807L - 1L)"
    text = f"{found}L" if dtype.bits == 64 else str(found)
    if found == -(1 << 31) and dtype.bits == 32:
        text = "(-2147483647 - 1)"
    return text if dtype.bits >= 32 and found >= 0 else f"({register(dtype)})({text})"


def _array(value: Any) -> Any:
    if type(value) is int and value > 2**63 - 1:
        return np.asarray(value, np.uint64)
    return np.asarray(value)


def _float(value: float, dtype: DType) -> str:
    name = register(dtype)
    if math.isnan(value):
        return f"({name})NAN"
    if math.isinf(value):
        return f"({name})INFINITY" if value > 0 else f"(-({name})INFINITY)"
    text = value.hex() + ("f" if name == "float" else "")
    return f"({text})" if text.startswith("-") else text


# ---------------------------------------------------------------------------- conversions


def cast(text: str, source: DType, target: DType, helpers: dict[str, None]) -> str:
    """A value (a name or a literal) of one dtype as another; what it calls goes to `helpers`."""
    if source is target or (source is float16 and target is float32):
        return text
    if target is bool_:
        return f"({text} != 0)"
    if target.is_float:
        return _to_float(text, source, target, helpers)
    if source.is_float:
        return _saturated(text, source, target, helpers)
    return wrapped(target, text) if source is not bool_ else f"({register(target)})({text})"


def _to_float(text: str, source: DType, target: DType, helpers: dict[str, None]) -> str:
    if target is not float16:
        return f"({register(target)})({text})"
    helpers[HALF_HELPER] = None
    if source is float64:
        helpers[ODD_HELPER] = None
        return f"graphc_half(graphc_odd({text}))"
    return f"graphc_half((float)({text}))"


def _saturated(text: str, source: DType, target: DType, helpers: dict[str, None]) -> str:
    """By comparisons: drivers differ in what a conversion out of range gives, and in `_sat` too."""
    wide = float32 if source is float16 else source
    bits = target.bits - (target.kind == "i")
    most, least = (1 << bits) - 1, -(1 << bits) if target.kind == "i" else 0
    name = f"graphc_{target.name}_of_{wide.name}"
    helpers[
        f"inline {register(target)} {name}({register(wide)} x) {{\n"
        f"  return x >= {_float(float(1 << bits), wide)} ? {number(most, target)}\n"
        f"    : x <= {_float(float(least), wide)} ? {number(least, target)}\n"
        f"    : x != x ? {number(0, target)} : ({register(target)})x;\n}}\n"
    ] = None
    return f"{name}({text})"
