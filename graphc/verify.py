"""The checker that runs between passes: every node is typed as its op's rule types it.

`make` types a node by its op's rule, and a node over other inputs of the same types keeps that; the
checker asks the rule for all other nodes: those that a pass has put together by hand, or whose
inputs it has replaced by tensors of another type.
"""

from __future__ import annotations

from graphc.build import Check, assuming, infer
from graphc.errors import CompileError, GraphcError
from graphc.graph import Graph, Node, bodies
from graphc.types import TensorType


def verify(graph: Graph) -> None:
    """Raise a CompileError that names the first node whose type is not its op's."""
    with assuming(None):  # a check must not add to what a compilation depends on
        for node in graph.nodes:
            if not node.typed:
                _check_node(node)
            for body in bodies(node).values():
                verify(body.graph)
    for variable, value in graph.updates:
        if variable.type != value.type and not _fits(variable.type, value.type):
            raise CompileError(f"update of {variable!r}: value has type {value.type}")


def _check_node(node: Node) -> None:
    check = Check(node.op, node.inputs, node.attrs)
    try:
        types = infer(node.op, check, [t.type for t in node.inputs], node.attrs)
    except GraphcError as error:
        raise CompileError(f"{node!r} breaks its own rule: {error}") from error
    if len(types) != len(node.types) or not all(map(_fits, node.types, types)):
        have, want = (", ".join(map(str, ts)) for ts in (node.types, types))
        raise CompileError(f"{node!r} has type {have}, its rule says {want}")


def _fits(have: TensorType, want: TensorType) -> bool:
    """Equal, or different only in sizes that are spelled differently (symbols)."""
    if have.dtype is not want.dtype:
        return False
    if have.shape is None or want.shape is None or have.shape == want.shape:
        return True
    return len(have.shape) == len(want.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(have.shape, want.shape, strict=True)
    )
