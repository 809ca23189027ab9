"""A workload in all contestants, in rounds: each round gives everyone a turn of some steps.

Enters: a workload and who takes part. Leaves: a `Row` with medians over rounds. Ratios are taken
within a round, whose turns lie within seconds of each other, so what else the machine does hits
all alike; the order turns from round to round.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .processes import Process, Setting, Skipped
from .results import OURS, Figure, Row, agree
from .workloads import Target, Workload

TURN = 0.2  # seconds of a turn, about
FEWEST, MOST, MOST_WARM = 3, 2000, 50
LIMIT_TURN = 5  # measurements of the machine's limit in a turn
MEMORY_TARGET = Target("MB", 150, 110)
FIRST_TARGETS = {"empty": Target("s", 0.8, 0.5), "warm": Target("s", 0.35, 0.25)}


@dataclass
class Contest:
    """The processes that still take part, and what each turn told."""

    setting: Setting
    row: Row
    stack: ExitStack
    live: dict[str, Process] = field(default_factory=dict)
    turns: dict[str, list[float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def enter(self, label: str, contestant: str, cache: Path, *more: str) -> None:
        """Start a contestant and wait for its first step."""
        try:
            process = Process(self.setting, contestant, cache, *more)
        except Skipped as word:
            self.row.skipped[label] = str(word)
        else:
            self.live[label] = self.stack.enter_context(process)
            self.turns[label] = []

    def ask(self, label: str, **command: Any) -> dict[str, Any]:
        """One answer; a contestant that fails is out, and the answer empty."""
        try:
            return self.live[label].ask(**command)
        except Skipped as word:
            self.row.skipped[label] = str(word)
            del self.live[label], self.turns[label]
            return {}

    def check(self) -> None:
        """Compare values, and see how long a turn is."""
        values = {}
        for label in list(self.live):
            found = self.ask(label, do="check")
            if found:
                values[label] = found["values"]
                steps = int(TURN / max(found["seconds"], 1e-9))
                self.counts[label] = min(max(steps, FEWEST), MOST)
        values.pop("limit", None)
        if values:
            known = values[OURS] if OURS in values else next(iter(values.values()))
            self.row.differs = [n for n, found in values.items() if not agree(known, found)]

    def round(self, number: int) -> None:
        """Everyone's turn."""
        labels = list(self.live)
        first = number % max(len(labels), 1)
        for label in labels[first:] + labels[:first]:
            count = LIMIT_TURN if label == "limit" else self.counts[label]
            warm = 0 if label == "limit" else min(max(1, count // 4), MOST_WARM)
            found = self.ask(label, do="steps", count=count, warm=warm)
            if found:
                self.turns[label].append(found["median"])


def contest(
    setting: Setting, workload: Workload, contestants: Sequence[str], rounds: int
) -> list[Row]:
    """The row of a workload, and one for each further target.

    Of the mlp, there is one more with the peak memory of each process.
    """
    row = Row(workload.name, workload.text, "us", workload.target, limit=workload.limit)
    with TemporaryDirectory() as cache, ExitStack() as stack:
        entered = Contest(setting, row, stack)
        for contestant in contestants:
            entered.enter(contestant, contestant, Path(cache), workload.name)
        if workload.limit and OURS in entered.live:
            entered.enter("limit", "roofline", Path(cache), workload.limit)
        entered.check()
        for number in range(rounds):
            entered.round(number)
        _fill(row, workload, entered.turns, setting.small)
        rows = [row]
        for target in workload.more:
            rows.append(replace(row, target=target))
            _fill(rows[-1], workload, entered.turns, setting.small)
        return [*rows, _memory(entered)] if workload.name == "mlp" else rows


def _fill(row: Row, workload: Workload, turns: dict[str, list[float]], small: bool) -> None:
    limits = turns.get("limit")
    row.figures = {
        name: Figure.of([1e6 * seconds for seconds in taken])
        for name, taken in turns.items()
        if name != "limit"
    }
    ours = turns.get(OURS)
    if ours and row.best:
        row.ratio = Figure.of([a / b for a, b in zip(ours, turns[row.best], strict=True)])
    work = workload.flops or workload.moved
    if ours and limits and work:
        done = work(**(workload.small if small else workload.sizes))
        row.share = Figure.of([done / a / b for a, b in zip(ours, limits, strict=True)])


def _memory(entered: Contest) -> Row:
    target = MEMORY_TARGET if entered.setting.device == "cpu" else None  # drivers bring compilers
    row = Row("mlp_memory", "peak memory of the mlp process", "MB", target)
    for label in list(entered.live):
        found = entered.ask(label, do="memory")
        if found:
            row.figures[label] = Figure.of([found["MB"]])
    _compare(row)
    return row


def _compare(row: Row) -> None:
    if OURS in row.figures and row.best:
        row.ratio = Figure.of([row.figures[OURS].median / row.figures[row.best].median])


def first_steps(setting: Setting, contestants: Sequence[str], rounds: int) -> list[Row]:
    """The first step of the mlp in new processes: with nothing cached, and once more."""
    taken: dict[str, dict[str, list[float]]] = {kind: {} for kind in FIRST_TARGETS}
    skipped: dict[str, str] = {}
    for _ in range(rounds):
        for contestant in contestants:
            if contestant in skipped:
                continue
            with TemporaryDirectory() as cache:
                for found in taken.values():
                    try:
                        process = Process(setting, contestant, Path(cache), "mlp")
                    except Skipped as word:
                        skipped[contestant] = str(word)
                        break
                    process.close()
                    found.setdefault(contestant, []).append(process.started_s)
    rows = []
    for kind, found in taken.items():
        text = f"first step of mlp in a new process, {kind} cache"
        row = Row(f"first_step_{kind}", text, "s", FIRST_TARGETS[kind], skipped=dict(skipped))
        row.figures = {n: Figure.of(s) for n, s in found.items() if n not in skipped}
        _compare(row)
        rows.append(row)
    return rows


def limits(setting: Setting) -> dict[str, float]:
    """The machine's limits now, in GFLOP/s and GB/s, on one thread and on all."""
    found = {}
    with TemporaryDirectory() as cache:
        for limit in ("fma", "copy"):
            for variant, threads in (("one", "one_thread"), ("all", "all_threads")):
                with Process(setting, f"roofline:{variant}", Path(cache), limit) as process:
                    rates = [
                        process.ask(do="steps", count=LIMIT_TURN, warm=0)["median"]
                        for _ in range(3)
                    ]
                found[f"{limit}_{threads}"] = round(statistics.median(rates) / 1e9, 1)
    return found
