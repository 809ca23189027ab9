"""Dimensions: ints, and polynomials over symbols whose values a run brings.

A dimension is a Python int wherever its size is known. Else it is a `Dim`: a polynomial with
integer coefficients over atoms. An atom is a `Symbol` (a size that a feed decides) or a `Derived`
term (`n // 2`, `max(a, b)`, ...) that no polynomial expresses. Arithmetic normalises, so equal
expressions compare equal, and a quotient that divides exactly stays a polynomial. A size is never
negative; a difference of sizes, or a followed element of a tensor, may be.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

_serials = itertools.count()


class Symbol:
    """A size that is unknown until a run. Symbols of one name are one size; nameless ones differ.

    `source` is set where the value is an element of an integer tensor instead of a feed's size: the
    pair (tensor, position among its elements). One element is one symbol, and may be negative.
    `owner` is set where a builder made the size up for want of a rank: the pair (tensor, axis).
    """

    __slots__ = ("key", "name", "owner", "serial", "source")

    def __init__(self, name: str | None = None, source: Any = None) -> None:
        self.name = name
        self.source = source
        self.owner: Any = None
        self.serial = next(_serials)
        self.key: tuple[Any, ...] = (0, name) if name is not None else (1, self.serial)
        if source is not None:
            tensor, element = source
            self.key = (3, tensor.node.serial, tensor.index, element)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.name or "?"

    def symbols(self) -> Iterator[Symbol]:
        """Itself."""
        yield self


def _broadcast(a: int, b: int) -> int:
    return b if a == 1 else a


FUNCTIONS: dict[str, Callable[[int, int], int]] = {
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "max": max,
    "min": min,
    "broadcast": _broadcast,
}
ASSOCIATIVE = frozenset({"max", "min", "broadcast"})  # in any order, any number of operands


class Derived:
    """A function of dimensions that is no polynomial."""

    __slots__ = ("args", "function", "key")

    def __init__(self, function: str, args: tuple[Dimension, ...]) -> None:
        self.function = function
        self.args = args
        self.key: tuple[Any, ...] = (2, function, *map(sort_key, args))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Derived) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.text(repr)

    def text(self, of_symbol: Callable[[Symbol], str]) -> str:
        """The expression, its symbols spelled by `of_symbol`."""
        parts = [dimension_text(arg, of_symbol) for arg in self.args]
        infix = {"floordiv": "//", "mod": "%"}.get(self.function)
        if infix is None:
            return f"{self.function}({','.join(parts)})"
        pairs = zip(self.args, parts, strict=True)
        return f"({infix.join(part if _is_atom(arg) else f'({part})' for arg, part in pairs)})"

    def symbols(self) -> Iterator[Symbol]:
        """The symbols inside."""
        for arg in self.args:
            if isinstance(arg, Dim):
                yield from arg.symbols()


def _is_atom(dimension: Dimension) -> bool:
    """Whether the text form needs no brackets as an operand."""
    if not isinstance(dimension, Dim):
        return dimension >= 0
    return len(dimension.terms) == 1 and len(dimension.terms[0][0]) * dimension.terms[0][1] == 1


Atom: TypeAlias = Symbol | Derived
Monomial: TypeAlias = tuple[Atom, ...]  # sorted by key; a repeated atom is a power


def _monomial_key(monomial: Monomial) -> tuple[Any, ...]:
    return (len(monomial), *(atom.key for atom in monomial))


def sort_key(dimension: Dimension) -> tuple[Any, ...]:
    """A total, deterministic order over dimensions of one process."""
    if isinstance(dimension, Dim):
        return tuple((c, *_monomial_key(m)) for m, c in dimension.terms)
    return ((dimension, 0),)


class Dim:
    """A symbolic size: a polynomial that is not a plain int."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)

    @staticmethod
    def symbol(name: str | None = None, source: Any = None) -> Dim:
        """A fresh symbol, or the symbol of that name."""
        return Dim((((Symbol(name, source),), 1),))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self.terms == other.terms)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return dimension_text(self)

    def __add__(self, other: Dimension) -> Dimension:
        if not isinstance(other, (int, Dim)):
            return NotImplemented
        if isinstance(other, int) and other == 0:
            return self
        return _collect(itertools.chain(self.terms, _terms(other)))

    def __mul__(self, other: Dimension) -> Dimension:
        if not isinstance(other, (int, Dim)):
            return NotImplemented
        if isinstance(other, int):  # the order of the terms stays
            factor = int(other)
            if factor == 1:
                return self
            return Dim(tuple([(m, c * factor) for m, c in self.terms])) if factor else 0
        return _collect(
            (tuple(sorted(m + n, key=_atom_key)) if m and n else m + n, c * d)
            for m, c in self.terms
            for n, d in _terms(other)
        )

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Dimension:
        return self * -1

    def __sub__(self, other: Dimension) -> Dimension:
        return self + other * -1

    def __rsub__(self, other: Dimension) -> Dimension:
        return self * -1 + other

    def __floordiv__(self, other: Dimension) -> Dimension:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dimension) -> Dimension:
        return floordiv(other, self)

    def __mod__(self, other: Dimension) -> Dimension:
        return self - floordiv(self, other) * other

    def __int__(self) -> int:
        raise TypeError(
            f"the size {self} is not known before a run; use it as a dimension, or g.shape(x) "
            "for its value as a tensor"
        )

    __index__ = __int__

    def __bool__(self) -> bool:
        raise TypeError(f"the size {self} is not known before a run, so it is neither 0 nor not 0")

    def symbols(self) -> Iterator[Symbol]:
        """The symbols inside, each as often as it occurs."""
        for monomial, _ in self.terms:
            for atom in monomial:
                yield from atom.symbols()

    def as_symbol(self) -> Symbol | None:
        """The symbol, where the dimension is just that."""
        if len(self.terms) == 1:
            monomial, coefficient = self.terms[0]
            if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
                return monomial[0]
        return None

    def as_derived(self) -> Derived | None:
        """The derived term, where the dimension is just that."""
        if len(self.terms) == 1:
            monomial, coefficient = self.terms[0]
            if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Derived):
                return monomial[0]
        return None


