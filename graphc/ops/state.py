"""Updates of variables: fetches that write, so that the graph itself stays pure.

A run reads every variable's value at its start; all writes land together at its end. An `Update`
pairs a variable with `.value`, the tensor that will be written.
"""

from __future__ import annotations

from typing import Any

from graphc.build import Check
from graphc.context import Where, origin
from graphc.dtypes import promote
from graphc.errors import DTypeError, FetchError, trimmed
from graphc.graph import Op, Tensor
from graphc.ops import gather
from graphc.ops.broadcast import broadcast_to
from graphc.ops.domain import Domain
from graphc.ops.source import Variable, as_tensor, no_oracle

ASSIGN = Op(
    "assign", "state", ("variable", "value"),
    dtype=lambda check, variable, value: variable.dtype,
    shape=lambda check, variable, value: variable.shape,
    oracle=no_oracle,
    domain=Domain(()),
    cuts="an update is no tensor",
)  # fmt: skip


class Update:
    """One write to one variable; fetching it writes at the end of the run and gives None."""

    __slots__ = ("value", "variable", "where")

    def __init__(self, variable: Variable, value: Tensor, where: Where) -> None:
        self.variable = variable
        self.value = value
        self.where = where

    def __repr__(self) -> str:
        return f"<update of {self.variable.name!r} with {self.value.type} at {self.where}>"


class Group:
    """Several updates as one fetch."""

    __slots__ = ("updates",)

    def __init__(self, updates: tuple[Update, ...]) -> None:
        self.updates = updates

    def __repr__(self) -> str:
        return f"<group of {len(self.updates)} updates>"


def _update(variable: Any, value: Tensor) -> Update:
    """An update whose value has the variable's type, or an error that says what differs."""
    if not isinstance(variable, Variable):
        what = repr(variable) if isinstance(variable, Tensor) else type(variable).__name__
        raise FetchError(f"assign: only a Variable can be written, got {what}")
    check = Check(ASSIGN, (variable, value), {})
    if value.dtype is not variable.dtype:
        check.fail("the value must have the variable's dtype; cast it with .astype", DTypeError)
    shape = variable.shape
    assert shape is not None
    if value.shape is not None:
        if len(value.shape) > len(shape):
            check.fail("the value must have the variable's shape")
        for size, target in zip(reversed(value.shape), reversed(shape), strict=False):
            if size != 1 and check.ask(size, target) is False:
                check.fail("the value must have the variable's shape, or broadcast to it")
    return Update(variable, broadcast_to(value, shape), origin()[0])


def _value(variable: Any, value: Any) -> Tensor:
    return as_tensor(value, variable.dtype if isinstance(variable, Tensor) else None)


def _combined(variable: Any, value: Any, sign: int) -> Tensor:
    """`variable ± value`, where the result keeps the variable's dtype."""
    other = _value(variable, value)
    kept = variable.dtype if isinstance(variable, Variable) else other.dtype
    if promote(kept, other.dtype) is not kept:
        Check(ASSIGN, (variable, other), {}).fail(
            "the value must not widen the variable's dtype; cast it with .astype", DTypeError
        )
    result: Tensor = variable + other if sign > 0 else variable - other
    return result


@trimmed
def assign(variable: Variable, value: Any) -> Update:
    """Write `value` (of the variable's dtype; its shape, or one that broadcasts to it).

    >>> v = Variable(1.0)
    >>> assign(v, v * 3.0)
    <update of 'variable' with f32[] at <doctest graphc.ops.state.assign[1]>:1>
    """
    return _update(variable, _value(variable, value))


@trimmed
def assign_add(variable: Variable, value: Any) -> Update:
    """Write `variable + value`.

    >>> assign_add(Variable(1.0), 2.0).value.type
    TensorType(dtype=graphc.float32, shape=())
    """
    return _update(variable, _combined(variable, value, +1))


@trimmed
def assign_sub(variable: Variable, value: Any) -> Update:
    """Write `variable - value`.

    >>> assign_sub(Variable(1.0), 2.0).value.type
    TensorType(dtype=graphc.float32, shape=())
    """
    return _update(variable, _combined(variable, value, -1))


@trimmed
def scatter_update(variable: Variable, indices: Any, updates: Any) -> Update:
    """Write `updates` into the rows `indices` (TensorFlow's; any index that `x[...]` takes).

    >>> scatter_update(Variable([1.0, 2.0]), [0], [5.0]).value.eval()
    array([5., 2.], dtype=float32)
    """
    return _update(variable, variable.at[indices].set(_value(variable, updates)))


@trimmed
def scatter_add(x: Any, indices: Any, updates: Any, axis: int = 0) -> Tensor | Update:
    """`x` with `updates` added to its slices at `indices` along `axis`; repeated indices add up.

    Of a variable, as in TensorFlow, the update that writes this; of any other tensor, a tensor.

    >>> scatter_add(Variable([1.0, 2.0]), [0, 0], [5.0, 5.0]).value.eval()
    array([11.,  2.], dtype=float32)
    >>> scatter_add([0, 0, 0], [2, 2, 0], [1, 1, 5]).eval()
    array([5, 0, 2])
    """
    added = gather.scatter_add(x, indices, _value(x, updates), axis)
    return _update(x, added) if isinstance(x, Variable) else added


@trimmed
def scatter_sub(variable: Variable, indices: Any, updates: Any) -> Update:
    """Write the variable with `updates` taken from the rows `indices`.

    >>> scatter_sub(Variable([1.0, 2.0]), [1], [5.0]).value.eval()
    array([ 1., -3.], dtype=float32)
    """
    return _update(variable, variable.at[indices].add(-_value(variable, updates)))


@trimmed
def group(*updates: Update | Group) -> Group:
    """Several updates, to be fetched as one.

    >>> group(assign(Variable(1.0), 2.0), assign(Variable(1.0), 3.0))
    <group of 2 updates>
    """
    flat: list[Update] = []
    for update in updates:
        if isinstance(update, Group):
            flat += update.updates
        elif isinstance(update, Update):
            flat.append(update)
        else:
            raise FetchError(f"group: takes updates and groups, got {type(update).__name__}")
    return Group(tuple(flat))
