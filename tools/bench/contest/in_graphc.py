"""The workloads in graphc, through its public interface only.

Variants: "" prepares its step and leaves the batch open, "run" goes through `Session.run`, "fixed"
declares every size, "cpu" takes the CPU where the others take another device (BENCH_DEVICE).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

import graphc as g

from .workloads import Data, Held, Workload

VERSION = g.__version__
Names = SimpleNamespace  # of tensors: feeds and parameters together


def tiny(v: Names, sizes: dict[str, int]) -> Any:
    return (v.a * 1.0 + (v.b - 2.0) - (v.c + 3.0)) * v.d / 4.0 * 5.0


def chain_mem(v: Names, sizes: dict[str, int]) -> Any:
    return (v.x * 2.0 + 1.0) * v.x - v.x / 3.0


def chain_math(v: Names, sizes: dict[str, int]) -> Any:
    return g.tanh(v.x * 0.5 + 0.1) * g.exp(-v.x * v.x) + g.log1p(v.x * v.x)


def logreg(v: Names, sizes: dict[str, int]) -> Any:
    logits = v.x @ v.w + v.b
    fit = g.mean(g.nn.sigmoid_cross_entropy_with_logits(v.y, logits))
    return fit + 0.01 * g.sum(v.w**2)


def mlp_small(v: Names, sizes: dict[str, int]) -> Any:
    return g.mean((g.nn.relu(v.x @ v.w1 + v.b1) @ v.w2 + v.b2 - v.y) ** 2)


def mlp(v: Names, sizes: dict[str, int]) -> Any:
    hidden = g.nn.relu(v.x @ v.w1 + v.b1)
    hidden = g.nn.relu(hidden @ v.w2 + v.b2)
    return g.mean(g.nn.softmax_cross_entropy_with_logits(v.y, hidden @ v.w3 + v.b3))


def cnn(v: Names, sizes: dict[str, int]) -> Any:
    hidden = g.nn.relu(g.nn.conv2d(v.x, v.k1) + v.c1)
    hidden = g.nn.relu(g.nn.conv2d(hidden, v.k2) + v.c2)
    hidden = g.nn.max_pool2d(hidden, 2).reshape([-1, v.w1.shape[0]])
    hidden = g.nn.relu(hidden @ v.w1 + v.b1)
    return g.mean(g.nn.softmax_cross_entropy_with_logits(v.y, hidden @ v.w2 + v.b2))


def lstm(v: Names, sizes: dict[str, int]) -> Any:
    inputs = (g.nn.embedding_lookup(v.table, v.x) @ v.wx + v.bg).transpose([1, 0, 2])

    def cell(entering: Any, hidden: Any, state: Any) -> Any:
        enter, new, keep, show = g.split(entering + hidden @ v.wh, 4, 1)
        state = g.sigmoid(keep) * state + g.sigmoid(enter) * g.tanh(new)
        return [g.sigmoid(show) * g.tanh(state), state]

    start = g.zeros([g.shape(v.x)[0], sizes["width"]])
    hidden, _ = g.scan(cell, inputs, [start, start])
    logits = hidden[-1] @ v.wo + v.bo
    return g.mean(g.nn.sigmoid_cross_entropy_with_logits(v.y, logits))


def rnn(v: Names, sizes: dict[str, int]) -> Any:
    start = g.zeros([1, sizes["width"]])
    hidden = g.scan(lambda row, before: g.tanh(before @ v.w + row), v.x, start)
    return g.sum(hidden[-1] ** 2)


def block(v: Names, sizes: dict[str, int]) -> Any:
    steps, width, heads = sizes["steps"], sizes["width"], sizes["heads"]

    def split(z: Any, w: Any) -> Any:
        return (z @ w).reshape([-1, steps, heads, width // heads]).transpose([0, 2, 1, 3])

    z = g.nn.layer_norm(v.x, v.g1, v.e1)
    q, k, values = split(z, v.wq), split(z, v.wk), split(z, v.wv)
    scores = q @ k.transpose([0, 1, 3, 2]) * (width // heads) ** -0.5
    attended = (g.nn.softmax(scores) @ values).transpose([0, 2, 1, 3])
    x = v.x + attended.reshape([-1, steps, width]) @ v.wp
    x = x + g.nn.gelu(g.nn.layer_norm(x, v.g2, v.e2) @ v.w1, approximate=True) @ v.w2
    return g.mean(x**2)


def softmax(v: Names, sizes: dict[str, int]) -> Any:
    return g.sum(g.nn.softmax(v.x) * v.c)


def layer_norm(v: Names, sizes: dict[str, int]) -> Any:
    return g.sum(g.nn.layer_norm(v.x, v.scale, v.offset) * v.c)


def cross_entropy(v: Names, sizes: dict[str, int]) -> Any:
    return g.mean(g.nn.sparse_softmax_cross_entropy_with_logits(v.y, v.x))


def matmul(v: Names, sizes: dict[str, int]) -> Any:
    return v.a @ v.b


def matmul_turned(v: Names, sizes: dict[str, int]) -> Any:
    return v.a.T @ v.b


def conv(v: Names, sizes: dict[str, int]) -> Any:
    return g.nn.conv2d(v.x, v.k)


def conv_filters(v: Names, sizes: dict[str, int]) -> Any:
    return g.gradients(g.nn.conv2d(v.x, v.k), [v.k], grad_ys=[v.c])[0]


def conv_image(v: Names, sizes: dict[str, int]) -> Any:
    return g.gradients(g.nn.conv2d(v.x, v.k), [v.x], grad_ys=[v.c])[0]


FORMULAS: dict[str, Callable[[Names, dict[str, int]], Any]] = {
    "tiny": tiny, "chain_mem": chain_mem, "chain_math": chain_math, "logreg": logreg,
    "mlp_small": mlp_small, "mlp": mlp, "cnn": cnn, "lstm": lstm, "rnn": rnn,
    "block": block, "softmax": softmax, "layer_norm": layer_norm, "cross_entropy": cross_entropy,
    "matmul": matmul, "matmul_turned": matmul_turned, "conv": conv, "conv_filters": conv_filters,
    "conv_image": conv_image,
}  # fmt: skip


def placeholders(data: Data, batched: bool) -> dict[str, Any]:
    """One for each feed; the first size is the same open one for all, where it is `batched`."""
    found = {}
    for name, array in data.feeds[0].items():
        shape: list[Any] = list(array.shape)
        if batched and shape:
            shape[0] = "batch"
        found[name] = g.placeholder(array.dtype, shape, name=name)
    return found


def training(workload: Workload, sizes: dict[str, int], data: Data, batched: bool) -> Any:
    """What a step fetches, and the placeholders that it feeds."""
    feeds = placeholders(data, batched)
    parameters = {name: g.Variable(value, name=name) for name, value in data.parameters.items()}
    names = Names(**feeds, **parameters)
    value = FORMULAS[workload.formula](names, sizes)
    if data.rate is not None:
        return [value, g.optim.SGD(data.rate).minimize(value)], feeds
    if data.wrt:
        return [value, *g.gradients(value, [getattr(names, name) for name in data.wrt])], feeds
    return value, feeds


def _held(session: g.Session, value: g.Tensor) -> Callable[[dict[str, Any]], Any]:
    """Steps whose result is a variable, which stays on the device."""
    known = [int(size) for size in value.shape]
    kept = g.Variable(np.zeros(known, value.dtype.numpy), name="kept")
    run = session.prepare(g.assign(kept, value), [])

    def step(feed: dict[str, Any]) -> Any:
        run()
        return [Held(lambda: session.get(kept))]

    return step


def stepper(
    workload: Workload, sizes: dict[str, int], data: Data, variant: str
) -> Callable[[dict[str, Any]], Any]:
    """A function of one feed that does a step."""
    batched = workload.batched and variant != "fixed"
    fetches, feeds = training(workload, sizes, data, batched)
    device = "cpu" if variant == "cpu" else os.environ.get("BENCH_DEVICE", "cpu")
    session = g.Session(device, seed=0)
    if data.held:
        return _held(session, fetches)
    if variant == "run" or workload.name == "tiny_run":
        return lambda feed: session.run(fetches, {feeds[name]: feed[name] for name in feeds})
    run = session.prepare(fetches, list(feeds.values()))
    return lambda feed: run(*feed.values())
