"""Text that is safe to show: any name a user gave, cut to length, with nothing unprintable in it.

Names are free text. What leaves here is valid in UTF-8 and in XML, has no control characters and is
never empty; escaping for a format is done where that format is written.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

_HIDDEN = {"Cc", "Cs", "Cn", "Co", "Cf", "Zl", "Zp"}  # categories that no picture can show


def clean(text: str, limit: int = 48) -> str:
    """`text` on one line, at most `limit` characters, unprintable ones as `\\x00`.

    >>> clean("a\\tb"), clean(""), clean("x" * 99, 5)
    ('a\\\\x09b', '(no name)', 'xxxx…')
    """
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    if not shown.isprintable():
        shown = "".join(map(_visible, shown))
    return shown if shown.strip() else "(no name)"


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def counted(words: Iterable[str], limit: int = 4) -> str:
    """The words with their counts, most frequent first: `matmul ×12, add ×9, 3 more`."""
    counts = Counter(words)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    parts = [word if n == 1 else f"{word} ×{n}" for word, n in ranked[:limit]]
    if len(ranked) > limit:
        parts.append(f"{sum(n for _, n in ranked[limit:])} more")
    return ", ".join(parts)


class Unique:
    """Makes labels unique in one place: `layer`, `layer_1`, `layer_2`."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def __call__(self, label: str) -> str:
        """`label`, or `label_1` ... where it is taken."""
        name = label
        while name in self._taken:
            self._taken[label] += 1
            name = f"{label}_{self._taken[label]}"
        self._taken[name] = 0
        return name
