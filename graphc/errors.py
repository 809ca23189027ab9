"""Typed errors. A message has three parts: the rule, the operands with types, the user's line.

Each class also derives from the built-in exception that fits, so code written against NumPy's or
Python's errors keeps working. A number or a choice out of range (a rate, a mode) is no fault of a
type or a shape: `require` makes it Python's own ValueError, with the same three parts. `trimmed`
marks a public entry point: an error that crosses it leaves graphc's own frames behind
(`GRAPHC_DEBUG=1` keeps them), and names a line of the user's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from graphc import config
from graphc.context import origin

P = ParamSpec("P")
R = TypeVar("R")
_CALLED = "was called at"
_LINE = re.compile(r"(\.\w+|>):\d+")  # "mnist.py:14", "<stdin>:1"


class GraphcError(Exception):
    """The base of all errors that graphc raises on purpose."""


class ShapeError(GraphcError, ValueError, IndexError):
    """Shapes, axes or indices that do not fit an operation."""


class DTypeError(GraphcError, TypeError):
    """Element types that an operation does not take, or a value that does not fit its type."""


class FeedError(GraphcError, ValueError):
    """Feeds that are missing, unknown, or of the wrong shape or dtype."""


class FetchError(GraphcError, TypeError):
    """Fetches that cannot be run: foreign objects, or two writes to one variable."""


class GradientError(GraphcError, ValueError):
    """A gradient that does not exist, with what cuts it."""


class DeviceError(GraphcError, RuntimeError):
    """A device that is unknown, missing, or refused."""


class NumericsError(GraphcError, ArithmeticError):
    """A NaN, an infinity, or a divergence from the reference, found where a check was asked for."""


class CompileError(GraphcError, RuntimeError):
    """A pass or a code generator broke its own contract: a fault of graphc, not of the program."""


for _error in (
    GraphcError, ShapeError, DTypeError, FeedError, FetchError,
    GradientError, DeviceError, NumericsError, CompileError,
):  # fmt: skip
    _error.__module__ = "graphc"  # tracebacks say graphc.ShapeError, the name that users import


TRIMMED = (GraphcError, ValueError, TypeError)  # what may be graphc's own


def brief(value: object, most: int = 60) -> str:
    """A value as errors quote it: one line of at most so many characters."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= most else text[: most - 3] + "..."


def _locate(error: Exception) -> None:
    """Add the user's line to a text that names none."""
    if error.args and isinstance(error.args[0], str) and not _LINE.search(error.args[0]):
        error.args = (f"{error.args[0]}\n  called at {origin()[0]}", *error.args[1:])


def require(holds: bool, name: str, rule: str, *values: object) -> None:
    """Raise a ValueError that states the rule, the values, and the user's line, unless it holds."""
    if not holds:
        got = " and ".join(map(repr, values))
        raise ValueError(f"{name}: {rule}, got {got}\n  {name} {_CALLED} {origin()[0]}")


def _is_own(error: Exception) -> bool:
    """Whether graphc raised it on purpose; another of the user's keeps its frames."""
    return isinstance(error, GraphcError) or _CALLED in str(error)


def departs(error: Exception) -> bool:
    """Whether an error is to leave graphc without the frames below; it names a user's line then.

    For entry points that are too quick for `trimmed`: they raise `error.with_traceback(None) from
    None` where it does, and the error as it is where it does not.
    """
    if not _is_own(error):
        return False
    _locate(error)
    return config.debug() <= 0


def trimmed(function: Callable[P, R]) -> Callable[P, R]:
    """Let graphc's errors leave `function` without the frames below it."""

    @functools.wraps(function)
    def entry(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TRIMMED as error:
            if departs(error):
                raise error.with_traceback(None) from None
            raise

    return entry
