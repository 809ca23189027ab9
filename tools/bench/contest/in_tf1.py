"""The workloads in TensorFlow 1's way: placeholders, variables, Session.run.

XLA (variant "xla") is asked for in the environment, before TensorFlow is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.compat.v1 import nn

from .workloads import Data, Workload

VERSION = tensorflow.__version__
Names = SimpleNamespace


def _dense(x: Any, w: Any) -> Any:
    """`x @ w` of a matrix and an `x` with three axes."""
    _, steps, width = x.shape
    return tf.reshape(tf.matmul(tf.reshape(x, [-1, width]), w), [-1, steps, w.shape[1]])


def _layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    mean, variance = nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * scale + offset


def _cross_entropy(logits: Any, labels: Any) -> Any:
    rows = nn.softmax_cross_entropy_with_logits_v2(logits=logits, labels=labels)
    return tf.reduce_mean(rows)


def _sigmoid_cross_entropy(logits: Any, labels: Any) -> Any:
    each = nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=labels)
    return tf.reduce_mean(each)


def tiny(v: Names, sizes: dict[str, int]) -> Any:
    return (v.a * 1.0 + (v.b - 2.0) - (v.c + 3.0)) * v.d / 4.0 * 5.0


def chain_mem(v: Names, sizes: dict[str, int]) -> Any:
    return (v.x * 2 + 1) * v.x - v.x / 3


def chain_math(v: Names, sizes: dict[str, int]) -> Any:
    return tf.tanh(v.x * 0.5 + 0.1) * tf.exp(-v.x * v.x) + tf.math.log1p(v.x * v.x)


def logreg(v: Names, sizes: dict[str, int]) -> Any:
    fit = _sigmoid_cross_entropy(tf.linalg.matvec(v.x, v.w) + v.b, v.y)
    return fit + 0.01 * tf.reduce_sum(v.w**2)


def mlp_small(v: Names, sizes: dict[str, int]) -> Any:
    hidden = nn.relu(tf.matmul(v.x, v.w1) + v.b1)
    return tf.reduce_mean((tf.matmul(hidden, v.w2) + v.b2 - v.y) ** 2)


def mlp(v: Names, sizes: dict[str, int]) -> Any:
    hidden = nn.relu(tf.matmul(v.x, v.w1) + v.b1)
    hidden = nn.relu(tf.matmul(hidden, v.w2) + v.b2)
    return _cross_entropy(tf.matmul(hidden, v.w3) + v.b3, v.y)


def _conv(x: Any, k: Any) -> Any:
    return nn.conv2d(x, k, [1, 1, 1, 1], "VALID")


def cnn(v: Names, sizes: dict[str, int]) -> Any:
    hidden = nn.relu(_conv(v.x, v.k1) + v.c1)
    hidden = nn.relu(_conv(hidden, v.k2) + v.c2)
    window = [1, 2, 2, 1]
    hidden = tf.reshape(nn.max_pool(hidden, window, window, "VALID"), [-1, v.w1.shape[0]])
    hidden = nn.relu(tf.matmul(hidden, v.w1) + v.b1)
    return _cross_entropy(tf.matmul(hidden, v.w2) + v.b2, v.y)


def lstm(v: Names, sizes: dict[str, int]) -> Any:
    inputs = tf.tensordot(nn.embedding_lookup(v.table, v.x), v.wx, 1) + v.bg

    def cell(carried: Any, entering: Any) -> Any:
        hidden, state = carried
        enter, new, keep, show = tf.split(entering + tf.matmul(hidden, v.wh), 4, 1)
        state = tf.sigmoid(keep) * state + tf.sigmoid(enter) * tf.tanh(new)
        return tf.sigmoid(show) * tf.tanh(state), state

    start = tf.zeros((sizes["batch"], sizes["width"]))
    hidden, _ = tf.scan(cell, tf.transpose(inputs, [1, 0, 2]), (start, start))
    return _sigmoid_cross_entropy(tf.matmul(hidden[-1], v.wo) + v.bo, v.y)


def rnn(v: Names, sizes: dict[str, int]) -> Any:
    def cell(hidden: Any, row: Any) -> Any:
        return tf.tanh(tf.matmul(hidden, v.w) + row)

    return tf.reduce_sum(tf.scan(cell, v.x, tf.zeros((1, sizes["width"])))[-1] ** 2)


def block(v: Names, sizes: dict[str, int]) -> Any:
    steps, width, heads = sizes["steps"], sizes["width"], sizes["heads"]

    def split(z: Any, w: Any) -> Any:
        apart = tf.reshape(_dense(z, w), [-1, steps, heads, width // heads])
        return tf.transpose(apart, [0, 2, 1, 3])

    z = _layer_norm(v.x, v.g1, v.e1)
    q, k, values = split(z, v.wq), split(z, v.wk), split(z, v.wv)
    scores = tf.matmul(q, k, transpose_b=True) * (width // heads) ** -0.5
    attended = tf.transpose(tf.matmul(nn.softmax(scores), values), [0, 2, 1, 3])
    x = v.x + _dense(tf.reshape(attended, [-1, steps, width]), v.wp)
    hidden = _dense(_layer_norm(x, v.g2, v.e2), v.w1)
    inner = 0.7978845608028654 * (hidden + 0.044715 * hidden * hidden * hidden)
    return tf.reduce_mean((x + _dense(0.5 * hidden * (1 + tf.tanh(inner)), v.w2)) ** 2)


def softmax(v: Names, sizes: dict[str, int]) -> Any:
    return tf.reduce_sum(nn.softmax(v.x) * v.c)


def layer_norm(v: Names, sizes: dict[str, int]) -> Any:
    return tf.reduce_sum(_layer_norm(v.x, v.scale, v.offset) * v.c)


def cross_entropy(v: Names, sizes: dict[str, int]) -> Any:
    rows = nn.sparse_softmax_cross_entropy_with_logits(logits=v.x, labels=v.y)
    return tf.reduce_mean(rows)


def matmul(v: Names, sizes: dict[str, int]) -> Any:
    return tf.matmul(v.a, v.b)


def matmul_turned(v: Names, sizes: dict[str, int]) -> Any:
    return tf.matmul(v.a, v.b, transpose_a=True)


def conv(v: Names, sizes: dict[str, int]) -> Any:
    return _conv(v.x, v.k)


def conv_filters(v: Names, sizes: dict[str, int]) -> Any:
    return tf.gradients(_conv(v.x, v.k), v.k, grad_ys=v.c)[0]


def conv_image(v: Names, sizes: dict[str, int]) -> Any:
    return tf.gradients(_conv(v.x, v.k), v.x, grad_ys=v.c)[0]


FORMULAS: dict[str, Callable[[Names, dict[str, int]], Any]] = {
    f.__name__: f
    for f in (
        tiny, chain_mem, chain_math, logreg, mlp_small, mlp, cnn, lstm, rnn, block, softmax,
        layer_norm, cross_entropy, matmul, matmul_turned, conv, conv_filters, conv_image,
    )
}  # fmt: skip


def stepper(
    workload: Workload, sizes: dict[str, int], data: Data, variant: str
) -> Callable[[dict[str, Any]], Any]:
    """A function of one feed that does a step."""
    tf.disable_v2_behavior()
    parameters = {name: tf.Variable(value, name=name) for name, value in data.parameters.items()}
    feeds = {n: tf.placeholder(a.dtype, a.shape, name=n) for n, a in data.feeds[0].items()}
    names = Names(**feeds, **parameters)
    value = FORMULAS[workload.formula](names, sizes)
    fetches: Any = value
    if data.rate is not None:
        fetches = [value, tf.train.GradientDescentOptimizer(data.rate).minimize(value)]
    elif data.wrt:
        fetches = [value, *tf.gradients(value, [getattr(names, name) for name in data.wrt])]
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return lambda feed: session.run(fetches, {feeds[name]: feed[name] for name in feeds})
