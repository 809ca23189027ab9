"""A picture as DOT text. Enters: a tree of boxes. Leaves: what `dot` reads, whatever the names.

Labels are graphviz's HTML-like ones: texts are escaped for XML there, and for quoted strings in
tooltips. Vertices are called b0, b1 ..., never by names.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from graphc.draw.boxes import LEGEND, Box, Group
from graphc.draw.fold import Tree
from graphc.draw.segments import Member
from graphc.draw.text import clean
from graphc.draw.view import View, edges_of, opened_to, view_of

STYLES = {  # shape, fill, line: no two kinds share a shape and a colour
    "placeholder": ("invhouse", "#d5f2e3", "#12805c"),
    "variable": ("cylinder", "#ffe9c2", "#b26a00"),
    "constant": ("note", "#eceff3", "#7a8594"),
    "op": ("box", "#e3edff", "#3566c0"),
    "gradient": ("box", "#efe4ff", "#7b45c4"),
    "update": ("cds", "#ffdfdf", "#c23b3b"),
    "view": ("box", "#ffffff", "#8b9bb4"),
    "host": ("component", "#e6f4f5", "#1b7f8a"),
    "parameter": ("invtrapezium", "#e2f6ee", "#2f8f7a"),
    "result": ("trapezium", "#e2f6ee", "#2f8f7a"),
    "kernel": ("tab", "#fff7e0", "#a8862b"),
    "loop": ("tab", "#eef7f2", "#2f8f7a"),
    "branch": ("tab", "#f6f0e8", "#9a6a3a"),
    "folded": ("folder", "#f7f8fb", "#4b5565"),
    "segment": ("box3d", "#f2f0e6", "#7d7453"),
}
FRAMES = {  # line and fill of what is drawn around more than a scope
    "loop": ("#2f8f7a", "#f4faf7"),
    "branch": ("#9a6a3a", "#fcf9f4"),
    "side": ("#c9ad8a", "#fffdfa"),
}
FOLDED = {kind: kind for kind in ("segment", "kernel", "loop", "branch")} | {"side": "branch"}
MARGINS = {"cds": "0.25,0.14", "trapezium": "0,0.02", "invtrapezium": "0,0.02"}  # room inside
HEADER = """digraph graphc {
  graph [rankdir=TB fontname="Helvetica" fontsize=12 bgcolor="white" labeljust=l]
  graph [nodesep=0.35 ranksep=0.55 tooltip="graphc"]
  node [fontname="Helvetica" fontsize=11 style=filled penwidth=1.2 margin="0.12,0.07"]
  edge [fontname="Helvetica" fontsize=9 color="#6b7686" fontcolor="#3d4653" arrowsize=0.6]
"""


def quoted(text: str) -> str:
    """A quoted string in which every backslash is one."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


ENTITIES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "]": "&#93;"}
)  # graphviz 2.43 refuses a bold text of nothing but `]`


def escaped(text: str) -> str:
    """Text inside an HTML-like label, or inside HTML."""
    return text.translate(ENTITIES)


def _label(title: str, subtitle: str, where: str = "", ending: str = "<BR/>") -> str:
    parts = [f"<B>{escaped(title)}</B>"]
    parts += [f'<FONT POINT-SIZE="9">{escaped(clean(subtitle, 60))}</FONT>'] if subtitle else []
    parts += [f'<FONT POINT-SIZE="8" COLOR="#5f6875">{escaped(where)}</FONT>'] if where else []
    return f"<{ending.join(parts)}{ending if ending != '<BR/>' else ''}>"


def _style(kind: str, gradient: bool = False, fetched: bool = False) -> str:
    shape, fill, line = STYLES[kind]
    style = "filled,rounded" if shape == "box" else "filled"
    if gradient:
        style += ",dashed"
        line = STYLES["gradient"][2]
    width = " penwidth=3" if fetched else ""
    width += f' margin="{MARGINS[shape]}"' if shape in MARGINS else ""
    return f'shape={shape} fillcolor="{fill}" color="{line}" style="{style}"{width}'


def kind_of(member: Member) -> str:
    """Its row in the legend."""
    if isinstance(member, Box):
        return member.kind
    return FOLDED.get(member.kind, "folded")


def _vertex(member: Member, identifier: str) -> str:
    if isinstance(member, Group):
        label = _label(member.title, member.loops or member.summary, member.where)
        style = _style(kind_of(member), member.gradient, member.fetched)
        return f"{identifier} [label={label} {style} tooltip={quoted(member.summary)}]"
    label = _label(member.title, member.subtitle, member.where)
    style = _style(member.kind, member.gradient, member.fetched)
    tooltip = member.detail if not member.source else f"{member.detail}  |  {member.source}"
    return f"{identifier} [label={label} {style} tooltip={quoted(tooltip)}]"


