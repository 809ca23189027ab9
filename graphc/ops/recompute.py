"""Gradient checkpoints: values that a backward pass computes again instead of keeping them.

`checkpoint(function)` marks what a function builds, by its scope; `differentiate` does the rest:
the gradient rules of marked nodes read copies of these nodes, made from the inputs of the region
behind a `recompute` barrier. T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training deep nets with
sublinear memory cost", 2016.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from graphc.build import make
from graphc.context import checkpoint_scope
from graphc.errors import GradientError, brief, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.domain import cases
from graphc.types import TensorType

P = ParamSpec("P")
R = TypeVar("R")


def _first_dtype(check: Any, x: TensorType, *after: TensorType) -> Any:
    return x.dtype


def _first_shape(check: Any, x: TensorType, *after: TensorType) -> Any:
    return x.shape


RECOMPUTE = Op(
    "recompute", "barrier", ("x", "after"), _first_dtype, _first_shape,
    oracle=lambda x, *after: x,
    vjp=lambda g, y, x, *after: (g, *(None for _ in after)),
    element=lambda index, x, *after: x(*index),
    domain=cases(
        ((), (), {}), ((2, 3), (), {}), ((2, 3), (4,), {}), ((0, 2), (2, 1), {}),
        ((3,), (3,), (2, 2), {}), kinds="biuf", smooth=False,
    ),
)  # fmt: skip


def barrier(x: Tensor, after: Sequence[Tensor]) -> Tensor:
    """`x`, for readers that must not run before all of `after` are computed.

    No pass merges what is read through a barrier with what is read without, or moves it before.
    """
    return make(RECOMPUTE, (x, *after))


@trimmed
def checkpoint(function: Callable[P, R]) -> Callable[P, R]:
    """The same function of tensors, whose inner values are not kept for the backward pass.

    Gradients compute them again from what the function reads (its arguments, and tensors and
    variables from outside), when the backward pass gets there: the memory of one call at a time
    instead of that of all, for one more forward pass. Values and gradients stay the same bit for
    bit, random numbers and names included; outside of gradients nothing changes. Checkpoints nest:
    the inner one is computed again within the outer one. TensorFlow's `recompute_grad`; for a
    choice by a budget, see `gradients(..., memory_budget=...)`.

    Raises GradientError where `function` is no function.

    >>> x = constant([1.0, 2.0])
    >>> @checkpoint
    ... def layer(x):
    ...     return (x * x).sum()
    >>> gradients(layer(x), [x])[0].eval()
    array([2., 4.], dtype=float32)
    """
    if not callable(function):
        raise GradientError(
            f"checkpoint: takes a function, and gives one of the same tensors: "
            f"checkpoint(function)(x), got {brief(function)}"
        )

    @functools.wraps(function)
    def checkpointed(*args: P.args, **kwargs: P.kwargs) -> R:
        with checkpoint_scope():
            return function(*args, **kwargs)

    return checkpointed
