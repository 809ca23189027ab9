"""The few environment variables that graphc reads, each read when it is needed, never at import.

`GRAPHC_DEBUG`  0..4: 1 plan, times and whole tracebacks, 2 passes, 3 kernels, 4 generated code.
`GRAPHC_DUMP`   a folder that receives every stage of every compilation.
`GRAPHC_SKIP`   names of passes to leave out, separated by commas; "fuse": a kernel for each node.
`GRAPHC_CACHE`  the folder of compiled code, instead of the system's own; "off" keeps none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VERSION = "0.1.0"


def debug() -> int:
    """The debug level; anything that is not a number counts as 1."""
    value = os.environ.get("GRAPHC_DEBUG", "")
    if not value:
        return 0
    return int(value) if value.isdecimal() else 1


def dump_folder() -> Path | None:
    """Where stages are written, or None."""
    value = os.environ.get("GRAPHC_DUMP", "")
    return Path(value) if value else None


def skipped_passes() -> frozenset[str]:
    """The passes that the user switched off."""
    return frozenset(filter(None, os.environ.get("GRAPHC_SKIP", "").replace(" ", "").split(",")))


def cache_folder() -> Path | None:
    """Where compiled code is kept between processes, or None where nowhere.

    `$GRAPHC_CACHE` first, then `$XDG_CACHE_HOME/graphc`, then the system's folder for caches.
    """
    value = os.environ.get("GRAPHC_CACHE", "")
    if value:
        return None if value == "off" else Path(value)
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base else _system_caches()) / "graphc"
    except RuntimeError:  # a user without a home
        return None


def _system_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
