"""Drop what no fetch needs.

Enters: any graph. Leaves: the same without updates that write a variable's own value back. Nodes
need no sweeping: a graph is what its roots reach. `inputs` stay, read or not: their order is what a
session feeds by.
"""

from __future__ import annotations

from graphc.graph import Graph


def remove_dead(graph: Graph) -> Graph:
    """Remove updates that change nothing."""
    kept = tuple((variable, value) for variable, value in graph.updates if variable is not value)
    return graph if len(kept) == len(graph.updates) else Graph(graph.outputs, kept, graph.inputs)
