"""Arrays that stand for feeds of given sizes, where only their shapes matter.

Enters: the placeholders of a graph, and sizes by name or example feeds. Leaves: a feed_dict. The
arrays of sizes have all their elements in one place, so that no size is too large.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.build import describe
from graphc.dims import Dim, Dimension, Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import FeedError
from graphc.graph import Graph, Tensor
from graphc.ops.follow import elements
from graphc.runtime.compilation import FetchSet
from graphc.runtime.feeds import missing


def split(sizes: Any) -> tuple[dict[str, int], dict[Tensor, Any]]:
    """The sizes by name, and the feeds, of one mapping that may hold both."""
    if not isinstance(sizes, Mapping):
        raise FeedError(f"memory_plan: sizes must be a dict, got {type(sizes).__name__}")
    named, feeds = {}, {}
    for key, value in sizes.items():
        if isinstance(key, Tensor):
            feeds[key] = value
        elif isinstance(key, str) and hasattr(value, "__index__") and int(value) >= 0:
            named[key] = int(value)
        else:
            raise FeedError(
                "memory_plan: sizes must be numbers by the names of dimensions, or arrays by "
                f"tensors, got {key!r}: {value!r}"
            )
    return named, feeds


def stand_ins(graph: Graph, named: Mapping[str, int]) -> dict[Tensor, Array]:
    """Arrays for the placeholders that a graph reads and does not feed."""
    placeholders = missing(graph)
    symbols = {s.name for t in placeholders for d in t.shape or () for s in _symbols(d)}
    if unknown := [name for name in named if name not in symbols]:
        known = ", ".join(sorted(filter(None, symbols))) or "none"
        raise FeedError(
            f"memory_plan: a size must be that of a placeholder, got {unknown[0]!r}; there are: "
            f"{known}"
        )
    return {tensor: _stand_in(tensor, named) for tensor in placeholders}


def _symbols(dimension: Dimension) -> Sequence[Symbol]:
    return list(dimension.symbols()) if isinstance(dimension, Dim) else []


def _stand_in(tensor: Tensor, named: Mapping[str, int]) -> Array:
    shape = tensor.shape
    open_sizes = [s for d in shape or () for s in _symbols(d) if s.name not in named]
    if shape is None or open_sizes:
        what = "its rank is open" if shape is None else f"its size {open_sizes[0]} is open"
        raise FeedError(
            f"memory_plan: every size must be given, by its name or by an array for its tensor, "
            f"but of {describe(tensor)}: {tensor.type}, {what}"
        )
    values = {s: named[s.name] for d in shape for s in _symbols(d) if s.name is not None}
    sizes = tuple(evaluate(d, values) for d in shape)
    return np.broadcast_to(np.zeros((), tensor.dtype.numpy), sizes)


def check_values(fetch_set: FetchSet, stood_in: Container[Tensor]) -> None:
    """Raise where a size is computed of the values of what a stand-in stands for."""
    for symbol in elements(fetch_set.graph):
        if symbol.source is None:
            continue
        read = fetch_set.value(symbol.source[0]).graph.inputs
        for tensor in read:
            if tensor in stood_in:
                raise FeedError(
                    f"memory_plan: a size is computed of {describe(tensor)}: give an array for it"
                )
