"""The checker that runs between passes: every node is typed as its op's rule types it.

Nodes are frozen, so one that was verified stays verified: `Verifier` looks at each node once.
"""

from __future__ import annotations

from graphc.errors import CompileError, GraphcError
from graphc.graph import Check, Graph, Node, assuming
from graphc.types import TensorType


class Verifier:
    """Remembers which nodes have been verified in one run of the pipeline."""

    def __init__(self) -> None:
        self._verified: set[Node] = set()
        self._typed: dict[int, Node] = {}  # by identity of `types`, which rebuilt nodes share

    def check(self, graph: Graph) -> None:
        """Raise a CompileError that names the first node whose type is not its op's."""
        verified, typed = self._verified, self._typed
        verified.update([t.node for t in graph.inputs])
        with assuming(None):  # a check must not add to what a compilation depends on
            for node in graph.nodes:
                if node in verified:
                    continue
                verified.add(node)
                like = typed.get(id(node.types))
                if like is None or not _alike(node, like):
                    _check_node(node)
                    typed[id(node.types)] = node
        for variable, value in graph.updates:
            if variable.type != value.type and not _fits(variable.type, value.type):
                raise CompileError(f"update of {variable!r}: value has type {value.type}")


def _alike(node: Node, verified: Node) -> bool:
    """Whether a node is one that was verified, over other inputs of the very same types."""
    if node.op is not verified.op or node.attrs is not verified.attrs:
        return False
    inputs, others = node.inputs, verified.inputs
    if len(inputs) != len(others):
        return False
    for a, b in zip(inputs, others, strict=True):
        if a.type is not b.type and a.type != b.type:
            return False
    return True


def _check_node(node: Node) -> None:
    check = Check(node.op, node.inputs, node.attrs)
    try:
        inferred = node.op.infer(check, [t.type for t in node.inputs], node.attrs)
    except GraphcError as error:
        raise CompileError(f"{node!r} breaks its own rule: {error}") from error
    types = (inferred,) if isinstance(inferred, TensorType) else inferred
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
