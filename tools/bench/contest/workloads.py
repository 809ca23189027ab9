"""What is timed, without any framework: data, parameters, arithmetic, targets.

Enters: a name from `WORKLOADS`. Leaves: a `Workload`, the same numbers in every process, because
each name seeds a generator of its own. What a step computes is told by `formula`; each `in_*.py`
says the same formulas in its framework.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Generator = np.random.Generator


class Unsupported(Exception):
    """A framework cannot say this workload; the text says why."""


@dataclass(frozen=True)
class Data:
    """The arrays of a workload, and what a step does with them.

    A step takes one of `feeds`, in turn. With a learning `rate` it gives the loss and moves all
    parameters by stochastic gradient descent; with `wrt` it gives the loss and its gradients with
    respect to these feeds and parameters; else it gives the formula's value. What is `held` stays
    where it was computed: a step ends when it is there, and gives a `Held`.
    """

    feeds: tuple[dict[str, Array], ...]
    parameters: dict[str, Array]
    rate: float | None = None
    wrt: tuple[str, ...] = ()
    held: bool = False


@dataclass(frozen=True)
class Held:
    """A value that is fetched from its device when it is asked for."""

    fetch: Callable[[], Any]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self.fetch(), dtype)


@dataclass(frozen=True)
class Target:
    """What graphc must reach, and aims at.

    `kind`: "peer" (time at most this share of the quickest peer's), "peak" (at least this share of
    the multiply-add peak), "us", "s", "ms", "MB", "ratio", "count" (at most that much).
    """

    kind: str
    must: float
    aim: float | None = None
    against: str | None = None  # of kind "peer": this one, instead of the quickest


@dataclass(frozen=True)
class Workload:
    """A row of the table: how to make its data, and what it is held against."""

    name: str
    text: str
    formula: str
    make: Callable[..., Data]
    sizes: dict[str, int]
    small: dict[str, int]  # for tests
    target: Target | None = None
    batched: bool = True  # graphc leaves the first size of every feed open
    flops: Callable[..., float] | None = None  # of a step, from its sizes
    moved: Callable[..., float] | None = None  # bytes that a step must read and write
    limit: str | None = field(default=None)  # of the machine, measured beside: "fma" or "copy"
    more: tuple[Target, ...] = ()  # the same figures, held against others: a row for each

    def data(self, sizes: dict[str, int]) -> Data:
        """The arrays; the same ones for the same name and sizes, wherever this runs."""
        return self.make(np.random.default_rng(zlib.crc32(self.formula.encode())), **sizes)


def normal(random: Generator, *shape: int) -> Array:
    """Standard normal numbers."""
    return random.standard_normal(shape, dtype=np.float32)


def weights(random: Generator, *shape: int, gain: float = 1.0) -> Array:
    """Normal numbers of Glorot's deviation."""
    deviation = np.float32(gain * np.sqrt(2.0 / (shape[0] + shape[-1])))
    return normal(random, *shape) * deviation


def zeros(*shape: int) -> Array:
    """Zeros."""
    return np.zeros(shape, np.float32)


def one_hot(random: Generator, count: int, classes: int) -> Array:
    """Rows with a 1 in a random place."""
    rows: Array = np.eye(classes, dtype=np.float32)[random.integers(0, classes, count)]
    return rows


def make_tiny(random: Generator) -> Data:
    """Scalars and 2x2 matrices."""
    a, b, c, d = (np.full((2, 2), value, np.float32) for value in (1, 2, 5, 3))
    return Data(({"a": a, "b": b},), {"c": c, "d": d})


def make_chain(random: Generator, elements: int) -> Data:
    """One long vector."""
    return Data(({"x": normal(random, elements)},), {})


def make_held_chain(random: Generator, elements: int) -> Data:
    """One long vector that the framework holds, as it does the result."""
    return Data(({},), {"x": normal(random, elements)}, held=True)


def make_held_matmul(random: Generator, m: int, k: int, n: int) -> Data:
    """Two matrices that the framework holds, as it does their product."""
    return replace(make_matmul(random, m, k, n), held=True)


def make_logreg(random: Generator, batch: int, features: int) -> Data:
    """A full batch with labels 0 and 1."""
    labels = random.integers(0, 2, batch).astype(np.float32)
    feed = {"x": normal(random, batch, features), "y": labels}
    return Data((feed,), {"w": normal(random, features), "b": zeros()}, rate=0.1)


def make_mlp_small(random: Generator, batch: int, features: int, hidden: int) -> Data:
    """A regression with one hidden layer."""
    feeds = tuple(
        {"x": normal(random, batch, features), "y": normal(random, batch, 1)} for _ in range(4)
    )
    first, second = weights(random, features, hidden), weights(random, hidden, 1)
    parameters = {"w1": first, "b1": zeros(hidden), "w2": second, "b2": zeros(1)}
    return Data(feeds, parameters, rate=0.05)


