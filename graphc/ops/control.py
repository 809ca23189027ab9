"""Ops that compute nothing: identity, stop_gradient, print, stand_in."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Shape
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import same_dtype
from graphc.ops.domain import elementwise
from graphc.ops.source import as_tensor
from graphc.types import TensorType


def _same_shape(check: Any, x: TensorType, **_: Any) -> Any:
    return x.shape


IDENTITY = Op(
    "identity", "pointwise", ("x",), same_dtype, _same_shape,
    oracle=lambda x: x,
    vjp=lambda g, y, x: g,
    element=lambda x: x,
    domain=elementwise((-2, 2), kinds="biuf"),
)  # fmt: skip
STOP_GRADIENT = Op(
    "stop_gradient", "pointwise", ("x",), same_dtype, _same_shape,
    oracle=lambda x: x,
    element=lambda x: x,
    domain=elementwise((-2, 2), kinds="biuf"),
    cuts="the program says so",
)  # fmt: skip


def _print_oracle(x: np.ndarray[Any, Any], message: str) -> np.ndarray[Any, Any]:
    text = np.array2string(x, threshold=20, separator=", ")
    builtins.print(f"{message}{text}", flush=True)
    return x


PRINT = Op(
    "print", "host", ("x",), same_dtype, _same_shape,
    oracle=_print_oracle,
    vjp=lambda g, y, x, message: g,
    domain=elementwise((-2, 2), kinds="biuf", attrs={"message": ""}),
)  # fmt: skip


def _stand_in_shape(check: Check, original: TensorType, value: TensorType) -> Shape:
    assert original.shape is not None and value.shape is not None
    if len(original.shape) != len(value.shape):
        check.fail("what stands for a tensor must have its rank")
    pairs = zip(original.shape, value.shape, strict=True)
    rule = "what stands for a tensor must have its shape"
    return tuple(check.equal(a, b, rule) for a, b in pairs)


STAND_IN = Op(
    "stand_in", "pointwise", ("original", "value"), same_dtype, _stand_in_shape,
    oracle=lambda original, value: value,
    vjp=lambda g, y, original, value: (g, None),
    element=lambda original, value: value,
    domain=elementwise((-2, 2), (-2, 2), kinds="biuf", smooth=False),
)  # fmt: skip


def stand_in(original: Tensor, value: Tensor) -> Tensor:
    """`value`, through which gradients flow on to what `original` was made of.

    A tensor inside a graph that is fed, or given another value, keeps its place in the chain rule.
    """
    return make(STAND_IN, (original, value))


def named(x: Tensor, name: str | None) -> Tensor:
    """The result of a composition, under the name that its caller gave, if any."""
    return x if name is None else make(IDENTITY, (x,), {}, name)


@trimmed
def identity(x: Any, *, name: str | None = None) -> Tensor:
    """`x` itself, as a tensor of its own (to name it, or to take a gradient at this place).

    >>> identity([1, 2]).eval()
    array([1, 2])
    """
    return make(IDENTITY, (as_tensor(x),), {}, name)


@trimmed
def stop_gradient(x: Any, *, name: str | None = None) -> Tensor:
    """`x`, through which no gradient flows.

    >>> stop_gradient([1.0, 2.0]).eval()
    array([1., 2.], dtype=float32)
    """
    return make(STOP_GRADIENT, (as_tensor(x),), {}, name)


@trimmed
def print(x: Any, message: str | None = None, *, name: str | None = None) -> Tensor:
    """`x`, printed each time a run computes it; use the result, or the print is not reached.

    >>> _ = print([1, 2], "x = ").eval()
    x = [1, 2]
    """
    tensor = as_tensor(x)
    label = f"{tensor.name}: " if message is None else message
    return make(PRINT, (tensor,), {"message": label}, name)
