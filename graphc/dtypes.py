"""Element types and NumPy 2's promotion between them.

A `DType` is one of thirteen objects, compared by identity inside graphc; it equals NumPy's own
spellings too (`x.dtype == np.float32`). Python numbers are weak: they take the type of the tensor
they meet. Where they meet no tensor of their kind, an int makes int64 and a float makes float32,
so no Python number ever widens a float32 graph.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from graphc.errors import DTypeError

Array: TypeAlias = "np.ndarray[Any, Any]"


class DType:
    """An element type, such as `graphc.float32`."""

    __slots__ = ("bits", "kind", "name", "numpy", "short")

    def __init__(self, name: str, short: str) -> None:
        self.name = name
        self.short = short
        self.numpy = np.dtype(name)
        self.kind = self.numpy.kind  # "b", "i", "u" or "f"
        self.bits = 8 * self.numpy.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return self.bits // 8

    @property
    def is_float(self) -> bool:
        """Whether this is a floating type, the only kind that has gradients."""
        return self.kind == "f"

    def __repr__(self) -> str:
        return f"graphc.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.numpy)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DType):
            return self is other
        if not isinstance(other, (str, type, np.dtype)):
            return NotImplemented
        try:
            return bool(self.numpy == (np.float32 if _is_float(other) else np.dtype(other)))
        except TypeError:
            return False

    def __reduce__(self) -> tuple[Any, ...]:
        return (as_dtype, (self.name,))


bool_ = DType("bool", "bool")
int8, int16, int32, int64 = (DType(f"int{n}", f"i{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (DType(f"uint{n}", f"u{n}") for n in (8, 16, 32, 64))
float16, float32, float64 = (DType(f"float{n}", f"f{n}") for n in (16, 32, 64))

DTYPES = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, float32, float64,
)  # fmt: skip
BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES}
PROMOTED = {
    (a, b): BY_NUMPY[np.promote_types(a.numpy, b.numpy)] for a in DTYPES for b in DTYPES
}  # 144 rows, made once: promotion is on the path of every node


def _is_float(value: Any) -> bool:
    """Whether a dtype is spelt as Python's floats are."""
    return value is float or (isinstance(value, str) and value == "float")


def as_dtype(value: Any) -> DType:
    """The `DType` that `value` spells: a DType, a name, or anything that NumPy takes.

    `float` and "float" are float32, as Python's floats are (and as TensorFlow reads the name).

    >>> as_dtype("float32"), as_dtype(np.int8), as_dtype(bool), as_dtype("float")
    (graphc.float32, graphc.int8, graphc.bool, graphc.float32)
    """
    if isinstance(value, DType):
        return value
    if _is_float(value):
        return float32
    try:
        return BY_NUMPY[np.dtype(value).newbyteorder("=")]
    except (TypeError, KeyError):
        names = ", ".join(dtype.name for dtype in DTYPES)
        raise DTypeError(f"{value!r} is no dtype of graphc; there are {names}") from None


def promote(a: DType, b: DType) -> DType:
    """The type that holds both, by NumPy 2's table.

    >>> promote(float32, int8), promote(int32, float32)
    (graphc.float32, graphc.float64)
    """
    return a if a is b else PROMOTED[a, b]


def weak(number: bool | int | float, dtype: DType | None) -> DType:
    """The type that a Python number takes beside a tensor of `dtype` (None: beside none)."""
    if isinstance(number, bool):
        return dtype or bool_
    if isinstance(number, int):
        return dtype if dtype is not None and dtype.kind != "b" else int64
    return dtype if dtype is not None and dtype.kind == "f" else float32


def summed(dtype: DType) -> DType:
    """The floating type in which many values of `dtype` add up: never float16."""
    return float32 if dtype is float16 else dtype


def floating(dtype: DType) -> DType:
    """The floating type in which NumPy computes exp, sqrt ... of `dtype`."""
    if dtype.kind == "f":
        return dtype
    return float16 if dtype.bits <= 8 else float32 if dtype.bits == 16 else float64
