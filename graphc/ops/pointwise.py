"""The pointwise family: a decorator that turns a documented signature into an op and its builder.

    @pointwise(np.exp, vjp=lambda g, y, x: g * y, domain=elementwise((-5, 5)), rule=in_floats)
    def exp(x): '''e to the power x.'''

The function's body is never run: its parameters name the operands, its docstring documents them.
A `rule` says in which dtype the operands meet, given theirs; Python numbers are weak beside them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc.build import Check, make
from graphc.dims import Dim
from graphc.dtypes import DType, bool_, float32, float64, floating, int8, promote, weak
from graphc.errors import DTypeError, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import broadcast_operands, cast
from graphc.ops.control import identity
from graphc.ops.domain import Domain
from graphc.ops.source import as_tensor, is_weak
from graphc.types import TensorType

KINDS = {"b": "bool", "i": "integer", "u": "unsigned integer", "f": "float"}
Rule: TypeAlias = Callable[[Sequence[DType]], DType]

# ---------------------------------------------------------------------------- dtype rules


def promoted(dtypes: Sequence[DType]) -> DType:
    """The dtype that holds all, as NumPy's add."""
    return dtypes[0] if len(dtypes) == 1 else functools.reduce(promote, dtypes)


def in_floats(dtypes: Sequence[DType]) -> DType:
    """The floating dtype in which NumPy computes exp: float16 for int8, float64 for int64."""
    return promoted([floating(dtype) for dtype in dtypes])


def as_quotient(dtypes: Sequence[DType]) -> DType:
    """Floats as they are, all else float64, as NumPy's true_divide."""
    dtype = promoted(dtypes)
    return dtype if dtype.is_float else float64


def counted(dtypes: Sequence[DType]) -> DType:
    """Booleans as int8, as NumPy's power."""
    dtype = promoted(dtypes)
    return int8 if dtype is bool_ else dtype


def as_truth(dtypes: Sequence[DType]) -> DType:
    """Booleans, as NumPy's logical_and: what is not 0 is true."""
    return bool_


def _joined(numbers: Sequence[Any], strong: DType | None) -> DType:
    """The dtype that Python numbers make beside the tensors' common one."""
    dtype = strong
    for number in numbers:
        dtype = weak(0 if isinstance(number, Dim) else number, dtype)
    assert dtype is not None, "an op has operands"
    return dtype


def common_operands(op: Op, values: Sequence[Any], rule: Rule, takes: str) -> list[Tensor]:
    """Tensors of the values, all in the dtype that the rule gives; its kind must be in `takes`."""
    tensors = [None if is_weak(v) else as_tensor(v) for v in values]
    strong = [t.dtype for t in tensors if t is not None]
    numbers = [v for v, t in zip(values, tensors, strict=True) if t is None]
    meeting = promoted(strong) if strong else None
    joined = _joined(numbers, meeting) if numbers else promoted(strong)
    if joined.kind not in takes:
        kinds = " or ".join(KINDS[kind] for kind in takes)
        Check(op, list(map(as_tensor, values)), {}).fail(f"takes {kinds} operands", DTypeError)
    dtype = rule(strong if joined is meeting else [joined])
    if not strong and dtype.is_float:
        dtype = float32  # numbers alone never widen a float32 graph
    return [
        number_operand(v, dtype) if t is None else cast(t, dtype)
        for v, t in zip(values, tensors, strict=True)
    ]


def number_operand(number: Any, dtype: DType) -> Tensor:
    """A Python number or a size as an operand of this dtype."""
    return as_tensor(bool(number) if dtype is bool_ else number, dtype)


# ---------------------------------------------------------------------------- type rules


def same_type(check: Check, *types: TensorType, **_: Any) -> DType:
    """The one dtype of all operands."""
    dtype = types[0].dtype
    if any(t.dtype is not dtype for t in types):
        check.fail("operands must have one dtype", DTypeError)
    return dtype


def _boolean(check: Check, *types: TensorType, **_: Any) -> DType:
    same_type(check, *types)
    return bool_


def pointwise_shape(check: Check, *types: TensorType, **_: Any) -> Any:
    """One shape for all operands."""
    return check.broadcast([t.shape for t in types])  # type: ignore[misc]  # ranks are known


def build_pointwise(op: Op, tensors: Sequence[Tensor], name: str | None, **attrs: Any) -> Tensor:
    """The node over operands broadcast to one shape (dtypes are the caller's concern)."""
    return make(op, broadcast_operands(op, tensors), attrs, name)


# ---------------------------------------------------------------------------- the decorator


def pointwise(
    oracle: Callable[..., Any],
    *,
    vjp: Callable[..., Any] | None = None,
    element: Callable[..., Any] | None = None,
    domain: Domain,
    takes: str = "biuf",
    rule: Rule = promoted,
    result: str = "same",
    unchanged: str = "",
    cuts: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Tensor]]:
    """Make an op of a signature.

    The operands' promoted dtype must be of a kind in `takes`; `rule` gives the dtype in which they
    meet. `result` is "same" (as the operands) or "bool". An operand of a kind in `unchanged` is
    itself the result (the floor of an integer). No `vjp` needs `cuts`.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Tensor]:
        params = tuple(p for p in inspect.signature(function).parameters if p != "name")
        count = len(params)

        def build(*tensors: Tensor, name: str | None = None) -> Tensor:
            return build_pointwise(op, tensors, name)

        op = Op(
            function.__name__.rstrip("_"), "pointwise", params,
            dtype=_boolean if result == "bool" else same_type,
            shape=pointwise_shape,
            oracle=quiet(oracle),
            build=build,
            vjp=vjp,
            element=element,
            domain=domain,
            cuts=cuts,
        )  # fmt: skip

        @trimmed
        @functools.wraps(function)
        def builder(*values: Any, name: str | None = None, **named: Any) -> Tensor:
            if named or len(values) != count:
                values = _bind(op.name, params, values, named)
            tensors: Sequence[Tensor] = values
            first = values[0].dtype if isinstance(values[0], Tensor) else None
            if (
                first is None
                or first.kind not in takes
                or any(not isinstance(v, Tensor) or v.dtype is not first for v in values[1:])
                or rule((first,)) is not first
            ):
                tensors = common_operands(op, values, rule, takes)
            if unchanged and tensors[0].dtype.kind in unchanged:
                return identity(tensors[0], name=name)
            return build(*tensors, name=name)

        builder.op = op  # type: ignore[attr-defined]  # a function takes attributes
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


# ---------------------------------------------------------------------------- for gradient rules


def constant_of(tensor: Tensor) -> float | None:
    """The one finite number that a tensor is everywhere, where this can be seen at once."""
    if tensor.node.op.name != "full":
        return None
    value = tensor.node.attrs["value"]
    return float(value) if not isinstance(value, Dim) and np.isfinite(value) else None
