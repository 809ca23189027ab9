"""What sizes that change from run to run cost: `python tools/bench/sizes.py [WORKLOAD ...]`.

Three training steps are measured against the same step with all sizes declared: the open step at
that very size, at sizes that come in turn and were met before, and at 1,000 sizes that were not.
Everything is interleaved, so that figures are ratios of one run. Times are lower quartiles, as
other work on the machine disturbs a run.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import graphc as g

MANY = 1000
PAIRS = 60  # of the pairs of sizes, for a workload that takes long
LONG = 0.02  # seconds


class Steps(NamedTuple):
    """A step with an open batch, one with a declared batch, and arrays of more rows than any."""

    session: g.Session
    open: Callable[..., Any]
    fixed: Callable[..., Any]
    arrays: Sequence[Any]
    batch: int


def dense(sizes: Sequence[int], optimizer: Any) -> Callable[[Any], Any]:
    """A network of dense layers: a function from a batch size to fetches and feeds."""
    rng = np.random.default_rng(0)

    def build(batch: Any) -> Any:
        x = g.placeholder("float32", [batch, sizes[0]], name="x")
        y = g.placeholder("float32", [batch, sizes[-1]], name="y")
        hidden = x
        for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
            weights = rng.normal(0.0, 0.05, (rows, columns)).astype(np.float32)
            hidden = hidden @ g.Variable(weights) + g.Variable(np.zeros(columns, np.float32))
            hidden = hidden if i == len(sizes) - 2 else g.nn.relu(hidden)
        loss = g.mean(g.nn.softmax_cross_entropy_with_logits(y, hidden))
        return [loss, optimizer().minimize(loss)], [x, y]

    return build


def convolutions(batch: Any) -> Any:
    """A small convolution network, as `dense` gives."""
    rng = np.random.default_rng(0)

    def variable(*shape: int) -> Any:
        return g.Variable(rng.normal(0.0, 0.1, shape).astype(np.float32))

    x = g.placeholder("float32", [batch, 14, 14, 1], name="x")
    y = g.placeholder("float32", [batch, 10], name="y")
    hidden = g.nn.relu(g.nn.conv2d(x, variable(3, 3, 1, 16)) + variable(16))
    hidden = g.nn.max_pool2d(g.nn.relu(g.nn.conv2d(hidden, variable(3, 3, 16, 16))), 2)
    loss = g.mean(
        g.nn.softmax_cross_entropy_with_logits(y, hidden.reshape([-1, 400]) @ variable(400, 10))
    )
    return [loss, g.optim.SGD(0.05).minimize(loss)], [x, y]


WORKLOADS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "64-32-10 Adam": (dense([64, 32, 10], lambda: g.optim.Adam(1e-3)), 32),
    "784-512-512-10 SGD": (dense([784, 512, 512, 10], lambda: g.optim.SGD(0.1)), 128),
    "convolutions": (convolutions, 32),
}


def steps(name: str) -> Steps:
    """A workload, ready to run."""
    build, batch = WORKLOADS[name]
    session, other = g.Session(seed=0), g.Session(seed=0)  # each keeps its own variables at hand
    (fetches, feeds), (fixed, fixed_feeds) = build("batch"), build(batch)
    rng = np.random.default_rng(0)
    most = 2 * batch + MANY
    arrays = [rng.random((most, *f.shape[1:]), np.float32) for f in feeds]
    found = Steps(
        session, session.prepare(fetches, feeds), other.prepare(fixed, fixed_feeds), arrays, batch
    )
    for step in (found.open, found.fixed):
        step(*part(found, batch))
    return found


def part(steps: Steps, batch: int) -> list[Any]:
    """Feeds of a batch."""
    return [array[:batch] for array in steps.arrays]


def seconds(step: Callable[..., Any], feeds: Sequence[Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    step(*feeds)
    return time.perf_counter() - start


def quartile(times: Sequence[float]) -> float:
    """A quarter of the times are below it."""
    return statistics.quantiles(times, n=4)[0]


def same_size(steps: Steps, rounds: int) -> tuple[float, float, float]:
    """Lower quartiles: the fixed step, the open one again, and the open one after another size."""
    fixed, again, returned = [], [], []
    own, near = part(steps, steps.batch), part(steps, steps.batch + 1)
    for _ in range(rounds):
        seconds(steps.fixed, own)
        fixed.append(seconds(steps.fixed, own))
        steps.open(*near)
        returned.append(seconds(steps.open, own))
        again.append(seconds(steps.open, own))
    first, second, third = map(quartile, (fixed, again, returned))
    return first, second, third


def new_sizes(steps: Steps, pairs: int) -> tuple[float, float]:
    """Lower quartiles: the fixed step, and the mean of two open ones, of sizes around its own.

    The sizes are `batch - k` and `batch + k`, then (where that would be none) larger and larger
    ones, which are not counted; no size comes twice.
    """
    fixed, found = [], []
    for k in np.random.default_rng(1).permutation(np.arange(1, steps.batch)).tolist()[:pairs]:
        fixed.append(seconds(steps.fixed, part(steps, steps.batch)))
        two = [seconds(steps.open, part(steps, steps.batch + d)) for d in (-k, k)]
        found.append(sum(two) / 2)
    return quartile(fixed), quartile(found)


def main() -> None:
    """Measure and print."""
    for name in sys.argv[1:] or WORKLOADS:
        found = steps(name)
        slow = seconds(found.open, part(found, found.batch)) > LONG
        first, again, returned = same_size(found, PAIRS if slow else 5 * PAIRS)
        fixed, new = new_sizes(found, PAIRS)
        for batch in range(2, 2 + MANY):
            if not slow or batch % 16 == 0:
                found.open(*part(found, batch))
        counted = found.session.compile_report().count
        print(
            f"{name}, batch {found.batch}: fixed {1e6 * first:.1f} us; "
            f"open {again / first:.3f}, after another size {returned / first:.3f} "
            f"(+{1e6 * (returned - again):.1f} us), "
            f"new sizes {new / fixed:.3f} (+{1e6 * (new - fixed):.1f} us); {counted} compilation",
            flush=True,
        )


if __name__ == "__main__":
    main()
