"""Neural networks: activations, losses, layers, convolutions, recurrent networks.

Compositions of ops; no new op.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from graphc import hints as _hints
from graphc.nn.activations import (
    elu,
    gelu,
    hard_sigmoid,
    leaky_relu,
    log_softmax,
    relu,
    selu,
    sigmoid,
    softmax,
    softplus,
    softsign,
    swish,
)
from graphc.nn.cells import gru_cell, lstm_cell, rnn_cell
from graphc.nn.convolution import (
    avg_pool2d,
    conv2d,
    conv2d_transpose,
    depthwise_conv2d,
    max_pool2d,
)
from graphc.nn.decoding import decode
from graphc.nn.layers import (
    batch_norm,
    dropout,
    embedding_lookup,
    l2_normalize,
    layer_norm,
    moments,
    running_batch_norm,
)
from graphc.nn.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    huber_loss,
    mean_absolute_error,
    mean_squared_error,
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits,
    sparse_softmax_cross_entropy_with_logits,
)
from graphc.nn.recurrent import bidirectional, gru, lstm, rnn

if not _TYPE_CHECKING:
    __getattr__ = _hints.of_module(__name__, _hints.NN)

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "bidirectional",
    "binary_crossentropy",
    "categorical_crossentropy",
    "conv2d",
    "conv2d_transpose",
    "decode",
    "depthwise_conv2d",
    "dropout",
    "elu",
    "embedding_lookup",
    "gelu",
    "gru",
    "gru_cell",
    "hard_sigmoid",
    "huber_loss",
    "l2_normalize",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "lstm",
    "lstm_cell",
    "max_pool2d",
    "mean_absolute_error",
    "mean_squared_error",
    "moments",
    "relu",
    "rnn",
    "rnn_cell",
    "running_batch_norm",
    "selu",
    "sigmoid",
    "sigmoid_cross_entropy_with_logits",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "softplus",
    "softsign",
    "sparse_softmax_cross_entropy_with_logits",
    "swish",
]
