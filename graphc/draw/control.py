"""The boxes of loops and branches: what goes in and what comes out, at the edges of their groups.

Enters: a control node. Leaves: a scope of its own for what is inside, which `fold` makes a group
of, and boxes for its parameters and its results. The next value of a state points back at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.context import Scope
from graphc.control import (
    Entry,
    Exit,
    counter,
    entry_line,
    exit_line,
    guard,
    in_step,
    is_loop,
    title,
)
from graphc.draw.boxes import About, Box
from graphc.draw.text import clean
from graphc.graph import Node, Tensor
from graphc.show import Naming, node_line

ROLES = {"row": "row", "state": "state", "take": "captured", "step": "number of the step"}
SIDES = {"then": "then", "otherwise": "else"}


class Place:
    """Where the nodes of a graph stand: their scopes, inside of the box of a loop or a side."""

    def __init__(
        self, scope: Scope | None = None, outer: Scope | None = None, flat: bool = False
    ) -> None:
        """`outer` is the scope that the control node was made in; `flat` leaves scopes out."""
        self.scope, self.flat = scope, flat
        self._outer = () if outer is None else outer.chain
        self._made: dict[Scope, Scope] = {}

    def of(self, scope: Scope | None) -> Scope | None:
        """The scope that a node's box stands in."""
        if self.flat:
            return self.scope
        if self.scope is None:
            return scope
        found = self.scope
        for inner in () if scope is None else scope.chain:
            redundant = found.gradient and inner.gradient and inner.parent is None
            if inner not in self._outer and not redundant:
                if inner not in self._made:
                    self._made[inner] = Scope(inner.name, found, inner.gradient)
                found = self._made[inner]
        return found


class Drawn:
    """One control node, and how its boxes are made."""

    def __init__(
        self, node: Node, place: Place, naming: Naming, name: Callable[[Tensor], str]
    ) -> None:
        """`name` gives the text of a tensor."""
        self.node, self.naming, self.name, self.flat = node, naming, name, place.flat
        gradient = node.scope is not None and node.scope.gradient
        words = title(node, naming.value)
        self.scope = Scope(node.name or words, place.of(node.scope), gradient)
        kind = "loop" if is_loop(node) else "branch"
        detail = clean(node_line(node, naming), 400)
        about = About(kind, words if node.name else "", clean(str(node.where)), detail)
        self.groups = {self.scope: about}

    def place(self, body: str) -> Place:
        """Where what is inside of a body stands: in the loop's group, or in one for each side."""
        scope = self.scope
        if not is_loop(self.node):
            scope = Scope(SIDES[body], scope)
            self.groups[scope] = About("side", "", "", "")
        return Place(scope, self.node.scope, self.flat)

    def entry(self, entry: Entry, place: Place) -> Box:
        """What a body gets."""
        value, words = self.naming.value, ROLES[entry.role]
        if entry.role == "row":
            assert entry.outside is not None
            at = in_step(entry.start, entry.step, value, counter(self.node, value))
            words = f"row  {self.name(entry.outside)}[{at}]"
        elif entry.role == "state" and entry.outside is not None:
            word = "goes on" if entry.parameter is guard(self.node) else "state"
            words = f"{word}  at first {self.name(entry.outside)}"
        line = entry_line(entry, self.node, value, self.name, self._type)
        return self._box("parameter", entry.parameter, words, line, place.scope)

    def exit(self, found: Exit, entering: Box | None, place: Place) -> Box:
        """What a step leaves: the next value of a state that `entering` is, or a row."""
        value = self.naming.value
        line = exit_line(found, self.node, value, self.name)
        if entering is None:
            at = in_step(found.start, found.step, value, counter(self.node, value))
            return self._result("stack", f"row  [{at}]", line, found.output, place.scope)
        box = self._result(entering.title, "next", line, found.output, place.scope)
        box.writes = entering
        return box

    def condition(self) -> Box:
        """What a branch asks."""
        return self._result("condition", "then, or else", "", None, self.scope)

    def result(self, index: int) -> Box:
        """What a branch gives: the result of one side."""
        words = "of one side" if len(self.node.types) == 1 else f"{index} of one side"
        return self._result("result", words, "", index, self.scope)

    def count(self, index: int) -> Box:
        """The number of steps of a loop."""
        return self._result("steps", "how many there were", "", index, self.scope)

    def _type(self, tensor: Tensor) -> str:
        return self.naming.type(tensor.type)

    def _box(self, kind: str, tensor: Tensor, words: str, line: str, scope: Scope | None) -> Box:
        name, label = self.name(tensor), tensor.node.name
        title = words.partition("  ")[0] if label is None else name.removeprefix("%")
        subtitle = words if label is not None else f"{name}  {words.partition('  ')[2]}".strip()
        return Box(
            kind, clean(title), clean(subtitle), "", "", clean(line, 400), "parameter",
            self._type(tensor), False, scope,
        )  # fmt: skip

    def _result(
        self, title: str, words: str, line: str, index: int | None, scope: Scope | None
    ) -> Box:
        type: Any = self.node.inputs[0].type if index is None else self.node.types[index]
        kind = "parameter" if index is None else "result"
        return Box(
            kind, clean(title), clean(words), "", "", clean(line or f"{title}: {words}", 400),
            kind, self.naming.type(type), False, scope,
        )  # fmt: skip
