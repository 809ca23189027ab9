"""A user's file as the command line sees it: run it, and find what a name in it stands for.

Enters: `FILE.py` or `FILE.py:NAME`. Leaves: the module's names, or the fetches that NAME is. Errors
of the user's program are shown as Python shows them, without the frames of graphc and of `runpy`.
"""

from __future__ import annotations

import difflib
import inspect
import runpy
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

from graphc import config
from graphc.context import is_internal
from graphc.errors import FetchError
from graphc.graph import Tensor
from graphc.ops.state import Group, Update
from graphc.runtime.fetches import flatten

_LIBRARY = sysconfig.get_path("stdlib")


class UsageError(Exception):
    """What was asked for does not exist: the command ends with status 2."""


@dataclass(frozen=True, slots=True)
class Target:
    """`FILE.py:NAME`, taken apart; `name` is empty where there is none."""

    path: Path
    name: str

    @staticmethod
    def of(text: str) -> Target:
        """The target that an argument spells."""
        path, name = Path(text), ""
        if not path.is_file() and ":" in text:
            before, _, name = text.rpartition(":")
            path = Path(before)
        if not path.is_file():
            raise UsageError(f"there is no file {str(path)!r}")
        return Target(path.resolve(), name)


@contextmanager
def _as_script(path: Path, arguments: Sequence[str]) -> Iterator[None]:
    """sys.argv and sys.path as a script sees them."""
    argv, paths = sys.argv[:], sys.path[:]
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, paths


def run_file(target: Target, arguments: Sequence[str] = (), main: bool = False) -> dict[str, Any]:
    """Run a file and return its names; as `__main__`, or as a module that is imported."""
    with _as_script(target.path, arguments):
        name = "__main__" if main else target.path.stem
        return runpy.run_path(str(target.path), run_name=name)


def is_fetch(value: Any) -> bool:
    """Whether a run would take it: a tensor, a variable, an update, or a nesting with one in it."""
    if isinstance(value, (Tensor, Update, Group)):
        return True
    if not isinstance(value, (list, tuple, Mapping)) or not value:
        return False
    try:
        return bool(flatten(value)[0])
    except FetchError:
        return False


def fetchable(names: Mapping[str, Any]) -> list[str]:
    """The names that stand for something to fetch, without the private ones."""
    return [name for name, value in names.items() if name[:1] != "_" and is_fetch(value)]


def fetches_of(target: Target) -> Any:
    """Run a file, and return what NAME is; a function without arguments is called for it."""
    names = run_file(target)
    if not target.name:
        raise UsageError(f"say what to fetch, as {target.path.name}:NAME; {_offer(names, '')}")
    if target.name not in names:
        raise UsageError(
            f"{target.path.name} has no name {target.name!r}; {_offer(names, target.name)}"
        )
    value = names[target.name]
    if callable(value) and not is_fetch(value):
        with _as_script(target.path, ()):
            value = _called(target.name, value)
    if not is_fetch(value):
        raise UsageError(
            f"{target.name} is no tensor, variable or update, nor a nesting of them: it is "
            f"{type(value).__name__}; {_offer(names, target.name)}"
        )
    return value


def _called(name: str, function: Any) -> Any:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]  # no parameters are known
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    if needed:
        raise UsageError(f"{name} must be callable without arguments; it needs {', '.join(needed)}")
    return function()


def _offer(names: Mapping[str, Any], wanted: str) -> str:
    found = fetchable(names)
    near = difflib.get_close_matches(wanted, found, 3) if wanted else []
    listed = near or found[:8]
    if not listed:
        return "no name in it is a tensor or an update"
    return ("did you mean " if near else "there are ") + ", ".join(listed) + "?" * bool(near)


def _standard(file: str) -> bool:
    """Whether a frame is Python's: outermost ones only lead to the user's."""
    return file.startswith(("<frozen", _LIBRARY)) and "site-packages" not in file


def traceback_text(error: BaseException) -> str:
    """A user's error as Python prints it, with the user's frames only."""
    report = traceback.TracebackException.from_exception(error)
    if config.debug() == 0:
        pending: list[traceback.TracebackException | None] = [report]
        while pending:
            current = pending.pop()
            if current is None:
                continue
            kept = [frame for frame in current.stack if not is_internal(frame.filename)]
            kept = list(dropwhile(lambda frame: _standard(frame.filename), kept))
            current.stack = traceback.StackSummary.from_list(kept)
            pending += [current.__cause__, current.__context__]
    return "".join(report.format())
