"""The passes, in order. Each is one file and one pure function `Graph -> Graph` of the same name.

`LOWERING` is what a device that makes kernels adds, without a trace in the graph that users see.
`stabilise` stands before `differentiate`, so that what is differentiated is already the stable
form, and again after it, for what the gradient brings; `merge_common` likewise, since what is
merged before is differentiated once.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from graphc import config
from graphc.errors import CompileError
from graphc.graph import Graph
from graphc.passes.accumulate import accumulate
from graphc.passes.differentiate import differentiate
from graphc.passes.fold_constants import fold_constants
from graphc.passes.hoist import hoist
from graphc.passes.inside import inside
from graphc.passes.lighten import lighten
from graphc.passes.merge_common import merge_common
from graphc.passes.merge_loops import merge_loops
from graphc.passes.normalise_windows import normalise_windows
from graphc.passes.prune_loops import prune_loops
from graphc.passes.remove_dead import remove_dead
from graphc.passes.scatter_updates import scatter_updates
from graphc.passes.schedule import schedule
from graphc.passes.segment_loops import segment_loops
from graphc.passes.simplify_algebra import simplify_algebra
from graphc.passes.sink_branches import sink_branches
from graphc.passes.sink_rows import sink_rows
from graphc.passes.sink_transposes import sink_transposes
from graphc.passes.specialise import specialise
from graphc.passes.split_totals import split_totals
from graphc.passes.stabilise import stabilise
from graphc.passes.stash import stash
from graphc.show import show_graph
from graphc.verify import verify

Pass: TypeAlias = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (
    specialise,
    sink_branches,
    stabilise,
    merge_common,
    prune_loops,
    hoist,
    sink_rows,
    merge_common,
    segment_loops,
    differentiate,
    merge_loops,
    stash,
    merge_loops,
    sink_branches,
    fold_constants,
    simplify_algebra,
    stabilise,
    merge_common,
    accumulate,
    hoist,
    sink_rows,
    merge_common,
    scatter_updates,
    prune_loops,
    remove_dead,
    schedule,
)

LOWERING: tuple[Pass, ...] = (  # before kernels are made
    sink_transposes, normalise_windows, lighten, split_totals, merge_common, schedule,
)  # fmt: skip
# How passes come to the graphs inside of nodes: most after the graph around, through `deep`.
INNER_FIRST: frozenset[Pass] = frozenset({hoist, sink_rows, stash, accumulate})
THROUGHOUT: frozenset[Pass] = frozenset({specialise, sink_branches, segment_loops})
NEEDED = frozenset({"specialise", "differentiate"})  # what they replace has no program

Observer: TypeAlias = Callable[[str, Graph, float], None]


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause the cycle collector: nodes and formulas make few cycles, and walking them again and
    again is the larger part of the time that a large graph takes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def optimise(
    graph: Graph, observe: Observer | None = None, pipeline: tuple[Pass, ...] = PIPELINE
) -> Graph:
    """Run the passes, verifying after each.

    `observe` gets "build" and the graph as it came, then each pass's name, result and seconds. A
    pass that breaks the graph raises a CompileError with the graph before and after. One that
    comes again is left out where nothing has changed since.
    """
    skipped = _skipped()
    left: dict[Pass, Graph] = {}
    if observe is not None:
        observe("build", graph, 0.0)
    for step in pipeline:
        if step.__name__ in skipped:
            continue
        start, result = time.perf_counter(), graph
        if left.get(step) is not graph:
            with without_collection():
                result = deep(step, graph)
                if result is not graph:
                    _verified(step.__name__, graph, result)
        graph = left[step] = result
        if observe is not None:
            observe(step.__name__, graph, time.perf_counter() - start)
    return graph


def deep(step: Pass, graph: Graph) -> Graph:
    """A pass over a graph and over those inside of its nodes, each once.

    What `INNER_FIRST` moves out of an inner loop may leave the outer one as well. Passes in
    `THROUGHOUT` go inside by themselves, for what they know of the graph around.
    """
    if step in THROUGHOUT:
        return step(graph)

    def within(body: Graph) -> Graph:
        return deep(step, body)

    return step(inside(graph, within)) if step in INNER_FIRST else inside(step(graph), within)


def _skipped() -> frozenset[str]:
    """The passes that `GRAPHC_SKIP` leaves out; a warning names what cannot be."""
    wanted = config.skipped_passes()
    known = {"fuse", *(step.__name__ for step in (*PIPELINE, *LOWERING))} - NEEDED
    for name in sorted(wanted - known):
        why = "no graph runs without it" if name in NEEDED else "there is no such pass"
        warnings.warn(f"GRAPHC_SKIP: {name} is not left out: {why}", stacklevel=4)
    return wanted & known


def _verified(name: str, before: Graph, after: Graph) -> None:
    try:
        verify(after)
    except CompileError as error:
        raise CompileError(
            f"the pass {name} broke the graph: {error}\n"
            f"before:\n{show_graph(before)}after:\n{show_graph(after)}"
        ) from error
