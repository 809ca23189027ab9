"""What the tests of passes share: runs on the reference device, listings without lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.build import assuming
from graphc.dims import Dim
from graphc.graph import Graph, Tensor
from graphc.passes import PIPELINE, Pass, optimise
from graphc.runtime.device import Environment
from graphc.runtime.reference.device import ReferenceDevice
from graphc.show import show_graph
from graphc.types import Assumptions, TensorType


def listing(graph: Graph) -> str:
    """The text form, without the lines of the test file."""
    return re.sub(r"   # \S+:\d+$", "", show_graph(graph), flags=re.MULTILINE)


def apply(step: Pass, *outputs: Tensor, inputs: Sequence[Tensor] = ()) -> str:
    """The listing of what one pass makes of some outputs (placeholders are not fed)."""
    return listing(step(Graph(outputs, (), tuple(inputs))))


def assumptions_for(feeds: Mapping[Tensor, Any]) -> Assumptions:
    """What a run with these arrays may take for granted."""
    sizes: dict[Any, int] = {}
    types = {}
    for tensor, value in feeds.items():
        array = np.asarray(value)
        declared = tensor.shape
        if declared is None:
            declared = tuple(Dim.symbol() for _ in array.shape)
        types[tensor] = TensorType(tensor.dtype, declared)
        for dimension, size in zip(declared, array.shape, strict=True):
            symbol = dimension.as_symbol() if isinstance(dimension, Dim) else None
            if symbol is not None:
                sizes[symbol] = size
    return Assumptions(sizes, types=types)


def run(
    outputs: Sequence[Tensor],
    feeds: Mapping[Tensor, Any] | None = None,
    pipeline: tuple[Pass, ...] = PIPELINE,
) -> list[Any]:
    """The values of some outputs, after the given passes."""
    feeds = feeds or {}
    assumptions = assumptions_for(feeds)
    with assuming(assumptions):
        graph = optimise(Graph(tuple(outputs), (), tuple(feeds)), pipeline=pipeline)
    arrays = [np.asarray(v, t.dtype.numpy) for t, v in feeds.items()]
    environment = Environment(assumptions.sizes, {}, np.array([1, 0], np.uint64))
    return list(ReferenceDevice().compile(graph).run(arrays, environment))


def difference(function: Any, x: Any, step: float = 1e-6) -> Any:
    """Central differences of the sum of `function` at x, in float64."""
    x = np.asarray(x, np.float64)
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[index] = step
        result[index] = (np.sum(function(x + shift)) - np.sum(function(x - shift))) / (2 * step)
    return result
