"""`session.compile_report()`: what was compiled, why, and what it cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphc.graph import Graph
from graphc.runtime.compilation import Compilation, FetchSet

KEPT = 256  # the newest rows; a report must not grow with the number of runs


@dataclass(frozen=True, slots=True)
class Row:
    """One compilation."""

    fetches: str
    reason: str
    nodes: int
    seconds: dict[str, float]
    guards: tuple[str, ...]
    summary: Mapping[str, Any]  # what the device says of the program: kernels, cache hits, ...

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())


class CompileReport:
    """The compilations of a session, oldest first; prints as a table."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.rows: deque[Row] = deque(maxlen=KEPT)
        self.count = 0

    def add(self, fetch_set: FetchSet, compilation: Compilation) -> None:
        """Note one compilation."""
        guards = tuple(f"{a} {'==' if answer else '!='} {b}" for a, b, answer in compilation.guards)
        names = _names(fetch_set.graph)
        summary = dict(getattr(compilation.program, "summary", {}))
        self.rows.append(
            Row(names, compilation.reason, compilation.nodes, compilation.seconds, guards, summary)
        )
        self.count += 1

    def __str__(self) -> str:
        rows = tuple(self.rows)  # other threads add to them
        lines = [f"{self.count} compilation{'s' * (self.count != 1)} on {self.device}"]
        for number, row in enumerate(rows, self.count - len(rows)):
            lines.append(
                f"{number}: {row.fetches}: {row.nodes} nodes in {1e3 * row.total:.1f} ms; "
                f"{row.reason}"
            )
            parts = (f"{name} {1e3 * s:.2f} ms" for name, s in row.seconds.items())
            lines.append("   " + ", ".join(parts))
            if row.summary:
                lines.append("   " + ", ".join(f"{what}: {v}" for what, v in row.summary.items()))
            if row.guards:
                lines.append("   holds where " + ", ".join(row.guards))
        return "\n".join(lines)

    __repr__ = __str__


def _names(graph: Graph) -> str:
    names = [t.name for t in graph.outputs] + [f"update of {v.name}" for v, _ in graph.updates]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
