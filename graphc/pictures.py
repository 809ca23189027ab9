"""`draw`: the picture of what some fetches reach, at a stage, in a file.

Enters: fetches and a path, whose ending says the format. Leaves: the file. `stages` says what there
is to draw, `draw/` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from graphc.draw import SUFFIXES, picture
from graphc.errors import FetchError, trimmed
from graphc.graph import Tensor
from graphc.stages import form_at


def check_request(path: str | PathLike[str], depth: int | None) -> str:
    """The format that a path asks for; FetchError for what cannot be drawn."""
    format = Path(path).suffix.removeprefix(".").lower()
    if format not in SUFFIXES:
        endings = ", ".join(f".{suffix}" for suffix in SUFFIXES)
        raise FetchError(f"draw: a picture's file ends in {endings}, got {str(path)!r}")
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 1):
        raise FetchError(f"draw: depth must be a number of scope levels, at least 1, got {depth!r}")
    return format


@trimmed
def draw(
    fetches: Any,
    path: str | PathLike[str],
    stage: str = "source",
    depth: int | None = None,
    feeds: Mapping[Tensor, Any] | None = None,
    device: str | None = None,
) -> Path:
    """Draw what some fetches reach, and return the path that was written.

    The ending says the format: .dot and .html need no program, .svg, .png and .pdf need graphviz's
    `dot`. `stage`, `feeds` and `device` are those of `show`; at "fused" every kernel is a box
    around what it computes. `depth` folds scopes, or kernels, that many levels down (1: each top
    scope, or kernel, is a box); None folds by itself where more than 60 boxes would be seen. An
    .html page folds and unfolds where it is clicked.

    Raises FetchError for another ending, an unknown stage, or a foreign object; DeviceError where
    `dot` is missing.

    >>> draw(constant([1.0, 2.0]) * 2.0, "graph.dot").name
    'graph.dot'
    """
    format = check_request(path, depth)
    form = form_at(fetches, stage, feeds, device)
    target = Path(path)
    target.write_bytes(picture(form, format, depth, target.stem))
    return target
