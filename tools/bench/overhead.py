"""What a run costs beside the work of its program: `python tools/bench/overhead.py [DEVICE]`.

Without a device, programs return ready arrays at once, so that what is measured is the session's
own part: feeds, sizes, variables, results. With one ("cpu"), the program runs. Each figure is the
smallest of several repetitions, in microseconds.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import graphc as g
from graphc.dims import evaluate
from graphc.graph import Graph

REPEATS = 15
SECONDS = 0.05  # of one repetition


class ReadyProgram:
    """Returns the same new arrays in every run."""

    fresh = True

    def __init__(self, graph: Graph) -> None:
        self._roots = graph.roots
        self._ready: list[Any] | None = None

    def run(self, feeds: Sequence[Any], environment: Any) -> list[Any]:
        """Zeros, made in the first run."""
        ready = self._ready
        if ready is None:
            shapes = [[evaluate(d, environment.sizes) for d in t.shape or ()] for t in self._roots]
            self._ready = ready = [
                np.zeros(shape, t.dtype.numpy) for shape, t in zip(shapes, self._roots, strict=True)
            ]
        return ready


class ReadyDevice:
    """Compiles to programs that do nothing."""

    name = "ready"
    notes = False

    def compile(self, graph: Graph, check: str | None = None) -> ReadyProgram:
        """A program that does nothing."""
        return ReadyProgram(graph)


def microseconds(call: Callable[[], Any]) -> float:
    """The smallest time of one call."""
    timer = timeit.Timer(call)
    call()
    number = max(1, int(SECONDS / max(timer.timeit(20) / 20, 1e-7)))
    return 1e6 * min(timer.repeat(REPEATS, number)) / number


def cases(session: g.Session) -> Mapping[str, Callable[[], Any]]:
    """What is measured."""
    a = g.placeholder("float32", ["n", 4], name="a")
    b = g.placeholder("float32", [4], name="b")
    c = g.placeholder("float32", [], name="c")
    w = g.Variable(np.ones((4, 2), np.float32), name="w")
    total, product = a * 2.0 + b, a @ w
    step = g.assign_sub(w, g.gradients(g.sum(product), [w])[0] * 0.001)
    noisy = a + g.random.normal(g.shape(a))
    x, y = np.ones((8, 4), np.float32), np.ones(4, np.float32)
    pair, one, single = {a: x, b: y}, {a: x}, [[1.0, 2.0, 3.0, 4.0]]
    prepared = session.prepare(total, [a, b])
    swapped, scaled = session.prepare(total, [b, a]), session.prepare(c * 2.0, [c])
    reading = session.prepare(product, [a])
    training = session.prepare([g.sum(product), step], [a])
    sizes = [np.ones((n, 4), np.float32) for n in range(2, 1002)]
    turn = iter(range(10**9))
    return {
        "run(fetch, {a: A, b: B})": lambda: session.run(total, pair),
        "run([fetch, fetch], {a: A, b: B})": lambda: session.run([total, product], pair),
        "run({...}, {a: A, b: B})": lambda: session.run({"t": total, "p": product}, pair),
        "run(fetch of a variable, {a: A})": lambda: session.run(product, one),
        "run([loss, update], {a: A})": lambda: session.run([total, step], pair),
        "run(random fetch, {a: A})": lambda: session.run(noisy, one),
        "prepared(A, B)": lambda: prepared(x, y),
        "prepared(A), reads a variable": lambda: reading(x),
        "prepared(A), 32 sizes in turn": lambda: reading(sizes[next(turn) % 32]),
        "prepared(A), 1000 sizes in turn": lambda: reading(sizes[next(turn) % 1000]),
        "prepared(A, B) in the other order": lambda: swapped(y, x),
        "prepared(number)": lambda: scaled(0.5),
        "prepared(list)": lambda: reading(single),
        "prepared training step(A)": lambda: training(x),
    }


def main() -> None:
    """Measure and print."""
    device: Any = sys.argv[1] if len(sys.argv) > 1 else ReadyDevice()
    with g.Session(device=device) as session:
        empty = microseconds(lambda: None)
        for name, call in cases(session).items():
            print(f"{microseconds(call) - empty:8.2f} us  {name}", flush=True)


if __name__ == "__main__":
    main()
