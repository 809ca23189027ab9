"""The values of variables in one session: kept by variable, written all at once, never in place.

Arrays in here are read-only, so a run may hand them to a program and keep them over later writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from graphc.build import describe
from graphc.dtypes import Array
from graphc.errors import DTypeError, FeedError, ShapeError
from graphc.graph import Graph, Node, Tensor
from graphc.ops.source import Variable
from graphc.runtime.feeds import convert, missing

MOST_KEPT = 256


def kept(array: Array) -> Array:
    """A read-only array that nobody else can write to."""
    if array.flags.writeable or array.base is not None:
        array = array.copy()
        array.flags.writeable = False
    return array


class Cell:
    """Where one variable's value is kept."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: Array | None = None


class Holder(Protocol):
    """Who has newer values than some cells."""

    def settle(self) -> None:
        """Bring the cells up to date."""


class Values:
    """Variables and their values.

    `current` keeps what is made of the values as they are. Every write begins with another dict,
    so that who finds something there, made under the lock that writers hold, may use it without
    that lock; and no old value is held. A variable's cell stays the same one.

    Cells may be behind `keeper`. Who reads `Cell.array` calls `settle` first; `current` is empty as
    long as there is a keeper. Both are looked at under the lock that writers hold.
    """

    def __init__(self) -> None:
        self._cells: WeakKeyDictionary[Variable, Cell] = WeakKeyDictionary()
        self.current: dict[Any, Any] = {}
        self.keeper: Holder | None = None

    def __contains__(self, variable: Variable) -> bool:
        cell = self._cells.get(variable)
        return cell is not None and cell.array is not None

    def __iter__(self) -> Iterator[Variable]:
        return iter([v for v, cell in list(self._cells.items()) if cell.array is not None])

    def __getitem__(self, variable: Variable) -> Array:
        self.settle()
        array = self._cells[variable].array
        if array is None:
            raise KeyError(variable)
        return array

    def cell(self, variable: Variable) -> Cell:
        """The place of a variable's value, empty at first."""
        return self._cells.setdefault(variable, Cell())

    def snapshot(self, variables: Iterable[Variable]) -> dict[Node, Array]:
        """The values now, by node."""
        return {variable.node: self[variable] for variable in variables}

    def known(self) -> list[Variable]:
        """The variables that have values, in the order in which they were made."""
        return sorted(self, key=lambda variable: variable.node.serial)

    def write(self, values: Mapping[Variable, Array]) -> None:
        """Store several values; the arrays are the session's from here on."""
        self.settle()
        self.current = {}
        for variable, array in values.items():
            self.cell(variable).array = kept(array)

    def replace(self, cells: Iterable[Cell], arrays: Iterable[Array]) -> None:
        """Store new arrays that nobody else holds, in cells of this object."""
        self.settle()
        self.current = {}
        for cell, array in zip(cells, arrays, strict=True):
            array.setflags(write=False)
            cell.array = array

    def keep(self, key: Any, made: Any) -> None:
        """Note what has been made of the values, until the next write."""
        if len(self.current) >= MOST_KEPT:
            self.current = {}
        self.current[key] = made

    def keep_at(self, keeper: Holder) -> None:
        """The newest values are with a keeper from here on."""
        self.current = {}
        self.keeper = keeper

    def settle(self) -> None:
        """Bring all cells up to date."""
        keeper = self.keeper
        if keeper is not None:
            keeper.settle()
            self.keeper = None

    def forget(self) -> None:
        """Drop what is kept."""
        self.current = {}

    def clear(self) -> None:
        """Forget everything."""
        self.current, self.keeper = {}, None
        for cell in self._cells.values():
            cell.array = None
        self._cells.clear()

    def set(self, variable: Any, value: Any) -> None:
        """Store one value, cast by same-kind rules; its shape must be the variable's."""
        if not isinstance(variable, Variable):
            raise FeedError(f"set: takes a Variable, got {type(variable).__name__}")
        [array] = map(np.array, convert([(variable, value)]))
        array.flags.writeable = False
        self.write({variable: array})


def fit(variable: Variable, array: Array) -> None:
    """Raise unless an array is a value of the variable."""
    if array.dtype != variable.dtype.numpy:
        raise DTypeError(
            f"a value must have the variable's dtype, got {array.dtype}{list(array.shape)}\n"
            f"  {describe(variable)} is {variable.type}"
        )
    shape = variable.shape or ()
    if len(shape) != array.ndim or any(
        isinstance(d, int) and d != n for d, n in zip(shape, array.shape, strict=True)
    ):
        raise ShapeError(
            f"a value must have the variable's shape, got {array.dtype}{list(array.shape)}\n"
            f"  {describe(variable)} is {variable.type}"
        )


def in_dependency_order(variables: Iterable[Variable], values: Values) -> list[Variable]:
    """The variables without values, each after those that its initial value reads."""
    order: dict[Variable, None] = {}
    stack = [v for v in variables if v not in values]
    stack.reverse()
    while stack:
        variable = stack[-1]
        if variable in order:
            stack.pop()
            continue
        graph = Graph((variable.initial,))
        if absent := missing(graph):
            names = ", ".join(describe(t) for t in absent[:3])
            raise FeedError(
                f"initialize: an initial value must not depend on a feed, but that of "
                f"{describe(variable)} reads {names}"
            )
        needed = _unset(graph, values, order)
        if needed:
            stack += needed
        else:
            order[variable] = None
            stack.pop()
    return list(order)


def _unset(graph: Graph, values: Values, order: Mapping[Variable, None]) -> list[Variable]:
    return [
        t for t in graph.tensors() if isinstance(t, Variable) and t not in values and t not in order
    ]


def is_literal(tensor: Tensor) -> bool:
    """Whether an initial value is an array already."""
    return tensor.node.op.name == "constant"
