"""The pointwise family: a decorator that turns a documented signature into an op and its builder.

    @pointwise(np.exp, vjp=lambda g, y, x: g * y, domain=elementwise((-5, 5)))
    def exp(x): '''e to the power x.'''

The function's body is never run: its parameters name the operands, its docstring documents them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.dtypes import DType, bool_, floating, promote
from graphc.errors import DTypeError, trimmed
from graphc.graph import Check, Op, Tensor, make
from graphc.ops.broadcast import broadcast_operands, cast
from graphc.ops.domain import Domain
from graphc.ops.source import as_tensors
from graphc.types import TensorType

KINDS = {"b": "bool", "i": "integer", "u": "unsigned integer", "f": "float"}


def _same(check: Check, *types: TensorType, **_: Any) -> DType:
    return types[0].dtype


def _boolean(check: Check, *types: TensorType, **_: Any) -> DType:
    return bool_


def pointwise_shape(check: Check, *types: TensorType, **_: Any) -> Any:
    """One shape for all operands."""
    return check.broadcast([t.shape for t in types])  # type: ignore[misc]  # ranks are known


def _common(op: Op, tensors: Sequence[Tensor], takes: str, floats: bool) -> list[Tensor]:
    dtype = functools.reduce(promote, (t.dtype for t in tensors))
    if floats:
        dtype = floating(dtype)
    if dtype.kind not in takes:
        kinds = " or ".join(KINDS[k] for k in takes)
        Check(op, tensors, {}).fail(f"takes {kinds} operands", DTypeError)
    return [cast(t, dtype) for t in tensors]


def build_pointwise(op: Op, tensors: Sequence[Tensor], name: str | None, **attrs: Any) -> Tensor:
    """The node over operands broadcast to one shape (dtypes are the caller's concern)."""
    tensor: Tensor = make(op, broadcast_operands(op, tensors), attrs, name)
    return tensor


def pointwise(
    oracle: Callable[..., Any],
    *,
    vjp: Callable[..., Any] | None = None,
    element: Callable[..., Any] | None = None,
    domain: Domain,
    takes: str = "biuf",
    floats: bool = False,
    result: str = "same",
    cuts: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Tensor]]:
    """Make an op of a signature.

    Operands are promoted to one dtype, whose kind must be in `takes`; `floats` makes that type a
    floating one, as NumPy does for exp. `result` is "same" or "bool". No `vjp` needs `cuts`.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Tensor]:
        params = tuple(p for p in inspect.signature(function).parameters if p != "name")

        def build(*tensors: Tensor, name: str | None = None) -> Tensor:
            return build_pointwise(op, tensors, name)

        op = Op(
            function.__name__.rstrip("_"), "pointwise", params,
            dtype=_boolean if result == "bool" else _same,
            shape=pointwise_shape,
            oracle=oracle,
            build=build,
            vjp=vjp,
            element=element,
            domain=domain,
            cuts=cuts,
        )  # fmt: skip

        @trimmed
        @functools.wraps(function)
        def builder(*values: Any, name: str | None = None, **named: Any) -> Tensor:
            if named or len(values) != len(params):
                values = _bind(op.name, params, values, named)
            tensors: Sequence[Tensor] = as_tensors(values)
            first = tensors[0].dtype
            if first.kind not in takes or floats and first.kind != "f" or any(
                t.dtype is not first for t in tensors
            ):
                tensors = _common(op, tensors, takes, floats)
            return build(*tensors, name=name)

        builder.op = op  # type: ignore[attr-defined]
        return builder

    return wrap


def _bind(op: str, params: tuple[str, ...], values: Sequence[Any], named: dict[str, Any]) -> Any:
    given = dict(zip(params, values, strict=False)) | named
    if set(given) != set(params) or len(values) + len(named) != len(params):
        raise TypeError(f"{op}() takes ({', '.join(params)}), got {len(values)} positional and "
                        f"{sorted(named)}")  # fmt: skip
    return [given[p] for p in params]


def quiet(oracle: Callable[..., Any]) -> Callable[..., Any]:
    """An oracle that follows IEEE 754 without NumPy's warnings."""

    @functools.wraps(oracle)
    def run(*arrays: Any, **attrs: Any) -> Any:
        with np.errstate(all="ignore"):
            return oracle(*arrays, **attrs)

    return run
