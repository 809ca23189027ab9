"""Random tensors: every distribution is a composition over `random_bits`.

Enters: a shape (sizes may be symbolic, or integer tensors) and parameters, numbers or tensors.
Leaves: a tensor of draws, which differ from run to run. A session with a seed draws the same in
every process; an op with a `seed` of its own draws the same in every session, whatever the
session's seed, its name or the graph around it. Gradients flow to parameters, not to the draws.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from graphc.dims import Dim
from graphc.dtypes import DType, as_dtype, bool_, float32, float64, int64, summed, uint32, uint64
from graphc.errors import DTypeError, ShapeError, require, trimmed
from graphc.graph import Tensor
from graphc.ops.arith import remainder
from graphc.ops.broadcast import broadcast_to, cast
from graphc.ops.compare import less
from graphc.ops.control import named
from graphc.ops.elementary import log
from graphc.ops.follow import as_shape, is_open
from graphc.ops.gather import take
from graphc.ops.measure import shape as shape_of
from graphc.ops.powers import sqrt
from graphc.ops.random import random_bits
from graphc.ops.reduce import argmax
from graphc.ops.select import clip, where
from graphc.ops.shape import expand_dims
from graphc.ops.sorting import argsort
from graphc.ops.source import as_tensor, full_of
from graphc.ops.trigonometric import cos

# ---------------------------------------------------------------------------- bits to floats


def _bits(shape: Any, dtype: DType, name: str, seed: Any) -> Tensor:
    """Bits of a shape argument; of a tensor of unknown length, too."""
    if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__")):
        raise DTypeError(f"{name}: a seed must be an int, got {seed!r}")
    if is_open(shape):
        return random_bits(None, dtype, name, seed, like=broadcast_to(0, shape))
    return random_bits(_sizes(shape, name), dtype, name, seed)


def _sizes(shape: Any, name: str) -> Any:
    sizes = as_shape(shape)
    if any(isinstance(d, int) and d < 0 for d in sizes):
        raise ShapeError(f"{name}: sizes must not be negative, got shape={list(sizes)}")
    return sizes


def _float(dtype: Any, name: str) -> DType:
    kept = as_dtype(dtype)
    if not kept.is_float:
        raise DTypeError(f"{name}: dtype must be floating, got dtype={kept}")
    return kept


def _word(dtype: DType) -> DType:
    return uint64 if dtype is float64 else uint32


def unit_interval(bits: Tensor, dtype: DType) -> Tensor:
    """Multiples of 2**-24 (2**-53, 2**-11) in [0, 1): as many bits as the significand holds."""
    kept = {16: 11, 32: 24, 64: 53}[dtype.bits]
    return (bits >> (bits.dtype.bits - kept)).astype(dtype) * 2.0**-kept


def _open_unit(bits: Tensor, dtype: DType) -> Tensor:
    """Odd multiples of 2**-24 (2**-53) in (0, 1): never 0, never 1."""
    kept = 52 if dtype is float64 else 23
    return ((bits >> (bits.dtype.bits - kept)).astype(dtype) + 0.5) * 2.0**-kept


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real)


def _parameter(value: Any, dtype: DType, like: Tensor, name: str) -> Tensor:
    """A parameter in the dtype of the draws; it must broadcast to their shape."""
    tensor = as_tensor(value, dtype if _number(value) else None)
    if tensor.dtype.kind == "b":
        raise DTypeError(f"{name}: parameters must be numbers, got {tensor.type}")
    tensor = cast(tensor, dtype)
    if tensor.shape is None or like.shape is None or tensor.shape == ():
        return tensor
    return broadcast_to(tensor, like.shape)


def _require_spread(op: str, **parameter: Any) -> None:
    """A spread that is a number must be finite and not negative, else a ValueError."""
    for name, value in parameter.items():
        if _number(value):
            require(0 <= value < math.inf, op, f"{name} must be finite and not negative", value)


# ---------------------------------------------------------------------------- continuous


@trimmed
def uniform(
    shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Uniform in [low, high), in every dtype: a draw is never equal to `high`.

    `low` and `high` are numbers or tensors that broadcast to `shape`; gradients flow to them.
    ValueError: `low` above `high`, or infinite bounds.

    >>> uniform((2, 3), -1.0, 1.0, seed=1).type
    TensorType(dtype=graphc.float32, shape=(2, 3))
    """
    kept, label = _float(dtype, "uniform"), name or "uniform"
    unit = unit_interval(_bits(shape, _word(kept), label, seed), kept)
    if _number(low) and _number(high):
        with np.errstate(over="ignore"):
            width = kept.numpy.type(high) - kept.numpy.type(low)
        holds = bool(np.isfinite(width) and width >= 0)
        require(holds, "uniform", "low must be at most high, and high - low finite", low, high)
        if low == 0 and high == 1:
            return named(unit, name)
    start, end = (_parameter(v, kept, unit, label) for v in (low, high))
    drawn = start + (end - start) * unit
    # Rounding may reach `high`: that half of a step belongs to `low`, which then has a whole one.
    return where(less(drawn, end), drawn, start, name=name)


