"""Layers that are short compositions: normalisations, embedding, dropout."""

from __future__ import annotations

import numbers
from typing import Any

from graphc.dtypes import float32, uint32, uint64
from graphc.errors import DTypeError, require, trimmed
from graphc.graph import Tensor
from graphc.ops.arith import divide
from graphc.ops.broadcast import as_floats, cast, same_dtype
from graphc.ops.compare import greater_equal, less
from graphc.ops.composition import composition
from graphc.ops.control import named
from graphc.ops.follow import as_shape
from graphc.ops.gather import take
from graphc.ops.powers import rsqrt, sqrt
from graphc.ops.random import random_bits
from graphc.ops.reduce import mean
from graphc.ops.select import maximum, where
from graphc.ops.source import Variable, as_tensor
from graphc.ops.state import Group, assign, group
from graphc.random import unit_interval

# ---------------------------------------------------------------------------- normalisation


@trimmed
def moments(
    x: Any, axis: Any = None, keepdims: bool = False, *, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The mean and the variance (the mean square distance from it) over `axis`; None: over all.

    Shapes: that of `x` without `axis`, or with ones there if `keepdims`.

    >>> [t.eval().item() for t in moments([1.0, 3.0])]
    [2.0, 1.0]
    """
    tensor = as_floats(x)
    kept = mean(tensor, axis, True)
    centered = tensor - kept
    average = kept if keepdims else mean(tensor, axis, name=name)
    return average, mean(centered * centered, axis, keepdims)


@composition("x", dtype=same_dtype, outputs=2)
def _channel_moments(x: Any, axis: Any, *, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Moments over `axis`, which stays as ones; None: over all axes but the last."""
    return moments(x, tuple(range(len(x.shape) - 1)) if axis is None else axis, True)


def _affine(y: Tensor, scale: Any, offset: Any, name: str | None) -> Tensor:
    if scale is not None:
        y = y * scale
    if offset is not None:
        y = y + offset
    return named(y, name)


@trimmed
def batch_norm(
    x: Any, scale: Any = None, offset: Any = None, mean: Any = None, variance: Any = None,
    axis: Any = None, epsilon: float = 1e-3, *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """`(x - mean) / sqrt(variance + epsilon) * scale + offset`.

    `mean` and `variance`, where they are not given, are those of the batch: over `axis`, or over
    all axes but the last, the channels. `scale` and `offset` (None: without) broadcast against `x`.
    For statistics that are kept for inference: `running_batch_norm`. S. Ioffe, C. Szegedy, "Batch
    normalization", ICML 2015.

    >>> batch_norm([[1.0], [3.0]], epsilon=0.0).eval()
    array([[-1.],
           [ 1.]], dtype=float32)
    """
    tensor = as_floats(x)
    if mean is None or variance is None:
        own = _channel_moments(tensor, axis)
        mean = own[0] if mean is None else mean
        variance = own[1] if variance is None else variance
    normal = (tensor - mean) * rsqrt(as_tensor(variance, tensor.dtype) + epsilon)
    return _affine(normal, scale, offset, name)


@trimmed
def running_batch_norm(
    x: Any, scale: Any, offset: Any, running_mean: Variable, running_variance: Variable,
    training: Any = True, momentum: float = 0.99, axis: Any = None, epsilon: float = 1e-3,
    *, name: str | None = None,
) -> tuple[Tensor, Group]:  # fmt: skip
    """`batch_norm` with statistics kept in variables: `(y, updates)`.

    While `training` (a bool, or a boolean scalar tensor) it normalises by the batch, and `updates`,
    to be fetched with the step, writes `momentum * running + (1 - momentum) * batch`. Otherwise it
    normalises by the running statistics, which keep their values. The variables have one element a
    channel: as many as the axes that are not in `axis` have.

    >>> running = Variable([0.0]), Variable([1.0])
    >>> y, updates = running_batch_norm([[1.0], [3.0]], None, None, *running)
    >>> y.type, updates
    (TensorType(dtype=graphc.float32, shape=(2, 1)), <group of 2 updates>)
    """
    tensor = as_floats(x)
    require(0 <= momentum <= 1, "running_batch_norm", "momentum must be in [0, 1]", momentum)
    running = (running_mean, running_variance)
    if training is False:
        y = batch_norm(
            tensor, scale, offset, running_mean, running_variance, None, epsilon, name=name
        )
        return y, group()
    batch = _channel_moments(tensor, axis)
    written = []
    for variable, now in zip(running, batch, strict=True):
        observed = cast(now.reshape(variable.shape), variable.dtype)
        value = variable * momentum + observed * (1.0 - momentum)
        written.append(value if training is True else where(training, value, variable))
    used: Any = batch
    if training is not True:
        pairs = zip(batch, running, strict=True)
        used = [where(training, b, _like_moment(r, b)) for b, r in pairs]
    y = batch_norm(tensor, scale, offset, used[0], used[1], None, epsilon, name=name)
    return y, group(*(assign(v, value) for v, value in zip(running, written, strict=True)))


def _like_moment(running: Tensor, batch: Tensor) -> Tensor:
    return cast(running if batch.shape is None else running.reshape(batch.shape), batch.dtype)


@trimmed
def layer_norm(
    x: Any, scale: Any = None, offset: Any = None, epsilon: float = 1e-5, axis: Any = -1,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Each row of `x` with mean 0 and variance 1, times `scale` plus `offset` (None: without).

    The mean and the variance are taken over `axis`, the last or several. J. L. Ba, J. R. Kiros,
    G. E. Hinton, "Layer normalization", 2016.

    >>> layer_norm([[1.0, 3.0]], epsilon=0.0).eval()
    array([[-1.,  1.]], dtype=float32)
    """
    tensor = as_floats(x)
    average, variance = moments(tensor, axis, True)
    return _affine((tensor - average) * rsqrt(variance + epsilon), scale, offset, name)


@trimmed
def l2_normalize(
    x: Any, axis: Any = -1, epsilon: float = 1e-12, *, name: str | None = None
) -> Tensor:
    """`x / sqrt(max(sum(x ** 2), epsilon))`: rows of length 1, and rows of zeros as they are.

    >>> l2_normalize([3.0, 4.0]).eval()
    array([0.6, 0.8], dtype=float32)
    """
    tensor = as_floats(x)
    return divide(tensor, sqrt(maximum((tensor * tensor).sum(axis, True), epsilon)), name=name)


# ---------------------------------------------------------------------------- embedding, dropout


@trimmed
def embedding_lookup(table: Any, ids: Any, *, name: str | None = None) -> Tensor:
    """The rows of `table` numbered by `ids`.

    Shapes: `[rows, ...]` and integers `[...]` give the shape of `ids`, then that of a row. An id
    outside [0, rows) is a ShapeError in the run; a negative one does not count from the end.

    >>> embedding_lookup([[1.0], [2.0], [3.0]], [2, 0]).eval()
    array([[3.],
           [1.]], dtype=float32)
    """
    rows = as_tensor(ids)
    if rows.dtype.kind not in "iu":
        raise DTypeError(f"embedding_lookup: ids must be integers, got {rows.type}")
    rows = cast(rows, uint64) if rows.dtype.kind == "i" else rows
    return take(table, rows, axis=0, name=name)


@trimmed
def dropout(
    x: Any, rate: Any, training: Any = True, noise_shape: Any = None, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """`x` with a share `rate` of its elements set to 0, and the others divided by `1 - rate`.

    `rate` in [0, 1) is a number (else: ValueError) or a scalar tensor (else: NaN everywhere).
    `training`, a bool or a boolean scalar tensor, is False for `x` itself. `noise_shape` (it
    broadcasts to `x`) drops whole slices: `(batch, 1, 1, channels)` drops channels. N. Srivastava
    et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    >>> dropout([1.0, 2.0], 0.5, training=False).eval()
    array([1., 2.], dtype=float32)
    """
    tensor = as_tensor(x)
    if not tensor.dtype.is_float:
        raise DTypeError(f"dropout: x must hold floats, got x: {tensor.type}")
    known = isinstance(rate, numbers.Real)
    if known:
        require(0 <= rate < 1, "dropout", "rate must be at least 0 and less than 1", rate)
    if training is False or (known and rate == 0):
        return named(tensor, name)
    shape, label = None if noise_shape is None else as_shape(noise_shape), name or "dropout"
    bits = random_bits(shape, uint32, label, seed, like=tensor if shape is None else None)
    limit = as_tensor(rate, float32).astype(float32)
    kept = greater_equal(unit_interval(bits, float32), limit)
    scale = 1.0 / (1.0 - rate) if known else cast(1.0 / (1.0 - limit), tensor.dtype)
    dropped = where(kept, tensor * scale, 0.0)
    if not known:
        dropped = where(greater_equal(limit, 0) & less(limit, 1), dropped, float("nan"))
    result = dropped if training is True else where(training, dropped, tensor)
    return named(result, name)
