"""All dimensions of a program at once, as a tape that computes their values for the sizes of a run.

Enters: dimensions, as a program comes to need them; each gets a number. Leaves: an array with a
place for each of them, constants filled in, and rows of instructions over it. A step of training
may come with another batch size every time and asks for hundreds of dimensions; a device runs the
tape in about a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from graphc.dims import Derived, Dim, Dimension, Monomial, Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import DeviceError

MOST = 2**62  # of a size or a number of bytes
OPERATIONS = ("add", "multiply", "floordiv", "mod", "max", "min", "broadcast")


def symbols_of(dimensions: Iterable[Dimension]) -> list[Symbol]:
    """The symbols inside, each once, in the order of first use."""
    found: dict[Symbol, None] = {}
    for dimension in dimensions:
        if isinstance(dimension, Dim):
            found.update(dict.fromkeys(dimension.symbols()))
    return list(found)


class Dimensions:
    """Numbered dimensions; `ready` once all are added.

    Then `template` has their values where no run decides them, `places` are those of the values of
    `symbols` in it, and `rows` are instructions (number among `OPERATIONS`, result, two operands).
    """

    def __init__(self) -> None:
        self._numbers: dict[Dimension, int] = {}
        self.symbols: list[Symbol] = []
        self.places: list[int] = []
        self.template: Array = np.zeros(0, np.int64)
        self.rows: Array = np.zeros((0, 4), np.int64)

    def number(self, dimension: Dimension) -> int:
        """The place of a dimension among the values."""
        return self._numbers.setdefault(dimension, len(self._numbers))

    def ready(self) -> None:
        """Prepare: from here on, no dimension is added."""
        self.symbols = symbols_of(self._numbers)
        self.places = [self.number(Dim((((symbol,), 1),))) for symbol in self.symbols]
        tape = _Tape(self._numbers)
        for dimension in self._numbers:
            tape.place(dimension)
        self.template = np.zeros(tape.count, np.int64)
        for value, place in tape.constants:
            self.template[place] = value
        self.rows = np.array(tape.rows, np.int64).reshape(-1, 4)

    def exact(self, values: Sequence[int]) -> Array:
        """The value of every dimension, in Python's integers.

        A size that no machine has is an error.
        """
        sizes = dict(zip(self.symbols, values, strict=True))
        found = [evaluate(dimension, sizes) for dimension in self._numbers]
        if any(abs(value) > MOST for value in found):
            raise DeviceError("run: out of memory: an array of more than 2**62 bytes was asked for")
        return np.array(found, np.int64)


class _Tape:
    """Instructions, as they are written."""

    def __init__(self, numbers: dict[Dimension, int]) -> None:
        self._numbers = numbers
        self._known: dict[Dimension | Monomial, int] = {}
        self.count = len(numbers)
        self.constants: list[tuple[int, int]] = []
        self.rows: list[tuple[int, int, int, int]] = []

    def place(self, dimension: Dimension) -> int:
        """Where the value of a dimension is, once the rows so far have run."""
        if dimension not in self._known:
            self._known[dimension] = self._compute(dimension)
        return self._known[dimension]

    def _compute(self, dimension: Dimension) -> int:
        target = self._numbers.get(dimension)
        if not isinstance(dimension, Dim):
            place = self._fresh() if target is None else target
            if abs(dimension) > MOST:  # which the tape finds out like any other overflow
                return self._row("multiply", self.place(MOST), self.place(MOST), place)
            self.constants.append((dimension, place))
            return place
        if dimension.as_symbol() is not None:
            return self._numbers[dimension]
        terms = [self._term(monomial, c) for monomial, c in dimension.terms]
        if len(terms) == 1:
            if target is None:
                return terms[0]
            terms.append(self.place(0))
        while len(terms) > 2:
            terms = [self._row("add", terms[0], terms[1]), *terms[2:]]
        return self._row("add", terms[0], terms[1], target)

    def _term(self, monomial: Monomial, coefficient: int) -> int:
        """A product of atoms and a number."""
        if not monomial:
            return self.place(coefficient)
        place = self._product(monomial)
        if coefficient == 1:
            return place
        return self._row("multiply", place, self.place(coefficient))

    def _product(self, monomial: Monomial) -> int:
        if monomial not in self._known:
            *before, atom = monomial
            if isinstance(atom, Derived):
                place = self._derived(atom)
            else:
                place = self._numbers[Dim((((atom,), 1),))]
            if before:
                place = self._row("multiply", self._product(tuple(before)), place)
            self._known[monomial] = place
        return self._known[monomial]

    def _derived(self, atom: Derived) -> int:
        first, *rest = [self.place(arg) for arg in atom.args]
        for other in rest:
            first = self._row(atom.function, first, other)
        return first

    def _row(self, operation: str, a: int, b: int, target: int | None = None) -> int:
        result = self._fresh() if target is None else target
        self.rows.append((OPERATIONS.index(operation), result, a, b))
        return result

    def _fresh(self) -> int:
        self.count += 1
        return self.count - 1
