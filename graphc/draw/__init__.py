"""Pictures of graphs: boxes, folded by scopes and segments, as DOT, SVG, PNG, PDF or an HTML page.

Enters: a graph, or a lowered one, in which kernels are the scopes. Leaves: the bytes of a picture.
`graphs` and `kernels` read what is shown, `fold` makes the tree of groups and chooses what one
picture shows, `dot` and `html` write it, `render` runs graphviz.
"""

from __future__ import annotations

from graphc.draw.dot import dot_of
from graphc.draw.fold import tree_of
from graphc.draw.graphs import boxes_of
from graphc.draw.html import html_of
from graphc.draw.kernels import boxes_of_plan
from graphc.draw.render import FORMATS, render
from graphc.graph import Graph
from graphc.lower import Lowered
from graphc.plan_text import listing

SUFFIXES = (*FORMATS, "dot", "html")


def picture(
    shown: Graph | Lowered, format: str, depth: int | None = None, title: str = "graph"
) -> bytes:
    """A graph, or its kernels, in one of `SUFFIXES`."""
    text = listing(shown)  # names the sizes of a plan
    boxes = boxes_of_plan(shown) if isinstance(shown, Lowered) else boxes_of(shown)
    place = shown.device if isinstance(shown, Lowered) else ""
    if format == "html":
        whole = f"{title} on {place}" if place else title
        return html_of(tree_of(boxes), depth, whole, text).encode()
    dot = dot_of(tree_of(boxes, segments=depth is None), depth, f"on {place}" if place else "")
    return dot.encode() if format == "dot" else render(dot, format)


def dot_text(shown: Graph | Lowered) -> str:
    """A whole graph as DOT, nothing folded but what is too much for one picture."""
    return picture(shown, "dot").decode()
