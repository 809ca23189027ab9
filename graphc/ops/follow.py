"""Follows small integer tensors symbolically: which sizes are their elements?

Enters: a tensor such as `stack([shape(x)[0], -1])`. Leaves: a NumPy object array of ints and
`Dim`s. It exists so that sizes which a program computes stay sizes: `reshape(x, that)` has a
symbolic type and is compiled once. An element that no rule follows (fed data, say) becomes a symbol
whose `source` is that element; a run reads it before it binds sizes.

`as_shape` reads every shape argument. `with_length` makes the op that stands where even the length
of a shape tensor, hence a rank, is not known before a run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np

from graphc.build import Check, describe, make
from graphc.context import origin
from graphc.dims import Dim, Dimension, Shape, Symbol, derived, floordiv
from graphc.errors import DTypeError, GraphcError, ShapeError
from graphc.graph import Graph, Node, Op, Tensor, bodies, topological
from graphc.ops.composition import replaced
from graphc.ops.domain import Domain

P = ParamSpec("P")
R = TypeVar("R")
Objects: TypeAlias = "np.ndarray[Any, Any]"  # of ints and Dims
Follow: TypeAlias = Callable[..., "Objects | None"]
LIMIT = 64  # elements: shapes are short, and a longer tensor is data
MOST_AXES = 64  # NumPy's own bound on ranks


# ---------------------------------------------------------------------------- what is followed


def _objects(value: Any) -> Objects:
    array = np.empty((), object)
    array[()] = value
    return array


def _filled(node: Node) -> Objects | None:
    value = node.attrs["value"]
    return np.full(node.types[0].shape, int(value), object)  # type: ignore[arg-type]  # static


def _constant(node: Node) -> Objects:
    values: Objects = node.attrs["value"].array
    return np.array(values.tolist(), object).reshape(values.shape)


def _sizes(node: Node) -> Objects:
    array = np.empty(len(node.attrs["dims"]), object)
    array[:] = node.attrs["dims"]
    return array


def _arange(node: Node) -> Objects:
    start, step, count = (node.attrs[k] for k in ("start", "step", "count"))
    return np.array([start + step * i for i in range(count)], object)


def _has_dim(value: Any) -> bool:
    return any(map(_has_dim, value)) if isinstance(value, tuple) else isinstance(value, Dim)


def _oracle(node: Node, *arrays: Objects) -> Objects | None:
    """Ops that only move elements do the same to sizes."""
    if any(map(_has_dim, node.attrs.values())):
        return None
    return np.asarray(node.op.oracle(*arrays, **node.attrs), object)


def _gather(node: Node, x: Objects, *indices: Objects) -> Objects | None:
    if any(isinstance(i, Dim) for array in indices for i in array.flat):
        return None
    return _oracle(node, x, *(i.astype(np.int64) for i in indices))


def _elementwise(function: Callable[..., Any]) -> Follow:
    lifted = np.frompyfunc(function, function.__code__.co_argcount, 1)
    return lambda node, *arrays: np.asarray(lifted(*arrays), object)


def _reduction(function: Callable[[Any, Any], Any], initial: int) -> Follow:
    lifted = np.frompyfunc(function, 2, 1)

    def follow_reduction(node: Node, x: Objects) -> Objects:
        axis, keepdims = node.attrs["axis"], node.attrs["keepdims"]
        return np.asarray(lifted.reduce(x, axis=axis, keepdims=keepdims, initial=initial), object)

    return follow_reduction


RULES: dict[str, Follow] = {
    "constant": _constant,
    "full": _filled,
    "sizes": _sizes,
    "size": lambda node: _objects(node.attrs["dim"]),
    "arange": _arange,
    "identity": lambda node, x: x,
    "cast": lambda node, x: x,
    "reshape": lambda node, x: x.reshape(node.types[0].shape),  # type: ignore[arg-type]  # static
    **dict.fromkeys(("transpose", "broadcast_to", "slice", "concatenate"), _oracle),
    "gather": _gather,
    "add": _elementwise(lambda a, b: a + b),
    "subtract": _elementwise(lambda a, b: a - b),
    "multiply": _elementwise(lambda a, b: a * b),
    "negative": _elementwise(lambda a: -a),
    "floor_divide": _elementwise(lambda a, b: floordiv(a, b)),
    "remainder": _elementwise(lambda a, b: derived("mod", a, b)),
    "minimum": _elementwise(lambda a, b: derived("min", a, b)),
    "maximum": _elementwise(lambda a, b: derived("max", a, b)),
    "sum": _reduction(lambda a, b: a + b, 0),
    "prod": _reduction(lambda a, b: a * b, 1),
}
MAY_WRAP = frozenset(("subtract", "negative"))  # of unsigned integers


def _is_static(shape: Shape | None) -> bool:
    return shape is not None and not any(isinstance(d, Dim) for d in shape)


def _is_small(tensor: Tensor) -> bool:
    shape = tensor.shape
    return _is_static(shape) and math.prod(shape) <= LIMIT  # type: ignore[arg-type]  # static


def _can_follow(node: Node) -> bool:
    """Whether a rule covers the node: a single small integer output, of small integer inputs."""
    if node.op.name not in RULES or len(node.types) != 1:
        return False
    types = (node.types[0], *(t.type for t in node.inputs))
    if node.op.name in MAY_WRAP and types[0].dtype.kind == "u":
        return False
    return all(t.dtype.kind in "iu" for t in types) and all(
        _is_static(t.shape) and math.prod(t.shape) <= LIMIT  # type: ignore[arg-type]  # static
        for t in types
    )


def _unfollowed(tensor: Tensor) -> Objects:
    """Each element a symbol of its own."""
    shape: Any = tensor.shape if _is_static(tensor.shape) else ()
    array = np.empty(shape, object)
    for element in range(array.size):
        array.flat[element] = Dim.symbol(source=(tensor, element))
    return array


def follow(tensor: Tensor) -> Objects:
    """The elements of an integer tensor as ints and `Dim`s; it must be small, of static shape.

    A tensor of unknown rank is read as a scalar, for that is where one may stand in a shape.
    """
    found: dict[tuple[Node, int], Objects] = {}
    stack = [tensor]
    while stack:
        current = stack[-1]
        node, key = current.node, (current.node, current.index)
        if key in found:
            stack.pop()
            continue
        if not _can_follow(node):
            found[key] = _unfollowed(current)
            continue
        inputs = [(t.node, t.index) for t in node.inputs]
        if all(k in found for k in inputs):
            value = RULES[node.op.name](node, *(found[k] for k in inputs))
            found[key] = _unfollowed(current) if value is None else value
        else:
            stack.extend(t for t in node.inputs if (t.node, t.index) not in found)
    return found[tensor.node, tensor.index]


# ---------------------------------------------------------------------------- elements as sizes


def elements(graph: Graph) -> list[Symbol]:
    """The symbols among a graph's sizes whose values are elements of tensors, or sizes of tensors.

    Sizes of tensors that the graph itself computes are not among them: its types tell them.
    """
    found: dict[Symbol, None] = {}
    for node in graph.nodes:
        found.update(dict.fromkeys(elements_of(node)))
    inside = {*graph.nodes, *(t.node for t in graph.inputs)}
    return [
        s for s in found
        if s.source is not None or not (s.owner[0].node in inside or is_inner(s.owner[0]))
    ]  # fmt: skip


def elements_of(node: Node) -> Iterable[Symbol]:
    """The symbols of one node, and of the graphs inside of it, that may be elements of tensors."""
    found: dict[Symbol, None] = {}
    for type in node.types:
        _gather_elements(type.shape, found)
    for value in node.attrs.values():
        _gather_elements(value, found)
    for body in bodies(node).values():
        found.update(dict.fromkeys(elements(body.graph)))
    return found


def is_inner(tensor: Tensor) -> bool:
    """Whether a tensor is made of parameters of a body: only a step of its loop has it."""
    return any(node.op.name == "parameter" for node in topological([tensor]))


def _gather_elements(value: Any, found: dict[Symbol, None]) -> None:
    if isinstance(value, Dim):
        found.update((s, None) for s in value.symbols() if s.source or s.owner)
    elif isinstance(value, tuple):
        for part in value:
            _gather_elements(part, found)


def moved(
    symbols: Sequence[Symbol], mapped: Callable[[list[Tensor]], Sequence[Tensor]]
) -> dict[Symbol, Dimension]:
    """The same elements of what has become of their tensors, as `mapped` says."""
    symbols = [s for s in symbols if s.source is not None]
    tensors = mapped([s.source[0] for s in symbols]) if symbols else []
    found: dict[Symbol, Dimension] = {}
    for symbol, tensor in zip(symbols, tensors, strict=True):
        old, place = symbol.source
        if tensor is not old:
            scalar = tensor.shape in ((), None)
            found[symbol] = as_dimension(tensor) if scalar else Dim.symbol(source=(tensor, place))
    return found


# ---------------------------------------------------------------------------- shape arguments


def located(builder: Callable[P, R]) -> Callable[P, R]:
    """Let errors about a builder's arguments name the builder and the user's line."""

    @functools.wraps(builder)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return builder(*args, **kwargs)
        except GraphcError as error:
            text, name = str(error), builder.__name__
            if "was called at" in text:
                raise
            rule = text if text.startswith(f"{name}: ") else f"{name}: {text}"
            raise type(error)(f"{rule}\n  {name} was called at {origin()[0]}") from None

    return call


def as_dimension(value: Any, what: str = "a size") -> Dimension:
    """One size: an int, a `Dim`, or an integer scalar tensor."""
    if isinstance(value, Dim):
        return value
    if isinstance(value, Tensor):
        if value.dtype.kind not in "iu":
            raise DTypeError(f"{what} must be an integer, got {value.type}: {describe(value)}")
        if value.shape not in ((), None):
            raise ShapeError(f"{what} must be a scalar, got {value.type}: {describe(value)}")
        element: Any = follow(value)[()]
        return element  # type: ignore[no-any-return]  # an int or a Dim
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise DTypeError(f"{what} must be an integer, got {value!r}")
    return int(value.__index__())


def _of_tensor(shape: Tensor, length: int | None = None) -> Shape:
    if shape.dtype.kind not in "iu":
        raise DTypeError(f"a shape must hold integers, got {shape.type}: {describe(shape)}")
    if shape.shape == ():
        return (as_dimension(shape),)
    if shape.shape is None or len(shape.shape) != 1:
        raise ShapeError(f"a shape must have one axis, got {shape.type}: {describe(shape)}")
    if length is None and isinstance(shape.shape[0], Dim):
        raise ShapeError(
            f"a shape's length must be known here, got {shape.type}: {describe(shape)}"
        )
    if not _is_small(shape):
        count: Any = shape.shape[0] if length is None else length
        return tuple(Dim.symbol(source=(shape, i)) for i in range(count))
    return tuple(follow(shape))


def as_shape(shape: Any) -> Shape:
    """A shape argument: a size, a sequence of sizes, or a tensor of sizes whose length is known.

    A size is an int, a `Dim` or an integer scalar tensor.
    """
    if isinstance(shape, Tensor):
        return _of_tensor(shape)
    if isinstance(shape, (Dim, int, float)) or hasattr(shape, "__index__"):
        shape = (shape,)
    if not isinstance(shape, Iterable):
        raise ShapeError(f"a shape must be an int or a sequence of ints, got {shape!r}")
    return tuple(map(as_dimension, shape))


def is_open(shape: Any) -> bool:
    """Whether a shape argument is a tensor whose length a run decides."""
    if not isinstance(shape, Tensor):
        return False
    return shape.shape is None or (len(shape.shape) == 1 and isinstance(shape.shape[0], Dim))


def _length(check: Check, shape: Tensor) -> int | None:
    """The length of a shape tensor: known, or found by asking whether it is 0, 1, 2 ..."""
    if shape.shape is None:
        return None
    if len(shape.shape) != 1:
        check.fail("a shape must have one axis")
    length = shape.shape[0]
    if not isinstance(length, Dim):
        return length
    for rank in range(MOST_AXES + 1):
        answer = check.ask(length, rank)
        if answer is None:
            return None
        if answer:
            return rank
    check.fail(f"a shape must have at most {MOST_AXES} sizes")


def with_length(
    name: str, params: tuple[str, ...], dtype: Callable[..., Any], body: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """A builder that waits until its last operand, a shape tensor, has a known length.

    Then it is `body(*others, shape, name=..., **attrs)`; until then one node of unknown rank.
    """

    def build(*tensors: Tensor, name: str | None = None, **attrs: Any) -> Tensor:
        length = _length(Check(op, tensors, attrs), tensors[-1])
        if length is None:
            return make(op, tensors, attrs, name)
        return body(*tensors[:-1], _of_tensor(tensors[-1], length), name=name, **attrs)

    op = Op(
        name, "deferred", params, dtype,
        shape=lambda check, *types, **attrs: None,
        oracle=replaced,
        build=build,
        vjp=replaced,
        domain=Domain(()),
    )  # fmt: skip
    functools.update_wrapper(build, body)
    build.op = op  # type: ignore[attr-defined]  # a function takes attributes
    return build
