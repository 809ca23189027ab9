"""A picture as one HTML page: no network, no program. It folds, unfolds, pans, zooms and searches.

Enters: a tree of boxes. Leaves: the text of a page that holds the boxes and their rows as JSON, and
a script (page.js) that gives them coordinates, since these change with every fold. Without scripts
the page shows the listing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graphc.draw.boxes import LEGEND, Box
from graphc.draw.dot import escaped
from graphc.draw.fold import Tree
from graphc.draw.layout import Level, lay_out
from graphc.draw.segments import Member
from graphc.draw.view import opened_to

FOLDER = Path(__file__).parent
LISTING = 400_000  # characters of the listing that a page without scripts shows
LEAVES = 20_000  # boxes beyond which a page leaves out the insides of groups that start folded


class _Table:
    """Texts that occur often, each stored once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self._index.setdefault(text, len(self._index))

    @property
    def texts(self) -> list[str]:
        return list(self._index)


def _box(box: Box, index: dict[Box, int], texts: _Table) -> list[Any]:
    flags = int(box.gradient) + 2 * int(box.fetched)
    fields = (box.kind, box.title, box.subtitle, box.where, box.source, box.detail, box.types)
    return [*map(texts, fields), flags, -1 if box.writes is None else index[box.writes]]


def _level(level: Level) -> dict[str, Any]:
    return {
        "inside": level.inside,
        "outside": level.outside,
        "lines": [[line.tail, line.head, line.wires] for line in level.lines],
        "rows": [[f"{kind}{number}" for kind, number in row] for row in level.rows],
        "backward": level.backward,
    }


def data_of(tree: Tree, depth: int | None) -> dict[str, Any]:
    """What the script reads: texts, boxes, wires, groups; they refer to each other by number."""
    opened = opened_to(tree, depth)
    groups = list(tree.groups())
    listed = [m for group in groups for m in group.members if isinstance(m, Box)]
    boxes = {box: i for i, box in enumerate(listed)}
    numbers = {group: i for i, group in enumerate(groups)}
    texts = _Table()
    bare = len(listed) > LEAVES
    levels = lay_out(tree, [group for group in groups if not bare or group in opened])

    def reference(member: Member) -> int:
        return boxes[member] if isinstance(member, Box) else ~numbers[member]

    rows = []
    for group in groups:
        row: dict[str, Any] = {
            "title": group.title, "kind": group.kind, "gradient": group.gradient,
            "summary": group.summary, "loops": group.loops, "where": group.where,
            "detail": group.detail, "fetched": group.fetched, "open": group in opened,
            "parent": -1 if group.parent is None else numbers[group.parent],
            "members": [reference(member) for member in group.members],
        }  # fmt: skip
        if group in levels:
            row |= _level(levels[group])
        rows.append(row)
    kept = [0 if bare and box.parent not in opened else _box(box, boxes, texts) for box in listed]
    wires = [
        [boxes[w.tail], boxes[w.head], texts(w.operand), texts(w.label), texts(w.type)]
        for w in tree.wires
    ]
    return {
        "legend": LEGEND, "groups": rows, "boxes": kept, "wires": wires, "texts": texts.texts,
        "bare": bare,
    }  # fmt: skip


def _embedded(data: dict[str, Any]) -> str:
    """JSON that no text in it can end: the page's parser looks for `<` only."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def html_of(tree: Tree, depth: int | None = None, title: str = "graph", listing: str = "") -> str:
    """The page of a tree of boxes, open down to `depth` (None: as many boxes as a view takes)."""
    if len(listing) > LISTING:
        listing = listing[:LISTING] + "\n..."
    parts = {
        "TITLE": escaped(title),
        "STYLE": (FOLDER / "page.css").read_text(),
        "SCRIPT": (FOLDER / "page.js").read_text(),
        "LISTING": escaped(listing.encode("utf-8", "replace").decode()),
        "DATA": _embedded(data_of(tree, depth)),
    }
    pieces = (FOLDER / "page.html").read_text().split("@@")  # text, NAME, text, NAME, ..., text
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))
