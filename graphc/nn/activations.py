"""Activation functions under the names that networks know; the ops themselves live in `ops/`."""

from graphc.ops.activation import (
    elu,
    gelu,
    hard_sigmoid,
    leaky_relu,
    relu,
    selu,
    softsign,
    swish,
)
from graphc.ops.elementary import sigmoid, softplus
from graphc.ops.softmax import log_softmax, softmax

__all__ = [
    "elu",
    "gelu",
    "hard_sigmoid",
    "leaky_relu",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "softmax",
    "softplus",
    "softsign",
    "swish",
]
