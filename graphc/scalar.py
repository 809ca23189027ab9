"""Formulas of one element: a closed set of scalar primitives, with their meaning in NumPy.

An op's `element` takes `Scalar`s and returns one; code generators see nothing else of a pointwise
op. `evaluate` runs a formula over arrays, which is how the tests hold
each op's formula against its oracle. Formulas are trees a few levels deep, so recursion is fine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphc.dtypes import Array, DType, bool_, float64, floating, int64, promote


def _floating(x: Array) -> Any:
    """The dtype of a special function's result."""
    return x.dtype if x.dtype.kind == "f" else np.float64


def erf(x: Array) -> Array:
    """The error function, to an ulp: the C library's, element by element."""
    return np.asarray(_ERF(np.asarray(x, np.float64))).astype(_floating(x))


def erfc(x: Array) -> Array:
    """`1 - erf(x)`, to an ulp of itself also where that is tiny."""
    return np.asarray(_ERFC(np.asarray(x, np.float64))).astype(_floating(x))


def power(x: Array, y: Array) -> Array:
    """NumPy's power, and for integers to negative powers the quotient 1 // x**-y without rest.

    So 1 gives 1, -1 gives 1 or -1, and all others 0, 0 included (an integer divided by 0 is 0).
    """
    dtype = np.result_type(x, y)
    if dtype.kind != "i" or not np.any(np.less(y, 0)):
        return np.power(x, y)
    sign = np.where(np.equal(np.remainder(y, 2), 0), 1, x)
    inverse = np.where(np.equal(np.absolute(x), 1), sign, 0)
    return np.where(np.less(y, 0), inverse, np.power(x, np.maximum(y, 0))).astype(dtype)


_ERF = np.frompyfunc(math.erf, 1, 1)
_ERFC = np.frompyfunc(math.erfc, 1, 1)

PRIMITIVES: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.true_divide,
    "floor_divide": np.floor_divide,
    "remainder": np.remainder,
    "power": power,
    "negative": np.negative,
    "absolute": np.absolute,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "copysign": np.copysign,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "arcsin": np.arcsin,
    "arccos": np.arccos,
    "arctan": np.arctan,
    "arctan2": np.arctan2,
    "tanh": np.tanh,
    "erf": erf,
    "less": np.less,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "select": np.where,
    "bit_and": np.bitwise_and,
    "bit_or": np.bitwise_or,
    "bit_xor": np.bitwise_xor,
    "bit_not": np.invert,
    "shift_left": np.left_shift,
    "shift_right": np.right_shift,
}


COMPARISONS = frozenset(("less", "less_equal", "equal"))
IN_FLOATS = frozenset((
    "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
    "arctan2", "tanh", "copysign", "rint",
))  # fmt: skip
Kind: TypeAlias = "DType | type"  # of a formula; a number's is bool, int or float: it is weak


def met(kinds: Sequence[Kind]) -> DType:
    """The dtype in which operands meet, by NumPy's rule: numbers are weak beside typed operands."""
    strong = [kind for kind in kinds if isinstance(kind, DType)]
    dtype = functools.reduce(promote, strong) if strong else bool_
    if float in kinds and not dtype.is_float:
        return float64
    return int64 if int in kinds and dtype is bool_ else dtype


def operand_dtype(primitive: str, kinds: Sequence[Kind]) -> DType:
    """The dtype that a primitive computes in; of a select, that of what it picks."""
    dtype = met(kinds[1:] if primitive == "select" else kinds)
    if primitive in IN_FLOATS:
        return floating(dtype)
    if primitive in ("divide", "erf") and not dtype.is_float:
        return float64
    return dtype