def _standard_normal(shape: Any, dtype: DType, name: str, seed: Any) -> Tensor:
    """G. E. P. Box, M. E. Muller, "A note on the generation of random normal deviates", 1958.

    float32 takes the radius and the angle from the halves of one 64-bit word; float64 from two.
    """
    if dtype is float64:
        return _wide_normal(shape, name, seed)
    bits = _bits(shape, uint64, name, seed)
    angle = unit_interval(cast(bits & 0xFFFFFFFF, uint32), float32)
    radius = ((bits >> 32).astype(float32) + 1.0) * 2.0**-32  # in (0, 1]: its log is finite
    return cast(sqrt(log(radius) * -2.0) * cos(angle * (2.0 * math.pi)), dtype)


def _wide_normal(shape: Any, name: str, seed: Any) -> Tensor:
    zeros = broadcast_to(as_tensor(0), shape) if is_open(shape) else full_of(
        0, _sizes(shape, name), int64
    )  # fmt: skip
    pairs = expand_dims(zeros, -1) + np.zeros(2, np.int64)
    bits = random_bits(None, uint64, name, seed, like=pairs)
    radius, angle = (unit_interval(take(bits, k, axis=-1), float64) for k in (0, 1))
    return sqrt(log(1.0 - radius) * -2.0) * cos(angle * (2.0 * math.pi))


def _located(z: Tensor, location: Any, scale: Any, label: str, name: str | None) -> Tensor:
    """`location + scale * z`, through which gradients flow (reparametrisation)."""
    start, spread = (_parameter(v, z.dtype, z, label) for v in (location, scale))
    drawn = z * spread + start
    return named(drawn, name)


@trimmed
def normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Gaussian draws, by the method of Box and Muller; always finite.

    `mean` and `stddev` are numbers or tensors that broadcast to `shape`; gradients flow to them.

    >>> normal((2, 3), mean=5.0, seed=1).type
    TensorType(dtype=graphc.float32, shape=(2, 3))
    """
    kept, label = _float(dtype, "normal"), name or "normal"
    _require_spread("normal", stddev=stddev)
    return _located(_standard_normal(shape, kept, label, seed), mean, stddev, label, name)


# erfinv(x) = x * polynomial(w - 2.5), w = -log(1 - x * x) < 5: M. Giles, "Approximating the erfinv
# function", GPU Computing Gems Jade Edition (2011); its relative error of 3.5e-7 shows in no draws.
_ERFINV = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_WITHIN_TWO = math.erf(math.sqrt(2.0))  # the share of a Gaussian within two deviations: 0.954


@trimmed
def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Gaussian draws that lie within two standard deviations of the mean (TensorFlow's).

    They are not drawn again until they do, but come from the inverse of the distribution function.
    `mean` and `stddev` are numbers or tensors that broadcast to `shape`; gradients flow to them.

    >>> truncated_normal((2, 3), stddev=0.1, seed=1).type
    TensorType(dtype=graphc.float32, shape=(2, 3))
    """
    kept, label = _float(dtype, "truncated_normal"), name or "truncated_normal"
    _require_spread("truncated_normal", stddev=stddev)
    computed = summed(kept)
    unit = _open_unit(_bits(shape, _word(kept), label, seed), computed)
    x = (unit * 2.0 - 1.0) * _WITHIN_TWO
    w = -log(1.0 - x * x) - 2.5
    factor = w * _ERFINV[0] + _ERFINV[1]
    for coefficient in _ERFINV[2:]:
        factor = factor * w + coefficient
    z = clip(x * factor * math.sqrt(2.0), -2.0, 2.0)
    return _located(cast(z, kept), mean, stddev, label, name)


