"""States: what a loop carries from step to step, as the builders of loops see them.

Enters: what the user gave to begin with. Leaves: states that come out of a step as they went in, or
an error that says which does not. A tensor keeps its dtype; Python numbers take the one that the
step needs, as they do beside tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from graphc.build import describe
from graphc.context import origin
from graphc.dtypes import DType, promote
from graphc.errors import DTypeError, ShapeError, brief
from graphc.graph import Tensor
from graphc.ops.source import as_tensor, is_weak

R = TypeVar("R")
_ORDER = {"b": 0, "u": 1, "i": 1, "f": 2}  # what a number may become: itself, or what stands higher


class Start:
    """What a state begins as: a tensor, and the Python numbers it was made of, if it was."""

    __slots__ = ("_tried", "given", "tensor")

    def __init__(self, value: Any) -> None:
        self.tensor = as_tensor(value)
        self.given = value if _is_plain(value) else None
        self._tried = False

    def may_become(self, dtype: DType) -> bool:
        """Whether it is numbers, and these may be of a dtype."""
        if self.given is None or _ORDER[dtype.kind] < _ORDER[self.tensor.dtype.kind]:
            return False
        return not self._tried or promote(self.tensor.dtype, dtype) is not self.tensor.dtype

    def become(self, following: DType, tried: DType | None) -> None:
        """Take the dtype in which it came out, or that in which the number itself came out."""
        kept = following
        if self._tried:
            kept = promote(self.tensor.dtype, following)
        elif tried is not None and _ORDER[tried.kind] >= _ORDER[self.tensor.dtype.kind]:
            kept = tried
        self.tensor, self._tried = as_tensor(self.given, kept), True


def _is_plain(value: Any) -> bool:
    """Whether a value is Python's numbers alone."""
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and all(map(_is_plain, value))
    return is_weak(value)


def settled(
    op: str,
    starts: Sequence[Start],
    build: Callable[[frozenset[int]], tuple[R, Sequence[Tensor]]],
    entering: Callable[[int], Tensor],
) -> R:
    """What `build` makes once each state comes out with the dtype that it went in with.

    `build` makes a step, where the states of some numbers are the Python numbers that they begin
    as, and gives the states that follow; `entering` is a state as it went in.
    """
    while True:
        result, following = build(frozenset())
        changed = [
            k for k, (start, after) in enumerate(zip(starts, following, strict=True))
            if start.tensor.dtype is not after.dtype
        ]  # fmt: skip
        for k in changed:
            if not starts[k].may_become(following[k].dtype):
                raise DTypeError(_unlike(op, k, entering(k), following[k], "dtype"))
        if not changed:
            break
        tried = _tried(build, frozenset(changed))
        for k in changed:
            starts[k].become(following[k].dtype, tried.get(k))
    for k, after in enumerate(following):
        _check_shape(op, k, entering(k), after)
    return result


def _tried(
    build: Callable[[frozenset[int]], tuple[R, Sequence[Tensor]]], numbers: frozenset[int]
) -> dict[int, DType]:
    """In which dtypes states come out where the numbers themselves go in: they meet tensors then.

    Not every step takes numbers for tensors; nothing is learned from one that does not.
    """
    try:
        _, following = build(numbers)
    except Exception:
        return {}
    return {k: following[k].dtype for k in numbers}


def _check_shape(op: str, number: int, before: Tensor, after: Tensor) -> None:
    """Sizes that only a run knows are compared then."""
    if before.shape is None or after.shape is None:
        return
    if len(before.shape) != len(after.shape) or any(
        isinstance(a - b, int) and a != b for a, b in zip(before.shape, after.shape, strict=True)
    ):
        raise ShapeError(_unlike(op, number, before, after, "shape"))


def _unlike(op: str, number: int, before: Tensor, after: Tensor, what: str) -> str:
    name = f' "{before.node.name}"' if before.node.name else ""
    return (
        f"{op}: a state must keep its {what}, but state {number}{name} goes in as {before.type} "
        f"and comes out as {after.type}\n  it comes out of {describe(after)}; "
        f"{op} was called at {origin()[0]}{_hint(before, after, what)}"
    )


def _hint(before: Tensor, after: Tensor, what: str) -> str:
    """What to begin with instead, where that is plain."""
    if what == "shape" and before.shape == () and after.type.is_static:
        return f"\n  g.zeros({list(after.shape or ())}) begins a state of that shape"
    return ""


def arguments(fn: Callable[..., Any]) -> list[str | None]:
    """What a user's function calls its first arguments, so that listings and errors can."""
    try:
        found = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [None if p.name.startswith("_") else p.name for p in found if p.kind in kinds]


def call(op: str, fn: Callable[..., Any], arguments: Sequence[Any], what: str) -> Any:
    """What a user's function returns; an error where it does not take so many arguments."""
    here = f"\n  {op} was called at {origin()[0]}"
    if not callable(fn):
        raise TypeError(f"{op}: {what} must be a function, got {brief(fn)}{here}")
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some of those written in C have none
        return fn(*arguments)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        given = ", ".join(
            str(a.type) if isinstance(a, Tensor) else type(a).__name__ for a in arguments
        )
        raise TypeError(
            f"{op}: {what} is called with {len(arguments)} arguments ({given}), but {error}{here}"
        ) from None
    return fn(*arguments)
