"""The error corpus: wrong programs, with exactly what their users see."""

from __future__ import annotations

import pytest

from graphc.errors import GraphcError
from tests.errors.corpus import chained, expected, failure_of, frames_inside, message, names

PYTHONS_OWN = {
    "truth_of_tensor", "length_unknown", "iteration_unknown", "size_as_int", "numpy_function",
    "numpy_array_of_tensor", "float_of_tensor", "keyword_unknown", "item_assignment",
    "dropout_rate", "optimiser_option", "scan_arguments",
}  # fmt: skip
"""Python's own protocols decide the class: TypeError, or ValueError for a number out of range."""

WITHOUT_LINE = {
    "keyword_unknown": "Python itself refuses the call",
    "size_as_int": "a size belongs to no line",
}  # the traceback says it for these


@pytest.mark.parametrize("name", names())
def test_message(name: str) -> None:
    error = failure_of(name)
    assert error is not None, "the program is wrong, and nothing was raised"
    assert isinstance(error, (TypeError, ValueError) if name in PYTHONS_OWN else GraphcError)
    text = message(error)
    assert text == expected(name).read_text()
    assert len(text.splitlines()) <= 15
    assert f"{name}.py:" in text or name in WITHOUT_LINE
    assert frames_inside(error) <= (1 if isinstance(error, GraphcError) else 2)
    assert not chained(error), "one traceback is enough"


def test_the_corpus_is_large_and_whole() -> None:
    assert len(names()) >= 45
    programs = {expected(name) for name in names()}
    assert programs == set(expected("x").parent.glob("*.txt"))
