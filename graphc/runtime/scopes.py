"""The values of formulas at a point of a loop nest, in scopes one inside of the other.

Enters: facts about the formulas, and where each axis stands. Leaves: the value of each formula that
is asked for, whose code stands in this scope or in one around it. What a value is (an instruction
of LLVM, the name of a variable in C) and how one is made, each device says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from graphc.dtypes import DType
from graphc.kernel import Axis
from graphc.runtime.formulas import FormulaFacts
from graphc.scalar import Scalar

LEAVES = ("number", "position", "extent")
Value = TypeVar("Value")
Where = TypeVar("Where")


class PointScope(ABC, Generic[Value, Where]):
    """Values at one point. A formula is evaluated once in a scope, and known to those inside."""

    facts: FormulaFacts
    parent: Self | None

    def __init__(
        self,
        facts: FormulaFacts,
        point: Mapping[Axis, Where],
        known: Mapping[Scalar, Value] | None = None,
        parent: Self | None = None,
    ) -> None:
        self.facts, self.parent = facts, parent
        self.point = dict(point)
        self.axes: frozenset[Axis] = frozenset(point) | (parent.axes if parent else frozenset())
        self._known: dict[Scalar, Value] = dict(known or {})

    @abstractmethod
    def constant(self, value: Any, dtype: DType) -> Value:
        """A number as a value of a dtype."""

    @abstractmethod
    def cast(self, value: Value, source: DType, target: DType) -> Value:
        """A value of one dtype as another."""

    @abstractmethod
    def _emit(self, part: Scalar) -> Value:
        """The code of one formula, whose needs have values."""

    def where(self, axis: Axis) -> Where:
        """Where an axis stands."""
        scope: PointScope[Value, Where] | None = self
        while scope is not None:
            if axis in scope.point:
                return scope.point[axis]
            scope = scope.parent
        raise KeyError(f"{axis} is not bound here")

    def found(self, formula: Scalar) -> Value | None:
        """The value that this scope or one around it has, if any."""
        scope: PointScope[Value, Where] | None = self
        while scope is not None:
            if formula in scope._known:
                return scope._known[formula]
            scope = scope.parent
        return None

    def know(self, formula: Scalar, value: Value) -> None:
        """Let a formula have this value here."""
        self._known[formula] = value

    def value(self, formula: Scalar) -> Value:
        """The value of a formula that has a dtype."""
        stack = [formula]
        while stack:
            current = stack[-1]
            if self.found(current) is not None:
                stack.pop()
                continue
            missing = [
                part
                for part in self.facts.needs(current)
                if part.primitive != "number" and self.found(part) is None
            ]
            if missing:
                stack += reversed(missing)
            else:
                self._known[current] = self._emit(stack.pop())
        found = self.found(formula)
        assert found is not None
        return found

    def typed(self, formula: Scalar, dtype: DType) -> Value:
        """The value of a formula, a number too, in a dtype."""
        if formula.primitive == "number":
            return self.constant(formula.value, dtype)
        kind = self.facts.kinds[formula]
        assert isinstance(kind, DType)
        return self.cast(self.value(formula), kind, dtype)
