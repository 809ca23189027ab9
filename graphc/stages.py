"""Which form of a graph to look at: as built, specialised, or optimised. And its text form.

Enters: fetches, in any nesting that a run takes. Leaves: the graph at a stage, or its listing.
Feeds are optional: without them, nothing is assumed of ranks and sizes that placeholders leave
open, so gradients through unknown shapes stay closed boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphc.build import assuming
from graphc.dims import Dim
from graphc.errors import FetchError, trimmed
from graphc.graph import Graph, Tensor
from graphc.passes import optimise
from graphc.passes.specialise import specialise
from graphc.runtime.feeds import bind_sizes, convert, feed_items
from graphc.runtime.fetches import graph_of
from graphc.show import show_graph
from graphc.types import Assumptions, TensorType

PIPELINES = {"source": (), "specialised": (specialise,), "optimised": None}
STAGES = (*PIPELINES, "fused")


def _assumptions(feeds: Mapping[Tensor, Any] | None) -> tuple[list[Tensor], Assumptions | None]:
    """The fed tensors, and what their arrays decide."""
    items = feed_items(feeds)
    if not items:
        return [], None
    arrays = convert(items)
    tensors = [tensor for tensor, _ in items]
    types = [
        TensorType(t.dtype, tuple(Dim.symbol() for _ in a.shape) if t.shape is None else t.shape)
        for t, a in zip(tensors, arrays, strict=True)
    ]
    sizes = bind_sizes(tensors, types, arrays)
    return tensors, Assumptions(sizes, types=dict(zip(tensors, types, strict=True)))


def check_stage(stage: str) -> None:
    """Raise unless a stage of that name can be looked at."""
    if stage in PIPELINES:
        return
    there = ", ".join(f'"{name}"' for name in PIPELINES)
    if stage == "fused":
        raise FetchError(
            'stage: "fused" shows kernels, which come with the native compiler; this version '
            f"runs graphs node by node, and has {there}"
        )
    raise FetchError(f"stage: there is no stage {stage!r}; there are {there}")


def graph_at(
    fetches: Any, stage: str = "source", feeds: Mapping[Tensor, Any] | None = None
) -> Graph:
    """The graph of some fetches at a stage; ranks and sizes of `feeds` are made use of."""
    check_stage(stage)
    tensors, assumptions = _assumptions(feeds)
    graph = graph_of(fetches, tensors)
    if stage == "source":
        return graph
    with assuming(assumptions):
        pipeline = PIPELINES[stage]
        return optimise(graph) if pipeline is None else optimise(graph, pipeline=pipeline)


@trimmed
def show(fetches: Any, stage: str = "source", feeds: Mapping[Tensor, Any] | None = None) -> str:
    """The listing of what some fetches reach: one node a line, with its type and your line.

    `stage`: "source" (as built), "specialised" (ranks and sizes bound by `feeds`) or "optimised"
    (after all passes). Raises FetchError for an unknown stage or a foreign object.

    >>> from graphc.ops.source import placeholder
    >>> x = placeholder("float32", ["batch"], name="x")
    >>> print(show(x * x), end="")  # doctest: +ELLIPSIS
    %x: f32[batch] = placeholder   # ...
    %0: f32[batch] = multiply %x %x   # ...
    return %0
    """
    return show_graph(graph_at(fetches, stage, feeds))
