"""The one text form of graphs: typed, deterministic, one node a line, each with the user's line.

    %x: f32[batch,784] = placeholder   # mnist.py:11
    %0: f32[batch,10] = matmul %x %w2   # mnist.py:15
    return %0

Named nodes are called by their names (with scopes, made unique), the others by number. Nameless
sizes are called ?0, ?1 ... in the order in which they appear. Errors, dumps and tests speak this.
"""

from __future__ import annotations

import re
from typing import Any

from graphc.dims import Dim, Symbol, dimension_text
from graphc.dtypes import DType
from graphc.graph import Graph, Node, Tensor
from graphc.types import TensorType


class Naming:
    """Names for the tensors and sizes of one listing, in the order in which they are asked."""

    def __init__(self) -> None:
        self._nodes: dict[Node, str] = {}
        self._taken: dict[str, int] = {}
        self._numbers = 0
        self._symbols: dict[Symbol, str] = {}

    def node(self, node: Node) -> str:
        """A unique name: the node's own, or a number."""
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = self._unique(node)
        return found

    def _unique(self, node: Node) -> str:
        if node.name is None:
            self._numbers += 1
            return str(self._numbers - 1)
        base = re.sub(r"[^\w./:-]", "_", node.label) or "_"
        if base.isdigit():
            base = f"_{base}"
        name = base
        while name in self._taken:
            self._taken[base] += 1
            name = f"{base}_{self._taken[base]}"
        self._taken[name] = 0
        return name

    def tensor(self, tensor: Tensor) -> str:
        """`%name`, or `%name.1` for the second output."""
        suffix = f".{tensor.index}" if tensor.node.op.outputs is not None else ""
        return f"%{self.node(tensor.node)}{suffix}"

    def symbol(self, symbol: Symbol) -> str:
        """A size's name, or ?0, ?1 ... in order of appearance."""
        if symbol.name is not None:
            return symbol.name
        return self._symbols.setdefault(symbol, f"?{len(self._symbols)}")

    def type(self, type: TensorType) -> str:
        """A type with this listing's names of sizes."""
        return type.text(self.symbol)

    def value(self, value: Any) -> str:
        """An attribute."""
        if isinstance(value, Dim):
            return dimension_text(value, self.symbol)
        if isinstance(value, DType):
            return value.short
        if isinstance(value, tuple):
            return "(" + ",".join(map(self.value, value)) + ")"
        if callable(value):
            return f"<{getattr(value, '__name__', 'function')}>"
        return repr(value)

    def attrs(self, node: Node) -> str:
        """The attributes that the type does not say already."""
        hidden = {"dtype", "shape"} if node.op.family == "source" else set()
        shown = {k: v for k, v in node.attrs.items() if k not in hidden}
        return " ".join(f"{k}={self.value(v)}" for k, v in shown.items())


def node_line(node: Node, naming: Naming) -> str:
    """One node as text."""
    types = ", ".join(naming.type(t) for t in node.types)
    if node.op.outputs is not None:
        types = f"({types})"
    inputs = [naming.tensor(t) for t in node.inputs]
    words = " ".join(filter(None, (node.op.name, *inputs, naming.attrs(node))))
    return f"%{naming.node(node)}: {types} = {words}   # {node.where}"


def show_graph(graph: Graph) -> str:
    """The listing of a graph: what is fed, each node, what is returned and written."""
    naming = Naming()
    lines = [f"feed {node_line(t.node, naming)}" for t in graph.inputs]
    fed = {t.node for t in graph.inputs}
    lines += [node_line(node, naming) for node in graph.nodes if node not in fed]
    if graph.outputs:
        lines.append("return " + ", ".join(map(naming.tensor, graph.outputs)))
    lines += [f"update {naming.tensor(v)} = {naming.tensor(value)}" for v, value in graph.updates]
    return "\n".join(lines) + "\n"
