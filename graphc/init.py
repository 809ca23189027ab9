"""Tensors to start variables from: `Variable(init.glorot_uniform((784, 100)))`.

Enters: a shape of known sizes. Leaves: a tensor, drawn when a session initialises the variable. The
variance-scaling rules take fans from the shape: `[inputs, outputs]` for a dense layer, `[H, W,
inputs, outputs]` for convolution filters (any number of axes in front of the last two).
"""

from __future__ import annotations

import math
from typing import Any

from graphc import random
from graphc.dims import Dim
from graphc.dtypes import as_dtype, float32
from graphc.errors import ShapeError, require, trimmed
from graphc.graph import Tensor
from graphc.ops.broadcast import cast
from graphc.ops.compare import less
from graphc.ops.control import named
from graphc.ops.creation import diagonal, eye
from graphc.ops.factorizations import qr
from graphc.ops.follow import as_shape
from graphc.ops.select import where
from graphc.ops.source import as_tensor, full_of

# ---------------------------------------------------------------------------- fixed values


@trimmed
def zeros(shape: Any, dtype: Any = float32, *, name: str | None = None) -> Tensor:
    """Zeros.

    >>> zeros((2,)).eval()
    array([0., 0.], dtype=float32)
    """
    return constant(shape, 0, dtype, name=name)


@trimmed
def ones(shape: Any, dtype: Any = float32, *, name: str | None = None) -> Tensor:
    """Ones.

    >>> ones((2,)).eval()
    array([1., 1.], dtype=float32)
    """
    return constant(shape, 1, dtype, name=name)


@trimmed
def constant(shape: Any, value: Any, dtype: Any = float32, *, name: str | None = None) -> Tensor:
    """One number everywhere.

    >>> constant((2,), 0.1).eval()
    array([0.1, 0.1], dtype=float32)
    """
    kept = as_dtype(dtype)
    number = as_tensor(value, kept).node.attrs.get("value")
    return full_of(number, _static(shape), kept, name)


@trimmed
def identity(
    shape: Any, gain: float = 1.0, dtype: Any = float32, *, name: str | None = None
) -> Tensor:
    """`gain` on the diagonal of a matrix, zeros beside it.

    >>> identity((2, 2)).eval()
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    sizes = _static(shape)
    if len(sizes) != 2:
        raise ShapeError(f"init.identity: takes two sizes, got shape={list(sizes)}")
    matrix = eye(*sizes, dtype=dtype)
    return named(matrix if gain == 1 else matrix * gain, name)


# ---------------------------------------------------------------------------- plain draws


@trimmed
def uniform(
    shape: Any, low: Any = -0.05, high: Any = 0.05, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Uniform in [low, high).

    >>> uniform((2, 3)).type
    TensorType(dtype=graphc.float32, shape=(2, 3))
    """
    return random.uniform(_static(shape), low, high, dtype, seed, name=name)


@trimmed
def normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 0.05, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Gaussian.

    >>> normal((2, 3)).type
    TensorType(dtype=graphc.float32, shape=(2, 3))
    """
    return random.normal(_static(shape), mean, stddev, dtype, seed, name=name)


@trimmed
def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 0.05, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Gaussian within two standard deviations.

    >>> truncated_normal((2, 3)).type
    TensorType(dtype=graphc.float32, shape=(2, 3))
    """
    return random.truncated_normal(_static(shape), mean, stddev, dtype, seed, name=name)


# ---------------------------------------------------------------------------- scaled by fans


def _static(shape: Any) -> tuple[int, ...]:
    sizes = as_shape(shape)
    known = tuple(d for d in sizes if not isinstance(d, Dim))
    if len(known) != len(sizes) or any(d < 0 for d in known):
        raise ShapeError(f"init: a variable must start with known sizes, got shape={list(sizes)}")
    return known


def fans(shape: Any) -> tuple[int, int]:
    """How many inputs an output has, and outputs an input, by the shape of the weights.

    >>> fans((784, 100)), fans((3, 3, 16, 32))
    ((784, 100), (144, 288))
    """
    sizes = _static(shape)
    if len(sizes) < 2:
        size = sizes[0] if sizes else 1
        return size, size
    field = math.prod(sizes[:-2])
    return field * sizes[-2], field * sizes[-1]


