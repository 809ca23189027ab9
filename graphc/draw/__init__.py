"""Pictures of graphs: boxes, folded by scopes and segments, as DOT, SVG, PNG, PDF or an HTML page.

Enters: a graph. Leaves: the bytes of a picture. `boxes` reads the graph, `fold` makes the tree of
groups and chooses what one picture shows, `dot` and `html` write it, `render` runs graphviz.
"""

from __future__ import annotations

from graphc.draw.boxes import Boxes
from graphc.draw.dot import dot_of
from graphc.draw.fold import tree_of
from graphc.draw.html import html_of
from graphc.draw.render import FORMATS, render
from graphc.graph import Graph
from graphc.show import show_graph

SUFFIXES = (*FORMATS, "dot", "html")


def picture(graph: Graph, format: str, depth: int | None = None, title: str = "graph") -> bytes:
    """A graph in one of `SUFFIXES`."""
    boxes = Boxes(graph)
    if format == "html":
        return html_of(tree_of(boxes), depth, title, show_graph(graph)).encode()
    text = dot_of(tree_of(boxes, segments=depth is None), depth)
    return text.encode() if format == "dot" else render(text, format)


def dot_text(graph: Graph) -> str:
    """A whole graph as DOT, nothing folded but what is too much for one picture."""
    return picture(graph, "dot").decode()
