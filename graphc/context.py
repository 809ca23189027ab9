"""Where a node comes from: the user's line, and the name scope it was built in.

User code builds nodes under `name_scope`s; its line is found by walking out of this package. A
pass builds nodes on behalf of one that exists: they inherit line and scope from its `Origin`.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_PROGRAMS = _PACKAGE + "demo"
_serials = itertools.count()


class Where(NamedTuple):
    """A line of the user's program."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


class Scope:
    """One entry of a `name_scope`; entries of one name are scopes apart, told apart when shown.

    `region` is the innermost checkpoint that it is part of: a scope too, which adds nothing to the
    labels of what is inside, so that a checkpoint renames no variable and no random op.
    """

    __slots__ = ("gradient", "name", "parent", "region", "serial")

    def __init__(
        self,
        name: str,
        parent: Scope | None = None,
        gradient: bool = False,
        region: Scope | None = None,
    ) -> None:
        self.name: str = name
        self.parent: Scope | None = parent
        self.gradient: bool = gradient or (parent is not None and parent.gradient)
        self.region: Scope | None = region or (None if parent is None else parent.region)
        self.serial = next(_serials)

    @property
    def chain(self) -> tuple[Scope, ...]:
        """From the outermost scope to this one."""
        chain = [self]
        while (parent := chain[-1].parent) is not None:
            chain.append(parent)
        return tuple(reversed(chain))

    @property
    def path(self) -> str:
        """The names from the outside in, as `outer/inner`."""
        return "/".join(scope.name for scope in self.chain if scope.region is not scope)

    def label(self, name: str) -> str:
        """A name in this scope, as `outer/inner/name`."""
        path = self.path
        return f"{path}/{name}" if path else name


class Origin:
    """Line and scope for nodes that a pass builds; set once a pass, moved from node to node."""

    __slots__ = ("scope", "where")

    def __init__(self, where: Where, scope: Scope | None) -> None:
        self.where = where
        self.scope = scope


CURRENT: ContextVar[Scope | Origin | None] = ContextVar("graphc.context", default=None)


def is_internal(file: str) -> bool:
    """Whether a source file is graphc's own; its demo counts as a program of the user's."""
    return file.startswith(_PACKAGE) and not file.startswith(_PROGRAMS)


def caller() -> Where:
    """The innermost line outside graphc."""
    frame = sys._getframe(1)
    while True:
        file = frame.f_code.co_filename
        if not is_internal(file) or frame.f_back is None:
            return Where(file, frame.f_lineno)
        frame = frame.f_back


def origin() -> tuple[Where, Scope | None]:
    """Line and scope of a node that is built now."""
    current = CURRENT.get()
    if type(current) is Origin:
        return current.where, current.scope
    return caller(), current  # type: ignore[return-value]  # not an Origin: a Scope or None


@contextmanager
def name_scope(name: str | Scope) -> Iterator[Scope]:
    """Label the nodes built inside, and fold them into one box in pictures.

    Each entry is a scope of its own; pass the scope that `as` gave to enter the same one again.

    >>> with name_scope("encoder") as encoder:
    ...     with name_scope("layer") as layer:
    ...         print(layer.path)
    encoder/layer
    """
    current = CURRENT.get()
    parent = current if isinstance(current, Scope) else None
    scope = _entered(name, parent) if isinstance(name, Scope) else Scope(str(name), parent)
    token = CURRENT.set(scope)
    try:
        yield scope
    finally:
        CURRENT.reset(token)


def _entered(scope: Scope, current: Scope | None) -> Scope:
    """A scope that is entered again; one of the same path where a checkpoint is entered or left."""
    region = None if current is None else current.region
    if scope.region is region:
        return scope
    again: Scope | None = None
    for outer in scope.chain:
        if outer.region is not outer:
            again = Scope(outer.name, again, outer.gradient, region)
    return scope if again is None else again


@contextmanager
def checkpoint_scope() -> Iterator[Scope]:
    """The nodes built inside are one checkpoint, and keep their labels."""
    current = CURRENT.get()
    region = Scope("checkpoint", current if isinstance(current, Scope) else None)
    region.region = region
    token = CURRENT.set(region)
    try:
        yield region
    finally:
        CURRENT.reset(token)


@contextmanager
def on_behalf(where: Where, scope: Scope | None) -> Iterator[Origin]:
    """Nodes built inside take line and scope from the origin, which the caller may move."""
    token = CURRENT.set(source := Origin(where, scope))
    try:
        yield source
    finally:
        CURRENT.reset(token)