@trimmed
def variance_scaling(
    shape: Any, scale: float = 1.0, mode: str = "fan_in", distribution: str = "normal",
    dtype: Any = float32, seed: int | None = None, *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Draws of mean 0 and variance `scale / fan`.

    `mode` is "fan_in", "fan_out" or "fan_avg" (the mean of both), `distribution` "normal",
    "truncated_normal" (of this variance after truncation) or "uniform".

    >>> variance_scaling((2, 3), 2.0, "fan_out").type
    TensorType(dtype=graphc.float32, shape=(2, 3))
    """
    inputs, outputs = fans(shape)
    choices = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}
    label, kinds = "variance_scaling", ["normal", "truncated_normal", "uniform"]
    require(mode in choices, label, f"mode must be one of {sorted(choices)}", mode)
    require(distribution in kinds, label, f"distribution must be one of {kinds}", distribution)
    require(scale > 0, label, "scale must be positive", scale)
    deviation = math.sqrt(scale / max(1, choices[mode]))
    sizes = _static(shape)
    if distribution == "uniform":
        limit = math.sqrt(3.0) * deviation
        return random.uniform(sizes, -limit, limit, dtype, seed, name=name)
    if distribution == "normal":
        return random.normal(sizes, 0.0, deviation, dtype, seed, name=name)
    deviation /= 0.87962566103423978  # the deviation of a Gaussian cut at two of its own
    return random.truncated_normal(sizes, 0.0, deviation, dtype, seed, name=name)


@trimmed
def glorot_uniform(
    shape: Any, dtype: Any = float32, seed: int | None = None, *, name: str | None = None
) -> Tensor:
    """Uniform within `sqrt(6 / (inputs + outputs))`.

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    >>> glorot_uniform((784, 100)).type
    TensorType(dtype=graphc.float32, shape=(784, 100))
    """
    return variance_scaling(shape, 1.0, "fan_avg", "uniform", dtype, seed, name=name)


@trimmed
def glorot_normal(
    shape: Any, dtype: Any = float32, seed: int | None = None, *, name: str | None = None
) -> Tensor:
    """Gaussian of variance `2 / (inputs + outputs)`: X. Glorot, Y. Bengio, AISTATS 2010.

    >>> glorot_normal((784, 100)).type
    TensorType(dtype=graphc.float32, shape=(784, 100))
    """
    return variance_scaling(shape, 1.0, "fan_avg", "normal", dtype, seed, name=name)


@trimmed
def he_uniform(
    shape: Any, dtype: Any = float32, seed: int | None = None, *, name: str | None = None
) -> Tensor:
    """Uniform within `sqrt(6 / inputs)`, for layers followed by relu.

    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015.

    >>> he_uniform((784, 100)).type
    TensorType(dtype=graphc.float32, shape=(784, 100))
    """
    return variance_scaling(shape, 2.0, "fan_in", "uniform", dtype, seed, name=name)


@trimmed
def he_normal(
    shape: Any, dtype: Any = float32, seed: int | None = None, *, name: str | None = None
) -> Tensor:
    """Gaussian of variance `2 / inputs`, for layers followed by relu: K. He et al., ICCV 2015.

    >>> he_normal((784, 100)).type
    TensorType(dtype=graphc.float32, shape=(784, 100))
    """
    return variance_scaling(shape, 2.0, "fan_in", "normal", dtype, seed, name=name)


@trimmed
def lecun_uniform(
    shape: Any, dtype: Any = float32, seed: int | None = None, *, name: str | None = None
) -> Tensor:
    """Uniform within `sqrt(3 / inputs)`.

    Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, "Efficient backprop", 1998.

    >>> lecun_uniform((784, 100)).type
    TensorType(dtype=graphc.float32, shape=(784, 100))
    """
    return variance_scaling(shape, 1.0, "fan_in", "uniform", dtype, seed, name=name)


@trimmed
def lecun_normal(
    shape: Any, dtype: Any = float32, seed: int | None = None, *, name: str | None = None
) -> Tensor:
    """Gaussian of variance `1 / inputs`, as selu wants it: Y. LeCun et al., 1998.

    >>> lecun_normal((784, 100)).type
    TensorType(dtype=graphc.float32, shape=(784, 100))
    """
    return variance_scaling(shape, 1.0, "fan_in", "normal", dtype, seed, name=name)


@trimmed
def orthogonal(
    shape: Any, gain: float = 1.0, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """A random matrix with orthonormal columns (rows, where it is wider than high), times `gain`.

    More than two axes are read as `[everything but the last, last]`. It is the Q of a Gaussian
    matrix, its signs fixed by R, and so uniform among all: A. Saxe, J. McClelland, S. Ganguli,
    "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014.

    >>> orthogonal((4, 3)).type
    TensorType(dtype=graphc.float32, shape=(4, 3))
    """
    sizes = _static(shape)
    if len(sizes) < 2:
        raise ShapeError(f"init.orthogonal: takes at least two sizes, got shape={list(sizes)}")
    rows, columns = math.prod(sizes[:-1]), sizes[-1]
    drawn = random.normal((max(rows, columns), min(rows, columns)), seed=seed, name=name)
    q, r = qr(drawn)
    signed = q * where(less(diagonal(r), 0), -gain, gain)
    matrix = (signed if rows >= columns else signed.T).reshape(sizes)
    return cast(matrix, dtype)
