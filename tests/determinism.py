"""Workloads whose results must not depend on threads, in a process that believes in N cores.

`python -m tests.determinism 16 1 2 16` prints, as JSON, digests of each workload's results for each
of these limits of threads, by what a process with 16 cores computes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import graphc as g
from graphc.graph import Tensor
from graphc.runtime.cpu import target, threads

SIZES = ((1, 70001, 1), (10, 40000, 10), (33, 9001, 40), (130, 600, 70), (1, 500, 900))
Made = tuple[list[Any], dict[Tensor, Any], list[Any]]  # fetches, feeds, variables to look at


def drawn(*shape: int, seed: int = 0, dtype: str = "float32") -> Any:
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def weights(*shape: int, seed: int) -> Any:
    """A variable that starts small."""
    return g.Variable(drawn(*shape, seed=seed) / np.float32(np.sqrt(np.prod(shape[:-1]))))


def network() -> Made:
    """A training step of a convolutional network, with dropout."""
    x, labels = g.placeholder("float32", ["n", 14, 14, 3]), g.placeholder("int64", ["n"])
    w1, w2, w3 = (
        weights(3, 3, 3, 16, seed=1),
        weights(3, 3, 16, 24, seed=2),
        weights(864, 10, seed=3),
    )
    b1 = g.Variable(np.zeros(16, np.float32))
    hidden = g.nn.max_pool2d(g.nn.relu(g.nn.conv2d(x, w1, padding="SAME") + b1), 2)
    hidden = g.nn.relu(g.nn.conv2d(hidden, w2, padding="SAME", strides=1))
    flat = g.reshape(hidden[:, :6, :6], (-1, 864))
    logits = g.nn.dropout(flat, rate=0.3) @ w3
    loss = g.mean(g.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    step = g.optim.Adam(0.01).minimize(loss)
    rng = np.random.default_rng(9)
    feeds = {x: drawn(67, 14, 14, 3), labels: rng.integers(0, 10, 67)}
    return [loss, step], feeds, [w1, b1, w2, w3]


def block() -> Made:
    """A training step of a transformer's block."""
    x = g.placeholder("float32", ["b", "t", 48])
    wq, wk, wv, wo = (weights(48, 4, 12, seed=seed) for seed in range(4))
    up, down = weights(48, 96, seed=5), weights(96, 48, seed=6)

    def normal(y: Tensor) -> Tensor:
        centred = y - g.mean(y, -1, keepdims=True)
        return centred * g.rsqrt(g.mean(g.square(centred), -1, keepdims=True) + 1e-5)

    q, k, v = (g.einsum("btc,chd->bthd", normal(x), w) for w in (wq, wk, wv))
    scores = g.nn.softmax(g.einsum("bqhd,bkhd->bhqk", q, k) * 0.3)
    mixed = g.einsum("bhqk,bkhd->bqhd", scores, v)
    y = x + g.einsum("bqhd,chd->bqc", mixed, wo)
    y = y + g.nn.gelu(normal(y) @ up) @ down
    loss = g.mean(g.square(y))
    step = g.optim.SGD(0.1, momentum=0.9).minimize(loss)
    return [loss, step], {x: drawn(5, 37, 48)}, [wq, wk, wv, wo, up, down]


def rows() -> Made:
    """Softmax, layer norm and cross entropy of many rows, with gradients."""
    x, labels = g.placeholder("float32", [None, None]), g.placeholder("int64", [None])
    entropy = g.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
    soft = g.nn.softmax(x * 2.0)
    feeds = {x: drawn(513, 301), labels: np.random.default_rng(1).integers(0, 301, 513)}
    wanted = [entropy, soft, g.mean(entropy), g.var(x, -1), g.logsumexp(x, 0)]
    return [*wanted, g.gradients(g.mean(entropy) + g.sum(soft * soft), x)], feeds, []


def reductions() -> Made:
    """Large sums over all, over rows and over columns, and cumulative ones."""
    x = g.placeholder("float32", [None, None])
    wanted: list[Any] = [
        f(x, axis) for f in (g.sum, g.mean, g.max, g.std, g.logsumexp) for axis in (None, 0, 1)
    ]
    wanted += [g.cumsum(x, 0), g.cumsum(x, 1), g.argmax(x), g.prod(x * 0.1 + 1.0), g.sort(x)]
    return wanted, {x: drawn(1501, 777)}, []


def deep() -> Made:
    """Products with few elements and long sums, whose sums are split."""
    wanted: list[Any] = []
    feeds: dict[Tensor, Any] = {}
    for dtype in ("float32", "float64"):
        for m, k, n in [
            (1, 70001, 1),
            (10, 40000, 10),
            (33, 9001, 40),
            (130, 600, 70),
            (1, 500, 900),
        ]:
            x, y = g.placeholder(dtype, [None, None]), g.placeholder(dtype, [None, None])
            wanted += [x @ y, g.sum(g.nn.relu(x @ y), 0)]
            feeds |= {x: drawn(m, k, dtype=dtype), y: drawn(k, n, seed=1, dtype=dtype)}
    return wanted, feeds, []


def scattered() -> Made:
    """Gradients that several elements add to."""
    table, i = g.placeholder("float32", [None, None]), g.placeholder("int64", [None])
    taken = g.take(table, i, axis=0)
    feeds = {table: drawn(300, 40), i: np.random.default_rng(3).integers(0, 300, 20000)}
    return [g.sum(taken), g.gradients(g.sum(taken * taken), table)], feeds, []


WORKLOADS: tuple[Callable[[], Made], ...] = (network, block, rows, reductions, deep, scattered)


def digests(made: Made, limit: int) -> list[str]:
    """Of each result of two steps, and of the variables after them."""
    fetches, feeds, variables = made
    with g.Session(threads=limit, seed=5) as session:
        arrays = [a for _ in range(2) for a in session.run(fetches, feeds) if a is not None]
        arrays += [session.run(variable) for variable in variables]
    return [hashlib.sha256(np.asarray(a).tobytes()).hexdigest()[:16] for a in arrays]


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Let graphc find this many; the process must not have asked before."""
    before = target.thread_count, threads.thread_count
    target.thread_count = threads.thread_count = lambda *_: count
    try:
        yield
    finally:
        target.thread_count, threads.thread_count = before


def main() -> None:
    """Print the digests."""
    count, *limits = map(int, sys.argv[1:])
    with cores(count):
        print(
            json.dumps(
                {build.__name__: [digests(build(), n) for n in limits] for build in WORKLOADS}
            )
        )
    assert threads.pool().threads == count


if __name__ == "__main__":
    main()
