"""DOT text into SVG, PNG or PDF, by the program `dot` of graphviz."""

from __future__ import annotations

import subprocess

from graphc import lazy
from graphc.errors import CompileError, DeviceError

graphviz = lazy.Module("graphviz")

FORMATS = ("svg", "png", "pdf")
INSTALL = (
    "install graphviz's program `dot` (Debian: apt install graphviz); "
    ".dot and .html pictures work without it"
)


def render(text: str, format: str) -> bytes:
    """The picture of a DOT text. DeviceError where `dot` is missing."""
    try:
        return bytes(graphviz.Source(text).pipe(format=format, engine="dot", quiet=True))
    except graphviz.ExecutableNotFound:
        raise DeviceError(f"draw: a .{format} needs `dot`, which is not here: {INSTALL}") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()[:300]
        raise CompileError(f"draw: dot refused the picture: {said}") from None
