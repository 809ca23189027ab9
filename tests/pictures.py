"""What the tests of pictures share: programs to draw, and a reader of DOT that needs no program."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from graphc.context import name_scope
from graphc.draw.dot import dot_of
from graphc.draw.fold import Tree, tree_of
from graphc.draw.graphs import boxes_of
from graphc.graph import Graph, Tensor
from graphc.ops.gradient import gradients
from graphc.ops.source import Variable, placeholder
from graphc.ops.state import assign_sub, group
from graphc.runtime.fetches import graph_of

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="graphviz's program `dot` is not installed"
)
WORDS = re.compile(r'"(?:[^"\\]|\\.)*"|->|[{}\[\];=]|[^\s{}\[\];="<>-]+')


def html_label(text: str, start: int) -> int:
    """Where an HTML-like string that starts at `<` ends; every `<` in it must be matched."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] == "<":
            depth += 1
        elif text[position] == ">":
            depth -= 1
            if depth == 0:
                return position + 1
    raise AssertionError(f"an HTML-like string is not closed: {text[start : start + 80]!r}")


def tokens(text: str) -> list[str]:
    """The tokens of a DOT text; AssertionError where there is none."""
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text), "a control character"
    found, position = [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif text[position] == "<":
            end = html_label(text, position)
            found.append(text[position:end])
            position = end
        else:
            match = WORDS.match(text, position)
            assert match, f"no token at {text[position : position + 60]!r}"
            found.append(match.group())
            position = match.end()
    return found


@dataclass
class Picture:
    """A DOT text, read."""

    vertices: dict[str, dict[str, str]] = field(default_factory=dict)
    edges: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)

    def find(self, title: str) -> str:
        """The vertex whose label shows a title."""
        [found] = [v for v, a in self.vertices.items() if f"<B>{title}</B>" in a["label"]]
        return found


def _attributes(words: list[str], position: int) -> tuple[dict[str, str], int]:
    attributes = {}
    while words[position] != "]":
        name, equals, value = words[position : position + 3]
        assert equals == "="
        attributes[name] = value
        position += 3
    return attributes, position + 1


def read(text: str) -> Picture:
    """Read a DOT text; its legend is left out."""
    words, picture = tokens(text), Picture()
    assert words[0] == "digraph" and words.count("{") == words.count("}")
    position = 3
    while position < len(words):
        word = words[position]
        position += 1
        if word == "subgraph" and words[position] != "cluster_legend":
            picture.clusters.append(words[position + 4])
        elif word in ("graph", "node", "edge"):
            _, position = _attributes(words, position + 1)
        elif re.fullmatch(r"b\d+", word):
            if words[position] == "->":
                attributes, after = _attributes(words, position + 3)
                picture.edges.append((word, words[position + 1], attributes))
            else:
                attributes, after = _attributes(words, position + 1)
                picture.vertices[word] = attributes
            position = after
    return picture


def tree(fetches: Any, segments: bool = True) -> Tree:
    """The tree of what some fetches reach."""
    graph = fetches if isinstance(fetches, Graph) else graph_of(fetches)
    return tree_of(boxes_of(graph), segments)


def picture(fetches: Any, depth: int | None = None) -> Picture:
    """The picture of some fetches, read from its DOT."""
    return read(dot_of(tree(fetches, segments=depth is None), depth))


def network() -> list[Any]:
    """Two layers in two scopes of one name, a loss, and updates from its gradients."""
    x = placeholder("float32", ["batch", 6], name="x")
    target = placeholder("float32", ["batch", 2], name="target")
    hidden, weights = x, []
    for rows, columns in ((6, 4), (4, 2)):
        with name_scope("layer"):
            w = Variable(np.ones((rows, columns), np.float32), name="w")
            hidden = hidden @ w
            hidden = hidden * hidden
            weights.append(w)
    with name_scope("loss"):
        difference = hidden - target
        loss = (difference * difference).sum()
    found = gradients(loss, weights)
    return [loss, group(*[assign_sub(w, 0.1 * g) for w, g in zip(weights, found, strict=True)])]


def chain(count: int, scope: int = 0) -> Tensor:
    """A chain of `count` operations; each `scope` of them in a scope of its own."""
    x = placeholder("float32", ["batch", 8], name="x")
    w = Variable(np.ones((8, 8), np.float32), name="w")
    for start in range(0, count, scope or count):
        with name_scope("block"):
            for i in range(start, min(count, start + (scope or count))):
                x = x @ w if i % 4 == 0 else x + x
    return x


def tangle(count: int) -> Tensor:
    """A random graph with edges of all lengths, and no scopes."""
    rng = np.random.default_rng(0)
    tensors = [placeholder("float32", [4], name="x")]
    for _ in range(count):
        a, b = rng.integers(0, len(tensors), 2)
        tensors.append(tensors[int(a)] + tensors[int(b)])
    while len(tensors) > 1:
        tensors = [a + b for a, b in zip(tensors[::2], [*tensors[1::2], tensors[0]], strict=False)]
    return tensors[0]
