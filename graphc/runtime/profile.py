"""`session.profile(...)`: what one run spent where, by node or kernel, with the user's lines.

A device notes each step that it runs: a node, or a kernel made of several; the seconds, the bytes
that it read and wrote, and (of kernels) about how many element operations it did.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from graphc.graph import Node
from graphc.kernel import Kernel
from graphc.runtime.device import Limits
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
    work: int = 0  # element operations; 0 where the device does not say

    @property
    def rates(self) -> str:
        """Bytes, and how many of them and of the operations came in a second."""
        each = 1e-9 / max(self.seconds, 1e-9)
        text = f"{self.bytes:>14,} bytes {each * self.bytes:7.2f} GB/s"
        return text + (f" {each * self.work:8.2f} Gop/s" if self.work else "")

    def share(self, limits: Limits) -> str:
        """How much of the machine's peak it reached: of the limit that it was nearer to."""
        seconds = max(self.seconds, 1e-9)
        arithmetic = self.work / seconds / limits.operations
        memory = self.bytes / seconds / limits.bytes
        return f"{max(arithmetic, memory):4.0%} of {'peak' if arithmetic > memory else 'copy'}"


class Profile:
    """The steps of one run; prints as a table, the longest first, and the sums for each op.

    `limits` are the machine's, if the device measures them: then each kernel's share of them is
    shown, of the peak of arithmetic or of the rate of copying, whichever it is nearer to. (Caches
    make more than 100 % of the latter possible.)
    """

    def __init__(self, device: str, limits: Limits | None = None) -> None:
        self.device = device
        self.limits = limits
        self.rows: list[Spent] = []
        self._naming = Naming()

    def note(self, what: Node | Kernel, seconds: float, moved: int, work: int = 0) -> None:
        """Add a step."""
        if isinstance(what, Node):
            name, op, lines = self._naming.node(what), what.op.name, str(what.where)
        else:
            name = ", %".join(store.buffer.name for store in what.stores)
            op, lines = what.name, ", ".join(map(str, what.lines))
        self.rows.append(Spent(name, op, lines, seconds, moved, work))

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
        steps = f"{len(self.rows)} step{'s' * (len(self.rows) != 1)}"
        lines = [f"{steps} in {1e6 * self.seconds:.0f} us on {self.device}"]
        for row in sorted(self.rows, key=lambda r: -r.seconds)[:SHOWN]:
            share = f" {row.share(self.limits)}" if self.limits is not None else ""
            lines.append(
                f"  {1e6 * row.seconds:9.1f} us {row.seconds / total:6.1%} {row.rates}{share}  "
                f"{row.op} %{row.name}  # {row.where}"
            )
        if len(self.rows) > SHOWN:
            lines.append(f"  ... and {len(self.rows) - SHOWN} shorter ones")
        sums = (f"{op} {spent / total:.1%}" for op, spent in list(self.by_op().items())[:8])
        return "\n".join([*lines, "by op: " + ", ".join(sums)])

    __repr__ = __str__