def result_dtype(primitive: str, kinds: Sequence[Kind]) -> DType:
    """The dtype of a primitive, of the kinds of its operands."""
    return bool_ if primitive in COMPARISONS else operand_dtype(primitive, kinds)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A formula: a primitive over formulas, an operand by position, or a number.

    `graphc.kernel` has kinds of its own, which stand in `primitive` too.
    """

    primitive: str  # a key of PRIMITIVES, "operand", "number", or a kind of the kernel language
    operands: tuple[Scalar, ...] = ()
    value: Any = 0

    def __add__(self, other: Like) -> Scalar:
        return apply("add", self, other)

    def __radd__(self, other: Like) -> Scalar:
        return apply("add", other, self)

    def __sub__(self, other: Like) -> Scalar:
        return apply("subtract", self, other)

    def __rsub__(self, other: Like) -> Scalar:
        return apply("subtract", other, self)

    def __mul__(self, other: Like) -> Scalar:
        return apply("multiply", self, other)

    def __rmul__(self, other: Like) -> Scalar:
        return apply("multiply", other, self)

    def __truediv__(self, other: Like) -> Scalar:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Like) -> Scalar:
        return apply("divide", other, self)

    def __floordiv__(self, other: Like) -> Scalar:
        return apply("floor_divide", self, other)

    def __mod__(self, other: Like) -> Scalar:
        return apply("remainder", self, other)

    def __and__(self, other: Like) -> Scalar:
        return apply("bit_and", self, other)

    def __or__(self, other: Like) -> Scalar:
        return apply("bit_or", self, other)

    def __xor__(self, other: Like) -> Scalar:
        return apply("bit_xor", self, other)

    def __lshift__(self, other: Like) -> Scalar:
        return apply("shift_left", self, other)

    def __rshift__(self, other: Like) -> Scalar:
        return apply("shift_right", self, other)

    def __neg__(self) -> Scalar:
        return apply("negative", self)

    def __lt__(self, other: Like) -> Scalar:
        return apply("less", self, other)

    def __gt__(self, other: Like) -> Scalar:
        return apply("less", other, self)

    def __le__(self, other: Like) -> Scalar:
        return apply("less_equal", self, other)

    def __ge__(self, other: Like) -> Scalar:
        return apply("less_equal", other, self)

    def __str__(self) -> str:
        if self.primitive == "operand":
            return f"x{self.value}"
        if self.primitive == "number":
            return repr(self.value)
        return f"{self.primitive}({', '.join(map(str, self.operands))})"


Like: TypeAlias = Scalar | int | float


def apply(primitive: str, *operands: Like) -> Scalar:
    """A primitive over formulas and numbers; of numbers alone it is a number again.

    So a primitive always has an operand that says its dtype.
    """
    if primitive not in PRIMITIVES:
        raise KeyError(f"{primitive} is no scalar primitive")
    lifted = tuple([x if isinstance(x, Scalar) else Scalar("number", (), x) for x in operands])
    if all(x.primitive == "number" for x in lifted):
        with np.errstate(all="ignore"):
            result = PRIMITIVES[primitive](*(np.asarray(x.value) for x in lifted))
        return Scalar("number", (), np.asarray(result).item())
    return Scalar(primitive, lifted)


def operand(position: int) -> Scalar:
    """The element of an op's input at its own index."""
    return Scalar("operand", (), position)


def evaluate(formula: Scalar, operands: Mapping[int, Array]) -> Array:
    """The formula over whole arrays, by IEEE 754 and without NumPy's warnings."""
    with np.errstate(all="ignore"):
        return _evaluate(formula, operands)


def _evaluate(formula: Scalar, operands: Mapping[int, Array]) -> Array:
    if formula.primitive == "operand":
        return operands[int(formula.value)]
    if formula.primitive == "number":
        return formula.value  # type: ignore[no-any-return]  # weak beside arrays, as NumPy has it
    values = [_evaluate(part, operands) for part in formula.operands]
    return PRIMITIVES[formula.primitive](*values)


def walk(
    *formulas: Scalar,
    known: Container[Scalar] = (),
    into: Callable[[Scalar], Sequence[Scalar]] | None = None,
) -> Iterator[Scalar]:
    """Every formula inside, each once, operands before what uses them; none that is `known`.

    `into` says what to look for instead of a formula's operands.
    """
    seen: set[Scalar] = set()
    stack = [(formula, False) for formula in reversed(formulas)]
    while stack:
        current, ready = stack.pop()
        if ready:
            yield current
        elif current not in seen and current not in known:
            seen.add(current)
            stack.append((current, True))
            inner = current.operands if into is None else into(current)
            stack += [(part, False) for part in reversed(inner)]


def select(condition: Scalar, x: Like, y: Like) -> Scalar:
    """`x` where the condition holds, else `y`."""
    return apply("select", condition, x, y)


def primitive(name: str) -> Callable[..., Scalar]:
    """The builder of one primitive, for tables of ops: `element=primitive("exp")`."""
    return lambda *operands: apply(name, *operands)
