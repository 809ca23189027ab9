"""Nestings: lists, tuples and dicts of tensors, as users give and get them.

`flatten` gives the leaves in order, and what puts other values into the same places; `matched`
gives the leaves of a second nesting in the order of the first, dicts by their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from graphc.errors import ShapeError, brief

Rebuild: TypeAlias = Callable[[Iterator[Any]], Any]


def flatten(value: Any) -> tuple[list[Any], Rebuild]:
    """The leaves of a nesting, and a function that makes it of other leaves."""
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves)


def _flatten(value: Any, leaves: list[Any]) -> Rebuild:
    """Recursion is as deep as the user's nesting."""
    if isinstance(value, Mapping):
        keys = list(value)
        parts = [_flatten(value[k], leaves) for k in keys]
        return lambda values: {k: part(values) for k, part in zip(keys, parts, strict=True)}
    if isinstance(value, (list, tuple)):
        parts = [_flatten(v, leaves) for v in value]
        kind = type(value)
        if hasattr(value, "_fields"):  # a named tuple
            return lambda values: kind(*[part(values) for part in parts])
        return lambda values: kind([part(values) for part in parts])
    leaves.append(value)
    return next


def matched(form: Any, value: Any, rule: str, place: str = "") -> list[Any]:
    """The leaves of `value` in the places of those of `form`; a ShapeError where they differ."""
    at = f" at {place}" if place else ""
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping) or set(value) != set(form):
            keys = ", ".join(map(repr, form))
            raise ShapeError(f"{rule}, which is a dict of {keys}{at}, got {_kind(value)}")
        return [x for k in form for x in matched(form[k], value[k], rule, f"{place}[{k!r}]")]
    if isinstance(form, (list, tuple)):
        if not isinstance(value, (list, tuple)) or len(value) != len(form):
            wanted = f"{type(form).__name__} of {len(form)}"
            raise ShapeError(f"{rule}, which is a {wanted}{at}, got {_kind(value)}")
        pairs = enumerate(zip(form, value, strict=True))
        return [x for i, (f, v) in pairs for x in matched(f, v, rule, f"{place}[{i}]")]
    if isinstance(value, (Mapping, list, tuple)):
        raise ShapeError(f"{rule}, which is a tensor{at}, got {_kind(value)}")
    return [value]


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a dict of " + ", ".join(map(repr, value))
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return brief(value)
