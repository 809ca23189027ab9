"""What users fetch: any nesting of lists, tuples and dicts of tensors and updates.

`flatten` gives the leaves in order and a function that puts values back into the same nesting;
`collect` turns leaves into a graph's outputs and updates.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from graphc.errors import FetchError, brief
from graphc.graph import Graph, Tensor
from graphc.ops.inner import lifted
from graphc.ops.state import Group, Update

Leaf: TypeAlias = Tensor | Update | Group
Rebuild: TypeAlias = Callable[[Iterator[Any]], Any]


def flatten(fetches: Any) -> tuple[list[Leaf], Rebuild]:
    """The leaves of a nesting, and what rebuilds it from one value a leaf."""
    leaves: list[Leaf] = []
    try:
        return leaves, _flatten(fetches, leaves, "fetches")
    except RecursionError:
        raise FetchError("run: fetches are nested too deeply, or hold themselves") from None


def _flatten(value: Any, leaves: list[Leaf], path: str) -> Rebuild:
    """Recursion is as deep as the user's nesting."""
    if isinstance(value, (Tensor, Update, Group)):
        leaves.append(value)
        return next
    if isinstance(value, Mapping):
        keys = list(value)
        parts = [_flatten(value[k], leaves, f"{path}[{k!r}]") for k in keys]
        return lambda values: {k: part(values) for k, part in zip(keys, parts, strict=True)}
    if isinstance(value, (list, tuple)):
        parts = [_flatten(v, leaves, f"{path}[{i}]") for i, v in enumerate(value)]
        kind = type(value)
        if hasattr(value, "_fields"):  # a named tuple
            return lambda values: kind(*[part(values) for part in parts])
        return lambda values: kind([part(values) for part in parts])
    raise FetchError(
        f"run: a fetch must be a tensor, a variable, an update, or lists, tuples and dicts of "
        f"them, got {path} = {brief(value, 40)} ({type(value).__name__})"
    )


def giver(fetches: Any, leaves: Sequence[Leaf], rebuild: Rebuild) -> Callable[[Sequence[Any]], Any]:
    """A function of the values of the tensors among `leaves`: what to return for the nesting."""
    if isinstance(fetches, Tensor):
        return operator.itemgetter(0)
    given = [isinstance(leaf, Tensor) for leaf in leaves]
    kind, count = type(fetches), sum(given)
    if (kind is list or kind is tuple) and is_shallow(fetches) and all(given[:count]):
        if count == len(given):
            return kind  # type: ignore[no-any-return]
        rest = [None] * (len(given) - count)  # the updates, which stand behind all tensors
        if kind is list:
            return lambda outputs: [*outputs, *rest]
        return lambda outputs: (*outputs, *rest)
    if all(given):
        return lambda outputs: rebuild(iter(outputs))

    def give(outputs: Sequence[Any]) -> Any:
        values = iter(outputs)
        return rebuild(iter([next(values) if one else None for one in given]))

    return give


def nesting_key(fetches: Any) -> Any:
    """What a session finds fetches by when they come again: cheap to make and to compare.

    The fetches themselves, or what a list, a tuple or a dict holds. It means one nesting only where
    `is_shallow`. Raises TypeError for what has no hash.
    """
    kind = type(fetches)
    if kind is list or kind is tuple:
        return (kind, *fetches)
    if kind is dict:
        return (kind, *fetches, *fetches.values())
    return fetches


def is_shallow(fetches: Any) -> bool:
    """Whether a nesting is a leaf, or a plain list, tuple or dict (by strings) of leaves."""
    kind = type(fetches)
    if kind is dict and all(type(key) is str for key in fetches):
        fetches = list(fetches.values())
    elif kind is not list and kind is not tuple:
        fetches = [fetches]
    return all(isinstance(leaf, (Tensor, Update, Group)) for leaf in fetches)


def collect(leaves: Sequence[Leaf]) -> tuple[tuple[Tensor, ...], tuple[Update, ...]]:
    """The tensors to return, and the updates to make; two writes to one variable are an error."""
    outputs = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
    written: dict[Tensor, Update] = {}
    for leaf in leaves:
        for update in leaf.updates if isinstance(leaf, Group) else (leaf,):
            if isinstance(update, Tensor):
                continue
            other = written.setdefault(update.variable, update)
            if other is not update:
                raise FetchError(
                    f"run: a variable must be written once in a run, got two updates of "
                    f'"{update.variable.name}" ({update.variable.node.where})\n'
                    f"  one was made at {other.where}, the other at {update.where}"
                )
    return outputs, tuple(written.values())


def graph_of(fetches: Any, inputs: Sequence[Tensor] = ()) -> Graph:
    """The graph that some fetches reach."""
    return reached(flatten(fetches)[0], inputs)


def reached(leaves: Sequence[Leaf], inputs: Sequence[Tensor] = ()) -> Graph:
    """The graph of some leaves; what is inside of loops is stacked over their steps."""
    outputs, updates = collect(leaves)
    return lifted(Graph(outputs, tuple((u.variable, u.value) for u in updates), tuple(inputs)))