Dimension: TypeAlias = int | Dim
Shape: TypeAlias = tuple[Dimension, ...]


def _atom_key(atom: Atom) -> tuple[Any, ...]:
    return atom.key


def _terms(dimension: Dimension) -> tuple[tuple[Monomial, int], ...]:
    return dimension.terms if isinstance(dimension, Dim) else (((), int(dimension)),)


def _term_key(term: tuple[Monomial, int]) -> tuple[Any, ...]:
    return _monomial_key(term[0])


def _collect(terms: Iterable[tuple[Monomial, int]]) -> Dimension:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in total.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    if len(kept) > 1:
        kept.sort(key=_term_key)
    return Dim(tuple(kept))


def _divide_monomial(monomial: Monomial, by: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in by:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def exact_quotient(a: Dimension, b: Dimension) -> Dimension | None:
    """`a / b` where the division is exact as polynomials, else None."""
    if isinstance(a, int) and a == 0:
        return None if isinstance(b, int) and b == 0 else 0
    if isinstance(b, int):
        if b == 0 or any(c % b for _, c in _terms(a)):
            return None
        return _collect((m, c // b) for m, c in _terms(a))
    if a == b:
        return 1
    if len(b.terms) != 1:
        return None
    (by, factor) = b.terms[0]
    quotient = []
    for monomial, coefficient in _terms(a):
        rest = _divide_monomial(monomial, by)
        if rest is None or coefficient % factor:
            return None
        quotient.append((rest, coefficient // factor))
    return _collect(quotient)


def floordiv(a: Dimension, b: Dimension) -> Dimension:
    """`a // b`; a polynomial where it divides exactly."""
    if isinstance(a, int) and isinstance(b, int):
        return FUNCTIONS["floordiv"](a, b)
    exact = exact_quotient(a, b)
    return derived("floordiv", a, b) if exact is None else exact


def derived(function: str, *args: Dimension) -> Dimension:
    """`function` of dimensions, for a name of `FUNCTIONS`; max, min, broadcast take any number."""
    if function in ASSOCIATIVE:
        args = _merged(function, args)
        if len(args) == 1:
            return args[0]
    if all(isinstance(arg, int) for arg in args):
        return functools.reduce(FUNCTIONS[function], args)  # type: ignore[arg-type]  # ints
    return Dim((((Derived(function, args),), 1),))


def _merged(function: str, args: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """The operands of nested applications in one row, sorted, without those that decide nothing."""
    rows = [_operands(function, arg) for arg in args]
    kept = list(rows[0])  # of one application, so they have been told apart before
    for row in rows[1:]:
        for part in row:
            _keep(function, part, kept)
    return tuple(sorted(kept, key=lambda d: (isinstance(d, Dim), sort_key(d))))


def _operands(function: str, dimension: Dimension) -> tuple[Dimension, ...]:
    inner = dimension.as_derived() if isinstance(dimension, Dim) else None
    return inner.args if inner is not None and inner.function == function else (dimension,)


def _keep(function: str, part: Dimension, kept: list[Dimension]) -> None:
    """Add an operand, unless another is equal to it, or is known to win or lose against it."""
    if part in kept:
        return
    if function != "broadcast":
        for place, other in enumerate(kept):
            difference = part - other
            if isinstance(difference, int):
                kept[place] = part if (difference > 0) == (function == "max") else other
                return
    kept.append(part)


def is_nonnegative(dimension: Dimension) -> bool:
    """Whether no run can make the value negative, as far as the form of the expression shows."""
    return all(c >= 0 and all(map(_atom_is_nonnegative, m)) for m, c in _terms(dimension))


def _atom_is_nonnegative(atom: Atom) -> bool:
    if isinstance(atom, Symbol):
        return atom.source is None
    if atom.function == "mod":
        return is_nonnegative(atom.args[1])
    return (any if atom.function == "max" else all)(map(is_nonnegative, atom.args))


def product(dimensions: Iterable[Dimension]) -> Dimension:
    """The product of all: the number of elements of a shape."""
    return math.prod(dimensions)


def evaluate(dimension: Dimension, sizes: Mapping[Symbol, int]) -> int:
    """The value under `sizes`; KeyError names the first symbol that has none."""
    if not isinstance(dimension, Dim):
        return dimension
    total = 0
    for monomial, coefficient in dimension.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                coefficient *= sizes[atom]
            else:
                args = [evaluate(arg, sizes) for arg in atom.args]
                coefficient *= functools.reduce(FUNCTIONS[atom.function], args)
        total += coefficient
    return total


def substitute(dimension: Dimension, values: Mapping[Symbol, Dimension]) -> Dimension:
    """The dimension with some symbols replaced."""
    if not isinstance(dimension, Dim) or not values:
        return dimension
    total: Dimension = 0
    for monomial, coefficient in dimension.terms:
        term: Dimension = coefficient
        for atom in monomial:
            if isinstance(atom, Symbol):
                factor = values.get(atom)
                term = term * (Dim((((atom,), 1),)) if factor is None else factor)
            else:
                args = [substitute(arg, values) for arg in atom.args]
                make = floordiv if atom.function == "floordiv" else None
                term = term * (make(*args) if make else derived(atom.function, *args))
        total = total + term
    return total


def dimension_text(dimension: Dimension, of_symbol: Callable[[Symbol], str] = repr) -> str:
    """The text form: `batch`, `2*n+1`, `(n//2)`; nameless symbols as `of_symbol` says (`?`)."""
    if not isinstance(dimension, Dim):
        return str(dimension)
    parts = []
    for monomial, coefficient in sorted(dimension.terms, key=lambda t: -len(t[0])):
        factors = [
            of_symbol(atom) if isinstance(atom, Symbol) else atom.text(of_symbol)
            for atom in monomial
        ]
        sign = "-" if coefficient < 0 else "+"
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        parts.append(sign + "*".join(factors))
    return "".join(parts).removeprefix("+")
