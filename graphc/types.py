"""The type of a tensor: an element type and a shape, which may hold symbols or be unknown.

`TensorType(float32, ("batch" symbol, 784))` prints as `f32[batch,784]`; an unknown rank as
`f32[...]`. `declared_shape` reads what users write (`None`, names, ints); `Assumptions` are what
one compilation may take for granted about sizes, with a note of each question that was asked, so
that a compiled program knows for which sizes it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphc.dims import Dim, Dimension, Shape, Symbol, dimension_text, evaluate, substitute
from graphc.dtypes import DType
from graphc.errors import ShapeError


@dataclass(frozen=True, slots=True)
class TensorType:
    """What is known of a tensor before a run. `shape` None: not even the rank."""

    dtype: DType
    shape: Shape | None

    def __str__(self) -> str:
        return self.text()

    def text(self, of_symbol: Callable[[Symbol], str] = repr) -> str:
        """The type as `f32[batch,784]`."""
        if self.shape is None:
            return f"{self.dtype.short}[...]"
        inside = ",".join(dimension_text(d, of_symbol) for d in self.shape)
        return f"{self.dtype.short}[{inside}]"

    def substitute(self, values: Mapping[Symbol, Dimension]) -> TensorType:
        """The type with some symbols replaced."""
        if self.shape is None or not values:
            return self
        return TensorType(self.dtype, tuple(substitute(d, values) for d in self.shape))

    @property
    def is_static(self) -> bool:
        """Whether every size is an int."""
        return self.shape is not None and not any(isinstance(d, Dim) for d in self.shape)


def declared_dimension(value: Any) -> Dimension:
    """One entry of a declared shape: an int, a name, None (a fresh symbol), or a `Dim`."""
    if value is None:
        return Dim.symbol()
    if isinstance(value, str):
        if not value.isidentifier():
            raise ShapeError(f"shape: a named dimension must be an identifier, got {value!r}")
        return Dim.symbol(value)
    if isinstance(value, Dim):
        return value
    if isinstance(value, (float, bool)) or not hasattr(value, "__index__"):
        raise ShapeError(
            f"shape: a dimension is an int, a name or None, got {value!r} ({type(value).__name__})"
        )
    if (size := int(value.__index__())) < 0:
        raise ShapeError(f"shape: a dimension must not be negative, got {size}")
    return size


def declared_shape(shape: Any) -> Shape | None:
    """A declared shape: None (unknown rank), one dimension, or a sequence of them."""
    if shape is None:
        return None
    if isinstance(shape, (str, Dim)) or hasattr(shape, "__index__"):
        return (declared_dimension(shape),)
    try:
        entries = tuple(shape)
    except TypeError:
        raise ShapeError(
            f"shape: must be None, a dimension, or a sequence, got {shape!r}"
        ) from None
    return tuple(declared_dimension(d) for d in entries)


@dataclass(slots=True)
class Assumptions:
    """Sizes that one compilation looks at, and the answers that it thereby depends on."""

    sizes: Mapping[Symbol, int]
    asked: dict[tuple[Dimension, Dimension], bool] = field(default_factory=dict)
    types: Mapping[Any, TensorType] = field(default_factory=dict)  # of fed tensors, refined
    fed: dict[Any, Any] = field(default_factory=dict)  # refined placeholders to what was fed

    def equal(self, a: Dimension, b: Dimension) -> bool | None:
        """Whether `a` equals `b` at these sizes, noted; None where a size is not among them."""
        known = self.asked.get((a, b))
        if known is None:
            known = self.asked.get((b, a))
        if known is not None:
            return known
        try:
            answer = evaluate(a, self.sizes) == evaluate(b, self.sizes)
        except KeyError:
            return None
        self.asked[a, b] = answer
        return answer

    def solved(self) -> dict[Symbol, Dimension]:
        """The symbols that a positive answer determines, as replacements (never cyclic).

        Of two symbols that are equal, the one with a name is kept.
        """
        values: dict[Symbol, Dimension] = {}
        for (left, right), answer in self.asked.items():
            if not answer:
                continue
            a, b = substitute(left, values), substitute(right, values)
            if (found := _solve(a, b)) is None:
                continue
            symbol, other = found
            values = {s: substitute(v, {symbol: other}) for s, v in values.items()}
            values[symbol] = other
        return values


def _solve(a: Dimension, b: Dimension) -> tuple[Symbol, Dimension] | None:
    """The symbol that `a == b` determines, and what it is."""
    if a == b:
        return None
    candidates = []
    for one, other in ((b, a), (a, b)):
        symbol = one.as_symbol() if isinstance(one, Dim) else None
        if symbol is not None and not _mentions(other, symbol):
            candidates.append((symbol, other))
    nameless = [found for found in candidates if found[0].name is None]
    return next(iter(nameless or candidates), None)


def _mentions(dimension: Dimension, symbol: Symbol) -> bool:
    return isinstance(dimension, Dim) and symbol in dimension.symbols()
