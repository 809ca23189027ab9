"""`session.profile(...)`: what one run spent where, by node, with the user's lines.

A device notes each step that it runs: the node, the seconds, and the bytes that it read and wrote.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from graphc.graph import Node
from graphc.show import Naming

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Spent:
    """One step of a run."""

    name: str
    op: str
    where: str
    seconds: float
    bytes: int


class Profile:
    """The steps of one run; prints as a table, the longest first, and the sums for each op."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.rows: list[Spent] = []
        self._naming = Naming()

    def note(self, node: Node, seconds: float, moved: int) -> None:
        """Add a step."""
        name = self._naming.node(node)
        self.rows.append(Spent(name, node.op.name, str(node.where), seconds, moved))

    @property
    def seconds(self) -> float:
        """All steps together."""
        return sum(row.seconds for row in self.rows)

    def by_op(self) -> dict[str, float]:
        """Seconds for each op, the longest first."""
        sums: dict[str, float] = defaultdict(float)
        for row in self.rows:
            sums[row.op] += row.seconds
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def __str__(self) -> str:
        total = self.seconds or 1.0
        lines = [f"{len(self.rows)} steps in {1e6 * self.seconds:.0f} us on {self.device}"]
        for row in sorted(self.rows, key=lambda r: -r.seconds)[:SHOWN]:
            lines.append(
                f"  {1e6 * row.seconds:9.1f} us {row.seconds / total:6.1%} {row.bytes:>12,} bytes  "
                f"{row.op} %{row.name}  # {row.where}"
            )
        if len(self.rows) > SHOWN:
            lines.append(f"  ... and {len(self.rows) - SHOWN} shorter ones")
        sums = (f"{op} {spent / total:.1%}" for op, spent in list(self.by_op().items())[:8])
        return "\n".join([*lines, "by op: " + ", ".join(sums)])

    __repr__ = __str__
