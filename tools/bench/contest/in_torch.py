"""The workloads in PyTorch: eager, or through torch.compile (variant "compile")."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional

from .workloads import Data, Workload

VERSION = torch.__version__
Names = SimpleNamespace


def tiny(v: Names, sizes: dict[str, int]) -> Any:
    return (v.a * 1.0 + (v.b - 2.0) - (v.c + 3.0)) * v.d / 4.0 * 5.0


def chain_mem(v: Names, sizes: dict[str, int]) -> Any:
    return (v.x * 2 + 1) * v.x - v.x / 3


def chain_math(v: Names, sizes: dict[str, int]) -> Any:
    return torch.tanh(v.x * 0.5 + 0.1) * torch.exp(-v.x * v.x) + torch.log1p(v.x * v.x)


def logreg(v: Names, sizes: dict[str, int]) -> Any:
    fit = functional.binary_cross_entropy_with_logits(v.x @ v.w + v.b, v.y)
    return fit + 0.01 * (v.w**2).sum()


def mlp_small(v: Names, sizes: dict[str, int]) -> Any:
    return functional.mse_loss(torch.relu(v.x @ v.w1 + v.b1) @ v.w2 + v.b2, v.y)


def mlp(v: Names, sizes: dict[str, int]) -> Any:
    hidden = torch.relu(torch.addmm(v.b1, v.x, v.w1))
    hidden = torch.relu(torch.addmm(v.b2, hidden, v.w2))
    return functional.cross_entropy(torch.addmm(v.b3, hidden, v.w3), v.y)


def _channels_first(x: Any) -> Any:
    return x.permute(0, 3, 1, 2)  # of the same memory: torch calls it channels_last


def _filters(k: Any) -> Any:
    return k.permute(3, 2, 0, 1)


def cnn(v: Names, sizes: dict[str, int]) -> Any:
    hidden = torch.relu(functional.conv2d(_channels_first(v.x), _filters(v.k1), v.c1))
    hidden = torch.relu(functional.conv2d(hidden, _filters(v.k2), v.c2))
    hidden = functional.max_pool2d(hidden, 2).permute(0, 2, 3, 1).reshape(len(v.x), -1)
    hidden = torch.relu(torch.addmm(v.b1, hidden, v.w1))
    return functional.cross_entropy(torch.addmm(v.b2, hidden, v.w2), v.y)


def lstm(v: Names, sizes: dict[str, int]) -> Any:
    inputs = v.table[v.x.long()] @ v.wx + v.bg
    hidden = state = torch.zeros(sizes["batch"], sizes["width"])
    for step in range(sizes["steps"]):
        gates = inputs[:, step] + hidden @ v.wh
        enter, new, keep, show = gates.chunk(4, 1)
        state = torch.sigmoid(keep) * state + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(show) * torch.tanh(state)
    return functional.binary_cross_entropy_with_logits(hidden @ v.wo + v.bo, v.y)


def rnn(v: Names, sizes: dict[str, int]) -> Any:
    hidden = torch.zeros(1, sizes["width"])
    for row in v.x:
        hidden = torch.tanh(hidden @ v.w + row)
    return (hidden**2).sum()


def block(v: Names, sizes: dict[str, int]) -> Any:
    batch, steps, width, heads = (sizes[s] for s in ("batch", "steps", "width", "heads"))

    def split(z: Any, w: Any) -> Any:
        return (z @ w).view(batch, steps, heads, width // heads).transpose(1, 2)

    z = functional.layer_norm(v.x, (width,), v.g1, v.e1)
    q, k, values = split(z, v.wq), split(z, v.wk), split(z, v.wv)
    attended = functional.scaled_dot_product_attention(q, k, values)
    x = v.x + attended.transpose(1, 2).reshape(batch, steps, width) @ v.wp
    z = functional.layer_norm(x, (width,), v.g2, v.e2)
    x = x + functional.gelu(z @ v.w1, approximate="tanh") @ v.w2
    return (x**2).mean()


def softmax(v: Names, sizes: dict[str, int]) -> Any:
    return (torch.softmax(v.x, 1) * v.c).sum()


def layer_norm(v: Names, sizes: dict[str, int]) -> Any:
    return (functional.layer_norm(v.x, (sizes["columns"],), v.scale, v.offset) * v.c).sum()


def cross_entropy(v: Names, sizes: dict[str, int]) -> Any:
    return functional.cross_entropy(v.x, v.y.long())


def matmul(v: Names, sizes: dict[str, int]) -> Any:
    return v.a @ v.b


def matmul_turned(v: Names, sizes: dict[str, int]) -> Any:
    return v.a.T @ v.b


def conv(v: Names, sizes: dict[str, int]) -> Any:
    return functional.conv2d(_channels_first(v.x), _filters(v.k)).permute(0, 2, 3, 1)


def _conv_backward(v: Names, image: bool) -> Any:
    operands = _channels_first(v.c), _channels_first(v.x), _filters(v.k)
    mask = [image, not image, False]
    found = torch.ops.aten.convolution_backward(
        *operands, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask
    )
    return found[0].permute(0, 2, 3, 1) if image else found[1].permute(2, 3, 1, 0)


def conv_filters(v: Names, sizes: dict[str, int]) -> Any:
    return _conv_backward(v, image=False)


def conv_image(v: Names, sizes: dict[str, int]) -> Any:
    return _conv_backward(v, image=True)


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
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    written = data.rate is not None
    parameters = {
        name: torch.tensor(value, requires_grad=written or name in data.wrt)
        for name, value in data.parameters.items()
    }

    def formula(feeds: dict[str, Any]) -> Any:
        return FORMULAS[workload.formula](Names(**feeds, **parameters), sizes)

    chosen = torch.compile(formula) if variant == "compile" else formula

    def tensors(feed: dict[str, Any]) -> dict[str, Any]:
        return {
            name: torch.from_numpy(array).requires_grad_(name in data.wrt)
            for name, array in feed.items()
        }

    def value(feed: dict[str, Any]) -> Any:
        with torch.no_grad():
            return chosen(tensors(feed)).numpy()

    def gradients(feed: dict[str, Any]) -> Any:
        feeds = tensors(feed)
        loss = chosen(feeds)
        known = feeds | parameters
        found = torch.autograd.grad(loss, [known[name] for name in data.wrt])
        return [loss.item(), *(gradient.numpy() for gradient in found)]

    def train(feed: dict[str, Any]) -> Any:
        loss = chosen(tensors(feed))
        loss.backward()
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.sub_(parameter.grad, alpha=data.rate)
                parameter.grad = None
        return loss.item()

    return train if written else gradients if data.wrt else value
