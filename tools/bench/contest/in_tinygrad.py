"""The workloads in tinygrad, each step one TinyJit. Its CPU device needs the program clang.

`DEV=CL` in the environment chooses OpenCL: the first device of the system's loader.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tinygrad import Device, Tensor, TinyJit

from .workloads import Data, Held, Unsupported, Workload

VERSION = importlib.metadata.version("tinygrad")
Names = SimpleNamespace
OPENED = Device[Device.DEFAULT]  # now, so that a missing clang or driver shows at once


def _mean_of(rows: Any, labels: Any) -> Any:
    return -(rows.log_softmax(1) * labels).sum(1).mean()


def _layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    return x.layernorm(eps=1e-5) * scale + offset


def tiny(v: Names, sizes: dict[str, int]) -> Any:
    return (v.a * 1.0 + (v.b - 2.0) - (v.c + 3.0)) * v.d / 4.0 * 5.0


def chain_mem(v: Names, sizes: dict[str, int]) -> Any:
    return (v.x * 2 + 1) * v.x - v.x / 3


def chain_math(v: Names, sizes: dict[str, int]) -> Any:
    return (v.x * 0.5 + 0.1).tanh() * (-v.x * v.x).exp() + (v.x * v.x + 1).log()


def logreg(v: Names, sizes: dict[str, int]) -> Any:
    fit = (v.x @ v.w + v.b).binary_crossentropy_logits(v.y)
    return fit + 0.01 * (v.w * v.w).sum()


def mlp_small(v: Names, sizes: dict[str, int]) -> Any:
    return (((v.x @ v.w1 + v.b1).relu() @ v.w2 + v.b2 - v.y) ** 2).mean()


def mlp(v: Names, sizes: dict[str, int]) -> Any:
    hidden = (v.x @ v.w1 + v.b1).relu()
    hidden = (hidden @ v.w2 + v.b2).relu()
    return _mean_of(hidden @ v.w3 + v.b3, v.y)


def _conv(x: Any, k: Any) -> Any:
    return x.permute(0, 3, 1, 2).conv2d(k.permute(3, 2, 0, 1)).permute(0, 2, 3, 1)


def cnn(v: Names, sizes: dict[str, int]) -> Any:
    hidden = (_conv(v.x, v.k1) + v.c1).relu()
    hidden = (_conv(hidden, v.k2) + v.c2).relu().permute(0, 3, 1, 2)
    hidden = hidden.max_pool2d((2, 2)).permute(0, 2, 3, 1).reshape(sizes["batch"], -1)
    hidden = (hidden @ v.w1 + v.b1).relu()
    return _mean_of(hidden @ v.w2 + v.b2, v.y)


def block(v: Names, sizes: dict[str, int]) -> Any:
    batch, steps, width, heads = (sizes[s] for s in ("batch", "steps", "width", "heads"))

    def split(z: Any, w: Any) -> Any:
        return (z @ w).reshape(batch, steps, heads, width // heads).permute(0, 2, 1, 3)

    z = _layer_norm(v.x, v.g1, v.e1)
    q, k, values = split(z, v.wq), split(z, v.wk), split(z, v.wv)
    scores = (q @ k.transpose(2, 3)) * (width // heads) ** -0.5
    attended = (scores.softmax(-1) @ values).permute(0, 2, 1, 3)
    x = v.x + attended.reshape(batch, steps, width) @ v.wp
    x = x + (_layer_norm(x, v.g2, v.e2) @ v.w1).gelu() @ v.w2
    return (x * x).mean()


def softmax(v: Names, sizes: dict[str, int]) -> Any:
    return (v.x.softmax(1) * v.c).sum()


def layer_norm(v: Names, sizes: dict[str, int]) -> Any:
    return (_layer_norm(v.x, v.scale, v.offset) * v.c).sum()


def cross_entropy(v: Names, sizes: dict[str, int]) -> Any:
    return v.x.sparse_categorical_crossentropy(v.y)


def matmul(v: Names, sizes: dict[str, int]) -> Any:
    return v.a @ v.b


def matmul_turned(v: Names, sizes: dict[str, int]) -> Any:
    return v.a.T @ v.b


def conv(v: Names, sizes: dict[str, int]) -> Any:
    return _conv(v.x, v.k)


def conv_filters(v: Names, sizes: dict[str, int]) -> Any:
    return (_conv(v.x, v.k) * v.c).sum().gradient(v.k)[0]


def conv_image(v: Names, sizes: dict[str, int]) -> Any:
    return (_conv(v.x, v.k) * v.c).sum().gradient(v.x)[0]


FORMULAS: dict[str, Callable[[Names, dict[str, int]], Any]] = {
    f.__name__: f
    for f in (
        tiny, chain_mem, chain_math, logreg, mlp_small, mlp, cnn, block, softmax, layer_norm,
        cross_entropy, matmul, matmul_turned, conv, conv_filters, conv_image,
    )
}  # fmt: skip


def stepper(
    workload: Workload, sizes: dict[str, int], data: Data, variant: str
) -> Callable[[dict[str, Any]], Any]:
    """A function of one feed that does a step."""
    if workload.formula not in FORMULAS:
        raise Unsupported("tinygrad has no loops")
    parameters = {name: Tensor(value).realize() for name, value in data.parameters.items()}

    @TinyJit
    def step(**feeds: Any) -> Any:
        names = Names(**feeds, **parameters)
        value = FORMULAS[workload.formula](names, sizes)
        if data.rate is not None:
            gradients = value.gradient(*parameters.values())
            for parameter, gradient in zip(parameters.values(), gradients, strict=True):
                parameter.assign(parameter.detach() - data.rate * gradient)
            Tensor.realize(value, *parameters.values())
            return [value]
        gradients = value.gradient(*(getattr(names, n) for n in data.wrt)) if data.wrt else []
        found = [value, *(gradient.contiguous() for gradient in gradients)]
        Tensor.realize(*found)
        return found

    def taken(feed: dict[str, Any]) -> Any:
        if data.held:
            [output] = step()
            OPENED.synchronize()
            return [Held(output.numpy)]
        outputs = step(**{name: Tensor(array).realize() for name, array in feed.items()})
        return [output.numpy() for output in outputs]

    return taken
