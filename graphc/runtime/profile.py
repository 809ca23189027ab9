"""`session.profile(...)`: what one run spent where, by node or kernel, with the user's lines.

A device notes each step that it runs: a node, or a kernel made of several; the seconds, the bytes
that it read and wrote, and (of kernels) about how many element operations it did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.graph import Node, bodies
from graphc.kernel import Kernel
from graphc.runtime.device import Limits, Noted
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
    times: int = 1  # of a loop: how many steps it made; of what is inside: how often it ran
    inside: tuple[Spent, ...] = ()  # of a loop or a branch
    timed: bool = True  # whether `seconds` were measured

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

    A loop says how many steps it made. Below it is what was done inside, in all steps together:
    timed on the reference device, counted on others.
    """

    def __init__(self, device: str, limits: Limits | None = None) -> None:
        self.device = device
        self.limits = limits
        self.rows: list[Spent] = []
        self._naming = Naming()

    def note(
        self, what: Node | Kernel, seconds: float, moved: int, work: int = 0, times: int = 1,
        inside: Sequence[Noted] = (),
    ) -> None:  # fmt: skip
        """Add a step."""
        self.rows.append(self._spent(Noted(what, seconds, moved, work, times, inside)))

    def _spent(self, noted: Noted) -> Spent:
        what = noted.what
        if isinstance(what, Node) and what.name is None and bodies(what):
            name, op, lines = "", what.op.name, str(what.where)  # listings number it otherwise
        elif isinstance(what, Node):
            name, op, lines = self._naming.node(what), what.op.name, str(what.where)
        else:
            name = ", %".join(store.buffer.name for store in what.stores)
            op, lines = what.name, ", ".join(map(str, what.lines))
        return Spent(
            name, op, lines, noted.seconds or 0.0, noted.moved, noted.work, noted.times,
            tuple(map(self._spent, noted.inside)), noted.seconds is not None,
        )  # fmt: skip

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

    def _lines(self, row: Spent, total: float, indent: str = "") -> list[str]:
        """A step, and what is inside of it, the most work first."""
        share = f" {row.share(self.limits)}" if self.limits is not None and row.timed else ""
        spent = f"{1e6 * row.seconds:9.1f} us {row.seconds / total:6.1%} {row.rates}{share}"
        if not row.timed:
            spent = f"{'':19} {row.bytes:>14,} bytes {row.work:>14,} op"
        times = f", {row.times} step{'s' * (row.times != 1)}" if row.inside else f", {row.times} ×"
        said = times if (row.inside and row.op == "loop") or (indent and not row.inside) else ""
        text = f"  {spent}  {indent}{row.op}{' %' * bool(row.name)}{row.name}{said}  # {row.where}"
        inside = sorted(row.inside, key=lambda r: (-r.seconds, -r.work, -r.bytes))
        lines = [line for r in inside[:SHOWN] for line in self._lines(r, total, indent + "  ")]
        if len(inside) > SHOWN:
            lines.append(f"  {indent}  ... and {len(inside) - SHOWN} more inside")
        return [text, *lines]

    def __str__(self) -> str:
        total = self.seconds or 1.0
        steps = f"{len(self.rows)} step{'s' * (len(self.rows) != 1)}"
        lines = [f"{steps} in {1e6 * self.seconds:.0f} us on {self.device}"]
        for row in sorted(self.rows, key=lambda r: -r.seconds)[:SHOWN]:
            lines += self._lines(row, total)
        if len(self.rows) > SHOWN:
            lines.append(f"  ... and {len(self.rows) - SHOWN} shorter ones")
        sums = (f"{op} {spent / total:.1%}" for op, spent in list(self.by_op().items())[:8])
        return "\n".join([*lines, "by op: " + ", ".join(sums)])

    __repr__ = __str__
