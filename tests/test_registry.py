"""Tables made of the registry: every op in every dtype of its domain, over all of its cases.

An op's own record says what is tested: its cases, its oracle, its gradient rule, its formula. So a
new op is tested by being there, and an op without cases fails `test_domain`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.dtypes import DType, float16, float32, float64
from graphc.graph import Graph, Op, Tensor
from graphc.ops import OPS
from graphc.ops.domain import Case
from graphc.ops.gradient import gradients
from graphc.ops.source import as_tensor, literal
from graphc.passes.specialise import specialise
from graphc.scalar import evaluate as evaluate_formula
from graphc.scalar import operand
from graphc.verify import verify
from tests.support import (
    SPELLINGS,
    Compiled,
    apply,
    assert_same,
    directional,
    generator,
    inputs_of,
    kinds,
    static,
    strided,
    values,
)

FAMILIES = {
    "source", "pointwise", "view", "reduction", "contraction", "opaque", "host", "deferred",
    "gradient", "composite", "barrier", "control",
}  # fmt: skip

NO_CASES = {
    "placeholder": "a run feeds it",
    "variable": "a session holds it",
    "entropy": "the runtime supplies it",
    "parameter": "a loop or a branch gives its value",
    "loop": "its body is a graph: test_scan, test_while_loop, test_loop_gradients",
    "branch": "its bodies are graphs: test_ifelse",
    "gradient": "differentiate expands it; each op's gradient is tested below",
}  # and every "deferred" op: specialise replaces it by what it is composed of

NOT_NUMPY = {
    "gradient": "np.gradient is a difference quotient",
    "size": "np.size counts elements; this is the value of one dimension",
    "identity": "np.identity is an identity matrix",
}  # ops that share a name with something else in NumPy

LINALG = {"cholesky", "det", "inv", "solve"}  # of np.linalg, with the same attributes

LISTS = {"concatenate", "stack"}  # these take their operands as one list

ROUGH_IN_LOW_PRECISION: dict[str, str] = {}  # op: why the float64 result says nothing about float32

OPS_LISTED = sorted(OPS)
TESTED = [OPS[name] for name in OPS_LISTED if OPS[name].domain and OPS[name].domain.cases]
TABLE = [(op, dtype) for op in TESTED for dtype in kinds(op)]
DIFFERENTIABLE = [op for op in TESTED if op.vjp is not None and "f" in op.domain.kinds]


def _label(value: Any) -> str:
    return value.name if isinstance(value, (Op, DType)) else str(value)


def _outputs(op: Op, case: Case, arrays: Any, spelling: str) -> tuple[Any, Any]:
    tensors = [SPELLINGS[spelling](array) for array in arrays]
    return tensors, apply(op, tensors, case.attrs)


# ---------------------------------------------------------------------------- the records


@pytest.mark.parametrize("name", OPS_LISTED)
def test_record(name: str) -> None:
    op = OPS[name]
    assert op.name == name and name.isidentifier()
    assert op.family in FAMILIES
    assert op.domain is not None, "an op needs a domain, so that tests can draw its inputs"
    assert bool(op.domain.cases) != (name in NO_CASES or op.family == "deferred"), (
        "an op needs cases, or a reason in NO_CASES (not both)"
    )
    assert set(op.domain.kinds) <= set("biuf") and (op.domain.kinds or not op.domain.cases)


@pytest.mark.parametrize("name", [n for n in OPS_LISTED if OPS[n].family != "source"])
def test_gradient_or_reason(name: str) -> None:
    op = OPS[name]
    if name != "gradient":
        assert (op.vjp is None) == bool(op.cuts), "either a gradient rule, or why there is none"


@pytest.mark.parametrize("op", TESTED, ids=_label)
def test_params_and_attributes(op: Op) -> None:
    for case in op.domain.cases:
        assert len(op.params) <= len(case.draws), (  # the last name may stand for several
            f"{op.name}: {len(case.draws)} operands for the names {op.params}"
        )
        hash(tuple(case.attrs.values()))
    for function in filter(None, (op.vjp, op.element, op.loop, op.expand)):
        assert callable(function) and inspect.signature(function) is not None


def test_every_op_is_in_the_registry() -> None:
    names = [m.name for m in pkgutil.walk_packages(graphc.__path__, "graphc.")]
    held = [
        value if isinstance(value, Op) else getattr(value, "op", None)
        for name in names
        if name != "graphc.__main__"
        for value in vars(importlib.import_module(name)).values()
    ]
    ops = [op for op in held if isinstance(op, Op) and op.family not in ("deferred", "state")]
    assert {op.name for op in ops if OPS.get(op.name) is not op} == set()


# ---------------------------------------------------------------------------- types and values


@pytest.mark.parametrize(("op", "dtype"), TABLE, ids=_label)
def test_inferred_types_are_the_real_ones(op: Op, dtype: DType) -> None:
    for case in op.domain.cases:
        arrays = inputs_of(op, case, dtype)
        tensors, outputs = _outputs(op, case, arrays, "static")
        graph = Graph(outputs, (), tuple(tensors))
        assert all(t.type.is_static for t in outputs), f"{op.name}{case}: {outputs}"
        verify(specialise(graph))
        values(specialise(graph), arrays, {})


@pytest.mark.parametrize("spelling", ["symbolic", "rankless"])
@pytest.mark.parametrize(("op", "dtype"), TABLE, ids=_label)
def test_types_are_bound_at_the_run(op: Op, dtype: DType, spelling: str) -> None:
    for case in op.domain.cases:
        if not case.draws:
            continue
        arrays = inputs_of(op, case, dtype)
        tensors, outputs = _outputs(op, case, arrays, "static")
        wanted = Compiled.of(outputs, tensors, [a.shape for a in arrays])(*arrays)
        open_tensors, open_outputs = _outputs(op, case, arrays, spelling)
        assert [t.dtype for t in open_outputs] == [t.dtype for t in outputs]
        compiled = Compiled.of(open_outputs, open_tensors, [a.shape for a in arrays])
        what = f"{op.name} of {[a.shape for a in arrays]} {case.attrs}"
        for got, want in zip(values(compiled.graph, arrays, compiled.sizes), wanted, strict=True):
            assert_same(got, want, what)
        for got, want in zip(compiled(*map(strided, arrays)), wanted, strict=True):
            assert_same(got, want, f"{what}, not contiguous")


@pytest.mark.parametrize(("op", "dtype"), TABLE, ids=_label)
def test_constants_give_what_feeds_give(op: Op, dtype: DType) -> None:
    for case in op.domain.cases:
        arrays = inputs_of(op, case, dtype)
        tensors, outputs = _outputs(op, case, arrays, "static")
        plain = values(specialise(Graph(outputs, (), tuple(tensors))), arrays, {})
        folded = Compiled.of(apply(op, [literal(a) for a in arrays], case.attrs))()
        optimised = Compiled.of(outputs, tensors, [a.shape for a in arrays])(*arrays)
        for want, a, b in zip(plain, folded, optimised, strict=True):
            assert_same(a, want, f"{op.name} {case}: constants")
            assert_same(b, want, f"{op.name} {case}: optimised")


def _numpy_function(op: Op) -> Any:
    own = op.name in NOT_NUMPY or op.family == "source"  # sources have other attributes
    home = np.linalg if op.name in LINALG else np
    found = None if own else getattr(home, op.name, None)
    return found if callable(found) and not isinstance(found, type) else None


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        (op, dtype)
        for op, dtype in TABLE
        if _numpy_function(op) and not (op.name in LINALG and dtype is float16)  # LAPACK has none
    ],
    ids=_label,
)
def test_numpy_of_the_same_name(op: Op, dtype: DType) -> None:
    function = _numpy_function(op)
    for case in op.domain.cases:
        arrays = inputs_of(op, case, dtype)
        attrs = {k: v.numpy if isinstance(v, DType) else v for k, v in case.attrs.items()}
        tensors, outputs = _outputs(op, case, arrays, "static")
        got = values(specialise(Graph(outputs, (), tuple(tensors))), arrays, {})
        with np.errstate(all="ignore"):
            want = np.asarray(function(*([arrays] if op.name in LISTS else arrays), **attrs))
        assert_same(got[0], want, f"{op.name} of {[a.shape for a in arrays]} {case.attrs}")


# ---------------------------------------------------------------------------- formulas


def _canonical(op: Op, case: Case, dtype: DType) -> Iterator[Any]:
    """The node that carries the op itself, and the arrays that reach it."""
    arrays = inputs_of(op, case, dtype)
    tensors, outputs = _outputs(op, case, arrays, "static")
    graph = specialise(Graph(outputs, (), tuple(tensors)))
    for node in graph.nodes:
        if node.op is op:
            yield node, values(Graph(node.inputs, (), graph.inputs), arrays, {})


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        (op, d)
        for op, d in TABLE
        if op.element is not None and op.family == "pointwise" and op.name != "cast"
    ],  # a cast is no primitive: test_interp.py runs it
    ids=_label,
)
def test_element_formula_is_the_oracle(op: Op, dtype: DType) -> None:
    assert op.element is not None
    for case in op.domain.cases:
        for node, arrays in _canonical(op, case, dtype):
            formula = op.element(*map(operand, range(len(arrays))), **node.attrs)
            with np.errstate(all="ignore"):
                got = np.asarray(evaluate_formula(formula, dict(enumerate(arrays))))
                want = np.asarray(op.oracle(*arrays, **node.attrs))
            assert got.shape in (want.shape, ()), op.name
            got = np.broadcast_to(got, want.shape).astype(want.dtype)
            assert_same(got, want, f"{op.name}: {formula}", slack=4)


@pytest.mark.parametrize(
    ("op", "dtype"), [(op, d) for op, d in TABLE if op.expand is not None], ids=_label
)
def test_expansion_is_the_oracle(op: Op, dtype: DType) -> None:
    assert op.expand is not None
    for case in op.domain.cases:
        for node, arrays in _canonical(op, case, dtype):
            inputs = [static(array) for array in arrays]
            expanded = op.expand(*inputs, **node.attrs)
            expanded = (expanded,) if isinstance(expanded, Tensor) else tuple(expanded)
            result = op.oracle(*arrays, **node.attrs)
            wanted = (result,) if op.outputs is None else result
            shapes = [a.shape for a in arrays]
            got = Compiled.of(expanded, inputs, shapes)(*arrays)
            for a, b in zip(got, wanted, strict=True):
                assert_same(a, np.asarray(b), f"{op.name} {node.attrs}", slack=8)


@pytest.mark.parametrize("dtype", [float16, float32], ids=_label)
@pytest.mark.parametrize(
    "op",
    [op for op in TESTED if "f" in op.domain.kinds and op.name not in ROUGH_IN_LOW_PRECISION],
    ids=_label,
)
def test_low_precision_is_near_float64(op: Op, dtype: DType) -> None:
    for case in op.domain.cases:
        low = inputs_of(op, case, dtype)
        high = [a.astype(np.float64) if a.dtype == dtype.numpy else a for a in low]
        results = []
        for arrays in (low, high):
            tensors, outputs = _outputs(op, case, arrays, "static")
            results.append(values(specialise(Graph(outputs, (), tuple(tensors))), arrays, {}))
        for got, want in zip(*results, strict=True):
            if got.dtype == dtype.numpy and want.dtype == np.float64:
                with np.errstate(all="ignore"):
                    assert_same(got, want.astype(got.dtype), f"{op.name} {case}", slack=4)


# ---------------------------------------------------------------------------- gradients


class Slope:
    """f(x) = <g, y(x)>, its gradient, and that gradient's own directional gradient."""

    def __init__(self, op: Op, case: Case, spelling: str) -> None:
        arrays = inputs_of(op, case, float64)
        rng = generator("slope", op.name, str(case.draws))
        self.arrays = arrays
        self.inputs = [SPELLINGS[spelling](array) for array in arrays]
        outputs = apply(op, self.inputs, case.attrs)
        floats = [i for i, t in enumerate(self.inputs) if t.dtype.is_float]
        self.floats = floats
        xs = [self.inputs[i] for i in floats]
        ys = [y for y in outputs if y.dtype.is_float]
        self.differentiable = bool(xs and ys)
        self.exact = all(y.dtype is float64 for y in ys)  # a narrower result is a staircase
        if not self.differentiable:
            return
        static_outputs = apply(op, [static(a) for a in arrays], case.attrs)
        shapes = [y.shape for y in static_outputs if y.dtype.is_float]
        weights = [as_tensor(rng.uniform(-1, 1, shape)) for shape in shapes]
        self.directions = [rng.uniform(-1, 1, arrays[i].shape) for i in floats]
        self.others = [rng.uniform(-1, 1, arrays[i].shape) for i in floats]
        first = gradients(ys, xs, weights, unconnected="zero")
        value = _total([(y * w).sum() for y, w in zip(ys, weights, strict=True)])
        along = _total([(g * v).sum() for g, v in zip(first, self.others, strict=True)])
        second = gradients(along, xs, unconnected="zero")
        self.first = first
        self.compiled = Compiled.of(
            [value, along, *first, *second], self.inputs, [a.shape for a in arrays]
        )

    def __call__(self, *floats: Any) -> list[Any]:
        arrays = list(self.arrays)
        for position, value in zip(self.floats, floats, strict=True):
            arrays[position] = value
        return self.compiled(*arrays)

    def point(self) -> list[Any]:
        """The float inputs where it is tested."""
        return [self.arrays[i] for i in self.floats]

    def difference(self, fetch: int) -> float:
        """The directional derivative of f (0) or of its gradient along `others` (1)."""
        return directional(lambda *x: self(*x)[fetch], self.point(), self.directions)


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _close(got: float, want: float, what: str) -> None:
    assert abs(got - want) <= 2e-6 * (1.0 + abs(want)), f"{what}: {got}, by differences {want}"


