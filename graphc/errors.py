"""Typed errors. A message has three parts: the rule, the operands with types, the user's line.

Each class also derives from the built-in exception that fits, so code written against NumPy's or
Python's errors keeps working. `trimmed` marks a public entry point: an error that crosses it
leaves graphc's own frames behind (`GRAPHC_DEBUG=1` keeps them), and names a line of the user's.
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


def _locate(error: GraphcError) -> None:
    """Add the user's line to a text that names none."""
    if error.args and isinstance(error.args[0], str) and not _LINE.search(error.args[0]):
        error.args = (f"{error.args[0]}\n  called at {origin()[0]}", *error.args[1:])


def trimmed(function: Callable[P, R]) -> Callable[P, R]:
    """Let graphc's errors leave `function` without the frames below it."""

    @functools.wraps(function)
    def entry(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except GraphcError as error:
            _locate(error)
            if config.debug() > 0:
                raise
            raise error.with_traceback(None) from None

    return entry
