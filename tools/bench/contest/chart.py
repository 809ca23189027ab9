"""Results as a bar chart: each contestant's time relative to graphc's, on a logarithmic axis.

It wants matplotlib (`pip install ".[bench]"`), which nothing else needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from .results import OURS, Results

COLOURS = {
    "numpy": "#4c9be8", "torch": "#e4572e", "torch:compile": "#f2a391", "jax": "#2a9d8f",
    "tf1": "#f4a51c", "tf1:xla": "#f9d38c", "pytensor": "#8e6bbf", "tinygrad": "#8c8c8c",
}  # fmt: skip
BAR, GAP = 0.9, 1.0  # of the distance between two bars
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000)
SETTINGS: Any = {
    "svg.hashsalt": OURS, "font.size": 9, "axes.spines.right": False, "axes.spines.top": False,
}  # fmt: skip


def draw(results: Results, path: Path) -> None:
    """Write the chart; the ending of `path` says as what."""
    rows = [row for row in results.rows if row.unit == "us" and row.ratio]
    with matplotlib.rc_context(SETTINGS):
        count = sum(len(row.figures) for row in rows)
        figure = Figure(figsize=(8, 1.4 + 0.15 * (count + len(rows))), layout="constrained")
        axes = figure.add_subplot()
        place, ticks, seen, ratios = 0.0, [], set(), [0.5, 2.0]
        for row in rows:
            names = [name for name in COLOURS if name in row.figures]
            ticks.append(place + (len(names) - 1) / 2)
            for name in names:
                ratio = row.figures[name].median / row.figures[OURS].median
                label = None if name in seen else name
                axes.barh(place, ratio - 1, BAR, left=1, color=COLOURS[name], label=label)
                ratios.append(ratio)
                seen.add(name)
                place += 1
            place += GAP
        axes.set_yticks(ticks, [row.name for row in rows])
        axes.set_ylim(place - GAP, -1)
        low, high = min(ratios) / 1.1, max(ratios) * 1.1
        marks = [tick for tick in TICKS if low <= tick <= high]
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_xticks(marks, [f"{tick:g} ×" for tick in marks])
        axes.minorticks_off()
        axes.axvline(1.0, color="black", linewidth=1)
        axes.set_xlabel("time of a step against graphc's: quicker to the left, slower to the right")
        if seen:
            figure.legend(loc="outside upper center", frameon=False, ncols=len(seen))
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=150, metadata=metadata)