def _dot(cotangents: Any, directions: Any) -> float:
    return float(sum(np.sum(g * v) for g, v in zip(cotangents, directions, strict=True)))


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=_label)
def test_gradient(op: Op) -> None:
    for case in op.domain.cases:
        slope = Slope(op, case, "static")
        if not slope.differentiable:
            continue
        count = len(slope.floats)
        value, _, *cotangents = slope(*slope.point())
        first, second = cotangents[:count], cotangents[count:]
        what = f"{op.name} of {[a.shape for a in slope.arrays]} {case.attrs}"
        assert all(np.isfinite(c).all() for c in cotangents), f"{what}: not finite"
        if not (op.domain.smooth and slope.exact and np.isfinite(value)):
            continue
        _close(_dot(first, slope.directions), slope.difference(0), what)
        _close(_dot(second, slope.directions), slope.difference(1), f"{what}, second order")


@pytest.mark.parametrize("spelling", ["symbolic", "rankless"])
@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=_label)
def test_gradient_of_open_shapes(op: Op, spelling: str) -> None:
    for case in op.domain.cases:
        known, open_ = Slope(op, case, "static"), Slope(op, case, spelling)
        if not known.differentiable:
            continue
        what = f"{op.name} of {[a.shape for a in known.arrays]} {case.attrs}"
        pairs = zip(open_(*open_.point()), known(*known.point()), strict=True)
        for got, want in pairs:
            assert_same(got, want, what, slack=100)


@pytest.mark.parametrize("dtype", [float16, float32], ids=_label)
@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=_label)
def test_gradients_keep_the_dtype(op: Op, dtype: DType) -> None:
    case = op.domain.cases[-1]
    arrays = inputs_of(op, case, dtype)
    tensors, outputs = _outputs(op, case, arrays, "static")
    xs = [t for t in tensors if t.dtype.is_float]
    ys = [y for y in outputs if y.dtype.is_float]
    if xs and ys:
        found = gradients(ys, xs, unconnected="zero")
        shapes = [a.shape for a in arrays]
        graph = Compiled.of(found, tensors, shapes).graph
        for x, value in zip(xs, values(graph, arrays, {}), strict=True):
            assert (value.dtype, value.shape) == (x.dtype.numpy, x.shape)
