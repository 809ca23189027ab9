"""Looking on while a fetch set is compiled: times, dumps, and what `GRAPHC_DEBUG` prints.

Enters: each pass's graph, then the program. Leaves: seconds by pass, the files that `GRAPHC_DUMP`
asks for, and on standard error: 1 one line a compilation, and its steps; 2 the graph after each
pass that changed it; 3 the kernels. Generated code (4) is printed where it is linked.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from graphc import config
from graphc.draw import dot_text
from graphc.graph import Graph
from graphc.lower import Lowered, lowered
from graphc.plan import Plan
from graphc.plan_text import counted_steps, listing, step_lines
from graphc.runtime.dump import Writers, requested_dump
from graphc.show import show_graph

STAGE_FILES: Writers = {".txt": listing, ".dot": dot_text}


def _say(text: str) -> None:
    print(text.rstrip("\n"), file=sys.stderr)


UNCHANGED = "passes without effect"


class Watch:
    """The onlooker of one compilation."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._dump = requested_dump(STAGE_FILES)
        self._last: Graph | None = None

    def __call__(self, name: str, graph: Graph, taken: float) -> None:
        """One pass has run; the time of those that changed nothing is noted together."""
        kind = UNCHANGED if graph is self._last else name
        self.seconds[kind] = self.seconds.get(kind, 0.0) + taken
        if self._dump is not None:
            self._dump(name, graph, taken)
        if config.debug() >= 2:
            same = graph is self._last
            body = "unchanged" if same else f"{len(graph.nodes)} nodes\n{show_graph(graph)}"
            _say(f"graphc: {name}, {taken * 1e3:.1f} ms: {body}")
        self._last = graph

    def done(self, graph: Graph, program: Any, reason: str, device: str) -> None:
        """The program is there: its kernels are dumped and printed, where it has any."""
        level = config.debug()
        if self._dump is None and not level:
            return
        planned = isinstance(getattr(program, "plan", None), Plan)
        form = replace(lowered(graph), device=device) if planned else None
        if self._dump is not None and form is not None:
            self._dump("fused", form, 0.0)
        if level:
            _say(self._summary(graph, form, reason))
            if form is not None:
                _say(listing(form) if level >= 3 else step_lines(form.plan))

    def _summary(self, graph: Graph, form: Lowered | None, reason: str) -> str:
        """What was compiled, why, and what took how long."""
        total = sum(self.seconds.values())
        slowest = sorted(self.seconds.items(), key=lambda item: -item[1])[:4]
        times = ", ".join(f"{name} {taken * 1e3:.1f}" for name, taken in slowest)
        made = "" if form is None else f" into {counted_steps(form.plan.steps)}"
        nodes = f"{len(graph.nodes)} nodes"
        return f"graphc: compiled {nodes}{made} in {total * 1e3:.1f} ms ({times}): {reason}"
