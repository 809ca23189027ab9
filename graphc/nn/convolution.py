"""Convolution and pooling of images; the ops live in `ops/`, here is what is composed of them."""

from __future__ import annotations

from typing import Any

from graphc.build import Check
from graphc.dims import Dim
from graphc.graph import Tensor
from graphc.ops.composition import composition
from graphc.ops.convolution import CONV2D, conv2d, conv2d_transpose
from graphc.ops.pooling import avg_pool2d, max_pool2d

__all__ = ["avg_pool2d", "conv2d", "conv2d_transpose", "depthwise_conv2d", "max_pool2d"]


@composition("x", "filters")
def depthwise_conv2d(
    x: Any, filters: Any, strides: Any = 1, padding: Any = "VALID", dilations: Any = 1,
    data_format: str = "NHWC", *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Each channel convolved with filters of its own: `conv2d` with a group for each channel.

    Shapes: filters `[H, W, channels, multiplier]` (TensorFlow's) give `channels * multiplier`
    channels, those of one input channel side by side. The rest is as in `conv2d`.

    >>> x, filters = np.ones((1, 3, 3, 2), np.float32), np.ones((2, 2, 2, 3), np.float32)
    >>> depthwise_conv2d(x, filters).type
    TensorType(dtype=graphc.float32, shape=(1, 2, 2, 6))
    """
    check = Check(CONV2D, (x, filters), {})
    if len(filters.shape) != 4:
        check.fail("depthwise filters must be [H, W, channels, multiplier]")
    height, width, channels, multiplier = filters.shape
    if isinstance(channels, Dim):
        check.fail("the number of channels of depthwise filters must be known")
    grouped = filters.reshape((height, width, 1, channels * multiplier))
    return conv2d(x, grouped, strides, padding, dilations, data_format, channels, name=name)
