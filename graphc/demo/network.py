"""A classifier of digits with two layers, as a user of graphc would write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import graphc as g
from graphc.graph import Tensor
from graphc.ops.state import Group

PIXELS, HIDDEN, CLASSES = 64, 64, 10


@dataclass(frozen=True)
class Network:
    """What is fed (`images`, `labels`) and what can be fetched (the rest)."""

    images: Tensor
    labels: Tensor
    logits: Tensor
    loss: Tensor
    accuracy: Tensor
    train: Group


def dense(
    x: Tensor, inputs: int, outputs: int, name: str, activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """An affine layer with its weights, and what follows it."""
    with g.name_scope(name):
        weights = g.Variable(g.init.he_uniform([inputs, outputs]), name="weights")
        bias = g.Variable(g.init.zeros([outputs]), name="bias")
        return activation(g.add(x @ weights, bias, name="sum"))


def build(learning_rate: float) -> Network:
    """The graph; nothing is computed yet."""
    images = g.placeholder(g.float32, ["batch", PIXELS], name="images")
    labels = g.placeholder(g.int32, ["batch"], name="labels")
    hidden = dense(images, PIXELS, HIDDEN, "hidden", g.nn.relu)
    logits = dense(hidden, HIDDEN, CLASSES, "classes", g.identity)
    with g.name_scope("loss"):
        losses = g.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = g.mean(losses, name="loss")
    with g.name_scope("accuracy"):
        right = g.equal(g.argmax(logits, axis=1), labels)
        accuracy = g.mean(g.cast(right, g.float32), name="accuracy")
    train = g.optim.Adam(learning_rate).minimize(loss)
    return Network(images, labels, logits, loss, accuracy, train)
