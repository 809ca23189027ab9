"""Keys for random ops: made of the op's own name, so that edits elsewhere leave its numbers alone.

Ops of one name, dtype and shape are numbered in the order in which they were made, among those
that one session has met. Variables' initial values are keyed under the variable's name.
"""

from __future__ import annotations

import hashlib
import secrets
from weakref import WeakKeyDictionary

from graphc.build import make
from graphc.graph import Graph, Node, Tensor, nested
from graphc.ops.random import RANDOM_BITS, is_unkeyed
from graphc.passes.inside import inside
from graphc.rewriting import rewrite

MASK = 0xFFFFFFFFFFFFFFFF


class Keys:
    """The keys of the random ops that one session has met."""

    def __init__(self) -> None:
        self._keys: WeakKeyDictionary[Node, int] = WeakKeyDictionary()
        self._counts: dict[str, int] = {}

    def _key(self, node: Node, prefix: str) -> int:
        known = self._keys.get(node)
        if known is not None:
            return known
        text = f"{prefix}|{node.label}|{node.types[0]}"
        count = self._counts[text] = self._counts.get(text, -1) + 1
        digest = hashlib.blake2b(f"{text}|{count}".encode(), digest_size=8).digest()
        key = self._keys[node] = int.from_bytes(digest, "little")
        return key

    def assign(self, graph: Graph, prefix: str = "") -> Graph:
        """The graph with a key on every random op that has none."""
        unkeyed = sorted(filter(is_unkeyed, nested(graph)), key=lambda node: node.serial)
        if not unkeyed:
            return graph
        keys = {node: self._key(node, prefix) for node in unkeyed}

        def rule(node: Node) -> Tensor | None:
            if node not in keys:
                return None
            return make(RANDOM_BITS, node.inputs, node.attrs | {"key": keys[node]}, node.name)

        def keyed(part: Graph) -> Graph:
            return inside(rewrite(part, rule), keyed)

        return keyed(graph)


def session_seed(seed: int | None) -> int:
    """64 bits of a session's seed: spread, so that seeds 0 and 1 share nothing."""
    if seed is None:
        return secrets.randbits(64)
    digest = hashlib.blake2b(f"graphc seed {int(seed)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
