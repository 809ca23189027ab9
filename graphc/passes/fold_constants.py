"""Compute what depends on nothing that a run brings, once, with each op's own oracle.

Enters: any graph. Leaves: the same graph, where a node over constants is a `constant`, or a `full`
where all its elements are one number (also of a symbolic shape). Bounded in size. A branch whose
condition is known is the side that it takes. An op that raises or makes a NaN is left for the run,
whose error or check names the line; ops that print, draw or call the user's code are never run
here.
"""

from __future__ import annotations

import numpy as np

from graphc.context import caller, on_behalf
from graphc.dims import Dim, product
from graphc.dtypes import Array
from graphc.graph import Graph, Node, Tensor
from graphc.ops.branch import BRANCH
from graphc.ops.source import ARANGE, CONSTANT, EYE, FULL, SIZE, SIZES, full_of, literal
from graphc.passes.inside import inlined
from graphc.passes.sweep import protected, symbolic, uniform
from graphc.rewriting import Rewriter

LIMIT = 64 * 1024  # bytes of a result, unless its inputs are larger still
FAMILIES = frozenset({"pointwise", "view", "reduction", "contraction", "opaque", "composite"})
KNOWN = frozenset({CONSTANT, FULL, SIZE, SIZES, ARANGE, EYE})  # ops whose values need no run
REARRANGING = frozenset({"broadcast_to", "reshape", "transpose"})  # ops that cannot fail in a run


def _bytes(tensor: Tensor) -> int | None:
    """The size of a value, None where it is symbolic."""
    if tensor.shape is None or not tensor.type.is_static:
        return None
    count = product(tensor.shape)
    assert not isinstance(count, Dim)
    return count * tensor.dtype.itemsize


def _value(tensor: Tensor, limit: int) -> Array | None:
    """The array that a known tensor stands for, None where it is too large or symbolic."""
    node = tensor.node
    if node.op is CONSTANT:
        array: Array = node.attrs["value"].array
        return array
    size = _bytes(tensor)
    if size is None or size > limit or any(map(symbolic, node.attrs.values())):
        return None
    return np.asarray(node.op.oracle(**node.attrs)).astype(tensor.dtype.numpy, copy=False)


def _run(node: Node, arrays: list[Array]) -> Array | None:
    """The value of a node; None where its oracle raises, or makes a NaN of what holds none."""
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(node.op.oracle(*arrays, **node.attrs))
    except Exception:  # whatever it is, a run will raise it again, with the user's line
        return None
    if _has_nan(result) and not any(map(_has_nan, arrays)):
        return None
    return result.astype(node.types[0].dtype.numpy, copy=False)


def _has_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _as_source(array: Array, node: Node) -> Tensor:
    """A `full` of a single number, else a constant."""
    if array.ndim == 0:
        return full_of(array.item(), (), node.types[0].dtype, node.name)
    return literal(array, node.name)


def _uniform(node: Node) -> Tensor | None:
    """A node over single numbers, of any shape: it is again a single number, everywhere."""
    type = node.types[0]
    rearranges = node.op.name in REARRANGING and len(node.inputs) == 1
    if type.shape is None or not (rearranges or node.op.family == "pointwise"):
        return None
    arrays: list[Array] = []
    for tensor in node.inputs:
        value = uniform(tensor)
        if value is None:
            return None
        arrays.append(np.asarray(value).astype(tensor.dtype.numpy))
    if rearranges:
        return full_of(arrays[0].item(), type.shape, type.dtype, node.name)
    if any(map(symbolic, node.attrs.values())):
        return None
    result = _run(node, arrays)
    if result is None or result.shape != ():
        return None
    return full_of(result.item(), type.shape, type.dtype, node.name)


def _folded(node: Node) -> Tensor | None:
    """The constant that a node over known inputs is, if it is small enough."""
    if node.op.family not in FAMILIES or node.op.outputs is not None or not node.settled:
        return None
    single = _uniform(node)
    if single is not None:
        return single
    size = _bytes(Tensor(node, 0, node.types[0]))
    if size is None or any(map(symbolic, node.attrs.values())):
        return None
    given = [_bytes(t) for t in node.inputs if t.node.op is CONSTANT]
    if size > max(LIMIT, *(g or 0 for g in given), 0):
        return None
    arrays = []
    for tensor in node.inputs:
        array = _value(tensor, LIMIT)
        if array is None:
            return None
        arrays.append(array)
    result = _run(node, arrays)
    if result is None or result.shape != node.types[0].shape:
        return None
    return _as_source(result, node)


def _taken(node: Node) -> list[Tensor] | None:
    """The results of the side that a branch takes in every run; None where a run decides."""
    condition, *operands = node.inputs
    holds, split = uniform(condition), node.attrs["split"]
    if holds is None:
        return None
    if holds:
        return inlined(node.attrs["then"], operands[:split])
    return inlined(node.attrs["otherwise"], operands[split:])


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes whose values are known before any run by those values."""
    apart = protected(graph)
    rewriter = Rewriter()
    known: set[Node] = set()
    changed = decided = False
    with on_behalf(caller(), None) as source:
        for node in graph.nodes:
            inputs = node.inputs
            if not inputs:
                if node.op in KNOWN:
                    known.add(node)
                continue
            current = rewriter.visit(node)
            if node.op is BRANCH and node not in apart and (side := _taken(current)) is not None:
                rewriter.replace(node, side)
                decided = True
                continue
            if node in apart or not all(t.node in known for t in inputs):
                continue
            source.where, source.scope = node.where, node.scope
            new = _folded(current)
            if new is not None:
                rewriter.replace(node, new)
                known.add(node)
                changed = True
    if not (changed or decided):
        return graph
    graph = graph.with_roots([rewriter.resolve(t) for t in graph.roots])
    return fold_constants(graph) if decided else graph  # for what has come out of branches
