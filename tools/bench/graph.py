"""Measure what graphs cost: import, build, differentiation, optimisation, deep chains, memory.

usage: python tools/bench/graph.py [import network chain runs ...]      (all, without arguments)

Prints one line a figure, each with what was measured; `--json FILE` writes them too. Times are
medians of repeated runs within one process: compare figures of one call only.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import graphc as g
from graphc.graph import Graph
from graphc.passes import optimise
from graphc.show import show_graph

WIDTH = 8


def network(nodes: int) -> tuple[Any, list[Any]]:
    """A deep dense network of about `nodes` forward nodes (six a layer), and its variables."""
    x = g.placeholder("float32", ["batch", WIDTH], name="x")
    variables = []
    h = x
    for _ in range(nodes // 6):
        w = g.Variable(np.eye(WIDTH, dtype=np.float32))
        b = g.Variable(np.zeros(WIDTH, np.float32))
        variables += [w, b]
        h = g.nn.relu(h @ w + b)
    return g.sum(h), variables


def prepared(nodes: int) -> tuple[float, int, int]:
    """Seconds to build, differentiate and optimise, and the nodes before and after."""
    gc.collect()
    start = time.perf_counter()
    loss, variables = network(nodes)
    gradients = g.gradients(loss, variables)
    source = Graph((loss, *gradients))
    optimised = optimise(source)
    return time.perf_counter() - start, len(source.nodes), len(optimised.nodes)


def bench_network() -> dict[str, float]:
    """Linear in nodes: 20,000 against 10,000."""
    prepared(2_000)
    small, large = [], []
    for _ in range(5):
        small.append(prepared(10_000))
        large.append(prepared(20_000))
    one, two = (statistics.median(s for s, _, _ in runs) for runs in (small, large))
    _, before, after = large[0]
    return {
        "network_20000_s": two,
        "network_ratio_20000_to_10000": two / one,
        "network_us_per_source_node": 1e6 * two / before,
        "network_us_per_optimised_node": 1e6 * two / after,
        "network_source_nodes": before,
        "network_optimised_nodes": after,
    }


def bench_chain(length: int = 200_000) -> dict[str, float]:
    """A chain built, differentiated, optimised, shown and run at Python's recursion limit."""
    start = time.perf_counter()
    x = g.placeholder("float32", [4], name="x")
    y = x
    for _ in range(length // 2):
        y = g.tanh(y) + x
    [gradient] = g.gradients(g.sum(y), [x])
    built = time.perf_counter() - start
    start = time.perf_counter()
    graph = optimise(Graph((y, gradient)))
    optimised = time.perf_counter() - start
    start = time.perf_counter()
    characters = len(show_graph(graph))
    shown = time.perf_counter() - start
    start = time.perf_counter()
    with g.Session() as s:
        value = s.run(gradient, {x: np.full(4, 0.1, np.float32)})
    ran = time.perf_counter() - start
    assert np.isfinite(value).all()
    return {
        "chain_build_s": built, "chain_optimise_s": optimised, "chain_show_s": shown,
        "chain_first_run_s": ran, "chain_text_mb": characters / 1e6,
        "recursion_limit": sys.getrecursionlimit(),
    }  # fmt: skip


def grown(run: Callable[[int], Any], warm: int, count: int) -> float:
    """Megabytes by which Python's memory grew over `count` calls, after `warm` of them."""
    tracemalloc.start()  # before the warm-up, so that what it holds may be replaced
    for i in range(warm):
        run(i)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(count):
        run(i)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / 1e6


def bench_runs(count: int = 100_000) -> dict[str, float]:
    """Runs in one session, of one fetch and of fresh expressions."""
    x = g.placeholder("float32", [None, 3], name="x")
    w = g.Variable(np.ones((3, 2), np.float32), name="w")
    loss = g.mean((x @ w) ** 2)
    train = g.optim.SGD(0.001).minimize(loss)
    array = np.ones((4, 3), np.float32)
    with g.Session(seed=0) as s:
        start = time.perf_counter()
        same = grown(lambda i: s.run([loss, train], {x: array}), 1_000, count)
        seconds = time.perf_counter() - start
        fresh = grown(lambda i: s.run(loss * float(i), {x: array}), 1_000, count)
    return {
        "runs": count, "same_fetch_grown_mb": same, "fresh_fetch_grown_mb": fresh,
        "reference_step_us_traced": 1e6 * seconds / count,
    }  # fmt: skip


def bench_import() -> dict[str, float]:
    """`import graphc` in a new process: seconds, and what it leaves behind."""
    code = (
        "import time; t = time.perf_counter(); import graphc; t = time.perf_counter() - t\n"
        "import sys, threading\n"
        "print(t, threading.active_count(), 'pyopencl' in sys.modules, 'llvmlite' in sys.modules)"
    )
    times = []
    for _ in range(9):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stderr == "", done.stderr
        seconds, threads, *loaded = done.stdout.split()
        assert threads == "1" and loaded == ["False", "False"], done.stdout
        times.append(float(seconds))
    return {"import_s": statistics.median(times), "import_threads": threading.active_count()}


BENCHES: dict[str, Callable[[], dict[str, float]]] = {
    "import": bench_import, "network": bench_network, "chain": bench_chain, "runs": bench_runs,
}  # fmt: skip


def main() -> None:
    """Run the named benches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHES)}; all without")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for name in arguments.names or BENCHES:
        found = BENCHES[name]()
        figures |= found
        for figure, value in found.items():
            print(f"{figure:32} {value:,.4g}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
