"""What loops cost: `python tools/bench/loops.py [NAME ...] [--device D] [--small] [--json FILE]`.

- `empty_step`: what a step of a scan costs beside its work: the time a step of a loop that adds 1
  to a scalar; beside it, to 8 floats, that of one that reads a row and stacks one, and that of a
  small recurrent layer.
- `while_loop`: 1,000,000 trivial iterations, beside the same loop compiled by numba, in the Python
  that the variable `NUMBA` names (else this one).
- `compile_time`: building, differentiating and compiling a recurrence of 10,000 steps against one
  of 10, both with gradients.
- `lengths`: compilations and time of 20 sequence lengths through one training step.

Figures are medians of several repetitions; what is compared is interleaved. A line of
`must` says what the project demands of it.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import graphc as g

REPEATS = 9
WIDTH = 32


@dataclass(frozen=True)
class Row:
    """A figure, and what it must not exceed; `value` is None where a `word` says why."""

    name: str
    value: float | None
    unit: str
    must: float | None = None
    word: str = ""

    @property
    def text(self) -> str:
        """As the table shows it."""
        value = "-" if self.value is None else f"{self.value:,.3g} {self.unit}"
        must = "" if self.must is None else f"<= {self.must:g}"
        missed = self.must is not None and self.value is not None and self.value > self.must
        return f"{value:>14}  {must:<10}{'MISSED ' if missed else '':<7}{self.name}  {self.word}"


def seconds(work: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(works: Sequence[Callable[[], Any]], repeats: int = REPEATS) -> list[float]:
    """Seconds of each, measured in turn, each once before."""
    for work in works:
        work()
    times = [[seconds(work) for work in works] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


# ---------------------------------------------------------------------------- what is measured


def empty_step(small: bool, device: str) -> Iterable[Row]:
    """The slope of the time over the number of steps, so that what a run costs is not in it."""
    few, many = (100, 1_000) if small else (1_000, 1_000_000)
    steps = g.placeholder("int64", [], name="steps")
    counted = g.scan(lambda n: n + 1, outputs_info=g.constant(0), n_steps=steps)[-1]
    x = g.placeholder("float32", ["steps"], name="x")
    total = g.scan(lambda row, before: before + row, x, g.constant(0.0, dtype="float32"))
    vector = g.scan(lambda v: v + 1.0, outputs_info=g.zeros([8]), n_steps=steps)[-1]
    layer = g.scan(lambda v: g.tanh(v @ HIDDEN), outputs_info=g.ones([8]), n_steps=steps)[-1]
    rows = np.ones(many, np.float32)
    with g.Session(device) as session:
        count, stack = session.prepare(counted, [steps]), session.prepare(total, [x])
        wide, cell = session.prepare(vector, [steps]), session.prepare(layer, [steps])
        assert int(count(many)) == many and float(stack(rows)[-1]) == many
        works = [
            lambda: count(few), lambda: count(many), lambda: wide(few), lambda: wide(many),
            lambda: stack(rows[:few]), lambda: stack(rows),
        ]  # fmt: skip
        times = medians(works)
        yield from _slopes(EMPTY, times, many - few, 100.0)
        times = medians([lambda: cell(few), lambda: cell(10 * few)])
        yield from _slopes(("a step of a recurrent layer of 8",), times, 9 * few, None)


EMPTY = ("an empty step", "a step over 8 floats", "a step that reads a row and stacks one")
HIDDEN = np.eye(8, dtype=np.float32)


def _slopes(
    names: Sequence[str], times: Sequence[float], steps: int, must: float | None
) -> Iterable[Row]:
    """The time of a step, of the times of few and of many, in turn."""
    for name, short, long in zip(names, times[::2], times[1::2], strict=True):
        yield Row(name, 1e9 * (long - short) / steps, "ns", must)


def integers(i: Any, n: Any) -> Any:
    """A step in which a compiler may still find sums of several steps at once."""
    return i + 1, n * 3 + i


def floats(i: Any, x: Any) -> Any:
    """A step that waits for the one before, as sums of floats are made in order."""
    return i + 1, x * 0.5 + i


def while_loop(small: bool, device: str) -> Iterable[Row]:
    """Loops that a condition ends; neither has a closed form for a compiler to find."""
    most = 1_000 if small else 1_000_000
    limit = g.placeholder("int64", [], name="limit")
    with g.Session(device) as session:
        for body, start in ((integers, np.int64(1)), (floats, np.float64(1.0))):
            loop = g.while_loop(lambda i, _: i < limit, body, (np.int64(0), start))
            run = session.prepare(loop, [limit])
            name = f"while_loop, {most:,} trivial iterations of {body.__name__}"
            mine, ratio, word = _beside_numba(run, body, start, most)
            yield Row(name, 1e3 * mine, "ms")
            yield Row(f"{name}, against numba", ratio, "x", 1.3, word)


WORKER = """
from __future__ import annotations
import sys, time, numba
{source}
step = numba.njit({name})
@numba.njit
def loop(limit, x):
    i = 0
    while i < limit:
        i, x = step(i, x)
    return i, x
