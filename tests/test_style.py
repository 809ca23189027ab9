"""The house rules that a program can check: small files, small functions, no hidden state."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import graphc
from graphc.ops.operators import METHODS
from graphc.typing import Operators

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "graphc").rglob("*.py"))
OURS = [
    path
    for folder in ("graphc", "tools", "examples", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
LINES, FUNCTION_LINES = 400, 60
LARGE = {
    "graphc/__init__.py": "the public names, one a line",
}


def _label(path: Any) -> str:
    return str(path.relative_to(ROOT))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: what has to be understood."""
    assert function.end_lineno is not None
    documented = ast.get_docstring(function) is not None
    first = function.body[0]
    text = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - text


@pytest.mark.parametrize("path", OURS, ids=_label)
def test_files_are_small_and_plain(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    most = 2 * LINES if _label(path) in LARGE or path.is_relative_to(ROOT / "tests") else LINES
    assert len(lines) <= most, f"{len(lines)} lines"
    for number, line in enumerate(lines, 1):
        assert not re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", line), f"line {number}"
    tree = ast.parse(text)
    for function in _functions(tree):
        assert _body_lines(function) <= FUNCTION_LINES, f"{function.name}: {_body_lines(function)}"
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree)), "global state"


@pytest.mark.parametrize("path", OURS, ids=_label)
def test_imports_stand_at_the_top(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for function in _functions(tree):
        for node in ast.walk(function):
            assert not isinstance(node, (ast.Import, ast.ImportFrom)), (
                f"{function.name}, line {node.lineno}"
            )


@pytest.mark.parametrize("path", PACKAGE, ids=_label)
def test_modules_say_what_they_are_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree), "a module opens with a docstring"


def _public() -> dict[str, Any]:
    found = {}
    for prefix, holder in [("g", graphc)] + [
        (f"g.{name}", getattr(graphc, name))
        for name in ("nn", "optim", "init", "linalg", "random")
        if hasattr(graphc, name)
    ]:
        for name in getattr(holder, "__all__", None) or [n for n in vars(holder) if n[0] != "_"]:
            value = getattr(holder, name)
            home = str(getattr(value, "__module__", ""))
            if callable(value) and home.startswith((holder.__name__, "graphc.ops.linalg")):
                found[f"{prefix}.{name}"] = value
    return found


WITHOUT_EXAMPLE = {
    "g.DType": "graphc makes them",
    "g.Tensor": "graphc makes them",
    "g.Node": "graphc makes them",
    "g.Graph": "graphc makes them",
    "g.Update": "assign makes them",
    "g.Group": "group makes them",
    "g.random.unit_interval": "what distributions are made of",
}


@pytest.mark.parametrize("name", sorted(_public()))
def test_public_names_are_documented(name: str) -> None:
    value = _public()[name]
    text = value.__doc__ or ""
    assert len(text) > 20, "a docstring gives shapes, dtypes and errors"
    if not (isinstance(value, type) and issubclass(value, Exception)):
        assert name in WITHOUT_EXAMPLE or ">>>" in text, "a docstring has an example that runs"


def test_type_checkers_see_every_operator_and_method() -> None:
    declared = {name for name in vars(Operators) if name[:2] != "__" or name in METHODS}
    assert declared - {"eval", "__iter__"} == set(METHODS)
    for name, function in METHODS.items():
        if inspect.isfunction(function) and name[:2] != "__":
            have, want = (
                list(inspect.signature(f).parameters.values())[1:]
                for f in (getattr(Operators, name), function)
            )
            assert [(p.kind, p.default) for p in have] == [(p.kind, p.default) for p in want], name


def test_there_are_public_names() -> None:
    assert len(_public()) > 100
