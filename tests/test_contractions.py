"""dot, tensordot, einsum and their kin against NumPy; matmul is the only contraction they leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.errors import ShapeError
from graphc.graph import Graph
from graphc.ops.contraction import dot, inner, kron, outer, tensordot, vdot
from graphc.ops.einsum import einsum
from graphc.ops.gradient import gradients
from graphc.ops.norms import multi_dot
from graphc.ops.source import placeholder
from tests.support import SPELLINGS, Compiled, assert_same, directional, run

SIZES = {"i": 2, "j": 3, "k": 4, "l": 1, "m": 5, "n": 2}
EXPRESSIONS = (
    "ij,jk->ik", "ij,jk", "ij,kj->ik", "ji,jk->ki", "i,i->", "i,i", "i,j->ij", "i,j->ji", "ij->ji",
    "ij->", "ij->j", "ij->i", "ij", "ba", "ii->i", "ii->", "ii", "iij->ji", "iii->i", "iji->j",
    "ij,ij->ij", "ij,ij->i", "ij,ij->j", "ij,ij->", "ij,ij", "nij,njk->nik", "nij,njk->ikn",
    "nij,nkj->ink", "inj,jkn->nik", "ij,ijk->k", "ijk,ijk->", "ijk,jil->kl", "ijkl,lkm->mji",
    "ij,jk,kl->il", "ij,jk,kl,lm->im", "i,ij,j->", "ii,ij->j", "iij,jkk->ik", "ij,kl->",
    "ij,kl->ik", "ij,kl->ljki", "ij,jk,ik->", "i,i,i->i", "ij,jk,k->i", "l,l->l", "li,lj->ij",
    "ijk->", ",->", ",i->i", "->", "ii,jj->ij", "ii,jj->", "ijk,k->ij", "ijkm,imjk->",
    "nm,nm,nm->nm",
)  # fmt: skip
ELLIPSES: tuple[tuple[str, tuple[tuple[int, ...], ...]], ...] = (
    ("...ij,...jk->...ik", ((2, 3), (3, 4))),
    ("...ij,...jk->...ik", ((5, 2, 3), (3, 4))),
    ("...ij,...jk->...ik", ((5, 1, 2, 3), (6, 3, 4))),
    ("...ij,...jk", ((1, 2, 3), (5, 3, 4))),
    ("...", ((2, 3),)), ("...->...", ((2, 3),)), ("...i->i...", ((2, 3, 4),)),
    ("i...->...", ((2, 3, 4),)), ("...ii->...i", ((5, 3, 3),)), ("i...i->i...", ((3, 2, 3),)),
    ("...,...->...", ((2, 3), (3,))), ("...,...", ((2, 1), (1, 3))),
    ("i...,...j->ij...", ((2, 5), (5, 3))),
    ("...i,...i->...", ((4, 3), (4, 3))), ("...,i->...i", ((), (3,))),
    ("b...c,bc->b...", ((2, 3, 4), (2, 4))),
    ("ij,jk", ((2, 3), (1, 4))), ("i,i->i", ((1,), (3,))), ("ij,ij->ij", ((1, 3), (2, 1))),
    ("ij->j", ((0, 3),)), ("ij,jk->ik", ((2, 0), (0, 3))), ("i,i->", ((0,), (0,))),
)  # fmt: skip
TABLE = [
    (e, tuple(tuple(SIZES.get(c, 3) for c in term) for term in e.split("->")[0].split(",")))
    for e in EXPRESSIONS
] + list(ELLIPSES)


def _arrays(shapes: Any, dtype: str = "float64") -> list[Any]:
    rng = np.random.default_rng(len(shapes))
    if dtype == "bool":
        return [rng.integers(0, 2, shape).astype(dtype) for shape in shapes]
    return [np.asarray(rng.integers(-4, 5, shape)).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
@pytest.mark.parametrize(("subscripts", "shapes"), TABLE, ids=str)
def test_einsum(subscripts: str, shapes: Any, spelling: str) -> None:
    for dtype in ("float64", "int32", "uint8"):
        arrays = _arrays(shapes, dtype if dtype != "uint8" else "int8")
        arrays = [a.astype(dtype) for a in arrays]
        tensors = [SPELLINGS[spelling](a) for a in arrays]
        y = einsum(subscripts, *tensors)
        compiled = Compiled.of([y], tensors, [a.shape for a in arrays])
        want = np.asarray(np.einsum(subscripts, *arrays))
        assert_same(compiled(*arrays)[0], want, f"{subscripts} {shapes}")
        families = [n.op.name for n in compiled.graph.nodes if n.op.family == "contraction"]
        assert set(families) <= {"matmul"} and len(families) < max(len(shapes), 2)


@pytest.mark.parametrize(("subscripts", "shapes"), TABLE, ids=str)
def test_einsum_gradients(subscripts: str, shapes: Any) -> None:
    rng = np.random.default_rng(1)
    arrays = [np.asarray(rng.normal(size=shape)) for shape in shapes]
    directions = [np.asarray(rng.normal(size=shape)) for shape in shapes]
    tensors = [placeholder("float64", shape) for shape in shapes]
    y = einsum(subscripts, *tensors)
    loss = (y * y).sum()
    found = gradients(loss, tensors)
    along = sum(((g * v).sum() for g, v in zip(found, directions, strict=True)), start=loss * 0)
    second = gradients(along, tensors)
    compiled = Compiled.of([loss, along, *second], tensors, shapes)
    _, first, *cotangents = compiled(*arrays)
    want = directional(lambda *xs: compiled(*xs)[0], arrays, directions)
    np.testing.assert_allclose(first, want, rtol=1e-6, atol=1e-7)
    want = directional(lambda *xs: compiled(*xs)[1], arrays, directions)
    got = sum(np.sum(g * v) for g, v in zip(cotangents, directions, strict=True))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(sorted(SPELLINGS)))
def test_einsum_law(data: Any, spelling: str) -> None:
    """Any terms over four labels, any output."""
    labels = st.text("ijkm", min_size=0, max_size=3)
    terms = data.draw(st.lists(labels, min_size=1, max_size=3))
    used = sorted(set("".join(terms)))
    chosen = data.draw(st.lists(st.sampled_from(used), unique=True)) if used else []
    subscripts = ",".join(terms) + "->" + "".join(chosen)
    arrays = _arrays([tuple(SIZES[c] for c in term) for term in terms])
    tensors = [SPELLINGS[spelling](a) for a in arrays]
    (got,) = run([einsum(subscripts, *tensors)], dict(zip(tensors, arrays, strict=True)))
    assert_same(got, np.asarray(np.einsum(subscripts, *arrays)), subscripts)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "rule"),
    [
        ("ij,jk", ((2, 3), (4, 5)), "sizes of label 'j' must match"),
        ("ii", ((2, 3),), "sizes of label 'i' must match"),
        ("ij", ((2, 3), (3, 4)), "subscripts must hold one term for each operand"),
        ("ij", ((2, 3, 4),), "term 'ij' must label each axis of operand 0"),
        ("ijk", ((2, 3),), "term 'ijk' must label each axis of operand 0"),
        ("ij->k", ((2, 3),), "distinct labels of the terms"),
        ("ij->ii", ((2, 3),), "distinct labels of the terms"),
        ("i1", ((2, 3),), "letters and at most one"),
        ("...i...", ((2, 3),), "letters and at most one"),
        ("...i->i", ((2, 3),), "the output must keep"),
        ("...,...", ((2,), (3,)), "must broadcast"),
    ],
)
def test_wrong_einsum(subscripts: str, shapes: Any, rule: str) -> None:
    with pytest.raises(ShapeError, match=rule):
        einsum(subscripts, *(placeholder("float32", shape) for shape in shapes))
    with pytest.raises(ShapeError, match=rule):
        tensors = [placeholder("float32", None) for _ in shapes]
        feeds = {t: np.zeros(s, np.float32) for t, s in zip(tensors, shapes, strict=True)}
        run([einsum(subscripts, *tensors)], feeds)


def test_open_sizes_are_checked_at_the_run() -> None:
    """Also where two wrong sizes have the right product."""
    a, b = placeholder("float64", [None, None, 2]), placeholder("float64", [None, None, 2])
    feeds = {a: np.zeros((2, 3, 2)), b: np.zeros((3, 2, 2))}
    for y in (einsum("ijk,ijk->", a, b), tensordot(a, b, [[0, 1], [0, 1]])):
        with pytest.raises(ShapeError, match=r"einsum|tensordot"):
            run([y], feeds)
        assert y.shape is not None


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
@pytest.mark.parametrize(
    ("a", "b", "axes"),
    [
        ((2, 3), (3, 4), 1), ((2, 3), (2, 3), 2), ((2,), (3,), 0), ((), (2, 3), 0),
        ((2, 3, 4), (4, 3, 5), ((1, 2), (1, 0))), ((2, 3, 4), (4, 3, 5), ((-2, -1), (1, 0))),
        ((2, 3), (4, 3), (1, 1)), ((2, 3), (2, 3), ([0, 1], [0, 1])), ((0, 3), (3, 2), 1),
        ((2, 0), (0, 3), 1), ((3, 2), (4, 5), ((), ())),
    ],
)  # fmt: skip
def test_tensordot(a: Any, b: Any, axes: Any, spelling: str) -> None:
    arrays = _arrays((a, b))
    tensors = [SPELLINGS[spelling](x) for x in arrays]
    (got,) = run([tensordot(*tensors, axes=axes)], dict(zip(tensors, arrays, strict=True)))
    assert_same(got, np.asarray(np.tensordot(*arrays, axes=axes)), axes)


def test_wrong_tensordot() -> None:
    a, b = placeholder("float32", (2, 3)), placeholder("float32", (3, 4))
    rules = {
        2: "summed axes must have equal sizes", 3: "between 0 and the operands' ranks",
        ((0, 1), (0,)): "of equal length", ((0, 0), (0, 0)): "must not be repeated",
        ((5,), (0,)): "axis 5 is out of range",
    }  # fmt: skip
    for axes, rule in rules.items():
        with pytest.raises(ShapeError, match=rule):
            tensordot(a, b, axes)


PRODUCTS: dict[Any, Any] = {
    dot: np.dot, inner: np.inner, outer: np.outer, vdot: np.vdot, kron: np.kron,
}  # fmt: skip
OPERANDS: dict[Any, tuple[Any, ...]] = {
    dot: (((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((2, 3, 4), (5, 4, 2)),
          ((), (2, 3)), ((2,), ()), ((0,), (0,))),
    inner: (((3,), (3,)), ((2, 3), (3,)), ((2, 3), (4, 3)), ((), (2, 3)), ((2, 2, 3), (4, 3))),
    outer: (((2,), (3,)), ((2, 2), (3,)), ((), (3,)), ((0,), (3,))),
    vdot: (((3,), (3,)), ((2, 3), (2, 3)), ((), ())),
    kron: (((2,), (3,)), ((2, 3), (3, 1)), ((2, 3), (2,)), ((2,), (2, 1, 3)), ((), (2, 2))),
}  # fmt: skip


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
@pytest.mark.parametrize("build", list(PRODUCTS), ids=lambda b: b.__name__)
def test_products(build: Any, spelling: str) -> None:
    for shapes in OPERANDS[build]:
        for dtypes in (("float64", "float64"), ("float32", "int8"), ("int32", "int32")):
            arrays = [x.astype(d) for x, d in zip(_arrays(shapes), dtypes, strict=True)]
            tensors = [SPELLINGS[spelling](x) for x in arrays]
            (got,) = run([build(*tensors)], dict(zip(tensors, arrays, strict=True)))
            assert_same(got, np.asarray(PRODUCTS[build](*arrays)), f"{build.__name__} {shapes}")


def test_names_and_methods() -> None:
    x, w = placeholder("float32", (2, 3)), placeholder("float32", (3, 4))
    assert x.dot(w).shape == (2, 4)
    for y in (
        einsum("ij,jk", x, w, name="y"), tensordot(x, w, 1, name="y"), dot(x, w, name="y"),
        outer(x, w, name="y"), kron(x, w, name="y"), multi_dot([x, w], name="y"),
    ):  # fmt: skip
        assert y.name == "y"


def test_one_matmul_in_the_best_order() -> None:
    sizes = ((10, 100), (100, 5), (5, 50), (50,))
    tensors = [placeholder("float64", shape) for shape in sizes]
    y = multi_dot(tensors)
    widths = [n.types[0].shape for n in Graph((y,)).nodes if n.op.name == "matmul"]
    assert len(widths) == 3
    assert max(int(np.prod(w)) for w in widths if w is not None) <= 100
    arrays = [np.random.default_rng(2).normal(size=shape) for shape in sizes]
    want = np.linalg.multi_dot(arrays)
    assert_same(run([y], dict(zip(tensors, arrays, strict=True)))[0], want, "multi_dot", slack=9)