print(*loop({most}, {start}), numba.__version__, flush=True)
for _ in sys.stdin:
    begin = time.perf_counter()
    loop({most}, {start})
    print(time.perf_counter() - begin, flush=True)
"""


def _beside_numba(
    run: Callable[..., Any], body: Callable[..., Any], start: Any, most: int
) -> tuple[float, float | None, str]:
    """Seconds of ours, its ratio to the same loop compiled by numba in turn, and a word.

    numba runs in a process of its own, in the Python that `NUMBA` names: its LLVM is another one.
    """
    program = os.environ.get("NUMBA", sys.executable)
    text = WORKER.format(
        source=inspect.getsource(body), name=body.__name__, most=most, start=repr(start.item())
    )
    works = subprocess.PIPE
    with subprocess.Popen(
        [program, "-c", text], stdin=works, stdout=works, stderr=subprocess.DEVNULL, text=True
    ) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        answer = worker.stdout.readline().split()
        if not answer:
            return medians([functools.partial(run, most)])[0], None, f"without numba in {program}"
        assert [float(v) for v in answer[:2]] == [float(v) for v in run(most)]
        mine, theirs = [], []
        for _ in range(REPEATS):
            mine.append(seconds(functools.partial(run, most)))
            print(file=worker.stdin, flush=True)
            theirs.append(float(worker.stdout.readline()))
        worker.stdin.close()
    ours, other = statistics.median(mine), statistics.median(theirs)
    return ours, ours / other, f"numba {answer[2]}"


def recurrence(steps: Any) -> tuple[Any, list[Any]]:
    """A training step of `tanh(h W + x)` over `steps` rows, and its feeds."""
    x = g.placeholder("float32", [steps, 1, WIDTH], name="x")
    w = g.Variable(np.eye(WIDTH, dtype=np.float32) * 0.5, name="w")
    hidden = g.scan(lambda row, h: g.tanh(h @ w + row), x, g.zeros([1, WIDTH]))
    loss = g.sum(hidden[-1] ** 2)
    return [loss, g.optim.SGD(0.01).minimize(loss)], [x]


def compile_time(small: bool, device: str) -> Iterable[Row]:
    """Build, differentiate, compile and run once, less a second run; without a cache."""

    def build(steps: int) -> float:
        start = time.perf_counter()
        fetches, feeds = recurrence(steps)
        with g.Session(device) as session:
            rows = np.zeros((steps, 1, WIDTH), np.float32)
            run = session.prepare(fetches, feeds)
            run(rows)
            return time.perf_counter() - start - seconds(lambda: run(rows))

    lengths = (10, 50) if small else (10, 10_000)
    os.environ["GRAPHC_CACHE"] = "off"  # else only the first would be compiled
    for length in lengths:
        build(length)
    pairs = [[build(length) for length in lengths] for _ in range(3 if small else REPEATS)]
    short, long = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    yield Row(f"compile time at {lengths[0]} steps", 1e3 * short, "ms")
    yield Row(f"compile time at {lengths[1]:,} steps", 1e3 * long, "ms")
    yield Row("one against the other", ratio, "x", 1.05)


def lengths(small: bool, device: str) -> Iterable[Row]:
    """20 lengths through one program, then each again, against programs of one length."""
    counts = range(2, 7) if small else range(50, 1050, 50)
    fetches, feeds = recurrence("steps")
    rows = {n: np.zeros((n, 1, WIDTH), np.float32) for n in counts}
    with g.Session(device) as session:
        run = session.prepare(fetches, feeds)
        for data in rows.values():
            run(data)
        count = session.compile_report().count
        middle = list(counts)[len(counts) // 2]
        own, own_feeds = recurrence(middle)
        fixed = session.prepare(own, own_feeds)
        turn = itertools.cycle(rows.values())
        opened, alone = medians([lambda: run(rows[middle]), lambda: fixed(rows[middle])])
        [any_length] = medians([lambda: run(next(turn))], 3 * len(rows))
    yield Row(f"compilations for {len(counts)} lengths", count, "", 1)
    yield Row("an open length against the same one declared", opened / alone, "x")
    yield Row("a training step, lengths in turn", 1e3 * any_length, "ms")


FIGURES: Mapping[str, Callable[[bool, str], Iterable[Row]]] = {
    f.__name__: f for f in (empty_step, while_loop, compile_time, lengths)
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="what loops cost")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--device", default="cpu", help="what sessions run on: cpu, opencl ...")
    parser.add_argument("--small", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - set(FIGURES):
        parser.error(f"no figure {sorted(unknown)[0]!r}; there are {', '.join(FIGURES)}")
    found: list[Row] = []
    for name in asked.names or FIGURES:
        for row in FIGURES[name](asked.small, asked.device):
            row = row if asked.device == "cpu" else replace(row, must=None)
            found.append(row)
            print(row.text.rstrip(), flush=True)
    if asked.json:
        machine = {
            "processor": platform.processor() or platform.machine(), "small": asked.small,
            "device": asked.device,
        }  # fmt: skip
        rows = [asdict(row) for row in found]
        asked.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
