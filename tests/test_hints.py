"""Names of TensorFlow 1, Keras and Theano: missing, with a hint that holds."""

import copy
import operator
import re

import pytest

import graphc as g
from graphc import hints

X = g.placeholder("float32", [None], name="x")
HOLDERS = {
    "module": (g, hints.MODULE),
    "nn": (g.nn, hints.NN),
    "optim": (g.optim, hints.OPTIM),
    "tensor": (g.Variable(1.0), hints.TENSOR),
    "session": (g.Session(), hints.SESSION),
}
CASES = [(holder, name) for holder, (_, table) in HOLDERS.items() for name in table]


@pytest.mark.parametrize(("holder", "name"), CASES)
def test_a_hint_stands_for_a_missing_name_and_tells_of_names_that_exist(holder, name):
    owner, table = HOLDERS[holder]
    assert not hasattr(owner, name), "the name exists: its hint is stale"
    assert name not in dir(owner)
    with pytest.raises(AttributeError) as caught:
        getattr(owner, name)
    assert str(caught.value).endswith(f"has no attribute {name!r}: {table[name]}")
    for path in re.findall(r"\bg\.([A-Za-z_][\w.]*)", table[name]):
        operator.attrgetter(path.rstrip("."))(g)
    for method in re.findall(r"\bSession\.(\w+)", table[name]):
        assert hasattr(g.Session, method)
    for method in re.findall(r"\bx\.(\w+)", table[name]):
        assert hasattr(X, method)


@pytest.mark.parametrize("owner", [g, g.nn, g.optim, X, g.Session()])
def test_other_names_are_missing_as_ever(owner):
    with pytest.raises(AttributeError, match=r"has no attribute 'no_such_name'$") as caught:
        owner.no_such_name  # noqa: B018
    assert caught.value.name == "no_such_name"
    assert caught.value.obj is owner
    assert getattr(owner, "no_such_name", 3) == 3


def test_a_star_import_and_copies_are_not_disturbed():
    names: dict[str, object] = {}
    exec("from graphc import *", names)
    assert set(g.__all__) <= set(names)
    assert "reduce_mean" not in names
    assert copy.copy(X).type == X.type
