"""What only graphc is asked: one compilation for all batch sizes, and what compiling takes.

usage: python -m contest.graphc_figures NAME [small]        (prints one line of JSON)

`BENCH_DEVICE` in the environment names the device.

It wants a process of its own with an empty cache.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import graphc as g
from graphc.runtime.opencl.platforms import choose

from .entries import WORKLOADS
from .in_graphc import stepper, training
from .workloads import weights

DEVICE = os.environ.get("BENCH_DEVICE", "cpu")
SHORT = (g.tanh, g.exp, g.sin, g.sqrt, g.log1p, g.abs, g.cos, g.sigmoid)


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def variable_batch(small: bool) -> dict[str, Any]:
    """1,000 batch sizes through one training step, and their time against a fixed shape's.

    Sizes come in pairs whose mean is the fixed one, and each pair is measured beside two fixed
    steps, so that a ratio compares as many rows.
    """
    workload = WORKLOADS["mlp"]
    sizes = workload.small if small else workload.sizes
    many = 8 if small else 1000
    middle = many // 2 + 2
    wide = workload.data(sizes | {"batch": many + 3})
    fetches, feeds = training(workload, sizes, wide, batched=True)
    session = g.Session(DEVICE, seed=0)
    run = session.prepare(fetches, list(feeds.values()))

    def feed(batch: int) -> dict[str, Any]:
        return {name: array[:batch] for name, array in wide.feeds[0].items()}

    own = feed(middle)
    first = timed(lambda: run(*own.values()))
    fixed = stepper(workload, sizes, workload.data(sizes | {"batch": middle}), "fixed")
    for _ in range(3):
        fixed(own)
    ratios, opened = [], 0.0
    distances = np.random.default_rng(0).permutation(np.arange(1, many // 2 + 1)).tolist()
    for i, distance in enumerate(distances):
        pair = [feed(middle - distance), feed(middle + distance)]
        seconds = sum(timed(lambda part=part: run(*part.values())) for part in pair)
        opened += seconds
        if i % 2 == 0:
            ratios.append(seconds / sum(timed(lambda: fixed(own)) for _ in pair))
    return {
        "compilations": [session.compile_report().count], "ratio": ratios,
        "first_s": first, "following_mean_s": opened / many,
    }  # fmt: skip


def compile_small(small: bool) -> dict[str, Any]:
    """Milliseconds of the first run of graphs of ten nodes, no two alike, in a warm process."""
    x = g.placeholder("float32", ["rows", 16], name="x")
    feed = {x: np.full((4, 16), 0.5, np.float32)}
    session = g.Session(DEVICE, seed=0)
    session.run(g.sum(x * 3.0), feed)
    taken, nodes = [], 0
    for one, other in itertools.pairwise(SHORT):
        y = g.mean(one(x * 2.0 + 1.0) * other(x) - x, axis=0)
        taken.append(1e3 * timed(functools.partial(session.run, y, feed)))
        nodes = max(nodes, session.compile_report().rows[-1].nodes)
    return {"ms": taken, "nodes": nodes}


def residual_network(blocks: int, width: int) -> Any:
    """Loss of a pre-activation bottleneck network of 3 · 3 · blocks + 2 layers, and its feeds.

    K. He, X. Zhang, S. Ren, J. Sun, "Identity mappings in deep residual networks", ECCV 2016; their
    164 layers are 18 blocks in each of three stages.
    """
    random = np.random.default_rng(0)
    x = g.placeholder("float32", ["batch", "side", "side", 3], name="x")
    labels = g.placeholder("int32", ["batch"], name="labels")

    def conv(h: Any, outputs: int, size: int, stride: int = 1) -> Any:
        filters = weights(random, size, size, int(h.shape[-1]), outputs)
        return g.nn.conv2d(h, g.Variable(filters), strides=stride, padding="SAME")

    def active(h: Any) -> Any:
        channels = int(h.shape[-1])
        scale, offset = g.Variable(np.ones(channels, "f4")), g.Variable(np.zeros(channels, "f4"))
        return g.nn.relu(g.nn.batch_norm(h, scale, offset))

    h = conv(x, width, 3)
    for stage in range(3):
        inner = width * 2**stage
        for number in range(blocks):
            stride = 2 if stage and not number else 1
            y = active(h)
            shortcut = h if number else conv(y, 4 * inner, 1, stride)
            y = conv(active(conv(y, inner, 1, stride)), inner, 3)
            h = shortcut + conv(active(y), 4 * inner, 1)
    features = g.mean(active(h), axis=(1, 2))
    w = g.Variable(weights(random, int(features.shape[-1]), 10))
    rows = g.nn.sparse_softmax_cross_entropy_with_logits(labels, features @ w)
    return g.mean(rows), x, labels


def compile_deep(small: bool) -> dict[str, Any]:
    """Seconds to build, differentiate and compile 164 layers with their gradient."""
    start = time.perf_counter()
    loss, x, labels = residual_network(1 if small else 18, 4 if small else 16)
    train = g.optim.SGD(0.01).minimize(loss)
    built = time.perf_counter() - start
    random = np.random.default_rng(0)
    pictures = random.random((2, 8 if small else 32, 8 if small else 32, 3), dtype=np.float32)
    feed = {x: pictures, labels: np.array([1, 2], np.int32)}
    session = g.Session(DEVICE, seed=0)
    first = timed(lambda: session.run([loss, train], feed))
    second = timed(lambda: session.run([loss, train], feed))
    report = session.compile_report()
    return {
        "s": [built + first - second], "built_s": built, "first_s": first, "second_s": second,
        "nodes": report.rows[-1].nodes, "compilations": report.count,
        "passes_s": report.rows[-1].seconds,
    }  # fmt: skip


def launch(small: bool) -> dict[str, Any]:
    """Microseconds that one more small kernel adds to a run, and of these the caller's own.

    The first holds what the driver's threads do for it too, and the kernel's own work.
    """
    random = np.random.default_rng(0)
    w = g.Variable(weights(random, 4, 4), name="w")
    x = g.placeholder("float32", [4, 4], name="x")
    session = g.Session(DEVICE, seed=0)
    runs, counts = [], (4, 36) if small else (100, 600)  # more than what hides behind a wait
    for count in counts:
        y = x
        for _ in range(count):
            y = y @ w
        runs.append(session.prepare(y, [x]))
    feed = weights(random, 4, 4)
    taken: dict[str, list[float]] = {"us": [], "own_us": []}
    clocks = {"us": time.perf_counter, "own_us": time.thread_time}
    for round_ in range(8 if small else 80):
        seconds = {name: [0.0, 0.0] for name in taken}
        for i, run in enumerate(runs):
            started = {name: clock() for name, clock in clocks.items()}
            run(feed)
            for name, clock in clocks.items():
                seconds[name][i] = clock() - started[name]
        for name, (few, many) in seconds.items():
            if round_ >= 2:  # compiled, and met before
                taken[name].append(max(1e6 * (many - few) / (counts[1] - counts[0]), 1e-3))
    kernels = [row.summary.get("kernels") for row in session.compile_report().rows]
    return taken | {"kernels": kernels}


def device(small: bool) -> dict[str, Any]:
    """Which device a name means: with its number, so that all contestants take the same one."""
    try:
        found = choose(DEVICE)
    except g.DeviceError as error:
        raise SystemExit(str(error)) from None
    known = found.capabilities
    return {"name": found.name, "text": f"{known.name} by {known.platform}, {known.version}"}


def build(small: bool) -> dict[str, Any]:
    """Seconds from an open session to the end of the first step of the mlp, less a second one."""
    workload = WORKLOADS["mlp"]
    sizes = workload.small if small else workload.sizes
    data = workload.data(sizes)
    fetches, feeds = training(workload, sizes, data, batched=True)
    session = g.Session(DEVICE, seed=0)
    session.run(g.constant(1.0) + g.constant(2.0))  # loads what any program loads
    run = session.prepare(fetches, list(feeds.values()))
    first = timed(lambda: run(*data.feeds[0].values()))
    return {"s": [max(first - timed(lambda: run(*data.feeds[0].values())), 1e-9)]}


def second_build(small: bool) -> dict[str, Any]:
    """What building takes in a second process, of what it took in the first one."""
    command = [sys.executable, "-m", "contest.graphc_figures", "build", *["small"] * small]
    bench = Path(__file__).resolve().parent.parent
    path = os.pathsep.join(map(str, (bench, bench.parent.parent)))
    environment = os.environ | {"PYTHONPATH": path}
    first, second = (
        json.loads(subprocess.check_output(command, env=environment, text=True))["s"]
        for _ in range(2)
    )
    return {"ratio": [second[0] / first[0]], "first_s": first[0], "second_s": second[0]}


FIGURES = {
    "variable_batch": variable_batch, "compile_small": compile_small, "compile_deep": compile_deep,
    "launch": launch, "device": device, "build": build, "second_build": second_build,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print a figure."""
    print(json.dumps(FIGURES[arguments[0]](arguments[1:] == ["small"])))


if __name__ == "__main__":
    main(sys.argv[1:])
