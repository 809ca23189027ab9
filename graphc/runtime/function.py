"""Callables over a session: Theano's `function`, `jit`, and `tensor.eval`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.build import describe
from graphc.dims import Dim, Shape
from graphc.dtypes import as_dtype
from graphc.errors import DTypeError, FeedError, FetchError, ShapeError, trimmed
from graphc.graph import Tensor
from graphc.ops.broadcast import cast
from graphc.ops.source import array_of, as_tensor, placeholder
from graphc.ops.state import Group, Update, assign
from graphc.runtime.fetches import flatten, giver, reached
from graphc.runtime.given import given
from graphc.runtime.locks import ForkLock
from graphc.runtime.session import Session, callable_of, entered

_OPENING = ForkLock()  # two threads that come first must get the same one


@functools.cache
def _process_session() -> Session:
    """The process's one session for those who do not make their own."""
    return Session()


def default_session() -> Session:
    """The session whose `with` block this is (TensorFlow's rule), else the process's one."""
    with _OPENING():
        return entered() or _process_session()


@trimmed
def evaluate(tensor: Tensor, feed_dict: Any = None, session: Session | None = None) -> Any:
    """`tensor.eval()`: its value in `session`; None: in that of the `with` block it stands in,
    else in the process's default one.
    """
    return (session or default_session()).run(tensor, feed_dict)


def install() -> None:
    """Give tensors their `eval`."""
    setattr(Tensor, "eval", evaluate)  # noqa: B010  # a method that lives above the graph


def _pairs(value: Any, what: str) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    items = list(value.items()) if isinstance(value, Mapping) else list(value)
    for item in items:
        if not (isinstance(item, (tuple, list)) and len(item) == 2):
            raise FetchError(f"function: {what} must be pairs or a dict, got {item!r}")
    return [(a, b) for a, b in items]


def _updates(value: Any) -> list[Update]:
    """Theano's pairs (variable, new value), or this library's updates."""
    if isinstance(value, Update):
        return [value]
    if isinstance(value, Group):
        return list(value.updates)
    if isinstance(value, (list, tuple)) and any(isinstance(v, (Update, Group)) for v in value):
        return [u for v in value for u in _updates(v if isinstance(v, (Update, Group)) else [v])]
    return [assign(variable, new) for variable, new in _pairs(value, "updates")]


def _given(old: Any, new: Any) -> Tensor:
    """What a pair of `givens` puts in the place of `old`: a tensor of its dtype."""
    if not isinstance(old, Tensor):
        raise FetchError(f"function: givens must replace tensors, got {type(old).__name__}")
    value = as_tensor(new, None if isinstance(new, Tensor) else old.dtype)
    if not np.can_cast(value.dtype.numpy, old.dtype.numpy, "same_kind"):
        raise DTypeError(f"function: givens must keep dtypes, got {value.type} for {_named(old)}")
    known = old.shape is not None and value.shape is not None
    if known and not _may_stand(old.shape, value.shape):  # type: ignore[arg-type]  # both known
        raise ShapeError(f"function: givens must keep shapes, got {value.type} for {_named(old)}")
    return cast(value, old.dtype)


def _may_stand(old: Shape, new: Shape) -> bool:
    return len(old) == len(new) and all(
        a == b or isinstance(a, Dim) or isinstance(b, Dim) for a, b in zip(old, new, strict=True)
    )


def _named(tensor: Tensor) -> str:
    return f"{tensor.type}: {describe(tensor)}"


