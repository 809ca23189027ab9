"""Feeds: arrays for tensors, checked before anything runs, every fault in one message.

Enters: a feed_dict and the graph that needs it. Leaves: arrays of the right dtypes, and the values
of all symbolic sizes. Casts follow NumPy's same-kind rule: floats to floats, integers to anything
that holds their values, never a float to an integer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.build import describe
from graphc.dims import Dim, Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import FeedError
from graphc.graph import Graph, Node, Tensor
from graphc.ops.source import PLACEHOLDER
from graphc.types import TensorType

MOST_LINES = 13  # an error has at most 15


def feed_items(feed_dict: Any) -> list[tuple[Tensor, Any]]:
    """The pairs of a feed_dict, in the order in which their tensors were made."""
    if feed_dict is None:
        return []
    if not isinstance(feed_dict, Mapping):
        raise FeedError(
            f"run: feed_dict must be a dict of tensors and arrays, got {type(feed_dict).__name__}"
        )
    for key in feed_dict:
        if not isinstance(key, Tensor):
            raise FeedError(
                f"run: the keys of feed_dict must be tensors, got {key!r} ({type(key).__name__})"
            )
    return sorted(feed_dict.items(), key=lambda item: (item[0].node.serial, item[0].index))


def feed_list(feeds: Any) -> list[Tensor]:
    """The feeds of a prepared callable: a list of tensors, each once."""
    if isinstance(feeds, Tensor) or not isinstance(feeds, Iterable):
        raise FeedError(f"run: the tensors to feed must be a list, got {feeds!r}")
    tensors = list(feeds)
    feed_items(dict.fromkeys(tensors))  # for its check of the keys
    for place, tensor in enumerate(tensors):
        if tensor in tensors[:place]:
            raise FeedError(f"run: a tensor must be fed once, got {describe(tensor)} twice")
    return tensors


def _array(tensor: Tensor, value: Any) -> Array:
    """The value as an array of the tensor's dtype; ValueError says why not."""
    wanted = tensor.dtype.numpy
    if type(value) is np.ndarray and value.dtype == wanted:
        return value
    if type(value) is float and wanted.kind == "f":
        return np.array(value, wanted)
    if isinstance(value, Tensor):
        raise ValueError("a feed must be an array, not a tensor: run that tensor first")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError("it has masked elements: .filled(number) gives an array without")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError("no array can be made of it: its rows differ in length") from error
    except Exception as error:  # whatever a foreign __array__ raises
        raise ValueError(f"no array can be made of it: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"no array of numbers can be made of it ({array.dtype})")
    if array.dtype == wanted:
        return array
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
            raise ValueError(f"values from {array.min()} to {array.max()} do not fit {wanted}")
    elif array.size == 0 and not isinstance(value, np.ndarray):
        pass  # an empty list has no kind
    elif not np.can_cast(array.dtype, wanted, "same_kind"):
        raise ValueError(f"{array.dtype} does not cast to {wanted}: cast the array yourself")
    return array.astype(wanted)


def _misfit(type: TensorType, array: Array) -> str | None:
    """Why the shape of an array is not one of the type's, as far as ints say."""
    if type.shape is None:
        return None
    if len(type.shape) != array.ndim:
        return f"the rank must be {len(type.shape)}, got {_shown(array)}"
    for axis, (size, have) in enumerate(zip(type.shape, array.shape, strict=True)):
        if isinstance(size, int) and size != have:
            return f"the size of axis {axis} must be {size}, got {_shown(array)}"
    return None


def _shown(array: Array) -> str:
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def convert(items: Sequence[tuple[Tensor, Any]]) -> list[Array]:
    """Arrays for all items, or one FeedError that lists every wrong one."""
    arrays, faults = [], []
    for tensor, value in items:
        try:
            array = _array(tensor, value)
        except ValueError as error:
            faults.append(f"  {_named(tensor)}: {error}")
            continue
        if misfit := _misfit(tensor.type, array):
            faults.append(f"  {_named(tensor)}: {misfit}")
        arrays.append(array)
    if faults:
        raise FeedError("\n".join(["run: feeds must fit their tensors", *_limited(faults)]))
    return arrays


def _limited(lines: list[str]) -> list[str]:
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[: MOST_LINES - 1], f"  ... and {len(lines) - MOST_LINES + 1} more"]


def _named(tensor: Tensor) -> str:
    return f"{describe(tensor)}: {tensor.type}"


def bind_sizes(
    tensors: Sequence[Tensor], types: Sequence[TensorType], arrays: Sequence[Array]
) -> dict[Symbol, int]:
    """The value of each symbol among the dimensions of fed tensors; contradictions are errors."""
    sizes: dict[Symbol, int] = {}
    owners: dict[Symbol, tuple[Tensor, int]] = {}
    faults = []
    for tensor, type, array in zip(tensors, types, arrays, strict=True):
        for axis, (dimension, size) in enumerate(zip(type.shape or (), array.shape, strict=True)):
            symbol = dimension.as_symbol() if isinstance(dimension, Dim) else None
            if symbol is None:
                continue
            known = sizes.setdefault(symbol, size)
            first, first_axis = owners.setdefault(symbol, (tensor, axis))
            if known != size:
                faults.append(
                    f"  {symbol} is {known} in axis {first_axis} of {_named(first)}, "
                    f"but {size} in axis {axis} of {_named(tensor)}"
                )
    if faults:
        raise FeedError("\n".join(["run: sizes of one name must be equal", *_limited(faults)]))
    return sizes


def check_expressions(
    tensors: Sequence[Tensor], arrays: Sequence[Array], sizes: Mapping[Symbol, int]
) -> None:
    """Fed inner tensors, whose sizes are expressions of others', must agree with them."""
    for tensor, array in zip(tensors, arrays, strict=True):
        for axis, (dimension, size) in enumerate(
            zip(tensor.shape or array.shape, array.shape, strict=True)
        ):
            try:
                wanted = evaluate(dimension, sizes)
            except KeyError:
                continue
            if wanted != size:
                raise FeedError(
                    f"run: feeds must fit their tensors\n  {_named(tensor)}: the size of axis "
                    f"{axis} must be {dimension} = {wanted}, got {size}"
                )


def missing(graph: Graph) -> list[Tensor]:
    """The placeholders that a graph reads and `graph.inputs` does not feed."""
    read = (t for t in graph.tensors() if t.node.op is PLACEHOLDER)
    fed = set(graph.inputs)
    return [t for t in read if t not in fed]


def missing_error(graph: Graph, placeholders: Sequence[Tensor]) -> FeedError:
    """One message for all: what must be fed, where it was made, and which fetch needs it."""
    consumers: dict[Node, Node] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            consumers.setdefault(tensor.node, node)
    fetched = {t.node for t in graph.roots}
    count = len(placeholders)
    lines = [f"  {_named(t)}, {_path(t.node, consumers, fetched)}" for t in placeholders]
    what = "1 placeholder has" if count == 1 else f"{count} placeholders have"
    head = f"run: every placeholder must be fed, {what} no value"
    return FeedError("\n".join([head, *_limited(lines)]))


def _path(node: Node, consumers: Mapping[Node, Node], fetched: set[Node]) -> str:
    """How a fetch comes to need a node: `needed by loss <- add <- matmul`."""
    if node in fetched:
        return "which is fetched"
    path = []
    while node not in fetched and (consumer := consumers.get(node)) is not None:
        path.append(f"{consumer.label} ({consumer.where})")
        node = consumer
    path.reverse()
    if len(path) > 4:
        path = [*path[:2], "...", path[-1]]
    return "needed by " + " <- ".join(path)