@trimmed
def exponential(
    shape: Any, scale: Any = 1.0, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Exponential draws of mean `scale`, a number or a tensor; positive and finite.

    >>> exponential((2,), seed=1).type
    TensorType(dtype=graphc.float32, shape=(2,))
    """
    kept, label = _float(dtype, "exponential"), name or "exponential"
    _require_spread("exponential", scale=scale)
    unit = _open_unit(_bits(shape, _word(kept), label, seed), summed(kept))
    return _located(cast(-log(unit), kept), 0.0, scale, label, name)


@trimmed
def gumbel(
    shape: Any, loc: Any = 0.0, scale: Any = 1.0, dtype: Any = float32, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Gumbel draws, `loc - scale * log(-log(u))`: the largest of many independent values.

    >>> gumbel((2,), seed=1).type
    TensorType(dtype=graphc.float32, shape=(2,))
    """
    kept, label = _float(dtype, "gumbel"), name or "gumbel"
    _require_spread("gumbel", scale=scale)
    noise = _gumbel_of(_bits(shape, _word(kept), label, seed), kept)
    return _located(noise, loc, scale, label, name)


def _gumbel_of(bits: Tensor, dtype: DType) -> Tensor:
    return cast(-log(-log(_open_unit(bits, summed(dtype)))), dtype)


# ---------------------------------------------------------------------------- discrete


@trimmed
def bernoulli(
    shape: Any, p: Any = 0.5, dtype: Any = bool_, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """True (or 1, in another dtype) with probability `p`, a number or a tensor.

    ValueError: a number `p` outside [0, 1]. There is no gradient with respect to `p`.

    >>> bernoulli((4,), 1.0).eval()
    array([ True,  True,  True,  True])
    """
    label = name or "bernoulli"
    if _number(p):
        require(0 <= p <= 1, "bernoulli", "p must be a probability", p)
    kept = float64 if isinstance(p, Tensor) and p.dtype is float64 else float32
    unit = unit_interval(_bits(shape, _word(kept), label, seed), kept)
    drawn = cast(less(unit, _parameter(p, kept, unit, label)), as_dtype(dtype))
    return named(drawn, name)


@trimmed
def integers(
    shape: Any, low: Any, high: Any = None, dtype: Any = int64, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Whole numbers in [low, high), or in [0, low) where `high` is None, as NumPy's.

    The bounds are ints or integer tensors that broadcast to `shape`. Each value's probability is
    right to within 2**-64. ValueError: bounds that leave nothing, or do not fit the dtype.

    >>> integers((3,), 5, 6).eval()
    array([5, 5, 5])
    """
    label, kept = name or "integers", as_dtype(dtype)
    if kept.kind not in "iu":
        raise DTypeError(f"{label}: dtype must be an integer type, got dtype={kept}")
    low, high = (0, low) if high is None else (low, high)
    bits = _bits(shape, uint64, label, seed)
    if isinstance(low, numbers.Integral) and isinstance(high, numbers.Integral):
        limits, bottom, top = np.iinfo(kept.numpy), int(low), int(high)
        fits = limits.min <= bottom < top <= limits.max + 1
        rule = f"low must be less than high, and both fit {kept}"
        require(fits, "integers", rule, bottom, top)
        count, start = top - bottom, as_tensor(bottom, kept)
        offset = bits if count == 2**64 else remainder(bits, np.array(count, np.uint64))
    else:
        bounds = [as_tensor(v) for v in (low, high)]
        if any(t.dtype.kind not in "iu" for t in bounds):
            raise DTypeError(
                f"{label}: bounds must be integers, got {bounds[0].type}, {bounds[1].type}"
            )
        start, end = (_parameter(t, kept, bits, label) for t in bounds)
        offset = remainder(bits, cast(end - start, uint64))
    drawn = cast(offset, kept) + start
    return named(drawn, name)


randint = integers


@trimmed
def categorical(
    logits: Any, num_samples: int | Dim | None = None, dtype: Any = int64, seed: int | None = None,
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Class numbers, drawn with the probabilities softmax(logits) of the last axis.

    Shapes: `[..., classes]` gives `[...]`, or `[..., num_samples]`. By the Gumbel-max method: the
    largest of the logits, each with Gumbel noise of its own. A logit of -inf is never drawn.

    >>> categorical([[0.0, -np.inf], [-np.inf, 0.0]]).eval()
    array([0, 1])
    """
    tensor = as_tensor(logits)
    if not tensor.dtype.is_float:
        raise DTypeError(f"categorical: logits must be floats, got {tensor.type}")
    if num_samples is not None:
        rows = full_of(0.0, (*as_shape(num_samples), 1), tensor.dtype)
        tensor = expand_dims(tensor, -2) + rows
    bits = random_bits(None, _word(tensor.dtype), name or "categorical", seed, like=tensor)
    noise = _gumbel_of(bits, tensor.dtype)
    return cast(argmax(tensor + noise, axis=-1), as_dtype(dtype), name=name)


# ---------------------------------------------------------------------------- orders


@trimmed
def permutation(x: Any, seed: int | None = None, *, name: str | None = None) -> Tensor:
    """The numbers 0 to x - 1 in random order for a size `x`, or the rows of a tensor `x`: NumPy's.

    >>> permutation(4, seed=1).type
    TensorType(dtype=graphc.int64, shape=(4,))
    """
    if isinstance(x, (numbers.Integral, Dim)):
        bits = _bits((x,), uint64, name or "permutation", seed)
        return cast(argsort(bits), int64, name=name)
    return shuffle(x, seed, name=name)


@trimmed
def shuffle(x: Any, seed: int | None = None, *, name: str | None = None) -> Tensor:
    """The rows of `x` (its elements along the first axis) in random order; gradients follow them.

    Shape: that of `x`, which has at least one axis.

    >>> shuffle([1, 1, 1]).eval()
    array([1, 1, 1])
    """
    tensor = as_tensor(x)
    if tensor.shape == ():
        raise ShapeError(f"shuffle: takes at least one axis, got x: {tensor.type}")
    rows = take(shape_of(tensor), 0) if tensor.shape is None else tensor.shape[0]
    order = argsort(_bits((rows,), uint64, name or "shuffle", seed))
    return take(tensor, order, axis=0, name=name)
