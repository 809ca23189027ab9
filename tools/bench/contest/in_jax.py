"""The workloads in JAX, each step one jitted function."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from jax import lax, nn
from jax import numpy as jnp

from .workloads import Data, Workload

VERSION = jax.__version__
Names = SimpleNamespace
LAYOUT = ("NHWC", "HWIO", "NHWC")


def _sigmoid_cross_entropy(logits: Any, labels: Any) -> Any:
    return jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def _cross_entropy(logits: Any, labels: Any) -> Any:
    return -jnp.mean(jnp.sum(nn.log_softmax(logits) * labels, axis=1))


def _layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + offset


def tiny(v: Names, sizes: dict[str, int]) -> Any:
    return (v.a * 1.0 + (v.b - 2.0) - (v.c + 3.0)) * v.d / 4.0 * 5.0


def chain_mem(v: Names, sizes: dict[str, int]) -> Any:
    return (v.x * 2 + 1) * v.x - v.x / 3


def chain_math(v: Names, sizes: dict[str, int]) -> Any:
    return jnp.tanh(v.x * 0.5 + 0.1) * jnp.exp(-v.x * v.x) + jnp.log1p(v.x * v.x)


def logreg(v: Names, sizes: dict[str, int]) -> Any:
    fit = _sigmoid_cross_entropy(v.x @ v.w + v.b, v.y).mean()
    return fit + 0.01 * (v.w**2).sum()


def mlp_small(v: Names, sizes: dict[str, int]) -> Any:
    return jnp.mean((nn.relu(v.x @ v.w1 + v.b1) @ v.w2 + v.b2 - v.y) ** 2)


def mlp(v: Names, sizes: dict[str, int]) -> Any:
    hidden = nn.relu(v.x @ v.w1 + v.b1)
    hidden = nn.relu(hidden @ v.w2 + v.b2)
    return _cross_entropy(hidden @ v.w3 + v.b3, v.y)


def _conv(x: Any, k: Any) -> Any:
    return lax.conv_general_dilated(x, k, (1, 1), "VALID", dimension_numbers=LAYOUT)


def cnn(v: Names, sizes: dict[str, int]) -> Any:
    hidden = nn.relu(_conv(v.x, v.k1) + v.c1)
    hidden = nn.relu(_conv(hidden, v.k2) + v.c2)
    window = (1, 2, 2, 1)
    hidden = lax.reduce_window(hidden, -jnp.inf, lax.max, window, window, "VALID")
    hidden = nn.relu(hidden.reshape(len(v.x), -1) @ v.w1 + v.b1)
    return _cross_entropy(hidden @ v.w2 + v.b2, v.y)


def lstm(v: Names, sizes: dict[str, int]) -> Any:
    inputs = jnp.swapaxes(v.table[v.x] @ v.wx + v.bg, 0, 1)

    def cell(carried: Any, entering: Any) -> Any:
        hidden, state = carried
        enter, new, keep, show = jnp.split(entering + hidden @ v.wh, 4, 1)
        state = nn.sigmoid(keep) * state + nn.sigmoid(enter) * jnp.tanh(new)
        return (nn.sigmoid(show) * jnp.tanh(state), state), None

    start = jnp.zeros((sizes["batch"], sizes["width"]))
    (hidden, _), _ = lax.scan(cell, (start, start), inputs)
    return _sigmoid_cross_entropy(hidden @ v.wo + v.bo, v.y).mean()


def rnn(v: Names, sizes: dict[str, int]) -> Any:
    def cell(hidden: Any, row: Any) -> Any:
        return jnp.tanh(hidden @ v.w + row), None

    hidden, _ = lax.scan(cell, jnp.zeros((1, sizes["width"])), v.x)
    return (hidden**2).sum()


def block(v: Names, sizes: dict[str, int]) -> Any:
    batch, steps, width, heads = (sizes[s] for s in ("batch", "steps", "width", "heads"))

    def split(z: Any, w: Any) -> Any:
        return (z @ w).reshape(batch, steps, heads, width // heads).transpose(0, 2, 1, 3)

    z = _layer_norm(v.x, v.g1, v.e1)
    q, k, values = split(z, v.wq), split(z, v.wk), split(z, v.wv)
    scores = q @ k.swapaxes(-1, -2) * (width // heads) ** -0.5
    attended = (nn.softmax(scores) @ values).transpose(0, 2, 1, 3)
    x = v.x + attended.reshape(batch, steps, width) @ v.wp
    x = x + nn.gelu(_layer_norm(x, v.g2, v.e2) @ v.w1, approximate=True) @ v.w2
    return (x**2).mean()


def softmax(v: Names, sizes: dict[str, int]) -> Any:
    return (nn.softmax(v.x) * v.c).sum()


def layer_norm(v: Names, sizes: dict[str, int]) -> Any:
    return (_layer_norm(v.x, v.scale, v.offset) * v.c).sum()


def cross_entropy(v: Names, sizes: dict[str, int]) -> Any:
    return -jnp.take_along_axis(nn.log_softmax(v.x), v.y[:, None], 1).mean()


def matmul(v: Names, sizes: dict[str, int]) -> Any:
    return v.a @ v.b


def matmul_turned(v: Names, sizes: dict[str, int]) -> Any:
    return v.a.T @ v.b


def conv(v: Names, sizes: dict[str, int]) -> Any:
    return _conv(v.x, v.k)


def conv_filters(v: Names, sizes: dict[str, int]) -> Any:
    return jax.vjp(lambda k: _conv(v.x, k), v.k)[1](v.c)[0]


def conv_image(v: Names, sizes: dict[str, int]) -> Any:
    return jax.vjp(lambda x: _conv(x, v.k), v.x)[1](v.c)[0]


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
    state = [{name: jnp.asarray(value) for name, value in data.parameters.items()}]

    def formula(known: dict[str, Any], more: dict[str, Any]) -> Any:
        return FORMULAS[workload.formula](Names(**known, **more), sizes)

    def update(parameters: dict[str, Any], feed: dict[str, Any]) -> Any:
        loss, gradient = jax.value_and_grad(formula)(parameters, feed)
        return loss, jax.tree.map(lambda p, d: p - data.rate * d, parameters, gradient)

    def differentiate(parameters: dict[str, Any], feed: dict[str, Any]) -> Any:
        known = parameters | feed
        chosen = {name: known.pop(name) for name in data.wrt}
        return jax.value_and_grad(formula)(chosen, known)

    if data.rate is not None:
        updated = jax.jit(update, donate_argnums=0)

        def train(feed: dict[str, Any]) -> Any:
            loss, state[0] = updated(state[0], feed)
            return float(loss)

        return train
    if data.wrt:
        differentiated = jax.jit(differentiate)

        def gradients(feed: dict[str, Any]) -> Any:
            loss, found = differentiated(state[0], feed)
            return [float(loss), *(np.asarray(found[name]) for name in data.wrt)]

        return gradients
    evaluated = jax.jit(formula)
    return lambda feed: np.asarray(evaluated(state[0], feed))
