"""Where tests draw an op's inputs: shapes, intervals and attributes, as plain data.

A `Case` lists one `Draw` an input and the attributes of one application. The tables under `tests/`
run every case of every op over every dtype of `Domain.kinds`, so an op that has no cases is an
error there, not a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Draw:
    """One input: uniform over [low, high] in `shape`.

    `kind` "same" takes the dtype under test; "int", "bool", "float" fix the kind. `distinct` spaces
    the values out (for max, sort: no ties near which a difference quotient fails). `make(rng,
    shape)`, where given, draws in float64 instead (say, a positive definite matrix).
    """

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    kind: str = "same"
    distinct: bool = False
    make: Any = None


@dataclass(frozen=True, slots=True)
class Case:
    """One application: its inputs and attributes (as the op's `build` takes them)."""

    draws: tuple[Draw, ...]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Domain:
    """All cases of an op. `kinds`: the dtype kinds it takes, of "b", "i", "u", "f"."""

    cases: tuple[Case, ...]
    kinds: str = "iuf"
    smooth: bool = True  # False: no difference quotient, though a gradient is defined


AWKWARD = ((), (0,), (1,), (5,), (2, 3), (1, 3), (2, 0, 3), (3, 1, 2))


def elementwise(
    *intervals: tuple[float, float],
    kinds: str = "f",
    shapes: Iterable[tuple[int, ...]] = AWKWARD,
    draws: Sequence[str] | None = None,
    smooth: bool = True,
    attrs: dict[str, Any] | None = None,
) -> Domain:
    """Cases for an op over equal shapes: one interval an operand."""
    names = draws or ["same"] * len(intervals)
    return Domain(
        tuple(
            Case(
                tuple(
                    Draw(shape, low, high, kind)
                    for (low, high), kind in zip(intervals, names, strict=True)
                ),
                dict(attrs or {}),
            )
            for shape in shapes
        ),
        kinds,
        smooth,
    )


def cases(*rows: tuple[Any, ...], kinds: str = "f", smooth: bool = True) -> Domain:
    """Cases from rows `(shape_or_draw, ..., attrs)`: the last entry is a dict of attributes."""
    listed = []
    for *inputs, attrs in rows:
        draws = tuple(x if isinstance(x, Draw) else Draw(tuple(x)) for x in inputs)
        listed.append(Case(draws, attrs))
    return Domain(tuple(listed), kinds, smooth)
