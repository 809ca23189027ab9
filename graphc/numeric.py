"""Derivatives beside the reverse walk: forward mode, and the numeric check of gradients.

`check_gradient` rebuilds the graph in float64, with random numbers held still, and compares each
gradient with central differences (f(x+h) - f(x-h)) / 2h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.build import describe, replay
from graphc.dims import Dimension, Symbol
from graphc.dtypes import DType, float64
from graphc.errors import DTypeError, GradientError, trimmed
from graphc.graph import Graph, Node, Tensor
from graphc.ops.broadcast import broadcast_to
from graphc.ops.control import identity
from graphc.ops.follow import elements, moved
from graphc.ops.gradient import as_list, gradients
from graphc.ops.random import ENTROPY
from graphc.ops.source import (
    CONSTANT,
    PLACEHOLDER,
    VARIABLE,
    Variable,
    as_tensor,
    literal,
    placeholder,
)
from graphc.passes.specialise import substitute_attrs
from graphc.rewriting import rewrite
from graphc.runtime.session import Session

STEP = 6e-6  # near the cube root of float64's epsilon, where the two errors meet
MOST_ELEMENTS = 64  # of one tensor, drawn evenly from all


@trimmed
def jvp(ys: Any, xs: Any, tangents: Any) -> Any:
    """Forward mode (Theano's Rop): the derivatives of `ys` as `xs` move along `tangents`.

    Built of two reverse walks: the vector-Jacobian product is linear in its vector, so its own
    gradient is the Jacobian-vector product (J. Townsend, 2017). Shapes and dtypes: those of `ys`.

    >>> x = as_tensor([1.0, 2.0])
    >>> jvp(x * x, x, [1.0, 0.0]).eval()
    array([2., 0.], dtype=float32)
    """
    outputs = as_list(ys)
    inputs = as_list(xs)
    moves = list(tangents) if isinstance(xs, (list, tuple)) else [tangents]
    if len(moves) != len(inputs):
        rule = f"tangents must be one for each of {len(inputs)} xs"
        raise GradientError(f"jvp: {rule}, got {len(moves)}")
    found = [_jvp(y, inputs, moves) for y in outputs]
    return found if isinstance(ys, (list, tuple)) else found[0]


def _jvp(y: Tensor, xs: Sequence[Tensor], tangents: Sequence[Any]) -> Tensor:
    vector = identity(y * 0.0 + 1.0)  # any vector would do; zeros meet special cases of rules
    pulled = gradients([y], xs, [vector])
    total: Tensor | None = None
    for cotangent, x, tangent in zip(pulled, xs, tangents, strict=True):
        move = as_tensor(tangent, x.dtype).astype(x.dtype)
        if x.shape is not None:
            move = broadcast_to(move, x.shape)
        part = (cotangent * move).sum()
        total = part if total is None else total + part
    assert total is not None
    [result] = gradients([total], [vector], unconnected="zero")
    return result


@dataclass(frozen=True, slots=True)
class Checked:
    """How one tensor's gradient fared."""

    name: str
    elements: int
    checked: int
    error: float  # the largest |gradient - difference| / max(1, |gradient|, |difference|)


@dataclass(frozen=True, slots=True)
class GradientReport:
    """What `check_gradient` found; prints as a table."""

    rows: tuple[Checked, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every error is within the tolerance."""
        return all(row.error <= self.tolerance for row in self.rows)

    def __str__(self) -> str:
        lines = [f"gradients against central differences in float64, tolerance {self.tolerance:g}"]
        lines += [
            f"  {'ok ' if row.error <= self.tolerance else 'BAD'} {row.name}: largest error "
            f"{row.error:.2e} over {row.checked} of {row.elements} elements"
            for row in self.rows
        ]
        return "\n".join(lines)


class _Twin:
    """A graph rebuilt in float64: leaves become placeholders, with the values they have."""

    def __init__(
        self, roots: Sequence[Tensor], feeds: Mapping[Tensor, Any], session: Session
    ) -> None:
        self.feeds: dict[Tensor, Any] = {}
        self._session = session
        fed = {t: self._fed(t, value) for t, value in feeds.items()}
        graph = Graph(tuple(roots), (), tuple(fed))
        leaves = {t: self._leaf(t) for t in graph.tensors() if t not in fed and _is_leaf(t.node)}
        self._replaced = fed | {t: new for t, new in leaves.items() if new is not t}
        self.roots = self._rebuilt(roots)

    def _rebuilt(self, roots: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The twins of some tensors; sizes that are elements of tensors become those of twins."""
        graph = Graph(tuple(roots), (), tuple(self._replaced))
        sizes = moved(elements(graph), self._rebuilt)
        return rewrite(graph, lambda node: _widen(node, sizes), self._replaced).outputs

    def _fed(self, tensor: Tensor, value: Any) -> Tensor:
        dtype = _wide(tensor.dtype)
        twin = placeholder(dtype, tensor.shape, tensor.node.name)
        self.feeds[twin] = np.asarray(value, None if dtype is not float64 else np.float64)
        return twin

    def _leaf(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, Variable):
            return self._fed(tensor, self._session.get(tensor))
        if tensor.node.op is ENTROPY:
            return literal(np.array([1, 0], np.uint64))
        if tensor.node.op is CONSTANT and tensor.dtype.is_float:
            return literal(tensor.node.attrs["value"].array.astype(np.float64))
        return tensor


def _is_leaf(node: Node) -> bool:
    return node.op in (VARIABLE, ENTROPY, CONSTANT)


def _wide(dtype: DType) -> DType:
    return float64 if dtype.is_float else dtype


def _widen(node: Node, sizes: Mapping[Symbol, Dimension]) -> Any:
    """A node again, over float64 operands."""
    attrs = substitute_attrs(node.attrs, sizes)
    attrs = {k: _wide(v) if isinstance(v, DType) else v for k, v in attrs.items()}
    if node.op in (PLACEHOLDER, VARIABLE, ENTROPY, CONSTANT):
        return None
    return replay(node.op, node.inputs, attrs, node.name)


@trimmed
def check_gradient(
    y: Tensor,
    xs: Any,
    feed_dict: Mapping[Tensor, Any] | None = None,
    session: Session | None = None,
    tolerance: float = 1e-5,
) -> GradientReport:
    """Compare the gradient of `y` for `xs` with central differences, in float64.

    Returns a report that prints as a table; raises GradientError where an error is larger than
    `tolerance`. A `y` that is no scalar is checked along fixed random weights.

    >>> x = placeholder("float32", [2], "x")
    >>> print(check_gradient((x * x).sum(), x, {x: [1.0, 2.0]}))  # doctest: +ELLIPSIS
    gradients against central differences in float64, tolerance 1e-05
      ok  x: largest error ... over 2 of 2 elements
    """
    inputs = as_list(xs)
    for tensor in (y, *inputs):
        if not tensor.dtype.is_float:
            raise DTypeError(f"check_gradient: only floats have gradients, got {tensor!r}")
    own = session or Session(seed=0)
    gradients([y], inputs)  # for its message, where there is none
    twin = _Twin([y, *inputs], feed_dict or {}, own)
    output, *points = twin.roots
    base = own.run([output, *points], twin.feeds)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, base[0].shape)
    cost = (output * weights).sum()
    found = own.run(gradients([cost], points), twin.feeds)
    fed = dict(zip(points, base[1:], strict=True)) | twin.feeds
    feeds, arrays = list(fed), list(fed.values())
    run = own.prepare(cost, feeds)
    rows = []
    for x, point, gradient in zip(inputs, points, found, strict=True):
        place = feeds.index(point)
        rows.append(_compare(x, gradient, arrays, place, run))
    report = GradientReport(tuple(rows), tolerance)
    if not report.ok:
        where = "\n".join(f"  {describe(x)}" for x in inputs[:5])
        raise GradientError(f"check_gradient: {report}\n{where}")
    return report


def _compare(x: Tensor, gradient: Any, arrays: list[Any], place: int, run: Any) -> Checked:
    """The largest error of one gradient, over elements drawn evenly."""
    point = np.asarray(arrays[place], np.float64)
    count = min(point.size, MOST_ELEMENTS)
    worst = 0.0
    for flat in np.linspace(0, max(point.size - 1, 0), count).astype(int):
        step = STEP * max(1.0, abs(float(point.flat[flat])))
        values = []
        for sign in (+1, -1):
            moved = point.copy()
            moved.flat[flat] += sign * step
            values.append(float(run(*arrays[:place], moved, *arrays[place + 1 :])))
        slope = (values[0] - values[1]) / (2 * step)
        exact = float(gradient.flat[flat])
        error = abs(slope - exact) / max(1.0, abs(slope), abs(exact))
        worst = max(worst, error if np.isfinite(error) else np.inf)
    return Checked(x.name, point.size, count, worst)
