"""Losses: what a network's output is held against, one value a row, an element, or a batch.

Labels and predictions must have equal ranks and sizes: `(n,)` against `(n, 1)` would broadcast to
`(n, n)` without a word, and is refused instead. Sizes that only a run decides are compared then.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from graphc.build import ASSUMPTIONS, Check, make
from graphc.dims import Shape
from graphc.dtypes import DType, floating, uint64
from graphc.errors import DTypeError, require, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.along_axis import take_along_axis
from graphc.ops.arith import masked_multiply, negative
from graphc.ops.broadcast import as_floats, cast
from graphc.ops.compare import greater_equal
from graphc.ops.composition import replaced
from graphc.ops.control import named
from graphc.ops.domain import Domain
from graphc.ops.elementary import log, softplus
from graphc.ops.reduce import mean
from graphc.ops.select import clip, where
from graphc.ops.shape import expand_dims, squeeze
from graphc.ops.softmax import log_softmax
from graphc.ops.source import as_tensors
from graphc.types import TensorType

# ---------------------------------------------------------------------------- the shapes


def _text(a: TensorType, b: TensorType) -> str:
    return f"{a} against {b} would broadcast silently"


def _equal(check: Check, a: TensorType, b: TensorType, **_: Any) -> Shape:
    """One shape for both."""
    assert a.shape is not None and b.shape is not None
    rule = f"{check.op.params[0]} and {check.op.params[1]} must have equal shapes"
    if len(a.shape) != len(b.shape):
        check.fail(f"{rule} ({_text(a, b)})")
    return tuple(check.equal(m, n, rule) for m, n in zip(a.shape, b.shape, strict=True))


def _rows(check: Check, labels: TensorType, logits: TensorType, **_: Any) -> Shape:
    """One value for each row of equal shapes."""
    shape = _equal(check, labels, logits)
    if not shape:
        check.fail("takes at least one axis, the last of them the classes")
    return shape[:-1]


def _numbered(check: Check, labels: TensorType, logits: TensorType, **_: Any) -> Shape:
    """One value for each row of `logits`, whose class is a number."""
    assert labels.shape is not None and logits.shape is not None
    names = check.op.params
    if "labels" not in names:
        names = ("target", "output")
    rule = f"{names[0]} must have the shape of {names[1]} without its last axis, the classes"
    if len(logits.shape) != len(labels.shape) + 1:
        check.fail(rule)
    pairs = zip(labels.shape, logits.shape, strict=False)
    return tuple(check.equal(m, n, rule) for m, n in pairs)


def _either(check: Check, output: TensorType, target: TensorType, **_: Any) -> Shape:
    """Classes as numbers, or as rows of probabilities."""
    assert output.shape is not None and target.shape is not None
    if target.dtype.kind in "iu" and len(target.shape) < len(output.shape):
        return _numbered(check, target, output)
    return _rows(check, output, target)


def _scalar(check: Check, a: TensorType, b: TensorType, **_: Any) -> Shape:
    _equal(check, a, b)
    return ()


def _second(check: Check, a: TensorType, b: TensorType, **_: Any) -> DType:
    return floating(b.dtype)


def _second_numbered(check: Check, labels: TensorType, logits: TensorType, **_: Any) -> DType:
    if labels.dtype.kind not in "iu":
        check.fail("labels, class numbers, must be integers", DTypeError)
    return floating(logits.dtype)


def _first(check: Check, a: TensorType, b: TensorType, **_: Any) -> DType:
    return floating(a.dtype)


def _loss(
    shape: Callable[..., Shape], dtype: Callable[..., DType]
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """A composition of two operands, whose shapes are compared: now, or when a run knows them."""

    def wrap(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        signature = inspect.signature(function)
        params = tuple(signature.parameters)[:2]

        def build(a: Tensor, b: Tensor, name: str | None = None, **attrs: Any) -> Tensor:
            if a.shape is not None and b.shape is not None:
                check = Check(op, (a, b), attrs)
                dtype(check, a.type, b.type)
                shape(check, a.type, b.type)
                if check.settled or ASSUMPTIONS.get() is not None:
                    return function(a, b, name=name, **attrs)
            return make(op, (a, b), attrs, name)

        op = Op(
            function.__name__, "deferred", params, dtype, shape, replaced,
            build=build, vjp=replaced, domain=Domain(()),
        )  # fmt: skip

        @trimmed
        @functools.wraps(function)
        def builder(*args: Any, **kwargs: Any) -> Tensor:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            a, b = as_tensors([given.pop(p) for p in params])
            return build(a, b, **given)

        builder.op = op  # type: ignore[attr-defined]  # a function takes attributes
        return builder

    return wrap


def _picked(rows: Tensor, classes: Tensor) -> Tensor:
    """From each row the element of its class; a negative class is out of range, not the last."""
    if classes.dtype.kind == "i":
        classes = cast(classes, uint64)
    return squeeze(take_along_axis(rows, expand_dims(classes, -1), -1), -1)


# ---------------------------------------------------------------------------- from logits


@_loss(_rows, _second)
def softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, *, name: str | None = None
) -> Tensor:
    """`-sum(labels * log_softmax(logits))` along the last axis: one value a row.

    Shapes: both `[..., classes]`; the result is `[...]`. The labels are probabilities (or one-hot
    rows, of any dtype). A label of 0 adds 0, even where the logit is -inf. Gradients flow to both.

    >>> softmax_cross_entropy_with_logits(labels=[[0.0, 1.0]], logits=[[0.0, 0.0]]).eval()
    array([0.6931472], dtype=float32)
    """
    rows = log_softmax(as_floats(logits), -1)
    return negative(masked_multiply(as_floats(labels, logits), rows).sum(-1), name=name)


@_loss(_numbered, _second_numbered)
def sparse_softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, *, name: str | None = None
) -> Tensor:
    """`-log_softmax(logits)` at each row's class number: one value a row.

    Shapes: integer labels `[...]` and logits `[..., classes]` give `[...]`. A label outside
    [0, classes) is a ShapeError in the run.

    >>> sparse_softmax_cross_entropy_with_logits(labels=[1], logits=[[0.0, 0.0]]).eval()
    array([0.6931472], dtype=float32)
    """
    return negative(_picked(log_softmax(as_floats(logits), -1), labels), name=name)


@_loss(_equal, _second)
def sigmoid_cross_entropy_with_logits(
    labels: Any, logits: Any, *, name: str | None = None
) -> Tensor:
    """`-labels * log(sigmoid(logits)) - (1 - labels) * log(1 - sigmoid(logits))`, an element each.

    Shapes: equal; the labels may have any dtype. Computed as
    `max(z, 0) - z * labels + log(1 + exp(-|z|))`, which neither overflows nor cancels, and whose
    branches meet so that the gradient at a logit of exactly 0 is right too.

    >>> sigmoid_cross_entropy_with_logits(labels=[1, 0], logits=[0.0, 100.0]).eval()
    array([  0.6931472, 100.       ], dtype=float32)
    """
    z = as_floats(logits)
    positive = greater_equal(z, 0)
    ramp = where(positive, z, 0) - z * as_floats(labels, logits)
    total = ramp + softplus(where(positive, -z, z))
    return named(total, name)


# ---------------------------------------------------------------------------- from probabilities


@_loss(_equal, _first)
def binary_crossentropy(output: Any, target: Any, *, name: str | None = None) -> Tensor:
    """`-target * log(output) - (1 - target) * log(1 - output)`, an element each: Theano's.

    Shapes: equal. Of `output = sigmoid(x)` this is as precise as
    `sigmoid_cross_entropy_with_logits` of x, since logarithms of sigmoids are rewritten. A target
    of 0 or 1 never meets the infinite logarithm of its other side.

    >>> binary_crossentropy([0.5, 0.5], [1.0, 0.0]).eval()
    array([0.6931472, 0.6931472], dtype=float32)
    """
    p, t = as_floats(output), as_floats(target, output)
    return negative(masked_multiply(t, log(p)) + masked_multiply(1.0 - t, log(1.0 - p)), name=name)


@_loss(_either, _first)
def categorical_crossentropy(output: Any, target: Any, *, name: str | None = None) -> Tensor:
    """`-sum(target * log(output))` along the last axis, one value a row: Theano's.

    Shapes: `output` `[..., classes]`, of probabilities; `target` the same, or integers `[...]` that
    number the classes. Of `output = softmax(x)` this is as precise as
    `softmax_cross_entropy_with_logits` of x, since logarithms of softmaxes are rewritten.

    >>> categorical_crossentropy([[0.25, 0.75]], [0]).eval()
    array([1.3862944], dtype=float32)
    """
    rows = log(as_floats(output))
    if target.dtype.kind in "iu" and len(target.shape) < len(output.shape):
        return negative(_picked(rows, target), name=name)
    return negative(masked_multiply(as_floats(target, output), rows).sum(-1), name=name)


# ---------------------------------------------------------------------------- distances


@_loss(_scalar, _second)
def mean_squared_error(labels: Any, predictions: Any, *, name: str | None = None) -> Tensor:
    """The mean of `(predictions - labels) ** 2` over all elements of equal shapes: a scalar.

    >>> mean_squared_error([1.0, 2.0], [1.0, 4.0]).eval()
    array(2., dtype=float32)
    """
    error = as_floats(predictions) - as_floats(labels, predictions)
    return mean(error * error, name=name)


@_loss(_scalar, _second)
def mean_absolute_error(labels: Any, predictions: Any, *, name: str | None = None) -> Tensor:
    """The mean of `|predictions - labels|` over all elements of equal shapes: a scalar.

    >>> mean_absolute_error([1.0, 2.0], [1.0, 4.0]).eval()
    array(1., dtype=float32)
    """
    return mean(abs(as_floats(predictions) - as_floats(labels, predictions)), name=name)


@_loss(_scalar, _second)
def huber_loss(
    labels: Any, predictions: Any, delta: float = 1.0, *, name: str | None = None
) -> Tensor:
    """The mean of `e**2 / 2` where `|e| <= delta` and `delta * (|e| - delta / 2)` beyond: a scalar.

    P. J. Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964).

    >>> huber_loss([0.0, 0.0], [1.0, 3.0]).eval()
    array(1.5, dtype=float32)
    """
    require(delta > 0, "huber_loss", "delta must be positive", delta)
    error = as_floats(predictions) - as_floats(labels, predictions)
    near = clip(error, -delta, delta)
    return mean(near * near * 0.5 + (abs(error) - abs(near)) * delta, name=name)
