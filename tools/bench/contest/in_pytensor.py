"""The workloads in PyTensor, which carries Theano on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytensor
from pytensor import tensor as pt

from .workloads import Data, Unsupported, Workload

VERSION = pytensor.__version__
Names = SimpleNamespace


def number(value: float) -> Any:
    """A constant that leaves float32 as it is."""
    return pt.constant(np.float32(value))


def _sigmoid_cross_entropy(logits: Any, labels: Any) -> Any:
    return pt.maximum(logits, 0) - logits * labels + pt.log1p(pt.exp(-abs(logits)))


def _cross_entropy(logits: Any, labels: Any) -> Any:
    return -(pt.special.log_softmax(logits, axis=1) * labels).sum(1).mean()


def _layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred / pt.sqrt(variance + number(1e-5)) * scale + offset


def tiny(v: Names, sizes: dict[str, int]) -> Any:
    left = v.a * number(1) + (v.b - number(2)) - (v.c + number(3))
    return left * v.d / number(4) * number(5)


def chain_mem(v: Names, sizes: dict[str, int]) -> Any:
    return (v.x * number(2) + number(1)) * v.x - v.x / number(3)


def chain_math(v: Names, sizes: dict[str, int]) -> Any:
    left = pt.tanh(v.x * number(0.5) + number(0.1)) * pt.exp(-v.x * v.x)
    return left + pt.log1p(v.x * v.x)


def logreg(v: Names, sizes: dict[str, int]) -> Any:
    fit = _sigmoid_cross_entropy(pt.dot(v.x, v.w) + v.b, v.y).mean()
    return fit + number(0.01) * (v.w**2).sum()


def mlp_small(v: Names, sizes: dict[str, int]) -> Any:
    hidden = pt.maximum(pt.dot(v.x, v.w1) + v.b1, 0)
    return ((pt.dot(hidden, v.w2) + v.b2 - v.y) ** 2).mean()


def mlp(v: Names, sizes: dict[str, int]) -> Any:
    hidden = pt.maximum(pt.dot(v.x, v.w1) + v.b1, 0)
    hidden = pt.maximum(pt.dot(hidden, v.w2) + v.b2, 0)
    return _cross_entropy(pt.dot(hidden, v.w3) + v.b3, v.y)


def lstm(v: Names, sizes: dict[str, int]) -> Any:
    width = sizes["width"]
    inputs = (pt.dot(v.table[v.x], v.wx) + v.bg).dimshuffle(1, 0, 2)

    def cell(entering: Any, hidden: Any, state: Any, recurrent: Any) -> Any:
        gates = entering + pt.dot(hidden, recurrent)
        enter, new, keep, show = (gates[:, i * width : (i + 1) * width] for i in range(4))
        state = pt.sigmoid(keep) * state + pt.sigmoid(enter) * pt.tanh(new)
        return pt.sigmoid(show) * pt.tanh(state), state

    start = pt.zeros((sizes["batch"], width), dtype="float32")
    hidden, _ = pytensor.scan(
        cell, sequences=inputs, outputs_info=[start, start], non_sequences=[v.wh],
        return_updates=False,
    )  # fmt: skip
    return _sigmoid_cross_entropy(pt.dot(hidden[-1], v.wo) + v.bo, v.y).mean()


def rnn(v: Names, sizes: dict[str, int]) -> Any:
    hidden = pytensor.scan(
        lambda row, hidden, w: pt.tanh(pt.dot(hidden, w) + row), sequences=v.x,
        outputs_info=pt.zeros((1, sizes["width"]), dtype="float32"), non_sequences=[v.w],
        return_updates=False,
    )  # fmt: skip
    return (hidden[-1] ** 2).sum()


def block(v: Names, sizes: dict[str, int]) -> Any:
    batch, steps, width, heads = (sizes[s] for s in ("batch", "steps", "width", "heads"))

    def split(z: Any, w: Any) -> Any:
        apart = pt.dot(z, w).reshape((batch, steps, heads, width // heads))
        return apart.transpose(0, 2, 1, 3)

    z = _layer_norm(v.x, v.g1, v.e1)
    q, k, values = split(z, v.wq), split(z, v.wk), split(z, v.wv)
    scores = pt.matmul(q, k.transpose(0, 1, 3, 2)) * number((width // heads) ** -0.5)
    attended = pt.matmul(pt.special.softmax(scores, axis=-1), values).transpose(0, 2, 1, 3)
    x = v.x + pt.dot(attended.reshape((batch, steps, width)), v.wp)
    hidden = pt.dot(_layer_norm(x, v.g2, v.e2), v.w1)
    inner = number(0.7978845608) * (hidden + number(0.044715) * hidden * hidden * hidden)
    x = x + pt.dot(number(0.5) * hidden * (number(1) + pt.tanh(inner)), v.w2)
    return (x * x).mean()


def softmax(v: Names, sizes: dict[str, int]) -> Any:
    return (pt.special.softmax(v.x, axis=1) * v.c).sum()


def layer_norm(v: Names, sizes: dict[str, int]) -> Any:
    return (_layer_norm(v.x, v.scale, v.offset) * v.c).sum()


def cross_entropy(v: Names, sizes: dict[str, int]) -> Any:
    rows = pt.special.log_softmax(v.x, axis=1)
    return -rows[np.arange(sizes["rows"]), v.y].mean()


def matmul(v: Names, sizes: dict[str, int]) -> Any:
    return pt.dot(v.a, v.b)


def matmul_turned(v: Names, sizes: dict[str, int]) -> Any:
    return pt.dot(v.a.T, v.b)


FORMULAS: dict[str, Callable[[Names, dict[str, int]], Any]] = {
    f.__name__: f
    for f in (
        tiny, chain_mem, chain_math, logreg, mlp_small, mlp, lstm, rnn, block, softmax,
        layer_norm, cross_entropy, matmul, matmul_turned,
    )
}  # fmt: skip


def stepper(
    workload: Workload, sizes: dict[str, int], data: Data, variant: str
) -> Callable[[dict[str, Any]], Any]:
    """A function of one feed that does a step."""
    if workload.formula not in FORMULAS:
        raise Unsupported("PyTensor has no convolution of this layout")
    pytensor.config.floatX = "float32"
    parameters = {name: pytensor.shared(value, name) for name, value in data.parameters.items()}
    feeds = {n: pt.tensor(n, dtype=a.dtype, shape=a.shape) for n, a in data.feeds[0].items()}
    names = Names(**feeds, **parameters)
    value = FORMULAS[workload.formula](names, sizes)
    outputs, updates = value, []
    if data.rate is not None:
        gradients = pytensor.grad(value, list(parameters.values()))
        pairs = zip(parameters.values(), gradients, strict=True)
        updates = [(p, p - number(data.rate) * gradient) for p, gradient in pairs]
    elif data.wrt:
        outputs = [value, *pytensor.grad(value, [getattr(names, name) for name in data.wrt])]
    run = pytensor.function(list(feeds.values()), outputs, updates=updates)
    return lambda feed: run(*feed.values())
