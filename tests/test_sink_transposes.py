"""Transposes between layers cancel; values stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.graph import Graph, Tensor
from graphc.lower import expanded
from graphc.nn import avg_pool2d, conv2d, max_pool2d
from graphc.ops.gradient import gradients
from graphc.ops.source import placeholder
from graphc.runtime.device import Environment
from graphc.runtime.reference.device import ReferenceDevice
from tests.support import ENTROPY_WORDS, Compiled, generator

RULES: dict[str, Any] = {
    "pointwise": lambda x: g.exp(x.transpose((1, 2, 0))) + x.transpose((1, 2, 0)),
    "numbers": lambda x: x.transpose((1, 2, 0)) * 3.0 + 1.0,
    "broadcast": lambda x: x.transpose((1, 2, 0)) * np.arange(2.0)[:, None, None],
    "cast": lambda x: g.cast(x.transpose((1, 2, 0)), "float32"),
    "where": lambda x: g.where(x.transpose((2, 1, 0)) > 0.0, x.transpose((2, 1, 0)), 0.0),
    "sum": lambda x: g.sum(x.transpose((2, 0, 1)), axis=1),
    "sum of two axes": lambda x: g.sum(x.transpose((2, 0, 1)), axis=(0, 2)),
    "kept axes": lambda x: g.mean(x.transpose((2, 0, 1)), axis=(0, 1), keepdims=True),
    "maximum of all": lambda x: g.max(x.transpose((2, 0, 1))),
    "slice": lambda x: x.transpose((2, 0, 1))[1:, ::-1, :1],
    "pad": lambda x: g.pad(x.transpose((2, 0, 1)), ((1, 0), (2, 3), (0, 4))),
    "concatenate": lambda x: g.concatenate([x.transpose((2, 0, 1))] * 2, axis=1),
    "twice": lambda x: g.tanh(x.transpose((2, 0, 1))).transpose((1, 2, 0)) * 2.0,
}


def moved(fetches: Any, x: Tensor, array: Any) -> Graph:
    """The lowered graph; its values are those of the graph as written."""
    plain = Compiled.of(fetches, [x], [array.shape])
    graph = expanded(plain.graph)
    environment = Environment(plain.sizes, {}, ENTROPY_WORDS)
    got = ReferenceDevice().compile(graph).run([array], environment)
    for a, b in zip(got, plain(array), strict=True):
        assert np.asarray(a).dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    return graph


@pytest.mark.parametrize("sizes", [(3, 2, 4), ("a", "b", "c")])
@pytest.mark.parametrize("name", RULES)
def test_rule(name: str, sizes: Any) -> None:
    x = placeholder("float64", sizes)
    array = generator("sink", name).normal(size=(3, 2, 4))
    graph = moved([RULES[name](x)], x, array)
    inner = [n for n in graph.nodes if n.op.name == "transpose" and n.inputs[0].node.inputs]
    assert all(node is graph.roots[0].node for node in inner)


def test_what_is_transposed_differently_stays() -> None:
    x = placeholder("float64", (3, 3))
    graph = moved([x.transpose() + x], x, np.arange(9.0).reshape(3, 3))
    assert [node.op.name for node in graph.nodes] == ["transpose", "add"]


def network(x: Tensor) -> list[Tensor]:
    """Convolutions over NCHW, with what stands between them."""
    w1, w2 = (np.full(shape, 0.1, np.float32) for shape in ((3, 3, 2, 4), (2, 2, 4, 3)))
    bias = np.ones((4, 1, 1), np.float32)
    hidden = g.nn.relu(conv2d(x, w1, padding="SAME", data_format="NCHW") + bias)
    scale = g.mean(hidden, axis=(0, 2, 3), keepdims=True)
    pooled = max_pool2d(hidden / (scale + 1.0), 2, data_format="NCHW")
    out = conv2d(g.tanh(pooled), w2, data_format="NCHW")
    loss = g.mean(avg_pool2d(out * out, 2, 1, data_format="NCHW"))
    return [loss, *gradients(loss, [x])]


def test_layers_over_channels_first_are_transposed_at_the_ends_alone() -> None:
    x = placeholder("float32", ["n", 2, 8, 6])
    array = generator("nchw").normal(size=(3, 2, 8, 6)).astype(np.float32)
    graph = moved(network(x), x, array)
    images = [
        node
        for node in graph.nodes
        if node.op.name == "transpose" and node.types[0].shape[0] == x.shape[0]  # type: ignore[index]
    ]
    assert len(images) == 2  # what is fed, and its gradient


# ---------------------------------------------------------------------------- products

HEADS = (2, 3, 4, 5)  # batch, heads, steps, elements


def product(x: Tensor) -> Tensor:
    """Of each head, with itself: [batch, heads, steps, steps]."""
    return x @ x.transpose((0, 1, 3, 2))


def names(fetches: list[Tensor], x: Tensor) -> list[str]:
    array = generator("heads").normal(size=HEADS)
    return [node.op.name for node in moved(fetches, x, array).nodes]


@pytest.mark.parametrize("sizes", [HEADS, ("n", 3, "steps", 5)])
@pytest.mark.parametrize("axes", [(0, 2, 1, 3), (2, 0, 1, 3), (0, 3, 1, 2), (1, 0, 3, 2)])
def test_a_product_stores_what_is_read_of_it(axes: tuple[int, ...], sizes: Any) -> None:
    x = placeholder("float64", sizes)
    turned = product(x).transpose(axes)
    found = names([turned.reshape((-1,)) + 1.0, turned.reshape((-1,)) * 2.0], x)
    assert found.count("turned_matmul") == 1 and "matmul" not in found


@pytest.mark.parametrize(
    "fetches",
    [
        lambda x: [product(x).transpose((0, 1, 3, 2)) + 1.0],  # read in place, turned or not
        lambda x: [product(x).transpose((2, 3, 0, 1)) + 1.0],  # no rows would be stored
        lambda x: [product(x).transpose((0, 2, 1, 3)), product(x) * 2.0],
        lambda x: [product(x).transpose((0, 2, 1, 3)) * 2.0, product(x)],
        lambda x: [product(x).transpose((0, 2, 1, 3)), product(x).transpose((1, 0, 2, 3))],
    ],
    ids=["rows by columns", "batches last", "read as it is", "fetched as it is", "two ways"],
)
def test_other_products_are_stored_as_they_are(fetches: Any) -> None:
    x = placeholder("float64", HEADS)
    assert "turned_matmul" not in names(fetches(x), x)


def test_the_native_device_stores_products_turned() -> None:
    """Against NumPy, with sizes that tiles do not divide, and an epilogue."""
    random = generator("turned")
    a, b = (random.normal(size=(2, 3, 37, 33)).astype(np.float32) for _ in range(2))
    x, y = (g.placeholder("float32", ["n", 3, "steps", 33]) for _ in range(2))
    scores = x @ y.transpose([0, 1, 3, 2])
    joined = g.nn.relu((scores @ y).transpose([0, 2, 1, 3]).reshape([-1, 3 * 33]))
    other = (scores.transpose([0, 1, 3, 2]) @ x).transpose([2, 0, 1, 3]).reshape([-1, 33])
    graph = expanded(Compiled.of([joined, other], [x, y], [a.shape, b.shape]).graph)
    assert [node.op.name for node in graph.nodes].count("turned_matmul") == 2
    got = g.Session(seed=0).run([joined, other], {x: a, y: b})
    wide = [array.astype(np.float64) for array in (a, b)]
    inner = wide[0] @ wide[1].transpose(0, 1, 3, 2)
    want = [
        np.maximum((inner @ wide[1]).transpose(0, 2, 1, 3).reshape(-1, 99), 0),
        (inner.transpose(0, 1, 3, 2) @ wide[0]).transpose(2, 0, 1, 3).reshape(-1, 33),
    ]
    for array, exact in zip(got, want, strict=True):
        np.testing.assert_allclose(array, exact, rtol=1e-4, atol=1e-3)