def _cluster_header(group: Group, number: int, indent: str) -> Iterator[str]:
    line, fill = FRAMES.get(group.kind, ("#9aa5b5", "#fbfcfe"))
    style = "rounded"
    if group.gradient:
        line, fill, style = STYLES["gradient"][2], "#faf6ff", "rounded,dashed"
    yield f"{indent}subgraph cluster_{number} {{"
    left = "<BR/>" if group.kind == "scope" else '<BR ALIGN="LEFT"/>'
    label = _label(group.title, group.loops, group.where, left)
    width = " penwidth=1.6" if group.kind in ("loop", "branch") else ""
    colours = f'color="{line}" fillcolor="{fill}"{width}'
    yield f'{indent}  label={label} style="{style},filled" {colours}'
    yield f"{indent}  tooltip={quoted(group.summary)}"


def _body(view: View, identifiers: dict[Member, str]) -> Iterator[str]:
    """Vertices inside their clusters. The stack holds members, and lines that close a cluster."""
    number = 0
    stack: list[tuple[Member | str, str]] = [(m, "  ") for m in reversed(view.root.members)]
    while stack:
        member, indent = stack.pop()
        if isinstance(member, str):
            yield member
        elif isinstance(member, Group) and member in view.opened:
            yield from _cluster_header(member, number, indent)
            number += 1
            stack.append((f"{indent}}}", indent))
            stack += [(m, indent + "  ") for m in reversed(member.members)]
        else:
            yield indent + _vertex(member, identifiers[member])


def _edges(tree: Tree, view: View, identifiers: dict[Member, str]) -> Iterator[str]:
    for edge in edges_of(tree, view):
        ends = f"{identifiers[edge.tail]} -> {identifiers[edge.head]}"
        tip = quoted(edge.tooltip)
        yield f"  {ends} [label={quoted(edge.label)} tooltip={tip} labeltooltip={tip}]"


def _writes(view: View, identifiers: dict[Member, str]) -> Iterator[str]:
    """From each update back to its variable, and from the next value of a state to the state.

    Dotted, and without a say in the layout.
    """
    drawn = set()
    for box, member in view.visible.items():
        if box.writes is None:
            continue
        ends = (identifiers[member], identifiers[view.visible[box.writes]])
        if ends[0] != ends[1] and (*ends, box.types) not in drawn:
            drawn.add((*ends, box.types))
            update = box.kind == "update"
            label = quoted(f"writes {box.types}" if update else "next step")
            colour = STYLES["update" if update else "result"][2]
            yield (
                f"  {ends[0]} -> {ends[1]} [label={label} style=dotted constraint=false "
                f'color="{colour}" fontcolor="{colour}"]'
            )


def _legend(kinds: list[str]) -> Iterator[str]:
    """One sample of each kind that occurs, beside the picture."""
    yield "  subgraph cluster_legend {"
    yield '    label="legend" style="rounded" color="#c9d0da" fontcolor="#5f6875" fontsize=10'
    yield '    node [fontsize=9 margin="0.1,0.04" height=0.25]'
    for kind in kinds:
        yield f"    legend_{kind} [label={quoted(LEGEND[kind])} {_style(kind)}]"
    yield (
        '    legend_edges [shape=plaintext style="" fontcolor="#5f6875" '
        'label="edge: dtype[shape] of one use\\lthick border: fetched\\l'
        'dashed violet: gradient\\l"]'
    )
    names = [*(f"legend_{kind}" for kind in kinds), "legend_edges"]
    rows = [names[i : i + 3] for i in range(0, len(names), 3)]
    for row in rows:
        yield f"    {{rank=same {' '.join(row)}}}"
    for above, below in pairwise(rows):
        for a, b in zip(above, below, strict=False):
            yield f"    {a} -> {b} [style=invis]"
    yield "  }"


def dot_of(tree: Tree, depth: int | None = None, caption: str = "") -> str:
    """The DOT text of a tree of boxes; a caption stands above it."""
    view = view_of(tree, opened_to(tree, depth))
    members = view.members()
    identifiers = {member: f"b{i}" for i, member in enumerate(members)}
    present = {kind_of(member) for member in members}
    lines = [HEADER.rstrip("\n")]
    lines += [f"  graph [label={quoted(caption)} labelloc=t]"] if caption else []
    lines += _body(view, identifiers)
    lines += _edges(tree, view, identifiers)
    lines += _writes(view, identifiers)
    lines += _legend([kind for kind in LEGEND if kind in present])
    return "\n".join([*lines, "}"]) + "\n"
