"""Index formulas as affine functions of loop positions: what a code generator reads in place.

Enters: formulas of indices. Leaves: a constant and a step for each axis, or None where a formula
is no such sum (data, a quotient that does not cancel). Quotients and remainders that reshapes make
are taken apart by the axes' extents, and put together again where `a // n * n + a % n` occurs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphc.dims import Dim, Dimension, Shape, exact_quotient, floordiv, is_nonnegative
from graphc.dtypes import int64
from graphc.kernel import Axis, Index
from graphc.scalar import Scalar, walk


@dataclass(frozen=True, slots=True)
class Affine:
    """`constant + sum(step * position(axis))`; no step is 0."""

    constant: Dimension
    steps: Mapping[Axis, Dimension]

    def step(self, axis: Axis) -> Dimension:
        """How far one turn of an axis moves; 0 for one that it does not mention."""
        return self.steps.get(axis, 0)


@dataclass(frozen=True, slots=True)
class _Part:
    """A quotient or a remainder that does not simplify."""

    kind: str
    form: _Form
    by: Dimension


_Atom: TypeAlias = "Axis | _Part"


class _Form:
    """A sum of atoms with coefficients, as it is being put together."""

    __slots__ = ("constant", "terms")

    def __init__(self, constant: Dimension, terms: Mapping[_Atom, Dimension]) -> None:
        self.constant = constant
        self.terms = {atom: c for atom, c in terms.items() if not _is_zero(c)}

    def _key(self) -> Any:
        return self.constant, frozenset(self.terms.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Form) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def plus(self, other: _Form, factor: Dimension = 1) -> _Form:
        """`self + factor * other`."""
        terms = dict(self.terms)
        for atom, coefficient in other.terms.items():
            terms[atom] = terms.get(atom, 0) + coefficient * factor
        return _Form(self.constant + other.constant * factor, terms)

    def most(self) -> Dimension | None:
        """The largest value that it takes, if it is never negative and that is provable."""
        if not is_nonnegative(self.constant):
            return None
        total = self.constant
        for atom, coefficient in self.terms.items():
            if not is_nonnegative(coefficient):
                return None
            if isinstance(atom, Axis):
                most: Dimension | None = atom.extent - 1
            else:
                most = atom.by - 1 if atom.kind == "mod" else _quotient_most(atom)
            if most is None:
                return None
            total = total + coefficient * most
        return total


def _quotient_most(part: _Part) -> Dimension | None:
    most = part.form.most()
    return None if most is None else floordiv(most, part.by)


def _is_zero(value: Dimension) -> bool:
    return isinstance(value, int) and value == 0


def _split(form: _Form, by: Dimension) -> tuple[_Form, _Form]:
    """`form` as `by * multiple + rest`, as much of it as divides exactly."""
    multiple: dict[_Atom, Dimension] = {}
    rest: dict[_Atom, Dimension] = {}
    for atom, coefficient in form.terms.items():
        quotient = exact_quotient(coefficient, by)
        if quotient is None:
            rest[atom] = coefficient
        else:
            multiple[atom] = quotient
    quotient = exact_quotient(form.constant, by)
    whole, left = (0, form.constant) if quotient is None else (quotient, 0)
    return _Form(whole, multiple), _Form(left, rest)


def _divided(form: _Form, by: Dimension) -> tuple[_Form, _Form]:
    """The quotient and the remainder."""
    multiple, rest = _split(form, by)
    most = rest.most()
    if most is not None and is_nonnegative(by - 1 - most):
        return multiple, rest
    part = _Form(0, {_Part("div", rest, by): 1}), _Form(0, {_Part("mod", rest, by): 1})
    return multiple.plus(part[0]), part[1]


def _combined(form: _Form) -> _Form:
    """The form with every `d * n * (a // n) + d * (a % n)` as `d * a`."""
    while (found := next(_pairs(form), None)) is not None:
        quotient, rest, factor = found
        terms = {a: c for a, c in form.terms.items() if a is not quotient and a is not rest}
        form = _Form(form.constant, terms).plus(quotient.form, factor)
    return form


def _pairs(form: _Form) -> Iterator[tuple[_Part, _Part, Dimension]]:
    for rest, factor in form.terms.items():
        if isinstance(rest, _Part) and rest.kind == "mod":
            for other, coefficient in form.terms.items():
                if (
                    isinstance(other, _Part)
                    and (other.kind, other.form, other.by) == ("div", rest.form, rest.by)
                    and coefficient == factor * rest.by
                ):
                    yield other, rest, factor


def _form(formula: Scalar) -> _Form | None:
    """The sum that a formula is."""
    made: dict[Scalar, _Form | None] = {}
    for part in walk(formula):
        operands = [made[x] for x in part.operands]
        if any(x is None for x in operands):
            made[part] = None
        else:
            made[part] = _step(part, [x for x in operands if x is not None])
    return made[formula]


def _constant(form: _Form) -> Dimension | None:
    return None if form.terms else form.constant


def _step(part: Scalar, operands: list[_Form]) -> _Form | None:
    """One formula, of the forms of its operands."""
    match part.primitive:
        case "number":
            return _Form(part.value, {}) if type(part.value) is int else None
        case "extent":
            return _Form(part.value, {})
        case "position":
            return _Form(0, {part.value: 1})
        case "cast":
            return operands[0] if part.value is int64 else None
        case "add":
            return operands[0].plus(operands[1])
        case "subtract":
            return operands[0].plus(operands[1], -1)
        case "negative":
            return _Form(0, {}).plus(operands[0], -1)
        case "multiply":
            for one, other in (operands, operands[::-1]):
                if (factor := _constant(other)) is not None:
                    return _Form(0, {}).plus(one, factor)
        case "floor_divide" | "remainder":
            by = _constant(operands[1])
            if by is not None and is_nonnegative(by) and not _is_zero(by):
                whole, rest = _divided(operands[0], by)
                return whole if part.primitive == "floor_divide" else rest
    return None


def _finished(form: _Form) -> Affine | None:
    form = _combined(form)
    steps: dict[Axis, Dimension] = {}
    for atom, coefficient in form.terms.items():
        if not isinstance(atom, Axis):
            return None
        steps[atom] = coefficient
    return Affine(form.constant, steps)


def affine(formula: Scalar) -> Affine | None:
    """An index formula as an affine function of positions; None where it is none."""
    form = _form(formula)
    return None if form is None else _finished(form)


def strides(shape: Shape) -> tuple[Dimension, ...]:
    """How far apart, in elements, the neighbours along each axis of a row-major array lie."""
    steps: list[Dimension] = []
    step: Dimension = 1
    for size in reversed(shape):
        steps.append(step)
        step = size * step if isinstance(size, Dim) else step * size
    return tuple(reversed(steps))


def place(index: Index, shape: Shape) -> Affine | None:
    """The offset in elements of an index in a row-major array; None where it is not affine."""
    total = _Form(0, {})
    for formula, step in zip(index, strides(shape), strict=True):
        form = _form(formula)
        if form is None:
            return None
        total = total.plus(form, step)
    return _finished(total)


def is_inside(index: Scalar, size: Dimension) -> bool:
    """Whether the form of an index shows that it lies below a size."""
    found = affine(index)
    if found is None:
        return False
    if not found.steps:
        low = found.constant
        return isinstance(low, int) and isinstance(size, int) and 0 <= low < size
    if len(found.steps) > 1 or found.constant != 0:
        return False
    ((axis, step),) = found.steps.items()
    return isinstance(step, int) and step == 1 and bool(axis.extent == size)
