"""The one text form of graphs: typed, deterministic, one node a line, each with the user's line.

    %x: f32[batch,784] = placeholder   # mnist.py:11
    %0: f32[batch,10] = matmul %x %w2   # mnist.py:15
    return %0

Named nodes are called by their names (with scopes, made unique), the others by number. Nameless
sizes are called ?0, ?1 ... in the order in which they appear. Errors, dumps and tests speak this.

What a loop or a branch does stands under it, indented. Of a loop that is one step, number t:

    %rnn: (f32[4], f32[n,4]) = loop %x %h0 %w   # rnn.py:10
      step t < n:
        read %x_t: f32[4] = %x[t]
        state %h: f32[4] = %h0
        take %w_1: f32[4] = %w
        %0: f32[4] = multiply %h %w_1   # rnn.py:8
        %1: f32[4] = add %0 %x_t   # rnn.py:8
        next %h = %1
        stack %rnn.1[t] = %1

`read` is a row of a sequence; `state` what it is in step 0, and `next` in the step that follows;
`take` what does not change; `stack` a row of an output; `step` the number of the step, where it is
read. (Where a size is called t, that number is called `step` instead.) The first outputs (`%rnn.0`)
are the last states; `kept in` names one that has all values of a state. `while %go` is asked before
each step, and `count` is how many there were. A branch has two sides, `then` and `otherwise`, each
with what it takes and returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from graphc.control import (
    OPTIONS,
    counted,
    counter,
    entries,
    entry_line,
    exit_line,
    exits,
    head,
    is_loop,
    is_used,
    output,
)
from graphc.dims import Dim, Symbol, dimension_text
from graphc.dtypes import DType
from graphc.graph import Body, Graph, Node, Tensor, bodies
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
        return self.unique(f"_{base}" if base.isdigit() else base)

    def unique(self, base: str) -> str:
        """A name that nothing else has."""
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
        if isinstance(value, Body):
            return f"{{{len(value.graph.nodes)} nodes}}"
        if callable(value):
            return f"<{getattr(value, '__name__', 'function')}>"
        return repr(value)

    def attrs(self, node: Node) -> str:
        """The attributes that the type does not say already."""
        hidden = {"dtype", "shape", "frame"} if node.op.family == "source" else set()
        shown = {k: v for k, v in node.attrs.items() if k not in hidden}
        if node.op.family == "control":  # its bodies say the rest
            shown = {k: v for k, v in shown.items() if k in OPTIONS and v is not None}
        return " ".join(f"{k}={self.value(v)}" for k, v in shown.items())


def node_line(node: Node, naming: Naming) -> str:
    """One node as text."""
    types = ", ".join(naming.type(t) for t in node.types)
    if node.op.outputs is not None:
        types = f"({types})"
    inputs = [naming.tensor(t) for t in node.inputs]
    words = " ".join(filter(None, (node.op.name, *inputs, naming.attrs(node))))
    return f"%{naming.node(node)}: {types} = {words}   # {node.where}"


def _lines(graph: Graph, naming: Naming) -> Iterator[str]:
    """The nodes of a graph; what is in their bodies stands under them."""
    fed = {t.node for t in graph.inputs}
    for node in graph.nodes:
        if node not in fed:
            yield node_line(node, naming)
            for name, body in bodies(node).items():
                yield from _body(node, name, body.graph, naming)


def _body(node: Node, name: str, graph: Graph, naming: Naming) -> Iterator[str]:
    """A body: what it gets, what it does, what it leaves."""

    def typed(tensor: Tensor) -> str:
        return naming.type(tensor.type)

    value, named = naming.value, naming.tensor
    yield f"  {head(node, value, named) if is_loop(node) else name}:"
    for entry in entries(node, name):
        if entry.outside is not None or is_used(entry, node, name):
            yield f"    {entry_line(entry, node, value, named, typed)}"
    for line in _lines(graph, naming):
        yield f"    {line}"
    if not is_loop(node):
        yield "    return " + ", ".join(map(named, graph.outputs))
        return
    for found in exits(node, name):
        yield f"    {exit_line(found, node, value, named)}"
    count = counted(node)
    if count is not None:
        yield f"    count {named(output(node, count))} = {counter(node, value)} + 1"


def _listing(graph: Graph, naming: Naming) -> Iterator[str]:
    for tensor in graph.inputs:
        yield f"feed {node_line(tensor.node, naming)}"
    yield from _lines(graph, naming)
    if graph.outputs:
        yield "return " + ", ".join(map(naming.tensor, graph.outputs))
    for variable, value in graph.updates:
        yield f"update {naming.tensor(variable)} = {naming.tensor(value)}"


def show_graph(graph: Graph) -> str:
    """The listing of a graph: what is fed, each node, what is returned and written."""
    return "\n".join(_listing(graph, Naming())) + "\n"
