"""One value for each arguments, whichever threads come first.

`functools.cache` lets threads that come together each keep a value of their own. Of compiled code
that is fatal: one thread links the addresses of a library that no one else holds, and it goes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def once(function: Callable[P, R]) -> Callable[P, R]:
    """Keep the first value of a function for equal positional arguments, and give all that one.

    Threads that come together may each compute it. There is no lock that a forked child could find
    taken.
    """
    kept: dict[tuple[object, ...], R] = {}

    @functools.wraps(function)
    def entry(*arguments: object) -> R:
        try:
            return kept[arguments]
        except KeyError:
            return kept.setdefault(arguments, cast("Callable[..., R]", function)(*arguments))

    return cast("Callable[P, R]", entry)
