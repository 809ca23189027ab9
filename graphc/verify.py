"""The checker that runs between passes: every node is typed as its op's rule types it.

Nodes are frozen, so one that was verified stays verified: `Verifier` looks at each node once.
"""

from __future__ import annotations

from graphc.errors import CompileError, GraphcError
from graphc.graph import Check, Graph, Node
from graphc.types import TensorType


class Verifier:
    """Remembers which nodes have been verified in one run of the pipeline."""

    def __init__(self) -> None:
        self._verified: set[Node] = set()

    def check(self, graph: Graph) -> None:
        """Raise a CompileError that names the first node whose type is not its op's."""
        fed = {t.node for t in graph.inputs}
        for node in graph.nodes:
            if node not in self._verified and node not in fed:
                _check_node(node)
                self._verified.add(node)
        for variable, value in graph.updates:
            if variable.type != value.type and not _fits(variable.type, value.type):
                raise CompileError(f"update of {variable!r}: value has type {value.type}")


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
    if have.shape is None or want.shape is None:
        return True
    return len(have.shape) == len(want.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(have.shape, want.shape, strict=True)
    )
