"""Results as a table: in the terminal, and in Markdown between two markers of a file.

Enters: `Results`. Leaves: text. Every number in the docs comes through here.
"""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from .results import OURS, Figure, Results, Row
from .workloads import Target

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
COMMAND = "python tools/bench/peers.py"
COLUMNS = (
    "what",
    "graphc",
    "quickest peer",
    "ratio",
    "of the limit",
    "target (aim)",
    "met",
    "others",
)
MARKS = {"aim": "yes, and the aim", "yes": "yes", "no": "**no**", "": ""}
COLOURS = {"aim": "bold green", "yes": "green", "no": "bold red", "": ""}
LIMITS = {"fma": "peak", "copy": "copy"}
STEPS = (("ns", 1e-3), ("µs", 1.0), ("ms", 1e3), ("s", 1e6))


def digits(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value >= 1000:
        return f"{round(value, -(len(str(int(value))) - 3)):,.0f}"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def quantity(value: float, unit: str) -> str:
    """A figure with the unit that suits it."""
    scale = {"us": 1.0, "ms": 1e3, "s": 1e6}.get(unit)
    if scale is None:
        return digits(value) + (f" {unit}" if unit == "MB" else "")
    micro = float(f"{value * scale:.3g}")
    name, size = next((s for s in reversed(STEPS) if micro >= s[1]), STEPS[0])
    return f"{digits(micro / size)} {name}"


def with_spread(figure: Figure, unit: str) -> str:
    """A median, and half the distance of its quarters in percent where it says something."""
    text = quantity(figure.median, unit)
    spread = 50 * (figure.high - figure.low) / figure.median if figure.median else 0.0
    return f"{text} ±{spread:.0f} %" if spread >= 0.5 else text


def target_text(target: Target | None) -> str:
    """What must be reached, and what is aimed at."""
    if target is None:
        return ""
    aim = target.aim
    if target.kind == "peak":
        return f"≥ {100 * target.must:.0f} %" + (f" ({100 * aim:.0f} %)" if aim else "")
    if target.kind == "peer":
        return f"≤ {target.must:g} ×" + (f" ({aim:g} ×)" if aim else "")
    unit = {"us": " µs", "count": "", "ratio": " ×"}.get(target.kind, f" {target.kind}")
    return f"≤ {target.must:g}{unit}" + (f" ({aim:g})" if aim else "")


def _notes(row: Row) -> list[str]:
    found = [f"values differ: {', '.join(row.differs)}"] if row.differs else []
    if OURS in row.skipped:
        found.append(f"graphc: {row.skipped[OURS]}")
    return found


def cells(row: Row) -> list[str]:
    """The texts of a row, without marks."""
    ours, best = row.figures.get(OURS), row.best
    others = sorted(
        (n for n in row.figures if n not in (OURS, best)), key=lambda n: row.figures[n].median
    )
    listed = ", ".join(f"{n} {quantity(row.figures[n].median, row.unit)}" for n in others)
    share = f"{100 * row.share.median:.0f} % of {LIMITS[row.limit or 'fma']}" if row.share else ""
    return [
        row.text,
        with_spread(ours, row.unit) if ours else "",
        f"{best} {with_spread(row.figures[best], row.unit)}" if best else "",
        f"{row.ratio.median:.2f}" if row.ratio else "",
        share,
        target_text(row.target),
        row.verdict,
        "; ".join(filter(None, [listed, *_notes(row)])),
    ]


def show(results: Results, console: Console) -> None:
    """Print the table."""
    console.print(heading(results), highlight=False, markup=False)
    table = Table(*COLUMNS, box=box.SIMPLE_HEAD, show_edge=False)
    for row in results.rows:
        texts = cells(row)
        colour = COLOURS[row.verdict]
        texts[6] = f"[{colour}]{texts[6]}[/]" if colour else texts[6]
        table.add_row(*texts)
    console.print(table)
    for name, word in results.absent.items():
        console.print(f"without {name}: {word}", highlight=False, markup=False)
    for row in results.rows:
        for name, word in row.skipped.items():
            console.print(f"{row.name} without {name}: {word}", highlight=False, markup=False)


def heading(results: Results) -> str:
    """The machine, its limits, and what was compared."""
    machine = results.machine
    limits = machine.get("limits", {})
    parts = [
        f"{machine['processor']}, {machine['threads']} threads, Python {machine['python']}, "
        + ", ".join(f"{name} {version}" for name, version in results.versions.items())
    ]
    if machine.get("device"):
        parts.append(f"OpenCL: {machine['device']}")
    if limits:
        parts.append(
            f"multiply-adds {limits['fma_one_thread']:,.0f} GFLOP/s on one thread and "
            f"{limits['fma_all_threads']:,.0f} on all; copying {limits['copy_one_thread']:.0f} and "
            f"{limits['copy_all_threads']:.0f} GB/s (read and written)"
        )
    if machine.get("small"):
        parts.append("Tiny sizes (--small): these figures say nothing about speed")
    return ".\n".join(parts) + "."


def markdown(results: Results, picture: str | None = None) -> str:
    """The table with its heading."""
    lines = [heading(results).replace("\n", " "), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in results.rows:
        texts = cells(row)
        texts[6] = MARKS[row.verdict]
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |")
    if results.absent:
        words = "; ".join(f"{name} ({word})" for name, word in results.absent.items())
        lines += ["", f"Without: {words}."]
    if picture:
        lines += ["", f"![times relative to graphc's]({picture})"]
    return "\n".join(lines)


def write_between(path: Path, text: str) -> None:
    """Put `text` between the markers of a file."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must have a line {BEGIN} and a line {END} after it")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
