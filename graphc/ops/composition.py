"""Builders that compose other builders, and need to know ranks to do it.

    @composition("a", "b", dtype=promoted_dtype)
    def tensordot(a, b, axes=2, *, name=None): ...

Where every rank is known, calling it runs its body. Where one is not, it leaves a single node that
`specialise` replaces by the body's result, once a run's feeds have brought the ranks. A body that
must know more (`Check.ask` gave None) returns None, and waits in the same way.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from graphc.build import Check, apply
from graphc.dtypes import DType, promote
from graphc.errors import trimmed
from graphc.graph import Op, Tensor
from graphc.ops.domain import Domain
from graphc.ops.source import as_tensors
from graphc.types import TensorType

F = TypeVar("F", bound=Callable[..., Any])


def promoted_dtype(check: Check, *types: TensorType, **_: Any) -> DType:
    """The dtype that holds all operands."""
    return functools.reduce(promote, (t.dtype for t in types))


def replaced(*_: Any, **__: Any) -> Any:
    """The oracle and the gradient rule of an op whose nodes a pass replaces before a run."""
    raise AssertionError("a pass replaces every node of this op before a graph is run")


def _open(check: Check, *types: TensorType, **attrs: Any) -> Any:
    """No shape yet, for each output."""
    outputs = check.op.outputs
    if outputs is None:
        return None
    return (None,) * (outputs if isinstance(outputs, int) else outputs(**attrs))


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def composition(
    *operands: str,
    dtype: Callable[..., Any] = promoted_dtype,
    outputs: Callable[..., int] | int | None = None,
    rankless: Callable[..., Any] | None = None,
) -> Callable[[F], F]:
    """Convert the parameters called `operands` to tensors; defer where a rank is unknown.

    The other parameters are attributes. `dtype`, `outputs` and `rankless` are those of `graph.Op`.
    """

    def wrap(function: F) -> F:
        signature = inspect.signature(function)

        def build(*tensors: Tensor, name: str | None = None, **attrs: Any) -> Any:
            result = None
            if all(t.shape is not None for t in tensors):
                result = function(**dict(zip(operands, tensors, strict=True)), **attrs, name=name)
            return apply(op, tensors, attrs, name) if result is None else result

        op = Op(
            function.__name__.strip("_"), "deferred", operands, dtype, _open, replaced,
            build=build, vjp=replaced, outputs=outputs, rankless=rankless, domain=Domain(()),
        )  # fmt: skip

        @trimmed
        @functools.wraps(function)
        def builder(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            tensors = as_tensors([given.pop(p) for p in operands])
            name = given.pop("name", None)
            return build(*tensors, name=name, **{k: _hashable(v) for k, v in given.items()})

        builder.op = op  # type: ignore[attr-defined]  # a function takes attributes
        return builder  # type: ignore[return-value]  # of the same signature

    return wrap
