"""Which form of a graph to look at: as built, specialised, optimised, or fused into kernels.

Enters: fetches, in any nesting that a run takes. Leaves: the graph at a stage, or its listing.
Feeds are optional: without them, nothing is assumed of ranks and sizes that placeholders leave
open, so gradients through unknown shapes stay closed boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graphc.build import assuming, describe
from graphc.dims import Dim
from graphc.errors import FetchError, trimmed
from graphc.graph import Graph, Tensor, outputs_of
from graphc.lower import Lowered, lowered
from graphc.ops.source import PLACEHOLDER
from graphc.passes import optimise
from graphc.passes.specialise import specialise
from graphc.plan_text import listing
from graphc.runtime.devices import described
from graphc.runtime.feeds import bind_sizes, convert, feed_items
from graphc.runtime.fetches import graph_of
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
    if stage in STAGES:
        return
    there = ", ".join(f'"{name}"' for name in STAGES)
    raise FetchError(f"stage: there is no stage {stage!r}; there are {there}")


def place_of(device: str | None, stage: str) -> str:
    """A device as listings and pictures name it; DeviceError where there is none of that name."""
    if device is None:
        return ""
    if stage != "fused":
        raise FetchError(f'device: only stage="fused" is of a device, got {stage!r}')
    return described(device)


def form_at(
    fetches: Any,
    stage: str = "source",
    feeds: Mapping[Tensor, Any] | None = None,
    device: str | None = None,
) -> Graph | Lowered:
    """What some fetches are at a stage; ranks and sizes of `feeds` are made use of."""
    check_stage(stage)
    place = place_of(device, stage)
    tensors, assumptions = _assumptions(feeds)
    graph = graph_of(fetches, tensors)
    if stage == "source":
        return graph
    with assuming(assumptions):
        pipeline = PIPELINES.get(stage)
        graph = optimise(graph) if pipeline is None else optimise(graph, pipeline=pipeline)
        return replace(lowered(_bound(graph)), device=place) if stage == "fused" else graph


def graph_at(
    fetches: Any, stage: str = "source", feeds: Mapping[Tensor, Any] | None = None
) -> Graph:
    """The graph of some fetches at a stage; at "fused" the one that kernels are made from."""
    form = form_at(fetches, stage, feeds)
    return form.graph if isinstance(form, Lowered) else form


def _bound(graph: Graph) -> Graph:
    """The graph with all its feeds, if it can be lowered: no rank and no gradient is open."""
    for node in graph.nodes:
        open_ranks = any(type.shape is None for type in node.types)
        if open_ranks or node.op.family == "gradient":
            rule = "ranks that are known" if open_ranks else "gradients that are not open"
            cure = "declare its shape" if open_ranks else "name dimensions that are equal alike"
            raise FetchError(
                f'stage: "fused" needs {rule}, got {describe(outputs_of(node)[0])}; {cure}, or '
                "give example arrays: feeds={placeholder: array}"
            )
    fed = {tensor.node for tensor in graph.inputs}
    read = [t for t in graph.tensors() if t.node.op is PLACEHOLDER and t.node not in fed]
    inputs = graph.inputs + tuple(sorted(set(read), key=lambda tensor: tensor.node.serial))
    return Graph(graph.outputs, graph.updates, inputs, graph.order)


@trimmed
def show(
    fetches: Any,
    stage: str = "source",
    feeds: Mapping[Tensor, Any] | None = None,
    device: str | None = None,
) -> str:
    """The listing of what some fetches reach: one node a line, with its type and your line.

    `stage`: "source" (as built), "specialised" (ranks and sizes bound by `feeds`), "optimised"
    (after all passes) or "fused" (the kernels, each with the lines that it was made from, and the
    host calls between them; all ranks must be known, from `feeds` if need be), which names the
    `device` where one is given. Raises FetchError for an unknown stage or a foreign object,
    DeviceError for a device that is not there.

    >>> from graphc.ops.source import placeholder
    >>> x = placeholder("float32", ["batch"], name="x")
    >>> print(show(x * x), end="")  # doctest: +ELLIPSIS
    %x: f32[batch] = placeholder   # ...
    %0: f32[batch] = multiply %x %x   # ...
    return %0
    """
    return listing(form_at(fetches, stage, feeds, device))
