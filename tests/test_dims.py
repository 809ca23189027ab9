"""Dimensions: the laws of a ring, held against evaluation at random sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphc.dims import (
    FUNCTIONS,
    Dim,
    Dimension,
    Symbol,
    derived,
    dimension_text,
    evaluate,
    exact_quotient,
    floordiv,
    product,
    substitute,
)

NAMES = ("batch", "heads", "n", "width")
SYMBOLS = {name: Dim.symbol(name) for name in NAMES}
sizes = st.fixed_dictionaries({Symbol(name): st.integers(0, 12) for name in NAMES})

_leaves = st.one_of(st.integers(-3, 6), st.sampled_from(list(SYMBOLS.values())))


def _combined(children: st.SearchStrategy[Dimension]) -> st.SearchStrategy[Dimension]:
    operators: list[Callable[[Any, Any], Dimension]] = [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        floordiv,
        lambda a, b: derived("max", a, b),
        lambda a, b: derived("min", a, b),
    ]
    return st.builds(
        lambda operator, a, b: operator(a, b), st.sampled_from(operators), children, children
    )


dimensions = st.recursive(_leaves, _combined, max_leaves=5)
polynomials = st.recursive(
    _leaves,
    lambda children: st.builds(
        lambda plus, a, b: a + b if plus else a * b, st.booleans(), children, children
    ),
    max_leaves=5,
)


@given(dimensions, dimensions, sizes)
def test_arithmetic_is_that_of_the_values(a: Any, b: Any, at: Any) -> None:
    x, y = evaluate(a, at), evaluate(b, at)
    assert evaluate(a + b, at) == x + y
    assert evaluate(a - b, at) == x - y
    assert evaluate(a * b, at) == x * y
    assert evaluate(-a, at) == -x
    for name, function in FUNCTIONS.items():
        if name != "broadcast":  # defined only for sizes that broadcast
            assert evaluate(derived(name, a, b), at) == function(x, y), name


@given(polynomials, polynomials, polynomials)
def test_ring_laws_hold_as_equality(a: Any, b: Any, c: Any) -> None:
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a - a == 0
    assert a + 0 == a and a * 1 == a and a * 0 == 0
    assert hash(a + b) == hash(b + a)


@given(polynomials, polynomials)
def test_quotient_by_a_factor_is_exact(a: Any, b: Any) -> None:
    assume(b != 0)
    if isinstance(b, int) or len(b.terms) == 1 or a == 1:
        assert exact_quotient(a * b, b) == a
        assert floordiv(a * b, b) == a


@given(dimensions, dimensions, sizes)
def test_quotients_evaluate_as_floor_division(a: Any, b: Any, at: Any) -> None:
    x, y = evaluate(a, at), evaluate(b, at)
    quotient = exact_quotient(a, b)
    if quotient is not None and y != 0:
        assert evaluate(quotient, at) * y == x
    if y != 0:
        assert evaluate(floordiv(a, b), at) == x // y


@given(dimensions, sizes, st.sampled_from(NAMES), polynomials)
def test_substitution_then_evaluation(a: Any, at: Any, name: str, value: Any) -> None:
    there = dict(at) | {Symbol(name): evaluate(value, at)}
    replaced = substitute(a, {Symbol(name): value})
    try:
        wanted = evaluate(a, there)
    except ZeroDivisionError:
        return
    assume(_divisors_are_not_zero(a, there))
    assert evaluate(replaced, at) == wanted
    assert substitute(a, {Symbol("other"): 3}) == a


def _divisors_are_not_zero(dimension: Dimension, at: Any) -> bool:
    """A quotient that simplifies, n*k//k to n, is not what floordiv says at k = 0."""
    if not isinstance(dimension, Dim):
        return True
    atoms = [atom for monomial, _ in dimension.terms for atom in monomial]
    return all(
        isinstance(atom, Symbol)
        or (
            all(_divisors_are_not_zero(arg, at) for arg in atom.args)
            and not (atom.function in ("floordiv", "mod") and evaluate(atom.args[1], at) == 0)
        )
        for atom in atoms
    )


@settings(max_examples=400)
@given(dimensions)
def test_text_is_deterministic_and_reads_back(a: Any) -> None:
    text = dimension_text(a)
    assert text == dimension_text(a) and " " not in text
    assert text == dimension_text(substitute(a, {Symbol("batch"): Dim.symbol("batch")}))
    functions = {name: functools.partial(derived, name) for name in ("max", "min")}
    read = eval(text, dict(SYMBOLS) | functions)
    at = {Symbol(name): size for name, size in zip(NAMES, (7, 5, 3, 2), strict=True)}
    assert evaluate(read, at) == evaluate(a, at)


def test_texts() -> None:
    batch, n = Dim.symbol("batch"), Dim.symbol("n")
    assert str(2 * n + 1) == "2*n+1"
    assert str(batch * n * 3) == "3*batch*n"
    assert str(n - 4) == "n-4"
    assert str((n + 1) // 2) == "((n+1)//2)"
    assert str(floordiv(7, batch * n)) == "(7//(batch*n))"
    assert str(n // 2 // 3) == "((n//2)//3)"
    assert str(derived("max", n + 1, batch)) == "max(n+1,batch)"
    assert str(6 * n // 2) == "3*n"
    assert repr(Dim.symbol()) == "?"


def test_names_identify_and_nameless_symbols_differ() -> None:
    assert Dim.symbol("batch") == Dim.symbol("batch")
    assert Dim.symbol() != Dim.symbol()
    unknown = Dim.symbol()
    assert unknown - unknown == 0 and unknown + 1 - unknown == 1


def test_a_size_is_no_number_before_a_run() -> None:
    n = Dim.symbol("n")
    for question in (int, bool, range):
        with pytest.raises(TypeError, match="the size n is not known before a run"):
            question(n)  # type: ignore[operator]


def test_product() -> None:
    n = Dim.symbol("n")
    assert product(()) == 1
    assert product((2, n, 3)) == 6 * n
    assert product((n, 0)) == 0


def test_operands_of_nested_applications_stand_in_one_row() -> None:
    sizes = [Dim.symbol(f"n{i}") for i in range(400)]
    total: Any = sizes[0]
    for size in sizes[1:]:
        total = derived("broadcast", total, size)
    assert str(derived("max", derived("max", sizes[0], sizes[1]), sizes[0] + 2)) == "max(n1,n0+2)"
    assert evaluate(total, {Symbol(f"n{i}"): 7 if i == 300 else 1 for i in range(400)}) == 7
    assert derived("broadcast", sizes[5], total) == total