@trimmed
def function(
    inputs: Sequence[Tensor],
    outputs: Any = None,
    updates: Any = None,
    givens: Any = None,
    session: Session | None = None,
) -> Callable[..., Any]:
    """Theano's `function`: a callable of arrays that returns `outputs` and makes `updates`.

    `updates`: pairs (variable, new value) or a dict. `givens`: pairs (tensor, what stands for it).
    `session` None: that of the `with` block it is made in, else the process's default one.

    >>> x, total = placeholder("float32", (), "x"), Variable(0.0)
    >>> add = function([x], total + x, updates=[(total, total + x)])
    >>> add(2.0), add(3.0)
    (array(2., dtype=float32), array(5., dtype=float32))
    """
    changes = _updates(updates)
    leaves, rebuild = flatten([] if outputs is None else outputs)
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise FetchError("function: outputs must be tensors; updates go into updates=")
    replaced = {old: _given(old, new) for old, new in _pairs(givens, "givens")}
    if replaced:
        graph = given(reached([*leaves, Group(tuple(changes))]), replaced)
        leaves = list(graph.outputs)
        changes = [
            Update(u.variable, new, u.where)
            for u, (_, new) in zip(changes, graph.updates, strict=True)
        ]
    give = _nothing if outputs is None else giver(outputs, leaves, rebuild)
    return callable_of(session or default_session(), [*leaves, Group(tuple(changes))], inputs, give)


def _nothing(outputs: Sequence[Any]) -> None:
    """What a function without outputs returns."""


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """A Python function of tensors, traced once for each combination of ranks and dtypes.

    Call it with arrays (or nestings of lists, tuples and dicts of them): sizes may change from
    call to call without a new trace. Other arguments may be None, strings and bools, each value of
    which is traced apart, so that the function may test them. It runs in the session of the `with`
    block it is called in, else in the process's default one.

    >>> double = jit(lambda x: x * 2.0)
    >>> double([1.0, 2.0])
    array([2., 4.], dtype=float32)
    """
    traces: dict[Any, tuple[Any, list[Tensor]]] = {}
    prepared: dict[Any, tuple[Session, Callable[..., Any]]] = {}  # for the session used last
    lock = ForkLock()  # entered again where the function calls itself

    @functools.wraps(function)
    @trimmed
    def call(*args: Any, **kwargs: Any) -> Any:
        arrays: list[Any] = []
        shape = _take((args, kwargs), arrays)
        key = (shape, tuple([(a.ndim, a.dtype) for a in arrays]))
        session = default_session()
        owner, run = prepared.get(key, (None, None))
        if owner is not session or run is None:
            with lock():
                if key not in traces:
                    traces[key] = _trace(function, shape, arrays)
                run = session.prepare(*traces[key])
                prepared[key] = session, run
        return run(*arrays)

    return call


def _take(value: Any, arrays: list[Any]) -> Any:
    """The nesting of a call's arguments as a hashable, its arrays reached in order."""
    if isinstance(value, dict):
        return ("dict", tuple((k, _take(v, arrays)) for k, v in value.items()))
    if isinstance(value, (tuple, list)) and not _is_numbers(value):
        return (type(value).__name__, tuple(_take(v, arrays) for v in value))
    if value is None or isinstance(value, (str, bool)):
        return ("value", value)
    if isinstance(value, Tensor):
        raise FeedError("jit: a jitted function is called with arrays, not with tensors")
    arrays.append(array_of(value, None))
    return "array"


def _is_numbers(value: Any) -> bool:
    """A list of numbers is one array; tuples of arguments and lists of arrays are nestings."""
    return (
        isinstance(value, list)
        and not any(hasattr(v, "shape") for v in value)
        and all(isinstance(v, (bool, int, float)) or _is_numbers(v) for v in value)
    )


def _give(shape: Any, tensors: Any) -> Any:
    if shape == "array":
        return next(tensors)
    kind, parts = shape
    if kind == "value":
        return parts
    if kind == "dict":
        return {k: _give(v, tensors) for k, v in parts}
    listed = [_give(part, tensors) for part in parts]
    return listed if kind == "list" else tuple(listed)


def _trace(function: Callable[..., Any], shape: Any, arrays: list[Any]) -> tuple[Any, list[Tensor]]:
    """What a function gives for placeholders of these types, and those placeholders."""
    inputs = [placeholder(as_dtype(a.dtype), [None] * a.ndim) for a in arrays]
    args, kwargs = _give(shape, iter(inputs))
    return function(*args, **kwargs), inputs