def make_mlp(random: Generator, batch: int, features: int, hidden: int, classes: int) -> Data:
    """A classifier with two hidden layers."""
    feeds = tuple(
        {"x": normal(random, batch, features), "y": one_hot(random, batch, classes)}
        for _ in range(4)
    )
    parameters = {}
    widths = (features, hidden, hidden, classes)
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
        parameters[f"w{layer}"] = weights(random, inputs, outputs)
        parameters[f"b{layer}"] = zeros(outputs)
    return Data(feeds, parameters, rate=0.05)


def make_cnn(random: Generator, batch: int, side: int, channels: int, hidden: int) -> Data:
    """Pictures for two 3x3 convolutions, a 2x2 pooling and two dense layers."""
    feeds = tuple(
        {
            "x": random.random((batch, side, side, 1), dtype=np.float32),
            "y": one_hot(random, batch, 10),
        }
        for _ in range(2)
    )
    pooled = (side - 4) // 2
    parameters = {
        "k1": weights(random, 3, 3, 1, channels, gain=0.5), "c1": zeros(channels),
        "k2": weights(random, 3, 3, channels, channels, gain=0.3), "c2": zeros(channels),
        "w1": weights(random, pooled * pooled * channels, hidden), "b1": zeros(hidden),
        "w2": weights(random, hidden, 10), "b2": zeros(10),
    }  # fmt: skip
    return Data(feeds, parameters, rate=0.05)


def make_lstm(random: Generator, batch: int, steps: int, width: int, words: int) -> Data:
    """Sentences, of which one bit is to be said."""
    feeds = tuple(
        {
            "x": random.integers(0, words, (batch, steps)).astype(np.int32),
            "y": random.integers(0, 2, (batch, 1)).astype(np.float32),
        }
        for _ in range(2)
    )
    parameters = {
        "table": normal(random, words, width) * np.float32(0.05),
        "wx": weights(random, width, 4 * width), "wh": weights(random, width, 4 * width),
        "bg": zeros(4 * width), "wo": weights(random, width, 1), "bo": zeros(1),
    }  # fmt: skip
    return Data(feeds, parameters, rate=0.05)


def make_rnn(random: Generator, steps: int, width: int) -> Data:
    """One long sequence of short vectors."""
    x = normal(random, steps, 1, width) * np.float32(0.1)
    return Data(({"x": x},), {"w": weights(random, width, width, gain=0.5)}, rate=0.01)


def make_block(random: Generator, batch: int, steps: int, width: int, heads: int) -> Data:
    """A transformer's block."""
    square = {name: weights(random, width, width) for name in ("wq", "wk", "wv", "wp")}
    parameters = square | {
        "w1": weights(random, width, 4 * width), "w2": weights(random, 4 * width, width),
        "g1": np.ones(width, np.float32), "e1": zeros(width),
        "g2": np.ones(width, np.float32), "e2": zeros(width),
    }  # fmt: skip
    return Data(({"x": normal(random, batch, steps, width)},), parameters, rate=0.01)


def make_softmax(random: Generator, rows: int, columns: int) -> Data:
    """Rows, and weights for the sum of what softmax makes of them."""
    feed = {"x": normal(random, rows, columns), "c": normal(random, rows, columns)}
    return Data((feed,), {}, wrt=("x",))


def make_layer_norm(random: Generator, rows: int, columns: int) -> Data:
    """Rows, and weights for the sum of what layer norm makes of them."""
    feed = {"x": normal(random, rows, columns), "c": normal(random, rows, columns)}
    parameters = {"scale": np.ones(columns, np.float32), "offset": zeros(columns)}
    return Data((feed,), parameters, wrt=("x", "scale", "offset"))


def make_cross_entropy(random: Generator, rows: int, columns: int) -> Data:
    """Logits, and a class number for each row."""
    labels = random.integers(0, columns, rows).astype(np.int32)
    return Data(({"x": normal(random, rows, columns), "y": labels},), {}, wrt=("x",))


def make_matmul(random: Generator, m: int, k: int, n: int) -> Data:
    """Two matrices that the framework holds."""
    return Data(({},), {"a": normal(random, m, k), "b": normal(random, k, n)})


def make_matmul_turned(random: Generator, m: int, k: int, n: int) -> Data:
    """Two matrices, the left one stored transposed."""
    return Data(({},), {"a": normal(random, k, m), "b": normal(random, k, n)})


def make_conv(random: Generator, batch: int, side: int, channels: int) -> Data:
    """Pictures, 3x3 filters, and a cotangent of the convolution's value."""
    shape = (batch, side - 2, side - 2, channels)
    parameters = {
        "x": normal(random, batch, side, side, channels),
        "k": weights(random, 3, 3, channels, channels),
        "c": normal(random, *shape),
    }
    return Data(({},), parameters)
