"""What was measured, as plain data that JSON can hold, and what follows from it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .workloads import Target

OURS = "graphc"
TOLERANCE = 2e-3
LIKE_TIME = {"us": 1e6, "ms": 1e3, "s": 1.0}  # of a second


@dataclass
class Figure:
    """Medians over rounds, with the quarters between which half of the rounds lie."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """The figure of some rounds."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)


@dataclass
class Row:
    """One line of the table; times are in `unit`."""

    name: str
    text: str
    unit: str
    target: Target | None = None
    figures: dict[str, Figure] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    differs: list[str] = field(default_factory=list)  # contestants whose values are not graphc's
    ratio: Figure | None = None  # graphc to the quickest peer, round by round
    share: Figure | None = None  # of the machine's limit, round by round
    limit: str | None = None

    @property
    def best(self) -> str | None:
        """The peer that the target names, else the quickest one."""
        if self.target is not None and self.target.against in self.figures:
            return self.target.against
        peers = {n: f.median for n, f in self.figures.items() if n.partition(":")[0] != OURS}
        return min(peers, key=lambda name: peers[name]) if peers else None

    @property
    def verdict(self) -> str:
        """Whether the target is met: "aim", "yes", "no", or "" where nothing can be said."""
        ours, target = self.figures.get(OURS), self.target
        if ours is None or target is None:
            return ""
        if target.kind == "peak":
            return _verdict(-self.share.median, -target.must, target.aim and -target.aim) if (
                self.share
            ) else ""  # fmt: skip
        if target.kind == "peer":
            return _verdict(self.ratio.median, target.must, target.aim) if self.ratio else ""
        return _verdict(ours.median, target.must, target.aim)


def _verdict(value: float, must: float, aim: float | None) -> str:
    if aim is not None and value <= aim:
        return "aim"
    return "yes" if value <= must else "no"


@dataclass
class Results:
    """All rows, and the machine they were measured on."""

    machine: dict[str, Any]
    versions: dict[str, str]
    absent: dict[str, str]  # contestants that could not be loaded, and why
    rows: list[Row] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """As JSON, with what follows from the figures beside them."""
        plain = asdict(self)
        for row, line in zip(self.rows, plain["rows"], strict=True):
            line |= {"best": row.best, "verdict": row.verdict}
        path.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """What `write` wrote."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        return cls(**(plain | {"rows": [_row(line) for line in plain["rows"]]}))


def _row(line: dict[str, Any]) -> Row:
    known = {name: value for name, value in line.items() if name not in ("best", "verdict")}
    known["target"] = Target(**known["target"]) if known["target"] else None
    known["figures"] = {name: Figure(**figure) for name, figure in known["figures"].items()}
    for name in ("ratio", "share"):
        known[name] = Figure(**known[name]) if known[name] else None
    return Row(**known)


def agree(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """Whether two descriptions (of `measure.describe`) are of the same values."""
    return len(one) == len(other) and all(
        a["shape"] == b["shape"]
        and abs(a["rms"] - b["rms"]) <= TOLERANCE * max(abs(a["rms"]), 1e-6)
        and all(
            abs(x - y) <= TOLERANCE * max(a["rms"], 1e-6)
            for x, y in zip(a["samples"], b["samples"], strict=True)
        )
        for a, b in zip(one, other, strict=True)
    )
