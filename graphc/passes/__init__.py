"""The passes, in order. Each is one file and one pure function `Graph -> Graph` of the same name.

`stabilise` stands before `differentiate`, so that what is differentiated is already the stable
form, and again after it, for what the gradient brings.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from graphc import config
from graphc.errors import CompileError
from graphc.graph import Graph
from graphc.passes.differentiate import differentiate
from graphc.passes.specialise import specialise
from graphc.show import show_graph
from graphc.verify import Verifier

Pass: TypeAlias = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (
    specialise,
    differentiate,
)

Observer: TypeAlias = Callable[[str, Graph, float], None]


def optimise(
    graph: Graph, observe: Observer | None = None, pipeline: tuple[Pass, ...] = PIPELINE
) -> Graph:
    """Run the passes, verifying after each. `observe` gets each name, result and seconds taken.

    A pass that breaks the graph raises a CompileError with the graph before and after.
    """
    verifier = Verifier()
    skipped = config.skipped_passes()
    for step in pipeline:
        if step.__name__ in skipped:
            continue
        start = time.perf_counter()
        result = step(graph)
        try:
            verifier.check(result)
        except CompileError as error:
            raise CompileError(
                f"the pass {step.__name__} broke the graph: {error}\n"
                f"before:\n{show_graph(graph)}after:\n{show_graph(result)}"
            ) from error
        graph = result
        if observe is not None:
            observe(step.__name__, graph, time.perf_counter() - start)
    return graph
