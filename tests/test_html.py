"""The HTML page: self-contained, complete, laid out without overlaps, safe for any name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.draw import html
from graphc.draw.html import data_of, html_of
from graphc.draw.layout import lay_out
from graphc.passes import optimise
from graphc.pictures import draw
from graphc.runtime.fetches import graph_of
from tests.pictures import chain, network, tangle, tree
from tests.test_draw import NAMES, fuzzed

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium is installed; what the script draws can only be seen in one",
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1400,900", "--virtual-time-budget=4000", "--dump-dom",
)  # fmt: skip


class Page(HTMLParser):
    """The scripts of a page, and every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


def test_the_page_needs_no_network() -> None:
    text = html_of(tree(network()))
    assert not re.search(r"\b(src|href)=", text) and "@import" not in text and "url(" not in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert len(Page(text).scripts) == 2


def test_the_page_holds_every_box_wire_and_type() -> None:
    graph = graph_of(network())
    data = Page(html_of(tree(graph))).data
    assert len(data["boxes"]) == len(graph.nodes) + len(graph.updates)
    assert len(data["wires"]) == sum(len(n.inputs) for n in graph.nodes) + len(graph.updates)
    types = {data["texts"][wire[4]] for wire in data["wires"]}
    assert {"f32[batch,6]", "f32[6,4]", "f32[]"} <= types
    assert any("test" in text or "pictures.py:" in text for text in data["texts"])


def test_the_page_shows_the_users_line() -> None:
    assert "hidden = hidden @ w" in Page(html_of(tree(network()))).data["texts"]


def test_depth_says_what_is_open() -> None:
    folded = data_of(tree(network()), 1)["groups"]
    opened = data_of(tree(network()), None)["groups"]
    assert [group["open"] for group in folded] == [True, False, False, False]
    assert all(group["open"] for group in opened)
    assert [group["title"] for group in folded[1:]] == ["layer", "layer_1", "loss"]


def test_the_listing_is_there_without_scripts() -> None:
    text = html_of(tree(network()), listing="%0: f32[3] = add %a %b  # <x>")
    assert "<noscript>" in text and "# &lt;x&gt;" in text


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=5, max_size=5))
def test_no_name_breaks_the_page(names: list[str]) -> None:
    text = html_of(tree(fuzzed(names)), title=names[0].encode("utf-8", "replace").decode())
    text.encode("utf-8")
    page = Page(text)
    assert len(page.scripts) == 2 and len(page.data["groups"]) == 3
    assert [tag for tag, _ in page.tags].count("svg") == 1


# ---------------------------------------------------------------------------- layout


@pytest.mark.parametrize("make", [network, lambda: chain(500, 7), lambda: tangle(100)])
def test_rows_hold_every_member_once_and_lines_go_down(make: Any) -> None:
    folded = tree(optimise(graph_of(make())))
    for group, level in lay_out(folded).items():
        row_of = {
            vertex: r for r, row in enumerate(level.rows) for vertex in row if vertex[0] != "b"
        }
        members = [vertex for vertex in row_of if vertex[0] == "m"]
        assert sorted(n for _, n in members) == list(range(len(group.members)))
        assert sum(len(row) for row in level.rows) == len(row_of) + sum(
            kind == "b" for row in level.rows for kind, _ in row
        )
        for number, line in enumerate(level.lines):
            start, end = row_of[line.tail[:2]], row_of[line.head[:2]]
            if number in level.backward:
                start, end = end, start
            assert start + 1 < end
            for r in range(start + 1, end):
                wanted = ~number if r == end - 1 else number
                assert level.rows[r].count(("b", wanted)) == 1


def test_lines_lead_up_only_where_scopes_feed_each_other() -> None:
    assert not any(level.backward for level in lay_out(tree(chain(500, 7))).values())


def test_every_wire_is_routed_from_its_tail_to_its_head() -> None:
    folded = tree(network())
    levels = lay_out(folded)
    routed = [w for level in levels.values() for line in level.lines for w in line.wires]
    assert set(routed) == set(range(len(folded.wires)))


def test_10_000_nodes_make_a_page() -> None:
    data = data_of(tree(chain(10_000, 3)), None)
    assert len(data["boxes"]) == 10_002 and not data["bare"]
    shown = [m for g in data["groups"] if g["open"] for m in g["members"]]
    assert sum(m >= 0 or not data["groups"][~m]["open"] for m in shown) <= 60


def test_very_large_pages_leave_out_what_starts_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "LEAVES", 500)
    data = data_of(tree(chain(2_000, 3)), None)
    assert data["bare"] and all(("rows" in g) == g["open"] for g in data["groups"])
    assert sum(box != 0 for box in data["boxes"]) < 100


# ---------------------------------------------------------------------------- in a browser


def dom(page: Path, fragment: str, folder: Path) -> str:
    """The page's elements after its script has run."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", f"file://{page}#{fragment}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return result.stdout


def rectangles(text: str) -> list[tuple[float, float, float]]:
    """Where boxes stand, and how wide they are (by their outlines)."""
    found = []
    for x, y, outline in re.findall(
        r'<g class="box[^"]*" transform="translate\(([\d.e-]+) ([\d.e-]+)\)"[^>]*>'
        r'<path class="shape" d="([^"]*)"',
        text,
    ):
        numbers = [float(n) for n in re.findall(r"[HCL ]([\d.]+)", outline)]
        found.append((float(x), float(y), max(numbers)))
    return found


@needs_browser
def test_a_browser_draws_boxes_that_do_not_overlap(tmp_path: Path) -> None:
    page = draw(network(), tmp_path / "page.html", stage="optimised")
    text = dom(page, "open", tmp_path / "profile")
    assert 'data-ready="yes"' in text
    boxes = rectangles(text)
    assert len(boxes) == len(
        json.loads(re.findall(r'application/json">(.*?)</script>', text)[0])["boxes"]
    )
    for i, (x, y, wide) in enumerate(boxes):
        for other_x, other_y, other_wide in boxes[:i]:
            apart = x + wide <= other_x or other_x + other_wide <= x or abs(y - other_y) >= 50
            assert apart, "two boxes overlap"
    assert "f32[batch,4]" in text


@needs_browser
def test_a_browser_finds_and_unfolds(tmp_path: Path) -> None:
    page = draw(chain(2_000, 5), tmp_path / "page.html")
    text = dom(page, "dark&find=%251234", tmp_path / "profile")
    assert 'data-theme="dark"' in text and 'class="box k-op picked"' in text
    assert "%1234: f32[batch,8]" in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
