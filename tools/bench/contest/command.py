"""The command: who takes part, what is measured, and where it goes."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from . import machine
from .entries import OPENCL_ENTRIES, OPENCL_TARGETS, WORKLOADS
from .processes import (
    BENCH,
    FRAMEWORKS,
    OPENCL_FRAMEWORKS,
    ROOT,
    Setting,
    Skipped,
    last_line,
    version,
)  # fmt: skip
from .results import OURS, Figure, Results, Row
from .rounds import contest, first_steps, limits
from .table import markdown, show, write_between
from .workloads import Target

DOCS = (ROOT / "README.md", ROOT / "docs" / "performance.md")
OPENCL_DOCS = (ROOT / "docs" / "opencl.md",)
FIRST_STEP_ROUNDS = 5
ALONE = {  # rows that only graphc has: name, key in what is told, text, unit, target
    "variable_batch": [
        ("compilations", "compilations for 1,000 batch sizes of the mlp", "count",
         Target("count", 1)),
        ("ratio", "mlp with an open batch against a fixed one", "ratio", Target("ratio", 1.15)),
    ],
    "compile_small": [
        ("ms", "a graph of ten nodes, compiled cold in a warm process", "ms",
         Target("ms", 20, 5)),
    ],
    "compile_deep": [
        ("s", "164-layer residual network with gradient, built and compiled cold", "s",
         Target("s", 15, 5)),
    ],
    "launch": [
        ("us", "one more small kernel in a run", "us", Target("us", 15, 5)),
        ("own_us", "one more small kernel: the calling thread", "us", Target("us", 15, 5)),
    ],
    "second_build": [
        ("ratio", "build time of the mlp in a second process, to the first one's", "ratio",
         Target("ratio", 0.25, 0.10)),
    ],
}  # fmt: skip
OPENCL_NAMES = (*(entry.name for entry in OPENCL_ENTRIES), *OPENCL_TARGETS, "launch",
                "second_build")  # fmt: skip
NAMES = (*WORKLOADS, "first_step", *ALONE)
CPU_NAMES = tuple(n for n in NAMES if n not in OPENCL_NAMES or n in OPENCL_TARGETS)


def told_by(setting: Setting, name: str) -> dict[str, Any]:
    """What `graphc_figures` tells in a process with an empty cache; Skipped with its last word."""
    python = setting.pythons.get(OURS, sys.executable)
    command = [python, "-m", "contest.graphc_figures", name, *["small"] * setting.small]
    with TemporaryDirectory() as cache:
        environment = setting.environment(OURS, Path(cache))
        try:
            done = subprocess.run(
                command, cwd=BENCH, env=environment, capture_output=True, text=True,
                timeout=setting.patience,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Skipped(f"no answer in {setting.patience:g} s") from None
    if done.returncode:
        raise Skipped(last_line(done.stderr))
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def alone(setting: Setting, name: str) -> list[Row]:
    """Rows of graphc alone."""
    told, word, rows = {}, "", []
    try:
        told = told_by(setting, name)
    except Skipped as error:
        word = str(error)
    for key, text, unit, target in ALONE[name]:
        row = Row(f"{name}_{key}" if len(ALONE[name]) > 1 else name, text, unit, target)
        if word:
            row.skipped[OURS] = word
        else:
            row.figures[OURS] = Figure.of(told[key])
        rows.append(row)
    return rows


def measure(
    setting: Setting,
    peers: Sequence[str],
    names: Sequence[str],
    rounds: int,
    say: Callable[..., Any],
) -> Results:
    """Everything that was asked for, row by row."""
    versions, absent = {}, {}
    with TemporaryDirectory() as cache:
        for contestant in (OURS, *peers):
            try:
                versions[contestant] = version(setting, contestant, Path(cache))
            except (Skipped, OSError) as word:
                absent[contestant] = str(word)
                say(f"without {contestant}: {word}")
    present = list(versions)
    on_cpu = setting.device.partition(":")[0] != "opencl"
    known = machine.describe() | {
        "limits": limits(setting) if on_cpu else {}, "small": setting.small,
        "device": "" if on_cpu else told_by(setting, "device")["text"],
    }  # fmt: skip
    results = Results(known, versions, absent)
    for name in names:
        say(f"{name} ...")
        if name in ALONE:
            if OURS in versions:
                results.rows += alone(setting, name)
        elif name == "first_step":
            results.rows += first_steps(setting, present, min(rounds, FIRST_STEP_ROUNDS))
        else:
            chosen = [n for n in present if name != "tiny_run" or n.partition(":")[0] != "numpy"]
            workload = WORKLOADS[name]
            if not on_cpu:
                target = OPENCL_TARGETS.get(name, workload.target)
                workload = replace(workload, target=target, limit=None)
            results.rows += contest(setting, workload, chosen, rounds)
    return results


def _chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    names = [name for name in text.split(",") if name and name != "none"]
    for name in names:
        if name not in known:
            raise SystemExit(f"no {what} {name!r}; there are {', '.join(known)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="peers.py", description="Time graphc and its peers side by side.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="workloads: " + ", ".join(NAMES),
    )  # fmt: skip
    add = parser.add_argument
    add(
        "--device",
        default="cpu",
        metavar="NAME",
        help='of graphc, as Session takes it; with "opencl" the rows and peers are other ones',
    )
    add("--peers", help=f'default: {",".join(FRAMEWORKS)}; with OpenCL: '
        f'{",".join(OPENCL_FRAMEWORKS)}; "none" for none')  # fmt: skip
    add("--workloads", metavar="NAMES", help="default: all that are meant for the device")
    add("--repeats", type=int, default=9, metavar="N", help="rounds; default: %(default)s")
    add("--python", action="append", default=[], metavar="FRAMEWORK=PROGRAM",
        help="the Python that has a framework, e.g. torch=/opt/torch/bin/python")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--chart", type=Path, metavar="FILE", help="draw them (.svg, .png, .pdf)")
    add("--markdown", type=Path, nargs="*", metavar="FILE",
        help="write the table between the markers of these files; where none is named, "
        "README.md and docs/performance.md, or of an OpenCL device docs/opencl.md")  # fmt: skip
    add("--load", type=Path, metavar="FILE", help="take figures from a JSON file; measure nothing")
    add("--small", action="store_true", help="tiny sizes, to see whether all of it works")
    add("--patience", type=float, default=600.0, metavar="SECONDS", help="for any one answer")
    return parser


def _pythons(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, program = pair.partition("=")
        if not equals:
            raise SystemExit(f"--python takes FRAMEWORK=PROGRAM, got {pair!r}")
        found[name] = program
    return found


def _draw(results: Results, path: Path) -> None:
    try:
        chart = importlib.import_module(".chart", __package__)
    except ImportError as error:
        raise SystemExit(f'{error}: the chart needs pip install ".[bench]"') from None
    chart.draw(results, path)


def _with_number(setting: Setting) -> Setting:
    try:
        return replace(setting, device=told_by(setting, "device")["name"])
    except Skipped as word:
        raise SystemExit(str(word)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 if a contestant's values differ from graphc's."""
    options = _parser().parse_args(arguments)
    on_cpu = options.device.partition(":")[0] != "opencl"
    frameworks, usual = (FRAMEWORKS, CPU_NAMES) if on_cpu else (OPENCL_FRAMEWORKS, OPENCL_NAMES)
    everyone = (*FRAMEWORKS, *OPENCL_FRAMEWORKS)
    peers = list(frameworks) if options.peers is None else _chosen(options.peers, everyone, "peer")
    names = (
        list(usual) if options.workloads is None else _chosen(options.workloads, NAMES, "workload")
    )
    if options.load:
        results = Results.read(options.load)
    else:
        console = Console(stderr=True, highlight=False, markup=False)
        setting = Setting(_pythons(options.python), options.patience, options.small, options.device)
        if not on_cpu:
            setting = _with_number(setting)
        results = measure(setting, peers, names, options.repeats, console.print)
    if options.json:
        results.write(options.json)
    show(results, Console(width=None if sys.stdout.isatty() else 200))
    if options.chart:
        _draw(results, options.chart)
    if options.markdown is not None:
        if results.machine.get("small"):
            raise SystemExit("figures of --small sizes say nothing: they go into no document")
        for path in options.markdown or (OPENCL_DOCS if results.machine.get("device") else DOCS):
            picture = options.chart and os.path.relpath(options.chart, path.parent)
            write_between(path, markdown(results, picture))
    return int(any(row.differs for row in results.rows))
